/* Limits under a clock that tests move: what is told to whom, and that waiting as long as told is enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "limit/limit.h"

/* Both clocks stand until a test moves them. */
static struct {
    uint64_t monotonic_ns, wall_ns;
} clocks;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    uint64_t ns = id == CLOCK_MONOTONIC ? clocks.monotonic_ns : clocks.wall_ns;
    *ts = (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    return 0;
}

static void pass(uint64_t ns)
{
    clocks.monotonic_ns += ns;
    clocks.wall_ns += ns;
}

#define DAY_NS (24 * 3600 * NS_PER_S)

struct fixture {
    struct loop loop;
    struct kv *kv;
    struct limit *limit;
    struct limit_wait wait;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    const struct kv_config config = {.loops = 1};
    clocks.monotonic_ns = 5 * NS_PER_S;
    clocks.wall_ns = 20000 * DAY_NS + 3600 * NS_PER_S;
    assert_int_equal(kv_open(&config, &f->kv, NULL), OK);
    f->limit = limit_new(&(struct limit_config){
        .kv = f->kv, .key_per_minute = 6000, .address_per_minute = 60, .lease_ns = 60 * NS_PER_S});
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    limit_free(f->limit);
    kv_free(f->kv);
    free(f);
    return 0;
}

static const struct kv_figures free_tier = {10, 500, 0}, basic_tier = {100, 10000, 0},
                               pro_tier = {500, 50000, 0};

static enum limit_answer run(struct fixture *f, const char *key, const struct kv_figures *figures)
{
    return limit_execution(f->limit, &f->loop, str_of(key), figures, &f->wait);
}

static void the_tiers(void **state)
{
    struct fixture *f = *state;
    const struct kv_figures *tiers[] = {&free_tier, &basic_tier, &pro_tier};
    const char *keys[] = {"free", "basic", "pro"};
    for (size_t i = 0; i < 3; i++) {
        for (uint32_t n = 0; n < tiers[i]->per_minute; n++)
            assert_int_equal(run(f, keys[i], tiers[i]), LIMIT_ALLOWED);
        assert_int_equal(run(f, keys[i], tiers[i]), LIMIT_REFUSED);
        assert_int_equal(f->wait.state.refused_by, LIMIT_MINUTE);
        assert_int_equal(f->wait.state.limit, tiers[i]->per_minute);
    }
}

/* Tiers are rows that anybody with the database may write: one above what can be counted counts as that. */
static void a_figure_too_high(void **state)
{
    struct fixture *f = *state;
    const struct kv_figures tier = {.per_minute = UINT32_MAX};
    assert_int_equal(run(f, "key", &tier), LIMIT_ALLOWED);
    assert_int_equal(f->wait.state.limit, KV_PER_MINUTE_MAX);
    assert_int_equal(limit_look(f->limit, &f->loop, str_of("key"), &tier, &f->wait), LIMIT_ALLOWED);
    assert_int_equal(f->wait.state.remaining, KV_PER_MINUTE_MAX - 1);
}

/* Free: the eleventh in a minute waits, by the second told; another key does not. */
static void the_eleventh(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(run(f, "k", &free_tier), LIMIT_ALLOWED);
        assert_int_equal(f->wait.state.remaining, 9 - i);
        assert_int_equal(f->wait.state.reset_s, 6 * (i + 1));
    }
    assert_int_equal(run(f, "k", &free_tier), LIMIT_REFUSED);
    assert_int_equal(f->wait.state.retry_after_s, 6);
    assert_int_equal(f->wait.ticket.key_len, 0);
    assert_int_equal(run(f, "other", &basic_tier), LIMIT_ALLOWED);
    pass(6 * NS_PER_S - 1000);
    assert_int_equal(run(f, "k", &free_tier), LIMIT_REFUSED);
    assert_int_equal(f->wait.state.retry_after_s, 1);
    pass(1000);
    assert_int_equal(run(f, "k", &free_tier), LIMIT_ALLOWED);
}

/* Whenever it refuses: waiting exactly as long as told is enough, and a second less is not, but for rounding. */
static void retry_after_is_true(void **state)
{
    struct fixture *f = *state;
    static const struct kv_figures figures[] = {
        {10, 500, 0}, {100, 10000, 0}, {500, 50000, 0}, {1, 0, 0},
        {7, 40, 0},   {59, 61, 0},     {0, 3, 0},       {60000, 100, 0},
    };
    srand(31);
    for (size_t i = 0; i < LENGTH_OF(figures); i++) {
        char key[8];
        uint32_t refusals = 0;
        uint64_t pause_ns = figures[i].per_minute ? 60 * NS_PER_S / figures[i].per_minute : NS_PER_S;
        snprintf(key, sizeof key, "k%zu", i);
        for (int step = 0; step < 5000; step++) {
            if (run(f, key, &figures[i]) == LIMIT_ALLOWED) {
                pass((uint64_t)rand() % (rand() % 50 ? pause_ns : 5 * pause_ns));
                continue;
            }
            refusals++;
            uint32_t wait_s = f->wait.state.retry_after_s;
            assert_in_range(wait_s, 1, 24 * 3600);
            if (wait_s > 1) {
                pass((wait_s - 1) * NS_PER_S - 1000);
                assert_int_equal(run(f, key, &figures[i]), LIMIT_REFUSED);
                assert_in_range(f->wait.state.retry_after_s, 1, 2);
                pass(NS_PER_S + 1000);
            } else {
                pass(NS_PER_S);
            }
            assert_int_equal(run(f, key, &figures[i]), LIMIT_ALLOWED);
        }
        assert_true(refusals > 10);
    }
}

static void the_day_ends_at_midnight(void **state)
{
    struct fixture *f = *state;
    const struct kv_figures figures = {1000, 3, 0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    assert_int_equal(f->wait.state.limit, 3); /* the nearer one */
    assert_int_equal(f->wait.state.remaining, 0);
    assert_int_equal(f->wait.state.reset_s, 23 * 3600);
    assert_int_equal(run(f, "k", &figures), LIMIT_REFUSED);
    assert_int_equal(f->wait.state.refused_by, LIMIT_DAY);
    assert_int_equal(f->wait.state.retry_after_s, 23 * 3600);
    pass(23 * 3600 * NS_PER_S - 1000);
    assert_int_equal(run(f, "k", &figures), LIMIT_REFUSED);
    pass(1000);
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
}

static void a_clock_set_back_changes_nothing(void **state)
{
    struct fixture *f = *state;
    const struct kv_figures figures = {10, 12, 0};
    for (int i = 0; i < 10; i++)
        assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    clocks.wall_ns -= 2 * 3600 * NS_PER_S; /* yesterday, by the wall */
    assert_int_equal(run(f, "k", &figures), LIMIT_REFUSED);
    assert_int_equal(f->wait.state.retry_after_s, 6);
    pass(6 * NS_PER_S);
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    clocks.wall_ns += 2 * 3600 * NS_PER_S;
    pass(600 * NS_PER_S);
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    assert_int_equal(run(f, "k", &figures), LIMIT_REFUSED);
    /* A year back: no fresh day, and none who waits longer than a day. */
    clocks.wall_ns -= 365 * DAY_NS;
    assert_int_equal(run(f, "k", &figures), LIMIT_REFUSED);
    assert_in_range(f->wait.state.retry_after_s, 1, 24 * 3600);
    pass(f->wait.state.retry_after_s * NS_PER_S);
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
}

static void runs_at_once(void **state)
{
    struct fixture *f = *state;
    const struct kv_figures figures = {100, 0, 2};
    struct kv_ticket first, second;
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    first = f->wait.ticket;
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    second = f->wait.ticket;
    assert_int_equal(run(f, "k", &figures), LIMIT_REFUSED);
    assert_int_equal(f->wait.state.refused_by, LIMIT_CONCURRENCY);
    assert_int_equal(f->wait.state.retry_after_s, 1);
    assert_int_equal(f->wait.state.remaining, 98);
    struct err_info info = {0};
    assert_int_equal(limit_refusal(&f->wait.state, &info), ERR_RATE_LIMITED);
    assert_non_null(strstr(info.text, "2 executions"));
    limit_give(f->limit, &f->loop, &first, true);
    limit_give(f->limit, &f->loop, &first, true);
    assert_int_equal(run(f, "k", &figures), LIMIT_ALLOWED);
    assert_int_equal(f->wait.state.remaining, 98);
    limit_give(f->limit, &f->loop, &f->wait.ticket, false);
    limit_give(f->limit, &f->loop, &second, false);
    assert_int_equal(limit_look(f->limit, &f->loop, STR_LIT("k"), &figures, &f->wait), LIMIT_ALLOWED);
    assert_int_equal(f->wait.state.remaining, 98);
    assert_int_equal(f->wait.ticket.key_len, 0);
}

static void a_look_takes_nothing(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(limit_look(f->limit, &f->loop, STR_LIT("k"), &free_tier, &f->wait), LIMIT_ALLOWED);
    assert_int_equal(f->wait.state.remaining, 10);
    assert_int_equal(f->wait.state.reset_s, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(run(f, "k", &free_tier), LIMIT_ALLOWED);
    assert_int_equal(limit_look(f->limit, &f->loop, STR_LIT("k"), &free_tier, &f->wait), LIMIT_REFUSED);
}

static enum limit_answer from(struct fixture *f, const char *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
        return limit_address(f->limit, &f->loop, (const struct sockaddr *)&v4, &f->wait);
    assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
    return limit_address(f->limit, &f->loop, (const struct sockaddr *)&v6, &f->wait);
}

static void addresses(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 60; i++)
        assert_int_equal(from(f, "192.0.2.1"), LIMIT_ALLOWED);
    assert_int_equal(from(f, "192.0.2.1"), LIMIT_REFUSED);
    assert_int_equal(from(f, "::ffff:192.0.2.1"), LIMIT_REFUSED); /* the same client */
    assert_int_equal(from(f, "192.0.2.2"), LIMIT_ALLOWED);
    for (int i = 0; i < 60; i++) {
        char address[40];
        snprintf(address, sizeof address, "2001:db8:0:1::%x", i);
        assert_int_equal(from(f, address), LIMIT_ALLOWED);
    }
    assert_int_equal(from(f, "2001:db8:0:1:ffff::1"), LIMIT_REFUSED);
    assert_int_equal(from(f, "2001:db8:0:2::1"), LIMIT_ALLOWED);
    const struct sockaddr local = {.sa_family = AF_UNIX};
    for (int i = 0; i < 100; i++)
        assert_int_equal(limit_address(f->limit, &f->loop, &local, &f->wait), LIMIT_ALLOWED);
    assert_int_equal(f->wait.state.limit, 0);
    /* Requests and executions of a key are counted apart. */
    for (int i = 0; i < 10; i++)
        assert_int_equal(run(f, "k", &free_tier), LIMIT_ALLOWED);
    for (int i = 0; i < 6000; i++)
        assert_int_equal(limit_key(f->limit, &f->loop, STR_LIT("k"), &f->wait), LIMIT_ALLOWED);
    assert_int_equal(limit_key(f->limit, &f->loop, STR_LIT("k"), &f->wait), LIMIT_REFUSED);
}

static void fields(void **state)
{
    struct fixture *f = *state;
    struct limit_field got[LIMIT_FIELDS_MAX];
    assert_int_equal(run(f, "k", &free_tier), LIMIT_ALLOWED);
    static const char *const names[] = {"RateLimit-Limit",   "RateLimit-Remaining",   "RateLimit-Reset",
                                        "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"};
    static const char *const values[] = {"10", "9", "6"};
    assert_int_equal(limit_fields(&f->wait.state, got), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(got[i].name, names[i]);
        assert_string_equal(got[i].value, values[i % 3]);
    }
    while (run(f, "k", &free_tier) == LIMIT_ALLOWED)
        ;
    assert_int_equal(limit_fields(&f->wait.state, got), 7);
    assert_string_equal(got[6].name, "Retry-After");
    assert_string_equal(got[6].value, "6");
    struct err_info info = {0};
    limit_refusal(&f->wait.state, &info);
    assert_non_null(strstr(info.text, "10 a minute"));
    assert_non_null(strstr(info.text, "6 seconds"));
    /* Concurrency alone has no figures that would fit the fields. */
    const struct kv_figures one = {.concurrency = 1};
    assert_int_equal(run(f, "c", &one), LIMIT_ALLOWED);
    struct kv_ticket held = f->wait.ticket;
    assert_int_equal(limit_fields(&f->wait.state, got), 0);
    assert_int_equal(run(f, "c", &one), LIMIT_REFUSED);
    assert_int_equal(limit_fields(&f->wait.state, got), 1);
    limit_give(f->limit, &f->loop, &held, false);
    /* No figures, no limit; the largest figures fit. */
    const struct kv_figures none = {0};
    assert_int_equal(run(f, "n", &none), LIMIT_ALLOWED);
    assert_int_equal(limit_fields(&f->wait.state, got), 0);
    const struct limit_state most = {
        .refused_by = LIMIT_DAY, .limit = UINT32_MAX, .remaining = UINT32_MAX, .reset_s = UINT32_MAX};
    limit_fields(&most, got);
    assert_string_equal(got[1].value, "4294967295");
    assert_string_equal(limit_what_name(LIMIT_DAY), "day");
    assert_string_equal(limit_what_name(LIMIT_NOTHING), "");
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_tiers),
        TEST(a_figure_too_high),
        TEST(the_eleventh),
        TEST(retry_after_is_true),
        TEST(the_day_ends_at_midnight),
        TEST(a_clock_set_back_changes_nothing),
        TEST(runs_at_once),
        TEST(a_look_takes_nothing),
        TEST(addresses),
        TEST(fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
