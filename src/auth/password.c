#include "auth/password.h"

#include <pthread.h>
#include <sodium.h>

/* libsodium's figures for logins that somebody waits for: two passes over 64 MiB. That is above what RFC 9106 and
 * OWASP ask of Argon2id with little memory (19 MiB, two passes). */
#define HASH_PASSES crypto_pwhash_OPSLIMIT_INTERACTIVE
#define HASH_MEMORY_BYTES crypto_pwhash_MEMLIMIT_INTERACTIVE

_Static_assert(crypto_pwhash_STRBYTES <= STORE_PASSWORD_HASH_BYTES, "a hash has room in its row");

static struct {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    unsigned working, waiting;
} turnstile = {.lock = PTHREAD_MUTEX_INITIALIZER, .freed = PTHREAD_COND_INITIALIZER};

MUST_CHECK static enum err enter(struct err_info *reterr)
{
    enum err e = OK;
    WW_ASSERT(pthread_mutex_lock(&turnstile.lock) == 0);
    if (turnstile.working == AUTH_HASHES_AT_ONCE && turnstile.waiting == AUTH_HASHES_WAITING) {
        e = err_set(reterr, ERR_BUSY, "too many passwords are being checked at the moment");
    } else {
        turnstile.waiting++;
        while (turnstile.working == AUTH_HASHES_AT_ONCE)
            WW_ASSERT(pthread_cond_wait(&turnstile.freed, &turnstile.lock) == 0);
        turnstile.waiting--;
        turnstile.working++;
    }
    WW_ASSERT(pthread_mutex_unlock(&turnstile.lock) == 0);
    return e;
}

static void leave(void)
{
    WW_ASSERT(pthread_mutex_lock(&turnstile.lock) == 0);
    turnstile.working--;
    WW_ASSERT(pthread_cond_signal(&turnstile.freed) == 0);
    WW_ASSERT(pthread_mutex_unlock(&turnstile.lock) == 0);
}

/* Fine on every call but the first; any thread. */
static void begin_sodium(void)
{
    WW_ASSERT(sodium_init() >= 0);
}

enum err auth_password_check(const char *field, struct str password, struct err_info *reterr)
{
    if (password.len >= AUTH_PASSWORD_MIN_BYTES && password.len <= AUTH_PASSWORD_MAX_BYTES)
        return OK;
    return err_set(reterr, ERR_FIELD_INVALID, "%s: it has %zu bytes; %d to %d are wanted", field,
                   password.len, AUTH_PASSWORD_MIN_BYTES, AUTH_PASSWORD_MAX_BYTES);
}

enum err auth_password_hash(struct str password, char ret_hash[static STORE_PASSWORD_HASH_BYTES],
                            struct err_info *reterr)
{
    char hash[crypto_pwhash_STRBYTES];
    enum err e = enter(reterr);
    if (e)
        return e;
    begin_sodium();
    int failed = crypto_pwhash_str_alg(hash, password.p, password.len, HASH_PASSES, HASH_MEMORY_BYTES,
                                       crypto_pwhash_ALG_ARGON2ID13);
    leave();
    if (failed)
        return err_set(reterr, ERR_INTERNAL, "there is no memory to hash a password");
    snprintf(ret_hash, STORE_PASSWORD_HASH_BYTES, "%s", hash);
    return OK;
}

/* Costs what a check costs, and throws the result away. */
static void pretend(struct str password)
{
    unsigned char key[crypto_pwhash_STRBYTES / 4] = {0};
    static const unsigned char salt[crypto_pwhash_SALTBYTES] = {0};
    if (crypto_pwhash(key, sizeof key, password.p, password.len, salt, HASH_PASSES, HASH_MEMORY_BYTES,
                      crypto_pwhash_ALG_ARGON2ID13) == 0)
        sodium_memzero(key, sizeof key);
}

enum err auth_password_verify(struct str password, const char *hash, bool *ret_right, bool *ret_outdated,
                              struct err_info *reterr)
{
    enum err e = enter(reterr);
    if (e)
        return e;
    begin_sodium();
    bool right = false;
    if (hash)
        right = crypto_pwhash_str_verify(hash, password.p, password.len) == 0;
    else
        pretend(password);
    leave();
    *ret_right = right;
    *ret_outdated = right && crypto_pwhash_str_needs_rehash(hash, HASH_PASSES, HASH_MEMORY_BYTES) != 0;
    return OK;
}
