/* Usage: a row a run in usage_logs, and the same added up per key, UTC day, cause and user in usage_daily. * Adding
 * rows adds them up in the same transaction, so the two agree at every moment, and rows that come again (from
 * a journal, after a crash) change nothing: a row is known by its time and id. Dropping old rows leaves the
 * days. Rows must not come again after they were dropped. */
#ifndef WW_STORE_USAGE_H
#define WW_STORE_USAGE_H

#include "base/cause.h"
#include "store/store.h"

enum { STORE_RUN_ID_BYTES = 33, STORE_SHA_BYTES = 32, STORE_ERROR_BYTES = 257 };

struct store_usage {
    uint64_t time_ns;                          /* when it ended */
    char id[STORE_RUN_ID_BYTES];               /* of the run */
    char key_id[STORE_ID_BYTES];               /* "" = without a key */
    char user_id[STORE_ID_BYTES];              /* "" = of nobody */
    unsigned char module_sha[STORE_SHA_BYTES]; /* zeroes = no module */
    uint64_t duration_us;
    uint64_t cpu_us;
    uint64_t memory_peak_bytes;
    enum cause cause;              /* success = CAUSE_OK */
    uint32_t status;               /* of the HTTP reply */
    char error[STORE_ERROR_BYTES]; /* "" = none; not UTF-8: kept with '?' in place of the wrong bytes */
    uint64_t wasm_bytes;
    uint64_t input_bytes;
    uint64_t output_bytes;
    /* The receipt's, besides. */
    uint64_t exit_code, queue_us, compile_us, fuel, stderr_bytes, host_calls;
};

/* Adds rows, in transactions of at most 4000; on an error those before may be in: give all of them again.
 * *ret_added (may be NULL) counts those that were new. */
MUST_CHECK enum err store_usage_add(struct store *s, const struct store_usage *rows, size_t count,
                                    uint64_t *ret_added, struct err_info *reterr);

/* Which rows. At most one of key_id and user_id is looked at: the key's where both are given. */
struct store_usage_filter {
    uint64_t from_ns;   /* including */
    uint64_t to_ns;     /* excluding; 0 = no end */
    const char *key_id; /* NULL = any, as the next */
    const char *user_id;
};

/* Rows, newest first; *cursor moves to the last one given. May come from the replica, as all that reads
 * here. */
MUST_CHECK enum err store_usage_page(struct store *s, const struct store_usage_filter *filter,
                                     struct store_cursor *cursor, size_t limit,
                                     bool (*each)(void *ctx, const struct store_usage *row), void *ctx,
                                     struct err_info *reterr);

enum store_usage_group {
    STORE_USAGE_BY_KEY,
    STORE_USAGE_BY_DAY,
    STORE_USAGE_BY_CAUSE,
    STORE_USAGE_BY_MODULE
};

/* One of these is what the group is of; the others are empty. */
struct store_usage_total {
    char key_id[STORE_ID_BYTES];
    uint64_t day; /* since 1970, UTC */
    enum cause cause;
    unsigned char module_sha[STORE_SHA_BYTES];
    uint64_t runs;
    uint64_t duration_us;
    uint64_t cpu_us;
    uint64_t memory_peak_bytes; /* the largest */
    uint64_t wasm_bytes;
    uint64_t input_bytes;
    uint64_t output_bytes;
};

/* Totals, those with most runs first (days: the newest first), at most `limit` groups. Keys, days and causes
 * are taken from usage_daily: whole days, the ones that from_ns and to_ns - 1 fall in included. Modules are
 * taken from the rows: exact to the nanosecond, but not older than the rows are kept. */
MUST_CHECK enum err store_usage_totals(struct store *s, enum store_usage_group by,
                                       const struct store_usage_filter *filter, size_t limit,
                                       bool (*each)(void *ctx, const struct store_usage_total *total),
                                       void *ctx, struct err_info *reterr);

/* Deletes up to `limit` rows older than `before_ns`, the oldest first; call again while *ret_deleted ==
 * limit. */
MUST_CHECK enum err store_usage_prune(struct store *s, uint64_t before_ns, size_t limit,
                                      uint64_t *ret_deleted, struct err_info *reterr);

#endif
