/* All accounts, for administrators. */
#include "api/call.h"
#include "base/log.h"

void api_put_user(struct buf *out, const struct store_user *user)
{
    buf_putc(out, '{');
    api_put_text(out, "id", user->id);
    api_put_text(out, "email", user->email);
    api_put_text(out, "role", store_role_name(user->role));
    api_put_text(out, "tier", user->tier);
    api_put_bool(out, "active", user->active);
    api_put_time(out, "created_at", user->created_ns);
    api_put_time(out, "updated_at", user->updated_ns);
}

/* *ret_given: whether the field was there. */
static enum err take_role(struct api_call *call, enum store_role *ret_role, bool *ret_given,
                          struct err_info *reterr)
{
    struct str word = STR_NULL;
    enum err e = api_call_text(call, "role", false, 1, 16, &word, reterr);
    if (e)
        return e;
    *ret_given = word.p != NULL;
    if (word.p && !store_role_parse(word, ret_role))
        return err_set(reterr, ERR_FIELD_INVALID, "role: user, operator or admin is wanted");
    return OK;
}

struct user_list {
    struct buf *out;
    size_t count;
};

static bool list_user(void *ctx, const struct store_user *user)
{
    struct user_list *list = ctx;
    if (list->count++)
        buf_putc(list->out, ',');
    api_put_user(list->out, user);
    return buf_putc(list->out, '}');
}

enum err api_users(struct api_call *call, struct err_info *reterr)
{
    struct user_list list = {.out = &call->out};
    struct store_cursor cursor;
    size_t limit;
    enum err e = api_call_page(call, &cursor, &limit, reterr);
    if (e)
        return e;
    buf_puts(&call->out, "{\"users\":[");
    e = store_user_page(call->program->store, &cursor, limit, list_user, &list, reterr);
    buf_putc(&call->out, ']');
    api_call_put_cursor(call, &cursor, list.count == limit);
    buf_puts(&call->out, "}\n");
    return e;
}

enum err api_user_create(struct api_call *call, struct err_info *reterr)
{
    const struct auth_actor actor = api_call_actor(call);
    struct auth_user_request request = {.role = STORE_ROLE_USER};
    struct store_user user;
    char token[AUTH_KEY_TOKEN_BYTES];
    bool given;
    enum err e = api_call_text(call, "email", true, 1, AUTH_EMAIL_MAX_BYTES, &request.email, reterr);
    if (!e)
        e = api_call_text(call, "password", true, 1, SIZE_MAX, &request.password, reterr);
    if (!e)
        e = take_role(call, &request.role, &given, reterr);
    if (!e)
        e = api_call_text(call, "tier", false, 1, STORE_TIER_BYTES - 1, &request.tier, reterr);
    if (!e)
        e = auth_user_create(call->program->auth, &request, &actor, &user, token, reterr);
    if (e)
        return e;
    call->status = 201;
    api_put_user(&call->out, &user);
    api_put_text(&call->out, "key", token);
    buf_puts(&call->out, "}\n");
    return OK;
}

static enum err put_user_of(struct api_call *call, const char *id, struct err_info *reterr)
{
    struct store_user user;
    enum err e = store_user_by_id(call->program->store, id, &user, reterr);
    if (e)
        return e;
    api_put_user(&call->out, &user);
    buf_puts(&call->out, "}\n");
    return OK;
}

enum err api_user(struct api_call *call, struct err_info *reterr)
{
    char id[STORE_ID_BYTES];
    enum err e = api_call_id(call, id, reterr);
    return e ? e : put_user_of(call, id, reterr);
}

enum err api_user_change(struct api_call *call, struct err_info *reterr)
{
    const struct auth_actor actor = api_call_actor(call);
    struct auth_user_change change = {.role = NULL};
    char id[STORE_ID_BYTES];
    enum store_role role;
    struct str tier = STR_NULL;
    bool active, has_role = false, has_active = json_is_boolean(json_object_get(call->body, "active"));
    enum err e = api_call_id(call, id, reterr);
    if (!e)
        e = take_role(call, &role, &has_role, reterr);
    if (!e)
        e = api_call_text(call, "tier", false, 1, STORE_TIER_BYTES - 1, &tier, reterr);
    if (!e)
        e = api_call_bool(call, "active", false, &active, reterr);
    if (!e)
        e = api_call_text(call, "password", false, 1, SIZE_MAX, &change.password, reterr);
    if (e)
        return e;
    change.role = has_role ? &role : NULL;
    change.active = has_active ? &active : NULL;
    change.tier = tier.p; /* jansson's texts end with a NUL */
    if (!change.role && !change.active && !change.tier && !change.password.p)
        return err_set(reterr, ERR_FIELD_INVALID, "at least one of these is wanted: %s",
                       call->endpoint->fields);
    e = auth_user_change(call->program->auth, id, &change, &actor, reterr);
    return e ? e : put_user_of(call, id, reterr);
}

enum err api_user_delete(struct api_call *call, struct err_info *reterr)
{
    const struct auth_actor actor = api_call_actor(call);
    char id[STORE_ID_BYTES];
    enum err e = api_call_id(call, id, reterr);
    if (!e)
        e = auth_user_delete(call->program->auth, id, &actor, reterr);
    if (!e)
        call->status = 204;
    return e;
}
