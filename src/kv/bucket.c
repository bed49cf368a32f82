#include "kv/bucket.h"

#define MINUTE_US ((uint64_t)60000000)

uint32_t bucket_interval_us(const struct kv_figures *f)
{
    return f->per_minute ? (uint32_t)((MINUTE_US + f->per_minute - 1) / f->per_minute) : 0;
}

static uint64_t capacity_us(const struct kv_figures *f)
{
    return (uint64_t)f->per_minute * bucket_interval_us(f);
}

static uint32_t day_of(uint64_t wall_us)
{
    return (uint32_t)(wall_us / BUCKET_DAY_US);
}

bool bucket_roll(struct bucket *b, const struct kv_figures *f, struct bucket_times t)
{
    uint32_t today = day_of(t.wall_us);
    bool mended = b->day > today + 1;
    if (f->per_minute && b->full_at_us > t.now_us + capacity_us(f)) {
        b->full_at_us = t.now_us + capacity_us(f);
        mended = true;
    }
    if (b->day < today) {
        b->count_before = b->day + 1 == today ? b->count : 0;
        b->count = 0;
        b->day = today;
    } else if (b->day > today + 1) {
        b->count = MAX(b->count, b->count_before);
        b->count_before = 0;
        b->day = today;
    }
    return mended;
}

/* Taken on the day of `t`, in a rolled record. */
static uint32_t taken_today(const struct bucket *b, struct bucket_times t)
{
    return b->day == day_of(t.wall_us) ? b->count : b->count_before;
}

static uint64_t until_midnight_us(struct bucket_times t)
{
    return BUCKET_DAY_US - t.wall_us % BUCKET_DAY_US;
}

enum kv_refusal bucket_refuses(const struct bucket *b, const struct kv_figures *f, struct bucket_times t,
                               uint64_t *ret_retry_us)
{
    enum kv_refusal refusal = KV_ALLOWED;
    uint64_t retry_us = 0;
    if (f->concurrency && b->running >= f->concurrency)
        refusal = KV_NO_CONCURRENCY;
    uint64_t needed = MAX(b->full_at_us, t.now_us) + bucket_interval_us(f), room = t.now_us + capacity_us(f);
    if (f->per_minute && needed > room) {
        refusal = KV_NO_MINUTE;
        retry_us = needed - room;
    }
    if (f->per_day && taken_today(b, t) >= f->per_day) {
        uint64_t wait_us = until_midnight_us(t);
        /* With the clock set back over midnight, the next day may be used up already. */
        if (b->day > day_of(t.wall_us) && b->count >= f->per_day)
            wait_us += BUCKET_DAY_US;
        refusal = KV_NO_DAY;
        retry_us = MAX(retry_us, wait_us);
    }
    *ret_retry_us = retry_us;
    return refusal;
}

void bucket_charge(struct bucket *b, const struct kv_figures *f, struct bucket_times t,
                   struct kv_ticket *ticket)
{
    ticket->interval_us = bucket_interval_us(f);
    ticket->taken_us = t.now_us;
    if (f->per_minute)
        b->full_at_us = MAX(b->full_at_us, t.now_us) + ticket->interval_us;
    if (!f->per_day)
        return;
    ticket->day = day_of(t.wall_us);
    uint32_t *count = b->day == ticket->day ? &b->count : &b->count_before;
    if (*count < UINT32_MAX)
        ++*count;
}

void bucket_refund(struct bucket *b, const struct kv_ticket *ticket, uint64_t now_us)
{
    uint64_t due_us = ticket->taken_us + ticket->interval_us;
    if (now_us >= ticket->taken_us && now_us < due_us)
        b->full_at_us -= MIN(due_us - now_us, b->full_at_us);
    if (ticket->day && ticket->day == b->day && b->count)
        b->count--;
    else if (ticket->day && ticket->day + 1 == b->day && b->count_before)
        b->count_before--;
}

void bucket_tell(const struct bucket *b, const struct kv_figures *f, struct bucket_times t,
                 struct kv_answer *ret)
{
    ret->at_us = t.now_us;
    ret->running = b->running;
    ret->midnight_us = until_midnight_us(t);
    ret->minute_left = ret->day_left = 0;
    ret->full_us = 0;
    if (f->per_minute) {
        ret->full_us = b->full_at_us - MIN(t.now_us, b->full_at_us);
        ret->minute_left = (uint32_t)((capacity_us(f) - ret->full_us) / bucket_interval_us(f));
    }
    if (f->per_day)
        ret->day_left = f->per_day - MIN(taken_today(b, t), f->per_day);
}

bool bucket_is_idle(const struct bucket *b, struct bucket_times t)
{
    return b->full_at_us <= t.now_us && !b->running &&
           (day_of(t.wall_us) > b->day || !(b->count || b->count_before));
}
