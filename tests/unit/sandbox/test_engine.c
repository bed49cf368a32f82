/* The engine: what it takes, what it refuses, and in which words. */
#include "engine_fixture.h"

static void test_text_format(void **state)
{
    (void)state;
    wasm_byte_vec_t wasm = fixture_wasm("(module)");
    assert_int_equal(wasm.size, 8);
    assert_memory_equal(wasm.data, "\0asm\1\0\0\0", 8);
    wasm_byte_vec_delete(&wasm);
    static const char *const bad[] = {"", "(module", "(module (func (unknown)))", "\xff\xfe",
                                      "(module \"\xff\")"};
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        struct err_info info = {0};
        enum err e = engine_wat_to_wasm(str_of(bad[i]), &wasm, &info);
        if (e == OK) { /* an empty text is an empty module */
            assert_int_equal(i, 0);
            wasm_byte_vec_delete(&wasm);
            continue;
        }
        assert_int_equal(e, ERR_MODULE_INVALID);
        assert_non_null(strstr(info.text, "text format"));
        assert_null(strchr(info.text, '\n'));
    }
}

static enum err compile(struct str wasm, bool fuel, struct err_info *info)
{
    struct engine *e = fixture_engine(false, fuel);
    wasm_byte_vec_t code;
    *info = (struct err_info){0};
    enum err err = engine_compile(e, wasm, &code, info);
    if (!err)
        wasm_byte_vec_delete(&code);
    engine_free(e);
    return err;
}

static enum err compile_wat(const char *wat, struct err_info *info)
{
    wasm_byte_vec_t wasm = fixture_wasm(wat);
    enum err err = compile(str_make(wasm.data, wasm.size), false, info);
    wasm_byte_vec_delete(&wasm);
    return err;
}

static void test_compile(void **state)
{
    (void)state;
    struct err_info info;
    assert_int_equal(compile_wat(GUEST_ECHO, &info), OK);
    static const struct str broken[] = {
        {"", 0}, {"\0asm\1\0\0\0\1", 9}, {"\0asm\1\0\0\0\xff\xff\xff\xff\xff", 13}, {"text", 4}};
    for (size_t i = 0; i < LENGTH_OF(broken); i++) {
        assert_int_equal(compile(broken[i], false, &info), ERR_MODULE_INVALID);
        assert_null(strchr(info.text, '\n'));
    }
    assert_int_equal(compile_wat("(module (func (result i32) (f32.const 1)))", &info), ERR_MODULE_INVALID);
    assert_non_null(strstr(info.text, "type mismatch"));
}

static void test_proposals_that_are_off(void **state)
{
    (void)state;
    static const char *const off[] = {
        "(module (memory i64 1))",
        "(module (memory 1 1 shared))",
        "(module (type (struct)))",
        "(module (tag))",
        "(module (func (param externref)))",
        "(module (memory 1 (pagesize 1)))",
        "(module (func (param i64 i64 i64 i64) (result i64 i64)"
        " (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3))))",
    };
    for (size_t i = 0; i < LENGTH_OF(off); i++) {
        struct err_info info;
        enum err e = compile_wat(off[i], &info);
        if (e != ERR_MODULE_REJECTED && e != ERR_MODULE_INVALID)
            fail_msg("%s: %s \"%s\"", off[i], err_name(e), info.text);
    }
    static const char *const on[] = {
        "(module (memory 1) (memory 1))",
        "(module (func (drop (v128.const i32x4 1 2 3 4))))",
        "(module (func $f (return_call $f)))",
        "(module (func (result i32 i32) (i32.const 1) (i32.const 2)))",
        "(module (table 1 funcref) (func (drop (ref.is_null (ref.null func)))))",
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(module (func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0))))",
    };
    for (size_t i = 0; i < LENGTH_OF(on); i++) {
        struct err_info info;
        enum err e = compile_wat(on[i], &info);
        if (e)
            fail_msg("%s: %s \"%s\"", on[i], err_name(e), info.text);
    }
}

static void test_ceiling_is_whole_pages(void **state)
{
    (void)state;
    struct engine_config config = {.pool = true, .slots = 1, .memory_max_bytes = WASM_PAGE_BYTES + 1};
    struct engine *e;
    assert_int_equal(engine_new(&config, &e, NULL), OK);
    assert_int_equal(e->config.memory_max_bytes, 2 * WASM_PAGE_BYTES);
    assert_true(engine_pool_memories(&config) > config.slots && engine_pool_tables(&config) > config.slots);
    engine_free(e);
    engine_free(NULL);
}

static void test_fingerprint(void **state)
{
    (void)state;
    char with[32], without[32];
    snprintf(with, sizeof with, "%s", engine_fingerprint(true));
    snprintf(without, sizeof without, "%s", engine_fingerprint(false));
    assert_int_equal(strlen(with), 16);
    assert_int_equal(strlen(without), 16);
    assert_string_not_equal(with, without);
    assert_string_equal(engine_fingerprint(true), with); /* the same each time */
}

/* --- the words of an error ---------------------------------------------------------------------- */
static void expect_words(const char *message, size_t size, const char *want)
{
    char out[512];
    memset(out, 'x', sizeof out);
    engine_error_text(wasmtime_error_new(message), out, size);
    assert_string_equal(out, want);
    assert_int_equal(out[size], 'x');
}

static void test_error_text(void **state)
{
    (void)state;
    expect_words("plain", 100, "plain");
    expect_words("", 100, "");
    expect_words("what\n\nCaused by:\n    why\n    because", 100, "what: why: because");
    expect_words(
        "error while executing at wasm backtrace:\n    0: 0x1 - f\n    1: 0x2 - g\n\nCaused by:\n    why",
        100, "why");
    expect_words("first\n\nCaused by:\n    0: error while executing\n    1: wasm trap: unreachable", 200,
                 "first: 0: error while executing: 1: wasm trap: unreachable");
    expect_words("\n\n\n", 100, "");
}

static void test_error_text_is_cut(void **state)
{
    (void)state;
    expect_words("abcdefghij", 5, "abcd");
    char want[512];
    for (size_t size = 4; size < 40; size++) {
        char out[512];
        memset(out, 'x', sizeof out);
        engine_error_text(wasmtime_error_new("one\ntwo\nthree\nfour\nfive\nsix"), out, size);
        assert_true(strlen(out) < size);
        assert_int_equal(out[size], 'x');
        snprintf(want, strlen(out) + 1, "%s", "one: two: three: four: five: six");
        assert_string_equal(out, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_format),
        cmocka_unit_test(test_compile),
        cmocka_unit_test(test_proposals_that_are_off),
        cmocka_unit_test(test_ceiling_is_whole_pages),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_error_text),
        cmocka_unit_test(test_error_text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
