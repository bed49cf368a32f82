#include "auth/watch.h"

#include <stdatomic.h>

struct auth_watch {
    struct auth *auth;
    struct kv *kv;
    struct loop *loop;
    uv_timer_t timer;
    uv_work_t work;
    bool busy;
    bool again; /* something was heard while it asked */
    bool stopped;
    struct kv_listener listener;
    struct loop_post tell;
    atomic_bool telling;
};

/* --- asking ------------------------------------------------------------------------------------- */
static void ask(struct auth_watch *w);

static void work(uv_work_t *work)
{
    auth_refresh(CONTAINER_OF(work, struct auth_watch, work)->auth);
}

static void after_work(uv_work_t *work, int status)
{
    struct auth_watch *w = CONTAINER_OF(work, struct auth_watch, work);
    (void)status;
    w->busy = false;
    if (w->again)
        ask(w);
}

static void ask(struct auth_watch *w)
{
    w->again = w->busy && !w->stopped;
    if (!w->busy && !w->stopped)
        w->busy = uv_queue_work(&w->loop->uv, &w->work, work, after_work) == 0;
}

static void on_timer(uv_timer_t *timer)
{
    struct auth_watch *w = CONTAINER_OF(timer, struct auth_watch, timer);
    if (!w->busy)
        ask(w);
}

/* A message, or a gap in which there may have been one. */
static void on_heard(struct kv_listener *l, struct str message)
{
    (void)message;
    ask(CONTAINER_OF(l, struct auth_watch, listener));
}

/* --- telling ------------------------------------------------------------------------------------ */
static void on_tell(struct loop_post *post)
{
    struct auth_watch *w = CONTAINER_OF(post, struct auth_watch, tell);
    atomic_store(&w->telling, false);
    if (!w->stopped)
        kv_publish(w->kv, w->loop, str_of(w->listener.topic), STR_LIT(""));
}

/* On any thread; several changes before the loop's turn are told as one. */
static void tell(void *watch)
{
    struct auth_watch *w = watch;
    if (!atomic_exchange(&w->telling, true))
        loop_post(w->loop, &w->tell, on_tell);
}

/* --- starting and stopping --------------------------------------------------------------------- */
struct auth_watch *auth_watch_start(struct auth *auth, struct kv *kv, struct loop *loop, uint64_t interval_ms)
{
    struct auth_watch *w = xcalloc(1, sizeof *w);
    w->auth = auth;
    w->kv = kv;
    w->loop = loop;
    w->listener = (struct kv_listener){.loop = loop, .topic = "auth", .heard = on_heard};
    kv_listen(kv, &w->listener);
    auth_on_change(auth, tell, w);
    int failed =
        uv_timer_init(&loop->uv, &w->timer) || uv_timer_start(&w->timer, on_timer, interval_ms, interval_ms);
    WW_ASSERT(!failed);
    return w;
}

void auth_watch_stop(struct auth_watch *w)
{
    w->stopped = true;
    uv_close((uv_handle_t *)&w->timer, NULL);
}

void auth_watch_free(struct auth_watch *w)
{
    if (w)
        auth_on_change(w->auth, NULL, NULL);
    free(w);
}
