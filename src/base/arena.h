/* Memory that lives as long as one invocation and is freed at once, with a ceiling: past it an
 * allocation gives NULL, which is that invocation's error and nobody else's. */
#ifndef WW_BASE_ARENA_H
#define WW_BASE_ARENA_H

#include "base/str.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    char *next;
    char *end;
    size_t used;
    size_t ceiling;
};

/* `ceiling` bytes in all, blocks included. Allocates nothing yet. */
void arena_init(struct arena *a, size_t ceiling);
void arena_done(struct arena *a);
/* Zeroed, aligned for any type; NULL past the ceiling. */
void *arena_alloc(struct arena *a, size_t size);
/* A NUL-terminated copy; its .p is NULL past the ceiling. */
struct str arena_copy(struct arena *a, struct str s);

#endif
