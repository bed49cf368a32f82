/* What may stand in a field of a reply: the check that reads words agrees with the rule for bytes (RFC 9110, 5.5). */
#include "../unit.h"

#include "http/internal.h"

static bool is_allowed(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static void each_byte_in_each_place(void **state)
{
    (void)state;
    enum { LONGEST = 19 };
    char text[LONGEST];
    for (unsigned filler = 0; filler < 3; filler++)
        for (size_t len = 1; len <= LONGEST; len++)
            for (size_t place = 0; place < len; place++)
                for (unsigned byte = 0; byte < 256; byte++) {
                    memset(text, " \x80~"[filler], sizeof text);
                    text[place] = (char)byte;
                    const struct http_field value = {STR_LIT("a"), str_make(text, len)};
                    const struct http_field name = {str_make(text, len), STR_LIT("")};
                    bool clean = http_field_is_clean(&value);
                    assert_int_equal(clean, is_allowed((unsigned char)byte));
                    assert_int_equal(http_field_is_clean(&name), clean);
                }
}

static void a_field_has_a_name(void **state)
{
    (void)state;
    assert_false(http_field_is_clean(&(struct http_field){STR_LIT(""), STR_LIT("value")}));
    assert_true(http_field_is_clean(&(struct http_field){STR_LIT("a"), STR_LIT("")}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_byte_in_each_place),
        cmocka_unit_test(a_field_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
