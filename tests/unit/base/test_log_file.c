/* The log's file: its rotation, with threads, with processes, with somebody who moves it away, with a full disk. */
#include "../unit.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log_file.h"

enum { LINES = 400, THREADS = 4, LINE_BYTES = 32 };

static char folder[64], path[128];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/wasmwiz-log-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/log", folder);
    return 0;
}

static int teardown(void **state)
{
    char name[160];
    (void)state;
    log_file_close();
    unlink(path);
    for (int i = 1; i < 2000; i++) {
        snprintf(name, sizeof name, "%s.%d", path, i);
        unlink(name);
    }
    return rmdir(folder);
}

static void open_log(uint64_t bytes_max, uint32_t keep)
{
    struct err_info err = {0};
    if (log_file_open(&(struct log_file_config){path, bytes_max, keep}, &err))
        fail_msg("%s", err_text(&err));
}

/* A line of LINE_BYTES that says who wrote it. */
static void write_line(int who, int number)
{
    char line[64];
    int len = snprintf(line, sizeof line, "who %03d number %06d", who, number);
    memset(line + len, ' ', sizeof line - (size_t)len);
    line[LINE_BYTES - 1] = '\n';
    log_file_write(str_make(line, LINE_BYTES));
}

/* -1: there is no such file. */
static long size_of(const char *name)
{
    struct stat st;
    return stat(name, &st) == 0 ? (long)st.st_size : -1;
}

static long old_size(int n)
{
    char name[160];
    snprintf(name, sizeof name, "%s.%d", path, n);
    return size_of(name);
}

/* Whole lines in all files, each counted in seen[who][number]. */
static unsigned seen[8][LINES];

static unsigned read_all(void)
{
    unsigned lines = 0;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 2000; i++) {
        char name[160], text[LINE_BYTES + 8];
        int who, number;
        snprintf(name, sizeof name, i ? "%s.%d" : "%s", path, i);
        FILE *f = fopen(name, "re");
        if (!f)
            continue;
        while (fgets(text, sizeof text, f)) {
            assert_int_equal(strlen(text), LINE_BYTES);
            assert_int_equal(sscanf(text, "who %d number %d", &who, &number), 2);
            assert_in_range(who, 0, LENGTH_OF(seen) - 1);
            assert_in_range(number, 0, LINES - 1);
            seen[who][number]++;
            lines++;
        }
        fclose(f);
    }
    return lines;
}

static void assert_each_once(int writers)
{
    assert_int_equal(read_all(), writers * LINES);
    for (int w = 0; w < writers; w++)
        for (int n = 0; n < LINES; n++)
            assert_int_equal(seen[w][n], 1);
}

static void test_rotates_by_size_and_keeps_so_many(void **state)
{
    (void)state;
    open_log(10 * LINE_BYTES, 3);
    for (int i = 0; i < 35; i++)
        write_line(0, i);
    assert_int_equal(size_of(path), 5 * LINE_BYTES);
    for (int n = 1; n <= 3; n++)
        assert_int_equal(old_size(n), 10 * LINE_BYTES);
    for (int i = 35; i < 45; i++)
        write_line(0, i);
    assert_int_equal(old_size(3), 10 * LINE_BYTES);
    assert_int_equal(old_size(4), -1);
    assert_int_equal(read_all(), 35);
    assert_int_equal(seen[0][9], 0); /* the oldest went */
    assert_int_equal(seen[0][10], 1);
}

static void test_keeps_nothing_where_asked(void **state)
{
    (void)state;
    open_log(10 * LINE_BYTES, 0);
    for (int i = 0; i < 15; i++)
        write_line(0, i);
    assert_int_equal(size_of(path), 5 * LINE_BYTES);
    assert_int_equal(old_size(1), -1);
}

static void test_goes_on_with_an_old_file(void **state)
{
    struct stat st;
    (void)state;
    open_log(10 * LINE_BYTES, 2);
    for (int i = 0; i < 6; i++)
        write_line(0, i);
    log_file_close();
    open_log(10 * LINE_BYTES, 2);
    for (int i = 6; i < 12; i++)
        write_line(0, i);
    assert_int_equal(old_size(1), 10 * LINE_BYTES);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void *write_many(void *who)
{
    for (int i = 0; i < LINES; i++)
        write_line((int)(intptr_t)who, i);
    return NULL;
}

static void test_threads_lose_nothing(void **state)
{
    pthread_t threads[THREADS];
    (void)state;
    open_log(20 * LINE_BYTES, 1000);
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_each_once(THREADS);
    assert_true(old_size(5) > 0); /* how often depends on how the threads meet */
}

static void test_two_processes_share_the_file(void **state)
{
    (void)state;
    open_log(20 * LINE_BYTES, 1000);
    pid_t child = fork();
    if (child == 0) {
        log_file_close(); /* flock() belongs to the open file, which fork() shares: a process has its own */
        open_log(20 * LINE_BYTES, 1000);
        write_many((void *)1);
        _exit(0);
    }
    write_many((void *)0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_each_once(2);
}

static void test_follows_what_logrotate_does(void **state)
{
    char moved[160];
    (void)state;
    open_log(MIB, 2);
    write_line(0, 0);
    snprintf(moved, sizeof moved, "%s.1", path);
    assert_int_equal(rename(path, moved), 0);
    write_line(0, 1);
    log_file_reopen();
    write_line(0, 2);
    assert_int_equal(old_size(1), 2 * LINE_BYTES);
    assert_int_equal(size_of(path), LINE_BYTES);
    /* Without a word: within a second and a bit. */
    assert_int_equal(unlink(path), 0);
    for (int i = 0; i < 500 && size_of(path) < 0; i++) {
        write_line(0, 3);
        usleep(10000);
    }
    write_line(0, 4);
    assert_true(size_of(path) > 0);
}

/* A file that may not grow stands for a full disk. */
static void test_a_full_disk_stops_nobody(void **state)
{
    struct rlimit kept, small;
    char said[400] = "";
    (void)state;
    open_log(MIB, 2);
    uint64_t lost = log_file_lost();
    FILE *err = tmpfile();
    int stderr_kept = dup(STDERR_FILENO);
    getrlimit(RLIMIT_FSIZE, &kept);
    small = (struct rlimit){10 * LINE_BYTES + 5, kept.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    dup2(fileno(err), STDERR_FILENO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 20; i++)
        write_line(0, i);
    setrlimit(RLIMIT_FSIZE, &kept);
    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
    assert_int_equal(log_file_lost() - lost, 10);
    write_line(0, 20);
    /* One sentence, and the torn line is ended before the next. */
    rewind(err);
    assert_non_null(fgets(said, sizeof said, err));
    assert_non_null(strstr(said, path));
    assert_null(fgets(said, sizeof said, err));
    fclose(err);
    assert_int_equal(size_of(path), 11 * LINE_BYTES + 6);
}

static void test_refuses_what_is_no_file(void **state)
{
    struct err_info err = {0};
    (void)state;
    assert_int_equal(log_file_open(&(struct log_file_config){folder, MIB, 1}, &err), ERR_DISK_FAULT);
    assert_non_null(strstr(err.text, folder));
    assert_int_equal(log_file_open(&(struct log_file_config){"/dev/null", MIB, 1}, &err), ERR_DISK_FAULT);
    log_file_write(STR_LIT("nobody reads this\n")); /* none is open */
    log_file_reopen();
}

int main(void)
{
#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_rotates_by_size_and_keeps_so_many), FILE_TEST(test_keeps_nothing_where_asked),
        FILE_TEST(test_goes_on_with_an_old_file),          FILE_TEST(test_threads_lose_nothing),
        FILE_TEST(test_two_processes_share_the_file),      FILE_TEST(test_follows_what_logrotate_does),
        FILE_TEST(test_a_full_disk_stops_nobody),          FILE_TEST(test_refuses_what_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
