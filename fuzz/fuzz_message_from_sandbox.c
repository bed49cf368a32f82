/* The front against a sandbox that was taken over: the input writes what it likes into the ring, with positions as it
 * likes, while the front's own side starts, feeds, credits and cancels runs, and while sandboxes are replaced. There is
 * no process here, only the memory of one. Whatever comes: each run is told of its end exactly once, no run gets
 * more output than its limit, credit is for what was sent, and at the end all counters are back.
 *
 * Format: operations of a byte each, with their arguments behind them. What is missing reads as 0. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "executor/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPERATIONS_MAX = 300, CALLS_MAX = 24, AT_ONCE = 4 };

/* A run, from the side of those who want it. */
struct call {
    struct exec_run *run; /* NULL once it has ended */
    uint64_t out[2], limits[2], fed, room;
    bool eof;
};

static struct loop loop;
static struct executor *executor;
static struct exec_loop *el;
static struct call calls[CALLS_MAX];
static unsigned call_count;
static const uint8_t *next, *end;
static int code_fd;

static uint8_t take_u8(void)
{
    return next < end ? *next++ : 0;
}

static uint64_t take_number(uint64_t near)
{
    uint8_t how = take_u8();
    if (how < 100)
        return near + how % 4;
    if (how < 180)
        return how % 20 * 8U;
    uint64_t n = 0;
    for (int i = 0; i < how % 9; i++)
        n = n << 8 | take_u8();
    return how & 1 ? n : UINT64_MAX - n;
}

/* --- those who want runs ------------------------------------------------------------------------ */
static void start_run(void);

/* What somebody does who is told of something: mostly nothing. */
static void act(struct call *call)
{
    static char bytes[STDIN_WINDOW_BYTES];
    switch (take_u8()) {
    case 1:
        if (call->run)
            exec_run_cancel(call->run);
        break;
    case 2: start_run(); break;
    case 3:
        if (call->run && !call->eof && call->room) {
            uint64_t wanted = take_u8() * UINT64_C(600), len = MIN(call->room, wanted);
            call->room -= len;
            call->fed += len;
            call->eof = take_u8() & 1;
            exec_run_stdin(call->run, str_make(bytes, len), call->eof);
        }
        break;
    case 4:
        if (call->run)
            exec_run_hold_output(call->run);
        break;
    case 5:
        if (call->run)
            exec_run_credit_output(call->run, take_number(100));
        break;
    default: break;
    }
}

static void on_output(void *ctx, int fd, struct str bytes)
{
    struct call *call = ctx;
    WW_ASSERT(call->run && bytes.len && (fd == 1 || fd == 2));
    call->out[fd == 2] += bytes.len;
    WW_ASSERT(call->out[fd == 2] <= call->limits[fd == 2]);
    for (size_t i = 0; i < bytes.len; i += 500)
        WW_ASSERT(bytes.p[i] + 1 != 1000); /* it can be read */
    if (call->run->state == EXEC_SENT)
        act(call);
}

static void on_stdin_room(void *ctx, size_t bytes)
{
    struct call *call = ctx;
    WW_ASSERT(call->run && bytes && bytes <= STDIN_WINDOW_BYTES && !call->eof);
    call->room = bytes;
    act(call);
}

static void on_done(void *ctx, const struct exec_outcome *outcome)
{
    struct call *call = ctx;
    const struct run_report *r = outcome->report;
    WW_ASSERT(call->run && r->cause < CAUSE_COUNT && memchr(r->text, 0, sizeof r->text));
    WW_ASSERT(r->frame_count <= MESSAGE_FRAMES_MAX && (outcome->frames || !r->frame_count));
    for (uint32_t i = 0; i < r->frame_count; i++)
        WW_ASSERT(outcome->frames[i].name_bytes <= MESSAGE_NAME_MAX);
    call->run = NULL;
    act(call);
}

static void start_run(void)
{
    static const struct exec_ops streamed = {
        .output = on_output, .stdin_room = on_stdin_room, .done = on_done};
    static const struct exec_ops complete = {.output = on_output, .done = on_done};
    static char input[200000];
    if (call_count == CALLS_MAX)
        return;
    struct call *call = &calls[call_count];
    struct exec_spec spec = {
        .code = {.id = 1 + take_u8() % 3, .fd = code_fd, .memories = 1, .fuel = take_u8() == 1},
        .args = STR_LIT("prog"),
        .args_count = 1,
        .limits = {.timeout_ns = NS_PER_S,
                   .stdout_bytes = take_number(1000),
                   .stderr_bytes = take_number(1000)},
        .input = str_make(input, take_u8() < 200 ? take_u8() : sizeof input),
        .input_complete = take_u8() & 1,
    };
    *call = (struct call){.limits = {spec.limits.stdout_bytes, spec.limits.stderr_bytes},
                          .eof = spec.input_complete};
    call->room = spec.input.len < STDIN_WINDOW_BYTES ? STDIN_WINDOW_BYTES - spec.input.len : 0;
    call_count++;
    if (exec_start(el, &spec, spec.input_complete ? &complete : &streamed, call, &call->run, NULL))
        call_count--;
}

/* --- the sandbox -------------------------------------------------------------------------------- */
/* Writes at the place where the front looks next, and moves the position behind it. */
static void publish(struct exec_channel *c, const void *bytes, size_t len)
{
    struct ring_control *control = &c->area->channel_controls[0].from_sandbox;
    uint64_t at = atomic_load(&control->written);
    uint8_t *ring = c->area->rings[1];
    uint32_t frame = (uint32_t)len;
    for (size_t i = 0; i < sizeof frame; i++)
        ring[(at + i) % AREA_RING_BYTES] = (uint8_t)(frame >> (8 * i));
    for (size_t i = 0; i < len; i++)
        ring[(at + 8 + i) % AREA_RING_BYTES] = ((const uint8_t *)bytes)[i];
    atomic_store(&control->written, at + 8 + ((len + 7) & ~(size_t)7));
}

static uint64_t take_id(void)
{
    uint8_t n = take_u8();
    struct call *call = n < 250 && call_count ? &calls[n % call_count] : NULL;
    return call && call->run ? call->run->id : take_number(0);
}

static void say(struct exec_channel *c)
{
    static union {
        union message_any m;
        char bytes[sizeof(union message_any) + 2 * MESSAGE_DATA_MAX];
    } u;
    size_t len, data = take_u8() < 200 ? take_u8() : take_u8() * 300U;
    u.m = (union message_any){.head = {.id = take_id()}};
    switch (take_u8() % 6) {
    case 0:
        u.m.head.type = MESSAGE_OUTPUT;
        u.m.output.fd = 1 + take_u8() % 2;
        len = sizeof u.m.output;
        break;
    case 1:
        u.m.head.type = MESSAGE_DONE;
        u.m.done.report.cause = take_u8() % (CAUSE_COUNT + 1);
        u.m.done.report.frame_count = take_u8() % (MESSAGE_FRAMES_MAX + 2);
        u.m.done.report.stdout_bytes = take_number(0);
        u.m.done.report.trap_code = (int32_t)take_number(0);
        u.m.done.frames_bytes = u.m.done.report.frame_count * (uint32_t)sizeof(struct trap_frame);
        u.m.done.stdout_bytes = (uint32_t)data / 2;
        u.m.done.stderr_bytes = (uint32_t)(data - data / 2);
        data += u.m.done.frames_bytes;
        len = sizeof u.m.done;
        memset(u.bytes + len, take_u8() == 1 ? 0xff : 0, data);
        break;
    case 2:
        u.m.head.type = MESSAGE_STDIN_CREDIT;
        u.m.credit.bytes = take_number(70000);
        len = sizeof u.m.credit;
        data = 0;
        break;
    case 3:
        u.m.head.type = MESSAGE_ABSENT;
        len = sizeof u.m.head;
        data = 0;
        break;
    case 4:
        u.m.head.type = MESSAGE_LOADED;
        u.m.loaded.ok = take_u8() & 1;
        len = sizeof u.m.loaded;
        break;
    default:
        len = take_u8() * 3U;
        for (size_t i = 0; i < len; i++)
            u.bytes[i] = (char)take_u8();
        publish(c, u.bytes, len);
        return;
    }
    u.m.head.data_bytes = (uint32_t)data;
    if (take_u8() == 1)
        u.bytes[take_u8() % (len + data)] ^= (char)take_u8();
    publish(c, u.bytes, len + data);
}

/* A new sandbox, as the supervisor makes one; its process is left out. */
static struct sandbox_host *new_host(uint32_t index)
{
    struct sandbox_host *h = xcalloc(1, sizeof *h);
    h->index = index;
    h->channels = 1;
    h->event_fds = xcalloc(1, sizeof(int));
    h->sockets = xcalloc(1, sizeof(int));
    h->event_fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->sockets[0] = -1;
    WW_ASSERT(h->event_fds[0] >= 0 && area_create(&h->area, 1, NULL) == OK);
    atomic_store(&h->refs, 1);
    return h;
}

/* There is no socket for LOAD: all modules count as there. */
static void mark_loaded(void)
{
    for (uint32_t i = 0; i < el->channel_count; i++)
        for (uint64_t id = 1; id <= 3; id++)
            if (!exec_channel_is_loaded(&el->channels[i], id))
                el->channels[i].loaded[id * UINT64_C(0x9e3779b97f4a7c15) >> 51] = id;
}

static void replace(uint32_t index)
{
    exec_supervisor_ops.replaced(executor, NULL, new_host(index));
    uv_run(&loop.uv, UV_RUN_NOWAIT);
    mark_loaded();
}

static void prepare(void)
{
    static const struct exec_config config = {
        .isolation = EXEC_INLINE, /* the supervisor starts nothing */
        .sandboxes = 1,
        .concurrent_max = AT_ONCE,
        .queue_max = 8,
        .queue_timeout_ns = 3600 * NS_PER_S,
        .sandbox = {.engine = {.slots = AT_ONCE - 1}}, /* so the pool is full at times */
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    loop_init(&loop, 0);
    executor = xcalloc(1, sizeof *executor);
    executor->config = config;
    executor->loop_count = 1;
    executor->loops = xcalloc(1, sizeof *executor->loops);
    executor->pool_size = exec_pool_size(&config.sandbox.engine);
    executor->pools = xcalloc(3, sizeof *executor->pools);
    WW_ASSERT(
        supervisor_new(&loop, &config, 1, &exec_supervisor_ops, executor, &executor->supervisor, NULL) == OK);
    supervisor_stop(executor->supervisor); /* and never will */
    el = executor_attach(executor, &loop);
    code_fd = STDIN_FILENO;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!executor)
        prepare();
    next = data;
    end = data + size;
    call_count = 0;
    mark_loaded();
    for (int i = 0; i < OPERATIONS_MAX && next < end; i++) {
        uint8_t operation = take_u8();
        struct exec_channel *c = &el->channels[operation >> 7];
        struct ring_control *to = &c->area->channel_controls[0].to_sandbox;
        switch (operation % 16) {
        case 0:
        case 1:
        case 2: start_run(); break;
        case 3: atomic_store(&to->read, atomic_load(&to->written)); break; /* it takes all */
        case 4: atomic_store(&to->read, take_number(atomic_load(&to->written))); break;
        case 5:
            atomic_store(&c->area->channel_controls[0].from_sandbox.written, take_number(c->from.at));
            break;
        case 6: replace(c->index); break;
        case 7:
            if (call_count)
                act(&calls[take_u8() % call_count]);
            break;
        case 8:
        case 9: exec_loop_drain(el); break;
        default: say(c); break;
        }
        mark_loaded();
    }
    exec_loop_drain(el);
    WW_ASSERT(el->running <= AT_ONCE);
    /* No more input: nobody starts anything from here on. */
    for (unsigned i = 0; i < call_count; i++)
        while (calls[i].run)
            exec_run_finish_without_report(calls[i].run, CAUSE_CANCELLED, "the input is at its end");
    WW_ASSERT(el->running == 0 && el->queued == 0 && list_is_empty(&el->queue));
    WW_ASSERT(atomic_load(&executor->running) == 0 && atomic_load(&executor->queued) == 0);
    for (uint32_t i = 0; i < el->channel_count; i++) {
        struct exec_channel *c = &el->channels[i];
        WW_ASSERT(c->run_count == 0 && list_is_empty(&c->runs) && list_is_empty(&c->pending));
        WW_ASSERT(atomic_load(&executor->pools[i].used) == 0);
        replace(i);
    }
    return 0;
}
