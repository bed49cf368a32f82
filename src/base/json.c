#include "base/json.h"

/* Bytes that stand for themselves inside a JSON string. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != 0x7f;
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
        size_t run = 0;
        while (run < s.len && is_plain((unsigned char)s.p[run]))
            run++;
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
