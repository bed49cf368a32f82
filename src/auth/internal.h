/* What the files of this folder share. */
#ifndef WW_AUTH_INTERNAL_H
#define WW_AUTH_INTERNAL_H

#include <openssl/evp.h>
#include <pthread.h>

#include "auth/auth.h"
#include "auth/cache.h"

struct auth {
    struct store *store;
    struct auth_issuer *issuer;                    /* of JWTs; NULL: they are not taken */
    uint64_t session_idle_ns, session_lifetime_ns; /* set before the loops run, as the next */
    void (*tell)(void *ctx);                       /* after a change; NULL: nobody is told */
    void *tell_ctx;
    pthread_mutex_t lock; /* guards all that follows */
    EVP_MAC_CTX *hmac;    /* ready with the salt, started anew for each token */
    struct auth_cache *known;
    struct auth_cache *refused;
    uint64_t generation; /* counts how often the caches were forgotten */
    bool version_seen;
    uint64_t version;  /* the store's, when last asked */
    uint64_t heard_ns; /* when the store last told it, monotonic */
};

/* HMAC-SHA-256(salt, text). Any thread; the lock is not held. */
void auth_hash(struct auth *a, struct str text, unsigned char mac[static AUTH_MAC_BYTES]);
MUST_CHECK bool auth_random(void *to, size_t len);
bool auth_is_alphanumeric(char c);

#endif
