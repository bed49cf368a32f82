#include "sandbox/run.h"

#include <errno.h>
#include <stdarg.h>

#include "base/clock.h"

/* --- modules ---------------------------------------------------------------------------------- */
static bool exports_function(wasmtime_module_t *module, const char *name)
{
    wasm_exporttype_vec_t exports;
    bool found = false;
    wasmtime_module_exports(module, &exports);
    for (size_t i = 0; i < exports.size && !found; i++) {
        const wasm_name_t *n = wasm_exporttype_name(exports.data[i]);
        found = str_eq(str_make(n->data, n->size), str_of(name)) &&
                wasm_externtype_kind(wasm_exporttype_type(exports.data[i])) == WASM_EXTERN_FUNC;
    }
    wasm_exporttype_vec_delete(&exports);
    return found;
}

struct guest_module *guest_module_open(struct engine *e, uint64_t id, int fd, char ret_text[MESSAGE_TEXT_MAX])
{
    wasmtime_module_t *module;
    wasmtime_error_t *error = wasmwiz_module_open(e->engine, fd, &module);
    if (error) {
        engine_error_text(error, ret_text, MESSAGE_TEXT_MAX);
        return NULL;
    }
    struct guest_module *m = xcalloc(1, sizeof *m);
    m->id = id;
    m->module = module;
    m->has_initialize = exports_function(module, "_initialize");
    m->has_start = exports_function(module, "_start");
    error = wasmtime_linker_instantiate_pre(e->linker, module, &m->pre);
    if (error) {
        m->pre = NULL;
        engine_error_text(error, m->rejected, sizeof m->rejected);
    }
    return m;
}

void guest_module_free(struct guest_module *m)
{
    if (!m)
        return;
    WW_ASSERT(m->runs == 0);
    if (m->pre)
        wasmtime_instance_pre_delete(m->pre);
    wasmtime_module_delete(m->module);
    free(m);
}

/* --- streams ---------------------------------------------------------------------------------- */
static enum wasi_stream_state stream_read(void *ctx, void *to, size_t len, size_t *ret_len)
{
    struct run *r = ctx;
    size_t there = r->stdin_bytes.len - r->stdin_at;
    size_t moved = MIN(there, len);
    *ret_len = moved;
    if (moved == 0 && len > 0)
        return r->stdin_eof ? WASI_STREAM_OK : WASI_STREAM_WAIT;
    if (moved == 0)
        return WASI_STREAM_OK;
    memcpy(to, r->stdin_bytes.p + r->stdin_at, moved);
    r->stdin_at += moved;
    r->stdin_read += moved;
    r->stdin_uncredited += moved;
    if (r->stdin_at == r->stdin_bytes.len) {
        buf_clear(&r->stdin_bytes);
        r->stdin_at = 0;
    }
    return WASI_STREAM_OK;
}

static enum wasi_stream_state stream_write(void *ctx, int fd, const void *from, size_t len, size_t *ret_len)
{
    struct run *r = ctx;
    size_t which = fd == 2;
    uint64_t cap = which ? r->limits.stderr_bytes : r->limits.stdout_bytes;
    struct buf *out = &r->output[which];
    uint64_t allowed = cap - r->output_total[which];
    size_t moved = MIN(len, out->max - out->len);
    *ret_len = 0;
    if (len > 0 && moved == 0)
        return WASI_STREAM_WAIT;
    moved = (size_t)MIN((uint64_t)moved, allowed);
    r->over_limit = which;
    buf_append(out, from, moved);
    r->output_total[which] += moved;
    *ret_len = moved;
    return moved == 0 && len > 0 ? WASI_STREAM_LIMIT : WASI_STREAM_OK;
}

static const struct wasi_streams streams = {.read = stream_read, .write = stream_write};

void run_stdin(struct run *r, struct str bytes, bool eof)
{
    if (r->stdin_at) {
        buf_consume(&r->stdin_bytes, r->stdin_at);
        r->stdin_at = 0;
    }
    buf_put_str(&r->stdin_bytes, bytes);
    r->stdin_eof |= eof;
}

size_t run_output_window(const struct run *r)
{
    return r->output_uncredited >= OUTPUT_WINDOW_BYTES ? 0
                                                       : (size_t)(OUTPUT_WINDOW_BYTES - r->output_uncredited);
}

bool run_can_go_on(const struct run *r)
{
    if (r->expired || r->cancelled)
        return true;
    if (r->waiting.outcome == WASI_WAIT_STDIN)
        return r->stdin_eof || r->stdin_bytes.len > r->stdin_at;
    return r->output[0].len < r->output[0].max && r->output[1].len < r->output[1].max;
}

struct guest_memory run_memory(struct run *r, wasmtime_caller_t *caller)
{
    if (!r->memory_known) {
        wasmtime_extern_t item;
        if (!caller || !wasmtime_caller_export_get(caller, "memory", 6, &item))
            return (struct guest_memory){NULL, 0};
        if (item.kind != WASMTIME_EXTERN_MEMORY) {
            wasmtime_extern_delete(&item);
            return (struct guest_memory){NULL, 0};
        }
        r->memory = item.of.memory;
        r->memory_known = true;
    }
    return (struct guest_memory){wasmtime_memory_data(r->context, &r->memory),
                                 wasmtime_memory_data_size(r->context, &r->memory)};
}

/* --- life ------------------------------------------------------------------------------------- */
struct run *run_new(struct engine *e, struct guest_module *module, const struct message_run *m,
                    struct str data, uint64_t *pool_now, uint64_t pool_max)
{
    struct run *r = xcalloc(1, sizeof *r);
    list_init(&r->link);
    r->id = m->head.id;
    r->module = module;
    r->module->runs++;
    r->engine = e;
    r->limits = m->limits;
    r->limits.memory_bytes = MIN(r->limits.memory_bytes, e->config.memory_max_bytes);
    r->memory_limits = (struct wasmwiz_limits){
        .memory_max = r->limits.memory_bytes,
        .table_max = MIN(r->limits.table_elements, (uint64_t)ENGINE_TABLE_ELEMENTS_MAX),
        .pool_now = pool_now,
        .pool_max = pool_max,
    };
    size_t strings = (size_t)m->entry_bytes + m->args_bytes + m->env_bytes;
    r->strings = xmalloc(strings + 1);
    memcpy(r->strings, data.p, m->entry_bytes);
    r->strings[m->entry_bytes] = 0;
    if (m->args_bytes + m->env_bytes)
        memcpy(r->strings + m->entry_bytes + 1, data.p + m->entry_bytes, m->args_bytes + m->env_bytes);
    r->entry = m->entry_bytes ? r->strings : "_start";
    wasi_init(&r->wasi, &streams, r, m->seed);
    r->wasi.args = r->strings + m->entry_bytes + 1;
    r->wasi.args_bytes = m->args_bytes;
    r->wasi.args_count = m->args_count;
    r->wasi.env = r->wasi.args + m->args_bytes;
    r->wasi.env_bytes = m->env_bytes;
    r->wasi.env_count = m->env_count;
    r->stdin_bytes = buf_make(2 * STDIN_WINDOW_BYTES);
    r->output[0] = buf_make(RUN_STDOUT_CHUNK);
    r->output[1] = buf_make(RUN_STDERR_CHUNK);
    run_stdin(r, str_make(data.p + strings, m->stdin_bytes), m->stdin_eof);
    r->cause = CAUSE_OK;
    r->report.trap_code = -1;
    return r;
}

static void drop_store(struct run *r)
{
    if (r->future)
        wasmtime_call_future_delete(TAKE(r->future));
    if (r->trap)
        wasm_trap_delete(TAKE(r->trap));
    if (r->error)
        wasmtime_error_delete(TAKE(r->error));
    if (r->store) {
        wasmtime_store_delete(TAKE(r->store));
        *r->memory_limits.pool_now -= r->memory_limits.memory_now;
        r->memory_limits.memory_now = 0;
    }
}

void run_free(struct run *r)
{
    if (!r)
        return;
    drop_store(r);
    if (r->module)
        r->module->runs--;
    buf_done(&r->stdin_bytes);
    buf_done(&r->output[0]);
    buf_done(&r->output[1]);
    free(r->strings);
    free(r);
}

/* At each epoch tick inside the guest: give way, or end it where its time is up. */
static wasmtime_error_t *at_tick(wasmtime_context_t *context, void *data, uint64_t *ret_delta,
                                 wasmtime_update_deadline_kind_t *ret_kind)
{
    struct run *r = data;
    (void)context;
    *ret_delta = 1;
    *ret_kind = WASMTIME_UPDATE_DEADLINE_YIELD;
    if (!r->expired && !r->cancelled)
        return NULL;
    r->cause = r->cancelled ? CAUSE_CANCELLED : CAUSE_DEADLINE;
    return wasmtime_error_new("stopped");
}

static void reject(struct run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void reject(struct run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->report.text, sizeof r->report.text, fmt, ap);
    va_end(ap);
    r->cause = CAUSE_REJECTED;
    r->phase = RUN_PHASE_OVER;
}

static bool make_store(struct run *r)
{
    if (!r->module->pre) {
        reject(r, "%s", r->module->rejected);
        return false;
    }
    /* Before anything of the guest runs, its start function included. */
    if (strcmp(r->entry, "_start") == 0 ? !r->module->has_start
                                        : !exports_function(r->module->module, r->entry)) {
        reject(r, "the module exports no function \"%s\"", r->entry);
        return false;
    }
    r->store = wasmtime_store_new(r->engine->engine, r, NULL);
    r->context = wasmtime_store_context(r->store);
    wasmwiz_store_limits(r->store, &r->memory_limits);
    if (r->engine->config.fuel) {
        uint64_t fuel = r->limits.fuel ? r->limits.fuel : UINT64_MAX;
        wasmtime_error_t *error = wasmtime_context_set_fuel(r->context, fuel);
        WW_ASSERT(!error);
    }
    wasmtime_store_epoch_deadline_callback(r->store, at_tick, r, NULL);
    wasmtime_context_set_epoch_deadline(r->context, 1);
    return true;
}

/* A whole number of `bits` bits, signed or not, decimal or 0x. */
static bool parse_integer(const char *text, int bits, int64_t *ret)
{
    char *end;
    errno = 0;
    bool negative = text[0] == '-';
    const char *digits = text + negative;
    uint64_t value = strtoull(digits, &end, digits[0] == '0' && (digits[1] | 32) == 'x' ? 16 : 10);
    uint64_t max = bits == 64 ? UINT64_MAX : UINT32_MAX;
    if (errno || *end || end == digits || digits[0] < '0' || digits[0] > '9' ||
        value > (negative ? max / 2 + 1 : max))
        return false;
    *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* What a value is; wasm_valtype_kind() would end the process at a vector. */
static wasm_valkind_t kind_of(const wasm_valtype_t *type)
{
    wasmtime_valtype_t t;
    wasmtime_valtype_new(type, &t);
    wasm_valkind_t kind =
        t.kind == WASMTIME_VALTYPE_KIND_REF ? WASM_FUNCREF : t.kind; /* the numbers are the same */
    wasmtime_valtype_delete(&t);
    return kind;
}

/* Turns one argument string into a value of the parameter's type. */
static bool parse_value(const char *text, wasm_valkind_t kind, wasmtime_val_t *ret)
{
    char *end;
    int64_t integer;
    switch (kind) {
    case WASM_I32:
        ret->kind = WASMTIME_I32;
        if (!parse_integer(text, 32, &integer))
            return false;
        ret->of.i32 = (int32_t)integer;
        return true;
    case WASM_I64: ret->kind = WASMTIME_I64; return parse_integer(text, 64, &ret->of.i64);
    case WASM_F32:
        ret->kind = WASMTIME_F32;
        ret->of.f32 = strtof(text, &end);
        return *text && !*end;
    case WASM_F64:
        ret->kind = WASMTIME_F64;
        ret->of.f64 = strtod(text, &end);
        return *text && !*end;
    default: return false;
    }
}

static const char *kind_name(wasm_valkind_t kind)
{
    switch (kind) {
    case WASM_I32: return "i32";
    case WASM_I64: return "i64";
    case WASM_F32: return "f32";
    case WASM_F64: return "f64";
    default: return "a vector or a reference";
    }
}

/* The arguments behind argv[0], for an entry that takes parameters. */
static bool set_params(struct run *r, const wasm_valtype_vec_t *types)
{
    uint32_t given = r->wasi.args_count ? r->wasi.args_count - 1 : 0;
    const char *arg = r->wasi.args;
    if (types->size > LENGTH_OF(r->params) || types->size != given) {
        reject(r, "the function \"%s\" takes %zu parameters, %u were given", r->entry, types->size, given);
        return false;
    }
    for (size_t i = 0; i < types->size; i++) {
        arg += strlen(arg) + 1;
        wasm_valkind_t kind = kind_of(types->data[i]);
        if (!parse_value(arg, kind, &r->params[i])) {
            reject(r, "argument %zu, \"%.40s\", is not %s as \"%s\" wants it", i + 1, arg, kind_name(kind),
                   r->entry);
            return false;
        }
    }
    r->param_count = (uint32_t)types->size;
    return true;
}

static bool find_function(struct run *r, const char *name, bool with_params)
{
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(r->context, &r->instance, name, strlen(name), &item)) {
        reject(r, "the module exports no function \"%s\"", name);
        return false;
    }
    if (item.kind != WASMTIME_EXTERN_FUNC) {
        wasmtime_extern_delete(&item);
        reject(r, "the export \"%s\" is not a function", name);
        return false;
    }
    r->func = item.of.func;
    r->param_count = r->result_count = 0;
    wasm_functype_t *type = wasmtime_func_type(r->context, &r->func);
    const wasm_valtype_vec_t *params = wasm_functype_params(type), *results = wasm_functype_results(type);
    bool ok = true;
    if (!with_params && (params->size || results->size)) {
        reject(r, "the function \"%s\" has parameters or results; as an entry it may have none", name);
        ok = false;
    } else if (results->size > LENGTH_OF(r->results)) {
        reject(r, "the function \"%s\" has %zu results, at most %zu are allowed", name, results->size,
               LENGTH_OF(r->results));
        ok = false;
    } else {
        ok = !with_params || set_params(r, params);
        r->result_count = (uint32_t)results->size;
        for (size_t i = 0; ok && i < results->size; i++)
            if (kind_of(results->data[i]) == WASM_FUNCREF) { /* the engine as it is built can't hand it out */
                reject(r, "the function \"%s\" gives back a reference, which can't be shown", name);
                ok = false;
            }
    }
    wasm_functype_delete(type);
    return ok;
}

/* Results of a called function go to stdout, one a line, as numbers. */
static void print_results(struct run *r)
{
    for (uint32_t i = 0; i < r->result_count; i++) {
        char line[64];
        const wasmtime_val_t *v = &r->results[i];
        int len = 0;
        switch (v->kind) {
        case WASMTIME_I32: len = snprintf(line, sizeof line, "%d\n", v->of.i32); break;
        case WASMTIME_I64: len = snprintf(line, sizeof line, "%lld\n", (long long)v->of.i64); break;
        case WASMTIME_F32: len = snprintf(line, sizeof line, "%.9g\n", (double)v->of.f32); break;
        case WASMTIME_F64: len = snprintf(line, sizeof line, "%.17g\n", v->of.f64); break;
        default: len = snprintf(line, sizeof line, "(a value of another kind)\n"); break;
        }
        size_t written;
        r->output[0].max += (size_t)len; /* there is nobody to wait: a DONE has room for it */
        stream_write(r, 1, line, (size_t)len, &written);
        if (written < (size_t)len) {
            r->cause = CAUSE_OUTPUT_LIMIT;
            return;
        }
    }
}

/* Begins the next thing to wait for; false where the run is over. */
static bool advance(struct run *r)
{
    bool entry_is_start = strcmp(r->entry, "_start") == 0;
    switch (r->phase) {
    case RUN_PHASE_START:
        if (!make_store(r))
            return false;
        r->phase = RUN_PHASE_INSTANTIATE;
        r->future = wasmtime_instance_pre_instantiate_async(r->module->pre, r->context, &r->instance,
                                                            &r->trap, &r->error);
        return true;
    case RUN_PHASE_INSTANTIATE:
        if (r->module->has_initialize && !entry_is_start) {
            r->phase = RUN_PHASE_INITIALIZE;
            uint32_t args_count = r->wasi.args_count;
            r->wasi.args_count = 0;
            bool found = find_function(r, "_initialize", false);
            r->wasi.args_count = args_count;
            if (!found)
                return false;
            break;
        }
        __attribute__((fallthrough));
    case RUN_PHASE_INITIALIZE:
        r->phase = RUN_PHASE_CALL;
        if (!find_function(r, r->entry, !entry_is_start))
            return false;
        break;
    case RUN_PHASE_CALL: print_results(r); __attribute__((fallthrough));
    case RUN_PHASE_OVER: r->phase = RUN_PHASE_OVER; return false;
    }
    r->future = wasmtime_func_call_async(r->context, &r->func, r->params, r->param_count, r->results,
                                         r->result_count, &r->trap, &r->error);
    return true;
}

/* --- the end ---------------------------------------------------------------------------------- */
static void collect_frames(struct run *r)
{
    wasm_frame_vec_t frames = {0};
    if (r->trap)
        wasm_trap_trace(r->trap, &frames);
    else if (r->error)
        wasmtime_error_wasm_trace(r->error, &frames);
    uint32_t count = (uint32_t)MIN(frames.size, (size_t)MESSAGE_FRAMES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const wasm_name_t *name = wasmtime_frame_func_name(frames.data[i]);
        struct trap_frame *f = &r->frames[i];
        *f = (struct trap_frame){.function_index = wasm_frame_func_index(frames.data[i]),
                                 .offset = wasm_frame_module_offset(frames.data[i])};
        if (name) {
            f->name_bytes = (uint32_t)wasmwiz_demangle(name->data, name->size, f->name, MESSAGE_NAME_MAX);
            if (!f->name_bytes) {
                f->name_bytes = (uint32_t)MIN(name->size, (size_t)MESSAGE_NAME_MAX);
                memcpy(f->name, name->data, f->name_bytes);
            }
        }
    }
    r->report.frame_count = count;
    if (frames.size)
        wasm_frame_vec_delete(&frames);
}

static void put_text(struct run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void put_text(struct run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->report.text, sizeof r->report.text, fmt, ap);
    va_end(ap);
}

/* What the guest ended with, where neither a host function nor a tick decided it. */
static enum cause cause_of_trap(struct run *r, enum run_phase phase)
{
    wasmtime_trap_code_t code;
    if (r->trap && wasmtime_trap_code(r->trap, &code)) {
        r->report.trap_code = code;
        switch (code) {
        case WASMTIME_TRAP_CODE_STACK_OVERFLOW: return CAUSE_STACK_OVERFLOW;
        case WASMTIME_TRAP_CODE_OUT_OF_FUEL: return CAUSE_FUEL;
        case WASMTIME_TRAP_CODE_INTERRUPT: return CAUSE_DEADLINE;
        default: return CAUSE_TRAP;
        }
    }
    if (phase == RUN_PHASE_INSTANTIATE && r->error) {
        engine_error_text(TAKE(r->error), r->report.text, sizeof r->report.text);
        return CAUSE_REJECTED;
    }
    if (r->error)
        engine_error_text(TAKE(r->error), r->report.text, sizeof r->report.text);
    return CAUSE_TRAP;
}

static void conclude_cause(struct run *r, enum run_phase phase)
{
    collect_frames(r);
    if (r->exited) {
        r->report.frame_count = 0;
    } else if (r->memory_limits.refused) {
        /* Without a guest frame it was the declaration, not a growth. */
        r->cause = r->report.frame_count ? CAUSE_MEMORY_LIMIT : CAUSE_REJECTED;
        if (r->memory_limits.refused == WASMWIZ_REFUSED_TABLE)
            put_text(r, "a table grew past the limit of %llu elements",
                     (unsigned long long)r->memory_limits.table_max);
        else if (r->memory_limits.refused == WASMWIZ_REFUSED_POOL)
            put_text(r, "the memory that this server has for all guests together is used up");
        else
            put_text(r, "%s the limit of %llu bytes",
                     r->report.frame_count ? "memory would have grown past"
                                           : "the module declares more memory than",
                     (unsigned long long)r->memory_limits.memory_max);
    } else if (r->cause == CAUSE_OK) {
        r->cause = cause_of_trap(r, phase);
    }
    if (r->cause == CAUSE_TRAP && r->wasi.signal)
        put_text(r, "the guest raised signal %u", r->wasi.signal);
}

static enum run_progress end(struct run *r)
{
    enum run_phase phase = r->phase;
    r->phase = RUN_PHASE_OVER;
    if (r->future) /* as long as it is there, nobody else may use the store */
        wasmtime_call_future_delete(TAKE(r->future));
    if (r->trap || r->error)
        conclude_cause(r, phase);
    if (r->cause == CAUSE_OUTPUT_LIMIT)
        put_text(r, "the guest wrote more than %llu bytes to %s",
                 (unsigned long long)(r->over_limit ? r->limits.stderr_bytes : r->limits.stdout_bytes),
                 r->over_limit ? "stderr" : "stdout");
    struct run_report *report = &r->report;
    report->cause = r->cause;
    report->exit_code = r->wasi.exit_code;
    report->memory_peak_bytes = r->memory_limits.memory_peak;
    report->stdin_bytes = r->stdin_read;
    report->stdout_bytes = r->output_total[0];
    report->stderr_bytes = r->output_total[1];
    report->host_calls = r->wasi.calls;
    if (r->engine->config.fuel && r->limits.fuel && r->store) {
        uint64_t left = 0;
        wasmtime_error_t *error = wasmtime_context_get_fuel(r->context, &left);
        WW_ASSERT(!error);
        report->fuel = r->limits.fuel - MIN(left, r->limits.fuel);
    }
    drop_store(r);
    return RUN_ENDED;
}

static enum run_progress poll_once(struct run *r)
{
    for (;;) {
        if (!r->future && !advance(r))
            return end(r);
        if (!wasmtime_call_future_poll(r->future)) {
            return r->waiting.outcome == WASI_RETURN ? RUN_YIELDED : RUN_WAITS;
        }
        wasmtime_call_future_delete(TAKE(r->future));
        if (r->trap || r->error)
            return end(r);
    }
}

enum run_progress run_poll(struct run *r)
{
    uint64_t before = clock_now_ns();
    if ((r->expired || r->cancelled) && r->phase != RUN_PHASE_OVER) {
        /* A guest that is in its code meets the tick at its next loop or call, and its trace with it. */
        if (!r->store) {
            r->cause = r->cancelled ? CAUSE_CANCELLED : CAUSE_DEADLINE;
            r->report.run_ns = r->started_ns ? before - r->started_ns : 0;
            return end(r);
        }
        wasmtime_engine_increment_epoch(r->engine->engine);
    }
    enum run_progress progress = poll_once(r);
    if (progress != RUN_ENDED && (r->expired || r->cancelled)) {
        /* It did not meet the tick: the call is dropped where it stands. */
        r->cause = r->cancelled ? CAUSE_CANCELLED : CAUSE_DEADLINE;
        progress = end(r);
    }
    uint64_t now = clock_now_ns();
    r->cpu_ns += now - before;
    r->report.cpu_ns = r->cpu_ns;
    r->report.run_ns = r->started_ns ? now - r->started_ns : 0;
    return progress;
}
