#include "store/webhooks.h"

#include "store/driver.h"

/* --- webhooks --- */

static void take_hook(struct store_reader *r, struct store_webhook *hook)
{
    memset(hook, 0, sizeof *hook);
    store_read_text(r, hook->id, sizeof hook->id);
    store_read_text(r, hook->user_id, sizeof hook->user_id);
    store_read_text(r, hook->url, sizeof hook->url);
    hook->secret_len = store_read_bytes_up_to(r, hook->secret, sizeof hook->secret);
    store_read_text(r, hook->events, sizeof hook->events);
    hook->active = store_read_bool(r);
    hook->created_ns = store_read_number(r);
}

MUST_CHECK static enum err explain(enum err e, const struct store_call *call, const char *user_id,
                                   struct err_info *reterr)
{
    if (e != ERR_CONFLICT)
        return e;
    if (call->fault == STORE_FAULT_UNIQUE)
        return err_set(reterr, e, "a webhook with this id is already there");
    if (call->fault == STORE_FAULT_FOREIGN)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no user \"%s\"", user_id);
    return err_set(reterr, ERR_FIELD_INVALID, "a webhook needs an id of %d characters and a url of 1 to %d",
                   STORE_ID_BYTES - 1, STORE_URL_BYTES - 1);
}

enum err store_webhook_insert(struct store *s, const struct store_webhook *hook, struct err_info *reterr)
{
    enum err e = store_check_length("secret", hook->secret_len, 0, sizeof hook->secret, reterr);
    if (e)
        return e;
    struct store_value values[] = {
        store_cstr("id", hook->id),
        store_cstr("user_id", hook->user_id),
        store_cstr("url", hook->url),
        store_bytes("secret", hook->secret, hook->secret_len),
        store_cstr("events", hook->events),
        store_number("active", hook->active),
        store_number("created_ns", hook->created_ns),
    };
    struct store_call call = {.statement = SQL_HOOK_INSERT, .values = values, .count = LENGTH_OF(values)};
    return explain(store_run(s, STORE_WRITE, &call, reterr), &call, hook->user_id, reterr);
}

struct hook_walk {
    bool (*each)(void *ctx, const struct store_webhook *hook);
    void *ctx;
    struct store_cursor *cursor; /* NULL: not a page */
    bool found;
    bool stopped;
};

static enum err give_hook(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct hook_walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_webhook hook;
    if (w->stopped)
        return OK;
    take_hook(&r, &hook);
    enum err e = store_read_end(&r, "a webhook", reterr);
    if (e)
        return e;
    if (w->cursor)
        store_cursor_set(w->cursor, hook.created_ns, hook.id);
    w->found = true;
    w->stopped = !w->each(w->ctx, &hook);
    return OK;
}

static bool copy_hook(void *ctx, const struct store_webhook *hook)
{
    *(struct store_webhook *)ctx = *hook;
    return false;
}

enum err store_webhook_get(struct store *s, const char *id, struct store_webhook *ret_hook,
                           struct err_info *reterr)
{
    struct hook_walk w = {.each = copy_hook, .ctx = ret_hook};
    struct store_value by = store_cstr("id", id);
    struct store_call call = {
        .statement = SQL_HOOK_GET, .values = &by, .count = 1, .each = give_hook, .ctx = &w};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    if (!e && !w.found)
        return err_set(reterr, ERR_NOT_FOUND, "there is no webhook with this id");
    return e;
}

enum err store_webhook_change(struct store *s, const char *id, const struct store_webhook_change *change,
                              struct err_info *reterr)
{
    struct store_value active = store_number("active", change->active && *change->active);
    active.is_null = !change->active;
    struct store_value values[] = {store_cstr("id", id), store_cstr("url", change->url),
                                   store_cstr("events", change->events), active};
    struct store_call call = {.statement = SQL_HOOK_CHANGE, .values = values, .count = LENGTH_OF(values)};
    enum err e = OK;
    if (change->url)
        e = store_check_length("url", strlen(change->url), 1, STORE_URL_BYTES - 1, reterr);
    if (!e && change->events)
        e = store_check_length("events", strlen(change->events), 0,
                               sizeof((struct store_webhook *)NULL)->events - 1, reterr);
    return e ? e : explain(store_run_on(s, &call, "webhook with this id", reterr), &call, "", reterr);
}

enum err store_webhook_delete(struct store *s, const char *id, struct err_info *reterr)
{
    struct store_value by = store_cstr("id", id);
    struct store_call call = {.statement = SQL_HOOK_DELETE, .values = &by, .count = 1};
    return store_run_on(s, &call, "webhook with this id", reterr);
}

enum err store_webhook_page(struct store *s, const char *user_id, struct store_cursor *cursor, size_t limit,
                            bool (*each)(void *ctx, const struct store_webhook *hook), void *ctx,
                            struct err_info *reterr)
{
    struct hook_walk w = {.each = each, .ctx = ctx, .cursor = cursor};
    struct store_value values[] = {STORE_CURSOR_VALUES(cursor), store_limit(limit),
                                   store_cstr("user_id", user_id)};
    struct store_call call = {.statement = SQL_HOOK_PAGE,
                              .values = values,
                              .count = LENGTH_OF(values),
                              .each = give_hook,
                              .ctx = &w};
    return store_run(s, STORE_READ, &call, reterr);
}

bool store_webhook_wants(const struct store_webhook *hook, struct str event)
{
    struct str words = str_of(hook->events);
    while (hook->active && words.len)
        if (str_eq(str_split(&words, ' '), event))
            return true;
    return false;
}

/* --- deliveries --- */

static const char *const state_names[] = {
    [STORE_DELIVERY_PENDING] = "pending",
    [STORE_DELIVERY_DONE] = "done",
    [STORE_DELIVERY_FAILED] = "failed",
};

static enum store_delivery_state read_state(struct store_reader *r)
{
    struct str word = store_read_str(r);
    for (unsigned i = 0; i < LENGTH_OF(state_names); i++)
        if (str_eq(word, str_of(state_names[i])))
            return (enum store_delivery_state)i;
    r->damaged = true;
    return STORE_DELIVERY_FAILED;
}

struct delivery_walk {
    bool (*each)(void *ctx, const struct store_delivery *delivery);
    void *ctx;
    struct store_cursor *cursor; /* NULL: not a page */
    bool stopped;
};

static enum err give_delivery(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct delivery_walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_delivery d = {0};
    if (w->stopped)
        return OK;
    store_read_text(&r, d.id, sizeof d.id);
    store_read_text(&r, d.webhook_id, sizeof d.webhook_id);
    store_read_text(&r, d.event, sizeof d.event);
    d.body = store_read_str(&r);
    d.created_ns = store_read_number(&r);
    d.next_attempt_ns = store_read_number(&r);
    d.attempts = store_read_number(&r);
    d.state = read_state(&r);
    store_read_text(&r, d.error, sizeof d.error);
    enum err e = store_read_end(&r, "a delivery of a webhook", reterr);
    if (e)
        return e;
    if (w->cursor)
        store_cursor_set(w->cursor, d.created_ns, d.id);
    w->stopped = !w->each(w->ctx, &d);
    return OK;
}

enum err store_delivery_add(struct store *s, const struct store_delivery *delivery, struct err_info *reterr)
{
    enum err e = store_check_length("body", delivery->body.len, 0, STORE_BODY_MAX, reterr);
    if (e)
        return e;
    struct store_value values[] = {
        store_cstr("id", delivery->id),
        store_cstr("webhook_id", delivery->webhook_id),
        store_cstr("event", delivery->event),
        store_text("body", delivery->body),
        store_number("created_ns", delivery->created_ns),
        store_number("next_attempt_ns", delivery->next_attempt_ns),
    };
    struct store_call call = {.statement = SQL_DELIVERY_ADD, .values = values, .count = LENGTH_OF(values)};
    e = store_run(s, STORE_WRITE, &call, reterr);
    if (e == ERR_CONFLICT && call.fault == STORE_FAULT_FOREIGN)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no webhook \"%s\"", delivery->webhook_id);
    return e;
}

enum err store_delivery_claim(struct store *s, const struct store_claim *claim,
                              bool (*each)(void *ctx, const struct store_delivery *delivery), void *ctx,
                              struct err_info *reterr)
{
    struct delivery_walk w = {.each = each, .ctx = ctx};
    struct store_value values[3 + STORE_CLAIM_EXCEPT_MAX] = {store_number("now", claim->now_ns),
                                                             store_number("until", claim->until_ns),
                                                             store_limit(claim->limit)};
    for (size_t i = 0; i < STORE_CLAIM_EXCEPT_MAX; i++)
        values[3 + i] = store_cstr("webhook_id", claim->except[i] ? claim->except[i] : "");
    struct store_call call = {.statement = SQL_DELIVERY_CLAIM,
                              .values = values,
                              .count = LENGTH_OF(values),
                              .each = give_delivery,
                              .ctx = &w};
    return store_run(s, STORE_WRITE, &call, reterr);
}

enum err store_delivery_postpone(struct store *s, const char *webhook_id, uint64_t until_ns,
                                 struct err_info *reterr)
{
    struct store_value values[] = {store_cstr("webhook_id", webhook_id),
                                   store_number("next_attempt_ns", until_ns)};
    struct store_call call = {
        .statement = SQL_DELIVERY_POSTPONE, .values = values, .count = LENGTH_OF(values)};
    return store_run(s, STORE_WRITE, &call, reterr);
}

enum err store_delivery_settle(struct store *s, const char *id, enum store_delivery_state state,
                               uint64_t next_attempt_ns, const char *error, struct err_info *reterr)
{
    char clean[sizeof((struct store_delivery *)NULL)->error]; /* a peer may have written it */
    snprintf(clean, sizeof clean, "%s", error);
    store_clean_text(clean);
    struct store_value values[] = {store_cstr("id", id), store_cstr("state", state_names[state]),
                                   store_number("next_attempt_ns", next_attempt_ns),
                                   store_cstr("error", clean)};
    struct store_call call = {.statement = SQL_DELIVERY_SETTLE, .values = values, .count = LENGTH_OF(values)};
    return store_run_on(s, &call, "pending delivery with this id", reterr);
}

enum err store_delivery_page(struct store *s, const char *webhook_id, struct store_cursor *cursor,
                             size_t limit, bool (*each)(void *ctx, const struct store_delivery *delivery),
                             void *ctx, struct err_info *reterr)
{
    struct delivery_walk w = {.each = each, .ctx = ctx, .cursor = cursor};
    struct store_value values[] = {STORE_CURSOR_VALUES(cursor), store_limit(limit),
                                   store_cstr("webhook_id", webhook_id)};
    struct store_call call = {.statement = SQL_DELIVERY_PAGE,
                              .values = values,
                              .count = LENGTH_OF(values),
                              .each = give_delivery,
                              .ctx = &w};
    return store_run(s, STORE_READ, &call, reterr);
}

enum err store_delivery_prune(struct store *s, uint64_t before_ns, size_t limit, uint64_t *ret_deleted,
                              struct err_info *reterr)
{
    return store_prune(s, SQL_DELIVERY_PRUNE, before_ns, limit, ret_deleted, reterr);
}
