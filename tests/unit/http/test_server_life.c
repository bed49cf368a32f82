/* The life of connections: turns, clients that leave, accepting, the drain. */
#include "http_fixture.h"

#include <sys/resource.h>

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

/* Bytes that come between a reply from elsewhere and the next look at the stash go behind the stash. */
static void test_order_of_bytes_around_the_stash(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16);
    int fd = client_new(w), releasing = client_new(w);
    client_send(w, fd, STR_LIT(GET("/later") GET("/tree/1") "GET /tree/"));
    wait_for(w, &w->heads, 1);
    while (http_server_connections(w->server) < 2)
        turn(w);
    turn_some(w);
    /* Both are readable when the loop turns, the releasing one first. */
    static const struct str release = STR_LIT(GET("/release")),
                            more = STR_LIT("2 HTTP/1.1\r\n" H "\r\n" GET("/tree/3"));
    assert_int_equal(send(releasing, release.p, release.len, 0), release.len);
    assert_int_equal(send(fd, more.p, more.len, 0), more.len);
    client_read_until(w, fd, &b, "/tree/3");
    expect_summary(&b, "200 released;200 GET /tree/1;200 GET /tree/2;200 GET /tree/3;");
    close(fd);
    close(releasing);
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
    assert_int_equal(w->done_bytes, b.len);
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
    snprintf(expected, sizeof expected, "cannot listen on \"127.0.0.1\" port %u: address already in use",
             w->port);
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
    expect_summary(&b, "200 GET /tree/x;"); /* of one that sent nothing: nothing */
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

/* A client that connected just before may be sending its first request: it is answered. */
static void test_drain_answers_a_first_request(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 16);
    int fd = client_new(w);
    while (http_server_connections(w->server) == 0)
        turn(w);
    http_server_drain(w->server, clock_now_ns() + HANG_SECONDS * NS_PER_S, on_drained, w);
    client_send(w, fd, STR_LIT(GET("/tree/x")));
    client_read_to_end(w, fd, &b);
    expect_summary(&b, "200 GET /tree/x close;");
    while (!w->drained)
        turn(w);
    close(fd);
    world_free(w);
}

static void test_drain_waits_for_a_reply_on_its_way(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(2 * BIG_BYTES);
    int fd = client_new_small_window(w);
    client_send(w, fd, STR_LIT(GET("/big")));
    while (http_server_connections(w->server) == 0)
        turn(w);
    turn_some(w);
    http_server_drain(w->server, clock_now_ns() + HANG_SECONDS * NS_PER_S, on_drained, w);
    client_read_to_end(w, fd, &b);
    assert_true(b.len > BIG_BYTES);
    while (!w->drained)
        turn(w);
    buf_done(&b);
    close(fd);
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
        cmocka_unit_test(test_order_of_bytes_around_the_stash),
        cmocka_unit_test(test_client_leaves_in_flight),
        cmocka_unit_test(test_client_leaves_before_its_head_is_complete),
        cmocka_unit_test(test_client_leaves_while_its_reply_is_written),
        cmocka_unit_test(test_half_close_while_the_reply_is_written),
        cmocka_unit_test(test_connections_are_bounded),
        cmocka_unit_test(test_running_out_of_descriptors),
        cmocka_unit_test(test_listening),
        cmocka_unit_test(test_drain_lets_the_busy_finish),
        cmocka_unit_test(test_drain_answers_a_first_request),
        cmocka_unit_test(test_drain_waits_for_a_reply_on_its_way),
        cmocka_unit_test(test_drain_cuts_at_its_deadline),
        cmocka_unit_test(test_drain_of_an_empty_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
