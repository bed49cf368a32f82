/* The checks at the border of the rings. Every message is built whole first, then spoilt in one way. */
#include "../unit.h"

#include "sandbox/message.h"

static _Alignas(8) char bytes[sizeof(struct message_done) + MESSAGE_DATA_MAX + 64];
static union message_any got;
static struct str data;

static bool to_sandbox(size_t len)
{
    return message_check_to_sandbox(bytes, len, &got, &data);
}

static bool from_sandbox(size_t len)
{
    return message_check_from_sandbox(bytes, len, &got, &data);
}

/* Writes the fixed part with `data_len` bytes behind it; the length of all. */
static size_t put(const void *fixed, size_t fixed_len, size_t data_len)
{
    memset(bytes, 'd', sizeof bytes);
    memcpy(bytes, fixed, fixed_len);
    return fixed_len + data_len;
}

static const struct {
    uint32_t type;
    size_t fixed;
    bool to_sandbox;
    bool may_have_data;
} types[] = {
    {MESSAGE_LOAD, sizeof(struct message_load), true, false},
    {MESSAGE_RUN, sizeof(struct message_run), true, false}, /* its data must fit its counts */
    {MESSAGE_STDIN, sizeof(struct message_stdin), true, true},
    {MESSAGE_CREDIT, sizeof(struct message_credit), true, false},
    {MESSAGE_CANCEL, sizeof(struct message), true, false},
    {MESSAGE_LOADED, sizeof(struct message_loaded), false, true},
    {MESSAGE_ABSENT, sizeof(struct message), false, false},
    {MESSAGE_OUTPUT, sizeof(struct message_output), false, true},
    {MESSAGE_STDIN_CREDIT, sizeof(struct message_credit), false, false},
    {MESSAGE_DONE, sizeof(struct message_done), false, false},
};

static void test_sizes_and_directions(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(types); i++) {
        union message_any m = {.head = {types[i].type, 0, 42}};
        if (types[i].type == MESSAGE_OUTPUT)
            m.output.fd = 1;
        size_t len = put(&m, types[i].fixed, 0);
        assert_int_equal(to_sandbox(len), types[i].to_sandbox);
        assert_int_equal(from_sandbox(len), !types[i].to_sandbox);
        assert_int_equal(got.head.id, 42);
        assert_int_equal(data.len, 0);
        for (size_t cut = 0; cut < len; cut++) {
            assert_false(to_sandbox(cut));
            assert_false(from_sandbox(cut));
        }
        assert_false(to_sandbox(len + 1)); /* more than data_bytes says */
        assert_false(from_sandbox(len + 1));
        m.head.data_bytes = 5;
        len = put(&m, types[i].fixed, 5);
        bool takes = to_sandbox(len) || from_sandbox(len);
        assert_int_equal(takes, types[i].may_have_data);
        if (takes)
            assert_true(data.p == bytes + types[i].fixed && data.len == 5);
        m.head.data_bytes = MESSAGE_DATA_MAX + 1;
        len = put(&m, types[i].fixed, MESSAGE_DATA_MAX + 1);
        assert_false(to_sandbox(len) || from_sandbox(len));
    }
}

static void test_unknown_types(void **state)
{
    (void)state;
    static const uint32_t unknown[] = {0, 6, 31, 37, 255, UINT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(unknown); i++) {
        struct message m = {unknown[i], 0, 1};
        size_t len = put(&m, sizeof m, 0);
        assert_false(to_sandbox(len) || from_sandbox(len));
    }
}

/* --- RUN ---------------------------------------------------------------------------------------- */
static struct message_run good_run(void)
{
    return (struct message_run){.head = {MESSAGE_RUN, 5 + 6 + 4 + 7, 1},
                                .entry_bytes = 5,
                                .args_bytes = 6,
                                .args_count = 2,
                                .env_bytes = 4,
                                .env_count = 1,
                                .stdin_bytes = 7};
}

static size_t put_run(const struct message_run *m)
{
    size_t len = put(m, sizeof *m, m->head.data_bytes);
    memcpy(bytes + sizeof *m, "entrya\0bcd\0K=V\0stdin!!", 22);
    return len;
}

static void test_run(void **state)
{
    (void)state;
    struct message_run m = good_run();
    assert_true(to_sandbox(put_run(&m)));
    assert_int_equal(got.run.stdin_bytes, 7);
    assert_memory_equal(data.p, "entry", 5);

    uint32_t *const sizes[] = {&m.entry_bytes, &m.args_bytes, &m.env_bytes, &m.stdin_bytes};
    for (size_t i = 0; i < LENGTH_OF(sizes); i++) {
        static const uint32_t off[] = {1, UINT32_MAX, INT32_MAX, 1000000};
        for (size_t j = 0; j < LENGTH_OF(off); j++) {
            m = good_run();
            *sizes[i] += off[j];
            assert_false(to_sandbox(put_run(&m)));
        }
        /* Two sizes whose sum wraps around in 32 bits. */
        m = good_run();
        *sizes[i] += UINT32_C(0x80000000);
        *sizes[(i + 1) % LENGTH_OF(sizes)] += UINT32_C(0x80000000);
        assert_false(to_sandbox(put_run(&m)));
    }
    static const uint32_t counts[] = {0, 1, 3, ARGS_COUNT_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(counts); i++) {
        m = good_run();
        m.args_count = counts[i];
        assert_false(to_sandbox(put_run(&m)));
        m = good_run();
        m.env_count = counts[i];
        assert_int_equal(to_sandbox(put_run(&m)), counts[i] == 1);
    }
}

/* The guest is given pointers to the strings: each must end within its part. */
static void test_run_strings_end(void **state)
{
    (void)state;
    struct message_run m = good_run();
    size_t len = put_run(&m);
    bytes[sizeof m + 10] = 'x'; /* the end of the last argument */
    assert_false(to_sandbox(len));
    put_run(&m);
    bytes[sizeof m + 14] = 'x'; /* that of the variable */
    assert_false(to_sandbox(len));
}

static void test_run_limits(void **state)
{
    (void)state;
    struct message_run m = {.head = {MESSAGE_RUN, ENTRY_BYTES_MAX, 1}, .entry_bytes = ENTRY_BYTES_MAX};
    assert_true(to_sandbox(put(&m, sizeof m, m.head.data_bytes)));
    m.entry_bytes = ++m.head.data_bytes;
    assert_false(to_sandbox(put(&m, sizeof m, m.head.data_bytes)));
    m = (struct message_run){
        .head = {MESSAGE_RUN, ARGS_BYTES_MAX, 1}, .args_bytes = ARGS_BYTES_MAX, .args_count = 1};
    size_t len = put(&m, sizeof m, m.head.data_bytes);
    bytes[len - 1] = 0;
    assert_true(to_sandbox(len));
    m.args_bytes = ++m.head.data_bytes;
    len = put(&m, sizeof m, m.head.data_bytes);
    bytes[len - 1] = 0;
    assert_false(to_sandbox(len));
    m = (struct message_run){.head = {MESSAGE_RUN, MESSAGE_DATA_MAX, 1}, .stdin_bytes = MESSAGE_DATA_MAX};
    assert_true(to_sandbox(put(&m, sizeof m, m.head.data_bytes)));
}

/* --- OUTPUT, LOADED ----------------------------------------------------------------------------- */
static void test_output(void **state)
{
    (void)state;
    for (uint32_t fd = 0; fd < 5; fd++) {
        struct message_output m = {.head = {MESSAGE_OUTPUT, 3, 1}, .fd = fd};
        assert_int_equal(from_sandbox(put(&m, sizeof m, 3)), fd == 1 || fd == 2);
    }
}

static void test_loaded(void **state)
{
    (void)state;
    struct message_loaded m = {.head = {MESSAGE_LOADED, MESSAGE_TEXT_MAX, 1}};
    assert_true(from_sandbox(put(&m, sizeof m, MESSAGE_TEXT_MAX)));
    m.head.data_bytes++;
    assert_false(from_sandbox(put(&m, sizeof m, MESSAGE_TEXT_MAX + 1)));
}

/* --- DONE --------------------------------------------------------------------------------------- */
static struct message_done good_done(void)
{
    struct message_done m = {.report = {.cause = CAUSE_TRAP, .frame_count = 2, .text = "why"},
                             .stdout_bytes = 3,
                             .stderr_bytes = 4,
                             .frames_bytes = 2 * sizeof(struct trap_frame)};
    m.head = (struct message){MESSAGE_DONE, 3 + 4 + 2 * sizeof(struct trap_frame), 1};
    return m;
}

static bool check_done(const struct message_done *m)
{
    return from_sandbox(put(m, sizeof *m, m->head.data_bytes));
}

static void test_done(void **state)
{
    (void)state;
    struct message_done m = good_done();
    assert_true(check_done(&m));
    uint32_t *const sizes[] = {&m.stdout_bytes, &m.stderr_bytes, &m.frames_bytes, &m.report.frame_count};
    static const uint32_t off[] = {1, UINT32_MAX, UINT32_C(0x80000000), sizeof(struct trap_frame)};
    for (size_t i = 0; i < LENGTH_OF(sizes); i++)
        for (size_t j = 0; j < LENGTH_OF(off); j++) {
            m = good_done();
            *sizes[i] += off[j];
            assert_false(check_done(&m));
        }
    m = good_done();
    m.stdout_bytes += UINT32_C(0x80000000);
    m.stderr_bytes += UINT32_C(0x80000000);
    assert_false(check_done(&m));
    static const uint32_t causes[] = {CAUSE_COUNT, INT32_MAX, UINT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(causes); i++) {
        m = good_done();
        m.report.cause = causes[i];
        assert_false(check_done(&m));
    }
    m = good_done();
    memset(m.report.text, 'x', sizeof m.report.text);
    assert_false(check_done(&m));
    uint64_t *const figures[] = {&m.report.run_ns,       &m.report.cpu_ns,      &m.report.memory_peak_bytes,
                                 &m.report.fuel,         &m.report.stdin_bytes, &m.report.stdout_bytes,
                                 &m.report.stderr_bytes, &m.report.host_calls};
    for (size_t i = 0; i < LENGTH_OF(figures); i++) {
        m = good_done();
        *figures[i] = MESSAGE_FIGURE_MAX;
        assert_true(check_done(&m));
        *figures[i] = MESSAGE_FIGURE_MAX + 1;
        assert_false(check_done(&m));
    }
}

static void test_done_with_too_many_frames(void **state)
{
    (void)state;
    for (uint32_t count = MESSAGE_FRAMES_MAX; count <= MESSAGE_FRAMES_MAX + 1; count++) {
        struct message_done m = {.report = {.frame_count = count},
                                 .frames_bytes = count * sizeof(struct trap_frame)};
        m.head = (struct message){MESSAGE_DONE, m.frames_bytes, 1};
        assert_int_equal(check_done(&m), count == MESSAGE_FRAMES_MAX);
    }
    /* A count whose product wraps around to something that fits. */
    struct message_done m = {.head = {MESSAGE_DONE, 0, 1}, .report = {.frame_count = UINT32_C(1) << 28}};
    assert_false(check_done(&m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_directions),
        cmocka_unit_test(test_unknown_types),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_run_strings_end),
        cmocka_unit_test(test_run_limits),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_loaded),
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_done_with_too_many_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
