#include "invoke/spans.h"

#include "base/clock.h"

/* In the invocation's arena. */
struct invocation_spans {
    uint64_t began_ns[INVOKE_STEP_COUNT]; /* 0: it never did */
};

/* The place of a span below the request's; part of its id. */
enum { CHILD_STEPS = 1, CHILD_QUEUE = CHILD_STEPS + INVOKE_STEP_COUNT, CHILD_COMPILE };

static const char *const names[] = {
#define STEP(name, folder) #name,
    INVOKE_STEPS(STEP)
#undef STEP
};

void invocation_trace(struct invocation *inv, const struct trace_context *context)
{
    inv->trace = *context;
    if (tracer_wants(inv->context->tracer, context))
        inv->spans = arena_alloc(&inv->arena, sizeof *inv->spans);
}

void invocation_spans_step(struct invocation *inv)
{
    if (inv->spans && inv->step < INVOKE_STEP_COUNT && !inv->spans->began_ns[inv->step])
        inv->spans->began_ns[inv->step] = clock_now_ns();
}

static void put(struct invocation *inv, unsigned child, const char *name, uint64_t start_ns, uint64_t end_ns,
                const char *failure, const struct trace_attribute *attributes, size_t count)
{
    tracer_put(inv->context->tracer, &(struct trace_span){.context = &inv->trace,
                                                          .child = child,
                                                          .name = name,
                                                          .kind = TRACE_INTERNAL,
                                                          .start_ns = start_ns,
                                                          .end_ns = MAX(start_ns, end_ns),
                                                          .failure = failure,
                                                          .attributes = attributes,
                                                          .attribute_count = count});
}

static void put_authenticate(struct invocation *inv, uint64_t start_ns, uint64_t end_ns)
{
    const struct trace_attribute key[] = {{"wasmwiz.key.id", str_of(inv->who ? inv->who->id : ""), 0}};
    put(inv, CHILD_STEPS + INVOKE_STEP_authenticate, names[INVOKE_STEP_authenticate], start_ns, end_ns,
        inv->who ? NULL : "no good credential", key, LENGTH_OF(key));
}

static void put_resolve(struct invocation *inv, uint64_t start_ns, uint64_t end_ns)
{
    char sha[2 * MODULE_SHA_BYTES + 1];
    hex_encode(inv->sha, MODULE_SHA_BYTES, sha);
    const struct trace_attribute attributes[] = {
        {"wasmwiz.module.sha256", str_of(sha), 0},
        {"wasmwiz.module.bytes", STR_NULL, inv->wasm_len},
        {"wasmwiz.module.source", str_of(inv->module ? module_source_name(inv->module_source) : ""), 0}};
    put(inv, CHILD_STEPS + INVOKE_STEP_resolve, names[INVOKE_STEP_resolve], start_ns, end_ns,
        inv->module ? NULL : err_text(&inv->failure), attributes, LENGTH_OF(attributes));
    if (inv->module && inv->module_source == MODULE_COMPILED)
        put(inv, CHILD_COMPILE, "compile", MAX(start_ns, end_ns - MIN(end_ns, inv->module->compile_ns)),
            end_ns, NULL, NULL, 0);
}

/* The wait for a place in a sandbox, and what came after it: on the way, in the guest, and back. */
static void put_run(struct invocation *inv, uint64_t start_ns, uint64_t end_ns)
{
    const struct run_report *r = &inv->report;
    uint64_t placed_ns = MIN(end_ns, start_ns + inv->receipt.queue_ns);
    if (!inv->ran) {
        put(inv, CHILD_STEPS + INVOKE_STEP_run, names[INVOKE_STEP_run], start_ns, end_ns,
            err_text(&inv->failure), NULL, 0);
        return;
    }
    const char *cause = cause_name((enum cause)r->cause);
    const struct trace_attribute attributes[] = {
        {"wasmwiz.cause", str_of(cause), 0},
        {"wasmwiz.memory_peak_bytes", STR_NULL, r->memory_peak_bytes},
        {"wasmwiz.run_ns", STR_NULL, r->run_ns},
        {"wasmwiz.cpu_ns", STR_NULL, r->cpu_ns},
        {"wasmwiz.stdout_bytes", STR_NULL, r->stdout_bytes},
        {"wasmwiz.host_calls", STR_NULL, r->host_calls}};
    put(inv, CHILD_QUEUE, "queue", start_ns, placed_ns, NULL, NULL, 0);
    put(inv, CHILD_STEPS + INVOKE_STEP_run, names[INVOKE_STEP_run], placed_ns, end_ns,
        r->cause == CAUSE_OK ? NULL : cause, attributes, LENGTH_OF(attributes));
}

void invocation_spans_put(struct invocation *inv)
{
    if (!inv->spans)
        return;
    const uint64_t *began = inv->spans->began_ns;
    for (unsigned step = 0; step < INVOKE_STEP_meter; step++) {
        uint64_t end_ns = 0;
        for (unsigned next = step + 1; next < INVOKE_STEP_COUNT && !end_ns; next++)
            end_ns = began[next];
        if (!began[step] || !end_ns)
            continue;
        switch (step) {
        case INVOKE_STEP_authenticate: put_authenticate(inv, began[step], end_ns); break;
        case INVOKE_STEP_resolve: put_resolve(inv, began[step], end_ns); break;
        case INVOKE_STEP_run: put_run(inv, began[step], end_ns); break;
        default: put(inv, CHILD_STEPS + step, names[step], began[step], end_ns, NULL, NULL, 0);
        }
    }
}
