/* Passwords: Argon2id (RFC 9106) through libsodium. A hash takes 64 MiB and tens of milliseconds, so only a few are
 * made at once and a few more wait; whoever comes then is told to come again. So logins can eat neither the memory nor
 * libuv's pool. All of it blocks. */
#ifndef WW_AUTH_PASSWORD_H
#define WW_AUTH_PASSWORD_H

#include "base/err.h"
#include "base/str.h"
#include "store/users.h"

enum {
    AUTH_PASSWORD_MIN_BYTES = 10,
    AUTH_PASSWORD_MAX_BYTES = 256,
    AUTH_HASHES_AT_ONCE = 2,
    AUTH_HASHES_WAITING = 4, /* threads of libuv's pool that may stand in line here */
};

/* ERR_FIELD_INVALID: too short or too long; the sentence names `field`. */
MUST_CHECK enum err auth_password_check(const char *field, struct str password, struct err_info *reterr);
/* What is kept: parameters, salt and hash in one text. ERR_BUSY: too many at once; ERR_INTERNAL: no memory. */
MUST_CHECK enum err auth_password_hash(struct str password, char ret_hash[static STORE_PASSWORD_HASH_BYTES],
                                       struct err_info *reterr);
/* Whether this is the password. `hash` NULL: there is no such account; this takes as long and is never right.
 * *ret_outdated: right, but hashed with other parameters than today's. ERR_BUSY, as above. */
MUST_CHECK enum err auth_password_verify(struct str password, const char *hash, bool *ret_right,
                                         bool *ret_outdated, struct err_info *reterr);

#endif
