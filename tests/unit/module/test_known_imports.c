/* Which imports exist: all of WASI preview1, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "module/known_imports.h"

static const struct str preview1 = STR_LIT("wasi_snapshot_preview1");

static void knows_wasi_preview1(void **state)
{
    (void)state;
    static const char *const names[] = {"args_get", "fd_write", "proc_exit", "random_get", "sock_shutdown"};
    for (size_t i = 0; i < LENGTH_OF(names); i++)
        assert_true(module_import_is_known(preview1, str_of(names[i])));
}

static void knows_nothing_else(void **state)
{
    (void)state;
    static const char *const names[] = {"", "fd_writ", "fd_write2", "FD_WRITE", "memory"};
    for (size_t i = 0; i < LENGTH_OF(names); i++)
        assert_false(module_import_is_known(preview1, str_of(names[i])));
    assert_false(module_import_is_known(preview1, str_make("fd_write\0", 9)));
    assert_false(module_import_is_known(STR_LIT("wasi_unstable"), STR_LIT("fd_write")));
    assert_false(module_import_is_known(STR_LIT("wasi_snapshot_preview"), STR_LIT("fd_write")));
    assert_false(module_import_is_known(STR_LIT(""), STR_LIT("fd_write")));
}

static void tells_known_modules(void **state)
{
    (void)state;
    assert_true(module_import_is_known(preview1, STR_NULL));
    assert_false(module_import_is_known(STR_LIT("env"), STR_NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_wasi_preview1),
        cmocka_unit_test(knows_nothing_else),
        cmocka_unit_test(tells_known_modules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
