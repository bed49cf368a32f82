/* Whose JWTs are taken: the rules, and the keys with the places that they come from. A secret is given once; a public key
 * in a PEM file and a JWK set, a file or an address, are read again from time to time, and by the first token that
 * names a key which is not there. When reading fails, the keys of before stay. */
#ifndef WW_AUTH_ISSUER_H
#define WW_AUTH_ISSUER_H

#include "auth/jwt.h"
#include "base/buf.h"

/* GETs `url` and appends the body of a 200 to `body`, whose maximum bounds it. Blocks. */
typedef enum err auth_fetch(const char *url, struct buf *body, struct err_info *reterr);

struct auth_issuer_config {
    const char *secret;     /* of HS256; "" = none */
    const char *public_key; /* path of a PEM file; "" = none */
    const char *jwks;       /* path of a file, or a URL; "" = none */
    struct auth_jwt_rules rules;
    auth_fetch *fetch; /* for a URL */
};

struct auth_issuer;

/* Whether `jwks` is meant as a URL and not as a path: it begins with http:// or https://. */
bool auth_jwks_is_url(const char *jwks);
/* Whether keys from there can be believed: https, or http to this very machine (localhost, 127.0.0.0/8, [::1]), which
 * nobody else can listen in on; without a user or a password in it. */
bool auth_jwks_url_is_safe(const char *url);

/* Reads all but a URL, which is for auth_issuer_refresh(). The strings are lent for as long as the issuer lives.
 * FIELD_INVALID names the setting whose value can't be used. */
MUST_CHECK enum err auth_issuer_new(const struct auth_issuer_config *config, struct auth_issuer **ret_issuer,
                                    struct err_info *reterr);
void auth_issuer_free(struct auth_issuer *i); /* takes NULL */

/* auth_jwt_check() with the keys of now. Any thread. */
MUST_CHECK enum err auth_issuer_check(struct auth_issuer *i, struct str token,
                                      struct auth_jwt_claims *ret_claims, struct err_info *reterr);
/* Reads all keys again; *ret_changed: they are others than before. Blocks; one at a time, further ones wait. */
MUST_CHECK enum err auth_issuer_refresh(struct auth_issuer *i, bool *ret_changed, struct err_info *reterr);
/* Whether a token that needs an unknown key may have them read again: true once in 30 seconds, whatever is sent. */
bool auth_issuer_may_refresh(struct auth_issuer *i);
/* Whether nothing can be said about such a token yet: the keys of a URL are being read, or never were. */
bool auth_issuer_is_waiting(struct auth_issuer *i);
enum auth_jwt_subject auth_issuer_subject(const struct auth_issuer *i);

#endif
