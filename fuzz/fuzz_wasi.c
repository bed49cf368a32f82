/* WASI against a hostile guest: the input is a guest's life, a list of changes to its memory and of calls,
 * and what the streams answer. Memory has exactly its size on the heap, so that the sanitizer sees a step
 * outside; what the header promises is asserted after each call. Every input runs twice and must give the
 * same twice.
 *
 * Format: a byte for the size of memory, a byte for the seed, then operations of a byte each: below 46 a
 * call, followed by its arguments (see take_argument), above that a change of memory. Whatever is missing
 * at the end reads as 0. */
#include "sandbox/wasi_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPERATIONS_MAX = 400 };

struct life {
    const uint8_t *p, *end;
    struct guest_memory mem;
    struct wasi w;
    /* What the streams did in this call. */
    unsigned answers;
    size_t moved;
    enum wasi_stream_state last;
    uint64_t written_hash;
};

static const char *const signatures[WASI_FN_COUNT] = {
#define WASI(name, signature, may_wait) signature,
#include "sandbox/wasi.def"
#undef WASI
};

static const bool may_wait[WASI_FN_COUNT] = {
#define WASI(name, signature, may_wait) may_wait,
#include "sandbox/wasi.def"
#undef WASI
};

static uint8_t take_u8(struct life *life)
{
    return life->p < life->end ? *life->p++ : 0;
}

static uint64_t take_number(struct life *life, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)take_u8(life) << (8 * i);
    return v;
}

/* An argument is a byte that says how the rest is written: mostly small numbers and places near the end
 * of memory, where the mistakes would be. */
static uint64_t take_argument(struct life *life, bool is_i64)
{
    uint64_t v;
    switch (take_u8(life) % 8) {
    case 0: v = take_u8(life) % 4; break;
    case 1: v = take_u8(life); break;
    case 2: v = take_number(life, 2); break;
    case 3: v = life->mem.size - take_u8(life); break;
    case 4: v = life->mem.size + take_u8(life); break;
    case 5: v = UINT32_MAX - take_u8(life); break;
    case 6: v = take_number(life, 4); break;
    default: v = take_number(life, 8); break;
    }
    return is_i64 ? v : (uint32_t)v;
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3;
    return hash;
}

/* Whether the streams were handed a piece of guest memory. */
static void check_range(const struct life *life, const void *at, size_t len)
{
    uintptr_t base = (uintptr_t)life->mem.base;
    WW_ASSERT((uintptr_t)at >= base && len && len <= life->mem.size);
    WW_ASSERT((uintptr_t)at - base <= life->mem.size - len);
}

static enum wasi_stream_state answer(struct life *life, size_t len, bool reading, size_t *ret_len)
{
    static const enum wasi_stream_state states[] = {WASI_STREAM_WAIT, WASI_STREAM_OK, WASI_STREAM_OK};
    uint8_t how = take_u8(life) % 4;
    life->answers++;
    life->last = how < 3 ? states[how] : reading ? WASI_STREAM_OK : WASI_STREAM_LIMIT;
    if (how == 1)
        *ret_len = len;
    else if (how == 2)
        *ret_len = 1 + take_u8(life) % len;
    else if (how == 3)
        *ret_len = 0;
    return life->last;
}

static enum wasi_stream_state stream_read(void *ctx, void *to, size_t len, size_t *ret_len)
{
    struct life *life = ctx;
    check_range(life, to, len);
    size_t n = 0;
    enum wasi_stream_state state = answer(life, len, true, &n);
    if (state == WASI_STREAM_OK) {
        memset(to, take_u8(life), n);
        life->moved += n;
        *ret_len = n;
    }
    return state;
}

static enum wasi_stream_state stream_write(void *ctx, int fd, const void *from, size_t len, size_t *ret_len)
{
    struct life *life = ctx;
    WW_ASSERT(fd == 1 || fd == 2);
    check_range(life, from, len);
    size_t n = 0;
    enum wasi_stream_state state = answer(life, len, false, &n);
    if (state == WASI_STREAM_OK) {
        life->written_hash = hash_bytes(life->written_hash, from, MIN(n, 256));
        life->moved += n;
        *ret_len = n;
    }
    return state;
}

/* Operations that are no call: iovecs, subscriptions and plain bytes, at any place that takes them. */
static void change_memory(struct life *life, uint8_t operation)
{
    uint64_t at = take_number(life, 2);
    uint8_t bytes[48] = {0};
    uint8_t len;
    if (operation % 3 == 0) {
        len = 8;
        struct guest_memory iovec = {bytes, sizeof bytes};
        guest_put_u32(iovec, 0, (uint32_t)take_argument(life, false));
        guest_put_u32(iovec, 4, (uint32_t)take_argument(life, false));
    } else if (operation % 3 == 1) {
        len = 48;
        struct guest_memory subscription = {bytes, sizeof bytes};
        guest_put_u64(subscription, 0, take_u8(life));
        guest_put_u8(subscription, 8, take_u8(life) % 4);
        guest_put_u32(subscription, 16, (uint32_t)take_argument(life, false));
        guest_put_u64(subscription, 24, take_argument(life, true));
        guest_put_u16(subscription, 40, take_u8(life) % 4);
    } else {
        len = take_u8(life) % sizeof bytes;
        for (uint8_t i = 0; i < len; i++)
            bytes[i] = take_u8(life);
    }
    if (len && guest_fits(life->mem, at, len))
        memcpy(guest_at(life->mem, at, len), bytes, len);
}

enum { CALLS_AGAIN_MAX = 8 };

static void check_state(const struct wasi *w, const struct wasi *before)
{
    int seen = 0;
    for (size_t i = 0; i < LENGTH_OF(w->fds); i++) {
        WW_ASSERT(w->fds[i] >= -1 && w->fds[i] <= 2);
        WW_ASSERT(w->fds[i] < 0 || !(seen >> w->fds[i] & 1));
        if (w->fds[i] >= 0)
            seen |= 1 << w->fds[i];
    }
    WW_ASSERT(w->monotonic_ns >= before->monotonic_ns);
    WW_ASSERT(w->monotonic_ns + w->realtime_offset_ns <= INT64_MAX);
    WW_ASSERT(w->streams == before->streams && w->ctx == before->ctx && w->args == before->args);
    WW_ASSERT(w->random[0] | w->random[1] | w->random[2] | w->random[3]);
}

/* Makes a call. False: the guest's life ends with it. */
static bool call(struct life *life, enum wasi_function fn, uint8_t *snapshot)
{
    uint64_t args[WASI_ARGS_MAX] = {0};
    for (int i = 0; signatures[fn][i] != '>'; i++)
        args[i] = take_argument(life, signatures[fn][i] == 'I');
    if (life->mem.size)
        memcpy(snapshot, life->mem.base, life->mem.size);
    struct wasi before = life->w;
    life->answers = 0;
    life->moved = 0;
    uint32_t e = UINT32_MAX;

    enum wasi_outcome outcome = wasi_call(&life->w, fn, life->mem, args, &e);
    for (int again = 0; outcome == WASI_WAIT_OUTPUT && again < CALLS_AGAIN_MAX; again++) {
        WW_ASSERT(life->last == WASI_STREAM_WAIT && life->w.written == life->moved);
        outcome = wasi_call(&life->w, fn, life->mem, args, &e);
    }
    if (outcome == WASI_WAIT_OUTPUT)
        return false;

    check_state(&life->w, &before);
    WW_ASSERT(may_wait[fn] || !life->answers);
    WW_ASSERT(!life->w.written);
    bool waits = outcome == WASI_WAIT_STDIN;
    if (outcome == WASI_RETURN && !e && may_wait[fn])
        WW_ASSERT(guest_get_u32(life->mem, args[3]) == life->moved);
    if (waits)
        WW_ASSERT(may_wait[fn] && life->last == WASI_STREAM_WAIT && life->answers == 1 && !life->moved);
    if (outcome == WASI_OUTPUT_LIMIT)
        WW_ASSERT(fn == WASI_FN_fd_write && life->last == WASI_STREAM_LIMIT);
    WW_ASSERT((outcome == WASI_EXIT) == (fn == WASI_FN_proc_exit));
    WW_ASSERT(outcome != WASI_RAISE || fn == WASI_FN_proc_raise);
    if (outcome == WASI_RETURN)
        WW_ASSERT(e == WASI_SUCCESS || e == WASI_EBADF || e == WASI_EFAULT || e == WASI_EINVAL ||
                  e == WASI_ENOTDIR || e == WASI_ENOTSOCK || e == WASI_ESPIPE || e == WASI_ENOTCAPABLE);
    if (waits || (outcome == WASI_RETURN && e)) {
        /* A call that waits or fails has changed nothing, and counts only if it failed. */
        before.calls += !waits;
        WW_ASSERT(!memcmp(&before, &life->w, sizeof before));
        WW_ASSERT(!life->mem.size || !memcmp(snapshot, life->mem.base, life->mem.size));
        WW_ASSERT(waits || !life->answers);
    }
    return outcome == WASI_RETURN || waits;
}

static uint64_t live(const uint8_t *data, size_t size)
{
    static const struct wasi_streams streams = {stream_read, stream_write};
    static const uint32_t sizes[] = {WASM_PAGE_BYTES, 2 * WASM_PAGE_BYTES, 1000, 0};
    static const char strings[] = "prog\0--flag\0\0value";
    static struct life life; /* at one place, so that two lives differ in no pointer */

    life = (struct life){.p = data, .end = data + size};
    life.mem.size = sizes[take_u8(&life) % LENGTH_OF(sizes)];
    life.mem.base = life.mem.size ? xcalloc(1, life.mem.size) : NULL;
    uint8_t *snapshot = xmalloc(life.mem.size);
    uint8_t seed = take_u8(&life);
    wasi_init(&life.w, &streams, &life, seed);
    if (seed & 1) {
        life.w.args = life.w.env = strings;
        life.w.args_count = life.w.env_count = 4;
        life.w.args_bytes = life.w.env_bytes = sizeof strings;
    }
    for (int i = 0; i < OPERATIONS_MAX && life.p < life.end; i++) {
        uint8_t operation = take_u8(&life) % 64;
        if (operation >= WASI_FN_COUNT)
            change_memory(&life, operation);
        else if (!call(&life, (enum wasi_function)operation, snapshot))
            break;
    }
    uint64_t hash = hash_bytes(life.written_hash, life.mem.base, life.mem.size);
    hash = hash_bytes(hash, life.w.random, sizeof life.w.random);
    hash = hash_bytes(hash, &life.w.monotonic_ns, sizeof life.w.monotonic_ns);
    hash = hash_bytes(hash, &life.w.calls, sizeof life.w.calls);
    free(snapshot);
    free(life.mem.base);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    WW_ASSERT(live(data, size) == live(data, size));
    return 0;
}
