/* Two loops on two threads over the same sandboxes, which die all the time: every run ends, and ends once. */
#include "executor_fixture.h"

enum { RUNS_A_LOOP = 400, AT_ONCE = 20, KILL_EVERY_MS = 60 };

struct side {
    struct loop loop;
    struct exec_loop *el;
    struct executor *executor;
    struct exec_spec specs[3];
    unsigned begun, ended, crashed;
    struct loop_post stop;
    uv_timer_t alive; /* a loop without other handles would end */
    uv_thread_t thread;
};

struct one {
    struct side *side;
    struct exec_run *run;
    unsigned kind;
    size_t out;
    bool done;
};

static struct side sides[2];
static uv_timer_t killer, patience;
static atomic_uint sides_done;

static void begin(struct side *s);

static void on_output(void *ctx, int fd, struct str bytes)
{
    struct one *one = ctx;
    assert_int_equal(fd, 1);
    one->out += bytes.len;
}

static void on_done(void *ctx, const struct exec_outcome *outcome)
{
    struct one *one = ctx;
    struct side *s = one->side;
    assert_false(one->done);
    one->done = true;
    if (outcome->report->cause == CAUSE_SANDBOX_CRASHED) {
        s->crashed++;
    } else {
        static const enum cause want[] = {CAUSE_OK, CAUSE_OUTPUT_LIMIT, CAUSE_DEADLINE};
        static const size_t bytes[] = {5, 100000, 0};
        if (outcome->report->cause != want[one->kind])
            fail_msg("%s: %s", cause_name((enum cause)outcome->report->cause), outcome->report->text);
        assert_int_equal(one->out, bytes[one->kind]);
    }
    free(one);
    s->ended++;
    begin(s);
    if (s->ended == RUNS_A_LOOP)
        atomic_fetch_add(&sides_done, 1);
}

static void begin(struct side *s)
{
    static const struct exec_ops ops = {.output = on_output, .done = on_done};
    struct err_info info = {0};
    if (s->begun == RUNS_A_LOOP)
        return;
    struct one *one = xcalloc(1, sizeof *one);
    one->side = s;
    one->kind = s->begun++ % LENGTH_OF(s->specs);
    if (exec_start(s->el, &s->specs[one->kind], &ops, one, &one->run, &info))
        fail_msg("%s", info.text);
}

static void stop_side(struct loop_post *post)
{
    struct side *s = CONTAINER_OF(post, struct side, stop);
    executor_detach(s->el);
    uv_close((uv_handle_t *)&s->alive, NULL);
    if (s == &sides[0]) {
        executor_stop(s->executor);
        uv_close((uv_handle_t *)&killer, NULL);
        uv_close((uv_handle_t *)&patience, NULL);
    }
    loop_close(&s->loop);
}

static void on_killer(uv_timer_t *timer)
{
    static unsigned n;
    (void)timer;
    if (atomic_load(&sides_done) == LENGTH_OF(sides)) {
        uv_timer_stop(&killer);
        for (size_t i = LENGTH_OF(sides); i-- > 0;)
            loop_post(&sides[i].loop, &sides[i].stop, stop_side);
        return;
    }
    struct sandbox_host *h = sides[0].el->channels[n++ % 2].host;
    if (atomic_load(&h->running) && n < 20)
        kill(h->process.pid, SIGKILL);
}

static void on_alive(uv_timer_t *timer)
{
    (void)timer;
}

static void run_side(void *arg)
{
    struct side *s = arg;
    for (int i = 0; i < AT_ONCE; i++)
        begin(s);
    uv_run(&s->loop.uv, UV_RUN_DEFAULT);
}

static void test_threads_and_deaths(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(); /* its configuration only */
    struct loop *loops[] = {&sides[0].loop, &sides[1].loop};
    struct err_info info = {0};
    struct executor *executor;
    f->config.sandboxes = 2;
    log_setup(LOG_LEVEL_ERROR + 1, false);
    struct exec_spec specs[] = {fixture_spec(f, GUEST_HELLO, false), fixture_spec(f, GUEST_FLOOD, false),
                                fixture_spec(f, GUEST_FOREVER, false)};
    specs[1].limits.stdout_bytes = 100000;
    specs[2].limits.timeout_ns = 2 * NS_PER_MS;
    for (uint32_t i = 0; i < LENGTH_OF(sides); i++)
        loop_init(&sides[i].loop, i);
    if (executor_new(&f->config, loops, LENGTH_OF(loops), &executor, &info))
        fail_msg("%s", info.text);
    uv_timer_init(&sides[0].loop.uv, &killer);
    uv_timer_start(&killer, on_killer, KILL_EVERY_MS, KILL_EVERY_MS);
    uv_timer_init(&sides[0].loop.uv, &patience);
    uv_timer_start(&patience, fixture_lost_patience, 1000 * PATIENCE_S, 0);
    for (uint32_t i = 0; i < LENGTH_OF(sides); i++) {
        sides[i].executor = executor;
        memcpy(sides[i].specs, specs, sizeof specs);
        sides[i].el = executor_attach(executor, &sides[i].loop);
        uv_timer_init(&sides[i].loop.uv, &sides[i].alive);
        uv_timer_start(&sides[i].alive, on_alive, 1000, 1000);
    }
    assert_int_equal(uv_thread_create(&sides[1].thread, run_side, &sides[1]), 0);
    run_side(&sides[0]);
    uv_thread_join(&sides[1].thread);
    for (size_t i = 0; i < LENGTH_OF(sides); i++) {
        assert_int_equal(sides[i].ended, RUNS_A_LOOP);
        assert_true(sides[i].crashed < RUNS_A_LOOP);
        loop_done(&sides[i].loop);
    }
    struct exec_stats stats = executor_stats(executor);
    assert_int_equal(stats.running + stats.queued, 0);
    assert_true(stats.crashes > 0);
    executor_free(executor);
    f->executor = NULL;
    fixture_stop(f);
}

int main(int argc, char **argv)
{
    fixture_be_process(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_and_deaths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
