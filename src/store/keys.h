/* Rows of api_keys. The key itself is never here, only its HMAC. */
#ifndef WW_STORE_KEYS_H
#define WW_STORE_KEYS_H

#include "store/store.h"
#include "store/users.h"

enum {
    STORE_KEY_HASH_BYTES = 32,
    STORE_KEY_ID_BYTES = STORE_ID_BYTES,
    STORE_NAME_MAX = 64,
    STORE_PREFIX_BYTES = 13
};

struct store_key {
    char id[STORE_KEY_ID_BYTES]; /* public */
    char name[STORE_NAME_MAX + 1];
    char prefix[STORE_PREFIX_BYTES]; /* what the list shows of the secret */
    char tier[STORE_TIER_BYTES];
    unsigned char hash[STORE_KEY_HASH_BYTES];
    uint64_t created_ns;
    uint64_t expires_ns;
    uint64_t revoked_ns;
    char user_id[STORE_ID_BYTES]; /* "" = of nobody: made by `wasmwiz keys` */
    uint64_t last_used_ns;
};

/* ERR_CONFLICT: this name is taken by a key of the same user that is not revoked. ERR_FIELD_INVALID: no such
 * tier or user. */
MUST_CHECK enum err store_key_insert(struct store *s, const struct store_key *key, struct err_info *reterr);
/* The same, for a key of a user that has fewer than `max` keys which are not revoked; ERR_CONFLICT says so, too. */
MUST_CHECK enum err store_key_insert_within(struct store *s, const struct store_key *key, uint64_t max,
                                            struct err_info *reterr);
/* ERR_NOT_FOUND: no such hash. A revoked or expired key is found: look at it. */
MUST_CHECK enum err store_key_by_hash(struct store *s, const unsigned char hash[static STORE_KEY_HASH_BYTES],
                                      struct store_key *ret_key, struct err_info *reterr);
/* The same, with its user in the same question; ret_user->id is "" for a key of nobody. */
MUST_CHECK enum err store_key_and_user_by_hash(struct store *s,
                                               const unsigned char hash[static STORE_KEY_HASH_BYTES],
                                               struct store_key *ret_key, struct store_user *ret_user,
                                               struct err_info *reterr);
MUST_CHECK enum err store_key_by_id(struct store *s, const char *id, struct store_key *ret_key,
                                    struct err_info *reterr);
/* Sets revoked_ns = `now_ns` on the key with this id, or with this name and no user. ERR_NOT_FOUND: none that
 * is live. */
MUST_CHECK enum err store_key_revoke(struct store *s, struct str id_or_name, uint64_t now_ns,
                                     struct err_info *reterr);
/* What store_key_change() is to change; NULL = as it is. */
struct store_key_change {
    const char *name;
    const char *tier;
    const uint64_t *expires_ns;
};
/* On a key that is not revoked; ERR_NOT_FOUND, else as store_key_insert(). */
MUST_CHECK enum err store_key_change(struct store *s, const char *id, const struct store_key_change *change,
                                     struct err_info *reterr);
MUST_CHECK enum err store_key_delete(struct store *s, const char *id, struct err_info *reterr);

struct store_key_use {
    char id[STORE_KEY_ID_BYTES];
    uint64_t time_ns;
};
/* Moves last_used_ns forward, for many keys at once; ids that are unknown are passed over. store_version()
 * does not change. */
MUST_CHECK enum err store_key_touch(struct store *s, const struct store_key_use *uses, size_t count,
                                    struct err_info *reterr);

typedef bool store_key_each_fn(void *ctx, const struct store_key *key);
/* A page, newest first; of the user `user_id`, NULL = all. *cursor moves to the last row given. */
MUST_CHECK enum err store_key_page(struct store *s, const char *user_id, struct store_cursor *cursor,
                                   size_t limit, store_key_each_fn *each, void *ctx, struct err_info *reterr);
/* All, newest first, page after page. */
MUST_CHECK enum err store_key_each(struct store *s, store_key_each_fn *each, void *ctx,
                                   struct err_info *reterr);

#endif
