/* The metrics as a scraper reads them. */
#include "../unit.h"

#include "meter/metrics.h"

static struct metrics loops[2];
static struct buf text;

static void scrape(const struct metrics_gauges *gauges)
{
    static const struct metrics *const both[] = {&loops[0], &loops[1]};
    buf_done(&text);
    text = buf_make(MIB);
    metrics_put_text(&text, both, LENGTH_OF(both), gauges);
    assert_false(text.overflow);
}

static int setup(void **state)
{
    (void)state;
    memset(loops, 0, sizeof loops);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_done(&text);
    return 0;
}

/* The value behind this name with its labels. */
static double value_of(const char *series)
{
    char line[200];
    snprintf(line, sizeof line, "\n%s ", series);
    const char *at = strstr(buf_cstr(&text), line);
    if (!at)
        fail_msg("there is no %s", series);
    return strtod(at + strlen(line), NULL);
}

static bool is_name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

/* Prometheus text format 0.0.4: HELP, TYPE, then the samples of that name and of no other, each series once. */
static void test_format(void **state)
{
    (void)state;
    metrics_count_run(&loops[0], CAUSE_OK, 1000, 500, 1, 2, 3, 4);
    scrape(&(struct metrics_gauges){.start_wall_ns = 1500000000 * NS_PER_S});
    struct str rest = buf_str(&text), name = STR_NULL;
    bool helped = false;
    unsigned samples = 0;
    while (rest.len) {
        struct str line = str_split(&rest, '\n'), whole = line;
        assert_true(line.len > 0);
        if (str_starts_with(line, STR_LIT("# HELP "))) {
            line = str_make(line.p + 7, line.len - 7);
            name = str_split(&line, ' ');
            helped = true;
            assert_true(line.len > 0);
            continue;
        }
        if (str_starts_with(line, STR_LIT("# TYPE "))) {
            line = str_make(line.p + 7, line.len - 7);
            assert_true(helped && str_eq(str_split(&line, ' '), name));
            assert_true(str_eq(line, STR_LIT("counter")) || str_eq(line, STR_LIT("gauge")) ||
                        str_eq(line, STR_LIT("histogram")));
            helped = false;
            continue;
        }
        samples++;
        assert_true(str_starts_with(line, name));
        size_t end = 0;
        while (end < line.len && is_name_char(line.p[end], end == 0))
            end++;
        assert_true(line.p[end] == '{' || line.p[end] == ' ');
        size_t space = str_index(line, ' ');
        char number[64];
        snprintf(number, sizeof number, "%.*s", STR_FMT(str_make(line.p + space + 1, line.len - space - 1)));
        char *stop;
        double value = strtod(number, &stop);
        if (*stop || stop == number || value < 0)
            fail_msg("%.*s", STR_FMT(whole));
        /* No series twice. */
        char series[200];
        snprintf(series, sizeof series, "\n%.*s ", STR_FMT(str_make(line.p, space)));
        const char *first = strstr(buf_cstr(&text), series);
        assert_true(first && !strstr(first + 1, series));
    }
    assert_true(samples > 60);
}

static void test_sums_over_loops(void **state)
{
    (void)state;
    metrics_count_run(&loops[0], CAUSE_OK, 30 * NS_PER_US, 20 * NS_PER_MS, 10, 100, 5000, 7);
    metrics_count_run(&loops[1], CAUSE_OK, 2 * NS_PER_MS, 30 * NS_PER_MS, 1, 10, 9000, 8);
    metrics_count_run(&loops[1], CAUSE_DEADLINE, 60 * NS_PER_S, 0, 0, 0, 100, 0);
    metrics_add(&loops[0].errors[ERR_BUSY], 3);
    metrics_add(&loops[1].errors[ERR_BUSY], 4);
    metrics_add(&loops[0].limit_hits[METRICS_LIMIT_MINUTE], 1);
    metrics_add(&loops[1].limit_hits[METRICS_LIMIT_MINUTE], 2);
    metrics_add(&loops[1].limit_hits[METRICS_LIMIT_LOGIN], 5);
    scrape(&(struct metrics_gauges){.runs_running = 5,
                                    .sandboxes_died = 6,
                                    .ring_messages_to = 7,
                                    .ring_messages_from = 8,
                                    .ring_full = 9});
    assert_true(value_of("wasmwiz_limit_hits_total{limit=\"minute\"}") == 3);
    assert_true(value_of("wasmwiz_limit_hits_total{limit=\"day\"}") == 0);
    assert_true(value_of("wasmwiz_limit_hits_total{limit=\"concurrency\"}") == 0);
    assert_true(value_of("wasmwiz_limit_hits_total{limit=\"requests\"}") == 0);
    assert_true(value_of("wasmwiz_limit_hits_total{limit=\"address\"}") == 0);
    assert_true(value_of("wasmwiz_limit_hits_total{limit=\"login\"}") == 5);
    assert_true(value_of("wasmwiz_runs_total{cause=\"ok\"}") == 2);
    assert_true(value_of("wasmwiz_runs_total{cause=\"deadline\"}") == 1);
    assert_true(value_of("wasmwiz_runs_total{cause=\"trap\"}") == 0); /* there before it first happens */
    assert_true(value_of("wasmwiz_run_stdin_bytes_total") == 11);
    assert_true(value_of("wasmwiz_run_stdout_bytes_total") == 110);
    assert_true(value_of("wasmwiz_run_host_calls_total") == 15);
    assert_true(value_of("wasmwiz_run_memory_peak_bytes") == 9000);
    assert_true(value_of("wasmwiz_runs_running") == 5);
    assert_true(value_of("wasmwiz_sandboxes_died_total") == 6);
    assert_true(value_of("wasmwiz_ring_messages_total{direction=\"to_sandbox\"}") == 7);
    assert_true(value_of("wasmwiz_ring_messages_total{direction=\"from_sandbox\"}") == 8);
    assert_true(value_of("wasmwiz_ring_full_total") == 9);
    double cpu = value_of("wasmwiz_run_cpu_seconds_total");
    assert_true(cpu > 0.0499 && cpu < 0.0501);
    assert_non_null(strstr(buf_cstr(&text), "\"busy\"} 7\n"));
}

/* Buckets count what is at most their bound, and all below it. */
static void test_histogram(void **state)
{
    (void)state;
    static const uint64_t times[] = {
        0, 10 * NS_PER_US, 10 * NS_PER_US + 1, NS_PER_MS, 10 * NS_PER_S, 10 * NS_PER_S + 1, UINT64_MAX / 4};
    for (size_t i = 0; i < LENGTH_OF(times); i++)
        metrics_observe(&loops[i % 2].run_time, times[i]);
    scrape(&(struct metrics_gauges){0});
    assert_true(value_of("wasmwiz_run_seconds_bucket{le=\"1e-05\"}") == 2);
    assert_true(value_of("wasmwiz_run_seconds_bucket{le=\"5e-05\"}") == 3);
    assert_true(value_of("wasmwiz_run_seconds_bucket{le=\"0.001\"}") == 4);
    assert_true(value_of("wasmwiz_run_seconds_bucket{le=\"10\"}") == 5);
    assert_true(value_of("wasmwiz_run_seconds_bucket{le=\"+Inf\"}") == 7);
    assert_true(value_of("wasmwiz_run_seconds_count") == 7);
    assert_true(value_of("wasmwiz_run_seconds_sum") > 4e9);
    double last = 0;
    unsigned buckets = 0;
    for (const char *p = buf_cstr(&text); (p = strstr(p, "wasmwiz_run_seconds_bucket{")); p++, buckets++) {
        double value = strtod(strstr(p, "} ") + 2, NULL);
        assert_true(value >= last);
        last = value;
    }
    assert_int_equal(buckets, METRICS_BUCKETS + 1);
}

/* In bytes; a page of WebAssembly is the least that most runs have. */
static void test_memory_of_runs(void **state)
{
    (void)state;
    static const uint64_t peaks[] = {0,         64 * KIB,      64 * KIB + 1, 3 * MIB,
                                     512 * MIB, 512 * MIB + 1, 4ULL << 30};
    double sum = 0;
    for (size_t i = 0; i < LENGTH_OF(peaks); i++) {
        metrics_count_run(&loops[i % 2], CAUSE_OK, 0, 0, 0, 0, peaks[i], 0);
        sum += (double)peaks[i];
    }
    scrape(&(struct metrics_gauges){0});
    assert_true(value_of("wasmwiz_run_memory_bytes_bucket{le=\"65536\"}") == 2);
    assert_true(value_of("wasmwiz_run_memory_bytes_bucket{le=\"131072\"}") == 3);
    assert_true(value_of("wasmwiz_run_memory_bytes_bucket{le=\"2097152\"}") == 3);
    assert_true(value_of("wasmwiz_run_memory_bytes_bucket{le=\"4194304\"}") == 4);
    assert_true(value_of("wasmwiz_run_memory_bytes_bucket{le=\"536870912\"}") == 5);
    assert_true(value_of("wasmwiz_run_memory_bytes_bucket{le=\"+Inf\"}") == 7);
    assert_true(value_of("wasmwiz_run_memory_bytes_count") == 7);
    assert_true(value_of("wasmwiz_run_memory_bytes_sum") == sum);
}

static void test_memory_peak_is_a_maximum(void **state)
{
    (void)state;
    metrics_count_run(&loops[0], CAUSE_OK, 0, 0, 0, 0, 500, 0);
    metrics_count_run(&loops[0], CAUSE_OK, 0, 0, 0, 0, 100, 0);
    assert_int_equal(atomic_load(&loops[0].memory_peak_max_bytes), 500);
}

int main(void)
{
#define METRICS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        METRICS_TEST(test_format),
        METRICS_TEST(test_sums_over_loops),
        METRICS_TEST(test_histogram),
        METRICS_TEST(test_memory_of_runs),
        METRICS_TEST(test_memory_peak_is_a_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
