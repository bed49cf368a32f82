/* One HTTP/1 connection: bytes in, exchanges up, replies out. It knows no socket: whoever owns the bytes
 * (socket.c, later TLS, a test) gives it a `struct http_stream_ops` and calls it when something happens.
 *
 * One request is in flight at a time. Bytes that come meanwhile are stashed, up to a bound after which
 * reading stops; reading goes on until then so that a client that leaves is noticed at once. The llhttp
 * parser is entered in one place (run()) and never from itself: a reply given inside a handler's call
 * only changes the state that run() looks at next; one given from elsewhere on the loop puts the
 * connection on the server's `ready` list if there are bytes to go on with. */
#ifndef WW_HTTP_HTTP1_H
#define WW_HTTP_HTTP1_H

#include <llhttp.h>

#include "http/internal.h"

struct http1;

enum http_sent { HTTP_SENT_ALL, HTTP_SENT_LATER, HTTP_SENT_FAILED };

struct http_stream_ops {
    /* Sends both in this order. LATER: the stream keeps what is left and calls http1_flushed() when all is
     * out. `owned` (may be NULL) is the malloc'ed memory of `body`, taken over in every case. */
    enum http_sent (*send)(struct http1 *c, struct str head, struct str body, char *owned);
    /* Starts and stops calling http1_feed(). */
    void (*read)(struct http1 *c, bool on);
    /* Nothing more will be sent. */
    void (*shutdown)(struct http1 *c);
    /* Ends it; the memory may be freed once the present call into http1_*() has returned. */
    void (*close)(struct http1 *c);
};

enum http1_state {
    HTTP1_IDLE,     /* nothing of the next request is here */
    HTTP1_HEAD,     /* its head is coming */
    HTTP1_BODY,     /* its body is coming: for the handler, or after an early reply to be dropped */
    HTTP1_COMPLETE, /* it is complete, the reply is not */
    HTTP1_LINGER,   /* the connection will be closed: what comes is dropped */
    HTTP1_CLOSED,
};

struct http1 {
    const struct http_stream_ops *stream;
    struct http_server *server;
    struct http_exchange *x; /* NULL: none, or its reply is out while its body still comes */
    enum http1_state state;
    bool served;        /* a request was answered here before */
    bool feeding;       /* run() is on the stack */
    bool parser_paused; /* llhttp has more to say even without more bytes */
    bool message_done;
    bool chunked;
    bool writing; /* a reply waits for the socket */
    bool close_after_reply;
    bool unread_body; /* the last reply went out before its request was complete */
    bool shut;        /* nothing more will be sent */
    bool end_of_input;
    bool reading;
    bool blank_line; /* the CR of a blank line before the request line was seen */
    bool blank_line_done;

    uint64_t since_ns;       /* when `state` began; for a body put off by the time it was paused */
    uint64_t paused_ns;      /* when the handler paused the body; 0: it did not */
    uint64_t write_since_ns;
    uint64_t write_bytes;
    uint64_t body_bytes; /* of this request, dropped ones included */
    uint64_t wire_bytes; /* of this body, with its framing */
    uint64_t lingered_bytes;

    struct str input;         /* what llhttp reads now, while it reads a head */
    struct err_info *refusal; /* where a callback of llhttp says why it stopped the head */
    bool field_open;          /* a field was begun and is not complete */
    llhttp_t parser;
    struct buf stash;
    struct list link;       /* in server->connections */
    struct list ready_link; /* in server->ready */
    struct http_deadline deadline;
    char peer[HTTP_PEER_BYTES];
};

/* --- for the stream ----------------------------------------------------------------------------- */
/* A new connection; reading is on. */
void http1_open(struct http1 *c, struct http_server *s, const struct http_stream_ops *stream);
/* Bytes from the client; they are lent for the call. */
void http1_feed(struct http1 *c, struct str bytes);
/* How many bytes http1_feed() takes now; 0 only while reading is off. */
size_t http1_room(const struct http1 *c);
/* The client sends no more. */
void http1_end_of_input(struct http1 *c);
/* The connection is gone, in either direction. */
void http1_broken(struct http1 *c);
/* What send() kept is out. */
void http1_flushed(struct http1 *c);

/* --- for the server ----------------------------------------------------------------------------- */
/* When to call http1_expire(); HTTP_WHEEL_NEVER while it is the handler's turn. */
uint64_t http1_due_ns(const struct http1 *c);
void http1_expire(struct http1 *c);
/* Goes on with stashed bytes. */
void http1_continue(struct http1 *c);
/* The server drains: an idle connection closes. */
void http1_drain(struct http1 *c);

/* --- http1_head.c ------------------------------------------------------------------------------- */
extern const llhttp_settings_t http1_settings;
/* Makes the parser ready for a new request in c->x. */
void http1_head_begin(struct http1 *c);
/* Reads more of the head; *ret_used bytes belonged to it. Not OK: the request is to be refused with
 * *reterr, and nothing that follows on this connection can be trusted. */
MUST_CHECK enum err http1_head_read(struct http1 *c, struct str bytes, size_t *ret_used,
                                    bool *ret_complete, struct err_info *reterr);
/* What llhttp calls for the body, in http1.c. */
int http1_on_body(llhttp_t *parser, const char *at, size_t len);
int http1_on_message_complete(llhttp_t *parser);

#endif
