#include "sandbox/hostfunc.h"

#include "sandbox/run.h"

static const struct {
    const char *signature;
    bool may_wait;
} functions[WASI_FN_COUNT] = {
#define WASI(name, signature, may_wait) {signature, may_wait},
#include "sandbox/wasi.def"
#undef WASI
};

static struct run *run_of(wasmtime_caller_t *caller)
{
    return wasmtime_context_get_data(wasmtime_caller_context(caller));
}

/* Ends the guest for a reason that the run remembers; the text is for our own eyes. */
static wasm_trap_t *stop(struct run *r, enum cause cause, const char *text)
{
    r->cause = cause;
    return wasmtime_trap_new(text, strlen(text));
}

/* What a WASI outcome means for the guest: NULL and *ret_errno, or a trap that ends it. Not for WAIT. */
static wasm_trap_t *conclude(struct run *r, enum wasi_outcome outcome)
{
    switch (outcome) {
    case WASI_RETURN: return NULL;
    case WASI_EXIT: r->exited = true; return stop(r, r->wasi.exit_code ? CAUSE_EXIT : CAUSE_OK, "exit");
    case WASI_RAISE: return stop(r, CAUSE_TRAP, "raised a signal");
    case WASI_OUTPUT_LIMIT: return stop(r, CAUSE_OUTPUT_LIMIT, "output limit reached");
    case WASI_WAIT_STDIN:
    case WASI_WAIT_OUTPUT: break;
    }
    WW_UNREACHABLE("a function that never waits returns");
}

static wasm_trap_t *call_at_once(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *vals, size_t count)
{
    enum wasi_function fn = (enum wasi_function)(uintptr_t)env;
    struct run *r = run_of(caller);
    uint64_t args[WASI_ARGS_MAX] = {0};
    const char *signature = functions[fn].signature;
    (void)count;
    for (size_t i = 0; i < WASI_ARGS_MAX && signature[i] != '>'; i++)
        args[i] = signature[i] == 'I' ? (uint64_t)vals[i].i64 : (uint32_t)vals[i].i32;
    uint32_t code = 0;
    wasm_trap_t *trap = conclude(r, wasi_call(&r->wasi, fn, run_memory(r, caller), args, &code));
    if (!trap)
        vals[0].i32 = (int32_t)code;
    return trap;
}

static bool is_ready(void *env)
{
    (void)env;
    return true;
}

/* Tries the waiting call (again); true once it has come to an end. */
static bool try_waiting_call(void *env)
{
    struct run *r = env;
    struct run_waiting_call *w = &r->waiting;
    if (r->expired || r->cancelled) {
        *w->trap = stop(r, r->cancelled ? CAUSE_CANCELLED : CAUSE_DEADLINE, "stopped while waiting");
        w->outcome = WASI_RETURN;
        return true;
    }
    uint32_t code = 0;
    w->outcome = wasi_call(&r->wasi, w->fn, run_memory(r, NULL), w->args, &code);
    if (w->outcome == WASI_WAIT_STDIN || w->outcome == WASI_WAIT_OUTPUT)
        return false;
    *w->trap = conclude(r, w->outcome);
    w->result->of.i32 = (int32_t)code;
    w->outcome = WASI_RETURN;
    return true;
}

static void call_that_may_wait(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args,
                               size_t arg_count, wasmtime_val_t *results, size_t result_count,
                               wasm_trap_t **ret_trap, wasmtime_async_continuation_t *continuation)
{
    struct run *r = run_of(caller);
    struct run_waiting_call *w = &r->waiting;
    *w = (struct run_waiting_call){
        .fn = (enum wasi_function)(uintptr_t)env, .result = &results[0], .trap = ret_trap};
    WW_ASSERT(arg_count <= WASI_ARGS_MAX && result_count == 1);
    for (size_t i = 0; i < arg_count; i++)
        w->args[i] = args[i].kind == WASMTIME_I64 ? (uint64_t)args[i].of.i64 : (uint32_t)args[i].of.i32;
    results[0].kind = WASMTIME_I32;
    run_memory(r, caller);
    *continuation = (wasmtime_async_continuation_t){.callback = is_ready};
    if (!try_waiting_call(r))
        *continuation = (wasmtime_async_continuation_t){.callback = try_waiting_call, .env = r};
}

static wasm_functype_t *type_of(const char *signature)
{
    wasm_valtype_t *params[WASI_ARGS_MAX], *results[1];
    size_t param_count = 0, result_count = 0;
    const char *p = signature;
    for (; *p != '>'; p++)
        params[param_count++] = wasm_valtype_new(*p == 'I' ? WASM_I64 : WASM_I32);
    for (p++; *p; p++)
        results[result_count++] = wasm_valtype_new(*p == 'I' ? WASM_I64 : WASM_I32);
    wasm_valtype_vec_t param_vec, result_vec;
    wasm_valtype_vec_new(&param_vec, param_count, params);
    wasm_valtype_vec_new(&result_vec, result_count, results);
    return wasm_functype_new(&param_vec, &result_vec);
}

enum err hostfunc_define_all(wasmtime_linker_t *linker, struct err_info *reterr)
{
    static const char module[] = "wasi_snapshot_preview1";
    for (uintptr_t fn = 0; fn < WASI_FN_COUNT; fn++) {
        const char *name = wasi_function_name((enum wasi_function)fn);
        wasm_functype_t *type = type_of(functions[fn].signature);
        wasmtime_error_t *error =
            functions[fn].may_wait
                ? wasmtime_linker_define_async_func(linker, module, sizeof module - 1, name, strlen(name),
                                                    type, call_that_may_wait, (void *)fn, NULL)
                : wasmtime_linker_define_func_unchecked(linker, module, sizeof module - 1, name, strlen(name),
                                                        type, call_at_once, (void *)fn, NULL);
        wasm_functype_delete(type);
        if (error) {
            wasmtime_error_delete(error);
            return err_set(reterr, ERR_INTERNAL, "the host function %s could not be defined", name);
        }
    }
    return OK;
}
