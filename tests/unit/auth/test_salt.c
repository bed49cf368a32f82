/* Where the salt comes from, and that its file is made once, whole and private. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/key.h"

struct fixture {
    char folder[64];
    char path[96];
    struct err_info info;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/ww-salt-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/api_salt", f->folder);
    *state = f;
    return 0;
}

/* Fails where anything but the salt file was left behind. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    unlink(f->path);
    int failed = rmdir(f->folder);
    free(f);
    return failed;
}

static char *load(struct fixture *f, bool may_create)
{
    char *salt = NULL;
    if (auth_salt_load(f->folder, NULL, may_create, &salt, &f->info))
        fail_msg("%s", f->info.text);
    return salt;
}

static void expect_error(struct fixture *f, const char *configured, bool may_create, enum err code,
                         const char *word)
{
    char *salt = (char *)0x1;
    enum err e = auth_salt_load(f->folder, configured, may_create, &salt, &f->info);
    if (e != code || !strstr(f->info.text, word))
        fail_msg("%s \"%s\", wanted %s with \"%s\"", err_name(e), f->info.text, err_name(code), word);
    assert_ptr_equal(salt, (char *)0x1);
}

static void put_file(struct fixture *f, const char *bytes, size_t len)
{
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(f->path, 0600), 0);
}

static void takes_the_configured_one(void **state)
{
    struct fixture *f = *state;
    CLEANUP(freep) char *salt = NULL;
    expect_error(f, "12345678", true, ERR_FIELD_INVALID, "API_SALT has 8 characters, at least 16");
    expect_error(f, "123456789012345", true, ERR_FIELD_INVALID, "15");
    assert_int_equal(auth_salt_load(f->folder, "1234567890123456", false, &salt, &f->info), OK);
    assert_string_equal(salt, "1234567890123456");
    assert_int_not_equal(access(f->path, F_OK), 0);
}

static void makes_a_file_once(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    expect_error(f, "", false, ERR_FIELD_INVALID, "API_SALT is not set");
    CLEANUP(freep) char *first = load(f, true), *second = load(f, true), *third = load(f, false);
    assert_int_equal(strlen(first), 64);
    assert_int_equal(strspn(first, "0123456789abcdef"), 64);
    assert_string_equal(first, second);
    assert_string_equal(first, third);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_size, 65);

    assert_int_equal(unlink(f->path), 0);
    CLEANUP(freep) char *fresh = load(f, true);
    assert_string_not_equal(first, fresh);
}

static void several_processes_agree(void **state)
{
    struct fixture *f = *state;
    enum { PROCESSES = 4 };
    for (int round = 0; round < 20; round++) {
        int start[2], said[2];
        assert_int_equal(pipe(start), 0);
        assert_int_equal(pipe(said), 0);
        for (int i = 0; i < PROCESSES; i++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                char go, *salt = NULL;
                close(start[1]);
                bool fine = read(start[0], &go, 1) == 0 &&
                            auth_salt_load(f->folder, NULL, true, &salt, &f->info) == OK &&
                            write(said[1], salt, 64) == 64;
                free(salt);
                _exit(!fine);
            }
        }
        close(start[0]);
        close(start[1]);
        close(said[1]);
        char first[64], other[64];
        assert_int_equal(read(said[0], first, 64), 64);
        for (int i = 1; i < PROCESSES; i++) {
            assert_int_equal(read(said[0], other, 64), 64);
            assert_memory_equal(first, other, 64);
        }
        close(said[0]);
        for (int i = 0; i < PROCESSES; i++) {
            int status;
            assert_true(wait(&status) > 0);
            assert_int_equal(status, 0);
        }
        assert_int_equal(unlink(f->path), 0);
    }
}

static void takes_a_file_that_a_person_wrote(void **state)
{
    struct fixture *f = *state;
    put_file(f, "sixteen chars ok\r\n", 18);
    CLEANUP(freep) char *salt = load(f, true);
    assert_string_equal(salt, "sixteen chars ok");
}

static void refuses_a_damaged_file(void **state)
{
    struct fixture *f = *state;
    char large[1025];
    memset(large, 'x', sizeof large);
    put_file(f, "", 0);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "damaged");
    expect_error(f, NULL, false, ERR_DISK_FAULT, "damaged");
    put_file(f, "short\n", 6);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "damaged");
    put_file(f, "sixteen chars\0ok and more", 25);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "damaged");
    put_file(f, "sixteen chars ok\nand another line\n", 34);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "damaged");
    put_file(f, large, sizeof large);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "at most 1024 bytes");
    put_file(f, large, sizeof large - 1);
    CLEANUP(freep) char *salt = load(f, true);
    assert_int_equal(strlen(salt), 1024);
}

static void refuses_what_is_no_file(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0700), 0);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "no regular file");
    assert_int_equal(rmdir(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "no regular file");
}

static void tells_of_a_missing_folder(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rmdir(f->folder), 0);
    expect_error(f, NULL, true, ERR_DISK_FAULT, "No such file or directory");
    expect_error(f, NULL, false, ERR_FIELD_INVALID, "API_SALT is not set");
    assert_int_equal(mkdir(f->folder, 0700), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    umask(0);
    const struct CMUnitTest tests[] = {
        TEST(takes_the_configured_one),         TEST(makes_a_file_once),      TEST(several_processes_agree),
        TEST(takes_a_file_that_a_person_wrote), TEST(refuses_a_damaged_file), TEST(refuses_what_is_no_file),
        TEST(tells_of_a_missing_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
