/* Against guessing: attempts are counted for each subject, in the store, so all instances slow down together. The
 * first few are free; after each further one the next has to wait, twice as long as before, up to a ceiling. Nobody
 * sleeps here: who comes too early is told when to come again. */
#ifndef WW_AUTH_THROTTLE_H
#define WW_AUTH_THROTTLE_H

#include "auth/auth.h"

enum auth_throttle {
    AUTH_THROTTLE_ACCOUNT,  /* logging in, by the account's address */
    AUTH_THROTTLE_ADDRESS,  /* logging in, by the client's address */
    AUTH_THROTTLE_REGISTER, /* making accounts, by the client's address */
    AUTH_THROTTLE_COUNT
};

/* Counts an attempt of `subject`. An address of a client counts like for other limits: IPv6 by its /64; an e-mail
 * address without regard to ASCII case. ERR_RATE_LIMITED: it is too early, nothing was counted, and *ret_wait_s are
 * left. Blocks. */
MUST_CHECK enum err auth_throttle_take(struct auth *a, enum auth_throttle which, struct str subject,
                                       uint32_t *ret_wait_s, struct err_info *reterr);
/* The attempt was no guess: it is not counted any more. */
MUST_CHECK enum err auth_throttle_give(struct auth *a, enum auth_throttle which, struct str subject,
                                       struct err_info *reterr);
/* Nor are the earlier ones. */
MUST_CHECK enum err auth_throttle_forget(struct auth *a, enum auth_throttle which, struct str subject,
                                         struct err_info *reterr);

#endif
