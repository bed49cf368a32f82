/* Three instances (processes) of one service against one Redis, 10,000 requests in all: by an oracle that knows only
 * Redis' clock and who was let through, never one execution too many, and none refused who had a token. Then the same
 * while Redis is killed and comes back empty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <sys/mman.h>

#include "../kv/redis_fixture.h"
#include "limit/limit.h"

enum { INSTANCES = 3, REQUESTS = 10000, KEYS = 4, IN_FLIGHT = 32, LEASES = 5 };
enum { OF_ONE = REQUESTS / INSTANCES + 1 };

/* Whole intervals: the oracle need not round. The last key is short of days, not of minutes. */
static const struct kv_figures figures[KEYS] = {
    {600, 100000, 0}, {1200, 100000, LEASES}, {60, 100000, 0}, {60000, 321, 0}};

struct event {
    uint64_t at_us;
    uint8_t key;
    bool allowed, local, by_concurrency;
};

/* Shared by the processes. */
struct board {
    struct event events[INSTANCES][OF_ONE];
    _Atomic uint32_t running[KEYS], most_running[KEYS];
    _Atomic uint32_t done;
};

struct asked {
    struct limit_wait wait;
    struct instance *instance;
    uint8_t key;
    bool runs;
    uv_timer_t holds; /* a run takes a while */
    struct asked *next;
};

struct instance {
    struct board *board;
    struct loop loop;
    struct kv *kv;
    struct limit *limit;
    struct event *events;
    uint32_t asked, answered, holding;
    uint32_t pause_us; /* between requests */
    unsigned seed;
    struct asked slots[IN_FLIGHT];
    struct asked *unused;
};

static void on_run_over(uv_timer_t *timer)
{
    struct asked *a = CONTAINER_OF(timer, struct asked, holds);
    struct instance *in = a->instance;
    if (a->runs)
        in->board->running[a->key]--;
    limit_give(in->limit, &in->loop, &a->wait.ticket, false);
    in->holding--;
    a->next = in->unused;
    in->unused = a;
}

static void note(struct asked *a)
{
    struct instance *in = a->instance;
    struct kv_answer *answer = &a->wait.kv.answer;
    in->events[in->answered++] = (struct event){.at_us = answer->at_us,
                                                .key = a->key,
                                                .allowed = a->wait.answer == LIMIT_ALLOWED,
                                                .local = a->wait.state.local,
                                                .by_concurrency = answer->refusal == KV_NO_CONCURRENCY};
    in->board->done++;
    a->runs = a->wait.answer == LIMIT_ALLOWED && figures[a->key].concurrency;
    if (a->runs) {
        uint32_t now = ++in->board->running[a->key], most = in->board->most_running[a->key];
        while (now > most && !atomic_compare_exchange_weak(&in->board->most_running[a->key], &most, now))
            ;
    }
    in->holding++;
    uv_timer_start(&a->holds, on_run_over, (uint64_t)rand_r(&in->seed) % 4, 0);
}

static void on_ready(struct limit_wait *w)
{
    note(CONTAINER_OF(w, struct asked, wait));
}

static void ask(struct instance *in)
{
    struct asked *a = in->unused;
    in->unused = a->next;
    in->asked++;
    a->key = (uint8_t)((unsigned)rand_r(&in->seed) % KEYS);
    a->wait.ready = on_ready;
    char key[8];
    snprintf(key, sizeof key, "key%u", a->key);
    if (limit_execution(in->limit, &in->loop, str_of(key), &figures[a->key], &a->wait) != LIMIT_ASK)
        note(a);
}

static void run_instance(struct board *board, uint32_t number, const char *url, uint32_t pause_us)
{
    struct instance *in = xcalloc(1, sizeof *in);
    in->board = board;
    in->events = board->events[number];
    in->seed = number + 41;
    in->pause_us = pause_us;
    loop_init(&in->loop, 0);
    const struct kv_config config = {.url = str_of(url), .loops = 1, .timeout_ns = 5 * NS_PER_S};
    enum err e = kv_open(&config, &in->kv, NULL);
    WW_ASSERT(!e);
    kv_attach(in->kv, &in->loop);
    in->limit = limit_new(&(struct limit_config){.kv = in->kv, .lease_ns = 600 * NS_PER_S});
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        struct asked *a = &in->slots[i];
        a->instance = in;
        a->next = in->unused;
        in->unused = a;
        uv_timer_init(&in->loop.uv, &a->holds);
    }
    while (kv_health(in->kv).degraded)
        uv_run(&in->loop.uv, UV_RUN_ONCE);
    while (in->asked < OF_ONE || in->answered < in->asked || in->holding) {
        if (in->asked < OF_ONE && in->unused)
            ask(in);
        uv_run(&in->loop.uv, in->asked < OF_ONE && in->unused ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        if (in->pause_us)
            usleep(in->pause_us);
    }
    kv_detach(in->kv, &in->loop);
    for (size_t i = 0; i < IN_FLIGHT; i++)
        uv_close((uv_handle_t *)&in->slots[i].holds, NULL);
    loop_close(&in->loop);
    uv_run(&in->loop.uv, UV_RUN_DEFAULT);
    loop_done(&in->loop);
    limit_free(in->limit);
    kv_free(in->kv);
    free(in);
}

static int by_time(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->at_us != y->at_us)
        return x->at_us < y->at_us ? -1 : 1;
    return (int)y->allowed - (int)x->allowed;
}

/* In any stretch of time, a bucket lets through at most its capacity and what flows in meanwhile. Compares every pair
 * of those let through: the plainest form of the promise. */
static void check_bucket(const struct event *events, size_t count, const struct kv_figures *f, size_t slack)
{
    uint64_t interval_us = 60000000 / f->per_minute;
    for (size_t i = 0; i < count; i++)
        for (size_t j = i + f->per_minute; j < count; j++)
            if (j - i + 1 > f->per_minute + slack + (events[j].at_us - events[i].at_us) / interval_us)
                fail_msg("%zu executions in %lu us", j - i + 1,
                         (unsigned long)(events[j].at_us - events[i].at_us));
}

/* Nobody was refused who had a token, where the bucket was the reason. */
static void check_refusals(const struct event *events, size_t count, const struct kv_figures *f)
{
    uint64_t token = 60000000, level = f->per_minute * token, at_us = count ? events[0].at_us : 0;
    for (size_t i = 0; i < count; i++) {
        level = MIN(level + (events[i].at_us - at_us) * f->per_minute, f->per_minute * token);
        at_us = events[i].at_us;
        if (events[i].allowed)
            level -= token;
        else if (!events[i].by_concurrency)
            assert_true(level < token);
    }
}

static struct redis_server server;

static struct board *run_all(uint32_t pause_us, bool kill_redis)
{
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(board, MAP_FAILED);
    pid_t pids[INSTANCES], parent = getpid();
    for (uint32_t i = 0; i < INSTANCES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
                _exit(1);
            run_instance(board, i, server.url, pause_us);
            _exit(0);
        }
    }
    for (uint32_t kills = 0; kill_redis && kills < 2; kills++) {
        while (board->done < (kills + 1) * REQUESTS / 3)
            usleep(1000);
        redis_kill(&server);
        uint32_t done = board->done;
        while (board->done < done + REQUESTS / 20)
            usleep(1000);
        redis_start(&server);
    }
    for (uint32_t i = 0; i < INSTANCES; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(board->done, INSTANCES * OF_ONE);
    return board;
}

/* Those of one key that `instance` (or all: INSTANCES) decided here or in Redis, by time. */
static size_t pick(const struct board *board, uint32_t instance, uint8_t key, bool local, bool allowed_only,
                   struct event *ret)
{
    size_t count = 0;
    for (uint32_t i = 0; i < INSTANCES; i++)
        for (size_t e = 0; e < OF_ONE; e++) {
            const struct event *event = &board->events[i][e];
            if ((instance == INSTANCES || instance == i) && event->key == key && event->local == local &&
                (event->allowed || !allowed_only))
                ret[count++] = *event;
        }
    qsort(ret, count, sizeof *ret, by_time);
    return count;
}

static uint64_t days_of(const struct event *events, size_t count)
{
    const uint64_t day_us = 24 * 3600 * (uint64_t)1000000;
    return count ? events[count - 1].at_us / day_us - events[0].at_us / day_us + 1 : 1;
}

static int start(void **state)
{
    (void)state;
    if (redis_is_installed()) {
        redis_start(&server);
        redis_do(&server, "FLUSHALL");
    } else {
        print_message("skipped: redis-server is not installed\n");
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (server.pid)
        redis_stop(&server);
    server.port = 0;
    return 0;
}

static void never_one_too_many(void **state)
{
    (void)state;
    if (!server.pid)
        skip();
    static struct event events[INSTANCES * OF_ONE];
    struct board *board = run_all(0, false);
    for (uint8_t key = 0; key < KEYS; key++) {
        assert_int_equal(pick(board, INSTANCES, key, true, false, events), 0);
        size_t count = pick(board, INSTANCES, key, false, false, events);
        assert_true(count > REQUESTS / KEYS / 2);
        uint64_t days = days_of(events, count);
        if (figures[key].per_day > REQUESTS)
            check_refusals(events, count, &figures[key]);
        count = pick(board, INSTANCES, key, false, true, events);
        check_bucket(events, count, &figures[key], 0);
        assert_in_range(count, 1, figures[key].per_day * days);
        if (figures[key].per_day < REQUESTS && days == 1)
            assert_int_equal(count, figures[key].per_day);
        if (figures[key].concurrency)
            assert_in_range(board->most_running[key], 1, figures[key].concurrency);
        assert_int_equal(board->running[key], 0);
    }
    munmap(board, sizeof *board);
}

static void not_even_without_redis(void **state)
{
    (void)state;
    if (!server.pid)
        skip();
    static struct event events[INSTANCES * OF_ONE];
    struct board *board = run_all(500, true);
    size_t locals = 0;
    for (uint8_t key = 0; key < KEYS; key++) {
        /* What Redis decided keeps to the limit over all its lives: the instances tell it where they stood, each as
         * of the last answer that it saw. */
        size_t count = pick(board, INSTANCES, key, false, true, events);
        uint64_t days = days_of(events, count), shared = count;
        check_bucket(events, count, &figures[key], INSTANCES);
        assert_in_range(count, 1, figures[key].per_day * days);
        /* What an instance decided alone keeps to the limit of one. */
        for (uint32_t i = 0; i < INSTANCES; i++) {
            locals += pick(board, i, key, true, false, events);
            count = pick(board, i, key, true, true, events);
            check_bucket(events, count, &figures[key], 0);
            assert_in_range(shared + count, 1, figures[key].per_day * days);
        }
        assert_int_equal(board->running[key], 0);
        assert_in_range(board->most_running[key], 0, INSTANCES * figures[key].concurrency);
    }
    assert_true(locals > 100);
    munmap(board, sizeof *board);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(never_one_too_many, start, stop),
        cmocka_unit_test_setup_teardown(not_even_without_redis, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
