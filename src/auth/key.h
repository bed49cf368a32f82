/* API keys. A key is "ww_" and 40 base62 characters (238 bits of randomness), shown once; kept is
 * HMAC-SHA-256(API_SALT, key) only. */
#ifndef WW_AUTH_KEY_H
#define WW_AUTH_KEY_H

#include "auth/auth.h"

enum { AUTH_KEY_TOKEN_BYTES = 44 }; /* with its NUL */

/* Whether `token` has the form of a key; what has another was never one. */
bool auth_key_has_form(struct str token);

/* 1 to 64 characters of A-Z a-z 0-9 . _ -; else ERR_FIELD_INVALID. */
MUST_CHECK enum err auth_key_check_name(struct str name, struct err_info *reterr);

struct auth_key_request {
    struct str user_id;  /* of whom; empty = of nobody */
    struct str name;     /* see auth_key_check_name() */
    struct str tier;     /* one that the store has */
    uint64_t expires_ns; /* wall, 0 = never */
    uint64_t max;        /* of keys of that user that are not revoked; 0 = any number */
};
/* Makes a key: the row that is kept, and the token, which nobody can show again. ERR_FIELD_INVALID names the field
 * and what is allowed; ERR_CONFLICT: the user has a live key of this name, or `max` keys. Blocks. */
MUST_CHECK enum err auth_key_create(struct auth *a, const struct auth_key_request *request,
                                    struct store_key *ret_row, char ret_token[static AUTH_KEY_TOKEN_BYTES],
                                    struct err_info *reterr);

/* The salt: `configured` where it is not empty (ERR_FIELD_INVALID below 16 characters), else the one kept in
 * DATA_DIR/api_salt (mode 0600), made on first use where `may_create`. *ret_salt is malloc'ed. */
MUST_CHECK enum err auth_salt_load(const char *data_dir, const char *configured, bool may_create,
                                   char **ret_salt, struct err_info *reterr);

#endif
