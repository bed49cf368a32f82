/* JSON strings: whatever the bytes are, a strict parser reads the text back. */
#include "../unit.h"

#include <jansson.h>

#include "base/json.h"

/* What jansson makes of the string that we wrote. */
static void expect_reads_back(const char *bytes, size_t len, const char *want, size_t want_len)
{
    struct buf b = buf_make(10000);
    assert_true(json_put_string(&b, str_make(bytes, len)));
    json_error_t error;
    json_t *value = json_loadb(b.p, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!value)
        fail_msg("%s: %.*s", error.text, STR_FMT(buf_str(&b)));
    assert_int_equal(json_string_length(value), want_len);
    assert_memory_equal(json_string_value(value), want, want_len);
    for (size_t i = 0; i < b.len; i++)
        assert_true((unsigned char)b.p[i] >= 0x20 && b.p[i] != 0x7f);
    json_decref(value);
    buf_done(&b);
}

static void test_every_byte(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        if (c < 0x80)
            expect_reads_back(&byte, 1, &byte, 1);
        else
            expect_reads_back(&byte, 1, "\xef\xbf\xbd", 3);
    }
}

static void test_text(void **state)
{
    (void)state;
    static const char good[] = "plain \"quoted\" \\ /\n\t\r\x01 \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 end";
    expect_reads_back(good, sizeof good - 1, good, sizeof good - 1);
    expect_reads_back("", 0, "", 0);
    expect_reads_back(NULL, 0, "", 0);
    expect_reads_back("a\xe2\x82z", 4, "a\xef\xbf\xbd\xef\xbf\xbdz", 8);
    expect_reads_back("\xe2\x82", 2, "\xef\xbf\xbd\xef\xbf\xbd", 6); /* cut at the end */
}

/* Plain bytes are taken several at a time: every byte at every place among them, and beside every neighbour. */
static void test_every_place(void **state)
{
    (void)state;
    char text[40];
    for (int c = 1; c < 0x80; c++)
        for (size_t at = 0; at < sizeof text; at++)
            for (int fill = ' '; fill <= '~'; fill += '~' - ' ') {
                memset(text, fill, sizeof text);
                text[at] = (char)c;
                expect_reads_back(text, sizeof text, text, sizeof text);
            }
}

static void test_overflow(void **state)
{
    (void)state;
    struct buf b = buf_make(6);
    assert_true(json_put_string(&b, STR_LIT("abcd")));
    assert_memory_equal(b.p, "\"abcd\"", 6);
    buf_clear(&b);
    assert_false(json_put_string(&b, STR_LIT("abcde")));
    buf_clear(&b);
    assert_false(json_put_string(&b, STR_LIT("\x01")));
    buf_done(&b);
}

static void test_key(void **state)
{
    (void)state;
    struct buf b = buf_make(100);
    assert_true(json_put_key(&b, "run_id"));
    assert_string_equal(buf_cstr(&b), "\"run_id\":");
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte), cmocka_unit_test(test_text), cmocka_unit_test(test_every_place),
        cmocka_unit_test(test_overflow),   cmocka_unit_test(test_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
