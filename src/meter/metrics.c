#include "meter/metrics.h"

#include <inttypes.h>

/* Upper bounds in nanoseconds: from a warm run to the longest that the default limits allow. */
static const uint64_t time_bounds[METRICS_BUCKETS] = {
    10 * NS_PER_US,  50 * NS_PER_US, 100 * NS_PER_US, 500 * NS_PER_US, NS_PER_MS,
    5 * NS_PER_MS,   10 * NS_PER_MS, 50 * NS_PER_MS,  100 * NS_PER_MS, 200 * NS_PER_MS,
    500 * NS_PER_MS, NS_PER_S,       5 * NS_PER_S,    10 * NS_PER_S,
};

/* In bytes: from one page of WebAssembly to more than most servers allow. */
static const uint64_t memory_bounds[METRICS_BUCKETS] = {
    64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1 * MIB,   2 * MIB,   4 * MIB,
    8 * MIB,  16 * MIB,  32 * MIB,  64 * MIB,  128 * MIB, 256 * MIB, 512 * MIB,
};

static void observe(struct metrics_histogram *h, const uint64_t bounds[METRICS_BUCKETS], uint64_t value)
{
    size_t i = 0;
    while (i < METRICS_BUCKETS && value > bounds[i])
        i++;
    metrics_add(&h->buckets[i], 1);
    metrics_add(&h->sum, value);
}

void metrics_observe(struct metrics_histogram *h, uint64_t ns)
{
    observe(h, time_bounds, ns);
}

void metrics_count_run(struct metrics *m, enum cause cause, uint64_t duration_ns, uint64_t cpu_ns,
                       uint64_t stdin_bytes, uint64_t stdout_bytes, uint64_t memory_peak_bytes,
                       uint64_t host_calls)
{
    metrics_add(&m->runs[cause], 1);
    metrics_add(&m->cpu_ns, cpu_ns);
    metrics_add(&m->stdin_bytes, stdin_bytes);
    metrics_add(&m->stdout_bytes, stdout_bytes);
    metrics_add(&m->host_calls, host_calls);
    if (memory_peak_bytes > atomic_load_explicit(&m->memory_peak_max_bytes, memory_order_relaxed))
        atomic_store_explicit(&m->memory_peak_max_bytes, memory_peak_bytes, memory_order_relaxed);
    observe(&m->run_memory, memory_bounds, memory_peak_bytes);
    metrics_observe(&m->run_time, duration_ns);
}

static void put_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_one(struct buf *out, const char *name, const char *type, const char *help, double value)
{
    put_head(out, name, type, help);
    buf_printf(out, "%s %.17g\n", name, value);
}

/* The sum over all loops of the counter at this offset of struct metrics. */
static uint64_t total(const struct metrics *const *loops, size_t count, size_t offset)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)((const char *)loops[i] + offset),
                                    memory_order_relaxed);
    return sum;
}

/* `unit`: what is shown as 1. */
static void put_histogram(struct buf *out, const char *name, const char *help,
                          const struct metrics *const *loops, size_t count, size_t offset,
                          const uint64_t bounds[METRICS_BUCKETS], double unit)
{
    uint64_t sum = 0;
    put_head(out, name, "histogram", help);
    for (size_t i = 0; i <= METRICS_BUCKETS; i++) {
        sum +=
            total(loops, count, offset + offsetof(struct metrics_histogram, buckets) + i * sizeof(uint64_t));
        if (i < METRICS_BUCKETS)
            buf_printf(out, "%s_bucket{le=\"%.9g\"} %llu\n", name, (double)bounds[i] / unit,
                       (unsigned long long)sum);
        else
            buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)sum);
    }
    uint64_t all = total(loops, count, offset + offsetof(struct metrics_histogram, sum));
    buf_printf(out, "%s_sum %.9f\n%s_count %llu\n", name, (double)all / unit, name, (unsigned long long)sum);
}

static void put_times(struct buf *out, const char *name, const char *help, const struct metrics *const *loops,
                      size_t count, size_t offset)
{
    put_histogram(out, name, help, loops, count, offset, time_bounds, 1e9);
}

static void put_limit_hits(struct buf *out, const struct metrics *const *loops, size_t count)
{
    static const char *const names[METRICS_LIMIT_COUNT] = {
        [METRICS_LIMIT_MINUTE] = "minute",           [METRICS_LIMIT_DAY] = "day",
        [METRICS_LIMIT_CONCURRENCY] = "concurrency", [METRICS_LIMIT_REQUESTS] = "requests",
        [METRICS_LIMIT_ADDRESS] = "address",         [METRICS_LIMIT_LOGIN] = "login",
    };
    put_head(out, "wasmwiz_limit_hits_total", "counter", "Requests that were one too many, by the limit.");
    for (size_t i = 0; i < METRICS_LIMIT_COUNT; i++)
        buf_printf(out, "wasmwiz_limit_hits_total{limit=\"%s\"} %llu\n", names[i],
                   (unsigned long long)total(loops, count,
                                             offsetof(struct metrics, limit_hits) + i * sizeof(uint64_t)));
}

/* This process under the names that every Prometheus client uses, then its children. */
static void put_processes(struct buf *out, const struct metrics_gauges *g)
{
    put_one(out, "process_start_time_seconds", "gauge", "Start of the server, in seconds since 1970.",
            (double)g->start_wall_ns / 1e9);
    put_one(out, "process_cpu_seconds_total", "counter", "Processor time of the server's own process.",
            (double)g->front.cpu_ns / 1e9);
    put_one(out, "process_resident_memory_bytes", "gauge", "Resident memory of the server's own process.",
            (double)g->front.resident_bytes);
    put_one(out, "process_virtual_memory_bytes", "gauge", "Address space of the server's own process.",
            (double)g->front.virtual_bytes);
    put_one(out, "process_open_fds", "gauge", "Open descriptors of the server's own process.",
            (double)g->fds);
    put_one(out, "process_max_fds", "gauge", "Descriptors that it may open.", (double)g->fds_max);
    put_one(out, "process_threads", "gauge", "Threads of the server's own process.", g->front.threads);
    put_one(out, "wasmwiz_children_cpu_seconds_total", "counter",
            "Processor time of sandboxes and compilers, ended ones included.",
            (double)g->children_cpu_ns / 1e9);
    put_one(out, "wasmwiz_sandboxes_resident_memory_bytes", "gauge", "Resident memory of all sandboxes.",
            (double)g->sandbox_resident_bytes);
    put_one(out, "wasmwiz_sandboxes_threads", "gauge", "Threads of all sandboxes.",
            (double)g->sandbox_threads);
}

static void put_machine(struct buf *out, const struct metrics_gauges *g)
{
    put_one(out, "wasmwiz_disk_free_bytes", "gauge", "Free space where the data folder is.",
            (double)g->disk.free_bytes);
    put_one(out, "wasmwiz_disk_bytes", "gauge", "Size of the file system where the data folder is.",
            (double)g->disk.bytes);
    put_one(out, "wasmwiz_memory_available_bytes", "gauge", "Memory of the machine that is available.",
            (double)g->memory.free_bytes);
    put_one(out, "wasmwiz_memory_bytes", "gauge", "Memory of the machine.", (double)g->memory.bytes);
}

static void put_services(struct buf *out, const struct metrics_gauges *g)
{
    put_one(out, "wasmwiz_store_connections", "gauge", "Open connections to the database.",
            g->store_connections);
    put_one(out, "wasmwiz_store_connections_in_use", "gauge", "Connections to the database that work now.",
            g->store_connections_in_use);
    put_one(out, "wasmwiz_store_connects_total", "counter", "Connections made to the database.",
            (double)g->store_connects);
    put_one(out, "wasmwiz_store_connect_failures_total", "counter",
            "Connections to the database that could not be made.", (double)g->store_connect_failures);
    put_one(out, "wasmwiz_limits_degraded", "gauge",
            "1 while limits should be shared through Redis and are counted here alone.", g->limits_degraded);
    put_one(out, "wasmwiz_limit_subjects", "gauge", "Keys and addresses that limits are counted for.",
            (double)g->limit_subjects);
    put_one(out, "wasmwiz_limit_evicted_total", "counter",
            "Counters that were dropped for want of room although they still limited somebody.",
            (double)g->limit_evicted);
    put_head(out, "wasmwiz_trace_spans_total", "counter", "Spans for the collector, by what became of them.");
    buf_printf(out, "wasmwiz_trace_spans_total{outcome=\"exported\"} %llu\n",
               (unsigned long long)g->spans_exported);
    buf_printf(out, "wasmwiz_trace_spans_total{outcome=\"dropped\"} %llu\n",
               (unsigned long long)g->spans_dropped);
    put_one(out, "wasmwiz_log_lines_lost_total", "counter", "Lines that the log file did not take.",
            (double)g->log_lines_lost);
}

static void put_usage(struct buf *out, const struct metrics_gauges *g)
{
    const struct usage_stats *u = &g->usage;
    put_one(out, "wasmwiz_usage_rows_written_total", "counter", "Rows of usage that the database took.",
            (double)u->written);
    put_one(out, "wasmwiz_usage_rows_waiting", "gauge", "Runs in the journal that the database has not yet.",
            (double)u->waiting);
    put_one(out, "wasmwiz_usage_rows_lost_total", "counter",
            "Records of the journal that were not whole, or that the database refused for good.",
            (double)(u->torn + u->refused));
    put_one(out, "wasmwiz_usage_write_failures_total", "counter", "Times that the database took no rows.",
            (double)u->failures);
    put_one(out, "wasmwiz_usage_journal_bytes", "gauge", "Files of the usage journal.",
            (double)u->journal_bytes);
    put_one(out, "wasmwiz_api_keys_active", "gauge", "API keys that ran something within the last hour.",
            (double)u->active_keys);
    put_head(out, "wasmwiz_rows_deleted_total", "counter", "Rows deleted because they were too old.");
    for (enum retention_table i = 0; i < RETENTION_COUNT; i++)
        buf_printf(out, "wasmwiz_rows_deleted_total{table=\"%s\"} %llu\n", retention_name(i),
                   (unsigned long long)g->rows_deleted[i]);
}

void metrics_put_text(struct buf *out, const struct metrics *const *loops, size_t count,
                      const struct metrics_gauges *g)
{
#define TOTAL(field) total(loops, count, offsetof(struct metrics, field))
    put_head(out, "wasmwiz_runs_total", "counter", "Finished runs by the cause of their end.");
    for (size_t i = 0; i < CAUSE_COUNT; i++)
        buf_printf(
            out, "wasmwiz_runs_total{cause=\"%s\"} %llu\n", cause_name((enum cause)i),
            (unsigned long long)total(loops, count, offsetof(struct metrics, runs) + i * sizeof(uint64_t)));
    put_head(out, "wasmwiz_errors_total", "counter", "Requests that were refused, by error code.");
    for (size_t i = 1; i < ERR_COUNT; i++)
        buf_printf(
            out, "wasmwiz_errors_total{code=\"%s\"} %llu\n", err_code((enum err)i),
            (unsigned long long)total(loops, count, offsetof(struct metrics, errors) + i * sizeof(uint64_t)));
    put_head(out, "wasmwiz_http_requests_total", "counter",
             "Answered requests by status class; 0xx: the client left.");
    for (size_t i = 0; i < METRICS_STATUS_CLASSES; i++)
        buf_printf(out, "wasmwiz_http_requests_total{class=\"%zuxx\"} %llu\n", i,
                   (unsigned long long)total(loops, count,
                                             offsetof(struct metrics, http_requests) + i * sizeof(uint64_t)));
    put_limit_hits(out, loops, count);
    put_times(out, "wasmwiz_run_seconds", "Wall time of runs.", loops, count,
              offsetof(struct metrics, run_time));
    put_times(out, "wasmwiz_run_queue_seconds", "Time that runs waited for a place in a sandbox.", loops,
              count, offsetof(struct metrics, queue_time));
    put_times(out, "wasmwiz_module_compile_seconds",
              "Time that compiling took, for each run that had to wait for it.", loops, count,
              offsetof(struct metrics, compile_time));
    put_times(out, "wasmwiz_http_request_seconds", "Time from a request's head to its reply.", loops, count,
              offsetof(struct metrics, request_time));
    put_histogram(out, "wasmwiz_run_memory_bytes", "The most memory that each run had.", loops, count,
                  offsetof(struct metrics, run_memory), memory_bounds, 1);
    put_one(out, "wasmwiz_run_cpu_seconds_total", "counter", "Processor time of guests.",
            (double)TOTAL(cpu_ns) / 1e9);
    put_one(out, "wasmwiz_run_stdin_bytes_total", "counter", "Bytes that guests read.",
            (double)TOTAL(stdin_bytes));
    put_one(out, "wasmwiz_run_stdout_bytes_total", "counter", "Bytes that guests wrote.",
            (double)TOTAL(stdout_bytes));
    put_one(out, "wasmwiz_run_host_calls_total", "counter", "Calls of guests into the host.",
            (double)TOTAL(host_calls));
#undef TOTAL
    uint64_t peak = 0;
    for (size_t i = 0; i < count; i++)
        peak = MAX(peak, atomic_load_explicit(&loops[i]->memory_peak_max_bytes, memory_order_relaxed));
    put_one(out, "wasmwiz_run_memory_peak_bytes", "gauge", "Largest memory of one run so far.", (double)peak);
    put_one(out, "wasmwiz_runs_running", "gauge", "Runs in sandboxes now.", g->runs_running);
    put_one(out, "wasmwiz_runs_queued", "gauge", "Runs that wait for a sandbox now.", g->runs_queued);
    put_one(out, "wasmwiz_sandboxes", "gauge", "Sandboxes that serve now.", g->sandboxes);
    put_one(out, "wasmwiz_sandboxes_started_total", "counter", "Sandbox processes started.",
            (double)g->sandboxes_spawned);
    put_one(out, "wasmwiz_sandboxes_died_total", "counter", "Sandbox processes that died.",
            (double)g->sandboxes_died);
    put_head(out, "wasmwiz_ring_messages_total", "counter", "Messages through the rings, by direction.");
    buf_printf(out, "wasmwiz_ring_messages_total{direction=\"to_sandbox\"} %" PRIu64 "\n",
               g->ring_messages_to);
    buf_printf(out, "wasmwiz_ring_messages_total{direction=\"from_sandbox\"} %" PRIu64 "\n",
               g->ring_messages_from);
    put_one(out, "wasmwiz_ring_full_total", "counter", "Times that a message to a sandbox waited for room.",
            (double)g->ring_full);
    put_one(out, "wasmwiz_compiles_total", "counter", "Modules compiled.", (double)g->compiles);
    put_one(out, "wasmwiz_compile_seconds_total", "counter", "Time spent compiling.",
            (double)g->compile_ns / 1e9);
    put_one(out, "wasmwiz_compiling", "gauge", "Modules being compiled or waiting for it.", g->compiling);
    put_head(out, "wasmwiz_module_cache_hits_total", "counter", "Modules found compiled, by place.");
    buf_printf(out, "wasmwiz_module_cache_hits_total{place=\"memory\"} %llu\n",
               (unsigned long long)g->cache_hits_memory);
    buf_printf(out, "wasmwiz_module_cache_hits_total{place=\"disk\"} %llu\n",
               (unsigned long long)g->cache_hits_disk);
    put_one(out, "wasmwiz_modules_refused_total", "counter", "Modules that did not pass their checks.",
            (double)g->modules_refused);
    put_one(out, "wasmwiz_modules_loaded", "gauge", "Modules held in memory.", g->modules_loaded);
    put_one(out, "wasmwiz_cache_bytes", "gauge", "Compiled code on disk.", (double)g->cache_bytes);
    put_one(out, "wasmwiz_connections", "gauge", "Open client connections.", g->connections);
    put_one(out, "wasmwiz_connections_refused_total", "counter",
            "Connections refused because their address had too many.", (double)g->connections_refused);
    put_processes(out, g);
    put_machine(out, g);
    put_services(out, g);
    put_usage(out, g);
}
