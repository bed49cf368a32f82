/* A key that signatures of JWTs are checked with. It is made for one algorithm and serves no other, whatever a token's
 * header says: so a public key can't be taken for a secret, nor one kind of key for another. */
#ifndef WW_AUTH_JWK_H
#define WW_AUTH_JWK_H

#include <jansson.h>
#include <openssl/types.h>

#include "base/err.h"
#include "base/str.h"

enum auth_jwt_alg { AUTH_HS256, AUTH_RS256, AUTH_ES256, AUTH_JWT_ALG_COUNT };

enum {
    AUTH_SECRET_MIN_BYTES = 32, /* of HS256: RFC 7518, section 3.2 */
    AUTH_KID_MAX_BYTES = 128,
};

struct auth_jwk {
    enum auth_jwt_alg alg;
    char kid[AUTH_KID_MAX_BYTES + 1]; /* "" = it has no name */
    EVP_PKEY *public_key;             /* RS256: RSA of 2048 to 8192 bits; ES256: P-256; HS256: NULL */
    char *secret;                     /* HS256 */
    size_t secret_len;
};

/* "HS256", "RS256", "ES256". */
const char *auth_jwt_alg_name(enum auth_jwt_alg alg);
/* Exactly one of these names, case and all; false for any other, "none" among them. */
bool auth_jwt_alg_parse(struct str name, enum auth_jwt_alg *ret_alg);

/* All three fill *ret_key on OK only; auth_jwk_done() then frees what it holds. FIELD_INVALID: what is wrong. */

/* A copy of the secret, for HS256. */
MUST_CHECK enum err auth_jwk_from_secret(struct str secret, struct auth_jwk *ret_key,
                                         struct err_info *reterr);
/* A PEM text with "BEGIN PUBLIC KEY" (RFC 7468, section 13). */
MUST_CHECK enum err auth_jwk_from_pem(struct str pem, struct auth_jwk *ret_key, struct err_info *reterr);
/* A member of a JWK set (RFC 7517, section 4; RFC 7518, section 6): kty RSA with n and e, or EC with P-256, x and y, for
 * signatures. Secrets ("oct") and private keys have no place in a published set and are refused. */
MUST_CHECK enum err auth_jwk_from_json(const json_t *jwk, struct auth_jwk *ret_key, struct err_info *reterr);
void auth_jwk_done(struct auth_jwk *key); /* fine on zeroes */

/* Whether `signature` (its bytes, not its text) is that of `text` under this key and its algorithm: RFC 7518, sections
 * 3.2 to 3.4. Any thread. */
MUST_CHECK bool auth_jwk_verify(const struct auth_jwk *key, struct str text, struct str signature);

#endif
