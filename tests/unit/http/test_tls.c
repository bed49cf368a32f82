/* TLS: certificates made here, OpenSSL as the client, step by step with the server's loop. */
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>

#include "http_fixture.h"

static char folder[] = "/tmp/wasmwiz-tls-XXXXXX";

static const char *file(const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* --- certificates ------------------------------------------------------------------------------------- */

static X509 *authority;
static EVP_PKEY *authority_key;

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    X509_add_ext(certificate, e, -1);
    X509_EXTENSION_free(e);
}

/* NAME.pem and NAME.key; signed by the authority where there is one. */
static void make_certificate(const char *name, const char *names, bool is_authority)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *c = X509_new();
    char path[64];
    static long serial = 1;
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c), -3600);
    X509_gmtime_adj(X509_getm_notAfter(c), 86400);
    X509_set_pubkey(c, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "O", MBSTRING_ASC, (const unsigned char *)"Test", -1,
                               -1, 0);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
                               -1, 0);
    X509_set_issuer_name(c, X509_get_subject_name(authority && !is_authority ? authority : c));
    if (names)
        add_extension(c, NID_subject_alt_name, names);
    if (is_authority)
        add_extension(c, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(c, authority && !is_authority ? authority_key : key, EVP_sha256()) > 0);
    snprintf(path, sizeof path, "%s.pem", name);
    FILE *f = fopen(file(path), "w");
    assert_true(f && PEM_write_X509(f, c) == 1 && fclose(f) == 0);
    snprintf(path, sizeof path, "%s.key", name);
    f = fopen(file(path), "w");
    assert_true(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0);
    if (is_authority && !authority) {
        authority = c;
        authority_key = key;
    } else {
        X509_free(c);
        EVP_PKEY_free(key);
    }
}

static int make_all(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    make_certificate("authority", NULL, true);
    make_certificate("stranger", NULL, true); /* nobody trusts it */
    make_certificate("one", "DNS:one.test,DNS:*.wild.test", false);
    make_certificate("two", "DNS:two.test", false);
    make_certificate("client", "DNS:node.test,URI:spiffe://a/b,IP:10.0.0.1,email:a@b.test", false);
    return 0;
}

static int remove_all(void **state)
{
    static const char *const names[] = {"authority", "stranger", "one", "two", "client", "live", "torn"};
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(names); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.pem", names[i]);
        remove(file(name));
        snprintf(name, sizeof name, "%s.key", names[i]);
        remove(file(name));
    }
    X509_free(authority);
    EVP_PKEY_free(authority_key);
    return rmdir(folder);
}

static void copy(const char *from, const char *to)
{
    char bytes[8192];
    FILE *in = fopen(file(from), "r"), *out = fopen(file(to), "w");
    assert_true(in && out);
    size_t len = fread(bytes, 1, sizeof bytes, in);
    assert_int_equal(fwrite(bytes, 1, len, out), len);
    fclose(in);
    fclose(out);
}

/* --- the server --------------------------------------------------------------------------------------- */

/* "peer secure subject san san..." */
static void who_end(struct http_exchange *x)
{
    struct buf text = buf_make(4096);
    const char *subject = http_peer_subject(x);
    buf_printf(&text, "%s %d %s", http_peer(x), http_is_secure(x), subject ? subject : "-");
    for (size_t i = 0; i < http_peer_san_count(x); i++)
        buf_printf(&text, " %s", http_peer_san(x, i));
    http_reply(x, 200, NULL, 0, buf_str(&text));
    buf_done(&text);
}

static const struct http_route tls_routes[] = {
    {HTTP_METHOD_GET, "/who", 0, {.head = ignore_head, .end = who_end}},
    {HTTP_METHOD_GET, "/big", 0, {.head = ignore_head, .end = big_end}},
    {HTTP_METHOD_POST, "/echo", BIG_BYTES, ECHO_HANDLER},
    {HTTP_METHOD_POST,
     "/pause",
     BIG_BYTES,
     {.head = keep_head, .body = pause_body, .end = count_end, .gone = keep_gone}},
};

static struct http_tls *tls_new(const char *certificates, const char *keys, enum http_client_auth auth)
{
    struct http_tls *tls = NULL;
    struct err_info err = {0};
    struct http_tls_config config = {certificates, keys, auth, auth ? file("authority.pem") : NULL};
    if (http_tls_new(&config, &tls, &err))
        fail_msg("%s", err_text(&err));
    return tls;
}

static struct world *tls_world(struct http_tls *tls)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct http_server_config config = world_config(w);
    config.routes = tls_routes;
    config.route_count = LENGTH_OF(tls_routes);
    config.tls = tls;
    config.limits.head_timeout_ns = 300 * NS_PER_MS;
    return world_new_with(w, &config);
}

static struct world *simple_world(struct http_tls **ret_tls)
{
    char certificates[520], keys[520];
    snprintf(certificates, sizeof certificates, "%s, %s", file("one.pem"), file("two.pem"));
    snprintf(keys, sizeof keys, "%s,%s", file("one.key"), file("two.key"));
    *ret_tls = tls_new(certificates, keys, HTTP_CLIENT_AUTH_OFF);
    return tls_world(*ret_tls);
}

static void simple_free(struct world *w, struct http_tls *tls)
{
    world_free(w);
    http_tls_free(tls);
}

/* --- a client ------------------------------------------------------------------------------------------- */

struct tls_client {
    struct world *w;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
};

static struct tls_client client_make(struct world *w)
{
    struct tls_client c = {.w = w, .fd = client_new(w), .ctx = SSL_CTX_new(TLS_client_method())};
    assert_int_equal(SSL_CTX_load_verify_file(c.ctx, file("authority.pem")), 1);
    SSL_CTX_set_verify(c.ctx, SSL_VERIFY_PEER, NULL);
    c.ssl = SSL_new(c.ctx);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    SSL_set_fd(c.ssl, c.fd);
    return c;
}

static void client_end(struct tls_client *c)
{
    SSL_shutdown(c->ssl); /* a session without its end is not resumed */
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->fd);
    ERR_clear_error();
}

/* Whether the call has to be made again, after the server's turn. */
static bool again(struct tls_client *c, int result)
{
    int error = SSL_get_error(c->ssl, result);
    turn(c->w);
    rest(c->fd);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static bool client_shake(struct tls_client *c)
{
    int done;
    while ((done = SSL_connect(c->ssl)) != 1)
        if (!again(c, done))
            return false;
    return true;
}

static void client_put(struct tls_client *c, struct str bytes)
{
    while (bytes.len) {
        int done = SSL_write(c->ssl, bytes.p, (int)bytes.len);
        if (done <= 0)
            assert_true(again(c, done));
        else
            bytes = str_make(bytes.p + done, bytes.len - (size_t)done);
    }
}

/* Reads until `text` is there, or to the end where it is NULL; false: the end came, `*clean` with close_notify. */
static bool client_get(struct tls_client *c, struct buf *into, const char *text, bool *clean)
{
    char piece[5000];
    while (!text || !strstr(buf_cstr(into), text)) {
        int got = SSL_read(c->ssl, piece, sizeof piece);
        if (got > 0) {
            buf_append(into, piece, (size_t)got);
        } else if (!again(c, got)) {
            *clean = SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN;
            return false;
        }
    }
    return true;
}

static void expect_who(struct tls_client *c, const char *text)
{
    struct buf b = buf_make(100000);
    bool clean;
    client_put(c, STR_LIT(GET("/who")));
    if (!client_get(c, &b, text, &clean))
        fail_msg("expected \"%s\", there is: %s", text, buf_cstr(&b));
    assert_non_null(strstr(buf_cstr(&b), "Strict-Transport-Security: max-age=31536000\r\n"));
    buf_done(&b);
}

static const char *subject_seen(struct tls_client *c)
{
    static char name[256];
    X509 *peer = SSL_get0_peer_certificate(c->ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof name);
    return name;
}

/* --- tests ---------------------------------------------------------------------------------------------- */

static void test_versions(void **state)
{
    (void)state;
    static const struct {
        int version;
        bool good;
    } versions[] = {{TLS1_1_VERSION, false}, {TLS1_2_VERSION, true}, {TLS1_3_VERSION, true}};
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    for (size_t i = 0; i < LENGTH_OF(versions); i++) {
        struct tls_client c = client_make(w);
        SSL_set_security_level(c.ssl, 0);
        SSL_set_cipher_list(c.ssl, "ALL:@SECLEVEL=0");
        SSL_set_min_proto_version(c.ssl, versions[i].version);
        SSL_set_max_proto_version(c.ssl, versions[i].version);
        assert_int_equal(client_shake(&c), versions[i].good);
        if (versions[i].good) {
            expect_who(&c, "127.0.0.1 1 -");
            expect_who(&c, "127.0.0.1 1 -");
        }
        client_end(&c);
    }
    simple_free(w, tls);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *asked, *shown;
    } names[] = {{"one.test", "one"},
                 {"two.test", "two"},
                 {"a.wild.test", "one"},
                 {"other.test", "one"},
                 {NULL, "one"}};
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    for (size_t i = 0; i < LENGTH_OF(names); i++) {
        struct tls_client c = client_make(w);
        if (names[i].asked)
            SSL_set_tlsext_host_name(c.ssl, names[i].asked);
        assert_true(client_shake(&c));
        assert_string_equal(subject_seen(&c), names[i].shown);
        client_end(&c);
    }
    simple_free(w, tls);
}

static void test_protocols(void **state)
{
    (void)state;
    static const struct {
        struct str offered;
        const char *chosen; /* NULL: refused */
    } offers[] = {{STR_LIT("\x02h2\x08http/1.1"), "h2"},
                  {STR_LIT("\x08http/1.1\x02h2"), "h2"},
                  {STR_LIT("\x08http/1.1"), "http/1.1"},
                  {STR_LIT("\x03"
                           "foo"),
                   NULL}};
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    for (size_t i = 0; i < LENGTH_OF(offers); i++) {
        struct tls_client c = client_make(w);
        const unsigned char *chosen = NULL;
        unsigned len = 0;
        SSL_set_alpn_protos(c.ssl, (const unsigned char *)offers[i].offered.p,
                            (unsigned)offers[i].offered.len);
        assert_int_equal(client_shake(&c), offers[i].chosen != NULL);
        SSL_get0_alpn_selected(c.ssl, &chosen, &len);
        if (offers[i].chosen)
            assert_true(str_eq(str_make(chosen, len), str_of(offers[i].chosen)));
        client_end(&c);
    }
    /* the preface of HTTP/2 without its ALPN is no HTTP/1 */
    struct tls_client c = client_make(w);
    struct buf b = buf_make(10000);
    bool clean;
    assert_true(client_shake(&c));
    client_put(&c, STR_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert_false(client_get(&c, &b, NULL, &clean));
    assert_true(clean && str_starts_with(buf_str(&b), STR_LIT("HTTP/1.1 505 ")));
    buf_done(&b);
    client_end(&c);
    simple_free(w, tls);
}

static void test_resumption(void **state)
{
    (void)state;
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    struct err_info err = {0};
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_SESSION *session = NULL;
        for (int round = 0; round < 3; round++) {
            struct tls_client c = client_make(w);
            SSL_set_max_proto_version(c.ssl, version);
            if (round)
                assert_int_equal(SSL_set_session(c.ssl, session), 1);
            if (round == 2)
                assert_int_equal(http_tls_reload(tls, &err), OK); /* new keys: the ticket is worthless */
            assert_true(client_shake(&c));
            expect_who(&c, "127.0.0.1 1 -"); /* the ticket comes before the reply */
            assert_int_equal(SSL_session_reused(c.ssl), round == 1);
            SSL_SESSION_free(session);
            session = SSL_get1_session(c.ssl);
            client_end(&c);
        }
        SSL_SESSION_free(session);
    }
    simple_free(w, tls);
}

static void test_bodies_both_ways(void **state)
{
    (void)state;
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    struct tls_client c = client_make(w);
    struct buf b = buf_make(4 * BIG_BYTES), request = buf_make(4 * BIG_BYTES);
    bool clean;
    assert_true(client_shake(&c));
    client_put(&c, STR_LIT("GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    turn_some(w); /* more than the socket takes */
    assert_false(client_get(&c, &b, NULL, &clean));
    assert_true(clean && b.len > BIG_BYTES);
    for (size_t i = 0; i < BIG_BYTES; i++)
        assert_int_equal(b.p[b.len - BIG_BYTES + i], 'a' + i % 23);
    client_end(&c);
    buf_clear(&b);

    c = client_make(w);
    buf_printf(&request, "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
               300000);
    for (int i = 0; i < 300000; i++)
        buf_putc(&request, (char)('a' + i % 26));
    assert_true(client_shake(&c));
    client_put(&c, buf_str(&request));
    assert_false(client_get(&c, &b, NULL, &clean));
    assert_true(clean && b.len > 300000);
    assert_memory_equal(b.p + b.len - 300001, request.p + request.len - 300000, 300000);
    client_end(&c);
    buf_done(&b);
    buf_done(&request);
    simple_free(w, tls);
}

/* Records that came while the handler was paused are kept, and read when it goes on. */
static void test_paused(void **state)
{
    (void)state;
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    struct tls_client c = client_make(w);
    struct buf b = buf_make(100000), request = buf_make(100000);
    bool clean;
    assert_true(client_shake(&c));
    buf_puts(&request, "POST /pause HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n");
    for (int i = 0; i < 60000; i++)
        buf_putc(&request, 'x');
    client_put(&c, buf_str(&request));
    int pauses = 0;
    while (w->ends == 0) {
        if (w->pauses > pauses) {
            pauses = w->pauses;
            for (int i = 0; i < 3; i++)
                turn(w);
            assert_int_equal(w->pauses, pauses);
            http_body_resume(w->waiting);
        }
        turn(w);
    }
    assert_int_equal(w->body_bytes, 60000);
    assert_true(pauses > 3); /* a record is 16 KiB */
    reply_ok(w, "fine");
    assert_true(client_get(&c, &b, "fine", &clean));
    buf_done(&b);
    buf_done(&request);
    client_end(&c);
    simple_free(w, tls);
}

/* --- client certificates ------------------------------------------------------------------------------------ */

static void use_certificate(struct tls_client *c, const char *certificate, const char *key)
{
    assert_int_equal(SSL_use_certificate_file(c->ssl, file(certificate), SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_use_PrivateKey_file(c->ssl, file(key), SSL_FILETYPE_PEM), 1);
}

/* With TLS 1.3 the client learns only after its handshake that the server refused it. */
static bool is_served(struct tls_client *c)
{
    struct buf b = buf_make(10000);
    bool clean, served = client_shake(c);
    if (served) {
        client_put(c, STR_LIT(GET("/who")));
        served = client_get(c, &b, "127.0.0.1", &clean);
    }
    buf_done(&b);
    return served;
}

static void test_client_certificates(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (int auth = HTTP_CLIENT_AUTH_OPTIONAL; auth <= HTTP_CLIENT_AUTH_REQUIRED; auth++) {
            struct http_tls *tls = tls_new(file("one.pem"), file("one.key"), (enum http_client_auth)auth);
            struct world *w = tls_world(tls);
            struct tls_client c = client_make(w);
            SSL_set_max_proto_version(c.ssl, version);
            assert_int_equal(is_served(&c), auth == HTTP_CLIENT_AUTH_OPTIONAL);
            client_end(&c);
            c = client_make(w);
            SSL_set_max_proto_version(c.ssl, version);
            use_certificate(&c, "stranger.pem", "stranger.key");
            assert_false(is_served(&c));
            client_end(&c);
            c = client_make(w);
            SSL_set_max_proto_version(c.ssl, version);
            use_certificate(&c, "client.pem", "client.key");
            assert_true(client_shake(&c));
            expect_who(
                &c, "127.0.0.1 1 CN=client,O=Test DNS:node.test URI:spiffe://a/b IP:10.0.0.1 email:a@b.test");
            client_end(&c);
            simple_free(w, tls);
        }
    }
}

/* --- files ------------------------------------------------------------------------------------------------- */

static void test_reload(void **state)
{
    (void)state;
    struct err_info err = {0};
    copy("one.pem", "live.pem");
    copy("one.key", "live.key");
    struct http_tls *tls = tls_new(file("live.pem"), file("live.key"), HTTP_CLIENT_AUTH_OFF);
    struct world *w = tls_world(tls);
    struct tls_client old = client_make(w), c = client_make(w);
    assert_true(client_shake(&old));
    copy("two.pem", "live.pem"); /* with the wrong key: refused, and all stays */
    assert_int_equal(http_tls_reload(tls, &err), ERR_FIELD_INVALID);
    assert_non_null(strstr(err_text(&err), "live.key"));
    assert_true(client_shake(&c));
    assert_string_equal(subject_seen(&c), "one");
    client_end(&c);
    copy("two.key", "live.key");
    assert_int_equal(http_tls_reload(tls, &err), OK);
    c = client_make(w);
    assert_true(client_shake(&c));
    assert_string_equal(subject_seen(&c), "two");
    expect_who(&c, "127.0.0.1 1 -");
    expect_who(&old, "127.0.0.1 1 -"); /* it lives on */
    client_end(&c);
    client_end(&old);
    simple_free(w, tls);
}

static void test_files_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *certificates, *keys, *ca, *said;
    } bad[] = {
        {"none.pem", "one.key", NULL, "No such file"},
        {"one.pem", "none.key", NULL, "No such file"},
        {"one.pem", "two.key", NULL, "key values mismatch"},
        {"one.key", "one.key", NULL, "no start line"},
        {"one.pem", "one.key", "one.key", "the file of client authorities"},
        {"one.pem", "", NULL, "differ in length"},
    };
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        struct err_info err = {0};
        struct http_tls *tls = NULL;
        struct http_tls_config config = {
            .certificates = file(bad[i].certificates),
            .keys = bad[i].keys[0] ? file(bad[i].keys) : "",
            .client_auth = bad[i].ca ? HTTP_CLIENT_AUTH_REQUIRED : HTTP_CLIENT_AUTH_OFF,
            .client_ca = bad[i].ca ? file(bad[i].ca) : NULL,
        };
        assert_int_equal(http_tls_new(&config, &tls, &err), ERR_FIELD_INVALID);
        if (!strstr(err_text(&err), bad[i].said))
            fail_msg("%zu: %s", i, err_text(&err));
        assert_null(tls);
    }
}

/* --- strangers ------------------------------------------------------------------------------------------------ */

/* Every way to be no TLS, or to stop in the midst of it, ends the connection. */
static void test_no_handshake(void **state)
{
    (void)state;
    static const struct str firsts[] = {STR_LIT(GET("/who")), STR_LIT("\x16\x03\x01\xff\xff"),
                                        STR_LIT("\x16\x03"), STR_LIT(""),
                                        STR_LIT("\x80\x80\x80\x80\x80\x80\x80\x80")};
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    for (size_t i = 0; i < LENGTH_OF(firsts); i++) {
        int fd = client_new(w);
        client_send(w, fd, firsts[i]);
        while (http_server_connections(w->server) == 0)
            turn(w);
        wait_until_closed(w); /* at the deadline of a head, where not before */
        close(fd);
    }
    assert_int_equal(w->done_count, 0);
    simple_free(w, tls);
}

/* The handshake and a request, a byte at a time, through memory. */
static void test_byte_by_byte(void **state)
{
    (void)state;
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    struct tls_client c = client_make(w);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    struct buf got = buf_make(100000);
    bool reset = false, asked = false;
    SSL_set_bio(c.ssl, in, out);
    SSL_set_connect_state(c.ssl);
    char plain[4096] = "";
    int len = 0;
    while (len <= 0) {
        char byte;
        if (SSL_is_init_finished(c.ssl) && !asked)
            asked = SSL_write(c.ssl, GET("/who"), sizeof GET("/who") - 1) > 0;
        len = SSL_read(c.ssl, plain, sizeof plain - 1);
        while (BIO_read(out, &byte, 1) == 1) {
            client_send(w, c.fd, str_make(&byte, 1));
            turn(w);
        }
        assert_true(client_read(c.fd, &got, &reset));
        if (got.len)
            BIO_write(in, got.p, (int)got.len);
        buf_clear(&got);
        turn(w);
    }
    assert_true(str_starts_with(str_of(plain), STR_LIT("HTTP/1.1 200 ")));
    buf_done(&got);
    client_end(&c);
    simple_free(w, tls);
}

/* A client that wants new keys over and over, and takes none of them. */
static void test_key_updates(void **state)
{
    (void)state;
    struct http_tls *tls;
    struct world *w = simple_world(&tls);
    struct tls_client c = client_make(w);
    assert_true(client_shake(&c));
    bool open = true;
    for (int i = 0; open && i < 1000000; i++) {
        assert_int_equal(SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        int done = SSL_do_handshake(c.ssl);
        if (done != 1 && SSL_get_error(c.ssl, done) == SSL_ERROR_WANT_WRITE)
            rest(c.fd);
        turn(w);
        open = http_server_connections(w->server) > 0;
    }
    assert_false(open);
    client_end(&c);
    simple_free(w, tls);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_bodies_both_ways),
        cmocka_unit_test(test_paused),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_files_that_are_refused),
        cmocka_unit_test(test_no_handshake),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_key_updates),
    };
    return cmocka_run_group_tests(tests, make_all, remove_all);
}
