/* Counters and histograms. Each of the front's loops adds to its own `struct metrics`, so that counting costs no
 * shared cache line; a scrape sums them. */
#ifndef WW_METER_METRICS_H
#define WW_METER_METRICS_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/cause.h"
#include "base/err.h"
#include "meter/machine.h"
#include "meter/retention.h"
#include "meter/usage.h"

enum { METRICS_BUCKETS = 14, METRICS_STATUS_CLASSES = 6 };

/* What refused a request for being one too many. */
enum metrics_limit {
    METRICS_LIMIT_MINUTE, /* executions: of a key's tier */
    METRICS_LIMIT_DAY,
    METRICS_LIMIT_CONCURRENCY,
    METRICS_LIMIT_REQUESTS, /* all else: of a key, of a client address */
    METRICS_LIMIT_ADDRESS,
    METRICS_LIMIT_LOGIN, /* attempts that could be guesses, of an account or an address */
    METRICS_LIMIT_COUNT
};

struct metrics_histogram {
    _Atomic uint64_t buckets[METRICS_BUCKETS + 1];
    _Atomic uint64_t sum;
};

struct metrics {
    _Atomic uint64_t runs[CAUSE_COUNT];
    _Atomic uint64_t errors[ERR_COUNT];                     /* requests refused, by code */
    _Atomic uint64_t http_requests[METRICS_STATUS_CLASSES]; /* by status / 100 */
    _Atomic uint64_t limit_hits[METRICS_LIMIT_COUNT];
    _Atomic uint64_t cpu_ns, stdin_bytes, stdout_bytes, memory_peak_max_bytes, host_calls;
    struct metrics_histogram run_time;
    struct metrics_histogram queue_time;
    struct metrics_histogram compile_time; /* as one waits for it who brought the module */
    struct metrics_histogram request_time;
    struct metrics_histogram run_memory; /* peaks in bytes */
};

/* Figures of the moment that others keep. */
struct metrics_gauges {
    uint32_t runs_running, runs_queued, sandboxes, connections;
    uint64_t connections_refused;
    uint64_t sandboxes_spawned, sandboxes_died;
    uint64_t ring_messages_to, ring_messages_from, ring_full;
    uint64_t compiles, compile_ns, cache_hits_memory, cache_hits_disk, modules_refused, cache_bytes;
    uint32_t modules_loaded, compiling;
    uint64_t start_wall_ns;
    struct machine_process front;
    uint64_t fds, fds_max;
    uint64_t children_cpu_ns; /* of sandboxes and compilers, ended ones too */
    uint64_t sandbox_resident_bytes, sandbox_threads;
    struct machine_room disk, memory;
    uint32_t store_connections, store_connections_in_use;
    uint64_t store_connects, store_connect_failures;
    bool limits_degraded;
    uint64_t limit_subjects, limit_evicted;
    uint64_t spans_exported, spans_dropped, log_lines_lost;
    struct usage_stats usage;
    uint64_t rows_deleted[RETENTION_COUNT];
};

static inline void metrics_add(_Atomic uint64_t *counter, uint64_t n)
{
    /* One writer: a plain add that a reader may see at any time. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
/* Into a histogram of times. */
void metrics_observe(struct metrics_histogram *h, uint64_t ns);
/* A finished run. */
void metrics_count_run(struct metrics *m, enum cause cause, uint64_t duration_ns, uint64_t cpu_ns,
                       uint64_t stdin_bytes, uint64_t stdout_bytes, uint64_t memory_peak_bytes,
                       uint64_t host_calls);

/* Appends all in the Prometheus text format (version 0.0.4). */
void metrics_put_text(struct buf *out, const struct metrics *const *loops, size_t count,
                      const struct metrics_gauges *gauges);

#endif
