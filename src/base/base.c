#include "base/base.h"

#include <unistd.h>

NORETURN void ww_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "wasmwiz: bug at %s:%d: %s does not hold\n", file, line, condition);
    abort();
}

static NORETURN void out_of_memory(size_t size)
{
    fprintf(stderr, "wasmwiz: out of memory (%zu bytes wanted)\n", size);
    abort();
}

void *xmalloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        out_of_memory(count * size);
    return p;
}

void *xrealloc(void *old, size_t size)
{
    void *p = realloc(old, size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

char *xstrndup(const char *s, size_t len)
{
    char *copy = xmalloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = 0;
    return copy;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

void freep(void *pointer_to_pointer)
{
    void **p = pointer_to_pointer;
    free(*p);
    *p = NULL;
}

void closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
