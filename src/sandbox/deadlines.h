/* A loop's runs by their deadline: a binary heap, in which each run knows its place. */
#ifndef WW_SANDBOX_DEADLINES_H
#define WW_SANDBOX_DEADLINES_H

#include "sandbox/run.h"

#define DEADLINES_NOT_IN UINT32_MAX

/* Zeroes are an empty one. */
struct deadlines {
    struct run **heap;
    uint32_t count, capacity;
};

/* The run whose deadline comes first; NULL: there is none. */
static inline struct run *deadlines_first(const struct deadlines *d)
{
    return d->count ? d->heap[0] : NULL;
}

void deadlines_add(struct deadlines *d, struct run *r);
/* Fine on one that is not in (deadline_index DEADLINES_NOT_IN). */
void deadlines_remove(struct deadlines *d, struct run *r);
void deadlines_done(struct deadlines *d);

#endif
