/* The bytes of a connection over TCP. */
#include <unistd.h>

#include "http/internal.h"
#include "http/peers.h"
#include "http/proxy.h"

struct http_socket {
    struct http_connection conn;
    struct http_peer *peer; /* NULL: its address is not counted */
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    unsigned writes; /* queued with libuv */
};

/* What the socket did not take at once. */
struct queued_write {
    uv_write_t request;
    struct http_socket *socket;
    char *owned;
    char copy[];
};

static struct http_socket *socket_of(struct http_connection *c)
{
    return CONTAINER_OF(c, struct http_socket, conn);
}

static uv_stream_t *stream_of(struct http_socket *s)
{
    return (uv_stream_t *)&s->tcp;
}

static void on_written(uv_write_t *request, int status)
{
    struct queued_write *w = CONTAINER_OF(request, struct queued_write, request);
    struct http_socket *s = w->socket;
    free(w->owned);
    free(w);
    s->writes--;
    if (status == UV_ECANCELED)
        return; /* closed by us */
    if (status < 0)
        http_connection_broken(&s->conn);
    else if (s->writes == 0)
        http_connection_flushed(&s->conn);
}

static enum http_sent queue(struct http_socket *s, struct str head, struct str body, char *owned)
{
    size_t copied = head.len + (owned ? 0 : body.len);
    struct queued_write *w = xmalloc(sizeof *w + copied);
    w->socket = s;
    w->owned = owned;
    if (head.len)
        memcpy(w->copy, head.p, head.len);
    if (body.len && !owned)
        memcpy(w->copy + head.len, body.p, body.len);
    uv_buf_t bufs[2] = {
        {.base = w->copy, .len = copied},
        {.base = (char *)(uintptr_t)body.p, .len = owned ? body.len : 0},
    };
    if (uv_write(&w->request, stream_of(s), bufs, bufs[1].len ? 2 : 1, on_written) < 0) {
        free(w->owned);
        free(w);
        return HTTP_SENT_FAILED;
    }
    s->writes++;
    return HTTP_SENT_LATER;
}

static enum http_sent socket_send(struct http_connection *c, struct str head, struct str body, char *owned)
{
    struct http_socket *s = socket_of(c);
    uv_buf_t bufs[2] = {
        {.base = (char *)(uintptr_t)head.p, .len = head.len},
        {.base = (char *)(uintptr_t)body.p, .len = body.len},
    };
    int sent = s->writes ? UV_EAGAIN : uv_try_write(stream_of(s), bufs, body.len ? 2 : 1);
    if (sent < 0 && sent != UV_EAGAIN) {
        free(owned);
        return HTTP_SENT_FAILED;
    }
    size_t done = sent < 0 ? 0 : (size_t)sent;
    if (done == head.len + body.len) {
        free(owned);
        return HTTP_SENT_ALL;
    }
    size_t of_head = MIN(done, head.len), of_body = done - of_head;
    return queue(s, str_make(head.p + of_head, head.len - of_head),
                 str_make(body.p + of_body, body.len - of_body), owned);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct http_socket *s = handle->data;
    buf->base = s->conn.server->input;
    buf->len = http_connection_room(&s->conn);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct http_socket *s = stream->data;
    if (count > 0)
        http_connection_feed(&s->conn, str_make(buf->base, (size_t)count));
    else if (count == UV_EOF)
        http_connection_end_of_input(&s->conn);
    else if (count < 0 && count != UV_ENOBUFS)
        http_connection_broken(&s->conn);
}

static void socket_read(struct http_connection *c, bool on)
{
    struct http_socket *s = socket_of(c);
    if (on)
        uv_read_start(stream_of(s), on_alloc, on_read);
    else
        uv_read_stop(stream_of(s));
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status; /* the client is gone already, or reading will tell */
}

static void socket_shutdown(struct http_connection *c)
{
    struct http_socket *s = socket_of(c);
    uv_shutdown(&s->shutdown, stream_of(s), on_shutdown);
}

/* With no time to linger, close() sends RST. */
static void socket_spoil(struct http_connection *c)
{
    uv_os_fd_t fd;
    const struct linger none = {.l_onoff = 1, .l_linger = 0};
    if (uv_fileno((uv_handle_t *)&socket_of(c)->tcp, &fd) == 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

static void on_closed(uv_handle_t *handle)
{
    struct http_socket *s = handle->data;
    struct http_server *server = s->conn.server;
    http_connection_done(&s->conn);
    http_peers_leave(s->peer);
    free(s);
    http_server_handle_closed(server);
}

static void socket_close(struct http_connection *c)
{
    uv_close((uv_handle_t *)&socket_of(c)->tcp, on_closed);
}

static const struct http_stream_ops tcp_ops = {
    .send = socket_send,
    .read = socket_read,
    .shutdown = socket_shutdown,
    .spoil = socket_spoil,
    .close = socket_close,
};

/* Whether the address may have one more. Trusted proxies speak for many clients: they always may. */
static bool is_welcome(struct http_server *server, const struct sockaddr *address, const char *name,
                       struct http_peer **ret_peer)
{
    struct http_peers *peers = server->config.peers;
    if (!peers || http_peers_enter(peers, address, ret_peer) ||
        http_proxies_trust(server->config.proxies, name))
        return true;
    http_peers_note_refusal(peers, name);
    return false;
}

void http_socket_open(struct http_server *server, int fd, const struct sockaddr *address)
{
    char name[HTTP_PEER_BYTES] = "-";
    struct http_peer *peer = NULL;
    (void)uv_ip_name(address, name, sizeof name);
    if (!is_welcome(server, address, name, &peer)) {
        close(fd);
        return;
    }
    struct http_socket *s = xcalloc(1, sizeof *s);
    s->tcp.data = s;
    s->peer = peer;
    memcpy(s->conn.peer, name, sizeof name);
    WW_ASSERT(uv_tcp_init(server->loop, &s->tcp) == 0);
    http_server_handle_opened(server);
    if (uv_tcp_open(&s->tcp, fd) < 0) {
        close(fd);
        s->conn.server = server;
        uv_close((uv_handle_t *)&s->tcp, on_closed);
        return;
    }
    http_connection_open(&s->conn, server, &tcp_ops);
}
