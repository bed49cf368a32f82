/* The parts of the Redis backend: redis.c (connections, messages, health) and redis_take.c (takes and gives), between
 * them what a loop has; for this folder only. */
#ifndef WW_KV_REDIS_H
#define WW_KV_REDIS_H

#include <stdatomic.h>

#include "kv/backend.h"
#include "kv/redis_link.h"

enum {
    REDIS_SHA1_HEX_BYTES = 41,
    REDIS_SELF_HEX_BYTES = 17,
    REDIS_HOLDER_BYTES = 28,
    REDIS_SUBJECT_LISTS = 256
};

struct redis_script {
    struct str text;
    char sha1[REDIS_SHA1_HEX_BYTES];
};

struct redis_loop {
    struct redis *redis;
    struct redis_link asking;
    struct redis_link hearing; /* a connection that subscribes can do nothing else; the first loop's only */
    bool counted;              /* among those up */
    /* of redis_take.c */
    struct list subjects[REDIS_SUBJECT_LISTS]; /* by their key's hash */
    struct list unsent;                        /* subjects with something to send at the end of the turn */
    uint32_t late_count;
    char holder[REDIS_HOLDER_BYTES]; /* of leases: this loop of this process */
};

struct redis {
    struct kv kv;
    struct redis_url url;
    struct redis_script take, refund, hold;
    char channel[32];
    char self[REDIS_SELF_HEX_BYTES]; /* this process among those that share this Redis */
    atomic_uint_fast64_t epoch; /* connections made so far: what Redis was told before may be forgotten */
    atomic_uint_fast64_t latency_ns;
    uv_mutex_t mutex; /* guards the three that follow */
    uint32_t wanted, up;
    char reason[sizeof((struct kv_health *)0)->reason];
    bool warned;
    uint32_t loop_count;
    struct redis_loop loops[];
};

static inline struct redis *redis_of(struct kv *kv)
{
    return CONTAINER_OF(kv, struct redis, kv);
}

static inline struct redis_loop *redis_loop_of(struct kv *kv, const struct loop *loop)
{
    struct redis *r = redis_of(kv);
    WW_ASSERT(loop->index < r->loop_count);
    return &r->loops[loop->index];
}

/* --- redis_take.c --- */
void redis_take_init(struct redis *r);
void redis_take_done(struct redis_loop *rl); /* after the loop has ended */
bool redis_take(struct kv *kv, struct loop *loop, const struct kv_request *request, struct kv_wait *w);
void redis_give(struct kv *kv, struct loop *loop, struct kv_ticket *ticket, bool refund);
/* The connection is there (again): what was to be told meanwhile is told. */
void redis_take_up(struct redis_loop *rl);
/* Sends what has gathered; without a connection, answers it from memory. */
void redis_take_flush(struct redis_loop *rl);

#endif
