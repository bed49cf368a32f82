/* Trusted proxies inside src/http; see struct http_proxies in server.h. */
#ifndef WW_HTTP_PROXY_H
#define WW_HTTP_PROXY_H

#include "http/server.h"

/* Whether the peer (an address as text) is one of them. */
bool http_proxies_trust(const struct http_proxies *p, const char *peer);
/* Sets the client's address and whether its connection is secure from the fields of a request whose peer is
 * trusted. */
void http_proxy_apply(struct http_exchange *x);

#endif
