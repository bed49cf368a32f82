/* Keys of all kinds, and tokens and JWK sets made with them by OpenSSL, right ones and wrong ones. What is returned as
 * text lives until the program ends. */
#ifndef WW_TESTS_JWT_FIXTURE_H
#define WW_TESTS_JWT_FIXTURE_H

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "auth/jwt.h"
#include "base/buf.h"

enum { TEXT_MAX = 1 << 20, KEPT_MAX = 20000 };
#define SECRET "a secret that is long enough for HS256"
#define HS256 "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define RS256 "{\"alg\":\"RS256\",\"kid\":\"r\"}"
#define ES256 "{\"alg\":\"ES256\",\"kid\":\"e\"}"

static char *kept[KEPT_MAX];
static size_t kept_count;

static inline char *keep(struct buf *b)
{
    buf_cstr(b);
    WW_ASSERT(!b->overflow && kept_count < KEPT_MAX);
    return kept[kept_count++] = buf_take(b, NULL);
}

static inline void drop_kept(void)
{
    while (kept_count)
        free(kept[--kept_count]);
}

static inline void put_base64url(struct buf *b, const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)p[i] << 16;
        bits |= i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0;
        bits |= i + 2 < len ? p[i + 2] : 0;
        for (unsigned at = 0; at < MIN(len - i, (size_t)3) + 1; at++)
            buf_putc(b, digits[bits >> (18 - 6 * at) & 63]);
    }
}

/* The three parts out of their bytes. */
static inline char *assemble(const char *header, const char *payload, const void *signature, size_t len)
{
    struct buf b = buf_make(TEXT_MAX);
    put_base64url(&b, header, strlen(header));
    buf_putc(&b, '.');
    put_base64url(&b, payload, strlen(payload));
    buf_putc(&b, '.');
    put_base64url(&b, signature, len);
    return keep(&b);
}

/* Up to the second point. */
static inline struct str signed_part(const char *header, const char *payload)
{
    char *token = assemble(header, payload, "", 0);
    return str_make(token, strlen(token) - 1);
}

static inline char *hmac_token(const char *header, const char *payload, struct str secret)
{
    unsigned char mac[32];
    unsigned len = 0;
    struct str text = signed_part(header, payload);
    HMAC(EVP_sha256(), secret.p, (int)secret.len, (const unsigned char *)text.p, text.len, mac, &len);
    return assemble(header, payload, mac, len);
}

/* As OpenSSL signs: for EC that is DER. */
static inline size_t sign_der(EVP_PKEY *key, struct str text, unsigned char signature[static 1024])
{
    size_t len = 1024;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    WW_ASSERT(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1);
    WW_ASSERT(EVP_DigestSign(ctx, signature, &len, (const unsigned char *)text.p, text.len) == 1);
    EVP_MD_CTX_free(ctx);
    return len;
}

/* As JWTs want it: for EC r and s, `each` bytes of both. */
static inline size_t sign_raw(EVP_PKEY *key, struct str text, unsigned char signature[static 1024], int each)
{
    size_t len = sign_der(key, text, signature);
    if (EVP_PKEY_is_a(key, "RSA"))
        return len;
    const unsigned char *p = signature;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &p, (long)len);
    WW_ASSERT(BN_bn2binpad(ECDSA_SIG_get0_r(pair), signature, each) == each);
    WW_ASSERT(BN_bn2binpad(ECDSA_SIG_get0_s(pair), signature + each, each) == each);
    ECDSA_SIG_free(pair);
    return 2 * (size_t)each;
}

static inline char *key_token(const char *header, const char *payload, EVP_PKEY *key)
{
    unsigned char signature[1024];
    size_t len = sign_raw(key, signed_part(header, payload), signature, 32);
    return assemble(header, payload, signature, len);
}

static inline void put_number(struct buf *b, const char *name, EVP_PKEY *key, const char *parameter)
{
    BIGNUM *number = NULL;
    unsigned char bytes[1100];
    WW_ASSERT(EVP_PKEY_get_bn_param(key, parameter, &number) == 1);
    int len = MAX(BN_num_bytes(number), EVP_PKEY_is_a(key, "EC") ? (EVP_PKEY_get_bits(key) + 7) / 8 : 1);
    WW_ASSERT(BN_bn2binpad(number, bytes, len) == len);
    BN_free(number);
    buf_printf(b, ",\"%s\":\"", name);
    put_base64url(b, bytes, (size_t)len);
    buf_putc(b, '"');
}

/* {"kty":...,"n":...,"e":...} with `more` members, which begin with a comma. */
static inline char *jwk_of(EVP_PKEY *key, const char *more)
{
    struct buf b = buf_make(TEXT_MAX);
    if (EVP_PKEY_is_a(key, "RSA")) {
        buf_puts(&b, "{\"kty\":\"RSA\"");
        put_number(&b, "n", key, OSSL_PKEY_PARAM_RSA_N);
        put_number(&b, "e", key, OSSL_PKEY_PARAM_RSA_E);
    } else {
        buf_puts(&b, "{\"kty\":\"EC\",\"crv\":\"P-256\"");
        put_number(&b, "x", key, OSSL_PKEY_PARAM_EC_PUB_X);
        put_number(&b, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y);
    }
    buf_puts(&b, more);
    buf_putc(&b, '}');
    return keep(&b);
}

static inline char *pem_of(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    struct buf b = buf_make(TEXT_MAX);
    WW_ASSERT(PEM_write_bio_PUBKEY(bio, key) == 1);
    buf_append(&b, text, (size_t)BIO_get_mem_data(bio, &text));
    BIO_free(bio);
    return keep(&b);
}

static inline char *text_of(const char *fmt, ...) PRINTF_LIKE(1, 2);
static inline char *text_of(const char *fmt, ...)
{
    struct buf b = buf_make(TEXT_MAX);
    va_list args;
    va_start(args, fmt);
    char *room = buf_reserve(&b, 64 * 1024);
    int len = vsnprintf(room, 64 * 1024, fmt, args);
    va_end(args);
    WW_ASSERT(len >= 0 && len < 64 * 1024);
    b.len = (size_t)len;
    return keep(&b);
}

#endif
