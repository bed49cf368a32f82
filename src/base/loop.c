#include "base/loop.h"

static void on_async(uv_async_t *async)
{
    struct loop *l = CONTAINER_OF(async, struct loop, async);
    for (;;) {
        uv_mutex_lock(&l->mutex);
        struct list *link = list_pop_front(&l->posts);
        uv_mutex_unlock(&l->mutex);
        if (!link)
            return;
        struct loop_post *post = LIST_ENTRY(link, struct loop_post, link);
        post->fn(post);
    }
}

void loop_init(struct loop *l, uint32_t index)
{
    *l = (struct loop){.index = index};
    WW_ASSERT(uv_loop_init(&l->uv) == 0);
    WW_ASSERT(uv_async_init(&l->uv, &l->async, on_async) == 0);
    WW_ASSERT(uv_mutex_init(&l->mutex) == 0);
    list_init(&l->posts);
}

void loop_close(struct loop *l)
{
    uv_close((uv_handle_t *)&l->async, NULL);
}

void loop_done(struct loop *l)
{
    on_async(&l->async); /* what came too late for the last turn: a post is never lost */
    WW_ASSERT(uv_loop_close(&l->uv) == 0);
    uv_mutex_destroy(&l->mutex);
}

void loop_post(struct loop *l, struct loop_post *post, void (*fn)(struct loop_post *post))
{
    post->fn = fn;
    uv_mutex_lock(&l->mutex);
    list_push_back(&l->posts, &post->link);
    uv_mutex_unlock(&l->mutex);
    uv_async_send(&l->async);
}
