/* The executor with real sandboxes: placing, streams, queue, and what a sandbox's death costs. */
#include "executor_fixture.h"

static int setup(void **state)
{
    *state = fixture_new();
    return 0;
}

static int setup_inline(void **state)
{
    struct fixture *f = fixture_new();
    f->config.isolation = EXEC_INLINE;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_stop(*state);
    return 0;
}

static char large[5 * 1024 * 1024];

static struct str large_input(void)
{
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7 % 251);
    return str_make(large, sizeof large);
}

/* --- ends --------------------------------------------------------------------------------------- */
static void test_many_runs(void **state)
{
    struct fixture *f = *state;
    f->config.concurrent_max = 16;
    fixture_start(f);
    struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false), echo = fixture_spec(f, GUEST_ECHO, false);
    echo.input = STR_LIT("echoed");
    for (int i = 0; i < 150; i++)
        fixture_run(f, i % 2 ? &echo : &hello);
    fixture_await_all(f);
    for (size_t i = 0; i < f->call_count; i++) {
        expect_cause(&f->calls[i], CAUSE_OK);
        expect_out(&f->calls[i], i % 2 ? STR_LIT("echoed") : STR_LIT("hello"));
        assert_true(f->calls[i].started);
    }
    struct exec_stats stats = executor_stats(f->executor);
    assert_int_equal(stats.started, 150);
    assert_int_equal(stats.running + stats.queued, 0);
    assert_int_equal(stats.crashes, 0);
    assert_int_equal(stats.sandboxes_ready, 1);
}

static void test_ends(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec trap = fixture_spec(f, GUEST_TRAP, false),
                     forever = fixture_spec(f, GUEST_FOREVER, false);
    struct exec_spec unknown = fixture_spec(f, GUEST_EMPTY, false),
                     flood = fixture_spec(f, GUEST_FLOOD, false);
    forever.limits.timeout_ns = 30 * NS_PER_MS;
    unknown.entry = STR_LIT("nothing");
    flood.limits.stdout_bytes = MIB + 3;
    struct call *t = fixture_run(f, &trap), *d = fixture_run(f, &forever), *u = fixture_run(f, &unknown);
    struct call *o = fixture_run(f, &flood);
    fixture_await_all(f);
    expect_cause(t, CAUSE_TRAP);
    assert_int_equal(t->report.frame_count, 3);
    assert_string_equal(t->frames[0].name, "bad");
    expect_cause(d, CAUSE_DEADLINE);
    expect_cause(u, CAUSE_REJECTED);
    expect_cause(o, CAUSE_OUTPUT_LIMIT);
    assert_int_equal(o->out[0].len, MIB + 3);
}

static void test_fuel_has_its_own_sandbox(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec counted = fixture_spec(f, GUEST_FOREVER, true),
                     plain = fixture_spec(f, GUEST_HELLO, false);
    counted.limits.fuel = 100000;
    struct call *c = fixture_run(f, &counted), *p = fixture_run(f, &plain);
    fixture_await_all(f);
    expect_cause(c, CAUSE_FUEL);
    assert_int_equal(c->report.fuel, 100000);
    expect_cause(p, CAUSE_OK);
}

static void test_arguments(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec s = fixture_spec(f, GUEST_EMPTY, false);
    static char many[ARGS_BYTES_MAX + 1];
    struct call *call;
    struct err_info info = {0};
    s.entry = str_make(many, ENTRY_BYTES_MAX + 1);
    assert_int_equal(fixture_try(f, &s, &call, &info), ERR_FIELD_INVALID);
    assert_non_null(strstr(info.text, "256"));
    s.entry = STR_NULL;
    s.args = str_make(many, sizeof many);
    assert_int_equal(fixture_try(f, &s, &call, &info), ERR_FIELD_INVALID);
    s.args = str_make(many, 2000);
    s.args_count = ARGS_COUNT_MAX + 1;
    assert_int_equal(fixture_try(f, &s, &call, &info), ERR_FIELD_INVALID);
    s.args = str_make(many, ARGS_COUNT_MAX);
    s.args_count = ARGS_COUNT_MAX;
    s.env = str_make(many, ARGS_COUNT_MAX);
    s.env_count = ARGS_COUNT_MAX;
    call = fixture_run(f, &s);
    fixture_await(call);
    expect_cause(call, CAUSE_OK);
}

/* --- streams ------------------------------------------------------------------------------------ */
static void test_large_input_at_once(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec echo = fixture_spec(f, GUEST_ECHO, false);
    echo.input = large_input();
    struct call *a = fixture_run(f, &echo), *b = fixture_run(f, &echo);
    fixture_await_all(f);
    expect_cause(a, CAUSE_OK);
    expect_out(a, echo.input);
    expect_out(b, echo.input);
    assert_int_equal(a->report.stdin_bytes, sizeof large);
}

static void test_streamed_input(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec echo = fixture_spec(f, GUEST_ECHO, false);
    struct str all = large_input();
    echo.input = str_make(all.p, 1000); /* the beginning is there already */
    echo.input_complete = false;
    struct call *call = fixture_run(f, &echo);
    size_t sent = 1000;
    call->room = STDIN_WINDOW_BYTES - sent;
    call->may_send = true;
    while (sent < all.len) {
        AWAIT(f, call->may_send || call->done);
        assert_false(call->done);
        size_t len = MIN(call->room, all.len - sent);
        call->may_send = false;
        sent += len;
        exec_run_stdin(call->run, str_make(all.p + sent - len, len), sent == all.len);
    }
    fixture_await(call);
    expect_cause(call, CAUSE_OK);
    expect_out(call, all);
}

static void test_end_of_input_alone(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec echo = fixture_spec(f, GUEST_ECHO, false);
    echo.input_complete = false;
    struct call *call = fixture_run(f, &echo);
    exec_run_stdin(call->run, STR_LIT("all of it"), false);
    for (int i = 0; i < 3; i++)
        fixture_turn(f);
    exec_run_stdin(call->run, STR_NULL, true);
    fixture_await(call);
    expect_cause(call, CAUSE_OK);
    expect_out(call, STR_LIT("all of it"));
}

static void do_nothing(uv_timer_t *timer)
{
    (void)timer;
}

/* Lets the loop turn for a while without an expectation. */
static void linger(struct fixture *f, uint64_t ms)
{
    uv_timer_t timer;
    uv_timer_init(&f->loop.uv, &timer);
    uv_timer_start(&timer, do_nothing, ms, 0);
    while (uv_is_active((uv_handle_t *)&timer))
        fixture_turn(f);
    uv_close((uv_handle_t *)&timer, NULL);
    fixture_turn(f);
}

static void test_held_output(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec flood = fixture_spec(f, GUEST_FLOOD, false);
    struct call *call = fixture_run(f, &flood);
    exec_run_hold_output(call->run);
    AWAIT(f, call->out[0].len == OUTPUT_WINDOW_BYTES);
    linger(f, 20);
    assert_int_equal(call->out[0].len, OUTPUT_WINDOW_BYTES);
    for (size_t i = 1; i <= 5; i++) {
        exec_run_credit_output(call->run, 100000);
        AWAIT(f, call->out[0].len == OUTPUT_WINDOW_BYTES + i * 100000);
    }
    linger(f, 20);
    assert_int_equal(call->out[0].len, OUTPUT_WINDOW_BYTES + 500000);
    exec_run_cancel(call->run);
    fixture_await(call);
    expect_cause(call, CAUSE_CANCELLED);
}

/* --- the queue ---------------------------------------------------------------------------------- */
static void test_queue_is_bounded(void **state)
{
    struct fixture *f = *state;
    f->config.concurrent_max = 2;
    f->config.queue_max = 3;
    fixture_start(f);
    struct exec_spec forever = fixture_spec(f, GUEST_FOREVER, false);
    struct call *calls[5], *more;
    struct err_info info = {0};
    for (size_t i = 0; i < LENGTH_OF(calls); i++)
        calls[i] = fixture_run(f, &forever);
    assert_int_equal(fixture_try(f, &forever, &more, &info), ERR_BUSY);
    assert_non_null(strstr(info.text, "2 runs are under way and 3 wait"));
    assert_int_equal(executor_stats(f->executor).queued, 3);
    exec_run_cancel(calls[4]->run); /* it never began */
    fixture_await(calls[4]);
    expect_cause(calls[4], CAUSE_CANCELLED);
    assert_false(calls[4]->started);
    exec_run_cancel(calls[0]->run);
    fixture_await(calls[0]);
    expect_cause(calls[0], CAUSE_CANCELLED);
    assert_true(calls[0]->started);
    more = fixture_run(f, &forever); /* there is room again */
    assert_int_equal(executor_stats(f->executor).running, 2);
    for (size_t i = 1; i < 4; i++)
        exec_run_cancel(calls[i]->run);
    exec_run_cancel(more->run);
    fixture_await_all(f);
    assert_int_equal(executor_stats(f->executor).running + executor_stats(f->executor).queued, 0);
}

/* The sandbox takes nothing: what does not fit its ring waits, and that is bounded, too. */
static void test_queue_behind_a_full_ring(void **state)
{
    struct fixture *f = *state;
    f->config.concurrent_max = 10000;
    f->config.queue_max = 10;
    fixture_start(f);
    AWAIT(f, fixture_runs(f, 0));
    fixture_freeze(fixture_host(f, 0));
    struct exec_spec echo = fixture_spec(f, GUEST_ECHO, false);
    struct call *call;
    struct err_info info = {0};
    echo.input = str_make(large, 40000);
    enum err e = OK;
    for (int i = 0; i < 200 && !e; i++)
        e = fixture_try(f, &echo, &call, &info);
    assert_int_equal(e, ERR_BUSY);
    assert_int_equal(executor_stats(f->executor).queued, 10);
    kill(fixture_host(f, 0)->process.pid, SIGCONT);
    fixture_await_all(f);
    for (size_t i = 0; i < f->call_count; i++)
        expect_cause(&f->calls[i], CAUSE_OK);
}

static void test_queue_timeout(void **state)
{
    struct fixture *f = *state;
    f->config.concurrent_max = 1;
    f->config.queue_timeout_ns = NS_PER_MS;
    fixture_start(f);
    struct exec_spec forever = fixture_spec(f, GUEST_FOREVER, false);
    struct call *first = fixture_run(f, &forever), *second = fixture_run(f, &forever),
                *third = fixture_run(f, &forever);
    fixture_await(second);
    fixture_await(third);
    assert_false(second->started || third->started || first->done);
    assert_non_null(strstr(second->report.text, "not started"));
    exec_run_cancel(first->run);
    fixture_await(first);
}

static struct exec_spec another;

static void start_another(struct call *call)
{
    if (call->f->call_count < 40)
        fixture_run(call->f, &another)->at_end = start_another;
}

/* A run that is started where another is told that it waited too long has its own time to wait. */
static void test_queue_timeout_starts_another(void **state)
{
    struct fixture *f = *state;
    f->config.concurrent_max = 1;
    f->config.queue_timeout_ns = 100 * NS_PER_MS;
    fixture_start(f);
    another = fixture_spec(f, GUEST_FOREVER, false);
    fixture_run(f, &another);
    fixture_run(f, &another)->at_end = start_another;
    AWAIT(f, f->done_count > 0);
    assert_int_equal(f->done_count, 1);
    assert_int_equal(f->call_count, 3);
    f->calls[2].at_end = NULL;
}

/* --- cancelling --------------------------------------------------------------------------------- */
static void test_cancel(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec forever = fixture_spec(f, GUEST_FOREVER, false),
                     echo = fixture_spec(f, GUEST_ECHO, false);
    echo.input_complete = false;
    struct call *computes = fixture_run(f, &forever), *waits = fixture_run(f, &echo);
    AWAIT(f, atomic_load(&f->executor->running) == 2);
    exec_run_cancel(computes->run);
    exec_run_cancel(computes->run);
    exec_run_cancel(waits->run);
    fixture_await_all(f);
    expect_cause(computes, CAUSE_CANCELLED);
    expect_cause(waits, CAUSE_CANCELLED);
}

static void test_detach_with_runs(void **state)
{
    struct fixture *f = *state;
    f->config.concurrent_max = 2;
    fixture_start(f);
    struct exec_spec forever = fixture_spec(f, GUEST_FOREVER, false);
    for (int i = 0; i < 4; i++)
        fixture_run(f, &forever);
    fixture_turn(f);
    /* The teardown looks whether all four are told. */
}

/* --- modules that the sandbox has dropped ------------------------------------------------------- */
static void test_modules_come_and_go(void **state)
{
    struct fixture *f = *state;
    f->config.sandbox.modules_max = 2;
    fixture_start(f);
    struct exec_spec specs[5];
    for (size_t i = 0; i < LENGTH_OF(specs); i++)
        specs[i] = fixture_spec(f, GUEST_HELLO, false);
    for (size_t i = 0; i < 60; i++) {
        struct call *call = fixture_run(f, &specs[i * i % LENGTH_OF(specs)]);
        fixture_await(call);
        expect_cause(call, CAUSE_OK);
    }
}

/* Makes the sandbox forget `spec`'s module, which this side still takes for loaded. */
static void push_out(struct fixture *f, const struct exec_spec *spec)
{
    fixture_await(fixture_run(f, spec));
    for (int i = 0; i < 2; i++) {
        struct exec_spec other = fixture_spec(f, GUEST_HELLO, false);
        fixture_await(fixture_run(f, &other));
    }
}

static void test_cancelled_before_its_module_came(void **state)
{
    struct fixture *f = *state;
    f->config.sandbox.modules_max = 2;
    fixture_start(f);
    struct exec_spec forever = fixture_spec(f, GUEST_FOREVER, false);
    forever.limits.timeout_ns = 10 * NS_PER_MS;
    push_out(f, &forever);
    forever.limits.timeout_ns = 60 * NS_PER_S;
    struct call *call = fixture_run(f, &forever);
    exec_run_cancel(call->run);
    fixture_await(call);
    expect_cause(call, CAUSE_CANCELLED);
}

/* What was sent of the input is lost with such a run: it must not get the rest as if it were all. */
static void test_input_on_its_way_to_a_dropped_module(void **state)
{
    struct fixture *f = *state;
    f->config.sandbox.modules_max = 2;
    fixture_start(f);
    struct exec_spec echo = fixture_spec(f, GUEST_ECHO, false);
    push_out(f, &echo);
    echo.input_complete = false;
    struct call *call = fixture_run(f, &echo);
    exec_run_stdin(call->run, STR_LIT("first "), false);
    AWAIT(f, call->done || call->run->tries);
    if (!call->done)
        exec_run_stdin(call->run, STR_LIT("second"), true);
    fixture_await(call);
    if (call->report.cause == CAUSE_OK)
        expect_out(call, STR_LIT("first second"));
    else
        expect_cause(call, CAUSE_SANDBOX_CRASHED);
}

static void test_code_that_is_none(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec bad = fixture_spec(f, GUEST_HELLO, false), good = fixture_spec(f, GUEST_HELLO, false);
    bad.code.fd = f->fds[0] = memfd_create("nothing", MFD_CLOEXEC);
    assert_int_equal(write(bad.code.fd, "this is no code at all", 22), 22);
    struct call *b = fixture_run(f, &bad), *g = fixture_run(f, &good);
    fixture_await_all(f);
    expect_cause(b, CAUSE_SANDBOX_CRASHED);
    assert_true(b->report.text[0]);
    expect_cause(g, CAUSE_OK);
}

/* --- death -------------------------------------------------------------------------------------- */
static void test_death_costs_its_own_runs_only(void **state)
{
    struct fixture *f = *state;
    f->config.sandboxes = 2;
    fixture_start(f);
    struct exec_spec forever = fixture_spec(f, GUEST_FOREVER, false),
                     hello = fixture_spec(f, GUEST_HELLO, false);
    for (int i = 0; i < 6; i++)
        fixture_run(f, &forever);
    AWAIT(f, fixture_runs(f, 0) && fixture_runs(f, 1));
    for (int i = 0; i < 6; i++)
        fixture_await_taken(&f->calls[i]);
    assert_int_equal(f->el->channels[0].run_count, 3);
    assert_int_equal(f->el->channels[1].run_count, 3);
    struct call *dying[3];
    size_t count = 0;
    for (size_t i = 0; i < 6; i++)
        if (f->calls[i].run->channel->index == 0)
            dying[count++] = &f->calls[i];
    struct sandbox_host *old = fixture_host(f, 0);
    kill(old->process.pid, SIGKILL);
    for (size_t i = 0; i < count; i++) {
        fixture_await(dying[i]);
        expect_cause(dying[i], CAUSE_SANDBOX_CRASHED);
        assert_true(dying[i]->started);
    }
    assert_int_equal(f->done_count, 3);
    assert_int_equal(f->el->channels[1].run_count, 3);
    AWAIT(f, fixture_runs(f, 0));
    struct call *calls[8];
    for (size_t i = 0; i < LENGTH_OF(calls); i++)
        calls[i] = fixture_run(f, &hello);
    assert_true(f->el->channels[0].run_count > 0);
    for (size_t i = 0; i < LENGTH_OF(calls); i++) {
        fixture_await(calls[i]);
        expect_cause(calls[i], CAUSE_OK);
    }
    struct exec_stats stats = executor_stats(f->executor);
    assert_int_equal(stats.crashes, 1);
    assert_int_equal(stats.spawned, 3);
    for (size_t i = 0; i < 6; i++)
        if (!f->calls[i].done)
            exec_run_cancel(f->calls[i].run);
    fixture_await_all(f);
}

/* What the dead sandbox never looked at is run by the next one; nothing is run twice. */
static void test_unread_runs_survive(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false),
                     forever = fixture_spec(f, GUEST_FOREVER, false);
    fixture_await(fixture_run(f, &hello));
    struct call *begun = fixture_run(f, &forever);
    fixture_await_taken(begun);
    fixture_freeze(fixture_host(f, 0));
    struct call *unread[4];
    for (size_t i = 0; i < LENGTH_OF(unread); i++)
        unread[i] = fixture_run(f, &hello);
    assert_int_equal(f->el->channels[0].run_count, 5);
    struct call *cancelled = fixture_run(f, &forever);
    exec_run_cancel(cancelled->run);
    kill(fixture_host(f, 0)->process.pid, SIGKILL);
    fixture_await_all(f);
    expect_cause(begun, CAUSE_SANDBOX_CRASHED);
    expect_cause(cancelled, CAUSE_SANDBOX_CRASHED);
    unsigned last = 0;
    for (size_t i = 0; i < LENGTH_OF(unread); i++) {
        expect_cause(unread[i], CAUSE_OK);
        expect_out(unread[i], STR_LIT("hello"));
        assert_true(unread[i]->done_round >= last); /* and in their order */
        last = unread[i]->done_round;
    }
}

/* Ends that were in the ring when it died count. */
static void test_finished_runs_survive(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec hello = fixture_spec(f, GUEST_HELLO, false);
    fixture_await(fixture_run(f, &hello));
    struct call *call = fixture_run(f, &hello);
    uint64_t give_up = clock_now_ns() + PATIENCE_S * NS_PER_S;
    while (!ring_has_more(&f->el->channels[0].from)) /* without a turn of the loop */
        assert_true(clock_now_ns() < give_up);
    kill(fixture_host(f, 0)->process.pid, SIGKILL);
    fixture_await(call);
    expect_cause(call, CAUSE_OK);
}

/* --- a sandbox that lies ------------------------------------------------------------------------ */
/* Says this in the name of the sandbox, which is stopped meanwhile. */
static void forge(struct fixture *f, const void *message, size_t len)
{
    struct ring_writer w = area_from_sandbox_writer(&fixture_host(f, 0)->area, 0);
    w.at = w.read_seen = atomic_load(&w.control->written);
    memcpy(ring_reserve(&w, len), message, len);
    ring_publish(&w, len);
}

static void expect_killed_for(struct fixture *f, const void *message, size_t len)
{
    pid_t pid = fixture_host(f, 0)->process.pid;
    fixture_freeze(fixture_host(f, 0));
    forge(f, message, len);
    AWAIT(f, fixture_host(f, 0)->process.pid != pid);
}

static void test_lies(void **state)
{
    struct fixture *f = *state;
    fixture_start(f);
    struct exec_spec forever = fixture_spec(f, GUEST_FOREVER, false),
                     hello = fixture_spec(f, GUEST_HELLO, false);
    forever.limits.stdout_bytes = 10;
    for (int lie = 0; lie < 6; lie++) {
        fixture_await(fixture_run(f, &hello));
        struct call *call = fixture_run(f, &forever);
        fixture_await_taken(call);
        struct {
            union {
                struct message head;
                struct message_output output;
                struct message_credit credit;
            };
            char data[100];
        } m = {0};
        uint64_t id = call->run->id;
        switch (lie) {
        case 0: expect_killed_for(f, "nonsense", 8); break;
        case 1: /* a run that is not there */
            m.head = (struct message){MESSAGE_ABSENT, 0, id + 1};
            expect_killed_for(f, &m, sizeof m.head);
            break;
        case 2: /* an earlier life of the same place */
            m.head = (struct message){MESSAGE_ABSENT, 0, id - (UINT64_C(1) << 32)};
            expect_killed_for(f, &m, sizeof m.head);
            break;
        case 3: /* more output than it may write */
            m.output = (struct message_output){.head = {MESSAGE_OUTPUT, 11, id}, .fd = 1};
            expect_killed_for(f, &m, sizeof m.output + 11);
            assert_int_equal(call->out[0].len, 0);
            break;
        case 4: /* credit for input that it never got */
            m.credit = (struct message_credit){.head = {MESSAGE_STDIN_CREDIT, 0, id}, .bytes = 1};
            expect_killed_for(f, &m, sizeof m.credit);
            break;
        default: /* a ring that is ahead of itself */
            fixture_freeze(fixture_host(f, 0));
            atomic_store(&fixture_host(f, 0)->area.channel_controls[0].from_sandbox.written, UINT64_MAX);
            break;
        }
        fixture_await(call);
        expect_cause(call, CAUSE_SANDBOX_CRASHED);
    }
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
        BOTH_TEST(test_many_runs),
        BOTH_TEST(test_ends),
        EXEC_TEST(test_fuel_has_its_own_sandbox),
        BOTH_TEST(test_arguments),
        BOTH_TEST(test_large_input_at_once),
        BOTH_TEST(test_streamed_input),
        BOTH_TEST(test_end_of_input_alone),
        BOTH_TEST(test_held_output),
        BOTH_TEST(test_queue_is_bounded),
        EXEC_TEST(test_queue_behind_a_full_ring),
        BOTH_TEST(test_queue_timeout),
        EXEC_TEST(test_queue_timeout_starts_another),
        BOTH_TEST(test_cancel),
        BOTH_TEST(test_detach_with_runs),
        BOTH_TEST(test_modules_come_and_go),
        BOTH_TEST(test_cancelled_before_its_module_came),
        BOTH_TEST(test_input_on_its_way_to_a_dropped_module),
        BOTH_TEST(test_code_that_is_none),
        EXEC_TEST(test_death_costs_its_own_runs_only),
        EXEC_TEST(test_unread_runs_survive),
        EXEC_TEST(test_finished_runs_survive),
        EXEC_TEST(test_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
