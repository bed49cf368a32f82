/* Scope exit, and the assertion that stays in release builds. */
#include "../unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"

static unsigned closed;

static void count_closed(int *fd)
{
    closed += *fd >= 0;
}

static void test_cleanup(void **state)
{
    (void)state;
    closed = 0;
    {
        CLEANUP(count_closed) int fd = 5;
        CLEANUP(count_closed) int none = -1;
        (void)none;
        (void)fd;
    }
    assert_int_equal(closed, 1);
    CLEANUP(freep) char *mine = xstrdup("mine");
    char *taken = TAKE(mine);
    assert_null(mine);
    assert_string_equal(taken, "mine");
    freep(&taken);
    assert_null(taken);
}

static void test_close(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    int fd = pair[0];
    closep(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(fcntl(pair[0], F_GETFD), -1);
    closep(&fd);
    close(pair[1]);
}

static void test_memory(void **state)
{
    (void)state;
    char *p = xstrndup("abcdef", 3);
    assert_string_equal(p, "abc");
    free(p);
    p = xmalloc(0);
    assert_non_null(p);
    p = xrealloc(p, 0);
    assert_non_null(p);
    free(p);
    p = xcalloc(3, 5);
    for (int i = 0; i < 15; i++)
        assert_int_equal(p[i], 0);
    free(p);
}

static char said[64 * 1024];

/* What a child of ours says on stderr before it dies of SIGABRT. */
static void expect_death(void (*doing)(void), const char *word)
{
    int pair[2];
    size_t len = 0;
    assert_int_equal(pipe(pair), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        alarm(60); /* a death that hangs is another signal */
        dup2(pair[1], STDERR_FILENO);
        close(pair[0]);
        doing();
        _exit(0);
    }
    close(pair[1]);
    for (ssize_t n; (n = read(pair[0], said + len, sizeof said - 1 - len)) > 0;)
        len += (size_t)n;
    said[len] = 0;
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(pair[0]);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(said, word))
        fail_msg("status %x, \"%s\"", (unsigned)status, said);
}

static void break_invariant(void)
{
    WW_ASSERT(2 + 2 == 5);
}

static void come_here(void)
{
    WW_UNREACHABLE("nobody comes here");
}

static void ask_too_much(void)
{
    free(xcalloc(SIZE_MAX / 2, 3));
}

/* Lines such as "unit_base_base(+0x1234)[0x7f...]". */
static unsigned frames_said(void)
{
    unsigned count = 0;
    for (const char *at = said; (at = strstr(at, "unit_base_base(")); at++)
        count += strstr(at, "+0x") && strstr(at, "[0x");
    return count;
}

static void test_death(void **state)
{
    (void)state;
    expect_death(break_invariant, "2 + 2 == 5");
    assert_in_range(frames_said(), 3, 64); /* ww_assert_failed(), break_invariant(), ..., main() */
    expect_death(come_here, "nobody comes here");
#ifndef __SANITIZE_ADDRESS__ /* which ends the process itself, in its own words */
    expect_death(ask_too_much, "out of memory");
#else
    (void)ask_too_much;
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cleanup),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
