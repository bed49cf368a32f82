/* One sandbox's loop inside this process, driven over its rings as the front drives it, with one module loaded.
 * For programs that measure: what goes wrong ends the process with a sentence. */
#ifndef WW_BENCH_INSIDE_H
#define WW_BENCH_INSIDE_H

#include "sandbox/area.h"
#include "sandbox/loop.h"

struct inside {
    struct area area;
    struct sandbox_loop *loop;
    struct ring_writer to;
    struct ring_reader from;
    int code_fd;
};

/* Compiles the file and makes a loop of `slots` guests that has it as module 1. */
void inside_open(struct inside *in, const char *module_path, uint32_t slots);
void inside_close(struct inside *in);

/* Sends a RUN of the module with these first bytes of stdin; `eof`: they are all. The ring must have room: the
 * caller takes turns in between. */
void inside_run(struct inside *in, uint64_t id, struct str input, bool eof);
/* Sends the rest of stdin. */
void inside_stdin(struct inside *in, uint64_t id, struct str input);

/* One turn of the loop, then `on_done` for each run that ended in it; other messages are taken and dropped. */
enum sandbox_turn inside_turn(struct inside *in, void (*on_done)(void *ctx, const struct message_done *m),
                              void *ctx);

#endif
