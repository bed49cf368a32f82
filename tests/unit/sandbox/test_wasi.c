/* Every function against good and bad memory and descriptors, and those without a file of their own:
 * arguments, environment, randomness, the end of a run. */
#include "wasi_fixture.h"

static const char arguments[] = "prog\0-v\0two words";
static const char environment[] = "A=1\0PATH_INFO=/x";

/* Where the rows below have their memory. */
enum { AT_IOVEC = 100, AT_SUBSCRIPTION = 200, AT_1 = 1000, AT_2 = 2000, AT_3 = 3000, AT_BUFFER = 4000 };

/* A call that is right in all its arguments, on a fixture with `arguments`, `environment`, one iovec and a
 * subscription; `memory` says which arguments are offsets, and how much is there. */
static const struct row {
    enum wasi_function fn;
    uint64_t args[WASI_ARGS_MAX];
    uint32_t want;   /* the errno */
    int descriptors; /* bit i = argument i is one */
    struct {
        uint32_t bytes;
        int arg;
    } memory[3];
} rows[] = {
    {WASI_FN_args_get, {AT_1, AT_2}, 0, 0, {{12, 0}, {sizeof arguments, 1}}},
    {WASI_FN_args_sizes_get, {AT_1, AT_2}, 0, 0, {{4, 0}, {4, 1}}},
    {WASI_FN_environ_get, {AT_1, AT_2}, 0, 0, {{8, 0}, {sizeof environment, 1}}},
    {WASI_FN_environ_sizes_get, {AT_1, AT_2}, 0, 0, {{4, 0}, {4, 1}}},
    {WASI_FN_clock_res_get, {0, AT_1}, 0, 0, {{8, 1}}},
    {WASI_FN_clock_time_get, {0, 0, AT_1}, 0, 0, {{8, 2}}},
    {WASI_FN_fd_advise, {0, 0, 0, 0}, WASI_ESPIPE, 1, {{0}}},
    {WASI_FN_fd_allocate, {1, 0, 1}, WASI_ENOTCAPABLE, 1, {{0}}},
    {WASI_FN_fd_close, {2}, 0, 1, {{0}}},
    {WASI_FN_fd_datasync, {1}, 0, 1, {{0}}},
    {WASI_FN_fd_fdstat_get, {1, AT_1}, 0, 1, {{24, 1}}},
    {WASI_FN_fd_fdstat_set_flags, {0, 4}, 0, 1, {{0}}},
    {WASI_FN_fd_fdstat_set_rights, {0, 2, 0}, 0, 1, {{0}}},
    {WASI_FN_fd_filestat_get, {2, AT_1}, 0, 1, {{64, 1}}},
    {WASI_FN_fd_filestat_set_size, {1, 0}, WASI_ENOTCAPABLE, 1, {{0}}},
    {WASI_FN_fd_filestat_set_times, {1, 0, 0, 5}, WASI_ENOTCAPABLE, 1, {{0}}},
    {WASI_FN_fd_pread, {0, AT_IOVEC, 1, 0, AT_1}, WASI_ESPIPE, 1, {{8, 1}, {4, 4}}},
    {WASI_FN_fd_prestat_get, {3, AT_1}, WASI_EBADF, 1, {{8, 1}}},
    {WASI_FN_fd_prestat_dir_name, {3, AT_1, 9}, WASI_EBADF, 1, {{9, 1}}},
    {WASI_FN_fd_pwrite, {1, AT_IOVEC, 1, 0, AT_1}, WASI_ESPIPE, 1, {{8, 1}, {4, 4}}},
    {WASI_FN_fd_read, {0, AT_IOVEC, 1, AT_1}, 0, 1, {{8, 1}, {4, 3}}},
    {WASI_FN_fd_readdir, {0, AT_1, 24, 0, AT_2}, WASI_ENOTDIR, 1, {{24, 1}, {4, 4}}},
    {WASI_FN_fd_renumber, {1, 2}, 0, 3, {{0}}},
    {WASI_FN_fd_seek, {0, 0, 1, AT_1}, WASI_ESPIPE, 1, {{8, 3}}},
    {WASI_FN_fd_sync, {1}, 0, 1, {{0}}},
    {WASI_FN_fd_tell, {1, AT_1}, WASI_ESPIPE, 1, {{8, 1}}},
    {WASI_FN_fd_write, {1, AT_IOVEC, 1, AT_1}, 0, 1, {{8, 1}, {4, 3}}},
    {WASI_FN_path_create_directory, {0, AT_1, 3}, WASI_ENOTCAPABLE, 1, {{3, 1}}},
    {WASI_FN_path_filestat_get, {0, 1, AT_1, 3, AT_2}, WASI_ENOTCAPABLE, 1, {{3, 2}, {64, 4}}},
    {WASI_FN_path_filestat_set_times, {0, 1, AT_1, 3, 0, 0, 5}, WASI_ENOTCAPABLE, 1, {{3, 2}}},
    {WASI_FN_path_link, {0, 0, AT_1, 3, 1, AT_2, 5}, WASI_ENOTCAPABLE, 0x11, {{3, 2}, {5, 5}}},
    {WASI_FN_path_open, {0, 0, AT_1, 3, 1, ~0ULL, ~0ULL, 0, AT_2}, WASI_ENOTCAPABLE, 1, {{3, 2}, {4, 8}}},
    {WASI_FN_path_readlink, {0, AT_1, 3, AT_2, 16, AT_3}, WASI_ENOTCAPABLE, 1, {{3, 1}, {16, 3}, {4, 5}}},
    {WASI_FN_path_remove_directory, {0, AT_1, 3}, WASI_ENOTCAPABLE, 1, {{3, 1}}},
    {WASI_FN_path_rename, {0, AT_1, 3, 1, AT_2, 5}, WASI_ENOTCAPABLE, 9, {{3, 1}, {5, 4}}},
    {WASI_FN_path_symlink, {AT_1, 3, 0, AT_2, 5}, WASI_ENOTCAPABLE, 4, {{3, 0}, {5, 3}}},
    {WASI_FN_path_unlink_file, {0, AT_1, 3}, WASI_ENOTCAPABLE, 1, {{3, 1}}},
    {WASI_FN_poll_oneoff, {AT_SUBSCRIPTION, AT_1, 1, AT_2}, 0, 0, {{48, 0}, {32, 1}, {4, 3}}},
    {WASI_FN_proc_exit, {3}, 0, 0, {{0}}},
    {WASI_FN_proc_raise, {6}, 0, 0, {{0}}},
    {WASI_FN_sched_yield, {0}, 0, 0, {{0}}},
    {WASI_FN_random_get, {AT_1, 100}, 0, 0, {{100, 0}}},
    {WASI_FN_sock_accept, {0, 0, AT_1}, WASI_ENOTSOCK, 1, {{4, 2}}},
    {WASI_FN_sock_recv, {0, AT_IOVEC, 1, 0, AT_1, AT_2}, WASI_ENOTSOCK, 1, {{8, 1}, {4, 4}, {2, 5}}},
    {WASI_FN_sock_send, {1, AT_IOVEC, 1, 0, AT_1}, WASI_ENOTSOCK, 1, {{8, 1}, {4, 4}}},
    {WASI_FN_sock_shutdown, {1, 3}, WASI_ENOTSOCK, 1, {{0}}},
};

/* Makes everything fresh, as `rows` expect it. */
static void prepare(struct fixture *fx)
{
    wasi_init(&fx->w, fx->w.streams, fx, FIXTURE_SEED);
    fx->w.args = arguments;
    fx->w.args_count = 3;
    fx->w.args_bytes = sizeof arguments;
    fx->w.env = environment;
    fx->w.env_count = 2;
    fx->w.env_bytes = sizeof environment;
    fixture_input(fx, "input");
    fx->out_len[1] = fx->out_len[2] = 0;
    fx->stream_calls = 0;
    memset(fx->mem.base, 0, fx->mem.size);
    fixture_iovec(fx, AT_IOVEC, AT_BUFFER, 16);
}

static enum wasi_outcome outcome_of(enum wasi_function fn)
{
    return fn == WASI_FN_proc_exit ? WASI_EXIT : fn == WASI_FN_proc_raise ? WASI_RAISE : WASI_RETURN;
}

static void the_table_has_every_function_once_in_order(void **state)
{
    (void)state;
    assert_int_equal(WASI_FN_COUNT, 46);
    assert_int_equal(LENGTH_OF(rows), WASI_FN_COUNT);
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
        assert_int_equal(rows[i].fn, i);
}

static void signatures_are_well_formed(void **state)
{
    (void)state;
    static const struct {
        const char *name, *signature;
        int may_wait;
    } defs[] = {
#define WASI(name, signature, may_wait) {#name, signature, may_wait},
#include "sandbox/wasi.def"
#undef WASI
    };
    for (size_t i = 0; i < LENGTH_OF(defs); i++) {
        size_t parameters = strspn(defs[i].signature, "iI");
        assert_true(parameters <= WASI_ARGS_MAX);
        bool returns = strcmp(defs[i].name, "proc_exit") != 0;
        assert_string_equal(defs[i].signature + parameters, returns ? ">i" : ">");
        assert_int_equal(defs[i].may_wait, i == WASI_FN_fd_read || i == WASI_FN_fd_write);
        assert_string_equal(wasi_function_name((enum wasi_function)i), defs[i].name);
        for (size_t m = 0; m < LENGTH_OF(rows[i].memory) && rows[i].memory[m].bytes; m++)
            assert_int_equal(defs[i].signature[rows[i].memory[m].arg], 'i');
    }
    assert_string_equal(wasi_function_name(WASI_FN_COUNT), "unknown");
}

static void good_calls_give_what_they_should(void **state)
{
    struct fixture *fx = *state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        prepare(fx);
        enum wasi_outcome outcome = outcome_of(rows[i].fn);
        uint32_t e = fixture_call(fx, rows[i].fn, rows[i].args, outcome);
        if (outcome == WASI_RETURN && e != rows[i].want)
            fail_msg("%s: errno %u, not %u", wasi_function_name(rows[i].fn), e, rows[i].want);
        assert_int_equal(fx->w.calls, 1);
    }
}

/* Makes the call and expects `want` without a trace. */
static void expect_refusal(struct fixture *fx, const struct row *row, const uint64_t *args, uint32_t want)
{
    prepare(fx);
    uint8_t *memory = xmalloc(fx->mem.size);
    memcpy(memory, fx->mem.base, fx->mem.size);
    struct wasi before = fx->w;
    uint32_t e = fixture_call(fx, row->fn, args, WASI_RETURN);
    if (e != want)
        fail_msg("%s(%llx, %llx, %llx, ...): errno %u, not %u", wasi_function_name(row->fn),
                 (unsigned long long)args[0], (unsigned long long)args[1], (unsigned long long)args[2], e,
                 want);
    before.calls++;
    assert_memory_equal(&fx->w, &before, sizeof before);
    assert_memory_equal(fx->mem.base, memory, fx->mem.size);
    assert_int_equal(fx->stream_calls, 0);
    free(memory);
}

static void memory_outside_is_a_fault_and_changes_nothing(void **state)
{
    struct fixture *fx = *state;
    for (const struct row *row = rows; row < rows + LENGTH_OF(rows); row++) {
        for (size_t m = 0; m < LENGTH_OF(row->memory) && row->memory[m].bytes; m++) {
            uint32_t bytes = row->memory[m].bytes;
            uint64_t *offset;
            uint64_t args[WASI_ARGS_MAX];
            memcpy(args, row->args, sizeof args);
            offset = &args[row->memory[m].arg];

            const uint64_t bad[] = {UINT32_MAX, UINT32_MAX - bytes + 1, fx->mem.size,
                                    fx->mem.size - bytes + 1, 0x80000000};
            for (size_t i = 0; i < LENGTH_OF(bad); i++) {
                *offset = bad[i];
                expect_refusal(fx, row, args, WASI_EFAULT);
            }
            /* The last place that is inside. */
            prepare(fx);
            *offset = fx->mem.size - bytes;
            assert_int_equal(fixture_call(fx, row->fn, args, WASI_RETURN), row->want);
        }
    }
}

static void without_memory_only_calls_that_need_none_work(void **state)
{
    struct fixture *fx = *state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        prepare(fx);
        uint32_t e = 0;
        struct guest_memory none = {NULL, 0};
        assert_int_equal(wasi_call(&fx->w, rows[i].fn, none, rows[i].args, &e), outcome_of(rows[i].fn));
        assert_int_equal(e, rows[i].memory[0].bytes ? WASI_EFAULT : rows[i].want);
    }
}

static void descriptors_that_are_not_open_are_refused(void **state)
{
    struct fixture *fx = *state;
    static const uint64_t bad[] = {3, 7, 8, 127, 255, 256, INT32_MAX, UINT32_MAX};
    for (const struct row *row = rows; row < rows + LENGTH_OF(rows); row++) {
        for (int arg = 0; arg < WASI_ARGS_MAX; arg++) {
            if (!(row->descriptors >> arg & 1))
                continue;
            uint64_t args[WASI_ARGS_MAX];
            memcpy(args, row->args, sizeof args);
            for (size_t i = 0; i < LENGTH_OF(bad); i++) {
                args[arg] = bad[i];
                expect_refusal(fx, row, args, WASI_EBADF);
            }
        }
    }
}

static void paths_and_sockets_are_denied_on_every_stream(void **state)
{
    struct fixture *fx = *state;
    for (size_t i = WASI_FN_path_create_directory; i < LENGTH_OF(rows); i++) {
        bool path = i <= WASI_FN_path_unlink_file;
        if (!path && i < WASI_FN_sock_accept)
            continue;
        uint64_t args[WASI_ARGS_MAX];
        memcpy(args, rows[i].args, sizeof args);
        for (uint64_t fd = 0; fd <= 2; fd++) {
            args[i == WASI_FN_path_symlink ? 2 : 0] = fd;
            expect_refusal(fx, &rows[i], args, path ? WASI_ENOTCAPABLE : WASI_ENOTSOCK);
        }
    }
}

/* Nothing is touched where the length is 0, so any address will do; some guests have such addresses. */
static void empty_ranges_may_be_anywhere(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(CALL(fx, random_get, UINT32_MAX, 0), 0);
    assert_int_equal(CALL(fx, path_open, 0, 0, UINT32_MAX, 0, 0, 0, 0, 0, AT_1), WASI_ENOTCAPABLE);
    assert_int_equal(CALL(fx, fd_write, 1, UINT32_MAX, 0, AT_1), 0);
    fixture_iovec(fx, AT_IOVEC, UINT32_MAX, 0);
    assert_int_equal(CALL(fx, fd_write, 1, AT_IOVEC, 1, AT_1), 0);
    assert_int_equal(CALL(fx, environ_get, UINT32_MAX, UINT32_MAX), 0);
    assert_int_equal(fx->stream_calls, 0);
}

static void arguments_and_environment_arrive(void **state)
{
    struct fixture *fx = *state;
    prepare(fx);
    assert_int_equal(CALL(fx, args_sizes_get, AT_1, AT_2), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_1), 3);
    assert_int_equal(guest_get_u32(fx->mem, AT_2), sizeof arguments);
    /* Offsets need no alignment. */
    assert_int_equal(CALL(fx, args_get, AT_1 + 1, AT_2 + 3), 0);
    static const char *want[] = {"prog", "-v", "two words"};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t at = guest_get_u32(fx->mem, AT_1 + 1 + 4 * i);
        assert_string_equal((char *)fx->mem.base + at, want[i]);
    }
    assert_int_equal(fx->mem.base[AT_2 + 2], 0);
    assert_int_equal(fx->mem.base[AT_1 + 1 + 12], 0);

    assert_int_equal(CALL(fx, environ_sizes_get, AT_1, AT_2), 0);
    assert_int_equal(guest_get_u32(fx->mem, AT_1), 2);
    assert_int_equal(guest_get_u32(fx->mem, AT_2), sizeof environment);
    assert_int_equal(CALL(fx, environ_get, AT_1, AT_2), 0);
    assert_string_equal((char *)fx->mem.base + guest_get_u32(fx->mem, AT_1), "A=1");
    assert_string_equal((char *)fx->mem.base + guest_get_u32(fx->mem, AT_1 + 4), "PATH_INFO=/x");
}

static void no_arguments_and_no_environment_are_none(void **state)
{
    struct fixture *fx = *state;
    memset(fx->mem.base, 0xff, 8);
    assert_int_equal(CALL(fx, args_sizes_get, 0, 4), 0);
    assert_int_equal(guest_get_u64(fx->mem, 0), 0);
    memset(fx->mem.base, 0xff, 8);
    assert_int_equal(CALL(fx, environ_sizes_get, 0, 4), 0);
    assert_int_equal(guest_get_u64(fx->mem, 0), 0);
    memset(fx->mem.base, 0xff, 8);
    assert_int_equal(CALL(fx, args_get, 0, 4), 0);
    assert_int_equal(guest_get_u64(fx->mem, 0), UINT64_MAX);
}

/* splitmix64 of seed 0 and xoshiro256** from the state 1, 2, 3, 4: published first values. */
static void randomness_is_the_published_generator(void **state)
{
    struct fixture *fx = *state;
    wasi_init(&fx->w, fx->w.streams, fx, 0);
    assert_int_equal(fx->w.random[0], 0xe220a8397b1dcdaf);
    assert_int_equal(fx->w.random[1], 0x6e789e6aa1b965f4);
    memcpy(fx->w.random, ((const uint64_t[]){1, 2, 3, 4}), sizeof fx->w.random);
    assert_int_equal(CALL(fx, random_get, AT_1, 32), 0);
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(guest_get_u64(fx->mem, AT_1 + 8 * i), want[i]);
}

static void random_bytes_fill_exactly_what_was_asked(void **state)
{
    struct fixture *fx = *state;
    uint8_t all[40];
    wasi_init(&fx->w, fx->w.streams, fx, 1);
    assert_int_equal(CALL(fx, random_get, 0, sizeof all), 0);
    memcpy(all, fx->mem.base, sizeof all);
    for (uint32_t len = 1; len < sizeof all; len++) {
        memset(fx->mem.base, 0xee, 64);
        wasi_init(&fx->w, fx->w.streams, fx, 1);
        assert_int_equal(CALL(fx, random_get, 1, len), 0);
        assert_int_equal(fx->mem.base[0], 0xee);
        for (uint32_t i = 1 + len; i < 64; i++)
            assert_int_equal(fx->mem.base[i], 0xee);
        /* A longer request starts with the bytes of a shorter one. */
        assert_memory_equal(fx->mem.base + 1, all, len);
    }
    memset(fx->mem.base, 0, fx->mem.size);
    assert_int_equal(CALL(fx, random_get, 0, (uint32_t)fx->mem.size), 0);
    assert_int_equal(CALL(fx, random_get, 0, (uint32_t)fx->mem.size + 1), WASI_EFAULT);
    int seen[256] = {0};
    for (size_t i = 0; i < fx->mem.size; i++)
        seen[fx->mem.base[i]]++;
    for (int i = 0; i < 256; i++)
        assert_in_range(seen[i], 128, 512); /* 256 expected; 8 standard deviations */
}

static void the_seed_decides_the_bytes(void **state)
{
    struct fixture *fx = *state;
    static const uint64_t seeds[] = {7, 7, 8};
    for (uint32_t i = 0; i < 3; i++) {
        wasi_init(&fx->w, fx->w.streams, fx, seeds[i]);
        assert_int_equal(CALL(fx, random_get, AT_1 + 32 * i, 16), 0);
        assert_int_equal(CALL(fx, random_get, AT_1 + 32 * i + 16, 16), 0);
    }
    const uint8_t *at = fx->mem.base + AT_1;
    assert_memory_equal(at, at + 32, 32);
    assert_memory_not_equal(at, at + 64, 32);
    assert_memory_not_equal(at, at + 16, 16);
}

static void exit_keeps_its_code(void **state)
{
    struct fixture *fx = *state;
    static const uint32_t codes[] = {0, 1, 134, UINT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(codes); i++) {
        CALL_ENDS(fx, WASI_EXIT, proc_exit, codes[i]);
        assert_int_equal(fx->w.exit_code, codes[i]);
    }
    assert_int_equal(fx->w.calls, LENGTH_OF(codes));
}

static void fatal_signals_end_the_run_and_others_do_not(void **state)
{
    struct fixture *fx = *state;
    static const uint32_t harmless[] = {0, 13, 16, 17, 22, 27};
    for (uint32_t signal = 0; signal <= 30; signal++) {
        bool fatal = true;
        for (size_t i = 0; i < LENGTH_OF(harmless); i++)
            fatal = fatal && signal != harmless[i];
        fx->w.signal = 99;
        if (fatal)
            CALL_ENDS(fx, WASI_RAISE, proc_raise, signal);
        else
            assert_int_equal(CALL(fx, proc_raise, signal), 0);
        assert_int_equal(fx->w.signal, fatal ? signal : 99);
    }
    assert_int_equal(CALL(fx, proc_raise, 31), WASI_EINVAL);
    assert_int_equal(CALL(fx, proc_raise, 32), WASI_EINVAL);
    assert_int_equal(CALL(fx, proc_raise, UINT32_MAX), WASI_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_has_every_function_once_in_order),
        cmocka_unit_test(signatures_are_well_formed),
        WASI_TEST(good_calls_give_what_they_should),
        WASI_TEST(memory_outside_is_a_fault_and_changes_nothing),
        WASI_TEST(without_memory_only_calls_that_need_none_work),
        WASI_TEST(descriptors_that_are_not_open_are_refused),
        WASI_TEST(paths_and_sockets_are_denied_on_every_stream),
        WASI_TEST(empty_ranges_may_be_anywhere),
        WASI_TEST(arguments_and_environment_arrive),
        WASI_TEST(no_arguments_and_no_environment_are_none),
        WASI_TEST(randomness_is_the_published_generator),
        WASI_TEST(random_bytes_fill_exactly_what_was_asked),
        WASI_TEST(the_seed_decides_the_bytes),
        WASI_TEST(exit_keeps_its_code),
        WASI_TEST(fatal_signals_end_the_run_and_others_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
