/* The head of an HTTP/2 request. nghttp2 has checked the form of each field, that no field belongs to a
 * connection, and that the pseudo-fields are there once and first (RFC 9113 sections 8.2 and 8.3); this file
 * keeps the bounds, and checks what they say as HTTP/1 does. */
#include "http/http2.h"
#include "http/target.h"

enum {
    FIELD_COST_BYTES = 32, /* of each in the size of a head: RFC 9113 section 6.5.2 */
    FIELDS_FIRST = 16,
};

struct http2_stream *http2_stream_new(struct http2 *h, int32_t id)
{
    struct http2_stream *s = xcalloc(1, sizeof *s);
    s->http2 = h;
    s->id = id;
    s->held = buf_make(HTTP2_STREAM_WINDOW_BYTES);
    s->x = http_exchange_get(h->conn, &http2_transport, s);
    s->x->keep_alive = true;
    list_push_back(&h->streams, &s->link);
    h->stream_count++;
    return s;
}

static struct http_span keep(struct http_exchange *x, struct str text)
{
    struct http_span span = {(uint32_t)x->head.len, (uint32_t)text.len};
    buf_put_str(&x->head, text);
    return span;
}

static void add_field(struct http_exchange *x, struct http_span name, struct http_span value)
{
    if (x->field_count == x->field_capacity) {
        x->field_capacity = MAX(2 * x->field_capacity, (uint32_t)FIELDS_FIRST);
        x->fields = xrealloc(x->fields, x->field_capacity * sizeof x->fields[0]);
    }
    x->fields[x->field_count++] = (struct http_field_span){name, value};
}

static void refuse(struct http2_stream *s, enum err code, const char *what, uint32_t max)
{
    s->too_large = true;
    if (code == ERR_HEADERS_TOO_LARGE)
        err_set(&s->refusal, code, "the request has more than %u %s", max, what);
    else
        err_set(&s->refusal, code, "the request target is longer than %u bytes", max);
}

void http2_head_add(struct http2_stream *s, struct str name, struct str value)
{
    struct http_exchange *x = s->x;
    const struct http_limits *limits = &s->http2->server->config.limits;
    if (!x || s->too_large)
        return;
    size_t cost = name.len + value.len + FIELD_COST_BYTES;
    if (str_eq(name, STR_LIT(":path")) && value.len > limits->target_bytes_max)
        refuse(s, ERR_URI_TOO_LONG, "", limits->target_bytes_max);
    else if (cost > limits->head_bytes_max ||
             x->head.len + x->field_count * FIELD_COST_BYTES + cost > limits->head_bytes_max)
        refuse(s, ERR_HEADERS_TOO_LARGE, "bytes in its head", limits->head_bytes_max);
    else if (x->field_count == limits->fields_max)
        refuse(s, ERR_HEADERS_TOO_LARGE, "fields", limits->fields_max);
    if (s->too_large)
        return;
    if (str_eq(name, STR_LIT(":method")))
        s->method = keep(x, value);
    else if (str_eq(name, STR_LIT(":scheme")))
        s->scheme = keep(x, value);
    else if (str_eq(name, STR_LIT(":path")))
        x->target = keep(x, value);
    else if (str_eq(name, STR_LIT(":authority")))
        s->authority = keep(x, value), s->has_authority = true;
    else if (!str_starts_with(name, STR_LIT(":"))) {
        struct http_span name_span = keep(x, name);
        add_field(x, name_span, keep(x, value));
    }
}

/* --- what it says ---------------------------------------------------------------------------------- */

static enum err check_method(struct http2_stream *s, struct err_info *reterr)
{
    struct http_exchange *x = s->x;
    struct str method = http_exchange_str(x, s->method);
    for (unsigned m = 0; m < HTTP_METHOD_COUNT; m++)
        if (str_eq(method, str_of(http_method_text((enum http_method)m)))) {
            x->method = (enum http_method)m;
            x->has_method = true;
            return OK;
        }
    return err_set(reterr, ERR_NOT_IMPLEMENTED, "the method %.*s is not known here",
                   STR_FMT(str_make(method.p, MIN(method.len, (size_t)32))));
}

/* :authority and Host are one thing (RFC 9113 section 8.3.1): handlers find it as Host. */
static enum err check_host(struct http2_stream *s, struct err_info *reterr)
{
    struct http_exchange *x = s->x;
    size_t hosts = http_field_count(x, "host");
    struct str host = http_field(x, "host"), authority = http_exchange_str(x, s->authority);
    if (hosts > 1 || (hosts == 0 && !s->has_authority))
        return err_set(reterr, ERR_BAD_REQUEST, "the request names %zu hosts; it must name exactly one",
                       hosts);
    if (hosts && s->has_authority && !str_ieq(host, authority))
        return err_set(reterr, ERR_BAD_REQUEST, "Host names another host than :authority does");
    if (!http_is_host(hosts ? host : authority))
        return err_set(reterr, ERR_BAD_REQUEST, "the request's host is not a host with an optional port");
    if (!hosts) {
        struct http_span name = keep(x, STR_LIT("host"));
        add_field(x, name, s->authority);
    }
    return OK;
}

static enum err check_target(struct http2_stream *s, struct err_info *reterr)
{
    struct http_exchange *x = s->x;
    struct str target = http_exchange_str(x, x->target), scheme = http_exchange_str(x, s->scheme);
    if (!str_ieq(scheme, STR_LIT("http")) && !str_ieq(scheme, STR_LIT("https")))
        return err_set(reterr, ERR_BAD_REQUEST, "the scheme is neither http nor https");
    enum err e = http_target_check_bytes(target, reterr);
    if (e)
        return e;
    bool is_asterisk = x->method == HTTP_METHOD_OPTIONS && str_eq(target, STR_LIT("*"));
    if (!is_asterisk && !str_starts_with(target, STR_LIT("/")))
        return err_set(reterr, ERR_BAD_REQUEST, "the request target must begin with \"/\"");
    size_t path_len = str_index(target, '?');
    x->path = (struct http_span){x->target.offset, (uint32_t)path_len};
    if (path_len < target.len)
        x->query = (struct http_span){x->target.offset + (uint32_t)path_len + 1,
                                      (uint32_t)(target.len - path_len - 1)};
    return OK;
}

/* A client may send its cookies one by one (RFC 9113 section 8.2.3); here they are one field. */
static void join_cookies(struct http_exchange *x)
{
    uint32_t first = UINT32_MAX, kept = 0, count = 0;
    struct buf joined = buf_make(x->head.len * 2);
    for (uint32_t i = 0; i < x->field_count; i++) {
        struct http_field_span field = x->fields[i];
        if (!str_eq(http_exchange_str(x, field.name), STR_LIT("cookie"))) {
            x->fields[kept++] = field;
            continue;
        }
        if (count++)
            buf_puts(&joined, "; ");
        else
            x->fields[first = kept++] = field;
        buf_put_str(&joined, http_exchange_str(x, field.value));
    }
    x->field_count = kept;
    if (count > 1)
        x->fields[first].value = keep(x, buf_str(&joined));
    buf_done(&joined);
}

static enum err check_head(struct http2_stream *s, struct err_info *reterr)
{
    struct http_exchange *x = s->x;
    if (s->refusal.code) {
        *reterr = s->refusal;
        return reterr->code;
    }
    enum err e = check_method(s, reterr);
    if (!e)
        e = check_host(s, reterr);
    if (!e)
        e = check_target(s, reterr);
    if (e)
        return e;
    uint64_t length;
    struct str given = http_field(x, "content-length");
    if (given.p && str_to_u64(given, INT64_MAX, &length))
        x->content_length = (int64_t)length;
    struct str expect = http_field(x, "expect");
    if (expect.p && !str_ieq(expect, STR_LIT("100-continue")))
        return err_set(reterr, ERR_EXPECTATION_FAILED, "Expect may only say \"100-continue\"");
    x->expect_continue = expect.p != NULL;
    join_cookies(x);
    return OK;
}

void http2_head_end(struct http2_stream *s)
{
    struct err_info err = {0};
    s->started = true;
    s->since_ns = http_server_now_ns(s->http2->server);
    if (check_head(s, &err)) {
        s->x->field_count = 0;
        http_exchange_refuse(s->x, &err, false);
    } else {
        http_exchange_start(s->x);
    }
}
