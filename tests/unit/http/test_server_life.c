/* The life of connections: turns, leaving clients, deadlines, early replies, back pressure, the drain. */
#include "http_fixture.h"

#include <sys/resource.h>

#define H "Host: h\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"
#define POST(path, fields) "POST " path " HTTP/1.1\r\n" H fields "\r\n"

static struct world *world_new_impatient(void)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.limits.head_timeout_ns = config.limits.idle_timeout_ns = 120 * NS_PER_MS;
    config.limits.body_timeout_ns = config.limits.write_timeout_ns = 120 * NS_PER_MS;
    config.limits.body_min_rate = GIB;
    return world_new_with(w, &config);
}

static void wait_for(struct world *w, const int *counter, int value)
{
    while (*counter < value)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(*counter, value);
}

static void wait_until_closed(struct world *w)
{
    while (http_server_connections(w->server))
        uv_run(&w->loop, UV_RUN_ONCE);
}

static void expect_summary(struct buf *bytes, const char *expected)
{
    struct buf summary = buf_make(1 << 20);
    summarize(buf_str(bytes), &summary);
    assert_string_equal(buf_cstr(&summary), expected);
    buf_done(&summary);
    buf_done(bytes);
}

static void reply_ok(struct world *w, const char *text)
{
    http_reply(w->waiting, 200, NULL, 0, str_of(text));
}

static void turn_some(struct world *w)
{
    for (int i = 0; i < 20; i++)
        turn(w);
}

/* --- turns ------------------------------------------------------------------------------------------ */

static void test_pipelined_requests_wait_for_their_turn(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16);
    int fd = client_new(w);
    client_send(w, fd, STR_LIT(GET("/later") GET("/later") GET("/tree/x") GET("/later")));
    wait_for(w, &w->heads, 1);
    turn_some(w);
    assert_int_equal(w->heads, 1);
    reply_ok(w, "first");
    assert_int_equal(w->heads, 1); /* not from inside http_reply() */
    wait_for(w, &w->heads, 2);
    turn_some(w);
    assert_int_equal(w->heads, 2);
    reply_ok(w, "second");
    wait_for(w, &w->heads, 4);
    reply_ok(w, "third");
    client_read_until(w, fd, &b, "third");
    close(fd);
    expect_summary(&b, "200 first;200 second;200 GET /tree/x;200 third;");
    world_free(w);
}

static void test_many_pipelined_requests(void **state)
{
    (void)state;
    enum { REQUESTS = 5000 };
    struct world *w = world_new();
    struct buf requests = buf_make(1 << 24), b = buf_make(1 << 24), expected = buf_make(1 << 20),
               summary = buf_make(1 << 20);
    buf_puts(&requests, GET("/later")); /* all the others come while this one is in flight */
    for (int i = 0; i < REQUESTS; i++) {
        buf_printf(&requests, "GET /tree/%d HTTP/1.1\r\n" H "\r\n", i);
        buf_printf(&expected, "200 GET /tree/%d;", i);
    }
    int fd = client_new(w);
    client_send(w, fd, buf_str(&requests));
    wait_for(w, &w->heads, 1);
    turn_some(w);
    reply_ok(w, "go");
    client_read_until(w, fd, &b, "/tree/4999");
    summarize(buf_str(&b), &summary);
    assert_true(str_ends_with(buf_str(&summary), buf_str(&expected)));
    assert_int_equal(w->done_count, REQUESTS + 1);
    buf_done(&requests);
    buf_done(&expected);
    buf_done(&summary);
    buf_done(&b);
    close(fd);
    world_free(w);
}

/* --- clients that leave ------------------------------------------------------------------------------- */

enum leave { CLOSE, RESET, HALF_CLOSE, LEAVES };

static int leave(int fd, enum leave how)
{
    struct linger hard = {.l_onoff = 1};
    if (how == HALF_CLOSE) {
        shutdown(fd, SHUT_WR);
        return fd;
    }
    if (how == RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    return -1;
}

static void test_client_leaves_in_flight(void **state)
{
    (void)state;
    static const char *const requests[] = {
        GET("/later"),
        GET("/later") GET("/later"),
        POST("/later", "Content-Length: 2\r\n") "xx",
        POST("/later", "Content-Length: 3\r\n") "xx",
        POST("/later", "Transfer-Encoding: chunked\r\n"),
        POST("/pause-at-head", "Content-Length: 3\r\n") "xx",
        POST("/pause-at-head", ""),
        POST("/pause", "Content-Length: 3\r\n") "xx",
    };
    for (size_t i = 0; i < LENGTH_OF(requests); i++)
        for (enum leave how = CLOSE; how < LEAVES; how++) {
            struct world *w = world_new();
            int fd = client_new(w);
            client_send(w, fd, str_of(requests[i]));
            wait_for(w, &w->heads, 1);
            turn_some(w);
            assert_int_equal(w->gones, 0);
            fd = leave(fd, how);
            wait_for(w, &w->gones, 1);
            wait_until_closed(w);
            assert_int_equal(w->done_count, 1);
            assert_int_equal(w->done_status, 0);
            assert_int_equal(w->heads, 1);
            close(fd);
            world_free(w);
        }
}

static void test_client_leaves_before_its_head_is_complete(void **state)
{
    (void)state;
    static const char *const requests[] = {"", "\r\n", "GET", "GET / HTTP/1.1\r\nHo"};
    struct world *w = world_new();
    for (size_t i = 0; i < LENGTH_OF(requests); i++)
        for (enum leave how = CLOSE; how < LEAVES; how++) {
            int fd = client_new(w);
            while (!http_server_connections(w->server))
                turn(w);
            client_send(w, fd, str_of(requests[i]));
            turn_some(w);
            fd = leave(fd, how);
            wait_until_closed(w);
            close(fd);
        }
    assert_int_equal(w->heads + w->gones + w->done_count, 0);
    world_free(w);
}

static void test_client_leaves_while_its_reply_is_written(void **state)
{
    (void)state;
    for (enum leave how = CLOSE; how < HALF_CLOSE; how++) {
        struct world *w = world_new();
        int fd = client_new(w);
        client_send(w, fd, STR_LIT(GET("/big")));
        turn_some(w);
        leave(fd, how);
        wait_for(w, &w->done_count, 1);
        wait_until_closed(w);
        assert_int_equal(w->done_status, 200);
        world_free(w);
    }
}

/* The reply was begun before the client said that it sends no more: it gets all of it. */
static void test_half_close_while_the_reply_is_written(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(2 * BIG_BYTES);
    int fd = client_new(w);
    client_send(w, fd, STR_LIT(GET("/big")));
    while (http_server_connections(w->server) == 0)
        turn(w);
    turn_some(w);
    shutdown(fd, SHUT_WR);
    turn_some(w);
    client_read_to_end(w, fd, &b);
    assert_true(b.len > BIG_BYTES);
    buf_done(&b);
    close(fd);
    world_free(w);
}

/* --- deadlines ------------------------------------------------------------------------------------------ */

static void test_deadlines(void **state)
{
    (void)state;
    static const struct {
        const char *request, *expected;
        int gones;
    } rows[] = {
        {"", "", 0},
        {"\r\n", "", 0},
        {"GET /ec", "408 close;", 0},
        {"GET /echo HTTP/1.1\r\n" H, "408 close;", 0},
        {GET("/tree/x"), "200 GET /tree/x;", 0},
        {GET("/tree/x") "GE", "200 GET /tree/x;408 close;", 0},
        {POST("/echo", "Content-Length: 3\r\n") "xx", "408 close;", 1},
        {POST("/echo", "Content-Length: 3\r\nExpect: 100-continue\r\n"), "100;408 close;", 1},
        {POST("/echo", "Transfer-Encoding: chunked\r\n") "1", "408 close;", 1},
        {POST("/early", "Content-Length: 3\r\n") "xx", "200 early;", 0},
        {POST("/early", "Transfer-Encoding: chunked\r\n") "1", "200 early close;", 0},
    };
    struct world *w = world_new_impatient();
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct buf b = buf_make(1 << 16);
        int fd = client_new(w), gones = w->gones;
        client_send(w, fd, str_of(rows[i].request));
        client_read_to_end(w, fd, &b);
        expect_summary(&b, rows[i].expected);
        assert_int_equal(w->gones - gones, rows[i].gones);
        close(fd);
    }
    world_free(w);
}

/* A byte now and then must not hold the connection. */
static void test_drops_do_not_hold_a_connection(void **state)
{
    (void)state;
    static const char *const starts[] = {"GET /echo HTTP/1.1\r\nX: ", POST("/later", "Content-Length: 100000\r\n")};
    struct world *w = world_new_impatient();
    for (size_t i = 0; i < LENGTH_OF(starts); i++) {
        struct buf b = buf_make(1 << 16);
        bool reset = false;
        int fd = client_new(w);
        client_send(w, fd, str_of(starts[i]));
        while (client_read(fd, &b, &reset) && !b.len) {
            client_send(w, fd, STR_LIT("x"));
            rest(fd);
            turn(w);
        }
        close(fd);
        expect_summary(&b, "408 close;");
    }
    world_free(w);
}

static void test_handlers_have_no_deadline(void **state)
{
    (void)state;
    struct world *w = world_new_impatient();
    struct buf b = buf_make(1 << 16);
    int fds[2] = {client_new(w), -1}, other;
    client_send(w, fds[0], STR_LIT(GET("/later")));
    wait_for(w, &w->heads, 1);
    struct http_exchange *first = w->waiting;
    fds[1] = client_new(w);
    client_send(w, fds[1], STR_LIT(POST("/pause-at-head", "Content-Length: 2\r\n") "x"));
    wait_for(w, &w->heads, 2);
    for (int i = 0; i < 2; i++) { /* while others are cut for their slowness */
        other = client_new(w);
        client_send(w, other, STR_LIT("G"));
        client_read_to_end(w, other, &b);
        close(other);
    }
    expect_summary(&b, "408 close;408 close;");
    assert_int_equal(w->gones, 0);
    http_body_resume(w->waiting);
    client_send(w, fds[1], STR_LIT("y"));
    wait_for(w, &w->ends, 2);
    reply_ok(w, "2");
    client_read_until(w, fds[1], &b, "\r\n\r\n2");
    buf_clear(&b);
    http_reply(first, 200, NULL, 0, STR_LIT("1"));
    client_read_until(w, fds[0], &b, "\r\n\r\n1");
    buf_done(&b);
    close(fds[0]);
    close(fds[1]);
    world_free(w);
}

static int client_new_small_window(struct world *w)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), bytes = 4096;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void test_a_client_that_does_not_read_is_cut(void **state)
{
    (void)state;
    struct world *w = world_new_impatient();
    int fd = client_new_small_window(w);
    client_send(w, fd, STR_LIT(GET("/big")));
    wait_for(w, &w->done_count, 1);
    assert_int_equal(w->done_status, 200);
    wait_until_closed(w);
    close(fd);
    world_free(w);
}

static void test_a_large_reply_to_a_slow_reader_is_whole(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(2 * BIG_BYTES);
    int fd = client_new_small_window(w);
    client_send(w, fd, STR_LIT(GET("/big") GET("/tree/behind")));
    client_read_until(w, fd, &b, "/tree/behind");
    const char *body = strstr(buf_cstr(&b), "\r\n\r\n") + 4;
    for (size_t i = 0; i < BIG_BYTES; i++)
        if (body[i] != (char)('a' + i % 23))
            fail_msg("byte %zu is wrong", i);
    assert_true(str_starts_with(str_of(body + BIG_BYTES), STR_LIT("HTTP/1.1 200 OK\r\n")));
    buf_done(&b);
    close(fd);
    world_free(w);
}

/* --- bodies --------------------------------------------------------------------------------------------- */

static void test_continue(void **state)
{
    (void)state;
    static const struct {
        const char *head, *body, *until, *expected;
    } rows[] = {
        {POST("/echo", "Content-Length: 2\r\nExpect: 100-continue\r\n"), "hi", "[hi]", "100;200 POST /echo [hi];"},
        {POST("/echo", "Content-Length: 2\r\nExpect: 100-Continue\r\n") "h", "i", "[hi]", "200 POST /echo [hi];"},
        {POST("/echo", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"), "2\r\nhi\r\n0\r\n\r\n", "[hi]",
         "100;200 POST /echo [hi];"},
        {POST("/echo", "Expect: 100-continue\r\n"), "", "/echo", "200 POST /echo;"},
        {POST("/echo", "Content-Length: 1001\r\nExpect: 100-continue\r\n"), "", "takes\n", "413 close;"},
        {POST("/none", "Content-Length: 2\r\nExpect: 100-continue\r\n"), "", "none\"\n", "404 close;"},
        {POST("/early", "Content-Length: 2\r\nExpect: 100-continue\r\n"), "", "early", "200 early close;"},
    };
    struct world *w = world_new();
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct buf b = buf_make(1 << 16);
        int fd = client_new(w);
        client_send(w, fd, str_of(rows[i].head));
        if (strncmp(rows[i].expected, "100;", 4) == 0)
            client_read_until(w, fd, &b, "HTTP/1.1 100 Continue\r\n\r\n");
        turn_some(w);
        client_send(w, fd, str_of(rows[i].body));
        client_read_until(w, fd, &b, rows[i].until);
        expect_summary(&b, rows[i].expected);
        close(fd);
    }
    world_free(w);
}

static void test_no_continue_while_paused(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16);
    bool reset = false;
    int fd = client_new(w);
    client_send(w, fd, STR_LIT(POST("/pause-at-head", "Content-Length: 2\r\nExpect: 100-continue\r\n")));
    wait_for(w, &w->heads, 1);
    turn_some(w);
    assert_true(client_read(fd, &b, &reset));
    assert_int_equal(b.len, 0);
    http_body_resume(w->waiting);
    client_read_until(w, fd, &b, "100 Continue\r\n\r\n");
    client_send(w, fd, STR_LIT("hi"));
    wait_for(w, &w->ends, 1);
    reply_ok(w, "thanks");
    client_read_until(w, fd, &b, "thanks");
    expect_summary(&b, "100;200 thanks;");
    close(fd);
    world_free(w);
}

static void test_pausing_a_body(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    static const char *const framings[] = {"Content-Length: 1048576\r\n", "Transfer-Encoding: chunked\r\n"};
    struct world *w = world_new();
    for (size_t framing = 0; framing < LENGTH_OF(framings); framing++) {
        struct buf request = buf_make(2 * BYTES), b = buf_make(1 << 16);
        bool reset = false;
        buf_printf(&request, "POST /pause HTTP/1.1\r\n" H "%s\r\n%s", framings[framing], framing ? "100000\r\n" : "");
        for (int i = 0; i < BYTES; i++)
            buf_putc(&request, 'x');
        buf_puts(&request, framing ? "\r\n0\r\n\r\n" GET("/tree/x") : GET("/tree/x"));
        int resumes = 0;
        w->ends = w->pauses = 0;
        w->body_bytes = 0;
        int fd = client_new(w);
        struct str to_send = buf_str(&request);
        while (!w->ends) {
            size_t piece = MIN(to_send.len, (size_t)10000);
            ssize_t sent = send(fd, to_send.p, piece, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent > 0)
                to_send = str_make(to_send.p + sent, to_send.len - (size_t)sent);
            turn_some(w);
            assert_in_range(w->pauses - resumes, 0, 1); /* nothing comes while it is paused */
            if (w->pauses > resumes) {
                resumes++;
                http_body_resume(w->waiting);
            }
        }
        assert_int_equal(w->body_bytes, BYTES);
        assert_true(w->pauses > 10);
        client_send(w, fd, to_send);
        reply_ok(w, "done");
        client_read_until(w, fd, &b, "/tree/x");
        assert_true(client_read(fd, &b, &reset));
        expect_summary(&b, "200 done;200 GET /tree/x;");
        buf_done(&request);
        close(fd);
    }
    world_free(w);
}

/* The client gets its answer and no RST, though it goes on sending for a while. */
static void test_early_reply_to_a_long_body(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16), body = buf_make(1 << 20);
    int fd = client_new(w);
    for (int i = 0; i < 200000; i++)
        buf_putc(&body, 'x');
    client_send(w, fd, STR_LIT(POST("/early", "Content-Length: 5000000\r\n")));
    client_send(w, fd, buf_str(&body));
    turn_some(w);
    shutdown(fd, SHUT_WR);
    client_read_to_end(w, fd, &b);
    expect_summary(&b, "200 early close;");
    assert_int_equal(w->body_bytes, 0);
    buf_done(&body);
    close(fd);
    world_free(w);
}

static void test_lingering_is_bounded(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16);
    char body[4096] = {0};
    int sends = 0, fd = client_new(w);
    client_send(w, fd, STR_LIT(POST("/early", "Content-Length: 5000000\r\n")));
    client_read_until(w, fd, &b, "early");
    for (; http_server_connections(w->server) && sends < 1000; sends++) {
        client_send(w, fd, str_make(body, sizeof body));
        turn(w);
    }
    assert_in_range(sends, 60, 999);
    buf_done(&b);
    close(fd);
    world_free(w);
}

/* --- accepting --------------------------------------------------------------------------------------------- */

static void test_connections_are_bounded(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.limits.connections_max = 2;
    world_new_with(w, &config);
    struct buf b = buf_make(1 << 16);
    bool reset = false;
    int fds[3] = {client_new(w), client_new(w), client_new(w)};
    client_send(w, fds[2], STR_LIT(GET("/tree/x")));
    while (http_server_connections(w->server) < 2)
        turn(w);
    turn_some(w);
    assert_int_equal(http_server_connections(w->server), 2);
    assert_true(client_read(fds[2], &b, &reset));
    assert_int_equal(b.len, 0);
    close(fds[0]);
    client_read_until(w, fds[2], &b, "/tree/x");
    buf_done(&b);
    close(fds[1]);
    close(fds[2]);
    world_free(w);
}

static void test_running_out_of_descriptors(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16);
    struct rlimit before, low;
    turn(w);
    int fd = client_new(w), free_fd = dup(fd);
    close(free_fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)free_fd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    client_send(w, fd, STR_LIT(GET("/tree/x")));
    turn_some(w);
    assert_int_equal(http_server_connections(w->server), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    client_read_until(w, fd, &b, "/tree/x");
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void test_listening(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err_info err = {0};
    struct http_server_config config = world_config(w);
    struct http_server *server = NULL;
    char expected[100];
    uint16_t port = 0, again = 0;
    int fds[2] = {-1, -1};
    assert_int_equal(http_listen("127.0.0.1", w->port, false, &fds[0], &port, &err), ERR_CONFLICT);
    snprintf(expected, sizeof expected, "cannot listen on \"127.0.0.1\" port %u: address already in use", w->port);
    assert_string_equal(err.text, expected);
    assert_int_equal(http_listen("no such host", 0, false, &fds[0], &port, &err), ERR_FIELD_INVALID);
    assert_non_null(strstr(err.text, "\"no such host\""));
    assert_int_equal(http_listen("192.0.2.1", 0, false, &fds[0], &port, &err), ERR_FIELD_INVALID);
    assert_int_equal(fds[0], -1);
    /* several loops share a port */
    assert_int_equal(http_listen("::1", 0, true, &fds[0], &port, &err), OK);
    assert_int_equal(http_listen("::1", port, true, &fds[1], &again, &err), OK);
    assert_true(port != 0 && port == again);
    close(fds[0]);
    close(fds[1]);
    /* a descriptor that does not listen is closed all the same */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(http_server_new(&w->loop, fd, &config, &server, &err), ERR_INTERNAL);
    assert_int_equal(close(fd), -1);
    world_free(w);
}

/* --- the drain ---------------------------------------------------------------------------------------------- */

static void test_drain_lets_the_busy_finish(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16);
    int idle = client_new(w), busy = client_new(w), late = client_new(w), begun = client_new(w);
    client_send(w, idle, STR_LIT(GET("/tree/x")));
    client_read_until(w, idle, &b, "/tree/x");
    client_send(w, busy, STR_LIT(GET("/later")));
    wait_for(w, &w->heads, 2);
    client_send(w, begun, STR_LIT("GET /tr"));
    while (http_server_connections(w->server) < 4)
        turn(w);
    turn_some(w);
    http_server_drain(w->server, clock_now_ns() + HANG_SECONDS * NS_PER_S, on_drained, w);
    client_read_to_end(w, idle, &b);
    client_read_to_end(w, late, &b);
    expect_summary(&b, "200 GET /tree/x;");
    turn_some(w);
    assert_false(w->drained);
    assert_int_equal(http_server_connections(w->server), 2);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
    close(fd);
    client_send(w, begun, STR_LIT("ee/y HTTP/1.1\r\n" H "\r\n"));
    client_read_to_end(w, begun, &b);
    expect_summary(&b, "200 GET /tree/y close;");
    reply_ok(w, "bye");
    client_read_to_end(w, busy, &b);
    expect_summary(&b, "200 bye close;");
    while (!w->drained)
        turn(w);
    close(idle);
    close(busy);
    close(late);
    close(begun);
    world_free(w);
}

static void test_drain_cuts_at_its_deadline(void **state)
{
    (void)state;
    struct world *w = world_new();
    int fd = client_new(w), writing = client_new_small_window(w);
    client_send(w, writing, STR_LIT(GET("/big")));
    client_send(w, fd, STR_LIT(GET("/later")));
    wait_for(w, &w->heads, 1);
    turn_some(w);
    http_server_drain(w->server, clock_now_ns() + 100 * NS_PER_MS, on_drained, w);
    wait_for(w, &w->gones, 1);
    wait_for(w, &w->done_count, 2);
    while (!w->drained)
        turn(w);
    close(fd);
    close(writing);
    world_free(w);
}

static void test_drain_of_an_empty_server(void **state)
{
    (void)state;
    struct world *w = world_new();
    http_server_drain(w->server, UINT64_MAX, on_drained, w);
    assert_false(w->drained); /* from the loop, not from the call */
    while (!w->drained)
        turn(w);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipelined_requests_wait_for_their_turn),
        cmocka_unit_test(test_many_pipelined_requests),
        cmocka_unit_test(test_client_leaves_in_flight),
        cmocka_unit_test(test_client_leaves_before_its_head_is_complete),
        cmocka_unit_test(test_client_leaves_while_its_reply_is_written),
        cmocka_unit_test(test_half_close_while_the_reply_is_written),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_drops_do_not_hold_a_connection),
        cmocka_unit_test(test_handlers_have_no_deadline),
        cmocka_unit_test(test_a_client_that_does_not_read_is_cut),
        cmocka_unit_test(test_a_large_reply_to_a_slow_reader_is_whole),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_no_continue_while_paused),
        cmocka_unit_test(test_pausing_a_body),
        cmocka_unit_test(test_early_reply_to_a_long_body),
        cmocka_unit_test(test_lingering_is_bounded),
        cmocka_unit_test(test_connections_are_bounded),
        cmocka_unit_test(test_running_out_of_descriptors),
        cmocka_unit_test(test_listening),
        cmocka_unit_test(test_drain_lets_the_busy_finish),
        cmocka_unit_test(test_drain_cuts_at_its_deadline),
        cmocka_unit_test(test_drain_of_an_empty_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
