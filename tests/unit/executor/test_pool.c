/* What does not fit the pool of a sandbox waits in the front's queue. */
#include "executor_fixture.h"

/* --- the counts --------------------------------------------------------------------------------- */
static void test_counts(void **state)
{
    (void)state;
    static const struct engine_config config = {.slots = 100};
    const struct exec_pool_size size = exec_pool_size(&config);
    const uint32_t most[3] = {100, engine_pool_memories(&config), engine_pool_tables(&config)};
    struct exec_pool pool = {0};
    struct exec_code taken[100];
    uint32_t count = 0, used[3] = {0}, full[3] = {0}, seed = 1;
    for (int i = 0; i < 100000; i++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t r = seed >> 8;
        struct exec_code code = {.memories = r % 2, .tables = r / 8 % 3};
        if (i / 1000 % 3 == 1)
            code.memories = 4; /* so that each of the three is the one that is not enough */
        if (i / 1000 % 3 == 2)
            code.tables = 8;
        const uint32_t wanted[3] = {1, code.memories, code.tables};
        bool fits = true;
        for (size_t k = 0; k < 3; k++)
            if (used[k] + wanted[k] > most[k]) {
                full[k]++;
                fits = false;
            }
        assert_int_equal(exec_pool_fits(&pool, size, &code), fits);
        assert_int_equal(exec_pool_take(&pool, size, &code), fits);
        if (fits) {
            taken[count++] = code;
            for (size_t k = 0; k < 3; k++)
                used[k] += wanted[k];
        }
        assert_int_equal(exec_pool_runs(&pool), count);
        while (count && (i % 1000 == 999 || r / 128 % 3 == 0)) {
            r /= 3;
            struct exec_code back = taken[--count];
            exec_pool_give_back(&pool, &back);
            used[0]--;
            used[1] -= back.memories;
            used[2] -= back.tables;
        }
    }
    assert_true(full[0] > 100 && full[1] > 100 && full[2] > 100);
    while (count)
        exec_pool_give_back(&pool, &taken[--count]);
    assert_int_equal(atomic_load(&pool.used), 0);
    for (count = 0; count < config.slots; count++)
        assert_true(exec_pool_take(&pool, size, &(struct exec_code){0}));
    assert_false(exec_pool_fits(&pool, size, &(struct exec_code){0}));
    assert_false(exec_pool_take(&pool, size, &(struct exec_code){0}));
    assert_int_equal(exec_pool_runs(&pool), count);
}

/* --- runs --------------------------------------------------------------------------------------- */
/* They wait for stdin, once. */
#define READS_ONCE(declarations)                                \
    "(module " IMPORT_READ MEMORY_PAGE declarations             \
    "(data (i32.const 0) \"\\00\\01\\00\\00\\00\\10\\00\\00\")" \
    "(func (export \"_start\")"                                 \
    "  (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"
#define FOUR_MEMORIES READS_ONCE("(memory 1) (memory 1) (memory 1)")
#define TABLE "(table 10 funcref)"
#define EIGHT_TABLES READS_ONCE(TABLE TABLE TABLE TABLE TABLE TABLE TABLE TABLE)

enum { SLOTS = 40, RUNS = 60 };

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    f->config.sandbox.engine.slots = SLOTS;
    f->config.sandbox.pool_max_bytes = 64 * FIXTURE_POOL_BYTES;
    *state = f;
    return 0;
}

static int setup_inline(void **state)
{
    setup(state);
    ((struct fixture *)*state)->config.isolation = EXEC_INLINE;
    return 0;
}

static int teardown(void **state)
{
    fixture_stop(*state);
    return 0;
}

static struct exec_spec waiting_spec(struct fixture *f, const char *wat, uint32_t memories, uint32_t tables)
{
    struct exec_spec spec = fixture_spec(f, wat, false);
    spec.code.memories = memories;
    spec.code.tables = tables;
    spec.input_complete = false;
    return spec;
}

static void let_go(struct call *call)
{
    exec_run_stdin(call->run, STR_NULL, true);
    fixture_await(call);
    expect_cause(call, CAUSE_OK);
}

static void expect_running(struct fixture *f, uint32_t running, uint32_t queued)
{
    struct exec_stats stats = executor_stats(f->executor);
    assert_int_equal(stats.running, running);
    assert_int_equal(stats.queued, queued);
}

static void expect_in_turns(struct fixture *f, const struct exec_spec *spec, uint32_t at_once)
{
    for (int i = 0; i < RUNS; i++)
        fixture_run(f, spec);
    expect_running(f, at_once, RUNS - at_once);
    for (uint32_t i = 0; i < RUNS; i++) { /* the next in the order of the queue */
        assert_int_equal(f->calls[i].run->state, EXEC_SENT);
        if (i + at_once < RUNS)
            assert_int_equal(f->calls[i + at_once].run->state, EXEC_QUEUED);
        let_go(&f->calls[i]);
    }
    expect_running(f, 0, 0);
    assert_int_equal(atomic_load(&f->executor->pools[0].used), 0);
    assert_int_equal(atomic_load(&f->executor->pools[2 * f->config.sandboxes].used), 0);
    assert_int_equal(executor_stats(f->executor).crashes, 0);
}

static void test_memories(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec spec = waiting_spec(f, FOUR_MEMORIES, 4, 0);
    expect_in_turns(f, &spec, engine_pool_memories(&f->config.sandbox.engine) / 4);
}

static void test_tables(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec spec = waiting_spec(f, EIGHT_TABLES, 1, 8);
    expect_in_turns(f, &spec, engine_pool_tables(&f->config.sandbox.engine) / 8);
}

static void test_slots(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec spec = waiting_spec(f, READS_ONCE(""), 1, 0);
    expect_in_turns(f, &spec, SLOTS);
}

static void test_another_sandbox_has_room(void **state)
{
    struct fixture *f = *state;
    f->config.sandboxes = 2;
    fixture_start(f);
    struct exec_spec spec = waiting_spec(f, FOUR_MEMORIES, 4, 0);
    uint32_t each = engine_pool_memories(&f->config.sandbox.engine) / 4;
    AWAIT(f, fixture_runs(f, 0) && fixture_runs(f, 1));
    for (int i = 0; i < RUNS; i++)
        fixture_run(f, &spec);
    expect_running(f, 2 * each, RUNS - 2 * each);
    assert_int_equal(f->el->channels[0].run_count, each);
    assert_int_equal(f->el->channels[1].run_count, each);
    for (int i = 0; i < RUNS; i++)
        let_go(&f->calls[i]);
    expect_running(f, 0, 0);
}

static void test_death_gives_all_back(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec spec = waiting_spec(f, FOUR_MEMORIES, 4, 0);
    uint32_t at_once = engine_pool_memories(&f->config.sandbox.engine) / 4;
    for (int i = 0; i < RUNS; i++)
        fixture_run(f, &spec);
    for (uint32_t i = 0; i < at_once; i++)
        fixture_await_taken(&f->calls[i]);
    kill(fixture_host(f, 0)->process.pid, SIGKILL);
    for (uint32_t i = 0; i < at_once; i++) {
        fixture_await(&f->calls[i]);
        expect_cause(&f->calls[i], CAUSE_SANDBOX_CRASHED);
    }
    for (uint32_t i = at_once; i < RUNS; i++)
        let_go(&f->calls[i]);
    expect_running(f, 0, 0);
    assert_int_equal(atomic_load(&f->executor->pools[0].used), 0);
}

static void test_waiting_in_the_queue_ends(void **state)
{
    struct fixture *f = *state;
    f->config.queue_timeout_ns = 50 * NS_PER_MS;
    fixture_start(f);
    struct exec_spec spec = waiting_spec(f, FOUR_MEMORIES, 4, 0);
    uint32_t at_once = engine_pool_memories(&f->config.sandbox.engine) / 4;
    for (uint32_t i = 0; i < at_once + 1; i++)
        fixture_run(f, &spec);
    struct call *late = &f->calls[at_once];
    fixture_await(late);
    expect_cause(late, CAUSE_CANCELLED);
    assert_false(late->started);
    for (uint32_t i = 0; i < at_once; i++)
        let_go(&f->calls[i]);
}

/* Where the runs of one loop fill the pool, that loop tells the others of each end. */
static void test_a_loop_tells_the_others(void **state)
{
    struct fixture *f = *state, *g = fixture_new();
    struct loop *loops[] = {&f->loop, &g->loop};
    struct err_info info = {0};
    f->config.concurrent_max *= 2;
    log_setup(LOG_LEVEL_ERROR + 1, false);
    loop_init(&f->loop, 0);
    loop_init(&g->loop, 1);
    if (executor_new(&f->config, loops, 2, &f->executor, &info))
        fail_msg("%s", info.text);
    g->executor = f->executor;
    f->el = executor_attach(f->executor, &f->loop);
    g->el = executor_attach(f->executor, &g->loop);
    uv_timer_init(&f->loop.uv, &f->patience);
    uv_timer_start(&f->patience, fixture_lost_patience, 1000 * PATIENCE_S, 0);
    uv_timer_init(&g->loop.uv, &g->patience);
    uv_timer_start(&g->patience, fixture_lost_patience, 1000 * PATIENCE_S, 0);

    struct exec_spec spec = waiting_spec(f, FOUR_MEMORIES, 4, 0);
    uint32_t at_once = engine_pool_memories(&f->config.sandbox.engine) / 4;
    for (uint32_t i = 0; i < at_once; i++)
        fixture_run(f, &spec);
    struct call *other = fixture_run(g, &spec);
    assert_int_equal(other->run->state, EXEC_QUEUED);
    assert_false(atomic_load(&g->el->pump_posted));
    let_go(&f->calls[0]);
    assert_true(atomic_load(&g->el->pump_posted));
    while (other->run->state != EXEC_SENT)
        fixture_turn(g);
    assert_false(atomic_load(&g->el->pump_posted));
    let_go(other);
    for (uint32_t i = 1; i < at_once; i++)
        let_go(&f->calls[i]);

    executor_detach(g->el);
    uv_close((uv_handle_t *)&g->patience, NULL);
    loop_close(&g->loop);
    while (uv_run(&g->loop.uv, UV_RUN_DEFAULT))
        ;
    loop_done(&g->loop);
    g->executor = NULL;
    fixture_stop(g);
}

int main(int argc, char **argv)
{
    fixture_be_process(argc, argv);
#define EXEC_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define BOTH_TEST(name)                                       \
    cmocka_unit_test_setup_teardown(name, setup, teardown),   \
    {                                                         \
#name " (inline)", name, setup_inline, teardown, NULL \
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        BOTH_TEST(test_memories),
        BOTH_TEST(test_tables),
        BOTH_TEST(test_slots),
        EXEC_TEST(test_another_sandbox_has_room),
        EXEC_TEST(test_death_gives_all_back),
        BOTH_TEST(test_waiting_in_the_queue_ends),
        EXEC_TEST(test_a_loop_tells_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
