/* The loop that runs guests: many at once, on one thread. It takes messages from the front's channels, lets one
 * guest after the other go on for a slice, keeps their deadlines and sends what they write and how they ended.
 * The same loop runs in a sandbox process and, with ISOLATION=inline, on the front's own thread: only who calls
 * sandbox_loop_turn(), and how the two sides wake each other, differ.
 *
 * Order: a new run goes before those that have used up a slice, so that a short run meets a hog for one tick at
 * most; every few milliseconds the old ones get a slice whatever comes in. */
#ifndef WW_SANDBOX_LOOP_H
#define WW_SANDBOX_LOOP_H

#include "sandbox/engine.h"
#include "sandbox/message.h"
#include "sandbox/ring.h"

struct sandbox_loop;

/* What a channel (one of the front's loops) is to the sandbox. */
struct sandbox_channel_ops {
    /* The descriptor that belongs to the next LOAD; -1: the front is gone. */
    int (*take_fd)(void *ctx, uint32_t channel);
    /* Something was published on this channel. */
    void (*notify)(void *ctx, uint32_t channel);
};

struct sandbox_loop_config {
    struct engine_config engine;
    struct engine *shared_engine; /* where several loops run in one process: this one, borrowed; else NULL */
    uint64_t pool_max_bytes;      /* memory of all guests together */
    uint32_t modules_max;         /* loaded at once; the least recently used go */
};

/* `from`/`to` are the rings of `channels` front loops. On OK *ret_loop is owned by the caller. */
MUST_CHECK enum err sandbox_loop_new(const struct sandbox_loop_config *config, uint32_t channels,
                                     const struct ring_reader *from, const struct ring_writer *to,
                                     const struct sandbox_channel_ops *ops, void *ctx,
                                     struct sandbox_loop **ret_loop, struct err_info *reterr);
/* Drops all runs. Takes NULL. */
void sandbox_loop_free(struct sandbox_loop *l);

enum sandbox_turn {
    SANDBOX_BUSY,   /* there is more to do at once */
    SANDBOX_IDLE,   /* nothing until a message comes, or *ret_wake_ns */
    SANDBOX_BROKEN, /* a channel carries nonsense: end the process */
};
/* One round: messages, deadlines, one slice of one guest. *ret_wake_ns: the earliest deadline (monotonic), UINT64_MAX
 * when nothing runs. */
enum sandbox_turn sandbox_loop_turn(struct sandbox_loop *l, uint64_t *ret_wake_ns);

/* Messages that came since the last turn; for the look before going to sleep. */
bool sandbox_loop_has_messages(const struct sandbox_loop *l);
/* Runs in the loop, waiting ones included. */
uint32_t sandbox_loop_runs(const struct sandbox_loop *l);

#endif
