/* Accounts: making them, logging in, changing them. What happens is told by auth_event(); changes are in force in this
 * process when a function returns, elsewhere within a second. All functions block: for libuv's pool and the CLI. */
#ifndef WW_AUTH_USER_H
#define WW_AUTH_USER_H

#include "auth/key.h"
#include "auth/session.h"

enum { AUTH_EMAIL_MAX_BYTES = STORE_EMAIL_BYTES - 1, AUTH_KEYS_MAX = 50 };

/* Who does it, for the audit trail. Lent for the call. */
struct auth_actor {
    const char *id;         /* a user's or key's; "" = nobody yet, or the command line */
    const char *address;    /* the client's; "" = none */
    const char *request_id; /* for the log alone; "" = none */
};

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
                                     const struct auth_actor *actor, struct store_user *ret_user,
                                     char ret_token[static AUTH_KEY_TOKEN_BYTES], struct err_info *reterr);

/* What people do for themselves. Of `client` its id is of no matter: who it is turns out here. What has to wait is told
 * in *ret_wait_s (seconds), with ERR_RATE_LIMITED. */

/* A person makes an account: a user of the tier "free". `first_is_admin`: the very first account gets that role.
 * Errors as above. */
MUST_CHECK enum err auth_user_register(struct auth *a, struct str email, struct str password,
                                       bool first_is_admin, const struct auth_actor *client,
                                       struct store_user *ret_user,
                                       char ret_token[static AUTH_KEY_TOKEN_BYTES], uint32_t *ret_wait_s,
                                       struct err_info *reterr);
/* Checks address and password. ERR_UNAUTHORIZED: one of them is wrong, and neither the sentence nor the time tells
 * which; ERR_FORBIDDEN: right, but the account is not active. */
MUST_CHECK enum err auth_user_login(struct auth *a, struct str email, struct str password,
                                    const struct auth_actor *client, struct store_user *ret_user,
                                    uint32_t *ret_wait_s, struct err_info *reterr);
/* A person changes the own password; all sessions end but `keep` (an id; NULL = none). ERR_FORBIDDEN: `current` is
 * wrong. */
MUST_CHECK enum err auth_user_change_password(struct auth *a, const char *user_id, struct str current,
                                              struct str password, const char *keep,
                                              const struct auth_actor *client, uint32_t *ret_wait_s,
                                              struct err_info *reterr);

/* What an administrator changes; NULL, and .p NULL = as it is. */
struct auth_user_change {
    const enum store_role *role;
    const char *tier;
    const bool *active;
    struct str password; /* a new one */
};
/* Sessions end where the password changes or the account is deactivated. ERR_NOT_FOUND; ERR_FIELD_INVALID;
 * ERR_CONFLICT: no active administrator would be left. */
MUST_CHECK enum err auth_user_change(struct auth *a, const char *user_id,
                                     const struct auth_user_change *change, const struct auth_actor *actor,
                                     struct err_info *reterr);
/* With keys and sessions. ERR_NOT_FOUND, ERR_CONFLICT as above. */
MUST_CHECK enum err auth_user_delete(struct auth *a, const char *user_id, const struct auth_actor *actor,
                                     struct err_info *reterr);

#endif
