/* The two folders on disk: uploads, and compiled code. */
#include "../unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "module/files.h"

struct fixture {
    char dir[64];
    struct err_info info;
    unsigned told;
    char told_name[64];
    uint64_t told_age;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/ww-files-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    *state = f;
    return 0;
}

/* Calls `each` for the names in the folder; how many there are. */
static unsigned walk(const char *dir, void (*each)(const char *dir, const char *name))
{
    unsigned count = 0;
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_name[0] != '.') {
            count++;
            if (each)
                each(dir, entry->d_name);
        }
    closedir(d);
    return count;
}

static void remove_one(const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    walk(f->dir, remove_one);
    int failed = rmdir(f->dir);
    free(f);
    return failed;
}

/* Makes a file of that size that was last changed so many seconds ago. */
static void make_file(struct fixture *f, const char *name, size_t size, long age_s)
{
    char path[512];
    struct timespec now, times[2];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec -= age_s;
    times[0] = times[1] = now;
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static bool is_there(struct fixture *f, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return access(path, F_OK) == 0;
}

/* --- uploads ------------------------------------------------------------------------------------ */
static void test_upload(void **state)
{
    struct fixture *f = *state;
    struct spool_file *files[20];
    for (size_t i = 0; i < LENGTH_OF(files); i++) {
        char path[512], bytes[16] = {0};
        struct stat st;
        int fd;
        assert_int_equal(spool_put(f->dir, STR_LIT("the module"), &fd, &files[i], &f->info), OK);
        assert_int_equal(strlen(files[i]->name), 41);
        assert_int_equal(files[i]->name[14], '4');
        assert_non_null(strchr("89ab", files[i]->name[19]));
        assert_string_equal(files[i]->name + 36, ".wasm");
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(files[i]->name, files[j]->name);
        assert_int_equal(read(fd, bytes, sizeof bytes), 10); /* from its start */
        assert_string_equal(bytes, "the module");
        close(fd);
        snprintf(path, sizeof path, "%s/%s", f->dir, files[i]->name);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(st.st_size, 10);
    }
    for (size_t i = 0; i < LENGTH_OF(files); i++) {
        spool_remove(f->dir, files[i]->name);
        free(files[i]);
    }
    assert_int_equal(walk(f->dir, NULL), 0);
    spool_remove(f->dir, "is-not-there.wasm");
}

static void test_upload_in_memory(void **state)
{
    struct fixture *f = *state;
    struct spool_file *file = (struct spool_file *)0x1;
    char bytes[16] = {0};
    int fd;
    assert_int_equal(spool_put(NULL, STR_LIT("abc"), &fd, &file, &f->info), OK);
    assert_null(file);
    assert_int_equal(read(fd, bytes, sizeof bytes), 3);
    close(fd);
}

static void test_upload_to_nowhere(void **state)
{
    struct fixture *f = *state;
    struct spool_file *file = (struct spool_file *)0x1;
    int fd = -7;
    assert_int_equal(spool_put("/tmp/ww-is-not-there", STR_LIT("abc"), &fd, &file, &f->info), ERR_DISK_FAULT);
    assert_non_null(strstr(f->info.text, "No such file"));
    assert_int_equal(fd, -7);
    assert_ptr_equal(file, (struct spool_file *)0x1);
}

/* A disk that is full, as far as a test can have one: nothing half is left behind. */
static void test_upload_to_full_disk(void **state)
{
    struct fixture *f = *state;
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static char bytes[10000];
        struct spool_file *file;
        int fd;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
        _exit(spool_put(f->dir, str_make(bytes, sizeof bytes), &fd, &file, &f->info) == ERR_DISK_FAULT ? 0
                                                                                                       : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(walk(f->dir, NULL), 0);
}

static void take_young(void *ctx, const char *name, uint64_t age_ns)
{
    struct fixture *f = ctx;
    f->told++;
    snprintf(f->told_name, sizeof f->told_name, "%s", name);
    f->told_age = age_ns;
}

static void test_leftovers(void **state)
{
    struct fixture *f = *state;
    static const char old[] = "01234567-89ab-4cde-8123-456789abcdef.wasm",
                      young[] = "11234567-89ab-4cde-8123-456789abcdef.wasm";
    static const char *const others[] = {
        "01234567-89ab-5cde-8123-456789abcdef.wasm", "notes.wasm", "0123456789ab4cde8123456789abcdef.wasm",
        "01234567-89ab-4cde-8123-456789abcdef.wasm.bak", "01234567-89AB-4cde-8123-456789abcdef.wasm"};
    make_file(f, old, 1, 3600);
    make_file(f, young, 1, 100);
    for (size_t i = 0; i < LENGTH_OF(others); i++)
        make_file(f, others[i], 1, 7200);
    spool_scan(f->dir, 1000 * NS_PER_S, take_young, f);
    assert_false(is_there(f, old));
    assert_true(is_there(f, young));
    assert_int_equal(f->told, 1);
    assert_string_equal(f->told_name, young);
    assert_in_range(f->told_age, 90 * NS_PER_S, 110 * NS_PER_S);
    for (size_t i = 0; i < LENGTH_OF(others); i++)
        assert_true(is_there(f, others[i])); /* not ours */
    spool_scan("/tmp/ww-is-not-there", 0, take_young, f);
    assert_int_equal(f->told, 1);
}

static void test_leftover_of_the_future(void **state)
{
    struct fixture *f = *state;
    make_file(f, "21234567-89ab-4cde-8123-456789abcdef.wasm", 1, -5000);
    spool_scan(f->dir, NS_PER_S, take_young, f);
    assert_int_equal(f->told, 1);
    assert_int_equal(f->told_age, 0);
}

/* --- the cache ---------------------------------------------------------------------------------- */
static void test_publish(void **state)
{
    struct fixture *f = *state;
    unsigned char sha[32] = {0xab, 0xcd};
    char path[4400], bytes[8] = {0};
    cache_path(f->dir, sha, "print", path, sizeof path);
    assert_non_null(strstr(path, "/abcd0000"));
    assert_non_null(strstr(path, "00-print.code"));
    for (int round = 0; round < 2; round++) { /* the second makes room for itself */
        int fd = cache_open_new(f->dir);
        assert_true(fd >= 0);
        assert_int_equal(walk(f->dir, NULL), round); /* no name yet */
        assert_int_equal(write(fd, round ? "new" : "old", 3), 3);
        assert_int_equal(cache_publish(fd, path, &f->info), OK);
        close(fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(fd, bytes, sizeof bytes), 3);
        assert_string_equal(bytes, round ? "new" : "old");
        close(fd);
    }
    int fd = cache_open_new(f->dir);
    assert_int_equal(cache_publish(fd, "/tmp/ww-is-not-there/x.code", &f->info), ERR_DISK_FAULT);
    close(fd);
}

/* Where the folder takes no file without a name, or none at all, code is made in memory: that costs time, not the
 * run. */
static void test_no_room_for_new_code(void **state)
{
    struct fixture *f = *state;
    static const char *const dirs[] = {NULL, "/tmp/ww-is-not-there", "/proc"};
    for (size_t i = 0; i < LENGTH_OF(dirs); i++) {
        char path[512];
        int fd = cache_open_new(dirs[i]);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "code", 4), 4);
        snprintf(path, sizeof path, "%s/x.code", f->dir);
        assert_int_equal(cache_publish(fd, path, &f->info), ERR_DISK_FAULT);
        close(fd);
    }
    assert_int_equal(walk(f->dir, NULL), 0);
}

static void test_trim(void **state)
{
    struct fixture *f = *state;
    char name[32];
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "%d.code", i);
        make_file(f, name, 1000, 100 * (i * 7 % 10)); /* 0 is the youngest, 7 the oldest */
    }
    make_file(f, "other.txt", 100000, 9999);
    assert_int_equal(cache_size(f->dir), 10000);
    assert_int_equal(cache_trim(f->dir, 10000), 10000);
    assert_int_equal(cache_trim(f->dir, 9900), 8000); /* with a tenth to spare */
    assert_false(is_there(f, "7.code") || is_there(f, "4.code"));
    assert_true(is_there(f, "0.code") && is_there(f, "1.code"));
    assert_int_equal(cache_trim(f->dir, 1000), 0);
    assert_int_equal(walk(f->dir, NULL), 1);
    assert_true(is_there(f, "other.txt"));
    assert_int_equal(cache_size(f->dir), 0);
    assert_int_equal(cache_size("/tmp/ww-is-not-there"), 0);
}

int main(void)
{
#define FILES_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        FILES_TEST(test_upload),
        FILES_TEST(test_upload_in_memory),
        FILES_TEST(test_upload_to_nowhere),
        FILES_TEST(test_upload_to_full_disk),
        FILES_TEST(test_leftovers),
        FILES_TEST(test_leftover_of_the_future),
        FILES_TEST(test_publish),
        FILES_TEST(test_no_room_for_new_code),
        FILES_TEST(test_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
