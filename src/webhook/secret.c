/* Secrets of webhooks: made here, kept sealed, used to sign. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

#include "webhook/internal.h"

enum { RANDOM_BYTES = 32, NONCE_BYTES = 12, TAG_BYTES = 16, TEXT_BYTES = WEBHOOK_SECRET_BYTES - 1 };

/* What is kept: a byte for the form, the nonce, the sealed text, the tag. */
enum { FORM = 1, SEALED_BYTES = 1 + NONCE_BYTES + TEXT_BYTES + TAG_BYTES };
_Static_assert((int)SEALED_BYTES <= (int)STORE_SECRET_MAX, "it fits its column");

static const char secret_prefix[] = "whsec_";
static const char key_label[] = "wasmwiz webhook secrets 1";

void webhook_key_derive(struct str salt, unsigned char ret_key[static WEBHOOK_KEY_BYTES])
{
    char digest[] = "SHA256";
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)salt.p, salt.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)key_label,
                                          sizeof key_label - 1),
        OSSL_PARAM_construct_end(),
    };
    bool ok = ctx && EVP_KDF_derive(ctx, ret_key, WEBHOOK_KEY_BYTES, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    WW_ASSERT(ok); /* no memory */
}

/* The webhook's id is under the tag, too: a sealed secret can't be moved to another. */
static bool seal(const struct webhooks *w, const char *hook_id, const char *text,
                 unsigned char out[static SEALED_BYTES])
{
    unsigned char *nonce = out + 1, *sealed = nonce + NONCE_BYTES, *tag = sealed + TEXT_BYTES;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;
    out[0] = FORM;
    bool ok = ctx && RAND_bytes(nonce, NONCE_BYTES) == 1 &&
              EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, w->key, nonce) == 1 &&
              EVP_EncryptUpdate(ctx, NULL, &len, (const unsigned char *)hook_id, (int)strlen(hook_id)) == 1 &&
              EVP_EncryptUpdate(ctx, sealed, &len, (const unsigned char *)text, TEXT_BYTES) == 1 &&
              EVP_EncryptFinal_ex(ctx, sealed + TEXT_BYTES, &len) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

enum err webhook_make_secret(const struct webhooks *w, struct store_webhook *hook,
                             char ret_secret[static WEBHOOK_SECRET_BYTES], struct err_info *reterr)
{
    unsigned char bytes[RANDOM_BYTES];
    bool ok = RAND_bytes(bytes, sizeof bytes) == 1;
    if (ok) {
        snprintf(ret_secret, WEBHOOK_SECRET_BYTES, "%s", secret_prefix);
        hex_encode(bytes, sizeof bytes, ret_secret + sizeof secret_prefix - 1);
        ok = seal(w, hook->id, ret_secret, hook->secret);
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    hook->secret_len = SEALED_BYTES;
    return ok ? OK : err_set(reterr, ERR_INTERNAL, "the secret of a webhook could not be made");
}

enum err webhook_open_secret(const struct webhooks *w, const struct store_webhook *hook,
                             char ret_secret[static WEBHOOK_SECRET_BYTES], struct err_info *reterr)
{
    unsigned char copy[SEALED_BYTES], text[TEXT_BYTES];
    unsigned char *nonce = copy + 1, *sealed = nonce + NONCE_BYTES, *tag = sealed + TEXT_BYTES;
    int len;
    bool ok = hook->secret_len == SEALED_BYTES && hook->secret[0] == FORM;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    memcpy(copy, hook->secret, sizeof copy);
    ok = ok && ctx && EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, w->key, nonce) == 1 &&
         EVP_DecryptUpdate(ctx, NULL, &len, (const unsigned char *)hook->id, (int)strlen(hook->id)) == 1 &&
         EVP_DecryptUpdate(ctx, text, &len, sealed, TEXT_BYTES) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 &&
         EVP_DecryptFinal_ex(ctx, text + TEXT_BYTES, &len) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (ok) {
        memcpy(ret_secret, text, TEXT_BYTES);
        ret_secret[TEXT_BYTES] = 0;
    }
    OPENSSL_cleanse(text, sizeof text);
    return ok ? OK
              : err_set(reterr, ERR_INTERNAL,
                        "the webhook's secret can't be read: it was made under another API_SALT. Make the "
                        "webhook anew");
}

void webhook_sign(const char *secret, uint64_t unix_s, struct str body,
                  char ret_signature[static WEBHOOK_SIGNATURE_BYTES])
{
    unsigned char mac[32];
    unsigned len = sizeof mac;
    char hex[2 * sizeof mac + 1];
    struct buf text = buf_make(STORE_BODY_MAX + 32);
    buf_printf(&text, "%llu.", (unsigned long long)unix_s);
    buf_put_str(&text, body);
    WW_ASSERT(!text.overflow); /* the store bounds bodies */
    WW_ASSERT(
        HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)text.p, text.len, mac, &len));
    hex_encode(mac, sizeof mac, hex);
    snprintf(ret_signature, WEBHOOK_SIGNATURE_BYTES, "t=%llu,v1=%s", (unsigned long long)unix_s, hex);
    buf_done(&text);
}
