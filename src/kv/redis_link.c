#include "kv/redis_link.h"

#include <netdb.h>

#include "base/clock.h"

enum {
    PAUSE_FIRST_MS = 50,
    PAUSE_MAX_MS = 5000,
    GREET_TIMEOUT_MS = 2000,
    SUSPECT_MS = 10,
};

/* ---- hiredis on libuv ---- */

struct io {
    uv_poll_t poll;
    redisAsyncContext *ac; /* NULL: it is being freed */
    int events;
    bool late_writes; /* once per turn, by on_turn_end() */
};

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct io *io = CONTAINER_OF(poll, struct io, poll);
    /* libuv reports a broken socket by the status alone; hiredis finds out by using it. */
    if (status < 0)
        events = UV_READABLE;
    if (io->ac && (events & UV_READABLE))
        redisAsyncHandleRead(io->ac);
    if (io->ac && (events & UV_WRITABLE))
        redisAsyncHandleWrite(io->ac);
}

static void io_watch(struct io *io, int events)
{
    if (events == io->events)
        return;
    io->events = events;
    int failed = events ? uv_poll_start(&io->poll, events, on_poll) : uv_poll_stop(&io->poll);
    WW_ASSERT(!failed);
}

static void add_read(void *io)
{
    io_watch(io, ((struct io *)io)->events | UV_READABLE);
}

static void del_read(void *io)
{
    io_watch(io, ((struct io *)io)->events & ~UV_READABLE);
}

static void add_write(void *data)
{
    struct io *io = data;
    if (io->late_writes)
        redis_link_wake(io->ac->data);
    else
        io_watch(io, io->events | UV_WRITABLE);
}

static void del_write(void *io)
{
    io_watch(io, ((struct io *)io)->events & ~UV_WRITABLE);
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(CONTAINER_OF(handle, struct io, poll));
}

static void cleanup(void *data)
{
    struct io *io = data;
    io->ac = NULL;
    uv_close((uv_handle_t *)&io->poll, on_poll_closed);
}

static bool io_attach(redisAsyncContext *ac, uv_loop_t *loop)
{
    struct io *io = xcalloc(1, sizeof *io);
    if (uv_poll_init(loop, &io->poll, ac->c.fd) != 0) {
        free(io);
        return false;
    }
    io->ac = ac;
    ac->ev.data = io;
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = cleanup;
    return true;
}

/* Most writes fit into the socket's buffer: only the rest of one that does not waits for the socket. */
static void on_turn_end(uv_idle_t *turn_end)
{
    struct redis_link *l = CONTAINER_OF(turn_end, struct redis_link, turn_end);
    uv_idle_stop(turn_end);
    if (l->turn_ends)
        l->turn_ends(l);
    if (l->state != LINK_UP)
        return;
    struct io *io = l->ac->ev.data;
    io->late_writes = false;
    redisAsyncHandleWrite(l->ac);
    io->late_writes = true;
}

void redis_link_wake(struct redis_link *l)
{
    if (l->state != LINK_OFF)
        uv_idle_start(&l->turn_end, on_turn_end);
}

/* ---- coming up ---- */

static void on_timer(uv_timer_t *timer);

static void set_timer(struct redis_link *l, uint64_t ms)
{
    uv_timer_start(&l->timer, on_timer, ms, 0);
}

/* The connection is gone, or never came. */
static void pause_after(struct redis_link *l, const char *why)
{
    if (l->state == LINK_OFF || l->state == LINK_PAUSING)
        return;
    uint64_t pause_ms = MIN((uint64_t)PAUSE_FIRST_MS << MIN(l->failures, 16u), (uint64_t)PAUSE_MAX_MS);
    /* Not all instances at once. */
    pause_ms = pause_ms / 2 + clock_now_ns() / NS_PER_US % (pause_ms / 2);
    l->failures++;
    l->state = LINK_PAUSING;
    set_timer(l, pause_ms);
    l->down(l, why);
}

void redis_link_break(struct redis_link *l, const char *why)
{
    redisAsyncContext *ac = TAKE(l->ac);
    pause_after(l, why);
    if (ac)
        redisAsyncFree(ac);
}

static void on_connected(const redisAsyncContext *ac, int status)
{
    struct redis_link *l = ac->data;
    /* hiredis frees a context that could not connect by itself. */
    if (status != REDIS_OK && l->ac == ac) {
        l->ac = NULL;
        pause_after(l, ac->errstr ? ac->errstr : "the connection was refused");
    }
}

static void on_disconnected(const redisAsyncContext *ac, int status)
{
    struct redis_link *l = ac->data;
    (void)status;
    if (l->ac == ac) {
        l->ac = NULL;
        pause_after(l, ac->errstr ? ac->errstr : "the connection was closed");
    }
}

/* What a reply means for the connection: false when it is lost, or was broken off before. */
static bool is_from(struct redis_link *l, const redisAsyncContext *ac, const redisReply *reply)
{
    if (l->ac != ac)
        return false;
    if (reply)
        return true;
    l->ac = NULL; /* hiredis is freeing it */
    pause_after(l, ac->errstr ? ac->errstr : "the connection was lost");
    return false;
}

static void on_greeting(redisAsyncContext *ac, void *reply, void *last)
{
    struct redis_link *l = ac->data;
    const redisReply *answer = reply;
    if (!is_from(l, ac, answer))
        return;
    if (answer->type == REDIS_REPLY_ERROR) {
        redis_link_break(l, answer->str);
    } else if (last) {
        l->state = LINK_UP;
        l->failures = 0;
        ((struct io *)ac->ev.data)->late_writes = true;
        uv_timer_stop(&l->timer);
        l->up(l);
    }
}

static void greet(struct redis_link *l)
{
    const struct redis_url *url = l->url;
    int failed = 0;
    if (url->password[0] && url->user[0])
        failed |= redisAsyncCommand(l->ac, on_greeting, NULL, "AUTH %s %s", url->user, url->password);
    else if (url->password[0])
        failed |= redisAsyncCommand(l->ac, on_greeting, NULL, "AUTH %s", url->password);
    failed |= redisAsyncCommand(l->ac, on_greeting, NULL, "SELECT %u", url->database);
    failed |= redisAsyncCommand(l->ac, on_greeting, l, "PING");
    if (failed)
        redis_link_break(l, "the greeting could not be sent");
}

static void on_resolved(uv_getaddrinfo_t *resolver, int status, struct addrinfo *found)
{
    struct redis_link *l = CONTAINER_OF(resolver, struct redis_link, resolver);
    char address[64];
    if (!status && found)
        status =
            getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST);
    uv_freeaddrinfo(found);
    if (l->state != LINK_RESOLVING) {
        if (l->state == LINK_OFF)
            uv_close((uv_handle_t *)&l->timer, NULL);
        return;
    }
    if (status) {
        pause_after(l, "the name of the host was not found");
        return;
    }
    redisAsyncContext *ac = redisAsyncConnect(address, l->url->port);
    if (!ac || ac->err || !io_attach(ac, &l->loop->uv)) {
        pause_after(l, ac && ac->errstr && ac->errstr[0] ? ac->errstr : "no socket could be opened");
        if (ac)
            redisAsyncFree(ac);
        return;
    }
    l->ac = ac;
    l->state = LINK_GREETING;
    set_timer(l, GREET_TIMEOUT_MS);
    ac->data = l;
    redisEnableKeepAlive(&ac->c);
    redisAsyncSetConnectCallback(ac, on_connected);
    redisAsyncSetDisconnectCallback(ac, on_disconnected);
    greet(l);
}

static void resolve(struct redis_link *l)
{
    l->state = LINK_RESOLVING;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    /* libuv's pool looks up, and gives up by itself: no time-out of ours. */
    if (uv_getaddrinfo(&l->loop->uv, &l->resolver, on_resolved, l->url->host, NULL, &hints) != 0)
        pause_after(l, "the name of the host could not be looked up");
}

/* ---- time ---- */

static void watch_calls(struct redis_link *l)
{
    if (list_is_empty(&l->calls))
        return;
    const struct kv_call *oldest = LIST_ENTRY(l->calls.next, struct kv_call, link);
    uint64_t age_ns = clock_now_ns() - oldest->sent_ns;
    if (age_ns < l->timeout_ns) {
        set_timer(l, (l->timeout_ns - age_ns) / NS_PER_MS + 1);
    } else if (!l->suspect) {
        /* If this thread was held up, the answer may be in the socket already: one more turn of the loop tells. */
        l->suspect = true;
        set_timer(l, SUSPECT_MS);
    } else {
        redis_link_break(l, "no answer in time");
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct redis_link *l = CONTAINER_OF(timer, struct redis_link, timer);
    switch (l->state) {
    case LINK_PAUSING: resolve(l); break;
    case LINK_GREETING: redis_link_break(l, "no connection in time"); break;
    case LINK_UP: watch_calls(l); break;
    case LINK_RESOLVING:
    case LINK_OFF: break;
    }
}

/* ---- commands ---- */

static void on_reply(redisAsyncContext *ac, void *reply, void *data)
{
    struct redis_link *l = ac->data;
    struct kv_call *call = data;
    list_remove(&call->link);
    if (is_from(l, ac, reply)) {
        l->suspect = false;
        l->latency_ns = clock_now_ns() - call->sent_ns;
    }
    call->done(call, reply);
}

bool redis_link_send(struct redis_link *l, struct kv_call *call, size_t count, const struct str words[])
{
    const char *start[REDIS_LINK_WORDS_MAX];
    size_t length[REDIS_LINK_WORDS_MAX];
    WW_ASSERT(count <= REDIS_LINK_WORDS_MAX);
    if (l->state != LINK_UP)
        return false;
    for (size_t i = 0; i < count; i++) {
        start[i] = words[i].p;
        length[i] = words[i].len;
    }
    if (redisAsyncCommandArgv(l->ac, call ? on_reply : NULL, call, (int)count, start, length) != REDIS_OK)
        return false;
    if (call) {
        call->sent_ns = clock_now_ns();
        list_push_back(&l->calls, &call->link);
        if (!uv_is_active((uv_handle_t *)&l->timer))
            set_timer(l, l->timeout_ns / NS_PER_MS + 1);
    }
    return true;
}

bool redis_link_is_up(const struct redis_link *l)
{
    return l->state == LINK_UP;
}

void redis_link_start(struct redis_link *l)
{
    list_init(&l->calls);
    int failed = uv_timer_init(&l->loop->uv, &l->timer) || uv_idle_init(&l->loop->uv, &l->turn_end);
    WW_ASSERT(!failed);
    resolve(l);
}

void redis_link_stop(struct redis_link *l)
{
    if (l->state == LINK_OFF)
        return;
    bool resolving = l->state == LINK_RESOLVING;
    l->state = LINK_OFF;
    uv_timer_stop(&l->timer);
    uv_close((uv_handle_t *)&l->turn_end, NULL);
    redisAsyncContext *ac = TAKE(l->ac);
    if (ac)
        redisAsyncFree(ac);
    /* A lookup under way can't always be called back: then it closes the timer when it ends. */
    if (!resolving)
        uv_close((uv_handle_t *)&l->timer, NULL);
    else
        uv_cancel((uv_req_t *)&l->resolver);
}
