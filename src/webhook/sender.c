/* The threads that send. Each claims one delivery at a time, passing over the webhooks that are being called already:
 * so a receiver that does not answer holds one of them, for one time-out. When an attempt fails, all that waits for
 * that webhook is put off with it. */
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/client.h"
#include "store/audit.h"
#include "webhook/internal.h"

enum { ANSWER_BYTES_MAX = 64 * 1024, LATER_LOOKED_AT = 200 };
#define SEND_TIMEOUT_NS (10 * NS_PER_S)
/* A claim ends after this: another instance tries again what one that died had begun. */
#define CLAIM_NS (30 * NS_PER_S)
#define PAUSE_MAX_NS (3600 * NS_PER_S)

uint64_t webhook_pause_ns(uint64_t first_ns, uint64_t attempt, uint32_t random)
{
    uint64_t pause_ns = MIN(first_ns, PAUSE_MAX_NS);
    for (uint64_t i = 1; i < attempt && pause_ns < PAUSE_MAX_NS; i++)
        pause_ns = MIN(pause_ns * 2, PAUSE_MAX_NS);
    uint64_t half = pause_ns / 2;
    return pause_ns - half / 2 + (half / 1024) * (random % 1024);
}

/* --- one delivery ------------------------------------------------------------------------------- */
struct job {
    struct store_delivery delivery; /* its body is in `body` */
    struct buf body;
    bool is_there;
};

static bool copy_delivery(void *ctx, const struct store_delivery *d)
{
    struct job *job = ctx;
    job->delivery = *d;
    job->body = buf_make(STORE_BODY_MAX);
    buf_put_str(&job->body, d->body);
    job->delivery.body = buf_str(&job->body);
    job->is_there = true;
    return false;
}

/* POSTs it. OK: the receiver has it. FIELD_INVALID: it may not be sent there at all. */
static enum err post(struct webhooks *w, const struct job *job, const struct store_webhook *hook,
                     struct err_info *reterr)
{
    char secret[WEBHOOK_SECRET_BYTES], signature[WEBHOOK_SIGNATURE_BYTES];
    struct err_info why = {0};
    if (webhook_open_secret(w, hook, secret, &why))
        return err_set(reterr, ERR_FIELD_INVALID, "%s", err_text(&why));
    webhook_sign(secret, clock_wall_ns() / NS_PER_S, job->delivery.body, signature);
    OPENSSL_cleanse(secret, sizeof secret);
    const struct http_field fields[] = {
        {STR_LIT("Content-Type"), STR_LIT("application/json")},
        {STR_LIT("WasmWiz-Event"), str_of(job->delivery.event)},
        {STR_LIT("WasmWiz-Delivery"), str_of(job->delivery.id)},
        {STR_LIT("WasmWiz-Signature"), str_of(signature)},
    };
    const struct http_client_request request = {.method = "POST",
                                                .url = hook->url,
                                                .fields = fields,
                                                .field_count = LENGTH_OF(fields),
                                                .body = job->delivery.body,
                                                .timeout_ns = SEND_TIMEOUT_NS,
                                                .response_bytes_max = ANSWER_BYTES_MAX,
                                                .private_too = w->config.private_too,
                                                .cancelled = &w->cut};
    struct http_client_response response;
    enum err e = http_client_send(&request, &response, reterr);
    if (e)
        return e;
    buf_done(&response.body);
    if (response.status / 100 == 2)
        return OK;
    return err_set(reterr, ERR_BUSY, "the answer had the status %d", response.status);
}

struct later {
    uint64_t created_ns;
    bool got_through;
};

static bool look_at_later(void *ctx, const struct store_delivery *d)
{
    struct later *later = ctx;
    later->got_through = d->created_ns >= later->created_ns && d->state == STORE_DELIVERY_DONE;
    return d->created_ns >= later->created_ns && !later->got_through;
}

/* A delivery was given up. Where none that is newer got through, nobody is there any more. */
static enum err disable_if_dead(struct webhooks *w, const struct job *job, const struct store_webhook *hook,
                                const char *why, struct err_info *reterr)
{
    struct later later = {.created_ns = job->delivery.created_ns};
    struct store_cursor cursor = {0};
    const bool no = false;
    enum err e = store_delivery_page(w->config.store, hook->id, &cursor, LATER_LOOKED_AT, look_at_later,
                                     &later, reterr);
    if (e || later.got_through)
        return e;
    e = store_webhook_change(w->config.store, hook->id, &(struct store_webhook_change){.active = &no},
                             reterr);
    if (e)
        return e;
    LOG_WARN("a webhook was made inactive: it could not be reached", LOG_CSTR("webhook", hook->id),
             LOG_CSTR("user", hook->user_id), LOG_CSTR("reason", why));
    struct store_audit_event event = {.time_ns = clock_wall_ns(), .action = "webhook.disable"};
    snprintf(event.target, sizeof event.target, "%s", hook->id);
    snprintf(event.detail, sizeof event.detail, "%s", why);
    return store_audit_add(w->config.store, &event, reterr);
}

/* The attempt has failed. */
static enum err settle_failure(struct webhooks *w, const struct job *job, const struct store_webhook *hook,
                               enum err result, const char *why, struct err_info *reterr)
{
    const struct store_delivery *d = &job->delivery;
    struct store *store = w->config.store;
    uint32_t random = 0;
    if (atomic_load(&w->cut)) /* not the receiver's fault */
        return store_delivery_settle(store, d->id, STORE_DELIVERY_PENDING, clock_wall_ns(), why, reterr);
    LOG_INFO("webhook", LOG_CSTR("webhook", hook->id), LOG_CSTR("delivery", d->id),
             LOG_CSTR("event", d->event), LOG_U64("attempt", d->attempts), LOG_CSTR("error", why));
    if (result == ERR_FIELD_INVALID || d->attempts >= w->config.attempts) {
        enum err e = store_delivery_settle(store, d->id, STORE_DELIVERY_FAILED, 0, why, reterr);
        return e ? e : disable_if_dead(w, job, hook, why, reterr);
    }
    WW_ASSERT(RAND_bytes((unsigned char *)&random, sizeof random) == 1);
    uint64_t next_ns = clock_wall_ns() + webhook_pause_ns(w->config.retry_ns, d->attempts, random);
    enum err e = store_delivery_settle(store, d->id, STORE_DELIVERY_PENDING, next_ns, why, reterr);
    return e ? e : store_delivery_postpone(store, hook->id, next_ns, reterr);
}

static enum err deliver(struct webhooks *w, const struct job *job, struct err_info *reterr)
{
    const struct store_delivery *d = &job->delivery;
    struct store_webhook hook;
    struct err_info why = {0};
    enum err e = store_webhook_get(w->config.store, d->webhook_id, &hook, reterr);
    if (e)
        return e;
    if (!hook.active)
        return store_delivery_settle(w->config.store, d->id, STORE_DELIVERY_FAILED, 0,
                                     "the webhook was not active", reterr);
    e = post(w, job, &hook, &why);
    if (e)
        return settle_failure(w, job, &hook, e, err_text(&why), reterr);
    LOG_INFO("webhook", LOG_CSTR("webhook", hook.id), LOG_CSTR("delivery", d->id),
             LOG_CSTR("event", d->event), LOG_U64("attempt", d->attempts));
    return store_delivery_settle(w->config.store, d->id, STORE_DELIVERY_DONE, 0, "", reterr);
}

/* --- the thread --------------------------------------------------------------------------------- */
/* Claims a delivery of a webhook that nobody here is calling, and notes that this sender does now. */
static void claim(struct webhook_sender *s, struct job *job)
{
    struct webhooks *w = s->w;
    struct err_info err = {0};
    uint64_t now_ns = clock_wall_ns();
    char busy[WEBHOOK_SENDERS][STORE_ID_BYTES];
    struct store_claim claim = {.now_ns = now_ns, .until_ns = now_ns + CLAIM_NS, .limit = 1};
    uv_mutex_lock(&w->claiming);
    uv_mutex_lock(&w->mutex);
    memcpy(busy, w->busy, sizeof busy);
    uv_mutex_unlock(&w->mutex);
    for (size_t i = 0; i < WEBHOOK_SENDERS; i++)
        claim.except[i] = busy[i];
    webhook_note_store(w, store_delivery_claim(w->config.store, &claim, copy_delivery, job, &err), &err);
    uv_mutex_lock(&w->mutex);
    memcpy(w->busy[s->place], job->delivery.webhook_id, STORE_ID_BYTES);
    uv_mutex_unlock(&w->mutex);
    uv_mutex_unlock(&w->claiming);
}

/* With the mutex held, which is let go meanwhile. */
static void work(struct webhook_sender *s)
{
    struct webhooks *w = s->w;
    struct job job = {0};
    struct err_info err = {0};
    w->due = false;
    w->sending++;
    uv_mutex_unlock(&w->mutex);
    claim(s, &job);
    if (job.is_there) {
        webhook_wake_sender(w); /* there may be more: for another sender meanwhile, or for this one next */
        enum err e = deliver(w, &job, &err);
        /* NOT_FOUND: the webhook was deleted, or another has settled it. */
        if (e && e != ERR_NOT_FOUND)
            LOG_WARN("a delivery was not settled; it will be tried again",
                     LOG_CSTR("delivery", job.delivery.id), LOG_CSTR("reason", err_text(&err)));
    }
    buf_done(&job.body);
    uv_mutex_lock(&w->mutex);
    w->busy[s->place][0] = 0;
    w->due = w->due || job.is_there;
    w->sending--;
    uv_cond_signal(&w->sent);
}

void webhook_send_all(void *arg)
{
    struct webhook_sender *s = arg;
    struct webhooks *w = s->w;
    uv_mutex_lock(&w->mutex);
    while (!w->stopping) {
        if (w->due)
            work(s);
        else
            uv_cond_wait(&w->for_senders, &w->mutex);
    }
    uv_mutex_unlock(&w->mutex);
}
