/* The front's side of the sandboxes: places runs on them, speaks over the rings, starts and replaces the
 * processes. Everything that comes back is hostile input and is checked.
 *
 * One `struct executor` a process; each of the front's loops has its `struct exec_loop` and calls it from its own
 * thread only. A run begins with exec_start() and ends with exactly one done() - whatever dies in between. */
#ifndef WW_EXECUTOR_EXECUTOR_H
#define WW_EXECUTOR_EXECUTOR_H

#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"
#include "sandbox/loop.h"
#include "sandbox/message.h"

enum exec_isolation { EXEC_PROCESS, EXEC_INLINE };

struct exec_config {
    enum exec_isolation isolation;
    uint32_t sandboxes;      /* processes of each kind (with fuel, without) */
    uint32_t concurrent_max; /* runs in sandboxes at once, all loops together */
    uint32_t queue_max;      /* runs that wait for a place, all loops together */
    uint64_t queue_timeout_ns;
    struct sandbox_loop_config sandbox; /* fuel is set by the kind */
};

struct executor;
struct exec_loop;

/* Compiled code to run: immutable, known by its id. `fd` stays the caller's, open as long as runs use it. */
struct exec_code {
    uint64_t id;
    int fd;
    uint32_t memories;
    uint32_t tables;
    bool fuel;
};

struct exec_spec {
    struct exec_code code;
    struct str entry; /* empty = _start */
    struct str args;  /* NUL-terminated strings in a row */
    struct str env;
    uint32_t args_count;
    uint32_t env_count;
    uint64_t seed;
    struct run_limits limits; /* deadline_ns 0 */
    struct str input;         /* lent until done() */
    bool input_complete;      /* no exec_run_stdin() will follow */
};

struct exec_outcome {
    const struct run_report *report;
    const struct trap_frame *frames; /* report->frame_count of them */
    uint64_t queue_ns;               /* waited for a place */
    bool started;                    /* false: no sandbox ever saw it */
};

struct exec_ops {
    /* Bytes of stdout (fd 1) or stderr (2); lent. */
    void (*output)(void *ctx, int fd, struct str bytes);
    /* The guest has room for that many more bytes of stdin; NULL where input_complete. */
    void (*stdin_room)(void *ctx, size_t bytes);
    /* The end. The run is gone after it. */
    void (*done)(void *ctx, const struct exec_outcome *outcome);
};

struct exec_run;

/* Starts the sandboxes. `loops[0]` supervises the processes. On OK the caller owns *ret_executor. */
MUST_CHECK enum err executor_new(const struct exec_config *config, struct loop *const *loops,
                                 uint32_t loop_count, struct executor **ret_executor,
                                 struct err_info *reterr);
/* On each loop's thread, before it runs and when it ends. */
struct exec_loop *executor_attach(struct executor *e, struct loop *loop);
void executor_detach(
    struct exec_loop *el); /* ends what still runs as cancelled; its handles close as the loop runs on */
/* On loops[0]'s thread: no process is replaced any more, all are killed. Call while loops[0] still runs. */
void executor_stop(struct executor *e);
/* After all loops have ended. */
void executor_free(struct executor *e);

/* Places a run or queues it. ERR_BUSY: the queue is full. ERR_FIELD_INVALID: arguments over their limits. On OK
 * *ret_run is the executor's, valid until done(); done() never comes before this returns. */
MUST_CHECK enum err exec_start(struct exec_loop *el, const struct exec_spec *spec, const struct exec_ops *ops,
                               void *ctx, struct exec_run **ret_run, struct err_info *reterr);
/* More stdin; copied. At first STDIN_WINDOW_BYTES less what spec.input has may be sent, then what stdin_room() says. */
void exec_run_stdin(struct exec_run *r, struct str bytes, bool eof);
/* Nobody wants the outcome; done() still comes, soon. */
void exec_run_cancel(struct exec_run *r);
/* From now on the guest may only be OUTPUT_WINDOW_BYTES ahead of what exec_run_credit_output() says was taken in;
 * without this call all output counts as taken in when output() returns. */
void exec_run_hold_output(struct exec_run *r);
void exec_run_credit_output(struct exec_run *r, uint64_t bytes);

struct exec_stats {
    uint64_t started, crashes, spawned;
    uint64_t messages_to, messages_from; /* sandboxes, through the rings */
    uint64_t ring_full;                  /* times that a message had to wait for room */
    uint32_t running, queued, sandboxes_ready;
};
/* Any thread; figures of the moment. */
struct exec_stats executor_stats(const struct executor *e);
/* The ids of the sandbox processes that run now: fills at most `max`, returns how many. Any thread. */
size_t executor_pids(const struct executor *e, int *ret_pids, size_t max);

#endif
