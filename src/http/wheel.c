#include "http/wheel.h"

void http_wheel_init(struct http_wheel *w, uint64_t now_ns)
{
    for (size_t i = 0; i < HTTP_WHEEL_SLOTS; i++)
        list_init(&w->slots[i]);
    w->tick = now_ns / HTTP_WHEEL_TICK_NS;
}

void http_deadline_init(struct http_deadline *d)
{
    list_init(&d->link);
}

void http_wheel_set(struct http_wheel *w, struct http_deadline *d, uint64_t due_ns)
{
    bool in_ring = !list_is_empty(&d->link);
    if (due_ns == HTTP_WHEEL_NEVER)
        return;
    uint64_t tick = due_ns / HTTP_WHEEL_TICK_NS + 1;
    tick = MIN(MAX(tick, w->tick + 1), w->tick + HTTP_WHEEL_SLOTS - 1);
    if (in_ring && d->tick <= tick)
        return;
    list_remove(&d->link);
    d->tick = tick;
    list_push_back(&w->slots[tick % HTTP_WHEEL_SLOTS], &d->link);
}

void http_wheel_remove(struct http_deadline *d)
{
    list_remove(&d->link);
}

struct http_deadline *http_wheel_next(struct http_wheel *w, uint64_t now_ns)
{
    uint64_t now = now_ns / HTTP_WHEEL_TICK_NS;
    /* After a long sleep one turn finds everybody. */
    if (now > w->tick + HTTP_WHEEL_SLOTS)
        w->tick = now - HTTP_WHEEL_SLOTS;
    while (w->tick < now) {
        struct list *link = list_pop_front(&w->slots[(w->tick + 1) % HTTP_WHEEL_SLOTS]);
        if (link)
            return LIST_ENTRY(link, struct http_deadline, link);
        w->tick++;
    }
    return NULL;
}
