/* WASI preview1 (wasi_snapshot_preview1) for guests that have nothing but stdin, stdout, stderr and
 * arguments: all 46 functions, no files, no sockets, a virtual clock and seeded randomness, so that the
 * same input gives the same run. Facts (function names, argument order, record layouts, errno values) are
 * from the preview1 witx; layouts are stated where they are used.
 *
 * Knows nothing of Wasmtime: it sees guest memory as a lent {base, size} pair, and the streams through
 * `struct wasi_streams`. So tests and the fuzzer drive it without an engine. Every guest offset is checked
 * against the size that memory has now; a wrong one gives EFAULT and changes nothing. */
#ifndef WW_SANDBOX_WASI_H
#define WW_SANDBOX_WASI_H

#include "base/str.h"

/* A guest's linear memory, lent for one call; offsets are u32. */
struct guest_memory {
    uint8_t *base;
    uint64_t size;
};

/* The functions, in the table sandbox/wasi.def:
 *     WASI(name, "signature", may_wait)
 * signature: one letter a parameter, i = i32, I = i64; then '>' and the result, nothing for none.
 * may_wait: 1 for calls that may have to wait for a stream. */
enum wasi_function {
#define WASI(name, signature, may_wait) WASI_FN_##name,
#include "sandbox/wasi.def"
#undef WASI
    WASI_FN_COUNT
};

enum { WASI_ARGS_MAX = 9 };

/* What became of a call. */
enum wasi_outcome {
    WASI_RETURN,     /* *ret_errno is what the guest gets */
    WASI_EXIT,       /* proc_exit: w->exit_code is set, the guest must not be resumed */
    WASI_RAISE,      /* proc_raise: w->signal is set, the guest must not be resumed */
    WASI_WAIT_STDIN, /* nothing changed; call again with the same arguments once stdin has bytes or has ended */
    WASI_WAIT_OUTPUT, /* call again with the same arguments, and no other call before, once the output has room */
    WASI_OUTPUT_LIMIT /* the guest wrote more than it may; it must not be resumed */
};

enum wasi_stream_state { WASI_STREAM_OK, WASI_STREAM_WAIT, WASI_STREAM_LIMIT };

/* The run's side of the three streams. */
struct wasi_streams {
    /* Moves up to `len` bytes of stdin to `to`; *ret_len 0 with OK = end of file. WAIT: nothing there yet. */
    enum wasi_stream_state (*read)(void *ctx, void *to, size_t len, size_t *ret_len);
    /* Takes up to `len` bytes for fd 1 or 2; *ret_len > 0 with OK unless len is 0. WAIT: no room now.
     * LIMIT: the cap of that stream is passed (what fitted was taken). */
    enum wasi_stream_state (*write)(void *ctx, int fd, const void *from, size_t len, size_t *ret_len);
};

struct wasi {
    const struct wasi_streams *streams;
    void *ctx;
    /* Arguments and environment: `*_count` NUL-terminated strings, one behind the other; env as "K=V".
     * Owned by the caller, outlive the run. */
    const char *args;
    uint32_t args_count;
    uint32_t args_bytes;
    const char *env;
    uint32_t env_count;
    uint32_t env_bytes;
    /* Virtual time, nanoseconds. Every look at a clock advances it a little; a sleep jumps it. */
    uint64_t monotonic_ns;
    uint64_t realtime_offset_ns; /* realtime = monotonic + offset */
    /* State of the seeded generator: 256 bits, filled by wasi_init(). */
    uint64_t random[4];
    uint32_t exit_code;
    uint32_t signal;
    /* What stands behind a guest descriptor: 0, 1, 2 = that stream, -1 = closed (fd_renumber may move them). */
    int8_t fds[8];
    uint32_t written; /* by the fd_write that waits for room */
    uint64_t calls;   /* all calls, for the receipt's host_calls */
};

/* Prepares `w` for one run; the pointer fields args/env may be set afterwards. `seed` decides all randomness. */
void wasi_init(struct wasi *w, const struct wasi_streams *streams, void *ctx, uint64_t seed);

/* Performs one call. `args` holds the parameters (WASI_ARGS_MAX at most; an i32 is zero-extended).
 * Never touches memory outside `mem`, never blocks, takes time bounded by the lengths in `args` and by
 * memory size. */
enum wasi_outcome wasi_call(struct wasi *w, enum wasi_function fn, struct guest_memory mem,
                            const uint64_t args[static WASI_ARGS_MAX], uint32_t *ret_errno);

/* "fd_read"; never NULL. */
const char *wasi_function_name(enum wasi_function fn);

#endif
