/* The spine: the way of one invocation, whoever it comes from. A table of steps and one loop:
 *
 *     authenticate -> receive -> admit -> resolve -> run -> record -> reply -> meter
 *
 * A step finishes, waits (and somebody calls invocation_resume()), or fails, which leads straight to `record`. `record`,
 * `reply` and `meter` always run: an invocation can't be released unmetered. Where it came from (HTTP, the command line, a
 * job, an edge route) is an `invoke_origin`: it fills in what is asked for and takes the answer.
 *
 * All of an invocation happens on the thread of its loop. */
#ifndef WW_INVOKE_INVOCATION_H
#define WW_INVOKE_INVOCATION_H

#include "auth/auth.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/loop.h"
#include "executor/executor.h"
#include "limit/limit.h"
#include "meter/metrics.h"
#include "meter/receipt.h"
#include "meter/usage.h"
#include "module/module.h"
#include "trace/export.h"
#include "webhook/webhook.h"

/* step, the folder that does the work */
#define INVOKE_STEPS(STEP)   \
    STEP(authenticate, auth) \
    STEP(receive, origin)    \
    STEP(admit, limit)       \
    STEP(resolve, module)    \
    STEP(run, executor)      \
    STEP(record, meter)      \
    STEP(reply, origin)      \
    STEP(meter, meter)

enum invoke_step {
#define STEP(name, folder) INVOKE_STEP_##name,
    INVOKE_STEPS(STEP)
#undef STEP
        INVOKE_STEP_COUNT
};

enum step_result { STEP_DONE, STEP_WAIT, STEP_FAIL };

struct invocation;

struct invoke_origin {
    /* Everything asked for has come (STEP_DONE), or will: the origin calls invocation_resume() then. */
    enum step_result (*receive)(struct invocation *inv);
    /* Bytes of the guest's output; NULL: they are collected in inv->output. */
    void (*output)(struct invocation *inv, int fd, struct str bytes);
    /* The run is with the executor: exec_run_stdin(inv->exec) may be called; may be NULL. */
    void (*started)(struct invocation *inv);
    /* The guest takes more stdin; NULL where inv->input is all. */
    void (*stdin_room)(struct invocation *inv, size_t bytes);
    /* Takes the outcome: inv->failure.code is set and nothing ran, or inv->receipt is filled; inv->limit.state says how
     * the key stands, zeroes where there is none or no limit. Not called for an invocation whose client is gone. Must
     * not keep the invocation. */
    void (*reply)(struct invocation *inv);
    /* The invocation is about to be freed. */
    void (*released)(struct invocation *inv);
};

/* What an invocation uses of its loop and the program; one a loop. */
struct invoke_context {
    struct loop *loop;
    struct exec_loop *exec;
    struct modules *modules;
    struct auth *auth;
    struct limit *limit;       /* NULL: none is kept */
    struct webhooks *webhooks; /* NULL: nobody is told */
    struct metrics *metrics;
    struct tracer *tracer;    /* NULL: nothing is traced */
    struct usage_loop *usage; /* NULL: no rows are kept */
    /* The server's ceilings, which are the defaults, too. */
    uint64_t timeout_ns, memory_bytes, stdout_bytes, stderr_bytes;
    uint32_t live;                             /* invocations, and calls of the API, now */
    void (*on_idle)(struct invoke_context *c); /* the last one has gone; may be NULL */
};

struct invocation {
    struct invoke_context *context;
    const struct invoke_origin *origin;
    void *origin_data;
    struct arena arena;
    enum invoke_step step;
    bool in_loop, resumed, failed_outside;
    bool gone; /* the client left: whatever still runs is cancelled */
    uint64_t started_ns;
    char id[33];
    struct trace_context trace;
    struct invocation_spans *spans; /* NULL: this trace is not wanted */
    struct err_info failure;        /* code OK: none */

    /* authenticate */
    struct str token; /* the credential as sent, in the arena */
    struct auth_principal *who;
    uv_work_t auth_work;
    enum err auth_err;

    /* receive: what is asked for */
    char *wasm; /* malloc'ed */
    size_t wasm_len;
    unsigned char sha[MODULE_SHA_BYTES];
    struct exec_spec spec; /* its code is filled by resolve */
    struct buf input;

    /* admit */
    bool usage_reserved;
    bool limit_asked;
    bool limit_looked; /* nothing was taken: it failed before that */
    struct limit_wait limit;

    /* resolve */
    struct module_wait module_wait;
    struct module *module;
    enum module_source module_source;
    bool resolved;

    /* run */
    struct exec_run *exec;
    bool holds_output;    /* the origin says what was taken in: exec_run_credit_output() */
    struct buf output[2]; /* stdout, stderr */
    bool ran;
    struct receipt receipt;
    struct run_report report;
    struct receipt_frame frames[MESSAGE_FRAMES_MAX];
};

enum { INVOCATION_ARENA_BYTES = 256 * 1024 };

/* A new invocation with the context's ceilings as its limits; `id` 32 hexadecimal digits. Nothing happens before
 * invocation_enter(). */
struct invocation *invocation_new(struct invoke_context *context, const struct invoke_origin *origin,
                                  void *origin_data, const char *id);
/* Before it enters: the trace that it belongs to, where that is not one of its own. */
void invocation_trace(struct invocation *inv, const struct trace_context *context);
/* Goes on at `step`; may end, and free, the invocation before it returns. */
void invocation_enter(struct invocation *inv, enum invoke_step step);
/* What the invocation waits for has come. */
void invocation_resume(struct invocation *inv);
/* Fails it from outside, once it receives, e.g. for a broken body: what runs is cancelled; then it replies, meters and
 * frees itself, perhaps before this returns. */
void invocation_fail(struct invocation *inv, const struct err_info *why);
/* The client is gone: cancels what runs. The invocation ends by itself, without a reply. */
void invocation_abandon(struct invocation *inv);

/* The step and the folder that does its work, for the log. */
const char *invoke_step_name(enum invoke_step step);

#endif
