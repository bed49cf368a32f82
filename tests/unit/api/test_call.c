/* The way of a call, through a real server, a real store and the real pool: who may, what a session needs, limits,
 * errors, and clients that leave. The endpoints are of this file. */
#include "../unit.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/call.h"
#include "base/clock.h"

static atomic_bool store_fails;
static uv_sem_t gate; /* /wait passes it */
static atomic_uint waiting;

int sqlite3_step(sqlite3_stmt *statement)
{
    static int (*real)(sqlite3_stmt *);
    if (store_fails)
        return SQLITE_IOERR;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_step");
    return real(statement);
}

/* --- endpoints ---------------------------------------------------------------------------------- */
/* Who asks, and how. */
static enum err work_who(struct api_call *call, struct err_info *reterr)
{
    (void)reterr;
    buf_printf(&call->out, "who=%s session=%s rest=%.*s", call->who ? call->who->id : "nobody",
               call->session ? "yes" : "no", STR_FMT(call->rest));
    return OK;
}

static enum err work_late(struct api_call *call, struct err_info *reterr)
{
    call->retry_after_s = 42;
    buf_puts(&call->out, "not to be seen");
    return err_set(reterr, ERR_RATE_LIMITED, "come later");
}

static enum err work_fail(struct api_call *call, struct err_info *reterr)
{
    (void)call;
    return err_set(reterr, ERR_STORE_DOWN, "as if it were down");
}

static enum err work_wait(struct api_call *call, struct err_info *reterr)
{
    atomic_fetch_add(&waiting, 1);
    uv_sem_wait(&gate);
    return work_who(call, reterr);
}

static enum err work_much(struct api_call *call, struct err_info *reterr)
{
    (void)reterr;
    static const char mib[1024 * 1024];
    for (int i = 0; i < 40; i++)
        buf_append(&call->out, mib, sizeof mib);
    return OK;
}

static enum err work_nothing(struct api_call *call, struct err_info *reterr)
{
    (void)reterr;
    call->status = 204;
    return OK;
}

/* A stream that the test leads. */
static struct {
    bool refuses;
    struct api_call *call; /* NULL: none has begun */
    unsigned writable, gone;
} led;

static enum err led_begin(struct api_call *call, struct loop *loop, struct err_info *reterr)
{
    assert_non_null(loop);
    if (led.refuses)
        return err_set(reterr, ERR_BUSY, "no stream for you");
    led.call = call;
    return OK;
}

static void led_writable(struct api_call *call)
{
    assert_ptr_equal(call, led.call);
    led.writable++;
}

static void led_gone(struct api_call *call)
{
    assert_ptr_equal(call, led.call);
    led.gone++;
}

static enum err work_stream(struct api_call *call, struct err_info *reterr)
{
    static const struct api_stream stream = {led_begin, led_writable, led_gone};
    (void)reterr;
    call->stream = &stream;
    call->content_type = "text/event-stream";
    api_call_field(call, "X-Mine", STR_LIT("yes"));
    return call->query.len ? work_fail(call, reterr) : OK;
}

static const struct api_endpoint endpoints[] = {
    {HTTP_METHOD_GET, "/open", API_OPEN, 0, "", work_who},
    {HTTP_METHOD_POST, "/open", API_OPEN, 100, "a b", work_who},
    {HTTP_METHOD_GET, "/credential", API_CREDENTIAL, 0, "", work_who},
    {HTTP_METHOD_GET, "/account", API_ACCOUNT, 0, "", work_who},
    {HTTP_METHOD_POST, "/account", API_ACCOUNT, 100, "", work_who},
    {HTTP_METHOD_PUT, "/account", API_ACCOUNT, 100, "", work_who},
    {HTTP_METHOD_PATCH, "/account", API_ACCOUNT, 100, "", work_who},
    {HTTP_METHOD_DELETE, "/account", API_ACCOUNT, 0, "", work_who},
    {HTTP_METHOD_GET, "/operator", API_OPERATOR, 0, "", work_who},
    {HTTP_METHOD_GET, "/admin", API_ADMIN, 0, "", work_who},
    {HTTP_METHOD_GET, "/metrics", API_METRICS, 0, "", work_who},
    {HTTP_METHOD_GET, "/tree/*", API_OPEN, 0, "", work_who},
    {HTTP_METHOD_GET, "/late", API_OPEN, 0, "", work_late},
    {HTTP_METHOD_GET, "/fail", API_OPEN, 0, "", work_fail},
    {HTTP_METHOD_GET, "/wait", API_OPEN, 0, "", work_wait},
    {HTTP_METHOD_GET, "/much", API_OPEN, 0, "", work_much},
    {HTTP_METHOD_GET, "/nothing", API_OPEN, 0, "", work_nothing},
    {HTTP_METHOD_GET, "/stream", API_OPEN, 0, "", work_stream},
};

/* --- the world ---------------------------------------------------------------------------------- */
enum { USER, OPERATOR, ADMIN, INACTIVE, PEOPLE, ANSWER_BYTES = 64 * 1024 };

static struct world {
    char folder[64], path[96];
    struct http_route routes[LENGTH_OF(endpoints)];
    struct loop loop;
    struct kv *kv;
    struct metrics metrics;
    struct api_program program;
    struct api_context api;
    uint16_t port;
    bool drained;
    char nobody[AUTH_KEY_TOKEN_BYTES], keys[PEOPLE][AUTH_KEY_TOKEN_BYTES];
    struct store_user users[PEOPLE];
    struct auth_session session;
    char answer[ANSWER_BYTES];
    struct err_info info;
} * w;

#define CHECK_OK(call)                               \
    do {                                             \
        if (call)                                    \
            fail_msg("%s: %s", #call, w->info.text); \
    } while (0)

static void make_people(void)
{
    static const enum store_role roles[PEOPLE] = {
        [OPERATOR] = STORE_ROLE_OPERATOR, [ADMIN] = STORE_ROLE_ADMIN, [INACTIVE] = STORE_ROLE_ADMIN};
    struct store_key row;
    struct auth_key_request request = {.name = STR_LIT("nobody"), .tier = STR_LIT("free")};
    CHECK_OK(auth_key_create(w->program.auth, &request, &row, w->nobody, &w->info));
    for (unsigned i = 0; i < PEOPLE; i++) {
        struct store_user *user = &w->users[i];
        *user = (struct store_user){
            .password_hash = "x", .tier = "free", .role = roles[i], .active = i != INACTIVE};
        snprintf(user->id, sizeof user->id, "%016x", i);
        snprintf(user->email, sizeof user->email, "%u@example.org", i);
        CHECK_OK(store_user_insert(w->program.store, user, &w->info));
        request.user_id = str_of(user->id);
        CHECK_OK(auth_key_create(w->program.auth, &request, &row, w->keys[i], &w->info));
    }
    CHECK_OK(auth_session_begin(w->program.auth, &w->users[USER], "", &w->session, &w->info));
}

static int start(const struct limit_config *limits)
{
    w = xcalloc(1, sizeof *w);
    snprintf(w->folder, sizeof w->folder, "/tmp/ww-call-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->path, sizeof w->path, "%s/main.db", w->folder);
    CHECK_OK(store_open(w->path, &w->program.store, &w->info));
    w->program.auth = auth_new(w->program.store, STR_LIT("a salt of enough characters"), 16);
    make_people();
    log_setup(LOG_LEVEL_ERROR + 1, false); /* much fails here, on purpose */
    loop_init(&w->loop, 0);
    CHECK_OK(kv_open(&(struct kv_config){.url = STR_LIT(""), .loops = 1}, &w->kv, &w->info));
    kv_attach(w->kv, &w->loop);
    w->api =
        (struct api_context){.program = &w->program,
                             .invoke = {.loop = &w->loop, .auth = w->program.auth, .metrics = &w->metrics}};
    if (limits) {
        struct limit_config config = *limits;
        config.kv = w->kv;
        w->api.invoke.limit = limit_new(&config);
    }
    for (size_t i = 0; i < LENGTH_OF(endpoints); i++)
        w->routes[i] = (struct http_route){endpoints[i].method, endpoints[i].path, endpoints[i].body_limit,
                                           api_call_handler, &endpoints[i]};
    struct http_server_config config = {.routes = w->routes,
                                        .route_count = LENGTH_OF(endpoints),
                                        .limits = http_limits_default(),
                                        .data = &w->api,
                                        .error_body = api_error_body};
    int fd;
    CHECK_OK(http_listen("127.0.0.1", 0, false, &fd, &w->port, &w->info));
    CHECK_OK(http_server_new(&w->loop.uv, fd, &config, &w->api.server, &w->info));
    uv_sem_init(&gate, 0);
    waiting = 0;
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return start(NULL);
}

static int setup_limits(void **state)
{
    (void)state;
    return start(&(struct limit_config){.key_per_minute = 6, .address_per_minute = 3, .lease_ns = NS_PER_S});
}

static void on_drained(void *arg)
{
    *(bool *)arg = true;
}

static int teardown(void **state)
{
    (void)state;
    http_server_drain(w->api.server, clock_now_ns(), on_drained, &w->drained);
    while (!w->drained || w->api.invoke.live)
        uv_run(&w->loop.uv, UV_RUN_ONCE);
    http_server_free(w->api.server);
    kv_detach(w->kv, &w->loop);
    loop_close(&w->loop);
    uv_run(&w->loop.uv, UV_RUN_DEFAULT);
    loop_done(&w->loop);
    limit_free(w->api.invoke.limit);
    kv_free(w->kv);
    auth_free(w->program.auth);
    store_close(w->program.store);
    uv_sem_destroy(&gate);
    unlink(w->path);
    int failed = rmdir(w->folder);
    free(w);
    return failed;
}

/* --- a client ----------------------------------------------------------------------------------- */
static int send_request(const char *request, size_t len)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(w->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    assert_int_equal(send(fd, request, len, MSG_NOSIGNAL), len);
    return fd;
}

static int read_answer(int fd)
{
    size_t len = 0;
    for (;;) {
        ssize_t n = recv(fd, w->answer + len, sizeof w->answer - 1 - len, MSG_DONTWAIT);
        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
        else
            uv_run(&w->loop.uv, UV_RUN_ONCE);
    }
    close(fd);
    w->answer[len] = 0;
    return len > 12 ? (int)strtol(w->answer + 9, NULL, 10) : 0;
}

/* The status of the answer, which is in w->answer. `fields` end with \r\n each. */
PRINTF_LIKE(3, 4)
static int ask(const char *target, const char *body, const char *fields, ...)
{
    char more[8192], request[16384];
    va_list args;
    va_start(args, fields);
    vsnprintf(more, sizeof more, fields, args);
    va_end(args);
    int len = snprintf(request, sizeof request,
                       "%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%sContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       target, more, body ? strlen(body) : 0, body ? body : "");
    assert_true(len > 0 && (size_t)len < sizeof request);
    return read_answer(send_request(request, (size_t)len));
}

static bool says(const char *text)
{
    return strstr(w->answer, text) != NULL;
}

/* --- tests -------------------------------------------------------------------------------------- */
static void each_credential_opens_what_it_may(void **state)
{
    (void)state;
    const char *const paths[] = {"GET /open", "GET /credential", "GET /account", "GET /operator",
                                 "GET /admin"};
    const struct {
        const char *fields, *key;
        int statuses[LENGTH_OF(paths)];
    } rows[] = {
        {"", "", {200, 401, 401, 401, 401}},
        {"Authorization: Bearer %s\r\n", w->nobody, {200, 200, 403, 403, 403}},
        {"Authorization: Bearer %s\r\n", w->keys[USER], {200, 200, 200, 403, 403}},
        {"Authorization: Bearer %s\r\n", w->keys[OPERATOR], {200, 200, 200, 200, 403}},
        {"Authorization: Bearer %s\r\n", w->keys[ADMIN], {200, 200, 200, 200, 200}},
        {"Authorization: Bearer %s\r\n", w->keys[INACTIVE], {403, 403, 403, 403, 403}},
        {"Authorization: Bearer ww_0000000000000000000000000000000000000000%s\r\n",
         "",
         {401, 401, 401, 401, 401}},
        {"Authorization: Basic %s\r\n", w->keys[ADMIN], {401, 401, 401, 401, 401}},
        {"Authorization:%s\r\n", "", {401, 401, 401, 401, 401}},
        {"Authorization: Bearer %s\r\nAuthorization: Bearer x\r\n",
         w->keys[ADMIN],
         {401, 401, 401, 401, 401}},
        {"Cookie: wasmwiz=%s\r\n", w->session.id, {200, 200, 200, 403, 403}},
        {"Cookie: wasmwiz=%s0\r\n", w->session.id, {200, 401, 401, 401, 401}},
        {"Cookie: __Host-wasmwiz=%s\r\n", w->session.id, {200, 401, 401, 401, 401}},
        {"Cookie: wasmwiz=%s\r\nCookie: a=b\r\n", w->session.id, {200, 401, 401, 401, 401}},
        {"Cookie: wasmwiz=%s\r\nAuthorization: x\r\n", w->session.id, {401, 401, 401, 401, 401}},
    };
    for (unsigned round = 0; round < 2; round++) /* asked of the store, and remembered */
        for (size_t i = 0; i < LENGTH_OF(rows); i++)
            for (size_t p = 0; p < LENGTH_OF(paths); p++) {
                char fields[300];
                const char *at = strstr(rows[i].fields, "%s");
                snprintf(fields, sizeof fields, "%.*s%s%s", at ? (int)(at - rows[i].fields) : 0,
                         rows[i].fields, rows[i].key, at ? at + 2 : "");
                int status = ask(paths[p], NULL, "%s", fields);
                if (status != rows[i].statuses[p])
                    fail_msg("%s with row %zu: %d", paths[p], i, status);
                assert_true((status == 401) == says("WWW-Authenticate: Bearer"));
            }
}

static void a_session_needs_its_token_to_change(void **state)
{
    (void)state;
    const char *const methods[] = {"POST /account", "PUT /account", "PATCH /account", "DELETE /account"};
    assert_int_equal(ask("GET /account", NULL, "Cookie: wasmwiz=%s\r\n", w->session.id), 200);
    assert_true(says("session=yes"));
    assert_int_equal(ask("HEAD /account", NULL, "Cookie: wasmwiz=%s\r\n", w->session.id), 200);
    for (size_t i = 0; i < LENGTH_OF(methods); i++) {
        assert_int_equal(ask(methods[i], NULL, "Cookie: wasmwiz=%s\r\n", w->session.id), 403);
        assert_true(says("X-CSRF-Token"));
        assert_int_equal(
            ask(methods[i], NULL, "Cookie: wasmwiz=%s\r\nX-CSRF-Token: %s\r\n", w->session.id, w->session.id),
            403);
        assert_int_equal(ask(methods[i], NULL, "Cookie: wasmwiz=%s\r\nX-CSRF-Token: %s\r\n", w->session.id,
                             w->session.csrf),
                         200);
        assert_int_equal(ask(methods[i], NULL, "Authorization: Bearer %s\r\n", w->keys[USER]), 200);
        assert_true(says("session=no"));
    }
    /* Where nobody has to be known, a session without its token is nobody. */
    assert_int_equal(ask("POST /open", NULL, "Cookie: wasmwiz=%s\r\n", w->session.id), 200);
    assert_true(says("who=nobody session=no"));
    assert_int_equal(
        ask("POST /open", NULL, "Cookie: wasmwiz=%s\r\nX-CSRF-Token: %s\r\n", w->session.id, w->session.csrf),
        200);
    assert_true(says("session=yes"));
}

static void bodies_are_checked(void **state)
{
    (void)state;
    assert_int_equal(ask("POST /open", "{\"a\":1,\"b\":null}", "%s", ""), 200);
    assert_int_equal(ask("POST /open", "{}", "%s", ""), 200);
    assert_int_equal(ask("POST /open", "{\"c\":1}", "%s", ""), 400);
    assert_true(says("a b"));
    assert_int_equal(ask("POST /open", "{\"a b\":1}", "%s", ""), 400);
    assert_int_equal(ask("POST /open", "{\"\":1}", "%s", ""), 400);
    assert_int_equal(ask("POST /open", "[]", "%s", ""), 400);
    assert_int_equal(ask("POST /open", "{\"a\":\"hidden\",}", "%s", ""), 400);
    assert_false(says("hidden")); /* it may be a password */
    assert_int_equal(ask("POST /open", "{\"a\":1,\"a\":2}", "%s", ""), 400);
    assert_int_equal(ask("POST /account", "{\"a\":1}", "Authorization: Bearer %s\r\n", w->keys[USER]), 400);
}

static void prefixes_have_a_rest(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /tree/a/b%20c?x", NULL, "%s", ""), 200);
    assert_true(says("rest=a/b%20c"));
    assert_int_equal(ask("GET /tree/", NULL, "%s", ""), 404);
}

static void errors_say_when_to_come_again(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /late", NULL, "%s", ""), 429);
    assert_true(says("\r\nRetry-After: 42\r\n") && says("\"rate_limited\"") && !says("not to be seen"));
    assert_int_equal(ask("GET /fail", NULL, "%s", ""), 503);
    assert_true(says("\r\nRetry-After: 1\r\n"));
    assert_int_equal(ask("GET /much", NULL, "%s", ""), 500);
    assert_int_equal(ask("GET /nothing", NULL, "%s", ""), 204);
    assert_true(says("Cache-Control: no-store"));
    assert_int_equal(w->metrics.errors[ERR_RATE_LIMITED], 1);
    assert_int_equal(w->metrics.limit_hits[METRICS_LIMIT_LOGIN], 1);
}

static void a_silent_store_is_told(void **state)
{
    (void)state;
    store_fails = true;
    assert_int_equal(ask("GET /account", NULL, "Cookie: wasmwiz=%s\r\n", w->session.id), 503);
    assert_true(says("store_down"));
    assert_int_equal(ask("GET /account", NULL, "Authorization: Bearer %s\r\n", w->keys[USER]), 503);
    store_fails = false;
    assert_int_equal(ask("GET /account", NULL, "Cookie: wasmwiz=%s\r\n", w->session.id), 200);
}

/* The known count for themselves, the others by their address. */
static void limits_are_kept_and_given_back(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(ask("GET /account", NULL, "Authorization: Bearer %s\r\n", w->keys[USER]), 200);
        assert_true(says("RateLimit-Limit: 6\r\n"));
    }
    assert_int_equal(ask("GET /account", NULL, "Authorization: Bearer %s\r\n", w->keys[USER]), 429);
    assert_true(says("Retry-After: "));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask("GET /account", NULL, "%s", ""), 401);
        assert_true(says("RateLimit-Limit: 3\r\n"));
    }
    assert_int_equal(ask("GET /account", NULL, "%s", ""), 429);
    assert_int_equal(ask("GET /open", NULL, "Authorization: Basic x\r\n"), 429); /* a line of the log each */
    for (enum metrics_limit i = 0; i < METRICS_LIMIT_COUNT; i++)
        assert_int_equal(w->metrics.limit_hits[i] > 0,
                         i == METRICS_LIMIT_REQUESTS || i == METRICS_LIMIT_ADDRESS);
}

static void the_refused_are_limited_too(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask("GET /admin", NULL, "Authorization: Bearer %s\r\n", w->keys[USER]), 403);
    assert_int_equal(ask("GET /admin", NULL, "Authorization: Bearer %s\r\n", w->keys[USER]), 429);
    assert_int_equal(ask("GET /tree/", NULL, "%s", ""), 429);
}

static void metrics_are_free_where_they_are_open(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(ask("GET /metrics", NULL, "Authorization: Bearer %s\r\n", "wrong"), 200);
        assert_true(says("who=nobody") && !says("RateLimit-Limit"));
    }
    w->program.metrics_for_operators = true;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(ask("GET /metrics", NULL, "Authorization: Bearer %s\r\n", w->keys[OPERATOR]), 200);
        assert_true(says("RateLimit-Limit: 6\r\n"));
    }
    assert_int_equal(ask("GET /metrics", NULL, "%s", ""), 401);
    assert_int_equal(ask("GET /metrics", NULL, "Authorization: Bearer %s\r\n", "wrong"), 401);
    assert_int_equal(ask("GET /metrics", NULL, "Authorization: Bearer %s\r\n", w->keys[USER]), 403);
    assert_int_equal(ask("GET /metrics", NULL, "%s", ""), 429);
}

static void turn_until_waiting(unsigned count)
{
    while (atomic_load(&waiting) < count)
        uv_run(&w->loop.uv, UV_RUN_NOWAIT);
}

static void a_client_may_leave(void **state)
{
    (void)state;
    static const char wait[] = "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n";
    static const char half[] = "POST /open HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                               "Content-Length: 50\r\n\r\n{\"a\":";
    int at_work = send_request(wait, strlen(wait));
    turn_until_waiting(1);
    int in_body = send_request(half, strlen(half));
    while (w->api.invoke.live < 2)
        uv_run(&w->loop.uv, UV_RUN_ONCE);
    close(at_work);
    close(in_body);
    while (w->api.invoke.live > 1) /* the half body is gone at once */
        uv_run(&w->loop.uv, UV_RUN_ONCE);
    uv_sem_post(&gate);
    while (w->api.invoke.live)
        uv_run(&w->loop.uv, UV_RUN_ONCE);
    assert_int_equal(ask("GET /open", NULL, "%s", ""), 200);
}

static int begin_stream(void)
{
    static const char request[] = "GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    memset(&led, 0, sizeof led);
    int fd = send_request(request, strlen(request));
    while (!led.writable)
        uv_run(&w->loop.uv, UV_RUN_ONCE);
    assert_int_equal(w->api.invoke.live, 1);
    return fd;
}

static void a_stream_goes_on_until_it_ends(void **state)
{
    (void)state;
    int fd = begin_stream();
    api_stream_send(led.call, STR_LIT("one "));
    uv_run(&w->loop.uv, UV_RUN_NOWAIT);
    api_stream_send(led.call, STR_LIT("two"));
    api_stream_end(led.call);
    assert_int_equal(read_answer(fd), 200);
    assert_true(says("Content-Type: text/event-stream\r\n") && says("X-Mine: yes\r\n"));
    assert_true(says("Cache-Control: no-store\r\n") && says("\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"));
    assert_int_equal(w->api.invoke.live, 1); /* it may have things to close */
    api_stream_free(led.call);
    assert_int_equal(w->api.invoke.live, 0);
    assert_int_equal(led.gone, 0);
}

static void a_stream_waits_for_its_client(void **state)
{
    (void)state;
    static const char mib[1024 * 1024];
    int fd = begin_stream();
    while (api_stream_send(led.call, str_make(mib, sizeof mib)))
        ;
    led.writable = 0;
    while (!led.writable) {
        uv_run(&w->loop.uv, UV_RUN_NOWAIT);
        recv(fd, w->answer, sizeof w->answer, MSG_DONTWAIT);
    }
    close(fd);
    while (!led.gone)
        uv_run(&w->loop.uv, UV_RUN_ONCE);
    assert_int_equal(w->api.invoke.live, 1);
    api_stream_end(led.call); /* nothing is left to end */
    api_stream_free(led.call);
    assert_int_equal(w->api.invoke.live, 0);
    assert_int_equal(led.gone, 1);
}

static void a_stream_may_not_begin(void **state)
{
    (void)state;
    memset(&led, 0, sizeof led);
    assert_int_equal(ask("HEAD /stream", NULL, "%s", ""), 200);
    assert_true(says("Content-Type: text/event-stream\r\n"));
    assert_int_equal(ask("GET /stream?fail", NULL, "%s", ""), 503);
    assert_true(says("\"store_down\"") && !says("as if it were down") && !led.call);
    led.refuses = true;
    assert_int_equal(ask("GET /stream", NULL, "%s", ""), 503);
    assert_true(says("no stream for you") && says("Content-Type: application/json\r\n"));
    assert_true(says("Retry-After: 1\r\n"));
    assert_int_equal(led.writable + led.gone, 0);
    assert_int_equal(w->api.invoke.live, 0);
}

int main(void)
{
    alarm(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_credential_opens_what_it_may, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_needs_its_token_to_change, setup, teardown),
        cmocka_unit_test_setup_teardown(bodies_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(prefixes_have_a_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_say_when_to_come_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_store_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_are_kept_and_given_back, setup_limits, teardown),
        cmocka_unit_test_setup_teardown(the_refused_are_limited_too, setup_limits, teardown),
        cmocka_unit_test_setup_teardown(metrics_are_free_where_they_are_open, setup_limits, teardown),
        cmocka_unit_test_setup_teardown(a_client_may_leave, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_goes_on_until_it_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_waits_for_its_client, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_may_not_begin, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
