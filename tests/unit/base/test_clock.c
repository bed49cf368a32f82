/* Times as text, there and back. */
#include "../unit.h"

#include "base/clock.h"

static void expect(const char *text, uint64_t want_ns)
{
    uint64_t ns = 1;
    if (!clock_parse(str_of(text), &ns))
        fail_msg("\"%s\" was not understood", text);
    assert_int_equal(ns, want_ns);
}

static void test_good_times(void **state)
{
    (void)state;
    expect("1970-01-01", 0);
    expect("2026-01-31", 1769817600 * NS_PER_S);
    expect("2024-02-29", 1709164800 * NS_PER_S);
    expect("2026-01-31T12:30:05Z", 1769862605 * NS_PER_S);
    expect("2026-01-31t12:30:05.25z", 1769862605 * NS_PER_S + 250 * NS_PER_MS);
    expect("2026-01-31 12:30:05.123456789999Z", 1769862605 * NS_PER_S + 123456789);
    expect("2026-01-31T12:30:05+02:00", 1769855405 * NS_PER_S);
    expect("2026-01-31T12:30:05-00:30", 1769864405 * NS_PER_S);
}

static void test_wrong_times(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "2026",
                                        "2026-1-1",
                                        "2026-00-01",
                                        "2026-13-01",
                                        "2026-02-30",
                                        "2023-02-29",
                                        "2026-01-00",
                                        "1969-12-31",
                                        "2262-01-01",
                                        "2026-01-31T",
                                        "2026-01-31T12:30Z",
                                        "2026-01-31T12:30:05",
                                        "2026-01-31T24:00:00Z",
                                        "2026-01-31T12:60:00Z",
                                        "2026-01-31T12:00:61Z",
                                        "2026-01-31T12:30:05.Z",
                                        "2026-01-31T12:30:05+0200",
                                        "2026-01-31T12:30:05Zx",
                                        "1970-01-01T00:00:00+01:00",
                                        "+026-01-01",
                                        "2026-01-31T12:30:05+24:00"};
    for (size_t i = 0; i < LENGTH_OF(wrong); i++) {
        uint64_t ns = 7;
        if (clock_parse(str_of(wrong[i]), &ns))
            fail_msg("\"%s\" was understood", wrong[i]);
        assert_int_equal(ns, 7);
    }
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    char text[32];
    for (uint64_t ns = 0; ns < (uint64_t)9000000000 * NS_PER_S; ns += 98765432123 * NS_PER_MS) {
        clock_format(ns, text);
        expect(text, ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good_times), cmocka_unit_test(test_wrong_times),
                                       cmocka_unit_test(test_what_is_written_is_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
