/* Coarse deadlines for many connections at next to no cost: a ring of slots, a tick each.
 *
 * A connection is only moved when its deadline comes nearer. One that was put off is found in its old
 * slot, asked again, and put where it belongs then; so a busy keep-alive connection touches the ring
 * once a turn, not once a request. A deadline is seen up to one tick late. */
#ifndef WW_HTTP_WHEEL_H
#define WW_HTTP_WHEEL_H

#include "base/list.h"

enum { HTTP_WHEEL_SLOTS = 64 };
#define HTTP_WHEEL_TICK_NS (50 * NS_PER_MS)
#define HTTP_WHEEL_NEVER UINT64_MAX

struct http_deadline {
    struct list link;
    uint64_t tick; /* of the slot that holds it */
};

struct http_wheel {
    struct list slots[HTTP_WHEEL_SLOTS];
    uint64_t tick; /* the last one that was worked off */
};

void http_wheel_init(struct http_wheel *w, uint64_t now_ns);
void http_deadline_init(struct http_deadline *d);
/* Makes sure that `d` is looked at by `due_ns`, perhaps earlier. */
void http_wheel_set(struct http_wheel *w, struct http_deadline *d, uint64_t due_ns);
void http_wheel_remove(struct http_deadline *d);
/* Takes out of the ring, one at a time, what is to be looked at by `now_ns`; NULL when there is no more. */
struct http_deadline *http_wheel_next(struct http_wheel *w, uint64_t now_ns);

#endif
