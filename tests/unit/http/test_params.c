/* Names and values of forms and queries. Parameters of fields: test_multipart.c. */
#include "../unit.h"

#include "http/params.h"

static void decodes_in_place(void **state)
{
    (void)state;
    const struct {
        struct str in, out; /* .p NULL: refused */
    } cases[] = {
        {STR_LIT(""), STR_LIT("")},
        {STR_LIT("a+b%2B%26%3d"), STR_LIT("a b+&=")},
        {STR_LIT("%c3%BC%ff"), STR_LIT("\xc3\xbc\xff")},
        {STR_LIT("%2541"), STR_LIT("%41")}, /* once, not twice */
        {STR_LIT("a=b&c"), STR_LIT("a=b&c")},
        {STR_LIT("%"), STR_NULL},
        {STR_LIT("%4"), STR_NULL},
        {STR_LIT("a%zz"), STR_NULL},
        {STR_LIT("%+1"), STR_NULL},
        {STR_LIT("%00"), STR_NULL},
        {STR_LIT("a\0b"), STR_NULL},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        char room[32];
        struct str out = STR_NULL;
        memcpy(room, cases[i].in.p, cases[i].in.len);
        bool ok = http_urlencoded_decode(str_make(room, cases[i].in.len), room, &out);
        if (ok != (cases[i].out.p != NULL) || (ok && !str_eq(out, cases[i].out)))
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(decodes_in_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
