/* What HTTP/1 and HTTP/2 check alike in the head of a request. */
#ifndef WW_HTTP_TARGET_H
#define WW_HTTP_TARGET_H

#include "base/err.h"
#include "base/str.h"

/* Whether `host` has only characters of a host with an optional port. */
bool http_is_host(struct str host);
/* RFC 3986 section 2: a target has printable ASCII only, and no fragment. */
MUST_CHECK enum err http_target_check_bytes(struct str target, struct err_info *reterr);

#endif
