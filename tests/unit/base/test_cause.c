/* The table of how runs end. */
#include "../unit.h"

#include <ctype.h>

#include "base/cause.h"

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < CAUSE_COUNT; i++) {
        enum cause c = (enum cause)i;
        const char *name = cause_name(c);
        assert_true(name[0]);
        for (size_t j = 0; name[j]; j++)
            assert_true(islower((unsigned char)name[j]) || name[j] == '_');
        for (int other = 0; other < i; other++)
            assert_string_not_equal(name, cause_name((enum cause)other));
        assert_true(cause_sentence(c)[0]);
        assert_in_range(cause_http_status(c), 200, 599);
        assert_true(cause_exit_status(c) >= -1 && cause_exit_status(c) <= 255);
        /* Only a run that went well looks like one. */
        assert_int_equal(cause_http_status(c) == 200, c == CAUSE_OK);
        assert_int_equal(cause_exit_status(c) == 0, c == CAUSE_OK);
    }
    assert_string_equal(cause_name(CAUSE_SANDBOX_CRASHED), "sandbox_crashed"); /* the longest: not cut */
    assert_int_equal(cause_exit_status(CAUSE_EXIT), -1);
}

static void test_a_number_that_is_no_cause(void **state)
{
    (void)state;
    assert_string_equal(cause_name(CAUSE_COUNT), "sandbox_crashed");
    assert_string_equal(cause_name((enum cause) - 1), "sandbox_crashed");
    assert_int_equal(cause_http_status((enum cause)INT32_MAX), 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_a_number_that_is_no_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
