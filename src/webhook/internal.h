/* Inside src/webhook: what its threads share. */
#ifndef WW_WEBHOOK_INTERNAL_H
#define WW_WEBHOOK_INTERNAL_H

#include <stdatomic.h>
#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "webhook/webhook.h"

enum { WEBHOOK_SENDERS = 4, WEBHOOK_QUEUE_MAX = 1024, WEBHOOK_KEY_BYTES = 32 };
_Static_assert((int)WEBHOOK_SENDERS <= (int)STORE_CLAIM_EXCEPT_MAX,
               "each sender passes over what all are at");

/* Something that happened, on its way to the store. */
struct webhook_item {
    struct list link;
    char user_id[STORE_ID_BYTES];
    enum webhook_event event;
    char id[STORE_ID_BYTES];
    uint64_t created_ns;
    struct buf body;
};

/* --- watch.c: what was told already, and what fails ---------------------------------------------- */
enum { WATCH_LIMITS = 1024, WATCH_SETS = 256, WATCH_WAYS = 4 };

struct webhook_failing {
    char user_id[STORE_ID_BYTES]; /* "" = free */
    unsigned char sha[32];
    uint64_t
        times_ns[WEBHOOK_FAILURES]; /* of the last failures; the oldest stands at count % WEBHOOK_FAILURES */
    uint32_t count;                 /* in a row */
    uint64_t told_hour;             /* since 1970, from 1 on; 0 = never */
};

/* Bounded, so it forgets: then something is told once more, and the delivery's id says that it was. */
struct webhook_watch {
    uint64_t seed;
    atomic_uint_least64_t limits[WATCH_LIMITS]; /* what was told, as a hash */
    uv_mutex_t mutex;                           /* of the sets' entries */
    struct {
        atomic_uint used;
        struct webhook_failing failing[WATCH_WAYS];
    } sets[WATCH_SETS];
};

void webhook_watch_init(struct webhook_watch *watch);
void webhook_watch_done(struct webhook_watch *watch);
/* True once for each `what` of this key in this window. */
bool webhook_watch_limit(struct webhook_watch *watch, struct str key, struct str what, uint64_t window);
/* True where this run is the failure that is to be told. */
bool webhook_watch_run(struct webhook_watch *watch, const char *user_id, const struct webhook_run *run);

/* --- the threads -------------------------------------------------------------------------------- */
struct webhooks {
    struct webhooks_config config;
    unsigned char key[WEBHOOK_KEY_BYTES]; /* seals secrets */
    struct webhook_watch watch;

    uv_mutex_t mutex; /* of all below */
    struct list queue;
    size_t queued;
    uint64_t dropped;
    bool stopping;
    bool due;             /* something may be due: a sender should look */
    bool store_is_silent; /* said in the log */
    size_t sending;
    uv_cond_t for_keeper, for_senders, sent;
    char busy[WEBHOOK_SENDERS][STORE_ID_BYTES]; /* the webhooks that are being called */

    uv_mutex_t claiming; /* so that no two senders take deliveries of one webhook */
    atomic_bool cut;     /* ends what is being sent */
    uv_thread_t keeper;
    struct webhook_sender {
        struct webhooks *w;
        size_t place; /* in `busy` */
        uv_thread_t thread;
    } senders[WEBHOOK_SENDERS];
};

/* The threads' work, until `stopping`; `arg` is the webhooks, and a struct webhook_sender. */
void webhook_keep(void *arg);
void webhook_send_all(void *arg);

/* Adds a delivery of `item` to one webhook. */
MUST_CHECK enum err webhook_add_delivery(struct webhooks *w, const struct webhook_item *item,
                                         const char *hook_id, char ret_id[static STORE_ID_BYTES],
                                         struct err_info *reterr);
/* A sender should look for what is due. */
void webhook_wake_sender(struct webhooks *w);
/* Notes, and says in the log once, that the store does not answer; `e` OK: it does. */
void webhook_note_store(struct webhooks *w, enum err e, const struct err_info *why);

/* 16 hexadecimal digits out of the SHA-256 of the two texts. */
void webhook_derive_id(struct str a, struct str b, char ret_id[static STORE_ID_BYTES]);
/* An event with its body; the caller frees it by webhook_item_free(). */
struct webhook_item *webhook_item_new(const char *user_id, enum webhook_event event, struct str once,
                                      struct str data);
void webhook_item_free(struct webhook_item *item);

/* --- sender.c ----------------------------------------------------------------------------------- */
/* The pause after attempt number `attempt`: first_ns, doubled each time, at most an hour, then a quarter more or less
 * by `random`. */
uint64_t webhook_pause_ns(uint64_t first_ns, uint64_t attempt, uint32_t random);

/* --- secret.c ----------------------------------------------------------------------------------- */
/* HKDF-SHA-256 (RFC 5869) of the salt, under a label of its own. */
void webhook_key_derive(struct str salt, unsigned char ret_key[static WEBHOOK_KEY_BYTES]);
/* The secret's text. ERR_INTERNAL: it was sealed under another salt, or damaged. */
MUST_CHECK enum err webhook_open_secret(const struct webhooks *w, const struct store_webhook *hook,
                                        char ret_secret[static WEBHOOK_SECRET_BYTES],
                                        struct err_info *reterr);
/* "t=UNIX,v1=HEX": HEX is HMAC-SHA-256 of "UNIX.BODY" under the secret's text. */
void webhook_sign(const char *secret, uint64_t unix_s, struct str body,
                  char ret_signature[static WEBHOOK_SIGNATURE_BYTES]);

#endif
