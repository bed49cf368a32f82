/* The head of an HTTP/1 request: llhttp finds the fields, this file keeps the bounds and checks what
 * llhttp leaves to its user: version, one Host, the codings, the form of the target. RFC 9112. */
#include <ctype.h>

#include "http/http1.h"
#include "http/target.h"

enum {
    FIELDS_FIRST = 32,
    METHOD_SHOWN_BYTES = 32,
};

/* --- what llhttp calls ---------------------------------------------------------------------------- */

static struct http_exchange *exchange_of(llhttp_t *parser)
{
    return ((struct http1 *)parser->data)->x;
}

/* Ends the parse; the reason was left in c->refusal. */
#define STOP(set_refusal) ((void)(set_refusal), HPE_USER)

/* Adds the bytes to `span`: pieces of one run follow each other in the head's buffer. */
static void extend(llhttp_t *parser, struct http_span *span, const char *at, size_t len)
{
    const struct http1 *c = parser->data;
    if (span->len == 0)
        span->offset = (uint32_t)(c->x->head.len + (size_t)(at - c->input.p));
    span->len += (uint32_t)len;
}

static int on_method_complete(llhttp_t *parser)
{
    static const signed char ours[] = {
        [HTTP_GET] = HTTP_METHOD_GET + 1,         [HTTP_HEAD] = HTTP_METHOD_HEAD + 1,
        [HTTP_POST] = HTTP_METHOD_POST + 1,       [HTTP_PUT] = HTTP_METHOD_PUT + 1,
        [HTTP_PATCH] = HTTP_METHOD_PATCH + 1,     [HTTP_DELETE] = HTTP_METHOD_DELETE + 1,
        [HTTP_OPTIONS] = HTTP_METHOD_OPTIONS + 1,
    };
    struct http1 *c = parser->data;
    unsigned method = llhttp_get_method(parser);
    if (method == HTTP_PRI)
        return STOP(err_set(c->refusal, ERR_VERSION_UNSUPPORTED,
                            "HTTP/2 must be the first that a connection speaks"));
    if (method >= sizeof ours || !ours[method])
        return STOP(err_set(c->refusal, ERR_NOT_IMPLEMENTED, "the method %s is not known here",
                            llhttp_method_name((llhttp_method_t)method)));
    c->x->method = (enum http_method)(ours[method] - 1);
    c->x->has_method = true;
    return HPE_OK;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct http1 *c = parser->data;
    uint32_t max = c->server->config.limits.target_bytes_max;
    if (len > max - c->x->target.len)
        return STOP(err_set(c->refusal, ERR_URI_TOO_LONG, "the request target is longer than %u bytes", max));
    /* A request line without a version is HTTP/0.9 to llhttp, which then waits for fields. */
    if (at + len < c->input.p + c->input.len && at[len] == '\r')
        return STOP(
            err_set(c->refusal, ERR_VERSION_UNSUPPORTED, "HTTP/0.9 is not spoken here; use HTTP/1.1"));
    extend(parser, &c->x->target, at, len);
    return HPE_OK;
}

static bool in_trailer(llhttp_t *parser)
{
    return ((struct http1 *)parser->data)->state != HTTP1_HEAD;
}

static int on_field_name(llhttp_t *parser, const char *at, size_t len)
{
    struct http1 *c = parser->data;
    struct http_exchange *x = c->x;
    if (in_trailer(parser))
        return HPE_OK;
    if (c->field_open) {
        extend(parser, &x->fields[x->field_count].name, at, len);
        return HPE_OK;
    }
    if (x->field_count == x->field_capacity) {
        x->field_capacity = MAX(2 * x->field_capacity, (uint32_t)FIELDS_FIRST);
        x->fields = xrealloc(x->fields, x->field_capacity * sizeof x->fields[0]);
    }
    c->field_open = true;
    x->fields[x->field_count] = (struct http_field_span){0};
    extend(parser, &x->fields[x->field_count].name, at, len);
    return HPE_OK;
}

static int on_field_value(llhttp_t *parser, const char *at, size_t len)
{
    struct http_exchange *x = exchange_of(parser);
    if (!in_trailer(parser))
        extend(parser, &x->fields[x->field_count].value, at, len);
    return HPE_OK;
}

static int on_field_complete(llhttp_t *parser)
{
    struct http1 *c = parser->data;
    uint32_t max = c->server->config.limits.fields_max;
    if (in_trailer(parser))
        return HPE_OK;
    if (c->x->field_count == max)
        return STOP(err_set(c->refusal, ERR_HEADERS_TOO_LARGE, "the request has more than %u fields", max));
    c->field_open = false;
    c->x->field_count++;
    return HPE_OK;
}

static int on_headers_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

const llhttp_settings_t http1_settings = {
    .on_method_complete = on_method_complete,
    .on_url = on_url,
    .on_header_field = on_field_name,
    .on_header_value = on_field_value,
    .on_header_value_complete = on_field_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = http1_on_body,
    .on_chunk_header = http1_on_chunk_header,
    .on_message_complete = http1_on_message_complete,
};

/* --- what llhttp leaves to its user ------------------------------------------------------------- */

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || memchr("!#$%&'*+-.^_`|~", c, 15);
}

/* Why llhttp refused the head, of which `last` is the latest piece and `used` what was fine of it. */
static enum err refusal(struct http1 *c, llhttp_errno_t failed, struct str last, size_t used,
                        struct err_info *reterr)
{
    const char *reason = llhttp_get_error_reason(&c->parser);
    if (failed == HPE_INVALID_METHOD) {
        c->x->has_method = false; /* "GETS" began well */
        /* A word that could be a method is one that we don't know; anything else is no HTTP at all. */
        char word[METHOD_SHOWN_BYTES];
        struct buf method = {.p = word, .capacity = sizeof word, .max = sizeof word};
        buf_put_str(&method, buf_str(&c->x->head));
        buf_append(&method, last.p, MIN(used + 1, last.len));
        struct str shown = buf_str(&method);
        shown.len = str_index(shown, ' ');
        bool is_word = shown.len > 0;
        for (size_t i = 0; i < shown.len; i++)
            is_word = is_word && is_token_char(shown.p[i]);
        if (is_word)
            return err_set(reterr, ERR_NOT_IMPLEMENTED,
                           "the method that begins with \"%.*s\" is not known here", STR_FMT(shown));
    }
    if (failed == HPE_INVALID_VERSION && strcmp(reason, "Invalid HTTP version") == 0)
        return err_set(reterr, ERR_VERSION_UNSUPPORTED, "HTTP/%u.%u is not spoken here; use HTTP/1.1",
                       c->parser.http_major, c->parser.http_minor);
    return err_set(reterr, ERR_BAD_REQUEST, "the request head is malformed: %s", reason);
}

/* llhttp takes several blanks between the parts of a request line, and RTSP; RFC 9112 section 3 does not. */
static enum err check_request_line(struct http1 *c, struct err_info *reterr)
{
    struct http_exchange *x = c->x;
    unsigned major = c->parser.http_major, minor = c->parser.http_minor;
    if (major != 1 || minor > 1)
        return err_set(reterr, ERR_VERSION_UNSUPPORTED, "HTTP/%u.%u is not spoken here; use HTTP/1.1", major,
                       minor);
    struct str method = str_of(http_method_text(x->method));
    struct str line = buf_str(&x->head);
    size_t target_end = x->target.offset + x->target.len;
    struct str version = minor ? STR_LIT(" HTTP/1.1\r\n") : STR_LIT(" HTTP/1.0\r\n");
    if (!str_starts_with(line, method) || x->target.offset != method.len + 1 ||
        !str_starts_with(str_make(line.p + target_end, line.len - target_end), version))
        return err_set(reterr, ERR_BAD_REQUEST, "the request line is not \"%s target HTTP/1.1\"", method.p);
    x->old_client = minor == 0;
    return OK;
}

/* Length of "http://" or "https://" in front of an absolute target, else 0. */
static size_t scheme_length(struct str target)
{
    static const struct str schemes[] = {STR_LIT("http://"), STR_LIT("https://")};
    for (size_t i = 0; i < LENGTH_OF(schemes); i++)
        if (target.len > schemes[i].len && str_ieq(str_make(target.p, schemes[i].len), schemes[i]))
            return schemes[i].len;
    return 0;
}

/* RFC 9112 section 3.2: origin form, absolute form whose authority is the Host, or "*" for OPTIONS. */
static enum err check_target(struct http_exchange *x, struct str host, struct err_info *reterr)
{
    struct str target = http_exchange_str(x, x->target);
    enum err e = http_target_check_bytes(target, reterr);
    if (e)
        return e;
    size_t skip = 0;
    if (!str_starts_with(target, STR_LIT("/"))) {
        skip = scheme_length(target);
        struct str rest = str_make(target.p + skip, target.len - skip);
        struct str authority = str_make(rest.p, MIN(str_index(rest, '/'), str_index(rest, '?')));
        bool is_asterisk = x->method == HTTP_METHOD_OPTIONS && str_eq(target, STR_LIT("*"));
        if (!skip && !is_asterisk)
            return err_set(reterr, ERR_BAD_REQUEST, "the request target must begin with \"/\"");
        if (skip && (authority.len == 0 || (host.p && !str_ieq(authority, host))))
            return err_set(reterr, ERR_BAD_REQUEST, "the request target names another host than Host does");
        skip += skip ? authority.len : 0;
    }
    struct str rest = str_make(target.p + skip, target.len - skip);
    size_t path_len = str_index(rest, '?');
    x->path = (struct http_span){x->target.offset + (uint32_t)skip, (uint32_t)path_len};
    if (path_len < rest.len)
        x->query =
            (struct http_span){x->path.offset + (uint32_t)path_len + 1, (uint32_t)(rest.len - path_len - 1)};
    /* "http://host" means the path "/": there is one in the scheme. */
    if (path_len == 0)
        x->path = (struct http_span){x->target.offset + (uint32_t)str_index(target, '/'), 1};
    return OK;
}

/* "chunked" and nothing else, in one field. */
static enum err check_coding(const struct http1 *c, struct str coding, size_t count, struct err_info *reterr)
{
    if (count == 0)
        return OK;
    if (c->x->old_client)
        return err_set(reterr, ERR_BAD_REQUEST, "HTTP/1.0 knows no Transfer-Encoding");
    if (count == 1 && str_ieq(coding, STR_LIT("chunked")))
        return c->chunked ? OK : err_set(reterr, ERR_BAD_REQUEST, "Transfer-Encoding is malformed");
    while (coding.len)
        if (!str_ieq(str_trim(str_split(&coding, ',')), STR_LIT("chunked")))
            return err_set(reterr, ERR_NOT_IMPLEMENTED,
                           "the only transfer coding known here is \"chunked\", alone");
    return err_set(reterr, ERR_BAD_REQUEST, "Transfer-Encoding says \"chunked\" more than once");
}

static enum err check_head(struct http1 *c, struct err_info *reterr)
{
    struct http_exchange *x = c->x;
    struct str host = STR_NULL, coding = STR_NULL, expect = STR_NULL;
    size_t hosts = 0, codings = 0;
    enum err e = check_request_line(c, reterr);
    if (e)
        return e;
    for (uint32_t i = 0; i < x->field_count; i++) {
        struct str name = http_exchange_str(x, x->fields[i].name);
        struct str value = str_trim(http_exchange_str(x, x->fields[i].value));
        if (name.len == 4 && str_ieq(name, STR_LIT("host")))
            host = value, hosts++;
        else if (name.len == 17 && str_ieq(name, STR_LIT("transfer-encoding")))
            coding = value, codings++;
        else if (name.len == 6 && str_ieq(name, STR_LIT("expect")) && !x->old_client &&
                 (!expect.p || str_ieq(expect, STR_LIT("100-continue"))))
            expect = value;
    }
    if (hosts > 1 || (hosts == 0 && !x->old_client))
        return err_set(reterr, ERR_BAD_REQUEST, "the request has %zu Host fields; it must have exactly one",
                       hosts);
    if (!http_is_host(host))
        return err_set(reterr, ERR_BAD_REQUEST, "Host is not a host with an optional port");
    if ((e = check_target(x, host, reterr)))
        return e;
    c->chunked = (c->parser.flags & F_CHUNKED) != 0;
    if ((e = check_coding(c, coding, codings, reterr)))
        return e;
    if (c->parser.flags & F_CONTENT_LENGTH)
        x->content_length = (int64_t)MIN(c->parser.content_length, (uint64_t)INT64_MAX);
    if (expect.p && !str_ieq(expect, STR_LIT("100-continue")))
        return err_set(reterr, ERR_EXPECTATION_FAILED, "Expect may only say \"100-continue\"");
    x->expect_continue = expect.p != NULL;
    x->keep_alive = llhttp_should_keep_alive(&c->parser);
    return OK;
}

void http1_head_begin(struct http1 *c)
{
    llhttp_reset(&c->parser);
    c->field_open = false;
    c->chunked = false;
}

enum err http1_head_read(struct http1 *c, struct str bytes, size_t *ret_used, bool *ret_complete,
                         struct err_info *reterr)
{
    struct buf *head = &c->x->head;
    uint32_t max = c->server->config.limits.head_bytes_max;
    c->input = bytes;
    c->refusal = reterr;
    llhttp_errno_t failed = llhttp_execute(&c->parser, bytes.p, bytes.len);
    size_t used = failed ? (size_t)(llhttp_get_error_pos(&c->parser) - bytes.p) : bytes.len;
    if (!reterr->code && failed && failed != HPE_PAUSED)
        refusal(c, failed, bytes, used, reterr);
    else if (!reterr->code && used > max - head->len)
        err_set(reterr, ERR_HEADERS_TOO_LARGE, "the request head is larger than %u bytes", max);
    if (reterr->code) {
        c->x->field_count = 0; /* they are spans of bytes that are not kept */
        return reterr->code;
    }
    buf_append(head, bytes.p, used);
    *ret_used = used;
    *ret_complete = failed == HPE_PAUSED;
    return *ret_complete ? check_head(c, reterr) : OK;
}
