/* The receipt: why a run ended and what it cost, in plain values. The same on the API, in the CLI, in job logs. */
#ifndef WW_METER_RECEIPT_H
#define WW_METER_RECEIPT_H

#include "base/buf.h"
#include "base/cause.h"

struct receipt_frame {
    uint32_t function_index;
    struct str function; /* from the module's name section; empty where it has none */
    uint64_t offset; /* of the instruction, in bytes from the start of the module; UINT64_MAX: not known */
};

struct receipt {
    char run_id[33];
    enum cause cause;
    const char *detail; /* a sentence about this run, or "" */
    uint32_t exit_code;
    uint64_t duration_ns; /* from when its time began to run, to the end */
    uint64_t cpu_ns;
    uint64_t queue_ns;
    const char *compile_source; /* "memory", "disk", "compiled", "none" */
    uint64_t compile_ns;
    uint64_t memory_peak_bytes;
    uint64_t fuel;
    uint64_t stdin_bytes, stdout_bytes, stderr_bytes;
    uint64_t host_calls;
    int trap_code; /* Wasmtime's number, -1 = none */
    const struct receipt_frame *frames;
    uint32_t frame_count;
    struct {
        uint64_t timeout_ns, memory_bytes, stdout_bytes, stderr_bytes, fuel;
    } limits;
};

/* Appends the receipt as one JSON object in one line. */
void receipt_put_json(struct buf *out, const struct receipt *r);
/* Appends it in a few lines for a terminal. */
void receipt_put_text(struct buf *out, const struct receipt *r);
/* What went wrong in one sentence, for "error"; "" where nothing did. Appends. */
void receipt_put_error(struct buf *out, const struct receipt *r);
/* What the caller can do about it, "" where there is nothing to say. Never NULL. */
const char *receipt_hint(const struct receipt *r);
/* The trap's name, e.g. "integer_divide_by_zero"; "trap" for numbers not known. */
const char *receipt_trap_name(int trap_code);

#endif
