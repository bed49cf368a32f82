/* GET /metrics: asks all parts for their figures. */
#include <sys/resource.h>

#include "api/call.h"
#include "base/log_file.h"
#include "http/server.h"
#include "meter/machine.h"

enum { SANDBOXES_MAX = 256 };

static void add_runs(struct metrics_gauges *g, const struct api_program *p)
{
    struct exec_stats e = executor_stats(p->executor);
    struct modules_stats m = modules_stats(p->modules);
    g->runs_running = e.running;
    g->runs_queued = e.queued;
    g->sandboxes = e.sandboxes_ready;
    g->sandboxes_spawned = e.spawned;
    g->sandboxes_died = e.crashes;
    g->ring_messages_to = e.messages_to;
    g->ring_messages_from = e.messages_from;
    g->ring_full = e.ring_full;
    g->compiles = m.compiled;
    g->compile_ns = m.compile_ns;
    g->cache_hits_memory = m.hits_memory;
    g->cache_hits_disk = m.hits_disk;
    g->modules_refused = m.refused;
    g->cache_bytes = m.cache_bytes;
    g->modules_loaded = m.loaded;
    g->compiling = m.compiling;
    for (uint32_t i = 0; i < p->loop_count; i++)
        g->connections += http_server_connections(p->contexts[i]->server);
    g->connections_refused = http_peers_refused(p->peers);
}

static void add_processes(struct metrics_gauges *g, const struct api_program *p)
{
    int pids[SANDBOXES_MAX];
    struct rlimit fds = {0};
    struct machine_process one;
    size_t count = executor_pids(p->executor, pids, LENGTH_OF(pids));
    g->start_wall_ns = p->start_wall_ns;
    (void)machine_read_process(0, &g->front);
    g->fds = machine_count_fds();
    getrlimit(RLIMIT_NOFILE, &fds);
    g->fds_max = fds.rlim_cur;
    g->children_cpu_ns = machine_ended_children_cpu_ns();
    for (size_t i = 0; i < count; i++)
        if (machine_read_process(pids[i], &one)) {
            g->sandbox_resident_bytes += one.resident_bytes;
            g->sandbox_threads += one.threads;
            g->children_cpu_ns += one.cpu_ns;
        }
    g->disk = machine_disk(p->data_dir);
    g->memory = machine_memory();
}

static void add_services(struct metrics_gauges *g, const struct api_program *p)
{
    struct store_stats s = store_stats(p->store);
    struct kv_health kv = kv_health(p->kv);
    struct trace_stats t = tracer_stats(p->tracer);
    g->store_connections = s.connections;
    g->store_connections_in_use = s.connections_in_use;
    g->store_connects = s.connects;
    g->store_connect_failures = s.connect_failures;
    g->limits_degraded = kv.degraded;
    g->limit_subjects = kv.subjects;
    g->limit_evicted = kv.evicted_live;
    g->spans_exported = t.exported;
    g->spans_dropped = t.dropped;
    g->log_lines_lost = log_file_lost();
    if (p->usage)
        g->usage = usage_stats(p->usage);
    for (enum retention_table i = 0; i < RETENTION_COUNT; i++)
        g->rows_deleted[i] = atomic_load(&p->retention->deleted[i]);
}

enum err api_metrics(struct api_call *call, struct err_info *reterr)
{
    const struct api_program *p = call->program;
    struct metrics_gauges g = {0};
    (void)reterr;
    add_runs(&g, p);
    add_processes(&g, p);
    add_services(&g, p);
    call->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_put_text(&call->out, (const struct metrics *const *)p->metrics, p->loop_count, &g);
    return OK;
}
