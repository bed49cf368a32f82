/* Server-sent events (WHATWG HTML, section 9.2): the text of a reply of type text/event-stream. */
#ifndef WW_HTTP_EVENT_H
#define WW_HTTP_EVENT_H

#include "base/buf.h"

/* Appends one event. `name` is ours; `data` is UTF-8, its lines may end in LF, CR or both. */
bool http_event_put(struct buf *out, const char *name, struct str data);

#endif
