#include "executor/executor.h"

#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "executor/supervisor.h"
#include "sandbox/area.h"
#include "sandbox/process.h"

enum {
    LOADED_SET = 8192,          /* modules that a channel remembers as loaded */
    SWEEP_MS = 250,
    OVERDUE_GRACE_NS = 5 * 1000 * 1000 * 1000LL, /* a run this far past its time means a stuck or lying sandbox */
    LOAD_TRIES = 4,
    MESSAGES_A_DRAIN = 256,
    SLOTS_MAX = 1 << 20,
    INLINE_SLICE_NS = 300 * 1000, /* of guests before the sockets are looked at again */
};

enum exec_state { EXEC_QUEUED, EXEC_SENT };

struct exec_run {
    struct list link; /* the loop's queue, or the channel's runs */
    struct list pending_link;
    uint64_t id;
    enum exec_state state;
    struct exec_channel *channel;
    struct exec_loop *el;
    struct exec_spec spec;
    const struct exec_ops *ops;
    void *ctx;
    uint64_t queued_ns;
    uint64_t sent_ns;
    unsigned tries;
    uint64_t ring_end; /* where its RUN message ends in the ring */
    struct buf more_input; /* from exec_run_stdin(), not yet sent */
    bool more_eof;
    size_t input_at;
    bool eof_sent;
    uint64_t stdin_window;
    bool holds_output;
    uint64_t output_credit; /* taken in, not yet told */
    uint64_t output_bytes[2];
    bool cancel_wanted, cancel_sent;
};

/* This loop's connection with one sandbox. */
struct exec_channel {
    struct exec_loop *el;
    uint32_t index;
    struct sandbox_host *host; /* NULL with inline isolation */
    struct area *area;
    struct ring_writer to;
    struct ring_reader from;
    uv_poll_t *wake; /* closes by itself when the host is replaced */
    struct list runs;
    uint32_t run_count;
    struct list pending; /* runs with stdin, credit or a cancellation to send */
    uint64_t loaded[LOADED_SET];
    uint32_t loaded_count;
    char load_text[MESSAGE_TEXT_MAX];
};

struct exec_loop {
    struct executor *executor;
    struct loop *loop;
    struct exec_channel *channels;
    uint32_t channel_count;
    struct list queue;
    uint32_t queued, running;
    struct exec_run **slots; /* by the low half of a run's id */
    uint32_t *generations;
    uint32_t *free_slots;
    uint32_t slot_count, free_count;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t no_block; /* active: the loop must not sleep */
    uv_timer_t sweep;
    /* Inline isolation. */
    struct sandbox_loop *inline_loop;
    struct area inline_area;
    int inline_fds[64];
    uint32_t inline_fd_first, inline_fd_count;
    uv_timer_t inline_wake;
    bool detached;
};

struct executor {
    struct exec_config config;
    uint32_t loop_count;
    struct exec_loop **loops;
    struct supervisor *supervisor;
    struct engine *inline_engine;
    _Atomic uint32_t *loads; /* runs in each sandbox, all loops together */
    _Atomic uint64_t started;
    _Atomic uint32_t running, queued;
};

static void pump_queue(struct exec_loop *el);

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
static struct exec_run *run_by_id(struct exec_channel *c, uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    struct exec_run *r = slot < c->el->slot_count ? c->el->slots[slot] : NULL;
    return r && r->id == id && r->channel == c ? r : NULL;
}

/* --- the end of a run --------------------------------------------------------------------------- */
static void run_leaves_channel(struct exec_run *r)
{
    if (r->state == EXEC_SENT) {
        r->channel->run_count--;
        r->el->running--;
        atomic_fetch_sub(&r->el->executor->loads[r->channel->index], 1);
        atomic_fetch_sub(&r->el->executor->running, 1);
    } else {
        r->el->queued--;
        atomic_fetch_sub(&r->el->executor->queued, 1);
    }
    list_remove(&r->link);
    list_remove(&r->pending_link);
    r->channel = NULL;
}

static void finish(struct exec_run *r, const struct run_report *report, const struct trap_frame *frames)
{
    uint64_t sent = r->sent_ns ? r->sent_ns : clock_now_ns();
    struct exec_outcome outcome = {.report = report, .frames = frames, .queue_ns = sent - r->queued_ns,
                                   .started = r->state == EXEC_SENT};
    run_leaves_channel(r);
    slot_release(r->el, r);
    r->ops->done(r->ctx, &outcome);
    buf_done(&r->more_input);
    free(r);
}

/* Back to the head of the queue: only for a run that never started. */
static void put_back(struct exec_run *r)
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
static void finish_without_report(struct exec_run *r, enum cause cause, const char *text)
{
    struct run_report report = {.cause = cause, .trap_code = -1, .stdout_bytes = r->output_bytes[0],
                                .stderr_bytes = r->output_bytes[1]};
    snprintf(report.text, sizeof report.text, "%s", text);
    finish(r, &report, NULL);
}

static void do_nothing(uv_idle_t *idle)
{
    (void)idle;
}

/* --- sending ------------------------------------------------------------------------------------ */
static void wake_sandbox(struct exec_channel *c)
{
    if (c->host)
        area_ring_doorbell(c->area);
    else
        uv_idle_start(&c->el->no_block, do_nothing);
}

static bool is_loaded(struct exec_channel *c, uint64_t id)
{
    uint32_t at = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 51);
    for (; c->loaded[at]; at = (at + 1) % LOADED_SET)
        if (c->loaded[at] == id)
            return true;
    return false;
}

static void forget_loaded(struct exec_channel *c)
{
    memset(c->loaded, 0, sizeof c->loaded);
    c->loaded_count = 0;
}

static void remember_loaded(struct exec_channel *c, uint64_t id)
{
    if (c->loaded_count >= LOADED_SET / 2)
        forget_loaded(c); /* loading twice is harmless */
    uint32_t at = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 51);
    while (c->loaded[at])
        at = (at + 1) % LOADED_SET;
    c->loaded[at] = id;
    c->loaded_count++;
}

static bool send_code_fd(struct exec_channel *c, int fd)
{
    struct exec_loop *el = c->el;
    if (c->host)
        return c->host->sockets[el->loop->index] >= 0 && process_send_fds(c->host->sockets[el->loop->index], &fd, 1);
    if (el->inline_fd_count == LENGTH_OF(el->inline_fds))
        return false;
    int copy = dup(fd);
    if (copy < 0)
        return false;
    el->inline_fds[(el->inline_fd_first + el->inline_fd_count++) % LENGTH_OF(el->inline_fds)] = copy;
    return true;
}

static bool send_load(struct exec_channel *c, const struct exec_code *code)
{
    struct message_load *m = ring_reserve(&c->to, sizeof *m);
    if (!m || !send_code_fd(c, code->fd))
        return false;
    *m = (struct message_load){.head = {MESSAGE_LOAD, 0, code->id}, .memories = code->memories, .tables = code->tables,
                               .has_start = code->has_start};
    ring_publish(&c->to, sizeof *m);
    remember_loaded(c, code->id);
    return true;
}

static char *put(char *to, struct str s)
{
    if (s.len)
        memcpy(to, s.p, s.len);
    return to + s.len;
}

/* Sends RUN with as much of the input as fits; false: the ring is full. */
static bool send_run(struct exec_channel *c, struct exec_run *r)
{
    const struct exec_spec *s = &r->spec;
    if (!is_loaded(c, s->code.id) && !send_load(c, &s->code))
        return false;
    size_t strings = s->entry.len + s->args.len + s->env.len;
    size_t input = MIN(s->input.len, (size_t)MESSAGE_DATA_MAX - strings);
    bool eof = s->input_complete && input == s->input.len;
    struct message_run *m = ring_reserve(&c->to, sizeof *m + strings + input);
    if (!m)
        return false;
    *m = (struct message_run){
        .head = {MESSAGE_RUN, (uint32_t)(strings + input), r->id},
        .module_id = s->code.id,
        .seed = s->seed,
        .limits = s->limits,
        .entry_bytes = (uint32_t)s->entry.len,
        .args_bytes = (uint32_t)s->args.len,
        .args_count = s->args_count,
        .env_bytes = (uint32_t)s->env.len,
        .env_count = s->env_count,
        .stdin_bytes = (uint32_t)input,
        .stdin_eof = eof,
    };
    put(put(put(put((char *)(m + 1), s->entry), s->args), s->env), str_make(s->input.p, input));
    ring_publish(&c->to, sizeof *m + strings + input);
    r->ring_end = c->to.at;
    r->input_at = input;
    r->eof_sent = eof;
    r->stdin_window = STDIN_WINDOW_BYTES - input;
    return true;
}

static bool send_stdin(struct exec_channel *c, struct exec_run *r)
{
    while (!r->eof_sent) {
        bool from_spec = r->input_at < r->spec.input.len;
        struct str rest = from_spec ? str_make(r->spec.input.p + r->input_at, r->spec.input.len - r->input_at)
                                    : buf_str(&r->more_input);
        size_t len = MIN(MIN(rest.len, (size_t)r->stdin_window), (size_t)MESSAGE_DATA_MAX);
        bool last = len == rest.len && (from_spec ? r->spec.input_complete : r->more_eof);
        if (len == 0 && !last)
            return true; /* nothing to send, or no window */
        struct message_stdin *m = ring_reserve(&c->to, sizeof *m + len);
        if (!m)
            return false;
        *m = (struct message_stdin){.head = {MESSAGE_STDIN, (uint32_t)len, r->id}, .eof = last};
        put((char *)(m + 1), str_make(rest.p, len));
        ring_publish(&c->to, sizeof *m + len);
        r->stdin_window -= len;
        r->eof_sent = last;
        if (from_spec)
            r->input_at += len;
        else
            buf_consume(&r->more_input, len);
    }
    return true;
}

static bool send_small(struct exec_channel *c, enum message_type type, uint64_t id, uint64_t bytes)
{
    size_t len = type == MESSAGE_CANCEL ? sizeof(struct message) : sizeof(struct message_credit);
    struct message_credit *m = ring_reserve(&c->to, len);
    if (!m)
        return false;
    m->head = (struct message){(uint32_t)type, 0, id};
    if (type != MESSAGE_CANCEL)
        m->bytes = bytes;
    ring_publish(&c->to, len);
    return true;
}

/* Sends what a run in a sandbox owes it; false: the ring is full. */
static bool send_owed(struct exec_channel *c, struct exec_run *r)
{
    if (r->cancel_wanted && !r->cancel_sent) {
        if (!send_small(c, MESSAGE_CANCEL, r->id, 0))
            return false;
        r->cancel_sent = true;
    }
    if (r->output_credit >= OUTPUT_WINDOW_BYTES / 2 || (r->holds_output && r->output_credit)) {
        if (!send_small(c, MESSAGE_CREDIT, r->id, r->output_credit))
            return false;
        r->output_credit = 0;
    }
    return send_stdin(c, r);
}

static void send_soon(struct exec_run *r)
{
    struct exec_channel *c = r->channel;
    if (r->state != EXEC_SENT)
        return;
    list_remove(&r->pending_link);
    if (!send_owed(c, r))
        list_push_back(&c->pending, &r->pending_link);
    wake_sandbox(c);
}

static void send_pending(struct exec_channel *c)
{
    while (!list_is_empty(&c->pending)) {
        struct exec_run *r = LIST_ENTRY(c->pending.next, struct exec_run, pending_link);
        if (!send_owed(c, r))
            return;
        list_remove(&r->pending_link);
        wake_sandbox(c);
    }
}

/* --- placing ------------------------------------------------------------------------------------ */
/* The sandbox with the fewest runs; one that has the module loaded may have one more. */
static struct exec_channel *choose_channel(struct exec_loop *el, const struct exec_code *code)
{
    struct executor *e = el->executor;
    uint32_t count = e->config.sandboxes, first = code->fuel ? count : 0, best_score = UINT32_MAX;
    if (el->inline_loop && !code->fuel)
        return &el->channels[el->channel_count - 1];
    struct exec_channel *best = NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = first + (i + el->loop->index) % count;
        struct exec_channel *c = &el->channels[index];
        uint32_t score = 2 * atomic_load_explicit(&e->loads[index], memory_order_relaxed) + !is_loaded(c, code->id);
        if (score < best_score) {
            best_score = score;
            best = c;
        }
    }
    supervisor_want(e->supervisor, best->index);
    return best;
}

static bool place(struct exec_run *r)
{
    struct exec_loop *el = r->el;
    struct exec_channel *c = choose_channel(el, &r->spec.code);
    if (!send_run(c, r))
        return false;
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
    atomic_fetch_add(&el->executor->loads[c->index], 1);
    send_soon(r);
    return true;
}

static void pump_queue(struct exec_loop *el)
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
                       "args: %u arguments and %u variables with %zu bytes; at most %d each and %d bytes in all are allowed",
                       spec->args_count, spec->env_count, strings, ARGS_COUNT_MAX, ARGS_BYTES_MAX);
    uint32_t share = MAX(e->config.concurrent_max / e->loop_count, 1U);
    uint32_t queue_share = MAX(e->config.queue_max / e->loop_count, 1U);
    if (el->running >= share && el->queued >= queue_share)
        return err_set(reterr, ERR_BUSY, "%u runs are under way and %u wait, which is all that this server takes",
                       el->running, el->queued);
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
    pump_queue(el);
    return OK;
}

void exec_run_stdin(struct exec_run *r, struct str bytes, bool eof)
{
    buf_put_str(&r->more_input, bytes);
    WW_ASSERT(!r->more_input.overflow);
    r->more_eof |= eof;
    send_soon(r);
}

void exec_run_cancel(struct exec_run *r)
{
    if (r->state == EXEC_QUEUED) {
        finish_without_report(r, CAUSE_CANCELLED, "it was cancelled before it started");
        return;
    }
    r->cancel_wanted = true;
    send_soon(r);
}

void exec_run_hold_output(struct exec_run *r)
{
    r->holds_output = true;
}

void exec_run_credit_output(struct exec_run *r, uint64_t bytes)
{
    r->output_credit += bytes;
    send_soon(r);
}

/* --- receiving: everything here was written by a process that may be hostile -------------------- */
/* Hands output on; false: more than the run may write, so the sandbox is not what it was. */
static bool take_output(struct exec_run *r, int fd, struct str bytes)
{
    uint64_t cap = fd == 2 ? r->spec.limits.stderr_bytes : r->spec.limits.stdout_bytes;
    uint64_t *total = &r->output_bytes[fd == 2];
    if (bytes.len > cap - *total)
        return false;
    *total += bytes.len;
    if (bytes.len)
        r->ops->output(r->ctx, fd, bytes);
    return true;
}

static bool on_done(struct exec_channel *c, struct exec_run *r, const struct message_done *m, struct str data)
{
    struct trap_frame frames[MESSAGE_FRAMES_MAX];
    struct run_report report = m->report;
    if (!take_output(r, 1, str_make(data.p, m->stdout_bytes)) ||
        !take_output(r, 2, str_make(data.p + m->stdout_bytes, m->stderr_bytes)))
        return false;
    (void)c;
    memcpy(frames, data.p + m->stdout_bytes + m->stderr_bytes, m->frames_bytes);
    for (uint32_t i = 0; i < report.frame_count; i++)
        if (frames[i].name_bytes > MESSAGE_NAME_MAX)
            return false;
    finish(r, &report, frames);
    return true;
}

static bool on_absent(struct exec_channel *c, struct exec_run *r)
{
    /* It never started there, so it may be sent again. */
    forget_loaded(c);
    if (++r->tries >= LOAD_TRIES) {
        finish_without_report(r, CAUSE_SANDBOX_CRASHED,
                              c->load_text[0] ? c->load_text : "the sandbox could not load the compiled module");
        return true;
    }
    put_back(r);
    return true;
}

static bool on_message(struct exec_channel *c, const void *payload, size_t len)
{
    union message_any m;
    struct str data;
    if (!message_check_from_sandbox(payload, len, &m, &data))
        return false;
    if (m.head.type == MESSAGE_LOADED) {
        if (!m.loaded.ok) {
            snprintf(c->load_text, sizeof c->load_text, "%.*s", STR_FMT(data));
            LOG_WARN("module not loaded", LOG_STR("reason", data));
        }
        return true;
    }
    struct exec_run *r = run_by_id(c, m.head.id);
    if (!r)
        return false;
    switch (m.head.type) {
    case MESSAGE_OUTPUT:
        if (!take_output(r, (int)m.output.fd, data))
            return false;
        if (!r->holds_output) {
            r->output_credit += data.len;
            send_soon(r);
        }
        return true;
    case MESSAGE_STDIN_CREDIT:
        if (m.credit.bytes > STDIN_WINDOW_BYTES - r->stdin_window)
            return false;
        r->stdin_window += m.credit.bytes;
        send_soon(r);
        if (r->ops->stdin_room && !r->more_eof && r->stdin_window > r->more_input.len)
            r->ops->stdin_room(r->ctx, (size_t)r->stdin_window - r->more_input.len);
        return true;
    case MESSAGE_DONE: return on_done(c, r, &m.done, data);
    case MESSAGE_ABSENT: return on_absent(c, r);
    default: return false;
    }
}

/* False: the sandbox sent nonsense and is being killed. */
static bool drain_channel(struct exec_channel *c)
{
    for (unsigned n = 0; n < MESSAGES_A_DRAIN; n++) {
        const void *payload;
        size_t len;
        enum ring_state state = ring_peek(&c->from, &payload, &len);
        if (state == RING_EMPTY)
            break;
        if (state == RING_BROKEN || !on_message(c, payload, len)) {
            WW_ASSERT(c->host); /* inline, the bug would be ours */
            supervisor_kill(c->host, "it sent a message that makes no sense");
            return false;
        }
        ring_pop(&c->from);
    }
    if (!list_is_empty(&c->pending))
        send_pending(c);
    return true;
}

static bool drain_all(struct exec_loop *el)
{
    bool more = false;
    for (uint32_t i = 0; i < el->channel_count; i++) {
        struct exec_channel *c = &el->channels[i];
        if (c->run_count == 0 && !ring_has_more(&c->from))
            continue;
        drain_channel(c);
        more |= ring_has_more(&c->from);
    }
    pump_queue(el);
    return more;
}

/* --- the libuv side ----------------------------------------------------------------------------- */
static void set_sleeps(struct exec_loop *el, uint32_t value)
{
    for (uint32_t i = 0; i < el->channel_count; i++) {
        struct exec_channel *c = &el->channels[i];
        if (c->host && (c->run_count || value == 0))
            atomic_store_explicit(&c->area->channel_controls[el->loop->index].front_sleeps, value,
                                  memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_seq_cst);
}

static void on_inline_wake(uv_timer_t *timer)
{
    (void)timer; /* on_prepare takes the turn */
}

/* Lets the guests of an inline loop run; true: there is more to do at once. */
static bool turn_inline(struct exec_loop *el)
{
    uint64_t wake_ns = UINT64_MAX;
    enum sandbox_turn turn = SANDBOX_IDLE;
    uint64_t start = clock_now_ns();
    do {
        turn = sandbox_loop_turn(el->inline_loop, &wake_ns);
        WW_ASSERT(turn != SANDBOX_BROKEN);
    } while (turn == SANDBOX_BUSY && clock_now_ns() - start < INLINE_SLICE_NS);
    if (turn == SANDBOX_IDLE && wake_ns != UINT64_MAX) {
        uint64_t now = clock_now_ns();
        uv_timer_start(&el->inline_wake, on_inline_wake,
                       wake_ns > now ? (wake_ns - now) / NS_PER_MS + 1 : 0, 0);
    }
    return turn == SANDBOX_BUSY;
}

/* Before the loop sleeps: takes what has come, says that it sleeps, and looks once more. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct exec_loop *el = CONTAINER_OF(prepare, struct exec_loop, prepare);
    bool busy = el->inline_loop && turn_inline(el);
    busy |= drain_all(el);
    if (!busy && el->running) {
        set_sleeps(el, 1);
        for (uint32_t i = 0; i < el->channel_count; i++)
            busy |= ring_has_more(&el->channels[i].from);
    }
    if (el->inline_loop)
        busy |= sandbox_loop_has_messages(el->inline_loop);
    if (busy)
        uv_idle_start(&el->no_block, do_nothing);
    else
        uv_idle_stop(&el->no_block);
}

static void on_check(uv_check_t *check)
{
    struct exec_loop *el = CONTAINER_OF(check, struct exec_loop, check);
    if (el->running)
        set_sleeps(el, 0);
    drain_all(el);
}

static void on_wake(uv_poll_t *poll, int status, int events)
{
    struct exec_channel *c = poll->data;
    uint64_t count;
    (void)status, (void)events;
    if (!c)
        return;
    ssize_t got = read(c->host->event_fds[c->el->loop->index], &count, sizeof count);
    (void)got; /* on_check drains */
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_sweep(uv_timer_t *timer)
{
    struct exec_loop *el = CONTAINER_OF(timer, struct exec_loop, sweep);
    uint64_t now = clock_now_ns();
    LIST_EACH(link, &el->queue)
    {
        struct exec_run *r = LIST_ENTRY(link, struct exec_run, link);
        if (now - r->queued_ns < el->executor->config.queue_timeout_ns)
            break; /* the rest came later */
        finish_without_report(r, CAUSE_CANCELLED, "no sandbox had room for it in time; it was not started");
    }
    for (uint32_t i = 0; i < el->channel_count; i++)
        LIST_EACH(link, &el->channels[i].runs)
        {
            struct exec_run *r = LIST_ENTRY(link, struct exec_run, link);
            if (el->channels[i].host && now - r->sent_ns > r->spec.limits.timeout_ns + OVERDUE_GRACE_NS) {
                supervisor_kill(el->channels[i].host, "a run in it is far past its deadline");
                break;
            }
        }
}

/* --- hosts come and go -------------------------------------------------------------------------- */
static void channel_open(struct exec_channel *c, struct sandbox_host *host)
{
    uint32_t i = c->el->loop->index;
    c->host = host;
    c->area = &host->area;
    c->to = area_to_sandbox_writer(c->area, i);
    c->from = area_from_sandbox_reader(c->area, i);
    forget_loaded(c);
    c->load_text[0] = 0;
    c->wake = xcalloc(1, sizeof *c->wake);
    WW_ASSERT(uv_poll_init(&c->el->loop->uv, c->wake, host->event_fds[i]) == 0);
    c->wake->data = c;
    uv_poll_start(c->wake, UV_READABLE, on_wake);
    uv_unref((uv_handle_t *)c->wake);
}

static void channel_close(struct exec_channel *c)
{
    if (c->wake) {
        c->wake->data = NULL;
        uv_close((uv_handle_t *)TAKE(c->wake), on_poll_closed);
    }
    sandbox_host_unref(TAKE(c->host));
}

struct replaced_post {
    struct loop_post post;
    struct exec_loop *el;
    struct sandbox_host *fresh;
};

/* What the dead sandbox had finished counts. Runs whose message it never took out of the ring did not start and go back to
 * the queue, once; the rest end here: none is run twice. */
static void on_replaced(struct loop_post *post)
{
    struct replaced_post *p = CONTAINER_OF(post, struct replaced_post, post);
    struct exec_loop *el = p->el;
    struct exec_channel *c = &el->channels[p->fresh->index];
    if (el->detached) {
        sandbox_host_unref(p->fresh);
        free(p);
        return;
    }
    while (drain_channel(c) && ring_has_more(&c->from))
        ;
    uint64_t taken = atomic_load(&c->area->channel_controls[el->loop->index].to_sandbox.read);
    struct list lost;
    list_init(&lost);
    for (struct list *link; (link = list_pop_front(&c->runs));) {
        struct exec_run *r = LIST_ENTRY(link, struct exec_run, link);
        list_remove(&r->pending_link);
        if (r->ring_end > taken && r->tries++ == 0 && !r->cancel_wanted)
            put_back(r);
        else
            list_push_back(&lost, link);
    }
    channel_close(c);
    channel_open(c, p->fresh);
    while (!list_is_empty(&lost))
        finish_without_report(LIST_ENTRY(lost.next, struct exec_run, link), CAUSE_SANDBOX_CRASHED,
                              "the sandbox process died while this was running in it");
    free(p);
    pump_queue(el);
}

static void tell_replaced(void *ctx, struct sandbox_host *old, struct sandbox_host *fresh)
{
    struct executor *e = ctx;
    (void)old;
    for (uint32_t i = 0; i < e->loop_count; i++) {
        struct replaced_post *p = xcalloc(1, sizeof *p);
        p->el = e->loops[i];
        p->fresh = fresh;
        loop_post(e->loops[i]->loop, &p->post, on_replaced);
    }
}

static uint32_t tell_load(void *ctx, uint32_t index)
{
    struct executor *e = ctx;
    return atomic_load(&e->loads[index]);
}

/* --- inline isolation --------------------------------------------------------------------------- */
static int inline_take_fd(void *ctx, uint32_t channel)
{
    struct exec_loop *el = ctx;
    (void)channel;
    WW_ASSERT(el->inline_fd_count);
    int fd = el->inline_fds[el->inline_fd_first];
    el->inline_fd_first = (el->inline_fd_first + 1) % LENGTH_OF(el->inline_fds);
    el->inline_fd_count--;
    return fd;
}

static void inline_notify(void *ctx, uint32_t channel)
{
    (void)ctx, (void)channel; /* the same thread drains right after */
}

static enum err attach_inline(struct exec_loop *el, struct err_info *reterr)
{
    static const struct sandbox_channel_ops ops = {.take_fd = inline_take_fd, .notify = inline_notify};
    struct executor *e = el->executor;
    struct exec_channel *c = &el->channels[el->channel_count - 1];
    enum err err = area_create(&el->inline_area, 1, reterr);
    if (err)
        return err;
    struct ring_reader from = area_to_sandbox_reader(&el->inline_area, 0);
    struct ring_writer to = area_from_sandbox_writer(&el->inline_area, 0);
    struct sandbox_loop_config config = e->config.sandbox;
    config.shared_engine = e->inline_engine;
    config.pool_max_bytes /= e->loop_count;
    c->area = &el->inline_area;
    c->to = area_to_sandbox_writer(&el->inline_area, 0);
    c->from = area_from_sandbox_reader(&el->inline_area, 0);
    uv_timer_init(&el->loop->uv, &el->inline_wake);
    uv_unref((uv_handle_t *)&el->inline_wake);
    return sandbox_loop_new(&config, 1, &from, &to, &ops, el, &el->inline_loop, reterr);
}

/* --- life ------------------------------------------------------------------------------------- */
enum err executor_new(const struct exec_config *config, struct loop *const *loops, uint32_t loop_count,
                      struct executor **ret_executor, struct err_info *reterr)
{
    static const struct supervisor_ops ops = {.replaced = tell_replaced, .load = tell_load};
    struct executor *e = xcalloc(1, sizeof *e);
    e->config = *config;
    e->loop_count = loop_count;
    e->loops = xcalloc(loop_count, sizeof *e->loops);
    e->loads = xcalloc(2 * config->sandboxes + 1, sizeof *e->loads);
    *ret_executor = e;
    if (config->isolation == EXEC_INLINE) {
        struct engine_config engine = config->sandbox.engine;
        enum err err = engine_new(&engine, &e->inline_engine, reterr);
        if (err)
            return err;
    }
    return supervisor_new(loops[0], config, loop_count, &ops, e, &e->supervisor, reterr);
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
            channel_open(c, supervisor_host(e->supervisor, i));
        else if (attach_inline(el, &err))
            WW_ASSERT(!"the inline sandbox did not start");
    }
    uv_prepare_init(&loop->uv, &el->prepare);
    uv_prepare_start(&el->prepare, on_prepare);
    uv_check_init(&loop->uv, &el->check);
    uv_check_start(&el->check, on_check);
    uv_idle_init(&loop->uv, &el->no_block);
    uv_timer_init(&loop->uv, &el->sweep);
    uv_timer_start(&el->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    uv_unref((uv_handle_t *)&el->prepare);
    uv_unref((uv_handle_t *)&el->check);
    uv_unref((uv_handle_t *)&el->sweep);
    e->loops[loop->index] = el;
    return el;
}

void executor_detach(struct exec_loop *el)
{
    el->detached = true;
    for (uint32_t slot = 0; slot < el->slot_count; slot++)
        if (el->slots[slot])
            finish_without_report(el->slots[slot], CAUSE_CANCELLED, "the server shut down");
    for (uint32_t i = 0; i < el->channel_count; i++)
        channel_close(&el->channels[i]);
    uv_close((uv_handle_t *)&el->prepare, NULL);
    uv_close((uv_handle_t *)&el->check, NULL);
    uv_close((uv_handle_t *)&el->no_block, NULL);
    uv_close((uv_handle_t *)&el->sweep, NULL);
    if (el->inline_loop) {
        uv_close((uv_handle_t *)&el->inline_wake, NULL);
        sandbox_loop_free(TAKE(el->inline_loop));
        area_done(&el->inline_area);
    }
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
    free(e->loads);
    free(e->loops);
    free(e);
}

struct exec_stats executor_stats(const struct executor *e)
{
    struct exec_stats s = {.started = atomic_load(&e->started), .running = atomic_load(&e->running),
                           .queued = atomic_load(&e->queued)};
    supervisor_stats(e->supervisor, &s.spawned, &s.crashes, &s.sandboxes_ready);
    if (e->inline_engine)
        s.sandboxes_ready += e->loop_count;
    return s;
}
