/* Register, log in, log out; one's own account and its password. */
#include "auth/password.h"
#include "base/clock.h"
#include "web/page.h"

static void show_form(struct api_call *call, const char *template, const char *title, struct str email,
                      const char *error)
{
    const struct web_value values[] = {
        WEB_TEXT("email", email),
        WEB_TEXT("error", str_of(error)),
        WEB_TEXT("may_register", str_of(call->program->may_register ? "yes" : "")),
    };
    web_page_show(
        call, &(struct web_page){
                  .template = template, .title = title, .values = values, .value_count = LENGTH_OF(values)});
}

/* Both fields; lengths are the business of those who check them. */
MUST_CHECK static enum err take_form(const struct api_call *call, struct str *ret_email,
                                     struct str *ret_password, struct err_info *reterr)
{
    const struct web_form *form = web_form_of(call);
    enum err e = web_form_text(form, "email", 1, AUTH_EMAIL_MAX_BYTES, ret_email, reterr);
    return e ? e : web_form_text(form, "password", 1, SIZE_MAX, ret_password, reterr);
}

enum err web_root(struct api_call *call, struct err_info *reterr)
{
    (void)reterr;
    return web_redirect(call, call->session ? "/api-keys" : "/login");
}

enum err web_login_page(struct api_call *call, struct err_info *reterr)
{
    (void)reterr;
    if (call->session)
        return web_redirect(call, "/api-keys");
    show_form(call, "login", "Log in", STR_NULL, NULL);
    return OK;
}

enum err web_login(struct api_call *call, struct err_info *reterr)
{
    struct str email, password;
    struct store_user user;
    struct auth_session session;
    enum err e = take_form(call, &email, &password, reterr);
    if (!e)
        e = api_account_login(call, email, password, &user, &session, reterr);
    if (!e)
        return web_redirect(call, "/api-keys");
    show_form(call, "login", "Log in", web_form_get(web_form_of(call), "email"), err_told(reterr));
    return e;
}

enum err web_register_page(struct api_call *call, struct err_info *reterr)
{
    enum err e = api_account_may_register(call, reterr);
    if (e)
        return e;
    if (call->session)
        return web_redirect(call, "/api-keys");
    show_form(call, "register", "Create an account", STR_NULL, NULL);
    return OK;
}

enum err web_register(struct api_call *call, struct err_info *reterr)
{
    struct str email, password;
    struct store_user user;
    struct auth_session session;
    char token[AUTH_KEY_TOKEN_BYTES];
    enum err e = api_account_may_register(call, reterr);
    if (e)
        return e;
    e = take_form(call, &email, &password, reterr);
    if (!e)
        e = api_account_register(call, email, password, &user, token, reterr);
    if (e) {
        show_form(call, "register", "Create an account", web_form_get(web_form_of(call), "email"),
                  err_told(reterr));
        return e;
    }
    e = api_account_begin_session(call, &user, &session, reterr);
    if (e)
        return e;
    call->status = 201;
    return web_keys_show(
        call,
        &(struct web_keys_view){
            .user = &user, .session = session.id, .key_name = STR_LIT("default"), .key = token},
        reterr);
}

enum err web_logout(struct api_call *call, struct err_info *reterr)
{
    enum err e = api_account_logout(call, reterr);
    return e ? e : web_redirect(call, "/login");
}

enum { DAY_BYTES = 10 }; /* of a time, "2026-01-02" */

/* --- one's own account -------------------------------------------------------------------------- */
static struct str shown_number(struct arena *arena, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return arena_copy(arena, str_of(text));
}

/* `error` NULL: none; `changed`: the password has just been. */
MUST_CHECK static enum err show_account(struct api_call *call, const char *error, bool changed,
                                        struct err_info *reterr)
{
    struct store_user user;
    struct store_tier tier;
    char csrf[AUTH_SESSION_BYTES], created[32];
    enum err e = store_user_by_id(call->program->store, call->who->user_id, &user, reterr);
    if (!e)
        e = store_tier_get(call->program->store, user.tier, &tier, reterr);
    if (e)
        return e;
    clock_format(user.created_ns, created);
    const struct web_value values[] = {
        WEB_TEXT("email", str_of(user.email)),
        WEB_TEXT("tier", str_of(tier.name)),
        WEB_TEXT("per_minute", shown_number(&call->arena, tier.per_minute)),
        WEB_TEXT("per_day", shown_number(&call->arena, tier.per_day)),
        WEB_TEXT("concurrency", shown_number(&call->arena, tier.concurrency)),
        WEB_TEXT("role", str_of(store_role_name(user.role))),
        WEB_TEXT("created_at", str_of(created)),
        WEB_TEXT("created", str_make(created, DAY_BYTES)),
        WEB_TEXT("error", str_of(error)),
        WEB_TEXT("changed", str_of(changed ? "yes" : "")),
    };
    auth_session_csrf(call->program->auth, call->session, csrf);
    web_page_show(call, &(struct web_page){.template = "account",
                                           .title = "Your account",
                                           .csrf = csrf,
                                           .email = user.email,
                                           .values = values,
                                           .value_count = LENGTH_OF(values)});
    return OK;
}

enum err web_account(struct api_call *call, struct err_info *reterr)
{
    return show_account(call, NULL, false, reterr);
}

enum err web_password(struct api_call *call, struct err_info *reterr)
{
    const struct web_form *form = web_form_of(call);
    struct str current, password;
    struct err_info shown = {0};
    enum err e = web_form_text(form, "current_password", 1, AUTH_PASSWORD_MAX_BYTES, &current, reterr);
    if (!e)
        e = web_form_text(form, "new_password", 1, SIZE_MAX, &password, reterr);
    if (!e)
        e = api_account_change_password(call, current, password, reterr);
    if (!e)
        return show_account(call, NULL, true, reterr);
    /* With the page, where that can be had; the error is the same. */
    enum err again = show_account(call, err_told(reterr), false, &shown);
    (void)again;
    return e;
}
