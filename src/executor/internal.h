/* What the files of this folder share.
 *
 *     executor.c  the border: places runs, keeps their slots and the queue
 *     pool.c      what runs use of each sandbox
 *     send.c      what goes into a ring
 *     receive.c   what comes out of one, hostile until checked
 *     turn.c      the loop's side: when to look, when to sleep, what happens when a sandbox dies; inline isolation
 *     supervisor.c  the processes */
#ifndef WW_EXECUTOR_INTERNAL_H
#define WW_EXECUTOR_INTERNAL_H

#include "base/buf.h"
#include "executor/executor.h"
#include "executor/pool.h"
#include "executor/supervisor.h"
#include "sandbox/area.h"

enum {
    LOADED_SET = 8192,            /* modules that a channel remembers as loaded */
    INLINE_SLICE_NS = 300 * 1000, /* of guests before the sockets are looked at again */
};

enum exec_state { EXEC_QUEUED, EXEC_SENT };

struct exec_run {
    struct list link; /* the loop's queue, or the channel's runs */
    struct list pending_link;
    uint64_t id;
    enum exec_state state;
    struct exec_channel *channel;
    struct exec_loop *el;
    struct exec_spec spec;
    const struct exec_ops *ops;
    void *ctx;
    uint64_t queued_ns;
    uint64_t sent_ns;
    unsigned tries;
    uint64_t ring_end;     /* where its RUN message ends in the ring */
    struct buf more_input; /* from exec_run_stdin(), not yet sent */
    bool more_eof;
    bool more_sent; /* some of it went to a sandbox: another would not get it */
    size_t input_at;
    bool eof_sent;
    uint64_t stdin_window;
    bool holds_output;
    uint64_t output_credit; /* taken in, not yet told */
    uint64_t output_bytes[2];
    bool cancel_wanted, cancel_sent;
};

/* This loop's connection with one sandbox. */
struct exec_channel {
    struct exec_loop *el;
    uint32_t index;
    struct sandbox_host *host; /* NULL with inline isolation */
    struct area *area;
    struct ring_writer to;
    struct ring_reader from;
    uv_poll_t *wake; /* closes by itself when the host is replaced */
    struct list runs;
    uint32_t run_count;
    struct list pending; /* runs with stdin, credit or a cancellation to send */
    uint64_t loaded[LOADED_SET];
    uint32_t loaded_count;
    bool broken; /* it sent nonsense and is being killed */
    char load_text[MESSAGE_TEXT_MAX];
};

struct exec_loop {
    struct executor *executor;
    struct loop *loop;
    struct exec_channel *channels;
    uint32_t channel_count;
    struct list queue;
    uint32_t queued, running;
    struct exec_run **slots; /* by the low half of a run's id */
    uint32_t *generations;
    uint32_t *free_slots;
    uint32_t slot_count, free_count;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t no_block; /* active: the loop must not sleep */
    uv_timer_t sweep;
    /* Inline isolation. */
    struct sandbox_loop *inline_loop;
    struct area inline_area;
    int inline_fds[64];
    uint32_t inline_fd_first, inline_fd_count;
    uv_timer_t inline_wake;
    bool detached;
    atomic_bool pump_posted;
    struct loop_post pump;
    /* Counted by the loop, read by any thread: messages to and from sandboxes, and those that found a ring full. */
    _Atomic uint64_t messages_to, messages_from, ring_full;
};

/* A counter that one thread alone counts up. */
static inline void exec_count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

struct executor {
    struct exec_config config;
    uint32_t loop_count;
    struct exec_loop **loops;
    struct supervisor *supervisor;
    struct engine *inline_engine;
    struct exec_pool *pools; /* one a sandbox, and one that inline loops share */
    struct exec_pool_size pool_size;
    _Atomic uint64_t hungry; /* loops whose queue waits for places of a pool: a bit each, by their index */
    _Atomic uint64_t started;
    _Atomic uint32_t running, queued;
};

/* --- executor.c --------------------------------------------------------------------------------- */
/* A run by what a sandbox says its id is: NULL unless this channel holds it. */
struct exec_run *exec_run_by_id(struct exec_channel *c, uint64_t id);
/* The end of a run: done() is called and the run is gone. `frames` holds report->frame_count of them. */
void exec_run_finish(struct exec_run *r, const struct run_report *report, const struct trap_frame *frames);
/* The same where no sandbox gave a report. */
void exec_run_finish_without_report(struct exec_run *r, enum cause cause, const char *text);
/* Back to the head of the queue: only for a run that never started. */
void exec_run_put_back(struct exec_run *r);
/* Places what waits, as long as there is room. */
void exec_loop_pump(struct exec_loop *el);

/* --- send.c ------------------------------------------------------------------------------------- */
/* Whether the sandbox was sent this module, as far as is remembered. */
bool exec_channel_is_loaded(struct exec_channel *c, uint64_t module_id);
void exec_channel_forget_loaded(struct exec_channel *c);
/* Sends RUN, LOAD before it where needed, with as much of the input as fits; false: the ring is full. */
bool exec_channel_send_run(struct exec_channel *c, struct exec_run *r);
/* Sends what a run owes its sandbox (cancellation, credit, stdin), now or when the ring has room. */
void exec_run_send_soon(struct exec_run *r);
void exec_channel_send_pending(struct exec_channel *c);

/* --- receive.c ---------------------------------------------------------------------------------- */
/* Takes messages out of the channel's ring. False: the sandbox sent nonsense and is being killed. */
bool exec_channel_drain(struct exec_channel *c);
/* All channels; true where more is waiting. */
bool exec_loop_drain(struct exec_loop *el);

/* --- turn.c ------------------------------------------------------------------------------------- */
void exec_loop_do_nothing(uv_idle_t *idle);
void exec_loop_start_turns(struct exec_loop *el);
void exec_loop_stop_turns(struct exec_loop *el);
void exec_channel_open(struct exec_channel *c, struct sandbox_host *host);
void exec_channel_close(struct exec_channel *c);
MUST_CHECK enum err exec_loop_attach_inline(struct exec_loop *el, struct err_info *reterr);
/* For supervisor_new(). */
extern const struct supervisor_ops exec_supervisor_ops;

#endif
