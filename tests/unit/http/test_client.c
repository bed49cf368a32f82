/* The HTTP client against a server of plain sockets here, which has a thread for each connection. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "../unit.h"
#include "base/clock.h"
#include "http/client.h"

enum { HANG_SECONDS = 100, REQUEST_MAX = 64 * 1024, BIG_BYTES = 100 * 1000, CONNECTIONS_MAX = 100 };

/* --- the server --------------------------------------------------------------------------------- */
static struct {
    int fd;
    uint16_t port;
    atomic_uint connections, requests, hits;
    SSL_CTX *_Atomic tls; /* NULL: clear text */
    pthread_t acceptor, threads[CONNECTIONS_MAX];
} server;

struct peer {
    int fd;
    SSL *ssl;
};

static bool peer_write(struct peer *p, const char *data, size_t len)
{
    while (len) {
        ssize_t n = p->ssl ? SSL_write(p->ssl, data, (int)len) : send(p->fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static ssize_t peer_read(struct peer *p, char *to, size_t size)
{
    return p->ssl ? SSL_read(p->ssl, to, (int)size) : read(p->fd, to, size);
}

static bool answer(struct peer *p, const char *status, const char *fields, struct str body)
{
    struct buf out = buf_make(1024 * 1024);
    buf_printf(&out, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n", status, fields, body.len);
    buf_put_str(&out, body);
    bool sent = peer_write(p, out.p, out.len);
    buf_done(&out);
    return sent;
}

/* Until the client has gone. */
static bool never_answer(struct peer *p)
{
    char byte;
    while (peer_read(p, &byte, 1) > 0)
        ;
    return false;
}

static bool endless_head(struct peer *p)
{
    static const char line[] = "X-More: 0123456789012345678901234567890123456789012345678901234567890\r\n";
    if (!peer_write(p, "HTTP/1.1 200 OK\r\n", 17))
        return false;
    for (int i = 0; i < 10000; i++)
        if (!peer_write(p, line, sizeof line - 1))
            return false;
    return false;
}

static bool serve_one(struct peer *p, struct str request)
{
    static char big[BIG_BYTES];
    struct str rest = request;
    str_split(&rest, ' ');
    struct str path = str_split(&rest, ' ');
    atomic_fetch_add(&server.requests, 1);
    if (str_eq(path, STR_LIT("/echo")))
        return answer(p, "200 OK", "", request);
    if (str_eq(path, STR_LIT("/missing")))
        return answer(p, "404 Not Found", "", STR_LIT("no"));
    if (str_eq(path, STR_LIT("/nothing")))
        return peer_write(p, "HTTP/1.1 204 No Content\r\n\r\n", 27);
    if (str_eq(path, STR_LIT("/big")))
        return answer(p, "200 OK", "", str_make(big, sizeof big));
    if (str_eq(path, STR_LIT("/redirect")))
        return answer(p, "302 Found", "Location: /hit\r\nSet-Cookie: a=b\r\n", STR_LIT(""));
    if (str_eq(path, STR_LIT("/hit")))
        atomic_fetch_add(&server.hits, 1);
    if (str_eq(path, STR_LIT("/endless")))
        return endless_head(p);
    if (str_eq(path, STR_LIT("/slow")))
        return never_answer(p);
    if (str_eq(path, STR_LIT("/nonsense")))
        return peer_write(p, "SSH-2.0-nonsense\r\n\r\n", 20) && false;
    return answer(p, "200 OK", "", STR_LIT("ok"));
}

/* Reads a request with its body; false at the end of the connection. */
static bool read_request(struct peer *p, char *into, size_t *ret_len)
{
    size_t len = 0;
    for (;;) {
        ssize_t n = peer_read(p, into + len, REQUEST_MAX - len - 1);
        if (n <= 0)
            return false;
        len += (size_t)n;
        into[len] = 0;
        const char *end = strstr(into, "\r\n\r\n"), *length = strcasestr(into, "content-length: ");
        size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
        if (end && len >= (size_t)(end - into) + 4 + body) {
            *ret_len = len;
            return true;
        }
    }
}

static void *serve_connection(void *arg)
{
    struct peer p = {.fd = (int)(intptr_t)arg};
    char *request = xmalloc(REQUEST_MAX);
    size_t len;
    if (server.tls) {
        p.ssl = SSL_new(server.tls);
        SSL_set_fd(p.ssl, p.fd);
    }
    if (!p.ssl || SSL_accept(p.ssl) == 1)
        while (read_request(&p, request, &len) && serve_one(&p, str_make(request, len)))
            ;
    SSL_free(p.ssl);
    close(p.fd);
    free(request);
    return NULL;
}

static void *serve(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(server.fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        unsigned n = atomic_fetch_add(&server.connections, 1);
        WW_ASSERT(n < CONNECTIONS_MAX);
        WW_ASSERT(pthread_create(&server.threads[n], NULL, serve_connection, (void *)(intptr_t)fd) == 0);
    }
}

/* --- certificates ------------------------------------------------------------------------------- */
static char trusted_path[] = "/tmp/wasmwiz-client-XXXXXX";
static SSL_CTX *tls_good, *tls_other_name, *tls_stranger;

static SSL_CTX *make_tls(const char *names, FILE *trusted)
{
    static long serial = 1;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *c = X509_new();
    char common_name[32];
    snprintf(common_name, sizeof common_name, "test %ld", serial);
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c), -3600);
    X509_gmtime_adj(X509_getm_notAfter(c), 86400);
    X509_set_pubkey(c, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC,
                               (const unsigned char *)common_name, -1, -1, 0);
    X509_set_issuer_name(c, X509_get_subject_name(c));
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, c, c, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, names);
    X509_add_ext(c, e, -1);
    X509_EXTENSION_free(e);
    assert_true(X509_sign(c, key, EVP_sha256()) > 0);
    if (trusted)
        assert_int_equal(PEM_write_X509(trusted, c), 1);
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    assert_true(SSL_CTX_use_certificate(tls, c) == 1 && SSL_CTX_use_PrivateKey(tls, key) == 1);
    X509_free(c);
    EVP_PKEY_free(key);
    return tls;
}

static int start_server(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    (void)state;
    FILE *trusted = fdopen(mkstemp(trusted_path), "w");
    assert_non_null(trusted);
    tls_good = make_tls("IP:127.0.0.1", trusted);
    tls_other_name = make_tls("DNS:other.test", trusted);
    tls_stranger = make_tls("IP:127.0.0.1", NULL);
    fclose(trusted);
    setenv("SSL_CERT_FILE", trusted_path, 1);
    /* What a client must not heed. */
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    server.fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server.fd, 16), 0);
    getsockname(server.fd, (struct sockaddr *)&address, &len);
    server.port = ntohs(address.sin_port);
    return pthread_create(&server.acceptor, NULL, serve, NULL);
}

static int stop_server(void **state)
{
    (void)state;
    shutdown(server.fd, SHUT_RDWR);
    pthread_join(server.acceptor, NULL);
    close(server.fd);
    remove(trusted_path);
    SSL_CTX_free(tls_good);
    SSL_CTX_free(tls_other_name);
    SSL_CTX_free(tls_stranger);
    return 0; /* connections that the client keeps go with the process */
}

/* --- asking ------------------------------------------------------------------------------------- */
static const char *url_of(const char *scheme, const char *path)
{
    static char url[256];
    snprintf(url, sizeof url, "%s://127.0.0.1:%u%s", scheme, server.port, path);
    return url;
}

static struct http_client_request request_of(const char *method, const char *url)
{
    return (struct http_client_request){.method = method,
                                        .url = url,
                                        .timeout_ns = 30 * NS_PER_S,
                                        .response_bytes_max = 64 * 1024,
                                        .private_too = true};
}

/* The status, or the negative error; `body` may be NULL. */
static int ask(struct http_client_request request, char *body, size_t size, struct err_info *err)
{
    struct http_client_response r;
    enum err e = http_client_send(&request, &r, err);
    if (e)
        return -(int)e;
    if (body)
        snprintf(body, size, "%s", buf_cstr(&r.body));
    buf_done(&r.body);
    return r.status;
}

static int get(const char *path, struct err_info *err)
{
    return ask(request_of("GET", url_of("http", path)), NULL, 0, err);
}

static void test_statuses(void **state)
{
    struct err_info err = {0};
    (void)state;
    assert_int_equal(get("/", &err), 200);
    assert_int_equal(get("/missing", &err), 404);
    assert_int_equal(get("/nothing", &err), 204);
    assert_int_equal(ask(request_of("HEAD", url_of("http", "/nothing")), NULL, 0, &err), 204);
}

static void test_what_is_sent(void **state)
{
    static const struct http_field fields[] = {{STR_LIT("X-One"), STR_LIT("1")},
                                               {STR_LIT("X-Empty"), STR_LIT("")},
                                               {STR_LIT("Content-Type"), STR_LIT("application/json")}};
    struct err_info err = {0};
    char body[4096];
    (void)state;
    struct http_client_request r = request_of("POST", url_of("http", "/echo"));
    r.fields = fields;
    r.field_count = LENGTH_OF(fields);
    r.body = STR_LIT("{\"a\":1}");
    assert_int_equal(ask(r, body, sizeof body, &err), 200);
    assert_non_null(strstr(body, "POST /echo HTTP/1.1\r\n"));
    assert_non_null(strstr(body, "\r\nX-One: 1\r\n"));
    assert_non_null(strstr(body, "\r\nX-Empty:"));
    assert_non_null(strstr(body, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(body, "\r\nContent-Length: 7\r\n"));
    assert_non_null(strstr(body, "\r\nUser-Agent: WasmWiz/"));
    assert_non_null(strstr(body, "\r\n\r\n{\"a\":1}"));
    assert_null(strcasestr(body, "expect"));
    assert_null(strcasestr(body, "accept-encoding"));

    r = request_of("PUT", url_of("http", "/echo"));
    assert_int_equal(ask(r, body, sizeof body, &err), 200);
    assert_non_null(strstr(body, "PUT /echo HTTP/1.1\r\n"));
    assert_non_null(strstr(body, "\r\nContent-Length: 0\r\n"));
    assert_null(strcasestr(body, "content-type"));
    assert_int_equal(ask(request_of("DELETE", url_of("http", "/echo")), body, sizeof body, &err), 200);
    assert_non_null(strstr(body, "DELETE /echo HTTP/1.1\r\n"));
}

static void test_field_injection(void **state)
{
    static const struct http_field bad[] = {{STR_LIT("X-One"), STR_LIT("1\r\nX-Two: 2")},
                                            {STR_LIT("X-One\r\nX-Two"), STR_LIT("1")},
                                            {STR_LIT("X-One: a\nX"), STR_LIT("1")},
                                            {STR_LIT("X-One;"), STR_LIT("1")},
                                            {STR_LIT(""), STR_LIT("1")}};
    struct err_info err = {0};
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        struct http_client_request r = request_of("GET", url_of("http", "/echo"));
        r.fields = &bad[i];
        r.field_count = 1;
        assert_int_equal(ask(r, NULL, 0, &err), -ERR_FIELD_INVALID);
    }
    assert_int_equal(ask(request_of("GET / HTTP/1.1\r\nX: ", url_of("http", "/")), NULL, 0, &err),
                     -ERR_FIELD_INVALID);
}

static void test_bounded_answer(void **state)
{
    struct err_info err = {0};
    (void)state;
    struct http_client_request r = request_of("GET", url_of("http", "/big"));
    r.response_bytes_max = BIG_BYTES;
    assert_int_equal(ask(r, NULL, 0, &err), 200);
    r.response_bytes_max = BIG_BYTES - 1;
    assert_int_equal(ask(r, NULL, 0, &err), -ERR_BAD_REQUEST);
    assert_int_equal(get("/endless", &err), -ERR_BAD_REQUEST);
    assert_int_equal(get("/nonsense", &err), -ERR_BUSY);
}

static void test_time_out_and_cancel(void **state)
{
    struct err_info err = {0};
    atomic_bool cancelled = true;
    (void)state;
    struct http_client_request r = request_of("GET", url_of("http", "/slow"));
    r.timeout_ns = 200 * NS_PER_MS;
    assert_int_equal(ask(r, NULL, 0, &err), -ERR_BUSY);
    assert_non_null(strstr(err_text(&err), "200 ms"));
    r.timeout_ns = 60 * NS_PER_S;
    r.cancelled = &cancelled;
    assert_int_equal(ask(r, NULL, 0, &err), -ERR_BUSY);
    assert_non_null(strstr(err_text(&err), "cancelled"));
}

static void test_redirect_is_not_followed(void **state)
{
    struct err_info err = {0};
    char body[4096];
    (void)state;
    assert_int_equal(get("/redirect", &err), 302);
    assert_int_equal(atomic_load(&server.hits), 0);
    assert_int_equal(ask(request_of("GET", url_of("http", "/echo")), body, sizeof body, &err), 200);
    assert_null(strcasestr(body, "cookie")); /* of the answer before */
}

static void test_connections(void **state)
{
    struct err_info err = {0};
    (void)state;
    assert_int_equal(get("/", &err), 200);
    unsigned before = atomic_load(&server.connections);
    for (int i = 0; i < 3; i++)
        assert_int_equal(get("/", &err), 200);
    assert_int_equal(atomic_load(&server.connections), before);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(request_of("POST", url_of("http", "/")), NULL, 0, &err), 200);
    assert_int_equal(atomic_load(&server.connections), before + 3);
}

static void test_private_is_refused(void **state)
{
    struct err_info err = {0};
    char url[64];
    (void)state;
    assert_int_equal(get("/", &err), 200); /* leaves a connection open: it must not be used again */
    unsigned connections = atomic_load(&server.connections), requests = atomic_load(&server.requests);
    struct http_client_request r = request_of("GET", url_of("http", "/"));
    r.private_too = false;
    assert_int_equal(ask(r, NULL, 0, &err), -ERR_FIELD_INVALID);
    assert_non_null(strstr(err_text(&err), "127.0.0.1"));
    snprintf(url, sizeof url, "http://localhost:%u/", server.port);
    r.url = url;
    assert_int_equal(ask(r, NULL, 0, &err), -ERR_FIELD_INVALID);
    snprintf(url, sizeof url, "http://0x7f.1:%u/", server.port);
    assert_int_equal(ask(r, NULL, 0, &err), -ERR_FIELD_INVALID);
    assert_int_equal(atomic_load(&server.connections), connections);
    assert_int_equal(atomic_load(&server.requests), requests);
}

static void test_errors_show_no_credential(void **state)
{
    static const char *const bad[] = {"http://me:S3CRET@127.0.0.1:1/?t=S3CRET", "https://S3CRET@127.0.0.1:1/",
                                      "http://me:S3CRET@[::1/", "ftp://me:S3CRET@h/",
                                      "http://me:S3CRET@h:99999/"};
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        struct err_info err = {0};
        assert_true(ask(request_of("GET", bad[i]), NULL, 0, &err) < 0);
        assert_null(strstr(err_text(&err), "S3CRET"));
    }
}

static void test_url_check(void **state)
{
    static const char *const good[] = {"http://example.com", "https://example.com:8443/a?b#c",
                                       "https://user:pass@example.com/", "http://8.8.8.8/",
                                       "http://[2606:4700::1111]/"};
    static const char *const bad[] = {"",
                                      "example.com",
                                      "/a",
                                      "ftp://example.com/",
                                      "file:///etc/passwd",
                                      "gopher://h/",
                                      "http://",
                                      "http:///a",
                                      "http://a b/",
                                      "http://a\r\nb/",
                                      "http://h\x80/",
                                      "http://127.0.0.1/",
                                      "http://2130706433/",
                                      "http://0x7f000001/",
                                      "http://017700000001/",
                                      "http://127.1/",
                                      "http://0/",
                                      "http://10.1.2.3/",
                                      "http://169.254.169.254/latest",
                                      "http://[::1]/",
                                      "http://[::]/",
                                      "http://[::ffff:8.8.8.8]/",
                                      "http://[64:ff9b::808:808]/",
                                      "http://[2002:808:808::1]/",
                                      "http://[fe80::1]/",
                                      "http://[fc00::1]/"};
    struct err_info err = {0};
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(good); i++)
        assert_int_equal(http_client_check_url(good[i], false, &err), OK);
    for (size_t i = 0; i < LENGTH_OF(bad); i++)
        if (http_client_check_url(bad[i], false, &err) != ERR_FIELD_INVALID)
            fail_msg("\"%s\" was let through", bad[i]);
    assert_int_equal(http_client_check_url("http://10.1.2.3/", true, &err), OK);
    assert_int_equal(http_client_check_url("ftp://10.1.2.3/", true, &err), ERR_FIELD_INVALID);
    char *long_url = xmalloc(HTTP_CLIENT_URL_MAX + 2);
    memset(long_url, 'a', HTTP_CLIENT_URL_MAX + 1);
    memcpy(long_url, "http://h/", 9);
    long_url[HTTP_CLIENT_URL_MAX + 1] = 0;
    assert_int_equal(http_client_check_url(long_url, true, &err), ERR_FIELD_INVALID);
    long_url[HTTP_CLIENT_URL_MAX] = 0;
    assert_int_equal(http_client_check_url(long_url, true, &err), OK);
    free(long_url);
}

/* The first and the last address of a range are in it, their neighbours are not. */
static void test_addresses(void **state)
{
    static const char *const hidden[] = {"0.0.0.0",
                                         "0.255.255.255",
                                         "10.0.0.0",
                                         "10.255.255.255",
                                         "100.64.0.0",
                                         "100.127.255.255",
                                         "127.0.0.1",
                                         "127.255.255.255",
                                         "169.254.0.0",
                                         "169.254.255.255",
                                         "172.16.0.0",
                                         "172.31.255.255",
                                         "192.0.0.255",
                                         "192.0.2.0",
                                         "192.88.99.1",
                                         "192.168.0.0",
                                         "192.168.255.255",
                                         "198.18.0.0",
                                         "198.19.255.255",
                                         "198.51.100.7",
                                         "203.0.113.7",
                                         "224.0.0.0",
                                         "239.255.255.255",
                                         "240.0.0.0",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "::ffff:8.8.8.8",
                                         "::8.8.8.8",
                                         "64:ff9b::808:808",
                                         "64:ff9b:1::1",
                                         "100::1",
                                         "1fff:ffff::",
                                         "2001::1",
                                         "2001:1ff:ffff::",
                                         "2001:db8::1",
                                         "2001:db8:ffff::1",
                                         "2002::1",
                                         "2620:4f:8000::1",
                                         "3fff::1",
                                         "3fff:fff::1",
                                         "4000::",
                                         "5f00::1",
                                         "fc00::1",
                                         "fdff::1",
                                         "fe80::1",
                                         "fec0::1",
                                         "ff02::1"};
    static const char *const open[] = {
        "1.0.0.0",         "9.255.255.255",   "11.0.0.0",        "100.63.255.255", "100.128.0.0",
        "126.255.255.255", "128.0.0.0",       "169.253.255.255", "169.255.0.0",    "172.15.255.255",
        "172.32.0.0",      "192.0.1.0",       "192.0.3.0",       "192.88.98.255",  "192.167.255.255",
        "192.169.0.0",     "198.17.255.255",  "198.20.0.0",      "203.0.114.0",    "223.255.255.255",
        "2000::1",         "2001:200::1",     "2001:db7::1",     "2001:db9::1",    "2003::1",
        "2606:4700::1111", "2620:4f:8001::1", "3ffe::1",         "3fff:1000::1"};
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(hidden) + LENGTH_OF(open); i++) {
        struct sockaddr_storage a = {0};
        const char *text = i < LENGTH_OF(hidden) ? hidden[i] : open[i - LENGTH_OF(hidden)];
        bool v6 = strchr(text, ':');
        a.ss_family = v6 ? AF_INET6 : AF_INET;
        assert_int_equal(inet_pton(a.ss_family, text,
                                   v6 ? (void *)&((struct sockaddr_in6 *)&a)->sin6_addr
                                      : (void *)&((struct sockaddr_in *)&a)->sin_addr),
                         1);
        if (http_client_address_is_public((struct sockaddr *)&a) != (i >= LENGTH_OF(hidden)))
            fail_msg("%s", text);
    }
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false(http_client_address_is_public(&local));
}

static void test_tls(void **state)
{
    struct err_info err = {0};
    (void)state;
    server.tls = tls_good;
    assert_int_equal(ask(request_of("POST", url_of("https", "/")), NULL, 0, &err), 200);
    server.tls = tls_stranger;
    assert_int_equal(ask(request_of("POST", url_of("https", "/")), NULL, 0, &err), -ERR_BUSY);
    assert_non_null(strstr(err_text(&err), "does not verify"));
    server.tls = tls_other_name;
    assert_int_equal(ask(request_of("POST", url_of("https", "/")), NULL, 0, &err), -ERR_BUSY);
    assert_non_null(strstr(err_text(&err), "does not verify"));
    server.tls = NULL; /* it waits for more of what it takes for a head */
    struct http_client_request r = request_of("POST", url_of("https", "/"));
    r.timeout_ns = 200 * NS_PER_MS;
    assert_int_equal(ask(r, NULL, 0, &err), -ERR_BUSY);
}

static void *ask_often(void *arg)
{
    struct err_info err = {0};
    (void)arg;
    for (int i = 0; i < 50; i++)
        if (ask(request_of("GET", "http://127.0.0.1:1/"), NULL, 0, &err) != -ERR_BUSY)
            return "an answer from nobody";
    return NULL;
}

static void test_many_threads(void **state)
{
    pthread_t threads[8];
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, NULL), 0);
    for (size_t i = 0; i < LENGTH_OF(threads); i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_what_is_sent),
        cmocka_unit_test(test_field_injection),
        cmocka_unit_test(test_bounded_answer),
        cmocka_unit_test(test_time_out_and_cancel),
        cmocka_unit_test(test_redirect_is_not_followed),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_private_is_refused),
        cmocka_unit_test(test_errors_show_no_credential),
        cmocka_unit_test(test_url_check),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_many_threads),
    };
    alarm(HANG_SECONDS);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
