/* Accounts, as people see their own: register, log in and out, password, sessions. */
#include "api/account.h"

#include "auth/password.h"
#include "base/log.h"

static enum err take_email_and_password(struct api_call *call, struct str *ret_email,
                                        struct str *ret_password, struct err_info *reterr)
{
    enum err e = api_call_text(call, "email", true, 1, AUTH_EMAIL_MAX_BYTES, ret_email, reterr);
    return e ? e : api_call_text(call, "password", true, 1, SIZE_MAX, ret_password, reterr);
}

enum err api_account_may_register(const struct api_call *call, struct err_info *reterr)
{
    if (call->program->may_register)
        return OK;
    return err_set(reterr, ERR_FORBIDDEN,
                   "accounts are made by an administrator here (REGISTRATION is closed)");
}

enum err api_account_register(struct api_call *call, struct str email, struct str password,
                              struct store_user *ret_user, char ret_token[static AUTH_KEY_TOKEN_BYTES],
                              struct err_info *reterr)
{
    const struct api_program *program = call->program;
    const struct auth_actor client = api_call_actor(call);
    enum err e = api_account_may_register(call, reterr);
    return e ? e
             : auth_user_register(program->auth, email, password, program->first_is_admin, &client, ret_user,
                                  ret_token, &call->retry_after_s, reterr);
}

enum err api_register(struct api_call *call, struct err_info *reterr)
{
    struct str email, password;
    struct store_user user;
    char token[AUTH_KEY_TOKEN_BYTES];
    enum err e = api_account_may_register(call, reterr);
    if (!e)
        e = take_email_and_password(call, &email, &password, reterr);
    if (!e)
        e = api_account_register(call, email, password, &user, token, reterr);
    if (e)
        return e;
    call->status = 201;
    api_put_user(&call->out, &user);
    api_put_text(&call->out, "key", token);
    buf_puts(&call->out, "}\n");
    return OK;
}

static void set_cookie(struct api_call *call, const char *id)
{
    char cookie[AUTH_SET_COOKIE_BYTES];
    auth_session_cookie(call->program->auth, id, call->secure, cookie);
    api_call_field(call, "Set-Cookie", str_of(cookie));
}

enum err api_account_begin_session(struct api_call *call, const struct store_user *user,
                                   struct auth_session *ret_session, struct err_info *reterr)
{
    enum err e = auth_session_begin(call->program->auth, user, call->peer, ret_session, reterr);
    if (!e)
        set_cookie(call, ret_session->id);
    return e;
}

enum err api_account_login(struct api_call *call, struct str email, struct str password,
                           struct store_user *ret_user, struct auth_session *ret_session,
                           struct err_info *reterr)
{
    const struct auth_actor client = api_call_actor(call);
    enum err e = auth_user_login(call->program->auth, email, password, &client, ret_user,
                                 &call->retry_after_s, reterr);
    return e ? e : api_account_begin_session(call, ret_user, ret_session, reterr);
}

enum err api_login(struct api_call *call, struct err_info *reterr)
{
    struct str email, password;
    struct store_user user;
    struct auth_session session;
    enum err e = take_email_and_password(call, &email, &password, reterr);
    if (!e)
        e = api_account_login(call, email, password, &user, &session, reterr);
    if (e)
        return e;
    api_put_user(&call->out, &user);
    api_put_text(&call->out, "csrf_token", session.csrf);
    api_put_time(&call->out, "expires_at", session.expires_ns);
    buf_puts(&call->out, "}\n");
    return OK;
}

enum err api_account_logout(struct api_call *call, struct err_info *reterr)
{
    if (!call->session)
        return err_set(reterr, ERR_BAD_REQUEST, "there is no session to end: this credential is none");
    enum err e = auth_session_end(call->program->auth, call->session, reterr);
    if (e)
        return e;
    api_call_event(call, LOG_LEVEL_INFO, "session.end", call->who->user_id, "logged out");
    set_cookie(call, "");
    return OK;
}

enum err api_logout(struct api_call *call, struct err_info *reterr)
{
    enum err e = api_account_logout(call, reterr);
    if (!e)
        call->status = 204;
    return e;
}

enum err api_me(struct api_call *call, struct err_info *reterr)
{
    const struct auth_principal *who = call->who;
    struct store_user user = {0};
    if (who->user_id[0]) {
        enum err e = store_user_by_id(call->program->store, who->user_id, &user, reterr);
        if (e)
            return e;
    }
    buf_putc(&call->out, '{');
    api_put_text(&call->out, "user_id", who->user_id);
    api_put_text(&call->out, "email", user.email);
    api_put_text(&call->out, "key_id", who->key_id);
    api_put_text(&call->out, "role", store_role_name(who->role));
    api_put_text(&call->out, "tier", who->tier);
    if (call->session) {
        char csrf[AUTH_SESSION_BYTES];
        auth_session_csrf(call->program->auth, call->session, csrf);
        api_put_text(&call->out, "csrf_token", csrf);
    }
    buf_puts(&call->out, "}\n");
    return OK;
}

enum err api_account_change_password(struct api_call *call, struct str current, struct str password,
                                     struct err_info *reterr)
{
    const struct auth_actor client = api_call_actor(call);
    return auth_user_change_password(call->program->auth, call->who->user_id, current, password,
                                     call->session, &client, &call->retry_after_s, reterr);
}

enum err api_password(struct api_call *call, struct err_info *reterr)
{
    struct str current, password;
    enum err e = api_call_text(call, "current_password", true, 1, AUTH_PASSWORD_MAX_BYTES, &current, reterr);
    if (!e)
        e = api_call_text(call, "new_password", true, 1, SIZE_MAX, &password, reterr);
    if (!e)
        e = api_account_change_password(call, current, password, reterr);
    if (!e)
        call->status = 204;
    return e;
}

/* --- sessions ----------------------------------------------------------------------------------- */
enum { SHOWN_BYTES = 8 }; /* of a session's hash, as its id for people */

struct session_list {
    struct api_call *call;
    unsigned char own[STORE_SESSION_HASH_BYTES];
};

static bool put_session(void *ctx, const struct store_session *session)
{
    const struct session_list *list = ctx;
    struct buf *out = &list->call->out;
    char id[2 * SHOWN_BYTES + 1];
    hex_encode(session->id_hash, SHOWN_BYTES, id);
    buf_puts(out, out->p[out->len - 1] == '[' ? "{" : ",{");
    api_put_text(out, "id", id);
    api_put_text(out, "address", session->address);
    api_put_time(out, "created_at", session->created_ns);
    api_put_time(out, "last_seen_at", session->last_seen_ns);
    api_put_time(out, "expires_at", session->expires_ns);
    api_put_bool(out, "current",
                 list->call->session && memcmp(session->id_hash, list->own, sizeof list->own) == 0);
    return buf_putc(out, '}');
}

enum err api_sessions(struct api_call *call, struct err_info *reterr)
{
    struct session_list list = {.call = call};
    if (call->session)
        auth_session_hash(call->program->auth, call->session, list.own);
    buf_puts(&call->out, "{\"sessions\":[");
    enum err e = store_session_each(call->program->store, call->who->user_id, put_session, &list, reterr);
    buf_puts(&call->out, "]}\n");
    return e;
}

enum err api_sessions_end(struct api_call *call, struct err_info *reterr)
{
    unsigned char own[STORE_SESSION_HASH_BYTES];
    if (call->session)
        auth_session_hash(call->program->auth, call->session, own);
    enum err e = store_session_delete_of_user(call->program->store, call->who->user_id,
                                              call->session ? own : NULL, reterr);
    if (e)
        return e;
    api_call_event(call, LOG_LEVEL_INFO, "session.end", call->who->user_id, "all others");
    call->status = 204;
    return OK;
}

struct session_search {
    unsigned char shown[SHOWN_BYTES];
    bool found;
    unsigned char hash[STORE_SESSION_HASH_BYTES];
};

static bool look_for_session(void *ctx, const struct store_session *session)
{
    struct session_search *s = ctx;
    s->found = memcmp(session->id_hash, s->shown, sizeof s->shown) == 0;
    memcpy(s->hash, session->id_hash, sizeof s->hash);
    return !s->found;
}

enum err api_session_end(struct api_call *call, struct err_info *reterr)
{
    struct session_search search = {.found = false};
    char id[STORE_ID_BYTES];
    enum err e = api_call_id(call, id, reterr);
    if (e)
        return e;
    if (!hex_decode(str_of(id), search.shown, sizeof search.shown))
        WW_UNREACHABLE("it was written by hex_encode()");
    e = store_session_each(call->program->store, call->who->user_id, look_for_session, &search, reterr);
    if (!e && !search.found)
        e = err_set(reterr, ERR_NOT_FOUND, "the account has no session with this id");
    if (!e)
        e = store_session_delete(call->program->store, search.hash, reterr);
    if (e)
        return e;
    api_call_event(call, LOG_LEVEL_INFO, "session.end", call->who->user_id, id);
    call->status = 204;
    return OK;
}
