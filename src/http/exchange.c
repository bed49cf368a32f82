/* One request and its reply, whatever the protocol under it: routing, limits, the calls of the
 * handler, and what the public header promises about them. */
#include <ctype.h>

#include "base/clock.h"
#include "http/internal.h"
#include "http/proxy.h"

enum {
    SPARES_MAX = 256,
    SPARE_HEAD_MAX_BYTES = 8 * 1024, /* a spare with a larger buffer gives it back */
    SPARE_FIELDS_MAX = 64,
    ERROR_BODY_MAX_BYTES = 64 * 1024,
    HOST_MAX_BYTES = 255,
    HTTPS_PORT = 443,
};

/* Under AddressSanitizer nothing is reused, so that a handler that keeps a dead exchange is caught. */
#if defined(__SANITIZE_ADDRESS__)
#define REUSE false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REUSE false
#endif
#endif
#ifndef REUSE
#define REUSE true
#endif

static uint64_t rotate_left(uint64_t value, int by)
{
    return value << by | value >> (64 - by);
}

/* xoshiro256** (Blackman, Vigna): unique ids, not secrets. */
static uint64_t next_random(uint64_t s[4])
{
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

struct http_exchange *http_exchange_get(struct http_connection *conn, const struct http_transport *transport,
                                        void *carrier)
{
    struct http_server *s = conn->server;
    struct list *spare = list_pop_front(&s->spares);
    struct http_exchange *x;
    if (spare) {
        s->spare_count--;
        x = LIST_ENTRY(spare, struct http_exchange, link);
    } else {
        x = xcalloc(1, sizeof *x);
        x->head = buf_make(SIZE_MAX); /* the protocol bounds it */
    }
    *x = (struct http_exchange){
        .server = s,
        .transport = transport,
        .carrier = carrier,
        .conn = conn,
        .peer = conn->peer,
        .secure = conn->tls != NULL,
        .started_ns = clock_now_ns(),
        .content_length = -1,
        .head = x->head,
        .fields = x->fields,
        .field_capacity = x->field_capacity,
    };
    buf_clear(&x->head);
    list_init(&x->link);
    uint64_t id[2] = {next_random(s->random), next_random(s->random)};
    hex_encode(id, sizeof id, x->request_id);
    return x;
}

void http_exchange_free(struct http_exchange *x)
{
    buf_done(&x->head);
    free(x->fields);
    free(x);
}

static void put_back(struct http_exchange *x)
{
    struct http_server *s = x->server;
    if (!REUSE || s->spare_count >= SPARES_MAX || x->head.capacity > SPARE_HEAD_MAX_BYTES ||
        x->field_capacity > SPARE_FIELDS_MAX) {
        http_exchange_free(x);
        return;
    }
    s->spare_count++;
    list_push_front(&s->spares, &x->link);
}

static void tell_gone(struct http_exchange *x)
{
    if (!x->told)
        return;
    x->told = false;
    if (x->route->handler.gone)
        x->route->handler.gone(x);
}

void http_exchange_finish(struct http_exchange *x)
{
    const struct http_server_config *config = &x->server->config;
    bool worth_telling = x->told || x->status || x->route;
    tell_gone(x);
    if (config->on_done && worth_telling)
        config->on_done(x, x->status, x->reply_bytes, clock_now_ns() - x->started_ns);
    put_back(x);
}

/* --- replies ---------------------------------------------------------------------------------- */

static void reply(struct http_exchange *x, const struct http_reply *r)
{
    WW_ASSERT(!x->replied && !x->begun && r->status >= 200 && r->status <= 599);
    x->replied = true;
    x->told = false;
    x->paused = false;
    x->status = r->status;
    x->transport->reply(x, r);
}

void http_reply(struct http_exchange *x, int status, const struct http_field *fields, size_t field_count,
                struct str body)
{
    WW_ASSERT(x->told);
    reply(x,
          &(struct http_reply){.status = status, .fields = fields, .field_count = field_count, .body = body});
}

void http_reply_take(struct http_exchange *x, int status, const struct http_field *fields, size_t field_count,
                     char *body, size_t body_len)
{
    WW_ASSERT(x->told);
    reply(x, &(struct http_reply){.status = status,
                                  .fields = fields,
                                  .field_count = field_count,
                                  .body = str_make(body, body_len),
                                  .owned = body});
}

/* An error reply; `extra` (may be NULL) is one more field. */
static void reply_error(struct http_exchange *x, const struct err_info *err, unsigned retry_after,
                        const struct http_field *extra, bool close)
{
    static const struct http_field json = {STR_LIT("Content-Type"), STR_LIT("application/json")};
    const struct http_server_config *config = &x->server->config;
    struct buf body = buf_make(ERROR_BODY_MAX_BYTES);
    struct http_field fields[HTTP_ERROR_FIELDS_MAX + 2];
    size_t count = 0;
    char seconds[16];
    if (config->error_body) {
        size_t own_count = 1;
        const struct http_field *own = config->error_fields ? config->error_fields(x, &own_count) : NULL;
        config->error_body(x, err, &body);
        WW_ASSERT(own_count <= HTTP_ERROR_FIELDS_MAX);
        memcpy(fields, own ? own : &json, (own ? own_count : 1) * sizeof *fields);
        count = own ? own_count : 1;
    } else {
        buf_printf(&body, "%s\n", err_told(err));
        fields[count++] = (struct http_field){STR_LIT("Content-Type"), STR_LIT("text/plain; charset=utf-8")};
    }
    if (retry_after) {
        snprintf(seconds, sizeof seconds, "%u", retry_after);
        fields[count++] = (struct http_field){STR_LIT("Retry-After"), str_of(seconds)};
    }
    if (extra)
        fields[count++] = *extra;
    struct http_reply r = {
        .status = err_status(err->code), .fields = fields, .field_count = count, .close = close};
    r.owned = buf_take(&body, &r.body.len);
    r.body.p = r.owned;
    reply(x, &r);
}

void http_reply_error(struct http_exchange *x, const struct err_info *err, unsigned retry_after)
{
    WW_ASSERT(x->told);
    reply_error(x, err, retry_after, NULL, false);
}

/* --- a reply in pieces ---------------------------------------------------------------------------- */

void http_reply_begin(struct http_exchange *x, int status, const struct http_field *fields,
                      size_t field_count)
{
    WW_ASSERT(x->told && !x->begun && x->route->handler.writable && http_status_has_body(status));
    x->begun = true;
    x->status = status;
    x->transport->begin(
        x,
        &(struct http_reply){.status = status, .fields = fields, .field_count = field_count, .pieces = true});
}

bool http_reply_data(struct http_exchange *x, struct str bytes)
{
    WW_ASSERT(x->told && x->begun);
    return !bytes.len || x->method == HTTP_METHOD_HEAD || x->transport->data(x, bytes);
}

static void end_pieces(struct http_exchange *x)
{
    WW_ASSERT(x->told && x->begun);
    x->told = false;
    x->replied = true;
    x->paused = false;
}

void http_reply_end(struct http_exchange *x, const struct http_field *trailers, size_t trailer_count)
{
    end_pieces(x);
    x->transport->end(x, trailers, trailer_count);
}

void http_reply_abort(struct http_exchange *x)
{
    end_pieces(x);
    x->transport->abort(x);
}

void http_exchange_writable(struct http_exchange *x)
{
    WW_ASSERT(x->told && x->begun);
    x->route->handler.writable(x);
}

void http_exchange_refuse(struct http_exchange *x, const struct err_info *err, bool close)
{
    reply_error(x, err, 0, NULL, close);
}

void http_exchange_fail(struct http_exchange *x, const struct err_info *err)
{
    tell_gone(x);
    if (x->begun) { /* it is too late to say why */
        x->replied = true;
        x->transport->abort(x);
        return;
    }
    http_exchange_refuse(x, err, true);
}

/* --- the request's way to its handler ------------------------------------------------------------ */

static void refuse_route(struct http_exchange *x, unsigned methods)
{
    struct str path = http_path(x);
    struct err_info err = {0};
    char allow[HTTP_ALLOW_BYTES];
    if (str_eq(path, STR_LIT("*")))
        methods = x->server->router.methods;
    if (!methods) {
        err_set(&err, ERR_NOT_FOUND, "there is nothing at \"%.*s\"", STR_FMT(path));
        http_exchange_refuse(x, &err, false);
        return;
    }
    http_router_allow(methods, allow);
    struct http_field field = {STR_LIT("Allow"), str_of(allow)};
    if (x->method == HTTP_METHOD_OPTIONS) {
        reply(x, &(struct http_reply){.status = 204, .fields = &field, .field_count = 1});
        return;
    }
    err_set(&err, ERR_METHOD_NOT_ALLOWED, "\"%.*s\" takes %s, not %s", STR_FMT(path), allow,
            http_method_name(x));
    reply_error(x, &err, 0, &field, false);
}

static uint64_t body_limit(const struct http_exchange *x)
{
    return x->route->handler.body ? x->route->body_limit : 0;
}

static enum err body_too_large(const struct http_exchange *x, struct err_info *reterr)
{
    return err_set(reterr, ERR_BODY_TOO_LARGE,
                   "the body is larger than the %llu bytes that %s \"%.*s\" takes",
                   (unsigned long long)body_limit(x), http_method_name(x), STR_FMT(http_path(x)));
}

/* A name or a literal address, with or without a port: nothing that could lead elsewhere. */
static bool is_plain_host(struct str host, struct str *ret_name)
{
    struct str name = str_make(host.p, str_index(host, ':'));
    if (str_starts_with(host, STR_LIT("["))) {
        size_t end = str_index(host, ']');
        if (end == host.len)
            return false;
        name = str_make(host.p, end + 1);
    }
    uint64_t port;
    struct str rest = str_make(host.p + name.len, host.len - name.len);
    if (rest.len && (rest.p[0] != ':' || !str_to_u64(str_make(rest.p + 1, rest.len - 1), UINT16_MAX, &port)))
        return false;
    bool literal = str_starts_with(name, STR_LIT("["));
    for (size_t i = literal; i < name.len - literal; i++)
        if (literal ? !isxdigit((unsigned char)name.p[i]) && !memchr(":.", name.p[i], 2)
                    : !isalnum((unsigned char)name.p[i]) && !memchr("-.", name.p[i], 2))
            return false;
    *ret_name = name;
    return name.len > 2u * literal && name.len <= HOST_MAX_BYTES;
}

/* The listener that sends everybody to TLS. */
static void redirect(struct http_exchange *x)
{
    struct str name, query = http_query(x);
    unsigned port = x->server->config.redirect_port;
    if (!is_plain_host(http_field(x, "host"), &name) || str_eq(http_path(x), STR_LIT("*"))) {
        struct err_info err = {0};
        err_set(&err, ERR_BAD_REQUEST,
                "this port only leads to https://, which needs a plain host name in Host");
        http_exchange_refuse(x, &err, false);
        return;
    }
    struct buf to = buf_make(x->head.len + HOST_MAX_BYTES);
    buf_printf(&to, "https://%.*s", STR_FMT(name));
    if (port != HTTPS_PORT)
        buf_printf(&to, ":%u", port);
    buf_put_str(&to, http_path(x));
    if (query.len)
        buf_putc(&to, '?');
    buf_put_str(&to, query);
    WW_ASSERT(!to.overflow);
    struct http_field field = {STR_LIT("Location"), buf_str(&to)};
    reply(x, &(struct http_reply){.status = 308, .fields = &field, .field_count = 1});
    buf_done(&to);
}

void http_exchange_start(struct http_exchange *x)
{
    unsigned methods;
    struct err_info err = {0};
    if (x->conn->trusted)
        http_proxy_apply(x);
    if (x->server->config.redirect_port) {
        redirect(x);
        return;
    }
    x->route = http_router_find(&x->server->router, x->method, http_path(x), &methods);
    if (!x->route) {
        refuse_route(x, methods);
        return;
    }
    if (x->server->replies_bytes > x->server->config.limits.replies_bytes_max && !x->route->vital) {
        err_set(&err, ERR_BUSY, "too many replies wait for clients that read slowly");
        reply_error(x, &err, 1, NULL, false);
        return;
    }
    if (x->content_length > 0 && (uint64_t)x->content_length > body_limit(x)) {
        body_too_large(x, &err);
        http_exchange_refuse(x, &err, false);
        return;
    }
    x->told = true;
    x->route->handler.head(x);
}

uint64_t http_exchange_body_room(const struct http_exchange *x)
{
    return body_limit(x) - x->body_bytes;
}

void http_exchange_body_too_large(struct http_exchange *x)
{
    struct err_info err = {0};
    body_too_large(x, &err);
    http_exchange_fail(x, &err);
}

void http_exchange_body(struct http_exchange *x, struct str bytes)
{
    WW_ASSERT(x->told && !x->paused);
    if (bytes.len > http_exchange_body_room(x)) {
        http_exchange_body_too_large(x);
        return;
    }
    x->body_bytes += bytes.len;
    x->route->handler.body(x, bytes);
}

void http_exchange_end(struct http_exchange *x)
{
    WW_ASSERT(x->told && !x->paused);
    if (x->route->handler.end)
        x->route->handler.end(x);
}

void http_body_pause(struct http_exchange *x)
{
    WW_ASSERT(x->told);
    x->paused = true;
}

void http_body_resume(struct http_exchange *x)
{
    WW_ASSERT(x->told);
    if (!x->paused)
        return;
    x->paused = false;
    x->transport->resume(x);
}

/* --- looking at the request -------------------------------------------------------------------- */

enum http_method http_method(const struct http_exchange *x)
{
    return x->method;
}

const char *http_method_name(const struct http_exchange *x)
{
    return x->has_method ? http_method_text(x->method) : "-";
}

struct str http_path(const struct http_exchange *x)
{
    return http_exchange_str(x, x->path);
}

struct str http_query(const struct http_exchange *x)
{
    return http_exchange_str(x, x->query);
}

struct str http_field(const struct http_exchange *x, const char *name)
{
    struct str wanted = str_of(name);
    for (uint32_t i = 0; i < x->field_count; i++)
        if (x->fields[i].name.len == wanted.len && str_ieq(http_exchange_str(x, x->fields[i].name), wanted))
            return str_trim(http_exchange_str(x, x->fields[i].value));
    return STR_NULL;
}

size_t http_field_count(const struct http_exchange *x, const char *name)
{
    struct str wanted = str_of(name);
    size_t count = 0;
    for (uint32_t i = 0; i < x->field_count; i++)
        count += str_ieq(http_exchange_str(x, x->fields[i].name), wanted);
    return count;
}

int64_t http_content_length(const struct http_exchange *x)
{
    return x->content_length;
}

const char *http_peer(const struct http_exchange *x)
{
    return x->peer;
}

bool http_is_secure(const struct http_exchange *x)
{
    return x->secure;
}

const char *http_request_id(const struct http_exchange *x)
{
    return x->request_id;
}

const void *http_route_data(const struct http_exchange *x)
{
    return x->route->data;
}

void *http_exchange_server_data(const struct http_exchange *x)
{
    return x->server->config.data;
}

void *http_exchange_data(const struct http_exchange *x)
{
    return x->data;
}

void http_exchange_set_data(struct http_exchange *x, void *data)
{
    x->data = data;
}

uv_loop_t *http_exchange_loop(const struct http_exchange *x)
{
    return x->server->loop;
}
