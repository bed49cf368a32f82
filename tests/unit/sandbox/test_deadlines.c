/* The first is always the one whose deadline comes first, whatever came and went. */
#include "../unit.h"

#include "sandbox/deadlines.h"

enum { RUNS = 200, STEPS = 20000 };

static void check_first(const struct deadlines *d, const struct run *runs)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < RUNS; i++)
        if (runs[i].deadline_index != DEADLINES_NOT_IN && runs[i].limits.deadline_ns < least)
            least = runs[i].limits.deadline_ns;
    const struct run *first = deadlines_first(d);
    assert_int_equal(first != NULL, least != UINT64_MAX);
    if (first)
        assert_int_equal(first->limits.deadline_ns, least);
}

static void the_first_is_the_first(void **state)
{
    (void)state;
    struct deadlines d = {0};
    struct run *runs = xcalloc(RUNS, sizeof *runs);
    for (size_t i = 0; i < RUNS; i++)
        runs[i].deadline_index = DEADLINES_NOT_IN;
    srand(4);
    for (int step = 0; step < STEPS; step++) {
        struct run *r = &runs[rand() % RUNS];
        if (r->deadline_index != DEADLINES_NOT_IN || rand() % 4 == 0) {
            deadlines_remove(&d, r);
        } else {
            r->limits.deadline_ns = (uint64_t)(rand() % 50); /* some are equal */
            deadlines_add(&d, r);
        }
        check_first(&d, runs);
    }
    for (struct run *r; (r = deadlines_first(&d));)
        deadlines_remove(&d, r);
    check_first(&d, runs);
    deadlines_done(&d);
    free(runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_is_the_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
