/* The audit trail: who did what to what, from where. */
#include "api/call.h"
#include "store/audit.h"

struct event_list {
    struct buf *out;
    size_t count;
};

static bool list_event(void *ctx, const struct store_audit_event *event)
{
    struct event_list *list = ctx;
    buf_puts(list->out, list->count++ ? ",{" : "{");
    api_put_number(list->out, "id", event->id);
    api_put_time(list->out, "created_at", event->time_ns);
    api_put_text(list->out, "actor", event->actor);
    api_put_text(list->out, "action", event->action);
    api_put_text(list->out, "target", event->target);
    api_put_text(list->out, "address", event->address);
    api_put_text(list->out, "detail", event->detail);
    return buf_putc(list->out, '}');
}

enum err api_audit(struct api_call *call, struct err_info *reterr)
{
    struct event_list list = {.out = &call->out};
    struct str actor, target;
    uint64_t limit = API_PAGE_DEFAULT, before_id = 0;
    enum err e = api_call_query_number(call, "limit", 1, STORE_PAGE_MAX, &limit, reterr);
    if (!e)
        e = api_call_query_number(call, "cursor", 1, INT64_MAX, &before_id, reterr);
    if (!e)
        e = api_call_query(call, "actor", &actor, reterr);
    if (!e)
        e = api_call_query(call, "target", &target, reterr);
    if (e)
        return e;
    const struct store_audit_filter filter = {.actor = actor.p, .target = target.p};
    buf_puts(&call->out, "{\"events\":[");
    e = store_audit_page(call->program->store, &filter, &before_id, (size_t)limit, list_event, &list, reterr);
    buf_puts(&call->out, "],\"next_cursor\":");
    if (list.count == limit)
        buf_printf(&call->out, "\"%llu\"", (unsigned long long)before_id);
    else
        buf_puts(&call->out, "null");
    buf_puts(&call->out, "}\n");
    return e;
}
