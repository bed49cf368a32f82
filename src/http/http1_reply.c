/* Replies over HTTP/1: whole, or in pieces. */
#include "http/http1.h"

enum {
    DISCARD_MAX_BYTES =
        64 * 1024,             /* what may be left of a body after an early reply, to keep the connection */
    JOIN_MAX_BYTES = 8 * 1024, /* a body up to here is copied behind its head */
    PIECE_MAX_BYTES = 128 * 1024, /* of a reply in pieces: a chunk */
};

/* Whether the rest of the body is short enough to be dropped so that the connection can go on. A client
 * that waits for "100 Continue" may or may not send its body after all: then nobody knows. */
static bool can_discard(const struct http1 *c)
{
    const struct http_exchange *x = c->x;
    if (x->expect_continue || c->chunked)
        return false;
    return x->content_length - (int64_t)c->body_bytes <= DISCARD_MAX_BYTES;
}

static void http1_reply(struct http_exchange *x, const struct http_reply *r)
{
    struct http1 *c = x->carrier;
    struct http_server *s = c->server;
    bool whole = c->state == HTTP1_COMPLETE;
    bool keep = x->keep_alive && !r->close && !s->draining && (whole || can_discard(c));
    http_reply_head(s, x, r,
                    !keep           ? HTTP_PERSIST_CLOSE
                    : x->old_client ? HTTP_PERSIST_KEEP_ALIVE
                                    : HTTP_PERSIST_SILENT);
    struct str body = r->body;
    char *owned = r->owned;
    if (x->method == HTTP_METHOD_HEAD || !http_status_has_body(r->status))
        body.len = 0;
    if (body.len && body.len <= JOIN_MAX_BYTES) {
        buf_put_str(&s->output, body);
        body.len = 0;
    }
    if (body.len == 0) {
        free(owned);
        owned = NULL;
    }
    c->close_after_reply = !keep;
    if (!keep && !whole) {
        c->unread_body = true;
        http1_set_state(c, HTTP1_LINGER);
    }
    x->reply_bytes = s->output.len + body.len;
    switch (c->conn->stream->send(c->conn, buf_str(&s->output), body, owned)) {
    case HTTP_SENT_ALL: http1_reply_is_out(c); break;
    case HTTP_SENT_LATER:
        c->writing = true;
        c->write_since_ns = http1_now_ns(c);
        c->write_bytes = x->reply_bytes;
        break;
    case HTTP_SENT_FAILED:
        x->reply_bytes = 0;
        http1_close(c);
        break;
    }
    http1_settle(c);
}

/* --- a reply in pieces -------------------------------------------------------------------------- */

/* Closes in the next turn: the handler, which is on the stack, must not be told now that the client is gone. */
static void close_soon(struct http1 *c)
{
    c->send_failed = true;
    if (list_is_empty(&c->conn->ready_link))
        http_server_ready(c->server, &c->conn->ready_link);
}

/* Sends `bytes`, or keeps them while the socket is busy. False: not all is out. */
static bool send_piece(struct http1 *c, struct str bytes)
{
    if (c->send_failed)
        return false;
    if (c->writing) {
        if (!buf_put_str(&c->waiting, bytes))
            close_soon(c);
        return false;
    }
    switch (c->conn->stream->send(c->conn, bytes, STR_NULL, NULL)) {
    case HTTP_SENT_ALL: return true;
    case HTTP_SENT_LATER:
        c->writing = true;
        c->write_since_ns = http1_now_ns(c);
        c->write_bytes = bytes.len;
        return false;
    default: close_soon(c); return false;
    }
}

/* The same for what is in server->output, which is a part of the reply. */
static bool send_output(struct http1 *c)
{
    WW_ASSERT(!c->server->output.overflow);
    c->x->reply_bytes += c->server->output.len;
    return send_piece(c, buf_str(&c->server->output));
}

/* Sends what was kept. False: the socket is busy again. */
bool http1_send_waiting(struct http1 *c)
{
    struct buf waiting = c->waiting;
    c->waiting = buf_make(waiting.max);
    bool out = !waiting.len || send_piece(c, buf_str(&waiting));
    buf_done(&waiting);
    return out;
}

static void http1_begin(struct http_exchange *x, const struct http_reply *r)
{
    struct http1 *c = x->carrier;
    c->pieces = true;
    c->chunks = c->parser.http_minor > 0;
    c->pieces_keep =
        c->chunks && x->keep_alive && !c->server->draining && (c->state == HTTP1_COMPLETE || can_discard(c));
    http_reply_head(c->server, x, r,
                    !c->chunks       ? HTTP_PERSIST_UNFRAMED
                    : c->pieces_keep ? HTTP_PERSIST_SILENT
                                     : HTTP_PERSIST_CLOSE);
    send_output(c);
    http1_settle(c);
}

static bool http1_data(struct http_exchange *x, struct str bytes)
{
    struct http1 *c = x->carrier;
    struct buf *out = &c->server->output;
    bool all_out = true;
    while (bytes.len) {
        struct str piece = str_make(bytes.p, MIN(bytes.len, (size_t)PIECE_MAX_BYTES));
        buf_clear(out);
        if (c->chunks)
            buf_printf(out, "%zx\r\n", piece.len);
        buf_put_str(out, piece);
        if (c->chunks)
            buf_put_str(out, STR_LIT("\r\n"));
        all_out = send_output(c);
        bytes = str_make(bytes.p + piece.len, bytes.len - piece.len);
    }
    http1_settle(c);
    return all_out;
}

/* The last bytes are in server->output. */
static void end_pieces(struct http1 *c, bool keep)
{
    c->pieces = false;
    c->close_after_reply = !keep;
    if (!keep && c->state != HTTP1_COMPLETE) {
        c->unread_body = true;
        http1_set_state(c, HTTP1_LINGER);
    }
    if (send_output(c))
        http1_reply_is_out(c);
    http1_settle(c);
}

static void http1_end(struct http_exchange *x, const struct http_field *trailers, size_t count)
{
    struct http1 *c = x->carrier;
    struct buf *out = &c->server->output;
    bool whole = c->state == HTTP1_COMPLETE;
    buf_clear(out);
    if (c->chunks)
        http_reply_last_chunk(out, trailers, count);
    end_pieces(c, c->pieces_keep && !c->end_of_input && (whole || can_discard(c)));
}

/* Without the last chunk the client knows. Where only the close would end the body it can't, unless it is a reset. */
static void http1_abort(struct http_exchange *x)
{
    struct http1 *c = x->carrier;
    c->pieces = false;
    if (!c->chunks)
        c->conn->stream->spoil(c->conn);
    close_soon(c);
}

static void http1_resume(struct http_exchange *x)
{
    struct http1 *c = x->carrier;
    if (c->paused_ns)
        c->since_ns += http1_now_ns(c) - c->paused_ns;
    c->paused_ns = 0;
    http1_settle(c);
}

const struct http_transport http1_transport = {.reply = http1_reply,
                                               .begin = http1_begin,
                                               .data = http1_data,
                                               .end = http1_end,
                                               .abort = http1_abort,
                                               .resume = http1_resume};
