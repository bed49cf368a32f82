/* API keys. A key is "ww_" and 40 base62 characters (238 bits of randomness), shown once; kept is
 * HMAC-SHA-256(API_SALT, key) only. The usual check costs one HMAC and a look into a bounded cache. */
#ifndef WW_AUTH_KEY_H
#define WW_AUTH_KEY_H

#include <stdatomic.h>

#include "base/err.h"
#include "base/str.h"

struct store;

enum { AUTH_TOKEN_BYTES = 44, AUTH_SALT_MIN_BYTES = 16 }; /* token: with its NUL */

/* Who is asking; immutable once published, shared by reference. */
struct auth_key {
    atomic_uint refs;
    char id[17];
    char name[65];
    char tier[17];
    uint64_t expires_ns;                       /* wall, 0 = never */
    uint32_t per_minute, per_day, concurrency; /* executions that its tier allows; 0 = no such limit */
};
struct auth_key *auth_key_ref(struct auth_key *key);
void auth_key_unref(struct auth_key *key);   /* takes NULL */
void auth_key_unrefp(struct auth_key **key); /* for CLEANUP */

struct auth;

/* `salt` is copied. `cache_max` keys are remembered (also "unknown" answers, in a smaller part of their own, so
 * that guessing can't push out the known). The store is borrowed and outlives the auth. Never fails. */
struct auth *auth_new(struct store *store, struct str salt, size_t cache_max);
void auth_free(struct auth *a); /* takes NULL */

/* The token behind "Authorization: Bearer TOKEN" (RFC 6750, scheme case-insensitive); .p NULL where the value has another form,
 * or the token is empty or longer than 512 bytes. */
struct str auth_bearer_token(struct str authorization);

enum auth_answer { AUTH_KNOWN, AUTH_REFUSED, AUTH_ASK };
/* What memory knows of this token: KNOWN: *ret_key is a new reference. REFUSED: remembered as bad (unknown, revoked,
 * expired). ASK: call auth_key_find() off the loop. Any thread; short mutex. */
enum auth_answer auth_key_cached(struct auth *a, struct str token, struct auth_key **ret_key);
/* Asks the store and remembers the answer. Blocks: for libuv's pool and the CLI. ERR_UNAUTHORIZED (one sentence for
 * unknown, revoked and expired alike: an attacker learns nothing); ERR_STORE_DOWN: nothing is known. Compares in constant time. */
MUST_CHECK enum err auth_key_find(struct auth *a, struct str token, struct auth_key **ret_key,
                                  struct err_info *reterr);
/* Forgets what is remembered if the store has changed since the last time, here or in another process, or has been
 * silent for 30 seconds; blocks: for libuv's pool, twice a second, and after revoking a key. */
void auth_refresh(struct auth *a);

/* Makes a key. `name`: 1 to 64 characters of A-Z a-z 0-9 . _ - ; `tier`: free, basic or pro. `expires_ns` wall or 0.
 * ERR_FIELD_INVALID names the field and what is allowed; ERR_CONFLICT: the name is in use. */
MUST_CHECK enum err auth_key_create(struct auth *a, struct str name, struct str tier, uint64_t expires_ns,
                                    char ret_token[static AUTH_TOKEN_BYTES], struct err_info *reterr);

/* The salt: `configured` where it is not empty (ERR_FIELD_INVALID below 16 characters), else the one kept in
 * DATA_DIR/api_salt (mode 0600), made on first use where `may_create`. *ret_salt is malloc'ed. */
MUST_CHECK enum err auth_salt_load(const char *data_dir, const char *configured, bool may_create,
                                   char **ret_salt, struct err_info *reterr);

#endif
