/* The frame of a call and the functions without descriptors and clocks. */
#include "sandbox/wasi_impl.h"

static const struct {
    const char *name;
    uint32_t (*run)(struct wasi_frame *f);
} functions[WASI_FN_COUNT] = {
#define WASI(name, signature, may_wait) {#name, wasi_on_##name},
#include "sandbox/wasi.def"
#undef WASI
};

/* 2020-01-01T00:00:00Z, and a monotonic clock that was started a second ago: Go takes 0 for a broken one. */
#define REALTIME_START_NS (1577836800 * NS_PER_S)
#define MONOTONIC_START_NS NS_PER_S

/* splitmix64 (Steele, Lea, Flood 2014): spreads one seed over the state of another generator; four results
 * in a row are never all zero. */
static uint64_t seed_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

void wasi_init(struct wasi *w, const struct wasi_streams *streams, void *ctx, uint64_t seed)
{
    *w = (struct wasi){
        .streams = streams,
        .ctx = ctx,
        .monotonic_ns = MONOTONIC_START_NS,
        .realtime_offset_ns = REALTIME_START_NS - MONOTONIC_START_NS,
    };
    for (size_t i = 0; i < LENGTH_OF(w->random); i++)
        w->random[i] = seed_next(&seed);
    for (size_t i = 0; i < LENGTH_OF(w->fds); i++)
        w->fds[i] = i <= 2 ? (int8_t)i : -1;
}

enum wasi_outcome wasi_call(struct wasi *w, enum wasi_function fn, struct guest_memory mem,
                            const uint64_t args[static WASI_ARGS_MAX], uint32_t *ret_errno)
{
    WW_ASSERT((unsigned)fn < WASI_FN_COUNT);
    struct wasi_frame f = {.w = w, .mem = mem, .args = args, .outcome = WASI_RETURN};
    uint32_t e = functions[fn].run(&f);
    /* A call that waits is made again: it counts then. */
    if (f.outcome != WASI_WAIT_STDIN && f.outcome != WASI_WAIT_OUTPUT)
        w->calls++;
    if (f.outcome == WASI_RETURN)
        *ret_errno = e;
    return f.outcome;
}

const char *wasi_function_name(enum wasi_function fn)
{
    return (unsigned)fn < WASI_FN_COUNT ? functions[fn].name : "unknown";
}

/* Writes `count` strings to the buffer at argument 1 and their addresses to the array at argument 0. */
static uint32_t strings_get(struct wasi_frame *f, const char *strings, uint32_t count, uint32_t bytes)
{
    uint32_t list = wasi_arg(f, 0);
    uint32_t buffer = wasi_arg(f, 1);
    if (!guest_fits(f->mem, list, 4 * (uint64_t)count) || !guest_fits(f->mem, buffer, bytes))
        return WASI_EFAULT;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const char *end = at < bytes ? memchr(strings + at, 0, bytes - at) : NULL;
        WW_ASSERT(end);
        guest_put_u32(f->mem, list + 4 * (uint64_t)i, buffer + at);
        at = (uint32_t)(end - strings) + 1;
    }
    if (bytes)
        memcpy(guest_at(f->mem, buffer, bytes), strings, bytes);
    return WASI_SUCCESS;
}

static uint32_t strings_sizes_get(struct wasi_frame *f, uint32_t count, uint32_t bytes)
{
    uint32_t ret_count = wasi_arg(f, 0);
    uint32_t ret_bytes = wasi_arg(f, 1);
    if (!guest_fits(f->mem, ret_count, 4) || !guest_fits(f->mem, ret_bytes, 4))
        return WASI_EFAULT;
    guest_put_u32(f->mem, ret_count, count);
    guest_put_u32(f->mem, ret_bytes, bytes);
    return WASI_SUCCESS;
}

uint32_t wasi_on_args_get(struct wasi_frame *f)
{
    return strings_get(f, f->w->args, f->w->args_count, f->w->args_bytes);
}

uint32_t wasi_on_args_sizes_get(struct wasi_frame *f)
{
    return strings_sizes_get(f, f->w->args_count, f->w->args_bytes);
}

uint32_t wasi_on_environ_get(struct wasi_frame *f)
{
    return strings_get(f, f->w->env, f->w->env_count, f->w->env_bytes);
}

uint32_t wasi_on_environ_sizes_get(struct wasi_frame *f)
{
    return strings_sizes_get(f, f->w->env_count, f->w->env_bytes);
}

static uint64_t rotate_left(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

/* xoshiro256** 1.0 (Blackman, Vigna 2018). Not for secrets: whoever knows the seed knows all. */
static uint64_t random_next(uint64_t s[static 4])
{
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint32_t wasi_on_random_get(struct wasi_frame *f)
{
    uint32_t buffer = wasi_arg(f, 0);
    uint32_t len = wasi_arg(f, 1);
    if (!guest_fits(f->mem, buffer, len))
        return WASI_EFAULT;
    if (!len)
        return WASI_SUCCESS;
    uint8_t *to = guest_at(f->mem, buffer, len);
    for (uint32_t done = 0; done < len;) {
        uint64_t word = htole64(random_next(f->w->random));
        uint32_t part = MIN(len - done, (uint32_t)sizeof word);
        memcpy(to + done, &word, part);
        done += part;
    }
    return WASI_SUCCESS;
}

uint32_t wasi_on_proc_exit(struct wasi_frame *f)
{
    f->w->exit_code = wasi_arg(f, 0);
    f->outcome = WASI_EXIT;
    return WASI_SUCCESS;
}

/* Signals are numbered 0 (none) to 30 (sys). None, and those whose action the witx gives as "ignored" or
 * "continues" (pipe, chld, cont, urg, winch), do nothing; the others end the run, those that would stop
 * the process too: nobody could continue it. */
uint32_t wasi_on_proc_raise(struct wasi_frame *f)
{
    enum { SIGNAL_MAX = 30 };
    const uint32_t harmless = 1u << 0 | 1u << 13 | 1u << 16 | 1u << 17 | 1u << 22 | 1u << 27;

    uint32_t signal = wasi_arg(f, 0);
    if (signal > SIGNAL_MAX)
        return WASI_EINVAL;
    if (!(harmless >> signal & 1)) {
        f->w->signal = signal;
        f->outcome = WASI_RAISE;
    }
    return WASI_SUCCESS;
}

uint32_t wasi_on_sched_yield(struct wasi_frame *f)
{
    (void)f;
    return WASI_SUCCESS;
}
