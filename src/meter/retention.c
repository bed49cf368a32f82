#include "meter/retention.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/audit.h"
#include "store/sessions.h"
#include "store/usage.h"

enum { BATCH_ROWS = 1000, PAUSE_MS = 100, FIRST_MS = 60 * 1000 };

const char *retention_name(enum retention_table table)
{
    static const char *const names[RETENTION_COUNT] = {
#define TABLE(name) #name,
        RETENTION_TABLES(TABLE)
#undef TABLE
    };
    return names[table];
}

enum err retention_batch(const struct retention_config *config, enum retention_table table, uint64_t now_ns,
                         size_t limit, uint64_t *ret_deleted, struct err_info *reterr)
{
    struct store *s = config->store;
    switch (table) {
    case RETENTION_usage:
        return store_usage_prune(s, now_ns - MIN(config->usage_ns, now_ns), limit, ret_deleted, reterr);
    case RETENTION_audit:
        return store_audit_prune(s, now_ns - MIN(config->audit_ns, now_ns), limit, ret_deleted, reterr);
    case RETENTION_sessions: return store_session_prune(s, now_ns, limit, ret_deleted, reterr);
    case RETENTION_COUNT: break;
    }
    WW_UNREACHABLE("there is no such table");
}

static void work_batch(uv_work_t *work)
{
    struct retention *r = CONTAINER_OF(work, struct retention, work);
    r->batch = 0;
    r->result = retention_batch(&r->config, r->at, clock_wall_ns(), BATCH_ROWS, &r->batch, &r->info);
}

static void tell(const struct retention *r)
{
    const uint64_t *n = r->round;
    if (n[RETENTION_usage] || n[RETENTION_audit] || n[RETENTION_sessions])
        LOG_INFO("old rows deleted", LOG_U64("usage", n[RETENTION_usage]),
                 LOG_U64("audit", n[RETENTION_audit]), LOG_U64("sessions", n[RETENTION_sessions]));
}

static void on_time(uv_timer_t *timer);

static void wait_ms(struct retention *r, uint64_t ms)
{
    uv_timer_start(&r->timer, on_time, ms, 0);
}

/* Up to a tenth more; the end of the time in nanoseconds is as good as chance here. */
static uint64_t with_jitter(uint64_t ms)
{
    return ms + clock_now_ns() / NS_PER_US % (ms / 10 + 1);
}

static void after_batch(uv_work_t *work, int status)
{
    struct retention *r = CONTAINER_OF(work, struct retention, work);
    (void)status;
    if (r->closing)
        return;
    if (r->result)
        LOG_WARN("old rows could not be deleted", LOG_CSTR("table", retention_name(r->at)),
                 LOG_CSTR("reason", err_text(&r->info)));
    atomic_fetch_add(&r->deleted[r->at], r->batch);
    r->round[r->at] += r->batch;
    if (r->result || r->batch < BATCH_ROWS)
        r->at++;
    if (r->at < RETENTION_COUNT) {
        wait_ms(r, PAUSE_MS);
        return;
    }
    tell(r);
    r->at = 0;
    memset(r->round, 0, sizeof r->round);
    wait_ms(r, with_jitter(r->config.interval_ns / NS_PER_MS));
}

static void on_time(uv_timer_t *timer)
{
    struct retention *r = CONTAINER_OF(timer, struct retention, timer);
    WW_ASSERT(uv_queue_work(timer->loop, &r->work, work_batch, after_batch) == 0);
}

void retention_start(struct retention *r, uv_loop_t *loop, const struct retention_config *config)
{
    *r = (struct retention){.config = *config};
    uv_timer_init(loop, &r->timer);
    wait_ms(r, with_jitter(MIN(config->interval_ns / NS_PER_MS, (uint64_t)FIRST_MS)));
}

void retention_stop(struct retention *r)
{
    r->closing = true;
    uv_close((uv_handle_t *)&r->timer, NULL);
}
