/* Slow and odd clients: deadlines, readers that lag, bodies that are paused, dropped or never come. */
#include "http_fixture.h"

static struct world *world_new_impatient(void)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.limits.head_timeout_ns = config.limits.idle_timeout_ns = 120 * NS_PER_MS;
    config.limits.body_timeout_ns = config.limits.write_timeout_ns = 120 * NS_PER_MS;
    config.limits.body_min_rate = GIB;
    return world_new_with(w, &config);
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
    static const char *const starts[] = {"GET /echo HTTP/1.1\r\nX: ",
                                         POST("/later", "Content-Length: 100000\r\n")};
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

static void cut_a_slow_one(struct world *w)
{
    struct buf b = buf_make(1 << 16);
    int fd = client_new(w);
    client_send(w, fd, STR_LIT("G"));
    client_read_to_end(w, fd, &b);
    expect_summary(&b, "408 close;");
    close(fd);
}

/* Neither while one thinks about a reply nor while one has paused the body does the client's time run. */
static void test_handlers_have_no_deadline(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.limits.head_timeout_ns = 50 * NS_PER_MS;
    config.limits.body_timeout_ns = 700 * NS_PER_MS;
    world_new_with(w, &config);
    struct buf b = buf_make(1 << 16);
    uint64_t begun = clock_now_ns();
    int fds[2] = {client_new(w), client_new(w)};
    client_send(w, fds[0], STR_LIT(GET("/later")));
    wait_for(w, &w->heads, 1);
    struct http_exchange *first = w->waiting;
    client_send(w, fds[1], STR_LIT(POST("/pause-at-head", "Content-Length: 2\r\n") "x"));
    wait_for(w, &w->heads, 2);
    while (clock_now_ns() < begun + 800 * NS_PER_MS)
        cut_a_slow_one(w);
    assert_int_equal(w->gones, 0);
    http_body_resume(w->waiting);
    cut_a_slow_one(w);
    assert_int_equal(w->gones, 0);
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
        {POST("/echo", "Content-Length: 2\r\nExpect: 100-continue\r\n"), "hi", "[hi]",
         "100;200 POST /echo [hi];"},
        {POST("/echo", "Content-Length: 2\r\nExpect: 100-Continue\r\n") "h", "i", "[hi]",
         "200 POST /echo [hi];"},
        {POST("/echo", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"), "2\r\nhi\r\n0\r\n\r\n",
         "[hi]", "100;200 POST /echo [hi];"},
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
        buf_printf(&request, "POST /pause HTTP/1.1\r\n" H "%s\r\n%s", framings[framing],
                   framing ? "100000\r\n" : "");
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
    client_read_to_end(w, fd, &b);
    expect_summary(&b, "200 early close;");
    assert_int_equal(http_server_connections(w->server), 1); /* it said its last word, but listens yet */
    assert_int_equal(w->body_bytes, 0);
    shutdown(fd, SHUT_WR);
    wait_until_closed(w);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
