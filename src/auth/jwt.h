/* JSON Web Tokens (RFC 7519) as compact JWS (RFC 7515), checked as RFC 8725 advises. A pure function of the token, the
 * keys, the rules and the time; whose account it means is asked elsewhere (auth.c).
 *
 * The order is: form, header, key, signature; nothing of the payload is parsed before the signature was found good. */
#ifndef WW_AUTH_JWT_H
#define WW_AUTH_JWT_H

#include "auth/jwks.h"

enum { AUTH_SUBJECT_BYTES = 256 };

/* Which claim names the account, and by what. */
enum auth_jwt_subject {
    AUTH_SUBJECT_ID,          /* "sub" is its id */
    AUTH_SUBJECT_EMAIL,       /* "sub" is its e-mail address */
    AUTH_SUBJECT_EMAIL_CLAIM, /* "email" is its address, and "email_verified" is true */
};

struct auth_jwt_rules {
    const char *issuer;   /* "" = any */
    const char *audience; /* "" = any */
    enum auth_jwt_subject subject;
    uint64_t leeway_ns;  /* that clocks may differ; up to 10 minutes */
    uint64_t max_age_ns; /* from "iat" on, which is then required; 0 = until "exp" */
};

struct auth_jwt_claims {
    char subject[AUTH_SUBJECT_BYTES]; /* 1 byte at least; UTF-8 */
    uint64_t expires_ns;              /* wall, leeway and maximum age included */
};

/* Three parts with points between them, each of at least one character of base64url. */
bool auth_jwt_has_form(struct str token);

/* `now_ns`: wall. UNAUTHORIZED: it is refused; the sentence is for the operator's log and holds nothing of the token.
 * NOT_FOUND: the same, but a key that is not in `keys` could have signed it. */
MUST_CHECK enum err auth_jwt_check(const struct auth_jwks *keys, const struct auth_jwt_rules *rules,
                                   struct str token, uint64_t now_ns, struct auth_jwt_claims *ret_claims,
                                   struct err_info *reterr);

#endif
