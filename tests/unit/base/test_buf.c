/* The growing buffer: it never passes its maximum, and says so when it would have to. */
#include "../unit.h"

#include "base/buf.h"

static void test_up_to_the_maximum(void **state)
{
    (void)state;
    struct buf b = buf_make(1000);
    for (int i = 0; i < 1000; i++)
        assert_true(buf_putc(&b, (char)('a' + i % 26)));
    assert_int_equal(b.len, 1000);
    assert_false(b.overflow);
    assert_false(buf_putc(&b, 'x'));
    assert_true(b.overflow);
    assert_int_equal(b.len, 1000);
    assert_int_equal(b.p[999], 'a' + 999 % 26);
    /* Nothing more is taken, not even what would fit. */
    buf_consume(&b, 500);
    assert_false(buf_putc(&b, 'x'));
    assert_false(buf_append(&b, "", 0));
    assert_null(buf_reserve(&b, 0));
    buf_clear(&b);
    assert_true(buf_puts(&b, "again"));
    assert_string_equal(buf_cstr(&b), "again");
    buf_done(&b);
    assert_null(b.p);
    assert_int_equal(b.max, 1000);
    buf_done(&b);
}

static void test_lengths_near_the_end_of_size_t(void **state)
{
    (void)state;
    struct buf b = buf_make(SIZE_MAX);
    assert_true(buf_puts(&b, "abc"));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_true(b.overflow);
    buf_done(&b);
    b = buf_make(0);
    assert_true(buf_append(&b, NULL, 0));
    assert_false(buf_putc(&b, 'a'));
    buf_done(&b);
}

static void test_reserve(void **state)
{
    (void)state;
    struct buf b = buf_make(10000);
    char *to = buf_reserve(&b, 5000);
    assert_non_null(to);
    memset(to, 'x', 5000);
    assert_int_equal(b.len, 0);
    b.len += 4;
    assert_string_equal(buf_cstr(&b), "xxxx");
    buf_done(&b);
}

static void test_consume(void **state)
{
    (void)state;
    struct buf b = buf_make(100);
    buf_puts(&b, "hello world");
    buf_consume(&b, 0);
    buf_consume(&b, 6);
    assert_string_equal(buf_cstr(&b), "world");
    buf_consume(&b, 5);
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_cstr(&b), "");
    buf_done(&b);
}

static void test_take(void **state)
{
    (void)state;
    struct buf b = buf_make(100);
    size_t len = 7;
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    buf_puts(&b, "mine");
    char *p = buf_take(&b, &len);
    assert_int_equal(len, 4);
    assert_memory_equal(p, "mine", 4);
    assert_null(b.p);
    assert_true(buf_puts(&b, "next"));
    free(p);
    p = buf_take(&b, NULL);
    assert_memory_equal(p, "next", 4);
    free(p);
}

static void test_printf(void **state)
{
    (void)state;
    struct buf b = buf_make(1000);
    assert_true(buf_printf(&b, "%s-%d", "a", 5));
    assert_true(buf_printf(&b, "%300s|", "right")); /* longer than the first try takes */
    assert_int_equal(b.len, 3 + 301);
    assert_memory_equal(b.p + b.len - 7, " right|", 7);
    assert_false(buf_printf(&b, "%700s", "x"));
    assert_true(b.overflow);
    assert_int_equal(b.len, 304);
    buf_done(&b);
}

/* Short and long texts fill the same room. */
static void test_printf_to_the_last_byte(void **state)
{
    (void)state;
    for (int len = 200; len <= 400; len += 200) {
        struct buf b = buf_make((size_t)len);
        assert_true(buf_printf(&b, "%*s", len, "x"));
        assert_int_equal(b.len, len);
        buf_done(&b);
        b = buf_make((size_t)len - 1);
        assert_false(buf_printf(&b, "%*s", len, "x"));
        assert_true(b.overflow);
        buf_done(&b);
    }
}

static void test_u64(void **state)
{
    (void)state;
    struct buf b = buf_make(100);
    buf_put_u64(&b, 0);
    buf_putc(&b, ' ');
    buf_put_u64(&b, UINT64_MAX);
    assert_string_equal(buf_cstr(&b), "0 18446744073709551615");
    buf_done(&b);
}

static void test_cstr(void **state)
{
    (void)state;
    struct buf b = buf_make(4);
    assert_string_equal(buf_cstr(&b), "");
    buf_puts(&b, "abc");
    assert_string_equal(buf_cstr(&b), "abc");
    buf_putc(&b, 'd');
    assert_string_equal(buf_cstr(&b), "abcd"); /* full is not overflown */
    assert_false(b.overflow);
    buf_putc(&b, 'e');
    assert_string_equal(buf_cstr(&b), "");
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_up_to_the_maximum),
        cmocka_unit_test(test_lengths_near_the_end_of_size_t),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_consume),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_printf_to_the_last_byte),
        cmocka_unit_test(test_u64),
        cmocka_unit_test(test_cstr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
