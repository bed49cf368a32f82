/* GET /metrics: asks all parts for their figures, on the pool. Open to anybody, or to operators (METRICS_ACCESS). */
#include <sys/resource.h>

#include "api/api.h"
#include "base/log_file.h"
#include "http/server.h"
#include "meter/machine.h"

enum { SANDBOXES_MAX = 256, TEXT_BYTES_MAX = 256 * 1024 };

struct scrape {
    uv_work_t work;
    struct http_exchange *x; /* NULL: the client left */
    const struct api_program *program;
    char *token; /* NULL: none was sent */
    struct err_info failure;
    struct buf body;
};

/* --- figures ------------------------------------------------------------------------------------ */
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

/* --- who asks ----------------------------------------------------------------------------------- */
static bool may_read(struct scrape *s)
{
    struct auth_principal *who = NULL;
    if (!s->program->metrics_for_operators)
        return true;
    if (!s->token)
        err_set(&s->failure, ERR_UNAUTHORIZED, "/metrics wants \"Authorization: Bearer KEY\" here");
    else if (!auth_find(s->program->auth, str_of(s->token), &who, &s->failure) &&
             who->role < STORE_ROLE_OPERATOR)
        err_set(&s->failure, ERR_FORBIDDEN, "/metrics needs an account with the role \"operator\"");
    auth_principal_unref(who);
    return s->failure.code == OK;
}

/* --- the handler -------------------------------------------------------------------------------- */
static void work_scrape(uv_work_t *work)
{
    struct scrape *s = CONTAINER_OF(work, struct scrape, work);
    const struct api_program *p = s->program;
    struct metrics_gauges g = {0};
    if (!may_read(s))
        return;
    add_runs(&g, p);
    add_processes(&g, p);
    add_services(&g, p);
    metrics_put_text(&s->body, (const struct metrics *const *)p->metrics, p->loop_count, &g);
    WW_ASSERT(!s->body.overflow);
}

static void reply_failure(const struct scrape *s)
{
    static const struct http_field fields[] = {{STR_LIT("Content-Type"), STR_LIT("application/json")},
                                               {STR_LIT("WWW-Authenticate"), STR_LIT("Bearer")}};
    struct buf body = buf_make(4096);
    api_put_error(&body, &s->failure, http_request_id(s->x));
    http_reply(s->x, err_status(s->failure.code), fields, s->failure.code == ERR_UNAUTHORIZED ? 2 : 1,
               buf_str(&body));
    buf_done(&body);
}

static void after_scrape(uv_work_t *work, int status)
{
    static const struct http_field type[] = {
        {STR_LIT("Content-Type"), STR_LIT("text/plain; version=0.0.4; charset=utf-8")}};
    struct scrape *s = CONTAINER_OF(work, struct scrape, work);
    (void)status;
    if (s->x) {
        http_exchange_set_data(s->x, NULL);
        if (s->failure.code)
            reply_failure(s);
        else
            http_reply(s->x, 200, type, LENGTH_OF(type), buf_str(&s->body));
    }
    buf_done(&s->body);
    free(s->token);
    free(s);
}

static void on_metrics(struct http_exchange *x)
{
    struct api_context *api = http_exchange_server_data(x);
    struct scrape *s = xcalloc(1, sizeof *s);
    struct str token = auth_bearer_token(http_field(x, "authorization"));
    s->x = x;
    s->program = api->program;
    s->token = token.p ? xstrndup(token.p, token.len) : NULL;
    s->body = buf_make(TEXT_BYTES_MAX);
    http_exchange_set_data(x, s);
    WW_ASSERT(uv_queue_work(http_exchange_loop(x), &s->work, work_scrape, after_scrape) == 0);
}

static void on_gone(struct http_exchange *x)
{
    struct scrape *s = http_exchange_data(x);
    if (s)
        s->x = NULL;
}

const struct http_handler api_metrics_handler = {.head = on_metrics, .gone = on_gone};
