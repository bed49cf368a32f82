#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "http/internal.h"
#include "http/tls.h"

enum {
    ACCEPT_BATCH = 64, /* then the connections at hand get their turn */
    OUTPUT_MAX_BYTES = 256 * 1024,
    SEALED_MAX_BYTES = 1024 * 1024,
    TICK_MS = HTTP_WHEEL_TICK_NS / NS_PER_MS,
};

struct http_limits http_limits_default(void)
{
    return (struct http_limits){
        .connections_max = 8192,
        .head_bytes_max = 16 * 1024,
        .target_bytes_max = 8 * 1024,
        .fields_max = 100,
        .head_timeout_ns = 10 * NS_PER_S,
        .idle_timeout_ns = 60 * NS_PER_S,
        .body_timeout_ns = 15 * NS_PER_S,
        .body_min_rate = 8 * 1024,
        .write_timeout_ns = 30 * NS_PER_S,
        .replies_bytes_max = 256 * 1024 * 1024,
    };
}

uint64_t http_server_now_ns(const struct http_server *s)
{
    return uv_now(s->loop) * NS_PER_MS;
}

uint32_t http_server_connections(const struct http_server *s)
{
    return s->connection_count;
}

/* --- the end ------------------------------------------------------------------------------------ */

static void on_own_closed(uv_handle_t *handle)
{
    http_server_handle_closed(handle->data);
}

/* The server's own handles go last. */
static void close_when_empty(struct http_server *s)
{
    if (!s->draining || s->closing || s->connection_count)
        return;
    s->closing = true;
    uv_close((uv_handle_t *)&s->timer, on_own_closed);
    uv_close((uv_handle_t *)&s->again, on_own_closed);
}

void http_server_handle_opened(struct http_server *s)
{
    s->handles_open++;
}

void http_server_handle_closed(struct http_server *s)
{
    WW_ASSERT(s->handles_open > 0);
    s->handles_open--;
    if (s->handles_open == 0 && s->closing && s->drained) {
        void (*done)(void *) = TAKE(s->drained);
        done(s->drained_arg);
    }
}

/* --- time --------------------------------------------------------------------------------------- */

static void on_acceptable(uv_poll_t *listener, int status, int events);

static void resume_accepting(struct http_server *s)
{
    if (s->listen_fd < 0 || s->draining || !s->accept_paused)
        return;
    if (s->connection_count >= s->config.limits.connections_max)
        return;
    s->accept_paused = false;
    uv_poll_start(&s->listener, UV_READABLE, on_acceptable);
}

static void cut_all(struct http_server *s)
{
    struct list *link = s->connections.next;
    while (link != &s->connections) {
        http_connection_broken(LIST_ENTRY(link, struct http_connection, link));
        link = s->connections.next;
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct http_server *s = timer->data;
    uint64_t now = http_server_now_ns(s);
    struct http_deadline *d;
    resume_accepting(s);
    while ((d = http_wheel_next(&s->wheel, now))) {
        struct http_connection *c = CONTAINER_OF(d, struct http_connection, deadline);
        uint64_t due = c->protocol->due_ns(c);
        if (due <= now)
            c->protocol->expire(c);
        else
            http_wheel_set(&s->wheel, d, due);
    }
    if (s->draining && now >= s->drain_deadline_ns)
        cut_all(s);
    if (!s->connection_count && !s->accept_paused && !s->draining)
        uv_timer_stop(timer);
}

static void start_ticking(struct http_server *s)
{
    if (!uv_is_active((uv_handle_t *)&s->timer) && !s->closing)
        uv_timer_start(&s->timer, on_tick, TICK_MS, TICK_MS);
}

static void on_again(uv_idle_t *again)
{
    struct http_server *s = again->data;
    /* Those that get ready meanwhile wait for the next turn: the sockets are heard in between. */
    struct list end_of_turn, *link;
    list_push_back(&s->ready, &end_of_turn);
    while ((link = list_pop_front(&s->ready)) != &end_of_turn)
        http_connection_proceed(LIST_ENTRY(link, struct http_connection, ready_link));
    if (list_is_empty(&s->ready))
        uv_idle_stop(again);
}

void http_server_holds(struct http_connection *c, uint64_t bytes)
{
    c->server->replies_bytes += bytes - c->replies_bytes;
    c->replies_bytes = bytes;
}

void http_server_ready(struct http_server *s, struct list *link)
{
    list_push_back(&s->ready, link);
    if (!uv_is_active((uv_handle_t *)&s->again))
        uv_idle_start(&s->again, on_again);
}

/* --- accepting ---------------------------------------------------------------------------------- */

static void pause_accepting(struct http_server *s)
{
    s->accept_paused = true;
    uv_poll_stop(&s->listener);
}

/* What accept() says when there is no room for one more: waiting is all that helps. */
static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_acceptable(uv_poll_t *listener, int status, int events)
{
    struct http_server *s = listener->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        if (s->connection_count >= s->config.limits.connections_max) {
            pause_accepting(s);
            return;
        }
        int fd = accept4(s->listen_fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            s->accept_failed = false;
            http_socket_open(s, fd, (struct sockaddr *)&peer);
        } else if (is_shortage(errno)) {
            if (!s->accept_failed)
                LOG_WARN("cannot accept a connection; trying again", LOG_CSTR("reason", uv_strerror(-errno)));
            s->accept_failed = true;
            pause_accepting(s);
            start_ticking(s);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
        /* Anything else is about the one connection, which is gone (accept(2)). */
    }
}

void http_server_connection_opened(struct http_server *s, struct list *link)
{
    s->connection_count++;
    list_push_back(&s->connections, link);
    start_ticking(s);
}

void http_server_connection_closed(struct http_server *s, struct list *link)
{
    s->connection_count--;
    list_remove(link);
    resume_accepting(s);
    close_when_empty(s);
}

/* --- birth and death ----------------------------------------------------------------------------- */

struct http_server *http_server_new_deaf(uv_loop_t *loop, const struct http_server_config *config)
{
    struct http_server *s = xcalloc(1, sizeof *s);
    s->loop = loop;
    s->config = *config;
    s->listen_fd = -1;
    s->input = xmalloc(HTTP_INPUT_BYTES);
    s->output = buf_make(OUTPUT_MAX_BYTES);
    s->frames = buf_make(OUTPUT_MAX_BYTES);
    s->sealed = buf_make(SEALED_MAX_BYTES);
    if (config->tls)
        s->plain = xmalloc(HTTP_TLS_PLAIN_BYTES);
    for (size_t i = 0; i < config->route_count; i++)
        WW_ASSERT(config->routes[i].handler.head);
    http_router_init(&s->router, config->routes, config->route_count);
    list_init(&s->connections);
    list_init(&s->ready);
    list_init(&s->spares);
    http_wheel_init(&s->wheel, http_server_now_ns(s));
    while (getrandom(s->random, sizeof s->random, 0) != sizeof s->random)
        ;
    uv_timer_init(loop, &s->timer);
    uv_idle_init(loop, &s->again);
    s->timer.data = s->again.data = s;
    s->handles_open = 2;
    return s;
}

enum err http_server_new(uv_loop_t *loop, int fd, const struct http_server_config *config,
                         struct http_server **ret_server, struct err_info *reterr)
{
    int listening = 0, on = 1;
    socklen_t len = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening) {
        close(fd);
        return err_set(reterr, ERR_INTERNAL, "descriptor %d is not a listening socket", fd);
    }
    /* Accepted sockets inherit it; where it is no TCP socket it does not matter. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* libuv writes with writev(2), which raises it when a client has left. */
    signal(SIGPIPE, SIG_IGN);
    struct http_server *s = http_server_new_deaf(loop, config);
    s->listen_fd = fd;
    s->listener.data = s;
    int failed = uv_poll_init(loop, &s->listener, fd);
    WW_ASSERT(failed == 0);
    s->handles_open++;
    uv_poll_start(&s->listener, UV_READABLE, on_acceptable);
    *ret_server = s;
    return OK;
}

void http_server_drain(struct http_server *s, uint64_t deadline_ns, void (*done)(void *), void *arg)
{
    WW_ASSERT(!s->draining);
    s->draining = true;
    s->drain_since_ns = http_server_now_ns(s);
    s->drain_deadline_ns = deadline_ns;
    s->drained = done;
    s->drained_arg = arg;
    if (s->listen_fd >= 0) {
        uv_poll_stop(&s->listener);
        uv_close((uv_handle_t *)&s->listener, on_own_closed);
        close(s->listen_fd);
        s->listen_fd = -1;
    }
    LIST_EACH(link, &s->connections)
    {
        struct http_connection *c = LIST_ENTRY(link, struct http_connection, link);
        c->protocol->drain(c);
    }
    start_ticking(s);
    close_when_empty(s);
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    WW_ASSERT(s->closing && s->handles_open == 0);
    struct list *link;
    while ((link = list_pop_front(&s->spares)))
        http_exchange_free(LIST_ENTRY(link, struct http_exchange, link));
    http_router_done(&s->router);
    buf_done(&s->output);
    buf_done(&s->frames);
    buf_done(&s->sealed);
    free(s->plain);
    free(s->input);
    free(s);
}
