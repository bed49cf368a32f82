#include "meter/receipt.h"

#include "base/json.h"

/* Wasmtime's trap codes (wasmtime/trap.h), with a word about what usually is behind each. */
static const struct {
    const char *name;
    const char *sentence;
    const char *hint;
} traps[] = {
    [0] = {"stack_overflow", "call stack exhausted", ""},
    [1] = {"memory_out_of_bounds", "it read or wrote outside its memory",
           "a bad pointer or index in the guest: build it with bounds checks or a sanitizer to find where it "
           "comes from"},
    [2] = {"heap_misaligned", "an atomic access was not aligned", ""},
    [3] = {"table_out_of_bounds", "it used a table index that does not exist",
           "often a call through a bad function pointer"},
    [4] = {"indirect_call_to_null", "it called through an empty function pointer",
           "a function pointer was never set: check that all modules and callbacks are linked in"},
    [5] = {"bad_signature", "it called a function pointer of another type",
           "a function is declared with one signature and defined with another"},
    [6] = {"integer_overflow", "an integer overflowed, in a division or in a conversion from a float", ""},
    [7] = {"integer_divide_by_zero", "it divided by zero",
           "check the divisor; the first frame is where it happened"},
    [8] = {"bad_conversion_to_integer", "a float did not fit the integer it was converted to", ""},
    [9] = {"unreachable", "it reached an unreachable instruction",
           "usually a panic, an abort() or a failed assertion: the guest's stderr says which"},
    [10] = {"interrupt", "it was interrupted", ""},
    [11] = {"out_of_fuel", "it ran out of fuel", ""},
};

const char *receipt_trap_name(int trap_code)
{
    return trap_code >= 0 && (size_t)trap_code < LENGTH_OF(traps) ? traps[trap_code].name : "trap";
}

static bool trap_is_known(const struct receipt *r)
{
    return r->cause == CAUSE_TRAP && r->trap_code >= 0 && (size_t)r->trap_code < LENGTH_OF(traps);
}

const char *receipt_hint(const struct receipt *r)
{
    switch (r->cause) {
    case CAUSE_TRAP: return trap_is_known(r) ? traps[r->trap_code].hint : "";
    case CAUSE_DEADLINE:
        return r->cpu_ns > 0 && r->cpu_ns >= r->duration_ns / 2
                   ? "it was computing all the time: the frames show where it was at the end"
                   : "it was waiting most of the time, for input or for its turn on a busy server";
    case CAUSE_MEMORY_LIMIT: return "ask for a larger memory limit, or let the guest work in smaller pieces";
    case CAUSE_OUTPUT_LIMIT: return "ask for a larger output limit, or let the guest print less";
    case CAUSE_STACK_OVERFLOW:
        return "most likely an endless recursion: the frames repeat the functions in it";
    case CAUSE_FUEL: return "ask for more fuel; the receipt says how much was used";
    case CAUSE_EXIT: return r->stderr_bytes ? "the guest's stderr may say why" : "";
    case CAUSE_SANDBOX_CRASHED: return "this is not the guest's fault as far as we know: try again";
    default: return "";
    }
}

void receipt_put_error(struct buf *out, const struct receipt *r)
{
    if (r->cause == CAUSE_OK)
        return;
    switch (r->cause) {
    case CAUSE_EXIT: buf_printf(out, "the guest exited with status %u", r->exit_code); break;
    case CAUSE_DEADLINE:
        buf_printf(out, "the guest ran past its time limit of %llu ms",
                   (unsigned long long)(r->limits.timeout_ns / NS_PER_MS));
        break;
    case CAUSE_FUEL:
        buf_printf(out, "the guest used up its fuel of %llu", (unsigned long long)r->limits.fuel);
        break;
    case CAUSE_TRAP:
        if (trap_is_known(r))
            buf_printf(out, "the guest was stopped: %s", traps[r->trap_code].sentence);
        else
            buf_puts(out, cause_sentence(r->cause));
        break;
    default: buf_puts(out, cause_sentence(r->cause)); break;
    }
    if (r->detail[0])
        buf_printf(out, ": %s", r->detail);
}

static void put_u64(struct buf *out, const char *key, uint64_t value)
{
    buf_putc(out, ',');
    json_put_key(out, key);
    buf_put_u64(out, value);
}

static void put_string(struct buf *out, const char *key, const char *value)
{
    buf_putc(out, ',');
    json_put_key(out, key);
    json_put_string(out, str_of(value));
}

static void put_trap(struct buf *out, const struct receipt *r)
{
    buf_puts(out, ",\"trap\":");
    if (r->trap_code < 0 && r->frame_count == 0) {
        buf_puts(out, "null");
        return;
    }
    buf_puts(out, "{\"code\":");
    json_put_string(out, str_of(r->trap_code >= 0 ? receipt_trap_name(r->trap_code) : cause_name(r->cause)));
    buf_puts(out, ",\"frames\":[");
    for (uint32_t i = 0; i < r->frame_count; i++) {
        const struct receipt_frame *f = &r->frames[i];
        buf_puts(out, i ? ",{\"function\":" : "{\"function\":");
        if (f->function.len)
            json_put_string(out, f->function);
        else
            buf_puts(out, "null");
        put_u64(out, "index", f->function_index);
        if (f->offset == UINT64_MAX)
            buf_puts(out, ",\"offset\":null");
        else
            put_u64(out, "offset", f->offset);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}

void receipt_put_json(struct buf *out, const struct receipt *r)
{
    buf_puts(out, "{\"run_id\":\"");
    buf_puts(out, r->run_id);
    buf_puts(out, r->cause == CAUSE_OK ? "\",\"status\":\"ok\"" : "\",\"status\":\"failed\"");
    put_string(out, "cause", cause_name(r->cause));
    put_string(out, "hint", receipt_hint(r));
    put_u64(out, "exit_code", r->exit_code);
    put_u64(out, "duration_us", r->duration_ns / NS_PER_US);
    put_u64(out, "cpu_us", r->cpu_ns / NS_PER_US);
    put_u64(out, "queue_us", r->queue_ns / NS_PER_US);
    put_string(out, "compile", r->compile_source);
    put_u64(out, "compile_us", r->compile_ns / NS_PER_US);
    put_u64(out, "memory_peak_bytes", r->memory_peak_bytes);
    put_u64(out, "fuel", r->fuel);
    put_u64(out, "stdin_bytes", r->stdin_bytes);
    put_u64(out, "stdout_bytes", r->stdout_bytes);
    put_u64(out, "stderr_bytes", r->stderr_bytes);
    put_u64(out, "host_calls", r->host_calls);
    buf_puts(out, ",\"limits\":{\"timeout_ms\":");
    buf_put_u64(out, r->limits.timeout_ns / NS_PER_MS);
    put_u64(out, "memory_bytes", r->limits.memory_bytes);
    put_u64(out, "stdout_bytes", r->limits.stdout_bytes);
    put_u64(out, "stderr_bytes", r->limits.stderr_bytes);
    put_u64(out, "fuel", r->limits.fuel);
    buf_putc(out, '}');
    put_trap(out, r);
    buf_putc(out, '}');
}

/* What a terminal may obey is shown as '?': function names come from the guest. That is control characters, those from
 * U+0080 to U+009F among them, and what is no UTF-8. */
static void put_visible(struct buf *out, struct str s)
{
    while (s.len) {
        size_t len = utf8_sequence_length(s);
        unsigned char first = (unsigned char)s.p[0];
        bool control =
            first < 0x20 || first == 0x7f || (first == 0xc2 && len == 2 && (unsigned char)s.p[1] < 0xa0);
        if (len && !control)
            buf_append(out, s.p, len);
        else
            buf_putc(out, '?');
        len = MAX(len, (size_t)1);
        s = str_make(s.p + len, s.len - len);
    }
}

void receipt_put_text(struct buf *out, const struct receipt *r)
{
    buf_printf(out, "wasmwiz: %s", cause_name(r->cause));
    if (r->cause != CAUSE_OK) {
        struct buf sentence = buf_make(1024);
        receipt_put_error(&sentence, r);
        buf_puts(out, " - ");
        put_visible(out, buf_str(&sentence));
        buf_done(&sentence);
    }
    const char *hint = receipt_hint(r);
    if (hint[0])
        buf_printf(out, "\n  hint: %s", hint);
    for (uint32_t i = 0; i < r->frame_count; i++) {
        buf_printf(out, "\n  at %s", r->frames[i].function.len ? "" : "function ");
        if (r->frames[i].function.len)
            put_visible(out, r->frames[i].function);
        else
            buf_put_u64(out, r->frames[i].function_index);
        if (r->frames[i].offset != UINT64_MAX)
            buf_printf(out, " (offset 0x%llx)", (unsigned long long)r->frames[i].offset);
    }
    buf_printf(out,
               "\n  time %.3f ms of %llu ms, cpu %.3f ms, memory %.1f MiB of %.1f MiB, stdout %llu, stderr "
               "%llu bytes",
               (double)r->duration_ns / 1e6, (unsigned long long)(r->limits.timeout_ns / NS_PER_MS),
               (double)r->cpu_ns / 1e6, (double)r->memory_peak_bytes / (double)MIB,
               (double)r->limits.memory_bytes / (double)MIB, (unsigned long long)r->stdout_bytes,
               (unsigned long long)r->stderr_bytes);
    if (r->limits.fuel)
        buf_printf(out, ", fuel %llu of %llu", (unsigned long long)r->fuel,
                   (unsigned long long)r->limits.fuel);
    buf_printf(out, ", code from %s", r->compile_source);
    if (r->compile_ns)
        buf_printf(out, " in %.1f ms", (double)r->compile_ns / 1e6);
    buf_putc(out, '\n');
}
