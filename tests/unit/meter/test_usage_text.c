/* Rows and totals as JSON and CSV, with texts that mean harm to a spreadsheet. */
#include "../unit.h"

#include "meter/usage_text.h"

static struct store_usage row;
static struct usage_cells cells;
static struct buf out;

static const char *csv_with_error(const char *error)
{
    snprintf(row.error, sizeof row.error, "%s", error);
    usage_cells_of_row(&cells, &row);
    buf_clear(&out);
    usage_put_csv(&out, &cells);
    return buf_cstr(&out);
}

static void expect_error(const char *error, const char *field)
{
    char want[256];
    snprintf(want, sizeof want, ",422,%s,0,0,0,0,0,0,0,0,0,0,0,0\r\n", field);
    const char *line = csv_with_error(error);
    if (!strstr(line, want))
        fail_msg("%s has no %s", line, want);
}

static void test_csv(void **state)
{
    (void)state;
    row = (struct store_usage){.cause = CAUSE_TRAP, .status = 422, .id = "ab"};
    out = buf_make(4096);
    expect_error("", "");
    expect_error("plain", "plain");
    expect_error("a,b", "\"a,b\"");
    expect_error("say \"x\"", "\"say \"\"x\"\"\"");
    expect_error("two\nlines", "\"two\nlines\"");
    expect_error("=1+1", "'=1+1");
    expect_error("@x", "'@x");
    expect_error("-1", "'-1");
    expect_error("+1", "'+1");
    expect_error("\t=1", "'\t=1");
    expect_error("=a,b", "\"'=a,b\"");
    usage_put_csv_head(&out, &cells);
    assert_non_null(
        strstr(buf_cstr(&out), "time,run_id,key_id,user_id,module_sha256,status,cause,http_status,error,"));
    buf_done(&out);
}

static void test_json(void **state)
{
    (void)state;
    struct store_usage_total total = {.day = 20000, .runs = 3, .output_bytes = 7};
    out = buf_make(4096);
    usage_cells_of_total(&cells, STORE_USAGE_BY_DAY, &total);
    usage_put_json(&out, &cells);
    assert_string_equal(buf_cstr(&out), "{\"day\":\"2024-10-04\",\"runs\":3,\"duration_us\":0,\"cpu_us\":0,"
                                        "\"memory_peak_bytes\":0,\"wasm_bytes\":0,\"input_bytes\":0,"
                                        "\"output_bytes\":7}");
    buf_clear(&out);
    row = (struct store_usage){.cause = CAUSE_OK, .status = 200, .id = "ab"};
    usage_cells_of_row(&cells, &row);
    usage_put_json(&out, &cells);
    assert_non_null(strstr(buf_cstr(&out), "\"user_id\":null"));
    assert_non_null(
        strstr(buf_cstr(&out), "\"status\":\"ok\",\"cause\":\"ok\",\"http_status\":200,\"error\":null"));
    buf_done(&out);
}

static void test_groups(void **state)
{
    (void)state;
    enum store_usage_group by;
    const uint64_t day = 86400 * NS_PER_S;
    assert_true(usage_group_parse(STR_LIT("module"), &by));
    assert_int_equal(by, STORE_USAGE_BY_MODULE);
    assert_false(usage_group_parse(STR_LIT("week"), &by));
    uint64_t from = 5 * day + 1, to = 7 * day + 1;
    usage_group_widen(STORE_USAGE_BY_MODULE, &from, &to);
    assert_int_equal(to, 7 * day + 1);
    usage_group_widen(STORE_USAGE_BY_DAY, &from, &to);
    assert_int_equal(from, 5 * day);
    assert_int_equal(to, 8 * day);
    usage_group_widen(STORE_USAGE_BY_DAY, &from, &to);
    assert_int_equal(to, 8 * day);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_csv), cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_groups)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
