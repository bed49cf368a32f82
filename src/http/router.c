#include "http/router.h"

static const char *const method_names[HTTP_METHOD_COUNT] = {
    [HTTP_METHOD_GET] = "GET",         [HTTP_METHOD_HEAD] = "HEAD",   [HTTP_METHOD_POST] = "POST",
    [HTTP_METHOD_PUT] = "PUT",         [HTTP_METHOD_PATCH] = "PATCH", [HTTP_METHOD_DELETE] = "DELETE",
    [HTTP_METHOD_OPTIONS] = "OPTIONS",
};

const char *http_method_text(enum http_method method)
{
    return method_names[method];
}

/* FNV-1a. The table holds only our own paths, so a client gains nothing from collisions. */
static uint32_t path_hash(struct str path)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < path.len; i++)
        hash = (hash ^ (unsigned char)path.p[i]) * 16777619u;
    return hash;
}

/* The place of `path`: its own or an empty one. */
static struct http_router_path *exact_place(const struct http_router *r, struct str path)
{
    uint32_t at = path_hash(path);
    for (;; at++) {
        struct http_router_path *place = &r->exact[at & r->exact_mask];
        if (!place->path.p || str_eq(place->path, path))
            return place;
    }
}

static struct http_router_path *prefix_place(struct http_router *r, struct str path)
{
    uint32_t at = 0;
    while (at < r->prefix_count && r->prefixes[at].path.len >= path.len) {
        if (str_eq(r->prefixes[at].path, path))
            return &r->prefixes[at];
        at++;
    }
    memmove(&r->prefixes[at + 1], &r->prefixes[at], (r->prefix_count - at) * sizeof r->prefixes[0]);
    r->prefix_count++;
    r->prefixes[at] = (struct http_router_path){.path = path};
    return &r->prefixes[at];
}

void http_router_init(struct http_router *r, const struct http_route *routes, size_t count)
{
    uint32_t places = 4;
    while (places < 2 * count)
        places *= 2;
    *r = (struct http_router){.exact_mask = places - 1};
    r->exact = xcalloc(places, sizeof r->exact[0]);
    r->prefixes = xcalloc(count, sizeof r->prefixes[0]);
    for (size_t i = 0; i < count; i++) {
        struct str path = str_of(routes[i].path);
        struct http_router_path *place;
        if (str_ends_with(path, STR_LIT("*"))) {
            place = prefix_place(r, str_make(path.p, path.len - 1));
        } else {
            place = exact_place(r, path);
            place->path = path;
        }
        WW_ASSERT(routes[i].method < HTTP_METHOD_COUNT && !place->by_method[routes[i].method]);
        place->by_method[routes[i].method] = &routes[i];
        r->methods |= 1u << routes[i].method;
    }
}

void http_router_done(struct http_router *r)
{
    free(r->exact);
    free(r->prefixes);
    *r = (struct http_router){0};
}

static const struct http_route *route_of(const struct http_router_path *p, enum http_method method,
                                         unsigned *methods)
{
    const struct http_route *route = p->by_method[method];
    if (!route && method == HTTP_METHOD_HEAD)
        route = p->by_method[HTTP_METHOD_GET];
    if (!route)
        for (unsigned i = 0; i < HTTP_METHOD_COUNT; i++)
            if (p->by_method[i])
                *methods |= 1u << i;
    return route;
}

const struct http_route *http_router_find(const struct http_router *r, enum http_method method,
                                          struct str path, unsigned *ret_methods)
{
    *ret_methods = 0;
    const struct http_route *route = NULL;
    const struct http_router_path *exact = exact_place(r, path);
    if (exact->path.p)
        route = route_of(exact, method, ret_methods);
    for (uint32_t i = 0; !route && i < r->prefix_count; i++)
        if (str_starts_with(path, r->prefixes[i].path))
            route = route_of(&r->prefixes[i], method, ret_methods);
    return route;
}

void http_router_allow(unsigned methods, char out[static HTTP_ALLOW_BYTES])
{
    struct buf b = {.p = out, .capacity = HTTP_ALLOW_BYTES, .max = HTTP_ALLOW_BYTES - 1};
    if (methods & 1u << HTTP_METHOD_GET)
        methods |= 1u << HTTP_METHOD_HEAD;
    methods |= 1u << HTTP_METHOD_OPTIONS;
    for (unsigned i = 0; i < HTTP_METHOD_COUNT; i++)
        if (methods & 1u << i) {
            if (b.len)
                buf_puts(&b, ", ");
            buf_puts(&b, method_names[i]);
        }
    out[b.len] = 0;
}
