/* Health and metrics. */
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/json.h"
#include "http/server.h"

enum { DISK_LOW_BYTES = 64 * 1024 * 1024, MEMORY_LOW_BYTES = 64 * 1024 * 1024 };

static const struct http_field json_type[] = {{STR_LIT("Content-Type"), STR_LIT("application/json")}};
static const struct http_field text_type[] = {
    {STR_LIT("Content-Type"), STR_LIT("text/plain; version=0.0.4")}};

/* --- live and ready ----------------------------------------------------------------------------- */
static void on_live(struct http_exchange *x)
{
    http_reply(x, 200, json_type, 1, STR_LIT("{\"status\":\"ok\"}\n"));
}

static void on_ready(struct http_exchange *x)
{
    struct api_context *api = http_exchange_server_data(x);
    struct exec_stats s = executor_stats(api->program->executor);
    const char *why = atomic_load(&api->program->draining) ? "the server is shutting down"
                      : s.sandboxes_ready == 0             ? "no sandbox is ready"
                                                           : NULL;
    if (!why) {
        http_reply(x, 200, json_type, 1, STR_LIT("{\"status\":\"ok\"}\n"));
        return;
    }
    struct err_info err = {0};
    err_set(&err, atomic_load(&api->program->draining) ? ERR_SHUTTING_DOWN : ERR_SANDBOX_DOWN, "%s", why);
    http_reply_error(x, &err, 1);
}

/* --- health: asks the dependencies, on the pool -------------------------------------------------- */
struct health_check {
    uv_work_t work;
    struct http_exchange *x; /* NULL: the client left */
    const struct api_program *program;
    struct buf body;
    bool ok;
    bool degraded; /* an optional part is missing */
};

static void put_check(struct health_check *h, const char *name, bool ok, uint64_t took_ns, const char *detail)
{
    buf_printf(&h->body, ",\"%s\":{\"status\":\"%s\",\"latency_us\":%llu", name, ok ? "ok" : "failed",
               (unsigned long long)(took_ns / NS_PER_US));
    if (detail[0]) {
        buf_puts(&h->body, ",\"detail\":");
        json_put_string(&h->body, str_of(detail));
    }
    buf_putc(&h->body, '}');
    h->ok &= ok;
}

static void check_store(struct health_check *h)
{
    struct err_info why = {0};
    uint64_t start = clock_now_ns();
    bool ok = store_ping(h->program->store, &why) == OK;
    put_check(h, "database", ok, clock_now_ns() - start, ok ? "" : err_text(&why));
}

/* Optional: without Redis each instance counts for itself, which is less than was asked for, and serves. */
static void check_limits(struct health_check *h)
{
    char detail[192];
    struct kv_health kv = kv_health(h->program->kv);
    snprintf(detail, sizeof detail, "%s%s%s", kv.backend,
             kv.degraded ? ", counted by this instance alone: " : "", kv.degraded ? kv.reason : "");
    bool ok = h->ok;
    put_check(h, "limits", !kv.degraded, kv.latency_ns, detail);
    h->degraded |= kv.degraded;
    h->ok = ok;
}

static void check_disk(struct health_check *h)
{
    char path[4200], detail[96] = "";
    uint64_t start = clock_now_ns(), free_bytes = 0;
    struct statvfs fs;
    snprintf(path, sizeof path, "%s/.health", h->program->data_dir);
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, "ok", 2) == 2 && unlink(path) == 0;
    if (statvfs(h->program->data_dir, &fs) == 0)
        free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    snprintf(detail, sizeof detail, "%llu bytes free", (unsigned long long)free_bytes);
    put_check(h, "disk", ok && free_bytes > DISK_LOW_BYTES, clock_now_ns() - start,
              ok ? detail : "the data folder can't be written");
}

static void check_memory(struct health_check *h)
{
    char line[128], detail[64];
    unsigned long long kib = 0;
    uint64_t start = clock_now_ns();
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    snprintf(detail, sizeof detail, "%llu bytes available", kib * 1024);
    put_check(h, "memory", kib * 1024 > MEMORY_LOW_BYTES, clock_now_ns() - start, detail);
}

static void work_health(uv_work_t *work)
{
    struct health_check *h = CONTAINER_OF(work, struct health_check, work);
    struct exec_stats s = executor_stats(h->program->executor);
    char detail[128];
    h->ok = true;
    buf_printf(&h->body,
               "{\"version\":\"%s\",\"uptime_seconds\":%llu,\"checks\":{\"process\":{\"status\":\"ok\"}",
               WW_VERSION, (unsigned long long)((clock_wall_ns() - h->program->start_wall_ns) / NS_PER_S));
    check_store(h);
    check_limits(h);
    check_disk(h);
    check_memory(h);
    snprintf(detail, sizeof detail, "%u serving, %u runs under way, %u waiting, %llu died so far",
             s.sandboxes_ready, s.running, s.queued, (unsigned long long)s.crashes);
    put_check(h, "sandboxes", s.sandboxes_ready > 0, 0, detail);
    buf_printf(&h->body, "},\"status\":\"%s\"}\n", !h->ok ? "failed" : h->degraded ? "degraded" : "ok");
}

static void after_health(uv_work_t *work, int status)
{
    struct health_check *h = CONTAINER_OF(work, struct health_check, work);
    (void)status;
    if (h->x) {
        http_exchange_set_data(h->x, NULL);
        http_reply(h->x, h->ok ? 200 : 503, json_type, 1, buf_str(&h->body));
    }
    buf_done(&h->body);
    free(h);
}

static void on_health(struct http_exchange *x)
{
    struct api_context *api = http_exchange_server_data(x);
    struct health_check *h = xcalloc(1, sizeof *h);
    h->x = x;
    h->program = api->program;
    h->body = buf_make(8192);
    http_exchange_set_data(x, h);
    WW_ASSERT(uv_queue_work(http_exchange_loop(x), &h->work, work_health, after_health) == 0);
}

static void on_health_gone(struct http_exchange *x)
{
    struct health_check *h = http_exchange_data(x);
    if (h)
        h->x = NULL;
}

/* --- metrics ------------------------------------------------------------------------------------ */
static void on_metrics(struct http_exchange *x)
{
    struct api_context *api = http_exchange_server_data(x);
    const struct api_program *p = api->program;
    struct exec_stats e = executor_stats(p->executor);
    struct modules_stats m = modules_stats(p->modules);
    struct metrics_gauges g = {
        .runs_running = e.running,
        .runs_queued = e.queued,
        .sandboxes = e.sandboxes_ready,
        .sandboxes_spawned = e.spawned,
        .sandboxes_died = e.crashes,
        .compiles = m.compiled,
        .compile_ns = m.compile_ns,
        .cache_hits_memory = m.hits_memory,
        .cache_hits_disk = m.hits_disk,
        .modules_refused = m.refused,
        .cache_bytes = m.cache_bytes,
        .modules_loaded = m.loaded,
        .compiling = m.compiling,
        .start_wall_ns = p->start_wall_ns,
    };
    for (uint32_t i = 0; i < p->loop_count; i++)
        g.connections += http_server_connections(p->contexts[i]->server);
    struct buf body = buf_make(256 * 1024);
    metrics_put_text(&body, (const struct metrics *const *)p->metrics, p->loop_count, &g);
    http_reply(x, 200, text_type, 1, buf_str(&body));
    buf_done(&body);
}

const struct http_handler api_live_handler = {.head = on_live};
const struct http_handler api_ready_handler = {.head = on_ready};
const struct http_handler api_health_handler = {.head = on_health, .gone = on_health_gone};
const struct http_handler api_metrics_handler = {.head = on_metrics};
