/* Webhooks of an account: made, listed, changed, tested, deleted; and what was sent to them. */
#include "api/call.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

enum { HOOKS_MAX = 10 };

/* --- one webhook -------------------------------------------------------------------------------- */
/* Cuts the rest of the path into the webhook's id and what follows it, "" = nothing. */
static struct str split_rest(const struct api_call *call, char id[static STORE_ID_BYTES])
{
    struct str action = call->rest, word = str_split(&action, '/');
    unsigned char bytes[(STORE_ID_BYTES - 1) / 2];
    bool is_id = hex_decode(word, bytes, sizeof bytes);
    snprintf(id, STORE_ID_BYTES, "%.*s", is_id ? (int)word.len : 0, word.p);
    return action;
}

static enum err not_found(struct err_info *reterr)
{
    return err_set(reterr, ERR_NOT_FOUND, "there is no such webhook of this account");
}

/* The webhook that the path names, where it is the caller's and `action` follows it. Another's is not found either. */
static enum err find_hook(struct api_call *call, struct str action, struct store_webhook *ret_hook,
                          struct err_info *reterr)
{
    char id[STORE_ID_BYTES];
    struct str rest = split_rest(call, id);
    if (!id[0] || !str_eq(rest, action) || (!action.len && call->rest.len != strlen(id)))
        return not_found(reterr);
    struct store_webhook hook;
    enum err e = store_webhook_get(call->program->store, id, &hook, reterr);
    if (e == ERR_NOT_FOUND || (!e && strcmp(hook.user_id, call->who->user_id) != 0))
        return not_found(reterr);
    if (!e)
        *ret_hook = hook;
    return e;
}

static void put_events(struct buf *out, const char *events)
{
    struct str rest = str_of(events);
    buf_puts(out, ",\"events\":[");
    for (bool first = true; rest.len; first = false) {
        if (!first)
            buf_putc(out, ',');
        json_put_string(out, str_split(&rest, ' '));
    }
    buf_putc(out, ']');
}

static void put_hook(struct buf *out, const struct store_webhook *hook, const char *secret)
{
    buf_putc(out, '{');
    api_put_text(out, "id", hook->id);
    api_put_text(out, "url", hook->url);
    put_events(out, hook->events);
    api_put_bool(out, "active", hook->active);
    api_put_time(out, "created_at", hook->created_ns);
    if (secret)
        api_put_text(out, "secret", secret);
    buf_putc(out, '}');
}

/* --- what a body says --------------------------------------------------------------------------- */
static enum err read_url(struct api_call *call, bool wanted, struct str *ret_url, struct err_info *reterr)
{
    enum err e = api_call_text(call, "url", wanted, 1, STORE_URL_BYTES - 1, ret_url, reterr);
    return e || !ret_url->p ? e : webhook_check_url(call->program->webhooks, ret_url->p, reterr);
}

static bool has_word(const char *words, struct str word)
{
    struct str rest = str_of(words);
    while (rest.len)
        if (str_eq(str_split(&rest, ' '), word))
            return true;
    return false;
}

/* A list of events, as words with a blank between them. */
static enum err read_events(struct api_call *call, bool wanted, char *ret_events, size_t size,
                            bool *ret_is_there, struct err_info *reterr)
{
    const json_t *list = json_object_get(call->body, "events"), *value;
    size_t index;
    *ret_is_there = list && !json_is_null(list);
    if (!*ret_is_there)
        return wanted ? err_set(reterr, ERR_FIELD_INVALID, "events: it is missing") : OK;
    if (!json_is_array(list) || !json_array_size(list))
        return err_set(reterr, ERR_FIELD_INVALID, "events: a list with one event or more is wanted");
    struct buf words = buf_make(size - 1);
    enum err e = OK;
    json_array_foreach(list, index, value)
    {
        struct str word = str_make(json_string_value(value), json_string_length(value));
        if (e || (word.p && has_word(buf_cstr(&words), word)))
            continue;
        if (!word.p || !webhook_event_is_wanted(word))
            e = err_set(reterr, ERR_FIELD_INVALID,
                        "events: \"%.*s\" is none; known are limit.reached, key.created and module.failing",
                        (int)MIN(word.len, 40), word.p ? word.p : "");
        if (words.len)
            buf_putc(&words, ' ');
        buf_put_str(&words, word);
    }
    if (!e)
        snprintf(ret_events, size, "%s", buf_cstr(&words));
    buf_done(&words);
    return e;
}

static bool count_hook(void *ctx, const struct store_webhook *hook)
{
    (void)hook;
    ++*(size_t *)ctx;
    return true;
}

/* Two that come at the same moment can both pass. */
static enum err check_count(struct api_call *call, struct err_info *reterr)
{
    struct store_cursor cursor = {0};
    size_t count = 0;
    enum err e = store_webhook_page(call->program->store, call->who->user_id, &cursor, HOOKS_MAX, count_hook,
                                    &count, reterr);
    if (!e && count >= HOOKS_MAX)
        return err_set(reterr, ERR_CONFLICT, "an account can have %d webhooks; delete one first", HOOKS_MAX);
    return e;
}

/* --- the endpoints ------------------------------------------------------------------------------ */
enum err api_webhook_create(struct api_call *call, struct err_info *reterr)
{
    struct store_webhook hook = {.active = true, .created_ns = clock_wall_ns()};
    unsigned char id[(STORE_ID_BYTES - 1) / 2];
    char secret[WEBHOOK_SECRET_BYTES];
    struct str url = STR_NULL;
    bool has_events;
    enum err e = read_url(call, true, &url, reterr);
    if (!e)
        e = read_events(call, true, hook.events, sizeof hook.events, &has_events, reterr);
    if (!e)
        e = check_count(call, reterr);
    if (e)
        return e;
    if (RAND_bytes(id, sizeof id) != 1)
        return err_set(reterr, ERR_INTERNAL, "there are no random numbers");
    hex_encode(id, sizeof id, hook.id);
    snprintf(hook.user_id, sizeof hook.user_id, "%s", call->who->user_id);
    snprintf(hook.url, sizeof hook.url, "%s", url.p);
    e = webhook_make_secret(call->program->webhooks, &hook, secret, reterr);
    if (!e)
        e = store_webhook_insert(call->program->store, &hook, reterr);
    if (!e) {
        api_call_event(call, LOG_LEVEL_INFO, "webhook.create", hook.id, hook.events);
        call->status = 201;
        put_hook(&call->out, &hook, secret);
        buf_putc(&call->out, '\n');
    }
    OPENSSL_cleanse(secret, sizeof secret);
    return e;
}

/* A list under way. */
struct list_walk {
    struct buf *out;
    size_t count;
};

static bool list_hook(void *ctx, const struct store_webhook *hook)
{
    struct list_walk *walk = ctx;
    if (walk->count++)
        buf_putc(walk->out, ',');
    put_hook(walk->out, hook, NULL);
    return true;
}

enum err api_webhook_list(struct api_call *call, struct err_info *reterr)
{
    struct list_walk walk = {.out = &call->out};
    struct store_cursor cursor;
    size_t limit;
    enum err e = api_call_page(call, &cursor, &limit, reterr);
    buf_puts(&call->out, "{\"webhooks\":[");
    if (!e)
        e = store_webhook_page(call->program->store, call->who->user_id, &cursor, limit, list_hook, &walk,
                               reterr);
    buf_putc(&call->out, ']');
    api_call_put_cursor(call, &cursor, walk.count == limit);
    buf_puts(&call->out, "}\n");
    return e;
}

static bool list_delivery(void *ctx, const struct store_delivery *d)
{
    static const char *const words[] = {"pending", "done", "failed"};
    struct list_walk *walk = ctx;
    struct buf *out = walk->out;
    if (walk->count++)
        buf_putc(out, ',');
    buf_putc(out, '{');
    api_put_text(out, "id", d->id);
    api_put_text(out, "event", d->event);
    api_put_text(out, "state", words[d->state]);
    api_put_number(out, "attempts", d->attempts);
    api_put_time(out, "created_at", d->created_ns);
    api_put_time(out, "next_attempt_at", d->state == STORE_DELIVERY_PENDING ? d->next_attempt_ns : 0);
    api_put_text(out, "error", d->error);
    buf_putc(out, '}');
    return true;
}

static enum err list_deliveries(struct api_call *call, const struct store_webhook *hook,
                                struct err_info *reterr)
{
    struct list_walk walk = {.out = &call->out};
    struct store_cursor cursor;
    size_t limit;
    enum err e = api_call_page(call, &cursor, &limit, reterr);
    buf_puts(&call->out, "{\"deliveries\":[");
    if (!e)
        e = store_delivery_page(call->program->store, hook->id, &cursor, limit, list_delivery, &walk, reterr);
    buf_putc(&call->out, ']');
    api_call_put_cursor(call, &cursor, walk.count == limit);
    buf_puts(&call->out, "}\n");
    return e;
}

/* GET /api/webhooks/{id} and /api/webhooks/{id}/deliveries */
enum err api_webhook_get(struct api_call *call, struct err_info *reterr)
{
    static const struct str deliveries = {"deliveries", 10};
    bool lists = str_ends_with(call->rest, STR_LIT("/deliveries"));
    struct store_webhook hook;
    enum err e = find_hook(call, lists ? deliveries : STR_LIT(""), &hook, reterr);
    if (e || lists)
        return e ? e : list_deliveries(call, &hook, reterr);
    put_hook(&call->out, &hook, NULL);
    buf_putc(&call->out, '\n');
    return OK;
}

enum err api_webhook_change(struct api_call *call, struct err_info *reterr)
{
    struct store_webhook hook;
    struct str url = STR_NULL;
    char events[sizeof hook.events];
    bool has_events, active;
    enum err e = find_hook(call, STR_LIT(""), &hook, reterr);
    active = !e && hook.active;
    if (!e)
        e = read_url(call, false, &url, reterr);
    if (!e)
        e = read_events(call, false, events, sizeof events, &has_events, reterr);
    if (!e)
        e = api_call_bool(call, "active", false, &active, reterr);
    if (e)
        return e;
    const struct store_webhook_change change = {
        .url = url.p, .events = has_events ? events : NULL, .active = &active};
    e = store_webhook_change(call->program->store, hook.id, &change, reterr);
    if (!e)
        e = store_webhook_get(call->program->store, hook.id, &hook, reterr);
    if (e)
        return e;
    api_call_event(call, LOG_LEVEL_INFO, "webhook.change", hook.id, hook.active ? "active" : "not active");
    put_hook(&call->out, &hook, NULL);
    buf_putc(&call->out, '\n');
    return OK;
}

enum err api_webhook_delete(struct api_call *call, struct err_info *reterr)
{
    struct store_webhook hook;
    enum err e = find_hook(call, STR_LIT(""), &hook, reterr);
    if (!e)
        e = store_webhook_delete(call->program->store, hook.id, reterr);
    if (!e)
        api_call_event(call, LOG_LEVEL_INFO, "webhook.delete", hook.id, "");
    call->status = 204;
    return e;
}

/* POST /api/webhooks/{id}/test */
enum err api_webhook_test(struct api_call *call, struct err_info *reterr)
{
    struct store_webhook hook;
    char id[STORE_ID_BYTES];
    enum err e = find_hook(call, STR_LIT("test"), &hook, reterr);
    if (!e && !hook.active)
        e = err_set(reterr, ERR_CONFLICT, "the webhook is not active: set \"active\" to true first");
    if (!e)
        e = webhook_test(call->program->webhooks, &hook, id, reterr);
    if (e)
        return e;
    call->status = 202;
    buf_putc(&call->out, '{');
    api_put_text(&call->out, "delivery_id", id);
    buf_puts(&call->out, "}\n");
    return OK;
}
