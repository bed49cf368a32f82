#include "store/driver.h"

#include <time.h>

#include "base/clock.h"

enum { BACKOFF_FIRST_MS = 50, BACKOFF_DOUBLINGS = 5 /* to 1.6 s */, IDLE_MAX_S = 60 };

void pool_init(struct store_pool *p)
{
    pthread_condattr_t attr;
    int failed = pthread_condattr_init(&attr);
    failed |= pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    failed |= pthread_cond_init(&p->freed, &attr);
    failed |= pthread_condattr_destroy(&attr);
    failed |= pthread_mutex_init(&p->lock, NULL);
    WW_ASSERT(!failed);
    list_init(&p->idle);
}

static void lock(struct store_pool *p)
{
    int failed = pthread_mutex_lock(&p->lock);
    WW_ASSERT(!failed);
}

static void unlock(struct store_pool *p)
{
    int failed = pthread_mutex_unlock(&p->lock);
    WW_ASSERT(!failed);
}

void pool_done(struct store_pool *p)
{
    WW_ASSERT(p->lent == 0);
    struct list *link;
    while ((link = list_pop_front(&p->idle)))
        p->ops->disconnect(LIST_ENTRY(link, struct store_conn, link));
    pthread_cond_destroy(&p->freed);
    pthread_mutex_destroy(&p->lock);
}

/* The lock is held, and is let go meanwhile; the connection has been counted in `total`. */
MUST_CHECK static enum err connect_counted(struct store_pool *p, struct store_conn **ret_conn,
                                           struct err_info *reterr)
{
    struct store_conn *conn = NULL;
    struct err_info why = {0};
    p->connecting = true;
    unlock(p);
    enum err e = p->ops->connect(p, &conn, &why);
    lock(p);
    p->connecting = false;
    /* Those who found the last place taken, or waited for this attempt. */
    pthread_cond_broadcast(&p->freed);
    if (e) {
        uint32_t doublings = MIN(p->failures, (uint32_t)BACKOFF_DOUBLINGS);
        p->total--;
        p->failures++;
        p->connect_failures++;
        p->retry_at_ns = clock_now_ns() + ((BACKOFF_FIRST_MS * NS_PER_MS) << doublings);
        p->why = why;
        return err_set(reterr, e, "%s", err_text(&why));
    }
    uint64_t now = clock_now_ns();
    p->failures = 0;
    p->connects++;
    list_init(&conn->link);
    conn->pool = p;
    conn->idle_since_ns = now;
    /* Up to a tenth less, so that those opened together don't end together. */
    conn->expires_ns = p->lifetime_ns ? now + p->lifetime_ns - now % (p->lifetime_ns / 10 + 1) : UINT64_MAX;
    *ret_conn = conn;
    return OK;
}

/* The lock is held. After a failure one caller at a time tries again, when the back-off is over. */
static bool may_connect(const struct store_pool *p)
{
    return p->total < p->max && (p->failures == 0 || (!p->connecting && clock_now_ns() >= p->retry_at_ns));
}

/* The lock is held, and is let go meanwhile: the first connection of the idle ones that still lives. */
static struct store_conn *take_idle(struct store_pool *p)
{
    struct list *link;
    while ((link = list_pop_front(&p->idle))) {
        struct store_conn *conn = LIST_ENTRY(link, struct store_conn, link);
        p->lent++;
        unlock(p);
        uint64_t now = clock_now_ns();
        bool good = now < conn->expires_ns && p->ops->is_alive(conn, now - conn->idle_since_ns);
        if (!good)
            p->ops->disconnect(conn);
        lock(p);
        if (good)
            return conn;
        p->lent--;
        p->total--;
    }
    return NULL;
}

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

enum err pool_lend(struct store_pool *p, struct store_conn **ret_conn, struct err_info *reterr)
{
    struct timespec deadline = to_timespec(clock_now_ns() + p->timeout_ns);
    struct store_conn *conn = NULL;
    enum err e = OK;
    lock(p);
    while (!e && !(conn = take_idle(p))) {
        if (may_connect(p)) {
            p->total++;
            e = connect_counted(p, &conn, reterr);
            if (!e)
                p->lent++;
            break;
        }
        if (p->failures && p->total == (p->connecting ? 1U : 0U))
            e = err_set(reterr, ERR_STORE_DOWN, "%s",
                        err_text(&p->why)); /* at once: no one waits for the dead */
        else if (pthread_cond_timedwait(&p->freed, &p->lock, &deadline))
            e = err_set(reterr, ERR_STORE_DOWN,
                        "all %u connections to the database were busy for %llu ms (DATABASE_POOL_MAX)",
                        p->max, (unsigned long long)(p->timeout_ns / NS_PER_MS));
    }
    unlock(p);
    if (!e)
        *ret_conn = conn;
    return e;
}

void pool_return(struct store_pool *p, struct store_conn *conn)
{
    if (conn->broken) {
        p->ops->disconnect(conn);
        conn = NULL;
    } else {
        conn->idle_since_ns = clock_now_ns();
    }
    lock(p);
    p->lent--;
    if (conn)
        list_push_front(&p->idle, &conn->link);
    else
        p->total--;
    pthread_cond_signal(&p->freed);
    unlock(p);
}

void pool_tend(struct store_pool *p)
{
    struct list old;
    list_init(&old);
    lock(p);
    uint64_t now = clock_now_ns();
    LIST_EACH(link, &p->idle)
    {
        struct store_conn *conn = LIST_ENTRY(link, struct store_conn, link);
        bool too_many = p->total > p->min && now - conn->idle_since_ns > IDLE_MAX_S * NS_PER_S;
        if (p->lifetime_ns && (too_many || now >= conn->expires_ns)) {
            list_remove(link);
            list_push_back(&old, link);
            p->total--;
        }
    }
    if (p->total < p->min && may_connect(p)) {
        struct store_conn *conn;
        p->total++;
        if (connect_counted(p, &conn, NULL) == OK)
            list_push_front(&p->idle, &conn->link);
    }
    unlock(p);
    struct list *link;
    while ((link = list_pop_front(&old)))
        p->ops->disconnect(LIST_ENTRY(link, struct store_conn, link));
}
