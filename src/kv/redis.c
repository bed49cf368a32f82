#include <inttypes.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "kv/backend.h"
#include "kv/redis_link.h"
#include "kv/redis_script.h"

enum {
    NUMBER_MAX_BYTES = 24,
    LATE_GIVES_MAX = 4096, /* of a loop, kept for when Redis is back; beyond, leases end by themselves */
    SHA1_HEX_BYTES = 41,
    SELF_HEX_BYTES = 17,
};
#define TIMEOUT_DEFAULT_NS (250 * NS_PER_MS)
#define RECORD_PREFIX "ww:{"
#define LEASES_SUFFIX ":l"

struct script {
    struct str text;
    char sha1[SHA1_HEX_BYTES];
};

struct redis_loop {
    struct redis *redis;
    struct redis_link asking;
    struct redis_link hearing; /* a connection that subscribes can do nothing else; the first loop's only */
    struct list late_gives;
    uint32_t late_count;
    bool counted; /* among those up */
};

struct redis {
    struct kv kv;
    struct redis_url url;
    struct script take, refund;
    char channel[32];
    char self[SELF_HEX_BYTES];  /* this process among those that send messages */
    atomic_uint_fast64_t lease; /* the next lease's id: from a random start, so that instances differ */
    atomic_uint_fast64_t epoch; /* connections made so far: what Redis was told before may be forgotten */
    atomic_uint_fast64_t latency_ns;
    uv_mutex_t mutex; /* guards the three that follow */
    uint32_t wanted, up;
    char reason[sizeof((struct kv_health *)0)->reason];
    bool warned;
    uint32_t loop_count;
    struct redis_loop loops[];
};

/* A lease (and perhaps a token) on its way back. */
struct give {
    struct kv_call call;
    struct redis_loop *loop;
    struct kv_ticket ticket;
    bool refund;
    bool whole; /* the script is sent, not its hash */
};

static struct redis *redis_of(struct kv *kv)
{
    return CONTAINER_OF(kv, struct redis, kv);
}

static struct redis_loop *loop_of(struct kv *kv, const struct loop *loop)
{
    struct redis *r = redis_of(kv);
    WW_ASSERT(loop->index < r->loop_count);
    return &r->loops[loop->index];
}

/* ---- words of a command ---- */

struct words {
    struct str word[SCRIPT_TAKE_ARGS + SCRIPT_HINT_ARGS + 5];
    char number[SCRIPT_TAKE_ARGS + SCRIPT_HINT_ARGS][NUMBER_MAX_BYTES];
    size_t count, numbers;
    struct str record, leases; /* the names of both keys, the second one longer */
    char name[sizeof RECORD_PREFIX + KV_KEY_MAX + sizeof LEASES_SUFFIX + 3];
};

static void put_word(struct words *w, struct str word)
{
    WW_ASSERT(w->count < LENGTH_OF(w->word));
    w->word[w->count++] = word;
}

static void put_number(struct words *w, uint64_t value)
{
    WW_ASSERT(w->numbers < LENGTH_OF(w->number));
    char *to = w->number[w->numbers++];
    int len = snprintf(to, NUMBER_MAX_BYTES, "%" PRIu64, value);
    put_word(w, str_make(to, (size_t)len));
}

/* Keys are any bytes. The braces keep both names on one node of a cluster. */
static void name_keys(struct words *w, unsigned space, struct str key)
{
    static const char spaces[KV_SPACE_COUNT] = {[KV_RUNS] = 'r', [KV_REQUESTS] = 'q', [KV_ADDRESSES] = 'a'};
    size_t len = 0;
    memcpy(w->name, RECORD_PREFIX, sizeof RECORD_PREFIX - 1);
    len += sizeof RECORD_PREFIX - 1;
    w->name[len++] = spaces[space];
    w->name[len++] = ':';
    memcpy(w->name + len, key.p, key.len);
    len += key.len;
    w->name[len++] = '}';
    w->record = str_make(w->name, len);
    memcpy(w->name + len, LEASES_SUFFIX, sizeof LEASES_SUFFIX - 1);
    w->leases = str_make(w->name, len + sizeof LEASES_SUFFIX - 1);
}

static void put_script(struct words *w, const struct script *script, bool whole, unsigned space,
                       struct str key)
{
    name_keys(w, space, key);
    put_word(w, whole ? STR_LIT("EVAL") : STR_LIT("EVALSHA"));
    put_word(w, whole ? script->text : str_of(script->sha1));
    put_word(w, STR_LIT("2"));
    put_word(w, w->record);
    put_word(w, w->leases);
}

static bool is_error(const redisReply *reply, const char *prefix)
{
    return reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, prefix, strlen(prefix)) == 0;
}

/* ---- take ---- */

static void take_done(struct kv_call *call, void *reply);
static void give_late(struct redis_loop *rl, const struct kv_ticket *ticket);

static bool send_take(struct redis_loop *rl, struct kv_wait *w)
{
    struct redis *r = rl->redis;
    const struct kv_request *q = &w->request;
    struct words words = {.count = 0};
    w->epoch = atomic_load(&r->epoch);
    struct memory_hint hint = memory_hint(r->kv.memory, q, w->epoch);
    w->untold = hint.untold;
    uint64_t interval_us = bucket_interval_us(&q->figures);
    put_script(&words, &r->take, w->again, q->space, q->key);
    put_number(&words, interval_us);
    put_number(&words, interval_us * q->figures.per_minute);
    put_number(&words, q->figures.per_day);
    put_number(&words, q->figures.concurrency);
    put_number(&words, q->look);
    put_number(&words, w->lease);
    put_number(&words, q->lease_ns / NS_PER_US);
    put_number(&words, hint.local);
    put_number(&words, hint.running);
    if (hint.news) {
        put_number(&words, hint.full_in_us);
        put_number(&words, hint.day);
        put_number(&words, hint.count);
        put_number(&words, hint.count_before);
        put_number(&words, hint.untold_us);
        put_number(&words, hint.untold);
    }
    w->call.done = take_done;
    if (redis_link_send(&rl->asking, &w->call, words.count, words.word))
        return true;
    if (w->untold)
        memory_keep_untold(r->kv.memory, q, w->untold);
    return false;
}

/* Redis is not there: this process decides for itself. */
static void take_locally(struct redis *r, struct kv_wait *w)
{
    memory_take(r->kv.memory, &w->request, &w->answer, &w->ticket);
    w->answer.local = true;
}

static bool redis_take(struct kv *kv, struct loop *loop, const struct kv_request *request, struct kv_wait *w)
{
    struct redis_loop *rl = loop_of(kv, loop);
    w->loop = loop;
    w->kv = kv;
    w->again = false;
    w->request = *request;
    w->request.key.p = memcpy(w->key, request->key.p, request->key.len);
    w->lease = request->figures.concurrency && !request->look ? atomic_fetch_add(&rl->redis->lease, 1) : 0;
    if (redis_link_is_up(&rl->asking) && send_take(rl, w))
        return false;
    take_locally(rl->redis, w);
    return true;
}

/* Reads the script's answer; false where it has another form. */
static bool read_answer(const redisReply *reply, uint64_t field[static SCRIPT_REPLY_FIELDS])
{
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != SCRIPT_REPLY_FIELDS)
        return false;
    for (size_t i = 0; i < SCRIPT_REPLY_FIELDS; i++) {
        const redisReply *element = reply->element[i];
        if (element->type != REDIS_REPLY_INTEGER || element->integer < 0 || element->integer > INT64_MAX / 2)
            return false;
        field[i] = (uint64_t)element->integer;
    }
    return field[0] <= KV_NO_CONCURRENCY && field[3] <= UINT32_MAX && field[4] <= UINT32_MAX &&
           field[5] <= UINT32_MAX && field[6] <= UINT32_MAX;
}

/* Redis' word on who may and what it keeps; times and figures by the same arithmetic as in memory. */
static void take_answered(struct redis *r, struct kv_wait *w,
                          const uint64_t field[static SCRIPT_REPLY_FIELDS])
{
    const struct kv_request *q = &w->request;
    struct bucket_times t = {.now_us = field[1], .wall_us = field[1]};
    struct bucket b = {.full_at_us = field[2],
                       .day = (uint32_t)field[3],
                       .count = (uint32_t)field[4],
                       .count_before = (uint32_t)field[5],
                       .running = (uint32_t)field[6]};
    bucket_roll(&b, &q->figures, t);
    w->answer = (struct kv_answer){.refusal = (enum kv_refusal)field[0]};
    w->ticket = (struct kv_ticket){.key_len = 0};
    bool taken = !w->answer.refusal && !q->look;
    bool leased = taken && q->figures.concurrency;
    if (taken) {
        w->ticket = (struct kv_ticket){.key_len = (uint8_t)q->key.len,
                                       .space = (uint8_t)q->space,
                                       .leased = leased,
                                       .shared = true,
                                       .day = q->figures.per_day ? (uint32_t)(t.wall_us / BUCKET_DAY_US) : 0,
                                       .interval_us = bucket_interval_us(&q->figures),
                                       .taken_us = t.now_us,
                                       .lease = w->lease};
        memcpy(w->ticket.key, w->key, q->key.len);
    } else {
        bucket_refuses(&b, &q->figures, t, &w->answer.retry_us);
    }
    bucket_tell(&b, &q->figures, t, &w->answer);
    memory_adopt(r->kv.memory, q, &b, t.now_us, leased, w->epoch);
}

static void take_done(struct kv_call *call, void *reply)
{
    struct kv_wait *w = CONTAINER_OF(call, struct kv_wait, call);
    struct redis_loop *rl = loop_of(w->kv, w->loop);
    uint64_t field[SCRIPT_REPLY_FIELDS];
    if (read_answer(reply, field)) {
        atomic_store(&rl->redis->latency_ns, rl->asking.latency_ns);
        take_answered(rl->redis, w, field);
        w->ready(w);
        return;
    }
    if (w->untold)
        memory_keep_untold(rl->redis->kv.memory, &w->request, w->untold);
    if (is_error(reply, "NOSCRIPT") && !w->again) {
        w->again = true;
        if (send_take(rl, w))
            return;
    } else if (reply) {
        const redisReply *answer = reply;
        redis_link_break(&rl->asking,
                         answer->type == REDIS_REPLY_ERROR ? answer->str : "an answer of unknown form");
    } else if (w->lease) {
        /* Nobody knows whether Redis has given the lease. */
        struct kv_ticket ticket = {.key_len = (uint8_t)w->request.key.len,
                                   .space = (uint8_t)w->request.space,
                                   .shared = true,
                                   .lease = w->lease};
        memcpy(ticket.key, w->key, w->request.key.len);
        give_late(rl, &ticket);
    }
    take_locally(rl->redis, w);
    w->ready(w);
}

/* ---- give ---- */

static void give_done(struct kv_call *call, void *reply);

static bool send_give(struct give *g)
{
    struct redis *r = g->loop->redis;
    const struct kv_ticket *ticket = &g->ticket;
    struct words words = {.count = 0};
    struct str key = str_make(ticket->key, ticket->key_len);
    if (g->refund) {
        put_script(&words, &r->refund, g->whole, ticket->space, key);
        put_number(&words, ticket->interval_us);
        put_number(&words, ticket->taken_us);
        put_number(&words, ticket->day);
    } else {
        name_keys(&words, ticket->space, key);
        put_word(&words, STR_LIT("ZREM"));
        put_word(&words, words.leases);
    }
    put_number(&words, ticket->lease);
    g->call.done = give_done;
    return redis_link_send(&g->loop->asking, &g->call, words.count, words.word);
}

/* Only the lease: a refund that may have been done is not repeated. */
static void keep_give(struct give *g)
{
    struct redis_loop *rl = g->loop;
    g->refund = false;
    if (!g->ticket.lease || rl->late_count >= LATE_GIVES_MAX) {
        free(g);
        return;
    }
    list_push_back(&rl->late_gives, &g->call.link);
    rl->late_count++;
}

static void give_done(struct kv_call *call, void *reply)
{
    struct give *g = CONTAINER_OF(call, struct give, call);
    if (is_error(reply, "NOSCRIPT") && !g->whole) {
        g->whole = true;
        if (send_give(g))
            return;
    }
    const redisReply *answer = reply;
    if (answer && answer->type != REDIS_REPLY_ERROR)
        free(g);
    else
        keep_give(g);
}

static struct give *make_give(struct redis_loop *rl, const struct kv_ticket *ticket, bool refund)
{
    struct give *g = xcalloc(1, sizeof *g);
    g->loop = rl;
    g->ticket = *ticket;
    g->refund = refund;
    return g;
}

static void give_late(struct redis_loop *rl, const struct kv_ticket *ticket)
{
    keep_give(make_give(rl, ticket, false));
}

static void redis_give(struct kv *kv, struct loop *loop, struct kv_ticket *ticket, bool refund)
{
    memory_give(kv->memory, ticket, refund);
    if (!ticket->shared)
        return;
    struct give *g = make_give(loop_of(kv, loop), ticket, refund);
    if (!send_give(g))
        keep_give(g);
}

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
static void load_script(struct redis_link *l, const struct script *script)
{
    const struct str words[] = {STR_LIT("SCRIPT"), STR_LIT("LOAD"), script->text};
    (void)redis_link_send(l, NULL, LENGTH_OF(words), words);
}

static void asking_up(struct redis_link *l)
{
    struct redis_loop *rl = CONTAINER_OF(l, struct redis_loop, asking);
    load_script(l, &rl->redis->take);
    load_script(l, &rl->redis->refund);
    atomic_fetch_add(&rl->redis->epoch, 1);
    count_link(rl->redis, 1, NULL);
    rl->counted = true;
    struct list gives;
    list_init(&gives);
    for (struct list *link; (link = list_pop_front(&rl->late_gives));)
        list_push_back(&gives, link);
    rl->late_count = 0;
    for (struct list *link; (link = list_pop_front(&gives));) {
        struct give *g = LIST_ENTRY(LIST_ENTRY(link, struct kv_call, link), struct give, call);
        if (!send_give(g))
            keep_give(g);
    }
}

static void asking_down(struct redis_link *l, const char *why)
{
    struct redis_loop *rl = CONTAINER_OF(l, struct redis_loop, asking);
    count_link(rl->redis, rl->counted ? -1 : 0, why);
    rl->counted = false;
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
    struct redis_loop *rl = loop_of(kv, loop);
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
    struct redis_loop *rl = loop_of(kv, loop);
    if (rl->asking.state == LINK_OFF)
        return;
    uv_mutex_lock(&r->mutex);
    r->wanted--;
    r->up -= rl->counted;
    uv_mutex_unlock(&r->mutex);
    rl->counted = false;
    redis_link_stop(&rl->asking);
    redis_link_stop(&rl->hearing);
}

/* ---- the rest ---- */

static void redis_publish(struct kv *kv, struct loop *loop, struct str topic, struct str message)
{
    struct redis *r = redis_of(kv);
    char text[SELF_HEX_BYTES + KV_TOPIC_MAX + KV_MESSAGE_MAX + 3];
    int len = snprintf(text, sizeof text, "%s %.*s ", r->self, STR_FMT(topic));
    memcpy(text + len, message.p, message.len);
    const struct str words[] = {STR_LIT("PUBLISH"), str_of(r->channel),
                                str_make(text, (size_t)len + message.len)};
    if (!redis_link_send(&loop_of(kv, loop)->asking, NULL, LENGTH_OF(words), words))
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
    if (redis_link_send(&loop_of(kv, loop)->asking, &p->call, LENGTH_OF(words), words))
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
        for (struct list *link; (link = list_pop_front(&r->loops[i].late_gives));)
            free(LIST_ENTRY(LIST_ENTRY(link, struct kv_call, link), struct give, call));
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

static struct script make_script(struct str text)
{
    struct script script = {.text = text};
    unsigned char sha1[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool done = EVP_Digest(text.p, text.len, sha1, &len, EVP_sha1(), NULL);
    WW_ASSERT(done && len == (SHA1_HEX_BYTES - 1) / 2);
    hex_encode(sha1, len, script.sha1);
    return script;
}

enum err kv_redis_open(const struct kv_config *config, struct kv **ret_kv, struct err_info *reterr)
{
    struct redis_url url;
    enum err e = redis_url_parse(config->url, &url, reterr);
    if (e)
        return e;
    struct redis *r = xcalloc(1, sizeof *r + config->loops * sizeof r->loops[0]);
    kv_init(&r->kv, &redis_ops, config->subjects);
    int failed = uv_mutex_init(&r->mutex);
    uint64_t random[2];
    bool seeded = getrandom(random, sizeof random, 0) == sizeof random;
    WW_ASSERT(!failed && seeded);
    r->url = url;
    r->take = make_script(str_of(script_take));
    r->refund = make_script(str_of(script_refund));
    snprintf(r->channel, sizeof r->channel, "wasmwiz:%u:messages", url.database);
    hex_encode(&random[0], sizeof random[0], r->self);
    atomic_init(&r->lease, random[1] | 1);
    r->loop_count = config->loops;
    for (uint32_t i = 0; i < config->loops; i++) {
        struct redis_loop *rl = &r->loops[i];
        rl->redis = r;
        list_init(&rl->late_gives);
        rl->asking = (struct redis_link){
            .url = &r->url,
            .timeout_ns = config->timeout_ns ? config->timeout_ns : TIMEOUT_DEFAULT_NS,
            .up = asking_up,
            .down = asking_down,
        };
        rl->hearing = rl->asking;
        rl->hearing.up = hearing_up;
        rl->hearing.down = hearing_down;
    }
    *ret_kv = &r->kv;
    return OK;
}
