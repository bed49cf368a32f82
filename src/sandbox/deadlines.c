#include "sandbox/deadlines.h"

static void put(struct deadlines *d, uint32_t at, struct run *r)
{
    d->heap[at] = r;
    r->deadline_index = at;
}

static bool is_before(const struct run *a, const struct run *b)
{
    return a->limits.deadline_ns < b->limits.deadline_ns;
}

static void move_up(struct deadlines *d, uint32_t at)
{
    struct run *r = d->heap[at];
    for (uint32_t parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (!is_before(r, d->heap[parent]))
            break;
        put(d, at, d->heap[parent]);
    }
    put(d, at, r);
}

static void move_down(struct deadlines *d, uint32_t at)
{
    struct run *r = d->heap[at];
    for (uint32_t child; (child = 2 * at + 1) < d->count; at = child) {
        if (child + 1 < d->count && is_before(d->heap[child + 1], d->heap[child]))
            child++;
        if (!is_before(d->heap[child], r))
            break;
        put(d, at, d->heap[child]);
    }
    put(d, at, r);
}

void deadlines_add(struct deadlines *d, struct run *r)
{
    if (d->count == d->capacity) {
        d->capacity = d->capacity ? 2 * d->capacity : 64;
        d->heap = xrealloc(d->heap, d->capacity * sizeof(struct run *));
    }
    put(d, d->count++, r);
    move_up(d, r->deadline_index);
}

void deadlines_remove(struct deadlines *d, struct run *r)
{
    uint32_t at = r->deadline_index;
    if (at == DEADLINES_NOT_IN)
        return;
    r->deadline_index = DEADLINES_NOT_IN;
    struct run *last = d->heap[--d->count];
    if (last == r)
        return;
    put(d, at, last);
    move_up(d, at);
    move_down(d, last->deadline_index);
}

void deadlines_done(struct deadlines *d)
{
    free(d->heap);
}
