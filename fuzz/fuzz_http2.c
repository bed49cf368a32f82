/* An HTTP/2 connection without a socket or TLS. The input is a list of steps for both sides: frames and raw
 * bytes of the client, replies and pauses of the handler, a socket that takes frames late or breaks, deadlines,
 * the drain. What must hold: each request that a handler was told of ends exactly once, nothing is called for
 * it after that, and what waits for the client stays bounded. */
#include "http/http2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIVE_MAX = 2 * HTTP2_STREAMS_MAX };

struct fake {
    struct http_connection conn;
    bool closed, shut, reading, pending;
    enum http_sent mode;
};

/* What the handlers remember; there is one connection at a time. */
static struct http_exchange *live[LIVE_MAX];
static size_t live_count;
static uint64_t told, ended, done;

/* --- the stream ------------------------------------------------------------------------------------ */

static struct fake *fake_of(struct http_connection *c)
{
    return CONTAINER_OF(c, struct fake, conn);
}

static enum http_sent fake_send(struct http_connection *c, struct str head, struct str body, char *owned)
{
    struct fake *f = fake_of(c);
    WW_ASSERT(!f->closed && !f->shut && !f->pending && head.len && !body.len && !owned);
    f->pending = f->mode == HTTP_SENT_LATER;
    return f->mode;
}

static void fake_read(struct http_connection *c, bool on)
{
    fake_of(c)->reading = on;
}

static void fake_shutdown(struct http_connection *c)
{
    WW_ASSERT(!fake_of(c)->shut && !fake_of(c)->pending);
    fake_of(c)->shut = true;
}

static void fake_close(struct http_connection *c)
{
    WW_ASSERT(!fake_of(c)->closed);
    fake_of(c)->closed = true;
}

static void fake_spoil(struct http_connection *c)
{
    (void)c;
}

static const struct http_stream_ops stream = {fake_send, fake_read, fake_shutdown, fake_spoil, fake_close};

/* --- the handlers ---------------------------------------------------------------------------------- */

static void end_of(struct http_exchange *x)
{
    size_t at = 0;
    while (at < live_count && live[at] != x)
        at++;
    WW_ASSERT(at < live_count && http_exchange_data(x) == &told);
    http_exchange_set_data(x, NULL);
    live[at] = live[--live_count];
    ended++;
}

/* A reply in pieces: begun, gone on with, ended or aborted; all at once where the path is not for later. */
static void answer_in_pieces(struct http_exchange *x)
{
    static const struct http_field trailer = {STR_LIT("X-Some"), STR_LIT("thing")};
    static char large[20000];
    static unsigned turns;
    struct str path = http_path(x);
    if (!x->begun) {
        http_reply_begin(x, 200, NULL, 0);
        http_reply_data(x, path);
        if (str_starts_with(path, STR_LIT("/l")))
            return;
    } else if (turns++ % 3) {
        http_reply_data(x, str_make(large, sizeof large));
        return;
    }
    end_of(x);
    if (str_ends_with(path, STR_LIT("!+")))
        http_reply_abort(x);
    else
        http_reply_end(x, &trailer, str_ends_with(path, STR_LIT(".+")));
}

static void on_writable(struct http_exchange *x)
{
    WW_ASSERT(http_exchange_data(x) == &told && x->begun);
}

static void answer(struct http_exchange *x)
{
    static char large[20000];
    struct str path = http_path(x);
    if (str_ends_with(path, STR_LIT("+"))) {
        answer_in_pieces(x);
        return;
    }
    struct http_field field = {STR_LIT("X-Some"), STR_LIT("thing")};
    end_of(x);
    if (str_ends_with(path, STR_LIT("l")))
        http_reply(x, 200, NULL, 0, str_make(large, sizeof large));
    else if (str_ends_with(path, STR_LIT("t")))
        http_reply_take(x, 200, &field, 1, xcalloc(1, 900000), 900000);
    else
        http_reply(x, 200, &field, 1, path);
}

static void on_head(struct http_exchange *x)
{
    WW_ASSERT(live_count < LIVE_MAX && !http_exchange_data(x));
    WW_ASSERT(http_field_count(x, "host") == 1 && http_field_count(x, "cookie") <= 1);
    http_exchange_set_data(x, &told);
    told++;
    live[live_count++] = x;
    if (str_starts_with(http_path(x), STR_LIT("/h")))
        answer(x);
    else if (str_starts_with(http_path(x), STR_LIT("/p")))
        http_body_pause(x);
}

static void on_body(struct http_exchange *x, struct str bytes)
{
    WW_ASSERT(http_exchange_data(x) == &told && bytes.len > 0);
    if (str_starts_with(http_path(x), STR_LIT("/b")))
        answer(x);
    else if (str_starts_with(http_path(x), STR_LIT("/p")))
        http_body_pause(x);
}

static void on_end(struct http_exchange *x)
{
    WW_ASSERT(http_exchange_data(x) == &told);
    if (!str_starts_with(http_path(x), STR_LIT("/l")))
        answer(x);
}

static void on_gone(struct http_exchange *x)
{
    end_of(x);
}

static void on_done(struct http_exchange *x, int status, uint64_t reply_bytes, uint64_t duration_ns)
{
    (void)reply_bytes, (void)duration_ns;
    WW_ASSERT(status == 0 || (status >= 200 && status < 600));
    WW_ASSERT(!http_exchange_data(x) && http_path(x).len <= 8192 && http_query(x).len <= 8192);
    WW_ASSERT(http_field(x, "host").len <= 16384 && strlen(http_method_name(x)) > 0);
    done++;
}

#define HANDLER                                                                                   \
    {                                                                                             \
        .head = on_head, .body = on_body, .end = on_end, .gone = on_gone, .writable = on_writable \
    }
static const struct http_route routes[] = {{HTTP_METHOD_GET, "/*", 100, HANDLER, NULL, false},
                                           {HTTP_METHOD_POST, "/*", 300000, HANDLER, NULL, false},
                                           {HTTP_METHOD_PUT, "/only-put", 100, HANDLER, NULL, false}};

static struct http_server *the_server(void)
{
    static struct http_server *server;
    static uv_loop_t loop;
    if (!server) {
        struct http_server_config config = {.routes = routes,
                                            .route_count = LENGTH_OF(routes),
                                            .limits = http_limits_default(),
                                            .on_done = on_done};
        config.limits.write_timeout_ns = 1;
        WW_ASSERT(uv_loop_init(&loop) == 0);
        server = http_server_new_deaf(&loop, &config);
    }
    return server;
}

/* --- the steps --------------------------------------------------------------------------------------- */

static void turn(struct fake *f)
{
    uv_run(f->conn.server->loop, UV_RUN_NOWAIT);
}

static void feed(struct fake *f, struct str bytes)
{
    if (f->closed || !f->reading)
        return;
    char *copy = xmalloc(bytes.len + 1);
    if (bytes.len)
        memcpy(copy, bytes.p, bytes.len);
    http_connection_feed(&f->conn, str_make(copy, bytes.len));
    free(copy);
}

/* A frame whose length is right; the first two bytes of `bytes` are its flags and its stream. */
static void feed_frame(struct fake *f, uint8_t type, struct str bytes)
{
    char frame[9 + 255] = {0};
    if (bytes.len < 2)
        return;
    size_t len = bytes.len - 2;
    frame[2] = (char)len;
    frame[3] = (char)type;
    frame[4] = bytes.p[0];
    frame[8] = bytes.p[1];
    memcpy(frame + 9, bytes.p + 2, len);
    feed(f, str_make(frame, 9 + len));
}

/* A request: the first byte is its stream, the second says with or without a body, the rest is the path. */
static void feed_request(struct fake *f, struct str bytes)
{
    char block[255] = {0};
    if (bytes.len < 3 || bytes.len > 100)
        return;
    bool body = bytes.p[1] & 1;
    size_t path = bytes.len - 1, len = 0;
    block[len++] = body ? 4 : 5;
    block[len++] = bytes.p[0];
    block[len++] = body ? (char)0x83 : (char)0x82; /* POST or GET */
    block[len++] = (char)0x86;                     /* http */
    block[len++] = 0x04;                           /* :path, literal */
    block[len++] = (char)path;
    block[len++] = '/';
    memcpy(block + len, bytes.p + 2, path - 1);
    len += path - 1;
    block[len++] = 0x01; /* :authority, literal */
    block[len++] = 1;
    block[len++] = 'h';
    feed_frame(f, NGHTTP2_HEADERS, str_make(block, len));
}

static void step(struct fake *f, unsigned kind, struct str bytes)
{
    static const enum http_sent modes[] = {HTTP_SENT_ALL, HTTP_SENT_LATER, HTTP_SENT_FAILED, HTTP_SENT_ALL};
    struct http_exchange *x = live_count && bytes.len ? live[(unsigned char)bytes.p[0] % live_count] : NULL;
    switch (kind % 24) {
    default: feed_frame(f, (uint8_t)(kind % 24), bytes); break; /* 0 to 9 are the types of RFC 9113 */
    case 10:
    case 11:
    case 12: feed_request(f, bytes); break;
    case 13: feed(f, bytes); break;
    case 14:
    case 15:
        if (x)
            answer(x);
        break;
    case 16:
        if (x)
            http_body_resume(x);
        break;
    case 17:
        if (x)
            http_body_pause(x);
        break;
    case 18: turn(f); break;
    case 19:
        if (f->pending)
            f->pending = false, http_connection_flushed(&f->conn);
        break;
    case 20: f->mode = modes[bytes.len % 4]; break;
    case 21:
        if (bytes.len % 4 == 0)
            http_connection_end_of_input(&f->conn);
        else if (bytes.len % 4 == 1)
            http_connection_broken(&f->conn);
        break;
    case 22: f->conn.protocol->expire(&f->conn); break;
    case 23: f->conn.protocol->drain(&f->conn); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_make(data, size);
    struct fake *f = xcalloc(1, sizeof *f);
    http_connection_open(&f->conn, the_server(), &stream);
    feed(f, STR_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"));
    while (input.len >= 2 && !f->closed) {
        unsigned kind = (unsigned char)input.p[0];
        size_t len = MIN((size_t)(unsigned char)input.p[1], input.len - 2);
        step(f, kind, str_make(input.p + 2, len));
        if (!f->closed) {
            const struct http2 *h = f->conn.state;
            WW_ASSERT(h->queued_bytes <= HTTP2_REPLIES_MAX_BYTES && h->stream_count <= LIVE_MAX);
        }
        input = str_make(input.p + 2 + len, input.len - 2 - len);
    }
    if (!f->closed)
        http_connection_broken(&f->conn);
    WW_ASSERT(f->closed && live_count == 0 && told == ended && done >= told);
    WW_ASSERT(http_server_connections(f->conn.server) == 0);
    turn(f);
    http_connection_done(&f->conn);
    free(f);
    return 0;
}
