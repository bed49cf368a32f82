/* The receipt: JSON that a strict parser reads with every field in it, text that a terminal can show safely. */
#include "../unit.h"

#include <jansson.h>

#include "meter/receipt.h"

static struct receipt good(void)
{
    return (struct receipt){
        .run_id = "0123456789abcdef0123456789abcdef",
        .cause = CAUSE_OK,
        .detail = "",
        .duration_ns = 1234567,
        .cpu_ns = 1000999,
        .queue_ns = 5000,
        .compile_source = "memory",
        .compile_ns = 7000000,
        .memory_peak_bytes = 65536,
        .fuel = 42,
        .stdin_bytes = 1,
        .stdout_bytes = 2,
        .stderr_bytes = 3,
        .host_calls = 4,
        .trap_code = -1,
        .limits = {.timeout_ns = 5 * NS_PER_S,
                   .memory_bytes = 128 * MIB,
                   .stdout_bytes = 11,
                   .stderr_bytes = 12,
                   .fuel = 13},
    };
}

static json_t *as_json(const struct receipt *r)
{
    struct buf b = buf_make(64 * 1024);
    json_error_t error;
    receipt_put_json(&b, r);
    assert_false(b.overflow);
    assert_null(memchr(b.p, '\n', b.len)); /* one line */
    json_t *value = json_loadb(b.p, b.len, JSON_REJECT_DUPLICATES, &error);
    if (!value)
        fail_msg("%s: %.*s", error.text, STR_FMT(buf_str(&b)));
    buf_done(&b);
    return value;
}

static void want_integer(const json_t *object, const char *key, json_int_t want)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) != want)
        fail_msg("%s is not %lld", key, (long long)want);
}

static void want_string(const json_t *object, const char *key, const char *want)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value) || strcmp(json_string_value(value), want) != 0)
        fail_msg("%s is not \"%s\"", key, want);
}

static void test_every_field(void **state)
{
    (void)state;
    struct receipt r = good();
    json_t *json = as_json(&r);
    want_string(json, "run_id", "0123456789abcdef0123456789abcdef");
    want_string(json, "status", "ok");
    want_string(json, "cause", "ok");
    want_string(json, "hint", "");
    want_integer(json, "exit_code", 0);
    want_integer(json, "duration_us", 1234);
    want_integer(json, "cpu_us", 1000);
    want_integer(json, "queue_us", 5);
    want_string(json, "compile", "memory");
    want_integer(json, "compile_us", 7000);
    want_integer(json, "memory_peak_bytes", 65536);
    want_integer(json, "fuel", 42);
    want_integer(json, "stdin_bytes", 1);
    want_integer(json, "stdout_bytes", 2);
    want_integer(json, "stderr_bytes", 3);
    want_integer(json, "host_calls", 4);
    const json_t *limits = json_object_get(json, "limits");
    want_integer(limits, "timeout_ms", 5000);
    want_integer(limits, "memory_bytes", 128 * (json_int_t)MIB);
    want_integer(limits, "stdout_bytes", 11);
    want_integer(limits, "stderr_bytes", 12);
    want_integer(limits, "fuel", 13);
    assert_true(json_is_null(json_object_get(json, "trap")));
    json_decref(json);
}

static void test_frames(void **state)
{
    (void)state;
    static const struct receipt_frame frames[] = {{7, STR_LIT("main::\"odd\"\n\x1b[31m\xff"), 0x123},
                                                  {8, {NULL, 0}, UINT64_MAX},
                                                  {9, STR_LIT("gr\xc3\xbc\xc3\x9f"), 0}};
    struct receipt r = good();
    r.cause = CAUSE_TRAP;
    r.trap_code = 7;
    r.frames = frames;
    r.frame_count = LENGTH_OF(frames);
    json_t *json = as_json(&r);
    want_string(json, "status", "failed");
    want_string(json, "cause", "trap");
    const json_t *trap = json_object_get(json, "trap"), *list = json_object_get(trap, "frames");
    want_string(trap, "code", "integer_divide_by_zero");
    assert_int_equal(json_array_size(list), 3);
    want_string(json_array_get(list, 0), "function", "main::\"odd\"\n\x1b[31m\xef\xbf\xbd");
    want_integer(json_array_get(list, 0), "index", 7);
    want_integer(json_array_get(list, 0), "offset", 0x123);
    assert_true(json_is_null(json_object_get(json_array_get(list, 1), "function")));
    assert_true(json_is_null(json_object_get(json_array_get(list, 1), "offset")));
    want_string(json_array_get(list, 2), "function", "gr\xc3\xbc\xc3\x9f");
    json_decref(json);
}

/* Frames without a trap of the engine: where a guest was at its deadline. */
static void test_frames_at_a_deadline(void **state)
{
    (void)state;
    static const struct receipt_frame frame = {1, STR_LIT("spin"), 5};
    struct receipt r = good();
    r.cause = CAUSE_DEADLINE;
    r.frames = &frame;
    r.frame_count = 1;
    json_t *json = as_json(&r);
    want_string(json_object_get(json, "trap"), "code", "deadline");
    json_decref(json);
}

/* Whatever number a sandbox gives, there is a name for it. */
static void test_trap_names(void **state)
{
    (void)state;
    static const int unknown[] = {-1, 12, 49, 255, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < LENGTH_OF(unknown); i++) {
        struct receipt r = good();
        r.cause = CAUSE_TRAP;
        r.trap_code = unknown[i];
        assert_string_equal(receipt_trap_name(unknown[i]), "trap");
        assert_string_equal(receipt_hint(&r), "");
        json_decref(as_json(&r));
    }
    for (int i = 0; i < 12; i++)
        assert_string_not_equal(receipt_trap_name(i), "trap");
    assert_string_equal(receipt_trap_name(1), "memory_out_of_bounds");
    assert_string_equal(receipt_trap_name(9), "unreachable");
}

/* --- sentences ---------------------------------------------------------------------------------- */
static void expect_error(const struct receipt *r, const char *want)
{
    struct buf b = buf_make(1024);
    receipt_put_error(&b, r);
    assert_string_equal(buf_cstr(&b), want);
    buf_done(&b);
}

static void test_errors(void **state)
{
    (void)state;
    struct receipt r = good();
    expect_error(&r, "");
    r.cause = CAUSE_EXIT;
    r.exit_code = UINT32_MAX;
    expect_error(&r, "the guest exited with status 4294967295");
    r.cause = CAUSE_DEADLINE;
    expect_error(&r, "the guest ran past its time limit of 5000 ms");
    r.cause = CAUSE_MEMORY_LIMIT;
    r.detail = "it wanted more";
    struct buf b = buf_make(1024);
    receipt_put_error(&b, &r);
    assert_non_null(strstr(buf_cstr(&b), ": it wanted more"));
    buf_done(&b);
    for (int c = CAUSE_OK + 1; c < CAUSE_COUNT; c++) {
        r = good();
        r.cause = (enum cause)c;
        b = buf_make(1024);
        receipt_put_error(&b, &r);
        assert_true(b.len > 10);
        assert_non_null(receipt_hint(&r));
        buf_done(&b);
    }
}

static void test_hints(void **state)
{
    (void)state;
    struct receipt r = good();
    r.cause = CAUSE_DEADLINE;
    r.duration_ns = 100;
    r.cpu_ns = 90;
    assert_non_null(strstr(receipt_hint(&r), "computing"));
    r.cpu_ns = 10;
    assert_non_null(strstr(receipt_hint(&r), "waiting"));
    r.cpu_ns = r.duration_ns = 0; /* it never came to its turn */
    assert_non_null(strstr(receipt_hint(&r), "waiting"));
    r.cause = CAUSE_TRAP;
    r.trap_code = 9;
    assert_non_null(strstr(receipt_hint(&r), "panic"));
    r.cause = CAUSE_EXIT;
    assert_non_null(strstr(receipt_hint(&r), "stderr"));
    r.stderr_bytes = 0;
    assert_string_equal(receipt_hint(&r), "");
}

/* --- for a terminal ----------------------------------------------------------------------------- */
static void put_text(const struct receipt *r, struct buf *b)
{
    *b = buf_make(64 * 1024);
    receipt_put_text(b, r);
    assert_false(b->overflow);
    assert_int_equal(b->p[b->len - 1], '\n');
}

static void test_text(void **state)
{
    (void)state;
    struct receipt r = good();
    struct buf b;
    put_text(&r, &b);
    assert_non_null(strstr(buf_cstr(&b), "wasmwiz: ok\n"));
    assert_non_null(strstr(buf_cstr(&b), "fuel 42 of 13"));
    assert_non_null(strstr(buf_cstr(&b), "code from memory in 7.0 ms"));
    buf_done(&b);
    static const struct receipt_frame frames[] = {{7, STR_LIT("main"), 0x123}, {8, {NULL, 0}, UINT64_MAX}};
    r.cause = CAUSE_TRAP;
    r.trap_code = 1;
    r.frames = frames;
    r.frame_count = 2;
    put_text(&r, &b);
    assert_non_null(strstr(buf_cstr(&b), "\n  at main (offset 0x123)"));
    assert_non_null(strstr(buf_cstr(&b), "\n  at function 8\n"));
    assert_non_null(strstr(buf_cstr(&b), "\n  hint: "));
    buf_done(&b);
}

/* Names and sentences come from the guest: nothing in them may command the terminal, in any of the ways that one
 * obeys. */
static void test_terminal_is_safe(void **state)
{
    (void)state;
    static const struct receipt_frame frames[] = {
        {1, STR_LIT("a\x1b[2Jb\r\x07\x7f\t"), 1},
        {2,
         STR_LIT("c\xc2\x9b"
                 "31md"),
         2}, /* U+009B: the same as ESC [ */
        {3,
         STR_LIT("e\x9b"
                 "31mf\xff\xc2"),
         3},
        {4, STR_LIT("\xe2\x82\xac gr\xc3\xbc\xc3\x9f"), 4},
    };
    struct receipt r = good();
    struct buf b;
    r.cause = CAUSE_REJECTED;
    r.detail = "no function \"\x1b]0;title\x07\xc2\x9d\"";
    r.frames = frames;
    r.frame_count = LENGTH_OF(frames);
    put_text(&r, &b);
    for (struct str s = buf_str(&b); s.len;) {
        size_t len = utf8_sequence_length(s);
        unsigned char c = (unsigned char)s.p[0], second = len == 2 ? (unsigned char)s.p[1] : 0;
        if (!len || (c < 0x20 && c != '\n') || c == 0x7f || (c == 0xc2 && second < 0xa0))
            fail_msg("byte %02x %02x in: %s", c, second, buf_cstr(&b));
        s = str_make(s.p + len, s.len - len);
    }
    assert_non_null(strstr(buf_cstr(&b), "\xe2\x82\xac gr\xc3\xbc\xc3\x9f")); /* the rest stays as it is */
    assert_non_null(strstr(buf_cstr(&b), "a?[2Jb????"));
    buf_done(&b);
}

/* Where the text ends early, because its buffer is full or its sentence was cut, no character is cut in two. */
static void test_text_that_ends_early(void **state)
{
    (void)state;
    static const struct receipt_frame frames[] = {
        {1, STR_LIT("gr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80"), 1}};
    struct receipt r = good();
    r.cause = CAUSE_REJECTED;
    r.detail = "a sentence that was cut \xf0\x9f\x98";
    r.frames = frames;
    r.frame_count = LENGTH_OF(frames);
    bool cut_in_the_name = false;
    for (size_t max = 1; max < 200; max++) {
        struct buf b = buf_make(max);
        receipt_put_text(&b, &r);
        cut_in_the_name |= str_ends_with(buf_str(&b), STR_LIT("gr\xc3\xbc"));
        for (struct str s = buf_str(&b); s.len;) {
            size_t len = utf8_sequence_length(s);
            if (!len)
                fail_msg("%zu bytes are cut: %s", max, buf_cstr(&b));
            s = str_make(s.p + len, s.len - len);
        }
        buf_done(&b);
    }
    assert_true(cut_in_the_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_frames_at_a_deadline),
        cmocka_unit_test(test_trap_names),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_terminal_is_safe),
        cmocka_unit_test(test_text_that_ends_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
