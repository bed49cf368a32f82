/* How many connections an address may have: the counters alone, from several threads, and a server with them. */
#include "http_fixture.h"

#include "base/log.h"
#include "http/peers.h"

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage a = {0};
    if (strchr(text, ':'))
        assert_int_equal(uv_ip6_addr(text, 4000, (struct sockaddr_in6 *)&a), 0);
    else
        assert_int_equal(uv_ip4_addr(text, 4000, (struct sockaddr_in *)&a), 0);
    return a;
}

static bool enter(struct http_peers *p, const char *text, struct http_peer **ret_peer)
{
    struct sockaddr_storage a = address_of(text);
    return http_peers_enter(p, (struct sockaddr *)&a, ret_peer);
}

static void test_who_counts_as_one(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second;
        bool same;
    } pairs[] = {
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
        {"2001:db8:1:2::1", "2001:db8:1:3::1", false},
        {"::ffff:192.0.2.1", "192.0.2.1", true},
        {"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
        {"::1", "0.0.0.0", false},
        {"::1", "::ffff:0.0.0.0", false},
    };
    for (size_t i = 0; i < LENGTH_OF(pairs); i++) {
        struct http_peers *p = http_peers_new(1, 100);
        struct http_peer *one = NULL, *other = NULL;
        assert_true(enter(p, pairs[i].first, &one));
        assert_non_null(one);
        if (enter(p, pairs[i].second, &other) == pairs[i].same)
            fail_msg("%s and %s", pairs[i].first, pairs[i].second);
        http_peers_leave(one);
        http_peers_leave(other);
        http_peers_free(p);
    }
}

static void test_counting(void **state)
{
    (void)state;
    struct http_peers *p = http_peers_new(3, 1);
    struct http_peer *peers[3], *more = NULL;
    struct sockaddr local = {.sa_family = AF_UNIX};
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 3; i++)
            assert_true(enter(p, "192.0.2.1", &peers[i]));
        assert_false(enter(p, "192.0.2.1", &more));
        assert_null(more);
        http_peers_leave(peers[1]);
        assert_true(enter(p, "192.0.2.1", &peers[1]));
        for (size_t i = 0; i < 3; i++)
            http_peers_leave(peers[i]);
    }
    assert_true(http_peers_enter(p, &local, &more));
    assert_null(more);
    http_peers_leave(more);
    http_peers_free(p);
}

/* More addresses than buckets: none is lost, none is taken for another. */
static void test_many_addresses(void **state)
{
    (void)state;
    enum { ADDRESSES = 5000 };
    static struct http_peer *peers[ADDRESSES];
    struct http_peers *p = http_peers_new(1, 500);
    char text[32];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < ADDRESSES; i++) {
            struct http_peer *second = NULL;
            snprintf(text, sizeof text, "10.1.%d.%d", i / 256, i % 256);
            assert_true(enter(p, text, &peers[i]));
            assert_false(enter(p, text, &second));
        }
        for (int i = 0; i < ADDRESSES; i++)
            http_peers_leave(peers[(i * 7 + round) % ADDRESSES]);
    }
    http_peers_free(p);
}

static void come_and_go(void *arg)
{
    struct http_peers *p = arg;
    for (int i = 0; i < 20000; i++) {
        struct http_peer *a = NULL, *b = NULL;
        bool fits = enter(p, "192.0.2.1", &a);
        assert_true(enter(p, i % 2 ? "192.0.2.2" : "2001:db8::1", &b));
        if (fits)
            http_peers_leave(a);
        http_peers_leave(b);
    }
}

static void test_threads(void **state)
{
    (void)state;
    struct http_peers *p = http_peers_new(4, 10);
    uv_thread_t threads[4];
    struct http_peer *peers[4];
    for (size_t i = 0; i < LENGTH_OF(threads); i++)
        assert_int_equal(uv_thread_create(&threads[i], come_and_go, p), 0);
    for (size_t i = 0; i < LENGTH_OF(threads); i++)
        uv_thread_join(&threads[i]);
    for (size_t i = 0; i < LENGTH_OF(peers); i++)
        assert_true(enter(p, "192.0.2.1", &peers[i])); /* all of them left */
    for (size_t i = 0; i < LENGTH_OF(peers); i++)
        http_peers_leave(peers[i]);
    http_peers_free(p); /* asserts that nobody is left in it */
}

static struct world *world_with(struct http_peers *peers, const char *trusted,
                                struct http_proxies **ret_proxies)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    struct err_info err = {0};
    log_setup(LOG_LEVEL_ERROR, false);
    assert_int_equal(http_proxies_parse(str_of(trusted), ret_proxies, &err), OK);
    config.peers = peers;
    config.proxies = *ret_proxies;
    return world_new_with(w, &config);
}

static void test_one_too_many_is_closed(void **state)
{
    (void)state;
    struct http_proxies *proxies = NULL;
    struct http_peers *peers = http_peers_new(2, 100);
    struct world *w = world_with(peers, "192.0.2.9", &proxies);
    struct buf b = buf_make(1 << 16), none = buf_make(100);
    int fds[4] = {client_new(w), client_new(w)};
    client_send(w, fds[0], STR_LIT(GET("/tree/x")));
    client_send(w, fds[1], STR_LIT(GET("/tree/y")));
    client_read_until(w, fds[0], &b, "/tree/x");
    client_read_until(w, fds[1], &b, "/tree/y");
    for (int i = 2; i < 4; i++) {
        fds[i] = client_new(w);
        client_read_to_end(w, fds[i], &none);
        assert_int_equal(none.len, 0);
        close(fds[i]);
    }
    assert_int_equal(http_server_connections(w->server), 2);
    assert_int_equal(http_peers_refused(peers), 2);
    close(fds[0]);
    while (http_server_connections(w->server) == 2)
        turn(w);
    turn_some(w);
    fds[0] = client_new(w);
    client_send(w, fds[0], STR_LIT(GET("/tree/z")));
    client_read_until(w, fds[0], &b, "/tree/z");
    buf_done(&b);
    buf_done(&none);
    close(fds[0]);
    close(fds[1]);
    world_free(w);
    http_peers_free(peers);
    http_proxies_free(proxies);
}

static void test_a_trusted_proxy_may(void **state)
{
    (void)state;
    struct http_proxies *proxies = NULL;
    struct http_peers *peers = http_peers_new(1, 100);
    struct world *w = world_with(peers, "127.0.0.0/8", &proxies);
    struct buf b = buf_make(1 << 16);
    int fds[5];
    for (size_t i = 0; i < LENGTH_OF(fds); i++) {
        fds[i] = client_new(w);
        client_send(w, fds[i], STR_LIT(GET("/tree/x")));
        buf_clear(&b);
        client_read_until(w, fds[i], &b, "/tree/x");
    }
    assert_int_equal(http_server_connections(w->server), LENGTH_OF(fds));
    assert_int_equal(http_peers_refused(peers), 0);
    for (size_t i = 0; i < LENGTH_OF(fds); i++)
        close(fds[i]);
    buf_done(&b);
    world_free(w);
    http_peers_free(peers);
    http_proxies_free(proxies);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_counts_as_one),      cmocka_unit_test(test_counting),
        cmocka_unit_test(test_many_addresses),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_one_too_many_is_closed), cmocka_unit_test(test_a_trusted_proxy_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
