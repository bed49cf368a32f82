/* Webhooks: other servers are told what happened.
 *
 *     emit -> queue in memory -> a delivery in the store for each webhook that wants it -> POST, again and again
 *
 * webhook_emit() and those that use it may be called on any thread, a loop's too: they take a short mutex at most. One
 * thread of ours (keeper.c) takes the queue to the store; a few more (sender.c) claim deliveries that are due and send
 * them. They are threads of their own so that receivers that do not answer never hold libuv's pool. What is in the
 * store is sent at least once, by one instance at a time, also after a crash; an attempt that was cut short is made
 * again, so a receiver may see a delivery twice, with the same id.
 *
 * A delivery's id is derived from what happened and from the webhook: what is emitted twice is sent once. */
#ifndef WW_WEBHOOK_WEBHOOK_H
#define WW_WEBHOOK_WEBHOOK_H

#include "base/str.h"
#include "store/webhooks.h"

/* name, the word, whether a webhook can ask for it */
#define WEBHOOK_EVENTS(EVENT)                     \
    EVENT(LIMIT_REACHED, "limit.reached", true)   \
    EVENT(KEY_CREATED, "key.created", true)       \
    EVENT(MODULE_FAILING, "module.failing", true) \
    EVENT(TEST, "webhook.test", false)

enum webhook_event {
#define EVENT(name, word, wanted) WEBHOOK_##name,
    WEBHOOK_EVENTS(EVENT)
#undef EVENT
        WEBHOOK_EVENT_COUNT
};

enum {
    WEBHOOK_SECRET_BYTES = 71,     /* "whsec_", 64 hexadecimal digits and a NUL */
    WEBHOOK_SIGNATURE_BYTES = 100, /* "t=UNIX,v1=HEX" and a NUL */
};

const char *webhook_event_word(enum webhook_event event);
/* Whether a webhook can ask for it. */
bool webhook_event_is_wanted(struct str word);

struct webhooks_config {
    struct store *store; /* borrowed, outlives the webhooks */
    struct str salt;     /* API_SALT: what seals the secrets is derived from it */
    bool private_too;    /* whether addresses of private networks may be called */
    uint64_t retry_ns;   /* the first pause; each further one is twice as long, up to an hour */
    uint64_t attempts;   /* after so many a delivery is given up */
};

struct webhooks;

/* Starts the threads. Never fails. */
struct webhooks *webhooks_new(const struct webhooks_config *config);
/* What is queued in memory goes to the store; what is being sent has 2 seconds to end. Takes NULL. Blocks. */
void webhooks_free(struct webhooks *w);

/* --- what happened ------------------------------------------------------------------------------ */
/* In all of these `w` may be NULL and `user_id` empty: then there is nobody to tell. */

/* `once` says what happened, uniquely for this user and event; `data` is a JSON object. A full queue drops it, and the
 * log says so. */
void webhook_emit(struct webhooks *w, const char *user_id, enum webhook_event event, struct str once,
                  struct str data);

void webhook_key_created(struct webhooks *w, const char *user_id, const char *key_id, const char *name,
                         const char *tier);

struct webhook_limit {
    const char *key_id; /* "" = none */
    const char *name;   /* the key's */
    const char *what;   /* "minute", "day", "concurrency" */
    uint32_t figure;
    uint64_t wall_ns; /* now */
};
/* A limit refused an execution. Told once for each key and limit in a window: a UTC day where it is the day's, a
 * minute otherwise. */
void webhook_limit_reached(struct webhooks *w, const char *user_id, const struct webhook_limit *limit);

enum { WEBHOOK_FAILURES = 5 };
#define WEBHOOK_FAILURES_WITHIN_NS (600 * NS_PER_S)

struct webhook_run {
    const unsigned char *sha; /* the module's, 32 bytes */
    const char *run_id;
    const char *cause;
    bool failed;
    uint64_t wall_ns; /* now; of a failure only */
};
/* A run has ended. The fifth failure in a row of a user's module within ten minutes is told, once for each module in an
 * hour. Where nothing has failed lately it costs a read of a shared number. */
void webhook_run_ended(struct webhooks *w, const char *user_id, const struct webhook_run *run);

/* --- for the API: these block ------------------------------------------------------------------- */

/* FIELD_INVALID: no such URL, or one that leads where it may not. */
MUST_CHECK enum err webhook_check_url(const struct webhooks *w, const char *url, struct err_info *reterr);
/* Makes the webhook's secret: the text to be shown once, and its sealed form in `hook`, whose id is set. */
MUST_CHECK enum err webhook_make_secret(const struct webhooks *w, struct store_webhook *hook,
                                        char ret_secret[static WEBHOOK_SECRET_BYTES],
                                        struct err_info *reterr);
/* Queues a webhook.test for this one, whatever it has asked for; at most one a second. `ret_id` is the delivery's. */
MUST_CHECK enum err webhook_test(struct webhooks *w, const struct store_webhook *hook,
                                 char ret_id[static STORE_ID_BYTES], struct err_info *reterr);

#endif
