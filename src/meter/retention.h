/* What is old is deleted: rows of usage (their sums a day stay), events of the audit log, sessions that ended. Deliveries
 * of webhooks are src/webhook/'s. Once an interval, beginning within the first minute, with some jitter, so that several
 * instances do not all begin at once; where they do, nothing goes wrong. In small batches with pauses, on libuv's pool, so
 * that nobody waits for it. */
#ifndef WW_METER_RETENTION_H
#define WW_METER_RETENTION_H

#include <stdatomic.h>
#include <uv.h>

#include "store/store.h"

#define RETENTION_TABLES(TABLE) TABLE(usage) TABLE(audit) TABLE(sessions)

enum retention_table {
#define TABLE(name) RETENTION_##name,
    RETENTION_TABLES(TABLE)
#undef TABLE
        RETENTION_COUNT
};

struct retention_config {
    struct store *store;         /* borrowed */
    uint64_t usage_ns, audit_ns; /* how long rows are kept */
    uint64_t interval_ns;
};

struct retention {
    struct retention_config config;
    uv_timer_t timer;
    uv_work_t work;
    bool closing;
    enum retention_table at; /* of this round */
    uint64_t round[RETENTION_COUNT];
    enum err result; /* of the last batch */
    struct err_info info;
    uint64_t batch;
    _Atomic uint64_t deleted[RETENTION_COUNT]; /* since the start; any thread may read */
};

/* On the thread of `loop`, or before it runs; `r` stays in place until the loop has ended. */
void retention_start(struct retention *r, uv_loop_t *loop, const struct retention_config *config);
/* Lets the loop end. */
void retention_stop(struct retention *r);

/* One batch of one table: deletes up to `limit` rows that are too old at the wall time `now_ns`. Blocks. */
MUST_CHECK enum err retention_batch(const struct retention_config *config, enum retention_table table,
                                    uint64_t now_ns, size_t limit, uint64_t *ret_deleted,
                                    struct err_info *reterr);
/* "usage", "audit", ... */
const char *retention_name(enum retention_table table);

#endif
