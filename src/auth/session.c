#include "auth/session.h"

#include <openssl/crypto.h>

#include "auth/internal.h"
#include "base/clock.h"

enum { ID_LENGTH = AUTH_SESSION_BYTES - 1, PRUNE_ROWS = 100 };
/* Its use is written down at most this often. */
#define TOUCH_EVERY_NS(idle_ns) MIN((idle_ns) / 8, 60 * NS_PER_S)

static const char *cookie_name(bool secure)
{
    return secure ? "__Host-wasmwiz" : "wasmwiz";
}

void auth_set_session_times(struct auth *a, uint64_t idle_ns, uint64_t lifetime_ns)
{
    a->session_idle_ns = idle_ns;
    a->session_lifetime_ns = lifetime_ns;
}

static bool has_form(struct str id)
{
    unsigned char bytes[ID_LENGTH / 2];
    if (!hex_decode(id, bytes, sizeof bytes))
        return false;
    for (size_t i = 0; i < id.len; i++)
        if (id.p[i] >= 'A' && id.p[i] <= 'F')
            return false;
    return true;
}

struct str auth_session_of_cookie(struct str cookie, bool secure)
{
    struct str found = STR_NULL;
    while (cookie.len) {
        struct str value = str_trim(str_split(&cookie, ';'));
        struct str name = str_split(&value, '=');
        if (!str_eq(name, str_of(cookie_name(secure))))
            continue;
        if (found.p || !has_form(value))
            return STR_NULL;
        found = value;
    }
    return found;
}

void auth_session_cookie(struct auth *a, const char *id, bool secure, char to[static AUTH_SET_COOKIE_BYTES])
{
    uint64_t seconds = id[0] ? a->session_lifetime_ns / NS_PER_S : 0;
    snprintf(to, AUTH_SET_COOKIE_BYTES, "%s=%s; Path=/; Max-Age=%llu; HttpOnly; SameSite=Lax%s",
             cookie_name(secure), id, (unsigned long long)seconds, secure ? "; Secure" : "");
}

/* HMAC-SHA-256(salt, "PURPOSE TEXT"): what is derived for one purpose is of no use for another. */
static void derive(struct auth *a, const char *purpose, struct str text,
                   unsigned char mac[static AUTH_MAC_BYTES])
{
    char room[ID_LENGTH + 16];
    int len = snprintf(room, sizeof room, "%s %.*s", purpose, STR_FMT(text));
    WW_ASSERT(len > 0 && (size_t)len < sizeof room);
    auth_hash(a, str_make(room, (size_t)len), mac);
    OPENSSL_cleanse(room, sizeof room);
}

void auth_session_hash(struct auth *a, const char *id, unsigned char hash[static STORE_SESSION_HASH_BYTES])
{
    _Static_assert((int)STORE_SESSION_HASH_BYTES == (int)AUTH_MAC_BYTES, "an HMAC has room in its row");
    derive(a, "session", str_of(id), hash);
}

void auth_session_csrf(struct auth *a, const char *id, char ret_csrf[static AUTH_SESSION_BYTES])
{
    unsigned char mac[AUTH_MAC_BYTES];
    derive(a, "csrf", str_of(id), mac);
    hex_encode(mac, sizeof mac, ret_csrf);
}

bool auth_session_csrf_is_right(struct auth *a, const char *id, struct str token)
{
    char wanted[AUTH_SESSION_BYTES];
    auth_session_csrf(a, id, wanted);
    return token.p && token.len == ID_LENGTH && CRYPTO_memcmp(token.p, wanted, ID_LENGTH) == 0;
}

struct oldest {
    unsigned count;
    bool found;
    unsigned char hash[STORE_SESSION_HASH_BYTES];
};

static bool note_oldest(void *ctx, const struct store_session *session)
{
    struct oldest *o = ctx;
    o->count++;
    o->found = o->count > AUTH_SESSIONS_MAX;
    memcpy(o->hash, session->id_hash, sizeof o->hash);
    return !o->found;
}

/* Sessions come newest first: the one behind the last that may stay goes. */
MUST_CHECK static enum err make_room(struct auth *a, const char *user_id, struct err_info *reterr)
{
    struct oldest o = {.count = 0};
    uint64_t pruned;
    enum err e = store_session_prune(a->store, clock_wall_ns(), PRUNE_ROWS, &pruned, reterr);
    if (!e)
        e = store_session_each(a->store, user_id, note_oldest, &o, reterr);
    if (!e && o.found)
        e = store_session_delete(a->store, o.hash, reterr);
    return e == ERR_NOT_FOUND ? OK : e;
}

enum err auth_session_begin(struct auth *a, const struct store_user *user, const char *address,
                            struct auth_session *ret_session, struct err_info *reterr)
{
    unsigned char id[ID_LENGTH / 2];
    struct auth_session session;
    struct store_user now;
    if (!auth_random(id, sizeof id))
        return err_set(reterr, ERR_INTERNAL, "the system gives no random numbers to make a session from");
    hex_encode(id, sizeof id, session.id);
    OPENSSL_cleanse(id, sizeof id);
    auth_session_csrf(a, session.id, session.csrf);

    struct store_session row = {.created_ns = clock_wall_ns()};
    row.last_seen_ns = row.created_ns;
    row.expires_ns = row.created_ns + MIN(a->session_idle_ns, a->session_lifetime_ns);
    session.expires_ns = row.expires_ns;
    auth_session_hash(a, session.id, row.id_hash);
    derive(a, "kept", str_of(session.csrf), row.csrf_hash);
    snprintf(row.user_id, sizeof row.user_id, "%s", user->id);
    snprintf(row.address, sizeof row.address, "%s", address);
    enum err e = store_session_insert(a->store, &row, reterr);
    if (!e)
        e = make_room(a, user->id, reterr);
    /* A change of the password ends all sessions that are there: one that came just after it must not stay. */
    if (!e)
        e = store_user_by_id(a->store, user->id, &now, reterr);
    if (!e && (!now.active || strcmp(now.password_hash, user->password_hash) != 0))
        e = ERR_NOT_FOUND;
    if (e) {
        enum err gone = store_session_delete(a->store, row.id_hash, NULL);
        (void)gone; /* its id was told to nobody */
        return e != ERR_NOT_FOUND
                   ? e
                   : err_set(reterr, ERR_UNAUTHORIZED, "the account has changed meanwhile: log in again");
    }
    *ret_session = session;
    return OK;
}

enum err auth_session_find(struct auth *a, struct str id, struct auth_principal **ret_who,
                           struct err_info *reterr)
{
    char text[AUTH_SESSION_BYTES];
    unsigned char hash[STORE_SESSION_HASH_BYTES];
    struct store_session session;
    struct store_user user;
    struct store_tier tier;
    uint64_t now = clock_wall_ns();
    if (!has_form(id))
        return err_set(reterr, ERR_UNAUTHORIZED, "there is no such session");
    snprintf(text, sizeof text, "%.*s", STR_FMT(id));
    auth_session_hash(a, text, hash);
    enum err e = store_session_get(a->store, hash, &session, &user, reterr);
    if (!e)
        e = store_tier_get(a->store, user.tier, &tier, reterr);
    if (e && e != ERR_NOT_FOUND)
        return e;
    if (e || CRYPTO_memcmp(session.id_hash, hash, sizeof hash) != 0 || session.expires_ns <= now ||
        session.created_ns + a->session_lifetime_ns <= now)
        return err_set(reterr, ERR_UNAUTHORIZED, "there is no such session");
    if (!user.active)
        return err_set(reterr, ERR_FORBIDDEN, "the account of this session is not active");
    if (now > session.last_seen_ns + TOUCH_EVERY_NS(a->session_idle_ns)) {
        uint64_t until = MIN(now + a->session_idle_ns, session.created_ns + a->session_lifetime_ns);
        e = store_session_touch(a->store, hash, now, until, reterr);
        if (e == ERR_NOT_FOUND)
            return err_set(reterr, ERR_UNAUTHORIZED, "there is no such session");
        if (e)
            return e;
    }
    struct auth_principal *who = auth_principal_new(AUTH_BY_SESSION);
    snprintf(who->id, sizeof who->id, "%s", user.id);
    snprintf(who->user_id, sizeof who->user_id, "%s", user.id);
    who->role = user.role;
    auth_principal_set_tier(who, &tier);
    *ret_who = who;
    return OK;
}

enum err auth_session_end(struct auth *a, const char *id, struct err_info *reterr)
{
    unsigned char hash[STORE_SESSION_HASH_BYTES];
    auth_session_hash(a, id, hash);
    enum err e = store_session_delete(a->store, hash, reterr);
    return e == ERR_NOT_FOUND ? OK : e;
}
