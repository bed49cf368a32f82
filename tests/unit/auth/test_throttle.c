/* Brakes on guessing: how delays grow, what resets them, and whom they count as one. */
#include "auth_fixture.h"

#include <pthread.h>

#include "auth/throttle.h"

enum { FREE = 5, CEILING_S = 300 }; /* of an account */

static uint32_t wait_s;

static enum err attempt(struct fixture *f, enum auth_throttle which, const char *subject)
{
    return auth_throttle_take(f->auth, which, str_of(subject), &wait_s, &f->info);
}

static enum err guess(struct fixture *f)
{
    return attempt(f, AUTH_THROTTLE_ACCOUNT, "ann@example.org");
}

static void delays_double_up_to_a_ceiling(void **state)
{
    struct fixture *f = *state;
    uint32_t expected = 1;
    for (int i = 0; i < FREE; i++)
        CHECK_OK(f, guess(f));
    for (int i = 0; i < 12; i++) {
        wait_s = 0;
        assert_int_equal(guess(f), ERR_RATE_LIMITED);
        assert_int_equal(wait_s, MIN(expected, (uint32_t)CEILING_S));
        assert_int_equal(guess(f), ERR_RATE_LIMITED); /* what is refused does not make it longer */
        clock_ahead_ns += wait_s * NS_PER_S;
        CHECK_OK(f, guess(f));
        expected *= 2;
    }
    assert_int_equal(guess(f), ERR_RATE_LIMITED);
    clock_ahead_ns += 2 * 3600 * NS_PER_S + NS_PER_S; /* all is forgotten */
    for (int i = 0; i < FREE; i++)
        CHECK_OK(f, guess(f));
    assert_int_equal(guess(f), ERR_RATE_LIMITED);
    assert_int_equal(wait_s, 1);
}

static void a_right_guess_forgets(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < FREE; i++)
        CHECK_OK(f, guess(f));
    CHECK_OK(f, auth_throttle_forget(f->auth, AUTH_THROTTLE_ACCOUNT, STR_LIT("ann@example.org"), &f->info));
    for (int i = 0; i < FREE; i++)
        CHECK_OK(f, guess(f));
    CHECK_OK(f, auth_throttle_give(f->auth, AUTH_THROTTLE_ACCOUNT, STR_LIT("ann@example.org"), &f->info));
    CHECK_OK(f, guess(f));
    assert_int_equal(guess(f), ERR_RATE_LIMITED);
}

static void exhaust(struct fixture *f, enum auth_throttle which, const char *subject)
{
    for (int i = 0; attempt(f, which, subject) == OK; i++)
        assert_in_range(i, 0, 30);
}

static void case_and_interface_make_no_other(void **state)
{
    struct fixture *f = *state;
    exhaust(f, AUTH_THROTTLE_ACCOUNT, "ann@example.org");
    assert_int_equal(attempt(f, AUTH_THROTTLE_ACCOUNT, "ANN@Example.Org"), ERR_RATE_LIMITED);
    CHECK_OK(f, attempt(f, AUTH_THROTTLE_ACCOUNT, "anna@example.org"));
    exhaust(f, AUTH_THROTTLE_ADDRESS, "2001:db8::1");
    assert_int_equal(attempt(f, AUTH_THROTTLE_ADDRESS, "2001:db8:0:0:ffff::2"), ERR_RATE_LIMITED);
    CHECK_OK(f, attempt(f, AUTH_THROTTLE_ADDRESS, "2001:db8:0:1::1"));
    exhaust(f, AUTH_THROTTLE_ADDRESS, "192.0.2.1");
    assert_int_equal(attempt(f, AUTH_THROTTLE_ADDRESS, "::ffff:192.0.2.1"), ERR_RATE_LIMITED);
    CHECK_OK(f, attempt(f, AUTH_THROTTLE_ADDRESS, "192.0.2.2"));
    CHECK_OK(f, attempt(f, AUTH_THROTTLE_REGISTER, "192.0.2.1")); /* another count */
}

static void nothing_tells_who_it_was(void **state)
{
    struct fixture *f = *state;
    CHECK_OK(f, guess(f));
    CHECK_OK(f, attempt(f, AUTH_THROTTLE_ADDRESS, "192.0.2.1"));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM login_attempts WHERE length(subject) = 32"), 2);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM login_attempts WHERE subject LIKE '%ann%'"
                                " OR subject LIKE '%192%.%'"),
                     0);
}

static void a_clock_set_back_locks_nobody_out(void **state)
{
    struct fixture *f = *state;
    clock_ahead_ns = 24 * 3600 * NS_PER_S;
    exhaust(f, AUTH_THROTTLE_ACCOUNT, "ann@example.org");
    clock_ahead_ns = 0;
    assert_int_equal(guess(f), ERR_RATE_LIMITED);
    assert_in_range(wait_s, 1, CEILING_S);
    clock_ahead_ns = wait_s * NS_PER_S - 1;
    assert_int_equal(guess(f), ERR_RATE_LIMITED);
    assert_int_equal(wait_s, 1);
    clock_ahead_ns++;
    CHECK_OK(f, guess(f));
}

static void old_ones_go(void **state)
{
    struct fixture *f = *state;
    exhaust(f, AUTH_THROTTLE_ACCOUNT, "bob@example.org");
    clock_ahead_ns = 3 * 3600 * NS_PER_S;
    CHECK_OK(f, guess(f));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM login_attempts"), 1);
}

static void *guess_often(void *ctx)
{
    struct fixture *f = ctx;
    uint32_t seconds;
    uintptr_t fine = 0;
    for (int i = 0; i < 20; i++) {
        struct err_info why = {0};
        enum err e =
            auth_throttle_take(f->auth, AUTH_THROTTLE_ACCOUNT, STR_LIT("ann@example.org"), &seconds, &why);
        fine += e == OK;
    }
    return (void *)fine;
}

/* Many at once get no more than one after the other. */
static void many_at_once_gain_nothing(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    uintptr_t fine = 0;
    for (size_t i = 0; i < LENGTH_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, guess_often, f), 0);
    for (size_t i = 0; i < LENGTH_OF(threads); i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        fine += (uintptr_t)result;
    }
    assert_int_equal(fine, FREE);
    assert_int_equal(run_sql(f, "SELECT attempts FROM login_attempts"), fine);
}

int main(void)
{
    alarm(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(delays_double_up_to_a_ceiling, setup, teardown),
        cmocka_unit_test_setup_teardown(a_right_guess_forgets, setup, teardown),
        cmocka_unit_test_setup_teardown(case_and_interface_make_no_other, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_tells_who_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(a_clock_set_back_locks_nobody_out, setup, teardown),
        cmocka_unit_test_setup_teardown(old_ones_go, setup, teardown),
        cmocka_unit_test_setup_teardown(many_at_once_gain_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
