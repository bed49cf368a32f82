/* SQL storage behind one struct of functions. The embedded backend is SQLite in WAL mode, one file under
 * DATA_DIR; functions block, so on a serving loop they are called from libuv's pool only. */
#ifndef WW_STORE_STORE_H
#define WW_STORE_STORE_H

#include "base/err.h"
#include "base/str.h"

enum { STORE_KEY_HASH_BYTES = 32, STORE_KEY_ID_BYTES = 17, STORE_NAME_MAX = 64, STORE_PREFIX_BYTES = 13 };

/* A row of api_keys. Times are wall nanoseconds, 0 = never. */
struct store_key {
    char id[STORE_KEY_ID_BYTES]; /* 16 hexadecimal digits, public */
    char name[STORE_NAME_MAX + 1];
    char prefix[STORE_PREFIX_BYTES]; /* what the list shows of the secret */
    char tier[8];                    /* "free", "basic", "pro" */
    unsigned char hash[STORE_KEY_HASH_BYTES];
    uint64_t created_ns;
    uint64_t expires_ns;
    uint64_t revoked_ns;
};

struct store;

/* Opens `path`, makes the file (mode 0600) and brings its schema up to date. *ret_store is owned by the
 * caller: store_close(). ERR_STORE_DOWN with SQLite's reason. Safe to call from several processes at once. */
MUST_CHECK enum err store_open(const char *path, struct store **ret_store, struct err_info *reterr);
/* Takes NULL. */
void store_close(struct store *s);

/* ERR_CONFLICT: this name is taken by a key that is not revoked. */
MUST_CHECK enum err store_key_insert(struct store *s, const struct store_key *key, struct err_info *reterr);
/* ERR_NOT_FOUND: no such hash. A revoked or expired key is found: look at it. */
MUST_CHECK enum err store_key_by_hash(struct store *s, const unsigned char hash[static STORE_KEY_HASH_BYTES],
                                      struct store_key *ret_key, struct err_info *reterr);
/* Sets revoked_ns = `now_ns` on the key with this id or name. ERR_NOT_FOUND: none that is live. */
MUST_CHECK enum err store_key_revoke(struct store *s, struct str id_or_name, uint64_t now_ns,
                                     struct err_info *reterr);
/* Calls `each` for every key, newest first; false from it ends the walk. `each` must not call the store. */
MUST_CHECK enum err store_key_each(struct store *s, bool (*each)(void *ctx, const struct store_key *key),
                                   void *ctx, struct err_info *reterr);
/* A number that changes whenever another connection has committed (SQLite: PRAGMA data_version), or this one has
 * changed something. Only differences of numbers from the same store mean anything. */
MUST_CHECK enum err store_version(struct store *s, uint64_t *ret_version, struct err_info *reterr);
/* OK when the database answers. */
MUST_CHECK enum err store_ping(struct store *s, struct err_info *reterr);

#endif
