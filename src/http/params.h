/* Names and values as they come with a request.
 *
 * The parameters behind a field's first word, as in `form-data; name="a"` or `multipart/form-data;
 * boundary=b` (RFC 9110 section 5.6.6, RFC 2183). */
#ifndef WW_HTTP_PARAMS_H
#define WW_HTTP_PARAMS_H

#include "base/str.h"

enum http_param { HTTP_PARAM_FOUND, HTTP_PARAM_END, HTTP_PARAM_BROKEN };

/* Takes the next parameter off `rest`, which begins with the ';' before it. The value is unquoted into
 * `out`, which has room for rest->len bytes. In quotes only \" and \\ are escapes: browsers escape
 * nothing, and old ones send C:\path\file as it is. */
enum http_param http_param_next(struct str *rest, char *out, struct str *ret_name, struct str *ret_value);

/* Decodes one name or value of application/x-www-form-urlencoded (URL standard, section 5.1) into `out`, which has room
 * for s.len bytes and may be where `s` is: '+' is a blank, %XX a byte. False: a broken %XX, or a NUL comes out. Any other
 * byte may come out, so the text need not be UTF-8. */
bool http_urlencoded_decode(struct str s, char *out, struct str *ret);

#endif
