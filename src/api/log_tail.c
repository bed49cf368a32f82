/* GET /api/log: what the server logs, as it happens, as server-sent events.
 *
 * One ring of lines for the process. Each writer puts its line in and wakes those followers who want it; each follower
 * reads at the pace of its client. Who falls behind loses lines, and is told how many: nothing waits for a client, and
 * what is kept for it is one batch. Sending a line logs none, or the followers would feed themselves. */
#include <pthread.h>

#include "api/call.h"
#include "base/clock.h"
#include "base/log_ring.h"
#include "http/event.h"

enum {
    FOLLOWERS_MAX = 16,
    BATCH_BYTES = 32 * 1024,
    EVENT_MAX_BYTES = LOG_LINE_MAX_BYTES + 128, /* a line, and the words around it */
    TICK_MS = 1000,
    BEAT_TICKS = 15,      /* silent connections are cut by proxies */
    LIFE_TICKS = 10 * 60, /* then the client comes again, and its credential is looked at again */
};

/* In the arena of its call. What is not said otherwise belongs to its loop's thread. */
struct follower {
    struct api_call *call;
    struct loop *loop;
    struct list link; /* of tail.followers */
    struct log_reader reader;
    struct loop_post post;
    bool posted; /* under tail.mutex */
    uv_timer_t timer;
    unsigned ticks;
    bool full; /* until the client has taken what was sent */
    bool left;
    unsigned holds; /* after it left: what may still call it */
};

static struct {
    pthread_mutex_t mutex; /* of all below; taken by whoever logs: nothing may log under it */
    struct log_ring ring;
    struct list followers;
    unsigned count;
} tail = {.mutex = PTHREAD_MUTEX_INITIALIZER, .followers = {&tail.followers, &tail.followers}};

static void on_post(struct loop_post *post);

/* --- lines come --------------------------------------------------------------------------------- */
/* Under tail.mutex. */
static void wake(struct follower *f)
{
    if (f->posted)
        return;
    f->posted = true;
    loop_post(f->loop, &f->post, on_post);
}

static void on_line(enum log_level level, struct str line)
{
    pthread_mutex_lock(&tail.mutex);
    log_ring_put(&tail.ring, level, line);
    LIST_EACH(link, &tail.followers)
    {
        struct follower *f = LIST_ENTRY(link, struct follower, link);
        if (level >= f->reader.least)
            wake(f);
    }
    pthread_mutex_unlock(&tail.mutex);
}

/* --- and go ------------------------------------------------------------------------------------- */
/* True: there are more. */
static bool take_batch(struct follower *f, struct buf *out)
{
    char text[LOG_LINE_MAX_BYTES], count[40];
    struct buf line = {.p = text, .capacity = sizeof text, .max = sizeof text};
    uint64_t lost = 0;
    bool more = true;
    pthread_mutex_lock(&tail.mutex);
    while (out->len + 2 * EVENT_MAX_BYTES <= BATCH_BYTES && more) {
        line.len = 0;
        more = log_ring_next(&tail.ring, &f->reader, &line, &lost);
        if (lost) {
            snprintf(count, sizeof count, "{\"lines\":%llu}", (unsigned long long)lost);
            http_event_put(out, "lost", str_of(count));
            lost = 0;
        }
        if (more)
            http_event_put(out, "log", buf_str(&line));
    }
    pthread_mutex_unlock(&tail.mutex);
    WW_ASSERT(!out->overflow);
    return more;
}

/* One batch a turn: the others of this loop want to be served, too. */
static void pump(struct follower *f)
{
    struct buf out = buf_make(BATCH_BYTES);
    if (f->left || f->full)
        return;
    bool more = take_batch(f, &out);
    if (out.len)
        f->full = !api_stream_send(f->call, buf_str(&out));
    buf_done(&out);
    if (more && !f->full && !f->left) {
        pthread_mutex_lock(&tail.mutex);
        wake(f);
        pthread_mutex_unlock(&tail.mutex);
    }
}

/* --- the end ------------------------------------------------------------------------------------ */
static void drop(struct follower *f)
{
    if (--f->holds == 0)
        api_stream_free(f->call);
}

static void on_closed(uv_handle_t *handle)
{
    drop(CONTAINER_OF(handle, struct follower, timer));
}

/* The client has left, or its time is over. */
static void leave(struct api_call *call)
{
    struct follower *f = call->stream_data;
    f->left = true;
    pthread_mutex_lock(&tail.mutex);
    list_remove(&f->link);
    if (--tail.count == 0)
        log_follow(NULL);
    f->holds = 1 + f->posted;
    pthread_mutex_unlock(&tail.mutex);
    uv_close((uv_handle_t *)&f->timer, on_closed);
    api_stream_end(call);
}

static void on_post(struct loop_post *post)
{
    struct follower *f = CONTAINER_OF(post, struct follower, post);
    pthread_mutex_lock(&tail.mutex);
    f->posted = false;
    pthread_mutex_unlock(&tail.mutex);
    if (f->left)
        drop(f);
    else
        pump(f);
}

static void on_tick(uv_timer_t *timer)
{
    struct follower *f = CONTAINER_OF(timer, struct follower, timer);
    bool over = ++f->ticks == LIFE_TICKS || atomic_load(&f->call->program->draining);
    if (over)
        pump(f);
    else if (f->ticks % BEAT_TICKS == 0 && !f->full)
        f->full = !api_stream_send(f->call, STR_LIT(":\n\n"));
    if (over && !f->left)
        leave(f->call);
}

/* --- the beginning ------------------------------------------------------------------------------ */
static enum err begin(struct api_call *call, struct loop *loop, struct err_info *reterr)
{
    struct follower *f = call->stream_data;
    if (atomic_load(&call->program->draining))
        return err_set(reterr, ERR_SHUTTING_DOWN, "the server is shutting down");
    f->loop = loop; /* from here on lines may come */
    pthread_mutex_lock(&tail.mutex);
    bool fits = tail.count < FOLLOWERS_MAX;
    if (fits) {
        if (tail.count++ == 0)
            log_follow(on_line);
        list_push_back(&tail.followers, &f->link);
        f->reader = log_ring_join(&tail.ring, f->reader.least);
    }
    pthread_mutex_unlock(&tail.mutex);
    if (!fits)
        return err_set(reterr, ERR_BUSY, "the log is followed by %d clients already", FOLLOWERS_MAX);
    uv_timer_init(&loop->uv, &f->timer);
    uv_timer_start(&f->timer, on_tick, TICK_MS, TICK_MS);
    return OK;
}

static void writable(struct api_call *call)
{
    struct follower *f = call->stream_data;
    f->full = false;
    pump(f);
}

static enum err parse_level(struct api_call *call, enum log_level *ret, struct err_info *reterr)
{
    struct str text;
    enum err e = api_call_query(call, "level", &text, reterr);
    if (e || !text.p)
        return e;
    for (unsigned i = 0; i < LOG_LEVEL_COUNT; i++)
        if (str_eq(text, str_of(log_level_name((enum log_level)i)))) {
            *ret = (enum log_level)i;
            return OK;
        }
    return err_set(reterr, ERR_FIELD_INVALID, "level: one of debug, info, warn and error is wanted");
}

enum err api_log(struct api_call *call, struct err_info *reterr)
{
    static const struct api_stream stream = {.begin = begin, .writable = writable, .gone = leave};
    enum log_level least = LOG_LEVEL_INFO;
    enum err e = parse_level(call, &least, reterr);
    if (e)
        return e;
    struct follower *f = arena_alloc(&call->arena, sizeof *f);
    WW_ASSERT(f); /* little else is in there */
    f->call = call;
    f->reader.least = least;
    call->stream = &stream;
    call->stream_data = f;
    call->content_type = "text/event-stream";
    api_call_field(call, "X-Accel-Buffering", STR_LIT("no")); /* proxies would wait for more */
    return OK;
}
