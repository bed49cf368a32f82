/* Replies in pieces, over HTTP/1 and HTTP/2: their framing, who waits for whom, and every way they can end early. */
#include "http2_fixture.h"

enum { PIECE = 64 * 1024 };

static int writables;

static void on_writable(struct http_exchange *x)
{
    (void)x;
    writables++;
}

#define PIECES_HANDLER                                                                                      \
    {                                                                                                       \
        .head = keep_head, .body = count_body, .end = count_end, .gone = keep_gone, .writable = on_writable \
    }
static const struct http_route piece_routes[] = {
    {HTTP_METHOD_GET, "/pieces", 0, PIECES_HANDLER},
    {HTTP_METHOD_POST, "/pieces", BIG_BYTES, PIECES_HANDLER},
    {HTTP_METHOD_GET, "/echo", 0, ECHO_HANDLER},
};

static struct world *pieces_world(void)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.routes = piece_routes;
    config.route_count = LENGTH_OF(piece_routes);
    config.limits.write_timeout_ns = 200 * NS_PER_MS;
    writables = 0;
    return world_new_with(w, &config);
}

static void begin(struct world *w)
{
    const struct http_field field = {STR_LIT("X-A"), STR_LIT("b")};
    http_reply_begin(w->waiting, 200, &field, 1);
}

static bool put(struct world *w, const char *text)
{
    return http_reply_data(w->waiting, str_of(text));
}

static void end(struct world *w)
{
    http_reply_end(w->waiting, NULL, 0);
}

static void end_with_trailer(struct world *w)
{
    const struct http_field field = {STR_LIT("X-Sum"), STR_LIT("42")};
    http_reply_end(w->waiting, &field, 1);
}

static char filler[PIECE];

/* Gives pieces until one does not go out at once; returns the bytes. */
static size_t fill(struct world *w)
{
    size_t given = 0;
    do
        given += PIECE;
    while (http_reply_data(w->waiting, str_make(filler, PIECE)) && given < 1000 * PIECE);
    return given;
}

/* What stands behind the head. */
static const char *body_in(struct buf *b)
{
    const char *end_of_head = strstr(buf_cstr(b), "\r\n\r\n");
    assert_non_null(end_of_head);
    return end_of_head + 4;
}

static struct world *asked(int *fd, const char *request)
{
    struct world *w = pieces_world();
    *fd = client_new(w);
    client_send(w, *fd, str_of(request));
    wait_for(w, &w->heads, 1);
    return w;
}

/* --- HTTP/1 ------------------------------------------------------------------------------------------- */

static void test_chunks(void **state)
{
    (void)state;
    int fd;
    struct world *w = asked(&fd, GET("/pieces"));
    struct buf b = buf_make(1 << 16);
    begin(w);
    client_read_until(w, fd, &b, "\r\n\r\n"); /* the head does not wait for the body */
    assert_non_null(strstr(buf_cstr(&b), "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(buf_cstr(&b), "X-A: b\r\n"));
    assert_null(strstr(buf_cstr(&b), "Content-Length"));
    assert_true(put(w, "hello"));
    client_read_until(w, fd, &b, "hello\r\n");
    assert_true(put(w, "")); /* must not become the last chunk */
    assert_true(put(w, "0123456789abcdef0"));
    end_with_trailer(w);
    client_read_until(w, fd, &b, "X-Sum");
    assert_string_equal(body_in(&b), "5\r\nhello\r\n11\r\n0123456789abcdef0\r\n0\r\nX-Sum: 42\r\n\r\n");
    assert_int_equal(w->done_count, 1);
    assert_int_equal(w->done_bytes, b.len);
    assert_int_equal(w->gones, 0);
    buf_clear(&b);
    client_send(w, fd, STR_LIT(GET("/echo"))); /* the connection stays */
    client_read_until(w, fd, &b, "GET /echo");
    expect_summary(&b, "200 GET /echo;");
    close(fd);
    world_free(w);
}

static void test_an_empty_reply_and_head(void **state)
{
    (void)state;
    int fd;
    struct world *w = asked(&fd, GET("/pieces") "HEAD /pieces HTTP/1.1\r\n" H "\r\n" GET("/echo"));
    struct buf b = buf_make(1 << 16);
    begin(w);
    end(w);
    wait_for(w, &w->heads, 2);
    begin(w);
    assert_true(put(w, "not for HEAD"));
    end(w);
    client_read_until(w, fd, &b, "GET /echo");
    assert_true(strncmp(body_in(&b), "0\r\n\r\nHTTP/1.1 200", 17) == 0);
    assert_null(strstr(buf_cstr(&b), "not for HEAD"));
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void test_an_old_client_gets_all_up_to_the_close(void **state)
{
    (void)state;
    int fd;
    struct world *w = asked(&fd, "GET /pieces HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n");
    struct buf b = buf_make(1 << 16);
    begin(w);
    put(w, "hello ");
    put(w, "world");
    end_with_trailer(w);
    client_read_to_end(w, fd, &b);
    assert_string_equal(body_in(&b), "hello world");
    assert_null(strstr(buf_cstr(&b), "Transfer-Encoding"));
    assert_non_null(strstr(buf_cstr(&b), "Connection: close"));
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void read_all(struct world *w, int fd, struct buf *b, bool *reset)
{
    turn(w);
    while (client_read(fd, b, reset)) {
        rest(fd);
        turn(w);
    }
}

static void test_aborted(void **state)
{
    (void)state;
    const struct {
        const char *request;
        bool reset;
    } cases[] = {{GET("/pieces"), false}, {"GET /pieces HTTP/1.0\r\n" H "\r\n", true}};
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        int fd;
        bool reset = false;
        struct world *w = asked(&fd, cases[i].request);
        struct buf b = buf_make(1 << 16);
        begin(w);
        put(w, "hello");
        client_read_until(w, fd, &b, "hello");
        http_reply_abort(w->waiting);
        read_all(w, fd, &b, &reset);
        assert_int_equal(reset, cases[i].reset); /* a plain close would look like the end */
        assert_null(strstr(body_in(&b), "0\r\n\r\n"));
        assert_int_equal(w->gones, 0);
        assert_int_equal(w->done_count, 1);
        buf_done(&b);
        close(fd);
        world_free(w);
    }
}

static void test_waits_for_the_client(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct buf b = buf_make(64 << 20);
    int fd = client_new_small_window(w);
    client_send(w, fd, STR_LIT(GET("/pieces")));
    wait_for(w, &w->heads, 1);
    begin(w);
    size_t given = fill(w);
    assert_true(given < 1000 * PIECE);
    turn_some(w);
    assert_int_equal(writables, 0);
    assert_false(put(w, "still busy"));
    while (!writables) {
        bool reset;
        assert_true(client_read(fd, &b, &reset));
        turn(w);
    }
    assert_int_equal(writables, 1);
    end(w);
    client_read_until(w, fd, &b, "still busy\r\n0\r\n\r\n");
    assert_true(b.len > given);
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void test_a_client_that_does_not_read_is_cut(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    int fd = client_new_small_window(w);
    client_send(w, fd, STR_LIT(GET("/pieces")));
    wait_for(w, &w->heads, 1);
    begin(w);
    fill(w);
    wait_for(w, &w->gones, 1);
    assert_int_equal(w->done_count, 1);
    close(fd);
    world_free(w);
}

/* A handler that gives on and on is our fault, but it must not cost all memory. */
static void test_a_handler_that_does_not_wait(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    int fd = client_new_small_window(w);
    client_send(w, fd, STR_LIT(GET("/pieces")));
    wait_for(w, &w->heads, 1);
    begin(w);
    for (int i = 0; i < 200 && w->waiting; i++)
        http_reply_data(w->waiting, str_make(filler, PIECE));
    assert_int_equal(w->gones, 0); /* not while it is on the stack */
    wait_for(w, &w->gones, 1);
    close(fd);
    world_free(w);
}

static void test_the_client_leaves(void **state)
{
    (void)state;
    int fd;
    struct world *w = asked(&fd, GET("/pieces"));
    begin(w);
    close(fd);
    wait_for(w, &w->gones, 1);
    wait_until_closed(w);
    assert_int_equal(w->done_status, 200);
    world_free(w);
}

static void test_the_body_goes_on_meanwhile(void **state)
{
    (void)state;
    int fd;
    struct world *w = asked(&fd, POST("/pieces", "Content-Length: 200000\r\n"));
    struct buf b = buf_make(1 << 20);
    begin(w);
    put(w, "a");
    client_send(w, fd, str_make(filler, 50000));
    while (w->body_bytes < 50000)
        turn(w);
    put(w, "b");
    for (int i = 0; i < 3; i++)
        client_send(w, fd, str_make(filler, 50000));
    wait_for(w, &w->ends, 1);
    put(w, "c");
    end(w);
    client_read_to_end(w, fd, &b); /* the length was not known to be small when it began: no keep-alive */
    assert_string_equal(body_in(&b), "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n");
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void test_a_broken_body_cuts_the_reply(void **state)
{
    (void)state;
    int fd;
    bool reset = false;
    struct world *w = asked(&fd, POST("/pieces", "Transfer-Encoding: chunked\r\n") "5\r\nhello\r\n");
    struct buf b = buf_make(1 << 20);
    begin(w);
    put(w, "a");
    client_send(w, fd, STR_LIT("nonsense\r\n"));
    wait_for(w, &w->gones, 1);
    read_all(w, fd, &b, &reset);
    assert_string_equal(body_in(&b), "1\r\na\r\n");
    assert_int_equal(w->done_count, 1);
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void test_the_end_before_the_body(void **state)
{
    (void)state;
    int fd;
    bool reset = false;
    struct world *w = asked(&fd, POST("/pieces", "Content-Length: 500000\r\n"));
    struct buf b = buf_make(1 << 20);
    begin(w);
    put(w, "enough");
    end(w);
    read_all(w, fd, &b, &reset);
    assert_string_equal(body_in(&b), "6\r\nenough\r\n0\r\n\r\n");
    assert_int_equal(w->gones, 0);
    buf_done(&b);
    close(fd);
    world_free(w);
}

/* What slow clients leave untaken is bounded for all of them together, and is given back when they leave. */
static void test_replies_of_slow_clients_are_bounded(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    struct buf b = buf_make(1 << 16);
    config.limits.replies_bytes_max = 2 * BIG_BYTES;
    world_new_with(w, &config);
    int slow[3], fd = client_new(w);
    for (size_t i = 0; i < LENGTH_OF(slow); i++) {
        slow[i] = client_new_small_window(w);
        client_send(w, slow[i], STR_LIT(GET("/big")));
        turn_some(w);
    }
    client_send(w, fd, STR_LIT(GET("/echo")));
    client_read_until(w, fd, &b, "slowly");
    assert_non_null(strstr(buf_cstr(&b), "HTTP/1.1 503"));
    assert_non_null(strstr(buf_cstr(&b), "Retry-After: 1"));
    for (size_t i = 0; i < LENGTH_OF(slow); i++)
        close(slow[i]);
    while (http_server_connections(w->server) > 1)
        turn(w);
    buf_clear(&b);
    client_send(w, fd, STR_LIT(GET("/echo")));
    client_read_until(w, fd, &b, "GET /echo");
    expect_summary(&b, "200 GET /echo;");
    close(fd);
    world_free(w);
}

/* --- HTTP/2 ------------------------------------------------------------------------------------------- */

static struct h2_client *asked2(struct world *w, const char *method, uint8_t flags)
{
    struct h2_client *c = h2_new(w);
    h2_head(c, 1, flags, method, "/pieces", NULL);
    h2_send(c);
    wait_for(w, &w->heads, 1);
    return c;
}

static void test_data_frames(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "GET", END);
    begin(w);
    h2_expect(c, "1:200;");
    put(w, "hello ");
    while (c->data_frames < 1)
        h2_read(c);
    wait_for(w, &writables, 1);
    put(w, "wor");
    put(w, "ld");
    end_with_trailer(w);
    h2_expect(c, "1=hello world;1+x-sum=42;");
    h2_get(c, 3, "/echo");
    h2_expect(c, "3:200;3=GET /echo;");
    assert_int_equal(w->done_count, 2);
    assert_int_equal(w->gones, 0);
    h2_free(c);
    world_free(w);
}

static void test_data_frames_at_once(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "GET", END);
    begin(w);
    put(w, "all");
    end(w);
    h2_expect(c, "1:200;1=all;");
    h2_head(c, 3, END, "GET", "/pieces", NULL);
    h2_send(c);
    wait_for(w, &w->heads, 2);
    begin(w);
    end_with_trailer(w); /* without any body */
    h2_expect(c, "3:200;3=;3+x-sum=42;");
    h2_head(c, 5, END, "HEAD", "/pieces", NULL);
    h2_send(c);
    wait_for(w, &w->heads, 3);
    begin(w);
    assert_true(put(w, "not for HEAD"));
    end(w);
    h2_expect(c, "5:200;");
    h2_get(c, 7, "/echo");
    h2_expect(c, "7:200;7=GET /echo;");
    h2_free(c);
    world_free(w);
}

static void test_waits_for_the_window(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "GET", END);
    begin(w);
    for (int i = 0; i < 2; i++)
        assert_false(http_reply_data(w->waiting, str_make(filler, PIECE))); /* the window has 65,535 bytes */
    h2_expect(c, "1:200;");
    turn_some(w);
    h2_read(c);
    assert_int_equal(writables, 0);
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 1, 1 << 20);
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 0, 1 << 20);
    h2_send(c);
    while (!writables)
        h2_read(c);
    end(w);
    h2_expect(c, "1=131072 bytes;");
    h2_free(c);
    world_free(w);
}

static void test_a_stream_that_is_not_read_is_cut(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "GET", END);
    begin(w);
    for (int i = 0; i < 2; i++)
        http_reply_data(w->waiting, str_make(filler, PIECE));
    h2_expect(c, "1:200;");
    h2_expect(c, "1!8;"); /* CANCEL */
    assert_int_equal(w->gones, 1);
    h2_free(c);
    world_free(w);
}

/* A handler that is silent for long is not a client that does not read. */
static void test_a_silent_stream_is_not_cut(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "GET", END);
    begin(w);
    put(w, "a");
    h2_expect(c, "1:200;");
    uint64_t until = clock_now_ns() + 600 * NS_PER_MS;
    while (clock_now_ns() < until)
        h2_read(c);
    assert_int_equal(w->gones, 0);
    put(w, "b");
    end(w);
    h2_expect(c, "1=ab;");
    h2_free(c);
    world_free(w);
}

static void test_streams_end_early(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "GET", END);
    begin(w);
    put(w, "a");
    h2_expect(c, "1:200;");
    http_reply_abort(w->waiting);
    h2_expect(c, "1!2;"); /* INTERNAL_ERROR */
    assert_int_equal(w->gones, 0);
    h2_head(c, 3, END, "GET", "/pieces", NULL);
    h2_send(c);
    wait_for(w, &w->heads, 2);
    begin(w);
    put(w, "a");
    h2_u32(c, NGHTTP2_RST_STREAM, 3, NGHTTP2_CANCEL);
    h2_send(c);
    wait_for(w, &w->gones, 1);
    h2_head(c, 5, END_HEADERS, "POST", "/pieces", "content-length=3");
    h2_send(c);
    wait_for(w, &w->heads, 3);
    begin(w);
    h2_data(c, 5, END_STREAM, STR_LIT("more than three"));
    h2_send(c);
    wait_for(w, &w->gones, 2);
    h2_free(c);
    world_free(w);
}

static void test_a_body_in_both_directions(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "POST", END_HEADERS);
    begin(w);
    h2_data(c, 1, NONE, STR_LIT("ping"));
    h2_send(c);
    while (w->body_bytes < 4)
        turn(w);
    put(w, "pong");
    h2_data(c, 1, END_STREAM, STR_LIT("ping"));
    h2_send(c);
    wait_for(w, &w->ends, 1);
    end(w);
    h2_expect(c, "1:200;1=pong;");
    h2_free(c);
    world_free(w);
}

static void test_the_client_of_streams_leaves(void **state)
{
    (void)state;
    struct world *w = pieces_world();
    struct h2_client *c = asked2(w, "GET", END);
    begin(w);
    for (int i = 0; i < 2; i++)
        http_reply_data(w->waiting, str_make(filler, PIECE));
    h2_free(c);
    wait_for(w, &w->gones, 1);
    wait_until_closed(w);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_an_empty_reply_and_head),
        cmocka_unit_test(test_an_old_client_gets_all_up_to_the_close),
        cmocka_unit_test(test_aborted),
        cmocka_unit_test(test_waits_for_the_client),
        cmocka_unit_test(test_a_client_that_does_not_read_is_cut),
        cmocka_unit_test(test_a_handler_that_does_not_wait),
        cmocka_unit_test(test_the_client_leaves),
        cmocka_unit_test(test_the_body_goes_on_meanwhile),
        cmocka_unit_test(test_a_broken_body_cuts_the_reply),
        cmocka_unit_test(test_the_end_before_the_body),
        cmocka_unit_test(test_replies_of_slow_clients_are_bounded),
        cmocka_unit_test(test_data_frames),
        cmocka_unit_test(test_data_frames_at_once),
        cmocka_unit_test(test_waits_for_the_window),
        cmocka_unit_test(test_a_stream_that_is_not_read_is_cut),
        cmocka_unit_test(test_a_silent_stream_is_not_cut),
        cmocka_unit_test(test_streams_end_early),
        cmocka_unit_test(test_a_body_in_both_directions),
        cmocka_unit_test(test_the_client_of_streams_leaves),
    };
    memset(filler, 'x', sizeof filler);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
