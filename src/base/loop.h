/* A libuv loop that other threads may post to. One a thread; all else of it belongs to that thread. */
#ifndef WW_BASE_LOOP_H
#define WW_BASE_LOOP_H

#include <uv.h>

#include "base/list.h"

struct loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_mutex_t mutex;
    struct list posts;
    uint32_t index; /* among the front's loops */
};

/* One thing to do on a loop's thread. Embedded in what it is about; free to be used again once fn was called. */
struct loop_post {
    struct list link;
    void (*fn)(struct loop_post *post);
};

void loop_init(struct loop *l, uint32_t index);
/* Closes what loop_init() opened; the caller has closed all else and runs the loop until it is empty. */
void loop_close(struct loop *l);
/* After the last uv_run(). Calls what was posted too late for it. */
void loop_done(struct loop *l);
/* Any thread: `post->fn` is called once on the loop's thread. */
void loop_post(struct loop *l, struct loop_post *post, void (*fn)(struct loop_post *post));

#endif
