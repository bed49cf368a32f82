#include "auth/user.h"

#include "auth/event.h"
#include "auth/internal.h"
#include "auth/password.h"
#include "auth/throttle.h"
#include "base/clock.h"

#define FIRST_TIER "free"
#define FIRST_KEY_NAME STR_LIT("default")

/* --- what a request brings ---------------------------------------------------------------------- */
/* ASCII alone: what is compared without regard to case must look the same to everybody. */
static bool is_email(struct str email)
{
    size_t at = str_index(email, '@');
    if (email.len > AUTH_EMAIL_MAX_BYTES || at == 0 || at + 1 >= email.len)
        return false;
    for (size_t i = 0; i < email.len; i++)
        if (email.p[i] <= ' ' || email.p[i] >= 0x7f || (email.p[i] == '@' && i != at))
            return false;
    return true;
}

MUST_CHECK static enum err check_email(struct str email, struct err_info *reterr)
{
    if (is_email(email))
        return OK;
    return err_set(
        reterr, ERR_FIELD_INVALID,
        "email: an address such as me@example.org is wanted, of 3 to %d printable ASCII characters",
        AUTH_EMAIL_MAX_BYTES);
}

static void tell(struct auth *a, enum log_level level, const char *action, const struct auth_actor *actor,
                 const char *target, const char *detail)
{
    auth_event(a, &(struct auth_event){.level = level,
                                       .action = action,
                                       .actor = actor->id,
                                       .target = target,
                                       .address = actor->address,
                                       .request_id = actor->request_id,
                                       .detail = detail});
}

/* --- making accounts ---------------------------------------------------------------------------- */
MUST_CHECK static enum err prepare(const struct auth_user_request *request, struct store_user *row,
                                   struct err_info *reterr)
{
    unsigned char id[(STORE_ID_BYTES - 1) / 2];
    enum err e = check_email(request->email, reterr);
    if (!e)
        e = auth_password_check("password", request->password, reterr);
    if (!e && request->tier.len >= STORE_TIER_BYTES)
        e = err_set(reterr, ERR_FIELD_INVALID, "tier: a name of 1 to %d characters is wanted",
                    STORE_TIER_BYTES - 1);
    if (e)
        return e;
    if (!auth_random(id, sizeof id))
        return err_set(reterr, ERR_INTERNAL, "the system gives no random numbers to make an account from");
    *row = (struct store_user){.role = request->role, .active = true, .created_ns = clock_wall_ns()};
    row->updated_ns = row->created_ns;
    hex_encode(id, sizeof id, row->id);
    snprintf(row->email, sizeof row->email, "%.*s", STR_FMT(request->email));
    if (request->tier.len)
        snprintf(row->tier, sizeof row->tier, "%.*s", STR_FMT(request->tier));
    else
        snprintf(row->tier, sizeof row->tier, "%s", FIRST_TIER);
    return auth_password_hash(request->password, row->password_hash, reterr);
}

/* The row is ready; an account without its key is none. */
MUST_CHECK static enum err insert(struct auth *a, const struct store_user *row, enum auth_user_when when,
                                  const struct auth_actor *actor, char ret_token[static AUTH_KEY_TOKEN_BYTES],
                                  struct err_info *reterr)
{
    struct store_key key;
    enum err e = when == AUTH_USER_FIRST ? store_user_insert_first(a->store, row, reterr)
                                         : store_user_insert(a->store, row, reterr);
    if (e)
        return e;
    const struct auth_key_request wanted = {
        .user_id = str_of(row->id), .name = FIRST_KEY_NAME, .tier = str_of(row->tier)};
    e = auth_key_create(a, &wanted, &key, ret_token, reterr);
    if (e) {
        enum err gone = store_user_delete(a->store, row->id, NULL);
        (void)gone;
        return e;
    }
    char detail[64];
    snprintf(detail, sizeof detail, "role %s, tier %s", store_role_name(row->role), row->tier);
    tell(a, LOG_LEVEL_INFO, "user.create", actor, row->id, detail);
    tell(a, LOG_LEVEL_INFO, "key.create", actor, key.id, "the account's first");
    return OK;
}

enum err auth_user_create(struct auth *a, const struct auth_user_request *request,
                          const struct auth_actor *actor, struct store_user *ret_user,
                          char ret_token[static AUTH_KEY_TOKEN_BYTES], struct err_info *reterr)
{
    struct store_user row;
    enum err e = prepare(request, &row, reterr);
    if (!e)
        e = insert(a, &row, request->when, actor, ret_token, reterr);
    if (!e)
        *ret_user = row;
    return e;
}

enum err auth_user_register(struct auth *a, struct str email, struct str password, bool first_is_admin,
                            const struct auth_actor *client, struct store_user *ret_user,
                            char ret_token[static AUTH_KEY_TOKEN_BYTES], uint32_t *ret_wait_s,
                            struct err_info *reterr)
{
    const struct auth_user_request request = {.email = email, .password = password, .role = STORE_ROLE_USER};
    const struct auth_actor nobody = {"", client->address, client->request_id};
    struct store_user row;
    uint64_t users = 1;
    enum err e = check_email(email, reterr);
    if (!e)
        e = auth_password_check("password", password, reterr);
    if (!e)
        e = auth_throttle_take(a, AUTH_THROTTLE_REGISTER, str_of(client->address), ret_wait_s, reterr);
    if (!e)
        e = prepare(&request, &row, reterr);
    if (!e && first_is_admin)
        e = store_user_count(a->store, STORE_ROLE_USER, &users, reterr);
    if (e)
        return e;
    if (!users) {
        row.role = STORE_ROLE_ADMIN;
        e = insert(a, &row, AUTH_USER_FIRST, &nobody, ret_token, reterr);
        row.role = e ? STORE_ROLE_USER : STORE_ROLE_ADMIN;
    }
    if (users || e == ERR_CONFLICT) /* there is one already, perhaps since a moment ago */
        e = insert(a, &row, AUTH_USER_ANY_TIME, &nobody, ret_token, reterr);
    if (!e)
        *ret_user = row;
    return e;
}

/* --- logging in --------------------------------------------------------------------------------- */
/* Counts an attempt, by the client and by the account; what is refused is told. */
MUST_CHECK static enum err take_attempt(struct auth *a, struct str email, const struct auth_actor *actor,
                                        uint32_t *ret_wait_s, struct err_info *reterr)
{
    enum err e = auth_throttle_take(a, AUTH_THROTTLE_ADDRESS, str_of(actor->address), ret_wait_s, reterr);
    if (!e)
        e = auth_throttle_take(a, AUTH_THROTTLE_ACCOUNT, email, ret_wait_s, reterr);
    if (e == ERR_RATE_LIMITED) /* the log alone: there may be any number of them */
        LOG_WARN("security", LOG_CSTR("request_id", actor->request_id), LOG_CSTR("action", "login.locked"),
                 LOG_CSTR("actor", actor->id), LOG_CSTR("peer", actor->address),
                 LOG_U64("seconds", *ret_wait_s));
    return e;
}

MUST_CHECK static enum err attempt_was_right(struct auth *a, struct str email, const char *address,
                                             struct err_info *reterr)
{
    enum err e = auth_throttle_forget(a, AUTH_THROTTLE_ACCOUNT, email, reterr);
    return e ? e : auth_throttle_give(a, AUTH_THROTTLE_ADDRESS, str_of(address), reterr);
}

/* The parameters have changed since this password was hashed. Not worth failing for, nor over a new password. */
static void rehash(struct auth *a, struct store_user *user, struct str password)
{
    char hash[STORE_PASSWORD_HASH_BYTES];
    struct err_info info = {0};
    const struct store_user_change change = {.password_hash = hash, .if_password_hash = user->password_hash};
    if (auth_password_hash(password, hash, &info) ||
        store_user_change(a->store, user->id, &change, clock_wall_ns(), &info))
        LOG_WARN("a password keeps its old hash", LOG_CSTR("user", user->id),
                 LOG_CSTR("reason", err_text(&info)));
    else
        memcpy(user->password_hash, hash, sizeof hash);
}

enum err auth_user_login(struct auth *a, struct str email, struct str password,
                         const struct auth_actor *client, struct store_user *ret_user, uint32_t *ret_wait_s,
                         struct err_info *reterr)
{
    struct store_user user = {0};
    struct auth_actor actor = {"", client->address, client->request_id};
    bool right = false, outdated = false;
    /* What can't be an address or a password is one more that is wrong. */
    enum err e = email.len <= AUTH_EMAIL_MAX_BYTES && password.len <= AUTH_PASSWORD_MAX_BYTES
                     ? take_attempt(a, email, &actor, ret_wait_s, reterr)
                     : err_set(reterr, ERR_FIELD_INVALID, "email or password: longer than any that is kept");
    if (e)
        return e;
    e = store_user_by_email(a->store, email, &user, reterr);
    if (e && e != ERR_NOT_FOUND)
        return e;
    bool known = !e && user.password_hash[0];
    e = auth_password_verify(password, known ? user.password_hash : NULL, &right, &outdated, reterr);
    if (e)
        return e;
    actor.id = user.id;
    if (!right) {
        tell(a, LOG_LEVEL_WARN, "login.failed", &actor, user.id,
             known ? "the password was wrong" : "there is no such account");
        return err_set(reterr, ERR_UNAUTHORIZED, "the address or the password is wrong");
    }
    e = attempt_was_right(a, email, actor.address, reterr);
    if (e)
        return e;
    if (!user.active) {
        tell(a, LOG_LEVEL_WARN, "login.failed", &actor, user.id, "the account is not active");
        return err_set(reterr, ERR_FORBIDDEN, "this account is not active");
    }
    if (outdated)
        rehash(a, &user, password);
    tell(a, LOG_LEVEL_INFO, "login.ok", &actor, user.id, "");
    *ret_user = user;
    return OK;
}

enum err auth_user_change_password(struct auth *a, const char *user_id, struct str current,
                                   struct str password, const char *keep, const struct auth_actor *client,
                                   uint32_t *ret_wait_s, struct err_info *reterr)
{
    const struct auth_actor actor = {user_id, client->address, client->request_id};
    struct store_user user;
    char hash[STORE_PASSWORD_HASH_BYTES];
    unsigned char kept[STORE_SESSION_HASH_BYTES];
    bool right = false, outdated;
    enum err e = auth_password_check("new_password", password, reterr);
    if (!e)
        e = store_user_by_id(a->store, user_id, &user, reterr);
    if (!e)
        e = take_attempt(a, str_of(user.email), &actor, ret_wait_s, reterr);
    if (!e)
        e = auth_password_verify(current, user.password_hash, &right, &outdated, reterr);
    if (e)
        return e;
    if (!right) {
        tell(a, LOG_LEVEL_WARN, "password.failed", &actor, user_id, "the current password was wrong");
        return err_set(reterr, ERR_FORBIDDEN, "current_password: it is wrong");
    }
    e = attempt_was_right(a, str_of(user.email), actor.address, reterr);
    if (!e)
        e = auth_password_hash(password, hash, reterr);
    if (e)
        return e;
    const struct store_user_change change = {.password_hash = hash, .if_password_hash = user.password_hash};
    e = store_user_change(a->store, user_id, &change, clock_wall_ns(), reterr);
    if (e == ERR_NOT_FOUND)
        return err_set(reterr, ERR_CONFLICT, "the password was changed meanwhile");
    if (!e && keep)
        auth_session_hash(a, keep, kept);
    if (!e)
        e = store_session_delete_of_user(a->store, user_id, keep ? kept : NULL, reterr);
    if (!e)
        tell(a, LOG_LEVEL_INFO, "password.change", &actor, user_id, "the other sessions ended");
    return e;
}

/* --- what administrators do --------------------------------------------------------------------- */
static void tell_change(struct auth *a, const char *user_id, const struct auth_user_change *change,
                        const struct auth_actor *actor)
{
    char detail[64];
    if (change->role) {
        snprintf(detail, sizeof detail, "role %s", store_role_name(*change->role));
        tell(a, LOG_LEVEL_WARN, "user.role", actor, user_id, detail);
    }
    if (change->tier) {
        snprintf(detail, sizeof detail, "tier %s", change->tier);
        tell(a, LOG_LEVEL_INFO, "user.tier", actor, user_id, detail);
    }
    if (change->active)
        tell(a, LOG_LEVEL_WARN, *change->active ? "user.activate" : "user.deactivate", actor, user_id, "");
    if (change->password.p)
        tell(a, LOG_LEVEL_WARN, "password.reset", actor, user_id, "all sessions ended");
}

enum err auth_user_change(struct auth *a, const char *user_id, const struct auth_user_change *change,
                          const struct auth_actor *actor, struct err_info *reterr)
{
    char hash[STORE_PASSWORD_HASH_BYTES];
    struct store_user_change row = {
        .role = change->role, .tier = change->tier, .active = change->active, .keep_admin = true};
    enum err e = OK;
    if (change->password.p) {
        row.password_hash = hash;
        e = auth_password_check("password", change->password, reterr);
        if (!e)
            e = auth_password_hash(change->password, hash, reterr);
    }
    if (!e)
        e = store_user_change(a->store, user_id, &row, clock_wall_ns(), reterr);
    if (!e && (change->password.p || (change->active && !*change->active)))
        e = store_session_delete_of_user(a->store, user_id, NULL, reterr);
    auth_changed(a);
    if (!e)
        tell_change(a, user_id, change, actor);
    return e;
}

enum err auth_user_delete(struct auth *a, const char *user_id, const struct auth_actor *actor,
                          struct err_info *reterr)
{
    enum err e = store_user_delete_keep_admin(a->store, user_id, reterr);
    auth_changed(a);
    if (!e)
        tell(a, LOG_LEVEL_WARN, "user.delete", actor, user_id, "with its keys and sessions");
    return e;
}
