#include "executor/internal.h"

#include "base/clock.h"

enum { SLOTS_MAX = 1 << 20 };

/* --- slots -------------------------------------------------------------------------------------- */
static bool slot_take(struct exec_loop *el, struct exec_run *r)
{
    if (el->free_count == 0) {
        uint32_t old = el->slot_count, grown = old ? 2 * old : 64;
        if (grown > SLOTS_MAX)
            return false;
        el->slots = xrealloc(el->slots, grown * sizeof *el->slots);
        el->generations = xrealloc(el->generations, grown * sizeof *el->generations);
        el->free_slots = xrealloc(el->free_slots, grown * sizeof *el->free_slots);
        for (uint32_t i = grown; i > old; i--) {
            el->slots[i - 1] = NULL;
            el->generations[i - 1] = 1;
            el->free_slots[el->free_count++] = i - 1;
        }
        el->slot_count = grown;
    }
    uint32_t slot = el->free_slots[--el->free_count];
    el->slots[slot] = r;
    r->id = (uint64_t)el->generations[slot] << 32 | slot;
    return true;
}

static void slot_release(struct exec_loop *el, struct exec_run *r)
{
    uint32_t slot = (uint32_t)r->id;
    el->slots[slot] = NULL;
    el->generations[slot]++;
    el->free_slots[el->free_count++] = slot;
}

/* A run by what a sandbox says its id is: it must be one that this channel holds. */
struct exec_run *exec_run_by_id(struct exec_channel *c, uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    struct exec_run *r = slot < c->el->slot_count ? c->el->slots[slot] : NULL;
    return r && r->id == id && r->channel == c ? r : NULL;
}

/* --- places in the pools ------------------------------------------------------------------------- */
static void on_pump(struct loop_post *post)
{
    struct exec_loop *el = CONTAINER_OF(post, struct exec_loop, pump);
    atomic_store(&el->pump_posted, false);
    if (!el->detached)
        exec_loop_pump(el);
}

/* Other loops don't see that places got free; this one looks after each turn. */
static void wake_hungry(struct exec_loop *el)
{
    struct executor *e = el->executor;
    uint64_t hungry = el->detached ? 0 : atomic_exchange(&e->hungry, 0);
    for (uint32_t i = 0; i < e->loop_count; i++) {
        struct exec_loop *other = e->loops[i];
        if (hungry >> i & 1 && other != el && !atomic_exchange(&other->pump_posted, true))
            loop_post(other->loop, &other->pump, on_pump);
    }
}

static void give_places_back(struct exec_channel *c, const struct exec_code *code)
{
    struct executor *e = c->el->executor;
    exec_pool_give_back(&e->pools[c->index], code);
    if (atomic_load(&e->hungry))
        wake_hungry(c->el);
}

/* --- the end of a run --------------------------------------------------------------------------- */
static void run_leaves_channel(struct exec_run *r)
{
    if (r->state == EXEC_SENT) {
        r->channel->run_count--;
        r->el->running--;
        give_places_back(r->channel, &r->spec.code);
        atomic_fetch_sub(&r->el->executor->running, 1);
    } else {
        r->el->queued--;
        atomic_fetch_sub(&r->el->executor->queued, 1);
    }
    list_remove(&r->link);
    list_remove(&r->pending_link);
    r->channel = NULL;
}

void exec_run_finish(struct exec_run *r, const struct run_report *report, const struct trap_frame *frames)
{
    uint64_t sent = r->sent_ns ? r->sent_ns : clock_now_ns();
    struct exec_outcome outcome = {.report = report,
                                   .frames = frames,
                                   .queue_ns = sent - r->queued_ns,
                                   .started = r->state == EXEC_SENT};
    run_leaves_channel(r);
    slot_release(r->el, r);
    r->ops->done(r->ctx, &outcome);
    buf_done(&r->more_input);
    free(r);
}

/* Back to the head of the queue: only for a run that never started. */
void exec_run_put_back(struct exec_run *r)
{
    struct exec_loop *el = r->el;
    run_leaves_channel(r);
    r->state = EXEC_QUEUED;
    r->sent_ns = 0;
    list_push_front(&el->queue, &r->link);
    el->queued++;
    atomic_fetch_add(&el->executor->queued, 1);
}

/* Ends a run that the sandbox gave no report of. */
void exec_run_finish_without_report(struct exec_run *r, enum cause cause, const char *text)
{
    struct run_report report = {.cause = cause,
                                .trap_code = -1,
                                .stdout_bytes = r->output_bytes[0],
                                .stderr_bytes = r->output_bytes[1]};
    snprintf(report.text, sizeof report.text, "%s", text);
    exec_run_finish(r, &report, NULL);
}

/* --- placing ------------------------------------------------------------------------------------ */
/* The sandbox with the fewest runs of those with room; among equals one that has the module loaded. NULL: all are
 * full. */
static struct exec_channel *choose_channel(struct exec_loop *el, const struct exec_code *code)
{
    struct executor *e = el->executor;
    uint32_t count = e->config.sandboxes, first = code->fuel ? count : 0, best_score = UINT32_MAX;
    struct exec_channel *best = NULL;
    if (el->inline_loop && !code->fuel) {
        best = &el->channels[el->channel_count - 1];
        return exec_pool_fits(&e->pools[best->index], e->pool_size, code) ? best : NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = first + (i + el->loop->index) % count;
        struct exec_channel *c = &el->channels[index];
        if (!exec_pool_fits(&e->pools[index], e->pool_size, code))
            continue;
        uint32_t score = 2 * exec_pool_runs(&e->pools[index]) + !exec_channel_is_loaded(c, code->id);
        if (!atomic_load_explicit(&c->host->running, memory_order_relaxed))
            score += UINT32_MAX / 2; /* one that is dead has the fewest runs: the last choice */
        if (score < best_score) {
            best_score = score;
            best = c;
        }
    }
    if (best)
        supervisor_want(e->supervisor, best->index);
    return best;
}

/* Takes places for the run in some sandbox. NULL: none has them, and the loop that gives some back is asked to
 * tell. */
static struct exec_channel *take_places(struct exec_loop *el, const struct exec_code *code)
{
    struct executor *e = el->executor;
    for (int tries = 0; tries < 2; tries++) {
        struct exec_channel *c = choose_channel(el, code);
        if (c && exec_pool_take(&e->pools[c->index], e->pool_size, code))
            return c;
        /* What is given back from here on is told; what was before, the second look finds. */
        atomic_fetch_or(&e->hungry, (uint64_t)1 << el->loop->index);
    }
    return NULL;
}

static bool place(struct exec_run *r)
{
    struct exec_loop *el = r->el;
    struct exec_channel *c = take_places(el, &r->spec.code);
    if (!c)
        return false;
    if (!exec_channel_send_run(c, r)) {
        give_places_back(c, &r->spec.code);
        return false;
    }
    list_remove(&r->link);
    el->queued--;
    atomic_fetch_sub(&el->executor->queued, 1);
    r->state = EXEC_SENT;
    r->channel = c;
    r->sent_ns = clock_now_ns();
    list_push_back(&c->runs, &r->link);
    c->run_count++;
    el->running++;
    atomic_fetch_add(&el->executor->running, 1);
    exec_run_send_soon(r);
    return true;
}

void exec_loop_pump(struct exec_loop *el)
{
    uint32_t share = MAX(el->executor->config.concurrent_max / el->executor->loop_count, 1U);
    while (!list_is_empty(&el->queue) && el->running < share)
        if (!place(LIST_ENTRY(el->queue.next, struct exec_run, link)))
            return;
}

enum err exec_start(struct exec_loop *el, const struct exec_spec *spec, const struct exec_ops *ops, void *ctx,
                    struct exec_run **ret_run, struct err_info *reterr)
{
    struct executor *e = el->executor;
    size_t strings = spec->entry.len + spec->args.len + spec->env.len;
    if (spec->entry.len > ENTRY_BYTES_MAX)
        return err_set(reterr, ERR_FIELD_INVALID, "invoke: the name has %zu bytes, at most %d are allowed",
                       spec->entry.len, ENTRY_BYTES_MAX);
    if (strings > ARGS_BYTES_MAX || spec->args_count > ARGS_COUNT_MAX || spec->env_count > ARGS_COUNT_MAX)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "args: %u arguments and %u variables with %zu bytes; at most %d each and %d bytes in "
                       "all are allowed",
                       spec->args_count, spec->env_count, strings, ARGS_COUNT_MAX, ARGS_BYTES_MAX);
    uint32_t queue_share = MAX(e->config.queue_max / e->loop_count, 1U);
    if (el->queued >= queue_share)
        return err_set(reterr, ERR_BUSY,
                       "%u runs are under way and %u wait, which is all that this server takes", el->running,
                       el->queued);
    struct exec_run *r = xcalloc(1, sizeof *r);
    list_init(&r->link);
    list_init(&r->pending_link);
    r->el = el;
    r->spec = *spec;
    r->ops = ops;
    r->ctx = ctx;
    r->queued_ns = clock_now_ns();
    r->more_input = buf_make(2 * STDIN_WINDOW_BYTES);
    if (!slot_take(el, r)) {
        free(r);
        return err_set(reterr, ERR_BUSY, "no room for another run");
    }
    atomic_fetch_add_explicit(&e->started, 1, memory_order_relaxed);
    list_push_back(&el->queue, &r->link);
    el->queued++;
    atomic_fetch_add(&e->queued, 1);
    *ret_run = r;
    exec_loop_pump(el);
    return OK;
}

void exec_run_stdin(struct exec_run *r, struct str bytes, bool eof)
{
    buf_put_str(&r->more_input, bytes);
    WW_ASSERT(!r->more_input.overflow);
    r->more_eof |= eof;
    exec_run_send_soon(r);
}

void exec_run_cancel(struct exec_run *r)
{
    if (r->state == EXEC_QUEUED) {
        exec_run_finish_without_report(r, CAUSE_CANCELLED, "it was cancelled before it started");
        return;
    }
    r->cancel_wanted = true;
    exec_run_send_soon(r);
}

void exec_run_hold_output(struct exec_run *r)
{
    r->holds_output = true;
}

void exec_run_credit_output(struct exec_run *r, uint64_t bytes)
{
    r->output_credit += bytes;
    exec_run_send_soon(r);
}

/* --- life ------------------------------------------------------------------------------------- */
enum err executor_new(const struct exec_config *config, struct loop *const *loops, uint32_t loop_count,
                      struct executor **ret_executor, struct err_info *reterr)
{
    struct executor *e = xcalloc(1, sizeof *e);
    e->config = *config;
    e->loop_count = loop_count;
    e->loops = xcalloc(loop_count, sizeof *e->loops);
    e->pools = xcalloc(2 * config->sandboxes + 1, sizeof *e->pools);
    e->pool_size = exec_pool_size(&config->sandbox.engine);
    WW_ASSERT(loop_count <= 64); /* the bits of `hungry` */
    *ret_executor = e;
    if (config->isolation == EXEC_INLINE) {
        struct engine_config engine = config->sandbox.engine;
        enum err err = engine_new(&engine, &e->inline_engine, reterr);
        if (err)
            return err;
    }
    return supervisor_new(loops[0], config, loop_count, &exec_supervisor_ops, e, &e->supervisor, reterr);
}

struct exec_loop *executor_attach(struct executor *e, struct loop *loop)
{
    struct exec_loop *el = xcalloc(1, sizeof *el);
    struct err_info err = {0};
    uint32_t hosts = supervisor_count(e->supervisor);
    el->executor = e;
    el->loop = loop;
    list_init(&el->queue);
    el->channel_count = hosts + (e->inline_engine != NULL);
    el->channels = xcalloc(el->channel_count, sizeof *el->channels);
    for (uint32_t i = 0; i < el->channel_count; i++) {
        struct exec_channel *c = &el->channels[i];
        c->el = el;
        c->index = i;
        list_init(&c->runs);
        list_init(&c->pending);
        if (i < hosts)
            exec_channel_open(c, supervisor_host(e->supervisor, i));
        else if (exec_loop_attach_inline(el, &err))
            WW_UNREACHABLE("the inline sandbox starts");
    }
    exec_loop_start_turns(el);
    e->loops[loop->index] = el;
    return el;
}

void executor_detach(struct exec_loop *el)
{
    el->detached = true;
    for (uint32_t slot = 0; slot < el->slot_count; slot++)
        if (el->slots[slot])
            exec_run_finish_without_report(el->slots[slot], CAUSE_CANCELLED, "the server shut down");
    for (uint32_t i = 0; i < el->channel_count; i++)
        exec_channel_close(&el->channels[i]);
    exec_loop_stop_turns(el);
}

void executor_stop(struct executor *e)
{
    supervisor_stop(e->supervisor);
}

void executor_free(struct executor *e)
{
    if (!e)
        return;
    for (uint32_t i = 0; i < e->loop_count; i++) {
        struct exec_loop *el = e->loops[i];
        if (!el)
            continue;
        free(el->channels);
        free(el->slots);
        free(el->generations);
        free(el->free_slots);
        free(el);
    }
    supervisor_free(e->supervisor);
    engine_free(e->inline_engine);
    free(e->pools);
    free(e->loops);
    free(e);
}

struct exec_stats executor_stats(const struct executor *e)
{
    struct exec_stats s = {.started = atomic_load(&e->started),
                           .running = atomic_load(&e->running),
                           .queued = atomic_load(&e->queued)};
    for (uint32_t i = 0; i < e->loop_count; i++) {
        const struct exec_loop *el = e->loops[i];
        s.messages_to += atomic_load_explicit(&el->messages_to, memory_order_relaxed);
        s.messages_from += atomic_load_explicit(&el->messages_from, memory_order_relaxed);
        s.ring_full += atomic_load_explicit(&el->ring_full, memory_order_relaxed);
    }
    supervisor_stats(e->supervisor, &s.spawned, &s.crashes, &s.sandboxes_ready);
    if (e->inline_engine)
        s.sandboxes_ready += e->loop_count;
    return s;
}

size_t executor_pids(const struct executor *e, int *ret_pids, size_t max)
{
    return supervisor_pids(e->supervisor, ret_pids, max);
}
