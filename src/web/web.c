#include "web/web.h"

#include "api/api.h"
#include "web/file.h"
#include "web/page.h"

static const struct api_endpoint pages[] = {
#define PAGE(method, path, access, body_limit, fields, fn) \
    {HTTP_METHOD_##method, path, API_##access, body_limit, fields, fn, &web_surface},
#include "web/pages.def"
#undef PAGE
};

enum { ASSETS_MAX = 16, PATH_BYTES = 64 };

const struct http_route *web_routes(size_t *ret_count)
{
    static struct http_route routes[LENGTH_OF(pages) + ASSETS_MAX];
    static char paths[ASSETS_MAX][PATH_BYTES];
    size_t n = 0, assets = 0;
    for (size_t i = 0; i < LENGTH_OF(pages); i++)
        routes[n++] = (struct http_route){.method = pages[i].method,
                                          .path = pages[i].path,
                                          .body_limit = pages[i].body_limit,
                                          .handler = api_call_handler,
                                          .data = &pages[i]};
    for (size_t i = 0; i < web_file_count; i++) {
        if (!str_starts_with(str_of(web_files[i].name), STR_LIT("static/")))
            continue;
        WW_ASSERT(assets < ASSETS_MAX);
        char *path = paths[assets++];
        int len = snprintf(path, PATH_BYTES, "/%s", web_files[i].name);
        WW_ASSERT(len > 0 && len < PATH_BYTES);
        routes[n++] = (struct http_route){
            .method = HTTP_METHOD_GET, .path = path, .handler = web_asset_handler, .data = &web_files[i]};
    }
    *ret_count = n;
    return routes;
}

/* --- what the server refuses by itself ---------------------------------------------------------- */
static bool is_page(struct str path)
{
    for (size_t i = 0; i < LENGTH_OF(pages); i++)
        if (str_eq(str_of(pages[i].path), path))
            return true;
    return false;
}

void web_error_body(struct http_exchange *x, const struct err_info *err, struct buf *body)
{
    struct api_context *api = http_exchange_server_data(x);
    if (!is_page(http_path(x))) {
        api_error_body(x, err, body);
        return;
    }
    metrics_add(&api->invoke.metrics->errors[err->code], 1);
    api_log_failure(http_request_id(x), err);
    web_page_put_error(body, err, NULL, http_request_id(x));
}

const struct http_field *web_error_fields(struct http_exchange *x, size_t *ret_count)
{
    if (!is_page(http_path(x)))
        return NULL;
    *ret_count = web_surface.field_count;
    return web_surface.fields;
}
