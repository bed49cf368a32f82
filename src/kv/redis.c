#include <openssl/evp.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "kv/redis.h"

#define TIMEOUT_DEFAULT_NS (250 * NS_PER_MS)

/* ---- connections ---- */

/* The log hears of it when the first loop loses Redis, and when the last has it back. */
static void count_link(struct redis *r, int change, const char *why)
{
    enum { QUIET, LOST, BACK } news = QUIET;
    uv_mutex_lock(&r->mutex);
    r->up += (uint32_t)change;
    if (why) {
        snprintf(r->reason, sizeof r->reason, "%s", why);
        if (!r->warned)
            news = LOST;
        r->warned = true;
    } else if (r->warned && r->up == r->wanted) {
        news = BACK;
        r->warned = false;
    }
    uv_mutex_unlock(&r->mutex);
    if (news == LOST)
        LOG_WARN("redis does not answer: limits are counted by this process alone", LOG_CSTR("reason", why),
                 LOG_CSTR("host", r->url.host), LOG_U64("port", r->url.port));
    else if (news == BACK)
        LOG_INFO("redis is back: limits are shared again", LOG_CSTR("host", r->url.host),
                 LOG_U64("port", r->url.port));
}

/* A script that Redis does not know costs a second way, and what is asked meanwhile overtakes it. */
static void load_script(struct redis_link *l, const struct redis_script *script)
{
    const struct str words[] = {STR_LIT("SCRIPT"), STR_LIT("LOAD"), script->text};
    (void)redis_link_send(l, NULL, LENGTH_OF(words), words);
}

static void asking_up(struct redis_link *l)
{
    struct redis_loop *rl = CONTAINER_OF(l, struct redis_loop, asking);
    load_script(l, &rl->redis->take);
    load_script(l, &rl->redis->refund);
    load_script(l, &rl->redis->hold);
    atomic_fetch_add(&rl->redis->epoch, 1);
    count_link(rl->redis, 1, NULL);
    rl->counted = true;
    redis_take_up(rl);
}

static void asking_down(struct redis_link *l, const char *why)
{
    struct redis_loop *rl = CONTAINER_OF(l, struct redis_loop, asking);
    count_link(rl->redis, rl->counted ? -1 : 0, why);
    rl->counted = false;
}

static void asking_turn_ends(struct redis_link *l)
{
    redis_take_flush(CONTAINER_OF(l, struct redis_loop, asking));
}

static void on_message(redisAsyncContext *ac, void *data, void *hearing)
{
    struct redis_link *l = hearing;
    struct redis *r = CONTAINER_OF(l, struct redis_loop, hearing)->redis;
    const redisReply *reply = data;
    (void)ac;
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING)
        return;
    struct str kind = str_make(reply->element[0]->str, reply->element[0]->len);
    if (str_eq(kind, STR_LIT("subscribe"))) {
        kv_deliver(&r->kv, STR_NULL, STR_NULL);
        return;
    }
    if (!str_eq(kind, STR_LIT("message")) || reply->element[2]->type != REDIS_REPLY_STRING)
        return;
    struct str rest = str_make(reply->element[2]->str, reply->element[2]->len);
    struct str sender = str_split(&rest, ' ');
    struct str topic = str_split(&rest, ' ');
    if (!str_eq(sender, str_of(r->self)) && topic.len <= KV_TOPIC_MAX && rest.len <= KV_MESSAGE_MAX)
        kv_deliver(&r->kv, topic, rest);
}

static void hearing_up(struct redis_link *l)
{
    struct redis *r = CONTAINER_OF(l, struct redis_loop, hearing)->redis;
    if (redisAsyncCommand(l->ac, on_message, l, "SUBSCRIBE %s", r->channel) != REDIS_OK)
        redis_link_break(l, "the subscription could not be sent");
}

/* The asking link says so, once. */
static void hearing_down(struct redis_link *l, const char *why)
{
    (void)l;
    (void)why;
}

static void redis_attach(struct kv *kv, struct loop *loop)
{
    struct redis *r = redis_of(kv);
    struct redis_loop *rl = redis_loop_of(kv, loop);
    uv_mutex_lock(&r->mutex);
    r->wanted++;
    uv_mutex_unlock(&r->mutex);
    rl->asking.loop = rl->hearing.loop = loop;
    redis_link_start(&rl->asking);
    if (loop->index == 0)
        redis_link_start(&rl->hearing);
}

static void redis_detach(struct kv *kv, struct loop *loop)
{
    struct redis *r = redis_of(kv);
    struct redis_loop *rl = redis_loop_of(kv, loop);
    if (rl->asking.state == LINK_OFF)
        return;
    uv_mutex_lock(&r->mutex);
    r->wanted--;
    r->up -= rl->counted;
    uv_mutex_unlock(&r->mutex);
    rl->counted = false;
    redis_link_stop(&rl->asking);
    redis_link_stop(&rl->hearing);
    redis_take_flush(rl);
}

/* ---- the rest ---- */

static void redis_publish(struct kv *kv, struct loop *loop, struct str topic, struct str message)
{
    struct redis *r = redis_of(kv);
    char text[REDIS_SELF_HEX_BYTES + KV_TOPIC_MAX + KV_MESSAGE_MAX + 3];
    int len = snprintf(text, sizeof text, "%s %.*s ", r->self, STR_FMT(topic));
    memcpy(text + len, message.p, message.len);
    const struct str words[] = {STR_LIT("PUBLISH"), str_of(r->channel),
                                str_make(text, (size_t)len + message.len)};
    if (!redis_link_send(&redis_loop_of(kv, loop)->asking, NULL, LENGTH_OF(words), words))
        LOG_DEBUG("redis does not answer: a message went to this process only", LOG_STR("topic", topic));
}

static void ping_done(struct kv_call *call, void *data)
{
    struct kv_ping *p = CONTAINER_OF(call, struct kv_ping, call);
    const redisReply *reply = data;
    p->alive = reply && reply->type == REDIS_REPLY_STATUS;
    p->latency_ns = clock_now_ns() - p->call.sent_ns;
    p->ready(p);
}

static bool redis_ping(struct kv *kv, struct loop *loop, struct kv_ping *p)
{
    const struct str words[] = {STR_LIT("PING")};
    p->call.done = ping_done;
    if (redis_link_send(&redis_loop_of(kv, loop)->asking, &p->call, LENGTH_OF(words), words))
        return false;
    p->alive = false;
    p->latency_ns = 0;
    return true;
}

static void redis_health(struct kv *kv, struct kv_health *ret)
{
    struct redis *r = redis_of(kv);
    ret->backend = "redis";
    ret->latency_ns = atomic_load(&r->latency_ns);
    uv_mutex_lock(&r->mutex);
    ret->degraded = r->up < r->wanted;
    if (ret->degraded)
        snprintf(ret->reason, sizeof ret->reason, "%s", r->reason[0] ? r->reason : "not connected yet");
    uv_mutex_unlock(&r->mutex);
}

static void redis_free(struct kv *kv)
{
    struct redis *r = redis_of(kv);
    for (uint32_t i = 0; i < r->loop_count; i++)
        redis_take_done(&r->loops[i]);
    uv_mutex_destroy(&r->mutex);
    kv_done(kv);
    free(r);
}

static const struct kv_ops redis_ops = {
    .attach = redis_attach,
    .detach = redis_detach,
    .free = redis_free,
    .take = redis_take,
    .give = redis_give,
    .publish = redis_publish,
    .ping = redis_ping,
    .health = redis_health,
};

enum err kv_redis_open(const struct kv_config *config, struct kv **ret_kv, struct err_info *reterr)
{
    struct redis_url url;
    enum err e = redis_url_parse(config->url, &url, reterr);
    if (e)
        return e;
    struct redis *r = xcalloc(1, sizeof *r + config->loops * sizeof r->loops[0]);
    kv_init(&r->kv, &redis_ops, config->subjects);
    int failed = uv_mutex_init(&r->mutex);
    uint64_t random;
    bool seeded = getrandom(&random, sizeof random, 0) == sizeof random;
    WW_ASSERT(!failed && seeded);
    r->url = url;
    snprintf(r->channel, sizeof r->channel, "wasmwiz:%u:messages", url.database);
    hex_encode(&random, sizeof random, r->self);
    r->loop_count = config->loops;
    redis_take_init(r);
    for (uint32_t i = 0; i < config->loops; i++) {
        struct redis_loop *rl = &r->loops[i];
        rl->redis = r;
        rl->asking = (struct redis_link){
            .url = &r->url,
            .timeout_ns = config->timeout_ns ? config->timeout_ns : TIMEOUT_DEFAULT_NS,
            .up = asking_up,
            .down = asking_down,
            .turn_ends = asking_turn_ends,
        };
        rl->hearing = rl->asking;
        rl->hearing.up = hearing_up;
        rl->hearing.down = hearing_down;
        rl->hearing.turn_ends = NULL;
    }
    *ret_kv = &r->kv;
    return OK;
}
