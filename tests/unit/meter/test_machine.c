/* What the kernel says about processes and the machine. */
#include "../unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "meter/machine.h"

static void burn(uint64_t cpu_ns)
{
    struct machine_process p = {0};
    uint64_t from = 0, end_ns = clock_now_ns() + 20 * NS_PER_S;
    assert_true(machine_read_process(0, &p));
    for (from = p.cpu_ns; p.cpu_ns - from < cpu_ns && clock_now_ns() < end_ns;)
        assert_true(machine_read_process(0, &p));
}

static void test_this_process(void **state)
{
    struct machine_process before = {0}, after = {0};
    (void)state;
    /* A name that would lead a careless reader astray. */
    assert_int_equal(prctl(PR_SET_NAME, ") R 1 (x y"), 0);
    assert_true(machine_read_process(0, &before));
    assert_int_equal(before.threads, 1);
    assert_in_range(before.resident_bytes, 1, before.virtual_bytes);
    burn(50 * NS_PER_MS);
    assert_true(machine_read_process(getpid(), &after));
    assert_true(after.cpu_ns >= before.cpu_ns + 50 * NS_PER_MS);
    assert_true(after.cpu_ns < before.cpu_ns + 60 * NS_PER_S);
}

static void test_children(void **state)
{
    struct machine_process p = {.threads = 77};
    int status;
    (void)state;
    uint64_t before = machine_ended_children_cpu_ns();
    pid_t child = fork();
    if (child == 0) {
        burn(100 * NS_PER_MS);
        pause();
        _exit(0);
    }
    while (machine_read_process(child, &p) && p.cpu_ns < 90 * NS_PER_MS)
        usleep(1000);
    assert_int_equal(machine_ended_children_cpu_ns(), before); /* it lives */
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(machine_ended_children_cpu_ns() >= before + 80 * NS_PER_MS);
    p.threads = 77;
    assert_false(machine_read_process(child, &p));
    assert_int_equal(p.threads, 77);
}

static void test_descriptors(void **state)
{
    (void)state;
    uint32_t before = machine_count_fds();
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(machine_count_fds(), before + 1);
    close(fd);
    assert_int_equal(machine_count_fds(), before);
}

static void test_room(void **state)
{
    (void)state;
    struct machine_room memory = machine_memory(), disk = machine_disk("/"), none = machine_disk("/nowhere");
    assert_in_range(memory.free_bytes, 1, memory.bytes);
    assert_true(memory.bytes <= 2 * (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    assert_in_range(disk.free_bytes, 1, disk.bytes);
    assert_int_equal(none.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_this_process),
        cmocka_unit_test(test_children),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
