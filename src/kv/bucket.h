/* The arithmetic of one record; without a clock, a lock or a store of its own. Times in microseconds: those of the
 * bucket on any one clock, those of the day on the wall's. The script of redis_script.h does the same in Lua. */
#ifndef WW_KV_BUCKET_H
#define WW_KV_BUCKET_H

#include "kv/kv.h"

#define BUCKET_DAY_US (24 * 3600 * (uint64_t)1000000)

struct bucket {
    uint64_t full_at_us;   /* GCRA's theoretical arrival time: the bucket is full from then on */
    uint32_t day;          /* since 1970 */
    uint32_t count;        /* taken on `day` */
    uint32_t count_before; /* taken on the day before */
    uint32_t running;
};

struct bucket_times {
    uint64_t now_us;  /* the bucket's clock */
    uint64_t wall_us; /* since 1970 */
};

/* The time of one token, rounded up: never a token too many. 0 without such a limit. */
uint32_t bucket_interval_us(const struct kv_figures *f);
/* Brings the record to this time: call before the others. Whatever the clock did, no bucket is emptier than empty
 * and each day keeps its own count: a clock set back by less than a day neither locks anybody out nor gives a token
 * twice. Set back by more, today goes on with the count of the days that were. True: that
 * changed something that must be kept even if nothing is taken, or the wait would begin anew each time. */
bool bucket_roll(struct bucket *b, const struct kv_figures *f, struct bucket_times t);
/* Whether a take is refused, and when it would not be. The longest wait is named. */
enum kv_refusal bucket_refuses(const struct bucket *b, const struct kv_figures *f, struct bucket_times t,
                               uint64_t *ret_retry_us);
/* Takes what was not refused; fills day, interval_us and taken_us of the ticket. */
void bucket_charge(struct bucket *b, const struct kv_figures *f, struct bucket_times t,
                   struct kv_ticket *ticket);
/* Gives a charge back, less the time since: without the charge, the bucket could hold at most that much more by now
 * (it may have stood full), so no mixture of charges and refunds ever lets a token too many through. */
void bucket_refund(struct bucket *b, const struct kv_ticket *ticket, uint64_t now_us);
/* What is left; fills all but refusal, local and retry_us. */
void bucket_tell(const struct bucket *b, const struct kv_figures *f, struct bucket_times t,
                 struct kv_answer *ret);
/* Forgetting the record would change nothing. */
bool bucket_is_idle(const struct bucket *b, struct bucket_times t);

#endif
