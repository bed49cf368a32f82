#include "executor/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "sandbox/process.h"

enum { WATCH_MS = 250, STUCK_MS = 3000, CRASH_LOOP_MS = 1000, CRASH_LOOP_PAUSE_MS = 500 };

struct want_post {
    struct loop_post post;
    struct supervisor *supervisor;
    uint32_t index;
};

struct supervisor {
    struct loop *loop;
    struct exec_config config;
    uint32_t channels;
    uint32_t count;
    const struct supervisor_ops *ops;
    void *ctx;
    char program[4096];
    struct sandbox_host **hosts; /* by index, one reference each */
    uv_mutex_t hosts_lock;       /* for readers on other threads than the loop's */
    atomic_bool *wanted;
    uv_timer_t watch;
    bool stopping;
    _Atomic uint64_t spawned, died;
};

static void host_free(struct sandbox_host *h)
{
    for (uint32_t i = 0; i < h->channels; i++) {
        closep(&h->event_fds[i]);
        closep(&h->sockets[i]);
    }
    free(h->event_fds);
    free(h->sockets);
    area_done(&h->area);
    free(h);
}

void sandbox_host_unref(struct sandbox_host *h)
{
    if (h && atomic_fetch_sub(&h->refs, 1) == 1)
        host_free(h);
}

/* What a process needs before it is started: shared memory and descriptors. */
static enum err host_new(struct supervisor *s, uint32_t index, struct sandbox_host **ret,
                         struct err_info *reterr)
{
    struct sandbox_host *h = xcalloc(1, sizeof *h);
    h->supervisor = s;
    h->index = index;
    h->fuel = index >= s->count / 2;
    h->channels = s->channels;
    h->event_fds = xcalloc(s->channels, sizeof(int));
    h->sockets = xcalloc(s->channels, sizeof(int));
    for (uint32_t i = 0; i < s->channels; i++)
        h->event_fds[i] = h->sockets[i] = -1;
    h->area.fd = -1;
    enum err e = area_create(&h->area, s->channels, reterr);
    for (uint32_t i = 0; !e && i < s->channels; i++)
        if ((h->event_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
            e = err_set(reterr, ERR_INTERNAL, "no descriptor left for a sandbox");
    if (e) {
        host_free(h);
        return e;
    }
    atomic_store(&h->refs, 1 + s->channels); /* the supervisor's and each loop's */
    *ret = h;
    return OK;
}

/* --- the process -------------------------------------------------------------------------------- */
static void on_distress(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct sandbox_host *h = CONTAINER_OF((uv_pipe_t *)stream, struct sandbox_host, distress);
    (void)buf;
    if (n > 0)
        h->distress_len += (size_t)n;
    else if (n < 0)
        uv_read_stop(stream);
}

/* Keeps the first words only; the rest of the pipe is read and forgotten. */
static void distress_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char rest[1024];
    struct sandbox_host *h = CONTAINER_OF((uv_pipe_t *)handle, struct sandbox_host, distress);
    (void)suggested;
    if (h->distress_len < sizeof h->distress_text)
        *buf = uv_buf_init(h->distress_text + h->distress_len,
                           (unsigned)(sizeof h->distress_text - h->distress_len));
    else
        *buf = uv_buf_init(rest, sizeof rest);
}

static void on_process_closed(uv_handle_t *handle)
{
    sandbox_host_unref(CONTAINER_OF((uv_process_t *)handle, struct sandbox_host, process));
}

static void on_distress_closed(uv_handle_t *handle)
{
    sandbox_host_unref(CONTAINER_OF((uv_pipe_t *)handle, struct sandbox_host, distress));
}

static void start_process(struct supervisor *s, struct sandbox_host *h);

/* Puts a new host in the place of a dead one, and starts its process unless it has to `pause`: then the watch does that
 * later. Drops the supervisor's reference on the old one, unless there is no descriptor for a new one: then the watch
 * tries again. */
static void replace(struct supervisor *s, struct sandbox_host *old, bool pause)
{
    struct err_info err = {0};
    struct sandbox_host *fresh;
    if (host_new(s, old->index, &fresh, &err)) {
        LOG_ERROR("sandbox not replaced", LOG_CSTR("reason", err_text(&err)));
        return;
    }
    uv_mutex_lock(&s->hosts_lock);
    s->hosts[old->index] = fresh;
    uv_mutex_unlock(&s->hosts_lock);
    if (pause)
        fresh->started_ns = clock_now_ns();
    else
        start_process(s, fresh);
    s->ops->replaced(s->ctx, old, fresh);
    sandbox_host_unref(old);
}

static void on_process_exit(uv_process_t *process, int64_t status, int signal_number)
{
    struct sandbox_host *h = CONTAINER_OF(process, struct sandbox_host, process);
    struct supervisor *s = h->supervisor;
    atomic_store(&h->running, false);
    if (!s->stopping) {
        size_t len = MIN(h->distress_len, sizeof h->distress_text);
        while (len && h->distress_text[len - 1] == '\n')
            len--;
        atomic_fetch_add(&s->died, 1);
        LOG_ERROR("sandbox died", LOG_U64("sandbox", h->index), LOG_I64("pid", process->pid),
                  LOG_I64("status", status), LOG_I64("signal", signal_number),
                  LOG_STR("last_words", str_make(h->distress_text, len)));
        bool dies_at_once = clock_now_ns() - h->started_ns < CRASH_LOOP_MS * NS_PER_MS;
        replace(s, h, dies_at_once && atomic_load(&s->died) > 2 * s->count);
    }
    uv_close((uv_handle_t *)&h->distress, on_distress_closed);
    uv_close((uv_handle_t *)process, on_process_closed);
}

static void start_process(struct supervisor *s, struct sandbox_host *h)
{
    char *args[SANDBOX_ARGS + 1];
    char *no_env[] = {NULL};
    struct sandbox_loop_config config = s->config.sandbox;
    config.engine.fuel = h->fuel;
    uint32_t stdio_count = SANDBOX_FD_CHANNELS + 2 * s->channels;
    uv_stdio_container_t *stdio = xcalloc(stdio_count, sizeof *stdio);
    int *child_ends = xcalloc(s->channels, sizeof(int));
    bool ok = true;
    for (uint32_t i = 0; i < s->channels; i++) {
        int pair[2] = {-1, -1};
        ok = ok && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0;
        h->sockets[i] = pair[0];
        child_ends[i] = pair[1];
        if (pair[0] >= 0)
            fcntl(pair[0], F_SETFL, O_NONBLOCK);
        stdio[SANDBOX_FD_CHANNELS + 2 * i] =
            (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = h->event_fds[i]};
        stdio[SANDBOX_FD_CHANNELS + 2 * i + 1] =
            (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = pair[1]};
    }
    uv_pipe_init(&s->loop->uv, &h->distress, 0);
    atomic_fetch_add(&h->refs, 2); /* the two handles */
    stdio[2] = (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
                                      .data.stream = (uv_stream_t *)&h->distress};
    stdio[SANDBOX_FD_AREA] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = h->area.fd};
    sandbox_process_args(&config, s->channels, "wasmwiz", args);
    uv_process_options_t options = {
        .exit_cb = on_process_exit,
        .file = s->program,
        .args = args,
        .env = no_env,
        .stdio = stdio,
        .stdio_count = (int)stdio_count,
    };
    h->started_ns = h->turns_seen_ns = clock_now_ns();
    int rc = ok ? uv_spawn(&s->loop->uv, &h->process, &options) : UV_EMFILE;
    if (rc == 0) {
        atomic_store(&h->running, true);
        atomic_fetch_add(&s->spawned, 1);
        uv_read_start((uv_stream_t *)&h->distress, distress_buffer, on_distress);
    } else {
        LOG_ERROR("sandbox not started", LOG_CSTR("reason", uv_strerror(rc)));
        if (ok)
            uv_close((uv_handle_t *)&h->process, on_process_closed);
        else
            sandbox_host_unref(h);
        uv_close((uv_handle_t *)&h->distress, on_distress_closed);
    }
    for (uint32_t i = 0; i < s->channels; i++)
        closep(&child_ends[i]);
    for (size_t i = 0; i < SANDBOX_ARGS; i++)
        free(args[i]);
    free(child_ends);
    free(stdio);
}

/* --- watching ----------------------------------------------------------------------------------- */
void supervisor_kill(struct sandbox_host *h, const char *why)
{
    if (!atomic_load(&h->running))
        return;
    LOG_ERROR("sandbox killed", LOG_U64("sandbox", h->index), LOG_CSTR("reason", why));
    kill(h->process.pid, SIGKILL);
}

/* A loop that has work and makes no turn is stuck; one that failed to start is tried again. */
static void on_watch(uv_timer_t *timer)
{
    struct supervisor *s = CONTAINER_OF(timer, struct supervisor, watch);
    uint64_t now = clock_now_ns();
    for (uint32_t i = 0; i < s->count; i++) {
        struct sandbox_host *h = s->hosts[i];
        if (!h->running) {
            if (atomic_load(&s->wanted[i]) && h->started_ns &&
                now - h->started_ns > CRASH_LOOP_PAUSE_MS * NS_PER_MS)
                replace(s, h, false);
            continue;
        }
        uint64_t turns = atomic_load_explicit(&h->area.control->turns, memory_order_relaxed);
        if (turns != h->turns_seen || s->ops->load(s->ctx, i) == 0) {
            h->turns_seen = turns;
            h->turns_seen_ns = now;
        } else if (now - h->turns_seen_ns > STUCK_MS * NS_PER_MS) {
            supervisor_kill(h, "it has runs and does not move");
        }
    }
}

static void on_want(struct loop_post *post)
{
    struct want_post *w = CONTAINER_OF(post, struct want_post, post);
    struct sandbox_host *h = w->supervisor->hosts[w->index];
    if (!w->supervisor->stopping && !h->running)
        start_process(w->supervisor, h);
    free(w);
}

void supervisor_want(struct supervisor *s, uint32_t index)
{
    if (atomic_load_explicit(&s->wanted[index], memory_order_relaxed) ||
        atomic_exchange(&s->wanted[index], true))
        return;
    struct want_post *w = xcalloc(1, sizeof *w);
    w->supervisor = s;
    w->index = index;
    loop_post(s->loop, &w->post, on_want);
}

/* --- life ------------------------------------------------------------------------------------- */
enum err supervisor_new(struct loop *loop, const struct exec_config *config, uint32_t channels,
                        const struct supervisor_ops *ops, void *ctx, struct supervisor **ret_supervisor,
                        struct err_info *reterr)
{
    struct supervisor *s = xcalloc(1, sizeof *s);
    size_t size = sizeof s->program;
    s->loop = loop;
    s->config = *config;
    s->channels = channels;
    s->count = 2 * config->sandboxes;
    s->ops = ops;
    s->ctx = ctx;
    s->hosts = xcalloc(s->count, sizeof *s->hosts);
    s->wanted = xcalloc(s->count, sizeof *s->wanted);
    uv_mutex_init(&s->hosts_lock);
    *ret_supervisor = s;
    if (uv_exepath(s->program, &size))
        return err_set(reterr, ERR_INTERNAL, "the program's own path is unknown; is /proc mounted?");
    for (uint32_t i = 0; i < s->count; i++) {
        enum err e = host_new(s, i, &s->hosts[i], reterr);
        if (e)
            return e;
    }
    uv_timer_init(&loop->uv, &s->watch);
    uv_timer_start(&s->watch, on_watch, WATCH_MS, WATCH_MS);
    uv_unref((uv_handle_t *)&s->watch);
    if (config->isolation == EXEC_PROCESS)
        for (uint32_t i = 0; i < config->sandboxes; i++) {
            atomic_store(&s->wanted[i], true);
            start_process(s, s->hosts[i]);
            if (!s->hosts[i]->running)
                return err_set(reterr, ERR_INTERNAL, "a sandbox process could not be started");
        }
    return OK;
}

uint32_t supervisor_count(const struct supervisor *s)
{
    return s->count;
}

struct sandbox_host *supervisor_host(struct supervisor *s, uint32_t index)
{
    return s->hosts[index]; /* its reference was counted by host_new() */
}

void supervisor_stop(struct supervisor *s)
{
    s->stopping = true;
    uv_timer_stop(&s->watch);
    uv_close((uv_handle_t *)&s->watch, NULL);
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->hosts[i]->running)
            uv_process_kill(&s->hosts[i]->process, SIGKILL);
    }
}

void supervisor_free(struct supervisor *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->count; i++)
        sandbox_host_unref(s->hosts[i]);
    free(s->hosts);
    free(s->wanted);
    uv_mutex_destroy(&s->hosts_lock);
    free(s);
}

/* A hostile sandbox may say that it serves when it does not: then its runs tell, and the watch. */
void supervisor_stats(struct supervisor *s, uint64_t *ret_spawned, uint64_t *ret_died, uint32_t *ret_ready)
{
    *ret_spawned = atomic_load(&s->spawned);
    *ret_died = atomic_load(&s->died);
    *ret_ready = 0;
    uv_mutex_lock(&s->hosts_lock);
    for (uint32_t i = 0; i < s->count; i++)
        *ret_ready +=
            atomic_load(&s->hosts[i]->running) && atomic_load(&s->hosts[i]->area.control->ready) == 1;
    uv_mutex_unlock(&s->hosts_lock);
}

size_t supervisor_pids(struct supervisor *s, int *ret_pids, size_t max)
{
    size_t count = 0;
    uv_mutex_lock(&s->hosts_lock);
    for (uint32_t i = 0; i < s->count && count < max; i++)
        if (atomic_load(&s->hosts[i]->running))
            ret_pids[count++] = s->hosts[i]->process.pid;
    uv_mutex_unlock(&s->hosts_lock);
    return count;
}
