/* The writer against a real database that goes away and comes back: no run is lost, none counts twice. */
#include "../unit.h"

#include <ftw.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "meter/retention.h"
#include "meter/usage.h"
#include "store/audit.h"
#include "store/keys.h"

static char folder[64], database[160], journal_folder[128];
static struct store *store;
static struct usage *usage;
static struct usage_loop *attached;
static struct loop loop;
static struct err_info err;
static uint64_t first_ns;

#define CHECK_OK(call)                           \
    do {                                         \
        if (call)                                \
            fail_msg("%s: %s", #call, err.text); \
    } while (0)

static void open_usage(void)
{
    CHECK_OK(usage_open(
        &(struct usage_config){
            .store = store, .folder = journal_folder, .journal_bytes_max = 64 * MIB, .loops = 1},
        &usage, &err));
    loop_init(&loop, 0);
    attached = usage_attach(usage, &loop);
}

static void close_usage(void)
{
    usage_detach(attached);
    loop_close(&loop);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    loop_done(&loop);
    usage_close(usage, clock_now_ns() + NS_PER_S);
}

static int setup(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_ERROR + 1, false);
    snprintf(folder, sizeof folder, "/tmp/wasmwiz-usage-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(journal_folder, sizeof journal_folder, "%s/journal", folder);
    assert_int_equal(mkdir(journal_folder, 0700), 0);
    snprintf(database, sizeof database, "%s/test.db", folder);
    const struct store_config config = {.url = database, .timeout_ns = 100 * NS_PER_MS};
    CHECK_OK(store_open_with(&config, &store, &err));
    first_ns = clock_wall_ns();
    open_usage();
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    close_usage();
    store_close(store);
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void record(unsigned number)
{
    static const unsigned char sha[STORE_SHA_BYTES] = {9};
    char id[33];
    snprintf(id, sizeof id, "%032x", number);
    assert_true(usage_reserve(attached));
    usage_record(attached, &(struct usage_run){.time_ns = first_ns + number,
                                               .id = id,
                                               .key_id = "0011223344556677",
                                               .user_id = "",
                                               .module_sha = sha,
                                               .duration_ns = 2000,
                                               .cause = CAUSE_OK,
                                               .status = 200});
}

static bool add_total(void *ctx, const struct store_usage_total *total)
{
    *(uint64_t *)ctx += total->runs;
    return true;
}

/* By the rows, and by the sums a day. */
static void count_runs(uint64_t *ret_rows, uint64_t *ret_sums)
{
    const struct store_usage_filter all = {0};
    *ret_rows = *ret_sums = 0;
    CHECK_OK(store_usage_totals(store, STORE_USAGE_BY_MODULE, &all, 10, add_total, ret_rows, &err));
    CHECK_OK(store_usage_totals(store, STORE_USAGE_BY_DAY, &all, 10, add_total, ret_sums, &err));
}

static void expect_runs(uint64_t want)
{
    uint64_t rows, sums;
    count_runs(&rows, &sums);
    assert_int_equal(rows, want);
    assert_int_equal(sums, want);
}

/* Turns the loop until the condition holds; for ten seconds at most. */
#define TURN_UNTIL(condition)                             \
    do {                                                  \
        uint64_t end_ns = clock_now_ns() + 10 * NS_PER_S; \
        while (!(condition)) {                            \
            assert_true(clock_now_ns() < end_ns);         \
            uv_run(&loop.uv, UV_RUN_ONCE);                \
        }                                                 \
    } while (0)

static sqlite3 *lock_database(void)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static void test_runs_become_rows(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3000; i++)
        record(i);
    TURN_UNTIL(usage_stats(usage).waiting == 0);
    expect_runs(3000);
    assert_int_equal(usage_stats(usage).written, 3000);
}

static void test_the_rest_is_written_at_the_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5000; i++)
        record(i);
    close_usage();
    expect_runs(5000);
    open_usage();
}

static void test_a_database_that_comes_and_goes(void **state)
{
    (void)state;
    sqlite3 *lock = lock_database();
    for (unsigned i = 0; i < 500; i++)
        record(i);
    TURN_UNTIL(usage_stats(usage).failures > 0);
    for (unsigned i = 500; i < 2500; i++)
        record(i);
    assert_int_equal(usage_stats(usage).waiting, 2500);
    assert_int_equal(usage_stats(usage).written, 0);
    sqlite3_close(lock);
    TURN_UNTIL(usage_stats(usage).waiting == 0);
    expect_runs(2500);
}

static void test_down_over_a_restart(void **state)
{
    (void)state;
    sqlite3 *lock = lock_database();
    for (unsigned i = 0; i < 500; i++)
        record(i);
    close_usage();
    sqlite3_close(lock);
    expect_runs(0);
    open_usage();
    TURN_UNTIL(usage_stats(usage).written == 500);
    expect_runs(500);
}

static void test_the_same_run_twice(void **state)
{
    (void)state;
    record(1);
    record(2);
    TURN_UNTIL(usage_stats(usage).waiting == 0);
    record(1);
    record(3);
    TURN_UNTIL(usage_stats(usage).waiting == 0);
    expect_runs(3);
    assert_int_equal(usage_stats(usage).written, 3);
}

static void test_last_use_of_a_key(void **state)
{
    (void)state;
    struct store_key key = {
        .id = "0011223344556677", .name = "k", .prefix = "p", .tier = "free", .created_ns = 1};
    CHECK_OK(store_key_insert(store, &key, &err));
    record(1);
    TURN_UNTIL(usage_stats(usage).waiting == 0);
    close_usage();
    CHECK_OK(store_key_by_id(store, key.id, &key, &err));
    assert_int_equal(key.last_used_ns, first_ns + 1);
    open_usage();
}

/* --- retention ---------------------------------------------------------------------------------- */
static void add_old(unsigned number, uint64_t age_ns)
{
    struct store_usage row = {
        .time_ns = clock_wall_ns() - age_ns, .key_id = "00", .cause = CAUSE_OK, .status = 200};
    snprintf(row.id, sizeof row.id, "%032x", number);
    CHECK_OK(store_usage_add(store, &row, 1, NULL, &err));
}

static void test_old_rows_go_and_their_sums_stay(void **state)
{
    (void)state;
    const uint64_t day_ns = 86400 * NS_PER_S;
    const struct retention_config config = {
        .store = store, .usage_ns = 30 * day_ns, .audit_ns = 30 * day_ns, .interval_ns = NS_PER_S};
    static struct retention r;
    uint64_t rows, sums;
    for (unsigned i = 0; i < 2500; i++)
        add_old(i, 31 * day_ns);
    add_old(9000, 29 * day_ns);
    retention_start(&r, &loop.uv, &config);
    TURN_UNTIL(atomic_load(&r.deleted[RETENTION_usage]) == 2500);
    retention_stop(&r);
    count_runs(&rows, &sums);
    assert_int_equal(rows, 1);
    assert_int_equal(sums, 2501);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_runs_become_rows),
        TEST(test_the_rest_is_written_at_the_end),
        TEST(test_a_database_that_comes_and_goes),
        TEST(test_down_over_a_restart),
        TEST(test_the_same_run_twice),
        TEST(test_last_use_of_a_key),
        TEST(test_old_rows_go_and_their_sums_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
