/* Whose form it is, by what browsers say. */
#include "../unit.h"

#include "web/origin.h"

static void tells_own_from_others(void **state)
{
    (void)state;
    const struct {
        const char *fetch_site, *origin, *host;
        bool secure, own;
    } cases[] = {
        {"same-origin", NULL, "a.example", true, true},
        {"none", NULL, "a.example", true, true},
        {"same-site", "https://a.example", "a.example", true, false}, /* the first word counts */
        {"cross-site", "https://a.example", "a.example", true, false},
        {"", "https://a.example", "a.example", true, false},
        {"SAME-ORIGIN", NULL, "a.example", true, false},
        {"same-origin", "null", "a.example", true, true},
        {NULL, NULL, "a.example", true, false},
        {NULL, NULL, "a.example", false, false},
        {NULL, "https://a.example", "a.example", true, true},
        {NULL, "https://A.example", "a.EXAMPLE", true, true},
        {NULL, "http://a.example", "a.example", true, false},
        {NULL, "http://a.example", "a.example", false, true},
        {NULL, "https://a.example", "a.example", false, true}, /* behind a proxy that nobody told us of */
        {NULL, "http://a.example:8080", "a.example:8080", false, true},
        {NULL, "http://a.example:8081", "a.example:8080", false, false},
        {NULL, "http://a.example", "a.example:8080", false, false},
        {NULL, "http://b.example", "a.example", false, false},
        {NULL, "http://a.example.evil", "a.example", false, false},
        {NULL, "http://evil-a.example", "a.example", false, false},
        {NULL, "http://[::1]:8080", "[::1]:8080", false, true},
        {NULL, "null", "a.example", false, false},
        {NULL, "null", "null", false, false},
        {NULL, "", "a.example", false, false},
        {NULL, "http://", "", false, false},
        {NULL, "http://a.example", NULL, false, false},
        {NULL, "ftp://a.example", "a.example", false, false},
        {NULL, "a.example", "a.example", false, false},
        {NULL, "http://a.example http://b.example", "a.example", false, false},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct err_info info = {0};
        enum err e =
            web_origin_check(&(struct web_origin){str_of(cases[i].fetch_site), str_of(cases[i].origin),
                                                  str_of(cases[i].host), cases[i].secure},
                             &info);
        if (e != (cases[i].own ? OK : ERR_FORBIDDEN) || info.code != e)
            fail_msg("case %zu: %s", i, info.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tells_own_from_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
