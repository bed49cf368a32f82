/* Records in memory: eight threads at once, and how records make room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kv/memory.h"

static _Atomic uint64_t clock_ahead_ns;
static atomic_bool clock_stands; /* at a second, so that no bucket refills */

int clock_gettime(clockid_t id, struct timespec *ts)
{
    long failed = syscall(SYS_clock_gettime, id, ts);
    if (clock_stands)
        *ts = (struct timespec){.tv_sec = 20000 * 86400};
    uint64_t ns = (uint64_t)ts->tv_nsec + clock_ahead_ns;
    ts->tv_sec += (time_t)(ns / NS_PER_S);
    ts->tv_nsec = (long)(ns % NS_PER_S);
    return (int)failed;
}

static struct kv_request request_of(unsigned number, struct kv_figures figures)
{
    static _Thread_local char key[16];
    int len = snprintf(key, sizeof key, "%u", number);
    return (struct kv_request){.key = str_make(key, (size_t)len), .figures = figures};
}

enum { THREADS = 8, KEYS = 5, TAKES = 20000 };

struct taker {
    pthread_t thread;
    struct memory *memory;
    uint64_t allowed[KEYS];
    uint64_t most_running;
    unsigned seed;
};

static void *take_many(void *data)
{
    struct taker *taker = data;
    for (unsigned i = 0; i < TAKES; i++) {
        unsigned number = (unsigned)rand_r(&taker->seed) % KEYS;
        struct kv_request q = request_of(number, (struct kv_figures){1000 * (number + 1), 2500, 3});
        struct kv_answer answer;
        struct kv_ticket ticket;
        memory_take(taker->memory, &q, &answer, &ticket);
        if (answer.refusal)
            continue;
        taker->most_running = MAX(taker->most_running, (uint64_t)answer.running);
        bool refund = rand_r(&taker->seed) % 4 == 0;
        taker->allowed[number] += !refund;
        memory_give(taker->memory, &ticket, refund);
    }
    return NULL;
}

static void threads_share_exactly(void **state)
{
    (void)state;
    struct taker takers[THREADS] = {0};
    struct memory *m = memory_new(0);
    clock_stands = true;
    for (unsigned i = 0; i < THREADS; i++) {
        takers[i].memory = m;
        takers[i].seed = i;
        assert_int_equal(pthread_create(&takers[i].thread, NULL, take_many, &takers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(takers[i].thread, NULL);
    for (unsigned number = 0; number < KEYS; number++) {
        uint64_t allowed = 0;
        for (unsigned i = 0; i < THREADS; i++) {
            allowed += takers[i].allowed[number];
            assert_in_range(takers[i].most_running, 0, 3);
        }
        /* All had enough tries: exactly the bucket or the day, whichever is smaller. */
        assert_int_equal(allowed, MIN(1000 * (number + 1), 2500u));
    }
    clock_stands = false;
    memory_free(m);
}

static void take(struct memory *m, unsigned number, struct kv_figures figures, struct kv_ticket *ticket)
{
    struct kv_request q = request_of(number, figures);
    struct kv_answer answer;
    struct kv_ticket ignored;
    memory_take(m, &q, &answer, ticket ? ticket : &ignored);
    assert_int_equal(answer.refusal, KV_ALLOWED);
}

static void it_stays_bounded(void **state)
{
    (void)state;
    struct memory *m = memory_new(640);
    for (unsigned i = 0; i < 20000; i++)
        take(m, i, (struct kv_figures){.per_minute = 10}, NULL);
    struct memory_stats stats = memory_stats(m);
    assert_in_range(stats.subjects, 600, 640);
    assert_int_equal(stats.subjects + stats.evicted_live, 20000);
    memory_free(m);
}

static void the_idle_go_first(void **state)
{
    (void)state;
    struct memory *m = memory_new(1000000);
    for (unsigned i = 0; i < 10000; i++)
        take(m, i, (struct kv_figures){.per_minute = 10}, NULL);
    assert_int_equal(memory_stats(m).subjects, 10000);
    clock_ahead_ns += 7 * NS_PER_S; /* each has its one token back */
    for (unsigned i = 10000; i < 20000; i++)
        take(m, i, (struct kv_figures){.per_minute = 10}, NULL);
    struct memory_stats stats = memory_stats(m);
    assert_in_range(stats.subjects, 10000, 10500);
    assert_int_equal(stats.evicted_live, 0);
    memory_free(m);
}

static void a_lease_keeps_its_record(void **state)
{
    (void)state;
    enum { LEASES = 200 };
    struct memory *m = memory_new(1);
    struct kv_ticket tickets[LEASES];
    for (unsigned i = 0; i < LEASES; i++)
        take(m, i, (struct kv_figures){.concurrency = 1}, &tickets[i]);
    assert_int_equal(memory_stats(m).subjects, LEASES);
    for (unsigned i = 0; i < LEASES; i++) {
        struct kv_request q = request_of(i, (struct kv_figures){.concurrency = 1});
        struct kv_answer answer;
        struct kv_ticket none;
        memory_take(m, &q, &answer, &none);
        assert_int_equal(answer.refusal, KV_NO_CONCURRENCY);
        memory_give(m, &tickets[i], false);
    }
    for (unsigned i = 0; i < 4 * LEASES; i++)
        take(m, LEASES + i, (struct kv_figures){.per_minute = 600000}, NULL);
    assert_in_range(memory_stats(m).subjects, 1, LEASES);
    memory_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_exactly),
        cmocka_unit_test(it_stays_bounded),
        cmocka_unit_test(the_idle_go_first),
        cmocka_unit_test(a_lease_keeps_its_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
