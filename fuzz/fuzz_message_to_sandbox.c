/* A sandbox's loop against a front that lies or is mad: messages in any order, for runs and modules that exist or not,
 * with numbers that fit or not, and bytes that are no message at all. The guests are real and small: one echoes, one
 * floods, one never ends, one ends at once. What comes back must be well formed, at most one end a run, never more than
 * the window, never more than the limits. Nonsense must end the loop; nothing may be left of what was under way.
 *
 * Format: operations of a byte each, with their arguments behind them. What is missing reads as 0. */
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/area.h"
#include "sandbox/loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* The engine needs the signals of traps and stacks of its own. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:use_sigaltstack=0:"
           "detect_stack_use_after_return=0";
}

enum { CHANNELS = 2, GUESTS = 4, SLOTS = 6, PLACES = 16, OPERATIONS_MAX = 120, TURNS_MAX = 40 };

#define IMPORTS                                                                                       \
    "(import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))" \
    "(import \"wasi_snapshot_preview1\" \"fd_read\" (func $r (param i32 i32 i32 i32) (result i32)))"  \
    "(import \"wasi_snapshot_preview1\" \"args_get\" (func $a (param i32 i32) (result i32)))"         \
    "(import \"wasi_snapshot_preview1\" \"environ_get\" (func $e (param i32 i32) (result i32)))"      \
    "(memory (export \"memory\") 2) (data (i32.const 0) \"\\00\\01\\00\\00\\00\\10\\00\\00\")"

static const char *const guests[GUESTS] = {
    /* echo, after a look at its arguments */
    "(module " IMPORTS "(func (export \"_start\")"
    " (drop (call $a (i32.const 8192) (i32.const 16384))) (drop (call $e (i32.const 8192) (i32.const 16384)))"
    " (loop $m (i32.store (i32.const 4) (i32.const 4096))"
    "  (drop (call $r (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"
    "  (if (i32.load (i32.const 8)) (then (i32.store (i32.const 4) (i32.load (i32.const 8)))"
    "   (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))) (br $m))))))",
    /* flood, of both streams */
    "(module " IMPORTS "(func (export \"_start\") (loop $m"
    " (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))"
    " (drop (call $w (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 12))) (br $m))))",
    /* for ever */
    "(module " IMPORTS "(func (export \"_start\") (loop $m (br $m))))",
    /* functions to call by name, and a trap */
    "(module (memory 1 3) (func (export \"_start\") unreachable)"
    " (func (export \"f\") (param i32 i64 f32 f64) (result i64 f64) (local.get 1) (local.get 3))"
    " (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))",
};

static struct engine *engine;
static int codes[GUESTS];
static struct area area;

static void prepare(void)
{
    struct engine_config config = {.memory_max_bytes = MIB},
                         with_pool = {.pool = true, .slots = SLOTS, .memory_max_bytes = MIB};
    struct engine *compiler;
    WW_ASSERT(engine_new(&config, &compiler, NULL) == OK);
    for (int i = 0; i < GUESTS; i++) {
        wasm_byte_vec_t wasm, code;
        WW_ASSERT(engine_wat_to_wasm(str_of(guests[i]), &wasm, NULL) == OK);
        WW_ASSERT(engine_compile(compiler, str_make(wasm.data, wasm.size), &code, NULL) == OK);
        codes[i] = memfd_create("code", MFD_CLOEXEC);
        WW_ASSERT(write(codes[i], code.data, code.size) == (ssize_t)code.size);
        wasm_byte_vec_delete(&wasm);
        wasm_byte_vec_delete(&code);
    }
    engine_free(compiler);
    WW_ASSERT(engine_new(&with_pool, &engine, NULL) == OK && area_create(&area, CHANNELS, NULL) == OK);
}

/* What the front believes of one run. */
struct place {
    bool taken;
    bool generous; /* it got credit for what was not read yet: its window is any size */
    uint64_t id;
    uint64_t out[2], uncredited, limits[2];
    uint64_t in_flight; /* stdin that was sent and not credited */
};

struct life {
    const uint8_t *p, *end;
    struct sandbox_loop *loop;
    struct ring_writer to[CHANNELS];
    struct ring_reader from[CHANNELS];
    struct place places[CHANNELS][PLACES];
    unsigned fds_due; /* LOADs whose descriptor was not taken yet */
    bool deaf;        /* nothing is read from the sandbox */
    bool sane;        /* nothing was sent so far that the loop may end for */
    unsigned turns;
};

static uint8_t take_u8(struct life *l)
{
    return l->p < l->end ? *l->p++ : 0;
}

static uint64_t take_number(struct life *l)
{
    static const uint64_t good[] = {0, 1, 100, 4096, 65536, 100000, MIB, 64 * MIB};
    uint8_t how = take_u8(l);
    if (how < 200)
        return good[how % LENGTH_OF(good)];
    uint64_t n = 0;
    for (int i = 0; i < (how - 200) % 9; i++)
        n = n << 8 | take_u8(l);
    return how & 1 ? n : UINT64_MAX - n;
}

static int take_fd(void *ctx, uint32_t channel)
{
    struct life *l = ctx;
    WW_ASSERT(channel < CHANNELS);
    if (!l->fds_due) {
        l->sane = false;
        return -1;
    }
    l->fds_due--;
    uint8_t which = take_u8(l);
    return which < 240 ? dup(codes[which % GUESTS]) : memfd_create("nothing", MFD_CLOEXEC);
}

static void notify(void *ctx, uint32_t channel)
{
    (void)ctx;
    WW_ASSERT(channel < CHANNELS);
}

/* --- what comes back ---------------------------------------------------------------------------- */
static void count_output(struct place *p, unsigned which, uint64_t len)
{
    p->out[which] += len;
    WW_ASSERT(p->out[which] <= p->limits[which]);
}

static void take_message(const struct life *l, struct place *places, const void *payload, size_t len)
{
    union message_any m;
    struct str data;
    WW_ASSERT(message_check_from_sandbox(payload, len, &m, &data));
    if (m.head.type == MESSAGE_LOADED || !l->sane) /* who knows what it made of nonsense */
        return;
    struct place *p = &places[m.head.id % PLACES];
    WW_ASSERT(p->taken && p->id == m.head.id); /* a run that was asked for and has not ended */
    switch (m.head.type) {
    case MESSAGE_OUTPUT:
        count_output(p, m.output.fd == 2, data.len);
        p->uncredited += data.len;
        WW_ASSERT(p->generous || p->uncredited <= OUTPUT_WINDOW_BYTES);
        break;
    case MESSAGE_STDIN_CREDIT:
        WW_ASSERT(m.credit.bytes && m.credit.bytes <= p->in_flight);
        p->in_flight -= m.credit.bytes;
        break;
    case MESSAGE_ABSENT: p->taken = false; break;
    default:
        count_output(p, 0, m.done.stdout_bytes);
        count_output(p, 1, m.done.stderr_bytes);
        WW_ASSERT(m.done.report.stdout_bytes == p->out[0] && m.done.report.stderr_bytes == p->out[1]);
        p->taken = false;
    }
}

static void listen(struct life *l)
{
    const void *payload;
    size_t len;
    for (uint32_t i = 0; i < CHANNELS; i++)
        for (enum ring_state state; (state = ring_peek(&l->from[i], &payload, &len)) != RING_EMPTY;) {
            WW_ASSERT(state == RING_MESSAGE);
            take_message(l, l->places[i], payload, len);
            ring_pop(&l->from[i]);
        }
}

/* --- what is said ------------------------------------------------------------------------------- */
static void send(struct life *l, uint32_t channel, const void *head, size_t head_len, const void *data,
                 size_t data_len)
{
    char *to = ring_reserve(&l->to[channel], head_len + data_len);
    if (!to)
        return;
    memcpy(to, head, head_len);
    if (data_len)
        memcpy(to + head_len, data, data_len);
    if (take_u8(l) == 255 && head_len + data_len) { /* one byte of it is another */
        to[take_u8(l) % (head_len + data_len)] = (char)take_u8(l);
        l->sane = false;
    }
    ring_publish(&l->to[channel], head_len + data_len);
}

static uint64_t take_id(struct life *l, uint32_t channel, bool fresh)
{
    uint8_t n = take_u8(l);
    struct place *p = &l->places[channel][n % PLACES];
    if (fresh)
        return p->taken ? p->id : (p->id & ~(uint64_t)(PLACES - 1)) + (UINT64_C(1) << 32) + n % PLACES;
    return n < 250 ? p->id : take_number(l);
}

static void send_run(struct life *l, uint32_t channel)
{
    static const char *const entries[] = {"", "_start", "f", "grow", "memory", "nowhere"};
    static const char strings[] = "prog\0"
                                  "1\0"
                                  "-2\0"
                                  "3.5\0"
                                  "4e9\0"
                                  "K=V\0"
                                  "L=W\0";
    static char input[MESSAGE_DATA_MAX];
    uint64_t id = take_id(l, channel, true);
    struct place *p = &l->places[channel][id % PLACES];
    const char *entry = entries[take_u8(l) % LENGTH_OF(entries)];
    uint32_t args_count = take_u8(l) % 6, env_count = take_u8(l) % 3;
    struct message_run m = {
        .head = {MESSAGE_RUN, 0, id},
        .module_id = take_u8(l) % (GUESTS + 2),
        .seed = take_u8(l),
        .limits = {.deadline_ns = take_u8(l) < 240 ? 0 : take_number(l),
                   .timeout_ns = take_u8(l) * NS_PER_MS / 64,
                   .memory_bytes = take_number(l),
                   .table_elements = take_number(l),
                   .stdout_bytes = take_number(l),
                   .stderr_bytes = take_number(l)},
        .entry_bytes = (uint32_t)strlen(entry),
        .args_count = args_count,
        .env_count = env_count,
        .stdin_eof = take_u8(l) & 1,
    };
    const char *end = strings;
    for (uint32_t i = 0; i < args_count; i++)
        end += strlen(end) + 1;
    m.args_bytes = (uint32_t)(end - strings);
    for (uint32_t i = 0; i < env_count; i++)
        end += strlen(end) + 1;
    m.env_bytes = (uint32_t)(end - strings) - m.args_bytes;
    m.stdin_bytes = take_u8(l) < 128 ? take_u8(l) : MESSAGE_DATA_MAX - 256;
    m.head.data_bytes = m.entry_bytes + m.args_bytes + m.env_bytes + m.stdin_bytes;
    memcpy(input, entry, m.entry_bytes);
    memcpy(input + m.entry_bytes, strings, m.args_bytes + m.env_bytes);
    if (p->taken) /* a second run of that place */
        l->sane = false;
    else
        *p = (struct place){.taken = true,
                            .id = id,
                            .limits = {m.limits.stdout_bytes, m.limits.stderr_bytes},
                            .in_flight = m.stdin_bytes};
    bool was_sane = l->sane;
    uint64_t written = l->to[channel].at;
    send(l, channel, &m, sizeof m, input, m.head.data_bytes);
    if (l->to[channel].at == written && was_sane)
        p->taken = false; /* no room: it was not sent */
}

static void send_other(struct life *l, uint32_t channel, uint8_t kind)
{
    static char bytes[MESSAGE_DATA_MAX];
    struct message_stdin in = {.head = {MESSAGE_STDIN, 0, 0}};
    struct message_credit credit = {.head = {MESSAGE_CREDIT, 0, 0}};
    struct message_load load = {.head = {MESSAGE_LOAD, 0, 0}};
    switch (kind) {
    case 0:
        in.head.id = take_id(l, channel, false);
        in.head.data_bytes = take_u8(l) < 128 ? take_u8(l) : MESSAGE_DATA_MAX;
        in.eof = take_u8(l) & 1;
        struct place *reader = &l->places[channel][in.head.id % PLACES];
        reader->in_flight += in.head.data_bytes;
        if (reader->in_flight > STDIN_WINDOW_BYTES)
            l->sane = false;
        send(l, channel, &in, sizeof in, bytes, in.head.data_bytes);
        break;
    case 1:
        credit.head.id = take_id(l, channel, false);
        struct place *p = &l->places[channel][credit.head.id % PLACES];
        credit.bytes = take_u8(l) < 200 ? p->uncredited : take_number(l);
        if (p->id == credit.head.id) {
            p->generous |= credit.bytes > p->uncredited;
            p->uncredited -= MIN(p->uncredited, credit.bytes);
        }
        send(l, channel, &credit, sizeof credit, NULL, 0);
        break;
    case 2:
        credit.head = (struct message){MESSAGE_CANCEL, 0, take_id(l, channel, false)};
        send(l, channel, &credit.head, sizeof credit.head, NULL, 0);
        break;
    case 3:
        load.head.id = take_u8(l) % (GUESTS + 2);
        load.memories = take_u8(l) % 6;
        load.tables = take_u8(l) % 10;
        l->fds_due += take_u8(l) < 250;
        send(l, channel, &load, sizeof load, NULL, 0);
        break;
    default:
        for (size_t i = 0, len = take_u8(l); i < len; i++)
            bytes[i] = (char)take_u8(l);
        l->sane = false;
        send(l, channel, bytes, take_u8(l), NULL, 0);
    }
}

/* False: the loop has ended. */
static bool turn(struct life *l)
{
    uint64_t wake_ns;
    enum sandbox_turn t = sandbox_loop_turn(l->loop, &wake_ns);
    l->turns++;
    if (t == SANDBOX_BROKEN) {
        WW_ASSERT(!l->sane);
        return false;
    }
    if (!l->deaf)
        listen(l);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sandbox_channel_ops ops = {.take_fd = take_fd, .notify = notify};
    static struct life l;
    if (!engine)
        prepare();
    l = (struct life){.p = data, .end = data + size, .sane = true};
    memset(area.channel_controls, 0, CHANNELS * sizeof *area.channel_controls);
    struct ring_reader from[CHANNELS];
    struct ring_writer to[CHANNELS];
    for (uint32_t i = 0; i < CHANNELS; i++) {
        from[i] = area_to_sandbox_reader(&area, i);
        to[i] = area_from_sandbox_writer(&area, i);
        l.to[i] = area_to_sandbox_writer(&area, i);
        l.from[i] = area_from_sandbox_reader(&area, i);
    }
    struct sandbox_loop_config config = {
        .engine = engine->config, .shared_engine = engine, .pool_max_bytes = 2 * MIB, .modules_max = 3};
    WW_ASSERT(sandbox_loop_new(&config, CHANNELS, from, to, &ops, &l, &l.loop, NULL) == OK);
    bool alive = true;
    for (int i = 0; i < OPERATIONS_MAX && l.p < l.end && alive && l.turns < TURNS_MAX; i++) {
        uint8_t operation = take_u8(&l);
        uint32_t channel = operation & 1;
        switch (operation / 2 % 8) {
        case 0:
        case 1: send_run(&l, channel); break;
        case 2: l.deaf = !l.deaf; break;
        case 3: alive = turn(&l); break;
        case 4: send_other(&l, channel, 3); break;
        default: send_other(&l, channel, take_u8(&l) % 5); break;
        }
    }
    l.deaf = false;
    for (int i = 0; i < 10 && alive && l.turns < TURNS_MAX; i++)
        alive = turn(&l);
    sandbox_loop_free(l.loop);
    return 0;
}
