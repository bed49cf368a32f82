/* The journal and its files: what was put in comes out once, whatever became of the process or of the file. */
#include "../unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "meter/journal.h"

enum { ROWS_MAX = 20000, SLOT_BYTES = 488 };

static char folder[64];
static struct journal *journal;
static struct store_usage rows[ROWS_MAX];
static struct err_info err;

static struct journal *open_journal(uint64_t bytes_max, uint32_t lanes)
{
    struct journal *j = NULL;
    const struct journal_config config = {.folder = folder, .bytes_max = bytes_max, .lanes = lanes};
    if (journal_open(&config, &j, &err))
        fail_msg("%s", err.text);
    return j;
}

static int setup(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_ERROR + 1, false);
    snprintf(folder, sizeof folder, "/tmp/wasmwiz-journal-XXXXXX");
    assert_non_null(mkdtemp(folder));
    journal = NULL;
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
    journal_close(journal);
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(struct journal *j, uint32_t lane, unsigned number, const char *error)
{
    static const unsigned char sha[STORE_SHA_BYTES] = {1, 2, 3};
    char id[33];
    snprintf(id, sizeof id, "%032x", number);
    assert_true(journal_reserve(j, lane));
    journal_put(j, lane,
                &(struct usage_run){.time_ns = 1000 + number,
                                    .id = id,
                                    .key_id = "00112233aabbccdd",
                                    .user_id = "",
                                    .module_sha = sha,
                                    .duration_ns = 5000,
                                    .cpu_ns = 4000,
                                    .memory_peak_bytes = 65536,
                                    .wasm_bytes = 7,
                                    .input_bytes = 8,
                                    .output_bytes = 9,
                                    .queue_ns = 10000,
                                    .compile_ns = 11000,
                                    .fuel = 12,
                                    .stderr_bytes = 13,
                                    .host_calls = 14,
                                    .exit_code = 15,
                                    .cause = error[0] ? CAUSE_TRAP : CAUSE_OK,
                                    .status = error[0] ? 422 : 200,
                                    .error = str_of(error)});
}

static void put_many(struct journal *j, uint32_t lane, unsigned from, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        put(j, lane, from + i, "");
}

/* Reads and drains everything; returns how many, having checked that their numbers are `from` and on, in order. */
static size_t drain(struct journal *j, unsigned from)
{
    size_t all = 0, n;
    char want[33];
    while ((n = journal_read(j, true, rows, 2000)) > 0) {
        for (size_t i = 0; i < n; i++, all++) {
            snprintf(want, sizeof want, "%032zx", from + all);
            assert_string_equal(rows[i].id, want);
        }
        journal_drained(j);
    }
    return all;
}

static unsigned files(const char *end)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *d; (d = readdir(dir));)
        count += str_ends_with(str_of(d->d_name), str_of(end));
    closedir(dir);
    return count;
}

/* The only file of the folder that has runs in it. */
static void path_of_orphan(char *path, size_t size)
{
    DIR *dir = opendir(folder);
    path[0] = 0;
    for (struct dirent *d; (d = readdir(dir));)
        if (str_ends_with(str_of(d->d_name), STR_LIT(".journal")))
            snprintf(path, size, "%s/%s", folder, d->d_name);
    closedir(dir);
    assert_true(path[0]);
}

/* --- the good way ------------------------------------------------------------------------------- */
static void test_what_goes_in_comes_out(void **state)
{
    (void)state;
    journal = open_journal(64 * MIB, 2);
    put(journal, 1, 7, "it broke");
    assert_int_equal(journal_stats(journal).waiting, 1);
    assert_int_equal(journal_read(journal, false, rows, 10), 1);
    const struct store_usage *u = &rows[0];
    assert_int_equal(u->time_ns, 1007);
    assert_string_equal(u->id, "00000000000000000000000000000007");
    assert_string_equal(u->key_id, "00112233aabbccdd");
    assert_string_equal(u->user_id, "");
    assert_int_equal(u->module_sha[2], 3);
    assert_int_equal(u->duration_us, 5);
    assert_int_equal(u->cpu_us, 4);
    assert_int_equal(u->memory_peak_bytes, 65536);
    assert_int_equal(u->cause, CAUSE_TRAP);
    assert_int_equal(u->status, 422);
    assert_string_equal(u->error, "it broke");
    assert_int_equal(u->wasm_bytes, 7);
    assert_int_equal(u->input_bytes, 8);
    assert_int_equal(u->output_bytes, 9);
    assert_int_equal(u->queue_us, 10);
    assert_int_equal(u->compile_us, 11);
    assert_int_equal(u->fuel, 12);
    assert_int_equal(u->stderr_bytes, 13);
    assert_int_equal(u->host_calls, 14);
    assert_int_equal(u->exit_code, 15);
    journal_drained(journal);
    assert_int_equal(journal_read(journal, false, rows, 10), 0);
    assert_int_equal(journal_stats(journal).waiting, 0);
}

static void test_long_errors_are_cut(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'x', sizeof text);
    text[399] = 0;
    journal = open_journal(64 * MIB, 1);
    put(journal, 0, 0, text);
    assert_int_equal(journal_read(journal, false, rows, 10), 1);
    assert_int_equal(strlen(rows[0].error), STORE_ERROR_BYTES - 1);
}

static void test_segments_follow_each_other(void **state)
{
    (void)state;
    journal = open_journal(64 * MIB, 1);
    unsigned put_so_far = 0, drained = 0;
    for (unsigned turn = 0; turn < 12; turn++) {
        put_many(journal, 0, put_so_far, 4000);
        put_so_far += 4000;
        assert_int_equal(journal_tend(journal, &err), OK);
        if (turn % 3 == 2)
            drained += (unsigned)drain(journal, drained);
    }
    assert_int_equal(drained, put_so_far);
    assert_int_equal(files(".journal"), 3); /* the current one, a spare, and one to be used again */
    assert_int_equal(journal_stats(journal).bytes, 3 * 4 * MIB);
}

static void test_full_and_room_again(void **state)
{
    (void)state;
    unsigned count = 0;
    journal = open_journal(8 * MIB, 1);
    while (journal_reserve(journal, 0)) {
        journal_release(journal, 0);
        put(journal, 0, count++, "");
        assert_int_equal(journal_tend(journal, &err), OK);
    }
    assert_true(count > 10000);
    assert_true(journal_stats(journal).bytes <= 8 * MIB);
    assert_int_equal(drain(journal, 0), count);
    assert_int_equal(journal_tend(journal, &err), OK);
    put(journal, 0, count, "");
    assert_int_equal(drain(journal, count), 1);
}

static void test_reserved_room_is_kept(void **state)
{
    (void)state;
    unsigned reserved = 0;
    journal = open_journal(8 * MIB, 1);
    while (journal_reserve(journal, 0))
        reserved++;
    assert_false(journal_reserve(journal, 0));
    journal_release(journal, 0);
    put(journal, 0, 0, "");
    assert_false(journal_reserve(journal, 0));
    while (--reserved)
        journal_release(journal, 0);
    assert_true(journal_reserve(journal, 0));
    journal_release(journal, 0);
}

static void test_sync(void **state)
{
    (void)state;
    journal = open_journal(64 * MIB, 2);
    put(journal, 0, 0, "");
    assert_int_equal(journal_sync(journal, &err), OK);
    assert_int_equal(drain(journal, 0), 1);
}

/* --- other processes ---------------------------------------------------------------------------- */
/* A process that puts `count` runs, says so, and lives until it is killed. */
static pid_t other_process(unsigned count)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct journal *j = open_journal(64 * MIB, 1);
        for (unsigned i = 0; i < count; i++) {
            put(j, 0, i, "");
            if (i % 4000 == 0 && journal_tend(j, &err))
                _exit(1);
        }
        if (write(ready[1], "R", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void kill_process(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_a_living_process_keeps_its_runs(void **state)
{
    (void)state;
    pid_t pid = other_process(5000);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(drain(journal, 0), 0);
    kill_process(pid);
    assert_int_equal(drain(journal, 0), 5000);
    assert_int_equal(drain(journal, 0), 0);
    assert_int_equal(files(".journal"), 1); /* one's own */
}

static void test_found_at_the_start(void **state)
{
    (void)state;
    kill_process(other_process(12000)); /* two files */
    journal = open_journal(64 * MIB, 1);
    size_t all = 0, n;
    while ((n = journal_read(journal, false, rows, 2000)) > 0) {
        all += n;
        journal_drained(journal);
    }
    assert_int_equal(all, 12000);
}

static void test_drained_half_way(void **state)
{
    (void)state;
    kill_process(other_process(1000));
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(journal_read(journal, true, rows, 800), 200); /* a quarter goes to the dead */
    journal_drained(journal);
    assert_int_equal(journal_read(journal, true, rows, 800), 200); /* given, and not drained */
    journal_close(journal);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(drain(journal, 200), 800);
}

static void test_others_count_in_the_bound(void **state)
{
    (void)state;
    kill_process(other_process(12000)); /* two files of 4 MiB */
    journal = open_journal(10 * MIB, 1);
    assert_false(journal_reserve(journal, 0));
    assert_int_equal(journal_tend(journal, &err), OK);
    assert_false(journal_reserve(journal, 0));
    size_t n;
    while ((n = journal_read(journal, false, rows, 2000)) > 0)
        journal_drained(journal);
    assert_int_equal(journal_tend(journal, &err), OK);
    assert_true(journal_reserve(journal, 0));
    journal_release(journal, 0);
}

/* What an earlier use left in the file is not read a second time. */
static void test_a_file_used_again(void **state)
{
    (void)state;
    enum { EARLIER = 40000, LATER = 25 };
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct journal *j = open_journal(64 * MIB, 1);
        for (unsigned i = 0; i < EARLIER + LATER; i++) {
            put(j, 0, i, i % 2 ? "an error whose end must not show" : i % 3 ? "another" : "");
            if (i % 4000 == 0 && journal_tend(j, &err))
                _exit(1);
            while (i % 4000 == 3999 && journal_read(j, false, rows, 2000))
                journal_drained(j);
        }
        if (files(".journal") <= 3 && write(ready[1], "R", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    kill_process(pid);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(journal_read(journal, true, rows, 2000), LATER);
    for (unsigned i = 0; i < LATER; i++)
        assert_string_equal(rows[i].error, (EARLIER + i) % 2   ? "an error whose end must not show"
                                           : (EARLIER + i) % 3 ? "another"
                                                               : "");
    journal_drained(journal);
    assert_int_equal(drain(journal, 0), 0);
    assert_int_equal(journal_stats(journal).torn, 0);
}

/* --- damage ------------------------------------------------------------------------------------- */
/* A file with ten runs, as a dead process left it. */
static void make_orphan(char *path, size_t size)
{
    struct journal *j = open_journal(64 * MIB, 1);
    put_many(j, 0, 0, 10);
    journal_close(j);
    assert_int_equal(files(".journal"), 1);
    path_of_orphan(path, size);
}

static void damage(const char *path, off_t at, const void *bytes, size_t len)
{
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, bytes, len, at), len);
    close(fd);
}

static void expect_put_aside(void)
{
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(journal_read(journal, true, rows, 100), 0);
    assert_int_equal(files(".bad"), 1);
}

static void test_a_torn_record_is_left_out(void **state)
{
    (void)state;
    char path[400];
    make_orphan(path, sizeof path);
    damage(path, 4096 + 3 * SLOT_BYTES + 100, "\xff\xff", 2);
    char zeroes[SLOT_BYTES] = {0};
    damage(path, 4096 + 5 * SLOT_BYTES, zeroes, sizeof zeroes);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(journal_read(journal, true, rows, 100), 8);
    assert_int_equal(journal_stats(journal).torn, 2);
    assert_string_equal(rows[3].id, "00000000000000000000000000000004");
    journal_drained(journal);
    assert_int_equal(journal_read(journal, true, rows, 100), 0);
    assert_int_equal(journal_stats(journal).torn, 2);
}

static void test_a_record_counts_in_its_place_only(void **state)
{
    (void)state;
    char path[400], slot[SLOT_BYTES];
    make_orphan(path, sizeof path);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, slot, sizeof slot, 4096), sizeof slot);
    close(fd);
    damage(path, 4096 + 5 * SLOT_BYTES, slot, sizeof slot);
    damage(path, 4096 + 20 * SLOT_BYTES, slot, sizeof slot);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(journal_read(journal, true, rows, 100), 9);
    assert_int_equal(journal_stats(journal).torn, 1);
}

/* The loss of power may keep the records and lose the head's count of them. */
static void test_runs_behind_the_count_are_found(void **state)
{
    (void)state;
    char path[400];
    make_orphan(path, sizeof path);
    damage(path, 128, "\0\0\0\0", 4);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(drain(journal, 0), 10);
}

static void test_positions_out_of_range(void **state)
{
    (void)state;
    char path[400];
    make_orphan(path, sizeof path);
    damage(path, 128, "\xff\xff\xff\xff", 4);
    damage(path, 192, "\xff\xff\xff\xff", 4);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(drain(journal, 0), 10);
}

static void test_a_wrong_head(void **state)
{
    (void)state;
    char path[400];
    make_orphan(path, sizeof path);
    damage(path, 24, "\xff\xff", 2); /* its capacity */
    expect_put_aside();
}

/* Its runs are not lost: that version can still write them. */
static void test_a_file_of_another_version(void **state)
{
    (void)state;
    char path[400];
    make_orphan(path, sizeof path);
    damage(path, 8, "\x63", 1);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(journal_read(journal, true, rows, 100), 0);
    assert_int_equal(files(".bad"), 0);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(journal_stats(journal).bytes, 2 * 4 * MIB);
}

static void test_a_foreign_file(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s/0123456789abcdef.journal", folder);
    int fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_int_equal(ftruncate(fd, 100000), 0);
    close(fd);
    expect_put_aside();
}

static void test_a_file_cut_short(void **state)
{
    (void)state;
    char path[400];
    make_orphan(path, sizeof path);
    assert_int_equal(truncate(path, 70000), 0);
    expect_put_aside();
}

static void test_no_file_at_all(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s/0123456789abcdef.journal", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/1123456789abcdef.journal", folder);
    assert_int_equal(symlink("/dev/zero", path), 0);
    snprintf(path, sizeof path, "%s/2123456789abcdef.journal", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(journal_read(journal, true, rows, 100), 0);
    put(journal, 0, 0, "");
    assert_int_equal(drain(journal, 0), 1);
}

static void test_unfinished_files_are_swept(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s/0123456789abcdef.new", folder);
    close(open(path, O_CREAT | O_RDWR, 0600));
    journal = open_journal(64 * MIB, 1);
    assert_int_equal(files(".new"), 0);
}

/* What a record costs the loop; printed, not asserted. */
static void test_cost(void **state)
{
    (void)state;
    uint64_t spent = 0;
    unsigned count = 0;
    journal = open_journal(64 * MIB, 1);
    for (unsigned turn = 0; turn < 20; turn++) {
        uint64_t start = clock_now_ns();
        put_many(journal, 0, count, 5000);
        spent += clock_now_ns() - start;
        count += 5000;
        drain(journal, count - 5000);
        assert_int_equal(journal_tend(journal, &err), OK);
    }
    print_message("%llu ns a record, with sanitizers\n", (unsigned long long)(spent / count));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_goes_in_comes_out),
        TEST(test_long_errors_are_cut),
        TEST(test_segments_follow_each_other),
        TEST(test_full_and_room_again),
        TEST(test_reserved_room_is_kept),
        TEST(test_sync),
        TEST(test_a_living_process_keeps_its_runs),
        TEST(test_found_at_the_start),
        TEST(test_drained_half_way),
        TEST(test_others_count_in_the_bound),
        TEST(test_a_file_used_again),
        TEST(test_a_torn_record_is_left_out),
        TEST(test_a_record_counts_in_its_place_only),
        TEST(test_runs_behind_the_count_are_found),
        TEST(test_positions_out_of_range),
        TEST(test_a_wrong_head),
        TEST(test_a_file_of_another_version),
        TEST(test_a_foreign_file),
        TEST(test_a_file_cut_short),
        TEST(test_no_file_at_all),
        TEST(test_unfinished_files_are_swept),
        TEST(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
