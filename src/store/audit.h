/* Audit events: who did what to what, from where. */
#ifndef WW_STORE_AUDIT_H
#define WW_STORE_AUDIT_H

#include "store/store.h"

struct store_audit_event {
    uint64_t id; /* given by the store; grows */
    uint64_t time_ns;
    char actor[STORE_ID_BYTES]; /* a user's or key's id; "" = nobody, or the command line */
    char action[33];            /* a word, e.g. "key.revoke" */
    char target[65];            /* what it was done to; "" = nothing */
    char address[STORE_ADDRESS_BYTES];
    char detail[385];
};

/* `event->id` is not looked at. Text that is not UTF-8 is kept with '?' in place of the wrong bytes. */
MUST_CHECK enum err store_audit_add(struct store *s, const struct store_audit_event *event,
                                    struct err_info *reterr);

/* Which events: NULL = any. */
struct store_audit_filter {
    const char *actor;
    const char *target;
};
/* Newest first, behind the event `*before_id` (0 = the first page), which moves to the last one given. May
 * come from the replica. */
MUST_CHECK enum err store_audit_page(struct store *s, const struct store_audit_filter *filter,
                                     uint64_t *before_id, size_t limit,
                                     bool (*each)(void *ctx, const struct store_audit_event *event),
                                     void *ctx, struct err_info *reterr);
/* Deletes up to `limit` events older than `before_ns`; call again while *ret_deleted == limit. */
MUST_CHECK enum err store_audit_prune(struct store *s, uint64_t before_ns, size_t limit,
                                      uint64_t *ret_deleted, struct err_info *reterr);

#endif
