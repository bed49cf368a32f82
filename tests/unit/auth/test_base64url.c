#include "../unit.h"

#include "auth/base64url.h"

static void decodes_what_has_one_meaning(void **state)
{
    (void)state;
    /* RFC 4648, section 10, and the two characters that differ from base64. */
    static const struct {
        const char *text, *bytes;
    } cases[] = {
        {"", ""},           {"Zg", "f"},          {"Zm8", "fo"},          {"Zm9v", "foo"},
        {"Zm9vYg", "foob"}, {"Zm9vYmE", "fooba"}, {"Zm9vYmFy", "foobar"}, {"-_-_", "\xfb\xff\xbf"},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        unsigned char bytes[8];
        size_t len = 99, wanted = strlen(cases[i].bytes);
        assert_true(auth_base64url_decode(str_of(cases[i].text), bytes, wanted, &len));
        assert_int_equal(len, wanted);
        assert_memory_equal(bytes, cases[i].bytes, wanted);
        assert_true(wanted <= AUTH_BASE64URL_ROOM(strlen(cases[i].text)));
        if (wanted)
            assert_false(auth_base64url_decode(str_of(cases[i].text), bytes, wanted - 1, &len));
    }
}

static void refuses_all_else(void **state)
{
    (void)state;
    static const struct str cases[] = {
        STR_LIT("Z"),      STR_LIT("Zg=="),    STR_LIT("Zm8="),    STR_LIT("Zm9vY"), STR_LIT("Zm9 "),
        STR_LIT("Zm9v\n"), STR_LIT("+/+/"),    STR_LIT("Zm9\0"),   STR_LIT("Zh"),    STR_LIT("Zm9"),
        STR_LIT("Zm-="),   STR_LIT("Zm9v.Zg"), STR_LIT("Zm9\xe9"),
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        unsigned char bytes[16];
        size_t len = 99;
        assert_false(auth_base64url_decode(cases[i], bytes, sizeof bytes, &len));
        assert_int_equal(len, 99);
    }
}

/* Of all texts of two and three characters, as many are good as there are runs of one and two bytes. */
static void each_run_of_bytes_has_one_text(void **state)
{
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned good[4] = {0};
    for (unsigned i = 0; i < 64 * 64 * 64; i++) {
        const char text[] = {digits[i / 4096], digits[i / 64 % 64], digits[i % 64]};
        unsigned char bytes[2];
        size_t len;
        good[3] += auth_base64url_decode(str_make(text, 3), bytes, 2, &len);
        if (i % 64 == 0)
            good[2] += auth_base64url_decode(str_make(text, 2), bytes, 2, &len);
    }
    assert_int_equal(good[2], 256);
    assert_int_equal(good[3], 65536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_what_has_one_meaning),
        cmocka_unit_test(refuses_all_else),
        cmocka_unit_test(each_run_of_bytes_has_one_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
