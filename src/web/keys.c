/* The keys of an account: listed, made, revoked. */
#include "base/clock.h"
#include "web/page.h"

#define DAY_NS (24 * 3600 * NS_PER_S)

enum { DAYS_MAX = 10 * 366, TIME_BYTES = 32, ROW_VALUES = 11 };

/* The page's list; rows and their texts are in the call's arena. */
struct key_rows {
    struct arena *arena;
    uint64_t now_ns;
    struct web_scope rows[API_PAGE_DEFAULT];
    size_t count;
};

/* "2026-01-02 03:04" for eyes; empty for 0. */
static struct str shown_time(struct arena *arena, uint64_t wall_ns)
{
    char text[32];
    if (!wall_ns)
        return STR_LIT("");
    clock_format(wall_ns, text);
    text[10] = ' ';
    return arena_copy(arena, str_make(text, 16));
}

static struct str machine_time(struct arena *arena, uint64_t wall_ns)
{
    char text[32];
    if (!wall_ns)
        return STR_LIT("");
    clock_format(wall_ns, text);
    return arena_copy(arena, str_of(text));
}

static bool list_key(void *ctx, const struct store_key *key)
{
    struct key_rows *list = ctx;
    struct arena *arena = list->arena;
    struct web_value *values = arena_alloc(arena, ROW_VALUES * sizeof *values);
    WW_ASSERT(values); /* a page of keys is far below the arena's ceiling */
    bool expired = key->expires_ns && key->expires_ns <= list->now_ns;
    size_t n = 0;
    values[n++] = WEB_TEXT("id", arena_copy(arena, str_of(key->id)));
    values[n++] = WEB_TEXT("name", arena_copy(arena, str_of(key->name)));
    values[n++] = WEB_TEXT("prefix", arena_copy(arena, str_of(key->prefix)));
    values[n++] = WEB_TEXT("created", shown_time(arena, key->created_ns));
    values[n++] = WEB_TEXT("created_at", machine_time(arena, key->created_ns));
    values[n++] = WEB_TEXT("used", shown_time(arena, key->last_used_ns));
    values[n++] = WEB_TEXT("used_at", machine_time(arena, key->last_used_ns));
    values[n++] = WEB_TEXT("expires", shown_time(arena, key->expires_ns));
    values[n++] = WEB_TEXT("expires_at", machine_time(arena, key->expires_ns));
    values[n++] = WEB_TEXT("state", str_of(key->revoked_ns ? "revoked" : expired ? "expired" : "active"));
    values[n++] = WEB_TEXT("live", str_of(key->revoked_ns || expired ? "" : "yes"));
    WW_ASSERT(n == ROW_VALUES);
    list->rows[list->count++] = (struct web_scope){values, n, NULL};
    return true;
}

enum err web_keys_show(struct api_call *call, const struct web_keys_view *view, struct err_info *reterr)
{
    struct key_rows list = {.arena = &call->arena, .now_ns = clock_wall_ns()};
    struct store_cursor cursor = view->from;
    char csrf[AUTH_SESSION_BYTES];
    size_t limit = view->limit ? view->limit : LENGTH_OF(list.rows);
    WW_ASSERT(limit <= LENGTH_OF(list.rows));
    enum err e =
        store_key_page(call->program->store, view->user->id, &cursor, limit, list_key, &list, reterr);
    if (e)
        return e;
    char next[20 + sizeof cursor.id + 1] = ""; /* a time in digits, '-', an id */
    char same_limit[sizeof "&limit=" + 20] = "";
    if (list.count == limit)
        snprintf(next, sizeof next, "%llu-%s", (unsigned long long)cursor.time_ns, cursor.id);
    if (limit != LENGTH_OF(list.rows))
        snprintf(same_limit, sizeof same_limit, "&limit=%zu", limit);
    const struct web_value values[] = {
        WEB_TEXT("error", str_of(view->error)), WEB_TEXT("key", str_of(view->key)),
        WEB_TEXT("key_name", view->key_name),   WEB_LIST("keys", list.rows, list.count),
        WEB_TEXT("next", str_of(next)),         WEB_TEXT("same_limit", str_of(same_limit)),
    };
    auth_session_csrf(call->program->auth, view->session, csrf);
    web_page_show(call, &(struct web_page){.template = "api_keys",
                                           .title = "API keys",
                                           .csrf = csrf,
                                           .email = view->user->email,
                                           .values = values,
                                           .value_count = LENGTH_OF(values)});
    return OK;
}

/* The caller's own page, with what is set in `view`. */
MUST_CHECK static enum err show_own(struct api_call *call, struct web_keys_view view, struct err_info *reterr)
{
    struct store_user user;
    enum err e = store_user_by_id(call->program->store, call->who->user_id, &user, reterr);
    if (e)
        return e;
    view.user = &user;
    view.session = call->session;
    return web_keys_show(call, &view, reterr);
}

enum err web_keys(struct api_call *call, struct err_info *reterr)
{
    struct web_keys_view view = {.error = NULL};
    enum err e = api_call_page(call, &view.from, &view.limit, reterr);
    if (!e && view.limit > API_PAGE_DEFAULT)
        e = err_set(reterr, ERR_FIELD_INVALID, "limit: this page shows at most %d keys", API_PAGE_DEFAULT);
    return e ? e : show_own(call, view, reterr);
}

/* expires_days: from now; 0 or absent = never. */
MUST_CHECK static enum err take_expiry(const struct web_form *form, uint64_t *ret_wall_ns,
                                       struct err_info *reterr)
{
    struct str text = web_form_get(form, "expires_days");
    uint64_t days = 0;
    if (text.p && !str_to_u64(text, DAYS_MAX, &days))
        return err_set(reterr, ERR_FIELD_INVALID, "expires_days: a whole number from 0 to %d is wanted",
                       DAYS_MAX);
    *ret_wall_ns = days ? clock_wall_ns() + days * DAY_NS : 0;
    return OK;
}

enum err web_generate_key(struct api_call *call, struct err_info *reterr)
{
    const struct web_form *form = web_form_of(call);
    struct web_keys_view view = {.key_name = web_form_get(form, "name")};
    struct err_info shown = {0};
    struct store_key row;
    uint64_t expires_ns = 0;
    char token[AUTH_KEY_TOKEN_BYTES];
    enum err e = web_form_text(form, "name", 1, STORE_NAME_MAX, &view.key_name, reterr);
    if (!e)
        e = take_expiry(form, &expires_ns, reterr);
    if (!e)
        e = api_account_add_key(call, view.key_name, expires_ns, &row, token, reterr);
    if (!e) {
        view.key = token;
        call->status = 201;
        return show_own(call, view, reterr);
    }
    /* With the list, where that can be had; the error is the same. */
    view.error = err_told(reterr);
    enum err again = show_own(call, view, &shown);
    (void)again;
    return e;
}

enum err web_revoke_key(struct api_call *call, struct err_info *reterr)
{
    char id[STORE_ID_BYTES];
    struct str text;
    enum err e =
        web_form_text(web_form_of(call), "id", STORE_ID_BYTES - 1, STORE_ID_BYTES - 1, &text, reterr);
    if (e)
        return e;
    snprintf(id, sizeof id, "%.*s", STR_FMT(text));
    e = api_account_revoke_key(call, id, reterr);
    return e ? e : web_redirect(call, "/api-keys");
}
