/* Replies over HTTP/2: fields by HPACK, the body lent to nghttp2 until the client has taken it. */
#include <ctype.h>

#include "http/http2.h"

enum {
    BATCH_BYTES = 64 * 1024, /* so much of frames is gathered before it is sent */
    OWN_FIELDS = 2,          /* :status and content-length */
    TRAILERS_MAX = 8,
    TRAILERS_MAX_BYTES = 64 * 1024,
    PIECES_MAX_BYTES = 3 * 1024 * 1024, /* of a reply in pieces: what a handler may give before it is taken */
};

void http2_reply_forget(struct http2_stream *s)
{
    s->http2->queued_bytes -= s->body_len - s->body_sent;
    free(s->body);
    buf_done(&s->trailers);
    s->body = NULL;
    s->body_len = s->body_sent = s->body_capacity = 0;
    s->write_since_ns = 0;
}

/* The body is out but for its trailer fields; nghttp2 wants them no earlier. */
static void submit_trailers(struct http2_stream *s)
{
    nghttp2_nv fields[TRAILERS_MAX];
    struct str rest = buf_str(&s->trailers);
    size_t count = 0;
    while (rest.len) {
        struct str value = str_split(&rest, '\n'), name = str_split(&value, ':');
        fields[count++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                                       .namelen = name.len,
                                       .value = (uint8_t *)(uintptr_t)value.p,
                                       .valuelen = value.len};
    }
    if (nghttp2_submit_trailer(s->http2->session, s->id, fields, count))
        http2_doom(s->http2, NGHTTP2_INTERNAL_ERROR, "trailers could not be sent");
    buf_done(&s->trailers);
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *arg)
{
    (void)session, (void)id, (void)to;
    if (((struct http2 *)arg)->streams_ended)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct http2_stream *s = source->ptr;
    size_t left = s->body_len - s->body_sent, piece = MIN(len, left);
    if (!left && s->more_comes)
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (piece == left && !s->more_comes)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    if ((*flags & NGHTTP2_DATA_FLAG_EOF) && s->trailers.len) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_trailers(s);
    }
    return (ssize_t)piece;
}

int http2_put_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len,
                   nghttp2_data_source *source, void *arg)
{
    struct http2_stream *s = source->ptr;
    struct http2 *h = arg;
    struct buf *out = &h->server->frames;
    (void)session, (void)frame;
    if (h->streams_ended)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (out->len >= BATCH_BYTES)
        return NGHTTP2_ERR_WOULDBLOCK;
    buf_append(out, head, HTTP2_FRAME_HEAD_BYTES);
    WW_ASSERT(buf_append(out, s->body + s->body_sent, len));
    s->body_sent += len;
    h->queued_bytes -= len;
    s->write_since_ns = s->more_comes && s->body_sent == s->body_len ? 0 : http_server_now_ns(h->server);
    http2_guard_credit(h);
    if (s->more_comes && s->body_sent == s->body_len) {
        s->drained = true; /* told once nghttp2 is off the stack */
        h->any_drained = true;
    }
    if (s->x)
        s->x->reply_bytes += HTTP2_FRAME_HEAD_BYTES + len;
    return 0;
}

/* A name of HTTP/2 has no capitals; belongs_to_connection() says which have no place in it at all. */
static nghttp2_nv pair_of(struct str name, struct str value, struct buf *names)
{
    char *lower = names->p + names->len;
    for (size_t i = 0; i < name.len; i++)
        lower[i] = (char)tolower((unsigned char)name.p[i]);
    names->len += name.len;
    return (nghttp2_nv){.name = (uint8_t *)lower,
                        .namelen = name.len,
                        .value = (uint8_t *)(uintptr_t)value.p,
                        .valuelen = value.len};
}

static bool belongs_to_connection(struct str name)
{
    static const struct str names[] = {STR_LIT("Connection"), STR_LIT("Keep-Alive"),
                                       STR_LIT("Proxy-Connection"), STR_LIT("Transfer-Encoding"),
                                       STR_LIT("Upgrade")};
    for (size_t i = 0; i < LENGTH_OF(names); i++)
        if (str_ieq(name, names[i]))
            return true;
    return false;
}

static size_t names_length(const struct http_field *fields, size_t count)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += fields[i].name.len;
    return len;
}

static void submit(struct http2_stream *s, const struct http_reply *r)
{
    struct http2 *h = s->http2;
    struct http_field common[HTTP_COMMON_FIELDS_MAX];
    char status[16], length[24];
    size_t common_count = http_reply_common(h->server, s->x, r, common), count = 0;
    struct buf *names = &h->server->output;
    buf_clear(names);
    size_t names_len = names_length(common, common_count) + names_length(r->fields, r->field_count);
    WW_ASSERT(buf_reserve(names, names_len + sizeof ":statuscontent-length"));
    nghttp2_nv *fields = xcalloc(OWN_FIELDS + common_count + r->field_count, sizeof *fields);
    snprintf(status, sizeof status, "%d", r->status);
    snprintf(length, sizeof length, "%zu", r->body.len);
    fields[count++] = pair_of(STR_LIT(":status"), str_of(status), names);
    for (size_t i = 0; i < common_count; i++)
        fields[count++] = pair_of(common[i].name, common[i].value, names);
    fields[count - 1].flags = NGHTTP2_NV_FLAG_NO_INDEX; /* the request's id, which does not come again */
    for (size_t i = 0; i < r->field_count; i++) {
        WW_ASSERT(http_field_is_clean(&r->fields[i]));
        if (!belongs_to_connection(r->fields[i].name))
            fields[count++] = pair_of(r->fields[i].name, r->fields[i].value, names);
    }
    if (http_status_has_body(r->status) && !r->pieces)
        fields[count++] = pair_of(STR_LIT("content-length"), str_of(length), names);
    nghttp2_data_provider provider = {.source.ptr = s, .read_callback = read_body};
    int failed = nghttp2_submit_response(h->session, s->id, fields, count,
                                         s->body_len || s->more_comes ? &provider : NULL);
    free(fields);
    if (failed)
        http2_doom(h, NGHTTP2_INTERNAL_ERROR, nghttp2_strerror(failed));
}

static void reply(struct http_exchange *x, const struct http_reply *r)
{
    struct http2_stream *s = x->carrier;
    struct http2 *h = s->http2;
    size_t len = r->body.len;
    if (x->method == HTTP_METHOD_HEAD || !http_status_has_body(r->status))
        len = 0;
    if (h->queued_bytes + len > HTTP2_REPLIES_MAX_BYTES) {
        free(r->owned);
        nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_ENHANCE_YOUR_CALM);
    } else {
        if (len && r->owned) {
            s->body = r->owned;
        } else if (len) {
            s->body = xmalloc(len);
            memcpy(s->body, r->body.p, len);
        } else {
            free(r->owned);
        }
        s->body_len = len;
        h->queued_bytes += len;
        s->write_since_ns = http_server_now_ns(h->server);
        submit(s, r);
    }
    http2_touch(h);
}

/* --- a reply in pieces -------------------------------------------------------------------------- */

static void begin(struct http_exchange *x, const struct http_reply *r)
{
    struct http2_stream *s = x->carrier;
    s->more_comes = x->method != HTTP_METHOD_HEAD;
    submit(s, r);
    http2_touch(s->http2);
}

static void wake(struct http2_stream *s)
{
    /* Fine where nothing was put off: nghttp2 will ask by itself. */
    nghttp2_session_resume_data(s->http2->session, s->id);
    http2_touch(s->http2);
}

static bool data(struct http_exchange *x, struct str bytes)
{
    struct http2_stream *s = x->carrier;
    struct http2 *h = s->http2;
    size_t kept = s->body_len - s->body_sent;
    if (kept + bytes.len > PIECES_MAX_BYTES) {
        nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
        http2_touch(h);
        return false;
    }
    if (s->body_sent) {
        memmove(s->body, s->body + s->body_sent, kept);
        s->body_sent = 0;
        s->body_len = kept;
    }
    if (kept + bytes.len > s->body_capacity) {
        s->body_capacity = MAX(kept + bytes.len, 2 * s->body_capacity);
        s->body = xrealloc(s->body, s->body_capacity);
    }
    memcpy(s->body + kept, bytes.p, bytes.len);
    s->body_len += bytes.len;
    h->queued_bytes += bytes.len;
    s->drained = false;
    if (!s->write_since_ns)
        s->write_since_ns = http_server_now_ns(h->server);
    wake(s);
    return false;
}

static void end(struct http_exchange *x, const struct http_field *trailers, size_t count)
{
    struct http2_stream *s = x->carrier;
    WW_ASSERT(count <= TRAILERS_MAX);
    s->more_comes = s->drained = false;
    s->trailers = buf_make(TRAILERS_MAX_BYTES);
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < trailers[t].name.len; i++)
            buf_putc(&s->trailers, (char)tolower((unsigned char)trailers[t].name.p[i]));
        buf_putc(&s->trailers, ':');
        buf_put_str(&s->trailers, trailers[t].value);
        buf_putc(&s->trailers, '\n');
        WW_ASSERT(http_field_is_clean(&trailers[t]) && !s->trailers.overflow);
    }
    wake(s);
}

static void abort_reply(struct http_exchange *x)
{
    struct http2_stream *s = x->carrier;
    s->drained = false;
    nghttp2_submit_rst_stream(s->http2->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
    http2_touch(s->http2);
}

static void resume(struct http_exchange *x)
{
    struct http2_stream *s = x->carrier;
    s->resumed = true;
    http2_touch(s->http2);
}

const struct http_transport http2_transport = {
    .reply = reply, .begin = begin, .data = data, .end = end, .abort = abort_reply, .resume = resume};

void http2_send_continue(struct http2_stream *s)
{
    static const nghttp2_nv status = {.name = (uint8_t *)(uintptr_t) ":status",
                                      .namelen = 7,
                                      .value = (uint8_t *)(uintptr_t) "100",
                                      .valuelen = 3};
    struct http_exchange *x = s->x;
    if (!x->told || x->paused || !x->expect_continue)
        return;
    x->expect_continue = false;
    if (!s->ended && !s->body_bytes)
        nghttp2_submit_headers(s->http2->session, NGHTTP2_FLAG_NONE, s->id, NULL, &status, 1, NULL);
}
