/* What is told once, and which failures are told; and that what is remembered stays within its bounds. */
#include "../unit.h"
#include "webhook/internal.h"

static struct webhook_watch *watch;

static int begin(void **state)
{
    (void)state;
    watch = xcalloc(1, sizeof *watch);
    webhook_watch_init(watch);
    return 0;
}

static int end(void **state)
{
    (void)state;
    webhook_watch_done(watch);
    free(watch);
    return 0;
}

static void a_limit_is_told_once_in_a_window(void **state)
{
    (void)state;
    assert_true(webhook_watch_limit(watch, STR_LIT("key"), STR_LIT("minute"), 7));
    assert_false(webhook_watch_limit(watch, STR_LIT("key"), STR_LIT("minute"), 7));
    assert_true(webhook_watch_limit(watch, STR_LIT("key"), STR_LIT("day"), 7));
    assert_true(webhook_watch_limit(watch, STR_LIT("other"), STR_LIT("minute"), 7));
    assert_false(webhook_watch_limit(watch, STR_LIT("key"), STR_LIT("day"), 7));
    assert_true(webhook_watch_limit(watch, STR_LIT("key"), STR_LIT("minute"), 8));
    assert_false(webhook_watch_limit(watch, STR_LIT("key"), STR_LIT("minute"), 8));
}

static bool run(const char *user, unsigned module, bool failed, uint64_t second)
{
    unsigned char sha[32] = {0};
    memcpy(sha, &module, sizeof module);
    return webhook_watch_run(
        watch, user, &(struct webhook_run){.sha = sha, .failed = failed, .wall_ns = second * NS_PER_S});
}

static unsigned used(void)
{
    unsigned sum = 0, counted = 0;
    for (size_t i = 0; i < WATCH_SETS; i++) {
        sum += atomic_load(&watch->sets[i].used);
        for (size_t j = 0; j < WATCH_WAYS; j++)
            counted += watch->sets[i].failing[j].user_id[0] != 0;
    }
    assert_int_equal(sum, counted);
    return sum;
}

static void the_fifth_failure_in_a_row_is_told(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_false(run("a", 1, true, 1000 + i));
    assert_false(run("b", 1, true, 1004)); /* somebody else's, and another module */
    assert_false(run("a", 2, true, 1004));
    assert_false(run("a", 2, false, 1004));
    assert_true(run("a", 1, true, 1005));
    assert_false(run("a", 1, true, 1006));
    assert_false(run("a", 1, true, 3599));
    for (unsigned i = 0; i < 3; i++)
        assert_false(run("a", 1, true, 3600 + i)); /* the next hour, but within ten minutes only four */
    assert_true(run("a", 1, true, 3604));
}

static void a_good_run_ends_the_row(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_false(run("a", 1, true, 1000 + i));
    assert_false(run("a", 1, false, 1005));
    assert_int_equal(used(), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_false(run("a", 1, true, 1010 + i));
    assert_true(run("a", 1, true, 1020));
}

static void rare_failures_are_not_told(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++)
        assert_false(run("a", 1, true, 1000 + i * 151)); /* five take 604 s */
    assert_false(run("a", 1, true, 20000));
    for (unsigned i = 1; i < 4; i++)
        assert_false(run("a", 1, true, 20000 + i * 150));
    assert_true(run("a", 1, true, 20600)); /* and these 600 */
}

static void good_runs_leave_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        assert_false(run("a", i, false, 0));
    assert_int_equal(used(), 0);
}

static void many_modules_that_fail_stay_within_bounds(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100000; i++)
        run("a", i * 2654435761U, true, 1000 + i);
    assert_true(used() <= WATCH_SETS * WATCH_WAYS);
    assert_true(used() > WATCH_SETS * WATCH_WAYS / 2);
    for (unsigned i = 0; i < 4; i++) /* the newest has a place all the same */
        assert_false(run("a", 7, true, 200000 + i));
    assert_true(run("a", 7, true, 200005));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_limit_is_told_once_in_a_window), TEST(the_fifth_failure_in_a_row_is_told),
        TEST(a_good_run_ends_the_row),          TEST(rare_failures_are_not_told),
        TEST(good_runs_leave_nothing),          TEST(many_modules_that_fail_stay_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
