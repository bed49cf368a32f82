/* A connection until it is known what it speaks: TLS says it by ALPN, in clear text the first bytes do.
 * RFC 9113 section 3.3: who begins with the preface of HTTP/2 knows that it is spoken here. */
#include "http/internal.h"
#include "http/proxy.h"
#include "http/tls.h"

static const struct str preface = STR_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

struct greeting {
    uint64_t since_ns;
    size_t matched; /* bytes of the preface that are here already */
};

static struct greeting *greeting_of(const struct http_connection *c)
{
    return c->state;
}

static void become_http1(struct http_connection *c)
{
    size_t matched = greeting_of(c)->matched;
    free(c->state);
    http1_open(c);
    if (matched)
        c->protocol->feed(c, str_make(preface.p, matched));
}

static void greet_feed(struct http_connection *c, struct str bytes)
{
    struct greeting *g = greeting_of(c);
    struct str left = str_make(preface.p + g->matched, preface.len - g->matched);
    size_t compared = MIN(left.len, bytes.len);
    if (memcmp(left.p, bytes.p, compared) != 0) {
        become_http1(c);
        if (!c->closed)
            c->protocol->feed(c, bytes);
        return;
    }
    g->matched += compared;
    if (g->matched < preface.len)
        return;
    free(c->state);
    http2_open(c);
    c->protocol->feed(c, preface);
    if (!c->closed && compared < bytes.len)
        c->protocol->feed(c, str_make(bytes.p + compared, bytes.len - compared));
}

static size_t greet_room(const struct http_connection *c)
{
    (void)c;
    return HTTP_INPUT_BYTES;
}

static void greet_end_of_input(struct http_connection *c)
{
    http_connection_close(c);
}

static void greet_broken(struct http_connection *c)
{
    http_connection_close(c);
}

static void greet_flushed(struct http_connection *c)
{
    (void)c;
}

static uint64_t greet_due_ns(const struct http_connection *c)
{
    uint64_t due = greeting_of(c)->since_ns + c->server->config.limits.head_timeout_ns;
    return c->server->draining ? MIN(due, c->server->drain_since_ns + HTTP_DRAIN_IDLE_NS) : due;
}

static void greet_expire(struct http_connection *c)
{
    if (!greeting_of(c)->matched) {
        http_connection_close(c);
        return;
    }
    become_http1(c); /* it says what is wrong with half a head */
    if (!c->closed)
        c->protocol->expire(c);
}

static void greet_proceed(struct http_connection *c)
{
    (void)c;
}

static void greet_drain(struct http_connection *c)
{
    http_wheel_set(&c->server->wheel, &c->deadline, greet_due_ns(c));
}

static void greet_free(struct http_connection *c)
{
    free(c->state);
}

static const struct http_protocol greet = {
    .feed = greet_feed,
    .room = greet_room,
    .end_of_input = greet_end_of_input,
    .broken = greet_broken,
    .flushed = greet_flushed,
    .due_ns = greet_due_ns,
    .expire = greet_expire,
    .proceed = greet_proceed,
    .drain = greet_drain,
    .free = greet_free,
};

void http_connection_chosen(struct http_connection *c, bool http2)
{
    free(c->state);
    if (http2)
        http2_open(c);
    else
        http1_open(c);
}

void http_connection_open(struct http_connection *c, struct http_server *s,
                          const struct http_stream_ops *stream)
{
    struct greeting *g = xcalloc(1, sizeof *g);
    g->since_ns = http_server_now_ns(s);
    c->server = s;
    c->stream = stream;
    c->protocol = &greet;
    c->state = g;
    c->trusted = http_proxies_trust(s->config.proxies, c->peer);
    list_init(&c->ready_link);
    http_deadline_init(&c->deadline);
    http_server_connection_opened(s, &c->link);
    http_wheel_set(&s->wheel, &c->deadline, greet_due_ns(c));
    if (s->config.tls)
        http_tls_open(c, s->config.tls);
    c->stream->read(c, true);
}

void http_connection_close(struct http_connection *c)
{
    if (c->closed)
        return;
    c->closed = true;
    http_server_holds(c, 0);
    list_remove(&c->ready_link);
    http_wheel_remove(&c->deadline);
    http_server_connection_closed(c->server, &c->link);
    c->stream->close(c);
}

void http_connection_done(struct http_connection *c)
{
    if (c->protocol)
        c->protocol->free(c);
    http_tls_close(c);
}

/* --- what the owner of the bytes calls ------------------------------------------------------------ */

void http_connection_feed(struct http_connection *c, struct str bytes)
{
    if (c->closed)
        return;
    if (c->tls)
        http_tls_feed(c, bytes);
    else
        c->protocol->feed(c, bytes);
}

size_t http_connection_room(const struct http_connection *c)
{
    return c->tls ? (size_t)HTTP_INPUT_BYTES : c->protocol->room(c);
}

void http_connection_end_of_input(struct http_connection *c)
{
    if (c->closed)
        return;
    if (c->tls)
        http_tls_end_of_input(c);
    else
        c->protocol->end_of_input(c);
}

void http_connection_broken(struct http_connection *c)
{
    if (!c->closed)
        c->protocol->broken(c);
}

void http_connection_flushed(struct http_connection *c)
{
    if (c->closed)
        return;
    if (c->tls)
        http_tls_flushed(c);
    else
        c->protocol->flushed(c);
}

void http_connection_proceed(struct http_connection *c)
{
    c->protocol->proceed(c);
    if (c->tls && !c->closed)
        http_tls_feed(c, STR_LIT(""));
}
