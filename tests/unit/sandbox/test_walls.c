/* The walls, each tried from inside, in a child that may break off any time. */
#include "../unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/walls.h"

static char said[8192];

/* What became of a child that does this; its stdout is in `said`. */
static int child_status(int (*doing)(void))
{
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pair[1], STDOUT_FILENO);
        close(pair[0]);
        close(pair[1]);
        _exit(doing());
    }
    close(pair[1]);
    size_t len = 0;
    for (ssize_t n; (n = read(pair[0], said + len, sizeof said - 1 - len)) > 0;)
        len += (size_t)n;
    said[len] = 0;
    close(pair[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* Says on stderr what does not hold, and ends the child with it. */
#define EXPECT(condition)                                                  \
    do {                                                                   \
        if (!(condition)) {                                                \
            dprintf(STDERR_FILENO, "line %d: " #condition "\n", __LINE__); \
            return 99;                                                     \
        }                                                                  \
    } while (0)

static bool raise_with(struct walls_limits limits)
{
    struct err_info info = {0};
    if (walls_raise(&limits, &info) == OK)
        return true;
    dprintf(STDERR_FILENO, "%s\n", info.text);
    return false;
}

static int probe_sandbox(void)
{
    EXPECT(raise_with((struct walls_limits){.keep_fds = 3}));
    EXPECT(walls_seal(WALLS_SANDBOX, NULL) == OK);
    return walls_probe((int)getppid());
}

static int probe_compiler(void)
{
    EXPECT(raise_with((struct walls_limits){.keep_fds = 3}));
    EXPECT(walls_seal(WALLS_COMPILER, NULL) == OK);
    return walls_probe((int)getppid());
}

static void expect_all_refused(int (*doing)(void))
{
    int status = child_status(doing);
    if (status != 0 || strstr(said, "ALLOWED"))
        fail_msg("status %x:\n%s", (unsigned)status, said);
    unsigned lines = 0;
    for (const char *p = said; (p = strstr(p, " refused (")); p++)
        lines++;
    assert_true(lines >= 15);
}

static void test_everything_is_refused(void **state)
{
    (void)state;
    expect_all_refused(probe_sandbox);
    expect_all_refused(probe_compiler);
}

/* So that the test above can fail: the probe does see an open door. */
static int probe_without_walls(void)
{
    return walls_probe((int)getppid()) > 0 ? 0 : 1;
}

static void test_probe_sees_open_doors(void **state)
{
    (void)state;
    assert_int_equal(child_status(probe_without_walls), 0);
    assert_non_null(strstr(said, "probe open ALLOWED"));
    assert_non_null(strstr(said, "probe socket ALLOWED"));
    unlink("/tmp/wasmwiz-probe");
}

static int look_at_first_half(void)
{
    struct rlimit core;
    static const int fds[] = {10, 11, 200};
    for (size_t i = 0; i < LENGTH_OF(fds); i++)
        EXPECT(dup2(STDOUT_FILENO, fds[i]) == fds[i]);
    EXPECT(setenv("SECRET", "x", 1) == 0);
    EXPECT(raise_with((struct walls_limits){.keep_fds = 11}));
    EXPECT(!getenv("SECRET") && !getenv("PATH"));
    EXPECT(fcntl(fds[0], F_GETFD) >= 0);
    EXPECT(fcntl(fds[1], F_GETFD) < 0 && fcntl(fds[2], F_GETFD) < 0);
    EXPECT(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
    EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    EXPECT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    EXPECT(walls_landlock_abi() < 1 || open("/etc/passwd", O_RDONLY) < 0);
    return 0;
}

static void test_first_half(void **state)
{
    (void)state;
    assert_int_equal(child_status(look_at_first_half), 0);
}

static int break_behind_walls(void)
{
    EXPECT(dup2(STDOUT_FILENO, STDERR_FILENO) == STDERR_FILENO);
    alarm(60);
    EXPECT(raise_with((struct walls_limits){.keep_fds = 3}));
    EXPECT(walls_seal(WALLS_SANDBOX, NULL) == OK);
    WW_ASSERT(2 + 2 == 5);
    return 0;
}

static void test_a_bug_behind_walls_is_told(void **state)
{
    (void)state;
    int status = child_status(break_behind_walls);
    const char *frame = strstr(said, "unit_sandbox_walls(");
    if (status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) || !strstr(said, "2 + 2 == 5") ||
        !frame || !strstr(frame, "[0x"))
        fail_msg("status %x:\n%s", (unsigned)status, said);
}

static void *do_nothing(void *arg)
{
    return arg;
}

static int threads_in_compiler(void)
{
    pthread_t thread;
    EXPECT(raise_with((struct walls_limits){.keep_fds = 3}));
    EXPECT(walls_seal(WALLS_COMPILER, NULL) == OK);
    EXPECT(pthread_create(&thread, NULL, do_nothing, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    return 0;
}

static void test_compiler_may_have_threads(void **state)
{
    (void)state;
    assert_int_equal(child_status(threads_in_compiler), 0);
}

static int ordinary_work(void)
{
    EXPECT(raise_with((struct walls_limits){.keep_fds = 3}));
    EXPECT(walls_seal(WALLS_SANDBOX, NULL) == OK);
    void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(p != MAP_FAILED);
    memset(p, 1, 1 << 20);
    EXPECT(mprotect(p, 4096, PROT_READ) == 0);
    EXPECT(munmap(p, 1 << 20) == 0);
    EXPECT(write(STDOUT_FILENO, "done", 4) == 4);
    return 0;
}

static void test_ordinary_work_goes_on(void **state)
{
    (void)state;
    assert_int_equal(child_status(ordinary_work), 0);
    assert_string_equal(said, "done");
}

static int write_too_much(void)
{
    int fd = memfd_create("file", 0);
    static char bytes[8192];
    EXPECT(dup2(fd, 3) == 3);
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(raise_with((struct walls_limits){.keep_fds = 4, .file_bytes = 10000}));
    EXPECT(write(3, bytes, sizeof bytes) == sizeof bytes);
    EXPECT(write(3, bytes, sizeof bytes) == 10000 - sizeof bytes);
    EXPECT(write(3, bytes, 1) < 0 && errno == EFBIG);
    return 0;
}

static void test_size_of_files(void **state)
{
    (void)state;
    assert_int_equal(child_status(write_too_much), 0);
}

/* The signal tells the front that it was the processor time: SIGKILL could have come from anybody. */
static int compute_for_ever(void)
{
    EXPECT(raise_with((struct walls_limits){.keep_fds = 3, .cpu_seconds = 1}));
    for (volatile unsigned n = 0;; n++)
        ;
}

static void test_processor_time(void **state)
{
    (void)state;
    int status = child_status(compute_for_ever);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGXCPU);
}

static void test_lists_of_calls(void **state)
{
    (void)state;
    static const char *const never[] = {"open",  "openat", "socket",    "connect",  "execve",
                                        "fork",  "vfork",  "kill",      "ptrace",   "clone",
                                        "prctl", "ioctl",  "setrlimit", "prlimit64"};
    for (enum walls_kind kind = WALLS_SANDBOX; kind <= WALLS_COMPILER; kind++) {
        size_t count = 0;
        for (const char *const *name = walls_syscalls(kind); *name; name++, count++)
            for (size_t i = 0; i < LENGTH_OF(never); i++)
                assert_string_not_equal(*name, never[i]);
        assert_in_range(count, 10, 60);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_refused),
        cmocka_unit_test(test_probe_sees_open_doors),
        cmocka_unit_test(test_first_half),
        cmocka_unit_test(test_a_bug_behind_walls_is_told),
        cmocka_unit_test(test_compiler_may_have_threads),
        cmocka_unit_test(test_ordinary_work_goes_on),
        cmocka_unit_test(test_size_of_files),
        cmocka_unit_test(test_processor_time),
        cmocka_unit_test(test_lists_of_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
