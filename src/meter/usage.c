#include "meter/usage.h"

#include "base/clock.h"
#include "base/log.h"
#include "meter/journal.h"
#include "meter/key_uses.h"

enum {
    TICK_MS = 200,
    BATCH_RUNS = 4000,    /* a transaction's */
    EARLY_RUNS = 2000,    /* of one loop: the writer is woken before its tick */
    TOUCH_BATCH = 500,    /* keys */
    TEND_TICKS = 5,       /* a second */
    ADOPT_TICKS = 30 * 5, /* half a minute */
    TOUCH_TICKS = 10 * 5, /* ten seconds */
};
static const uint64_t backoff_least_ns = 200 * NS_PER_MS, backoff_most_ns = 5 * NS_PER_S;

struct usage_loop {
    struct usage *usage;
    struct loop *loop;
    uint32_t lane;
    uint32_t since; /* runs since the writer was last woken */
    bool detached;
    uv_work_t write_work, tend_work;
    bool writing, tending; /* these are under way */
    uv_timer_t timer;      /* the first loop's alone */
    uint64_t ticks;
};

struct usage {
    struct store *store;
    struct journal *journal;
    struct usage_loop *loops;
    uint32_t loop_count;
    /* One writer, one tender, whichever loop sent them. */
    atomic_bool is_writing, is_tending;
    atomic_bool tend_again; /* a loop wants a spare, perhaps since the tender has passed its lane */
    atomic_bool look_for_orphans, look_at_keys, more_waits;

    /* the writer's */
    struct store_usage rows[BATCH_RUNS];
    size_t row_count; /* given to the database, and not yet taken by it */
    struct key_uses *keys;
    bool is_down;
    uint64_t backoff_ns;
    _Atomic uint64_t not_before_ns;
    _Atomic uint64_t written, failures, refused, active_keys;
};

/* --- writing ------------------------------------------------------------------------------------ */
static enum err failed(struct usage *u, enum err e, const struct err_info *err)
{
    u->backoff_ns = u->is_down ? MIN(2 * u->backoff_ns, backoff_most_ns) : backoff_least_ns;
    atomic_store(&u->not_before_ns, clock_now_ns() + u->backoff_ns);
    atomic_fetch_add(&u->failures, 1);
    if (!u->is_down)
        LOG_WARN("usage waits in the journal: the database did not take it",
                 LOG_CSTR("reason", err_text(err)));
    u->is_down = true;
    return e;
}

/* One row is not to the database's liking, whoever wrote it: the others must not wait for it for ever. */
static enum err write_one_by_one(struct usage *u, struct err_info *reterr)
{
    for (size_t i = 0; i < u->row_count; i++) {
        uint64_t added = 0;
        enum err e = store_usage_add(u->store, &u->rows[i], 1, &added, reterr);
        if (e && err_may_retry(e))
            return e;
        atomic_fetch_add(&u->written, added);
        if (!e)
            continue;
        atomic_fetch_add(&u->refused, 1);
        LOG_ERROR("a row of usage is left out", LOG_CSTR("run_id", u->rows[i].id),
                  LOG_CSTR("reason", err_text(reterr)));
    }
    return OK;
}

/* Gives one batch to the database. */
static enum err write_batch(struct usage *u)
{
    struct err_info err = {0};
    uint64_t added = 0;
    if (!u->row_count)
        u->row_count =
            journal_read(u->journal, atomic_exchange(&u->look_for_orphans, false), u->rows, BATCH_RUNS);
    if (!u->row_count)
        return OK;
    enum err e = store_usage_add(u->store, u->rows, u->row_count, &added, &err);
    if (e && !err_may_retry(e))
        e = write_one_by_one(u, &err);
    else if (!e)
        atomic_fetch_add(&u->written, added);
    if (e)
        return failed(u, e, &err);
    if (u->is_down)
        LOG_INFO("the database takes usage again");
    u->is_down = false;
    journal_drained(u->journal);
    for (size_t i = 0; i < u->row_count; i++)
        key_uses_note(u->keys, u->rows[i].key_id, u->rows[i].time_ns);
    atomic_store(&u->more_waits, u->row_count >= BATCH_RUNS / 2);
    u->row_count = 0;
    return OK;
}

static enum err touch_keys(struct usage *u)
{
    struct store_key_use uses[TOUCH_BATCH];
    struct err_info err = {0};
    size_t count;
    atomic_store(&u->active_keys, key_uses_since(u->keys, clock_wall_ns() - 3600 * NS_PER_S));
    do {
        count = key_uses_due(u->keys, uses, TOUCH_BATCH);
        enum err e = count ? store_key_touch(u->store, uses, count, &err) : OK;
        if (e)
            return failed(u, e, &err);
        key_uses_told(u->keys, uses, count);
    } while (count == TOUCH_BATCH);
    return OK;
}

static void work_write(uv_work_t *work)
{
    struct usage *u = CONTAINER_OF(work, struct usage_loop, write_work)->usage;
    atomic_store(&u->more_waits, false);
    if (clock_now_ns() < atomic_load(&u->not_before_ns) || write_batch(u))
        return;
    if (atomic_exchange(&u->look_at_keys, false) && touch_keys(u))
        atomic_store(&u->look_at_keys, true);
}

static void start_writing(struct usage_loop *ul);

static void after_write(uv_work_t *work, int status)
{
    struct usage_loop *ul = CONTAINER_OF(work, struct usage_loop, write_work);
    (void)status;
    ul->writing = false;
    atomic_store(&ul->usage->is_writing, false);
    if (atomic_load(&ul->usage->more_waits))
        start_writing(ul);
}

static void start_writing(struct usage_loop *ul)
{
    if (ul->detached || ul->writing || atomic_exchange(&ul->usage->is_writing, true))
        return;
    ul->writing = true;
    WW_ASSERT(uv_queue_work(&ul->loop->uv, &ul->write_work, work_write, after_write) == 0);
}

/* --- tending the journal ------------------------------------------------------------------------ */
/* While the database takes rows, they are on its disk before a sync would be of use. */
static void work_tend(uv_work_t *work)
{
    struct usage *u = CONTAINER_OF(work, struct usage_loop, tend_work)->usage;
    struct err_info err = {0};
    enum err e = journal_tend(u->journal, &err);
    if (!e && clock_now_ns() < atomic_load(&u->not_before_ns))
        e = journal_sync(u->journal, &err);
    if (e)
        LOG_ERROR("the usage journal", LOG_CSTR("reason", err_text(&err)));
}

static void start_tending(struct usage_loop *ul);

static void after_tend(uv_work_t *work, int status)
{
    struct usage_loop *ul = CONTAINER_OF(work, struct usage_loop, tend_work);
    (void)status;
    ul->tending = false;
    atomic_store(&ul->usage->is_tending, false);
    if (atomic_load(&ul->usage->tend_again))
        start_tending(ul);
}

static void start_tending(struct usage_loop *ul)
{
    atomic_store(&ul->usage->tend_again, true);
    if (ul->detached || ul->tending || atomic_exchange(&ul->usage->is_tending, true))
        return;
    atomic_store(&ul->usage->tend_again, false);
    ul->tending = true;
    WW_ASSERT(uv_queue_work(&ul->loop->uv, &ul->tend_work, work_tend, after_tend) == 0);
}

static void on_tick(uv_timer_t *timer)
{
    struct usage_loop *ul = CONTAINER_OF(timer, struct usage_loop, timer);
    struct usage *u = ul->usage;
    uint64_t tick = ul->ticks++;
    if (tick % ADOPT_TICKS == 0)
        atomic_store(&u->look_for_orphans, true);
    if (tick % TOUCH_TICKS == 0)
        atomic_store(&u->look_at_keys, true);
    if (tick % TEND_TICKS == 0 || journal_stats(u->journal).waiting)
        start_writing(ul);
    if (tick % TEND_TICKS == 0)
        start_tending(ul);
}

/* --- the loop's side ---------------------------------------------------------------------------- */
bool usage_reserve(struct usage_loop *ul)
{
    bool reserved = journal_reserve(ul->usage->journal, ul->lane);
    if (!reserved)
        start_tending(ul);
    return reserved;
}

void usage_release(struct usage_loop *ul)
{
    journal_release(ul->usage->journal, ul->lane);
}

void usage_record(struct usage_loop *ul, const struct usage_run *run)
{
    if (journal_put(ul->usage->journal, ul->lane, run))
        start_tending(ul);
    if (++ul->since >= EARLY_RUNS) {
        ul->since = 0; /* where the writer is at work, it goes on by itself */
        start_writing(ul);
    }
}

/* --- opening and closing ------------------------------------------------------------------------ */
enum err usage_open(const struct usage_config *config, struct usage **ret_usage, struct err_info *reterr)
{
    const struct journal_config journal = {
        .folder = config->folder, .bytes_max = config->journal_bytes_max, .lanes = config->loops};
    struct usage *u = xcalloc(1, sizeof *u);
    enum err e = journal_open(&journal, &u->journal, reterr);
    if (e) {
        free(u);
        return e;
    }
    u->store = config->store;
    u->loop_count = config->loops;
    u->loops = xcalloc(config->loops, sizeof *u->loops);
    u->keys = key_uses_new();
    *ret_usage = u;
    return OK;
}

void usage_close(struct usage *u, uint64_t deadline_ns)
{
    if (!u)
        return;
    bool empty = false;
    while (!empty && write_batch(u) == OK) {
        uint64_t waiting = journal_stats(u->journal).waiting;
        empty = waiting == 0;
        if (!empty && clock_now_ns() > deadline_ns)
            break;
    }
    if (empty)
        touch_keys(u);
    else
        LOG_WARN("usage stays in the journal for the next start",
                 LOG_U64("runs", journal_stats(u->journal).waiting));
    journal_close(u->journal);
    key_uses_free(u->keys);
    free(u->loops);
    free(u);
}

struct usage_loop *usage_attach(struct usage *u, struct loop *loop)
{
    WW_ASSERT(loop->index < u->loop_count);
    struct usage_loop *ul = &u->loops[loop->index];
    *ul = (struct usage_loop){.usage = u, .loop = loop, .lane = loop->index};
    if (ul->lane == 0) {
        uv_timer_init(&loop->uv, &ul->timer);
        uv_timer_start(&ul->timer, on_tick, 0, TICK_MS);
    }
    return ul;
}

void usage_detach(struct usage_loop *ul)
{
    ul->detached = true;
    if (ul->lane == 0)
        uv_close((uv_handle_t *)&ul->timer, NULL);
}

struct usage_stats usage_stats(struct usage *u)
{
    struct journal_stats j = journal_stats(u->journal);
    return (struct usage_stats){.written = atomic_load(&u->written),
                                .waiting = j.waiting,
                                .torn = j.torn,
                                .failures = atomic_load(&u->failures),
                                .refused = atomic_load(&u->refused),
                                .journal_bytes = j.bytes,
                                .active_keys = atomic_load(&u->active_keys)};
}
