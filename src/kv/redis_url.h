/* redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], as the registration of the scheme at IANA describes it. User and
 * password may have percent-encoded bytes; an IPv6 address stands in brackets. */
#ifndef WW_KV_REDIS_URL_H
#define WW_KV_REDIS_URL_H

#include "base/err.h"
#include "base/str.h"

struct redis_url {
    char host[254];
    char user[128];     /* "": the default user */
    char password[512]; /* "": none */
    uint16_t port;
    uint32_t database;
};

/* ERR_FIELD_INVALID says what is wrong without repeating the URL. */
MUST_CHECK enum err redis_url_parse(struct str url, struct redis_url *ret, struct err_info *reterr);

#endif
