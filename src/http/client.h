/* Requests of ours to other servers, through libcurl. They block: for libuv's pool only. */
#ifndef WW_HTTP_CLIENT_H
#define WW_HTTP_CLIENT_H

#include "http/server.h"

struct http_client_request {
    const char *method; /* "GET", "POST", ... */
    const char *url;    /* http or https; anything else is FIELD_INVALID */
    const struct http_field *fields;
    size_t field_count;
    struct str body;
    uint64_t timeout_ns;       /* of all of it */
    size_t response_bytes_max; /* of the body; more is BAD_REQUEST */
    /* Whether addresses of this machine and of private networks may be asked; the check is made on the address that is
     * connected to, so a name that changes its mind does not get past it. */
    bool private_too;
};

struct http_client_response {
    int status;
    struct buf body; /* the caller's: buf_done() */
};

/* Redirects are not followed. OK: there is an answer, whatever its status. FIELD_INVALID: the URL is no such URL, or
 * leads where it may not. BUSY: no connection, no answer in time, TLS that does not verify; the sentence says which
 * and shows no credential. *ret is filled on OK only. Any thread. */
MUST_CHECK enum err http_client_send(const struct http_client_request *request,
                                     struct http_client_response *ret, struct err_info *reterr);

#endif
