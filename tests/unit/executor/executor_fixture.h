/* An executor with sandboxes of this very program, and runs that remember what became of them. */
#ifndef WW_TESTS_EXECUTOR_FIXTURE_H
#define WW_TESTS_EXECUTOR_FIXTURE_H

#include "../sandbox/process_fixture.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "executor/internal.h"

enum { PATIENCE_S = 30, CALLS_MAX = 1000 };

struct fixture;

/* One run and what came of it. */
struct call {
    struct fixture *f;
    struct exec_run *run;
    struct buf out[2];
    size_t room; /* as stdin_room() said last */
    bool may_send;
    bool done, started;
    unsigned done_round;
    struct run_report report;
    struct trap_frame frames[MESSAGE_FRAMES_MAX];
    void (*at_end)(struct call *call);
};

struct fixture {
    struct loop loop;
    struct executor *executor;
    struct exec_loop *el;
    uv_timer_t patience;
    struct call calls[CALLS_MAX];
    size_t call_count;
    size_t done_count;
    unsigned round; /* of the loop */
    struct exec_config config;
    int fds[16];
    size_t fd_count;
};

static inline void fixture_output(void *ctx, int fd, struct str bytes)
{
    struct call *call = ctx;
    assert_false(call->done);
    buf_put_str(&call->out[fd == 2], bytes);
    uv_stop(&call->f->loop.uv); /* the test has a look before the loop sleeps */
}

static inline void fixture_stdin_room(void *ctx, size_t bytes)
{
    struct call *call = ctx;
    assert_false(call->done);
    call->room = bytes;
    call->may_send = true;
    uv_stop(&call->f->loop.uv);
}

static inline void fixture_done(void *ctx, const struct exec_outcome *outcome)
{
    struct call *call = ctx;
    assert_false(call->done); /* exactly once */
    call->done = true;
    call->started = outcome->started;
    call->done_round = call->f->round;
    call->report = *outcome->report;
    if (outcome->frames)
        memcpy(call->frames, outcome->frames, outcome->report->frame_count * sizeof *call->frames);
    call->f->done_count++;
    uv_stop(&call->f->loop.uv);
    if (call->at_end)
        call->at_end(call);
}

static inline void fixture_lost_patience(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("it does not come to an end");
}

static inline struct fixture *fixture_new(void)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->config = (struct exec_config){
        .isolation = EXEC_PROCESS,
        .sandboxes = 1,
        .concurrent_max = 100,
        .queue_max = CALLS_MAX,
        .queue_timeout_ns = 60 * NS_PER_S,
        .sandbox = {.engine = {.pool = true, .slots = 16, .memory_max_bytes = FIXTURE_MEMORY_MAX},
                    .pool_max_bytes = FIXTURE_POOL_BYTES,
                    .modules_max = 8},
    };
    return f;
}

/* Starts the executor with f->config. */
static inline void fixture_start(struct fixture *f)
{
    struct loop *loops[] = {&f->loop};
    struct err_info info = {0};
    log_setup(LOG_LEVEL_ERROR + 1, false); /* deaths are wanted here */
    loop_init(&f->loop, 0);
    uv_timer_init(&f->loop.uv, &f->patience);
    uv_timer_start(&f->patience, fixture_lost_patience, 1000 * PATIENCE_S, 0);
    if (executor_new(&f->config, loops, 1, &f->executor, &info))
        fail_msg("%s", info.text);
    f->el = executor_attach(f->executor, &f->loop);
    if (f->config.isolation == EXEC_INLINE)
        fixture_trap_signals();
}

/* Ends all; every run must have been told of its end. */
static inline void fixture_stop(struct fixture *f)
{
    if (f->executor) {
        executor_detach(f->el);
        assert_int_equal(f->done_count, f->call_count);
        executor_stop(f->executor);
        uv_close((uv_handle_t *)&f->patience, NULL);
        loop_close(&f->loop);
        while (uv_run(&f->loop.uv, UV_RUN_DEFAULT))
            ;
        loop_done(&f->loop);
        executor_free(f->executor);
    }
    for (size_t i = 0; i < f->call_count; i++) {
        buf_done(&f->calls[i].out[0]);
        buf_done(&f->calls[i].out[1]);
    }
    while (f->fd_count)
        close(f->fds[--f->fd_count]);
    free(f);
}

/* A guest to run; ids are given in the order of asking. */
static inline struct exec_spec fixture_spec(struct fixture *f, const char *wat, bool fuel)
{
    WW_ASSERT(f->fd_count < LENGTH_OF(f->fds));
    f->fds[f->fd_count++] = fixture_code(wat, fuel);
    return (struct exec_spec){
        .code = {.id = f->fd_count, .fd = f->fds[f->fd_count - 1], .memories = 1, .fuel = fuel},
        .limits = {.timeout_ns = 20 * NS_PER_S,
                   .memory_bytes = FIXTURE_MEMORY_MAX,
                   .table_elements = 1000,
                   .stdout_bytes = 64 * MIB,
                   .stderr_bytes = MIB,
                   .fuel = fuel ? 1000000000 : 0},
        .input_complete = true,
    };
}

static inline enum err fixture_try(struct fixture *f, const struct exec_spec *spec, struct call **ret_call,
                                   struct err_info *info)
{
    static const struct exec_ops ops = {
        .output = fixture_output, .stdin_room = fixture_stdin_room, .done = fixture_done};
    WW_ASSERT(f->call_count < CALLS_MAX);
    struct call *call = &f->calls[f->call_count];
    *call = (struct call){.f = f, .out = {buf_make(64 * MIB), buf_make(64 * MIB)}};
    enum err e = exec_start(f->el, spec, &ops, call, &call->run, info);
    assert_false(call->done); /* never before exec_start() returns */
    if (e)
        return e;
    f->call_count++;
    *ret_call = call;
    return OK;
}

static inline struct call *fixture_run(struct fixture *f, const struct exec_spec *spec)
{
    struct call *call = NULL;
    struct err_info info = {0};
    if (fixture_try(f, spec, &call, &info))
        fail_msg("%s", info.text);
    return call;
}

static inline void fixture_turn(struct fixture *f)
{
    f->round++;
    uv_run(&f->loop.uv, UV_RUN_ONCE);
}

static inline void fixture_await(struct call *call)
{
    while (!call->done)
        fixture_turn(call->f);
}

static inline void fixture_await_all(struct fixture *f)
{
    while (f->done_count < f->call_count)
        fixture_turn(f);
}

static inline void expect_cause(const struct call *call, enum cause want)
{
    assert_true(call->done);
    if (call->report.cause != want)
        fail_msg("%s (%s) instead of %s", cause_name((enum cause)call->report.cause), call->report.text,
                 cause_name(want));
}

static inline void expect_out(const struct call *call, struct str want)
{
    assert_int_equal(call->out[0].len, want.len);
    assert_true(str_eq(buf_str(&call->out[0]), want));
}

/* Until something else than the end of a run has come about. */
#define AWAIT(f, condition) \
    do                      \
        fixture_turn(f);    \
    while (!(condition))

/* Waits, without a turn of the loop, until the sandbox has taken the run out of the ring: from then on it has begun. */
static inline void fixture_await_taken(struct call *call)
{
    const struct ring_control *ring = &call->run->channel->area->channel_controls[0].to_sandbox;
    uint64_t give_up = clock_now_ns() + PATIENCE_S * NS_PER_S;
    while (atomic_load(&ring->read) < call->run->ring_end) {
        assert_true(clock_now_ns() < give_up);
        sched_yield();
    }
}

/* The sandbox at this place. */
static inline struct sandbox_host *fixture_host(struct fixture *f, uint32_t index)
{
    return f->el->channels[index].host;
}

/* Stops its process; from then on it does nothing at all. */
static inline void fixture_freeze(struct sandbox_host *host)
{
    siginfo_t info;
    assert_int_equal(kill(host->process.pid, SIGSTOP), 0);
    assert_int_equal(waitid(P_PID, (id_t)host->process.pid, &info, WSTOPPED), 0);
}

static inline bool fixture_runs(struct fixture *f, uint32_t index)
{
    return atomic_load(&fixture_host(f, index)->running) &&
           atomic_load(&fixture_host(f, index)->area.control->ready);
}

#endif
