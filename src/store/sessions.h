/* Sessions of the browser: a row a cookie, found by the cookie's hash. */
#ifndef WW_STORE_SESSIONS_H
#define WW_STORE_SESSIONS_H

#include "store/store.h"
#include "store/users.h"

enum { STORE_SESSION_HASH_BYTES = 32 };

struct store_session {
    unsigned char id_hash[STORE_SESSION_HASH_BYTES];
    char user_id[STORE_ID_BYTES];
    unsigned char csrf_hash[STORE_SESSION_HASH_BYTES];
    uint64_t created_ns;
    uint64_t expires_ns;
    uint64_t last_seen_ns;
    char address[STORE_ADDRESS_BYTES];
};

/* ERR_CONFLICT: this hash is there already. ERR_FIELD_INVALID: no such user. */
MUST_CHECK enum err store_session_insert(struct store *s, const struct store_session *session,
                                         struct err_info *reterr);
/* The session and its user. ERR_NOT_FOUND: no such hash. An expired one is found: look at it, and at
 * user.active. */
MUST_CHECK enum err store_session_get(struct store *s,
                                      const unsigned char id_hash[static STORE_SESSION_HASH_BYTES],
                                      struct store_session *ret_session, struct store_user *ret_user,
                                      struct err_info *reterr);
/* It was used at `now_ns` and now ends at `expires_ns`; neither goes back. ERR_NOT_FOUND. */
MUST_CHECK enum err store_session_touch(struct store *s,
                                        const unsigned char id_hash[static STORE_SESSION_HASH_BYTES],
                                        uint64_t now_ns, uint64_t expires_ns, struct err_info *reterr);
/* ERR_NOT_FOUND: no such hash. */
MUST_CHECK enum err store_session_delete(struct store *s,
                                         const unsigned char id_hash[static STORE_SESSION_HASH_BYTES],
                                         struct err_info *reterr);
/* All of a user's but `keep` (NULL = none is kept): after a change of the password. */
MUST_CHECK enum err store_session_delete_of_user(struct store *s, const char *user_id,
                                                 const unsigned char *keep, struct err_info *reterr);
/* A user's, newest first; the STORE_PAGE_MAX newest. */
MUST_CHECK enum err store_session_each(struct store *s, const char *user_id,
                                       bool (*each)(void *ctx, const struct store_session *session),
                                       void *ctx, struct err_info *reterr);
/* Deletes up to `limit` that ended before `before_ns`; call again while *ret_deleted == limit. */
MUST_CHECK enum err store_session_prune(struct store *s, uint64_t before_ns, size_t limit,
                                        uint64_t *ret_deleted, struct err_info *reterr);

#endif
