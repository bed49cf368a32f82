/* GET /health, /health/live and /health/ready.
 *
 * Anybody may ask, so an answer has names, states and numbers only. Why something fails goes into the log. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/server.h"
#include "meter/machine.h"

enum { DISK_LOW_BYTES = 64 * 1024 * 1024, MEMORY_LOW_BYTES = 64 * 1024 * 1024 };

static const struct http_field json_type[] = {{STR_LIT("Content-Type"), STR_LIT("application/json")}};

/* --- live and ready ----------------------------------------------------------------------------- */
static void on_live(struct http_exchange *x)
{
    http_reply(x, 200, json_type, 1, STR_LIT("{\"status\":\"ok\"}\n"));
}

/* Whether runs can be taken here. What is optional, and what other instances would miss as well, has no say: else a
 * database that is slow for a moment takes all of them away from the load balancer. */
static void on_ready(struct http_exchange *x)
{
    struct api_context *api = http_exchange_server_data(x);
    struct exec_stats s = executor_stats(api->program->executor);
    struct err_info err = {0};
    if (atomic_load(&api->program->draining))
        err_set(&err, ERR_SHUTTING_DOWN, "the server is shutting down");
    else if (s.sandboxes_ready == 0)
        err_set(&err, ERR_SANDBOX_DOWN, "no sandbox is ready");
    if (err.code)
        http_reply_error(x, &err, 1);
    else
        http_reply(x, 200, json_type, 1, STR_LIT("{\"status\":\"ok\"}\n"));
}

/* --- health: asks the counters on the loop, then the rest on the pool ---------------------------- */
enum state { STATE_OK, STATE_DEGRADED, STATE_FAILED };
static const char *const state_names[] = {"ok", "degraded", "failed"};

struct health_check {
    struct kv_ping ping;
    uv_work_t work;
    struct http_exchange *x; /* NULL: the client left */
    const struct api_program *program;
    struct buf body;
    enum state worst;
};

/* `detail` is of our own making and needs no escaping; "" for none. */
static void put_check(struct health_check *h, const char *name, enum state state, uint64_t took_ns,
                      const char *detail)
{
    buf_printf(&h->body, ",\"%s\":{\"status\":\"%s\",\"latency_us\":%llu", name, state_names[state],
               (unsigned long long)(took_ns / NS_PER_US));
    if (detail[0])
        buf_printf(&h->body, ",\"detail\":\"%s\"", detail);
    buf_putc(&h->body, '}');
    h->worst = MAX(h->worst, state);
}

static void log_reason(const char *check, const char *reason)
{
    LOG_WARN("health", LOG_CSTR("check", check), LOG_CSTR("reason", reason));
}

static void check_store(struct health_check *h)
{
    struct err_info why = {0};
    char detail[96];
    uint64_t start = clock_now_ns();
    bool ok = store_ping(h->program->store, &why) == OK;
    uint64_t took_ns = clock_now_ns() - start;
    struct store_stats s = store_stats(h->program->store);
    if (!ok)
        log_reason("database", err_text(&why));
    snprintf(detail, sizeof detail, "%s, %u connections, %u in use%s", store_backend(h->program->store),
             s.connections, s.connections_in_use, ok ? "" : "; it does not answer");
    put_check(h, "database", ok ? STATE_OK : STATE_FAILED, took_ns, detail);
}

/* Optional: without Redis each instance counts for itself, which is less than was asked for, and serves. That nobody
 * has missed it yet means little where nothing was asked of it: so it was asked, too. */
static void check_limits(struct health_check *h)
{
    char detail[96];
    struct kv_health kv = kv_health(h->program->kv);
    bool ok = h->ping.alive && !kv.degraded;
    if (!ok)
        log_reason("limits", kv.degraded ? kv.reason : "no answer to a PING");
    snprintf(detail, sizeof detail, "%s%s", kv.backend,
             ok ? "" : ", which does not answer: counted by this instance alone");
    put_check(h, "limits", ok ? STATE_OK : STATE_DEGRADED, h->ping.latency_ns, detail);
}

/* A file goes all the way to the disk and back. */
static bool try_file(const char *folder)
{
    char path[4200];
    CLEANUP(closep) int fd = open(folder, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd >= 0)
        return write(fd, "ok", 2) == 2;
    /* A file system without unnamed files. */
    snprintf(path, sizeof path, "%s/.health.XXXXXX", folder);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return false;
    bool written = write(fd, "ok", 2) == 2;
    return unlink(path) == 0 && written;
}

struct folder {
    const char *name, *path;
    enum state missed; /* what the server is without it */
};
enum { FOLDERS = 3 };

/* The folders that a server writes to; returns how many there are. Runs go on without a log. */
static size_t list_folders(const struct api_program *p, struct folder to[static FOLDERS])
{
    to[0] = (struct folder){"the data folder", p->data_dir, STATE_FAILED};
    to[1] = (struct folder){"the folder of uploads", p->temp_dir, STATE_FAILED};
    to[2] = (struct folder){"the log's folder", p->log_dir, STATE_DEGRADED};
    return p->log_dir ? FOLDERS : FOLDERS - 1;
}

static void check_files(struct health_check *h, const struct folder *folders, size_t count)
{
    char detail[128] = "";
    enum state worst = STATE_OK;
    uint64_t start = clock_now_ns();
    for (size_t i = 0; i < count; i++) {
        if (try_file(folders[i].path))
            continue;
        LOG_WARN("health", LOG_CSTR("check", "file_system"), LOG_CSTR("folder", folders[i].path),
                 LOG_CSTR("reason", strerror(errno)));
        size_t len = strlen(detail);
        snprintf(detail + len, sizeof detail - len, "%s%s can't be written", len ? ", " : "",
                 folders[i].name);
        worst = MAX(worst, folders[i].missed);
    }
    put_check(h, "file_system", worst, clock_now_ns() - start, detail);
}

/* Tells of the one with the least room; they may all be on one disk. */
static void check_disk(struct health_check *h, const struct folder *folders, size_t count)
{
    char detail[128];
    enum state worst = STATE_OK;
    const struct folder *fullest = NULL;
    struct machine_room least = {0};
    uint64_t start = clock_now_ns();
    for (size_t i = 0; i < count; i++) {
        struct machine_room room = machine_disk(folders[i].path);
        if (room.free_bytes <= DISK_LOW_BYTES)
            worst = MAX(worst, folders[i].missed);
        if (!fullest || room.free_bytes < least.free_bytes) {
            fullest = &folders[i];
            least = room;
        }
    }
    snprintf(detail, sizeof detail, "%llu of %llu bytes free for %s", (unsigned long long)least.free_bytes,
             (unsigned long long)least.bytes, fullest->name);
    put_check(h, "disk", worst, clock_now_ns() - start, detail);
}

static void check_memory(struct health_check *h)
{
    char detail[96];
    uint64_t start = clock_now_ns();
    struct machine_room room = machine_memory();
    snprintf(detail, sizeof detail, "%llu of %llu bytes available", (unsigned long long)room.free_bytes,
             (unsigned long long)room.bytes);
    put_check(h, "memory", room.free_bytes > MEMORY_LOW_BYTES ? STATE_OK : STATE_FAILED,
              clock_now_ns() - start, detail);
}

static void check_runs(struct health_check *h)
{
    char detail[128];
    uint64_t start = clock_now_ns();
    struct exec_stats e = executor_stats(h->program->executor);
    snprintf(detail, sizeof detail, "%u serving, %u runs under way, %u waiting, %llu died so far",
             e.sandboxes_ready, e.running, e.queued, (unsigned long long)e.crashes);
    put_check(h, "sandboxes", e.sandboxes_ready ? STATE_OK : STATE_FAILED, clock_now_ns() - start, detail);
    start = clock_now_ns();
    struct modules_stats m = modules_stats(h->program->modules);
    snprintf(detail, sizeof detail, "%u modules under way, %llu compiled so far, %u in memory", m.compiling,
             (unsigned long long)m.compiled, m.loaded);
    put_check(h, "compiler", STATE_OK, clock_now_ns() - start, detail);
}

static void work_health(uv_work_t *work)
{
    struct health_check *h = CONTAINER_OF(work, struct health_check, work);
    struct folder folders[FOLDERS];
    size_t count = list_folders(h->program, folders);
    buf_printf(&h->body,
               "{\"version\":\"%s\",\"uptime_seconds\":%llu,\"checks\":{\"process\":{\"status\":\"ok\"}",
               WW_VERSION, (unsigned long long)((clock_wall_ns() - h->program->start_wall_ns) / NS_PER_S));
    check_store(h);
    check_limits(h);
    check_files(h, folders, count);
    check_disk(h, folders, count);
    check_memory(h);
    check_runs(h);
    buf_printf(&h->body, "},\"status\":\"%s\"}\n", state_names[h->worst]);
}

static void health_free(struct health_check *h)
{
    buf_done(&h->body);
    free(h);
}

static void after_health(uv_work_t *work, int status)
{
    struct health_check *h = CONTAINER_OF(work, struct health_check, work);
    (void)status;
    if (h->x) {
        http_exchange_set_data(h->x, NULL);
        http_reply(h->x, h->worst == STATE_FAILED ? 503 : 200, json_type, 1, buf_str(&h->body));
    }
    health_free(h);
}

static void on_ping(struct kv_ping *ping)
{
    struct health_check *h = CONTAINER_OF(ping, struct health_check, ping);
    if (h->x)
        WW_ASSERT(uv_queue_work(http_exchange_loop(h->x), &h->work, work_health, after_health) == 0);
    else
        health_free(h);
}

static void on_health(struct http_exchange *x)
{
    struct api_context *api = http_exchange_server_data(x);
    struct health_check *h = xcalloc(1, sizeof *h);
    h->x = x;
    h->program = api->program;
    h->body = buf_make(8192);
    h->ping.ready = on_ping;
    http_exchange_set_data(x, h);
    if (kv_ping(h->program->kv, api->invoke.loop, &h->ping))
        on_ping(&h->ping);
}

static void on_health_gone(struct http_exchange *x)
{
    struct health_check *h = http_exchange_data(x);
    if (h)
        h->x = NULL;
}

const struct http_handler api_live_handler = {.head = on_live};
const struct http_handler api_ready_handler = {.head = on_ready};
const struct http_handler api_health_handler = {.head = on_health, .gone = on_health_gone};
