/* The memory that front and sandbox share, and the doorbell in it. */
#include "../unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "sandbox/area.h"

static struct area make(uint32_t channels)
{
    struct area a;
    struct err_info info = {0};
    if (area_create(&a, channels, &info))
        fail_msg("%s", info.text);
    return a;
}

static void test_rings_are_mapped_twice_and_apart(void **state)
{
    (void)state;
    struct area a = make(3);
    for (uint32_t i = 0; i < 6; i++)
        memset(a.rings[i], (int)i + 1, AREA_RING_BYTES);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(a.rings[i][0], i + 1);
        assert_int_equal(a.rings[i][2 * AREA_RING_BYTES - 1], i + 1);
        a.rings[i][AREA_RING_BYTES + 5] = 99;
        assert_int_equal(a.rings[i][5], 99);
    }
    /* The rings lie behind the control page, not in it. */
    assert_int_equal(atomic_load(&a.control->doorbell), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(atomic_load(&a.channel_controls[i].to_sandbox.written), 0);
    assert_true((char *)&a.channel_controls[3] <= (char *)a.control + a.control_bytes);
    area_done(&a);
    assert_int_equal(a.fd, -1);
    area_done(&a);
}

static void test_size_is_sealed(void **state)
{
    (void)state;
    struct area a = make(1);
    assert_int_equal(ftruncate(a.fd, 0), -1);
    assert_int_equal(ftruncate(a.fd, 1 << 30), -1);
    assert_int_equal(fcntl(a.fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
    area_done(&a);
}

static void test_most_channels(void **state)
{
    (void)state;
    struct area a = make(AREA_CHANNELS_MAX);
    a.rings[2 * AREA_CHANNELS_MAX - 1][AREA_RING_BYTES - 1] = 1;
    atomic_store(&a.channel_controls[AREA_CHANNELS_MAX - 1].front_sleeps, 1);
    area_done(&a);
}

/* Both processes see the same layout. */
static void test_other_process(void **state)
{
    (void)state;
    struct area a = make(2);
    struct ring_writer to = area_to_sandbox_writer(&a, 1);
    memcpy(ring_reserve(&to, 4), "ping", 4);
    ring_publish(&to, 4);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct area mine;
        const void *payload;
        size_t len;
        int fd = dup(a.fd);
        if (area_attach(&mine, fd, 2, NULL))
            _exit(1);
        struct ring_reader from = area_to_sandbox_reader(&mine, 1);
        struct ring_writer back = area_from_sandbox_writer(&mine, 1);
        if (ring_peek(&from, &payload, &len) != RING_MESSAGE || len != 4 || memcmp(payload, "ping", 4) != 0)
            _exit(2);
        memcpy(ring_reserve(&back, 4), "pong", 4);
        ring_publish(&back, 4);
        area_done(&mine);
        _exit(0);
    }
    int status;
    const void *payload;
    size_t len;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct ring_reader from = area_from_sandbox_reader(&a, 1);
    assert_int_equal(ring_peek(&from, &payload, &len), RING_MESSAGE);
    assert_memory_equal(payload, "pong", 4);
    area_done(&a);
}

static void test_descriptor_that_is_none(void **state)
{
    (void)state;
    struct area a;
    struct err_info info = {0};
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    close(pair[1]);
    assert_int_equal(area_attach(&a, pair[0], 1, &info), ERR_INTERNAL);
    assert_non_null(strstr(info.text, "mapped"));
    assert_int_equal(fcntl(pair[0], F_GETFD), -1); /* taken over, in any case */
}

/* --- the doorbell ------------------------------------------------------------------------------- */
enum { ROUNDS = 5000 };

struct bell {
    struct area area;
    atomic_uint asked, answered;
};

static bool has_work(void *arg)
{
    struct bell *b = arg;
    return atomic_load(&b->asked) != atomic_load(&b->answered);
}

static void *answer(void *arg)
{
    struct bell *b = arg;
    while (atomic_load(&b->answered) < ROUNDS) {
        while (has_work(b))
            atomic_fetch_add(&b->answered, 1);
        if (atomic_load(&b->answered) < ROUNDS)
            area_wait_doorbell(&b->area, UINT64_MAX, has_work, b);
    }
    return NULL;
}

/* A lost ring would leave both sides waiting for ever. */
static void test_no_ring_is_lost(void **state)
{
    (void)state;
    static struct bell b;
    pthread_t thread;
    b.area = make(1);
    assert_int_equal(pthread_create(&thread, NULL, answer, &b), 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        atomic_store(&b.asked, i);
        area_ring_doorbell(&b.area);
        while (atomic_load(&b.answered) != i)
            sched_yield();
    }
    pthread_join(thread, NULL);
    area_done(&b.area);
}

static bool has_nothing(void *arg)
{
    (void)arg;
    return false;
}

static void test_deadline(void **state)
{
    (void)state;
    struct area a = make(1);
    area_wait_doorbell(&a, 0, has_nothing, NULL); /* long past */
    uint64_t until = clock_now_ns() + 2 * NS_PER_MS;
    area_wait_doorbell(&a, until, has_nothing, NULL);
    assert_true(clock_now_ns() >= until);
    assert_int_equal(atomic_load(&a.control->sandbox_sleeps), 0);
    area_ring_doorbell(&a); /* nobody sleeps: no bell */
    assert_int_equal(atomic_load(&a.control->doorbell), 0);
    area_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rings_are_mapped_twice_and_apart),
        cmocka_unit_test(test_size_is_sealed),
        cmocka_unit_test(test_most_channels),
        cmocka_unit_test(test_other_process),
        cmocka_unit_test(test_descriptor_that_is_none),
        cmocka_unit_test(test_no_ring_is_lost),
        cmocka_unit_test(test_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
