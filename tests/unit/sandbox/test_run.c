/* One run of a guest, without the loop around it: what it ends with, and that nothing is left of it. */
#include "engine_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "sandbox/run.h"

enum { OUTPUT_MAX = 1 << 20 };

struct fixture {
    struct engine *engine;
    struct guest_module *module;
    struct run *run;
    uint64_t pool_now, pool_max;
    struct message_run m;
    char data[MESSAGE_DATA_MAX];
    char out[2][OUTPUT_MAX];
    size_t out_len[2];
    atomic_bool stop_ticking;
};

static int setup_with(void **state, bool fuel)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->engine = fixture_engine(true, fuel);
    f->pool_max = GIB;
    f->m.limits = (struct run_limits){.timeout_ns = 10 * NS_PER_S,
                                      .memory_bytes = FIXTURE_MEMORY_MAX,
                                      .table_elements = ENGINE_TABLE_ELEMENTS_MAX,
                                      .stdout_bytes = OUTPUT_MAX,
                                      .stderr_bytes = OUTPUT_MAX};
    f->m.stdin_eof = true;
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, false);
}

static int setup_fuel(void **state)
{
    return setup_with(state, true);
}

static void drop(struct fixture *f)
{
    run_free(f->run);
    f->run = NULL;
    if (f->module)
        assert_int_equal(f->module->runs, 0);
    guest_module_free(f->module);
    f->module = NULL;
    assert_int_equal(f->pool_now, 0);
    f->out_len[0] = f->out_len[1] = 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    drop(f);
    engine_free(f->engine);
    free(f);
    return 0;
}

static void load(struct fixture *f, const char *wat)
{
    char text[MESSAGE_TEXT_MAX] = "";
    f->module = guest_module_open(f->engine, 1, fixture_code(wat, f->engine->config.fuel), text);
    if (!f->module)
        fail_msg("%s", text);
}

/* Makes the run: entry, arguments as one string with a '|' behind each, and stdin. */
static void begin_with(struct fixture *f, const char *entry, const char *args, struct str input)
{
    struct buf b = buf_make(sizeof f->data);
    buf_puts(&b, entry);
    buf_puts(&b, args);
    f->m.entry_bytes = (uint32_t)strlen(entry);
    f->m.args_bytes = (uint32_t)strlen(args);
    f->m.args_count = 0;
    for (size_t i = f->m.entry_bytes; i < b.len; i++)
        if (b.p[i] == '|') {
            b.p[i] = 0;
            f->m.args_count++;
        }
    buf_put_str(&b, input);
    f->m.stdin_bytes = (uint32_t)input.len;
    f->m.head = (struct message){MESSAGE_RUN, (uint32_t)b.len, 1};
    /* At the end of the memory, so that the sanitizer sees a step too far. */
    char *data = f->data + sizeof f->data - b.len;
    if (b.len)
        memcpy(data, b.p, b.len);
    f->run = run_new(f->engine, f->module, &f->m, str_make(data, b.len), &f->pool_now, f->pool_max);
    buf_done(&b);
}

static void begin(struct fixture *f, const char *wat)
{
    load(f, wat);
    begin_with(f, "", "", STR_NULL);
}

/* What the loop does with output, with a front that takes all. */
static void take_output(struct fixture *f)
{
    for (int i = 0; i < 2; i++) {
        struct buf *b = &f->run->output[i];
        assert_true(f->out_len[i] + b->len <= OUTPUT_MAX);
        if (b->len)
            memcpy(f->out[i] + f->out_len[i], b->p, b->len);
        f->out_len[i] += b->len;
        buf_clear(b);
    }
}

static void *tick(void *arg)
{
    struct fixture *f = arg;
    while (!atomic_load(&f->stop_ticking)) {
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000}, NULL);
        wasmtime_engine_increment_epoch(f->engine->engine);
    }
    return NULL;
}

/* A poll of a guest that does not give way by itself. */
static enum run_progress poll_with_ticks(struct fixture *f, struct run *r)
{
    pthread_t ticker;
    atomic_store(&f->stop_ticking, false);
    assert_int_equal(pthread_create(&ticker, NULL, tick, f), 0);
    enum run_progress p = run_poll(r);
    atomic_store(&f->stop_ticking, true);
    pthread_join(ticker, NULL);
    return p;
}

/* Polls until the end, for guests that end or wait by themselves. */
static const struct run_report *finish(struct fixture *f)
{
    for (int i = 0; i < 100000; i++) {
        enum run_progress p =
            f->run->expired || f->run->cancelled ? poll_with_ticks(f, f->run) : run_poll(f->run);
        take_output(f);
        if (p == RUN_ENDED) {
            assert_int_equal(f->pool_now, 0);
            assert_null(f->run->store);
            assert_int_equal(f->run->report.stdout_bytes, f->out_len[0]);
            assert_int_equal(f->run->report.stderr_bytes, f->out_len[1]);
            return &f->run->report;
        }
        if (p == RUN_WAITS && !run_can_go_on(f->run))
            fail_msg("it waits for what never comes");
    }
    fail_msg("it does not end");
    return NULL;
}

static void expect_cause(struct fixture *f, enum cause want)
{
    const struct run_report *r = finish(f);
    if (r->cause != want)
        fail_msg("%s (%s) instead of %s", cause_name((enum cause)r->cause), r->text, cause_name(want));
}

static void expect_text(struct fixture *f, enum cause want, const char *word)
{
    expect_cause(f, want);
    if (!strstr(f->run->report.text, word))
        fail_msg("\"%s\" lacks \"%s\"", f->run->report.text, word);
}

static void expect_out(struct fixture *f, const char *text)
{
    assert_int_equal(f->out_len[0], strlen(text));
    assert_memory_equal(f->out[0], text, f->out_len[0]);
}

/* --- good ends ---------------------------------------------------------------------------------- */
static void test_hello(void **state)
{
    struct fixture *f = *state;
    begin(f, GUEST_HELLO);
    expect_cause(f, CAUSE_OK);
    expect_out(f, "hello");
    assert_int_equal(f->run->report.host_calls, 1);
    assert_int_equal(f->run->report.memory_peak_bytes, WASM_PAGE_BYTES);
    assert_int_equal(f->run->report.trap_code, -1);
    assert_int_equal(f->run->report.frame_count, 0);
    assert_string_equal(f->run->report.text, "");
}

static void test_exit_status(void **state)
{
    struct fixture *f = *state;
    begin(f, "(module " IMPORT_EXIT "(memory (export \"memory\") 1)"
             "(func (export \"_start\") (call $proc_exit (i32.const 7)) unreachable))");
    expect_cause(f, CAUSE_EXIT);
    assert_int_equal(f->run->report.exit_code, 7);
    assert_int_equal(f->run->report.frame_count, 0);
    assert_int_equal(f->run->report.trap_code, -1);
    drop(f);
    begin(f,
          "(module " IMPORT_EXIT "(func (export \"_start\") (call $proc_exit (i32.const 0)) unreachable))");
    expect_cause(f, CAUSE_OK);
}

static void test_start_function_runs_first(void **state)
{
    struct fixture *f = *state;
    begin(f, "(module " IMPORT_WRITE MEMORY_PAGE "(data (i32.const 0) \"\\08\\00\\00\\00\\01\\00\\00\\00a\")"
             "(func $put (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))"
             "  (i32.store8 (i32.const 8) (i32.const 98)))"
             "(start $put) (func (export \"_start\") (call $put)))");
    expect_cause(f, CAUSE_OK);
    expect_out(f, "ab");
}

/* --- calling an export -------------------------------------------------------------------------- */
#define ADDER                                                                          \
    "(module (global $g (mut i32) (i32.const 0))"                                      \
    "(func (export \"_initialize\") (global.set $g (i32.const 1000)))"                 \
    "(func (export \"add\") (param i32 i64) (result i32 i64)"                          \
    "  (i32.add (local.get 0) (global.get $g)) (i64.add (local.get 1) (i64.const 1)))" \
    "(func (export \"half\") (param f32 f64) (result f64 f32)"                         \
    "  (f64.div (local.get 1) (f64.const 2)) (f32.div (local.get 0) (f32.const 2)))"   \
    "(func (export \"none\")) (func (export \"ref\") (param funcref))"                 \
    "(func (export \"back\") (result i32 funcref) (i32.const 1) (ref.null func))"      \
    "(func (export \"vector\") (result v128) (v128.const i32x4 1 2 3 4))"              \
    "(func (export \"takes_vector\") (param v128))"                                    \
    "(memory (export \"memory\") 1))"

static void call(struct fixture *f, const char *entry, const char *args)
{
    load(f, ADDER);
    begin_with(f, entry, args, STR_NULL);
}

static void test_invoke(void **state)
{
    struct fixture *f = *state;
    call(f, "add", "prog|5|-2|");
    expect_cause(f, CAUSE_OK);
    expect_out(f, "1005\n-1\n"); /* _initialize was called before */
    drop(f);
    call(f, "half", "prog|3|0.5|");
    expect_cause(f, CAUSE_OK);
    expect_out(f, "0.25\n1.5\n");
    drop(f);
    call(f, "none", "prog|");
    expect_cause(f, CAUSE_OK);
    expect_out(f, "");
    drop(f);
    call(f, "vector", "prog|");
    expect_cause(f, CAUSE_OK);
    expect_out(f, "(a value of another kind)\n");
}

static void test_invoke_what_can_not_be(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *entry, *args, *word;
    } cases[] = {
        {"nothing", "prog|", "exports no function \"nothing\""},
        {"memory", "prog|", "no function \"memory\""},
        {"add", "prog|5|", "takes 2 parameters, 1 were given"},
        {"add", "prog|5|6|7|", "takes 2 parameters, 3 were given"},
        {"add", "", "takes 2 parameters, 0 were given"},
        {"add", "prog|5|x|", "argument 2, \"x\", is not i64"},
        {"ref", "prog|1|", "not a vector or a reference"},
        {"takes_vector", "prog|1|", "not a vector or a reference"},
        {"back", "prog|", "gives back a reference"},
        {"_start", "prog|", "exports no function \"_start\""},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        call(f, cases[i].entry, cases[i].args);
        expect_text(f, CAUSE_REJECTED, cases[i].word);
        drop(f);
    }
    load(f, "(module (func (export \"_start\") (result i32) (i32.const 1)))");
    begin_with(f, "", "", STR_NULL);
    expect_text(f, CAUSE_REJECTED, "parameters or results");
    drop(f);
    load(f, "(module (func (export \"_initialize\") (param i32)) (func (export \"x\")))");
    begin_with(f, "x", "", STR_NULL);
    expect_text(f, CAUSE_REJECTED, "_initialize");
}

static void test_numbers(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *args, *out; /* out NULL: refused */
    } cases[] = {
        {"p|-1000|18446744073709551614|", "0\n-1\n"},
        {"p|0xffffffff|0x7fffffffffffffff|", "999\n-9223372036854775808\n"},
        {"p|4294967295|9223372036854775807|", "999\n-9223372036854775808\n"},
        {"p|-2147483648|-9223372036854775808|", "-2147482648\n-9223372036854775807\n"},
        {"p|010|-0x10|", "1010\n-15\n"}, /* a zero in front means nothing */
        {"p|4294967296|0|", NULL},
        {"p|-2147483649|0|", NULL},
        {"p|0|18446744073709551616|", NULL},
        {"p|0|-9223372036854775809|", NULL},
        {"p||0|", NULL},
        {"p|-|0|", NULL},
        {"p|+1|0|", NULL},
        {"p| 1|0|", NULL},
        {"p|--1|0|", NULL},
        {"p|0x|0|", NULL},
        {"p|1.0|0|", NULL},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        call(f, "add", cases[i].args);
        enum cause want = cases[i].out ? CAUSE_OK : CAUSE_REJECTED;
        const struct run_report *r = finish(f);
        if (r->cause != want)
            fail_msg("%s: %s (%s)", cases[i].args, cause_name((enum cause)r->cause), r->text);
        if (cases[i].out)
            expect_out(f, cases[i].out);
        drop(f);
    }
}

/* Whatever the guest wrote before, the results come out whole, or the run says why not. */
#define WRITES_THEN_RETURNS(bytes)                                                       \
    "(module " IMPORT_WRITE "(memory (export \"memory\") 2)"                             \
    "(func (export \"f\") (result i32)"                                                  \
    "  (i32.store (i32.const 4) (i32.const " #bytes "))"                                 \
    "  (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))" \
    "  (i32.const 123456789)))"

static void test_results_behind_a_full_buffer(void **state)
{
    struct fixture *f = *state;
    load(f, WRITES_THEN_RETURNS(32768));
    begin_with(f, "f", "", STR_NULL);
    expect_cause(f, CAUSE_OK);
    assert_int_equal(f->out_len[0], 32768 + 10);
    assert_memory_equal(f->out[0] + 32768, "123456789\n", 10);
}

static void test_results_past_the_limit(void **state)
{
    struct fixture *f = *state;
    f->m.limits.stdout_bytes = 105;
    load(f, WRITES_THEN_RETURNS(100));
    begin_with(f, "f", "", STR_NULL);
    expect_text(f, CAUSE_OUTPUT_LIMIT, "105 bytes to stdout");
    assert_int_equal(f->out_len[0], 105);
}

/* --- traps -------------------------------------------------------------------------------------- */
static void test_trap_with_frames(void **state)
{
    struct fixture *f = *state;
    begin(f, GUEST_TRAP);
    expect_cause(f, CAUSE_TRAP);
    const struct run *r = f->run;
    assert_int_equal(r->report.trap_code, WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED);
    assert_int_equal(r->report.frame_count, 3);
    assert_string_equal(r->frames[0].name, "bad");
    assert_int_equal(r->frames[0].name_bytes, 3);
    assert_string_equal(r->frames[1].name, "mid");
    assert_int_equal(r->frames[0].function_index, 0);
    assert_true(r->frames[0].offset < r->frames[1].offset);
}

static void test_trap_codes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *body;
        int code;
    } cases[] = {
        {"(drop (i32.load (i32.const 65536)))", WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS},
        {"(drop (i32.div_u (i32.const 1) (i32.const 0)))", WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO},
        {"(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", WASMTIME_TRAP_CODE_INTEGER_OVERFLOW},
        {"(drop (i32.trunc_f32_s (f32.const nan)))", WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER},
        {"(call_indirect (i32.const 9))", WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS},
        {"(call_indirect (i32.const 0))", WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        char wat[512];
        snprintf(wat, sizeof wat, "(module (memory 1) (table 2 funcref) (func (export \"_start\") %s))",
                 cases[i].body);
        begin(f, wat);
        expect_cause(f, CAUSE_TRAP);
        assert_int_equal(f->run->report.trap_code, cases[i].code);
        drop(f);
    }
}

static void test_stack_overflow(void **state)
{
    struct fixture *f = *state;
    begin(f, "(module (func $deep (export \"_start\") (call $deep)))");
    expect_cause(f, CAUSE_STACK_OVERFLOW);
    assert_int_equal(f->run->report.frame_count, MESSAGE_FRAMES_MAX);
}

static void test_trap_while_instantiating(void **state)
{
    struct fixture *f = *state;
    begin(f, "(module (memory 1) (data (i32.const 65535) \"ab\") (func (export \"_start\")))");
    expect_cause(f, CAUSE_TRAP);
    assert_int_equal(f->run->report.trap_code, WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS);
    drop(f);
    begin(f, "(module (func $s unreachable) (start $s) (func (export \"_start\")))");
    expect_cause(f, CAUSE_TRAP);
}

static void test_signal(void **state)
{
    struct fixture *f = *state;
    begin(f,
          "(module " IMPORT_WASI(proc_raise, "i32") "(memory (export \"memory\") 1) (func (export "
                                                    "\"_start\") (drop (call $proc_raise (i32.const 6)))))");
    expect_text(f, CAUSE_TRAP, "signal 6");
}

/* --- what can't be linked or set up ------------------------------------------------------------- */
static void test_import_that_is_unknown(void **state)
{
    struct fixture *f = *state;
    begin(f, "(module (import \"env\" \"nowhere\" (func)) (func (export \"_start\")))");
    expect_text(f, CAUSE_REJECTED, "nowhere");
    drop(f);
    begin(f, "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)) (func (export \"_start\")))");
    expect_text(f, CAUSE_REJECTED, "fd_write");
}

/* More instances than the pool has slots; the loop sees to it that this does not happen. */
static void test_pool_without_a_slot(void **state)
{
    struct fixture *f = *state;
    struct run *others[FIXTURE_SLOTS];
    load(f, GUEST_FOREVER);
    for (int i = 0; i < FIXTURE_SLOTS; i++) {
        begin_with(f, "", "", STR_NULL);
        others[i] = f->run;
        assert_int_equal(poll_with_ticks(f, others[i]), RUN_YIELDED);
    }
    begin_with(f, "", "", STR_NULL);
    expect_text(f, CAUSE_REJECTED, "limit");
    for (int i = 0; i < FIXTURE_SLOTS; i++)
        run_free(others[i]);
}

/* --- memory ------------------------------------------------------------------------------------- */
#define GROWER(pages) \
    "(module (memory 1) (func (export \"_start\") (drop (memory.grow (i32.const " #pages ")))))"

static void test_memory_limit(void **state)
{
    struct fixture *f = *state;
    f->m.limits.memory_bytes = 3 * WASM_PAGE_BYTES;
    begin(f, GROWER(2));
    expect_cause(f, CAUSE_OK);
    assert_int_equal(f->run->report.memory_peak_bytes, 3 * WASM_PAGE_BYTES);
    drop(f);
    begin(f, GROWER(3));
    expect_text(f, CAUSE_MEMORY_LIMIT, "grown past the limit of 196608 bytes");
    assert_int_equal(f->run->report.memory_peak_bytes, WASM_PAGE_BYTES);
    drop(f);
    begin(f, "(module (memory 4) (func (export \"_start\")))");
    expect_text(f, CAUSE_REJECTED, "declares more memory than the limit of 196608 bytes");
    drop(f);
    f->m.limits.memory_bytes = UINT64_MAX; /* the engine's ceiling holds */
    begin(f, GROWER(256));
    expect_cause(f, CAUSE_MEMORY_LIMIT);
}

static void test_memory_of_all_together(void **state)
{
    struct fixture *f = *state;
    f->pool_max = 5 * WASM_PAGE_BYTES;
    load(f, "(module (memory 4) (func (export \"_start\") (loop $l (br $l))))");
    begin_with(f, "", "", STR_NULL);
    struct run *first = f->run;
    assert_int_equal(poll_with_ticks(f, first), RUN_YIELDED);
    assert_int_equal(f->pool_now, 4 * WASM_PAGE_BYTES);
    begin_with(f, "", "", STR_NULL);
    assert_int_equal(run_poll(f->run), RUN_ENDED);
    assert_int_equal(f->run->report.cause, CAUSE_REJECTED);
    assert_non_null(strstr(f->run->report.text, "for all guests together"));
    assert_int_equal(f->pool_now, 4 * WASM_PAGE_BYTES);
    run_free(first);
    assert_int_equal(f->pool_now, 0);
}

static void test_table_limit(void **state)
{
    struct fixture *f = *state;
    f->m.limits.table_elements = 10;
    begin(f, "(module (table 5 funcref) (func (export \"_start\") (drop (table.grow (ref.null func) "
             "(i32.const 6)))))");
    expect_text(f, CAUSE_MEMORY_LIMIT, "10 elements");
}

/* --- time --------------------------------------------------------------------------------------- */
static void test_slices_and_deadline(void **state)
{
    struct fixture *f = *state;
    begin(f, GUEST_FOREVER);
    for (int i = 0; i < 10; i++)
        assert_int_equal(poll_with_ticks(f, f->run), RUN_YIELDED);
    f->run->expired = true;
    expect_cause(f, CAUSE_DEADLINE);
    assert_int_equal(f->run->report.frame_count, 1); /* it tells where it was */
    assert_string_equal(f->run->frames[0].name, "spin");
    drop(f);
    begin(f, GUEST_FOREVER);
    f->run->expired = true; /* before it began */
    expect_cause(f, CAUSE_DEADLINE);
    drop(f);
    begin(f, "(module (func $s (loop $l (br $l))) (start $s) (func (export \"_start\")))");
    assert_int_equal(poll_with_ticks(f, f->run), RUN_YIELDED);
    f->run->expired = true;
    expect_cause(f, CAUSE_DEADLINE);
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    begin(f, GUEST_FOREVER);
    assert_int_equal(poll_with_ticks(f, f->run), RUN_YIELDED);
    f->run->cancelled = true;
    f->run->expired = true;
    expect_cause(f, CAUSE_CANCELLED);
    drop(f);
    begin(f, GUEST_FOREVER);
    f->run->cancelled = true;
    expect_cause(f, CAUSE_CANCELLED);
}

static void test_drop_anywhere(void **state)
{
    struct fixture *f = *state;
    begin(f, GUEST_FOREVER);
    drop(f); /* never polled */
    begin(f, GUEST_FOREVER);
    assert_int_equal(poll_with_ticks(f, f->run), RUN_YIELDED);
    drop(f);
    f->m.stdin_eof = false;
    begin(f, GUEST_ECHO);
    assert_int_equal(run_poll(f->run), RUN_WAITS);
    drop(f);
    begin(f, GUEST_TRAP);
    assert_int_equal(run_poll(f->run), RUN_ENDED);
}

/* --- streams ------------------------------------------------------------------------------------ */
static void test_stdin_in_pieces(void **state)
{
    struct fixture *f = *state;
    f->m.stdin_eof = false;
    load(f, GUEST_ECHO);
    begin_with(f, "", "", STR_LIT("one "));
    assert_int_equal(run_poll(f->run), RUN_WAITS);
    assert_false(run_can_go_on(f->run));
    take_output(f);
    expect_out(f, "one ");
    assert_int_equal(run_poll(f->run), RUN_WAITS); /* nothing came: it goes on waiting */
    run_stdin(f->run, STR_LIT("two "), false);
    assert_true(run_can_go_on(f->run));
    assert_int_equal(run_poll(f->run), RUN_WAITS);
    run_stdin(f->run, STR_LIT("three"), true);
    expect_cause(f, CAUSE_OK);
    expect_out(f, "one two three");
    assert_int_equal(f->run->report.stdin_bytes, 13);
}

static void test_end_while_waiting(void **state)
{
    struct fixture *f = *state;
    f->m.stdin_eof = false;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        begin(f, GUEST_ECHO);
        assert_int_equal(run_poll(f->run), RUN_WAITS);
        f->run->expired = !cancelled;
        f->run->cancelled = cancelled;
        assert_true(run_can_go_on(f->run));
        expect_cause(f, cancelled ? CAUSE_CANCELLED : CAUSE_DEADLINE);
        drop(f);
    }
}

static void test_output_waits_for_room(void **state)
{
    struct fixture *f = *state;
    begin(f, GUEST_FLOOD);
    assert_int_equal(run_poll(f->run), RUN_WAITS);
    assert_int_equal(f->run->output[0].len, RUN_STDOUT_CHUNK);
    assert_false(run_can_go_on(f->run));
    buf_consume(&f->run->output[0], 1);
    assert_true(run_can_go_on(f->run));
    assert_int_equal(run_poll(f->run), RUN_WAITS);
    assert_int_equal(f->run->output[0].len, RUN_STDOUT_CHUNK);
    f->run->output_uncredited = OUTPUT_WINDOW_BYTES - 10;
    assert_int_equal(run_output_window(f->run), 10);
    f->run->output_uncredited = OUTPUT_WINDOW_BYTES + 10;
    assert_int_equal(run_output_window(f->run), 0);
}

static void test_output_limit(void **state)
{
    struct fixture *f = *state;
    f->m.limits.stdout_bytes = 100000;
    begin(f, GUEST_FLOOD);
    expect_text(f, CAUSE_OUTPUT_LIMIT, "100000 bytes to stdout");
    assert_int_equal(f->out_len[0], 100000);
    drop(f);
    f->m.limits.stdout_bytes = 5;
    begin(f, GUEST_HELLO);
    expect_cause(f, CAUSE_OK); /* up to the limit is fine */
    drop(f);
    f->m.limits.stdout_bytes = 4;
    begin(f, GUEST_HELLO);
    expect_cause(f, CAUSE_OUTPUT_LIMIT);
    expect_out(f, "hell");
    drop(f);
    f->m.limits.stdout_bytes = 0;
    begin(f, GUEST_HELLO);
    expect_cause(f, CAUSE_OUTPUT_LIMIT);
}

static void test_stderr_limit_is_its_own(void **state)
{
    struct fixture *f = *state;
    f->m.limits.stdout_bytes = f->m.limits.stderr_bytes = 4;
    begin(f,
          "(module " IMPORT_WRITE MEMORY_PAGE "(data (i32.const 0) \"\\08\\00\\00\\00\\05\\00\\00\\00hello\")"
          "(func (export \"_start\")"
          "  (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 20)))))");
    expect_text(f, CAUSE_OUTPUT_LIMIT, "4 bytes to stderr");
    assert_int_equal(f->out_len[1], 4);
}

/* The same limits on both, and stdout exactly full: it was stderr that passed its own. */
static void test_limit_names_the_right_stream(void **state)
{
    struct fixture *f = *state;
    f->m.limits.stdout_bytes = 5;
    f->m.limits.stderr_bytes = 3;
    begin(f,
          "(module " IMPORT_WRITE MEMORY_PAGE "(data (i32.const 0) \"\\08\\00\\00\\00\\05\\00\\00\\00hello\")"
          "(func (export \"_start\")"
          "  (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))"
          "  (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 20)))))");
    expect_text(f, CAUSE_OUTPUT_LIMIT, "3 bytes to stderr");
}

/* --- fuel --------------------------------------------------------------------------------------- */
static void test_fuel(void **state)
{
    struct fixture *f = *state;
    f->m.limits.fuel = 10000;
    begin(f, GUEST_FOREVER);
    expect_cause(f, CAUSE_FUEL);
    assert_int_equal(f->run->report.fuel, 10000);
    drop(f);
    begin(f, GUEST_EMPTY);
    expect_cause(f, CAUSE_OK);
    assert_in_range(f->run->report.fuel, 1, 100);
}

static void test_fuel_of_a_run_that_waits(void **state)
{
    struct fixture *f = *state;
    f->m.limits.fuel = 10000;
    f->m.stdin_eof = false;
    begin(f, GUEST_ECHO);
    assert_int_equal(run_poll(f->run), RUN_WAITS);
    f->run->cancelled = true;
    expect_cause(f, CAUSE_CANCELLED);
    assert_in_range(f->run->report.fuel, 1, 1000);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define FUEL_TEST(name) cmocka_unit_test_setup_teardown(name, setup_fuel, teardown)
    const struct CMUnitTest tests[] = {
        RUN_TEST(test_hello),
        RUN_TEST(test_exit_status),
        RUN_TEST(test_start_function_runs_first),
        RUN_TEST(test_invoke),
        RUN_TEST(test_invoke_what_can_not_be),
        RUN_TEST(test_numbers),
        RUN_TEST(test_results_behind_a_full_buffer),
        RUN_TEST(test_results_past_the_limit),
        RUN_TEST(test_trap_with_frames),
        RUN_TEST(test_trap_codes),
        RUN_TEST(test_stack_overflow),
        RUN_TEST(test_trap_while_instantiating),
        RUN_TEST(test_signal),
        RUN_TEST(test_import_that_is_unknown),
        RUN_TEST(test_pool_without_a_slot),
        RUN_TEST(test_memory_limit),
        RUN_TEST(test_memory_of_all_together),
        RUN_TEST(test_table_limit),
        RUN_TEST(test_slices_and_deadline),
        RUN_TEST(test_cancel),
        RUN_TEST(test_drop_anywhere),
        RUN_TEST(test_stdin_in_pieces),
        RUN_TEST(test_end_while_waiting),
        RUN_TEST(test_output_waits_for_room),
        RUN_TEST(test_output_limit),
        RUN_TEST(test_stderr_limit_is_its_own),
        RUN_TEST(test_limit_names_the_right_stream),
        FUEL_TEST(test_fuel),
        FUEL_TEST(test_fuel_of_a_run_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
