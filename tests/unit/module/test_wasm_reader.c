/* Numbers and names of the binary format, at their edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "module/wasm_reader.h"

static void reads_u32_at_its_edges(void **state)
{
    (void)state;
    static const struct {
        struct str bytes;
        uint32_t value;
    } cases[] = {
        {STR_LIT("\x00"), 0},
        {STR_LIT("\x7f"), 127},
        {STR_LIT("\x80\x01"), 128},
        {STR_LIT("\x80\x00"), 0}, /* longer than needed is allowed */
        {STR_LIT("\xff\x80\x80\x80\x00"), 127},
        {STR_LIT("\xff\xff\xff\xff\x0f"), UINT32_MAX},
        {STR_LIT("\xe5\x8e\x26"), 624485},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct wasm_reader r = wasm_reader_make(cases[i].bytes);
        uint32_t value = 1;
        assert_true(wasm_read_u32(&r, &value));
        assert_int_equal(value, cases[i].value);
        assert_int_equal(wasm_reader_left(&r), 0);
    }
}

static void refuses_what_is_no_u32(void **state)
{
    (void)state;
    static const struct str cases[] = {
        STR_LIT(""),
        STR_LIT("\x80"),
        STR_LIT("\xff\xff\xff\xff"),
        STR_LIT("\xff\xff\xff\xff\x1f"),     /* bit 32 */
        STR_LIT("\xff\xff\xff\xff\x7f"),     /* as a negative number would be written */
        STR_LIT("\x80\x80\x80\x80\x80\x00"), /* 6 bytes */
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct wasm_reader r = wasm_reader_make(cases[i]);
        uint32_t value = 77;
        assert_false(wasm_read_u32(&r, &value));
        assert_int_equal(value, 77);
        assert_int_equal(r.at, 0);
    }
}

static void reads_names(void **state)
{
    (void)state;
    struct wasm_reader r = wasm_reader_make(STR_LIT("\x04gr\xc3\xbc\x00\x03zzz"));
    struct str name;
    assert_true(wasm_read_name(&r, &name));
    assert_true(str_eq(name, STR_LIT("gr\xc3\xbc")));
    assert_true(wasm_read_name(&r, &name));
    assert_non_null(name.p);
    assert_int_equal(name.len, 0);
    static const struct str bad[] = {
        STR_LIT("\x02z"),                 /* cut off */
        STR_LIT("\x01\xff"),              /* no UTF-8 */
        STR_LIT("\x02\xc3z"),             /* half a sequence */
        STR_LIT("\x02\xc0\x80"),          /* an overlong NUL */
        STR_LIT("\x03\xed\xa0\x80"),      /* a surrogate */
        STR_LIT("\x04\xf4\x90\x80\x80"),  /* past U+10FFFF */
        STR_LIT("\xff\xff\xff\xff\x0fz"), /* a length past all memory */
    };
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        r = wasm_reader_make(bad[i]);
        assert_false(wasm_read_name(&r, &name));
        assert_int_equal(r.at, 0);
    }
}

static void a_window_ends_where_it_was_told(void **state)
{
    (void)state;
    struct wasm_reader r = wasm_reader_make(STR_LIT("abc")), window;
    uint8_t byte;
    assert_false(wasm_read_window(&r, 4, &window));
    assert_false(wasm_skip(&r, SIZE_MAX));
    assert_true(wasm_read_window(&r, 2, &window));
    assert_true(wasm_skip(&window, 1));
    assert_true(wasm_read_byte(&window, &byte) && byte == 'b');
    assert_false(wasm_read_byte(&window, &byte));
    assert_true(wasm_read_byte(&r, &byte) && byte == 'c');
    assert_false(wasm_read_byte(&r, &byte));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_u32_at_its_edges),
        cmocka_unit_test(refuses_what_is_no_u32),
        cmocka_unit_test(reads_names),
        cmocka_unit_test(a_window_ends_where_it_was_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
