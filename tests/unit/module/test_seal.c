/* The seal: only what was sealed here, for this module and engine, and not a bit of it changed, counts. */
#include "../unit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "module/seal.h"

enum { CODE_BYTES = 5000 };

static const unsigned char key[32] = {1, 2, 3}, sha[32] = {4, 5, 6};
static const struct precheck_facts facts = {.memories = 1, .tables = 2, .functions = 33, .has_start = true};

/* A file with code and its seal. */
static int sealed(void)
{
    struct err_info info = {0};
    int fd = memfd_create("code", MFD_CLOEXEC);
    for (int i = 0; i < CODE_BYTES; i++) {
        unsigned char byte = (unsigned char)(i * 7);
        assert_int_equal(write(fd, &byte, 1), 1);
    }
    if (seal_put(fd, key, sha, "fingerprint", 777, &facts, &info))
        fail_msg("%s", info.text);
    return fd;
}

static bool check(int fd)
{
    struct seal seal;
    return seal_check(fd, key, sha, "fingerprint", &seal);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct seal seal;
    int fd = sealed();
    assert_true(seal_check(fd, key, sha, "fingerprint", &seal));
    assert_int_equal(seal.code_bytes, CODE_BYTES);
    assert_int_equal(seal.wasm_bytes, 777);
    assert_int_equal(seal.facts.memories, 1);
    assert_int_equal(seal.facts.functions, 33);
    assert_true(seal.facts.has_start);
    /* The code stands at the start of the file, as it was. */
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, 10), 1);
    assert_int_equal(byte, 70);
    close(fd);
}

static void test_another_key_module_or_engine(void **state)
{
    (void)state;
    struct seal seal;
    unsigned char other_key[32] = {1, 2, 4}, other_sha[32] = {4, 5, 7};
    int fd = sealed();
    assert_false(seal_check(fd, other_key, sha, "fingerprint", &seal));
    assert_false(seal_check(fd, key, other_sha, "fingerprint", &seal));
    assert_false(seal_check(fd, key, sha, "fingerprinu", &seal));
    assert_false(seal_check(fd, key, sha, "finger", &seal));
    assert_false(seal_check(fd, key, sha, "", &seal));
    assert_true(check(fd));
    close(fd);
}

static void flip(int fd, off_t at, unsigned char bit)
{
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= bit;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void test_every_bit_counts(void **state)
{
    (void)state;
    int fd = sealed();
    const off_t end =
        CODE_BYTES + offsetof(struct seal, tag) + 16; /* behind it the compiler fills up the struct */
    for (off_t at = 0; at < end; at += at < CODE_BYTES - 100 ? 97 : 1) {
        unsigned char bit = (unsigned char)(1 << at % 8);
        flip(fd, at, bit);
        if (check(fd))
            fail_msg("byte %ld of %ld may be anything", (long)at, (long)end);
        flip(fd, at, bit);
    }
    assert_true(check(fd));
    close(fd);
}

static void test_cut_and_lengthened(void **state)
{
    (void)state;
    int fd = sealed();
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, "x", 1, st.st_size), 1);
    assert_false(check(fd));
    static const off_t lengths[] = {CODE_BYTES, sizeof(struct seal), sizeof(struct seal) - 1, 1, 0};
    assert_int_equal(ftruncate(fd, st.st_size), 0);
    assert_true(check(fd));
    assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
    assert_false(check(fd));
    for (size_t i = 0; i < LENGTH_OF(lengths); i++) {
        assert_int_equal(ftruncate(fd, lengths[i]), 0);
        assert_false(check(fd));
    }
    assert_int_equal(seal_put(fd, key, sha, "fingerprint", 1, &facts, NULL),
                     ERR_DISK_FAULT); /* no code at all */
    close(fd);
    assert_false(check(-1));
}

/* The same code is never sealed in the same way: a nonce that comes twice would give the key away. */
static void test_nonces_differ(void **state)
{
    (void)state;
    struct seal a, b;
    int one = sealed(), two = sealed();
    assert_true(seal_check(one, key, sha, "fingerprint", &a) && seal_check(two, key, sha, "fingerprint", &b));
    assert_memory_not_equal(a.nonce, b.nonce, sizeof a.nonce);
    assert_memory_not_equal(a.tag, b.tag, sizeof a.tag);
    close(one);
    close(two);
}

static void test_file_that_can_not_be_written(void **state)
{
    (void)state;
    struct err_info info = {0};
    int fd = sealed();
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int read_only = open(self, O_RDONLY | O_CLOEXEC);
    assert_int_equal(seal_put(read_only, key, sha, "fingerprint", 1, &facts, &info), ERR_DISK_FAULT);
    assert_true(info.text[0]);
    close(read_only);
    close(fd);
}

/* --- the key ------------------------------------------------------------------------------------ */
static char dir[64], path[96];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ww-seal-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/cache_key", dir);
    return 0;
}

/* Fails where anything but the key was left behind. */
static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void test_key_is_made_once(void **state)
{
    (void)state;
    unsigned char one[32] = {0}, two[32] = {0}, none[32] = {0};
    struct err_info info = {0};
    struct stat st;
    assert_int_equal(seal_key_load(dir, one, &info), OK);
    assert_int_equal(seal_key_load(dir, two, &info), OK);
    assert_memory_equal(one, two, sizeof one);
    assert_memory_not_equal(one, none, sizeof one);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 32);
}

static void test_key_of_several_processes(void **state)
{
    (void)state;
    enum { PROCESSES = 8 };
    int pipes[PROCESSES][2];
    unsigned char first[32], other[32];
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            unsigned char mine[32];
            if (seal_key_load(dir, mine, NULL) == OK && write(pipes[i][1], mine, sizeof mine) == sizeof mine)
                _exit(0);
            _exit(1);
        }
        close(pipes[i][1]);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(read(pipes[i][0], i ? other : first, sizeof first), sizeof first);
        if (i)
            assert_memory_equal(other, first, sizeof first);
        close(pipes[i][0]);
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

static void test_key_that_is_none(void **state)
{
    (void)state;
    unsigned char got[32];
    struct err_info info = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "short", 5), 5);
    close(fd);
    assert_int_equal(seal_key_load(dir, got, &info), ERR_DISK_FAULT);
    assert_non_null(strstr(info.text, "32 bytes"));
    unlink(path);
    assert_int_equal(symlink("/dev/zero", path), 0); /* somebody else's idea of a key */
    assert_int_equal(seal_key_load(dir, got, &info), ERR_DISK_FAULT);
    unlink(path);
    assert_int_equal(seal_key_load("/tmp/ww-is-not-there", got, &info), ERR_DISK_FAULT);
}

int main(void)
{
#define KEY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_another_key_module_or_engine),
        cmocka_unit_test(test_every_bit_counts), cmocka_unit_test(test_cut_and_lengthened),
        cmocka_unit_test(test_nonces_differ),    cmocka_unit_test(test_file_that_can_not_be_written),
        KEY_TEST(test_key_is_made_once),         KEY_TEST(test_key_of_several_processes),
        KEY_TEST(test_key_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
