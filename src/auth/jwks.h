/* The keys that JWTs may be signed with. A set is put together by one thread and then only read, so it may be shared by
 * reference; a change makes a new set. */
#ifndef WW_AUTH_JWKS_H
#define WW_AUTH_JWKS_H

#include "auth/jwk.h"

enum { AUTH_JWKS_BYTES_MAX = 64 * 1024, AUTH_JWKS_KEYS_MAX = 64 };

struct auth_jwks;

/* An empty one, with one reference. */
struct auth_jwks *auth_jwks_new(void);
struct auth_jwks *auth_jwks_ref(struct auth_jwks *set);
void auth_jwks_unref(struct auth_jwks *set);   /* takes NULL */
void auth_jwks_unrefp(struct auth_jwks **set); /* for CLEANUP */

/* Takes over what *key holds. FIELD_INVALID, and *key is freed: there is one of this algorithm and kid already, so which
 * is meant could not be said; or the set is full. */
MUST_CHECK enum err auth_jwks_add(struct auth_jwks *set, struct auth_jwk *key, struct err_info *reterr);
/* Adds the keys of a JWK set (RFC 7517, section 5). Those that can't serve are passed over, as that section wants;
 * FIELD_INVALID: it is no such set, it is longer than AUTH_JWKS_BYTES_MAX, has more than AUTH_JWKS_KEYS_MAX, or none
 * that can serve: the sentence then tells about the first. */
MUST_CHECK enum err auth_jwks_add_json(struct auth_jwks *set, struct str text, struct err_info *reterr);
size_t auth_jwks_count(const struct auth_jwks *set);

/* The key for a token: the one of that algorithm and `kid`. Where there is none, or the token names none (.len 0), the
 * only key of that algorithm, unless both have a kid. NULL: none. */
const struct auth_jwk *auth_jwks_find(const struct auth_jwks *set, enum auth_jwt_alg alg, struct str kid);

#endif
