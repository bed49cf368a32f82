/* What every file of the program sees: scope exit, checked results, sizes.
 *
 * Three kinds of failure are never mixed. Our own bug: WW_ASSERT, kept in release builds. The
 * client's or the guest's fault, and the world's (disk, database, memory): an `enum err` value,
 * see base/err.h. */
#ifndef WW_BASE_BASE_H
#define WW_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/banned.h"

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))

/* Runs `fn(&variable)` when the variable leaves its scope; TAKE moves the value out first. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define TAKE(p)                          \
    (__extension__({                     \
        __typeof__(p) take_value_ = (p); \
        (p) = NULL;                      \
        take_value_;                     \
    }))

#define LENGTH_OF(array) (sizeof(array) / sizeof((array)[0]))
#ifndef MIN
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define NS_PER_US ((uint64_t)1000)
#define NS_PER_MS (1000 * NS_PER_US)
#define NS_PER_S (1000 * NS_PER_MS)
#define WASM_PAGE_BYTES (64 * KIB)

/* An assertion that stays in release builds: a broken invariant ends the process with the place and a backtrace on stderr,
 * "PROGRAM(+OFFSET)[ADDRESS]" a frame; addr2line -f -e PROGRAM OFFSET tells the function and line. */
#define WW_ASSERT(cond) ((cond) ? (void)0 : ww_assert_failed(#cond, __FILE__, __LINE__))
NORETURN void ww_assert_failed(const char *condition, const char *file, int line);
/* A place that the program can't come to, whatever others do; `why` is the sentence about it. */
#define WW_UNREACHABLE(why) ww_assert_failed(why, __FILE__, __LINE__)

/* Memory that may not fail: running out of it ends the process with one line on stderr.
 * Sizes that a client chooses are bounded before they come here. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);

/* For CLEANUP: frees what the pointer variable points at. */
void freep(void *pointer_to_pointer);
void closep(int *fd);

#endif
