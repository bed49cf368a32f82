/* The tracer without a collector: what it is configured with, what it wants, how it forgets. Sending is tested end to end. */
#include "../unit.h"

#include "base/log.h"
#include "trace/export.h"

#define LOW "ffffffffffffffff0000000000000001"
#define HALF "00000000000000007fffffffffffffff"
#define HIGH "0000000000000000ffffffffffffffff"

static struct trace_config config_of(const char *endpoint, const char *headers, const char *ratio)
{
    return (struct trace_config){str_of(endpoint), str_of(headers), STR_LIT("tests"), str_of(ratio)};
}

static void expect(const char *endpoint, const char *headers, const char *ratio, const char *word)
{
    struct trace_config config = config_of(endpoint, headers, ratio);
    struct err_info err = {0};
    enum err e = trace_config_check(&config, &err);
    if (!word && e)
        fail_msg("%s", err_text(&err));
    if (word && (e != ERR_FIELD_INVALID || !strstr(err_text(&err), word) || strstr(err_text(&err), "hidden")))
        fail_msg("%s \"%s\", wanted %s", err_name(e), err_text(&err), word);
}

static void test_configuration(void **state)
{
    static char long_text[6000];
    static const char good[] = "http://127.0.0.1:4318";
    (void)state;
    expect(good, "", "1", NULL);
    expect("https://collector.example/base/", "a=b, c-d = e%20f ,x=", "0.25", NULL);
    expect("ftp://collector", "", "1", "OTEL_EXPORTER_OTLP_ENDPOINT");
    expect("nonsense", "", "1", "OTEL_EXPORTER_OTLP_ENDPOINT");
    for (const char *const *ratio = (const char *const[]){"", "2", "-0.1", "nan", "half", "1x", NULL}; *ratio;
         ratio++)
        expect(good, "", *ratio, "OTEL_TRACES_SAMPLER_ARG");
    for (const char *const *headers =
             (const char *const[]){"=hidden", "a b=hidden", "a=hidden%", "a=hidden%2", "a=hidden%zz",
                                   "a=hidden%0d%0a", "a=hidden,,", NULL};
         *headers; headers++)
        expect(good, *headers, "1", "OTEL_EXPORTER_OTLP_HEADERS");
    expect(good, "a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1", "1", "more than 16");
    memset(long_text, 'x', sizeof long_text - 1);
    expect(good, long_text, "1", "more than 4096 bytes");
    expect(long_text, "", "1", "OTEL_EXPORTER_OTLP_ENDPOINT");
}

static void with_tracer(const char *ratio, void (*body)(struct tracer *t))
{
    struct loop loop;
    struct tracer *t = NULL;
    struct err_info err = {0};
    struct trace_config config = config_of("http://127.0.0.1:1", "", ratio);
    log_setup(LOG_LEVEL_ERROR + 1, false); /* nobody listens there, and that is told */
    loop_init(&loop, 0);
    assert_int_equal(tracer_new(&loop, &config, &t, &err), OK);
    body(t);
    tracer_stop(t);
    loop_close(&loop);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    loop_done(&loop);
    tracer_free(t);
}

static bool wants(struct tracer *t, const char *id)
{
    struct trace_context c = trace_context_make(STR_NULL, id);
    return tracer_wants(t, &c);
}

static void wants_all(struct tracer *t)
{
    assert_true(wants(t, LOW) && wants(t, HALF) && wants(t, HIGH));
}

static void wants_none(struct tracer *t)
{
    struct trace_context caller = trace_context_make(STR_LIT("00-" HIGH "-00f067aa0ba902b7-01"), LOW);
    assert_false(wants(t, LOW) || wants(t, HALF) || wants(t, HIGH));
    assert_true(tracer_wants(t, &caller));
    caller.sampled = false;
    assert_false(tracer_wants(t, &caller));
}

static void wants_half(struct tracer *t)
{
    assert_true(wants(t, LOW) && wants(t, HALF));
    assert_false(wants(t, HIGH));
}

static void test_sampling(void **state)
{
    (void)state;
    with_tracer("1", wants_all);
    with_tracer("0", wants_none);
    with_tracer("0.5", wants_half);
    assert_false(wants(NULL, LOW));
}

static void put_too_much(struct tracer *t)
{
    static char text[3000], longer[5000];
    struct trace_context c = trace_context_make(STR_NULL, LOW);
    struct trace_attribute attribute = {"text", str_make(text, sizeof text), 0};
    struct trace_span span = {
        .context = &c, .name = "n", .kind = TRACE_SERVER, .attributes = &attribute, .attribute_count = 1};
    memset(text, 'x', sizeof text);
    memset(longer, 'x', sizeof longer);
    for (int i = 0; i < 1000; i++)
        tracer_put(t, &span);
    assert_int_equal(tracer_stats(t).dropped, 0);
    for (int i = 0; i < 1000; i++)
        tracer_put(t, &span);
    uint64_t dropped = tracer_stats(t).dropped;
    assert_in_range(dropped, 1, 999);
    attribute.text = str_make(longer, sizeof longer); /* more than one span may have */
    tracer_put(t, &span);
    assert_int_equal(tracer_stats(t).dropped, dropped + 1);
    assert_int_equal(tracer_stats(t).exported, 0);
}

static void test_the_queue_is_bounded(void **state)
{
    (void)state;
    with_tracer("1", put_too_much);
    tracer_put(NULL, NULL);
    assert_int_equal(tracer_stats(NULL).dropped, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_the_queue_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
