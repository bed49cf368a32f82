#include "base/arena.h"

#include <stdalign.h>

enum { BLOCK_BYTES = 4096 };

struct arena_block {
    struct arena_block *older;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *a, size_t ceiling)
{
    *a = (struct arena){.ceiling = ceiling};
}

void arena_done(struct arena *a)
{
    for (struct arena_block *b = a->blocks, *older; b; b = older) {
        older = b->older;
        free(b);
    }
    arena_init(a, a->ceiling);
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t align = alignof(max_align_t);
    if (size > a->ceiling)
        return NULL;
    size = (MAX(size, (size_t)1) + align - 1) & ~(align - 1);
    if ((size_t)(a->end - a->next) < size) {
        size_t whole = MAX(size + sizeof(struct arena_block), (size_t)BLOCK_BYTES);
        if (whole > a->ceiling - a->used)
            return NULL;
        struct arena_block *b = xmalloc(whole);
        b->older = a->blocks;
        a->blocks = b;
        a->used += whole;
        a->next = b->bytes;
        a->end = (char *)b + whole;
    }
    void *p = a->next;
    a->next += size;
    return memset(p, 0, size);
}

struct str arena_copy(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.len + 1);
    if (!p)
        return STR_NULL;
    if (s.len)
        memcpy(p, s.p, s.len);
    return str_make(p, s.len);
}
