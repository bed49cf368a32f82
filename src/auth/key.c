#include "auth/key.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>

#include "auth/cache.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/keys.h"
#include "store/users.h"

enum {
    TOKEN_LENGTH = AUTH_TOKEN_BYTES - 1,
    BEARER_MAX_BYTES = 512,
    REFUSED_PART = 4, /* the cache of refusals is a quarter of the other's size */
    REFUSED_MIN = 64,
};
#define TOKEN_PREFIX STR_LIT("ww_")
/* A refusal is remembered this long: enough to blunt guessing, short for one who has just made the key. */
#define REFUSED_FOR_NS NS_PER_S
/* While the store is silent, nothing tells that a key was revoked: what is remembered holds this long. */
#define STALE_AFTER_NS (30 * NS_PER_S)

struct auth {
    struct store *store;
    pthread_mutex_t lock; /* guards all that follows */
    EVP_MAC_CTX *hmac;    /* ready with the salt, started anew for each token */
    struct auth_cache *known;
    struct auth_cache *refused;
    uint64_t generation; /* counts how often the caches were forgotten */
    bool version_seen;
    uint64_t version;  /* the store's, when last asked */
    uint64_t heard_ns; /* when the store last told it, monotonic */
};

struct auth_key *auth_key_ref(struct auth_key *key)
{
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

void auth_key_unref(struct auth_key *key)
{
    if (key && atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) == 1)
        free(key);
}

void auth_key_unrefp(struct auth_key **key)
{
    auth_key_unref(*key);
    *key = NULL;
}

struct auth *auth_new(struct store *store, struct str salt, size_t cache_max)
{
    WW_ASSERT(salt.len >= AUTH_SALT_MIN_BYTES);
    struct auth *a = xcalloc(1, sizeof *a);
    a->store = store;
    a->known = auth_cache_new(cache_max);
    a->refused = auth_cache_new(MAX(cache_max / REFUSED_PART, (size_t)REFUSED_MIN));
    a->heard_ns = clock_now_ns();
    int failed = pthread_mutex_init(&a->lock, NULL);
    WW_ASSERT(!failed);

    /* OpenSSL has no other reason to fail here than no memory or a broken installation. */
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    a->hmac = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
    EVP_MAC_free(hmac);
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                     OSSL_PARAM_construct_end()};
    bool ready = a->hmac && EVP_MAC_init(a->hmac, (const unsigned char *)salt.p, salt.len, parameters);
    WW_ASSERT(ready);
    return a;
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    auth_cache_free(a->known);
    auth_cache_free(a->refused);
    EVP_MAC_CTX_free(a->hmac);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_any_of(char c, const char *set)
{
    return c && strchr(set, c);
}

struct str auth_bearer_token(struct str authorization)
{
    if (!authorization.p)
        return STR_NULL;
    struct str rest = str_trim(authorization);
    struct str scheme = str_split(&rest, ' ');
    if (!str_ieq(scheme, STR_LIT("Bearer")))
        return STR_NULL;
    while (rest.len && rest.p[0] == ' ')
        rest = str_make(rest.p + 1, rest.len - 1);
    if (rest.len == 0 || rest.len > BEARER_MAX_BYTES)
        return STR_NULL;
    /* RFC 6750, section 2.1: at least one character of the alphabet, then any number of '='. */
    size_t at = 0;
    while (at < rest.len && (is_alphanumeric(rest.p[at]) || is_any_of(rest.p[at], "-._~+/")))
        at++;
    if (at == 0)
        return STR_NULL;
    while (at < rest.len && rest.p[at] == '=')
        at++;
    return at == rest.len ? rest : STR_NULL;
}

/* The form that auth_key_create() gives; what has another was never a key, and the store need not be asked. */
static bool has_token_form(struct str token)
{
    if (token.len != TOKEN_LENGTH || !str_starts_with(token, TOKEN_PREFIX))
        return false;
    for (size_t i = TOKEN_PREFIX.len; i < token.len; i++)
        if (!is_alphanumeric(token.p[i]))
            return false;
    return true;
}

static void lock(struct auth *a)
{
    int failed = pthread_mutex_lock(&a->lock);
    WW_ASSERT(!failed);
}

static void unlock(struct auth *a)
{
    int failed = pthread_mutex_unlock(&a->lock);
    WW_ASSERT(!failed);
}

/* HMAC-SHA-256(salt, token); the lock is held. */
static void hash_token(struct auth *a, struct str token, unsigned char mac[static AUTH_MAC_BYTES])
{
    size_t len = 0;
    bool done = EVP_MAC_init(a->hmac, NULL, 0, NULL) &&
                EVP_MAC_update(a->hmac, (const unsigned char *)token.p, token.len) &&
                EVP_MAC_final(a->hmac, mac, &len, AUTH_MAC_BYTES);
    WW_ASSERT(done && len == AUTH_MAC_BYTES);
}

static bool has_expired(uint64_t expires_ns)
{
    return expires_ns && expires_ns <= clock_wall_ns();
}

enum auth_answer auth_key_cached(struct auth *a, struct str token, struct auth_key **ret_key)
{
    if (!has_token_form(token))
        return AUTH_REFUSED;
    enum auth_answer answer = AUTH_ASK;
    unsigned char mac[AUTH_MAC_BYTES];
    lock(a);
    hash_token(a, token, mac);
    struct auth_cache_entry *entry = auth_cache_find(a->known, mac);
    if (entry) {
        answer = has_expired(entry->key->expires_ns) ? AUTH_REFUSED : AUTH_KNOWN;
        if (answer == AUTH_KNOWN)
            *ret_key = auth_key_ref(entry->key);
    } else if ((entry = auth_cache_find(a->refused, mac)) && clock_now_ns() < entry->until_ns) {
        answer = AUTH_REFUSED;
    }
    unlock(a);
    return answer;
}

static struct auth_key *make_key(const struct store_key *row, const struct store_tier *tier)
{
    struct auth_key *key = xcalloc(1, sizeof *key);
    atomic_init(&key->refs, 1);
    snprintf(key->id, sizeof key->id, "%s", row->id);
    snprintf(key->name, sizeof key->name, "%s", row->name);
    snprintf(key->tier, sizeof key->tier, "%s", row->tier);
    key->expires_ns = row->expires_ns;
    key->per_minute = (uint32_t)MIN(tier->per_minute, UINT32_MAX);
    key->per_day = (uint32_t)MIN(tier->per_day, UINT32_MAX);
    key->concurrency = (uint32_t)MIN(tier->concurrency, UINT32_MAX);
    return key;
}

/* Keeps the store's answer, NULL = refused; not if it was asked before the caches were forgotten: then the answer
 * may be older than the change. */
static void remember(struct auth *a, const unsigned char mac[static AUTH_MAC_BYTES], struct auth_key *key,
                     uint64_t generation)
{
    lock(a);
    if (a->generation == generation) {
        if (key) {
            auth_cache_remove(a->refused, mac);
            auth_cache_put(a->known, mac, key, 0);
        } else {
            auth_cache_remove(a->known, mac);
            auth_cache_put(a->refused, mac, NULL, clock_now_ns() + REFUSED_FOR_NS);
        }
    }
    unlock(a);
}

static enum err unauthorized(struct err_info *reterr)
{
    return err_set(reterr, ERR_UNAUTHORIZED, "%s", err_sentence(ERR_UNAUTHORIZED));
}

enum err auth_key_find(struct auth *a, struct str token, struct auth_key **ret_key, struct err_info *reterr)
{
    if (!has_token_form(token))
        return unauthorized(reterr);
    unsigned char mac[AUTH_MAC_BYTES];
    lock(a);
    hash_token(a, token, mac);
    uint64_t generation = a->generation;
    unlock(a);

    struct store_key row;
    struct store_tier tier;
    enum err e = store_key_by_hash(a->store, mac, &row, reterr);
    if (!e)
        e = store_tier_get(a->store, row.tier, &tier, reterr);
    if (e && e != ERR_NOT_FOUND)
        return e;
    CLEANUP(auth_key_unrefp) struct auth_key *key = NULL;
    if (!e && CRYPTO_memcmp(row.hash, mac, sizeof mac) == 0 && !row.revoked_ns &&
        !has_expired(row.expires_ns))
        key = make_key(&row, &tier);
    remember(a, mac, key, generation);
    if (!key)
        return unauthorized(reterr);
    *ret_key = TAKE(key);
    return OK;
}

/* The lock is held. */
static void forget_all(struct auth *a)
{
    auth_cache_clear(a->known);
    auth_cache_clear(a->refused);
    a->generation++;
}

void auth_refresh(struct auth *a)
{
    struct err_info info = {0};
    uint64_t version = 0;
    enum err e = store_version(a->store, &version, &info);
    bool gone_stale = false;
    lock(a);
    uint64_t now = clock_now_ns();
    if (!e) {
        if (!a->version_seen || a->version != version)
            forget_all(a);
        a->version_seen = true;
        a->version = version;
        a->heard_ns = now;
    } else if (now - a->heard_ns > STALE_AFTER_NS) {
        gone_stale = a->version_seen;
        a->version_seen = false;
        forget_all(a);
    }
    unlock(a);
    if (gone_stale)
        LOG_WARN("keys forgotten: the store is silent", LOG_CSTR("reason", err_text(&info)));
}

MUST_CHECK static enum err check_name(struct str name, struct err_info *reterr)
{
    bool fits = name.len >= 1 && name.len <= STORE_NAME_MAX;
    for (size_t i = 0; fits && i < name.len; i++)
        fits = is_alphanumeric(name.p[i]) || is_any_of(name.p[i], "._-");
    if (!fits)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "name must have 1 to %d characters out of A-Z a-z 0-9 . _ -; the one given has %zu%s",
                       STORE_NAME_MAX, name.len,
                       name.len && name.len <= STORE_NAME_MAX ? ", some of them others" : "");
    return OK;
}

MUST_CHECK static enum err check_tier(struct str tier, struct err_info *reterr)
{
    if (str_eq(tier, STR_LIT("free")) || str_eq(tier, STR_LIT("basic")) || str_eq(tier, STR_LIT("pro")))
        return OK;
    return err_set(reterr, ERR_FIELD_INVALID, "tier must be one of free, basic and pro");
}

MUST_CHECK static bool random_bytes(void *to, size_t len)
{
    return RAND_bytes(to, (int)len) == 1;
}

MUST_CHECK static bool make_token(char token[static AUTH_TOKEN_BYTES])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    /* Bytes from FAIR on would favour the low digits. */
    enum { BASE = sizeof digits - 1, FAIR = 256 / BASE * BASE };
    unsigned char pool[64];
    bool fine = true;
    size_t len = TOKEN_PREFIX.len;
    memcpy(token, TOKEN_PREFIX.p, len);
    while (len < TOKEN_LENGTH && (fine = random_bytes(pool, sizeof pool)))
        for (size_t i = 0; i < sizeof pool && len < TOKEN_LENGTH; i++)
            if (pool[i] < FAIR)
                token[len++] = digits[pool[i] % BASE];
    token[len] = 0;
    OPENSSL_cleanse(pool, sizeof pool);
    return fine;
}

enum err auth_key_create(struct auth *a, struct str name, struct str tier, uint64_t expires_ns,
                         char ret_token[static AUTH_TOKEN_BYTES], struct err_info *reterr)
{
    enum err e;
    if ((e = check_name(name, reterr)) || (e = check_tier(tier, reterr)))
        return e;
    unsigned char id[(STORE_KEY_ID_BYTES - 1) / 2];
    char token[AUTH_TOKEN_BYTES];
    if (!random_bytes(id, sizeof id) || !make_token(token))
        return err_set(reterr, ERR_INTERNAL, "the system gives no random numbers to make a key from");
    struct store_key row = {.created_ns = clock_wall_ns(), .expires_ns = expires_ns};
    hex_encode(id, sizeof id, row.id);
    snprintf(row.name, sizeof row.name, "%.*s", STR_FMT(name));
    snprintf(row.tier, sizeof row.tier, "%.*s", STR_FMT(tier));
    snprintf(row.prefix, sizeof row.prefix, "%.*s", STORE_PREFIX_BYTES - 1, token);
    lock(a);
    hash_token(a, str_of(token), row.hash);
    unlock(a);
    e = store_key_insert(a->store, &row, reterr);
    if (!e)
        memcpy(ret_token, token, sizeof token);
    OPENSSL_cleanse(token, sizeof token);
    return e;
}
