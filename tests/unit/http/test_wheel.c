/* Deadlines without a clock: the time is the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/wheel.h"

#define TICK HTTP_WHEEL_TICK_NS
#define START (1000 * TICK)

static struct http_wheel wheel;

static struct http_deadline *fresh(struct http_deadline *d)
{
    http_deadline_init(d);
    return d;
}

static void test_found_when_due(void **state)
{
    (void)state;
    struct http_deadline a, b;
    http_wheel_init(&wheel, START);
    http_wheel_set(&wheel, fresh(&a), START + 10 * TICK);
    http_wheel_set(&wheel, fresh(&b), START + 3 * TICK + 1);
    assert_null(http_wheel_next(&wheel, START + 3 * TICK));
    assert_ptr_equal(http_wheel_next(&wheel, START + 4 * TICK), &b);
    assert_null(http_wheel_next(&wheel, START + 10 * TICK));
    assert_ptr_equal(http_wheel_next(&wheel, START + 11 * TICK), &a);
    assert_null(http_wheel_next(&wheel, START + 1000 * TICK));
}

static void test_moves_only_nearer(void **state)
{
    (void)state;
    struct http_deadline d;
    http_wheel_init(&wheel, START);
    http_wheel_set(&wheel, fresh(&d), START + 10 * TICK);
    http_wheel_set(&wheel, &d, START + 2 * TICK);
    assert_ptr_equal(http_wheel_next(&wheel, START + 3 * TICK), &d);
    http_wheel_set(&wheel, &d, START + 5 * TICK);
    http_wheel_set(&wheel, &d, START + 20 * TICK); /* found in the old slot, then asked again */
    assert_ptr_equal(http_wheel_next(&wheel, START + 6 * TICK), &d);
    http_wheel_set(&wheel, &d, HTTP_WHEEL_NEVER);
    assert_null(http_wheel_next(&wheel, START + 1000 * TICK));
}

static void test_far_ones_are_seen_each_turn(void **state)
{
    (void)state;
    struct http_deadline d;
    uint64_t due = START + 200 * TICK, now = START;
    int looks = 0;
    http_wheel_init(&wheel, START);
    http_wheel_set(&wheel, fresh(&d), due);
    for (; now < due; now += TICK)
        if (http_wheel_next(&wheel, now)) {
            looks++;
            http_wheel_set(&wheel, &d, due);
        }
    assert_in_range(looks, 1, 5);
    assert_ptr_equal(http_wheel_next(&wheel, due + TICK), &d);
}

static void test_overdue_and_long_sleep(void **state)
{
    (void)state;
    struct http_deadline past, later, removed;
    http_wheel_init(&wheel, START);
    http_wheel_set(&wheel, fresh(&past), START - 5 * TICK);
    http_wheel_set(&wheel, fresh(&later), START + 60 * TICK);
    http_wheel_set(&wheel, fresh(&removed), START + 60 * TICK);
    http_wheel_remove(&removed);
    struct http_deadline *one = http_wheel_next(&wheel, START + 100000 * TICK);
    struct http_deadline *other = http_wheel_next(&wheel, START + 100000 * TICK);
    assert_true((one == &past && other == &later) || (one == &later && other == &past));
    assert_null(http_wheel_next(&wheel, START + 100000 * TICK));
    http_wheel_set(&wheel, &later, START + 100001 * TICK);
    assert_ptr_equal(http_wheel_next(&wheel, START + 100002 * TICK), &later);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_when_due),
        cmocka_unit_test(test_moves_only_nearer),
        cmocka_unit_test(test_far_ones_are_seen_each_turn),
        cmocka_unit_test(test_overdue_and_long_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
