/* Accounts: making them, logging in, passwords. All functions block: for libuv's pool and the CLI. */
#ifndef WW_AUTH_USER_H
#define WW_AUTH_USER_H

#include "auth/key.h"

enum auth_user_when {
    AUTH_USER_ANY_TIME,
    AUTH_USER_FIRST, /* only while there is no account at all */
};

struct auth_user_request {
    struct str email;    /* 3 to 254 printable ASCII characters without blanks, with one @ inside */
    struct str password; /* 10 to 256 bytes */
    enum store_role role;
    struct str tier; /* one that the store has; empty: "free" */
    enum auth_user_when when;
};

/* Makes an account and its first API key, named "default", whose token nobody can show again. ERR_FIELD_INVALID names
 * the field; ERR_CONFLICT: the address is taken, or (AUTH_USER_FIRST) there is an account; ERR_BUSY: too many passwords
 * are being hashed. */
MUST_CHECK enum err auth_user_create(struct auth *a, const struct auth_user_request *request,
                                     struct store_user *ret_user, char ret_token[static AUTH_KEY_TOKEN_BYTES],
                                     struct err_info *reterr);

#endif
