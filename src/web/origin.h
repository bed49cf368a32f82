/* Whether a form was sent by a page of this server. A login has no session yet whose token could tell, and logging a
 * visitor into somebody else's account is an attack, too; so this is asked of every POST.
 *
 * Browsers say where a request comes from in fields that no page can set: Sec-Fetch-Site (W3C Fetch Metadata Request
 * Headers), to https:// and the own machine, else Origin (RFC 6454 section 7, Fetch standard section 3.2), which all of
 * them send with a POST since 2020. A client that sends neither is refused: there is the JSON API for it. */
#ifndef WW_WEB_ORIGIN_H
#define WW_WEB_ORIGIN_H

#include "base/err.h"
#include "base/str.h"

/* What a request says; .p NULL where the field is absent. */
struct web_origin {
    struct str fetch_site; /* Sec-Fetch-Site */
    struct str origin;
    struct str host;
    bool secure; /* it came over TLS: then Origin has to say so */
};

/* ERR_FORBIDDEN: another site's, or nobody can tell. */
MUST_CHECK enum err web_origin_check(const struct web_origin *from, struct err_info *reterr);

#endif
