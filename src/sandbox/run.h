/* One run of a guest: its own store, from the first instruction to the report. Lives in a sandbox loop's
 * table; at most one poll of it is under way at a time.
 *
 *     run_new() -> run_poll() ... run_poll() == RUN_ENDED -> run_free()
 *
 * A poll lets the guest go on until it ends, has used up its slice (the next epoch tick), or must wait for
 * stdin or for room in its output window. */
#ifndef WW_SANDBOX_RUN_H
#define WW_SANDBOX_RUN_H

#include "base/buf.h"
#include "base/list.h"
#include "sandbox/engine.h"
#include "sandbox/message.h"
#include "sandbox/wasi.h"

/* A module ready to be run: compiled code and resolved imports. */
struct guest_module {
    uint64_t id;
    wasmtime_module_t *module;
    wasmtime_instance_pre_t *pre; /* NULL: `rejected` says why it can't be linked */
    uint32_t memories;
    uint32_t tables;
    bool has_initialize, has_start;
    uint32_t runs; /* that use it now */
    uint64_t last_used;
    char rejected[MESSAGE_TEXT_MAX];
};

/* Maps the compiled code in `fd` (taken over) and links it. NULL: the code does not fit this engine, *ret_text says
 * why. A module that maps but can't be linked is returned, with `rejected` set. */
struct guest_module *guest_module_open(struct engine *e, uint64_t id, int fd,
                                       char ret_text[MESSAGE_TEXT_MAX]);
void guest_module_free(struct guest_module *m); /* takes NULL */

enum run_progress { RUN_YIELDED, RUN_WAITS, RUN_ENDED };
enum run_phase {
    RUN_PHASE_START,
    RUN_PHASE_INSTANTIATE,
    RUN_PHASE_INITIALIZE,
    RUN_PHASE_CALL,
    RUN_PHASE_OVER
};

enum { RUN_STDOUT_CHUNK = 32 * 1024, RUN_STDERR_CHUNK = 8 * 1024 };

/* A WASI call that waits for a stream; the pointers belong to Wasmtime's frame of that call. */
struct run_waiting_call {
    enum wasi_function fn;
    uint64_t args[WASI_ARGS_MAX];
    wasmtime_val_t *result;
    wasm_trap_t **trap;
    enum wasi_outcome outcome;
};

struct run {
    struct list link; /* the loop's */
    uint64_t id;
    uint32_t channel;
    uint32_t deadline_index; /* in the loop's deadlines */
    struct guest_module *module;
    struct engine *engine;
    struct run_limits limits;
    enum run_phase phase;
    bool started;
    bool expired;   /* past its deadline: the next poll ends it */
    bool cancelled; /* nobody waits for it any more: likewise */
    bool exited;    /* by proc_exit */

    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_call_future_t *future;
    wasmtime_instance_t instance;
    wasmtime_func_t func;
    wasm_trap_t *trap;
    wasmtime_error_t *error;
    wasmtime_val_t params[16];
    wasmtime_val_t results[16];
    uint32_t param_count;
    uint32_t result_count;
    struct wasmwiz_limits memory_limits;
    bool memory_known;
    wasmtime_memory_t memory;

    struct wasi wasi;
    struct run_waiting_call waiting;
    enum cause cause; /* CAUSE_OK until something decides otherwise */

    char *strings; /* entry, args, env: NUL-terminated */
    const char *entry;
    struct buf stdin_bytes;
    size_t stdin_at;
    bool stdin_eof;
    uint64_t stdin_read;
    uint64_t stdin_uncredited; /* read by the guest and not yet told to the front */

    struct buf output[2]; /* stdout, stderr: written and not yet sent */
    uint64_t output_total[2];
    size_t over_limit;          /* which of them passed its limit, where one did */
    uint64_t output_uncredited; /* sent and not yet taken in by the front */

    uint64_t started_ns; /* when it got its slot: its time runs from then; 0 = it did not */
    uint64_t cpu_ns;
    struct run_report report;
    struct trap_frame frames[MESSAGE_FRAMES_MAX];
};

/* Makes a run out of a checked RUN message. Keeps a use of `module` until run_free(). `pool_now` counts the guests'
 * memory of this sandbox, at most `pool_max`. Never NULL; what is wrong with the request shows at the first poll. */
struct run *run_new(struct engine *e, struct guest_module *module, const struct message_run *m,
                    struct str data, uint64_t *pool_now, uint64_t pool_max);
void run_free(struct run *r); /* takes NULL; drops a run that has not ended, too */

/* See above. After RUN_ENDED r->report, r->frames and the rest of r->output are final and the store is gone. */
enum run_progress run_poll(struct run *r);

/* More stdin. */
void run_stdin(struct run *r, struct str bytes, bool eof);
/* Whether what a run in RUN_WAITS waits for has come. */
bool run_can_go_on(const struct run *r);
/* Bytes that may still be sent to the front before it gives credit. */
size_t run_output_window(const struct run *r);

/* For the host functions: the guest's memory now, {NULL, 0} where it exports none named "memory". */
struct guest_memory run_memory(struct run *r, wasmtime_caller_t *caller);

#endif
