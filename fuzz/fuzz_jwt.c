/* Tokens and the keys for them. The first byte says what the rest is: a token as it comes, which can't be good, as nobody
 * knows the keys; a header and a payload with a newline between them, which get a good signature; a JWK set; or a PEM
 * file. What is good keeps what jwt.h promises. */
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "auth/jwt.h"
#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define NOW_NS (1700000000 * NS_PER_S)
enum { SECRET_BYTES = 32, TOKEN_BYTES_MAX = 64 * 1024 };

static char secret[SECRET_BYTES];
static struct auth_jwks *keys;

static void add_public_key(EVP_PKEY *pkey, enum auth_jwt_alg alg, const char *kid)
{
    struct auth_jwk key = {.alg = alg, .public_key = pkey};
    snprintf(key.kid, sizeof key.kid, "%s", kid);
    WW_ASSERT(auth_jwks_add(keys, &key, NULL) == OK);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct auth_jwk key = {0};
    (void)argc, (void)argv;
    WW_ASSERT(RAND_bytes((unsigned char *)secret, sizeof secret) == 1);
    keys = auth_jwks_new();
    WW_ASSERT(auth_jwk_from_secret(str_make(secret, sizeof secret), &key, NULL) == OK);
    WW_ASSERT(auth_jwks_add(keys, &key, NULL) == OK);
    add_public_key(EVP_EC_gen("P-256"), AUTH_ES256, "e");
    add_public_key(EVP_RSA_gen(2048), AUTH_RS256, "r");
    return 0;
}

static void put_base64url(struct buf *b, struct str bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *p = (const unsigned char *)bytes.p;
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < bytes.len; i++)
        for (bits = bits << 8 | p[i], held += 8; held >= 6; held -= 6)
            buf_putc(b, digits[bits >> (held - 6) & 63]);
    if (held)
        buf_putc(b, digits[bits << (6 - held) & 63]);
}

static struct buf sign(struct str header, struct str payload)
{
    struct buf token = buf_make(TOKEN_BYTES_MAX);
    unsigned char mac[32];
    unsigned len = 0;
    put_base64url(&token, header);
    buf_putc(&token, '.');
    put_base64url(&token, payload);
    HMAC(EVP_sha256(), secret, sizeof secret, (const unsigned char *)token.p, token.len, mac, &len);
    buf_putc(&token, '.');
    put_base64url(&token, str_make(mac, len));
    return token;
}

static enum err check(const struct auth_jwks *set, struct str token, const struct auth_jwt_rules *rules)
{
    struct auth_jwt_claims claims;
    struct err_info info = {0};
    enum err e = auth_jwt_check(set, rules, token, NOW_NS, &claims, &info);
    WW_ASSERT(e == OK || e == ERR_UNAUTHORIZED || e == ERR_NOT_FOUND);
    WW_ASSERT(e == info.code);
    if (!e) {
        WW_ASSERT(auth_jwt_has_form(token));
        WW_ASSERT(claims.subject[0] && strlen(claims.subject) < AUTH_SUBJECT_BYTES);
        WW_ASSERT(claims.expires_ns > NOW_NS);
    }
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct auth_jwt_rules rules = {.issuer = data[0] & 4 ? "me" : "",
                                   .audience = data[0] & 8 ? "us" : "",
                                   .subject = data[0] & 16 ? AUTH_SUBJECT_EMAIL_CLAIM : AUTH_SUBJECT_ID,
                                   .leeway_ns = 60 * NS_PER_S,
                                   .max_age_ns = data[0] & 32 ? 3600 * NS_PER_S : 0};
    char *copy = xmalloc(size); /* of its very size, so that a byte too far is noticed */
    memcpy(copy, data + 1, size - 1);
    struct str text = str_make(copy, size - 1);
    switch (data[0] % 4) {
    case 0: WW_ASSERT(check(keys, text, &rules)); break;
    case 1: {
        struct str payload = text, header = str_split(&payload, '\n');
        struct buf token = sign(header, payload);
        if (!token.overflow)
            (void)check(keys, buf_str(&token), &rules);
        buf_done(&token);
        break;
    }
    case 2: {
        struct auth_jwks *set = auth_jwks_new();
        struct err_info info = {0};
        enum err e = auth_jwks_add_json(set, text, &info);
        WW_ASSERT(e == OK || e == ERR_FIELD_INVALID);
        WW_ASSERT(e || (auth_jwks_count(set) > 0 && auth_jwks_count(set) <= AUTH_JWKS_KEYS_MAX));
        struct buf token = sign(STR_LIT("{\"alg\":\"HS256\"}"), text); /* there is no secret in a set */
        WW_ASSERT(check(set, buf_str(&token), &rules));
        buf_done(&token);
        auth_jwks_unref(set);
        break;
    }
    default: {
        struct auth_jwk key = {0};
        enum err e = auth_jwk_from_pem(text, &key, NULL);
        WW_ASSERT(e == OK || e == ERR_FIELD_INVALID);
        WW_ASSERT(e || (key.public_key && key.alg != AUTH_HS256));
        auth_jwk_done(&key);
    }
    }
    free(copy);
    return 0;
}
