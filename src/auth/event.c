#include "auth/event.h"

#include "auth/internal.h"
#include "base/clock.h"
#include "store/audit.h"

void auth_event(struct auth *a, const struct auth_event *event)
{
    struct err_info info = {0};
    struct store_audit_event row = {.time_ns = clock_wall_ns()};
    LOG_AT(event->level, "security", LOG_CSTR("request_id", event->request_id),
           LOG_CSTR("action", event->action), LOG_CSTR("actor", event->actor),
           LOG_CSTR("target", event->target), LOG_CSTR("peer", event->address),
           LOG_CSTR("detail", event->detail));
    snprintf(row.actor, sizeof row.actor, "%s", event->actor);
    snprintf(row.action, sizeof row.action, "%s", event->action);
    snprintf(row.target, sizeof row.target, "%s", event->target);
    snprintf(row.address, sizeof row.address, "%s", event->address);
    snprintf(row.detail, sizeof row.detail, "%s", event->detail);
    if (store_audit_add(a->store, &row, &info))
        LOG_ERROR("a security event was not kept", LOG_CSTR("request_id", event->request_id),
                  LOG_CSTR("action", event->action), LOG_CSTR("reason", err_text(&info)));
}
