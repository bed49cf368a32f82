/* HTTP/2 as it should be used: requests, what is refused, flow control, deadlines, the drain. */
#include "http2_fixture.h"

struct scenario {
    const char *method, *path, *fields;
    const char *body; /* NULL: END_STREAM in the head */
    const char *expected;
};

static const struct scenario scenarios[] = {
    {"GET", "/echo", NULL, NULL, "1:200;1=GET /echo;"},
    {"GET", "/echo?a=%20b", NULL, NULL, "1:200;1=GET /echo?a=%20b;"},
    {"GET", "/echo", "host=h", NULL, "1:200;1=GET /echo;"},
    {"GET", "/echo", "te=trailers", NULL, "1:200;1=GET /echo;"},
    {"POST", "/echo", NULL, "hello", "1:200;1=POST /echo [hello];"},
    {"POST", "/echo", "content-length=5", "hello", "1:200;1=POST /echo [hello];"},
    {"POST", "/echo", NULL, "", "1:200;1=POST /echo;"},
    {"HEAD", "/echo", NULL, NULL, "1:200;"},
    {"OPTIONS", "*", NULL, NULL, "1:204;"},
    {"OPTIONS", "/echo", NULL, NULL, "1:204;"},
    {"DELETE", "/tree/leaf", NULL, NULL, "1:200;1=DELETE /tree/leaf;"},
    /* refused by the server */
    {"DELETE", "/tree/none", NULL, NULL, "1:405;1=\"/tree/none\" takes GET, HEAD, OPTIONS, not DELETE\n;"},
    {"GET", "/none", NULL, NULL, "1:404;1=there is nothing at \"/none\"\n;"},
    {"BREW", "/echo", NULL, NULL, "1:501;1=the method BREW is not known here\n;"},
    {"GET", "echo", NULL, NULL, "1!1;"},
    {"GET", "/a b", NULL, NULL, "1!1;"},
    {"GET", "/a#b", NULL, NULL,
     "1:400;1=the request target has the byte 0x23, which must be percent-encoded\n;"},
    {"GET", "/echo", "host=a\nhost=b", NULL, "1!1;"},
    {"GET", "/echo", "host=a/b", NULL, "1!1;"},
    {"GET", "/echo", "host=u@h", NULL, "1:400;1=the request's host is not a host with an optional port\n;"},
    {"GET", "/echo", "expect=magic", NULL, "1:417;1=Expect may only say \"100-continue\"\n;"},
    {"POST", "/nobody", NULL, "x",
     "1:413;1=the body is larger than the 0 bytes that POST \"/nobody\" takes\n;"},
    /* malformed (RFC 9113 section 8.1.1) */
    {"GET", "/echo", "connection=close", NULL, "1!1;"},
    {"GET", "/echo", "transfer-encoding=chunked", NULL, "1!1;"},
    {"GET", "/echo", "upgrade=x", NULL, "1!1;"},
    {"GET", "/echo", "te=gzip", NULL, "1!1;"},
    {"GET", "/echo", ":path=/", NULL, "1!1;"},
    {"GET", "/echo", "content-length=x", NULL, "1!1;"},
    {"POST", "/echo", "content-length=6", "hello", "1!1;"},
    {"POST", "/echo", "content-length=4", "hello", "1!1;"},
    {"CONNECT", "/echo", NULL, NULL, "1!1;"},
};

static void play(struct world *w, const struct scenario *s, bool bytewise)
{
    struct h2_client *c = h2_new(w);
    h2_head(c, 1, s->body ? END_HEADERS : END, s->method, s->path, s->fields);
    if (s->body)
        h2_data(c, 1, END_STREAM, str_of(s->body));
    if (bytewise) {
        for (size_t i = 0; i < c->out.len; i++) {
            client_send(w, c->fd, str_make(c->out.p + i, 1));
            turn(w);
        }
        buf_clear(&c->out);
    }
    h2_expect(c, s->expected);
    h2_get(c, 3, "/tree/next"); /* one stream's fault is not the connection's */
    h2_expect(c, "3:200;3=GET /tree/next;");
    h2_free(c);
}

static void test_scenarios(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (size_t i = 0; i < LENGTH_OF(scenarios); i++) {
        play(w, &scenarios[i], false);
        play(w, &scenarios[i], true);
    }
    wait_until_closed(w);
    assert_int_equal(w->heads, w->ends + w->gones);
    world_free(w);
}

static void test_bounds_of_the_head(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    struct buf text = buf_make(1 << 20);
    buf_putc(&text, '/');
    for (int i = 0; i < 9000; i++)
        buf_putc(&text, 'p');
    h2_get(c, 1, buf_cstr(&text));
    h2_expect(c, "1:414;1=the request target is longer than 8192 bytes\n;");
    buf_clear(&text);
    for (int i = 0; i < 101; i++)
        buf_printf(&text, "%sa=b", i ? "\n" : "");
    h2_head(c, 3, END, "GET", "/echo", buf_cstr(&text));
    h2_expect(c, "3:431;3=the request has more than 100 fields\n;");
    buf_clear(&text);
    for (int i = 0; i < 99; i++)
        buf_printf(&text, "%sa=%0130d", i ? "\n" : "", i); /* 131 bytes, and 32 for each */
    h2_head(c, 5, END, "GET", "/echo", buf_cstr(&text));
    h2_expect(c, "5:200;5=GET /echo;");
    buf_puts(&text,
             "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
             "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
             "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000");
    h2_head(c, 7, END, "GET", "/echo", buf_cstr(&text));
    h2_expect(c, "7:431;7=the request has more than 16384 bytes in its head\n;");
    buf_done(&text);
    h2_free(c);
    world_free(w);
}

/* One field of 4000 bytes in the table of HPACK, named again and again by one byte. */
static void test_a_head_that_unfolds(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    struct buf value = buf_make(4000), block = h2_block("GET", "/echo", NULL);
    while (value.len < 4000)
        buf_putc(&value, 'v');
    buf_putc(&block, 0x40); /* literal, indexed */
    put_string(&block, STR_LIT("a"));
    put_string(&block, buf_str(&value));
    h2_frame(c, NGHTTP2_HEADERS, END, 1, buf_str(&block));
    h2_expect(c, "1:200;1=GET /echo;");
    for (int i = 0; i < 10000; i++)
        buf_putc(&block, (char)0xbe); /* the newest entry */
    h2_frame(c, NGHTTP2_HEADERS, END, 3, buf_str(&block));
    h2_expect(c, "3:431;3=the request has more than 16384 bytes in its head\n;");
    buf_done(&value);
    buf_done(&block);
    h2_free(c);
    world_free(w);
}

static void cookies_end(struct http_exchange *x)
{
    struct str host = http_field(x, "host");
    struct buf text = buf_make(1000);
    buf_printf(&text, "%.*s|%zu|%.*s|%zu", STR_FMT(http_field(x, "cookie")), http_field_count(x, "cookie"),
               STR_FMT(host), http_field_count(x, "host"));
    http_reply(x, 200, NULL, 0, buf_str(&text));
    buf_done(&text);
}

static void test_cookies_and_host_are_one_field(void **state)
{
    (void)state;
    static const struct http_route cookie_routes[] = {
        {HTTP_METHOD_GET, "/", 0, {.head = ignore_head, .end = cookies_end}}};
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.routes = cookie_routes;
    config.route_count = 1;
    world_new_with(w, &config);
    struct h2_client *c = h2_new(w);
    h2_head(c, 1, END, "GET", "/", "cookie=a=1\nx=y\ncookie=b=2");
    h2_expect(c, "1:200;1=a=1; b=2|1|h|1;");
    h2_free(c);
    world_free(w);
}

static void test_trailers_and_expect(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    struct buf trailer = buf_make(100);
    put_pair(&trailer, "x-sum", STR_LIT("1"));
    h2_head(c, 1, END_HEADERS, "POST", "/echo", "expect=100-continue");
    h2_expect(c, "1:100;");
    h2_data(c, 1, NONE, STR_LIT("abc"));
    h2_frame(c, NGHTTP2_HEADERS, END, 1, buf_str(&trailer));
    h2_expect(c, "1:200;1=POST /echo [abc];");
    buf_done(&trailer);
    h2_free(c);
    world_free(w);
}

static void test_many_streams_at_once(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    for (uint32_t i = 0; i < 50; i++)
        h2_get(c, 1 + 2 * i, "/echo");
    h2_send(c);
    while (c->body_count < 50 || body_of(c, 99)->len == 0) {
        h2_read(c);
        rest(c->fd);
    }
    assert_int_equal(w->done_count, 50);
    h2_get(c, 101, "/later");
    h2_get(c, 103, "/release");
    buf_clear(&c->seen);
    h2_expect(c, "101:200;103:200;101=released;103=done;");
    h2_free(c);
    world_free(w);
}

static void test_a_reset_stream_is_gone(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    h2_get(c, 1, "/later");
    h2_send(c);
    wait_for(w, &w->heads, 1);
    h2_u32(c, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
    h2_send(c);
    wait_for(w, &w->gones, 1);
    assert_int_equal(w->done_status, 0);
    h2_get(c, 3, "/later");
    h2_send(c);
    wait_for(w, &w->heads, 2);
    h2_free(c); /* the whole client leaves */
    wait_for(w, &w->gones, 2);
    wait_until_closed(w);
    world_free(w);
}

/* A paused body is not asked for beyond its window, and comes whole once it goes on. */
static void test_pause_closes_the_window(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    static char piece[16384];
    h2_get(c, 9, "/echo");
    h2_expect(c, "9:200;9=GET /echo;");
    h2_send(c); /* takes on the server's settings */
    h2_head(c, 11, END_HEADERS, "POST", "/pause-at-head", NULL);
    for (int i = 0; i < 8; i++) /* all of the 128 KiB that the stream may send unasked */
        h2_data(c, 11, NONE, str_make(piece, sizeof piece));
    h2_send(c);
    for (int i = 0; i < 50; i++)
        h2_read(c);
    assert_int_equal(w->body_bytes, 0);
    assert_int_equal(c->window_updates, 0);
    h2_get(c, 13, "/echo"); /* another stream goes on meanwhile */
    h2_expect(c, "13:200;13=GET /echo;");
    http_body_resume(w->waiting);
    while (c->window_updates == 0)
        h2_read(c);
    assert_int_equal(w->body_bytes, 8 * sizeof piece);
    h2_data(c, 11, END_STREAM, STR_LIT("end"));
    h2_send(c);
    wait_for(w, &w->ends, 3);
    reply_ok(w, "fine");
    h2_expect(c, "11:200;11=fine;");
    h2_free(c);
    world_free(w);
}

static void test_paused_again_at_each_piece(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    h2_head(c, 1, END_HEADERS, "POST", "/pause", NULL);
    h2_data(c, 1, NONE, STR_LIT("ab"));
    h2_data(c, 1, NONE, STR_LIT("cd"));
    h2_data(c, 1, END_STREAM, STR_LIT("e"));
    h2_send(c);
    wait_for(w, &w->pauses, 1);
    for (int i = 0; i < 10; i++)
        turn(w);
    assert_int_equal(w->body_bytes, 2);
    http_body_resume(w->waiting);
    wait_for(w, &w->pauses, 2);
    assert_int_equal(w->body_bytes, 5);
    assert_int_equal(w->ends, 0);
    http_body_resume(w->waiting);
    wait_for(w, &w->ends, 1);
    reply_ok(w, "fine");
    h2_expect(c, "1:200;1=fine;");
    h2_free(c);
    world_free(w);
}

static void test_windows_of_the_client(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    h2_setting(c, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    h2_get(c, 1, "/big");
    h2_expect(c, "1:200;");
    for (int i = 0; i < 20; i++)
        h2_read(c);
    assert_int_equal(c->data_frames, 0);
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 1, 10);
    h2_send(c);
    while (c->data_frames == 0)
        h2_read(c);
    assert_int_equal(body_of(c, 1)->len, 10);
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 0, BIG_BYTES);
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 1, BIG_BYTES);
    h2_expect(c, "1=6291456 bytes;");
    for (size_t i = 0; i < BIG_BYTES; i++)
        assert_int_equal(body_of(c, 1)->p[i], 'a' + i % 23);
    h2_free(c);
    world_free(w);
}

static void test_an_early_reply_ends_the_request(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    h2_head(c, 1, END_HEADERS, "POST", "/early", NULL);
    h2_data(c, 1, NONE, STR_LIT("some"));
    h2_expect(c, "1:200;1=early;");
    h2_expect(c, "1!0;"); /* NO_ERROR, a little later */
    h2_head(c, 3, END_HEADERS, "POST", "/early-at-body", NULL);
    h2_data(c, 3, NONE, STR_LIT("some"));
    h2_data(c, 3, END_STREAM, STR_LIT("more"));
    h2_expect(c, "3:200;3=early;");
    assert_int_equal(w->body_bytes, 4);
    h2_head(c, 5, END_HEADERS, "POST", "/echo", "content-length=1001"); /* refused before its body */
    h2_expect(c, "5:413;5=the body is larger than the 1000 bytes that POST \"/echo\" takes\n;");
    h2_free(c);
    world_free(w);
}

/* --- deadlines ---------------------------------------------------------------------------------------- */

static struct world *hasty_world(void)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.limits.head_timeout_ns = config.limits.body_timeout_ns = config.limits.write_timeout_ns =
        config.limits.idle_timeout_ns = 100 * NS_PER_MS;
    return world_new_with(w, &config);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct world *w = hasty_world();
    struct h2_client *c = h2_new(w);
    assert_string_equal(h2_to_end(c), "goaway 0/0;"); /* idle */
    h2_free(c);
    c = h2_new(w);
    h2_head(c, 1, END_HEADERS, "POST", "/later", NULL);
    h2_data(c, 1, NONE, STR_LIT("x"));
    h2_expect(c, "1:408;1=the request body came too slowly\n;");
    assert_int_equal(w->gones, 1);
    h2_free(c);
    c = h2_new(w);
    h2_head(c, 1, END_STREAM, "GET", "/echo", NULL); /* the rest of the head never comes */
    assert_string_equal(h2_to_end(c), "goaway 1/11;");
    h2_free(c);
    c = h2_new(w);
    h2_setting(c, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    h2_get(c, 1, "/big"); /* never taken */
    h2_expect(c, "1:200;");
    h2_expect(c, "1!8;");
    h2_free(c);
    c = h2_new(w);
    buf_clear(&c->out);
    buf_puts(&c->out, "PR"); /* half a preface is half a head of HTTP/1 */
    h2_send(c);
    while (!c->ended) {
        c->ended = !client_read(c->fd, &c->in, &c->reset);
        turn(w);
        rest(c->fd);
    }
    assert_true(str_starts_with(buf_str(&c->in), STR_LIT("HTTP/1.1 408 ")));
    h2_free(c);
    wait_until_closed(w);
    world_free(w);
}

static void test_drain(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w), *idle = h2_new(w);
    h2_get(c, 1, "/later");
    h2_send(c);
    h2_get(idle, 1, "/echo");
    h2_expect(idle, "1:200;1=GET /echo;");
    wait_for(w, &w->heads, 2);
    http_server_drain(w->server, clock_now_ns() + HANG_SECONDS * NS_PER_S, on_drained, w);
    h2_expect(c, "goaway 2147483647/0;ping;");
    h2_get(c, 3, "/echo"); /* was on its way */
    h2_expect(c, "3:200;3=GET /echo;");
    h2_frame(c, NGHTTP2_PING, ACK, 0, STR_LIT("\0\0\0\0\0\0\0\0"));
    h2_expect(c, "goaway 3/0;");
    reply_ok(w, "still");
    assert_string_equal(h2_to_end(c), "1:200;1=still;");
    assert_string_equal(h2_to_end(idle), "goaway 2147483647/0;ping;goaway 1/0;"); /* it did not answer */
    assert_false(c->reset || idle->reset);
    h2_free(c);
    h2_free(idle);
    while (!w->drained)
        uv_run(&w->loop, UV_RUN_ONCE);
    world_free(w);
}

/* The same for one that had sent nothing yet when the drain began. */
static void test_drain_of_a_new_connection(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    while (http_server_connections(w->server) == 0)
        turn(w);
    http_server_drain(w->server, clock_now_ns() + HANG_SECONDS * NS_PER_S, on_drained, w);
    h2_get(c, 1, "/tree/x");
    const char *seen = h2_to_end(c);
    assert_non_null(strstr(seen, "1:200;"));
    assert_non_null(strstr(seen, "goaway 1/0;"));
    while (!w->drained)
        turn(w);
    h2_free(c);
    world_free(w);
}

static void test_drain_cuts(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    h2_get(c, 1, "/later");
    h2_send(c);
    wait_for(w, &w->heads, 1);
    http_server_drain(w->server, 0, on_drained, w);
    while (!w->drained)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(w->gones, 1);
    h2_free(c);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenarios),
        cmocka_unit_test(test_bounds_of_the_head),
        cmocka_unit_test(test_a_head_that_unfolds),
        cmocka_unit_test(test_cookies_and_host_are_one_field),
        cmocka_unit_test(test_trailers_and_expect),
        cmocka_unit_test(test_many_streams_at_once),
        cmocka_unit_test(test_a_reset_stream_is_gone),
        cmocka_unit_test(test_pause_closes_the_window),
        cmocka_unit_test(test_paused_again_at_each_piece),
        cmocka_unit_test(test_windows_of_the_client),
        cmocka_unit_test(test_an_early_reply_ends_the_request),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_of_a_new_connection),
        cmocka_unit_test(test_drain_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
