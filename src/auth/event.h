/* Security events: a line of the log each, and a row of the audit trail. */
#ifndef WW_AUTH_EVENT_H
#define WW_AUTH_EVENT_H

#include "auth/auth.h"
#include "base/log.h"

struct auth_event {
    enum log_level level;
    const char *action;     /* a word, e.g. "key.revoke" */
    const char *actor;      /* a user's or key's id; "" = nobody, or the command line */
    const char *target;     /* the id or name of what it was done to; "" = nothing */
    const char *address;    /* the client's; "" = none */
    const char *request_id; /* for the log alone; "" = none */
    const char *detail;     /* for people, without secrets; "" = nothing to add */
};

/* Writes both; where the store does not take it, the log says that, too. Blocks. */
void auth_event(struct auth *a, const struct auth_event *event);

#endif
