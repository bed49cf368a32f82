/* Strings with a length: cutting, numbers with units, hexadecimal, UTF-8. */
#include "../unit.h"

#include "base/str.h"

static void test_equality(void **state)
{
    (void)state;
    assert_true(str_eq(STR_NULL, STR_LIT("")));
    assert_true(str_eq(STR_LIT("a\0b"), str_make("a\0b", 3)));
    assert_false(str_eq(STR_LIT("a\0b"), STR_LIT("a\0c")));
    assert_false(str_eq(STR_LIT("ab"), STR_LIT("abc")));
    assert_true(str_ieq(STR_LIT("Content-TYPE"), STR_LIT("content-type")));
    assert_false(str_ieq(STR_LIT("["), STR_LIT("{"))); /* 0x5b and 0x7b: no letters */
    assert_false(str_ieq(STR_LIT("\xc4"), STR_LIT("\xe4")));
    assert_true(str_starts_with(STR_LIT("Bearer x"), STR_LIT("Bearer ")));
    assert_false(str_starts_with(STR_LIT("Bea"), STR_LIT("Bearer ")));
    assert_true(str_ends_with(STR_LIT("a.wasm"), STR_LIT(".wasm")));
    assert_false(str_ends_with(STR_LIT("wasm"), STR_LIT(".wasm")));
    assert_true(str_ends_with(STR_NULL, STR_NULL));
}

static void test_index_and_trim(void **state)
{
    (void)state;
    assert_int_equal(str_index(STR_LIT("abc"), 'c'), 2);
    assert_int_equal(str_index(STR_LIT("abc"), 'x'), 3);
    assert_int_equal(str_index(STR_NULL, 'x'), 0);
    assert_true(str_eq(str_trim(STR_LIT(" \t a b\t ")), STR_LIT("a b")));
    assert_int_equal(str_trim(STR_LIT(" \t ")).len, 0);
    assert_true(str_eq(str_trim(STR_LIT("\na")), STR_LIT("\na")));
}

static void test_split(void **state)
{
    (void)state;
    struct str rest = STR_LIT("a,,b");
    assert_true(str_eq(str_split(&rest, ','), STR_LIT("a")));
    assert_true(str_eq(str_split(&rest, ','), STR_LIT("")));
    assert_true(str_eq(str_split(&rest, ','), STR_LIT("b")));
    assert_int_equal(rest.len, 0);
    rest = STR_LIT("a,");
    str_split(&rest, ',');
    assert_int_equal(rest.len, 0);
    assert_int_equal(str_split(&rest, ',').len, 0);
}

static void test_u64(void **state)
{
    (void)state;
    uint64_t n = 7;
    assert_true(str_to_u64(STR_LIT("18446744073709551615"), UINT64_MAX, &n));
    assert_true(n == UINT64_MAX);
    assert_true(str_to_u64(STR_LIT("0010"), 10, &n));
    assert_int_equal(n, 10);
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1.0", "11", "18446744073709551616", "99999999999999999999999999"};
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        n = 7;
        if (str_to_u64(str_of(bad[i]), 10, &n) || n != 7)
            fail_msg("\"%s\" gave %llu", bad[i], (unsigned long long)n);
    }
    assert_false(str_to_u64(STR_NULL, 10, &n));
}

static void expect_bytes(const char *text, uint64_t want)
{
    uint64_t n = 7;
    if (!str_to_bytes(str_of(text), &n) || n != want)
        fail_msg("\"%s\" gave %llu instead of %llu", text, (unsigned long long)n, (unsigned long long)want);
}

static void expect_no_bytes(const char *text)
{
    uint64_t n = 7;
    if (str_to_bytes(str_of(text), &n) || n != 7)
        fail_msg("\"%s\" gave %llu", text, (unsigned long long)n);
}

static void test_bytes(void **state)
{
    (void)state;
    expect_bytes("0", 0);
    expect_bytes("4096", 4096);
    expect_bytes("4096b", 4096);
    expect_bytes("64k", 64 * KIB);
    expect_bytes("64 KB", 64 * KIB);
    expect_bytes("10mb", 10 * MIB);
    expect_bytes("128MiB", 128 * MIB);
    expect_bytes("1.5g", GIB + GIB / 2);
    expect_bytes("0.5k", 512);
    expect_bytes("16777215.999g", 16777215 * GIB + GIB * 999 / 1000);
    static const char *const bad[] = {"",
                                      "k",
                                      "-1",
                                      "1.",
                                      ".5",
                                      "1.0001k",
                                      "1tb",
                                      "1 k b",
                                      "1e3",
                                      "0x10",
                                      "18446744073709551616",
                                      "17179869184g"};
    for (size_t i = 0; i < LENGTH_OF(bad); i++)
        expect_no_bytes(bad[i]);
}

/* The decimals are added to a product that is near 2^64 already. */
static void test_decimals_do_not_wrap_around(void **state)
{
    (void)state;
    expect_no_bytes("18446744073709551.999");
    expect_no_bytes("18446744073709551.616b");
}

static void test_duration(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"5", 5 * NS_PER_S},
                {"5s", 5 * NS_PER_S},
                {"250ms", 250 * NS_PER_MS},
                {"2m", 120 * NS_PER_S},
                {"1h", 3600 * NS_PER_S},
                {"1.5s", 1500 * NS_PER_MS},
                {"0.001us", 1},
                {"7ns", 7},
                {"3US", 3000}};
    for (size_t i = 0; i < LENGTH_OF(good); i++) {
        uint64_t n = 0;
        if (!str_to_duration_ns(str_of(good[i].text), &n) || n != good[i].ns)
            fail_msg("\"%s\" gave %llu", good[i].text, (unsigned long long)n);
    }
    uint64_t n;
    assert_false(str_to_duration_ns(STR_LIT("1w"), &n));
    assert_false(str_to_duration_ns(STR_LIT("5124096h"), &n)); /* just above 2^64 ns */
    assert_true(str_to_duration_ns(STR_LIT("5124095h"), &n));
}

static void test_hex(void **state)
{
    (void)state;
    char out[9];
    unsigned char back[4];
    hex_encode("\x00\x7f\xab\xff", 4, out);
    assert_string_equal(out, "007fabff");
    assert_true(hex_decode(STR_LIT("007FaBff"), back, 4));
    assert_memory_equal(back, "\x00\x7f\xab\xff", 4);
    assert_false(hex_decode(STR_LIT("007fabf"), back, 4));
    assert_false(hex_decode(STR_LIT("007fabff0"), back, 4));
    assert_false(hex_decode(STR_LIT("007fabfg"), back, 4));
    assert_false(hex_decode(STR_LIT("007fabf "), back, 4));
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"a", 1},
        {"\xc3\xa4", 2},
        {"\xe2\x82\xac", 3},
        {"\xf0\x9f\x98\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xed\x9f\xbf", 3},
        {"\x80", 0}, /* a byte of a sequence that has no start */
        {"\xc3", 0}, /* cut off */
        {"\xc3z", 0},
        {"\xe2\x82", 0},
        {"\xc0\x80", 0}, /* longer than needed */
        {"\xe0\x9f\xbf", 0},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xed\xa0\x80", 0},     /* a surrogate */
        {"\xf4\x90\x80\x80", 0}, /* above U+10FFFF */
        {"\xf8\x88\x80\x80\x80", 0},
        {"\xff", 0},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++)
        if (utf8_sequence_length(str_of(cases[i].bytes)) != cases[i].len)
            fail_msg("case %zu", i);
    assert_int_equal(utf8_sequence_length(STR_NULL), 0);
    assert_int_equal(utf8_sequence_length(str_make("\0", 1)), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equality), cmocka_unit_test(test_index_and_trim),
        cmocka_unit_test(test_split),    cmocka_unit_test(test_u64),
        cmocka_unit_test(test_bytes),    cmocka_unit_test(test_decimals_do_not_wrap_around),
        cmocka_unit_test(test_duration), cmocka_unit_test(test_hex),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
