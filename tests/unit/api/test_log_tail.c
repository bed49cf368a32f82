/* The live log through a real server: threads that write at once, clients that are fast, slow, too many or gone, and
 * what happens as time goes by, which here goes by faster. */
#include "../unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "api/call.h"
#include "base/clock.h"

enum { FOLLOWERS_MAX = 16, WRITERS = 4, LINES = 4000, ANSWER_MAX_BYTES = 16 * 1024 * 1024 };

static atomic_int ahead_s; /* of the real time */

int clock_gettime(clockid_t id, struct timespec *ts)
{
    long failed = syscall(SYS_clock_gettime, id, ts);
    ts->tv_sec += ahead_s;
    return (int)failed;
}

/* The log's own lines are not for who runs the tests. */
ssize_t write(int fd, const void *bytes, size_t len)
{
    return fd == STDERR_FILENO ? (ssize_t)len : syscall(SYS_write, fd, bytes, len);
}

/* --- the world ---------------------------------------------------------------------------------- */
static const struct api_endpoint endpoint = {HTTP_METHOD_GET, "/log", API_OPEN, 0, "", api_log};

static struct world {
    struct http_route route;
    struct loop loop;
    struct metrics metrics;
    struct api_program program;
    struct api_context api;
    uint16_t port;
    bool drained;
} * w;

static int setup(void **state)
{
    struct err_info err = {0};
    int fd;
    (void)state;
    w = xcalloc(1, sizeof *w);
    log_setup(LOG_LEVEL_INFO, false);
    loop_init(&w->loop, 0);
    w->api =
        (struct api_context){.program = &w->program, .invoke = {.loop = &w->loop, .metrics = &w->metrics}};
    w->route = (struct http_route){
        .method = HTTP_METHOD_GET, .path = "/log", .handler = api_call_handler, .data = &endpoint};
    struct http_server_config config = {.routes = &w->route,
                                        .route_count = 1,
                                        .limits = http_limits_default(),
                                        .data = &w->api,
                                        .error_body = api_error_body};
    assert_int_equal(http_listen("127.0.0.1", 0, false, &fd, &w->port, &err), OK);
    assert_int_equal(http_server_new(&w->loop.uv, fd, &config, &w->api.server, &err), OK);
    return 0;
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
    loop_close(&w->loop);
    uv_run(&w->loop.uv, UV_RUN_DEFAULT);
    loop_done(&w->loop);
    free(w);
    return 0;
}

/* --- a client ----------------------------------------------------------------------------------- */
struct client {
    int fd;
    struct buf got;
};

/* HTTP/1.0, so that what comes is the events and nothing else. */
static struct client follow(const char *query)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(w->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                       .got = buf_make(ANSWER_MAX_BYTES)};
    char request[100];
    int len = snprintf(request, sizeof request, "GET /log%s HTTP/1.0\r\nHost: h\r\n\r\n", query), few = 4096;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &few, sizeof few);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(send(c.fd, request, (size_t)len, MSG_NOSIGNAL), len);
    return c;
}

/* False: the connection has ended. */
static bool read_some(struct client *c)
{
    char *to = buf_reserve(&c->got, 64 * 1024);
    assert_non_null(to);
    ssize_t n = recv(c->fd, to, 64 * 1024, MSG_DONTWAIT);
    bool goes_on = n > 0 || (n < 0 && errno == EAGAIN);
    c->got.len += n > 0 ? (size_t)n : 0;
    uv_run(&w->loop.uv, UV_RUN_NOWAIT);
    return goes_on;
}

static bool says(struct client *c, const char *text)
{
    return strstr(buf_cstr(&c->got), text) != NULL;
}

static void read_until(struct client *c, const char *text)
{
    while (!says(c, text))
        if (!read_some(c) && !says(c, text))
            fail_msg("the stream ended before %s; there was:\n%s", text, buf_cstr(&c->got));
}

static struct client follow_well(const char *query)
{
    struct client c = follow(query);
    read_until(&c, "\r\n\r\n");
    assert_true(says(&c, " 200 OK\r\n") && says(&c, "Content-Type: text/event-stream\r\n"));
    return c;
}

static void leave(struct client *c)
{
    close(c->fd);
    buf_done(&c->got);
}

static void wait_for_live(uint32_t count)
{
    while (w->api.invoke.live != count)
        uv_run(&w->loop.uv, UV_RUN_ONCE);
}

/* --- many threads ------------------------------------------------------------------------------- */
static atomic_uint writers;

static void write_lines(void *arg)
{
    (void)arg;
    unsigned writer = atomic_fetch_add(&writers, 1);
    char filler[200];
    memset(filler, 'x', sizeof filler);
    for (unsigned i = 1; i <= LINES; i++)
        LOG_INFO("line", LOG_STR("filler", str_make(filler, sizeof filler)), LOG_U64("writer", writer),
                 LOG_U64("n", i));
}

/* Each line came whole, once and in its writer's order, or was counted: all of them together. Returns the lost ones. */
static uint64_t check_lines(struct client *c)
{
    unsigned long long lost = 0, seen = 0, last[WRITERS] = {0}, n, count;
    unsigned writer;
    struct str rest = str_of(strstr(buf_cstr(&c->got), "\r\n\r\n") + 4);
    while (rest.len) {
        struct str name = str_split(&rest, '\n'), data = str_split(&rest, '\n');
        assert_int_equal(str_split(&rest, '\n').len, 0);
        if (str_eq(name, STR_LIT("event: lost"))) {
            assert_int_equal(sscanf(data.p, "data: {\"lines\":%llu}\n", &count), 1);
            lost += count;
            continue;
        }
        assert_true(str_eq(name, STR_LIT("event: log")) && str_ends_with(data, STR_LIT("}")));
        const char *at = memmem(data.p, data.len, "\"writer\":", 9);
        if (!at) /* the end */
            break;
        assert_int_equal(sscanf(at, "\"writer\":%u,\"n\":%llu}", &writer, &n), 2);
        assert_true(writer < WRITERS && n > last[writer]);
        last[writer] = n;
        seen++;
    }
    assert_int_equal(seen + lost, WRITERS * LINES);
    return lost;
}

static void lines_of_many_threads_come_whole(void **state)
{
    (void)state;
    uv_thread_t threads[WRITERS];
    struct client fast = follow_well(""), slow = follow_well("?level=info"),
                  calm = follow_well("?level=error");
    writers = 0;
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(uv_thread_create(&threads[i], write_lines, NULL), 0);
    for (unsigned i = 0; i < 3000; i++)
        read_some(&fast);
    for (unsigned i = 0; i < WRITERS; i++)
        uv_thread_join(&threads[i]);
    LOG_INFO("end", LOG_U64("of", 1));
    read_until(&fast, "\"event\":\"end\"");
    read_until(&slow, "\"event\":\"end\"");
    check_lines(&fast);
    assert_true(check_lines(&slow) > 0);
    LOG_ERROR("end", LOG_U64("of", 2));
    read_until(&calm, "\"event\":\"end\"");
    assert_false(says(&calm, "\"writer\"") || says(&calm, "event: lost"));
    leave(&fast);
    leave(&slow);
    leave(&calm);
    wait_for_live(0);
}

/* While others write, so that posts are under way when followers leave. */
static void followers_come_and_go(void **state)
{
    (void)state;
    uv_thread_t thread;
    writers = 0;
    assert_int_equal(uv_thread_create(&thread, write_lines, NULL), 0);
    for (unsigned i = 0; i < 60; i++) {
        struct client a = follow_well(""), b = follow("");
        leave(&b);
        read_some(&a);
        leave(&a);
        while (w->api.invoke.live > FOLLOWERS_MAX / 2) /* it takes a while until the server knows */
            uv_run(&w->loop.uv, UV_RUN_ONCE);
    }
    uv_thread_join(&thread);
    wait_for_live(0);
}

static void there_is_a_most(void **state)
{
    (void)state;
    struct client clients[FOLLOWERS_MAX];
    for (unsigned i = 0; i < FOLLOWERS_MAX; i++)
        clients[i] = follow_well("");
    struct client one_more = follow("");
    while (read_some(&one_more))
        ;
    assert_true(says(&one_more, " 503 ") && says(&one_more, "\"busy\"") &&
                says(&one_more, "Retry-After: 1\r\n"));
    leave(&one_more);
    leave(&clients[3]);
    wait_for_live(FOLLOWERS_MAX - 1);
    clients[3] = follow_well("");
    LOG_INFO("to all", LOG_U64("n", 1));
    for (unsigned i = 0; i < FOLLOWERS_MAX; i++) {
        read_until(&clients[i], "\"event\":\"to all\"");
        leave(&clients[i]);
    }
    wait_for_live(0);
}

/* --- time --------------------------------------------------------------------------------------- */
static size_t count_of(struct client *c, const char *text)
{
    size_t count = 0;
    for (const char *p = buf_cstr(&c->got); (p = strstr(p, text)); p += strlen(text))
        count++;
    return count;
}

static void a_stream_beats_and_ends_after_ten_minutes(void **state)
{
    (void)state;
    struct client c = follow_well("");
    unsigned seconds = 0;
    for (; read_some(&c); seconds++) {
        assert_in_range(seconds, 0, 1000);
        assert_in_range(count_of(&c, ":\n\n") + 1, seconds / 15, seconds / 15 + 1);
        ahead_s++;
    }
    assert_in_range(seconds, 595, 610);
    assert_in_range(count_of(&c, ":\n\n"), 39, 40);
    leave(&c);
    wait_for_live(0);
}

static void a_drain_ends_all(void **state)
{
    (void)state;
    struct client c = follow_well("?level=error"), late;
    atomic_store(&w->program.draining, true);
    LOG_ERROR("the last", LOG_U64("n", 1));
    ahead_s++;
    while (read_some(&c))
        ;
    assert_true(says(&c, "\"event\":\"the last\""));
    wait_for_live(0);
    late = follow("");
    while (read_some(&late))
        ;
    assert_true(says(&late, " 503 ") && says(&late, "\"shutting_down\""));
    leave(&c);
    leave(&late);
}

int main(void)
{
    alarm(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_of_many_threads_come_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(followers_come_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_a_most, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_beats_and_ends_after_ten_minutes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_drain_ends_all, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
