/* One HTTP/2 connection (RFC 9113) over nghttp2: a `struct http_protocol` of connection.h. A stream is an
 * exchange.
 *
 * nghttp2 1.52 does the framing, HPACK, the state of streams and the form of messages; this side adds what
 * it leaves open: budgets for what costs us more than the client (http2_guard.c), bounds on heads
 * (http2_head.c), flow control by what handlers take, deadlines, and a bound on replies that wait.
 *
 * The session is entered in two places, feed() and flush(); a reply given within a callback of either is
 * only submitted, and is sent when that one is done. One given from elsewhere on the loop puts the
 * connection on the server's `ready` list: all replies of a turn leave in one write. */
#ifndef WW_HTTP_HTTP2_H
#define WW_HTTP_HTTP2_H

#include <nghttp2/nghttp2.h>

#include "http/internal.h"

enum {
    HTTP2_FRAME_HEAD_BYTES = 9,
    HTTP2_STREAMS_MAX = 100,
    HTTP2_STREAM_WINDOW_BYTES = 128 * 1024,
    HTTP2_WINDOW_BYTES =
        512 * 1024, /* of the connection: so much of bodies that handlers don't take is held */
    HTTP2_REPLIES_FULL_BYTES =
        8 * 1024 * 1024, /* of bodies that wait for the client: above it requests wait too */
    HTTP2_REPLIES_MAX_BYTES = 128 * 1024 * 1024, /* a reply past it is lost */
};

enum http2_state {
    HTTP2_OPEN,
    HTTP2_LINGER, /* the last frame is out: what comes is dropped until the client closes */
    HTTP2_CLOSED,
};

/* So many at once, so many a second. */
struct http2_budget {
    uint64_t tokens; /* thousandths */
    uint64_t since_ns;
};

struct http2 {
    struct http_connection *conn;
    struct http_server *server;
    nghttp2_session *session;
    enum http2_state state;
    bool feeding, flushing;
    bool writing; /* the stream below keeps frames */
    bool reading;
    bool draining, last_goaway;
    bool streams_ended; /* what nghttp2 still knows of them is gone */
    bool any_drained;   /* of the streams */
    bool doomed;
    uint32_t doom; /* the error code to end the connection with */
    const char *doom_reason;

    struct list streams;
    int32_t last_id;          /* the newest of all */
    int32_t gap_from, gap_to; /* the client left out what is between: it can't be used any more */
    uint32_t stream_count;
    uint32_t waiting_count; /* of them: head_done, not started */
    uint64_t queued_bytes;  /* of reply bodies */

    uint64_t since_ns; /* when the last stream ended, or draining began */
    uint64_t write_since_ns;
    uint64_t block_since_ns; /* when the head that is coming began; 0: none is */
    uint64_t next_look_ns;   /* when to look at the streams' deadlines */
    uint64_t lingered_bytes;

    struct http2_budget resets, controls, cheap;
    uint64_t data_bytes, data_wire_bytes; /* of bodies, and as they came */
    size_t block_bytes;                   /* of the present head, as it came */
    unsigned block_frames;
};

struct http2_stream {
    struct http2 *http2;
    struct http_exchange *x; /* NULL: finished, or a head that is refused */
    int32_t id;
    struct list link; /* in http2->streams */
    bool head_done;
    bool started; /* and was looked at: not while too many replies wait */
    bool ended;   /* all of the request is here */
    bool end_told;
    bool resumed;
    bool has_authority;
    bool too_large; /* its head */
    struct err_info refusal;
    struct http_span scheme, method, authority;

    struct buf held;    /* bytes that came while the handler was paused */
    uint64_t since_ns;  /* when the body began; later by the time it was paused */
    uint64_t paused_ns; /* 0: it is not */
    uint64_t body_bytes;

    char *body; /* of the reply; owned */
    size_t body_len, body_sent;
    size_t body_capacity;    /* of a reply in pieces */
    bool more_comes;         /* there will be more pieces */
    struct buf trailers;     /* "name:value\n" each */
    bool drained;            /* all pieces are sent, and the handler is to be told */
    uint64_t write_since_ns; /* when the reply last got on; 0: there is none */
    uint64_t cut_ns; /* the reply is out and the request is not complete: when to end that; 0: no such */
};

/* --- http2.c ------------------------------------------------------------------------------------ */
/* Ends the connection with GOAWAY and this code, once nghttp2 is off the stack. */
void http2_doom(struct http2 *h, uint32_t code, const char *reason);
/* Something is to be sent. */
void http2_touch(struct http2 *h);
/* The client resets `s`, or we do: the handler is told, the memory goes. */
void http2_stream_end(struct http2_stream *s);

/* --- http2_head.c ------------------------------------------------------------------------------- */
struct http2_stream *http2_stream_new(struct http2 *h, int32_t id);
/* A field of the head, a pseudo one too. */
void http2_head_add(struct http2_stream *s, struct str name, struct str value);
/* The head is complete: starts the exchange, or refuses it. */
void http2_head_end(struct http2_stream *s);

/* --- http2_reply.c ------------------------------------------------------------------------------ */
extern const struct http_transport http2_transport;
/* For nghttp2: puts a DATA frame into server->frames. */
int http2_put_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len,
                   nghttp2_data_source *source, void *arg);
/* 100 Continue, where the client waits for it. */
void http2_send_continue(struct http2_stream *s);
/* Frees the body of the reply. */
void http2_reply_forget(struct http2_stream *s);

/* --- http2_guard.c ------------------------------------------------------------------------------ */
void http2_guard_init(struct http2 *h);
/* A frame begins to come in. False: the connection was doomed. */
bool http2_guard_frame(struct http2 *h, const nghttp2_frame_hd *hd);
/* A stream was reset, by whomever, for a fault or whim of the client. */
void http2_guard_reset(struct http2 *h);
/* A frame of ours makes answers of the client right. */
void http2_guard_credit(struct http2 *h);

#endif
