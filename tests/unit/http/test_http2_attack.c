/* HTTP/2 as it should not be used: each flood ends with GOAWAY, after a number of requests that is bounded. */
#include "http2_fixture.h"

enum { MANY = 10000 };

/* What the client repeats; `n` counts from 0. */
typedef void (*frames)(struct h2_client *c, uint32_t n);

static void rapid_reset(struct h2_client *c, uint32_t n)
{
    h2_get(c, 1 + 2 * n, "/later");
    h2_u32(c, NGHTTP2_RST_STREAM, 1 + 2 * n, NGHTTP2_CANCEL);
}

/* The server is made to reset: a window that grows past 2^31. */
static void window_overflow(struct h2_client *c, uint32_t n)
{
    h2_get(c, 1 + 2 * n, "/later");
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 1 + 2 * n, INT32_MAX);
}

/* The same by a head that is none. */
static void malformed_heads(struct h2_client *c, uint32_t n)
{
    h2_head(c, 1 + 2 * n, END, "GET", "/later", "connection=close");
}

static void length_that_lies(struct h2_client *c, uint32_t n)
{
    h2_head(c, 1 + 2 * n, END_HEADERS, "POST", "/later", "content-length=1");
    h2_data(c, 1 + 2 * n, END_STREAM, STR_LIT("ab"));
}

static void window_of_zero(struct h2_client *c, uint32_t n)
{
    h2_get(c, 1 + 2 * n, "/later");
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 1 + 2 * n, 0);
}

static void many_streams(struct h2_client *c, uint32_t n)
{
    h2_get(c, 1 + 2 * n, "/later");
}

static void continuations(struct h2_client *c, uint32_t n)
{
    struct buf b = buf_make(100);
    if (n == 0)
        h2_head(c, 1, END_STREAM, "GET", "/echo", NULL);
    put_pair(&b, "a", STR_LIT("b"));
    h2_frame(c, NGHTTP2_CONTINUATION, 0, 1, buf_str(&b));
    buf_done(&b);
}

static void empty_continuations(struct h2_client *c, uint32_t n)
{
    if (n == 0)
        h2_head(c, 1, END_STREAM, "GET", "/echo", NULL);
    h2_frame(c, NGHTTP2_CONTINUATION, 0, 1, STR_LIT(""));
}

static void large_continuations(struct h2_client *c, uint32_t n)
{
    static char zeros[16000];
    if (n == 0)
        h2_head(c, 1, END_STREAM, "GET", "/echo", NULL);
    if (n < 4)
        h2_frame(c, NGHTTP2_CONTINUATION, 0, 1, str_make(zeros, sizeof zeros));
}

static void pings(struct h2_client *c, uint32_t n)
{
    (void)n;
    h2_frame(c, NGHTTP2_PING, 0, 0, STR_LIT("12345678"));
}

static void settings(struct h2_client *c, uint32_t n)
{
    h2_setting(c, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, n);
}

static void priorities(struct h2_client *c, uint32_t n)
{
    h2_frame(c, NGHTTP2_PRIORITY, 0, 1 + 2 * n, STR_LIT("\0\0\0\0\1"));
}

static void empty_data(struct h2_client *c, uint32_t n)
{
    if (n == 0)
        h2_head(c, 1, END_HEADERS, "POST", "/later", NULL);
    h2_data(c, 1, NONE, STR_LIT(""));
}

static void padding(struct h2_client *c, uint32_t n)
{
    static char padded[200] = {(char)199};
    if (n == 0)
        h2_head(c, 1, END_HEADERS, "POST", "/later", NULL);
    h2_data(c, 1, PADDED, str_make(padded, sizeof padded));
}

static void small_windows(struct h2_client *c, uint32_t n)
{
    (void)n;
    h2_u32(c, NGHTTP2_WINDOW_UPDATE, 0, 1);
}

static void unknown_frames(struct h2_client *c, uint32_t n)
{
    h2_frame(c, (uint8_t)(10 + n % 246), (uint8_t)n, n % 3, STR_LIT(""));
}

static void large_unknown_frames(struct h2_client *c, uint32_t n)
{
    static char zeros[1000];
    (void)n;
    h2_frame(c, 255, 0, 0, str_make(zeros, sizeof zeros));
}

static void priority_updates(struct h2_client *c, uint32_t n)
{
    (void)n;
    h2_frame(c, 0x10, 0, 0, STR_LIT("\0\0\0\1u=1")); /* RFC 9218 section 7.1 */
}

static void skipped_stream(struct h2_client *c, uint32_t n)
{
    if (n == 0) {
        h2_get(c, 5, "/later");
        h2_get(c, 3, "/later");
    }
}

static const struct attack {
    frames repeat;
    uint32_t code; /* of the GOAWAY */
    int heads_max; /* requests that a handler may have seen */
} attacks[] = {
    {rapid_reset, NGHTTP2_ENHANCE_YOUR_CALM, 101},
    {window_overflow, NGHTTP2_ENHANCE_YOUR_CALM, 200},
    {malformed_heads, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {length_that_lies, NGHTTP2_ENHANCE_YOUR_CALM, 200},
    {window_of_zero, NGHTTP2_PROTOCOL_ERROR, 1},
    {many_streams, NGHTTP2_ENHANCE_YOUR_CALM, 100},
    {continuations, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {empty_continuations, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {large_continuations, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {pings, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {settings, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {priorities, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {empty_data, NGHTTP2_ENHANCE_YOUR_CALM, 1},
    {padding, NGHTTP2_ENHANCE_YOUR_CALM, 1},
    {small_windows, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {unknown_frames, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {large_unknown_frames, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {priority_updates, NGHTTP2_ENHANCE_YOUR_CALM, 0},
    {skipped_stream, NGHTTP2_PROTOCOL_ERROR, 1},
};

static void test_attacks(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(attacks); i++) {
        struct world *w = world_new();
        struct h2_client *c = h2_new(w);
        char wanted[32];
        for (uint32_t n = 0; n < MANY; n++)
            attacks[i].repeat(c, n);
        const char *seen = h2_to_end(c), *last = strstr(seen, "goaway ");
        snprintf(wanted, sizeof wanted, "/%u;", attacks[i].code);
        if (!last || !strstr(last, wanted))
            fail_msg("attack %zu: expected GOAWAY with the code %u, there is \"%.300s\"", i, attacks[i].code,
                     seen);
        assert_null(strstr(seen, ":200;"));
        assert_in_range(w->heads, 0, attacks[i].heads_max);
        wait_until_closed(w);
        assert_int_equal(w->gones, w->heads); /* no run goes on for nobody */
        h2_free(c);
        world_free(w);
    }
}

/* What is allowed by the second comes back with time: nothing ends here. */
static void test_a_calm_client_is_let_be(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    for (uint32_t n = 0; n < 90; n++) {
        rapid_reset(c, n);
        pings(c, n);
    }
    h2_get(c, 1001, "/echo");
    h2_expect(c, "1001:200;1001=GET /echo;");
    for (uint32_t n = 0; n < MANY / 10; n++) {
        h2_get(c, 1003 + 2 * n, "/tree/x");
        h2_u32(c, NGHTTP2_WINDOW_UPDATE, 0, 17);
        if (n % 50 == 49) {
            h2_send(c);
            while (w->done_count < 90 + 1 + (int)n + 1)
                h2_read(c);
        }
    }
    assert_null(strstr(buf_cstr(&c->seen), "goaway"));
    h2_free(c);
    world_free(w);
}

/* A frame of an unknown type is dropped, wherever it comes (RFC 9113 sections 4.1 and 5.5), but not within a head
 * (section 6.10). */
static void test_unknown_frames_are_dropped(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct h2_client *c = h2_new(w);
    for (uint32_t n = 0; n < 500; n++)
        unknown_frames(c, n);
    h2_head(c, 1, END_HEADERS, "POST", "/echo", NULL);
    h2_frame(c, 0x10, 0, 0, STR_LIT("\0\0\0\1u=1"));
    h2_data(c, 1, NONE, STR_LIT("a"));
    h2_frame(c, 200, 0xff, 1, STR_LIT("not a part of it"));
    h2_data(c, 1, END_STREAM, STR_LIT("b"));
    h2_expect(c, "1:200;1=POST /echo [ab];");
    h2_head(c, 3, END_STREAM, "GET", "/echo", NULL);
    unknown_frames(c, 0);
    const char *seen = h2_to_end(c);
    assert_non_null(strstr(seen, "/1;"));
    h2_free(c);
    wait_until_closed(w);
    world_free(w);
}

/* A client that asks for much and takes nothing: what waits for it is bounded, and ends. */
static void test_replies_that_nobody_takes(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.limits.write_timeout_ns = 300 * NS_PER_MS;
    world_new_with(w, &config);
    struct h2_client *c = h2_new(w);
    h2_setting(c, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    for (uint32_t n = 0; n < 100; n++)
        h2_get(c, 1 + 2 * n, "/big");
    h2_send(c);
    for (int i = 0; i < 50; i++)
        h2_read(c);
    /* 8 MiB may wait before others are not even begun: two replies of 6 MiB. */
    h2_expect(c, "1:200;3:200;");
    h2_expect(c, "1!8;3!8;5:200;7:200;");
    h2_free(c);
    wait_until_closed(w);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_a_calm_client_is_let_be),
        cmocka_unit_test(test_unknown_frames_are_dropped),
        cmocka_unit_test(test_replies_that_nobody_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
