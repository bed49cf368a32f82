/* The table of errors, and the sentence that goes with one. */
#include "../unit.h"

#include <ctype.h>

#include "base/err.h"

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        enum err e = (enum err)i;
        const char *name = err_name(e), *code = err_code(e);
        assert_int_equal(strlen(name), strlen(code));
        for (size_t j = 0; name[j]; j++) {
            assert_true(isupper((unsigned char)name[j]) || name[j] == '_');
            assert_int_equal(tolower((unsigned char)name[j]), code[j]);
        }
        for (int other = 0; other < i; other++)
            assert_string_not_equal(code, err_code((enum err)other));
        assert_true(err_sentence(e)[0]);
        assert_true(e == OK ? err_status(e) == 200 : err_status(e) >= 400 && err_status(e) <= 599);
        /* 503, 429 and 408 are said to those who may come again. */
        if (err_status(e) == 503 || err_status(e) == 429 || err_status(e) == 408)
            assert_true(err_may_retry(e));
    }
    assert_false(err_may_retry(ERR_BAD_REQUEST));
}

static void test_a_number_that_is_no_error(void **state)
{
    (void)state;
    static const int numbers[] = {ERR_COUNT, -1, INT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(numbers); i++) {
        assert_string_equal(err_name((enum err)numbers[i]), "INTERNAL");
        assert_string_equal(err_code((enum err)numbers[i]), "internal");
        assert_int_equal(err_status((enum err)numbers[i]), 500);
    }
}

static void test_sentence(void **state)
{
    (void)state;
    struct err_info info = {0};
    assert_int_equal(err_set(&info, ERR_BUSY, "%d of %d", 3, 4), ERR_BUSY);
    assert_int_equal(info.code, ERR_BUSY);
    assert_string_equal(err_text(&info), "3 of 4");
    assert_int_equal(err_set(NULL, ERR_BUSY, "nobody listens"), ERR_BUSY);
    info = (struct err_info){.code = ERR_NOT_FOUND};
    assert_string_equal(err_text(&info), err_sentence(ERR_NOT_FOUND));
}

static void test_what_clients_are_told(void **state)
{
    (void)state;
    static const enum err ours[] = {ERR_INTERNAL, ERR_STORE_DOWN, ERR_DISK_FAULT};
    for (int code = OK + 1; code < ERR_COUNT; code++) {
        bool is_ours = false;
        for (size_t i = 0; i < LENGTH_OF(ours); i++)
            is_ours |= code == (int)ours[i];
        struct err_info info;
        err_set(&info, (enum err)code, "the server db.internal refused the user ada");
        assert_string_equal(err_told(&info), is_ours ? err_sentence((enum err)code) : info.text);
    }
}

static void test_sentence_is_cut(void **state)
{
    (void)state;
    struct err_info info = {0};
    struct {
        struct err_info info;
        char behind[8];
    } guarded = {.behind = "behind"};
    assert_int_equal(err_set(&guarded.info, ERR_BUSY, "%1000s", "x"), ERR_BUSY);
    assert_int_equal(strlen(guarded.info.text), sizeof info.text - 1);
    assert_string_equal(guarded.behind, "behind");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),           cmocka_unit_test(test_a_number_that_is_no_error),
        cmocka_unit_test(test_sentence),        cmocka_unit_test(test_what_clients_are_told),
        cmocka_unit_test(test_sentence_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
