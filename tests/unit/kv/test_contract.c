/* What every backend of kv/kv.h must do: the same tests against memory and against a real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kv_fixture.h"

static struct redis_server server;

struct fixture {
    struct kv_fixture kv;
    struct kv_listener listener, other_topic;
    char heard[16][KV_MESSAGE_MAX + 1];
    size_t heard_count, gaps, wrong;
};

static void on_heard(struct kv_listener *l, struct str message)
{
    struct fixture *f = CONTAINER_OF(l, struct fixture, listener);
    if (!message.p) {
        f->gaps++;
        return;
    }
    WW_ASSERT(f->heard_count < LENGTH_OF(f->heard) && message.len <= KV_MESSAGE_MAX);
    memcpy(f->heard[f->heard_count++], message.p, message.len);
}

static void on_other(struct kv_listener *l, struct str message)
{
    CONTAINER_OF(l, struct fixture, other_topic)->wrong += message.p != NULL;
}

static int setup(void **state, const char *url)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    kv_fixture_open(&f->kv, url);
    f->listener = (struct kv_listener){.loop = &f->kv.loop, .topic = "revoked", .heard = on_heard};
    f->other_topic = (struct kv_listener){.loop = &f->kv.loop, .topic = "revoke", .heard = on_other};
    kv_listen(f->kv.kv, &f->listener);
    kv_listen(f->kv.kv, &f->other_topic);
    kv_fixture_until(&f->kv, false);
    *state = f;
    return 0;
}

static int setup_memory(void **state)
{
    return setup(state, "");
}

static int setup_redis(void **state)
{
    *state = NULL;
    if (!redis_is_installed()) {
        print_message("skipped: redis-server is not installed\n");
        return 0;
    }
    if (!server.pid)
        redis_start(&server);
    redis_do(&server, "FLUSHALL");
    return setup(state, server.url);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f) {
        kv_fixture_close(&f->kv);
        free(f);
    }
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    if (server.pid)
        redis_stop(&server);
    return 0;
}

#define REQUEST(text, ...)                                                 \
    (struct kv_request)                                                    \
    {                                                                      \
        .space = KV_RUNS, .key = STR_LIT(text), .figures = { __VA_ARGS__ } \
    }

static void the_bucket_empties_and_refills(struct fixture *f)
{
    /* 200 ms a token: slow enough that none comes back while the burst is taken. */
    struct kv_request q = REQUEST("key", .per_minute = 300);
    for (uint32_t i = 1; i <= 300; i++) {
        struct kv_answer a = kv_take_now(&f->kv, &q, NULL);
        assert_int_equal(a.refusal, KV_ALLOWED);
        assert_false(a.local);
        assert_in_range(a.minute_left, 300 - i, 300);
        assert_in_range(a.full_us, 0, i * 200000);
    }
    struct kv_answer a = {.refusal = KV_ALLOWED};
    for (int i = 0; i < 100 && !a.refusal; i++)
        a = kv_take_now(&f->kv, &q, NULL);
    assert_int_equal(a.refusal, KV_NO_MINUTE);
    assert_int_equal(a.minute_left, 0);
    assert_in_range(a.retry_us, 1, 200000);
    usleep((useconds_t)a.retry_us);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
}

static void the_day_is_counted(struct fixture *f)
{
    struct kv_request q = REQUEST("key", .per_minute = 1000, .per_day = 5);
    struct kv_ticket ticket;
    /* Not over a midnight. */
    struct kv_answer a = kv_take_now(&f->kv, &q, &ticket);
    if (a.midnight_us < 5000000) {
        usleep(5000000);
        a = kv_take_now(&f->kv, &q, &ticket);
    }
    assert_int_equal(a.day_left, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(kv_take_now(&f->kv, &q, NULL).day_left, 3 - i);
    a = kv_take_now(&f->kv, &q, NULL);
    assert_int_equal(a.refusal, KV_NO_DAY);
    assert_in_range(a.retry_us, 1, 24 * 3600 * (uint64_t)1000000);
    assert_int_equal(a.retry_us, a.midnight_us);
    kv_give(f->kv.kv, &f->kv.loop, &ticket, true);
    assert_int_equal(ticket.key_len, 0);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_DAY);
}

static void leases_come_back(struct fixture *f)
{
    struct kv_request q = REQUEST("key", .concurrency = 2);
    q.lease_ns = 60 * NS_PER_S;
    struct kv_ticket first, second, none;
    assert_int_equal(kv_take_now(&f->kv, &q, &first).running, 1);
    assert_int_equal(kv_take_now(&f->kv, &q, &second).running, 2);
    struct kv_answer a = kv_take_now(&f->kv, &q, &none);
    assert_int_equal(a.refusal, KV_NO_CONCURRENCY);
    assert_int_equal(a.running, 2);
    assert_int_equal(none.key_len, 0);
    kv_give(f->kv.kv, &f->kv.loop, &none, true);
    kv_give(f->kv.kv, &f->kv.loop, &first, false);
    kv_give(f->kv.kv, &f->kv.loop, &first, false);
    assert_int_equal(kv_take_now(&f->kv, &q, &first).running, 2);
    assert_int_equal(kv_take_now(&f->kv, &q, &none).refusal, KV_NO_CONCURRENCY);
    kv_give(f->kv.kv, &f->kv.loop, &second, true);
    kv_give(f->kv.kv, &f->kv.loop, &first, false);
    q.look = true;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).running, 0);
}

static void all_or_nothing(struct fixture *f)
{
    struct kv_request q = REQUEST("key", .per_minute = 10, .per_day = 100, .concurrency = 1);
    q.lease_ns = NS_PER_S * 60;
    struct kv_ticket ticket;
    assert_int_equal(kv_take_now(&f->kv, &q, &ticket).refusal, KV_ALLOWED);
    for (int i = 0; i < 20; i++)
        assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_CONCURRENCY);
    q.look = true;
    struct kv_answer a = kv_take_now(&f->kv, &q, NULL);
    assert_int_equal(a.minute_left, 9);
    assert_int_equal(a.day_left, 99);
    kv_give(f->kv.kv, &f->kv.loop, &ticket, true);
    a = kv_take_now(&f->kv, &q, NULL);
    assert_int_equal(a.refusal, KV_ALLOWED);
    assert_in_range(a.minute_left, 9, 10); /* the moment in between is not given twice */
    assert_int_equal(a.day_left, 100);
    assert_int_equal(a.running, 0);
}

static void subjects_are_apart(struct fixture *f)
{
    struct kv_request q = REQUEST("key", .per_minute = 1);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_MINUTE);
    q.space = KV_ADDRESSES;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
    q.space = KV_REQUESTS;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
    /* Keys are bytes: NUL, blanks, braces and prefixes of each other are different subjects. */
    static const struct str keys[] = {{"k", 1}, {"k\0", 2}, {"k\0a", 3}, {"k }:l", 5}, {"%s%n\r\n", 6}};
    q.space = KV_RUNS;
    for (size_t i = 0; i < LENGTH_OF(keys); i++) {
        q.key = keys[i];
        assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
        assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_MINUTE);
    }
    char longest[KV_KEY_MAX];
    memset(longest, 'x', sizeof longest);
    q.key = str_make(longest, sizeof longest);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_MINUTE);
    longest[62] = 'y';
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
}

static void other_figures_hold_from_the_next_take(struct fixture *f)
{
    struct kv_request q = REQUEST("key", .per_minute = 100, .per_day = 1000);
    for (int i = 0; i < 50; i++)
        assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
    q.figures.per_day = 20;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_DAY);
    q.figures.per_day = 0;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_ALLOWED);
    /* 30 s of debt are five tokens of six seconds. */
    q.figures.per_minute = 10;
    assert_in_range(kv_take_now(&f->kv, &q, NULL).minute_left, 3, 5);
}

static void many_at_once(struct fixture *f)
{
    enum { COUNT = 500 };
    struct kv_asked *asked = xcalloc(COUNT, sizeof *asked);
    struct kv_request q = REQUEST("key", .per_minute = 100, .per_day = 1000);
    size_t allowed = 0;
    for (size_t i = 0; i < COUNT; i++)
        kv_ask(&f->kv, &q, &asked[i]);
    for (size_t i = 0; i < COUNT; i++) {
        kv_await(&f->kv, &asked[i]);
        allowed += !asked[i].wait.answer.refusal;
    }
    assert_in_range(allowed, 100, 110); /* more than 100 only if this took longer than 600 ms */
    free(asked);
}

static void messages_reach_their_topic(struct fixture *f)
{
    char longest[KV_MESSAGE_MAX];
    memset(longest, 'm', sizeof longest);
    kv_publish(f->kv.kv, &f->kv.loop, STR_LIT("revoked"), STR_LIT("a b c"));
    kv_publish(f->kv.kv, &f->kv.loop, STR_LIT("other"), STR_LIT("no"));
    kv_publish(f->kv.kv, &f->kv.loop, STR_LIT("revoked"), str_make(longest, sizeof longest));
    kv_publish(f->kv.kv, &f->kv.loop, STR_LIT("revoked"), STR_LIT(""));
    while (f->heard_count < 3)
        uv_run(&f->kv.loop.uv, UV_RUN_ONCE);
    /* Once only, although it may come back through Redis: what follows it is through as well. */
    struct kv_request q = REQUEST("key", .per_minute = 1);
    for (int i = 0; i < 20; i++) {
        kv_take_now(&f->kv, &q, NULL);
        uv_run(&f->kv.loop.uv, UV_RUN_NOWAIT);
    }
    assert_int_equal(f->heard_count, 3);
    assert_int_equal(f->wrong, 0);
    assert_string_equal(f->heard[0], "a b c");
    assert_memory_equal(f->heard[1], longest, sizeof longest);
    assert_string_equal(f->heard[2], "");
}

static void on_pong(struct kv_ping *p)
{
    p->ready = NULL;
}

static void it_is_healthy(struct fixture *f)
{
    struct kv_ping ping = {.ready = on_pong};
    if (!kv_ping(f->kv.kv, &f->kv.loop, &ping))
        while (ping.ready)
            uv_run(&f->kv.loop.uv, UV_RUN_ONCE);
    assert_true(ping.alive);
    struct kv_request q = REQUEST("key", .per_minute = 1);
    kv_take_now(&f->kv, &q, NULL);
    struct kv_health health = kv_health(f->kv.kv);
    assert_false(health.degraded);
    assert_int_equal(health.subjects, 1);
    assert_int_equal(health.evicted_live, 0);
    assert_string_equal(health.reason, "");
}

#define CONTRACT(TEST)                          \
    TEST(the_bucket_empties_and_refills)        \
    TEST(the_day_is_counted)                    \
    TEST(leases_come_back)                      \
    TEST(all_or_nothing)                        \
    TEST(subjects_are_apart)                    \
    TEST(other_figures_hold_from_the_next_take) \
    TEST(many_at_once)                          \
    TEST(messages_reach_their_topic)            \
    TEST(it_is_healthy)

#define BOTH(test)                             \
    static void test##_in_memory(void **state) \
    {                                          \
        test(*state);                          \
    }                                          \
    static void test##_in_redis(void **state)  \
    {                                          \
        if (!*state)                           \
            skip();                            \
        test(*state);                          \
    }
CONTRACT(BOTH)

int main(void)
{
#define IN_MEMORY(test) cmocka_unit_test_setup_teardown(test##_in_memory, setup_memory, teardown),
#define IN_REDIS(test) cmocka_unit_test_setup_teardown(test##_in_redis, setup_redis, teardown),
    const struct CMUnitTest tests[] = {CONTRACT(IN_MEMORY) CONTRACT(IN_REDIS)};
    return cmocka_run_group_tests(tests, NULL, stop_server);
}
