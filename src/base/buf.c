#include "base/buf.h"

enum { FIRST_CAPACITY = 256 };

void buf_done(struct buf *b)
{
    free(b->p);
    *b = buf_make(b->max);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->overflow = false;
}

char *buf_reserve(struct buf *b, size_t more)
{
    if (b->overflow || more > b->max - b->len) {
        b->overflow = true;
        return NULL;
    }
    size_t need = b->len + more;
    if (need > b->capacity) {
        size_t grown = MAX(b->capacity + b->capacity / 2, (size_t)FIRST_CAPACITY);
        b->capacity = MIN(MAX(grown, need), b->max);
        b->p = xrealloc(b->p, b->capacity + 1); /* for the NUL of buf_cstr() and buf_printf() */
    }
    return b->p + b->len;
}

bool buf_append(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return !b->overflow;
    char *to = buf_reserve(b, len);
    if (!to)
        return false;
    memcpy(to, data, len);
    b->len += len;
    return true;
}

bool buf_puts(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

bool buf_put_str(struct buf *b, struct str s)
{
    return buf_append(b, s.p, s.len);
}

bool buf_putc(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

bool buf_put_u64(struct buf *b, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return buf_append(b, digits + at, sizeof digits - at);
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    char small[256];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    bool ok = false;
    if (len < 0) {
        b->overflow = true;
    } else if ((size_t)len < sizeof small) {
        ok = buf_append(b, small, (size_t)len);
    } else {
        char *to = buf_reserve(b, (size_t)len);
        if (to) {
            vsnprintf(to, (size_t)len + 1, fmt, again);
            b->len += (size_t)len;
            ok = true;
        }
    }
    va_end(again);
    return ok;
}

void buf_consume(struct buf *b, size_t count)
{
    WW_ASSERT(count <= b->len);
    b->len -= count;
    if (b->len)
        memmove(b->p, b->p + count, b->len);
}

char *buf_take(struct buf *b, size_t *ret_len)
{
    char *p = b->p;
    if (ret_len)
        *ret_len = b->len;
    *b = buf_make(b->max);
    return p;
}

const char *buf_cstr(struct buf *b)
{
    if (b->overflow || !b->p)
        return "";
    b->p[b->len] = 0;
    return b->p;
}
