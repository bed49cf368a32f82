#include "base/base.h"

#include <execinfo.h>
#include <unistd.h>

enum { BACKTRACE_FRAMES_MAX = 64 };

/* The first backtrace() of a process loads the unwinder, which allocates and opens files. A bug may have broken the heap,
 * and a sandbox opens nothing once its walls stand; so it is done before anything else. */
__attribute__((constructor)) static void load_unwinder(void)
{
    void *frame;
    (void)backtrace(&frame, 1);
}

NORETURN void ww_assert_failed(const char *condition, const char *file, int line)
{
    void *frames[BACKTRACE_FRAMES_MAX];
    fprintf(stderr, "wasmwiz: bug at %s:%d: %s does not hold\n", file, line, condition);
    backtrace_symbols_fd(frames, backtrace(frames, BACKTRACE_FRAMES_MAX), STDERR_FILENO);
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
