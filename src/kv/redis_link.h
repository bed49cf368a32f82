/* One connection to Redis on one loop: name lookup, connecting, AUTH and SELECT, time-outs, and trying again with
 * growing pauses until it is stopped. Commands go out together before the loop waits; answers come in order.
 *
 * The loop's adapter is our own: the one of hiredis 0.14 overlooks a refused connection, and hiredis itself looks
 * names up blocking. */
#ifndef WW_KV_REDIS_LINK_H
#define WW_KV_REDIS_LINK_H

#include <hiredis/async.h>

#include "kv/kv.h"
#include "kv/redis_url.h"

struct redis_link {
    struct loop *loop;
    const struct redis_url *url; /* outlives the link */
    uint64_t timeout_ns;
    void (*up)(struct redis_link *l);                    /* ready for commands */
    void (*down)(struct redis_link *l, const char *why); /* was up, or could not come up; lasts until up() */
    void (*turn_ends)(struct redis_link *l);             /* after redis_link_wake(); may be NULL */
    /* --- the link's own --- */
    enum redis_link_state { LINK_OFF, LINK_PAUSING, LINK_RESOLVING, LINK_GREETING, LINK_UP } state;
    redisAsyncContext *ac;
    uv_timer_t timer;
    uv_idle_t turn_end; /* runs once before the loop waits */
    uv_getaddrinfo_t resolver;
    uint32_t failures;
    bool suspect;
    struct list calls;   /* unanswered, oldest first */
    uint64_t latency_ns; /* of the last answer */
};

/* The fields above the line are set, the rest is zero. The link stays in place until the loop has ended. */
void redis_link_start(struct redis_link *l);
/* For good: calls are answered with NULL, the handles close as the loop runs on. */
void redis_link_stop(struct redis_link *l);
bool redis_link_is_up(const struct redis_link *l);
/* Drops the connection, as if it had been lost. */
void redis_link_break(struct redis_link *l, const char *why);
/* turn_ends() is called before the loop waits for its sockets, whether or not the link is up then; then what was sent goes
 * out. Not once the link is stopped. */
void redis_link_wake(struct redis_link *l);
enum { REDIS_LINK_WORDS_MAX = 24 };
/* Sends a command of at most REDIS_LINK_WORDS_MAX words; later call->done() gets the reply (a redisReply, lent; also an
 * error of Redis), or NULL when the connection is lost. `call` NULL: nobody wants the reply. False: not sent. */
bool redis_link_send(struct redis_link *l, struct kv_call *call, size_t count, const struct str words[]);

#endif
