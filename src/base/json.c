#include "base/json.h"

/* Bytes that stand for themselves inside a JSON string. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != 0x7f;
}

/* How many bytes at the start of `s` stand for themselves; may stop early, never late. Eight at a time: a byte that
 * does not makes the high bit of its place (or of one above it, by the borrow) show up in `special`. */
static size_t plain_run(struct str s)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    size_t run = 0;
    while (run + sizeof(uint64_t) <= s.len) {
        uint64_t w;
        memcpy(&w, s.p + run, sizeof w);
        uint64_t special = w | (w - ones * 0x20) | ((w ^ ones * '"') - ones) | ((w ^ ones * '\\') - ones) |
                           ((w ^ ones * 0x7f) - ones);
        if (special & highs)
            break;
        run += sizeof w;
    }
    while (run < s.len && is_plain((unsigned char)s.p[run]))
        run++;
    return run;
}

static bool put_escaped(struct buf *b, unsigned char c)
{
    switch (c) {
    case '"': return buf_append(b, "\\\"", 2);
    case '\\': return buf_append(b, "\\\\", 2);
    case '\n': return buf_append(b, "\\n", 2);
    case '\r': return buf_append(b, "\\r", 2);
    case '\t': return buf_append(b, "\\t", 2);
    default: return buf_printf(b, "\\u%04x", c);
    }
}

bool json_put_string(struct buf *b, struct str s)
{
    buf_putc(b, '"');
    while (s.len) {
        size_t run = plain_run(s);
        buf_append(b, s.p, run);
        s = str_make(s.p + run, s.len - run);
        if (!s.len)
            break;
        size_t step = 1;
        if ((unsigned char)s.p[0] < 0x80)
            put_escaped(b, (unsigned char)s.p[0]);
        else if ((step = utf8_sequence_length(s)) > 0)
            buf_append(b, s.p, step);
        else
            buf_append(b, "\xef\xbf\xbd", 3), step = 1;
        s = str_make(s.p + step, s.len - step);
    }
    return buf_putc(b, '"');
}

bool json_put_key(struct buf *b, const char *key)
{
    buf_putc(b, '"');
    buf_puts(b, key);
    return buf_append(b, "\":", 2);
}
