/* Sandboxes that die, that do not start, and that only seem to be stuck. */
#include "executor_fixture.h"

#include <fcntl.h>
#include <sys/resource.h>

static int setup(void **state)
{
    *state = fixture_new();
    return 0;
}

static int teardown(void **state)
{
    fixture_stop(*state);
    return 0;
}

/* Kills the sandbox at this place whenever it has started, so often that it counts as one that can't live. */
static void kill_again_and_again(struct fixture *f, uint32_t index)
{
    unsigned enough = 2 * 2 * f->config.sandboxes + 1;
    for (unsigned n = 0; n < enough; n++) {
        AWAIT(f, atomic_load(&fixture_host(f, index)->running));
        struct sandbox_host *old = fixture_host(f, index);
        kill(old->process.pid, SIGKILL);
        AWAIT(f, fixture_host(f, index) != old);
    }
    assert_false(atomic_load(&fixture_host(f, index)->running)); /* it has to wait now */
}

static void test_crash_loop_ends(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false);
    kill_again_and_again(f, 0);
    struct call *call = fixture_run(f, &hello);
    fixture_await(call);
    expect_cause(call, CAUSE_OK);
    assert_int_equal(executor_stats(f->executor).sandboxes_ready, 1);
}

/* A dead sandbox has nothing to do, which must not make it look like the best place. */
static void test_others_work_meanwhile(void **state)
{
    struct fixture *f = *state;
    f->config.sandboxes = 2;
    fixture_start(f);
    struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false);
    AWAIT(f, fixture_runs(f, 1));
    kill_again_and_again(f, 0);
    for (int i = 0; i < 5; i++)
        fixture_run(f, &hello);
    for (int i = 0; i < 5; i++)
        assert_int_equal(f->calls[i].run->channel->index, 1);
    fixture_await_all(f);
    for (int i = 0; i < 5; i++)
        expect_cause(&f->calls[i], CAUSE_OK);
}

/* No descriptor is left when a sandbox has to be replaced: it is, as soon as there is one. */
static void test_no_descriptors_left(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, none;
    fixture_start(f);
    struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false);
    fixture_await(fixture_run(f, &hello));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct sandbox_host *old = fixture_host(f, 0);
    kill(old->process.pid, SIGKILL);
    AWAIT(f, !atomic_load(&old->running));
    uint64_t until = clock_now_ns() + 1300 * NS_PER_MS; /* the watch tries in vain, more than once */
    AWAIT(f, clock_now_ns() > until);
    assert_ptr_equal(fixture_host(f, 0), old);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    struct call *call = fixture_run(f, &hello);
    fixture_await(call);
    expect_cause(call, CAUSE_OK);
}

/* Two sandboxes that stand still for longer than one may: one is stuck, the other's guest waits for its input. */
static void test_waiting_is_not_being_stuck(void **state)
{
    struct fixture *f = *state;
    f->config.sandboxes = 2;
    fixture_start(f);
    struct exec_spec echo = fixture_spec(f, GUEST_ECHO, false),
                     forever = fixture_spec(f, GUEST_FOREVER, false);
    AWAIT(f, fixture_runs(f, 0) && fixture_runs(f, 1));
    echo.input_complete = false;
    echo.limits.timeout_ns = forever.limits.timeout_ns = 60 * NS_PER_S;
    struct call *waits = fixture_run(f, &echo), *stuck = fixture_run(f, &forever);
    uint64_t until = clock_now_ns() + 4 * NS_PER_S;
    assert_true(waits->run->channel != stuck->run->channel);
    fixture_await_taken(stuck);
    fixture_freeze(stuck->run->channel->host); /* as good as an endless loop in the engine */
    fixture_await(stuck);
    expect_cause(stuck, CAUSE_SANDBOX_CRASHED);
    AWAIT(f, clock_now_ns() > until);
    assert_false(waits->done);
    exec_run_stdin(waits->run, STR_LIT("late"), true);
    fixture_await(waits);
    expect_cause(waits, CAUSE_OK);
    expect_out(waits, STR_LIT("late"));
}

/* Nobody is left behind: neither a child nor what it was given. */
static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_nothing_is_left_behind(void **state)
{
    (void)state;
    close(fixture_code(GUEST_HELLO, false)); /* is kept from now on */
    close(fixture_code(GUEST_HELLO, true));
    unsigned before = open_descriptors();
    for (int isolation = 0; isolation < 2; isolation++) {
        struct fixture *f = fixture_new();
        f->config.sandboxes = 2;
        f->config.isolation = isolation ? EXEC_INLINE : EXEC_PROCESS;
        fixture_start(f);
        struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false),
                         counted = fixture_spec(f, GUEST_HELLO, true);
        fixture_run(f, &hello);
        fixture_run(f, &counted);
        fixture_await_all(f);
        if (!isolation) {
            struct sandbox_host *old = fixture_host(f, 1);
            kill(old->process.pid, SIGKILL);
            AWAIT(f, fixture_host(f, 1) != old);
        }
        fixture_run(f, &hello); /* under way at the end */
        fixture_stop(f);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    }
    /* What libuv keeps for itself may come once. */
    assert_in_range(open_descriptors(), before, before + 2);
    unsigned now = open_descriptors();
    struct fixture *f = fixture_new();
    f->config.isolation = EXEC_INLINE;
    fixture_start(f);
    struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false);
    fixture_run(f, &hello); /* its code was not even taken */
    fixture_stop(f);
    assert_int_equal(open_descriptors(), now);
}

int main(int argc, char **argv)
{
    fixture_be_process(argc, argv);
#define SUPERVISOR_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        SUPERVISOR_TEST(test_crash_loop_ends),         SUPERVISOR_TEST(test_others_work_meanwhile),
        SUPERVISOR_TEST(test_no_descriptors_left),     SUPERVISOR_TEST(test_waiting_is_not_being_stuck),
        cmocka_unit_test(test_nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
