/* Records in this process's memory: the backend for one instance, and what the Redis backend falls back to.
 *
 * A table for each space, so that many addresses can't push out keys; each in shards with a mutex of its own, held for
 * one record's arithmetic. A table holds at most `subjects` records, and more only while all have leases out. The
 * record used least recently makes room, and those at that end that limit nobody any more go as new ones come. The
 * hash is keyed: nobody can choose subjects that meet in one bucket. */
#ifndef WW_KV_MEMORY_H
#define WW_KV_MEMORY_H

#include "kv/bucket.h"

struct memory;

struct memory *memory_new(uint32_t subjects);
void memory_free(struct memory *m); /* takes NULL */

/* Decides here and now; fills answer and ticket. */
void memory_take(struct memory *m, const struct kv_request *request, struct kv_answer *ret,
                 struct kv_ticket *ret_ticket);
/* Gives back what memory_take() gave; for a shared ticket, ends the lease only. */
void memory_give(struct memory *m, const struct kv_ticket *ticket, bool refund);

/* What this process knows about a subject and Redis may not. */
struct memory_hint {
    bool news; /* the subject was not told since `epoch` began, or takes are untold: the others are filled */
    /* the record without the untold takes: Redis may have forgotten it */
    uint64_t full_in_us;
    uint32_t day, count, count_before;
    /* takes that were decided here and that no Redis has counted: of the bucket what has not refilled yet, of `day` */
    uint64_t untold_us;
    uint32_t untold;
    uint32_t running; /* leases out of this process, always filled */
};
/* The untold takes are in the hand of the caller from here on. */
struct memory_hint memory_hint(struct memory *m, const struct kv_request *request, uint64_t epoch);
/* The caller could not tell them. */
void memory_keep_untold(struct memory *m, const struct kv_request *request, uint32_t untold);
/* Mirrors what Redis has answered: the record after the takes (its times on Redis' clock), how many leases were given.
 * An answer older than the one mirrored (another loop's) changes no counts. */
void memory_adopt(struct memory *m, const struct kv_request *request, const struct bucket *told,
                  uint64_t told_now_us, uint32_t leased, uint64_t epoch);

struct memory_stats {
    uint64_t subjects, evicted_live;
};
struct memory_stats memory_stats(struct memory *m);

#endif
