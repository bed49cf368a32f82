/* One TLS session: records in and out of the stream below, plain bytes to and from the protocol above.
 *
 * OpenSSL reads what has just come straight from the loop's input buffer and writes into the loop's buffer
 * of sealed bytes, which goes to the stream before the call returns: an idle session holds no bytes. A long
 * reply is sealed piece by piece, as the stream takes it. */
#include <openssl/bio.h>
#include <openssl/err.h>

#include "base/log.h"
#include "http/internal.h"
#include "http/tls.h"

enum {
    PIECE_BYTES = 64 * 1024, /* sealed at once */
    KEPT_MAX_BYTES = 4 * HTTP_INPUT_BYTES,
    ANSWERS_MAX_BYTES =
        64 * 1024, /* handshake messages, alerts and key updates that the client has not taken */
};

struct http_tls_session {
    const struct http_stream_ops *below;
    struct http_tls_set *set;
    SSL *ssl;
    struct str in;   /* what OpenSSL reads now */
    struct buf kept; /* records that came while nobody wanted them */
    struct str rest; /* of a reply: not sealed yet */
    char *owned;     /* its memory */
    size_t answers_bytes;
    bool established;
    bool reading; /* what the protocol wants */
    bool feeding;
    bool broken; /* OpenSSL allows nothing more */
    bool ended;  /* the client said that it sends no more */
};

/* --- where OpenSSL reads and writes ----------------------------------------------------------------- */

static int bio_read(BIO *bio, char *to, size_t len, size_t *ret_len)
{
    struct http_connection *c = BIO_get_data(bio);
    struct str *in = &c->tls->in;
    BIO_clear_retry_flags(bio);
    *ret_len = MIN(len, in->len);
    if (*ret_len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(to, in->p, *ret_len);
    *in = str_make(in->p + *ret_len, in->len - *ret_len);
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *ret_len)
{
    struct http_connection *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *ret_len = len;
    return buf_append(&c->server->sealed, from, len);
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
    WW_ASSERT(method);
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
}

/* --- sending ---------------------------------------------------------------------------------------- */

/* Hands what is sealed to the stream. */
static enum http_sent flush(struct http_connection *c)
{
    struct buf *sealed = &c->server->sealed;
    enum http_sent sent = HTTP_SENT_ALL;
    if (sealed->len)
        sent = c->tls->below->send(c, buf_str(sealed), STR_NULL, NULL);
    buf_clear(sealed);
    return sent;
}

static bool seal(struct http_tls_session *t, struct str plain)
{
    while (plain.len) {
        size_t written = 0;
        ERR_clear_error();
        if (SSL_write_ex(t->ssl, plain.p, plain.len, &written) != 1) {
            ERR_clear_error();
            t->broken = true;
            return false;
        }
        plain = str_make(plain.p + written, plain.len - written);
    }
    return true;
}

/* Seals and sends `rest` for as long as the stream takes it. */
static enum http_sent push(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    enum http_sent sent = HTTP_SENT_ALL;
    do {
        size_t piece = MIN(t->rest.len, (size_t)PIECE_BYTES);
        if (!seal(t, str_make(t->rest.p, piece))) {
            buf_clear(&c->server->sealed);
            return HTTP_SENT_FAILED;
        }
        t->rest = str_make(t->rest.p + piece, t->rest.len - piece);
        sent = flush(c);
    } while (sent == HTTP_SENT_ALL && t->rest.len);
    return sent;
}

static void forget_rest(struct http_tls_session *t)
{
    free(t->owned);
    t->owned = NULL;
    t->rest = STR_NULL;
}

static enum http_sent tls_send(struct http_connection *c, struct str head, struct str body, char *owned)
{
    struct http_tls_session *t = c->tls;
    WW_ASSERT(!t->rest.len && !t->owned && !c->server->sealed.len);
    if (t->broken || !seal(t, head)) {
        buf_clear(&c->server->sealed);
        free(owned);
        return HTTP_SENT_FAILED;
    }
    t->rest = body;
    t->owned = owned;
    enum http_sent sent = push(c);
    if (sent != HTTP_SENT_LATER || !t->rest.len) {
        forget_rest(t);
    } else if (!t->owned) {
        t->owned = xmalloc(t->rest.len); /* `body` was lent for this call */
        memcpy(t->owned, t->rest.p, t->rest.len);
        t->rest.p = t->owned;
    }
    return sent;
}

void http_tls_flushed(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    t->answers_bytes = 0;
    if (t->rest.len) {
        enum http_sent sent = push(c);
        if (sent == HTTP_SENT_FAILED)
            c->protocol->broken(c);
        if (sent != HTTP_SENT_ALL)
            return;
        forget_rest(t);
    }
    c->protocol->flushed(c);
}

/* --- receiving -------------------------------------------------------------------------------------- */

/* Sends what OpenSSL itself had to say while it read. */
static void answer(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    size_t len = c->server->sealed.len;
    enum http_sent sent = flush(c);
    t->answers_bytes = sent == HTTP_SENT_LATER ? t->answers_bytes + len : 0;
    if (sent == HTTP_SENT_FAILED || t->answers_bytes > ANSWERS_MAX_BYTES)
        c->protocol->broken(c);
}

static void fail(struct http_connection *c)
{
    char reason[160];
    LOG_DEBUG("a TLS connection failed", LOG_CSTR("peer", c->peer),
              LOG_CSTR("reason", http_tls_reason(reason)));
    c->tls->broken = true;
    answer(c); /* the alert that says why */
    if (!c->closed)
        c->protocol->broken(c);
}

static bool shake_hands(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    const unsigned char *chosen = NULL;
    unsigned len = 0;
    ERR_clear_error();
    int done = SSL_do_handshake(t->ssl);
    if (done != 1) {
        if (SSL_get_error(t->ssl, done) == SSL_ERROR_WANT_READ)
            answer(c);
        else
            fail(c);
        return false;
    }
    t->established = true;
    c->identity = http_identity_new(t->ssl);
    SSL_get0_alpn_selected(t->ssl, &chosen, &len);
    answer(c);
    if (!c->closed)
        http_connection_chosen(c, str_eq(str_make(chosen, len), STR_LIT("h2")));
    return !c->closed;
}

static void open_records(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    char *plain = c->server->plain;
    while (!c->closed && t->reading && !t->ended) {
        size_t room = MIN(c->protocol->room(c), (size_t)HTTP_TLS_PLAIN_BYTES), len = 0;
        if (room == 0)
            return;
        ERR_clear_error();
        bool got = SSL_read_ex(t->ssl, plain, room, &len) == 1;
        int error = got ? SSL_ERROR_NONE : SSL_get_error(t->ssl, 0);
        /* Before anybody else's reply goes into the same buffer. */
        if (c->server->sealed.len && error != SSL_ERROR_SSL)
            answer(c);
        if (c->closed || error == SSL_ERROR_WANT_READ)
            return;
        if (got) {
            c->protocol->feed(c, str_make(plain, len));
        } else if (error == SSL_ERROR_ZERO_RETURN) {
            t->ended = true;
            c->protocol->end_of_input(c);
        } else {
            fail(c);
        }
    }
}

void http_tls_feed(struct http_connection *c, struct str sealed)
{
    struct http_tls_session *t = c->tls;
    WW_ASSERT(!t->feeding);
    if (t->broken || t->ended)
        return;
    t->in = sealed;
    if (t->kept.len) {
        WW_ASSERT(buf_append(&t->kept, sealed.p, sealed.len));
        t->in = buf_str(&t->kept);
    }
    t->feeding = true;
    if (t->established || shake_hands(c))
        open_records(c);
    t->feeding = false;
    if (t->kept.len)
        buf_consume(&t->kept, t->kept.len - t->in.len);
    else if (t->in.len && !c->closed)
        WW_ASSERT(buf_append(&t->kept, t->in.p, t->in.len));
    if (!t->kept.len)
        buf_done(&t->kept);
    t->in = STR_NULL;
}

void http_tls_end_of_input(struct http_connection *c)
{
    if (!c->tls->ended)
        c->protocol->end_of_input(c);
    c->tls->ended = true;
}

/* --- the rest of the stream ------------------------------------------------------------------------- */

static void tls_read(struct http_connection *c, bool on)
{
    struct http_tls_session *t = c->tls;
    t->reading = on;
    t->below->read(c, on);
    /* What is here already would wait for bytes that need not come. */
    if (on && !t->feeding && (t->kept.len || SSL_has_pending(t->ssl)) && list_is_empty(&c->ready_link))
        http_server_ready(c->server, &c->ready_link);
}

static void say_goodbye(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    if (!t->established || t->broken)
        return;
    ERR_clear_error();
    SSL_shutdown(t->ssl);
    ERR_clear_error();
    flush(c);
    t->broken = true;
}

static void tls_shutdown(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    say_goodbye(c);
    t->below->shutdown(c);
}

/* An end without close_notify is what the client can see (RFC 8446 section 6.1). */
static void tls_spoil(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    t->broken = true;
    t->below->spoil(c);
}

static void tls_close(struct http_connection *c)
{
    if (!c->tls->rest.len)
        say_goodbye(c);
    c->tls->below->close(c);
}

static const struct http_stream_ops tls_ops = {
    .send = tls_send,
    .read = tls_read,
    .shutdown = tls_shutdown,
    .spoil = tls_spoil,
    .close = tls_close,
};

void http_tls_open(struct http_connection *c, struct http_tls *tls)
{
    static uv_once_t once = UV_ONCE_INIT;
    uv_once(&once, make_method);
    struct http_tls_session *t = xcalloc(1, sizeof *t);
    t->below = c->stream;
    t->set = http_tls_set_get(tls);
    t->ssl = http_tls_set_session(t->set);
    t->kept = buf_make(KEPT_MAX_BYTES);
    c->tls = t;
    c->stream = &tls_ops;
    BIO *bio = BIO_new(method);
    WW_ASSERT(bio);
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
}

void http_tls_close(struct http_connection *c)
{
    struct http_tls_session *t = c->tls;
    if (!t)
        return;
    http_identity_free(c->identity);
    SSL_free(t->ssl);
    http_tls_set_unref(t->set);
    buf_done(&t->kept);
    forget_rest(t);
    free(t);
    c->tls = NULL;
    c->identity = NULL;
}
