/* The thread that takes what happened to the store, wakes the senders once a second and deletes old deliveries. */
#include "base/clock.h"
#include "base/log.h"
#include "webhook/internal.h"

enum { PRUNE_LIMIT = 1000, HOOKS_LOOKED_AT = 100 };
#define TICK_NS NS_PER_S
#define PRUNE_EVERY_NS (600 * NS_PER_S)
#define KEPT_NS (30 * 86400 * NS_PER_S)

void webhook_wake_sender(struct webhooks *w)
{
    uv_mutex_lock(&w->mutex);
    w->due = true;
    uv_cond_signal(&w->for_senders);
    uv_mutex_unlock(&w->mutex);
}

void webhook_note_store(struct webhooks *w, enum err e, const struct err_info *why)
{
    uv_mutex_lock(&w->mutex);
    bool is_news = w->store_is_silent != (e != OK);
    w->store_is_silent = e != OK;
    uv_mutex_unlock(&w->mutex);
    if (is_news && e)
        LOG_WARN("webhooks wait: the database can't be used", LOG_CSTR("reason", err_text(why)));
    else if (is_news)
        LOG_INFO("webhooks go on: the database can be used again");
}

/* --- from the queue to the store ---------------------------------------------------------------- */
enum err webhook_add_delivery(struct webhooks *w, const struct webhook_item *item, const char *hook_id,
                              char ret_id[static STORE_ID_BYTES], struct err_info *reterr)
{
    struct store_delivery d = {
        .body = buf_str(&item->body), .created_ns = item->created_ns, .next_attempt_ns = item->created_ns};
    webhook_derive_id(str_of(item->id), str_of(hook_id), d.id);
    snprintf(d.webhook_id, sizeof d.webhook_id, "%s", hook_id);
    snprintf(d.event, sizeof d.event, "%s", webhook_event_word(item->event));
    enum err e = store_delivery_add(w->config.store, &d, reterr);
    if (!e)
        snprintf(ret_id, STORE_ID_BYTES, "%s", d.id);
    return e;
}

/* The webhooks that want an event. */
struct wanted {
    struct str event;
    size_t count;
    char ids[HOOKS_LOOKED_AT][STORE_ID_BYTES];
};

static bool note_hook(void *ctx, const struct store_webhook *hook)
{
    struct wanted *wanted = ctx;
    if (store_webhook_wants(hook, wanted->event))
        snprintf(wanted->ids[wanted->count++], STORE_ID_BYTES, "%s", hook->id);
    return true;
}

static enum err store_item(struct webhooks *w, const struct webhook_item *item, struct err_info *reterr)
{
    struct wanted wanted = {.event = str_of(webhook_event_word(item->event))};
    struct store_cursor cursor = {0};
    char id[STORE_ID_BYTES];
    enum err e = store_webhook_page(w->config.store, item->user_id, &cursor, HOOKS_LOOKED_AT, note_hook,
                                    &wanted, reterr);
    for (size_t i = 0; !e && i < wanted.count; i++) {
        e = webhook_add_delivery(w, item, wanted.ids[i], id, reterr);
        if (e == ERR_FIELD_INVALID)
            e = OK; /* it was deleted meanwhile */
    }
    if (!e && wanted.count)
        webhook_wake_sender(w);
    return e;
}

static void drop_first(struct webhooks *w)
{
    struct webhook_item *item = LIST_ENTRY(list_pop_front(&w->queue), struct webhook_item, link);
    w->queued--;
    webhook_item_free(item);
}

/* With the mutex held, which is let go meanwhile. False: the store can't be used now, and the item stays; at the end
 * there is no later, and all are lost. */
static bool store_first(struct webhooks *w)
{
    const struct webhook_item *item = LIST_ENTRY(w->queue.next, struct webhook_item, link);
    struct err_info err = {0};
    uv_mutex_unlock(&w->mutex);
    enum err e = store_item(w, item, &err);
    webhook_note_store(w, e, &err);
    uv_mutex_lock(&w->mutex);
    if (!e)
        drop_first(w);
    else if (w->stopping)
        LOG_ERROR("events for webhooks are lost", LOG_U64("count", w->queued),
                  LOG_CSTR("reason", err_text(&err)));
    while (e && w->stopping && w->queued)
        drop_first(w);
    return !e;
}

static void prune(struct webhooks *w)
{
    struct err_info err = {0};
    uint64_t deleted;
    if (store_delivery_prune(w->config.store, clock_wall_ns() - KEPT_NS, PRUNE_LIMIT, &deleted, &err))
        LOG_DEBUG("old deliveries were not deleted", LOG_CSTR("reason", err_text(&err)));
}

void webhook_keep(void *arg)
{
    struct webhooks *w = arg;
    uint64_t prune_at_ns = clock_now_ns() + PRUNE_EVERY_NS;
    uv_mutex_lock(&w->mutex);
    while (!w->stopping || !list_is_empty(&w->queue)) {
        if (!list_is_empty(&w->queue) && (store_first(w) || w->stopping))
            continue;
        w->due = true;
        uv_cond_signal(&w->for_senders);
        uv_cond_timedwait(&w->for_keeper, &w->mutex, TICK_NS);
        if (clock_now_ns() < prune_at_ns)
            continue;
        prune_at_ns = clock_now_ns() + PRUNE_EVERY_NS;
        uv_mutex_unlock(&w->mutex);
        prune(w);
        uv_mutex_lock(&w->mutex);
    }
    uv_mutex_unlock(&w->mutex);
}
