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

enum { FIELDS_MAX = SCRIPT_REPLY_FIELDS };

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
    const char *argv[5 + SCRIPT_TAKE_ARGS + SCRIPT_HINT_ARGS] = {"EVAL", buf_cstr(&text), "2", "{t}",
                                                                 "{t}:l"};
    char numbers[SCRIPT_TAKE_ARGS + SCRIPT_HINT_ARGS][24];
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

static void does_what_bucket_does(void **state)
{
    (void)state;
    enum { ROUNDS = 8, STEPS = 1500, OUT_MAX = 4 };
    srand(21);
    for (int round = 0; round < ROUNDS; round++) {
        struct kv_figures f = {(uint32_t)pick(20), (uint32_t)pick(60), (uint32_t)pick(OUT_MAX + 1)};
        struct bucket b = {0};
        struct kv_ticket out[OUT_MAX];
        size_t runs = 0;
        uint64_t now_us = 20000 * BUCKET_DAY_US + pick(BUCKET_DAY_US), refusals = 0;
        /* Real expiry of keys would be by the real clock: far enough for none to happen here. */
        forget();
        for (int step = 0; step < STEPS; step++) {
            now_us = next_time(now_us);
            struct bucket_times t = {now_us, now_us};
            uint64_t got[FIELDS_MAX];
            if (runs && rand() % 2) {
                struct kv_ticket *ticket = &out[--runs];
                bucket_refund(&b, ticket, now_us);
                b.running--;
                const uint64_t args[] = {ticket->interval_us, ticket->taken_us, ticket->day, ticket->lease};
                run(script_refund, now_us, args, LENGTH_OF(args), got);
                continue;
            }
            struct kv_ticket ticket = {.lease = (uint64_t)step + 1};
            bool look = rand() % 5 == 0;
            uint32_t running = b.running;
            uint64_t retry_us, interval_us = bucket_interval_us(&f);
            struct bucket kept = b;
            bool mended = bucket_roll(&b, &f, t);
            enum kv_refusal refusal = bucket_refuses(&b, &f, t, &retry_us);
            refusals += refusal != KV_ALLOWED;
            if (!refusal && !look) {
                bucket_charge(&b, &f, t, &ticket);
                if (f.concurrency) {
                    b.running++;
                    out[runs++] = ticket;
                }
            }
            /* Leases whose end has come in Redis are those that this instance knows to be out. */
            const uint64_t args[] = {interval_us,  interval_us * f.per_minute, f.per_day, f.concurrency, look,
                                     ticket.lease, 3000 * (uint64_t)1000000,   0,         running};
            assert_int_equal(run(script_take, now_us, args, LENGTH_OF(args), got), SCRIPT_REPLY_FIELDS);
            assert_int_equal(got[0], refusal);
            assert_int_equal(got[1], now_us);
            assert_int_equal(got[6], b.running);
            if (f.per_minute)
                assert_int_equal(got[2], b.full_at_us);
            assert_int_equal(got[3], b.day);
            assert_int_equal(got[4], b.count);
            assert_int_equal(got[5], b.count_before);
            /* As in Redis, nothing is written for one who gets nothing. */
            if (!mended && (refusal || look))
                b = kept;
        }
        assert_true(refusals || (!f.per_minute && !f.per_day && !f.concurrency));
    }
}

static void leases_end(void **state)
{
    (void)state;
    uint64_t got[FIELDS_MAX], now_us = 20000 * BUCKET_DAY_US;
    uint64_t args[] = {0, 0, 0, 2, 0, 1, 5000000, 0, 0};
    forget();
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[6], 1);
    args[5] = 2;
    args[6] = 9000000;
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[6], 2);
    args[5] = 3;
    run(script_take, now_us + 4999999, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], KV_NO_CONCURRENCY);
    run(script_take, now_us + 5000000, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], KV_ALLOWED);
    assert_int_equal(got[6], 2);
    /* Set back by a year, the leases last an hour at most. */
    uint64_t back_us = now_us - 365 * BUCKET_DAY_US;
    args[5] = 4;
    run(script_take, back_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], KV_NO_CONCURRENCY);
    run(script_take, back_us + 3600 * (uint64_t)1000000, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], KV_ALLOWED);
    /* Leases that only the instance knows count, too; and never fewer than it has out. */
    args[3] = 5;
    args[5] = 5;
    args[7] = 3;
    run(script_take, back_us + 3601 * (uint64_t)1000000, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], KV_ALLOWED);
    assert_int_equal(got[6], 5);
    args[7] = 0;
    args[8] = 5;
    run(script_take, back_us + 3601 * (uint64_t)1000000, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], KV_NO_CONCURRENCY);
}

static void hints_fill_an_empty_redis(void **state)
{
    (void)state;
    const uint64_t s = 1000000, now_us = 20000 * BUCKET_DAY_US + 5;
    uint64_t got[FIELDS_MAX];
    /* 10 a minute, 100 a day; known: 12 s of debt and 40 of today, then 2 takes that nobody was told. */
    uint64_t args[] = {6 * s, 60 * s, 100, 0, 0, 0, 0, 0, 0, 12 * s, 20000, 40, 7, 12 * s, 2};
    forget();
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[0], KV_ALLOWED);
    assert_int_equal(got[2], now_us + 30 * s);
    assert_int_equal(got[4], 43);
    assert_int_equal(got[5], 7);
    /* A second instance knows less, and has one untold: only that is added. */
    args[9] = 0;
    args[11] = 3;
    args[13] = 6 * s;
    args[14] = 1;
    run(script_take, now_us, args, LENGTH_OF(args), got);
    assert_int_equal(got[2], now_us + 42 * s);
    assert_int_equal(got[4], 45);
    /* What a look brings with it is kept as well. */
    args[4] = 1;
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
WITH_REDIS(hints_fill_an_empty_redis)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(does_what_bucket_does_in_redis, need_redis),
        cmocka_unit_test_setup(leases_end_in_redis, need_redis),
        cmocka_unit_test_setup(hints_fill_an_empty_redis_in_redis, need_redis),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
