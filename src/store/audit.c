#include "store/audit.h"

#include "store/driver.h"

enum err store_audit_add(struct store *s, const struct store_audit_event *event, struct err_info *reterr)
{
    struct store_audit_event clean = *event; /* part of it comes from clients */
    store_clean_text(clean.actor);
    store_clean_text(clean.action);
    store_clean_text(clean.target);
    store_clean_text(clean.address);
    store_clean_text(clean.detail);
    struct store_value values[] = {
        store_number("time_ns", clean.time_ns), store_cstr("actor", clean.actor),
        store_cstr("action", clean.action),     store_cstr("target", clean.target),
        store_cstr("address", clean.address),   store_cstr("detail", clean.detail),
    };
    struct store_call call = {.statement = SQL_AUDIT_ADD, .values = values, .count = LENGTH_OF(values)};
    return store_run(s, STORE_WRITE, &call, reterr);
}

struct walk {
    bool (*each)(void *ctx, const struct store_audit_event *event);
    void *ctx;
    uint64_t *before_id;
    bool stopped;
};

static enum err give_event(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_audit_event event = {0};
    if (w->stopped)
        return OK;
    event.id = store_read_number(&r);
    event.time_ns = store_read_number(&r);
    store_read_text(&r, event.actor, sizeof event.actor);
    store_read_text(&r, event.action, sizeof event.action);
    store_read_text(&r, event.target, sizeof event.target);
    store_read_text(&r, event.address, sizeof event.address);
    store_read_text(&r, event.detail, sizeof event.detail);
    enum err e = store_read_end(&r, "an audit event", reterr);
    if (e)
        return e;
    *w->before_id = event.id;
    w->stopped = !w->each(w->ctx, &event);
    return OK;
}

enum err store_audit_page(struct store *s, const struct store_audit_filter *filter, uint64_t *before_id,
                          size_t limit, bool (*each)(void *ctx, const struct store_audit_event *event),
                          void *ctx, struct err_info *reterr)
{
    struct walk w = {.each = each, .ctx = ctx, .before_id = before_id};
    struct store_value values[4] = {store_number("id", *before_id ? *before_id : INT64_MAX),
                                    store_limit(limit)};
    struct store_call call = {
        .statement = SQL_AUDIT_PAGE, .values = values, .count = 2, .each = give_event, .ctx = &w};
    if (filter->actor)
        values[call.count++] = store_cstr("actor", filter->actor);
    if (filter->target)
        values[call.count++] = store_cstr("target", filter->target);
    if (filter->actor)
        call.statement = filter->target ? SQL_AUDIT_PAGE_OF_BOTH : SQL_AUDIT_PAGE_OF_ACTOR;
    else if (filter->target)
        call.statement = SQL_AUDIT_PAGE_OF_TARGET;
    return store_run(s, STORE_READ_STALE, &call, reterr);
}

enum err store_audit_prune(struct store *s, uint64_t before_ns, size_t limit, uint64_t *ret_deleted,
                           struct err_info *reterr)
{
    return store_prune(s, SQL_AUDIT_PRUNE, before_ns, limit, ret_deleted, reterr);
}
