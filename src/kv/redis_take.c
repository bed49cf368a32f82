/* Takes and gives. What a loop has to say about one subject gathers while takes of it are with Redis, and goes out
 * together when the answer is here: a busy key costs Redis a command each round trip, not each run, and a quiet one
 * waits for nobody. Redis decides about all takes of a command at one moment, in the order in which they came.
 *
 * Leases are told as a number: how many this loop holds of a subject. So what was told twice does no harm, what comes too
 * late (from a connection given up) does none for long, and what Redis has forgotten it is told again; the holder's
 * leases end by themselves when it says nothing for long. */
#include <inttypes.h>
#include <openssl/evp.h>

#include "base/clock.h"
#include "kv/redis.h"
#include "kv/redis_script.h"

enum {
    LATE_MAX = 4096, /* of a loop: subjects without a lease, kept to tell Redis when it is back */
    NUMBER_MAX_BYTES = 24,
    WORDS_MAX = 5 + SCRIPT_TAKE_ARGS + SCRIPT_HINT_ARGS,
};
#define NOT_KNOWN UINT32_MAX
#define RECORD_PREFIX "ww:{"
#define LEASES_SUFFIX ":h"

struct name {
    uint8_t space, key_len;
    char key[KV_KEY_MAX];
};

/* Lives while leases of it are held, or Redis has something to be asked or told. */
struct subject {
    struct list link;   /* in its loop's list of that hash */
    struct list unsent; /* in its loop's */
    struct name name;
    struct list takes; /* struct kv_wait */
    uint64_t lease_ns;
    uint32_t held; /* leases, by this loop */
    uint32_t told; /* how many of them Redis knows; NOT_KNOWN */
    bool waits;    /* takes are with Redis */
    bool whole;    /* the next word about leases is to bring its script */
    bool late;     /* among late_count */
};

/* A command on its way. */
struct flight {
    struct kv_call call;
    struct redis_loop *loop;
    struct name name;
    bool whole; /* the script is sent, not its hash */
    /* of takes, and of a word about leases */
    struct subject *subject; /* of takes; else it may be gone */
    struct list takes;       /* all ask for the same */
    struct kv_request request;
    uint32_t wanted; /* 0: they only look */
    uint32_t held;
    uint64_t epoch;
    struct memory_hint hint;
    /* of a refund */
    struct kv_ticket ticket;
};

static struct name name_of(unsigned space, struct str key)
{
    struct name name = {.space = (uint8_t)space, .key_len = (uint8_t)key.len};
    memcpy(name.key, key.p, key.len);
    return name;
}

static struct str key_of(const struct name *name)
{
    return str_make(name->key, name->key_len);
}

static bool is_error(const redisReply *reply, const char *prefix)
{
    return reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, prefix, strlen(prefix)) == 0;
}

/* ---- words of a command ---- */

struct words {
    struct str word[WORDS_MAX];
    char number[WORDS_MAX][NUMBER_MAX_BYTES];
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

/* Begins a command about this subject. Keys are any bytes; the braces keep both names on one node of a cluster. */
static void words_init(struct words *w, const struct name *name)
{
    static const char spaces[KV_SPACE_COUNT] = {[KV_RUNS] = 'r', [KV_REQUESTS] = 'q', [KV_ADDRESSES] = 'a'};
    size_t len = 0;
    w->count = w->numbers = 0;
    memcpy(w->name, RECORD_PREFIX, sizeof RECORD_PREFIX - 1);
    len += sizeof RECORD_PREFIX - 1;
    w->name[len++] = spaces[name->space];
    w->name[len++] = ':';
    memcpy(w->name + len, name->key, name->key_len);
    len += name->key_len;
    w->name[len++] = '}';
    w->record = str_make(w->name, len);
    memcpy(w->name + len, LEASES_SUFFIX, sizeof LEASES_SUFFIX - 1);
    w->leases = str_make(w->name, len + sizeof LEASES_SUFFIX - 1);
}

static void put_script(struct words *w, const struct redis_script *script, bool whole)
{
    put_word(w, whole ? STR_LIT("EVAL") : STR_LIT("EVALSHA"));
    put_word(w, whole ? script->text : str_of(script->sha1));
    put_word(w, STR_LIT("2"));
    put_word(w, w->record);
    put_word(w, w->leases);
}

static bool send_words(struct flight *f, const struct words *w,
                       void (*done)(struct kv_call *call, void *reply))
{
    f->call.done = done;
    return redis_link_send(&f->loop->asking, &f->call, w->count, w->word);
}

static struct flight *flight_new(struct redis_loop *rl, const struct name *name)
{
    struct flight *f = xcalloc(1, sizeof *f);
    f->loop = rl;
    f->name = *name;
    return f;
}

/* ---- subjects ---- */

static struct list *list_of(struct redis_loop *rl, const struct name *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a: what is under way at once is little, so nobody can fill a list */
    for (size_t i = 0; i < name->key_len; i++)
        hash = (hash ^ (uint8_t)name->key[i]) * 16777619u;
    return &rl->subjects[(hash ^ hash >> 16) % LENGTH_OF(rl->subjects)];
}

/* NULL: there is none. */
static struct subject *subject_find(struct redis_loop *rl, const struct name *name)
{
    LIST_EACH(link, list_of(rl, name))
    {
        struct subject *s = LIST_ENTRY(link, struct subject, link);
        if (s->name.space == name->space && str_eq(key_of(&s->name), key_of(name)))
            return s;
    }
    return NULL;
}

static struct subject *subject_get(struct redis_loop *rl, const struct name *name)
{
    struct subject *s = subject_find(rl, name);
    if (s)
        return s;
    s = xcalloc(1, sizeof *s);
    s->name = *name;
    list_init(&s->unsent);
    list_init(&s->takes);
    list_push_back(list_of(rl, name), &s->link);
    return s;
}

static void subject_free(struct redis_loop *rl, struct subject *s)
{
    rl->late_count -= s->late;
    list_remove(&s->unsent);
    list_remove(&s->link);
    free(s);
}

/* After any change: whether there is something to send now or later, or nothing left at all. */
static void subject_settle(struct redis_loop *rl, struct subject *s)
{
    bool news = s->told != s->held, up = redis_link_is_up(&rl->asking);
    if (s->waits || !list_is_empty(&s->unsent))
        return;
    if (!list_is_empty(&s->takes) || (news && up)) {
        list_push_back(&rl->unsent, &s->unsent);
        redis_link_wake(&rl->asking);
    } else if (!s->held && (!news || (!s->late && rl->late_count == LATE_MAX))) {
        subject_free(rl, s);
    } else if (!s->held && !s->late) {
        s->late = true;
        rl->late_count++;
    }
}

/* ---- leases ---- */

/* An answer of an error, or of no known form. */
static void break_link(struct redis_loop *rl, const redisReply *reply)
{
    redis_link_break(&rl->asking,
                     reply->type == REDIS_REPLY_ERROR ? reply->str : "an answer of unknown form");
}

static void held_done(struct kv_call *call, void *reply)
{
    struct flight *f = CONTAINER_OF(call, struct flight, call);
    struct redis_loop *rl = f->loop;
    bool is_unknown = is_error(reply, "NOSCRIPT") && !f->whole;
    if (is_error(reply, "") && !is_unknown)
        break_link(rl, reply);
    if (!reply || is_error(reply, "")) {
        struct subject *s = subject_get(rl, &f->name);
        /* Not the same once more: by now it may hold more or fewer. */
        s->told = NOT_KNOWN;
        s->whole = is_unknown;
        subject_settle(rl, s);
    }
    free(f);
}

static bool send_held(struct flight *f)
{
    struct words w;
    words_init(&w, &f->name);
    if (f->held) {
        put_script(&w, &f->loop->redis->hold, f->whole);
        put_word(&w, str_of(f->loop->holder));
        put_number(&w, f->held);
        put_number(&w, f->request.lease_ns / NS_PER_US);
    } else {
        put_word(&w, STR_LIT("HDEL"));
        put_word(&w, w.leases);
        put_word(&w, str_of(f->loop->holder));
    }
    return send_words(f, &w, held_done);
}

static void tell_held(struct redis_loop *rl, struct subject *s)
{
    struct flight *f = flight_new(rl, &s->name);
    f->held = s->told = s->held;
    f->whole = s->whole;
    s->whole = false;
    f->request.lease_ns = s->lease_ns;
    if (send_held(f))
        subject_settle(rl, s);
    else
        held_done(&f->call, NULL);
}

/* ---- refunds ---- */

static bool send_refund(struct flight *f);

/* A refund that may have been done is not repeated. */
static void refund_done(struct kv_call *call, void *reply)
{
    struct flight *f = CONTAINER_OF(call, struct flight, call);
    if (is_error(reply, "NOSCRIPT") && !f->whole) {
        f->whole = true;
        if (send_refund(f))
            return;
    }
    free(f);
}

static bool send_refund(struct flight *f)
{
    struct words w;
    words_init(&w, &f->name);
    put_script(&w, &f->loop->redis->refund, f->whole);
    put_number(&w, f->ticket.interval_us);
    put_number(&w, f->ticket.taken_us);
    put_number(&w, f->ticket.day);
    return send_words(f, &w, refund_done);
}

void redis_give(struct kv *kv, struct loop *loop, struct kv_ticket *ticket, bool refund)
{
    struct redis_loop *rl = redis_loop_of(kv, loop);
    struct name name = name_of(ticket->space, str_make(ticket->key, ticket->key_len));
    memory_give(kv->memory, ticket, refund);
    if (refund && ticket->shared) {
        struct flight *f = flight_new(rl, &name);
        f->ticket = *ticket;
        if (!send_refund(f))
            refund_done(&f->call, NULL);
    }
    if (ticket->leased) {
        struct subject *s = subject_find(rl, &name);
        WW_ASSERT(s && s->held);
        s->held--;
        subject_settle(rl, s);
    }
}

/* ---- takes ---- */

/* Redis is not there: this process decides for itself. */
static void take_locally(struct redis_loop *rl, const struct name *name, struct kv_wait *w)
{
    struct kv_request request = w->request;
    request.key = key_of(name);
    memory_take(rl->redis->kv.memory, &request, &w->answer, &w->ticket);
    w->answer.local = true;
    if (w->ticket.leased) {
        struct subject *s = subject_get(rl, name);
        s->lease_ns = request.lease_ns;
        s->held++;
    }
}

bool redis_take(struct kv *kv, struct loop *loop, const struct kv_request *request, struct kv_wait *w)
{
    struct redis_loop *rl = redis_loop_of(kv, loop);
    struct name name = name_of(request->space, request->key);
    w->request = *request;
    if (!redis_link_is_up(&rl->asking)) {
        take_locally(rl, &name, w);
        return true;
    }
    struct subject *s = subject_get(rl, &name);
    list_push_back(&s->takes, &w->link);
    subject_settle(rl, s);
    return false;
}

/* Reads the script's answer; false where it has another form. */
static bool read_answer(const redisReply *reply, uint32_t wanted, uint64_t field[static SCRIPT_REPLY_FIELDS])
{
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != SCRIPT_REPLY_FIELDS)
        return false;
    for (size_t i = 0; i < SCRIPT_REPLY_FIELDS; i++) {
        const redisReply *element = reply->element[i];
        if (element->type != REDIS_REPLY_INTEGER || element->integer < 0 || element->integer > INT64_MAX / 4)
            return false;
        field[i] = (uint64_t)element->integer;
    }
    return field[0] <= wanted && field[3] <= UINT32_MAX && field[4] <= UINT32_MAX && field[5] <= UINT32_MAX &&
           field[6] <= UINT32_MAX - wanted;
}

/* Redis' word on how many may and on what was there before; from that on by the same arithmetic as in memory, one take
 * after the other. False: that finds no reason for a refusal. */
static bool answer_takes(struct flight *f, const uint64_t field[static SCRIPT_REPLY_FIELDS])
{
    const struct kv_figures *figures = &f->request.figures;
    struct bucket_times t = {.now_us = field[1], .wall_us = field[1]};
    struct bucket b = {.full_at_us = field[2],
                       .day = (uint32_t)field[3],
                       .count = (uint32_t)field[4],
                       .count_before = (uint32_t)field[5],
                       .running = (uint32_t)field[6]};
    uint32_t granted = (uint32_t)field[0], count = 0, leased = 0;
    bucket_roll(&b, figures, t);
    LIST_EACH(link, &f->takes)
    {
        struct kv_wait *w = LIST_ENTRY(link, struct kv_wait, link);
        w->answer = (struct kv_answer){.refusal = KV_ALLOWED};
        w->ticket = (struct kv_ticket){.key_len = 0};
        if (count < granted) {
            w->ticket =
                (struct kv_ticket){.space = f->name.space, .key_len = f->name.key_len, .shared = true};
            memcpy(w->ticket.key, f->name.key, f->name.key_len);
            bucket_charge(&b, figures, t, &w->ticket);
            if (figures->concurrency) {
                w->ticket.leased = true;
                b.running++;
                leased++;
            }
            count++;
        } else {
            w->answer.refusal = bucket_refuses(&b, figures, t, &w->answer.retry_us);
            if (!w->answer.refusal && f->wanted)
                return false;
        }
        bucket_tell(&b, figures, t, &w->answer);
    }
    memory_adopt(f->loop->redis->kv.memory, &f->request, &b, t.now_us, leased, f->epoch);
    f->subject->held += leased;
    if (f->wanted && figures->concurrency)
        f->subject->told = f->held + leased;
    return true;
}

/* Nobody knows what Redis has done. */
static void take_lost(struct flight *f, const redisReply *reply)
{
    struct redis_loop *rl = f->loop;
    if (f->hint.untold)
        memory_keep_untold(rl->redis->kv.memory, &f->request, f->hint.untold);
    if (f->wanted && f->request.figures.concurrency)
        f->subject->told = NOT_KNOWN;
    if (reply)
        break_link(rl, reply);
    LIST_EACH(link, &f->takes)
    {
        take_locally(rl, &f->name, LIST_ENTRY(link, struct kv_wait, link));
    }
}

static bool send_flight(struct flight *f);

static void take_done(struct kv_call *call, void *reply)
{
    struct flight *f = CONTAINER_OF(call, struct flight, call);
    struct redis_loop *rl = f->loop;
    uint64_t field[SCRIPT_REPLY_FIELDS];
    if (is_error(reply, "NOSCRIPT") && !f->whole) {
        f->whole = true;
        if (send_flight(f))
            return;
        reply = NULL;
    }
    if (read_answer(reply, f->wanted, field) && answer_takes(f, field))
        atomic_store(&rl->redis->latency_ns, rl->asking.latency_ns);
    else
        take_lost(f, reply);
    /* They may take and give at once; the subject stays. */
    for (struct list *link; (link = list_pop_front(&f->takes));) {
        struct kv_wait *w = LIST_ENTRY(link, struct kv_wait, link);
        w->ready(w);
    }
    f->subject->waits = false;
    subject_settle(rl, f->subject);
    free(f);
}

static bool send_flight(struct flight *f)
{
    const struct kv_figures *figures = &f->request.figures;
    uint64_t interval_us = bucket_interval_us(figures);
    struct words w;
    words_init(&w, &f->name);
    put_script(&w, &f->loop->redis->take, f->whole);
    put_number(&w, interval_us);
    put_number(&w, interval_us * figures->per_minute);
    put_number(&w, figures->per_day);
    put_number(&w, figures->concurrency);
    put_number(&w, f->wanted);
    put_word(&w, str_of(f->loop->holder));
    put_number(&w, f->held);
    put_number(&w, f->request.lease_ns / NS_PER_US);
    put_number(&w, f->hint.running);
    if (f->hint.news) {
        put_number(&w, f->hint.full_in_us);
        put_number(&w, f->hint.day);
        put_number(&w, f->hint.count);
        put_number(&w, f->hint.count_before);
        put_number(&w, f->hint.untold_us);
        put_number(&w, f->hint.untold);
    }
    return send_words(f, &w, take_done);
}

static bool asks_the_same(const struct kv_request *a, const struct kv_request *b)
{
    return a->figures.per_minute == b->figures.per_minute && a->figures.per_day == b->figures.per_day &&
           a->figures.concurrency == b->figures.concurrency && a->look == b->look &&
           a->lease_ns == b->lease_ns;
}

/* Whether the command of the oldest take tells Redis of the leases, too. */
static bool next_takes_tell(const struct subject *s)
{
    if (list_is_empty(&s->takes))
        return false;
    const struct kv_request *next = &LIST_ENTRY(s->takes.next, struct kv_wait, link)->request;
    return next->figures.concurrency && !next->look;
}

/* The oldest take, and those behind it that ask for the same. */
static void send_takes(struct redis_loop *rl, struct subject *s)
{
    struct redis *r = rl->redis;
    struct flight *f = flight_new(rl, &s->name);
    uint32_t count = 0;
    f->subject = s;
    f->request = LIST_ENTRY(s->takes.next, struct kv_wait, link)->request;
    f->request.key = key_of(&f->name);
    list_init(&f->takes);
    LIST_EACH(link, &s->takes)
    {
        if (!asks_the_same(&f->request, &LIST_ENTRY(link, struct kv_wait, link)->request))
            break;
        list_remove(link);
        list_push_back(&f->takes, link);
        count++;
    }
    f->wanted = f->request.look ? 0 : count;
    f->held = s->held;
    if (f->wanted)
        s->lease_ns = f->request.lease_ns;
    f->epoch = atomic_load(&r->epoch);
    f->hint = memory_hint(r->kv.memory, &f->request, f->epoch);
    s->waits = true;
    if (!send_flight(f))
        take_done(&f->call, NULL);
}

/* ---- a loop's ---- */

void redis_take_flush(struct redis_loop *rl)
{
    for (struct list *link; (link = list_pop_front(&rl->unsent));) {
        struct subject *s = LIST_ENTRY(link, struct subject, unsent);
        if (s->told != s->held && !next_takes_tell(s) && redis_link_is_up(&rl->asking))
            tell_held(rl, s);
        else if (!list_is_empty(&s->takes))
            send_takes(rl, s);
        else
            subject_settle(rl, s);
    }
}

void redis_take_up(struct redis_loop *rl)
{
    for (size_t i = 0; i < LENGTH_OF(rl->subjects); i++)
        LIST_EACH(link, &rl->subjects[i])
        {
            struct subject *s = LIST_ENTRY(link, struct subject, link);
            s->told = NOT_KNOWN;
            rl->late_count -= s->late;
            s->late = false;
            subject_settle(rl, s);
        }
}

static struct redis_script make_script(struct str text)
{
    struct redis_script script = {.text = text};
    unsigned char sha1[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool done = EVP_Digest(text.p, text.len, sha1, &len, EVP_sha1(), NULL);
    WW_ASSERT(done && len == (REDIS_SHA1_HEX_BYTES - 1) / 2);
    hex_encode(sha1, len, script.sha1);
    return script;
}

void redis_take_init(struct redis *r)
{
    r->take = make_script(str_of(script_take));
    r->refund = make_script(str_of(script_refund));
    r->hold = make_script(str_of(script_hold));
    for (uint32_t i = 0; i < r->loop_count; i++) {
        struct redis_loop *rl = &r->loops[i];
        for (size_t list = 0; list < LENGTH_OF(rl->subjects); list++)
            list_init(&rl->subjects[list]);
        list_init(&rl->unsent);
        snprintf(rl->holder, sizeof rl->holder, "%s%" PRIu32, r->self, i);
    }
}

void redis_take_done(struct redis_loop *rl)
{
    for (size_t i = 0; i < LENGTH_OF(rl->subjects); i++)
        for (struct list *link; (link = list_pop_front(&rl->subjects[i]));)
            subject_free(rl, LIST_ENTRY(link, struct subject, link));
}
