/* One client connection: a stream of bytes below, a protocol above, and what the server keeps about both.
 *
 *     struct http_protocol     greet.c until it is known which one, then http1.c or http2.c
 *     struct http_stream_ops   socket.c, or tls.c on top of it
 *
 * Whoever owns the bytes (socket.c, in tests a fake) embeds the struct, opens it, calls the functions below
 * when something happens, and frees it once ops->close() was called and nothing of it is on the stack. */
#ifndef WW_HTTP_CONNECTION_H
#define WW_HTTP_CONNECTION_H

#include "base/list.h"
#include "base/str.h"
#include "http/wheel.h"

enum {
    HTTP_INPUT_BYTES = 64 * 1024, /* one read; shared by all connections of the loop */
    HTTP_PEER_BYTES = 48,
};

struct http_server;
struct http_connection;

enum http_sent { HTTP_SENT_ALL, HTTP_SENT_LATER, HTTP_SENT_FAILED };

struct http_stream_ops {
    /* Sends both in this order. LATER: the stream keeps what is left and calls flushed() when all is out.
     * `owned` (may be NULL) is the malloc'ed memory of `body`, taken over in every case. */
    enum http_sent (*send)(struct http_connection *c, struct str head, struct str body, char *owned);
    /* Starts and stops calling feed(). */
    void (*read)(struct http_connection *c, bool on);
    /* Nothing more will be sent. */
    void (*shutdown)(struct http_connection *c);
    /* Makes the close look like a fault to the client, which can't see otherwise that its reply is cut. */
    void (*spoil)(struct http_connection *c);
    /* Ends it; the memory may be freed once the present call into the protocol has returned. */
    void (*close)(struct http_connection *c);
};

struct http_protocol {
    /* Bytes from the client, at most room(); they are lent for the call. */
    void (*feed)(struct http_connection *c, struct str bytes);
    /* How many bytes feed() takes now; 0 only while reading is off. */
    size_t (*room)(const struct http_connection *c);
    /* The client sends no more. */
    void (*end_of_input)(struct http_connection *c);
    /* The connection is gone, in either direction. */
    void (*broken)(struct http_connection *c);
    /* What send() kept is out. */
    void (*flushed)(struct http_connection *c);
    /* When to call expire(); HTTP_WHEEL_NEVER while it is the handler's turn. */
    uint64_t (*due_ns)(const struct http_connection *c);
    void (*expire)(struct http_connection *c);
    /* The turn asked for with http_server_ready(). */
    void (*proceed)(struct http_connection *c);
    /* The server drains: an idle connection closes. */
    void (*drain)(struct http_connection *c);
    /* Frees c->state. */
    void (*free)(struct http_connection *c);
};

struct http_connection {
    struct http_server *server;
    const struct http_stream_ops *stream;
    const struct http_protocol *protocol;
    void *state;                    /* the protocol's */
    struct http_tls_session *tls;   /* NULL: clear text */
    struct http_identity *identity; /* of a client certificate that was verified; NULL: none */
    bool trusted;                   /* the peer is one of the trusted proxies */
    bool closed;
    uint64_t replies_bytes; /* of replies that the client has not taken */
    struct list link;       /* in server->connections */
    struct list ready_link; /* in server->ready */
    struct http_deadline deadline;
    char peer[HTTP_PEER_BYTES];
};

/* --- greet.c ------------------------------------------------------------------------------------ */
/* A new connection, with TLS where the server has it; c->peer is set already. Reading is on. */
void http_connection_open(struct http_connection *c, struct http_server *s,
                          const struct http_stream_ops *stream);
/* For the protocol: ends the connection. Fine when it has ended. */
void http_connection_close(struct http_connection *c);
/* Frees what hangs on it, not `c`. */
void http_connection_done(struct http_connection *c);

/* For the owner of the bytes: what the functions of struct http_protocol mean, TLS taken care of. */
void http_connection_feed(struct http_connection *c, struct str bytes);
size_t http_connection_room(const struct http_connection *c);
void http_connection_end_of_input(struct http_connection *c);
void http_connection_broken(struct http_connection *c);
void http_connection_flushed(struct http_connection *c);
void http_connection_proceed(struct http_connection *c);

/* --- the protocols' own ------------------------------------------------------------------------- */
/* Take over a connection whose reading is on. */
void http1_open(struct http_connection *c);
void http2_open(struct http_connection *c);

#endif
