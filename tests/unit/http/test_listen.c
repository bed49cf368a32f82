/* What may stand where an address to listen on is asked for. */
#include "../unit.h"

#include "http/server.h"

static void addresses_and_names_fit(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1",   "0.0.0.0",           "::",          "::1",
                                        "2001:db8::1", "localhost",         "example.org", "a.b-c.d",
                                        "a_b.lan",     "node.example.org.", "4u",          "1.example"};
    for (size_t i = 0; i < LENGTH_OF(hosts); i++)
        if (!http_host_fits(hosts[i]))
            fail_msg("\"%s\" fits", hosts[i]);
}

static void others_do_not(void **state)
{
    (void)state;
    static const char *const hosts[] = {"",     " ",         "a b",         "a/b",     "http://a",
                                        "a:80", "[::1]",     ".",           ".a",      "a..b",
                                        "a..",  "-a",        "a-",          "a-.b",    "*",
                                        "a\n",  "1.2.3.4.5", "127.0.0.256", "1::2::3", "\xc3\xa4.example"};
    for (size_t i = 0; i < LENGTH_OF(hosts); i++)
        if (http_host_fits(hosts[i]))
            fail_msg("\"%s\" does not fit", hosts[i]);
}

static void lengths_are_bounded(void **state)
{
    (void)state;
    char name[255];
    memset(name, 'a', sizeof name);
    name[63] = 0;
    assert_true(http_host_fits(name));
    name[63] = 'a';
    name[64] = 0;
    assert_false(http_host_fits(name));
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = i % 4 == 3 ? '.' : 'a';
    name[253] = 0;
    assert_true(http_host_fits(name));
    name[253] = 'a';
    name[254] = 0;
    assert_false(http_host_fits(name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_and_names_fit),
        cmocka_unit_test(others_do_not),
        cmocka_unit_test(lengths_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
