/* Which route takes a request: an exact path before a prefix, a longer prefix before a shorter one, and
 * among those the first that has the method. HEAD goes to GET where it has no route of its own. */
#ifndef WW_HTTP_ROUTER_H
#define WW_HTTP_ROUTER_H

#include "http/server.h"

/* All the routes of one path. */
struct http_router_path {
    struct str path; /* of a prefix: without the '*' */
    const struct http_route *by_method[HTTP_METHOD_COUNT];
};

struct http_router {
    struct http_router_path *exact; /* open addressing, `exact_mask` + 1 places */
    uint32_t exact_mask;
    struct http_router_path *prefixes; /* the longest first */
    uint32_t prefix_count;
    unsigned methods; /* a bit for each that any route has */
};

enum { HTTP_ALLOW_BYTES = 64 };

/* The routes are kept by reference. Two routes for the same method and path are a bug (WW_ASSERT). */
void http_router_init(struct http_router *r, const struct http_route *routes, size_t count);
void http_router_done(struct http_router *r);
/* NULL: no route. Then *ret_methods has a bit for each method that the path does take, 0 for an
 * unknown path. */
const struct http_route *http_router_find(const struct http_router *r, enum http_method method,
                                          struct str path, unsigned *ret_methods);
/* The value of an Allow field for these methods; HEAD and OPTIONS are added where they go without saying. */
void http_router_allow(unsigned methods, char out[static HTTP_ALLOW_BYTES]);
const char *http_method_text(enum http_method method);

#endif
