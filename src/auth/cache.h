/* What is remembered about tokens: a bounded table from the token's HMAC (never the token) to a key, or to
 * "refused". The entry used least recently makes room. No lock of its own: the owner has one. The HMAC is
 * under a secret salt, so nobody can choose values that fall into one bucket. */
#ifndef WW_AUTH_CACHE_H
#define WW_AUTH_CACHE_H

#include "auth/principal.h"
#include "base/list.h"

enum { AUTH_MAC_BYTES = 32 };

struct auth_cache_entry {
    struct list recency;           /* the owner's list, newest first */
    struct auth_cache_entry *next; /* in the bucket */
    unsigned char mac[AUTH_MAC_BYTES];
    struct auth_principal *who; /* a reference of the cache, NULL = refused */
    uint64_t until_ns;          /* monotonic; for those whose answer ages */
};

struct auth_cache;

/* Room for `max` entries, at least one, allocated now. */
struct auth_cache *auth_cache_new(size_t max);
void auth_cache_free(struct auth_cache *c); /* takes NULL */
/* The entry, now the newest; NULL where there is none. Lent until the next change. */
struct auth_cache_entry *auth_cache_find(struct auth_cache *c,
                                         const unsigned char mac[static AUTH_MAC_BYTES]);
/* Puts an entry, or replaces the one of this HMAC. Takes a reference of its own on `key` (may be NULL). */
void auth_cache_put(struct auth_cache *c, const unsigned char mac[static AUTH_MAC_BYTES],
                    struct auth_principal *who, uint64_t until_ns);
/* Forgets that entry, if it is there. */
void auth_cache_remove(struct auth_cache *c, const unsigned char mac[static AUTH_MAC_BYTES]);
/* Forgets all. */
void auth_cache_clear(struct auth_cache *c);

#endif
