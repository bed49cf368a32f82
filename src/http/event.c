#include "http/event.h"

bool http_event_put(struct buf *out, const char *name, struct str data)
{
    buf_puts(out, "event: ");
    buf_puts(out, name);
    size_t at = 0;
    do {
        size_t end = at;
        while (end < data.len && data.p[end] != '\n' && data.p[end] != '\r')
            end++;
        buf_puts(out, "\ndata: ");
        buf_append(out, data.p + at, end - at);
        at = end + 1;
        if (end + 1 < data.len && data.p[end] == '\r' && data.p[end + 1] == '\n')
            at++;
    } while (at <= data.len && data.len);
    return buf_puts(out, "\n\n");
}
