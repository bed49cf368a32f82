/* What the files of this folder share: the server of one loop and the exchange.
 *
 * Layers, each knowing only its neighbours, through a struct of functions:
 *
 *     exchange.c, router.c        what HTTP means: routes, limits, handlers, replies
 *       struct http_transport       how a protocol version sends a reply and holds a body back
 *     http1*.c, http2*.c          framing of one connection (http1.h, http2.h)
 *       struct http_protocol        what a connection calls when bytes or deadlines come (connection.h)
 *       struct http_stream_ops      bytes in and out
 *     tls.c                       TLS by OpenSSL, where a listener has it
 *     socket.c                    TCP through libuv, in tests a fake
 *
 * server.c accepts, keeps time and drains; all of it runs on the loop's own thread. */
#ifndef WW_HTTP_INTERNAL_H
#define WW_HTTP_INTERNAL_H

#include "base/list.h"
#include "http/connection.h"
#include "http/router.h"
#include "http/server.h"
#include "http/wheel.h"

/* What a connection without a request gets when the server drains: its client may be sending one right now. */
#define HTTP_DRAIN_IDLE_NS NS_PER_S

/* A run of bytes in http_exchange.head: an offset, because the buffer moves while it grows. */
struct http_span {
    uint32_t offset;
    uint32_t len;
};

struct http_field_span {
    struct http_span name;
    struct http_span value;
};

struct http_reply {
    int status;
    const struct http_field *fields;
    size_t field_count;
    struct str body;
    char *owned; /* the malloc'ed memory of `body`, handed over; NULL: `body` is lent */
    bool close;  /* the connection can't be used for another request */
    bool pieces; /* `body` is empty, and comes piece by piece */
};

struct http_transport {
    /* Sends the final reply; the exchange may be gone when it returns. */
    void (*reply)(struct http_exchange *x, const struct http_reply *r);
    /* A reply in pieces: as http_reply_begin() and so on, but none of them tells gone(). */
    void (*begin)(struct http_exchange *x, const struct http_reply *r);
    bool (*data)(struct http_exchange *x, struct str bytes);
    void (*end)(struct http_exchange *x, const struct http_field *trailers, size_t count);
    void (*abort)(struct http_exchange *x);
    /* Pausing needs no call: the transport looks at `paused` after each call of a handler. */
    void (*resume)(struct http_exchange *x);
};

struct http_exchange {
    struct http_server *server;
    const struct http_transport *transport;
    void *carrier; /* the transport's own: its connection or stream */
    struct http_connection *conn;
    struct list link; /* in server->spares */
    const struct http_route *route;
    void *data;
    const char *peer;
    bool secure; /* the client's own connection is TLS */
    char forwarded_peer[HTTP_PEER_BYTES];
    uint64_t started_ns;

    bool has_method;
    enum http_method method;
    bool told;    /* head() was called, and neither http_reply() nor gone() since */
    bool begun;   /* a reply in pieces is on its way */
    bool replied; /* the reply, the last piece too, is with the transport */
    bool paused;
    bool keep_alive;
    bool old_client;      /* HTTP/1.0: must be told that the connection stays */
    bool expect_continue; /* the client waits for 100, which was not sent yet */

    struct buf head; /* the head as it came */
    struct http_span target, path, query;
    struct http_field_span *fields;
    uint32_t field_count;
    uint32_t field_capacity;
    int64_t content_length;
    uint64_t body_bytes;

    int status;
    uint64_t reply_bytes;
    char request_id[33];
};

struct http_server {
    uv_loop_t *loop;
    struct http_server_config config;
    struct http_router router;

    int listen_fd; /* -1: none */
    uv_poll_t listener;
    bool accept_paused;
    bool accept_failed;

    uv_timer_t timer;
    uv_idle_t again; /* runs while `ready` has connections */
    unsigned handles_open;
    struct http_wheel wheel;
    struct list connections;
    uint32_t connection_count;
    uint64_t replies_bytes; /* that connections hold for their clients */
    struct list ready;      /* connections with bytes to look at, once the stack is unwound */

    struct list spares; /* exchanges for reuse, the warmest first */
    unsigned spare_count;
    char *input;
    struct buf output; /* where a reply is put together */
    struct buf frames; /* the same for the frames of HTTP/2 */
    struct buf sealed; /* TLS records on their way out */
    char *plain;       /* what TLS has opened; NULL without TLS */
    uint64_t random[4];
    int64_t date_second;
    size_t common_len;
    char common[384]; /* Date and the security fields, ready to send */

    bool draining;
    bool closing;
    uint64_t drain_since_ns;
    uint64_t drain_deadline_ns;
    void (*drained)(void *);
    void *drained_arg;
};

/* --- server.c --------------------------------------------------------------------------------- */
/* A server that accepts nothing by itself. */
struct http_server *http_server_new_deaf(uv_loop_t *loop, const struct http_server_config *config);
/* The loop's idea of now: as old as the last poll, and free. */
uint64_t http_server_now_ns(const struct http_server *s);
/* Each libuv handle under a server counts, so that the drain ends after the last is closed. */
void http_server_handle_opened(struct http_server *s);
void http_server_handle_closed(struct http_server *s);
void http_server_connection_opened(struct http_server *s, struct list *link);
void http_server_connection_closed(struct http_server *s, struct list *link);

/* What the connection holds of replies is `bytes` now. */
void http_server_holds(struct http_connection *c, uint64_t bytes);
/* Puts a connection's `ready_link` where the loop's next turn finds it. */
void http_server_ready(struct http_server *s, struct list *link);

/* --- socket.c --------------------------------------------------------------------------------- */
/* Serves the accepted, non-blocking `fd`, taken over; or closes it, where `address` has enough connections. */
void http_socket_open(struct http_server *s, int fd, const struct sockaddr *address);

/* --- exchange.c: what a protocol calls ---------------------------------------------------------- */
/* A clean exchange with an id of its own, begun now. */
struct http_exchange *http_exchange_get(struct http_connection *conn, const struct http_transport *transport,
                                        void *carrier);
/* The head is complete and well framed: finds the route and calls head(), or refuses. Like the next
 * two: the exchange may be gone when it returns. */
void http_exchange_start(struct http_exchange *x);
void http_exchange_body(struct http_exchange *x, struct str bytes);
void http_exchange_end(struct http_exchange *x);
/* Bytes that the body may still have, and what to say to one that is announced to have more. */
uint64_t http_exchange_body_room(const struct http_exchange *x);
void http_exchange_body_too_large(struct http_exchange *x);
/* All that was given of a reply in pieces is out. */
void http_exchange_writable(struct http_exchange *x);
/* The server itself answers with an error, and closes the connection where `close`. */
void http_exchange_refuse(struct http_exchange *x, const struct err_info *err, bool close);
/* The same in the midst of a body: the handler is told gone() first. Closes. */
void http_exchange_fail(struct http_exchange *x, const struct err_info *err);
/* The last call: gone() where the handler still counts on it, on_done(), back to the spares. */
void http_exchange_finish(struct http_exchange *x);
void http_exchange_free(struct http_exchange *x);

static inline struct str http_exchange_str(const struct http_exchange *x, struct http_span span)
{
    return span.len ? str_make(x->head.p + span.offset, span.len) : STR_LIT("");
}

/* --- reply.c ------------------------------------------------------------------------------------ */
enum http_persistence {
    HTTP_PERSIST_SILENT,
    HTTP_PERSIST_KEEP_ALIVE,
    HTTP_PERSIST_CLOSE,
    HTTP_PERSIST_UNFRAMED, /* the body of a reply in pieces ends where the connection does */
};
/* Puts the HTTP/1 head of `r` into s->output, over what was there. */
void http_reply_head(struct http_server *s, const struct http_exchange *x, const struct http_reply *r,
                     enum http_persistence persistence);
/* Appends the chunk that ends a body, with its trailer section (RFC 9112 section 7.1). */
void http_reply_last_chunk(struct buf *out, const struct http_field *trailers, size_t count);
/* The fields that every reply has, X-Request-Id the last; returns how many. The values live as long as `x` and
 * until the next reply. */
enum { HTTP_COMMON_FIELDS_MAX = 8 };
size_t http_reply_common(struct http_server *s, const struct http_exchange *x, const struct http_reply *r,
                         struct http_field out[static HTTP_COMMON_FIELDS_MAX]);
/* No control characters, and a name. */
bool http_field_is_clean(const struct http_field *f);

#endif
