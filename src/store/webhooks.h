/* Webhooks and the queue of what is to be sent to them. */
#ifndef WW_STORE_WEBHOOKS_H
#define WW_STORE_WEBHOOKS_H

#include "store/store.h"

enum { STORE_URL_BYTES = 1025, STORE_SECRET_MAX = 256, STORE_EVENT_BYTES = 33, STORE_BODY_MAX = 65536 };

struct store_webhook {
    char id[STORE_ID_BYTES];
    char user_id[STORE_ID_BYTES];
    char url[STORE_URL_BYTES];
    unsigned char secret[STORE_SECRET_MAX]; /* sealed by the caller: it is kept as it is */
    size_t secret_len;
    char events[257]; /* words with one blank between them */
    bool active;
    uint64_t created_ns;
};

/* ERR_CONFLICT: the id is taken. ERR_FIELD_INVALID: no such user. */
MUST_CHECK enum err store_webhook_insert(struct store *s, const struct store_webhook *hook,
                                         struct err_info *reterr);
MUST_CHECK enum err store_webhook_get(struct store *s, const char *id, struct store_webhook *ret_hook,
                                      struct err_info *reterr);
/* What store_webhook_change() is to change; NULL = as it is. */
struct store_webhook_change {
    const char *url;
    const char *events;
    const bool *active;
};
MUST_CHECK enum err store_webhook_change(struct store *s, const char *id,
                                         const struct store_webhook_change *change, struct err_info *reterr);
/* With what is to be sent to it. */
MUST_CHECK enum err store_webhook_delete(struct store *s, const char *id, struct err_info *reterr);
/* A user's, newest first; *cursor moves to the last row given. */
MUST_CHECK enum err store_webhook_page(struct store *s, const char *user_id, struct store_cursor *cursor,
                                       size_t limit,
                                       bool (*each)(void *ctx, const struct store_webhook *hook), void *ctx,
                                       struct err_info *reterr);
/* Whether the hook is active and has asked for this event. */
bool store_webhook_wants(const struct store_webhook *hook, struct str event);

enum store_delivery_state { STORE_DELIVERY_PENDING, STORE_DELIVERY_DONE, STORE_DELIVERY_FAILED };

struct store_delivery {
    char id[STORE_ID_BYTES];
    char webhook_id[STORE_ID_BYTES];
    char event[STORE_EVENT_BYTES];
    struct str body; /* JSON; lent */
    uint64_t created_ns;
    uint64_t next_attempt_ns;
    uint64_t attempts; /* begun */
    enum store_delivery_state state;
    char error[STORE_ADDRESS_BYTES * 4]; /* of the last attempt */
};

/* Queues a delivery. A second one with the same id changes nothing. ERR_FIELD_INVALID: no such webhook. */
MUST_CHECK enum err store_delivery_add(struct store *s, const struct store_delivery *delivery,
                                       struct err_info *reterr);
enum { STORE_CLAIM_EXCEPT_MAX = 4 };
struct store_claim {
    uint64_t now_ns;   /* what is due by then */
    uint64_t until_ns; /* when it is due again unless it is settled */
    size_t limit;
    const char *except[STORE_CLAIM_EXCEPT_MAX]; /* webhooks whose deliveries stay; NULL = none */
};
/* Takes deliveries that are due, those that wait longest first: counts an attempt and moves next_attempt_ns to
 * `until_ns`. No two callers get the same. */
MUST_CHECK enum err store_delivery_claim(struct store *s, const struct store_claim *claim,
                                         bool (*each)(void *ctx, const struct store_delivery *delivery),
                                         void *ctx, struct err_info *reterr);
/* None of the webhook's pending deliveries is due before `until_ns`. */
MUST_CHECK enum err store_delivery_postpone(struct store *s, const char *webhook_id, uint64_t until_ns,
                                            struct err_info *reterr);
/* How the attempt went: DONE, FAILED for good, or PENDING until `next_attempt_ns`. ERR_NOT_FOUND: it is not
 * pending. */
MUST_CHECK enum err store_delivery_settle(struct store *s, const char *id, enum store_delivery_state state,
                                          uint64_t next_attempt_ns, const char *error,
                                          struct err_info *reterr);
/* A webhook's, newest first. */
MUST_CHECK enum err store_delivery_page(struct store *s, const char *webhook_id, struct store_cursor *cursor,
                                        size_t limit,
                                        bool (*each)(void *ctx, const struct store_delivery *delivery),
                                        void *ctx, struct err_info *reterr);
/* Deletes up to `limit` settled ones made before `before_ns`. */
MUST_CHECK enum err store_delivery_prune(struct store *s, uint64_t before_ns, size_t limit,
                                         uint64_t *ret_deleted, struct err_info *reterr);

#endif
