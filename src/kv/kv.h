/* Counters that limits need, and short messages between instances: in this process, or shared through Redis.
 *
 * Everything counted about one subject (a key, an address) is one record: a bucket of tokens, a counter of the UTC
 * day and the leases out, so that one step decides about all three and nothing is taken where one of them refuses.
 *
 *     bucket   GCRA (generic cell rate algorithm, ITU-T I.371): kept is one time only, when the bucket is full again
 *     day      tokens taken on this UTC day, and on the one before (for a clock that is set back)
 *     leases   runs under way. In Redis they have an end, so that those of a dead instance end by themselves
 *
 * With Redis the decision is made there, by one script and with Redis' own clock: exact over all instances, whatever
 * their clocks say. Each answer is mirrored in this process's memory. When Redis does not answer, memory decides at
 * once and goes on from there; when Redis is back, what memory knows is given to it with the first take of each
 * subject, so that neither a failure nor an empty Redis gives anybody a fresh limit.
 *
 * Takes, looks and the rest are for the threads of attached loops; memory is shared by all of them. */
#ifndef WW_KV_KV_H
#define WW_KV_KV_H

#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"

struct kv;

enum kv_space { KV_RUNS, KV_REQUESTS, KV_ADDRESSES, KV_SPACE_COUNT };

enum {
    KV_KEY_MAX = 63,            /* bytes of a key */
    KV_PER_MINUTE_MAX = 600000, /* above, an interval in whole microseconds is too coarse (1 % off) */
    KV_TOPIC_MAX = 31,
    KV_MESSAGE_MAX = 512,
};
/* No lease is given for longer. */
#define KV_LEASE_MAX_NS (3600 * NS_PER_S)

/* 0: no such limit. */
struct kv_figures {
    uint32_t per_minute; /* capacity of the bucket, and its refill; at most KV_PER_MINUTE_MAX */
    uint32_t per_day;
    uint32_t concurrency;
};

struct kv_config {
    struct str url;      /* redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]; empty: memory */
    uint32_t loops;      /* how many will be attached, with the indexes 0 to loops - 1 */
    uint32_t subjects;   /* records kept in memory for each space; 0: 65536 */
    uint64_t timeout_ns; /* Redis that is silent for longer counts as gone; 0: 250 ms */
};

/* ERR_FIELD_INVALID: the URL has another form (the sentence does not repeat it: it may hold a password). */
MUST_CHECK enum err kv_check_url(struct str url, struct err_info *reterr);
/* ERR_FIELD_INVALID: as kv_check_url(). Whether Redis is there does not matter yet. */
MUST_CHECK enum err kv_open(const struct kv_config *config, struct kv **ret_kv, struct err_info *reterr);
/* On the thread of `loop`, or before it runs: connects in the background. */
void kv_attach(struct kv *kv, struct loop *loop);
/* On the thread of `loop`: what waits there is answered now, handles close as the loop runs on. Takes are still
 * answered, from memory. */
void kv_detach(struct kv *kv, struct loop *loop);
void kv_free(struct kv *kv); /* takes NULL; after all loops ended */

/* ---- take and give ---- */

enum kv_refusal { KV_ALLOWED, KV_NO_MINUTE, KV_NO_DAY, KV_NO_CONCURRENCY };

struct kv_request {
    enum kv_space space;
    struct str key; /* 1 to KV_KEY_MAX bytes */
    struct kv_figures figures;
    bool look; /* takes nothing, only tells */
    uint64_t
        lease_ns; /* with a concurrency, not 0: an upper bound of the run's time; at most KV_LEASE_MAX_NS */
};

/* What was taken, to give it back; zeroes: nothing. Plain data that its owner may copy, but give once. */
struct kv_ticket {
    char key[KV_KEY_MAX];
    uint8_t key_len;
    uint8_t space;
    bool leased;
    bool shared;          /* taken in Redis */
    uint32_t day;         /* days since 1970, 0: not counted */
    uint32_t interval_us; /* a token's time, 0: no bucket */
    uint64_t taken_us;    /* on the clock that decided */
};

struct kv_answer {
    enum kv_refusal refusal;
    bool local;           /* of this process alone, although Redis was asked for: degraded */
    uint32_t minute_left; /* whole tokens in the bucket, after this one */
    uint32_t day_left;
    uint32_t running;     /* leases out, with this one */
    uint64_t full_us;     /* until the bucket is full */
    uint64_t midnight_us; /* until the day counter starts again */
    uint64_t
        retry_us; /* refused: a take succeeds after this long if nobody else takes; unknown (0) for concurrency */
    uint64_t at_us; /* when it was decided: Redis' clock, or CLOCK_MONOTONIC */
};

/* A question on its way to Redis: the backend's own part of those below. */
struct kv_call {
    struct list link;
    uint64_t sent_ns;
    void (*done)(struct kv_call *c, void *reply);
};

struct kv_wait {
    void (*ready)(struct kv_wait *w); /* set by the caller */
    struct kv_answer answer;
    struct kv_ticket ticket;
    /* the backend's own */
    struct list link;
    struct kv_request request;
};

/* Takes one token and, where figures.concurrency is set, a lease; or nothing, and says why not. True: `w` holds the
 * answer, ready() will not be called. False: ready() will be, on `loop`, after this call returned and at most about
 * two time-outs later; `w` and the loop must live until then (the key is copied). */
bool kv_take(struct kv *kv, struct loop *loop, const struct kv_request *request, struct kv_wait *w);
/* Ends the lease of the ticket; `refund` gives the token back, too, less what the bucket has refilled since. On the loop
 * that took it. Empties the ticket; fine on an empty one. */
void kv_give(struct kv *kv, struct loop *loop, struct kv_ticket *ticket, bool refund);

/* ---- messages ---- */

/* One who listens; lives until kv_free(). */
struct kv_listener {
    struct list link;
    struct loop *loop;
    const char *topic; /* at most KV_TOPIC_MAX characters, without blanks; lives as long */
    /* On `loop`. message.p NULL: messages may have been lost, distrust what they would have told. */
    void (*heard)(struct kv_listener *l, struct str message);
    /* the kv's own */
    struct loop_post post;
    struct list inbox;
    bool posted;
    struct kv *kv;
};

/* Before the loops run. `loop`, `topic` and `heard` are set. */
void kv_listen(struct kv *kv, struct kv_listener *l);
/* Tells all listeners of all instances, those of this process even when Redis is gone; at most once each. At most
 * KV_MESSAGE_MAX bytes. On the thread of `loop`. */
void kv_publish(struct kv *kv, struct loop *loop, struct str topic, struct str message);

/* ---- health ---- */

struct kv_health {
    const char *backend;   /* "memory", "redis" */
    bool degraded;         /* Redis is wanted and some loop has no connection */
    uint64_t latency_ns;   /* of the last answer of Redis */
    uint64_t subjects;     /* records in memory */
    uint64_t evicted_live; /* records that had to go although they still limited somebody: raise `subjects` */
    char reason[96];       /* why degraded */
};
/* Any thread. */
struct kv_health kv_health(struct kv *kv);

struct kv_ping {
    void (*ready)(struct kv_ping *p); /* set by the caller */
    bool alive;
    uint64_t latency_ns;
    struct kv_call call; /* the backend's own */
};
/* Asks the backend for a sign of life; the same promise as that of kv_take(). */
bool kv_ping(struct kv *kv, struct loop *loop, struct kv_ping *p);

#endif
