/* API keys of an account. Those of others are not there, but for administrators. */
#include "api/account.h"
#include "base/clock.h"
#include "base/log.h"

#define EXPIRES_IN_MAX ((uint64_t)10 * 366 * 24 * 3600) /* seconds */

/* expires_in: seconds from now, 0 = never; *ret_given: whether it was there. */
static enum err take_expiry(struct api_call *call, uint64_t *ret_wall_ns, bool *ret_given,
                            struct err_info *reterr)
{
    uint64_t seconds = UINT64_MAX;
    enum err e = api_call_number(call, "expires_in", false, 0, EXPIRES_IN_MAX, &seconds, reterr);
    if (e)
        return e;
    *ret_given = seconds != UINT64_MAX;
    *ret_wall_ns = !*ret_given || !seconds ? 0 : clock_wall_ns() + seconds * NS_PER_S;
    return OK;
}

/* Without the brace at its end. */
static void put_key(struct buf *out, const struct store_key *key)
{
    buf_putc(out, '{');
    api_put_text(out, "id", key->id);
    api_put_text(out, "name", key->name);
    api_put_text(out, "prefix", key->prefix);
    api_put_time(out, "created_at", key->created_ns);
    api_put_time(out, "expires_at", key->expires_ns);
    api_put_time(out, "last_used_at", key->last_used_ns);
    api_put_time(out, "revoked_at", key->revoked_ns);
}

enum err api_account_add_key(struct api_call *call, struct str name, uint64_t expires_ns,
                             struct store_key *ret_row, char ret_token[static AUTH_KEY_TOKEN_BYTES],
                             struct err_info *reterr)
{
    const struct auth_key_request request = {.user_id = str_of(call->who->user_id),
                                             .name = name,
                                             .tier = str_of(call->who->tier),
                                             .expires_ns = expires_ns,
                                             .max = AUTH_KEYS_MAX};
    enum err e = auth_key_create(call->program->auth, &request, ret_row, ret_token, reterr);
    if (e)
        return e;
    api_call_event(call, LOG_LEVEL_INFO, "key.create", ret_row->id, ret_row->name);
    webhook_key_created(call->program->webhooks, ret_row->user_id, ret_row->id, ret_row->name, ret_row->tier);
    return OK;
}

enum err api_key_create(struct api_call *call, struct err_info *reterr)
{
    struct str name;
    uint64_t expires_ns;
    struct store_key row;
    char token[AUTH_KEY_TOKEN_BYTES];
    bool given;
    enum err e = api_call_text(call, "name", true, 1, STORE_NAME_MAX, &name, reterr);
    if (!e)
        e = take_expiry(call, &expires_ns, &given, reterr);
    if (!e)
        e = api_account_add_key(call, name, expires_ns, &row, token, reterr);
    if (e)
        return e;
    call->status = 201;
    put_key(&call->out, &row);
    api_put_text(&call->out, "key", token);
    buf_puts(&call->out, "}\n");
    return OK;
}

struct key_list {
    struct buf *out;
    size_t count;
};

static bool list_key(void *ctx, const struct store_key *key)
{
    struct key_list *list = ctx;
    if (list->count++)
        buf_putc(list->out, ',');
    put_key(list->out, key);
    return buf_putc(list->out, '}');
}

/* Whose keys: one's own, or, for administrators, ?user_id=. */
static enum err take_owner(struct api_call *call, const char **ret_user_id, struct err_info *reterr)
{
    struct str asked;
    *ret_user_id = call->who->user_id;
    enum err e = api_call_query(call, "user_id", &asked, reterr);
    if (e || !asked.p)
        return e;
    if (call->who->role < STORE_ROLE_ADMIN && !str_eq(asked, str_of(call->who->user_id)))
        return err_set(reterr, ERR_FORBIDDEN, "user_id: only an administrator sees the keys of others");
    struct str copy = arena_copy(&call->arena, asked);
    if (!copy.p)
        return err_set(reterr, ERR_INTERNAL, "the call has no memory left");
    *ret_user_id = copy.p;
    return OK;
}

enum err api_keys(struct api_call *call, struct err_info *reterr)
{
    struct key_list list = {.out = &call->out};
    struct store_cursor cursor;
    const char *user_id;
    size_t limit;
    enum err e = api_call_page(call, &cursor, &limit, reterr);
    if (!e)
        e = take_owner(call, &user_id, reterr);
    if (e)
        return e;
    buf_puts(&call->out, "{\"keys\":[");
    e = store_key_page(call->program->store, user_id, &cursor, limit, list_key, &list, reterr);
    buf_putc(&call->out, ']');
    api_call_put_cursor(call, &cursor, list.count == limit);
    buf_puts(&call->out, "}\n");
    return e;
}

/* A key of somebody else is as if it were not there. */
static enum err find_key(struct api_call *call, const char *id, struct store_key *ret_key,
                         struct err_info *reterr)
{
    enum err e = store_key_by_id(call->program->store, id, ret_key, reterr);
    if (e == ERR_NOT_FOUND ||
        (!e && strcmp(ret_key->user_id, call->who->user_id) != 0 && call->who->role < STORE_ROLE_ADMIN))
        return err_set(reterr, ERR_NOT_FOUND, "the account has no key with this id");
    return e;
}

enum err api_key_change(struct api_call *call, struct err_info *reterr)
{
    char id[STORE_ID_BYTES];
    struct store_key key;
    struct store_key_change change = {.name = NULL};
    struct str name = STR_NULL;
    uint64_t expires_ns;
    bool given;
    enum err e = api_call_id(call, id, reterr);
    if (!e)
        e = find_key(call, id, &key, reterr);
    if (!e)
        e = api_call_text(call, "name", false, 1, STORE_NAME_MAX, &name, reterr);
    if (!e && name.p)
        e = auth_key_check_name(name, reterr);
    if (!e)
        e = take_expiry(call, &expires_ns, &given, reterr);
    if (!e && !name.p && !given)
        e = err_set(reterr, ERR_FIELD_INVALID, "name or expires_in: at least one of them is wanted");
    if (e)
        return e;
    if (name.p) {
        snprintf(key.name, sizeof key.name, "%.*s", STR_FMT(name));
        change.name = key.name;
    }
    if (given) {
        key.expires_ns = expires_ns;
        change.expires_ns = &key.expires_ns;
    }
    e = store_key_change(call->program->store, key.id, &change, reterr);
    if (e)
        return e;
    auth_changed(call->program->auth);
    api_call_event(call, LOG_LEVEL_INFO, "key.change", key.id, key.name);
    put_key(&call->out, &key);
    buf_puts(&call->out, "}\n");
    return OK;
}

enum err api_account_revoke_key(struct api_call *call, const char *id, struct err_info *reterr)
{
    struct store_key key;
    enum err e = find_key(call, id, &key, reterr);
    if (!e && !key.revoked_ns)
        e = store_key_revoke(call->program->store, str_of(key.id), clock_wall_ns(), reterr);
    if (e)
        return e;
    auth_changed(call->program->auth);
    if (!key.revoked_ns)
        api_call_event(call, LOG_LEVEL_INFO, "key.revoke", key.id, key.name);
    return OK;
}

enum err api_key_revoke(struct api_call *call, struct err_info *reterr)
{
    char id[STORE_ID_BYTES];
    enum err e = api_call_id(call, id, reterr);
    if (!e)
        e = api_account_revoke_key(call, id, reterr);
    if (!e)
        call->status = 204;
    return e;
}
