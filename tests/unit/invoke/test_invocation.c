/* The spine, with everything that it calls made of cardboard: the order of the steps, the way of each failure, and what
 * becomes of an invocation whose client leaves, wherever it stands. */
#include "../unit.h"

#include "base/log.h"
#include "invoke/invocation.h"

/* What the cardboard answers, and what it was asked. */
static struct {
    enum auth_answer cached;
    enum err found;
    enum step_result received;
    enum limit_answer limit;
    bool limit_asks; /* the answer comes later */
    enum err module_err;
    bool module_at_once;
    enum module_source source;
    enum err exec_err;
    bool cancel_at_once; /* the run had not begun */
    void (*in_receive)(struct invocation *inv);
    bool own_output;

    char trace[200];
    struct limit_wait *limit_wait;
    struct module_wait *module_wait;
    const struct exec_ops *exec_ops;
    struct exec_spec spec;
    unsigned given, refunded;
    enum err replied; /* the code that reply() saw */
    struct limit_state limit_told;
    struct receipt receipt;
    char out[100];
    unsigned key_refs, module_refs, cancelled, idle;
    unsigned told_limits, told_good, told_bad; /* for webhooks */
    bool journal_full;
    unsigned reserved;
    struct usage_run row; /* the last one */
    char row_error[100];
} w;

static struct loop loop;
static struct metrics metrics;
static struct invoke_context context;
static struct auth_principal key;
static struct module module;
static struct invocation *inv;

static void note(const char *what)
{
    size_t len = strlen(w.trace);
    snprintf(w.trace + len, sizeof w.trace - len, "%s%s", len ? " " : "", what);
}

/* --- cardboard ---------------------------------------------------------------------------------- */
enum auth_answer auth_cached(struct auth *a, struct str token, struct auth_principal **ret_key)
{
    (void)a;
    assert_true(str_eq(token, STR_LIT("token")));
    note("auth");
    if (w.cached == AUTH_KNOWN) {
        w.key_refs++;
        *ret_key = &key;
    }
    return w.cached;
}

enum err auth_find(struct auth *a, struct str token, struct auth_principal **ret_key, struct err_info *reterr)
{
    (void)a, (void)token;
    if (w.found)
        return err_set(reterr, w.found, "told by the store");
    w.key_refs++;
    *ret_key = &key;
    return OK;
}

void auth_principal_unref(struct auth_principal *k)
{
    w.key_refs -= k != NULL;
}

static void tell_limit(struct limit_wait *wait)
{
    wait->answer = w.limit;
    wait->state.limit = 7;
    wait->state.refused_by = w.limit == LIMIT_REFUSED ? LIMIT_DAY : LIMIT_NOTHING;
}

enum limit_answer limit_execution(struct limit *l, struct loop *of, struct str name,
                                  const struct kv_figures *figures, struct limit_wait *wait)
{
    (void)l;
    assert_int_equal(figures->per_minute, 7);
    assert_ptr_equal(of, &loop);
    assert_true(str_eq(name, STR_LIT("key-id")));
    note("limit");
    tell_limit(wait);
    w.limit_wait = wait;
    return w.limit_asks ? LIMIT_ASK : w.limit;
}

enum limit_answer limit_look(struct limit *l, struct loop *of, struct str name,
                             const struct kv_figures *figures, struct limit_wait *wait)
{
    (void)l;
    assert_ptr_equal(of, &loop);
    assert_true(str_eq(name, STR_LIT("key-id")));
    assert_int_equal(figures->per_minute, 7);
    note("look");
    w.limit_wait = wait;
    if (w.limit_asks)
        return LIMIT_ASK;
    tell_limit(wait);
    return w.limit;
}

enum err limit_refusal(const struct limit_state *state, struct err_info *info)
{
    (void)state;
    return err_set(info, ERR_RATE_LIMITED, "too often");
}

const char *limit_what_name(enum limit_what what)
{
    assert_int_equal(what, LIMIT_DAY);
    return "day";
}

void webhook_limit_reached(struct webhooks *hooks, const char *user_id, const struct webhook_limit *limit)
{
    assert_ptr_equal(hooks, &w);
    assert_string_equal(user_id, "user-id");
    assert_string_equal(limit->what, "day");
    w.told_limits++;
}

void webhook_run_ended(struct webhooks *hooks, const char *user_id, const struct webhook_run *run)
{
    assert_ptr_equal(hooks, &w);
    assert_string_equal(user_id, "user-id");
    assert_ptr_equal(run->sha, inv->sha);
    assert_int_equal(run->failed, strcmp(run->cause, "ok") != 0);
    assert_int_equal(run->wall_ns != 0, run->failed);
    w.told_good += !run->failed;
    w.told_bad += run->failed;
}

void limit_give(struct limit *l, struct loop *of, struct kv_ticket *ticket, bool refund)
{
    (void)l, (void)of, (void)ticket;
    w.given++;
    w.refunded += refund;
}

const char *module_source_name(enum module_source source)
{
    return source == MODULE_COMPILED ? "compiled" : "memory";
}

void module_unref(struct module *m)
{
    w.module_refs -= m != NULL;
}

bool usage_reserve(struct usage_loop *ul)
{
    (void)ul;
    w.reserved += !w.journal_full;
    return !w.journal_full;
}

void usage_release(struct usage_loop *ul)
{
    (void)ul;
    w.reserved--;
}

void usage_record(struct usage_loop *ul, const struct usage_run *run)
{
    note("record");
    usage_release(ul);
    w.row = *run;
    snprintf(w.row_error, sizeof w.row_error, "%.*s", STR_FMT(run->error));
}

static void fill_module(struct module_wait *wait)
{
    wait->err = w.module_err;
    wait->source = w.source;
    if (w.module_err) {
        err_set(&wait->info, w.module_err, "told by the modules");
    } else {
        wait->module = &module;
        w.module_refs++;
    }
}

bool modules_get(struct modules *ms, const unsigned char sha[static MODULE_SHA_BYTES], bool fuel, char **wasm,
                 size_t wasm_len, struct module_wait *wait)
{
    (void)ms, (void)sha, (void)wasm_len, (void)wasm;
    assert_false(fuel);
    note("module");
    w.module_wait = wait;
    if (w.module_at_once)
        fill_module(wait);
    return w.module_at_once;
}

enum err exec_start(struct exec_loop *el, const struct exec_spec *spec, const struct exec_ops *ops, void *ctx,
                    struct exec_run **ret_run, struct err_info *reterr)
{
    (void)el;
    assert_ptr_equal(ctx, inv);
    note("run");
    w.exec_ops = ops;
    w.spec = *spec;
    if (w.exec_err)
        return err_set(reterr, w.exec_err, "told by the executor");
    *ret_run = (struct exec_run *)&w; /* is not looked at */
    return OK;
}

static void end_run(enum cause cause, bool started)
{
    static const struct trap_frame frame = {
        .function_index = 3, .name_bytes = 4, .offset = 5, .name = "main"};
    struct run_report report = {
        .cause = cause, .exit_code = 9, .run_ns = 1000, .frame_count = 1, .text = "why"};
    w.exec_ops->done(
        inv, &(struct exec_outcome){.report = &report, .frames = &frame, .queue_ns = 7, .started = started});
}

void exec_run_cancel(struct exec_run *r)
{
    assert_ptr_equal(r, &w);
    w.cancelled++;
    if (w.cancel_at_once)
        end_run(CAUSE_CANCELLED, false);
}

void exec_run_hold_output(struct exec_run *r)
{
    assert_ptr_equal(r, &w);
    note("hold");
}

/* --- the origin --------------------------------------------------------------------------------- */
static enum step_result receive(struct invocation *i)
{
    assert_ptr_equal(i, inv);
    note("receive");
    if (w.in_receive)
        w.in_receive(i);
    if (w.received == STEP_FAIL)
        err_set(&i->failure, ERR_PART_MISSING, "told by the origin");
    return w.received;
}

static void output(struct invocation *i, int fd, struct str bytes)
{
    (void)i;
    snprintf(w.out + strlen(w.out), sizeof w.out - strlen(w.out), "%d:%.*s ", fd, STR_FMT(bytes));
}

static void reply(struct invocation *i)
{
    note("reply");
    w.replied = i->failure.code;
    w.limit_told = i->limit.state;
    w.receipt = i->receipt;
    if (!w.own_output)
        snprintf(w.out, sizeof w.out, "1:%.*s 2:%.*s", STR_FMT(buf_str(&i->output[0])),
                 STR_FMT(buf_str(&i->output[1])));
    if (i->ran)
        assert_int_equal(i->receipt.frame_count, 1);
}

static void released(struct invocation *i)
{
    assert_ptr_equal(i, inv);
    note("released");
    inv = NULL;
}

static const struct invoke_origin origin = {.receive = receive, .reply = reply, .released = released};
static const struct invoke_origin origin_of_output = {
    .receive = receive, .output = output, .reply = reply, .released = released};

static void started(struct invocation *i)
{
    assert_non_null(i->exec);
    note("started");
}

static const struct invoke_origin origin_of_streams = {
    .receive = receive, .started = started, .output = output, .reply = reply, .released = released};

static void on_idle(struct invoke_context *c)
{
    assert_int_equal(c->live, 0);
    w.idle++;
}

static int setup(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_ERROR + 1, false);
    memset(&w, 0, sizeof w);
    memset(&metrics, 0, sizeof metrics);
    w.cached = AUTH_KNOWN;
    w.received = STEP_DONE;
    w.limit = LIMIT_ALLOWED;
    w.module_at_once = true;
    loop_init(&loop, 0);
    snprintf(key.id, sizeof key.id, "key-id");
    key.per_minute = 7;
    snprintf(key.user_id, sizeof key.user_id, "user-id");
    snprintf(key.key_id, sizeof key.key_id, "public-id");
    module.compile_ns = 5000;
    context = (struct invoke_context){.loop = &loop,
                                      .limit = (struct limit *)&w,
                                      .webhooks = (struct webhooks *)&w,
                                      .metrics = &metrics,
                                      .timeout_ns = NS_PER_S,
                                      .memory_bytes = MIB,
                                      .stdout_bytes = 100,
                                      .stderr_bytes = 50,
                                      .on_idle = on_idle};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_close(&loop);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    loop_done(&loop);
    /* Whatever happened, nothing is left of it. */
    assert_null(inv);
    assert_int_equal(context.live, 0);
    assert_int_equal(w.key_refs, 0);
    assert_int_equal(w.module_refs, 0);
    assert_int_equal(w.reserved, 0);
    assert_int_equal(w.idle, 1);
    return 0;
}

static void begin_as(const struct invoke_origin *from)
{
    inv = invocation_new(&context, from, NULL, "0123456789abcdef0123456789abcdef");
    inv->token = STR_LIT("token");
    assert_int_equal(context.live, 1);
    invocation_enter(inv, INVOKE_STEP_authenticate);
}

static void begin(void)
{
    begin_as(&origin);
}

/* Lets libuv's pool do its work. */
static void turn_until_auth(void)
{
    while (inv && inv->step == INVOKE_STEP_authenticate)
        uv_run(&loop.uv, UV_RUN_ONCE);
}

static void expect_trace(const char *want)
{
    assert_string_equal(w.trace, want);
}

static uint64_t errors(enum err e)
{
    return atomic_load(&metrics.errors[e]);
}

static uint64_t runs(enum cause c)
{
    return atomic_load(&metrics.runs[c]);
}

/* --- the good way ------------------------------------------------------------------------------- */
static void test_all_at_once(void **state)
{
    (void)state;
    begin();
    expect_trace("auth receive limit module run");
    assert_int_equal(w.spec.limits.timeout_ns, NS_PER_S);
    assert_int_equal(w.spec.limits.stdout_bytes, 100);
    w.exec_ops->output(inv, 1, STR_LIT("out"));
    w.exec_ops->output(inv, 2, STR_LIT("err"));
    w.exec_ops->stdin_room(inv, 5); /* nobody wants to know */
    end_run(CAUSE_TRAP, true);
    expect_trace("auth receive limit module run reply released");
    assert_int_equal(w.replied, OK);
    assert_string_equal(w.out, "1:out 2:err");
    assert_int_equal(w.receipt.cause, CAUSE_TRAP);
    assert_string_equal(w.receipt.run_id, "0123456789abcdef0123456789abcdef");
    assert_int_equal(w.receipt.exit_code, 9);
    assert_int_equal(w.receipt.queue_ns, 7);
    assert_int_equal(w.receipt.limits.memory_bytes, MIB);
    assert_int_equal(w.receipt.compile_ns, 0);
    assert_int_equal(runs(CAUSE_TRAP), 1);
    assert_int_equal(w.given, 1);
    assert_int_equal(w.refunded, 0);
    assert_int_equal(w.told_bad, 1);
}

static void test_which_runs_webhooks_hear_of(void **state)
{
    static const struct {
        enum cause cause;
        unsigned good, bad;
    } cases[] = {{CAUSE_OK, 1, 0},
                 {CAUSE_EXIT, 1, 1},
                 {CAUSE_CANCELLED, 1, 1},
                 {CAUSE_DEADLINE, 1, 2},
                 {CAUSE_SANDBOX_CRASHED, 1, 2},
                 {CAUSE_OK, 2, 2}};
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        begin();
        end_run(cases[i].cause, true);
        assert_int_equal(w.told_good, cases[i].good);
        assert_int_equal(w.told_bad, cases[i].bad);
        w.trace[0] = 0;
        w.idle = 0;
    }
    assert_int_equal(w.told_limits, 0);
    w.idle = 1;
}

static void resume(struct invocation *i)
{
    w.in_receive = NULL;
    w.received = STEP_DONE;
    invocation_resume(i);
    w.received = STEP_WAIT;
}

static void go_on(struct invocation *i)
{
    (void)i;
    w.in_receive = NULL;
    w.received = STEP_DONE;
}

static void test_everything_takes_its_time(void **state)
{
    (void)state;
    w.cached = AUTH_ASK;
    w.received = STEP_WAIT;
    w.limit_asks = true;
    w.module_at_once = false;
    w.source = MODULE_COMPILED;
    begin_as(&origin_of_output);
    w.own_output = true;
    expect_trace("auth");
    turn_until_auth();
    expect_trace("auth receive");
    invocation_resume(inv); /* not all of it has come yet */
    expect_trace("auth receive receive");
    w.in_receive = go_on;
    w.received = STEP_WAIT;
    go_on(inv);
    invocation_resume(inv);
    expect_trace("auth receive receive receive limit");
    w.limit_wait->ready(w.limit_wait);
    expect_trace("auth receive receive receive limit module");
    fill_module(w.module_wait);
    w.module_wait->ready(w.module_wait);
    expect_trace("auth receive receive receive limit module run");
    w.exec_ops->output(inv, 2, STR_LIT("x"));
    end_run(CAUSE_OK, true);
    expect_trace("auth receive receive receive limit module run reply released");
    assert_string_equal(w.out, "2:x ");
    assert_string_equal(w.receipt.compile_source, "compiled");
    assert_int_equal(w.receipt.compile_ns, 5000);
}

/* What receive() waits for comes while it is still on the stack. */
static void test_resumed_from_within(void **state)
{
    (void)state;
    w.in_receive = resume;
    w.received = STEP_WAIT;
    begin();
    expect_trace("auth receive receive");
    w.received = STEP_DONE;
    invocation_resume(inv);
    end_run(CAUSE_OK, true);
}

static void test_without_limits(void **state)
{
    (void)state;
    context.limit = NULL;
    begin();
    expect_trace("auth receive module run");
    end_run(CAUSE_OK, true);
    assert_int_equal(w.given, 0);
}

static void test_entered_later(void **state)
{
    (void)state;
    inv = invocation_new(&context, &origin, NULL, "0");
    invocation_enter(inv, INVOKE_STEP_resolve); /* the command line: no key, nothing to receive */
    expect_trace("module run");
    end_run(CAUSE_OK, true);
    assert_int_equal(w.given, 0);
}

/* --- rows of usage ------------------------------------------------------------------------------ */
static void test_a_run_is_recorded_before_its_reply(void **state)
{
    (void)state;
    context.usage = (struct usage_loop *)&w;
    begin();
    assert_int_equal(w.reserved, 1);
    end_run(CAUSE_TRAP, true);
    expect_trace("auth receive limit module run record reply released");
    assert_int_equal(w.row.cause, CAUSE_TRAP);
    assert_int_equal(w.row.status, 422);
    assert_int_equal(w.row.duration_ns, 1000);
    assert_string_equal(w.row.key_id, "public-id");
    assert_non_null(strstr(w.row_error, "why"));
}

static void test_what_is_free_makes_no_row(void **state)
{
    (void)state;
    context.usage = (struct usage_loop *)&w;
    w.module_err = ERR_MODULE_INVALID;
    begin();
    expect_trace("auth receive limit module reply released");
}

static void test_what_cost_a_token_makes_a_row(void **state)
{
    (void)state;
    context.usage = (struct usage_loop *)&w;
    w.module_err = ERR_COMPILE_LIMIT;
    begin();
    expect_trace("auth receive limit module record reply released");
    assert_int_equal(w.row.cause, CAUSE_REJECTED);
    assert_int_equal(w.row.status, 422);
    assert_string_equal(w.row_error, "told by the modules");
}

static void test_over_a_limit_makes_no_row(void **state)
{
    (void)state;
    context.usage = (struct usage_loop *)&w;
    w.limit = LIMIT_REFUSED;
    begin();
    expect_trace("auth receive limit reply released");
}

static void test_nothing_runs_that_could_not_be_recorded(void **state)
{
    (void)state;
    context.usage = (struct usage_loop *)&w;
    w.journal_full = true;
    begin();
    expect_trace("auth receive look reply released");
    assert_int_equal(w.replied, ERR_BUSY);
    assert_int_equal(w.given, 0);
}

/* --- failures ----------------------------------------------------------------------------------- */
static void expect_failure(enum err want, const char *trace, bool asked, bool refund)
{
    expect_trace(trace);
    assert_int_equal(w.replied, want);
    assert_int_equal(errors(want), 1);
    assert_int_equal(w.given, asked);
    assert_int_equal(w.refunded, refund);
    for (int c = 0; c < CAUSE_COUNT; c++)
        assert_int_equal(runs((enum cause)c), 0);
}

static void test_no_token(void **state)
{
    (void)state;
    inv = invocation_new(&context, &origin, NULL, "0");
    invocation_enter(inv, INVOKE_STEP_authenticate);
    expect_failure(ERR_UNAUTHORIZED, "reply released", false, false);
}

static void test_refused_key(void **state)
{
    (void)state;
    w.cached = AUTH_REFUSED;
    begin();
    expect_failure(ERR_UNAUTHORIZED, "auth reply released", false, false);
}

static void test_key_that_the_store_does_not_know(void **state)
{
    (void)state;
    w.cached = AUTH_ASK;
    w.found = ERR_UNAUTHORIZED;
    begin();
    turn_until_auth();
    expect_failure(ERR_UNAUTHORIZED, "auth reply released", false, false);
}

static void test_store_down(void **state)
{
    (void)state;
    w.cached = AUTH_ASK;
    w.found = ERR_STORE_DOWN;
    begin();
    turn_until_auth();
    expect_failure(ERR_STORE_DOWN, "auth reply released", false, false);
}

static void test_receive_fails(void **state)
{
    (void)state;
    w.received = STEP_FAIL;
    begin();
    expect_failure(ERR_PART_MISSING, "auth receive look reply released", false, false);
}

static void test_rate_limit(void **state)
{
    (void)state;
    w.limit = LIMIT_REFUSED;
    begin();
    expect_trace("auth receive limit reply released");
    assert_int_equal(w.replied, ERR_RATE_LIMITED);
    assert_int_equal(w.told_limits, 1);
    assert_int_equal(w.told_bad, 0);
    assert_int_equal(atomic_load(&metrics.limit_hits[METRICS_LIMIT_DAY]), 1);
}

static void test_rate_limit_later(void **state)
{
    (void)state;
    w.limit = LIMIT_REFUSED;
    w.limit_asks = true;
    begin();
    w.limit_wait->ready(w.limit_wait);
    expect_trace("auth receive limit reply released");
    assert_int_equal(w.replied, ERR_RATE_LIMITED);
}

/* Who is known is told how the key stands, whatever it was refused for; and that this takes nothing. */
static void test_refused_before_the_limit_was_asked(void **state)
{
    (void)state;
    w.received = STEP_FAIL;
    w.limit = LIMIT_REFUSED;
    begin();
    expect_failure(ERR_PART_MISSING, "auth receive look reply released", false, false);
    assert_int_equal(w.limit_told.limit, 7);
    assert_int_equal(w.limit_told.refused_by, LIMIT_NOTHING); /* that is not why */
    assert_int_equal(w.told_limits, 0);
    for (size_t i = 0; i < METRICS_LIMIT_COUNT; i++)
        assert_int_equal(atomic_load(&metrics.limit_hits[i]), 0);
}

static void test_limit_is_looked_at_later(void **state)
{
    (void)state;
    w.received = STEP_FAIL;
    w.limit_asks = true;
    begin();
    expect_trace("auth receive look");
    assert_non_null(inv);
    tell_limit(w.limit_wait);
    w.limit_wait->ready(w.limit_wait);
    expect_failure(ERR_PART_MISSING, "auth receive look reply released", false, false);
    assert_int_equal(w.limit_told.limit, 7);
}

static void test_module_fails(void **state)
{
    (void)state;
    w.module_err = ERR_NOT_WASM;
    begin();
    expect_failure(ERR_NOT_WASM, "auth receive limit module reply released", true, true);
}

/* Compiling it was the cost. */
static void test_module_is_rejected_later(void **state)
{
    (void)state;
    w.module_err = ERR_COMPILE_LIMIT;
    w.module_at_once = false;
    begin();
    fill_module(w.module_wait);
    w.module_wait->ready(w.module_wait);
    expect_failure(ERR_COMPILE_LIMIT, "auth receive limit module reply released", true, false);
}

static void test_executor_is_full(void **state)
{
    (void)state;
    w.exec_err = ERR_BUSY;
    begin();
    expect_failure(ERR_BUSY, "auth receive limit module run reply released", true, true);
}

/* It waited for a sandbox in vain. */
static void test_run_that_never_began(void **state)
{
    (void)state;
    begin();
    end_run(CAUSE_CANCELLED, false);
    expect_failure(ERR_BUSY, "auth receive limit module run reply released", true, true);
}

static const struct err_info broken_body = {ERR_MULTIPART_BROKEN, "told from outside"};

static void break_body(struct invocation *i)
{
    invocation_fail(i, &broken_body);
}

static void test_failed_from_outside(void **state)
{
    (void)state;
    w.received = STEP_WAIT;
    begin();
    break_body(inv);
    expect_failure(ERR_MULTIPART_BROKEN, "auth receive look reply released", false, false);
}

static void test_failed_from_within(void **state)
{
    (void)state;
    w.received = STEP_WAIT;
    w.in_receive = break_body;
    begin();
    expect_failure(ERR_MULTIPART_BROKEN, "auth receive look reply released", false, false);
}

/* Even where receive() says that all is well. */
static void test_failed_from_within_and_done(void **state)
{
    (void)state;
    w.received = STEP_DONE;
    w.in_receive = break_body;
    begin();
    expect_failure(ERR_MULTIPART_BROKEN, "auth receive look reply released", false, false);
}

static void test_body_breaks_while_looking(void **state)
{
    (void)state;
    w.received = STEP_FAIL;
    w.limit_asks = true;
    begin();
    break_body(inv);
    expect_trace("auth receive look");
    w.limit_wait->ready(w.limit_wait);
    expect_failure(ERR_PART_MISSING, "auth receive look reply released", false, false);
}

/* A stream's body may break at any time. */
static void test_failed_while_running(void **state)
{
    (void)state;
    w.own_output = true;
    begin_as(&origin_of_streams);
    expect_trace("auth receive limit module run started");
    break_body(inv);
    assert_int_equal(w.cancelled, 1);
    expect_trace("auth receive limit module run started");
    end_run(CAUSE_CANCELLED, true);
    assert_int_equal(w.replied, ERR_MULTIPART_BROKEN);
    expect_trace("auth receive limit module run started reply released");
}

static void test_failed_before_it_started(void **state)
{
    (void)state;
    w.cancel_at_once = true;
    w.own_output = true;
    begin_as(&origin_of_streams);
    break_body(inv);
    assert_null(inv);
    assert_int_equal(w.replied, ERR_MULTIPART_BROKEN); /* not that it was cancelled */
}

static void test_failed_while_loading(void **state)
{
    (void)state;
    w.module_at_once = false;
    begin();
    break_body(inv);
    expect_trace("auth receive limit module");
    fill_module(w.module_wait);
    w.module_wait->ready(w.module_wait);
    expect_failure(ERR_MULTIPART_BROKEN, "auth receive limit module reply released", true, true);
}

/* --- the client leaves -------------------------------------------------------------------------- */
/* No reply; all that was asked for is given back, at no cost unless there was work. */
static void expect_gone(const char *trace, bool asked, bool refund)
{
    expect_trace(trace);
    assert_int_equal(w.given, asked);
    assert_int_equal(w.refunded, refund);
}

static void test_gone_while_authenticating(void **state)
{
    (void)state;
    w.cached = AUTH_ASK;
    begin();
    invocation_abandon(inv);
    assert_non_null(inv); /* the pool still works on it */
    turn_until_auth();
    expect_gone("auth released", false, false);
}

static void test_gone_while_receiving(void **state)
{
    (void)state;
    w.received = STEP_WAIT;
    begin();
    invocation_abandon(inv);
    expect_gone("auth receive released", false, false);
}

static void leave(struct invocation *i)
{
    invocation_abandon(i);
}

static void test_gone_from_within(void **state)
{
    (void)state;
    w.received = STEP_WAIT;
    w.in_receive = leave;
    begin();
    expect_gone("auth receive released", false, false);
}

static void test_gone_from_within_and_done(void **state)
{
    (void)state;
    w.received = STEP_DONE;
    w.in_receive = leave;
    begin();
    expect_gone("auth receive released", false, false);
}

static void test_gone_while_asking_the_limit(void **state)
{
    (void)state;
    w.limit_asks = true;
    begin();
    invocation_abandon(inv);
    assert_non_null(inv);
    w.limit_wait->ready(w.limit_wait);
    expect_gone("auth receive limit released", true, true);
}

static void test_gone_while_looking(void **state)
{
    (void)state;
    w.received = STEP_FAIL;
    w.limit_asks = true;
    begin();
    invocation_abandon(inv);
    assert_non_null(inv);
    w.limit_wait->ready(w.limit_wait);
    expect_gone("auth receive look released", false, false);
}

static void test_gone_while_loading(void **state)
{
    (void)state;
    w.module_at_once = false;
    w.source = MODULE_FROM_DISK;
    begin();
    invocation_abandon(inv);
    assert_non_null(inv);
    fill_module(w.module_wait);
    w.module_wait->ready(w.module_wait);
    expect_gone("auth receive limit module released", true, true);
}

/* Who leaves while a module is compiled does not get that for nothing. */
static void test_gone_while_compiling(void **state)
{
    (void)state;
    w.module_at_once = false;
    w.source = MODULE_COMPILED;
    begin();
    invocation_abandon(inv);
    fill_module(w.module_wait);
    w.module_wait->ready(w.module_wait);
    expect_gone("auth receive limit module released", true, false);
}

static void test_gone_while_running(void **state)
{
    (void)state;
    begin();
    invocation_abandon(inv);
    assert_int_equal(w.cancelled, 1);
    assert_non_null(inv);
    end_run(CAUSE_CANCELLED, true);
    expect_gone("auth receive limit module run released", true, false);
    assert_int_equal(runs(CAUSE_CANCELLED), 1);
}

static void test_gone_while_queued(void **state)
{
    (void)state;
    w.cancel_at_once = true;
    begin();
    invocation_abandon(inv);
    expect_trace("auth receive limit module run released");
    assert_int_equal(w.given, 1);
}

/* --- several ------------------------------------------------------------------------------------ */
static void test_idle_after_the_last(void **state)
{
    (void)state;
    w.received = STEP_WAIT;
    begin();
    struct invocation *first = inv;
    inv = invocation_new(&context, &origin, NULL, "1");
    inv->token = STR_LIT("token");
    invocation_enter(inv, INVOKE_STEP_authenticate);
    assert_int_equal(context.live, 2);
    invocation_abandon(inv);
    assert_int_equal(context.live, 1);
    assert_int_equal(w.idle, 0);
    inv = first;
    invocation_abandon(inv);
    assert_int_equal(w.idle, 1);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(invoke_step_name(INVOKE_STEP_authenticate), "authenticate/auth");
    assert_string_equal(invoke_step_name(INVOKE_STEP_meter), "meter/meter");
    w.idle = 1; /* nothing was begun here */
}

int main(void)
{
#define SPINE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        SPINE_TEST(test_all_at_once),
        SPINE_TEST(test_everything_takes_its_time),
        SPINE_TEST(test_resumed_from_within),
        SPINE_TEST(test_without_limits),
        SPINE_TEST(test_entered_later),
        SPINE_TEST(test_a_run_is_recorded_before_its_reply),
        SPINE_TEST(test_what_is_free_makes_no_row),
        SPINE_TEST(test_what_cost_a_token_makes_a_row),
        SPINE_TEST(test_over_a_limit_makes_no_row),
        SPINE_TEST(test_nothing_runs_that_could_not_be_recorded),
        SPINE_TEST(test_no_token),
        SPINE_TEST(test_refused_key),
        SPINE_TEST(test_key_that_the_store_does_not_know),
        SPINE_TEST(test_store_down),
        SPINE_TEST(test_receive_fails),
        SPINE_TEST(test_rate_limit),
        SPINE_TEST(test_rate_limit_later),
        SPINE_TEST(test_refused_before_the_limit_was_asked),
        SPINE_TEST(test_limit_is_looked_at_later),
        SPINE_TEST(test_which_runs_webhooks_hear_of),
        SPINE_TEST(test_module_fails),
        SPINE_TEST(test_module_is_rejected_later),
        SPINE_TEST(test_executor_is_full),
        SPINE_TEST(test_run_that_never_began),
        SPINE_TEST(test_failed_from_outside),
        SPINE_TEST(test_failed_from_within),
        SPINE_TEST(test_failed_from_within_and_done),
        SPINE_TEST(test_body_breaks_while_looking),
        SPINE_TEST(test_failed_while_running),
        SPINE_TEST(test_failed_before_it_started),
        SPINE_TEST(test_failed_while_loading),
        SPINE_TEST(test_gone_while_authenticating),
        SPINE_TEST(test_gone_while_receiving),
        SPINE_TEST(test_gone_from_within),
        SPINE_TEST(test_gone_from_within_and_done),
        SPINE_TEST(test_gone_while_asking_the_limit),
        SPINE_TEST(test_gone_while_looking),
        SPINE_TEST(test_gone_while_loading),
        SPINE_TEST(test_gone_while_compiling),
        SPINE_TEST(test_gone_while_running),
        SPINE_TEST(test_gone_while_queued),
        SPINE_TEST(test_idle_after_the_last),
        SPINE_TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
