/* What the server makes of raw bytes: a table of requests, each sent whole, cut in two at every place,
 * and byte by byte. */
#include "http_fixture.h"

struct scenario {
    const char *request;
    const char *expected; /* the replies, as summarize() writes them */
};

#define CHUNKED "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
#define LENGTH(n) "POST /echo HTTP/1.1\r\n" H "Content-Length: " n "\r\n\r\n"
#define CODING(value) "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding:" value "\r\n\r\n0\r\n\r\n"
#define FIELD(line) "GET /echo HTTP/1.1\r\n" H line "\r\n\r\n"
#define TARGET(target) "GET " target " HTTP/1.1\r\n" H "\r\n"
#define NEXT "GET /tree/next HTTP/1.1\r\n" H "\r\n" /* must not be answered after a refusal */

static const struct scenario scenarios[] = {
    /* good ones */
    {"GET /echo HTTP/1.1\r\n" H "\r\n", "200 GET /echo;"},
    {"GET / HTTP/1.1\r\nhost:h:80\r\n\r\n", "200 GET /;"},
    {"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "200 GET /;"},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 GET /;"},
    {TARGET("/echo?a=1&b=%20?c"), "200 GET /echo?a=1&b=%20?c;"},
    {TARGET("/echo?"), "200 GET /echo;"},
    {TARGET("http://h/echo?x"), "200 GET /echo?x;"},
    {TARGET("HTTPS://H/echo"), "200 GET /echo;"},
    {TARGET("http://h"), "200 GET /;"},
    {TARGET("http://h?q/r"), "200 GET /?q/r;"},
    {TARGET("/tree/"), "200 GET /tree/;"},
    {TARGET("/tree/a/../%2e"), "200 GET /tree/a/../%2e;"},
    {TARGET("/tree/deep/x"), "200 GET /tree/deep/x;"},
    {"PUT /tree/deep/x HTTP/1.1\r\n" H "\r\n", "200 PUT /tree/deep/x;"},
    {"PATCH /tree/deep/x HTTP/1.1\r\n" H "\r\n", "200 PATCH /tree/deep/x;"},
    {"DELETE /tree/leaf HTTP/1.1\r\n" H "\r\n", "200 DELETE /tree/leaf;"},
    {TARGET("/tree/leaf"), "200 GET /tree/leaf;"},
    {TARGET("/prefix"), "200 GET /prefix;"},
    {TARGET("/pr"), "404;"},
    {LENGTH("5") "hello", "200 POST /echo [hello];"},
    {LENGTH("0"), "200 POST /echo;"},
    {"POST /echo HTTP/1.1\r\n" H "\r\n", "200 POST /echo;"},
    {"POST /nobody HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "200 POST /nobody;"},
    {CHUNKED "5\r\nhello\r\n1;a=b;c=\"d\"\r\n!\r\n0\r\n\r\n", "200 POST /echo [hello!];"},
    {CHUNKED "00A\r\n0123456789\r\n0\r\nTrailer: x\r\nHost: evil\r\n\r\n", "200 POST /echo [0123456789];"},
    {CHUNKED "0\r\n\r\n", "200 POST /echo;"},
    {CODING(" Chunked "), "200 POST /echo;"},
    {"\r\nGET /echo HTTP/1.1\r\n" H "\r\n", "200 GET /echo;"},
    {FIELD("Connection: Upgrade\r\nUpgrade: h2c") NEXT, "200 GET /echo;200 GET /tree/next;"},
    {"POST /echo HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi" NEXT,
     "200 POST /echo [hi];200 GET /tree/next;"},
    {"POST /echo HTTP/1.1\r\n" H
     "Connection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT,
     "200 POST /echo;200 GET /tree/next;"},
    {FIELD("X:\r\nY: \x80\xff \t"), "200 GET /echo;"},
    {"GET /echo HTTP/1.0\r\n\r\n", "200 GET /echo close;"},
    {"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /echo HTTP/1.0\r\n\r\n",
     "200 GET /echo;200 GET /echo close;"},
    {FIELD("Connection: close") NEXT, "200 GET /echo close;"},
    /* several on one connection */
    {"GET /echo HTTP/1.1\r\n" H "\r\n" LENGTH("2") "hi" CHUNKED "1\r\nx\r\n0\r\n\r\n" NEXT,
     "200 GET /echo;200 POST /echo [hi];200 POST /echo [x];200 GET /tree/next;"},
    {LENGTH("2") "hi\r\n" NEXT, "200 POST /echo [hi];200 GET /tree/next;"},
    {TARGET("/none") NEXT, "404;200 GET /tree/next;"},
    /* no such thing here */
    {TARGET("/none"), "404;"},
    {TARGET("/tree"), "404;"},
    {TARGET("/ech"), "404;"},
    {TARGET("/echo/"), "404;"},
    {"DELETE /echo HTTP/1.1\r\n" H "\r\n" NEXT, "405;200 GET /tree/next;"},
    {"POST /tree/deep/x HTTP/1.1\r\n" H "\r\n", "405;"},
    {"OPTIONS /echo HTTP/1.1\r\n" H "\r\n" NEXT, "204;200 GET /tree/next;"},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", "204;"},
    {"OPTIONS /none HTTP/1.1\r\n" H "\r\n", "404;"},
    {"DELETE /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc" NEXT, "405;200 GET /tree/next;"},
    /* the request line */
    {TARGET("*"), "400 close;"},
    {TARGET("echo") NEXT, "400 close;"},
    {TARGET("http://other/echo") NEXT, "400 close;"},
    {TARGET("http://h@h/echo"), "400 close;"},
    {TARGET("http:///echo"), "400 close;"},
    {TARGET("/echo#fragment"), "400 close;"},
    {TARGET("/\x80"), "400 close;"},
    {TARGET("/a\tb"), "400 close;"},
    {"GET  /echo HTTP/1.1\r\n" H "\r\n", "400 close;"},
    {"GET /echo  HTTP/1.1\r\n" H "\r\n", "400 close;"},
    {"GET /echo HTTP/1.1 \r\n" H "\r\n", "400 close;"},
    {"GET\t/echo HTTP/1.1\r\n" H "\r\n", "400 close;"},
    {"GET /echo HTTP/1.1\n" H "\r\n", "400 close;"},
    {"GET /echo HTTP/1.1\r" H "\r\n", "400 close;"},
    {"GET /echo RTSP/1.0\r\n" H "\r\n", "400 close;"},
    {"GET /echo http/1.1\r\n" H "\r\n", "400 close;"},
    {" GET /echo HTTP/1.1\r\n" H "\r\n", "400 close;"},
    {"\nGET /echo HTTP/1.1\r\n" H "\r\n", "400 close;"},
    {"\rGET /echo HTTP/1.1\r\n" H "\r\n", "400 close;"},
    {"\r\n\r\nGET /echo HTTP/1.1\r\n" H "\r\n", "400 close;"},
    {"\x16\x03\x01\x02", "400 close;"},
    {"GET /echo HTTP/1.2\r\n" H "\r\n" NEXT, "505 close;"},
    {"GET /echo HTTP/2.0\r\n" H "\r\n" NEXT, "505 close;"},
    {"GET /echo HTTP/3.0\r\n" H "\r\n", "505 close;"},
    {"GET /echo\r\n", "505 close;"},
    {"GET /echo HTTP/0.9\r\n" H "\r\n", "505 close;"},
    {NEXT "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "200 GET /tree/next;505 close;"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", "505 close;"},
    {"BREW /echo HTTP/1.1\r\n" H "\r\n" NEXT, "501 close;"},
    {"TRACE /echo HTTP/1.1\r\n" H "\r\n" NEXT, "501 close;"},
    {"CONNECT h:80 HTTP/1.1\r\n" H "\r\n" NEXT, "501 close;"},
    {"get /echo HTTP/1.1\r\n" H "\r\n", "501 close;"},
    {"GETS /echo HTTP/1.1\r\n" H "\r\n", "501 close;"},
    /* Host */
    {"GET /echo HTTP/1.1\r\n\r\n" NEXT, "400 close;"},
    {FIELD("Host: h"), "400 close;"},
    {FIELD("Host: other") NEXT, "400 close;"},
    {"GET /echo HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400 close;"},
    {"GET /echo HTTP/1.1\r\nHost: a, b\r\n\r\n", "400 close;"},
    {"GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 close;"},
    {"GET /echo HTTP/1.1\r\nHost: u@h\r\n\r\n", "400 close;"},
    /* fields */
    {FIELD("X : y") NEXT, "400 close;"},
    {FIELD("X\t: y"), "400 close;"},
    {FIELD("X y: z"), "400 close;"},
    {FIELD(": y"), "400 close;"},
    {FIELD("no colon"), "400 close;"},
    {FIELD("X: y\r\n folded") NEXT, "400 close;"},
    {FIELD("X:\r\n\tfolded"), "400 close;"},
    {"GET /echo HTTP/1.1\r\n " H "\r\n", "400 close;"},
    {FIELD("X: a\rb"), "400 close;"},
    {FIELD("X: a\nY: b"), "400 close;"},
    {FIELD("X: a\x01"), "400 close;"},
    {FIELD("X: a\x7f"), "400 close;"},
    {FIELD("X(: a"), "400 close;"},
    /* the length of a body, told twice or unclearly */
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT,
     "400 close;"},
    {"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" NEXT,
     "400 close;"},
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" NEXT, "400 close;"},
    {LENGTH("5, 6") "hello" NEXT, "400 close;"},
    {LENGTH("+5") "hello", "400 close;"},
    {LENGTH("-1") "hello", "400 close;"},
    {LENGTH("0x5") "hello", "400 close;"},
    {LENGTH("5 5") "hello", "400 close;"},
    {LENGTH("") "hello", "400 close;"},
    {LENGTH("18446744073709551617"), "400 close;"},
    {LENGTH("18446744073709551615"), "413 close;"},
    {CODING(" gzip") NEXT, "501 close;"},
    {CODING(" gzip, chunked") NEXT, "501 close;"},
    {CODING(" identity"), "501 close;"},
    {CODING(" xchunked"), "501 close;"},
    {CODING(" chunked;q=1"), "501 close;"},
    {CODING(" \"chunked\""), "501 close;"},
    {CODING(" chunked, chunked") NEXT, "400 close;"},
    {CODING(" chunked, gzip") NEXT, "400 close;"},
    {CODING(" chunked\r\nTransfer-Encoding: chunked") NEXT, "400 close;"},
    {CODING(" gzip\r\nTransfer-Encoding: chunked") NEXT, "400 close;"},
    {CODING("\r\n chunked") NEXT, "400 close;"},
    {CODING("\x0b"
            "chunked"),
     "400 close;"},
    {CODING(" chunked\t"), "400 close;"},
    {CODING(""), "400 close;"},
    {"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" NEXT, "400 close;"},
    {"POST /echo HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "400 close;"},
    /* chunks */
    {CHUNKED "5\r\nhelloX\r\n0\r\n\r\n" NEXT, "400 close;"},
    {CHUNKED "5\nhello\r\n0\r\n\r\n", "400 close;"},
    {CHUNKED "5\r\nhello\n0\r\n\r\n", "400 close;"},
    {CHUNKED "5 \r\nhello\r\n0\r\n\r\n", "400 close;"},
    {CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", "400 close;"},
    {CHUNKED "-5\r\nhello\r\n0\r\n\r\n", "400 close;"},
    {CHUNKED "\r\nhello\r\n0\r\n\r\n", "400 close;"},
    {CHUNKED "10000000000000000\r\n", "400 close;"},
    {CHUNKED "3e9\r\n", "413 close;"}, /* a byte over the limit, refused before it comes */
    {CHUNKED "5\r\nhello\r\n3e4\r\n", "413 close;"},
    {CHUNKED "ffffffffffffffff\r\n", "413 close;"},
    {CHUNKED "5;a\nb\r\nhello\r\n0\r\n\r\n", "400 close;"},
    {CHUNKED "5\r\nhello\r\n0\r\nX : y\r\n\r\n", "400 close;"},
    /* cut off */
    {"", ""},
    {"\r\n", ""},
    {"GET /ec", ""},
    {"GET /echo HTTP/1.1\r\n" H, ""},
    {LENGTH("5") "hell", ""},
    {CHUNKED "5\r\nhello\r\n0\r\n", ""},
    /* expectations and sizes */
    {"GET /echo HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n" NEXT, "417 close;"},
    {"POST /echo HTTP/1.1\r\n" H "Expect: 100-continue, x\r\nContent-Length: 2\r\n\r\n", "417 close;"},
    {"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
     "200 POST /echo [hi] close;"},
    {LENGTH("1001"), "413;"},
    {LENGTH("100000") "abc", "413 close;"},
    {"POST /nobody HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx" NEXT, "413;200 GET /tree/next;"},
    {"GET / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx" NEXT, "413;200 GET /tree/next;"},
    {"GET / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "413 close;"},
    {"GET / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200 GET /;"},
    /* replies before the body is read */
    {"POST /early HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello" NEXT, "200 early;200 GET /tree/next;"},
    {"POST /early HTTP/1.1\r\n" H "Content-Length: 65537\r\n\r\nhello", "200 early close;"},
    {"POST /early HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "200 early close;"},
    {"POST /early HTTP/1.1\r\n" H "\r\n" NEXT, "200 early;200 GET /tree/next;"},
    {"POST /early-at-body HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello" NEXT,
     "200 early;200 GET /tree/next;"},
    {"POST /early-at-body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" NEXT,
     "200 early close;"},
    {"GET /error HTTP/1.1\r\n" H "\r\n" NEXT, "503;200 GET /tree/next;"},
};

static void expect(struct world *w, struct str request, const char *expected, size_t first_cut, size_t step)
{
    int fd = client_new(w);
    struct buf bytes = buf_make(1 << 20), summary = buf_make(1 << 20);
    for (size_t at = 0, to = first_cut; at < request.len; at = to, to += step) {
        to = MIN(to, request.len);
        client_send(w, fd, str_make(request.p + at, to - at));
        turn(w);
    }
    shutdown(fd, SHUT_WR);
    client_read_to_end(w, fd, &bytes);
    summarize(buf_str(&bytes), &summary);
    if (strcmp(buf_cstr(&summary), expected) != 0)
        fail_msg("cut at %zu:\n%.*s\nexpected: %s\ngot:      %s", first_cut, STR_FMT(request), expected,
                 buf_cstr(&summary));
    buf_done(&bytes);
    buf_done(&summary);
    close(fd);
}

static void expect_however_cut(struct world *w, struct str request, const char *expected)
{
    expect(w, request, expected, request.len, 1);
    expect(w, request, expected, 1, 1);
    for (size_t cut = 1; cut < request.len; cut++)
        expect(w, request, expected, cut, request.len);
}

static void test_scenarios(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (size_t i = 0; i < LENGTH_OF(scenarios); i++)
        expect_however_cut(w, str_of(scenarios[i].request), scenarios[i].expected);
    assert_int_equal(w->heads, w->ends + w->gones);
    world_free(w);
}

static void test_nul_bytes(void **state)
{
    (void)state;
    struct world *w = world_new();
    expect_however_cut(w, STR_LIT("GET /ec\0ho HTTP/1.1\r\n" H "\r\n"), "400 close;");
    expect_however_cut(w, STR_LIT("GET /echo HTTP/1.1\r\n" H "X: \0\r\n\r\n"), "400 close;");
    expect_however_cut(w, STR_LIT("GET /echo HTTP/1.1\r\n" H "X\0: y\r\n\r\n"), "400 close;");
    expect_however_cut(w, STR_LIT("GET /echo HTTP/1.1\r\nHost: h\0\r\n\r\n"), "400 close;");
    expect_however_cut(w, STR_LIT("G\0T /echo HTTP/1.1\r\n" H "\r\n"), "400 close;");
    expect_however_cut(w, STR_LIT(LENGTH("3") "a\0b"), "200 POST /echo [a?b];");
    world_free(w);
}

static void put_many(struct buf *b, char c, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_putc(b, c);
}

static void test_sizes_of_heads(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.limits.head_bytes_max = 1000;
    config.limits.target_bytes_max = 100;
    config.limits.fields_max = 5;
    world_new_with(w, &config);
    static const struct {
        size_t target, fields, value;
        const char *expected;
    } rows[] = {
        {100, 0, 0, "404;"},        {101, 0, 0, "414 close;"},   {5000, 0, 0, "414 close;"},
        {100, 4, 10, "404;"},       {100, 5, 1, "431 close;"},   {1, 1, 900, "200 GET /;"},
        {1, 1, 1000, "431 close;"}, {1, 1, 20000, "431 close;"}, {1, 0, 0, "200 GET /;"},
    };
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct buf b = buf_make(1 << 20);
        buf_puts(&b, "GET /");
        put_many(&b, 'a', rows[i].target - 1);
        buf_puts(&b, " HTTP/1.1\r\n" H);
        for (size_t f = 0; f < rows[i].fields; f++) {
            buf_puts(&b, "X: ");
            put_many(&b, 'x', rows[i].value);
            buf_puts(&b, "\r\n");
        }
        buf_puts(&b, "\r\n");
        expect(w, buf_str(&b), rows[i].expected, b.len, 1);
        expect(w, buf_str(&b), rows[i].expected, 7, 7);
        buf_done(&b);
    }
    world_free(w);
}

static void test_chunks_are_counted(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf b = buf_make(1 << 20), expected = buf_make(1 << 20);
    buf_puts(&b, CHUNKED "3e0\r\n");
    put_many(&b, 'x', 0x3e0);
    buf_puts(&b, "\r\n");
    size_t so_far = b.len;
    buf_puts(&b, "8\r\n12345678\r\n0\r\n\r\n");
    buf_puts(&expected, "200 POST /echo [");
    put_many(&expected, 'x', 0x3e0);
    buf_puts(&expected, "12345678];");
    expect(w, buf_str(&b), buf_cstr(&expected), b.len, 1);
    buf_done(&expected);
    b.len = so_far;
    assert_int_equal(w->gones, 0);
    buf_puts(&b, "9\r\n123456789\r\n0\r\n\r\n" NEXT);
    expect_however_cut(w, buf_str(&b), "413 close;");
    assert_true(w->gones > 0);
    assert_int_equal(w->heads, w->ends + w->gones);
    buf_done(&b);
    world_free(w);
}

/* Chunk extensions and leading zeros are not part of the body, but may not go on for ever either. */
static void test_framing_is_bounded(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (int kind = 0; kind < 3; kind++) {
        struct buf b = buf_make(1 << 20);
        buf_puts(&b, CHUNKED);
        buf_puts(&b, kind == 0 ? "1;x=" : kind == 1 ? "" : "0\r\nX: ");
        put_many(&b, '0', 20000);
        expect(w, buf_str(&b), "400 close;", 1000, 1000);
        buf_done(&b);
    }
    world_free(w);
}

static void test_all_fields_of_a_reply(void **state)
{
    (void)state;
    struct world *w = world_new();
    int fd = client_new(w);
    struct buf b = buf_make(1 << 16);
    client_send(w, fd, STR_LIT("DELETE /tree/x HTTP/1.1\r\n" H "\r\n"));
    client_read_until(w, fd, &b, "\n\"/tree/x\" takes GET, HEAD, OPTIONS, not DELETE\n");
    assert_int_equal(check_head(buf_str(&b)), 405);
    assert_true(str_eq(reply_field(buf_str(&b), "Allow"), STR_LIT("GET, HEAD, OPTIONS")));
    buf_clear(&b);
    client_send(w, fd, STR_LIT("OPTIONS /tree/deep/x HTTP/1.1\r\n" H "\r\n"));
    client_read_until(w, fd, &b, "\r\n\r\n");
    assert_true(str_eq(reply_field(buf_str(&b), "Allow"), STR_LIT("GET, HEAD, PUT, PATCH, OPTIONS")));
    assert_int_equal(reply_field(buf_str(&b), "Content-Length").len, 0);
    buf_clear(&b);
    client_send(w, fd, STR_LIT("GET /error HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    client_read_until(w, fd, &b, "come back later\n");
    assert_true(str_eq(reply_field(buf_str(&b), "Retry-After"), STR_LIT("7")));
    assert_true(str_eq(reply_field(buf_str(&b), "Content-Length"), STR_LIT("16")));
    assert_true(str_eq(reply_field(buf_str(&b), "Content-Type"), STR_LIT("text/plain; charset=utf-8")));
    assert_true(str_eq(reply_field(buf_str(&b), "Connection"), STR_LIT("keep-alive")));
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void test_head_has_a_length_and_no_body(void **state)
{
    (void)state;
    struct world *w = world_new();
    int fd = client_new(w);
    struct buf b = buf_make(1 << 16);
    client_send(w, fd, STR_LIT("HEAD /tree/x HTTP/1.1\r\n" H "\r\nHEAD /none HTTP/1.1\r\n" H "\r\n" NEXT));
    client_read_until(w, fd, &b, "GET /tree/next");
    const char *second = strstr(buf_cstr(&b), "\r\n\r\n") + 4;
    const char *third = strstr(second, "\r\n\r\n") + 4;
    assert_true(str_eq(reply_field(buf_str(&b), "Content-Length"), STR_LIT("12"))); /* "HEAD /tree/x" */
    assert_true(str_starts_with(str_of(second), STR_LIT("HTTP/1.1 404 ")));
    assert_true(str_starts_with(str_of(third), STR_LIT("HTTP/1.1 200 ")));
    buf_done(&b);
    close(fd);
    world_free(w);
}

static void json_error(struct http_exchange *x, const struct err_info *err, struct buf *body)
{
    assert_int_equal(http_field_count(x, "Host"),
                     http_path(x).len ? 1 : 0); /* nothing of a broken head shows */
    buf_printf(body, "{\"code\":\"%s\",\"id\":\"%s\",\"method\":\"%s\",\"path\":\"%.*s\"}",
               err_code(err->code), http_request_id(x), http_method_name(x), STR_FMT(http_path(x)));
}

static void test_errors_look_as_configured(void **state)
{
    (void)state;
    static const struct {
        const char *request, *code, *method, *path;
    } rows[] = {
        {TARGET("/none"), "not_found", "GET", "/none"},
        {"GET /none HTTP/1.1\r\n\r\n", "bad_request", "GET", ""},
        {"GARBAGE", "not_implemented", "-", ""},
        {"GET /none HTTP/1.1\r\nHost: h\r\nBroken Field: x\r\n", "bad_request", "GET", ""},
        {"G\r\n", "bad_request", "-", ""},
    };
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.error_body = json_error;
    world_new_with(w, &config);
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        int fd = client_new(w);
        struct buf b = buf_make(1 << 16), expected = buf_make(1 << 10);
        client_send(w, fd, str_of(rows[i].request));
        client_read_until(w, fd, &b, "}");
        struct str id = reply_field(buf_str(&b), "X-Request-Id");
        buf_printf(&expected, "\r\n\r\n{\"code\":\"%s\",\"id\":\"%.*s\",\"method\":\"%s\",\"path\":\"%s\"}",
                   rows[i].code, STR_FMT(id), rows[i].method, rows[i].path);
        assert_true(str_ends_with(buf_str(&b), buf_str(&expected)));
        assert_true(str_eq(reply_field(buf_str(&b), "Content-Type"), STR_LIT("application/json")));
        buf_done(&b);
        buf_done(&expected);
        close(fd);
    }
    world_free(w);
}

static void look_end(struct http_exchange *x)
{
    struct world *w = world_of(x);
    static const struct http_field fields[] = {
        {STR_LIT("Content-Security-Policy"), STR_LIT("default-src 'self'")},
        {STR_LIT("X-Mine"), STR_LIT("1")}};
    assert_int_equal(http_method(x), HTTP_METHOD_POST);
    assert_true(str_eq(http_field(x, "x-a"), STR_LIT("one two")));
    assert_true(http_field(x, "x-empty").p && http_field(x, "X-EMPTY").len == 0);
    assert_null(http_field(x, "x-none").p);
    assert_int_equal(http_field_count(x, "X-A"), 2);
    assert_int_equal(http_field_count(x, "X"), 0);
    assert_int_equal(http_content_length(x), 2);
    assert_string_equal(http_peer(x), "127.0.0.1");
    assert_ptr_equal(http_exchange_loop(x), &w->loop);
    assert_ptr_equal(http_exchange_data(x), w);
    w->ends++;
    http_reply(x, 200, fields, LENGTH_OF(fields), STR_LIT("looked"));
}

static void look_head(struct http_exchange *x)
{
    assert_null(http_exchange_data(x));
    http_exchange_set_data(x, world_of(x));
}

static void test_looking_at_a_request(void **state)
{
    (void)state;
    static const struct http_route look[] = {
        {HTTP_METHOD_POST, "/*", 2, {.head = look_head, .body = count_body, .end = look_end}}};
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.routes = look;
    config.route_count = 1;
    world_new_with(w, &config);
    for (int cut = 0; cut < 2; cut++) {
        int fd = client_new(w);
        struct buf b = buf_make(1 << 16);
        client_send(w, fd, STR_LIT("POST /a HTTP/1.1\r\n" H "X-A: \t one tw"));
        if (cut)
            turn(w);
        client_send(w, fd, STR_LIT("o \t\r\nx-a: 2\r\nX-Empty:   \r\nContent-Length: 2\r\n\r\nxx"));
        client_read_until(w, fd, &b, "looked");
        assert_true(
            str_eq(reply_field(buf_str(&b), "Content-Security-Policy"), STR_LIT("default-src 'self'")));
        assert_null(strstr(strstr(buf_cstr(&b), "Content-Security-Policy") + 1, "Content-Security-Policy"));
        assert_true(str_eq(reply_field(buf_str(&b), "X-Frame-Options"), STR_LIT("DENY")));
        assert_true(str_eq(reply_field(buf_str(&b), "X-Mine"), STR_LIT("1")));
        buf_done(&b);
        close(fd);
    }
    assert_int_equal(w->ends, 2);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenarios),
        cmocka_unit_test(test_nul_bytes),
        cmocka_unit_test(test_sizes_of_heads),
        cmocka_unit_test(test_chunks_are_counted),
        cmocka_unit_test(test_framing_is_bounded),
        cmocka_unit_test(test_all_fields_of_a_reply),
        cmocka_unit_test(test_head_has_a_length_and_no_body),
        cmocka_unit_test(test_errors_look_as_configured),
        cmocka_unit_test(test_looking_at_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
