/* Whom the server believes about the client behind a proxy, and where the redirect listener leads. */
#include "http_fixture.h"

static void who_end(struct http_exchange *x)
{
    struct buf text = buf_make(1000);
    buf_printf(&text, "%s %s", http_peer(x), http_is_secure(x) ? "secure" : "plain");
    http_reply(x, 200, NULL, 0, buf_str(&text));
    buf_done(&text);
}

static const struct http_route who_routes[] = {
    {HTTP_METHOD_GET, "/", 0, {.head = ignore_head, .end = who_end}}};

static struct world *proxy_world(const char *trusted, struct http_proxies **ret_proxies)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    struct err_info err = {0};
    assert_int_equal(http_proxies_parse(str_of(trusted), ret_proxies, &err), OK);
    config.routes = who_routes;
    config.route_count = 1;
    config.proxies = *ret_proxies;
    return world_new_with(w, &config);
}

struct scenario {
    const char *fields;
    const char *expected;
};

static void play(const char *trusted, const struct scenario *scenarios, size_t count)
{
    struct http_proxies *proxies;
    struct world *w = proxy_world(trusted, &proxies);
    for (size_t i = 0; i < count; i++) {
        struct buf request = buf_make(10000), b = buf_make(10000);
        int fd = client_new(w);
        buf_printf(&request, "GET / HTTP/1.1\r\nConnection: close\r\n%s" H "\r\n", scenarios[i].fields);
        client_send(w, fd, buf_str(&request));
        client_read_to_end(w, fd, &b);
        const char *body = strstr(buf_cstr(&b), "\r\n\r\n");
        if (!body || strcmp(body + 4, scenarios[i].expected) != 0)
            fail_msg("%s: expected \"%s\", there is: %s", scenarios[i].fields, scenarios[i].expected,
                     buf_cstr(&b));
        bool hsts = strstr(buf_cstr(&b), "Strict-Transport-Security") != NULL;
        assert_int_equal(hsts, strstr(scenarios[i].expected, " secure") != NULL);
        buf_done(&request);
        buf_done(&b);
        close(fd);
    }
    world_free(w);
    http_proxies_free(proxies);
}

static void test_trusted(void **state)
{
    (void)state;
    static const struct scenario scenarios[] = {
        {"", "127.0.0.1 plain"},
        {"X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4 plain"},
        {"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n", "1.2.3.4 secure"},
        {"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\n", "1.2.3.4 plain"},
        {"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https, http\r\n", "1.2.3.4 plain"},
        /* what stands left of the first stranger is hearsay */
        {"X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n", "1.2.3.4 plain"},
        {"X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.2.3\r\n", "1.2.3.4 plain"},
        {"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4 plain"},
        {"X-Forwarded-For: 10.1.2.3, 10.4.5.6\r\n", "10.1.2.3 plain"},
        {"X-Forwarded-For: 1.2.3.4:55\r\n", "1.2.3.4 plain"},
        {"X-Forwarded-For: 2001:DB8::1\r\n", "2001:db8::1 plain"},
        {"X-Forwarded-For: [2001:db8::1]:80\r\n", "2001:db8::1 plain"},
        {"X-Forwarded-For: ::ffff:1.2.3.4\r\n", "1.2.3.4 plain"},
        {"X-Forwarded-For: nonsense\r\n", "127.0.0.1 plain"},
        {"X-Forwarded-For: 1.2.3.4, unknown, 10.1.2.3\r\n", "10.1.2.3 plain"},
        {"X-Forwarded-For: \r\n", "127.0.0.1 plain"},
        {"Forwarded: for=1.2.3.4;proto=https\r\n", "1.2.3.4 secure"},
        {"Forwarded: for=\"[2001:db8::1]:4711\"; proto=http\r\n", "2001:db8::1 plain"},
        {"Forwarded: for=6.6.6.6;proto=https, For=1.2.3.4;Proto=http;by=10.0.0.1, for=10.2.3.4\r\n",
         "1.2.3.4 plain"},
        {"Forwarded: for=6.6.6.6\r\nForwarded: for=1.2.3.4;host=\"a,b\"\r\n", "1.2.3.4 plain"},
        {"Forwarded: for=_hidden\r\n", "127.0.0.1 plain"},
        {"Forwarded: for=\"1.2.3.4\r\n", "127.0.0.1 plain"},
        {"Forwarded: , for=1.2.3.4\r\n", "1.2.3.4 plain"},
        /* one of the two may come from the client itself */
        {"Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n", "127.0.0.1 plain"},
        {"Forwarded: for=6.6.6.6;proto=https\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
         "127.0.0.1 plain"},
        {"Forwarded: for=1.2.3.4;proto=https\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\n",
         "1.2.3.4 plain"},
        {"Forwarded: for=1.2.3.4;proto=https\r\nX-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4 secure"},
    };
    play("10.0.0.0/8, 127.0.0.1", scenarios, LENGTH_OF(scenarios));
}

static void test_not_trusted(void **state)
{
    (void)state;
    static const struct scenario scenarios[] = {
        {"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n", "127.0.0.1 plain"},
        {"Forwarded: for=1.2.3.4;proto=https\r\n", "127.0.0.1 plain"},
    };
    play("", scenarios, LENGTH_OF(scenarios));
    play("127.0.0.2,127.0.0.0/32,::/1,2001:db8::/32", scenarios, LENGTH_OF(scenarios));
    play("126.0.0.0/8", scenarios, LENGTH_OF(scenarios));
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct scenario believed[] = {{"X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4 plain"}};
    static const char *const ranges[] = {"127.0.0.0/8", "127.0.0.1/32", "126.0.0.0/7", "::ffff:127.0.0.1",
                                         " 127.0.0.1 "};
    static const char *const bad[] = {"10.0.0.0/33", "10.0.0/8",           "a",
                                      "10.0.0.1,",   "10.0.0.1,,10.0.0.2", "::/129",
                                      "1.1.1.1/-1",  "1.1.1.1/",           "/8"};
    for (size_t i = 0; i < LENGTH_OF(ranges); i++)
        play(ranges[i], believed, LENGTH_OF(believed));
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        struct http_proxies *proxies = NULL;
        struct err_info err = {0};
        if (strcmp(bad[i], "10.0.0.1,") != 0) /* a comma at the end is nothing */
            assert_int_equal(http_proxies_parse(str_of(bad[i]), &proxies, &err), ERR_FIELD_INVALID);
        http_proxies_free(proxies);
    }
}

static void test_redirect(void **state)
{
    (void)state;
    static const struct {
        uint16_t port;
        const char *request, *status, *location;
    } requests[] = {
        {443, "GET /a?b=c HTTP/1.1\r\nHost: ex.test\r\n", "308", "https://ex.test/a?b=c"},
        {8443, "GET /a HTTP/1.1\r\nHost: ex.test:80\r\n", "308", "https://ex.test:8443/a"},
        {443, "POST /x HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\n", "308", "https://[::1]/x"},
        {443, "GET http://ex.test/a HTTP/1.1\r\nHost: ex.test\r\n", "308", "https://ex.test/a"},
        {443, "GET //evil.test/a HTTP/1.1\r\nHost: ex.test\r\n", "308", "https://ex.test//evil.test/a"},
        {443, "GET / HTTP/1.1\r\nHost: a'b\r\n", "400", ""},
        {443, "GET / HTTP/1.1\r\nHost: a;b\r\n", "400", ""},
        {443, "GET / HTTP/1.1\r\nHost: ex.test:99999\r\n", "400", ""},
        {443, "GET / HTTP/1.1\r\nHost: ex.test:8x\r\n", "400", ""},
        {443, "GET / HTTP/1.1\r\nHost: [::1\r\n", "400", ""},
        {443, "GET / HTTP/1.1\r\nHost: [::1]x\r\n", "400", ""},
        {443, "GET / HTTP/1.1\r\nHost: []\r\n", "400", ""},
        {443, "GET / HTTP/1.1\r\nHost:\r\n", "400", ""},
        {443, "GET / HTTP/1.0\r\n", "400", ""},
        {443, "OPTIONS * HTTP/1.1\r\nHost: ex.test\r\n", "400", ""},
    };
    for (size_t i = 0; i < LENGTH_OF(requests); i++) {
        struct world *w = xcalloc(1, sizeof *w);
        struct http_server_config config = world_config(w);
        struct buf request = buf_make(10000), b = buf_make(10000);
        config.redirect_port = requests[i].port;
        world_new_with(w, &config);
        int fd = client_new(w);
        buf_printf(&request, "%sConnection: close\r\n\r\n", requests[i].request);
        client_send(w, fd, buf_str(&request));
        shutdown(fd, SHUT_WR);
        while (w->done_count == 0)
            turn(w);
        client_read_to_end(w, fd, &b);
        buf_cstr(&b);
        assert_true(str_eq(str_make(b.p + 9, 3), str_of(requests[i].status)));
        struct str location = reply_field(buf_str(&b), "Location");
        if (!str_eq(location, str_of(requests[i].location)))
            fail_msg("expected %s, there is %.*s", requests[i].location, STR_FMT(location));
        assert_int_equal(w->heads, 0);
        buf_done(&request);
        buf_done(&b);
        close(fd);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trusted),
        cmocka_unit_test(test_not_trusted),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_redirect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
