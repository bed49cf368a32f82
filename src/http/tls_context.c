/* Certificates, keys and what OpenSSL is told about them. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <uv.h>

#include "http/tls.h"

enum {
    CERTIFICATES_MAX = 64,
    CLIENT_CHAIN_MAX_BYTES = 32 * 1024,
    TICKETS = 1, /* a handshake */
};

/* Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else. */
static const char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char groups[] = "X25519:P-256:P-384";

struct http_tls_set {
    atomic_uint refs;
    size_t count;
    SSL_CTX *contexts[CERTIFICATES_MAX]; /* the first is for clients that name no host that we know */
};

struct http_tls {
    uv_mutex_t lock; /* of `current` */
    struct http_tls_set *current;
    char *certificates, *keys, *client_ca; /* as given; client_ca "" where there is none */
    enum http_client_auth client_auth;
};

const char *http_tls_reason(char out[static 160])
{
    unsigned long code = ERR_get_error();
    ERR_clear_error();
    const char *reason =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    snprintf(out, 160, "%s", reason ? reason : "no reason given");
    return out;
}

/* --- sets --------------------------------------------------------------------------------------- */

struct http_tls_set *http_tls_set_get(struct http_tls *tls)
{
    uv_mutex_lock(&tls->lock);
    struct http_tls_set *set = tls->current;
    atomic_fetch_add(&set->refs, 1);
    uv_mutex_unlock(&tls->lock);
    return set;
}

void http_tls_set_unref(struct http_tls_set *set)
{
    if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
        return;
    for (size_t i = 0; i < set->count; i++)
        SSL_CTX_free(set->contexts[i]);
    free(set);
}

static void set_unrefp(struct http_tls_set **set)
{
    http_tls_set_unref(*set);
}

SSL *http_tls_set_session(struct http_tls_set *set)
{
    SSL *ssl = SSL_new(set->contexts[0]);
    WW_ASSERT(ssl); /* fails only without memory */
    SSL_set_accept_state(ssl);
    return ssl;
}

/* --- what a client asks for in its first message --------------------------------------------------- */

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    const struct http_tls_set *set = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    for (size_t i = 0; name && i < set->count; i++)
        if (X509_check_host(SSL_CTX_get0_certificate(set->contexts[i]), name, strlen(name), 0, NULL) == 1) {
            SSL_set_SSL_CTX(ssl, set->contexts[i]);
            break;
        }
    return SSL_TLSEXT_ERR_OK;
}

/* RFC 7301: a client that offers only what we don't speak is told so. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    (void)ssl, (void)arg;
    int found =
        SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours, sizeof ours - 1, in, in_len);
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* --- reading the files ----------------------------------------------------------------------------- */

static enum err refused(const char *what, const char *path, struct err_info *reterr)
{
    char reason[160];
    return err_set(reterr, ERR_FIELD_INVALID, "%s \"%s\" cannot be used: %s", what, path,
                   http_tls_reason(reason));
}

static enum err use_client_ca(const struct http_tls *tls, SSL_CTX *ctx, struct err_info *reterr)
{
    if (tls->client_auth == HTTP_CLIENT_AUTH_OFF)
        return OK;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(tls->client_ca);
    if (!names || SSL_CTX_load_verify_file(ctx, tls->client_ca) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return refused("the file of client authorities", tls->client_ca, reterr);
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT);
    int mode = SSL_VERIFY_PEER;
    if (tls->client_auth == HTTP_CLIENT_AUTH_REQUIRED)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, mode, NULL);
    SSL_CTX_set_max_cert_list(ctx, CLIENT_CHAIN_MAX_BYTES);
    return OK;
}

/* A key with a passphrase is not usable here: nobody is there to be asked. */
static int no_passphrase(char *to, int size, int writing, void *arg)
{
    (void)to, (void)size, (void)writing, (void)arg;
    return 0;
}

static enum err load_pair(const struct http_tls *tls, SSL_CTX *ctx, const char *certificate, const char *key,
                          struct err_info *reterr)
{
    static const unsigned char session_context[] = "wasmwiz";
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
        return refused("the certificate", certificate, reterr);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
        return refused("the private key", key, reterr);
    bool good = SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
                SSL_CTX_set_cipher_list(ctx, ciphers) == 1 && SSL_CTX_set1_groups_list(ctx, groups) == 1 &&
                SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1) == 1 &&
                SSL_CTX_set_num_tickets(ctx, TICKETS) == 1;
    if (!good)
        return refused("the certificate", certificate, reterr);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    /* Idle connections keep no buffers; sessions live with the client, in its ticket. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    return use_client_ca(tls, ctx, reterr);
}

static enum err set_new(const struct http_tls *tls, struct http_tls_set **ret_set, struct err_info *reterr)
{
    CLEANUP(set_unrefp) struct http_tls_set *set = xcalloc(1, sizeof *set);
    struct str certificates = str_of(tls->certificates), keys = str_of(tls->keys);
    atomic_init(&set->refs, 1);
    while (certificates.len || keys.len) {
        struct str c = str_trim(str_split(&certificates, ',')), k = str_trim(str_split(&keys, ','));
        if (!c.len || !k.len)
            return err_set(reterr, ERR_FIELD_INVALID,
                           "each TLS certificate needs its key: the two lists of files differ in length");
        if (set->count == CERTIFICATES_MAX)
            return err_set(reterr, ERR_FIELD_INVALID, "there are more than %d TLS certificates",
                           CERTIFICATES_MAX);
        CLEANUP(freep) char *certificate = xstrndup(c.p, c.len);
        CLEANUP(freep) char *key = xstrndup(k.p, k.len);
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        if (!ctx)
            return refused("the certificate", certificate, reterr);
        set->contexts[set->count++] = ctx;
        enum err e = load_pair(tls, ctx, certificate, key, reterr);
        if (e)
            return e;
    }
    if (!set->count)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no TLS certificate");
    SSL_CTX_set_tlsext_servername_callback(set->contexts[0], on_server_name);
    SSL_CTX_set_tlsext_servername_arg(set->contexts[0], set);
    *ret_set = TAKE(set);
    return OK;
}

/* --- the public ones -------------------------------------------------------------------------------- */

enum err http_tls_new(const struct http_tls_config *config, struct http_tls **ret_tls,
                      struct err_info *reterr)
{
    struct http_tls *tls = xcalloc(1, sizeof *tls);
    WW_ASSERT(uv_mutex_init(&tls->lock) == 0);
    tls->certificates = xstrdup(config->certificates);
    tls->keys = xstrdup(config->keys);
    tls->client_ca = xstrdup(config->client_ca ? config->client_ca : "");
    tls->client_auth = config->client_auth;
    enum err e = set_new(tls, &tls->current, reterr);
    if (e)
        http_tls_free(tls);
    else
        *ret_tls = tls;
    return e;
}

enum err http_tls_reload(struct http_tls *tls, struct err_info *reterr)
{
    struct http_tls_set *set;
    enum err e = set_new(tls, &set, reterr);
    if (e)
        return e;
    uv_mutex_lock(&tls->lock);
    struct http_tls_set *old = tls->current;
    tls->current = set;
    uv_mutex_unlock(&tls->lock);
    http_tls_set_unref(old);
    return OK;
}

void http_tls_free(struct http_tls *tls)
{
    if (!tls)
        return;
    http_tls_set_unref(tls->current);
    uv_mutex_destroy(&tls->lock);
    free(tls->certificates);
    free(tls->keys);
    free(tls->client_ca);
    free(tls);
}
