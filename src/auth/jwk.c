#include "auth/jwk.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "auth/base64url.h"

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192,
    MODULUS_BYTES_MAX = RSA_BITS_MAX / 8 + 1, /* some put a zero in front */
    EXPONENT_BYTES_MAX = 4,                   /* a long one costs whoever checks, not whoever signs */
    P256_BYTES = 32,
    SIGNATURE_BYTES_HS256 = 32,
    SIGNATURE_BYTES_ES256 = 2 * P256_BYTES,
    DER_BYTES_MAX = 80, /* of an ECDSA signature on P-256 */
    GROUP_BYTES = 32,
};

static const char *const alg_names[AUTH_JWT_ALG_COUNT] = {"HS256", "RS256", "ES256"};

const char *auth_jwt_alg_name(enum auth_jwt_alg alg)
{
    WW_ASSERT(alg < AUTH_JWT_ALG_COUNT);
    return alg_names[alg];
}

bool auth_jwt_alg_parse(struct str name, enum auth_jwt_alg *ret_alg)
{
    for (unsigned i = 0; i < AUTH_JWT_ALG_COUNT; i++)
        if (str_eq(name, str_of(alg_names[i]))) {
            *ret_alg = (enum auth_jwt_alg)i;
            return true;
        }
    return false;
}

static enum err invalid(struct err_info *reterr, const char *why)
{
    return err_set(reterr, ERR_FIELD_INVALID, "%s", why);
}

void auth_jwk_done(struct auth_jwk *key)
{
    EVP_PKEY_free(key->public_key);
    if (key->secret)
        OPENSSL_cleanse(key->secret, key->secret_len);
    free(key->secret);
    *key = (struct auth_jwk){0};
}

enum err auth_jwk_from_secret(struct str secret, struct auth_jwk *ret_key, struct err_info *reterr)
{
    if (secret.len < AUTH_SECRET_MIN_BYTES)
        return err_set(reterr, ERR_FIELD_INVALID, "the secret has %zu bytes; HS256 needs at least %d",
                       secret.len, AUTH_SECRET_MIN_BYTES);
    *ret_key = (struct auth_jwk){
        .alg = AUTH_HS256, .secret = xstrndup(secret.p, secret.len), .secret_len = secret.len};
    return OK;
}

/* Takes over `pkey` (may be NULL), and finds its algorithm by what it is. */
MUST_CHECK static enum err take_public_key(EVP_PKEY *pkey, struct auth_jwk *ret_key, struct err_info *reterr)
{
    enum auth_jwt_alg alg = AUTH_JWT_ALG_COUNT;
    char group[GROUP_BYTES] = "";
    int bits = pkey ? EVP_PKEY_get_bits(pkey) : 0;
    if (pkey && EVP_PKEY_is_a(pkey, "RSA") && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX)
        alg = AUTH_RS256;
    else if (pkey && EVP_PKEY_is_a(pkey, "EC") && EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL) &&
             strcmp(group, SN_X9_62_prime256v1) == 0)
        alg = AUTH_ES256;
    ERR_clear_error();
    if (alg == AUTH_JWT_ALG_COUNT) {
        EVP_PKEY_free(pkey);
        return err_set(reterr, ERR_FIELD_INVALID,
                       "the public key must be RSA of %d to %d bits, or EC on the curve P-256", RSA_BITS_MIN,
                       RSA_BITS_MAX);
    }
    *ret_key = (struct auth_jwk){.alg = alg, .public_key = pkey};
    return OK;
}

/* Without it OpenSSL asks at the terminal. */
static int no_password(char *to, int size, int writing, void *arg)
{
    (void)to, (void)size, (void)writing, (void)arg;
    return -1;
}

enum err auth_jwk_from_pem(struct str pem, struct auth_jwk *ret_key, struct err_info *reterr)
{
    BIO *bio = pem.len <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.len) : NULL;
    EVP_PKEY *pkey = bio ? PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!pkey)
        return invalid(reterr, "there is no public key in it (\"-----BEGIN PUBLIC KEY-----\")");
    return take_public_key(pkey, ret_key, reterr);
}

/* --- from JSON ---------------------------------------------------------------------------------- */
/* .p NULL where it is no string. */
static struct str text_of(const json_t *jwk, const char *name)
{
    const json_t *value = json_object_get(jwk, name);
    return json_is_string(value) ? str_make(json_string_value(value), json_string_length(value)) : STR_NULL;
}

/* `kind` and the parameters make a key; NULL where they make none. */
static EVP_PKEY *make_public_key(const char *kind, OSSL_PARAM_BLD *parts)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(parts);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
    bool made = parameters && ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
                EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, parameters) == 1;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(parameters);
    return made ? pkey : NULL;
}

MUST_CHECK static enum err rsa_from_json(const json_t *jwk, struct auth_jwk *ret_key, struct err_info *reterr)
{
    unsigned char n[MODULUS_BYTES_MAX], e[EXPONENT_BYTES_MAX];
    size_t n_len, e_len;
    struct str n_text = text_of(jwk, "n"), e_text = text_of(jwk, "e");
    if (!n_text.len || !e_text.len || !auth_base64url_decode(n_text, n, sizeof n, &n_len) ||
        !auth_base64url_decode(e_text, e, sizeof e, &e_len))
        return invalid(reterr, "\"n\" and \"e\" of an RSA key must be base64url of at most 1024 and 4 bytes");
    BIGNUM *modulus = BN_bin2bn(n, (int)n_len, NULL), *exponent = BN_bin2bn(e, (int)e_len, NULL);
    OSSL_PARAM_BLD *parts = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (modulus && exponent && parts && BN_is_odd(modulus) && BN_is_odd(exponent) && !BN_is_one(exponent) &&
        OSSL_PARAM_BLD_push_BN(parts, OSSL_PKEY_PARAM_RSA_N, modulus) &&
        OSSL_PARAM_BLD_push_BN(parts, OSSL_PKEY_PARAM_RSA_E, exponent))
        pkey = make_public_key("RSA", parts);
    OSSL_PARAM_BLD_free(parts);
    BN_free(modulus);
    BN_free(exponent);
    return take_public_key(pkey, ret_key, reterr);
}

MUST_CHECK static enum err ec_from_json(const json_t *jwk, struct auth_jwk *ret_key, struct err_info *reterr)
{
    unsigned char point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    size_t x_len, y_len;
    struct str x_text = text_of(jwk, "x"), y_text = text_of(jwk, "y");
    if (!str_eq(text_of(jwk, "crv"), STR_LIT("P-256")))
        return invalid(reterr, "\"crv\" of an EC key must be P-256");
    if (!auth_base64url_decode(x_text, point + 1, P256_BYTES, &x_len) || x_len != P256_BYTES ||
        !auth_base64url_decode(y_text, point + 1 + P256_BYTES, P256_BYTES, &y_len) || y_len != P256_BYTES)
        return invalid(reterr, "\"x\" and \"y\" of an EC key must be base64url of 32 bytes each");
    OSSL_PARAM_BLD *parts = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (parts && OSSL_PARAM_BLD_push_utf8_string(parts, OSSL_PKEY_PARAM_GROUP_NAME, SN_X9_62_prime256v1, 0) &&
        OSSL_PARAM_BLD_push_octet_string(parts, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point))
        pkey = make_public_key("EC", parts); /* refuses a point that is not on the curve */
    OSSL_PARAM_BLD_free(parts);
    return take_public_key(pkey, ret_key, reterr);
}

/* What the key is for, where it says so: RFC 7517, sections 4.2 and 4.3. */
static bool is_for_signatures(const json_t *jwk)
{
    const json_t *use = json_object_get(jwk, "use"), *operations = json_object_get(jwk, "key_ops");
    if (use && !str_eq(text_of(jwk, "use"), STR_LIT("sig")))
        return false;
    if (!operations)
        return true;
    size_t i;
    const json_t *operation;
    json_array_foreach(operations, i,
                       operation) if (json_is_string(operation) &&
                                      strcmp(json_string_value(operation), "verify") == 0) return true;
    return false;
}

enum err auth_jwk_from_json(const json_t *jwk, struct auth_jwk *ret_key, struct err_info *reterr)
{
    struct str kind = text_of(jwk, "kty"), kid = text_of(jwk, "kid"), alg = text_of(jwk, "alg");
    bool rsa = str_eq(kind, STR_LIT("RSA"));
    if (!rsa && !str_eq(kind, STR_LIT("EC")))
        return invalid(reterr, "\"kty\" must be RSA or EC");
    if (json_object_get(jwk, "d"))
        return invalid(reterr, "it is a private key");
    if (!is_for_signatures(jwk))
        return invalid(reterr, "it is not for signatures");
    if (json_object_get(jwk, "kid") && (!kid.len || kid.len > AUTH_KID_MAX_BYTES))
        return err_set(reterr, ERR_FIELD_INVALID, "\"kid\" must be text of 1 to %d bytes",
                       AUTH_KID_MAX_BYTES);
    struct auth_jwk key = {0};
    enum err e = rsa ? rsa_from_json(jwk, &key, reterr) : ec_from_json(jwk, &key, reterr);
    if (e)
        return e;
    if (json_object_get(jwk, "alg") && !str_eq(alg, str_of(auth_jwt_alg_name(key.alg)))) {
        auth_jwk_done(&key);
        return invalid(reterr, "\"alg\" must be RS256 for RSA, ES256 for EC");
    }
    if (kid.len)
        memcpy(key.kid, kid.p, kid.len);
    *ret_key = key;
    return OK;
}

/* --- signatures --------------------------------------------------------------------------------- */
static bool verify_hmac(const struct auth_jwk *key, struct str text, struct str signature)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    return signature.len == SIGNATURE_BYTES_HS256 &&
           HMAC(EVP_sha256(), key->secret, (int)key->secret_len, (const unsigned char *)text.p, text.len, mac,
                &mac_len) &&
           mac_len == SIGNATURE_BYTES_HS256 && CRYPTO_memcmp(mac, signature.p, mac_len) == 0;
}

/* SHA-256 in both; of RSA the padding is PKCS#1 v1.5, as OpenSSL does it unless told otherwise. */
static bool verify_public(EVP_PKEY *pkey, struct str text, struct str signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
                EVP_DigestVerify(ctx, (const unsigned char *)signature.p, signature.len,
                                 (const unsigned char *)text.p, text.len) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

/* JWTs have r and s, 32 bytes each, where OpenSSL wants them in DER. */
static bool verify_ecdsa(EVP_PKEY *pkey, struct str text, struct str signature)
{
    if (signature.len != SIGNATURE_BYTES_ES256)
        return false;
    const unsigned char *bytes = (const unsigned char *)signature.p;
    BIGNUM *r = BN_bin2bn(bytes, P256_BYTES, NULL), *s = BN_bin2bn(bytes + P256_BYTES, P256_BYTES, NULL);
    ECDSA_SIG *pair = ECDSA_SIG_new();
    unsigned char der[DER_BYTES_MAX], *end = der;
    int len = -1;
    if (r && s && pair && ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL; /* the pair's now */
        len = i2d_ECDSA_SIG(pair, NULL);
        WW_ASSERT(len <= DER_BYTES_MAX);
        len = i2d_ECDSA_SIG(pair, &end);
    }
    ECDSA_SIG_free(pair);
    BN_free(r);
    BN_free(s);
    return len > 0 && verify_public(pkey, text, str_make(der, (size_t)len));
}

bool auth_jwk_verify(const struct auth_jwk *key, struct str text, struct str signature)
{
    bool good = false;
    switch (key->alg) {
    case AUTH_HS256: return verify_hmac(key, text, signature);
    case AUTH_RS256:
        good = signature.len == (size_t)EVP_PKEY_get_size(key->public_key) &&
               verify_public(key->public_key, text, signature);
        break;
    case AUTH_ES256: good = verify_ecdsa(key->public_key, text, signature); break;
    case AUTH_JWT_ALG_COUNT: WW_UNREACHABLE("a key has an algorithm");
    }
    ERR_clear_error(); /* TLS on this thread would take what is left in the queue for its own */
    return good;
}
