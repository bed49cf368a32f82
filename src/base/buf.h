/* A growing byte buffer that states its maximum at birth. Going past it (or a failed formatting)
 * sets `overflow`, after which every append does nothing and says false: check once, at the end. */
#ifndef WW_BASE_BUF_H
#define WW_BASE_BUF_H

#include <stdarg.h>

#include "base/str.h"

struct buf {
    char *p;
    size_t len;
    size_t capacity;
    size_t max;
    bool overflow;
};

/* An empty buffer that may grow to `max` bytes; allocates nothing yet. */
static inline struct buf buf_make(size_t max)
{
    return (struct buf){.max = max};
}

/* Frees the bytes; the buffer is empty again and keeps its maximum. Fine on zeroes. */
void buf_done(struct buf *b);
/* Forgets the content and the overflow, keeps the memory. */
void buf_clear(struct buf *b);
/* Room for `more` bytes behind the content: the place to write them, or NULL on overflow.
 * Add what was written to `len`. */
char *buf_reserve(struct buf *b, size_t more);
bool buf_append(struct buf *b, const void *data, size_t len);
bool buf_puts(struct buf *b, const char *s);
bool buf_put_str(struct buf *b, struct str s);
bool buf_putc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool buf_put_u64(struct buf *b, uint64_t value);
/* Drops the first `count` bytes. */
void buf_consume(struct buf *b, size_t count);
/* The bytes, handed over: the caller frees them; the buffer is empty. NULL when empty. */
char *buf_take(struct buf *b, size_t *ret_len);
/* The content, NUL-terminated, lent until the next change. "" when empty or on overflow. */
const char *buf_cstr(struct buf *b);

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->p, b->len};
}

#endif
