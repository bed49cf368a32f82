#include "http/http2.h"

#include "base/log.h"

enum {
    LINGER_MAX_BYTES = 256 * 1024,
    FRAMES_WAITING_MAX = 256, /* of ours; reading stops above it while the client does not read */
    SETTINGS_MAX = 32,        /* entries of one frame */
    FRAMES_BATCH_BYTES = 64 * 1024,
};
#define LINGER_NS (2 * NS_PER_S)
#define LOOK_NS (250 * NS_PER_MS) /* how often deadlines of streams are looked at */
/* The rest of a request whose reply is out is not wanted (RFC 9113 section 8.1). Clients that learn it while
 * they still send may throw the reply away (curl 7.88, httpcore 1.0), so they get a little time. */
#define CUT_NS NS_PER_S
#define LAST_GOAWAY_NS (500 * NS_PER_MS) /* for a client that does not answer the PING of the drain */

static void settle(struct http2 *h);

static struct http2 *http2_of(const struct http_connection *c)
{
    return c->state;
}

static uint64_t now_ns(const struct http2 *h)
{
    return http_server_now_ns(h->server);
}

void http2_doom(struct http2 *h, uint32_t code, const char *reason)
{
    if (!h->doomed) {
        h->doomed = true;
        h->doom = code;
        h->doom_reason = reason;
    }
}

void http2_touch(struct http2 *h)
{
    if (!h->feeding && !h->flushing && h->state == HTTP2_OPEN && list_is_empty(&h->conn->ready_link))
        http_server_ready(h->server, &h->conn->ready_link);
}

/* --- the end ---------------------------------------------------------------------------------------- */

void http2_stream_end(struct http2_stream *s)
{
    struct http2 *h = s->http2;
    struct http_exchange *x = TAKE(s->x);
    list_remove(&s->link);
    h->stream_count--;
    h->waiting_count -= s->head_done && !s->started;
    h->since_ns = now_ns(h);
    if (s->held.len)
        nghttp2_session_consume_connection(h->session, s->held.len);
    buf_done(&s->held);
    http2_reply_forget(s);
    if (x)
        http_exchange_finish(x);
    free(s);
}

static void end_streams(struct http2 *h)
{
    struct list *link = h->streams.next;
    h->streams_ended = true;
    while (link != &h->streams) {
        struct http2_stream *s = LIST_ENTRY(link, struct http2_stream, link);
        nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
        http2_stream_end(s);
        link = h->streams.next;
    }
}

static void close_now(struct http2 *h)
{
    if (h->state == HTTP2_CLOSED)
        return;
    h->state = HTTP2_CLOSED;
    end_streams(h);
    http_connection_close(h->conn);
}

/* All is said. Bytes that are unread at close() would make the kernel send RST, and the client lose the
 * last frames: they are dropped for a while first. */
static void linger(struct http2 *h)
{
    end_streams(h);
    h->state = HTTP2_LINGER;
    h->since_ns = now_ns(h);
    if (!h->writing)
        h->conn->stream->shutdown(h->conn);
}

/* --- sending ---------------------------------------------------------------------------------------- */

/* Sends what the session has to say, for as long as the stream below takes it. False: closed. */
static bool flush(struct http2 *h)
{
    struct buf *out = &h->server->frames;
    while (!h->writing) {
        const uint8_t *bytes;
        ssize_t len = 1;
        h->flushing = true;
        buf_clear(out);
        while (out->len < FRAMES_BATCH_BYTES && (len = nghttp2_session_mem_send(h->session, &bytes)) > 0)
            WW_ASSERT(buf_append(out, bytes, (size_t)len));
        h->flushing = false;
        if (len < 0)
            http2_doom(h, NGHTTP2_INTERNAL_ERROR, nghttp2_strerror((int)len));
        if (!out->len)
            break;
        switch (h->conn->stream->send(h->conn, buf_str(out), STR_NULL, NULL)) {
        case HTTP_SENT_ALL: break;
        case HTTP_SENT_LATER:
            h->writing = true;
            h->write_since_ns = now_ns(h);
            break;
        case HTTP_SENT_FAILED: close_now(h); return false;
        }
        if (len < 0)
            break;
    }
    return true;
}

static void meet_doom(struct http2 *h)
{
    LOG_DEBUG("an HTTP/2 connection is ended", LOG_CSTR("peer", h->conn->peer),
              LOG_CSTR("reason", h->doom_reason));
    end_streams(h);
    nghttp2_session_terminate_session(h->session, h->doom);
    if (flush(h))
        linger(h);
}

/* --- the request ------------------------------------------------------------------------------------ */

static struct http2_stream *stream_of(struct http2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->session, id);
}

/* After each call of a handler. */
static void look_at(struct http2_stream *s)
{
    if (s->x->paused && !s->paused_ns)
        s->paused_ns = now_ns(s->http2);
    http2_send_continue(s);
}

static void give(struct http2_stream *s, struct str bytes)
{
    if (s->x->told)
        http_exchange_body(s->x, bytes);
    nghttp2_session_consume(s->http2->session, s->id, bytes.len);
    look_at(s);
}

static void tell_end(struct http2_stream *s)
{
    if (!s->ended || s->end_told || s->held.len || !s->x->told || s->x->paused)
        return;
    s->end_told = true;
    http_exchange_end(s->x);
    look_at(s);
}

static void start(struct http2_stream *s)
{
    s->http2->waiting_count--;
    http2_head_end(s);
    look_at(s);
}

/* Gives the handler what was held back. */
static void go_on(struct http2_stream *s)
{
    s->resumed = false;
    if (s->x->paused)
        return;
    if (s->paused_ns)
        s->since_ns += now_ns(s->http2) - s->paused_ns;
    s->paused_ns = 0;
    struct buf held = s->held;
    s->held = buf_make(held.max);
    if (held.len)
        give(s, buf_str(&held));
    else
        look_at(s);
    buf_done(&held);
    tell_end(s);
}

/* --- what nghttp2 calls ------------------------------------------------------------------------------- */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    (void)session;
    return http2_guard_frame(arg, hd) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* A frame of a type that nghttp2 does not know: its payload is dropped (RFC 9113 section 5.5). That there is
 * somebody who asks for such frames makes nghttp2 tell the guard of them. */
static int on_unknown_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, const uint8_t *bytes,
                            size_t len, void *arg)
{
    (void)session, (void)hd, (void)bytes, (void)len, (void)arg;
    return 0;
}

static int on_unknown_frame_end(nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd,
                                void *arg)
{
    (void)session, (void)payload, (void)hd, (void)arg;
    return NGHTTP2_ERR_CANCEL;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct http2 *h = arg;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct http2_stream *s = http2_stream_new(h, frame->hd.stream_id);
    if (s->id > h->last_id + 2) {
        h->gap_from = h->last_id;
        h->gap_to = s->id;
    }
    h->last_id = s->id;
    return nghttp2_session_set_stream_user_data(session, s->id, s);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct http2_stream *s = stream_of(arg, frame->hd.stream_id);
    (void)session, (void)flags;
    if (s && !s->head_done)
        http2_head_add(s, str_make(name, name_len), str_make(value, value_len));
    return 0;
}

static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *arg)
{
    struct http2_stream *s = stream_of(arg, frame->hd.stream_id);
    (void)session, (void)name, (void)name_len, (void)value, (void)value_len, (void)flags;
    if (s && !s->head_done && !s->refusal.code)
        err_set(&s->refusal, ERR_BAD_REQUEST, "a field of the request has bytes that are not allowed");
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *arg)
{
    struct http2 *h = arg;
    struct http2_stream *s = stream_of(h, id);
    (void)flags;
    h->data_bytes += len;
    if (!s || (s->started && !s->x->told)) {
        nghttp2_session_consume(session, id, len); /* dropped, until CUT_NS is over */
        return 0;
    }
    s->body_bytes += len;
    if (!s->started || s->x->paused || s->held.len) {
        /* Not consumed: the window bounds it. */
        if (!buf_append(&s->held, data, len))
            http2_doom(h, NGHTTP2_FLOW_CONTROL_ERROR, "more of a body came than the window allows");
    } else {
        give(s, str_make(data, len));
    }
    return h->doomed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void say_last_goaway(struct http2 *h)
{
    if (h->last_goaway)
        return;
    h->last_goaway = true;
    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct http2 *h = arg;
    (void)session;
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) && h->draining)
        say_last_goaway(h);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct http2_stream *s = stream_of(h, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_HEADERS)
        h->block_since_ns = 0;
    if (!s)
        return 0;
    s->ended = s->ended || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    if (!s->head_done) {
        s->head_done = true;
        h->waiting_count++;
    }
    if (!s->started && h->queued_bytes <= HTTP2_REPLIES_FULL_BYTES)
        start(s);
    if (s->started)
        tell_end(s);
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct http2 *h = arg;
    struct http2_stream *s = frame->hd.stream_id ? stream_of(h, frame->hd.stream_id) : NULL;
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
        http2_guard_reset(h);
    if (frame->hd.type == NGHTTP2_GOAWAY && h->draining && !h->last_goaway)
        return nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, NULL);
    if (!s || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        s->x->reply_bytes += HTTP2_FRAME_HEAD_BYTES + frame->hd.length;
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    http2_reply_forget(s);
    if (!s->ended)
        s->cut_ns = now_ns(h) + CUT_NS;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct http2_stream *s = stream_of(arg, id);
    (void)session, (void)code;
    if (s)
        http2_stream_end(s);
    return 0;
}

static nghttp2_session *session_new(struct http2 *h)
{
    nghttp2_session_callbacks *calls;
    nghttp2_option *option;
    nghttp2_session *session;
    WW_ASSERT(nghttp2_session_callbacks_new(&calls) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(calls, on_begin_frame);
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(calls, on_unknown_frame);
    nghttp2_session_callbacks_set_unpack_extension_callback(calls, on_unknown_frame_end);
    nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(calls, on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(calls, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(calls, http2_put_data);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_settings(option, SETTINGS_MAX);
    for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
        nghttp2_option_set_user_recv_extension_type(option, (uint8_t)type);
    WW_ASSERT(nghttp2_session_server_new2(&session, calls, h, option) == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(calls);
    return session;
}

/* --- what the connection calls ------------------------------------------------------------------------ */

static void http2_feed(struct http_connection *c, struct str bytes)
{
    struct http2 *h = http2_of(c);
    if (h->state == HTTP2_CLOSED)
        return;
    if (h->state == HTTP2_LINGER) {
        h->lingered_bytes += bytes.len;
        if (h->lingered_bytes > LINGER_MAX_BYTES && !h->writing)
            close_now(h);
        return;
    }
    h->feeding = true;
    ssize_t used = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes.p, bytes.len);
    h->feeding = false;
    if (used < 0)
        http2_doom(h, used == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR,
                   nghttp2_strerror((int)used));
    settle(h);
}

static size_t http2_room(const struct http_connection *c)
{
    (void)c;
    return HTTP_INPUT_BYTES;
}

static void http2_end_of_input(struct http_connection *c)
{
    close_now(http2_of(c));
}

static void http2_broken(struct http_connection *c)
{
    close_now(http2_of(c));
}

static void http2_flushed(struct http_connection *c)
{
    struct http2 *h = http2_of(c);
    if (!h->writing)
        return;
    h->writing = false;
    if (h->state == HTTP2_LINGER)
        h->conn->stream->shutdown(h->conn);
    settle(h);
}

static void http2_proceed(struct http_connection *c)
{
    struct http2 *h = http2_of(c);
    /* A handler may end only its own stream here, and no stream leaves the list before flush(). */
    h->feeding = true;
    h->any_drained = false;
    LIST_EACH(link, &h->streams)
    {
        struct http2_stream *s = LIST_ENTRY(link, struct http2_stream, link);
        if (s->drained) {
            s->drained = false;
            if (s->x->told)
                http_exchange_writable(s->x);
        }
        if (s->resumed) {
            go_on(s);
        } else if (s->head_done && !s->started && h->queued_bytes <= HTTP2_REPLIES_FULL_BYTES) {
            start(s);
            go_on(s);
        }
    }
    h->feeding = false;
    settle(h);
}

static void http2_drain(struct http_connection *c)
{
    struct http2 *h = http2_of(c);
    if (h->state != HTTP2_OPEN)
        return;
    h->draining = true;
    h->since_ns = now_ns(h);
    /* What the client sent before it hears of it is still served: the last stream is named a PING later. */
    nghttp2_submit_shutdown_notice(h->session);
    http2_touch(h);
    http_wheel_set(&h->server->wheel, &c->deadline, now_ns(h) + LAST_GOAWAY_NS);
}

/* --- time ------------------------------------------------------------------------------------------- */

static uint64_t http2_due_ns(const struct http_connection *c)
{
    const struct http2 *h = http2_of(c);
    const struct http_limits *limits = &h->server->config.limits;
    uint64_t due = HTTP_WHEEL_NEVER;
    if (h->state == HTTP2_CLOSED)
        return due;
    if (h->writing)
        due = h->write_since_ns + limits->write_timeout_ns;
    if (h->state == HTTP2_LINGER)
        return MIN(due, h->since_ns + LINGER_NS);
    if (h->block_since_ns)
        due = MIN(due, h->block_since_ns + limits->head_timeout_ns);
    if (h->draining && !h->last_goaway)
        due = MIN(due, h->since_ns + LAST_GOAWAY_NS);
    return MIN(due, h->stream_count ? h->next_look_ns : h->since_ns + limits->idle_timeout_ns);
}

static bool body_is_overdue(const struct http2_stream *s, uint64_t now)
{
    const struct http_limits *limits = &s->http2->server->config.limits;
    uint64_t rate = limits->body_min_rate;
    if (!s->started || s->ended || !s->x->told || s->x->paused)
        return false;
    return s->since_ns + limits->body_timeout_ns + (rate ? s->body_bytes * NS_PER_S / rate : 0) <= now;
}

/* Streams whose client neither sends nor takes what it should. */
static void look_at_streams(struct http2 *h, uint64_t now)
{
    h->next_look_ns = now + LOOK_NS;
    LIST_EACH(link, &h->streams)
    {
        struct http2_stream *s = LIST_ENTRY(link, struct http2_stream, link);
        if (s->x->paused && !s->paused_ns)
            s->paused_ns = now;
        if (s->write_since_ns && s->write_since_ns + h->server->config.limits.write_timeout_ns <= now) {
            s->write_since_ns = 0;
            nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
        } else if (s->cut_ns && s->cut_ns <= now) {
            s->cut_ns = 0;
            nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
        } else if (body_is_overdue(s, now)) {
            struct err_info err = {0};
            err_set(&err, ERR_REQUEST_TIMEOUT, "the request body came too slowly");
            http_exchange_fail(s->x, &err);
        }
    }
}

static void http2_expire(struct http_connection *c)
{
    struct http2 *h = http2_of(c);
    const struct http_limits *limits = &h->server->config.limits;
    uint64_t now = now_ns(h);
    if (h->state == HTTP2_LINGER || (h->writing && h->write_since_ns + limits->write_timeout_ns <= now)) {
        close_now(h);
        return;
    }
    if (h->block_since_ns && h->block_since_ns + limits->head_timeout_ns <= now)
        http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "a head did not come in time");
    else if (!h->stream_count && h->since_ns + limits->idle_timeout_ns <= now)
        http2_doom(h, NGHTTP2_NO_ERROR, "idle");
    if (h->draining && h->since_ns + LAST_GOAWAY_NS <= now)
        say_last_goaway(h);
    h->feeding = true;
    look_at_streams(h, now);
    h->feeding = false;
    settle(h);
}

/* --- what follows ------------------------------------------------------------------------------------- */

/* Called at the end of whatever may have changed the state: sends, ends, reads on. */
static void settle(struct http2 *h)
{
    if (h->state == HTTP2_OPEN) {
        if (!h->doomed && !flush(h))
            return;
        http_server_holds(h->conn, h->queued_bytes);
        if (h->doomed)
            meet_doom(h);
        else if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))
            linger(h);
    }
    if (h->state == HTTP2_CLOSED)
        return;
    if (h->any_drained || (h->waiting_count && h->queued_bytes <= HTTP2_REPLIES_FULL_BYTES))
        http2_touch(h);
    bool read = h->state == HTTP2_LINGER || !h->writing ||
                nghttp2_session_get_outbound_queue_size(h->session) < FRAMES_WAITING_MAX;
    if (read != h->reading) {
        h->reading = read;
        h->conn->stream->read(h->conn, read);
    }
    http_wheel_set(&h->server->wheel, &h->conn->deadline, http2_due_ns(h->conn));
}

/* --- birth and death -------------------------------------------------------------------------------- */

static void http2_free(struct http_connection *c)
{
    struct http2 *h = http2_of(c);
    nghttp2_session_del(h->session);
    free(h);
}

static const struct http_protocol http2 = {
    .feed = http2_feed,
    .room = http2_room,
    .end_of_input = http2_end_of_input,
    .broken = http2_broken,
    .flushed = http2_flushed,
    .due_ns = http2_due_ns,
    .expire = http2_expire,
    .proceed = http2_proceed,
    .drain = http2_drain,
    .free = http2_free,
};

void http2_open(struct http_connection *c)
{
    struct http2 *h = xcalloc(1, sizeof *h);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, c->server->config.limits.head_bytes_max},
    };
    c->protocol = &http2;
    c->state = h;
    h->conn = c;
    h->server = c->server;
    h->reading = true;
    list_init(&h->streams);
    h->since_ns = now_ns(h);
    http2_guard_init(h);
    h->session = session_new(h);
    WW_ASSERT(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, LENGTH_OF(settings)) == 0);
    WW_ASSERT(nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, HTTP2_WINDOW_BYTES) ==
              0);
    if (h->server->draining)
        http2_drain(c);
    settle(h);
}
