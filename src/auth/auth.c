#include "auth/auth.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include "auth/internal.h"
#include "auth/issuer.h"
#include "auth/key.h"
#include "auth/session.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    REFUSED_PART = 4, /* the cache of refusals is a quarter of the other's size */
    REFUSED_MIN = 64,
};
/* A refusal is remembered this long: enough to blunt guessing, short for one who has just made the key. */
#define REFUSED_FOR_NS NS_PER_S
/* While the store is silent, nothing tells that a key was revoked: what is remembered holds this long. */
#define STALE_AFTER_NS (30 * NS_PER_S)
/* Where nothing else is set. */
#define SESSION_IDLE_NS (12 * 3600 * NS_PER_S)
#define SESSION_LIFETIME_NS (7 * 24 * 3600 * NS_PER_S)

struct auth *auth_new(struct store *store, struct str salt, size_t cache_max)
{
    WW_ASSERT(salt.len >= AUTH_SALT_MIN_BYTES);
    struct auth *a = xcalloc(1, sizeof *a);
    a->store = store;
    auth_set_session_times(a, SESSION_IDLE_NS, SESSION_LIFETIME_NS);
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

void auth_trust(struct auth *a, struct auth_issuer *issuer)
{
    a->issuer = issuer;
}

bool auth_is_alphanumeric(char c)
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
    if (rest.len == 0 || rest.len > AUTH_TOKEN_MAX_BYTES)
        return STR_NULL;
    /* RFC 6750, section 2.1: at least one character of the alphabet, then any number of '='. */
    size_t at = 0;
    while (at < rest.len && (auth_is_alphanumeric(rest.p[at]) || is_any_of(rest.p[at], "-._~+/")))
        at++;
    if (at == 0)
        return STR_NULL;
    while (at < rest.len && rest.p[at] == '=')
        at++;
    return at == rest.len ? rest : STR_NULL;
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

/* HMAC-SHA-256(salt, text); the lock is held. */
static void hash_locked(struct auth *a, struct str text, unsigned char mac[static AUTH_MAC_BYTES])
{
    size_t len = 0;
    bool done = EVP_MAC_init(a->hmac, NULL, 0, NULL) &&
                EVP_MAC_update(a->hmac, (const unsigned char *)text.p, text.len) &&
                EVP_MAC_final(a->hmac, mac, &len, AUTH_MAC_BYTES);
    WW_ASSERT(done && len == AUTH_MAC_BYTES);
}

void auth_hash(struct auth *a, struct str text, unsigned char mac[static AUTH_MAC_BYTES])
{
    lock(a);
    hash_locked(a, text, mac);
    unlock(a);
}

static bool has_expired(uint64_t expires_ns)
{
    return expires_ns && expires_ns <= clock_wall_ns();
}

/* Whether it could be a credential at all; of what could not, nothing is remembered. */
static bool has_form(const struct auth *a, struct str token)
{
    return auth_key_has_form(token) || (a->issuer && auth_jwt_has_form(token));
}

enum auth_answer auth_cached(struct auth *a, struct str token, struct auth_principal **ret_who)
{
    if (!has_form(a, token))
        return AUTH_REFUSED;
    enum auth_answer answer = AUTH_ASK;
    unsigned char mac[AUTH_MAC_BYTES];
    lock(a);
    hash_locked(a, token, mac);
    struct auth_cache_entry *entry = auth_cache_find(a->known, mac);
    if (entry) {
        answer = has_expired(entry->who->expires_ns) ? AUTH_REFUSED : AUTH_KNOWN;
        if (answer == AUTH_KNOWN)
            *ret_who = auth_principal_ref(entry->who);
    } else if ((entry = auth_cache_find(a->refused, mac)) && clock_now_ns() < entry->until_ns) {
        answer = AUTH_REFUSED;
    }
    unlock(a);
    return answer;
}

static struct auth_principal *principal_of_key(const struct store_key *row, const struct store_user *user,
                                               const struct store_tier *tier)
{
    struct auth_principal *p = auth_principal_new(AUTH_BY_KEY);
    snprintf(p->id, sizeof p->id, "%s", row->id);
    snprintf(p->key_id, sizeof p->key_id, "%s", row->id);
    snprintf(p->user_id, sizeof p->user_id, "%s", row->user_id);
    snprintf(p->name, sizeof p->name, "%s", row->name);
    p->role = user->id[0] ? user->role : STORE_ROLE_USER;
    p->expires_ns = row->expires_ns;
    auth_principal_set_tier(p, tier);
    return p;
}

static struct auth_principal *principal_of_jwt(const struct store_user *user, const struct store_tier *tier,
                                               uint64_t expires_ns)
{
    struct auth_principal *p = auth_principal_new(AUTH_BY_JWT);
    snprintf(p->id, sizeof p->id, "%s", user->id);
    snprintf(p->user_id, sizeof p->user_id, "%s", user->id);
    p->role = user->role;
    p->expires_ns = expires_ns;
    auth_principal_set_tier(p, tier);
    return p;
}

/* Keeps the store's answer, NULL = refused; not if it was asked before the caches were forgotten: then the answer
 * may be older than the change. */
static void remember(struct auth *a, const unsigned char mac[static AUTH_MAC_BYTES],
                     struct auth_principal *who, uint64_t generation)
{
    lock(a);
    if (a->generation == generation) {
        if (who) {
            auth_cache_remove(a->refused, mac);
            auth_cache_put(a->known, mac, who, 0);
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

/* OK with *ret_who NULL: refused, as far as the store knows. FORBIDDEN: of an account that is not active. */
MUST_CHECK static enum err find_key(struct auth *a, const unsigned char mac[static AUTH_MAC_BYTES],
                                    struct auth_principal **ret_who, struct err_info *reterr)
{
    struct store_key row;
    struct store_user user;
    struct store_tier tier;
    enum err e = store_key_and_user_by_hash(a->store, mac, &row, &user, reterr);
    if (!e)
        e = store_tier_get(a->store, user.id[0] ? user.tier : row.tier, &tier, reterr);
    if (e)
        return e == ERR_NOT_FOUND ? OK : e;
    if (CRYPTO_memcmp(row.hash, mac, sizeof row.hash) != 0 || row.revoked_ns || has_expired(row.expires_ns))
        return OK;
    if (user.id[0] && !user.active)
        return err_set(reterr, ERR_FORBIDDEN, "the account of this API key is not active");
    *ret_who = principal_of_key(&row, &user, &tier);
    return OK;
}

/* The token itself; a key that is not there may have come since. */
MUST_CHECK static enum err check_jwt(struct auth *a, struct str token, struct auth_jwt_claims *ret_claims,
                                     struct err_info *reterr)
{
    enum err e = auth_issuer_check(a->issuer, token, ret_claims, reterr);
    if (e == ERR_NOT_FOUND && auth_issuer_may_refresh(a->issuer)) {
        auth_refresh_issuer(a);
        e = auth_issuer_check(a->issuer, token, ret_claims, reterr);
    }
    if (e == ERR_NOT_FOUND && auth_issuer_is_waiting(a->issuer))
        return err_set(reterr, ERR_BUSY, "the keys that this token is checked with are not there yet");
    return e == ERR_NOT_FOUND ? ERR_UNAUTHORIZED : e;
}

/* Like find_key(). Role and tier are the account's, whatever the token says. */
MUST_CHECK static enum err find_jwt(struct auth *a, struct str token, struct auth_principal **ret_who,
                                    struct err_info *reterr)
{
    struct auth_jwt_claims claims;
    struct err_info why = {0};
    enum err e = check_jwt(a, token, &claims, &why);
    if (e == ERR_UNAUTHORIZED) {
        LOG_DEBUG("JWT refused", LOG_CSTR("reason", err_text(&why)));
        return OK;
    }
    if (e)
        return err_set(reterr, e, "%s", err_text(&why));
    struct store_user user;
    struct store_tier tier;
    e = auth_issuer_subject(a->issuer) == AUTH_SUBJECT_ID
            ? store_user_by_id(a->store, claims.subject, &user, reterr)
            : store_user_by_email(a->store, str_of(claims.subject), &user, reterr);
    if (!e)
        e = store_tier_get(a->store, user.tier, &tier, reterr);
    if (e == ERR_NOT_FOUND) {
        LOG_DEBUG("JWT refused", LOG_CSTR("reason", "there is no such account"));
        return OK;
    }
    if (!e && !user.active)
        e = err_set(reterr, ERR_FORBIDDEN, "the account of this token is not active");
    if (e)
        return e;
    *ret_who = principal_of_jwt(&user, &tier, claims.expires_ns);
    return OK;
}

enum err auth_find(struct auth *a, struct str token, struct auth_principal **ret_who, struct err_info *reterr)
{
    if (!has_form(a, token))
        return unauthorized(reterr);
    unsigned char mac[AUTH_MAC_BYTES];
    lock(a);
    hash_locked(a, token, mac);
    uint64_t generation = a->generation;
    unlock(a);

    CLEANUP(auth_principal_unrefp) struct auth_principal *who = NULL;
    enum err e = auth_key_has_form(token) ? find_key(a, mac, &who, reterr) : find_jwt(a, token, &who, reterr);
    if (e)
        return e;
    remember(a, mac, who, generation);
    if (!who)
        return unauthorized(reterr);
    *ret_who = TAKE(who);
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

void auth_changed(struct auth *a)
{
    auth_refresh(a);
    if (a->tell)
        a->tell(a->tell_ctx);
}

void auth_on_change(struct auth *a, void (*tell)(void *ctx), void *ctx)
{
    a->tell = tell;
    a->tell_ctx = ctx;
}

void auth_refresh_issuer(struct auth *a)
{
    struct err_info info = {0};
    bool changed = false;
    if (auth_issuer_refresh(a->issuer, &changed, &info)) {
        LOG_WARN("the keys of JWTs were not read; those of before stay in use",
                 LOG_CSTR("reason", err_text(&info)));
    } else if (changed) {
        lock(a);
        forget_all(a); /* a key may have gone, and with it what it signed */
        unlock(a);
        LOG_INFO("the keys of JWTs are others now");
    }
}
