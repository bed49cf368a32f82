/* Who a client certificate names: subject and subject alternative names (RFC 5280 sections 4.1.2.6 and
 * 4.2.1.6), as text. The certificate was verified, but its words are still those of a stranger: names with
 * bytes that are not printable ASCII are left out, because a NUL or a line end in one forges others. */
#include <arpa/inet.h>
#include <openssl/x509v3.h>

#include "http/internal.h"
#include "http/tls.h"

enum { NAMES_MAX = 64, NAME_MAX_BYTES = 512 };

struct http_identity {
    char *subject;
    size_t san_count;
    char *sans[NAMES_MAX];
};

static char *subject_of(const X509 *certificate)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *text = NULL;
    WW_ASSERT(out);
    /* RFC 2253 form escapes what is not printable. */
    X509_NAME_print_ex(out, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    long len = BIO_get_mem_data(out, &text);
    char *subject = len > 0 && len <= NAME_MAX_BYTES ? xstrndup(text, (size_t)len) : xstrdup("");
    BIO_free(out);
    return subject;
}

static void add(struct http_identity *id, const char *kind, struct str value)
{
    if (id->san_count == NAMES_MAX || value.len == 0 || value.len > NAME_MAX_BYTES)
        return;
    for (size_t i = 0; i < value.len; i++)
        if (value.p[i] <= ' ' || value.p[i] >= 0x7f)
            return;
    struct buf text = buf_make(NAME_MAX_BYTES + 16);
    buf_printf(&text, "%s:%.*s", kind, STR_FMT(value));
    buf_cstr(&text);
    id->sans[id->san_count++] = buf_take(&text, &(size_t){0});
}

static struct str text_of(const ASN1_STRING *s)
{
    return str_make(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

static void add_name(struct http_identity *id, const GENERAL_NAME *name)
{
    int kind;
    const void *value = GENERAL_NAME_get0_value(name, &kind);
    char address[INET6_ADDRSTRLEN];
    struct str bytes;
    switch (kind) {
    case GEN_DNS: add(id, "DNS", text_of(value)); break;
    case GEN_URI: add(id, "URI", text_of(value)); break;
    case GEN_EMAIL: add(id, "email", text_of(value)); break;
    case GEN_IPADD:
        bytes = text_of(value);
        if ((bytes.len == 4 || bytes.len == 16) &&
            inet_ntop(bytes.len == 4 ? AF_INET : AF_INET6, bytes.p, address, sizeof address))
            add(id, "IP", str_of(address));
        break;
    default: break;
    }
}

struct http_identity *http_identity_new(const SSL *ssl)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    if (!certificate || SSL_get_verify_result(ssl) != X509_V_OK)
        return NULL;
    struct http_identity *id = xcalloc(1, sizeof *id);
    id->subject = subject_of(certificate);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++)
        add_name(id, sk_GENERAL_NAME_value(names, i));
    GENERAL_NAMES_free(names);
    return id;
}

void http_identity_free(struct http_identity *id)
{
    if (!id)
        return;
    for (size_t i = 0; i < id->san_count; i++)
        free(id->sans[i]);
    free(id->subject);
    free(id);
}

const char *http_peer_subject(const struct http_exchange *x)
{
    return x->conn->identity ? x->conn->identity->subject : NULL;
}

size_t http_peer_san_count(const struct http_exchange *x)
{
    return x->conn->identity ? x->conn->identity->san_count : 0;
}

const char *http_peer_san(const struct http_exchange *x, size_t index)
{
    WW_ASSERT(index < http_peer_san_count(x));
    return x->conn->identity->sans[index];
}
