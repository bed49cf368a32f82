/* The sandbox processes as the front's first loop keeps them: started, watched, replaced. */
#ifndef WW_EXECUTOR_SUPERVISOR_H
#define WW_EXECUTOR_SUPERVISOR_H

#include "executor/executor.h"
#include "sandbox/area.h"

/* One process, from its start to its end. Shared by all loops of the front, each through its own channel; freed by the
 * last sandbox_host_unref(). */
struct sandbox_host {
    atomic_uint refs;
    uint32_t index; /* place among the executor's sandboxes; stays when the process is replaced */
    bool fuel;
    struct area area;
    uint32_t channels;
    int *event_fds; /* the sandbox wakes loop i of the front */
    int *sockets;   /* compiled code to the sandbox, from loop i */
    uint64_t started_ns;
    /* The rest is the supervisor's. */
    struct supervisor *supervisor;
    uv_process_t process;
    uv_pipe_t distress;
    char distress_text[512];
    size_t distress_len;
    atomic_bool running;
    uint64_t turns_seen;
    uint64_t turns_seen_ns;
};
void sandbox_host_unref(struct sandbox_host *h);

struct supervisor;

struct supervisor_ops {
    /* The process of `old` is dead and `fresh` takes its place (already a reference for each loop). On loops[0]. */
    void (*replaced)(void *ctx, struct sandbox_host *old, struct sandbox_host *fresh);
    /* How many runs are in the sandbox with this index now. */
    uint32_t (*load)(void *ctx, uint32_t index);
};

/* `sandboxes` hosts without fuel and as many with; those with fuel start their process on demand. */
MUST_CHECK enum err supervisor_new(struct loop *loop, const struct exec_config *config, uint32_t channels,
                                   const struct supervisor_ops *ops, void *ctx,
                                   struct supervisor **ret_supervisor, struct err_info *reterr);
/* Processes of both kinds: the first half without fuel. */
uint32_t supervisor_count(const struct supervisor *s);
/* The host at `index` before any loop runs, with a new reference for the caller. */
struct sandbox_host *supervisor_host(struct supervisor *s, uint32_t index);
/* Any thread: starts the process behind `index` if it does not run yet. */
void supervisor_want(struct supervisor *s, uint32_t index);
/* Any thread: the process behind `h` misbehaves and must die. */
void supervisor_kill(struct sandbox_host *h, const char *why);
/* On the supervisor's loop: no more replacing, all processes die. */
void supervisor_stop(struct supervisor *s);
void supervisor_free(struct supervisor *s);
/* Figures for metrics: processes started, processes that died, processes that run and have said that they serve. Any
 * thread. */
void supervisor_stats(struct supervisor *s, uint64_t *ret_spawned, uint64_t *ret_died, uint32_t *ret_ready);
/* The ids of the processes that run now: fills at most `max`, returns how many. Any thread. */
size_t supervisor_pids(struct supervisor *s, int *ret_pids, size_t max);

#endif
