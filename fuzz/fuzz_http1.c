/* An HTTP/1 connection without a socket. The input is a list of steps for both sides: bytes of the client,
 * replies and pauses of the handler, a socket that takes a reply late or breaks, deadlines. What must hold:
 * each request that a handler was told of ends exactly once, and nothing is called for it after that.
 * Where the first byte is odd, the rest is the client's bytes alone: however they are cut, the replies
 * must be the same. */
#include "http/internal.h"
#include "http/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fake {
    struct http_connection conn;
    bool closed;
    bool shut;
    bool reading;
    bool pending;
    enum http_sent mode;
    struct buf sent;
};

/* What the handlers remember; there is one connection at a time. */
static struct http_exchange *waiting;
static bool paused;
static uint64_t told, ended, done;

/* --- the stream ------------------------------------------------------------------------------------ */

static struct fake *fake_of(struct http_connection *c)
{
    return CONTAINER_OF(c, struct fake, conn);
}

static enum http_sent fake_send(struct http_connection *c, struct str head, struct str body, char *owned)
{
    struct fake *f = fake_of(c);
    WW_ASSERT(!f->closed && !f->shut);
    if (f->mode != HTTP_SENT_FAILED) {
        buf_put_str(&f->sent, head);
        buf_put_str(&f->sent, body);
    }
    free(owned);
    enum http_sent result = f->pending && f->mode == HTTP_SENT_ALL ? HTTP_SENT_LATER : f->mode;
    f->pending = f->pending || result == HTTP_SENT_LATER;
    return result;
}

static void fake_read(struct http_connection *c, bool on)
{
    WW_ASSERT(fake_of(c)->reading != on);
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
    WW_ASSERT(http_exchange_data(x) == &told);
    http_exchange_set_data(x, NULL);
    WW_ASSERT(waiting == x);
    waiting = NULL;
    paused = false;
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
        if (str_starts_with(path, STR_LIT("/later")))
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
    end_of(x);
    if (str_ends_with(path, STR_LIT("large")))
        http_reply(x, 200, NULL, 0, str_make(large, sizeof large));
    else if (str_ends_with(path, STR_LIT("taken")))
        http_reply_take(x, 200, NULL, 0, xcalloc(1, 9000), 9000);
    else
        http_reply(x, 200, NULL, 0, path);
}

static void on_head(struct http_exchange *x)
{
    WW_ASSERT(!waiting && !http_exchange_data(x));
    WW_ASSERT(http_field_count(x, "host") <= 1);
    http_exchange_set_data(x, &told);
    told++;
    waiting = x;
    if (str_starts_with(http_path(x), STR_LIT("/head")))
        answer(x);
    else if (str_starts_with(http_path(x), STR_LIT("/pause")))
        http_body_pause(x), paused = true;
}

static void on_body(struct http_exchange *x, struct str bytes)
{
    WW_ASSERT(waiting == x && bytes.len > 0 && !paused);
    WW_ASSERT(http_content_length(x) < 0 || bytes.len <= (uint64_t)http_content_length(x));
    if (str_starts_with(http_path(x), STR_LIT("/body")))
        answer(x);
    else if (str_starts_with(http_path(x), STR_LIT("/pause")))
        http_body_pause(x), paused = true;
}

static void on_end(struct http_exchange *x)
{
    WW_ASSERT(waiting == x && !paused);
    if (!str_starts_with(http_path(x), STR_LIT("/later")))
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
    WW_ASSERT(!http_exchange_data(x) && http_path(x).len <= 4096 && http_query(x).len <= 4096);
    WW_ASSERT(http_field(x, "host").len <= 4096 && strlen(http_method_name(x)) > 0);
    done++;
}

#define HANDLER                                                                                   \
    {                                                                                             \
        .head = on_head, .body = on_body, .end = on_end, .gone = on_gone, .writable = on_writable \
    }
static const struct http_route routes[] = {
    {HTTP_METHOD_GET, "/*", 100, HANDLER, NULL, false},
    {HTTP_METHOD_POST, "/*", 300, HANDLER, NULL, false},
    {HTTP_METHOD_POST, "/big*", 1 << 20, HANDLER, NULL, false},
    {HTTP_METHOD_PUT, "/only-put", 100, HANDLER, NULL, false},
};

static struct http_server *the_server(void)
{
    static struct http_server *server;
    static uv_loop_t loop;
    if (!server) {
        struct http_server_config config = {.routes = routes,
                                            .route_count = LENGTH_OF(routes),
                                            .limits = http_limits_default(),
                                            .on_done = on_done};
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
    while (bytes.len && !f->closed && f->reading) {
        size_t piece = MIN(bytes.len, http_connection_room(&f->conn));
        WW_ASSERT(piece > 0);
        char *copy = xmalloc(piece);
        memcpy(copy, bytes.p, piece);
        http_connection_feed(&f->conn, str_make(copy, piece));
        free(copy);
        bytes = str_make(bytes.p + piece, bytes.len - piece);
    }
}

static void step(struct fake *f, unsigned kind, struct str bytes)
{
    static const enum http_sent modes[] = {HTTP_SENT_ALL, HTTP_SENT_LATER, HTTP_SENT_FAILED, HTTP_SENT_ALL};
    switch (kind % 12) {
    default: feed(f, bytes); break;
    case 4:
        if (waiting)
            answer(waiting);
        break;
    case 5:
        if (waiting && paused)
            paused = false, http_body_resume(waiting);
        break;
    case 6:
        if (waiting && !paused)
            paused = true, http_body_pause(waiting);
        break;
    case 7: turn(f); break;
    case 8:
        if (f->pending)
            f->pending = false, http_connection_flushed(&f->conn);
        break;
    case 9: f->mode = modes[bytes.len % 4]; break;
    case 10:
        if (f->reading && bytes.len % 4 == 0)
            http_connection_end_of_input(&f->conn);
        else if (bytes.len % 4 == 1)
            http_connection_broken(&f->conn);
        break;
    case 11:
        if (f->conn.protocol->due_ns(&f->conn) != HTTP_WHEEL_NEVER)
            f->conn.protocol->expire(&f->conn);
        break;
    }
}

static struct fake *fake_new(void)
{
    struct fake *f = xcalloc(1, sizeof *f);
    f->sent = buf_make(1 << 24);
    http_connection_open(&f->conn, the_server(), &stream);
    http_connection_chosen(&f->conn, false);
    WW_ASSERT(f->reading && !waiting);
    return f;
}

static void fake_free(struct fake *f)
{
    if (!f->closed)
        http_connection_broken(&f->conn);
    WW_ASSERT(f->closed && !waiting && told == ended && done >= told);
    WW_ASSERT(http_server_connections(f->conn.server) == 0);
    turn(f);
    http_connection_done(&f->conn);
    buf_done(&f->sent);
    free(f);
}

static void play(struct str input)
{
    struct fake *f = fake_new();
    while (input.len >= 2 && !f->closed) {
        unsigned kind = (unsigned char)input.p[0];
        size_t len = MIN((size_t)(unsigned char)input.p[1], input.len - 2);
        step(f, kind, str_make(input.p + 2, len));
        input = str_make(input.p + 2 + len, input.len - 2 - len);
    }
    fake_free(f);
}

/* What differs from run to run, made the same: ids, the date, and "100 Continue", which is only sent to
 * a client whose body is not there yet. */
static void level(struct buf *b)
{
    static const struct str changing[] = {STR_LIT("X-Request-Id: "), STR_LIT("Date: ")};
    static const struct str interim = STR_LIT("HTTP/1.1 100 Continue\r\n\r\n");
    char *hit;
    for (size_t i = 0; i < LENGTH_OF(changing); i++)
        for (size_t at = 0; (hit = memmem(b->p + at, b->len - at, changing[i].p, changing[i].len));) {
            at = (size_t)(hit - b->p) + changing[i].len;
            memset(b->p + at, '?', MIN((size_t)29, b->len - at));
            if (i == 0)
                memset(b->p + at, '?', MIN((size_t)32, b->len - at));
        }
    while (b->len && (hit = memmem(b->p, b->len, interim.p, interim.len))) {
        memmove(hit, hit + interim.len, b->len - (size_t)(hit - b->p) - interim.len);
        b->len -= interim.len;
    }
}

static struct buf replies_to(struct str bytes, bool in_pieces, uint32_t seed)
{
    struct fake *f = fake_new();
    while (bytes.len && !f->closed) {
        seed = seed * 1664525 + 1013904223;
        size_t piece =
            in_pieces ? MIN(bytes.len, (size_t)(1 + (seed >> 16) % (seed & 1 ? 3 : 50))) : bytes.len;
        feed(f, str_make(bytes.p, piece));
        turn(f);
        bytes = str_make(bytes.p + piece, bytes.len - piece);
    }
    struct buf sent = f->sent;
    f->sent = buf_make(1);
    fake_free(f);
    if (sent.len)
        level(&sent);
    return sent;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_make(data, size);
    if (size < 2)
        return 0;
    input = str_make(input.p + 1, input.len - 1);
    if (data[0] % 2 == 0) {
        play(input);
        return 0;
    }
    struct buf whole = replies_to(input, false, 0), cut = replies_to(input, true, data[0]);
    WW_ASSERT(str_eq(buf_str(&whole), buf_str(&cut)));
    buf_done(&whole);
    buf_done(&cut);
    return 0;
}
