/* Requests of ours to other servers, through libcurl. They block: for libuv's pool only, or a thread of one's own.
 *
 * Neither the environment nor files of this machine have a say: no proxy, no netrc, no cookies. The one exception is
 * SSL_CERT_FILE, OpenSSL's own variable: a PEM file of the authorities to believe instead of the system's. TLS is 1.2
 * or newer and always verified. POST and PATCH go over a connection of their own and are sent once; the others may use
 * one again that is still open. */
#ifndef WW_HTTP_CLIENT_H
#define WW_HTTP_CLIENT_H

#include <stdatomic.h>

#include "http/server.h"

enum { HTTP_CLIENT_URL_MAX = 8000 }; /* bytes */

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
    const atomic_bool *cancelled; /* looked at once a second; may be NULL */
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

/* Whether http_client_send() would take this URL, as far as that can be said without asking anybody: its form, and an
 * address where it has one in place of a name. FIELD_INVALID: no. */
MUST_CHECK enum err http_client_check_url(const char *url, bool private_too, struct err_info *reterr);

struct sockaddr;
/* Whether this is an address of the public Internet: not of this machine, a private network, a link, a group, a
 * documentation, and no form of IPv6 that stands for an IPv4 address. */
bool http_client_address_is_public(const struct sockaddr *address);

#endif
