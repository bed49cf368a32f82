/* `wasmwiz serve`: wires the parts into a server, and takes them apart again. */
#include <signal.h>
#include <unistd.h>

#include "api/api.h"
#include "auth/key.h"
#include "auth/session.h"
#include "auth/watch.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/log_file.h"
#include "main/commands.h"
#include "main/front.h"
#include "main/jwt.h"
#include "main/parts.h"
#include "main/upgrade.h"
#include "meter/retention.h"
#include "module/seal.h"
#include "store/keys.h"
#include "trace/export.h"
#include "web/web.h"

enum { AUTH_CACHE_KEYS = 10000, REFRESH_MS = 500, LOOPS_MAX = 64 };

struct server;

/* One loop of the front, with its thread. */
struct serve_loop {
    struct server *server;
    struct loop loop;
    uv_thread_t thread;
    struct api_context api;
    struct metrics metrics;
    struct loop_post post;
    unsigned undrained; /* listeners */
    bool drained;
};

struct server {
    struct settings settings;
    struct serve_loop *loops[LOOPS_MAX];
    struct metrics *metrics[LOOPS_MAX];
    struct api_context *contexts[LOOPS_MAX];
    uint32_t loop_count;
    struct api_program program;
    struct auth *auth;
    struct kv *kv;
    struct limit *limit; /* NULL: RATE_LIMITS=off */
    struct front front;
    struct jwt jwt;
    struct retention retention;
    char *salt, *log_dir;
    char cache_dir[4200], temp_dir[4200], usage_dir[4200];
    uv_signal_t terminate, interrupt, upgrade;
    int listeners[LOOPS_MAX]; /* the loops' sockets, for a successor; theirs to close */
    struct auth_watch *auth_watch;
    atomic_uint loops_drained;
    struct loop_post all_drained;
    uint64_t drain_deadline_ns;
};

static const char usage[] =
    "usage: wasmwiz serve [--check] [OPTIONS]\n\n"
    "Serves POST /execute and /execute/stream, the JSON API under /api/, pages for people from / on,\n"
    "/health, /health/live, /health/ready and /metrics.\n"
    "--check looks at the settings only: prints those in effect, without secrets, or what is wrong (status "
    "78).\n\n"
    "Every setting can be given as an environment variable or in a file .env; some as a flag, too:\n\n";

/* --- shutting down ------------------------------------------------------------------------------ */
static void close_loop(struct loop_post *post)
{
    struct serve_loop *sl = CONTAINER_OF(post, struct serve_loop, post);
    struct server *s = sl->server;
    executor_detach(sl->api.invoke.exec);
    kv_detach(s->kv, &sl->loop);
    if (sl->api.invoke.usage)
        usage_detach(sl->api.invoke.usage);
    http_server_free(sl->api.server);
    if (sl->loop.index == 0) {
        front_close(&s->front);
        jwt_close(&s->jwt);
        uv_close((uv_handle_t *)&s->terminate, NULL);
        uv_close((uv_handle_t *)&s->interrupt, NULL);
        uv_close((uv_handle_t *)&s->upgrade, NULL);
        auth_watch_stop(s->auth_watch);
        tracer_stop(s->program.tracer);
        retention_stop(&s->retention);
        modules_stop(s->program.modules);
        executor_stop(s->program.executor);
    }
    loop_close(&sl->loop);
}

static void close_all(struct loop_post *post)
{
    struct server *s = CONTAINER_OF(post, struct server, all_drained);
    for (uint32_t i = 0; i < s->loop_count; i++)
        loop_post(&s->loops[i]->loop, &s->loops[i]->post, close_loop);
}

/* The last connection and the last invocation of a loop are gone; the last such loop begins the end. */
static void loop_is_drained(struct serve_loop *sl)
{
    struct server *s = sl->server;
    if (sl->drained && sl->api.invoke.live == 0) {
        sl->api.invoke.on_idle = NULL;
        if (atomic_fetch_add(&s->loops_drained, 1) + 1 == s->loop_count)
            loop_post(&s->loops[0]->loop, &s->all_drained, close_all);
    }
}

static void on_idle(struct invoke_context *c)
{
    loop_is_drained(CONTAINER_OF(c, struct serve_loop, api.invoke));
}

static void on_connections_drained(void *arg)
{
    struct serve_loop *sl = arg;
    sl->drained = --sl->undrained == 0;
    loop_is_drained(sl);
}

static void drain_loop(struct loop_post *post)
{
    struct serve_loop *sl = CONTAINER_OF(post, struct serve_loop, post);
    struct http_server *redirect = sl->loop.index == 0 ? sl->server->front.redirect : NULL;
    uint64_t deadline_ns = sl->server->drain_deadline_ns;
    sl->api.invoke.on_idle = on_idle;
    sl->undrained = redirect ? 2 : 1;
    http_server_drain(sl->api.server, deadline_ns, on_connections_drained, sl);
    if (redirect)
        http_server_drain(redirect, deadline_ns, on_connections_drained, sl);
}

static void drain(struct server *s)
{
    LOG_INFO("draining", LOG_U64("deadline_ms", s->settings.drain_timeout / NS_PER_MS));
    s->drain_deadline_ns = clock_now_ns() + s->settings.drain_timeout;
    for (uint32_t i = 0; i < s->loop_count; i++)
        loop_post(&s->loops[i]->loop, &s->loops[i]->post, drain_loop);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    if (atomic_exchange(&s->program.draining, true)) {
        LOG_WARN("second signal: ending at once", LOG_I64("signal", number));
        _exit(130);
    }
    drain(s);
}

/* --- a successor takes over --------------------------------------------------------------------- */
static void after_upgrade(void *arg, bool ok)
{
    struct server *s = arg;
    if (ok && !atomic_exchange(&s->program.draining, true))
        drain(s);
}

static void on_upgrade(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    struct err_info err = {0};
    (void)number;
    if (!atomic_load(&s->program.draining) && upgrade_start(handle->loop, s->listeners, s->loop_count,
                                                            s->front.redirect_fd, after_upgrade, s, &err))
        LOG_ERROR("not upgraded", LOG_CSTR("reason", err_text(&err)));
}

/* --- starting ----------------------------------------------------------------------------------- */
static enum err open_kept_things(struct server *s, struct modules_config *modules, struct err_info *reterr)
{
    const struct settings *set = &s->settings;
    char path[PARTS_PATH_BYTES];
    struct store_config store = parts_store_config(set, path);
    snprintf(s->cache_dir, sizeof s->cache_dir, "%s/cache", set->data_dir);
    if (set->wasm_temp_dir[0])
        snprintf(s->temp_dir, sizeof s->temp_dir, "%s", set->wasm_temp_dir);
    else
        snprintf(s->temp_dir, sizeof s->temp_dir, "%s/tmp", set->data_dir);
    snprintf(s->usage_dir, sizeof s->usage_dir, "%s/usage", set->data_dir);
    enum err e = parts_make_folder(set->data_dir, reterr);
    if (!e)
        e = parts_make_folder(s->cache_dir, reterr);
    if (!e)
        e = parts_make_folder(s->usage_dir, reterr);
    if (!e)
        e = parts_make_folder(s->temp_dir, reterr);
    if (!e)
        e = auth_salt_load(set->data_dir, set->api_salt, set->environment == ENVIRONMENT_DEVELOPMENT,
                           &s->salt, reterr);
    if (!e)
        e = seal_key_load(set->data_dir, modules->seal_key, reterr);
    if (!e)
        e = store_open_with(&store, &s->program.store, reterr);
    if (!e) {
        s->auth = auth_new(s->program.store, str_of(s->salt), AUTH_CACHE_KEYS);
        auth_set_session_times(s->auth, set->session_idle, set->session_lifetime);
    }
    modules->cache_dir = s->cache_dir;
    modules->temp_dir = s->temp_dir;
    return e;
}

static enum err open_usage(struct server *s, struct err_info *reterr)
{
    return usage_open(&(struct usage_config){.store = s->program.store,
                                             .folder = s->usage_dir,
                                             .journal_bytes_max = s->settings.usage_journal_max,
                                             .loops = s->loop_count},
                      &s->program.usage, reterr);
}

static void fill_program(struct server *s)
{
    const struct settings *set = &s->settings;
    s->program.auth = s->auth;
    s->program.first_is_admin = set->environment == ENVIRONMENT_DEVELOPMENT;
    s->program.may_register =
        set->registration == REGISTRATION_OPEN ||
        (set->registration == REGISTRATION_AUTO && set->environment == ENVIRONMENT_DEVELOPMENT);
    s->program.data_dir = set->data_dir;
    s->program.temp_dir = s->temp_dir;
    s->program.log_dir = s->log_dir = settings_log_dir(set);
    s->program.module_bytes_max = set->max_wasm_size;
    s->program.input_bytes_max = set->max_input_size;
    s->program.memory_bytes_max = set->memory_limit;
    s->program.timeout_ns_max = set->execution_timeout;
    s->program.output_bytes_max = set->max_output;
    s->program.stream_bytes_max = set->max_stream;
    s->program.start_wall_ns = clock_wall_ns();
    s->program.auth = s->auth;
    s->program.metrics_for_operators = set->metrics_access == METRICS_OPERATOR;
    s->program.peers = s->front.peers;
    s->program.metrics = s->metrics;
    s->program.retention = &s->retention;
    s->program.contexts = s->contexts;
    s->program.loop_count = s->loop_count;
}

static void open_webhooks(struct server *s)
{
    const struct settings *set = &s->settings;
    bool development = set->environment == ENVIRONMENT_DEVELOPMENT;
    s->program.webhooks = webhooks_new(&(struct webhooks_config){
        .store = s->program.store,
        .salt = str_of(s->salt),
        .private_too = set->webhooks_private == WEBHOOKS_PRIVATE_ON ||
                       (set->webhooks_private == WEBHOOKS_PRIVATE_AUTO && development),
        .retry_ns = set->webhooks_retry,
        .attempts = set->webhooks_attempts,
    });
}

static struct serve_loop *make_loop(struct server *s, uint32_t index)
{
    struct serve_loop *sl = xcalloc(1, sizeof *sl);
    sl->server = s;
    loop_init(&sl->loop, index);
    s->loops[index] = sl;
    s->metrics[index] = &sl->metrics;
    s->contexts[index] = &sl->api;
    return sl;
}

/* Several sockets share the port (SO_REUSEPORT), so nobody would notice a second server on it: this does. */
static enum err check_port_is_free(const char *host, uint16_t port, struct err_info *reterr)
{
    CLEANUP(closep) int fd = -1;
    return port ? http_listen(host, port, false, &fd, &port, reterr) : OK;
}

/* A lease outlives the longest run and its wait for a place. */
static enum err open_limits(struct server *s, struct err_info *reterr)
{
    const struct settings *set = &s->settings;
    struct kv_config config = {.url = str_of(set->redis_url), .loops = s->loop_count};
    enum err e = kv_open(&config, &s->kv, reterr);
    if (e)
        return e;
    for (uint32_t i = 0; i < s->loop_count; i++)
        kv_attach(s->kv, &s->loops[i]->loop);
    if (set->rate_limits == RATE_LIMITS_ON)
        s->limit = limit_new(&(struct limit_config){
            .kv = s->kv,
            .key_per_minute = (uint32_t)set->key_rate,
            .address_per_minute = (uint32_t)set->address_rate,
            .lease_ns = MIN(set->execution_timeout + set->queue_timeout + 60 * NS_PER_S, KV_LEASE_MAX_NS)});
    s->program.kv = s->kv;
    return OK;
}

static enum err open_loop(struct serve_loop *sl, const char *host, uint16_t *port, struct err_info *reterr)
{
    struct server *s = sl->server;
    const struct settings *set = &s->settings;
    size_t route_count, page_count;
    const struct http_route *pages = web_routes(&page_count);
    const struct http_route *routes = api_routes(&s->program, pages, page_count, &route_count);
    sl->api.program = &s->program;
    sl->api.invoke = (struct invoke_context){
        .loop = &sl->loop,
        .exec = executor_attach(s->program.executor, &sl->loop),
        .modules = s->program.modules,
        .auth = s->auth,
        .limit = s->limit,
        .webhooks = s->program.webhooks,
        .metrics = &sl->metrics,
        .tracer = s->program.tracer,
        .usage = s->program.usage ? usage_attach(s->program.usage, &sl->loop) : NULL,
        .timeout_ns = set->execution_timeout,
        .memory_bytes = set->memory_limit,
        .stdout_bytes = set->max_output,
        .stderr_bytes = set->max_stderr,
    };
    struct http_server_config config = {
        .routes = routes,
        .route_count = route_count,
        .limits = http_limits_default(),
        .data = &sl->api,
        .on_done = api_on_done,
        .error_body = web_error_body,
        .error_fields = web_error_fields,
    };
    front_configure(&s->front, &config);
    config.limits.connections_max = (uint32_t)MAX(set->connections_max / s->loop_count, 1ULL);
    config.limits.head_timeout_ns = set->head_timeout;
    config.limits.body_timeout_ns = set->body_timeout;
    config.limits.body_min_rate = set->body_min_rate;
    config.limits.idle_timeout_ns = set->idle_timeout;
    config.limits.replies_bytes_max = set->replies_memory / s->loop_count;
    int fd = upgrade_take_socket(port);
    enum err e = fd >= 0 ? OK : http_listen(host, *port, s->loop_count > 1, &fd, port, reterr);
    s->listeners[sl->loop.index] = fd;
    return e ? e : http_server_new(&sl->loop.uv, fd, &config, &sl->api.server, reterr);
}

/* A guest for the first try, small enough to be pasted: fd_read into 32 KiB at 16, fd_write of what came, until
 * nothing does. */
static const char echo_module[] =
    "AGFzbQEAAAABDAJgBH9/"
    "f38Bf2AAAAJEAhZ3YXNpX3NuYXBzaG90X3ByZXZpZXcxB2ZkX3JlYWQAABZ3YXNpX3NuYXBzaG90X3ByZXZpZXcx"
    "CGZkX3dyaXRlAAADAgEBBQMBAAEHEwIGbWVtb3J5AgAGX3N0YXJ0AAIKNwE1AANAQQBBEDYCAEEEQYCAAjYCAEEAQQBBAUEEEAAaQQQo"
    "AgBF"
    "DQFBAUEAQQFBCBABGgwACws=";

static bool has_no_key(void *ctx, const struct store_key *key)
{
    (void)key;
    *(bool *)ctx = false;
    return false;
}

/* A development server that nobody has a key for makes the first one, and says it once. */
static void announce(struct server *s, const char *host, uint16_t port)
{
    static const struct auth_key_request first = {.name = STR_LIT("first"), .tier = STR_LIT("pro")};
    char token[AUTH_KEY_TOKEN_BYTES];
    struct store_key row;
    struct err_info err = {0};
    bool none = true;
    const char *shown = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 ? "127.0.0.1" : host;
    const char *open = strchr(shown, ':') ? "[" : "", *close = strchr(shown, ':') ? "]" : "";
    const char *scheme = s->front.tls ? "https" : "http";
    printf("listening on %s://%s%s%s:%u\n", scheme, open, shown, close, port);
    if (s->settings.environment == ENVIRONMENT_DEVELOPMENT &&
        store_key_each(s->program.store, has_no_key, &none, &err) == OK && none &&
        auth_key_create(s->auth, &first, &row, token, &err) == OK) {
        printf("\nThe first API key, shown this once:\n  %s\n\nTry it, a guest that prints what it reads:\n"
               "  base64 -d <<< %s |\n    curl -H 'Authorization: Bearer %s' -F 'wasm=@-;filename=echo.wasm' "
               "-F input=hello "
               "%s://%s%s%s:%u/execute\n\n",
               token, echo_module, token, scheme, open, shown, close, port);
    }
    fflush(stdout);
}

static void run_loop(void *arg)
{
    struct serve_loop *sl = arg;
    uv_run(&sl->loop.uv, UV_RUN_DEFAULT);
}

static void start_watching(struct server *s)
{
    uv_loop_t *uv = &s->loops[0]->loop.uv;
    uv_signal_init(uv, &s->terminate);
    uv_signal_init(uv, &s->interrupt);
    uv_signal_init(uv, &s->upgrade);
    s->terminate.data = s->interrupt.data = s->upgrade.data = s;
    uv_signal_start(&s->upgrade, on_upgrade, SIGUSR2);
    uv_signal_start(&s->terminate, on_signal, SIGTERM);
    uv_signal_start(&s->interrupt, on_signal, SIGINT);
    retention_start(&s->retention, uv,
                    &(struct retention_config){.store = s->program.store,
                                               .usage_ns = s->settings.usage_retention,
                                               .audit_ns = s->settings.audit_retention,
                                               .interval_ns = s->settings.retention_interval});
    s->auth_watch = auth_watch_start(s->auth, s->kv, &s->loops[0]->loop, REFRESH_MS);
    jwt_start(&s->jwt, uv, &s->settings);
}

static enum err start(struct server *s, struct err_info *reterr)
{
    struct modules_config modules = parts_modules_config(&s->settings);
    struct exec_config exec = parts_exec_config(&s->settings);
    struct loop *loops[LOOPS_MAX];
    s->loop_count = s->settings.loops ? (uint32_t)s->settings.loops : MIN(parts_cores(), (uint32_t)LOOPS_MAX);
    uint32_t handed_over = upgrade_inherited();
    s->loop_count = MAX(s->loop_count, handed_over); /* every inherited socket needs a loop that accepts */
    for (uint32_t i = 0; i < s->loop_count; i++)
        loops[i] = &make_loop(s, i)->loop;
    enum err e = open_kept_things(s, &modules, reterr);
    if (!e)
        e = open_limits(s, reterr);
    if (!e)
        e = s->settings.usage == USAGE_ON ? open_usage(s, reterr) : OK;
    if (!e)
        e = executor_new(&exec, loops, s->loop_count, &s->program.executor, reterr);
    if (!e)
        e = modules_new(loops[0], &modules, &s->program.modules, reterr);
    if (!e)
        e = front_open(&s->front, &s->settings, reterr);
    if (!e)
        e = jwt_open(&s->jwt, &s->settings, s->auth, reterr);
    if (!e)
        open_webhooks(s);
    const struct trace_config trace = settings_trace_config(&s->settings);
    if (!e && trace.endpoint.len)
        e = tracer_new(loops[0], &trace, &s->program.tracer, reterr);
    fill_program(s);
    const char *host = s->settings.server_host[0]                           ? s->settings.server_host
                       : s->settings.environment == ENVIRONMENT_DEVELOPMENT ? "127.0.0.1"
                                                                            : "0.0.0.0";
    uint16_t port = (uint16_t)s->settings.server_port;
    if (!e && !handed_over)
        e = check_port_is_free(host, port, reterr);
    for (uint32_t i = 0; !e && i < s->loop_count; i++)
        e = open_loop(s->loops[i], host, &port, reterr);
    if (!e)
        e = front_start(&s->front, &s->loops[0]->loop.uv, &s->settings, host, port, reterr);
    if (e)
        return e;
    start_watching(s);
    LOG_INFO("started", LOG_CSTR("version", WW_VERSION), LOG_CSTR("host", host), LOG_U64("port", port),
             LOG_U64("loops", s->loop_count), LOG_U64("sandboxes", exec.sandboxes),
             LOG_CSTR("isolation", exec.isolation == EXEC_INLINE ? "inline" : "process"),
             LOG_CSTR("database", store_backend(s->program.store)),
             LOG_CSTR("database_at", store_describe(s->program.store)),
             LOG_CSTR("data_dir", s->settings.data_dir));
    announce(s, host, port);
    upgrade_write_pid(s->settings.data_dir);
    upgrade_tell_ready();
    return OK;
}

static void finish(struct server *s)
{
    for (uint32_t i = 0; i < s->loop_count; i++)
        loop_done(&s->loops[i]->loop);
    usage_close(s->program.usage, s->drain_deadline_ns);
    modules_free(s->program.modules);
    executor_free(s->program.executor);
    tracer_free(s->program.tracer);
    limit_free(s->limit);
    kv_free(s->kv);
    auth_watch_free(s->auth_watch);
    webhooks_free(s->program.webhooks);
    auth_free(s->auth);
    jwt_done(&s->jwt);
    front_done(&s->front);
    store_close(s->program.store);
    for (uint32_t i = 0; i < s->loop_count; i++)
        free(s->loops[i]);
    free(s->salt);
    free(s->log_dir);
}

int command_serve(int argc, char **argv)
{
    static struct server s;
    struct buf text = buf_make(64 * 1024);
    struct err_info err = {0};
    bool good = settings_load(&s.settings, &argc, argv, &text), check = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--check") == 0) {
            check = true;
            continue;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            buf_clear(&text);
            buf_puts(&text, usage);
            settings_put_help(&text);
            fputs(buf_cstr(&text), stdout);
            return 0;
        }
        buf_printf(&text, "there is no option \"%s\"\n", argv[i]);
        good = false;
    }
    settings_check(&s.settings, &text);
    jwt_check_settings(&s.settings, &text);
    if (!good || text.len) {
        fprintf(stderr, "wasmwiz serve: the settings are not right:\n%s", buf_cstr(&text));
        return EXIT_CONFIG;
    }
    settings_put_unknown(&text);
    if (text.len)
        fprintf(stderr, "wasmwiz serve: in .env:\n%s", buf_cstr(&text));
    buf_clear(&text);
    if (check) {
        settings_put_effective(&text, &s.settings);
        fputs(buf_cstr(&text), stdout);
        return 0;
    }
    buf_done(&text);
    parts_raise_limits();
    if (settings_start_log(&s.settings, &err) || parts_limit_memory(&s.settings, &err) || start(&s, &err)) {
        LOG_ERROR("not started", LOG_CSTR("reason", err_text(&err)));
        return EXIT_SOFTWARE;
    }
    for (uint32_t i = 1; i < s.loop_count; i++)
        WW_ASSERT(uv_thread_create(&s.loops[i]->thread, run_loop, s.loops[i]) == 0);
    run_loop(s.loops[0]);
    for (uint32_t i = 1; i < s.loop_count; i++)
        uv_thread_join(&s.loops[i]->thread);
    upgrade_remove_pid(s.settings.data_dir);
    finish(&s);
    settings_done(&s.settings);
    LOG_INFO("stopped");
    log_file_close();
    return 0;
}
