#include "webhook/webhook.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "http/client.h"
#include "webhook/internal.h"

enum { DATA_BYTES_MAX = 4096 };
#define END_GRACE_NS (2 * NS_PER_S)

static const struct {
    const char *word;
    bool wanted;
} events[] = {
#define EVENT(name, word, wanted) {word, wanted},
    WEBHOOK_EVENTS(EVENT)
#undef EVENT
};

const char *webhook_event_word(enum webhook_event event)
{
    return events[event].word;
}

bool webhook_event_is_wanted(struct str word)
{
    for (size_t i = 0; i < LENGTH_OF(events); i++)
        if (events[i].wanted && str_eq(word, str_of(events[i].word)))
            return true;
    return false;
}

/* --- items -------------------------------------------------------------------------------------- */
void webhook_derive_id(struct str a, struct str b, char ret_id[static STORE_ID_BYTES])
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    struct buf text = buf_make(DATA_BYTES_MAX);
    buf_put_str(&text, a);
    buf_putc(&text, '\n');
    buf_put_str(&text, b);
    WW_ASSERT(!text.overflow); /* ours: ids and words */
    SHA256((const unsigned char *)text.p, text.len, hash);
    hex_encode(hash, (STORE_ID_BYTES - 1) / 2, ret_id);
    buf_done(&text);
}

struct webhook_item *webhook_item_new(const char *user_id, enum webhook_event event, struct str once,
                                      struct str data)
{
    struct webhook_item *item = xcalloc(1, sizeof *item);
    char created[32], who[STORE_ID_BYTES + STORE_EVENT_BYTES];
    snprintf(item->user_id, sizeof item->user_id, "%s", user_id);
    snprintf(who, sizeof who, "%s %s", user_id, webhook_event_word(event));
    webhook_derive_id(str_of(who), once, item->id);
    item->event = event;
    item->created_ns = clock_wall_ns();
    clock_format(item->created_ns, created);
    item->body = buf_make(STORE_BODY_MAX);
    buf_printf(&item->body, "{\"id\":\"%s\",\"event\":\"%s\",\"created\":\"%s\",\"data\":", item->id,
               webhook_event_word(event), created);
    buf_put_str(&item->body, data);
    buf_putc(&item->body, '}');
    WW_ASSERT(!item->body.overflow); /* data is ours, and small */
    return item;
}

void webhook_item_free(struct webhook_item *item)
{
    buf_done(&item->body);
    free(item);
}

void webhook_emit(struct webhooks *w, const char *user_id, enum webhook_event event, struct str once,
                  struct str data)
{
    if (!w || !user_id[0])
        return;
    struct webhook_item *item = webhook_item_new(user_id, event, once, data);
    uv_mutex_lock(&w->mutex);
    uint64_t dropped = w->queued < WEBHOOK_QUEUE_MAX ? 0 : ++w->dropped;
    if (!dropped) {
        w->queued++;
        list_push_back(&w->queue, &TAKE(item)->link);
        uv_cond_signal(&w->for_keeper);
    }
    uv_mutex_unlock(&w->mutex);
    if (!item)
        return;
    if ((dropped & (dropped - 1)) == 0) /* 1, 2, 4, 8, ... */
        LOG_WARN("events for webhooks were dropped: the queue is full", LOG_U64("dropped", dropped));
    webhook_item_free(item);
}

/* --- what happened ------------------------------------------------------------------------------ */
static void put_text(struct buf *data, const char *name, const char *value)
{
    buf_putc(data, data->len ? ',' : '{');
    json_put_key(data, name);
    json_put_string(data, str_of(value));
}

static void put_number(struct buf *data, const char *name, uint64_t value)
{
    buf_putc(data, data->len ? ',' : '{');
    json_put_key(data, name);
    buf_put_u64(data, value);
}

static void emit_data(struct webhooks *w, const char *user_id, enum webhook_event event, const char *once,
                      struct buf *data)
{
    buf_putc(data, '}');
    WW_ASSERT(!data->overflow); /* all of its parts are bounded */
    webhook_emit(w, user_id, event, str_of(once), buf_str(data));
    buf_done(data);
}

void webhook_key_created(struct webhooks *w, const char *user_id, const char *key_id, const char *name,
                         const char *tier)
{
    struct buf data = buf_make(DATA_BYTES_MAX);
    if (!w || !user_id[0])
        return;
    put_text(&data, "key_id", key_id);
    put_text(&data, "name", name);
    put_text(&data, "tier", tier);
    emit_data(w, user_id, WEBHOOK_KEY_CREATED, key_id, &data);
}

void webhook_limit_reached(struct webhooks *w, const char *user_id, const struct webhook_limit *limit)
{
    struct str what = str_of(limit->what), key = str_of(limit->key_id[0] ? limit->key_id : user_id);
    bool of_day = str_eq(what, STR_LIT("day"));
    uint64_t window = limit->wall_ns / ((of_day ? 86400 : 60) * NS_PER_S);
    if (!w || !user_id[0] || !webhook_watch_limit(&w->watch, key, what, window))
        return;
    char once[128];
    snprintf(once, sizeof once, "%s %s %llu", key.p, limit->what, (unsigned long long)window);
    struct buf data = buf_make(DATA_BYTES_MAX);
    put_text(&data, "key_id", limit->key_id);
    put_text(&data, "name", limit->name);
    put_text(&data, "limit", limit->what);
    put_number(&data, "figure", limit->figure);
    emit_data(w, user_id, WEBHOOK_LIMIT_REACHED, once, &data);
}

void webhook_run_ended(struct webhooks *w, const char *user_id, const struct webhook_run *run)
{
    if (!w || !user_id[0] || !webhook_watch_run(&w->watch, user_id, run))
        return;
    char sha[65], once[128];
    hex_encode(run->sha, 32, sha);
    snprintf(once, sizeof once, "%s %llu", sha, (unsigned long long)(run->wall_ns / (3600 * NS_PER_S)));
    struct buf data = buf_make(DATA_BYTES_MAX);
    put_text(&data, "module", sha);
    put_number(&data, "failures", WEBHOOK_FAILURES);
    put_text(&data, "cause", run->cause);
    put_text(&data, "run_id", run->run_id);
    emit_data(w, user_id, WEBHOOK_MODULE_FAILING, once, &data);
}

/* --- for the API -------------------------------------------------------------------------------- */
enum err webhook_check_url(const struct webhooks *w, const char *url, struct err_info *reterr)
{
    if (strlen(url) >= STORE_URL_BYTES)
        return err_set(reterr, ERR_FIELD_INVALID, "url: it has more than %d bytes", STORE_URL_BYTES - 1);
    struct err_info why = {0};
    enum err e = http_client_check_url(url, w->config.private_too, &why);
    return e ? err_set(reterr, e, "url: %s", err_text(&why)) : OK;
}

enum err webhook_test(struct webhooks *w, const struct store_webhook *hook,
                      char ret_id[static STORE_ID_BYTES], struct err_info *reterr)
{
    char once[64], data[64];
    unsigned long long now_s = clock_wall_ns() / NS_PER_S;
    snprintf(once, sizeof once, "%s %llu", hook->id, now_s);
    snprintf(data, sizeof data, "{\"webhook_id\":\"%s\"}", hook->id);
    struct webhook_item *item = webhook_item_new(hook->user_id, WEBHOOK_TEST, str_of(once), str_of(data));
    enum err e = webhook_add_delivery(w, item, hook->id, ret_id, reterr);
    webhook_item_free(item);
    if (!e)
        webhook_wake_sender(w);
    return e;
}

/* --- life --------------------------------------------------------------------------------------- */
struct webhooks *webhooks_new(const struct webhooks_config *config)
{
    struct webhooks *w = xcalloc(1, sizeof *w);
    w->config = *config;
    webhook_key_derive(config->salt, w->key);
    w->config.salt = STR_NULL;
    webhook_watch_init(&w->watch);
    list_init(&w->queue);
    WW_ASSERT(uv_mutex_init(&w->mutex) == 0 && uv_mutex_init(&w->claiming) == 0);
    WW_ASSERT(uv_cond_init(&w->for_keeper) == 0 && uv_cond_init(&w->for_senders) == 0 &&
              uv_cond_init(&w->sent) == 0);
    WW_ASSERT(uv_thread_create(&w->keeper, webhook_keep, w) == 0);
    for (size_t i = 0; i < WEBHOOK_SENDERS; i++) {
        w->senders[i].w = w;
        w->senders[i].place = i;
        WW_ASSERT(uv_thread_create(&w->senders[i].thread, webhook_send_all, &w->senders[i]) == 0);
    }
    return w;
}

void webhooks_free(struct webhooks *w)
{
    if (!w)
        return;
    uint64_t deadline_ns = clock_now_ns() + END_GRACE_NS;
    uv_mutex_lock(&w->mutex);
    w->stopping = true;
    uv_cond_broadcast(&w->for_keeper);
    uv_cond_broadcast(&w->for_senders);
    for (uint64_t now_ns; w->sending && (now_ns = clock_now_ns()) < deadline_ns;)
        uv_cond_timedwait(&w->sent, &w->mutex, deadline_ns - now_ns);
    uv_mutex_unlock(&w->mutex);
    atomic_store(&w->cut, true);
    uv_thread_join(&w->keeper);
    for (size_t i = 0; i < WEBHOOK_SENDERS; i++)
        uv_thread_join(&w->senders[i].thread);
    WW_ASSERT(list_is_empty(&w->queue));
    uv_cond_destroy(&w->for_keeper);
    uv_cond_destroy(&w->for_senders);
    uv_cond_destroy(&w->sent);
    uv_mutex_destroy(&w->mutex);
    uv_mutex_destroy(&w->claiming);
    webhook_watch_done(&w->watch);
    OPENSSL_cleanse(w->key, sizeof w->key);
    free(w);
}
