#include "invoke/invocation.h"

#include "base/clock.h"
#include "base/log.h"
#include "invoke/spans.h"

static void proceed(struct invocation *inv);

static enum step_result fail(struct invocation *inv, const struct err_info *why)
{
    inv->failure = *why;
    return STEP_FAIL;
}

/* --- authenticate ------------------------------------------------------------------------------- */
static const struct err_info unauthorized = {
    ERR_UNAUTHORIZED,
    "the credential is missing, unknown, expired or revoked: send \"Authorization: Bearer KEY\""};

static void auth_work(uv_work_t *work)
{
    struct invocation *inv = CONTAINER_OF(work, struct invocation, auth_work);
    struct err_info why = {0};
    inv->auth_err = auth_find(inv->context->auth, inv->token, &inv->who, &why);
    if (inv->auth_err)
        inv->failure = inv->auth_err == ERR_UNAUTHORIZED ? unauthorized : why;
}

static void after_auth_work(uv_work_t *work, int status)
{
    (void)status;
    invocation_resume(CONTAINER_OF(work, struct invocation, auth_work));
}

static enum step_result step_authenticate(struct invocation *inv)
{
    if (inv->who)
        return STEP_DONE;
    if (inv->auth_err)
        return STEP_FAIL;
    if (!inv->token.p)
        return fail(inv, &unauthorized);
    switch (auth_cached(inv->context->auth, inv->token, &inv->who)) {
    case AUTH_KNOWN: return STEP_DONE;
    case AUTH_REFUSED: return fail(inv, &unauthorized);
    case AUTH_ASK: break;
    }
    WW_ASSERT(uv_queue_work(&inv->context->loop->uv, &inv->auth_work, auth_work, after_auth_work) == 0);
    return STEP_WAIT;
}

/* --- receive, admit ----------------------------------------------------------------------------- */
static enum step_result step_receive(struct invocation *inv)
{
    return inv->origin->receive(inv);
}

static void on_limit(struct limit_wait *w)
{
    invocation_resume(CONTAINER_OF(w, struct invocation, limit));
}

static enum step_result refuse_by_limit(struct invocation *inv)
{
    const struct auth_principal *who = inv->who;
    const struct limit_state *state = &inv->limit.state;
    limit_refusal(state, &inv->failure);
    webhook_limit_reached(inv->context->webhooks, who->user_id,
                          &(struct webhook_limit){.key_id = who->key_id,
                                                  .name = who->name,
                                                  .what = limit_what_name(state->refused_by),
                                                  .figure = state->figure,
                                                  .wall_ns = clock_wall_ns()});
    return STEP_FAIL;
}

static struct kv_figures figures_of(const struct auth_principal *who)
{
    return (struct kv_figures){who->per_minute, who->per_day, who->concurrency};
}

/* No run begins that could not be recorded. */
static bool reserve_usage(struct invocation *inv)
{
    if (inv->context->usage && !inv->usage_reserved)
        inv->usage_reserved = usage_reserve(inv->context->usage);
    return !inv->context->usage || inv->usage_reserved;
}

/* Takes one execution of the key's tier. Without a key (the command line) or without limits there is nothing to ask. */
static enum step_result step_admit(struct invocation *inv)
{
    struct limit_wait *w = &inv->limit;
    if (!reserve_usage(inv) &&
        err_set(&inv->failure, ERR_BUSY,
                "the database has been down for so long that there is no room left to note what runs"))
        return STEP_FAIL;
    if (!inv->context->limit || !inv->who)
        return STEP_DONE;
    if (!inv->limit_asked) {
        const struct kv_figures figures = figures_of(inv->who);
        inv->limit_asked = true;
        w->ready = on_limit;
        if (limit_execution(inv->context->limit, inv->context->loop, str_of(inv->who->id), &figures, w) ==
            LIMIT_ASK)
            return STEP_WAIT;
    }
    return w->answer == LIMIT_REFUSED ? refuse_by_limit(inv) : STEP_DONE;
}

/* It cost nothing where nothing ran, and nothing was compiled for it: it takes no token and makes no row. */
static bool is_free(const struct invocation *inv)
{
    bool compiled = inv->module_wait.module && inv->module_wait.source == MODULE_COMPILED;
    return !inv->ran && !compiled && err_status(inv->failure.code) != 422;
}

/* What was taken goes back, the token too where the request was free. */
static void give_back(struct invocation *inv)
{
    if (inv->limit_asked)
        limit_give(inv->context->limit, inv->context->loop, &inv->limit.ticket, is_free(inv));
}

/* --- resolve ------------------------------------------------------------------------------------ */
static void on_module(struct module_wait *w)
{
    invocation_resume(CONTAINER_OF(w, struct invocation, module_wait));
}

static enum step_result step_resolve(struct invocation *inv)
{
    struct module_wait *w = &inv->module_wait;
    if (!inv->resolved) {
        inv->resolved = true;
        w->loop = inv->context->loop;
        w->ready = on_module;
        bool fuel = inv->spec.limits.fuel != 0;
        if (!modules_get(inv->context->modules, inv->sha, fuel, &inv->wasm, inv->wasm_len, w))
            return STEP_WAIT;
    }
    if (w->err)
        return fail(inv, &w->info);
    inv->module = w->module;
    inv->module_source = w->source;
    return STEP_DONE;
}

/* --- run ---------------------------------------------------------------------------------------- */
static void on_output(void *ctx, int fd, struct str bytes)
{
    struct invocation *inv = ctx;
    if (inv->origin->output)
        inv->origin->output(inv, fd, bytes);
    else
        buf_put_str(&inv->output[fd == 2], bytes);
}

static void on_stdin_room(void *ctx, size_t bytes)
{
    struct invocation *inv = ctx;
    if (inv->origin->stdin_room)
        inv->origin->stdin_room(inv, bytes);
}

static void fill_receipt(struct invocation *inv, const struct exec_outcome *o)
{
    const struct run_report *report = &inv->report;
    struct receipt *r = &inv->receipt;
    *r = (struct receipt){
        .cause = (enum cause)report->cause,
        .detail = report->text,
        .exit_code = report->exit_code,
        .duration_ns = report->run_ns,
        .cpu_ns = report->cpu_ns,
        .queue_ns = o->queue_ns,
        .compile_source = module_source_name(inv->module_source),
        .compile_ns = inv->module_source == MODULE_COMPILED ? inv->module->compile_ns : 0,
        .memory_peak_bytes = report->memory_peak_bytes,
        .fuel = report->fuel,
        .stdin_bytes = report->stdin_bytes,
        .stdout_bytes = report->stdout_bytes,
        .stderr_bytes = report->stderr_bytes,
        .host_calls = report->host_calls,
        .trap_code = report->trap_code,
        .frames = inv->frames,
        .frame_count = report->frame_count,
        .limits = {.timeout_ns = inv->spec.limits.timeout_ns,
                   .memory_bytes = inv->spec.limits.memory_bytes,
                   .stdout_bytes = inv->spec.limits.stdout_bytes,
                   .stderr_bytes = inv->spec.limits.stderr_bytes,
                   .fuel = inv->spec.limits.fuel},
    };
    memcpy(r->run_id, inv->id, sizeof r->run_id);
    for (uint32_t i = 0; i < report->frame_count; i++) {
        const struct trap_frame *f = &o->frames[i];
        struct str name = arena_copy(&inv->arena, str_make(f->name, f->name_bytes));
        inv->frames[i] = (struct receipt_frame){f->function_index, name.p ? name : STR_NULL, f->offset};
    }
}

static void on_run_done(void *ctx, const struct exec_outcome *outcome)
{
    struct invocation *inv = ctx;
    inv->exec = NULL;
    if (outcome->started || inv->gone) {
        inv->ran = true;
        inv->report = *outcome->report;
        fill_receipt(inv, outcome);
    } else if (!inv->failure.code) {
        err_set(&inv->failure, ERR_BUSY, "%s", outcome->report->text);
    }
    invocation_resume(inv);
}

static enum step_result step_run(struct invocation *inv)
{
    static const struct exec_ops ops = {
        .output = on_output, .stdin_room = on_stdin_room, .done = on_run_done};
    if (inv->ran)
        return STEP_DONE;
    if (inv->failure.code)
        return STEP_FAIL;
    struct module *m = inv->module;
    inv->spec.code = (struct exec_code){.id = m->id,
                                        .fd = m->code_fd,
                                        .memories = m->facts.memories,
                                        .tables = m->facts.tables,
                                        .fuel = m->fuel};
    inv->output[0] = buf_make((size_t)inv->spec.limits.stdout_bytes);
    inv->output[1] = buf_make((size_t)inv->spec.limits.stderr_bytes);
    if (exec_start(inv->context->exec, &inv->spec, &ops, inv, &inv->exec, &inv->failure))
        return STEP_FAIL;
    if (inv->holds_output)
        exec_run_hold_output(inv->exec);
    if (inv->origin->started)
        inv->origin->started(inv);
    return STEP_WAIT;
}

/* --- record, reply, meter ----------------------------------------------------------------------- */
static enum cause cause_of_row(const struct invocation *inv)
{
    if (inv->ran)
        return (enum cause)inv->report.cause;
    return err_status(inv->failure.code) == 422 ? CAUSE_REJECTED : CAUSE_CANCELLED;
}

/* Before the reply: whoever was told of a run finds its row, even if the server is killed now. */
static enum step_result step_record(struct invocation *inv)
{
    const struct run_report *r = &inv->report;
    struct buf sentence = buf_make(1024);
    if (!inv->usage_reserved)
        return STEP_DONE;
    if (is_free(inv)) {
        usage_release(inv->context->usage);
        return STEP_DONE;
    }
    enum cause cause = cause_of_row(inv);
    if (inv->ran)
        receipt_put_error(&sentence, &inv->receipt);
    usage_record(inv->context->usage,
                 &(struct usage_run){
                     .time_ns = clock_wall_ns(),
                     .id = inv->id,
                     .key_id = inv->who ? inv->who->key_id : "",
                     .user_id = inv->who ? inv->who->user_id : "",
                     .module_sha = inv->sha,
                     .duration_ns = r->run_ns,
                     .cpu_ns = r->cpu_ns,
                     .memory_peak_bytes = r->memory_peak_bytes,
                     .wasm_bytes = inv->wasm_len,
                     .input_bytes = MAX(inv->input.len, r->stdin_bytes), /* of a stream what was taken */
                     .output_bytes = r->stdout_bytes,
                     .queue_ns = inv->receipt.queue_ns,
                     .compile_ns = inv->receipt.compile_ns,
                     .fuel = inv->receipt.fuel,
                     .stderr_bytes = inv->receipt.stderr_bytes,
                     .host_calls = inv->receipt.host_calls,
                     .exit_code = inv->receipt.exit_code,
                     .cause = cause,
                     .status = inv->failure.code ? err_status(inv->failure.code) : cause_http_status(cause),
                     .error = inv->failure.code ? str_of(err_told(&inv->failure)) : buf_str(&sentence),
                 });
    buf_done(&sentence);
    return STEP_DONE;
}

/* Who was refused before the limits were asked is told how the key stands, too. True: the answer comes later. */
static bool look_at_limit(struct invocation *inv)
{
    const struct invoke_context *c = inv->context;
    if (!inv->failure.code || inv->limit_asked || inv->limit_looked || !inv->who || !c->limit)
        return false;
    const struct kv_figures figures = figures_of(inv->who);
    inv->limit_looked = true;
    inv->limit.ready = on_limit;
    return limit_look(c->limit, c->loop, str_of(inv->who->id), &figures, &inv->limit) == LIMIT_ASK;
}

static enum step_result step_reply(struct invocation *inv)
{
    if (inv->gone)
        return STEP_DONE;
    if (look_at_limit(inv))
        return STEP_WAIT;
    if (inv->limit_looked)
        inv->limit.state.refused_by = LIMIT_NOTHING; /* waiting would not help this request */
    inv->origin->reply(inv);
    return STEP_DONE;
}

static void tell_of_run(struct invocation *inv)
{
    enum cause cause = inv->receipt.cause;
    bool failed = cause != CAUSE_OK;
    if (inv->who && cause != CAUSE_CANCELLED && cause != CAUSE_SANDBOX_CRASHED)
        webhook_run_ended(inv->context->webhooks, inv->who->user_id,
                          &(struct webhook_run){.sha = inv->sha,
                                                .run_id = inv->id,
                                                .cause = cause_name(cause),
                                                .failed = failed,
                                                .wall_ns = failed ? clock_wall_ns() : 0});
}

static enum metrics_limit limit_of(const struct limit_state *state)
{
    switch (state->refused_by) {
    case LIMIT_DAY: return METRICS_LIMIT_DAY;
    case LIMIT_CONCURRENCY: return METRICS_LIMIT_CONCURRENCY;
    case LIMIT_NOTHING:
    case LIMIT_MINUTE: break;
    }
    return METRICS_LIMIT_MINUTE;
}

static void count(const struct invocation *inv)
{
    struct metrics *m = inv->context->metrics;
    const struct run_report *r = &inv->report;
    if (inv->ran) {
        metrics_count_run(m, (enum cause)r->cause, r->run_ns, r->cpu_ns, r->stdin_bytes, r->stdout_bytes,
                          r->memory_peak_bytes, r->host_calls);
        metrics_observe(&m->queue_time, inv->receipt.queue_ns);
    } else if (inv->failure.code) {
        metrics_add(&m->errors[inv->failure.code], 1);
    }
    if (inv->module && inv->module_source == MODULE_COMPILED)
        metrics_observe(&m->compile_time, inv->module->compile_ns);
    if (inv->limit_asked && inv->limit.answer == LIMIT_REFUSED)
        metrics_add(&m->limit_hits[limit_of(&inv->limit.state)], 1);
}

static void write_line(const struct invocation *inv)
{
    const struct run_report *r = &inv->report;
    LOG_INFO("run", LOG_CSTR("run_id", inv->id), LOG_CSTR("trace_id", inv->trace.trace_id),
             LOG_CSTR("key", inv->who ? inv->who->id : ""),
             LOG_CSTR("cause", inv->ran ? cause_name((enum cause)r->cause) : ""),
             LOG_CSTR("error", inv->failure.code ? err_code(inv->failure.code) : ""),
             LOG_U64("wasm_bytes", inv->wasm_len), LOG_U64("run_us", r->run_ns / NS_PER_US),
             LOG_U64("cpu_us", r->cpu_ns / NS_PER_US), LOG_U64("memory_peak_bytes", r->memory_peak_bytes),
             LOG_U64("stdout_bytes", r->stdout_bytes),
             LOG_U64("total_us", (clock_now_ns() - inv->started_ns) / NS_PER_US));
}

static enum step_result step_meter(struct invocation *inv)
{
    give_back(inv);
    invocation_spans_put(inv);
    count(inv);
    if (inv->ran)
        tell_of_run(inv);
    write_line(inv);
    return STEP_DONE;
}

/* --- the loop ----------------------------------------------------------------------------------- */
static const struct {
    const char *name;
    enum step_result (*fn)(struct invocation *inv);
} steps[INVOKE_STEP_COUNT] = {
#define STEP(name, folder) {#name "/" #folder, step_##name},
    INVOKE_STEPS(STEP)
#undef STEP
};

const char *invoke_step_name(enum invoke_step step)
{
    return steps[step].name;
}

static void release(struct invocation *inv)
{
    struct invoke_context *c = inv->context;
    if (inv->origin->released)
        inv->origin->released(inv);
    auth_principal_unref(inv->who);
    module_unref(inv->module ? inv->module : inv->module_wait.module);
    buf_done(&inv->input);
    buf_done(&inv->output[0]);
    buf_done(&inv->output[1]);
    free(inv->wasm);
    arena_done(&inv->arena);
    free(inv);
    if (--c->live == 0 && c->on_idle)
        c->on_idle(c);
}

static void proceed(struct invocation *inv)
{
    inv->in_loop = true;
    while (inv->step < INVOKE_STEP_COUNT) {
        inv->resumed = false;
        invocation_spans_step(inv);
        enum step_result result =
            inv->gone && inv->step < INVOKE_STEP_run ? STEP_FAIL : steps[inv->step].fn(inv);
        if (result == STEP_WAIT && !inv->resumed) {
            inv->in_loop = false;
            return;
        }
        if (result == STEP_FAIL || (inv->failed_outside && inv->step < INVOKE_STEP_record)) {
            LOG_DEBUG("an invocation fails", LOG_CSTR("run", inv->id),
                      LOG_CSTR("step", invoke_step_name(inv->step)),
                      LOG_CSTR("reason", inv->gone ? "the client is gone" : err_text(&inv->failure)));
            inv->step = INVOKE_STEP_record;
        } else if (result == STEP_DONE) {
            inv->step++;
        }
    }
    release(inv);
}

struct invocation *invocation_new(struct invoke_context *context, const struct invoke_origin *origin,
                                  void *origin_data, const char *id)
{
    struct invocation *inv = xcalloc(1, sizeof *inv);
    inv->context = context;
    inv->origin = origin;
    inv->origin_data = origin_data;
    arena_init(&inv->arena, INVOCATION_ARENA_BYTES);
    snprintf(inv->id, sizeof inv->id, "%s", id);
    inv->trace = trace_context_make(STR_NULL, inv->id);
    inv->started_ns = clock_now_ns();
    inv->spec.limits = (struct run_limits){.timeout_ns = context->timeout_ns,
                                           .memory_bytes = context->memory_bytes,
                                           .table_elements = ENGINE_TABLE_ELEMENTS_MAX,
                                           .stdout_bytes = context->stdout_bytes,
                                           .stderr_bytes = context->stderr_bytes};
    context->live++;
    return inv;
}

void invocation_enter(struct invocation *inv, enum invoke_step step)
{
    inv->step = step;
    proceed(inv);
}

void invocation_resume(struct invocation *inv)
{
    inv->resumed = true;
    if (!inv->in_loop)
        proceed(inv);
}

void invocation_fail(struct invocation *inv, const struct err_info *why)
{
    WW_ASSERT(inv->step >= INVOKE_STEP_receive); /* before, libuv's pool may hold it */
    if (!inv->failure.code)
        inv->failure = *why;
    inv->failed_outside = true;
    if (inv->exec) {
        exec_run_cancel(inv->exec);
        return;
    }
    if (inv->step != INVOKE_STEP_receive)
        return; /* it goes on when what it waits for has come */
    inv->resumed = true;
    if (inv->in_loop)
        return;
    inv->step = INVOKE_STEP_record;
    proceed(inv);
}

void invocation_abandon(struct invocation *inv)
{
    inv->gone = true;
    if (inv->exec)
        exec_run_cancel(inv->exec);
    else if (inv->step == INVOKE_STEP_receive)
        invocation_resume(inv);
}
