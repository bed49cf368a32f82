/* Streams and the descriptor table. */
#include "wasi_fixture.h"

enum { AT_IOVS = 100, AT_RET = 1000, AT_TEXT = 2000 };

static void out_is(struct fixture *fx, int stream, const char *text)
{
    assert_int_equal(fx->out_len[stream], strlen(text));
    assert_memory_equal(fx->out[stream], text, strlen(text));
}

/* Three iovecs over "one two three", the middle one empty. */
static void prepare_write(struct fixture *fx)
{
    fixture_text(fx, AT_TEXT, "one two three");
    fixture_iovec(fx, AT_IOVS, AT_TEXT, 4);
    fixture_iovec(fx, AT_IOVS + 8, 0, 0);
    fixture_iovec(fx, AT_IOVS + 16, AT_TEXT + 4, 9);
    guest_put_u32(fx->mem, AT_RET, 77);
}

static void write_goes_to_its_stream(void **state)
{
    struct fixture *fx = *state;
    prepare_write(fx);
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 3, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 13);
    out_is(fx, 1, "one two three");
    out_is(fx, 2, "");
    assert_int_equal(CALL(fx, fd_write, 2, AT_IOVS, 1, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 4);
    out_is(fx, 2, "one ");
}

static void write_goes_on_after_a_short_one(void **state)
{
    struct fixture *fx = *state;
    prepare_write(fx);
    fx->write_chunk = 3;
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 3, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 13);
    out_is(fx, 1, "one two three");
}

static void write_waits_until_all_is_written(void **state)
{
    struct fixture *fx = *state;
    prepare_write(fx);
    fx->write_room = 6;
    CALL_ENDS(fx, WASI_WAIT_OUTPUT, fd_write, 1, AT_IOVS, 3, AT_RET);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 77);
    assert_int_equal(fx->w.calls, 0);
    out_is(fx, 1, "one tw");

    CALL_ENDS(fx, WASI_WAIT_OUTPUT, fd_write, 1, AT_IOVS, 3, AT_RET);
    out_is(fx, 1, "one tw");

    fx->write_room = 1;
    CALL_ENDS(fx, WASI_WAIT_OUTPUT, fd_write, 1, AT_IOVS, 3, AT_RET);
    out_is(fx, 1, "one two");

    fx->write_room = SIZE_MAX;
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 3, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 13);
    out_is(fx, 1, "one two three");
    assert_int_equal(fx->w.calls, 1);

    /* The next call starts from its beginning. */
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 1, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 4);
    out_is(fx, 1, "one two threeone ");
}

static void write_over_the_cap_ends_the_run(void **state)
{
    struct fixture *fx = *state;
    prepare_write(fx);
    fx->write_cap = 7;
    CALL_ENDS(fx, WASI_OUTPUT_LIMIT, fd_write, 1, AT_IOVS, 3, AT_RET);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 77);
    out_is(fx, 1, "one two");
    /* Exactly the cap is no more than the cap. */
    fx->write_cap = 4;
    assert_int_equal(CALL(fx, fd_write, 2, AT_IOVS, 1, AT_RET), 0);
    CALL_ENDS(fx, WASI_OUTPUT_LIMIT, fd_write, 2, AT_IOVS, 1, AT_RET);
}

static void read_scatters(void **state)
{
    struct fixture *fx = *state;
    fixture_input(fx, "hello, world");
    fixture_iovec(fx, AT_IOVS, 2000, 5);
    fixture_iovec(fx, AT_IOVS + 8, 3000, 0);
    fixture_iovec(fx, AT_IOVS + 16, 4000, 4);
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 3, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 9);
    assert_memory_equal(fx->mem.base + 2000, "hello\0", 6);
    assert_memory_equal(fx->mem.base + 4000, ", wo\0", 5);
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 3, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 3);
    assert_memory_equal(fx->mem.base + 2000, "rldlo\0", 6);
    /* The end, as often as asked. */
    for (int i = 0; i < 2; i++) {
        guest_put_u32(fx->mem, AT_RET, 77);
        assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 3, AT_RET), 0);
        assert_int_equal(guest_get_u32(fx->mem, AT_RET), 0);
    }
}

static void read_answers_with_what_is_there(void **state)
{
    struct fixture *fx = *state;
    fixture_input(fx, "abcdef");
    fx->in_open = true;
    fx->read_chunk = 4;
    fixture_iovec(fx, AT_IOVS, 2000, 10);
    fixture_iovec(fx, AT_IOVS + 8, 3000, 10);
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 2, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 4);
    assert_int_equal(fx->stream_calls, 1);

    /* The first buffer is filled to its end and then nothing is there: no wait, for two bytes moved. */
    fixture_iovec(fx, AT_IOVS, 2000, 2);
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 2, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 2);
    assert_memory_equal(fx->mem.base + 2000, "efcd", 4);

    guest_put_u32(fx->mem, AT_RET, 77);
    CALL_ENDS(fx, WASI_WAIT_STDIN, fd_read, 0, AT_IOVS, 2, AT_RET);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 77);
    assert_int_equal(fx->w.calls, 2);
    fx->in_open = false;
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 2, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 0);
}

static void nothing_asked_is_nothing_moved(void **state)
{
    struct fixture *fx = *state;
    fx->in_open = true;
    fx->write_room = 0;
    guest_put_u32(fx->mem, AT_RET, 77);
    fixture_iovec(fx, AT_IOVS, 2000, 0);
    for (uint32_t count = 0; count < 2; count++) {
        assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, count, AT_RET), 0);
        assert_int_equal(guest_get_u32(fx->mem, AT_RET), 0);
        assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, count, AT_RET), 0);
        assert_int_equal(guest_get_u32(fx->mem, AT_RET), 0);
    }
    assert_int_equal(fx->stream_calls, 0);
}

static void a_stream_has_one_direction(void **state)
{
    struct fixture *fx = *state;
    fixture_iovec(fx, AT_IOVS, 2000, 4);
    assert_int_equal(CALL(fx, fd_write, 0, AT_IOVS, 1, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_read, 1, AT_IOVS, 1, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_read, 2, AT_IOVS, 1, AT_RET), WASI_EBADF);
    assert_int_equal(fx->stream_calls, 0);
}

/* The last iovec is bad: the first moves nothing either. */
static void one_bad_iovec_spoils_all(void **state)
{
    struct fixture *fx = *state;
    fixture_input(fx, "input");
    const struct {
        uint32_t buffer, len;
    } bad[] = {{UINT32_MAX, 1},         {UINT32_MAX, UINT32_MAX}, {FIXTURE_MEMORY, 1},
               {FIXTURE_MEMORY - 1, 2}, {0, FIXTURE_MEMORY + 1u}, {1, FIXTURE_MEMORY},
               {1, UINT32_MAX}};
    fixture_iovec(fx, AT_IOVS, 2000, 4);
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        fixture_iovec(fx, AT_IOVS + 8, bad[i].buffer, bad[i].len);
        assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 2, AT_RET), WASI_EFAULT);
        assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 2, AT_RET), WASI_EFAULT);
        assert_int_equal(CALL(fx, fd_pread, 0, AT_IOVS, 2, 0, AT_RET), WASI_EFAULT);
        assert_int_equal(CALL(fx, fd_pwrite, 1, AT_IOVS, 2, 0, AT_RET), WASI_EFAULT);
        assert_int_equal(CALL(fx, sock_recv, 0, AT_IOVS, 2, 0, AT_RET, AT_RET), WASI_EFAULT);
        assert_int_equal(CALL(fx, sock_send, 1, AT_IOVS, 2, 0, AT_RET), WASI_EFAULT);
    }
    assert_int_equal(fx->stream_calls, 0);
    assert_int_equal(fx->in_len, 5);
}

static void counts_whose_array_is_outside_are_faults(void **state)
{
    struct fixture *fx = *state;
    static const uint32_t counts[] = {FIXTURE_MEMORY / 8 + 1, 0x20000000, 0x20000001, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(counts); i++) {
        assert_int_equal(CALL(fx, fd_read, 0, 0, counts[i], AT_RET), WASI_EFAULT);
        assert_int_equal(CALL(fx, fd_write, 1, 0, counts[i], AT_RET), WASI_EFAULT);
    }
    /* The whole memory as iovecs, all of them empty. */
    assert_int_equal(CALL(fx, fd_write, 1, 0, FIXTURE_MEMORY / 8, AT_RET), 0);
}

/* 4 GiB in all can't be told in the u32 result. */
static void lengths_that_sum_past_the_result_are_refused(void **state)
{
    struct fixture *fx = *state;
    free(fx->mem.base);
    enum { MEMORY = 1 << 20, COUNT = 4097 };
    fx->mem = (struct guest_memory){xcalloc(1, MEMORY), MEMORY};
    for (uint32_t i = 0; i < COUNT; i++)
        fixture_iovec(fx, AT_IOVS + 8 * i, 0, MEMORY);
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, COUNT - 1, 0), WASI_EINVAL);
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, COUNT, 0), WASI_EINVAL);
    assert_int_equal(fx->stream_calls, 0);
    fixture_iovec(fx, AT_IOVS, 0, MEMORY - 1);
    CALL_ENDS(fx, WASI_OUTPUT_LIMIT, fd_write, 1, AT_IOVS, COUNT - 1, 0);
}

/* The bytes that are read replace the iovecs that say where they go. */
static void a_read_over_its_own_iovecs_stays_inside(void **state)
{
    struct fixture *fx = *state;
    static const char fake[] = {/* iovec 0 */ 0,
                                0,
                                0,
                                0,
                                0,
                                0,
                                0,
                                0,
                                /* iovec 1: far outside */ '\xff',
                                '\xff',
                                '\xff',
                                '\xff',
                                '\xff',
                                '\xff',
                                0,
                                0};
    fx->in = fake;
    fx->in_len = sizeof fake;
    fx->in_open = true;
    fixture_iovec(fx, AT_IOVS, AT_IOVS, sizeof fake);
    fixture_iovec(fx, AT_IOVS + 8, 3000, 100);
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 2, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), sizeof fake);

    /* Inside, but longer than what was checked: no more than the first sum is moved. */
    static char longer[16 + 200] = {0, 0, 0, 0, 0, 0, 0, 0, /* 4000 */ '\xa0', '\x0f', 0, 0, /* 150 */ '\x96',
                                    0, 0, 0};
    memset(longer + 16, 'x', 200);
    fx->in = longer;
    fx->in_len = sizeof longer;
    fixture_iovec(fx, AT_IOVS, AT_IOVS, 16);
    fixture_iovec(fx, AT_IOVS + 8, 3000, 100);
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 2, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 116);
    assert_int_equal(fx->mem.base[4000 + 99], 'x');
    assert_int_equal(fx->mem.base[4000 + 100], 0);
}

static void the_result_may_lie_at_the_end_of_memory_unaligned(void **state)
{
    struct fixture *fx = *state;
    prepare_write(fx);
    memmove(fx->mem.base + 101, fx->mem.base + AT_IOVS, 24);
    assert_int_equal(CALL(fx, fd_write, 1, 101, 3, FIXTURE_MEMORY - 4), 0);
    assert_int_equal(guest_get_u32(fx->mem, FIXTURE_MEMORY - 4), 13);
    fixture_text(fx, FIXTURE_MEMORY - 3, "end");
    fixture_iovec(fx, 101, FIXTURE_MEMORY - 3, 3);
    assert_int_equal(CALL(fx, fd_write, 2, 101, 1, AT_RET), 0);
    out_is(fx, 2, "end");
}

static void a_closed_descriptor_is_gone(void **state)
{
    struct fixture *fx = *state;
    prepare_write(fx);
    assert_int_equal(CALL(fx, fd_close, 1), 0);
    assert_int_equal(CALL(fx, fd_close, 1), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 3, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_fdstat_get, 1, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_filestat_get, 1, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, path_open, 1, 0, 0, 1, 0, 0, 0, 0, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_write, 2, AT_IOVS, 1, AT_RET), 0);
    out_is(fx, 1, "");
}

static void renumber_moves_a_stream(void **state)
{
    struct fixture *fx = *state;
    prepare_write(fx);
    assert_int_equal(CALL(fx, fd_renumber, 2, 2), 0);
    assert_int_equal(CALL(fx, fd_renumber, 2, 1), 0);
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 1, AT_RET), 0);
    out_is(fx, 2, "one ");
    out_is(fx, 1, "");
    assert_int_equal(CALL(fx, fd_write, 2, AT_IOVS, 1, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_renumber, 2, 1), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_renumber, 1, 2), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_renumber, 2, 2), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_renumber, 1, 5), WASI_EBADF);

    fixture_input(fx, "in");
    fixture_iovec(fx, AT_IOVS, 2000, 2);
    assert_int_equal(CALL(fx, fd_renumber, 0, 1), 0);
    assert_int_equal(CALL(fx, fd_read, 1, AT_IOVS, 1, AT_RET), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 2);
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVS, 1, AT_RET), WASI_EBADF);
    assert_int_equal(CALL(fx, fd_read, 0, AT_IOVS, 1, AT_RET), WASI_EBADF);
}

static void a_stream_is_no_terminal_and_no_file(void **state)
{
    struct fixture *fx = *state;
    static const uint64_t rights[] = {0x0820001b, 0x08200059, 0x08200059};
    for (uint32_t fd = 0; fd < 3; fd++) {
        memset(fx->mem.base + AT_RET, 0xff, 100);
        assert_int_equal(CALL(fx, fd_fdstat_get, fd, AT_RET), 0);
        assert_int_equal(guest_get_u64(fx->mem, AT_RET), 0); /* type, flags, padding */
        assert_int_equal(guest_get_u64(fx->mem, AT_RET + 8), rights[fd]);
        assert_int_equal(guest_get_u64(fx->mem, AT_RET + 16), 0);
        assert_int_equal(fx->mem.base[AT_RET + 24], 0xff);

        memset(fx->mem.base + AT_RET, 0xff, 100);
        assert_int_equal(CALL(fx, fd_filestat_get, fd, AT_RET), 0);
        for (uint32_t at = 0; at < 64; at += 8)
            assert_int_equal(guest_get_u64(fx->mem, AT_RET + at), 0);
        assert_int_equal(fx->mem.base[AT_RET + 64], 0xff);
    }
}

static void rights_and_flags_have_bounds(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(CALL(fx, fd_fdstat_set_rights, 1, 0x08200059, 0), 0);
    assert_int_equal(CALL(fx, fd_fdstat_set_rights, 1, 0, 0), 0);
    assert_int_equal(CALL(fx, fd_fdstat_set_rights, 1, 1 << 1, 0), WASI_ENOTCAPABLE);     /* read stdout */
    assert_int_equal(CALL(fx, fd_fdstat_set_rights, 0, 1 << 6, 0), WASI_ENOTCAPABLE);     /* write stdin */
    assert_int_equal(CALL(fx, fd_fdstat_set_rights, 0, 1 << 13, 0), WASI_ENOTCAPABLE);    /* path_open */
    assert_int_equal(CALL(fx, fd_fdstat_set_rights, 0, 1ULL << 63, 0), WASI_ENOTCAPABLE); /* none such */
    assert_int_equal(CALL(fx, fd_fdstat_set_rights, 0, 0, 1 << 1), WASI_ENOTCAPABLE);
    assert_int_equal(CALL(fx, fd_fdstat_set_flags, 1, 0x1f), 0);
    assert_int_equal(CALL(fx, fd_fdstat_set_flags, 1, 0x20), WASI_EINVAL);
    assert_int_equal(CALL(fx, fd_fdstat_set_flags, 1, 0x10000), WASI_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WASI_TEST(write_goes_to_its_stream),
        WASI_TEST(write_goes_on_after_a_short_one),
        WASI_TEST(write_waits_until_all_is_written),
        WASI_TEST(write_over_the_cap_ends_the_run),
        WASI_TEST(read_scatters),
        WASI_TEST(read_answers_with_what_is_there),
        WASI_TEST(nothing_asked_is_nothing_moved),
        WASI_TEST(a_stream_has_one_direction),
        WASI_TEST(one_bad_iovec_spoils_all),
        WASI_TEST(counts_whose_array_is_outside_are_faults),
        WASI_TEST(lengths_that_sum_past_the_result_are_refused),
        WASI_TEST(a_read_over_its_own_iovecs_stays_inside),
        WASI_TEST(the_result_may_lie_at_the_end_of_memory_unaligned),
        WASI_TEST(a_closed_descriptor_is_gone),
        WASI_TEST(renumber_moves_a_stream),
        WASI_TEST(a_stream_is_no_terminal_and_no_file),
        WASI_TEST(rights_and_flags_have_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
