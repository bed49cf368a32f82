/* Writing JSON straight into a buffer (the hot path and the log); reading is jansson's. */
#ifndef WW_BASE_JSON_H
#define WW_BASE_JSON_H

#include "base/buf.h"

/* Appends `s` as a JSON string with its quotes (RFC 8259). Bytes that are not UTF-8 become U+FFFD. */
bool json_put_string(struct buf *b, struct str s);
/* Appends `"key":`; `key` is ours and needs no escaping. */
bool json_put_key(struct buf *b, const char *key);

#endif
