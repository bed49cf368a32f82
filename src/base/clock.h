/* Time, in nanoseconds. */
#ifndef WW_BASE_CLOCK_H
#define WW_BASE_CLOCK_H

#include "base/base.h"
#include "base/str.h"

/* CLOCK_MONOTONIC: the same in all processes of this machine, so deadlines may cross the rings. */
uint64_t clock_now_ns(void);
/* CLOCK_REALTIME since 1970. */
uint64_t clock_wall_ns(void);
/* "2026-01-02T03:04:05.678Z" (RFC 3339) of a wall time; `out` holds at least 25 bytes. */
void clock_format(uint64_t wall_ns, char out[static 32]);
/* The reverse: "2026-01-02", which is its first moment in UTC, or a time of RFC 3339 with its zone. False: another form, no
 * such day, or outside of 1970 to 2261. */
bool clock_parse(struct str text, uint64_t *ret_wall_ns);

#endif
