#include <ctype.h>

#include "http/target.h"

bool http_is_host(struct str host)
{
    for (size_t i = 0; i < host.len; i++)
        if (!isalnum((unsigned char)host.p[i]) && !memchr("-._~%!$&'()*+;=:[]", host.p[i], 18))
            return false;
    return true;
}

enum err http_target_check_bytes(struct str target, struct err_info *reterr)
{
    for (size_t i = 0; i < target.len; i++)
        if ((unsigned char)target.p[i] <= ' ' || (unsigned char)target.p[i] >= 0x7f || target.p[i] == '#')
            return err_set(reterr, ERR_BAD_REQUEST,
                           "the request target has the byte 0x%02x, which must be percent-encoded",
                           (unsigned char)target.p[i]);
    return OK;
}
