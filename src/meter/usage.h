/* Usage: a row of the database for each run, off the way of the request. A run is put into the journal (journal.h) on its
 * loop, before the caller hears of it; every 200 ms, or when 2000 have come, a thread of libuv's pool gives what waits to
 * the database, which takes a row once however often it comes. While the database is silent runs wait in the journal; when
 * that is full, usage_reserve() says no and executions are refused.
 *
 * The writer also tells the database when each key was last used, at most once a minute a key, and counts the keys that
 * were used within the last hour. */
#ifndef WW_METER_USAGE_H
#define WW_METER_USAGE_H

#include "base/loop.h"
#include "meter/segment.h"
#include "store/store.h"

struct usage;
struct usage_loop;

struct usage_config {
    struct store *store; /* borrowed, outlives it */
    const char *folder;  /* of the journal; exists */
    uint64_t journal_bytes_max;
    uint32_t loops;
};

/* Blocks. What an earlier process left is written once the loops run. ERR_DISK_FAULT. */
MUST_CHECK enum err usage_open(const struct usage_config *config, struct usage **ret_usage,
                               struct err_info *reterr);
/* After the loops have ended: writes what waits until `deadline_ns` (monotonic) or until the database fails; the rest stays
 * in the journal for the next process. Blocks. Takes NULL. */
void usage_close(struct usage *u, uint64_t deadline_ns);

/* The part of this loop; on its thread, as all of the next. It belongs to the usage. */
struct usage_loop *usage_attach(struct usage *u, struct loop *loop);
/* Lets the loop end. Nothing may be reserved. */
void usage_detach(struct usage_loop *ul);

/* Takes room for one run; false: the journal is full, and the run must not begin. */
bool usage_reserve(struct usage_loop *ul);
/* Gives it back: the run makes no row. */
void usage_release(struct usage_loop *ul);
/* Keeps the run in the room that was reserved for it; when this returns, it survives the death of the process. */
void usage_record(struct usage_loop *ul, const struct usage_run *run);

struct usage_stats {
    uint64_t written, waiting, torn; /* runs */
    uint64_t failures;               /* of the database, when it was given rows */
    uint64_t refused;                /* rows that the database will never take; they are left out */
    uint64_t journal_bytes;
    uint64_t active_keys; /* used within the last hour, as far as they are remembered */
};
/* Any thread. */
struct usage_stats usage_stats(struct usage *u);

#endif
