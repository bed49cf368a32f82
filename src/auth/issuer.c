#include "auth/issuer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

enum { DIGEST_BYTES = 32, HOST_BYTES = 64 };
#define ASKED_EVERY_NS (30 * NS_PER_S)

struct auth_issuer {
    struct auth_issuer_config config;
    pthread_mutex_t reading; /* held while keys are read */
    pthread_mutex_t lock;    /* guards all that follows; never held over I/O */
    struct auth_jwks *keys;
    unsigned char digest[DIGEST_BYTES]; /* of the texts that `keys` come from */
    bool complete;                      /* all places were read, some time */
    unsigned readers;                   /* that read keys now, or wait to */
    uint64_t asked_ns;                  /* when a token had them read, monotonic; 0 = never */
};

static void lock(pthread_mutex_t *m)
{
    int failed = pthread_mutex_lock(m);
    WW_ASSERT(!failed);
}

static void unlock(pthread_mutex_t *m)
{
    int failed = pthread_mutex_unlock(m);
    WW_ASSERT(!failed);
}

/* --- where keys come from ----------------------------------------------------------------------- */
bool auth_jwks_is_url(const char *jwks)
{
    return str_starts_with(str_of(jwks), STR_LIT("https://")) ||
           str_starts_with(str_of(jwks), STR_LIT("http://"));
}

static bool is_this_machine(struct str host)
{
    char text[HOST_BYTES];
    struct in_addr v4;
    if (host.len >= sizeof text)
        return false;
    memcpy(text, host.p, host.len);
    text[host.len] = 0;
    return str_ieq(host, STR_LIT("localhost")) || str_eq(host, STR_LIT("[::1]")) ||
           (inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET);
}

bool auth_jwks_url_is_safe(const char *url)
{
    struct str rest = str_of(url), scheme = str_split(&rest, ':');
    if (!str_starts_with(rest, STR_LIT("//")))
        return false;
    struct str authority = str_make(rest.p + 2, rest.len - 2);
    authority.len = strcspn(authority.p, "/?#");
    for (size_t i = 0; i < authority.len; i++)
        if (authority.p[i] <= ' ' || authority.p[i] > '~' || authority.p[i] == '@' || authority.p[i] == '\\')
            return false;
    if (str_eq(scheme, STR_LIT("https")))
        return authority.len > 0;
    size_t port = authority.len; /* where ":8080" begins */
    while (port && authority.p[port - 1] >= '0' && authority.p[port - 1] <= '9')
        port--;
    if (port && authority.p[port - 1] == ':')
        authority.len = port - 1;
    return str_eq(scheme, STR_LIT("http")) && is_this_machine(authority);
}

MUST_CHECK static enum err read_file(const char *path, struct buf *to, struct err_info *reterr)
{
    /* NONBLOCK: a FIFO in its place must not hold a thread. */
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_set(reterr, ERR_FIELD_INVALID, "\"%s\" can't be read: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(reterr, ERR_FIELD_INVALID, "\"%s\" is no regular file", path);
    ssize_t n = 1;
    while (n > 0) {
        char *room = buf_reserve(to, 4096);
        if (!room)
            return err_set(reterr, ERR_FIELD_INVALID, "\"%s\" is longer than %d bytes", path,
                           AUTH_JWKS_BYTES_MAX);
        do
            n = read(fd, room, 4096);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            return err_set(reterr, ERR_FIELD_INVALID, "\"%s\" can't be read: %s", path, strerror(errno));
        to->len += (size_t)n;
    }
    return OK;
}

/* What the places hold now. */
struct texts {
    struct buf pem, jwks;
};

static void texts_done(struct texts *t)
{
    buf_done(&t->pem);
    buf_done(&t->jwks);
}

/* Puts the setting's name in front of the sentence. */
static enum err name_setting(enum err e, const char *setting, const struct err_info *why,
                             struct err_info *reterr)
{
    return e ? err_set(reterr, e, "%s: %s", setting, err_text(why)) : OK;
}

/* Whether there is a JWK set, and it is read this time. */
static bool wants_jwks(const struct auth_issuer *i, bool urls_too)
{
    return i->config.jwks[0] && (urls_too || !auth_jwks_is_url(i->config.jwks));
}

MUST_CHECK static enum err read_texts(const struct auth_issuer *i, bool urls_too, struct texts *ret,
                                      struct err_info *reterr)
{
    const struct auth_issuer_config *c = &i->config;
    struct err_info why = {0};
    enum err e = OK;
    if (c->public_key[0])
        e = name_setting(read_file(c->public_key, &ret->pem, &why), "JWT_PUBLIC_KEY", &why, reterr);
    if (!e && wants_jwks(i, urls_too)) {
        e = auth_jwks_is_url(c->jwks) ? c->fetch(c->jwks, &ret->jwks, &why)
                                      : read_file(c->jwks, &ret->jwks, &why);
        e = name_setting(e, "JWT_JWKS", &why, reterr);
    }
    return e;
}

/* The keys of the secret and of these texts. */
MUST_CHECK static enum err make_keys(const struct auth_issuer *i, bool urls_too, const struct texts *texts,
                                     struct auth_jwks **ret_keys, struct err_info *reterr)
{
    const struct auth_issuer_config *c = &i->config;
    CLEANUP(auth_jwks_unrefp) struct auth_jwks *keys = auth_jwks_new();
    struct auth_jwk key = {0};
    struct err_info why = {0};
    enum err e = OK;
    if (c->secret[0]) {
        e = auth_jwk_from_secret(str_of(c->secret), &key, &why);
        e = name_setting(e ? e : auth_jwks_add(keys, &key, &why), "JWT_SECRET", &why, reterr);
    }
    if (!e && c->public_key[0]) {
        e = auth_jwk_from_pem(buf_str(&texts->pem), &key, &why);
        e = name_setting(e ? e : auth_jwks_add(keys, &key, &why), "JWT_PUBLIC_KEY", &why, reterr);
    }
    if (!e && wants_jwks(i, urls_too))
        e = name_setting(auth_jwks_add_json(keys, buf_str(&texts->jwks), &why), "JWT_JWKS", &why, reterr);
    if (!e)
        *ret_keys = TAKE(keys);
    return e;
}

static void digest_of(const struct texts *texts, unsigned char digest[static DIGEST_BYTES])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint64_t first = texts->pem.len;
    bool done = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, &first, sizeof first) == 1 &&
                EVP_DigestUpdate(ctx, texts->pem.p, texts->pem.len) == 1 &&
                EVP_DigestUpdate(ctx, texts->jwks.p, texts->jwks.len) == 1 &&
                EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    WW_ASSERT(done);
    EVP_MD_CTX_free(ctx);
}

/* One thread at a time. Keys of the same texts are not made anew. */
MUST_CHECK static enum err read_keys(struct auth_issuer *i, bool urls_too, bool *ret_changed,
                                     struct err_info *reterr)
{
    CLEANUP(texts_done)
    struct texts texts = {.pem = buf_make(AUTH_JWKS_BYTES_MAX), .jwks = buf_make(AUTH_JWKS_BYTES_MAX)};
    CLEANUP(auth_jwks_unrefp) struct auth_jwks *keys = NULL; /* then those of before */
    unsigned char digest[DIGEST_BYTES];
    enum err e = read_texts(i, urls_too, &texts, reterr);
    if (!e)
        e = make_keys(i, urls_too, &texts, &keys, reterr);
    if (e)
        return e;
    digest_of(&texts, digest);
    lock(&i->lock);
    *ret_changed = !i->keys || memcmp(digest, i->digest, sizeof digest) != 0;
    if (*ret_changed) {
        struct auth_jwks *before = i->keys;
        i->keys = keys;
        keys = before;
        memcpy(i->digest, digest, sizeof digest);
    }
    i->complete = !i->config.jwks[0] || wants_jwks(i, urls_too);
    unlock(&i->lock);
    return OK;
}

/* --- the issuer --------------------------------------------------------------------------------- */
enum err auth_issuer_new(const struct auth_issuer_config *config, struct auth_issuer **ret_issuer,
                         struct err_info *reterr)
{
    struct auth_issuer *i = xcalloc(1, sizeof *i);
    i->config = *config;
    int failed = pthread_mutex_init(&i->reading, NULL) || pthread_mutex_init(&i->lock, NULL);
    WW_ASSERT(!failed);
    bool changed;
    enum err e = read_keys(i, false, &changed, reterr);
    if (e)
        auth_issuer_free(i);
    else
        *ret_issuer = i;
    return e;
}

void auth_issuer_free(struct auth_issuer *i)
{
    if (!i)
        return;
    auth_jwks_unref(i->keys);
    pthread_mutex_destroy(&i->reading);
    pthread_mutex_destroy(&i->lock);
    free(i);
}

enum err auth_issuer_check(struct auth_issuer *i, struct str token, struct auth_jwt_claims *ret_claims,
                           struct err_info *reterr)
{
    lock(&i->lock);
    CLEANUP(auth_jwks_unrefp) struct auth_jwks *keys = auth_jwks_ref(i->keys);
    unlock(&i->lock);
    return auth_jwt_check(keys, &i->config.rules, token, clock_wall_ns(), ret_claims, reterr);
}

static void count_reader(struct auth_issuer *i, int more)
{
    lock(&i->lock);
    i->readers += (unsigned)more;
    unlock(&i->lock);
}

enum err auth_issuer_refresh(struct auth_issuer *i, bool *ret_changed, struct err_info *reterr)
{
    count_reader(i, 1);
    lock(&i->reading);
    enum err e = read_keys(i, true, ret_changed, reterr);
    unlock(&i->reading);
    count_reader(i, -1);
    return e;
}

bool auth_issuer_may_refresh(struct auth_issuer *i)
{
    uint64_t now = clock_now_ns();
    lock(&i->lock);
    bool may = i->config.jwks[0] && (!i->asked_ns || now - i->asked_ns >= ASKED_EVERY_NS);
    if (may)
        i->asked_ns = now;
    unlock(&i->lock);
    return may;
}

bool auth_issuer_is_waiting(struct auth_issuer *i)
{
    lock(&i->lock);
    bool waiting = !i->complete || (i->readers && auth_jwks_is_url(i->config.jwks));
    unlock(&i->lock);
    return waiting;
}

enum auth_jwt_subject auth_issuer_subject(const struct auth_issuer *i)
{
    return i->config.rules.subject;
}
