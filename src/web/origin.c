#include "web/origin.h"

/* "https://host:port" against a Host field. Browsers leave the scheme's own port out of both. */
static bool is_own(const struct web_origin *from)
{
    struct str origin = from->origin;
    const struct str https = STR_LIT("https://"), http = STR_LIT("http://");
    if (str_starts_with(origin, https))
        origin = str_make(origin.p + https.len, origin.len - https.len);
    else if (!from->secure && str_starts_with(origin, http))
        origin = str_make(origin.p + http.len, origin.len - http.len);
    else
        return false;
    return origin.len && str_ieq(origin, from->host);
}

enum err web_origin_check(const struct web_origin *from, struct err_info *reterr)
{
    if (from->fetch_site.p) {
        if (str_eq(from->fetch_site, STR_LIT("same-origin")) || str_eq(from->fetch_site, STR_LIT("none")))
            return OK;
    } else if (from->origin.p) {
        if (is_own(from))
            return OK;
    } else {
        return err_set(reterr, ERR_FORBIDDEN,
                       "the browser does not say which page the form comes from (Sec-Fetch-Site or Origin)");
    }
    return err_set(reterr, ERR_FORBIDDEN, "the form was sent by a page of another site");
}
