/* Attempts to log in, counted by subject, so that guessing slows down in all instances at once. What a count means
 * is the caller's matter. */
#ifndef WW_STORE_LOGINS_H
#define WW_STORE_LOGINS_H

#include "store/store.h"

enum { STORE_LOGIN_SUBJECT_BYTES = 33 }; /* 1 to 32 characters and a NUL */

struct store_login {
    uint64_t attempts;
    uint64_t last_ns; /* the last one's time */
};

/* Zeroes for a subject that is not there. */
MUST_CHECK enum err store_login_get(struct store *s, const char *subject, struct store_login *ret_login,
                                    struct err_info *reterr);
/* Puts `login` in place of `seen`. ERR_CONFLICT: it does not stand like that any more, so another was quicker. */
MUST_CHECK enum err store_login_put(struct store *s, const char *subject, const struct store_login *seen,
                                    const struct store_login *login, struct err_info *reterr);
/* One attempt less; fine where there is none. */
MUST_CHECK enum err store_login_give(struct store *s, const char *subject, struct err_info *reterr);
/* Fine where there is none. */
MUST_CHECK enum err store_login_forget(struct store *s, const char *subject, struct err_info *reterr);
/* Deletes up to `limit` whose last attempt was before `before_ns`; call again while *ret_deleted == limit. */
MUST_CHECK enum err store_login_prune(struct store *s, uint64_t before_ns, size_t limit,
                                      uint64_t *ret_deleted, struct err_info *reterr);

#endif
