/* A run to call WASI in: one page of memory of exactly that size (so that the sanitizer sees a step outside),
 * and streams that answer as a test wants. */
#ifndef WW_TESTS_WASI_FIXTURE_H
#define WW_TESTS_WASI_FIXTURE_H

#include "sandbox/wasi_impl.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { FIXTURE_MEMORY = 65536, FIXTURE_OUTPUT = 4096, FIXTURE_SEED = 20 };

struct fixture {
    struct wasi w;
    struct guest_memory mem;
    const char *in; /* what stdin still holds */
    size_t in_len;
    bool in_open;       /* more may come: WAIT at the end instead of end of file */
    size_t read_chunk;  /* most that one read gives */
    size_t write_chunk; /* most that one write takes */
    size_t write_room;  /* what is taken before WAIT */
    size_t write_cap;   /* what is taken before LIMIT, of each stream */
    char out[3][FIXTURE_OUTPUT];
    size_t out_len[3];
    unsigned stream_calls;
};

static inline enum wasi_stream_state fixture_read(void *ctx, void *to, size_t len, size_t *ret_len)
{
    struct fixture *fx = ctx;
    fx->stream_calls++;
    if (!fx->in_len && fx->in_open)
        return WASI_STREAM_WAIT;
    size_t n = MIN(MIN(len, fx->in_len), fx->read_chunk);
    if (n)
        memcpy(to, fx->in, n);
    fx->in += n;
    fx->in_len -= n;
    *ret_len = n;
    return WASI_STREAM_OK;
}

static inline enum wasi_stream_state fixture_write(void *ctx, int fd, const void *from, size_t len,
                                                   size_t *ret_len)
{
    struct fixture *fx = ctx;
    fx->stream_calls++;
    assert_in_range(fd, 1, 2);
    size_t left = fx->write_cap - fx->out_len[fd];
    size_t n = MIN(MIN(MIN(len, left), fx->write_room), fx->write_chunk);
    if (!n && left)
        return WASI_STREAM_WAIT;
    memcpy(fx->out[fd] + fx->out_len[fd], from, n);
    fx->out_len[fd] += n;
    fx->write_room -= n;
    *ret_len = n;
    return len > left && n == left ? WASI_STREAM_LIMIT : WASI_STREAM_OK;
}

static inline int fixture_setup(void **state)
{
    static const struct wasi_streams streams = {fixture_read, fixture_write};
    struct fixture *fx = xcalloc(1, sizeof *fx);
    fx->mem = (struct guest_memory){xcalloc(1, FIXTURE_MEMORY), FIXTURE_MEMORY};
    fx->in = "";
    fx->read_chunk = fx->write_chunk = fx->write_room = SIZE_MAX;
    fx->write_cap = FIXTURE_OUTPUT;
    wasi_init(&fx->w, &streams, fx, FIXTURE_SEED);
    *state = fx;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fx = *state;
    free(fx->mem.base);
    free(fx);
    return 0;
}

#define WASI_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* The errno of a call that returns. CALL(fx, fd_close, 1) */
#define CALL(fx, name, ...) \
    fixture_call(fx, WASI_FN_##name, (const uint64_t[WASI_ARGS_MAX]){__VA_ARGS__}, WASI_RETURN)
/* A call that ends in another way. */
#define CALL_ENDS(fx, outcome, name, ...) \
    (void)fixture_call(fx, WASI_FN_##name, (const uint64_t[WASI_ARGS_MAX]){__VA_ARGS__}, outcome)

static inline uint32_t fixture_call(struct fixture *fx, enum wasi_function fn,
                                    const uint64_t args[static WASI_ARGS_MAX], enum wasi_outcome want)
{
    uint32_t e = UINT32_MAX;
    assert_int_equal(wasi_call(&fx->w, fn, fx->mem, args, &e), want);
    assert_true((e == UINT32_MAX) == (want != WASI_RETURN));
    return e;
}

static inline void fixture_iovec(struct fixture *fx, uint32_t at, uint32_t buffer, uint32_t len)
{
    guest_put_u32(fx->mem, at, buffer);
    guest_put_u32(fx->mem, (uint64_t)at + 4, len);
}

static inline void fixture_text(struct fixture *fx, uint32_t at, const char *text)
{
    memcpy(guest_at(fx->mem, at, strlen(text)), text, strlen(text));
}

static inline void fixture_input(struct fixture *fx, const char *text)
{
    fx->in = text;
    fx->in_len = strlen(text);
}

#endif
