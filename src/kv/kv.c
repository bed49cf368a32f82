#include "kv/backend.h"
#include "kv/redis_url.h"

struct letter {
    struct list link;
    bool gap;
    size_t len;
    char text[];
};

void kv_init(struct kv *kv, const struct kv_ops *ops, uint32_t subjects)
{
    kv->ops = ops;
    kv->memory = memory_new(subjects);
    int failed = uv_mutex_init(&kv->mutex);
    WW_ASSERT(!failed);
    list_init(&kv->listeners);
}

void kv_done(struct kv *kv)
{
    LIST_EACH(link, &kv->listeners)
    {
        struct kv_listener *l = LIST_ENTRY(link, struct kv_listener, link);
        for (struct list *letter; (letter = list_pop_front(&l->inbox));)
            free(LIST_ENTRY(letter, struct letter, link));
    }
    uv_mutex_destroy(&kv->mutex);
    memory_free(kv->memory);
}

/* ---- messages ---- */

static void on_post(struct loop_post *post)
{
    struct kv_listener *l = CONTAINER_OF(post, struct kv_listener, post);
    struct list letters;
    list_init(&letters);
    uv_mutex_lock(&l->kv->mutex);
    for (struct list *link; (link = list_pop_front(&l->inbox));)
        list_push_back(&letters, link);
    l->posted = false;
    uv_mutex_unlock(&l->kv->mutex);
    for (struct list *link; (link = list_pop_front(&letters));) {
        struct letter *letter = LIST_ENTRY(link, struct letter, link);
        l->heard(l, letter->gap ? STR_NULL : str_make(letter->text, letter->len));
        free(letter);
    }
}

void kv_deliver(struct kv *kv, struct str topic, struct str message)
{
    uv_mutex_lock(&kv->mutex);
    LIST_EACH(link, &kv->listeners)
    {
        struct kv_listener *l = LIST_ENTRY(link, struct kv_listener, link);
        if (topic.p && !str_eq(topic, str_of(l->topic)))
            continue;
        struct letter *letter = xmalloc(sizeof *letter + message.len);
        *letter = (struct letter){.gap = !topic.p, .len = message.len};
        if (message.len)
            memcpy(letter->text, message.p, message.len);
        list_push_back(&l->inbox, &letter->link);
        if (!l->posted) {
            l->posted = true;
            loop_post(l->loop, &l->post, on_post);
        }
    }
    uv_mutex_unlock(&kv->mutex);
}

void kv_listen(struct kv *kv, struct kv_listener *l)
{
    WW_ASSERT(strlen(l->topic) <= KV_TOPIC_MAX && !strchr(l->topic, ' '));
    l->kv = kv;
    l->posted = false;
    list_init(&l->inbox);
    list_push_back(&kv->listeners, &l->link);
}

void kv_publish(struct kv *kv, struct loop *loop, struct str topic, struct str message)
{
    WW_ASSERT(topic.len && topic.len <= KV_TOPIC_MAX && message.len <= KV_MESSAGE_MAX);
    kv_deliver(kv, topic, message);
    kv->ops->publish(kv, loop, topic, message);
}

/* ---- the memory backend ---- */

static void no_attach(struct kv *kv, struct loop *loop)
{
    (void)kv;
    (void)loop;
}

static void memory_kv_free(struct kv *kv)
{
    kv_done(kv);
    free(kv);
}

static bool memory_kv_take(struct kv *kv, struct loop *loop, const struct kv_request *request,
                           struct kv_wait *w)
{
    (void)loop;
    memory_take(kv->memory, request, &w->answer, &w->ticket);
    return true;
}

static void memory_kv_give(struct kv *kv, struct loop *loop, struct kv_ticket *ticket, bool refund)
{
    (void)loop;
    memory_give(kv->memory, ticket, refund);
}

static void no_publish(struct kv *kv, struct loop *loop, struct str topic, struct str message)
{
    (void)kv;
    (void)loop;
    (void)topic;
    (void)message;
}

static bool memory_kv_ping(struct kv *kv, struct loop *loop, struct kv_ping *p)
{
    (void)kv;
    (void)loop;
    p->alive = true;
    p->latency_ns = 0;
    return true;
}

static void memory_kv_health(struct kv *kv, struct kv_health *ret)
{
    (void)kv;
    ret->backend = "memory";
}

static const struct kv_ops memory_ops = {
    .attach = no_attach,
    .detach = no_attach,
    .free = memory_kv_free,
    .take = memory_kv_take,
    .give = memory_kv_give,
    .publish = no_publish,
    .ping = memory_kv_ping,
    .health = memory_kv_health,
};

/* ---- any backend ---- */

enum err kv_check_url(struct str url, struct err_info *reterr)
{
    struct redis_url unused;
    return url.len ? redis_url_parse(url, &unused, reterr) : OK;
}

enum err kv_open(const struct kv_config *config, struct kv **ret_kv, struct err_info *reterr)
{
    if (config->url.len)
        return kv_redis_open(config, ret_kv, reterr);
    struct kv *kv = xcalloc(1, sizeof *kv);
    kv_init(kv, &memory_ops, config->subjects);
    *ret_kv = kv;
    return OK;
}

void kv_attach(struct kv *kv, struct loop *loop)
{
    kv->ops->attach(kv, loop);
}

void kv_detach(struct kv *kv, struct loop *loop)
{
    kv->ops->detach(kv, loop);
}

void kv_free(struct kv *kv)
{
    if (kv)
        kv->ops->free(kv);
}

bool kv_take(struct kv *kv, struct loop *loop, const struct kv_request *request, struct kv_wait *w)
{
    WW_ASSERT(request->key.len >= 1 && request->key.len <= KV_KEY_MAX &&
              request->figures.per_minute <= KV_PER_MINUTE_MAX);
    WW_ASSERT(request->lease_ns <= KV_LEASE_MAX_NS &&
              (request->lease_ns || request->look || !request->figures.concurrency));
    return kv->ops->take(kv, loop, request, w);
}

void kv_give(struct kv *kv, struct loop *loop, struct kv_ticket *ticket, bool refund)
{
    if (!ticket->key_len)
        return;
    if (ticket->leased || refund)
        kv->ops->give(kv, loop, ticket, refund);
    *ticket = (struct kv_ticket){0};
}

bool kv_ping(struct kv *kv, struct loop *loop, struct kv_ping *p)
{
    return kv->ops->ping(kv, loop, p);
}

struct kv_health kv_health(struct kv *kv)
{
    struct memory_stats stats = memory_stats(kv->memory);
    struct kv_health health = {.subjects = stats.subjects, .evicted_live = stats.evicted_live};
    kv->ops->health(kv, &health);
    return health;
}
