#include "http/peers.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"

enum { SHARDS = 64, IPV6_NETWORK_BYTES = 8 };

struct http_peer {
    struct http_peer *next; /* in its bucket */
    struct http_peer **bucket;
    struct shard *shard;
    uint64_t address;
    int family;
    uint32_t connections;
};

/* Loops that accept at the same time seldom meet in one. */
struct shard {
    uv_mutex_t mutex;
    struct http_peer **buckets;
};

struct http_peers {
    uint32_t limit;
    unsigned bucket_bits; /* of each shard */
    uint64_t factor, offset;
    struct shard shards[SHARDS];
    _Atomic uint64_t refused;
    _Atomic uint64_t logged_ns, logged_refused;
};

struct http_peers *http_peers_new(uint32_t limit, uint32_t connections_max)
{
    struct http_peers *p = xcalloc(1, sizeof *p);
    uint64_t random[2];
    while (getrandom(random, sizeof random, 0) != sizeof random)
        ;
    p->limit = limit;
    p->factor = random[0] | 1;
    p->offset = random[1];
    while ((SHARDS << p->bucket_bits) < (int64_t)connections_max)
        p->bucket_bits++;
    for (size_t i = 0; i < SHARDS; i++) {
        WW_ASSERT(uv_mutex_init(&p->shards[i].mutex) == 0);
        p->shards[i].buckets = xcalloc((size_t)1 << p->bucket_bits, sizeof(struct http_peer *));
    }
    return p;
}

void http_peers_free(struct http_peers *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        for (size_t b = 0; b < (size_t)1 << p->bucket_bits; b++)
            WW_ASSERT(!p->shards[i].buckets[b]); /* all connections are closed */
        uv_mutex_destroy(&p->shards[i].mutex);
        free(p->shards[i].buckets);
    }
    free(p);
}

uint64_t http_peers_refused(const struct http_peers *p)
{
    return p ? atomic_load_explicit(&p->refused, memory_order_relaxed) : 0;
}

/* What of the address counts; false: nothing does. */
static bool key_of(const struct sockaddr *address, int *ret_family, uint64_t *ret_key)
{
    if (address->sa_family == AF_INET) {
        *ret_family = AF_INET;
        *ret_key = ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr;
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    uint32_t four;
    *ret_key = 0;
    if (IN6_IS_ADDR_V4MAPPED(six)) {
        memcpy(&four, &six->s6_addr[12], sizeof four);
        *ret_family = AF_INET;
        *ret_key = four;
    } else {
        *ret_family = AF_INET6;
        memcpy(ret_key, six->s6_addr, IPV6_NETWORK_BYTES);
    }
    return true;
}

/* Clients choose their addresses, not the two random numbers: multiply-shift (Dietzfelbinger et al., "A Reliable
 * Randomized Algorithm for the Closest-Pair Problem", 1997). */
static struct shard *shard_of(struct http_peers *p, int family, uint64_t key, struct http_peer ***ret_bucket)
{
    uint64_t hash = p->factor * (key ^ (uint64_t)family << 56) + p->offset;
    struct shard *shard = &p->shards[hash >> 58];
    *ret_bucket = &shard->buckets[p->bucket_bits ? hash << 6 >> (64 - p->bucket_bits) : 0];
    return shard;
}
_Static_assert(SHARDS == 1 << (64 - 58), "the upper bits choose the shard");

bool http_peers_enter(struct http_peers *p, const struct sockaddr *address, struct http_peer **ret_peer)
{
    int family;
    uint64_t key;
    *ret_peer = NULL;
    if (!key_of(address, &family, &key))
        return true;
    struct http_peer **bucket;
    struct shard *shard = shard_of(p, family, key, &bucket);
    uv_mutex_lock(&shard->mutex);
    struct http_peer *peer = *bucket;
    while (peer && (peer->address != key || peer->family != family))
        peer = peer->next;
    if (!peer) {
        peer = xmalloc(sizeof *peer);
        *peer = (struct http_peer){
            .next = *bucket, .bucket = bucket, .shard = shard, .address = key, .family = family};
        *bucket = peer;
    }
    bool fits = peer->connections < p->limit;
    peer->connections += fits;
    uv_mutex_unlock(&shard->mutex);
    if (fits)
        *ret_peer = peer;
    return fits;
}

void http_peers_leave(struct http_peer *peer)
{
    if (!peer)
        return;
    struct shard *shard = peer->shard;
    uv_mutex_lock(&shard->mutex);
    if (--peer->connections == 0) {
        struct http_peer **link = peer->bucket;
        while (*link != peer)
            link = &(*link)->next;
        *link = peer->next;
        free(peer);
    }
    uv_mutex_unlock(&shard->mutex);
}

void http_peers_note_refusal(struct http_peers *p, const char *peer)
{
    uint64_t now = clock_now_ns(), last = atomic_load(&p->logged_ns);
    uint64_t refused = atomic_fetch_add(&p->refused, 1) + 1;
    if ((last && now < last + NS_PER_S) || !atomic_compare_exchange_strong(&p->logged_ns, &last, now))
        return;
    uint64_t before = atomic_exchange(&p->logged_refused, refused);
    LOG_WARN("connections were refused: the address has as many as it may", LOG_CSTR("peer", peer),
             LOG_U64("limit", p->limit), LOG_U64("refused", refused - MIN(before, refused)));
}
