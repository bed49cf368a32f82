/* The script in Redis against the arithmetic of bucket.c, with the time put into its hands: random takes, looks and
 * refunds under a clock that jumps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "kv/bucket.h"
#include "kv/redis_script.h"
#include "redis_fixture.h"

static struct redis_server server;
static redisContext *redis;

enum { FIELDS_MAX = SCRIPT_REPLY_FIELDS, RUNS_MAX = 8, ARGS_MAX = SCRIPT_TAKE_ARGS + SCRIPT_HINT_ARGS };

/* Runs a script whose clock says `now_us`; the reply's integers. */
static size_t run(const char *script, uint64_t now_us, const uint64_t args[], size_t count,
                  uint64_t ret[FIELDS_MAX])
{
    static const char clock[] = "redis.call('TIME')";
    const char *at = strstr(script, clock);
    assert_non_null(at);
    struct buf text = buf_make(16 * KIB);
    buf_append(&text, script, (size_t)(at - script));
    buf_printf(&text, "{%llu, %llu}", (unsigned long long)(now_us / 1000000),
               (unsigned long long)(now_us % 1000000));
    buf_puts(&text, at + sizeof clock - 1);
    const char *argv[5 + ARGS_MAX] = {"EVAL", buf_cstr(&text), "2", "{t}", "{t}:h"};
    char numbers[ARGS_MAX][24];
    for (size_t i = 0; i < count; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%llu", (unsigned long long)args[i]);
        argv[5 + i] = numbers[i];
    }
    redisReply *reply = redisCommandArgv(redis, (int)(5 + count), argv, NULL);
    buf_done(&text);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s", reply->str);
    size_t fields = reply->elements;
    assert_in_range(fields, 0, FIELDS_MAX);
    for (size_t i = 0; i < fields; i++)
        ret[i] = (uint64_t)reply->element[i]->integer;
    freeReplyObject(reply);
    return fields;
}

static void forget(void)
{
    freeReplyObject(redisCommand(redis, "FLUSHALL"));
}

static uint64_t pick(uint64_t below)
{
    return ((uint64_t)rand() << 20 ^ (uint64_t)rand()) % below;
}

static uint64_t next_time(uint64_t now_us)
{
    switch (rand() % 40) {
    case 0: return now_us + pick(3 * BUCKET_DAY_US);
    case 1: return now_us - pick(3 * BUCKET_DAY_US);
    case 2: return now_us - pick(10 * 1000000);
    case 3: return now_us;
    default: return now_us + pick(20 * 1000000);
    }
}

struct model {
    struct kv_figures f;
    struct bucket b;
    struct kv_ticket out[RUNS_MAX];
    size_t runs;
    uint64_t held[2]; /* of these runs, by each of two holders */
    uint64_t refusals;
};

/* As many of `wanted` as may, one after the other. */
static uint64_t take_in_memory(struct model *m, struct bucket_times t, uint64_t wanted)
{
    uint64_t granted = 0, retry_us;
    while (granted < wanted && !bucket_refuses(&m->b, &m->f, t, &retry_us)) {
        struct kv_ticket ticket = {0};
        bucket_charge(&m->b, &m->f, t, &ticket);
        granted++;
        if (m->f.concurrency) {
            m->b.running++;
            m->out[m->runs++] = ticket;
        }
    }
    m->refusals += granted < wanted;
    return granted;
}

/* Those that have ended since their holder last said something are told with its next take. */
static void take_in_both(struct model *m, uint64_t now_us)
{
    struct bucket_times t = {now_us, now_us};
    uint64_t got[FIELDS_MAX], interval_us = bucket_interval_us(&m->f);
    uint64_t wanted = rand() % 5 == 0 ? 0 : 1 + pick(3), holder = pick(2);
    struct bucket kept = m->b;
    bool mended = bucket_roll(&m->b, &m->f, t);
    struct bucket before = m->b;
    uint64_t granted = take_in_memory(m, t, wanted);
    /* Where leases have ended in Redis by a jump of the clock, their process still knows of them. */
    const uint64_t args[SCRIPT_TAKE_ARGS] = {
        interval_us,     interval_us * m->f.per_minute, m->f.per_day,  m->f.concurrency, wanted, holder,
        m->held[holder], 3000 * (uint64_t)1000000,      before.running};
    assert_int_equal(run(script_take, now_us, args, SCRIPT_TAKE_ARGS, got), SCRIPT_REPLY_FIELDS);
    assert_int_equal(got[0], granted);
    assert_int_equal(got[1], now_us);
    if (m->f.per_minute)
        assert_int_equal(got[2], before.full_at_us);
    assert_int_equal(got[3], before.day);
    assert_int_equal(got[4], before.count);
    assert_int_equal(got[5], before.count_before);
    if (m->f.concurrency) {
        assert_int_equal(got[6], before.running);
        m->held[holder] += granted;
    }
    /* As in Redis, nothing is written for one who gets nothing. */
    if (!mended && !granted)
        m->b = kept;
}

static void give_in_both(struct model *m, uint64_t now_us)
{
    struct kv_ticket *ticket = &m->out[--m->runs];
    uint64_t got[FIELDS_MAX], holder = m->held[0] ? 0 : 1;
    bucket_refund(&m->b, ticket, now_us);
    m->b.running--;
    m->held[holder]--;
    const uint64_t args[] = {ticket->interval_us, ticket->taken_us, ticket->day};
    const uint64_t held[] = {holder, m->held[holder], 3000 * (uint64_t)1000000};
    run(script_refund, now_us, args, LENGTH_OF(args), got);
    run(script_hold, now_us, held, LENGTH_OF(held), got);
}

static void does_what_bucket_does(void **state)
{
    (void)state;
    enum { ROUNDS = 8, STEPS = 1500 };
    srand(21);
    for (int round = 0; round < ROUNDS; round++) {
        struct model m = {.f = {(uint32_t)pick(20), (uint32_t)pick(60), (uint32_t)pick(RUNS_MAX + 1)}};
        uint64_t now_us = 20000 * BUCKET_DAY_US + pick(BUCKET_DAY_US);
        /* Real expiry of keys would be by the real clock: far enough for none to happen here. */
        forget();
        for (int step = 0; step < STEPS; step++) {
            now_us = next_time(now_us);
            if (m.runs && rand() % 2)
                give_in_both(&m, now_us);
            else
                take_in_both(&m, now_us);
        }
        assert_true(m.refusals || (!m.f.per_minute && !m.f.per_day && !m.f.concurrency));
    }
}

/* One take by a holder that has `held` leases, which are to last `lease_s`; how many there were. */
static uint64_t take_lease(uint64_t now_us, uint64_t holder, uint64_t held, uint64_t lease_s,
                           uint64_t concurrency, uint64_t running, bool *ret_granted)
{
    const uint64_t args[] = {0, 0, 0, concurrency, 1, holder, held, lease_s * 1000000, running};
    uint64_t got[FIELDS_MAX];
    run(script_take, now_us, args, LENGTH_OF(args), got);
    *ret_granted = got[0] == 1;
    return got[6];
}

static void leases_end(void **state)
{
    (void)state;
    uint64_t s = 1000000, now_us = 20000 * BUCKET_DAY_US;
    bool granted;
    forget();
    assert_int_equal(take_lease(now_us, 1, 0, 5, 2, 0, &granted), 0);
    assert_int_equal(take_lease(now_us, 2, 0, 9, 2, 0, &granted), 1);
    assert_true(granted);
    take_lease(now_us + 5 * s - 1, 3, 0, 9, 2, 0, &granted);
    assert_false(granted);
    assert_int_equal(take_lease(now_us + 5 * s, 3, 0, 9, 2, 0, &granted), 1);
    assert_true(granted);
    /* Set back by a year, the leases last an hour at most. */
    uint64_t back_us = now_us - 365 * BUCKET_DAY_US;
    take_lease(back_us, 4, 0, 9, 2, 0, &granted);
    assert_false(granted);
    assert_int_equal(take_lease(back_us + 3600 * s, 4, 0, 9, 2, 0, &granted), 0);
    assert_true(granted);
    /* What the holder says counts, not what was known of it; and never fewer than its process has out. */
    back_us += 3601 * s;
    assert_int_equal(take_lease(back_us, 4, 3, 9, 5, 0, &granted), 3);
    assert_true(granted);
    assert_int_equal(take_lease(back_us, 5, 0, 9, 5, 0, &granted), 4);
    assert_true(granted);
    assert_int_equal(take_lease(back_us, 4, 0, 9, 5, 0, &granted), 1);
    take_lease(back_us, 4, 1, 9, 5, 5, &granted);
    assert_false(granted);
}

static void a_word_about_leases_counts(void **state)
{
    (void)state;
    uint64_t s = 1000000, now_us = 20000 * BUCKET_DAY_US, got[FIELDS_MAX];
    const uint64_t six[] = {1, 6, 5 * s};
    bool granted;
    forget();
    run(script_hold, now_us, six, LENGTH_OF(six), got);
    assert_int_equal(take_lease(now_us, 2, 0, 9, 6, 0, &granted), 6);
    assert_false(granted);
    /* One who gets nothing, and has less than it said, has said so. */
    take_lease(now_us, 1, 6, 9, 6, 0, &granted);
    assert_false(granted);
    take_lease(now_us, 1, 2, 9, 2, 0, &granted);
    assert_false(granted);
    assert_int_equal(take_lease(now_us, 2, 0, 9, 6, 0, &granted), 2);
    assert_true(granted);
    redisReply *lasts = redisCommand(redis, "PTTL {t}:h");
    assert_in_range(lasts->integer, 1, 3600000);
    freeReplyObject(lasts);
}

static void as_many_as_may(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    uint64_t got[FIELDS_MAX], now_us = 20000 * BUCKET_DAY_US;
    uint64_t args[] = {0, 0, 0, MANY + 2, MANY, 1, 0, 5000000, 0};
    forget();
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], MANY);
    args[5] = 2;
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], 2);
    assert_int_equal(got[6], MANY);
    /* Three have ended. */
    args[5] = 1;
    args[6] = MANY - 3;
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], 3);
    assert_int_equal(got[6], MANY - 1);
}

static void hints_fill_an_empty_redis(void **state)
{
    (void)state;
    const uint64_t s = 1000000, now_us = 20000 * BUCKET_DAY_US + 5;
    uint64_t got[FIELDS_MAX];
    /* 10 a minute, 100 a day; known: 12 s of debt and 40 of today, then 2 takes that nobody was told. */
    uint64_t args[] = {6 * s, 60 * s, 100, 0, 1, 0, 0, 0, 0, 12 * s, 20000, 40, 7, 12 * s, 2};
    forget();
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], 1);
    assert_int_equal(got[2], now_us + 24 * s);
    assert_int_equal(got[4], 42);
    assert_int_equal(got[5], 7);
    /* A second instance knows less, and has one untold: only that is added. */
    args[9] = 0;
    args[11] = 3;
    args[13] = 6 * s;
    args[14] = 1;
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[2], now_us + 36 * s);
    assert_int_equal(got[4], 44);
    /* What a look brings with it is kept as well. */
    args[4] = 0;
    run(script_take, now_us, args, LENGTH_OF(args), got);
    run(script_take, now_us, args, SCRIPT_TAKE_ARGS, got);
    assert_int_equal(got[4], 46);
    /* Of another day nothing is added. */
    args[10] = 19999;
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[4], 46);
}

static int start(void **state)
{
    (void)state;
    if (!redis_is_installed())
        return 0;
    redis_start(&server);
    redis = redis_talk(&server);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (redis) {
        redisFree(redis);
        redis_stop(&server);
    }
    return 0;
}

static int need_redis(void **state)
{
    (void)state;
    if (!redis)
        print_message("skipped: redis-server is not installed\n");
    return 0;
}

#define WITH_REDIS(test)                      \
    static void test##_in_redis(void **state) \
    {                                         \
        if (!redis)                           \
            skip();                           \
        test(state);                          \
    }
WITH_REDIS(does_what_bucket_does)
WITH_REDIS(leases_end)
WITH_REDIS(a_word_about_leases_counts)
WITH_REDIS(as_many_as_may)
WITH_REDIS(hints_fill_an_empty_redis)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(does_what_bucket_does_in_redis, need_redis),
        cmocka_unit_test_setup(leases_end_in_redis, need_redis),
        cmocka_unit_test_setup(a_word_about_leases_counts_in_redis, need_redis),
        cmocka_unit_test_setup(as_many_as_may_in_redis, need_redis),
        cmocka_unit_test_setup(hints_fill_an_empty_redis_in_redis, need_redis),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
