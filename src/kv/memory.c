#include "kv/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#include "base/clock.h"

enum { SHARDS = 64, SUBJECTS_DEFAULT = 65536, SWEEP = 2 /* idle records that may go as one comes */ };

#define US_PER_S ((uint64_t)1000000)

struct record {
    struct record *next; /* in the hash bucket */
    struct list recency; /* in the shard's list while no lease is out: only those may make room */
    uint64_t hash;
    struct bucket bucket; /* on CLOCK_MONOTONIC */
    /* beside a Redis: takes that it does not know, and when it last told this record, on its clock */
    uint32_t untold;
    uint64_t epoch;
    uint64_t told_us;
    uint8_t key_len;
    char key[KV_KEY_MAX];
};

struct shard {
    pthread_mutex_t lock; /* guards all that follows */
    struct record **buckets;
    struct list recency; /* oldest first */
    uint64_t count, evicted_live;
} __attribute__((aligned(64)));

struct memory {
    struct shard shards[KV_SPACE_COUNT][SHARDS];
    uint64_t secret[2];
    uint64_t shard_max;
    uint64_t bucket_mask;
};

struct memory *memory_new(uint32_t subjects)
{
    struct memory *m = NULL;
    int none = posix_memalign((void **)&m, _Alignof(struct memory), sizeof *m);
    WW_ASSERT(!none);
    memset(m, 0, sizeof *m);
    bool seeded = getrandom(m->secret, sizeof m->secret, 0) == sizeof m->secret;
    WW_ASSERT(seeded);
    m->shard_max = (MAX(subjects ? subjects : SUBJECTS_DEFAULT, 1u) + SHARDS - 1) / SHARDS;
    uint64_t buckets = 1;
    while (buckets < m->shard_max)
        buckets *= 2;
    m->bucket_mask = buckets - 1;
    for (size_t i = 0; i < KV_SPACE_COUNT * SHARDS; i++) {
        struct shard *s = &m->shards[i / SHARDS][i % SHARDS];
        int failed = pthread_mutex_init(&s->lock, NULL);
        WW_ASSERT(!failed);
        s->buckets = xcalloc(buckets, sizeof *s->buckets);
        list_init(&s->recency);
    }
    return m;
}

void memory_free(struct memory *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < KV_SPACE_COUNT * SHARDS; i++) {
        struct shard *s = &m->shards[i / SHARDS][i % SHARDS];
        for (uint64_t b = 0; b <= m->bucket_mask; b++)
            for (struct record *r = s->buckets[b], *next; r; r = next) {
                next = r->next;
                free(r);
            }
        free(s->buckets);
        pthread_mutex_destroy(&s->lock);
    }
    free(m);
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[static 4])
{
    v[0] += v[1], v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1], v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein, 2012), with the constants of the paper. */
static uint64_t hash_of(const struct memory *m, struct str key)
{
    uint64_t v[4] = {m->secret[0] ^ 0x736f6d6570736575, m->secret[1] ^ 0x646f72616e646f6d,
                     m->secret[0] ^ 0x6c7967656e657261, m->secret[1] ^ 0x7465646279746573};
    size_t at = 0;
    for (; key.len - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, key.p + at, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = 0;
    memcpy(&last, key.p + at, key.len - at);
    last |= (uint64_t)key.len << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct bucket_times times_now(void)
{
    return (struct bucket_times){.now_us = clock_now_ns() / NS_PER_US,
                                 .wall_us = clock_wall_ns() / NS_PER_US};
}

/* A subject's shard, locked. */
static struct shard *lock_shard(struct memory *m, unsigned space, struct str key, uint64_t *ret_hash)
{
    WW_ASSERT(space < KV_SPACE_COUNT && key.len >= 1 && key.len <= KV_KEY_MAX);
    *ret_hash = hash_of(m, key);
    struct shard *s = &m->shards[space][*ret_hash >> 58];
    int failed = pthread_mutex_lock(&s->lock);
    WW_ASSERT(!failed);
    return s;
}

static void unlock_shard(struct shard *s)
{
    int failed = pthread_mutex_unlock(&s->lock);
    WW_ASSERT(!failed);
}

/* Where the pointer to this record stands, or would stand. */
static struct record **slot_of(struct memory *m, struct shard *s, struct str key, uint64_t hash)
{
    struct record **slot = &s->buckets[hash & m->bucket_mask];
    while (*slot && ((*slot)->hash != hash || (*slot)->key_len != key.len ||
                     memcmp((*slot)->key, key.p, key.len) != 0))
        slot = &(*slot)->next;
    return slot;
}

static void drop(struct memory *m, struct shard *s, struct record *r)
{
    struct record **slot = &s->buckets[r->hash & m->bucket_mask];
    while (*slot != r)
        slot = &(*slot)->next;
    *slot = r->next;
    list_remove(&r->recency);
    free(r);
    s->count--;
}

static void make_room(struct memory *m, struct shard *s, struct bucket_times t)
{
    for (int i = 0; i < SWEEP && !list_is_empty(&s->recency); i++) {
        struct record *oldest = LIST_ENTRY(s->recency.next, struct record, recency);
        if (!bucket_is_idle(&oldest->bucket, t)) {
            if (s->count < m->shard_max)
                return;
            s->evicted_live++;
        }
        drop(m, s, oldest);
    }
}

/* The record, made where there is none, and out of the list of those that may make room: see settle(). */
static struct record *find(struct memory *m, struct shard *s, struct str key, uint64_t hash,
                           struct bucket_times t)
{
    struct record *r = *slot_of(m, s, key, hash);
    if (!r) {
        make_room(m, s, t);
        r = xcalloc(1, sizeof *r);
        r->hash = hash;
        r->key_len = (uint8_t)key.len;
        memcpy(r->key, key.p, key.len);
        list_init(&r->recency);
        r->next = s->buckets[hash & m->bucket_mask];
        s->buckets[hash & m->bucket_mask] = r;
        s->count++;
    }
    list_remove(&r->recency);
    return r;
}

static void settle(struct shard *s, struct record *r)
{
    if (!r->bucket.running)
        list_push_back(&s->recency, &r->recency);
}

void memory_take(struct memory *m, const struct kv_request *request, struct kv_answer *ret,
                 struct kv_ticket *ret_ticket)
{
    struct bucket_times t = times_now();
    uint64_t hash;
    *ret = (struct kv_answer){.local = false};
    *ret_ticket = (struct kv_ticket){.key_len = 0};
    struct shard *s = lock_shard(m, request->space, request->key, &hash);
    struct record *r = find(m, s, request->key, hash, t);
    uint32_t day = r->bucket.day;
    bucket_roll(&r->bucket, &request->figures, t);
    if (r->bucket.day != day)
        r->untold = 0;
    ret->refusal = bucket_refuses(&r->bucket, &request->figures, t, &ret->retry_us);
    if (!ret->refusal && !request->look) {
        *ret_ticket = (struct kv_ticket){.space = (uint8_t)request->space, .key_len = r->key_len};
        memcpy(ret_ticket->key, r->key, r->key_len);
        bucket_charge(&r->bucket, &request->figures, t, ret_ticket);
        r->untold++;
        if (request->figures.concurrency) {
            ret_ticket->leased = true;
            r->bucket.running++;
        }
    }
    bucket_tell(&r->bucket, &request->figures, t, ret);
    settle(s, r);
    unlock_shard(s);
}

void memory_give(struct memory *m, const struct kv_ticket *ticket, bool refund)
{
    struct str key = str_make(ticket->key, ticket->key_len);
    uint64_t hash;
    struct shard *s = lock_shard(m, ticket->space, key, &hash);
    struct record *r = *slot_of(m, s, key, hash);
    /* A record with a lease out stays; without one it may have made room, and there is nothing to give back to. */
    WW_ASSERT(r || !ticket->leased);
    if (r) {
        list_remove(&r->recency);
        if (refund && !ticket->shared)
            bucket_refund(&r->bucket, ticket, clock_now_ns() / NS_PER_US);
        if (refund && !ticket->shared && r->untold)
            r->untold--;
        if (ticket->leased) {
            WW_ASSERT(r->bucket.running);
            r->bucket.running--;
        }
        settle(s, r);
    }
    unlock_shard(s);
}

struct memory_hint memory_hint(struct memory *m, const struct kv_request *request, uint64_t epoch)
{
    struct memory_hint hint = {.news = false};
    uint64_t hash;
    struct shard *s = lock_shard(m, request->space, request->key, &hash);
    struct record *r = *slot_of(m, s, request->key, hash);
    if (r) {
        hint.running = r->bucket.running;
        hint.news = r->epoch != epoch || r->untold;
    }
    if (hint.news) {
        uint64_t now_us = clock_now_ns() / NS_PER_US;
        uint64_t full_in_us = r->bucket.full_at_us - MIN(now_us, r->bucket.full_at_us);
        hint.untold = r->untold;
        hint.untold_us = MIN((uint64_t)r->untold * bucket_interval_us(&request->figures), full_in_us);
        hint.full_in_us = full_in_us - hint.untold_us;
        hint.day = r->bucket.day;
        hint.count = r->bucket.count - MIN(r->untold, r->bucket.count);
        hint.count_before = r->bucket.count_before;
        r->untold = 0;
    }
    unlock_shard(s);
    return hint;
}

void memory_keep_untold(struct memory *m, const struct kv_request *request, uint32_t untold)
{
    uint64_t hash;
    struct shard *s = lock_shard(m, request->space, request->key, &hash);
    struct record *r = *slot_of(m, s, request->key, hash);
    if (r)
        r->untold += untold;
    unlock_shard(s);
}

void memory_adopt(struct memory *m, const struct kv_request *request, const struct bucket *told,
                  uint64_t told_now_us, uint32_t leased, uint64_t epoch)
{
    struct bucket_times t = times_now();
    uint64_t hash;
    struct shard *s = lock_shard(m, request->space, request->key, &hash);
    struct record *r = find(m, s, request->key, hash, t);
    r->bucket.running += leased;
    /* More than a second back is no answer overtaken on another loop: Redis' clock was set. */
    bool overtaken = r->epoch == epoch && told_now_us < r->told_us && r->told_us - told_now_us < US_PER_S;
    if (!overtaken) {
        r->epoch = epoch;
        r->told_us = told_now_us;
        /* What is untold by now came after this take was sent. */
        uint64_t untold_us = (uint64_t)r->untold * bucket_interval_us(&request->figures);
        r->bucket.full_at_us = t.now_us + told->full_at_us - MIN(told_now_us, told->full_at_us) + untold_us;
        r->bucket.day = told->day;
        r->bucket.count = told->count + r->untold;
        r->bucket.count_before = told->count_before;
    }
    settle(s, r);
    unlock_shard(s);
}

struct memory_stats memory_stats(struct memory *m)
{
    struct memory_stats stats = {0};
    for (size_t i = 0; i < KV_SPACE_COUNT * SHARDS; i++) {
        struct shard *s = &m->shards[i / SHARDS][i % SHARDS];
        int failed = pthread_mutex_lock(&s->lock);
        WW_ASSERT(!failed);
        stats.subjects += s->count;
        stats.evicted_live += s->evicted_live;
        unlock_shard(s);
    }
    return stats;
}
