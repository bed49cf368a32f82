#include "sandbox/loop.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "sandbox/deadlines.h"

enum {
    TICK_NS = 1000 * 1000,
    IDLE_TICKS = 50, /* the ticker goes to sleep after so many without a run */
    MESSAGES_A_TURN = 64,
    FRESH_BEFORE_OLD_NS = 4 * TICK_NS,
    TABLE_BITS = 12,
};

struct channel {
    struct ring_reader from;
    struct ring_writer to;
    struct run **runs; /* by the low half of the run's id */
    uint32_t run_slots;
};

struct sandbox_loop {
    struct sandbox_loop_config config;
    struct engine *engine;
    const struct sandbox_channel_ops *ops;
    void *ctx;
    struct channel *channels;
    uint32_t channel_count;

    struct list fresh;  /* not yet polled, or just woken */
    struct list old;    /* used up a slice */
    struct list parked; /* wait for stdin or a credit; looked at when a message comes */
    struct list unsent; /* have something to send and the ring was full */
    struct list queued; /* wait for a slot of the pool */
    struct deadlines deadlines;
    uint64_t old_slice_ns; /* when the last slice of an old one ended */
    uint32_t runs, slots_used, memories_used, tables_used;
    uint64_t pool_now;

    struct guest_module *modules[1 << TABLE_BITS]; /* open addressing; module_remove() closes gaps */
    uint32_t module_count;
    uint64_t uses;

    pthread_t ticker;
    pthread_mutex_t tick_mutex;
    pthread_cond_t tick_wanted;
    _Atomic uint32_t active; /* runs now, for the ticker */
    _Atomic bool ticking;
    bool stop_ticker;
};

/* --- the ticker: advances the epoch while something runs --------------------------------------- */
static void *ticker_main(void *arg)
{
    struct sandbox_loop *l = arg;
    unsigned idle = 0;
    pthread_mutex_lock(&l->tick_mutex);
    while (!l->stop_ticker) {
        if (idle >= IDLE_TICKS) {
            atomic_store(&l->ticking, false);
            while (!l->stop_ticker && atomic_load(&l->active) == 0)
                pthread_cond_wait(&l->tick_wanted, &l->tick_mutex);
            atomic_store(&l->ticking, true);
            idle = 0;
        }
        pthread_mutex_unlock(&l->tick_mutex);
        nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
        idle = atomic_load(&l->active) ? 0 : idle + 1;
        wasmtime_engine_increment_epoch(l->engine->engine);
        pthread_mutex_lock(&l->tick_mutex);
    }
    pthread_mutex_unlock(&l->tick_mutex);
    return NULL;
}

static void count_active(struct sandbox_loop *l, uint32_t runnable)
{
    atomic_store(&l->active, runnable);
    if (runnable && !atomic_load(&l->ticking)) {
        pthread_mutex_lock(&l->tick_mutex);
        pthread_cond_signal(&l->tick_wanted);
        pthread_mutex_unlock(&l->tick_mutex);
    }
}

/* --- sending ------------------------------------------------------------------------------------ */
static void *reserve(struct sandbox_loop *l, struct run *r, size_t len)
{
    return ring_reserve(&l->channels[r->channel].to, len);
}

static void publish(struct sandbox_loop *l, uint32_t channel, size_t len)
{
    ring_publish(&l->channels[channel].to, len);
    l->ops->notify(l->ctx, channel);
}

/* Sends what is buffered of one stream within the window; false: the ring was full. */
static bool send_output(struct sandbox_loop *l, struct run *r, unsigned which)
{
    struct buf *out = &r->output[which];
    size_t len = MIN(out->len, run_output_window(r));
    if (len == 0)
        return true;
    struct message_output *m = reserve(l, r, sizeof *m + len);
    if (!m)
        return false;
    *m = (struct message_output){.head = {MESSAGE_OUTPUT, (uint32_t)len, r->id}, .fd = which + 1};
    memcpy(m + 1, out->p, len);
    publish(l, r->channel, sizeof *m + len);
    r->output_uncredited += len;
    buf_consume(out, len);
    return true;
}

static bool send_stdin_credit(struct sandbox_loop *l, struct run *r)
{
    if (r->stdin_eof || r->stdin_uncredited < STDIN_WINDOW_BYTES / 2)
        return true;
    struct message_credit *m = reserve(l, r, sizeof *m);
    if (!m)
        return false;
    *m = (struct message_credit){.head = {MESSAGE_STDIN_CREDIT, 0, r->id}, .bytes = r->stdin_uncredited};
    publish(l, r->channel, sizeof *m);
    r->stdin_uncredited = 0;
    return true;
}

static bool send_done(struct sandbox_loop *l, struct run *r)
{
    size_t frames = r->report.frame_count * sizeof(struct trap_frame);
    size_t data = r->output[0].len + r->output[1].len + frames;
    struct message_done *m = reserve(l, r, sizeof *m + data);
    if (!m)
        return false;
    *m = (struct message_done){
        .head = {MESSAGE_DONE, (uint32_t)data, r->id},
        .report = r->report,
        .stdout_bytes = (uint32_t)r->output[0].len,
        .stderr_bytes = (uint32_t)r->output[1].len,
        .frames_bytes = (uint32_t)frames,
    };
    char *to = (char *)(m + 1);
    for (unsigned i = 0; i < 2; to += r->output[i].len, i++)
        if (r->output[i].len)
            memcpy(to, r->output[i].p, r->output[i].len);
    memcpy(to, r->frames, frames);
    publish(l, r->channel, sizeof *m + data);
    return true;
}

/* --- runs --------------------------------------------------------------------------------------- */
static void release_slot(struct sandbox_loop *l, struct run *r)
{
    if (!r->started)
        return;
    l->slots_used--;
    l->memories_used -= r->module->memories;
    l->tables_used -= r->module->tables;
    r->started = false;
}

static void finish(struct sandbox_loop *l, struct run *r)
{
    struct channel *c = &l->channels[r->channel];
    c->runs[(uint32_t)r->id] = NULL;
    list_remove(&r->link);
    deadlines_remove(&l->deadlines, r);
    l->runs--;
    run_free(r);
}

/* Sends all that a run has to say; true once nothing is left (an ended run is then gone). */
static bool flush(struct sandbox_loop *l, struct run *r)
{
    if (r->phase == RUN_PHASE_OVER) {
        if (!send_done(l, r))
            return false;
        finish(l, r);
        return true;
    }
    return send_stdin_credit(l, r) && send_output(l, r, 0) && send_output(l, r, 1);
}

/* A run that stands still: ended, or waiting for a stream. Sends what it has to say, then it is gone, or goes on,
 * or waits; where the ring is full it waits for that first. */
static void settle(struct sandbox_loop *l, struct run *r)
{
    bool over = r->phase == RUN_PHASE_OVER;
    list_remove(&r->link);
    if (!flush(l, r))
        list_push_back(&l->unsent, &r->link);
    else if (!over)
        list_push_back(run_can_go_on(r) ? &l->fresh : &l->parked, &r->link);
}

static bool admit(struct sandbox_loop *l, struct run *r)
{
    struct guest_module *m = r->module;
    if (l->slots_used + 1 > l->config.engine.slots ||
        l->memories_used + m->memories > engine_pool_memories(&l->config.engine) ||
        l->tables_used + m->tables > engine_pool_tables(&l->config.engine))
        return false;
    l->slots_used++;
    l->memories_used += m->memories;
    l->tables_used += m->tables;
    r->started = true;
    r->started_ns = clock_now_ns();
    if (r->limits.deadline_ns == 0)
        r->limits.deadline_ns = r->started_ns + r->limits.timeout_ns;
    deadlines_add(&l->deadlines, r);
    return true;
}

static void admit_queued(struct sandbox_loop *l)
{
    LIST_EACH(link, &l->queued)
    {
        struct run *r = LIST_ENTRY(link, struct run, link);
        if (!admit(l, r))
            return;
        list_remove(&r->link);
        list_push_back(&l->fresh, &r->link);
    }
}

/* Where a run goes after a poll. */
static void place(struct sandbox_loop *l, struct run *r, enum run_progress progress)
{
    switch (progress) {
    case RUN_ENDED:
        release_slot(l, r);
        deadlines_remove(&l->deadlines, r);
        settle(l, r);
        if (!list_is_empty(&l->queued))
            admit_queued(l);
        return;
    case RUN_YIELDED:
        list_push_back(&l->old, &r->link);
        flush(l, r); /* what does not go now goes at the next yield */
        return;
    case RUN_WAITS: settle(l, r); return;
    }
}

/* --- modules ------------------------------------------------------------------------------------ */
static struct guest_module **module_place(struct sandbox_loop *l, uint64_t id)
{
    uint32_t mask = LENGTH_OF(l->modules) - 1;
    uint32_t at = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> (64 - TABLE_BITS));
    for (uint32_t tries = 0; tries <= mask; tries++, at = (at + 1) & mask)
        if (!l->modules[at] || l->modules[at]->id == id)
            return &l->modules[at];
    return NULL;
}

/* Takes the module out and closes the gap that linear probing must not have. */
static void module_remove(struct sandbox_loop *l, struct guest_module *m)
{
    uint32_t mask = LENGTH_OF(l->modules) - 1;
    uint32_t at = (uint32_t)(module_place(l, m->id) - l->modules);
    guest_module_free(m);
    l->modules[at] = NULL;
    l->module_count--;
    for (at = (at + 1) & mask; l->modules[at]; at = (at + 1) & mask) {
        struct guest_module *moved = l->modules[at];
        l->modules[at] = NULL;
        *module_place(l, moved->id) = moved;
    }
}

static void evict_module(struct sandbox_loop *l)
{
    struct guest_module *oldest = NULL;
    for (size_t i = 0; i < LENGTH_OF(l->modules); i++) {
        struct guest_module *m = l->modules[i];
        if (m && m->runs == 0 && (!oldest || m->last_used < oldest->last_used))
            oldest = m;
    }
    if (oldest)
        module_remove(l, oldest);
}

static bool on_load(struct sandbox_loop *l, uint32_t channel, const struct message_load *m)
{
    CLEANUP(closep) int fd = l->ops->take_fd(l->ctx, channel);
    if (fd < 0)
        return false;
    struct guest_module **place = module_place(l, m->head.id);
    if (place && *place)
        return true; /* another of the front's loops was first */
    if (l->module_count >= l->config.modules_max)
        evict_module(l);
    char text[MESSAGE_TEXT_MAX] = "too many modules are in use";
    place = l->module_count < LENGTH_OF(l->modules) / 2 ? module_place(l, m->head.id) : NULL;
    struct guest_module *module = place ? guest_module_open(l->engine, m->head.id, fd, text) : NULL;
    if (place)
        fd = -1;
    if (module) {
        module->memories = m->memories;
        module->tables = m->tables;
        module->last_used = ++l->uses;
        *place = module;
        l->module_count++;
    }
    size_t len = module ? 0 : strlen(text);
    struct message_loaded *reply = ring_reserve(&l->channels[channel].to, sizeof *reply + len);
    if (reply) { /* only news: a run of an absent module gets its own answer */
        *reply = (struct message_loaded){.head = {MESSAGE_LOADED, (uint32_t)len, m->head.id},
                                         .ok = module != NULL};
        memcpy(reply + 1, text, len);
        publish(l, channel, sizeof *reply + len);
    }
    return true;
}

/* --- messages ----------------------------------------------------------------------------------- */
static struct run *run_by_id(struct sandbox_loop *l, uint32_t channel, uint64_t id)
{
    struct channel *c = &l->channels[channel];
    uint32_t slot = (uint32_t)id;
    struct run *r = slot < c->run_slots ? c->runs[slot] : NULL;
    return r && r->id == id ? r : NULL;
}

static bool on_run(struct sandbox_loop *l, uint32_t channel, const struct message_run *m, struct str data)
{
    struct channel *c = &l->channels[channel];
    uint32_t slot = (uint32_t)m->head.id;
    if (slot >= (1U << 20))
        return false;
    if (slot >= c->run_slots) {
        uint32_t slots = MAX(slot + 1, MAX(64U, 2 * c->run_slots));
        c->runs = xrealloc(c->runs, slots * sizeof *c->runs);
        memset(c->runs + c->run_slots, 0, (slots - c->run_slots) * sizeof *c->runs);
        c->run_slots = slots;
    }
    if (c->runs[slot])
        return false;
    struct guest_module **place = module_place(l, m->module_id);
    struct guest_module *module = place ? *place : NULL;
    if (!module) {
        struct message *reply = ring_reserve(&c->to, sizeof *reply);
        if (!reply)
            return false; /* the caller asked for room first */
        *reply = (struct message){MESSAGE_ABSENT, 0, m->head.id};
        publish(l, channel, sizeof *reply);
        return true;
    }
    module->last_used = ++l->uses;
    struct run *r = run_new(l->engine, module, m, data, &l->pool_now, l->config.pool_max_bytes);
    r->channel = channel;
    r->deadline_index = DEADLINES_NOT_IN;
    c->runs[slot] = r;
    l->runs++;
    if (list_is_empty(&l->queued) && admit(l, r))
        list_push_back(&l->fresh, &r->link);
    else
        list_push_back(&l->queued, &r->link);
    return true;
}

static void wake(struct sandbox_loop *l, struct run *r)
{
    if (r->phase != RUN_PHASE_OVER && r->waiting.outcome != WASI_RETURN)
        settle(l, r);
}

static void on_cancel(struct sandbox_loop *l, struct run *r)
{
    if (r->phase == RUN_PHASE_OVER)
        return;
    r->cancelled = true;
    list_remove(&r->link);
    if (r->started)
        list_push_front(&l->fresh, &r->link);
    else
        place(l, r, run_poll(r));
}

static bool on_message(struct sandbox_loop *l, uint32_t channel, const void *payload, size_t len)
{
    union message_any m;
    struct str data;
    if (!message_check_to_sandbox(payload, len, &m, &data))
        return false;
    if (m.head.type == MESSAGE_LOAD)
        return on_load(l, channel, &m.load);
    if (m.head.type == MESSAGE_RUN)
        return on_run(l, channel, &m.run, data);
    struct run *r = run_by_id(l, channel, m.head.id);
    if (!r)
        return true; /* it has ended meanwhile */
    if (m.head.type == MESSAGE_STDIN) {
        if (data.len + r->stdin_bytes.len - r->stdin_at > 2 * STDIN_WINDOW_BYTES)
            return false;
        run_stdin(r, data, m.in.eof);
        wake(l, r);
    } else if (m.head.type == MESSAGE_CREDIT) {
        r->output_uncredited -= MIN(r->output_uncredited, m.credit.bytes);
        wake(l, r);
    } else {
        on_cancel(l, r);
    }
    return true;
}

static bool receive(struct sandbox_loop *l)
{
    for (uint32_t i = 0; i < l->channel_count; i++) {
        struct channel *c = &l->channels[i];
        for (unsigned n = 0; n < MESSAGES_A_TURN; n++) {
            const void *payload;
            size_t len;
            enum ring_state state = ring_peek(&c->from, &payload, &len);
            if (state == RING_BROKEN)
                return false;
            /* An answer may be due: without room for it the message waits. */
            if (state == RING_EMPTY ||
                !ring_reserve(&c->to, sizeof(struct message_loaded) + MESSAGE_TEXT_MAX))
                break;
            if (!on_message(l, i, payload, len))
                return false;
            ring_pop(&c->from);
        }
    }
    return true;
}

/* --- the turn ----------------------------------------------------------------------------------- */
static void expire(struct sandbox_loop *l, uint64_t now)
{
    for (struct run *r; (r = deadlines_first(&l->deadlines)) && r->limits.deadline_ns <= now;) {
        deadlines_remove(&l->deadlines, r);
        r->expired = true;
        list_remove(&r->link);
        list_push_front(&l->fresh, &r->link);
    }
}

static void retry_unsent(struct sandbox_loop *l)
{
    if (list_is_empty(&l->unsent))
        return;
    /* Those that fail go to the end of the list again: stop behind what is the last one now. */
    struct list *last = l->unsent.prev, *link;
    do {
        link = list_pop_front(&l->unsent);
        settle(l, LIST_ENTRY(link, struct run, link));
    } while (link != last);
}

static struct run *next_run(struct sandbox_loop *l, uint64_t now, bool *ret_old)
{
    bool old_first = !list_is_empty(&l->old) && now - l->old_slice_ns >= FRESH_BEFORE_OLD_NS;
    struct list *link = list_pop_front(old_first ? &l->old : &l->fresh);
    bool old = old_first || !link;
    if (!link)
        link = list_pop_front(&l->old);
    *ret_old = old;
    return link ? LIST_ENTRY(link, struct run, link) : NULL;
}

enum sandbox_turn sandbox_loop_turn(struct sandbox_loop *l, uint64_t *ret_wake_ns)
{
    if (!receive(l))
        return SANDBOX_BROKEN;
    retry_unsent(l);
    uint64_t now = clock_now_ns();
    expire(l, now);
    bool old;
    struct run *r = next_run(l, now, &old);
    if (r) {
        /* Ticks only matter to a guest that runs on; most are done before the first. */
        if (!atomic_load_explicit(&l->active, memory_order_relaxed))
            count_active(l, 1);
        place(l, r, run_poll(r));
        if (old)
            l->old_slice_ns = clock_now_ns();
    }
    bool runnable = !list_is_empty(&l->fresh) || !list_is_empty(&l->old);
    if (!runnable)
        atomic_store_explicit(&l->active, 0, memory_order_relaxed);
    const struct run *first = deadlines_first(&l->deadlines);
    *ret_wake_ns = first ? first->limits.deadline_ns : UINT64_MAX;
    if (!list_is_empty(&l->unsent))
        *ret_wake_ns = MIN(*ret_wake_ns, clock_now_ns() + TICK_NS);
    return runnable || sandbox_loop_has_messages(l) ? SANDBOX_BUSY : SANDBOX_IDLE;
}

bool sandbox_loop_has_messages(const struct sandbox_loop *l)
{
    for (uint32_t i = 0; i < l->channel_count; i++)
        if (ring_has_more(&l->channels[i].from))
            return true;
    return false;
}

uint32_t sandbox_loop_runs(const struct sandbox_loop *l)
{
    return l->runs;
}

/* --- life ------------------------------------------------------------------------------------- */
enum err sandbox_loop_new(const struct sandbox_loop_config *config, uint32_t channels,
                          const struct ring_reader *from, const struct ring_writer *to,
                          const struct sandbox_channel_ops *ops, void *ctx, struct sandbox_loop **ret_loop,
                          struct err_info *reterr)
{
    struct sandbox_loop *l = xcalloc(1, sizeof *l);
    l->config = *config;
    l->engine = config->shared_engine;
    enum err e = l->engine ? OK : engine_new(&config->engine, &l->engine, reterr);
    if (e) {
        free(l);
        return e;
    }
    l->ops = ops;
    l->ctx = ctx;
    l->channel_count = channels;
    l->channels = xcalloc(channels, sizeof *l->channels);
    for (uint32_t i = 0; i < channels; i++) {
        l->channels[i].from = from[i];
        l->channels[i].to = to[i];
    }
    list_init(&l->fresh);
    list_init(&l->old);
    list_init(&l->parked);
    list_init(&l->unsent);
    list_init(&l->queued);
    pthread_mutex_init(&l->tick_mutex, NULL);
    pthread_cond_init(&l->tick_wanted, NULL);
    atomic_store(&l->ticking, true);
    WW_ASSERT(pthread_create(&l->ticker, NULL, ticker_main, l) == 0);
    *ret_loop = l;
    return OK;
}

void sandbox_loop_free(struct sandbox_loop *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->tick_mutex);
    l->stop_ticker = true;
    pthread_cond_signal(&l->tick_wanted);
    pthread_mutex_unlock(&l->tick_mutex);
    pthread_join(l->ticker, NULL);
    for (uint32_t i = 0; i < l->channel_count; i++) {
        for (uint32_t slot = 0; slot < l->channels[i].run_slots; slot++)
            if (l->channels[i].runs[slot])
                finish(l, l->channels[i].runs[slot]);
        free(l->channels[i].runs);
    }
    for (size_t i = 0; i < LENGTH_OF(l->modules); i++)
        guest_module_free(l->modules[i]);
    if (!l->config.shared_engine)
        engine_free(l->engine);
    pthread_cond_destroy(&l->tick_wanted);
    pthread_mutex_destroy(&l->tick_mutex);
    free(l->channels);
    deadlines_done(&l->deadlines);
    free(l);
}
