/* The arena: aligned, zeroed, freed at once, and never above its ceiling. */
#include "../unit.h"

#include <stdalign.h>

#include "base/arena.h"

static void test_blocks(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 64 * KIB);
    char *all[500];
    for (size_t i = 0; i < LENGTH_OF(all); i++) {
        size_t size = i % 97 + 1;
        all[i] = arena_alloc(&a, size);
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % alignof(max_align_t), 0);
        for (size_t j = 0; j < size; j++)
            assert_int_equal(all[i][j], 0);
        memset(all[i], (int)i & 0x7f, size);
    }
    for (size_t i = 0; i < LENGTH_OF(all); i++)
        for (size_t j = 0; j < i % 97 + 1; j++)
            assert_int_equal(all[i][j], (int)i & 0x7f);
    char *large = arena_alloc(&a, 10000);
    assert_non_null(large);
    memset(large, 1, 10000);
    assert_true(a.used <= 64 * KIB);
    arena_done(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_alloc(&a, 1));
    arena_done(&a);
    arena_done(&a);
}

static void test_ceiling(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 16 * KIB);
    static const size_t sizes[] = {16 * KIB, 16 * KIB + 1, SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2};
    for (size_t i = 0; i < LENGTH_OF(sizes); i++)
        assert_null(arena_alloc(&a, sizes[i]));
    size_t got = 0;
    while (arena_alloc(&a, 100))
        got += 100;
    assert_in_range(got, 12 * KIB, 16 * KIB);
    assert_true(a.used <= 16 * KIB);
    assert_null(
        arena_copy(&a, STR_LIT("the ceiling is reached, and this text is longer than what is left of it: one "
                               "hundred and twelve bytes at the most"))
            .p);
    arena_done(&a);
}

static void test_nothing_is_something(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 16 * KIB);
    assert_non_null(arena_alloc(&a, 0));
    struct str s = arena_copy(&a, STR_NULL);
    assert_non_null(s.p);
    assert_string_equal(s.p, "");
    arena_done(&a);
}

static void test_text(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 16 * KIB);
    struct str s = arena_copy(&a, str_make("a\0b", 3));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.p, "a\0b", 4);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_nothing_is_something),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
