/* Who is asking, by the credential of a request: an API key, or a JWT (jwt.h) where it has three parts with
 * points between them. The usual check costs one HMAC and a look into a bounded cache; what is not known is asked
 * of the store. */
#ifndef WW_AUTH_AUTH_H
#define WW_AUTH_AUTH_H

#include "auth/principal.h"
#include "base/err.h"
#include "base/str.h"

struct store;
struct auth_issuer;

enum { AUTH_SALT_MIN_BYTES = 16, AUTH_TOKEN_MAX_BYTES = 8192 };

struct auth;

/* `salt` is copied. `cache_max` tokens are remembered (also "unknown" answers, in a smaller part of their own, so
 * that guessing can't push out the known). The store is borrowed and outlives the auth. Never fails. */
struct auth *auth_new(struct store *store, struct str salt, size_t cache_max);
void auth_free(struct auth *a); /* takes NULL */
/* From now on JWTs of this issuer (auth/issuer.h) are good, too; NULL: none, as at first. Borrowed, outlives the auth.
 * Before other threads know the auth. */
void auth_trust(struct auth *a, struct auth_issuer *issuer);

/* The token behind "Authorization: Bearer TOKEN" (RFC 6750, scheme case-insensitive); .p NULL where the value has
 * another form, or the token is empty or longer than AUTH_TOKEN_MAX_BYTES. */
struct str auth_bearer_token(struct str authorization);

enum auth_answer { AUTH_KNOWN, AUTH_REFUSED, AUTH_ASK };
/* What memory knows of this token: KNOWN: *ret_who is a new reference. REFUSED: remembered as bad (unknown, revoked,
 * expired). ASK: call auth_find() off the loop. Any thread; short mutex. */
enum auth_answer auth_cached(struct auth *a, struct str token, struct auth_principal **ret_who);
/* Asks the store and remembers the answer. Blocks: for libuv's pool and the CLI. ERR_UNAUTHORIZED (one sentence for
 * unknown, revoked and expired alike: an attacker learns nothing); ERR_FORBIDDEN: known, but its user is not active;
 * ERR_STORE_DOWN: nothing is known; ERR_BUSY: nothing yet, as the keys of JWTs are still to come. Compares in constant
 * time. */
MUST_CHECK enum err auth_find(struct auth *a, struct str token, struct auth_principal **ret_who,
                              struct err_info *reterr);
/* Forgets what is remembered if the store has changed since the last time, here or in another process, or has been
 * silent for 30 seconds; blocks: for libuv's pool (auth/watch.h). */
void auth_refresh(struct auth *a);
/* After a change to keys, users or tiers that was made here: the same at once, and tells the others. Blocks. */
void auth_changed(struct auth *a);
/* Who tells them, on the thread that made the change. Before other threads know the auth, or after them; NULL: nobody. */
void auth_on_change(struct auth *a, void (*tell)(void *ctx), void *ctx);
/* Reads the keys of the issuer again, and forgets what is remembered if they have changed; the log tells of both, and of
 * a failure. Blocks: for libuv's pool. */
void auth_refresh_issuer(struct auth *a);

#endif
