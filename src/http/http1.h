/* One HTTP/1 connection: bytes in, exchanges up, replies out; a `struct http_protocol` of connection.h.
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

enum http1_state {
    HTTP1_IDLE,     /* nothing of the next request is here */
    HTTP1_HEAD,     /* its head is coming */
    HTTP1_BODY,     /* its body is coming: for the handler, or after an early reply to be dropped */
    HTTP1_COMPLETE, /* it is complete, the reply is not */
    HTTP1_LINGER,   /* the connection will be closed: what comes is dropped */
    HTTP1_CLOSED,
};

struct http1 {
    struct http_connection *conn;
    struct http_server *server;
    struct http_exchange *x; /* NULL: none, or its reply is out while its body still comes */
    enum http1_state state;
    bool served;        /* a request was answered here before */
    bool feeding;       /* run() is on the stack */
    bool parser_paused; /* llhttp has more to say even without more bytes */
    bool message_done;
    bool chunk_too_large;
    bool chunked;
    bool writing;     /* a reply waits for the socket */
    bool pieces;      /* the reply comes in pieces, */
    bool chunks;      /* as chunks; else it ends with the connection */
    bool pieces_keep; /* the connection may stay after it */
    bool send_failed; /* the socket takes no more; closed in the next turn */
    bool close_after_reply;
    bool unread_body; /* the last reply went out before its request was complete */
    bool shut;        /* nothing more will be sent */
    bool end_of_input;
    bool reading;
    bool blank_line; /* the CR of a blank line before the request line was seen */
    bool blank_line_done;

    uint64_t since_ns;  /* when `state` began; for a body put off by the time it was paused */
    uint64_t paused_ns; /* when the handler paused the body; 0: it did not */
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
    struct buf waiting; /* pieces of the reply, while the socket is busy */
};

/* What a handler may give of a reply in pieces while the socket is busy. */
enum { HTTP1_WAITING_MAX_BYTES = 3 * 1024 * 1024 };

/* --- http1.c ------------------------------------------------------------------------------------ */
uint64_t http1_now_ns(const struct http1 *c);
void http1_set_state(struct http1 *c, enum http1_state state);
/* At the end of whatever may have changed the state: reads on, keeps time, closes. */
void http1_settle(struct http1 *c);
/* The last byte of the reply is with the socket. */
void http1_reply_is_out(struct http1 *c);
void http1_close(struct http1 *c);

/* --- http1_reply.c ------------------------------------------------------------------------------ */
extern const struct http_transport http1_transport;
/* The socket is free: sends the pieces that were kept. False: it is busy again. */
bool http1_send_waiting(struct http1 *c);

/* --- http1_head.c ------------------------------------------------------------------------------- */
extern const llhttp_settings_t http1_settings;
/* Makes the parser ready for a new request in c->x. */
void http1_head_begin(struct http1 *c);
/* Reads more of the head; *ret_used bytes belonged to it. Not OK: the request is to be refused with
 * *reterr, and nothing that follows on this connection can be trusted. */
MUST_CHECK enum err http1_head_read(struct http1 *c, struct str bytes, size_t *ret_used, bool *ret_complete,
                                    struct err_info *reterr);
/* What llhttp calls for the body, in http1.c. */
int http1_on_body(llhttp_t *parser, const char *at, size_t len);
int http1_on_chunk_header(llhttp_t *parser);
int http1_on_message_complete(llhttp_t *parser);

#endif
