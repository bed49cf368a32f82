/* What a backend of kv/kv.h is made of; for this folder only. */
#ifndef WW_KV_BACKEND_H
#define WW_KV_BACKEND_H

#include "kv/memory.h"

struct kv_ops {
    void (*attach)(struct kv *kv, struct loop *loop);
    void (*detach)(struct kv *kv, struct loop *loop);
    void (*free)(struct kv *kv);
    bool (*take)(struct kv *kv, struct loop *loop, const struct kv_request *request, struct kv_wait *w);
    void (*give)(struct kv *kv, struct loop *loop, struct kv_ticket *ticket, bool refund);
    /* To the other instances; this one is served. */
    void (*publish)(struct kv *kv, struct loop *loop, struct str topic, struct str message);
    bool (*ping)(struct kv *kv, struct loop *loop, struct kv_ping *p);
    void (*health)(struct kv *kv, struct kv_health *ret);
};

/* The part that all backends have; first in theirs. */
struct kv {
    const struct kv_ops *ops;
    struct memory *memory;
    uv_mutex_t mutex; /* guards the inboxes of the listeners */
    struct list listeners;
};

void kv_init(struct kv *kv, const struct kv_ops *ops, uint32_t subjects);
void kv_done(struct kv *kv);
/* Any thread: to the listeners of this process. topic.p NULL: to all of them, that messages may have been lost. */
void kv_deliver(struct kv *kv, struct str topic, struct str message);

MUST_CHECK enum err kv_redis_open(const struct kv_config *config, struct kv **ret_kv,
                                  struct err_info *reterr);

#endif
