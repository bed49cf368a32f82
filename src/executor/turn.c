#include "executor/internal.h"

#include <unistd.h>

#include "base/clock.h"

enum { SWEEP_MS = 250 };
/* A run this far past its time means a stuck or lying sandbox. */
#define OVERDUE_GRACE_NS (5 * NS_PER_S)

void exec_loop_do_nothing(uv_idle_t *idle)
{
    (void)idle;
}

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
        uv_timer_start(&el->inline_wake, on_inline_wake, wake_ns > now ? (wake_ns - now) / NS_PER_MS + 1 : 0,
                       0);
    }
    return turn == SANDBOX_BUSY;
}

/* Before the loop sleeps: takes what has come, says that it sleeps, and looks once more. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct exec_loop *el = CONTAINER_OF(prepare, struct exec_loop, prepare);
    bool busy = el->inline_loop && turn_inline(el);
    busy |= exec_loop_drain(el);
    if (!busy && el->running) {
        set_sleeps(el, 1);
        for (uint32_t i = 0; i < el->channel_count; i++)
            busy |= !el->channels[i].broken && ring_has_more(&el->channels[i].from);
    }
    if (el->inline_loop)
        busy |= sandbox_loop_has_messages(el->inline_loop);
    if (busy)
        uv_idle_start(&el->no_block, exec_loop_do_nothing);
    else
        uv_idle_stop(&el->no_block);
}

static void on_check(uv_check_t *check)
{
    struct exec_loop *el = CONTAINER_OF(check, struct exec_loop, check);
    if (el->running)
        set_sleeps(el, 0);
    exec_loop_drain(el);
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
    /* The oldest is first. From the front each time: telling one that it is over may start another. */
    while (!list_is_empty(&el->queue)) {
        struct exec_run *r = LIST_ENTRY(el->queue.next, struct exec_run, link);
        if (now < r->queued_ns + el->executor->config.queue_timeout_ns)
            break; /* as it must for one that came after `now` was read */
        exec_run_finish_without_report(r, CAUSE_CANCELLED,
                                       "no sandbox had room for it in time; it was not started");
    }
    for (uint32_t i = 0; i < el->channel_count; i++)
        LIST_EACH(link, &el->channels[i].runs)
        {
            struct exec_run *r = LIST_ENTRY(link, struct exec_run, link);
            if (el->channels[i].host && now > r->sent_ns + r->spec.limits.timeout_ns + OVERDUE_GRACE_NS) {
                supervisor_kill(el->channels[i].host, "a run in it is far past its deadline");
                break;
            }
        }
}

void exec_loop_start_turns(struct exec_loop *el)
{
    struct loop *loop = el->loop;
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
}

void exec_loop_stop_turns(struct exec_loop *el)
{
    uv_close((uv_handle_t *)&el->prepare, NULL);
    uv_close((uv_handle_t *)&el->check, NULL);
    uv_close((uv_handle_t *)&el->no_block, NULL);
    uv_close((uv_handle_t *)&el->sweep, NULL);
    if (el->inline_loop) {
        uv_close((uv_handle_t *)&el->inline_wake, NULL);
        sandbox_loop_free(TAKE(el->inline_loop));
        area_done(&el->inline_area);
        for (; el->inline_fd_count; el->inline_fd_count--, el->inline_fd_first++)
            close(el->inline_fds[el->inline_fd_first % LENGTH_OF(el->inline_fds)]);
    }
}

/* --- hosts come and go -------------------------------------------------------------------------- */
void exec_channel_open(struct exec_channel *c, struct sandbox_host *host)
{
    uint32_t i = c->el->loop->index;
    c->host = host;
    c->area = &host->area;
    c->to = area_to_sandbox_writer(c->area, i);
    c->from = area_from_sandbox_reader(c->area, i);
    exec_channel_forget_loaded(c);
    c->broken = false;
    c->load_text[0] = 0;
    c->wake = xcalloc(1, sizeof *c->wake);
    WW_ASSERT(uv_poll_init(&c->el->loop->uv, c->wake, host->event_fds[i]) == 0);
    c->wake->data = c;
    uv_poll_start(c->wake, UV_READABLE, on_wake);
    uv_unref((uv_handle_t *)c->wake);
}

void exec_channel_close(struct exec_channel *c)
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

/* What the dead sandbox had finished counts. Runs whose message it never took out of the ring did not start and go
 * back to the queue, once; the rest end here: none is run twice. */
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
    while (exec_channel_drain(c) && ring_has_more(&c->from))
        ;
    uint64_t taken = atomic_load(&c->area->channel_controls[el->loop->index].to_sandbox.read);
    struct list lost;
    list_init(&lost);
    while (!list_is_empty(&c->runs)) { /* from the last: each goes to the head of the queue */
        struct exec_run *r = LIST_ENTRY(c->runs.prev, struct exec_run, link);
        list_remove(&r->link);
        list_remove(&r->pending_link);
        if (r->ring_end > taken && r->tries++ == 0 && !r->more_sent && !r->cancel_wanted)
            exec_run_put_back(r);
        else
            list_push_front(&lost, &r->link);
    }
    exec_channel_close(c);
    exec_channel_open(c, p->fresh);
    while (!list_is_empty(&lost))
        exec_run_finish_without_report(LIST_ENTRY(lost.next, struct exec_run, link), CAUSE_SANDBOX_CRASHED,
                                       "the sandbox process died while this was running in it");
    free(p);
    exec_loop_pump(el);
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
    return exec_pool_runs(&e->pools[index]);
}

const struct supervisor_ops exec_supervisor_ops = {.replaced = tell_replaced, .load = tell_load};

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

enum err exec_loop_attach_inline(struct exec_loop *el, struct err_info *reterr)
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
