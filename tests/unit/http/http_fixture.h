/* A server on a loopback socket and raw clients, driven by one thread: each step of a client lets the
 * server's loop turn. Nothing here depends on how fast it goes; a hang ends with SIGALRM. */
#ifndef WW_TESTS_HTTP_FIXTURE_H
#define WW_TESTS_HTTP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "http/server.h"

enum { HANG_SECONDS = 100, BIG_BYTES = 6 * 1024 * 1024, ECHO_LIMIT = 1000 };

struct world {
    uv_loop_t loop;
    struct http_server *server;
    uint16_t port;
    bool drained;
    /* what the handlers saw */
    struct http_exchange *waiting; /* of /later and /pause */
    int heads, ends, gones, pauses;
    size_t body_bytes;
    int done_count, done_status;
    uint64_t done_bytes;
};

#define H "Host: h\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"
#define POST(path, fields) "POST " path " HTTP/1.1\r\n" H fields "\r\n"

/* --- handlers ------------------------------------------------------------------------------------ */

static struct world *world_of(struct http_exchange *x)
{
    return http_exchange_server_data(x);
}

static void echo_head(struct http_exchange *x)
{
    struct buf *body = xcalloc(1, sizeof *body);
    *body = buf_make(BIG_BYTES);
    world_of(x)->heads++;
    http_exchange_set_data(x, body);
}

static void echo_body(struct http_exchange *x, struct str bytes)
{
    world_of(x)->body_bytes += bytes.len;
    buf_put_str(http_exchange_data(x), bytes);
}

static void echo_free(struct http_exchange *x)
{
    struct buf *body = http_exchange_data(x);
    buf_done(body);
    free(body);
}

/* "METHOD path?query [body]" */
static void echo_end(struct http_exchange *x)
{
    struct buf text = buf_make(BIG_BYTES);
    struct str path = http_path(x), query = http_query(x);
    struct buf *body = http_exchange_data(x);
    world_of(x)->ends++;
    buf_printf(&text, "%s %.*s%s%.*s", http_method_name(x), STR_FMT(path), query.len ? "?" : "",
               STR_FMT(query));
    if (body->len) {
        buf_puts(&text, " [");
        buf_put_str(&text, buf_str(body));
        buf_puts(&text, "]");
    }
    echo_free(x);
    http_reply(x, 200, NULL, 0, buf_str(&text));
    buf_done(&text);
}

static void echo_gone(struct http_exchange *x)
{
    world_of(x)->gones++;
    echo_free(x);
}

static void early_head(struct http_exchange *x)
{
    http_reply(x, 200, NULL, 0, STR_LIT("early"));
}

static void count_body(struct http_exchange *x, struct str bytes)
{
    world_of(x)->body_bytes += bytes.len;
}

static void early_at_body(struct http_exchange *x, struct str bytes)
{
    count_body(x, bytes);
    http_reply(x, 200, NULL, 0, STR_LIT("early"));
}

static void keep_head(struct http_exchange *x)
{
    world_of(x)->heads++;
    world_of(x)->waiting = x;
}

static void count_end(struct http_exchange *x)
{
    world_of(x)->ends++;
}

static void keep_gone(struct http_exchange *x)
{
    world_of(x)->gones++;
    world_of(x)->waiting = NULL;
}

static void pause_body(struct http_exchange *x, struct str bytes)
{
    count_body(x, bytes);
    world_of(x)->pauses++;
    http_body_pause(x);
}

static void pause_head(struct http_exchange *x)
{
    keep_head(x);
    http_body_pause(x);
}

static void big_end(struct http_exchange *x)
{
    char *body = xmalloc(BIG_BYTES);
    for (size_t i = 0; i < BIG_BYTES; i++)
        body[i] = (char)('a' + i % 23);
    http_reply_take(x, 200, NULL, 0, body, BIG_BYTES);
}

/* Replies to the exchange that waits, then to its own. */
static void release_end(struct http_exchange *x)
{
    http_reply(world_of(x)->waiting, 200, NULL, 0, STR_LIT("released"));
    http_reply(x, 200, NULL, 0, STR_LIT("done"));
}

static void error_end(struct http_exchange *x)
{
    struct err_info err = {0};
    err_set(&err, ERR_BUSY, "come back later");
    http_reply_error(x, &err, 7);
}

static void ignore_head(struct http_exchange *x)
{
    (void)x;
}

#define ECHO_HANDLER                                                             \
    {                                                                            \
        .head = echo_head, .body = echo_body, .end = echo_end, .gone = echo_gone \
    }
#define LATER_HANDLER                                                              \
    {                                                                              \
        .head = keep_head, .body = count_body, .end = count_end, .gone = keep_gone \
    }
static const struct http_route routes[] = {
    {HTTP_METHOD_GET, "/echo", ECHO_LIMIT, ECHO_HANDLER},
    {HTTP_METHOD_POST, "/echo", ECHO_LIMIT, ECHO_HANDLER},
    {HTTP_METHOD_GET, "/", 0, ECHO_HANDLER},
    {HTTP_METHOD_GET, "/tree/*", 0, ECHO_HANDLER},
    {HTTP_METHOD_PUT, "/tree/deep/*", 0, ECHO_HANDLER},
    {HTTP_METHOD_PATCH, "/tree/deep/*", 0, ECHO_HANDLER},
    {HTTP_METHOD_GET, "/pre*", 0, ECHO_HANDLER},
    {HTTP_METHOD_DELETE, "/tree/leaf", 0, ECHO_HANDLER},
    {HTTP_METHOD_POST, "/nobody", ECHO_LIMIT, {.head = echo_head, .end = echo_end, .gone = echo_gone}},
    {HTTP_METHOD_POST, "/early", BIG_BYTES, {.head = early_head, .body = count_body}},
    {HTTP_METHOD_POST, "/early-at-body", BIG_BYTES, {.head = ignore_head, .body = early_at_body}},
    {HTTP_METHOD_GET, "/later", 0, LATER_HANDLER},
    {HTTP_METHOD_POST, "/later", BIG_BYTES, LATER_HANDLER},
    {HTTP_METHOD_POST,
     "/pause",
     BIG_BYTES,
     {.head = keep_head, .body = pause_body, .end = count_end, .gone = keep_gone}},
    {HTTP_METHOD_POST,
     "/pause-at-head",
     BIG_BYTES,
     {.head = pause_head, .body = count_body, .end = count_end, .gone = keep_gone}},
    {HTTP_METHOD_GET, "/big", 0, {.head = ignore_head, .end = big_end}},
    {HTTP_METHOD_GET, "/release", 0, {.head = ignore_head, .end = release_end}},
    {HTTP_METHOD_GET, "/error", 0, {.head = ignore_head, .end = error_end}},
};

static void on_done(struct http_exchange *x, int status, uint64_t reply_bytes, uint64_t duration_ns)
{
    struct world *w = world_of(x);
    assert_int_equal(strlen(http_request_id(x)), 32);
    assert_true(duration_ns < (uint64_t)HANG_SECONDS * NS_PER_S);
    w->done_count++;
    w->done_status = status;
    w->done_bytes = reply_bytes;
}

/* --- the server ---------------------------------------------------------------------------------- */

static struct http_server_config world_config(struct world *w)
{
    return (struct http_server_config){.routes = routes,
                                       .route_count = LENGTH_OF(routes),
                                       .limits = http_limits_default(),
                                       .data = w,
                                       .on_done = on_done};
}

static struct world *world_new_with(struct world *w, const struct http_server_config *config)
{
    struct err_info err = {0};
    int fd = -1;
    alarm(HANG_SECONDS);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(http_listen("127.0.0.1", 0, false, &fd, &w->port, &err), OK);
    assert_int_equal(http_server_new(&w->loop, fd, config, &w->server, &err), OK);
    return w;
}

UNUSED static struct world *world_new(void)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    return world_new_with(w, &config);
}

static void turn(struct world *w)
{
    uv_run(&w->loop, UV_RUN_NOWAIT);
}

static void on_drained(void *arg)
{
    ((struct world *)arg)->drained = true;
}

/* Cuts whatever is left. */
UNUSED static void world_free(struct world *w)
{
    if (!w->drained)
        http_server_drain(w->server, 0, on_drained, w);
    while (!w->drained)
        turn(w);
    http_server_free(w->server);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
}

/* --- a client -------------------------------------------------------------------------------------- */

UNUSED static int client_new(struct world *w)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    return fd;
}

/* Sends all of it; the server may have closed already. Reads nothing. */
UNUSED static void client_send(struct world *w, int fd, struct str bytes)
{
    while (bytes.len) {
        ssize_t sent = send(fd, bytes.p, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return;
        if (sent > 0)
            bytes = str_make(bytes.p + sent, bytes.len - (size_t)sent);
        turn(w);
    }
}

/* Takes what is there. False: the server has closed (`*reset` where with RST). */
static bool client_read(int fd, struct buf *into, bool *reset)
{
    char piece[16 * 1024];
    ssize_t got = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
    if (got > 0)
        buf_append(into, piece, (size_t)got);
    *reset = got < 0 && errno != EAGAIN;
    return got > 0 || (got < 0 && errno == EAGAIN);
}

static void rest(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    poll(&p, 1, 1);
}

/* Everything up to the end of the connection, which must not be a reset. */
UNUSED static void client_read_to_end(struct world *w, int fd, struct buf *into)
{
    bool reset = false;
    turn(w);
    while (client_read(fd, into, &reset)) {
        rest(fd);
        turn(w);
    }
    assert_false(reset);
}

/* Until `text` is in what came. */
UNUSED static void client_read_until(struct world *w, int fd, struct buf *into, const char *text)
{
    bool reset = false;
    turn(w);
    while (!strstr(buf_cstr(into), text)) {
        if (!client_read(fd, into, &reset))
            fail_msg("the connection ended (reset: %d) before \"%s\" came; there was:\n%s", reset, text,
                     buf_cstr(into));
        rest(fd);
        turn(w);
    }
}

UNUSED static int client_new_small_window(struct world *w)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), bytes = 4096;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* --- replies ----------------------------------------------------------------------------------------- */

/* The value of a reply's field, "" where it is missing. */
static struct str reply_field(struct str head, const char *name)
{
    struct str wanted = str_of(name);
    while (head.len) {
        struct str value = str_split(&head, '\n'), field = str_split(&value, ':');
        if (str_ieq(field, wanted))
            return str_trim(str_make(value.p, value.len ? value.len - 1 : 0));
    }
    return STR_LIT("");
}

/* Puts what is common to all replies to the test and returns the status. */
static int check_head(struct str head)
{
    uint64_t status;
    assert_true(str_starts_with(head, STR_LIT("HTTP/1.1 ")));
    assert_true(str_to_u64(str_make(head.p + 9, 3), 999, &status));
    assert_int_equal(reply_field(head, "Date").len, 29);
    assert_int_equal(reply_field(head, "X-Request-Id").len, 32);
    assert_true(str_eq(reply_field(head, "X-Content-Type-Options"), STR_LIT("nosniff")));
    assert_true(str_eq(reply_field(head, "X-Frame-Options"), STR_LIT("DENY")));
    assert_true(str_eq(reply_field(head, "Referrer-Policy"), STR_LIT("no-referrer")));
    assert_true(str_eq(reply_field(head, "Content-Security-Policy"),
                       STR_LIT("default-src 'none'; frame-ancestors 'none'")));
    return (int)status;
}

/* All replies in `bytes` as "200 body;400 close;..."; bodies of errors are left out, NUL bytes are '?'. */
UNUSED static void summarize(struct str bytes, struct buf *out)
{
    while (bytes.len) {
        const char *end = memmem(bytes.p, bytes.len, "\r\n\r\n", 4);
        if (!end)
            fail_msg("a reply without an end of its head:\n%.*s", STR_FMT(bytes));
        struct str head = str_make(bytes.p, (size_t)(end - bytes.p) + 4);
        uint64_t length = 0;
        bytes = str_make(end + 4, bytes.len - head.len);
        if (str_eq(head, STR_LIT("HTTP/1.1 100 Continue\r\n\r\n"))) {
            buf_puts(out, "100;");
            continue;
        }
        int status = check_head(head);
        if (status != 204)
            assert_true(str_to_u64(reply_field(head, "Content-Length"), bytes.len, &length));
        buf_printf(out, "%d", status);
        if (status == 200)
            buf_putc(out, ' ');
        for (size_t i = 0; status == 200 && i < length; i++)
            buf_putc(out, bytes.p[i] ? bytes.p[i] : '?');
        if (str_eq(reply_field(head, "Connection"), STR_LIT("close")))
            buf_puts(out, " close");
        buf_puts(out, ";");
        bytes = str_make(bytes.p + length, bytes.len - length);
    }
}

UNUSED static void wait_for(struct world *w, const int *counter, int value)
{
    while (*counter < value)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(*counter, value);
}

UNUSED static void wait_until_closed(struct world *w)
{
    while (http_server_connections(w->server))
        uv_run(&w->loop, UV_RUN_ONCE);
}

UNUSED static void expect_summary(struct buf *bytes, const char *expected)
{
    struct buf summary = buf_make(1 << 20);
    summarize(buf_str(bytes), &summary);
    assert_string_equal(buf_cstr(&summary), expected);
    buf_done(&summary);
    buf_done(bytes);
}

UNUSED static void reply_ok(struct world *w, const char *text)
{
    http_reply(w->waiting, 200, NULL, 0, str_of(text));
}

UNUSED static void turn_some(struct world *w)
{
    for (int i = 0; i < 20; i++)
        turn(w);
}

#endif
