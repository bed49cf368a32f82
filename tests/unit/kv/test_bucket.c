/* The arithmetic of a record: arrivals and what becomes of them, and a long random run beside a model that counts in
 * another way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kv/bucket.h"

#define S ((uint64_t)1000000)
#define DAY BUCKET_DAY_US
/* Some midnight. */
#define MIDNIGHT (20000 * DAY)

static enum kv_refusal take(struct bucket *b, const struct kv_figures *f, uint64_t now_us,
                            struct kv_ticket *ticket, uint64_t *retry_us)
{
    struct bucket_times t = {now_us, now_us};
    bucket_roll(b, f, t);
    enum kv_refusal refusal = bucket_refuses(b, f, t, retry_us);
    if (!refusal)
        bucket_charge(b, f, t, ticket);
    return refusal;
}

static void arrivals_of_the_table(void **state)
{
    (void)state;
    /* A token each thirty seconds, two at most. */
    static const struct {
        const char *what;
        int64_t at_ms; /* since midnight */
        enum kv_refusal refusal;
        uint64_t retry_ms;
        uint32_t per_day;
    } rows[] = {
        {"the burst: two at once", 0, KV_ALLOWED, 0, 9},
        {"", 0, KV_ALLOWED, 0, 9},
        {"the third waits a whole token", 0, KV_NO_MINUTE, 30000, 9},
        {"refusals cost nothing", 29999, KV_NO_MINUTE, 1, 9},
        {"exactly then", 30000, KV_ALLOWED, 0, 9},
        {"and no second", 30000, KV_NO_MINUTE, 30000, 9},
        {"half refilled", 45000, KV_NO_MINUTE, 15000, 9},
        {"a clock set back by ten seconds empties nothing further", 35000, KV_NO_MINUTE, 25000, 9},
        {"set back by an hour: one token's wait at most", -3600000, KV_NO_MINUTE, 30000, 9},
        {"that long", -3570000, KV_ALLOWED, 0, 9},
        {"full again after an hour", 3600000, KV_ALLOWED, 0, 5},
        {"", 3600000, KV_ALLOWED, 0, 5},
        {"the day is used up", 7200000, KV_NO_DAY, 79200000, 5},
        {"still, a second before midnight", 86399000, KV_NO_DAY, 1000, 5},
        {"the next day", 86400000, KV_ALLOWED, 0, 5},
        {"back before midnight: the day that was is still used up", 86399000, KV_NO_DAY, 1000, 5},
        {"the day after the next, then two days back: it goes on with its count", 3 * 86400000LL, KV_ALLOWED,
         0, 1},
        {"", 86400000, KV_NO_DAY, 86400000, 1},
        {"nobody is locked out for longer", 2 * 86400000LL, KV_ALLOWED, 0, 1},
    };
    struct bucket b = {0};
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct kv_figures f = {.per_minute = 2, .per_day = rows[i].per_day};
        struct kv_ticket ticket = {0};
        uint64_t retry_us = 0;
        uint64_t now_us = MIDNIGHT + (uint64_t)(rows[i].at_ms * 1000);
        enum kv_refusal refusal = take(&b, &f, now_us, &ticket, &retry_us);
        if (refusal != rows[i].refusal || retry_us != rows[i].retry_ms * 1000)
            fail_msg("row %zu (%s): refusal %d, retry after %lu us", i, rows[i].what, refusal,
                     (unsigned long)retry_us);
    }
}

static void tomorrow_may_be_used_up_too(void **state)
{
    (void)state;
    const struct kv_figures f = {.per_day = 1};
    struct bucket b = {0};
    struct kv_ticket ticket;
    uint64_t retry_us;
    assert_int_equal(take(&b, &f, MIDNIGHT + DAY - 2 * S, &ticket, &retry_us), KV_ALLOWED);
    assert_int_equal(take(&b, &f, MIDNIGHT + DAY + S, &ticket, &retry_us), KV_ALLOWED);
    assert_int_equal(take(&b, &f, MIDNIGHT + DAY - S, &ticket, &retry_us), KV_NO_DAY);
    assert_int_equal(retry_us, DAY + S);
    assert_int_equal(take(&b, &f, MIDNIGHT + DAY + 2 * S, &ticket, &retry_us), KV_NO_DAY);
    assert_int_equal(take(&b, &f, MIDNIGHT + 2 * DAY, &ticket, &retry_us), KV_ALLOWED);
}

static void tells_what_is_left(void **state)
{
    (void)state;
    const struct kv_figures f = {.per_minute = 10, .per_day = 500, .concurrency = 2};
    struct bucket b = {.running = 1};
    struct kv_ticket ticket;
    struct kv_answer told = {0};
    uint64_t retry_us;
    assert_int_equal(take(&b, &f, MIDNIGHT + 3 * S, &ticket, &retry_us), KV_ALLOWED);
    bucket_tell(&b, &f, (struct bucket_times){MIDNIGHT + 3 * S, MIDNIGHT + 3 * S}, &told);
    assert_int_equal(told.minute_left, 9);
    assert_int_equal(told.day_left, 499);
    assert_int_equal(told.full_us, 6 * S);
    assert_int_equal(told.midnight_us, DAY - 3 * S);
    assert_int_equal(told.running, 1);
    b.running = 2;
    assert_int_equal(take(&b, &f, MIDNIGHT + 3 * S, &ticket, &retry_us), KV_NO_CONCURRENCY);
    assert_int_equal(retry_us, 0);
}

static void no_figure_no_limit(void **state)
{
    (void)state;
    const struct kv_figures f = {.per_minute = 0};
    struct bucket b = {0};
    struct kv_ticket ticket;
    uint64_t retry_us;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(take(&b, &f, MIDNIGHT, &ticket, &retry_us), KV_ALLOWED);
    assert_int_equal(bucket_interval_us(&f), 0);
    assert_int_equal(bucket_interval_us(&(struct kv_figures){.per_minute = 7}), 8571429); /* rounded up */
}

/* The other way of counting: a level of tokens in units of a 60 millionth, refilled `per_minute` units a
 * microsecond. */
struct model {
    uint64_t level, at_us, day, taken;
};

static bool model_take(struct model *m, const struct kv_figures *f, uint64_t now_us)
{
    const uint64_t token = 60 * S;
    m->level = MIN(m->level + (now_us - m->at_us) * f->per_minute, f->per_minute * token);
    m->at_us = now_us;
    if (now_us / DAY != m->day)
        m->taken = 0;
    m->day = now_us / DAY;
    if (m->level < token || m->taken >= f->per_day)
        return false;
    m->level -= token;
    m->taken++;
    return true;
}

static void decides_as_the_model(void **state)
{
    (void)state;
    /* Figures whose interval is whole: the two ways must agree to the microsecond. */
    static const struct kv_figures tiers[] = {
        {10, 500, 0}, {100, 10000, 0}, {500, 50000, 0}, {6000, 4000000000, 0}};
    srand(11);
    for (size_t i = 0; i < LENGTH_OF(tiers); i++) {
        const struct kv_figures *f = &tiers[i];
        uint64_t now_us = MIDNIGHT, allowed = 0, refused = 0;
        struct bucket b = {0};
        struct model m = {.level = f->per_minute * 60 * S, .at_us = now_us};
        struct kv_ticket ticket;
        uint64_t retry_us = 0, interval_us = bucket_interval_us(f);
        for (int step = 0; step < 200000; step++) {
            uint64_t pause_us = (uint64_t)rand() % interval_us;
            /* Sometimes exactly at the time promised, sometimes after a long silence. */
            now_us += step % 7 == 0 && retry_us ? retry_us : step % 1000 == 0 ? 100 * interval_us : pause_us;
            bool promised = step % 7 == 0 && retry_us;
            bool fine = take(&b, f, now_us, &ticket, &retry_us) == KV_ALLOWED;
            assert_int_equal(fine, model_take(&m, f, now_us));
            assert_true(fine || !promised);
            fine ? allowed++ : refused++;
        }
        assert_true(allowed > 100 && refused > 100);
    }
}

/* Whatever is given back when: never more in all than the requests kept would have been allowed alone. */
static void refunds_never_make_tokens(void **state)
{
    (void)state;
    const struct kv_figures f = {.per_minute = 5, .per_day = 1000000};
    srand(12);
    for (int round = 0; round < 300; round++) {
        enum { STEPS = 200 };
        struct bucket b = {0};
        struct kv_ticket out[STEPS];
        uint64_t at_us[STEPS], kept = 0, now_us = MIDNIGHT;
        bool is_kept[STEPS] = {false};
        size_t count = 0;
        for (int step = 0; step < STEPS; step++) {
            uint64_t retry_us;
            now_us += (uint64_t)rand() % (8 * S);
            if (rand() % 3 == 0 && count) {
                size_t victim = (size_t)rand() % count;
                if (is_kept[victim])
                    bucket_refund(&b, &out[victim], now_us);
                is_kept[victim] = false;
            } else if (take(&b, &f, now_us, &out[count], &retry_us) == KV_ALLOWED) {
                at_us[count] = now_us;
                is_kept[count++] = true;
            }
        }
        struct bucket alone = {0};
        for (size_t i = 0; i < count; i++) {
            struct kv_ticket ticket;
            uint64_t retry_us;
            if (!is_kept[i])
                continue;
            kept++;
            assert_int_equal(take(&alone, &f, at_us[i], &ticket, &retry_us), KV_ALLOWED);
        }
        assert_int_equal(b.count, kept);
    }
}

static void a_refund_at_once_is_whole(void **state)
{
    (void)state;
    const struct kv_figures f = {.per_minute = 1, .per_day = 1};
    struct bucket b = {0};
    struct kv_ticket ticket = {0};
    uint64_t retry_us;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(take(&b, &f, MIDNIGHT + 5, &ticket, &retry_us), KV_ALLOWED);
        bucket_refund(&b, &ticket, MIDNIGHT + 5);
    }
    assert_true(bucket_is_idle(&b, (struct bucket_times){MIDNIGHT + 5, MIDNIGHT + 5}));
    /* Of yesterday's token only yesterday's count comes back. */
    assert_int_equal(take(&b, &f, MIDNIGHT + 5, &ticket, &retry_us), KV_ALLOWED);
    struct kv_ticket other = {0};
    assert_int_equal(take(&b, &f, MIDNIGHT + DAY + 5, &other, &retry_us), KV_ALLOWED);
    bucket_refund(&b, &ticket, MIDNIGHT + DAY + 5);
    assert_int_equal(b.count, 1);
    assert_int_equal(b.count_before, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrivals_of_the_table),     cmocka_unit_test(tomorrow_may_be_used_up_too),
        cmocka_unit_test(tells_what_is_left),        cmocka_unit_test(no_figure_no_limit),
        cmocka_unit_test(decides_as_the_model),      cmocka_unit_test(refunds_never_make_tokens),
        cmocka_unit_test(a_refund_at_once_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
