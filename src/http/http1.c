#include "http/http1.h"

enum {
    STASH_MAX_BYTES = 16 * 1024, /* reading stops above it */
    LINGER_MAX_BYTES = 256 * 1024,
    FRAMING_FREE_BYTES = 16 * 1024, /* chunk sizes, extensions and trailers: this much, */
    FRAMING_PER_BYTE = 8,           /* and this much more for each byte of the body */
};
#define LINGER_NS (2 * NS_PER_S)

static size_t room(const struct http1 *c);
static uint64_t due_ns(const struct http1 *c);

static struct http1 *http1_of(const struct http_connection *conn)
{
    return conn->state;
}

uint64_t http1_now_ns(const struct http1 *c)
{
    return http_server_now_ns(c->server);
}

void http1_set_state(struct http1 *c, enum http1_state state)
{
    c->state = state;
    c->since_ns = http1_now_ns(c);
}

void http1_close(struct http1 *c)
{
    if (c->state == HTTP1_CLOSED)
        return;
    http1_set_state(c, HTTP1_CLOSED);
    struct http_exchange *x = TAKE(c->x);
    if (x)
        http_exchange_finish(x);
    buf_done(&c->stash);
    buf_done(&c->waiting);
    http_connection_close(c->conn);
}

/* --- the reply ---------------------------------------------------------------------------------- */

static void become_idle(struct http1 *c)
{
    c->served = true;
    c->blank_line = c->blank_line_done = false;
    if (c->server->draining)
        http1_close(c);
    else
        http1_set_state(c, HTTP1_IDLE);
}

/* The last byte of the reply is with the socket. */
void http1_reply_is_out(struct http1 *c)
{
    struct http_exchange *x = TAKE(c->x);
    c->writing = false;
    http_exchange_finish(x);
    if (c->close_after_reply)
        http1_set_state(c, HTTP1_LINGER);
    else if (c->state == HTTP1_COMPLETE)
        become_idle(c);
}

/* The end of a connection whose last reply is out. Closing while bytes are unread makes the kernel send
 * RST, and the client may lose the reply: then its bytes are dropped for a while first. */
static void close_gently(struct http1 *c)
{
    if (c->state != HTTP1_LINGER || c->writing || c->shut)
        return;
    if (c->end_of_input || !(c->unread_body || c->lingered_bytes || c->stash.len)) {
        http1_close(c);
        return;
    }
    c->shut = true;
    http1_set_state(c, HTTP1_LINGER);
    c->conn->stream->shutdown(c->conn);
}

/* --- the request -------------------------------------------------------------------------------- */

int http1_on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct http1 *c = parser->data;
    if (len == 0)
        return HPE_OK;
    c->body_bytes += len;
    if (c->x && !c->x->replied)
        http_exchange_body(c->x, str_make(at, len));
    bool go_on = c->state == HTTP1_BODY && !(c->x && c->x->paused);
    return go_on ? HPE_OK : HPE_PAUSED;
}

/* A chunk says how long it is before it comes. */
int http1_on_chunk_header(llhttp_t *parser)
{
    struct http1 *c = parser->data;
    c->chunk_too_large = c->x && c->x->told && parser->content_length > http_exchange_body_room(c->x);
    return c->chunk_too_large ? HPE_USER : HPE_OK;
}

int http1_on_message_complete(llhttp_t *parser)
{
    ((struct http1 *)parser->data)->message_done = true;
    return HPE_PAUSED;
}

static void message_complete(struct http1 *c)
{
    http1_set_state(c, HTTP1_COMPLETE);
    if (c->x && !c->x->replied)
        http_exchange_end(c->x);
    else if (!c->writing)
        become_idle(c);
}

static void refuse_body(struct http1 *c, struct err_info *err)
{
    if (c->x && !c->x->replied)
        http_exchange_fail(c->x, err);
    else
        http1_close(c);
}

static size_t read_body(struct http1 *c, struct str bytes)
{
    struct err_info err = {0};
    if (c->parser_paused)
        llhttp_resume(&c->parser);
    c->parser_paused = c->message_done = false;
    llhttp_errno_t failed = llhttp_execute(&c->parser, bytes.p, bytes.len);
    size_t used = failed ? (size_t)(llhttp_get_error_pos(&c->parser) - bytes.p) : bytes.len;
    c->parser_paused = failed == HPE_PAUSED;
    c->wire_bytes += used;
    if (c->state != HTTP1_BODY)
        return used;
    if (failed && c->chunk_too_large) {
        http_exchange_body_too_large(c->x);
    } else if (failed && failed != HPE_PAUSED) {
        err_set(&err, ERR_BAD_REQUEST, "the request body is malformed: %s",
                llhttp_get_error_reason(&c->parser));
        refuse_body(c, &err);
    } else if (c->wire_bytes - c->body_bytes > FRAMING_FREE_BYTES + FRAMING_PER_BYTE * c->body_bytes) {
        err_set(&err, ERR_BAD_REQUEST, "the chunks of the body are nearly all framing");
        refuse_body(c, &err);
    } else if (c->message_done) {
        message_complete(c);
    }
    return used;
}

static void start_exchange(struct http1 *c)
{
    bool has_body = c->chunked || c->x->content_length > 0;
    c->body_bytes = c->wire_bytes = c->paused_ns = 0;
    c->chunk_too_large = false;
    c->parser_paused = true;
    http1_set_state(c, has_body ? HTTP1_BODY : HTTP1_COMPLETE);
    http_exchange_start(c->x);
    if (has_body || !c->x || c->x->replied)
        return;
    if (c->x->paused)
        http1_set_state(c, HTTP1_BODY); /* the parser says that the message is complete when it is resumed */
    else
        http_exchange_end(c->x);
}

static size_t read_head(struct http1 *c, struct str bytes)
{
    struct err_info err = {0};
    size_t used = bytes.len;
    bool complete = false;
    if (http1_head_read(c, bytes, &used, &complete, &err))
        http_exchange_refuse(c->x, &err, true);
    else if (complete)
        start_exchange(c);
    return used;
}

/* One blank line before a request line is let pass (RFC 9112 section 2.2); the rest is a new request. */
static size_t read_idle(struct http1 *c, struct str bytes)
{
    if (!c->blank_line_done && bytes.p[0] == (c->blank_line ? '\n' : '\r')) {
        c->blank_line_done = c->blank_line;
        c->blank_line = true;
        return 1;
    }
    c->x = http_exchange_get(c->conn, &http1_transport, c);
    http1_set_state(c, HTTP1_HEAD);
    http1_head_begin(c);
    if ((c->blank_line && !c->blank_line_done) || bytes.p[0] == '\r' || bytes.p[0] == '\n') {
        struct err_info err = {0};
        err_set(&err, ERR_BAD_REQUEST, "there is no request line, but a stray line end");
        http_exchange_refuse(c->x, &err, true);
    }
    return 0;
}

static size_t read_linger(struct http1 *c, struct str bytes)
{
    c->lingered_bytes += bytes.len;
    if (c->lingered_bytes > LINGER_MAX_BYTES && !c->writing)
        http1_close(c);
    return bytes.len;
}

static bool can_read(const struct http1 *c)
{
    if (c->send_failed)
        return false;
    switch (c->state) {
    case HTTP1_BODY: return !(c->x && c->x->paused);
    case HTTP1_COMPLETE:
    case HTTP1_CLOSED: return false;
    default: return true;
    }
}

/* Takes what it can of `bytes`; returns how much that was. */
static size_t run(struct http1 *c, struct str bytes)
{
    size_t used = 0;
    WW_ASSERT(!c->feeding);
    c->feeding = true;
    while (can_read(c) && (used < bytes.len || (c->state == HTTP1_BODY && c->parser_paused))) {
        struct str rest = str_make(bytes.p + used, bytes.len - used);
        switch (c->state) {
        case HTTP1_IDLE: used += read_idle(c, rest); break;
        case HTTP1_HEAD: used += read_head(c, rest); break;
        case HTTP1_BODY: used += read_body(c, rest); break;
        default: used += read_linger(c, rest); break;
        }
    }
    c->feeding = false;
    return used;
}

/* --- what follows from a change of state ------------------------------------------------------------ */

static void send_continue(struct http1 *c)
{
    struct http_exchange *x = c->x;
    if (c->state != HTTP1_BODY || !x || x->replied || x->paused || !x->expect_continue)
        return;
    x->expect_continue = false;
    if (c->wire_bytes)
        return; /* it did not wait */
    if (c->conn->stream->send(c->conn, STR_LIT("HTTP/1.1 100 Continue\r\n\r\n"), STR_NULL, NULL) ==
        HTTP_SENT_FAILED)
        http1_close(c);
}

/* Called at the end of whatever may have changed the state; does nothing while run() is on the stack,
 * whose caller comes here itself. */
void http1_settle(struct http1 *c)
{
    if (c->feeding)
        return;
    http_server_holds(c->conn, c->writing ? c->write_bytes + c->waiting.len : 0);
    close_gently(c);
    if (c->state == HTTP1_CLOSED)
        return;
    if (c->x && c->x->paused && !c->paused_ns)
        c->paused_ns = http1_now_ns(c);
    if (can_read(c) && (c->stash.len || (c->state == HTTP1_BODY && c->parser_paused))) {
        if (list_is_empty(&c->conn->ready_link))
            http_server_ready(c->server, &c->conn->ready_link);
    } else {
        send_continue(c);
    }
    if (c->state == HTTP1_CLOSED)
        return;
    bool want = !c->end_of_input && room(c) > 0;
    if (want != c->reading) {
        c->reading = want;
        c->conn->stream->read(c->conn, want);
    }
    http_wheel_set(&c->server->wheel, &c->conn->deadline, due_ns(c));
}

static size_t room(const struct http1 *c)
{
    if (c->stash.len == 0 && can_read(c))
        return HTTP_INPUT_BYTES;
    return c->stash.len < STASH_MAX_BYTES ? STASH_MAX_BYTES - c->stash.len : 0;
}

/* --- what the connection calls ---------------------------------------------------------------------- */

static size_t http1_room(const struct http_connection *conn)
{
    return room(http1_of(conn));
}

static void http1_feed(struct http_connection *conn, struct str bytes)
{
    struct http1 *c = http1_of(conn);
    size_t used = 0;
    WW_ASSERT(!c->feeding);
    if (c->state == HTTP1_CLOSED)
        return;
    if (c->stash.len == 0)
        used = run(c, bytes);
    if (c->state != HTTP1_CLOSED)
        WW_ASSERT(buf_append(&c->stash, bytes.p + used, bytes.len - used));
    http1_settle(c);
}

static void http1_proceed(struct http_connection *conn)
{
    struct http1 *c = http1_of(conn);
    if (c->send_failed) {
        http1_close(c);
        return;
    }
    struct buf stash = c->stash;
    c->stash = buf_make(stash.max); /* closing the connection must not free what the handler looks at */
    /* A parser that was paused within a body is run even without bytes, but llhttp takes a NULL for the
     * end of its span. */
    size_t used = run(c, stash.len ? buf_str(&stash) : STR_LIT(""));
    if (c->state != HTTP1_CLOSED && used < stash.len) {
        buf_consume(&stash, used);
        c->stash = stash;
    } else {
        buf_done(&stash);
    }
    http1_settle(c);
}

static void http1_end_of_input(struct http_connection *conn)
{
    struct http1 *c = http1_of(conn);
    c->end_of_input = true;
    c->reading = false;
    if (!c->writing)
        http1_close(c);
    else
        c->close_after_reply = true;
}

static void http1_broken(struct http_connection *conn)
{
    http1_close(http1_of(conn));
}

static void http1_flushed(struct http_connection *conn)
{
    struct http1 *c = http1_of(conn);
    if (!c->writing)
        return;
    c->writing = false;
    if (!http1_send_waiting(c))
        ; /* not yet */
    else if (c->pieces)
        http_exchange_writable(c->x);
    else
        http1_reply_is_out(c);
    http1_settle(c);
}

/* --- time --------------------------------------------------------------------------------------- */

static uint64_t with_rate(const struct http1 *c, uint64_t since_ns, uint64_t timeout_ns, uint64_t bytes)
{
    uint64_t rate = c->server->config.limits.body_min_rate;
    return since_ns + timeout_ns + (rate ? bytes * NS_PER_S / rate : 0);
}

static uint64_t due_ns(const struct http1 *c)
{
    const struct http_limits *limits = &c->server->config.limits;
    if (c->writing)
        return with_rate(c, c->write_since_ns, limits->write_timeout_ns, c->write_bytes);
    switch (c->state) {
    case HTTP1_IDLE: {
        uint64_t due = c->since_ns + (c->served ? limits->idle_timeout_ns : limits->head_timeout_ns);
        return c->server->draining ? MIN(due, c->server->drain_since_ns + HTTP_DRAIN_IDLE_NS) : due;
    }
    case HTTP1_HEAD: return c->since_ns + limits->head_timeout_ns;
    case HTTP1_BODY:
        if (c->x && c->x->paused)
            return HTTP_WHEEL_NEVER;
        return with_rate(c, c->since_ns, limits->body_timeout_ns, c->body_bytes);
    case HTTP1_LINGER: return c->since_ns + LINGER_NS;
    default: return HTTP_WHEEL_NEVER;
    }
}

static void http1_expire(struct http_connection *conn)
{
    struct http1 *c = http1_of(conn);
    struct err_info err = {0};
    if (c->writing || !c->x || c->send_failed) {
        http1_close(c);
    } else if (c->state == HTTP1_HEAD) {
        err_set(&err, ERR_REQUEST_TIMEOUT, "the request head did not arrive within %llu ms",
                (unsigned long long)(c->server->config.limits.head_timeout_ns / NS_PER_MS));
        http_exchange_refuse(c->x, &err, true);
    } else {
        err_set(&err, ERR_REQUEST_TIMEOUT, "the request body came too slowly");
        http_exchange_fail(c->x, &err);
    }
}

static void http1_drain(struct http_connection *conn)
{
    struct http1 *c = http1_of(conn);
    /* A client may be sending its next request right now, and would lose it: it is answered, with the word that the
     * connection closes. Only one that stays silent is closed. */
    http_wheel_set(&c->server->wheel, &c->conn->deadline, due_ns(c));
}

static uint64_t http1_due_ns(const struct http_connection *conn)
{
    return due_ns(http1_of(conn));
}

/* --- birth and death -------------------------------------------------------------------------------- */

static void http1_free(struct http_connection *conn)
{
    struct http1 *c = http1_of(conn);
    buf_done(&c->stash);
    buf_done(&c->waiting);
    free(c);
}

static const struct http_protocol http1 = {
    .feed = http1_feed,
    .room = http1_room,
    .end_of_input = http1_end_of_input,
    .broken = http1_broken,
    .flushed = http1_flushed,
    .due_ns = http1_due_ns,
    .expire = http1_expire,
    .proceed = http1_proceed,
    .drain = http1_drain,
    .free = http1_free,
};

void http1_open(struct http_connection *conn)
{
    struct http1 *c = xcalloc(1, sizeof *c);
    conn->protocol = &http1;
    conn->state = c;
    c->conn = conn;
    c->server = conn->server;
    c->reading = true;
    c->stash = buf_make(STASH_MAX_BYTES + HTTP_INPUT_BYTES);
    c->waiting = buf_make(HTTP1_WAITING_MAX_BYTES);
    llhttp_init(&c->parser, HTTP_REQUEST, &http1_settings);
    c->parser.data = c;
    http1_set_state(c, HTTP1_IDLE);
    http1_settle(c);
}
