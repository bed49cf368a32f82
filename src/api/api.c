#include "api/api.h"

#include "api/call.h"
#include "base/json.h"
#include "base/log.h"

enum { FORM_OVERHEAD_BYTES = 64 * 1024 };

const struct http_route *api_routes(const struct api_program *program, size_t *ret_count)
{
    enum { ENDPOINTS_MAX = 64 };
    const uint64_t form = program->module_bytes_max + FORM_OVERHEAD_BYTES;
    const struct http_route others[] = {
        {.method = HTTP_METHOD_POST,
         .path = "/execute",
         .body_limit = form + program->input_bytes_max,
         .handler = api_execute_handler},
        {.method = HTTP_METHOD_POST,
         .path = "/execute/stream",
         .body_limit = form + program->stream_bytes_max,
         .handler = api_execute_stream_handler},
        {.method = HTTP_METHOD_GET, .path = "/health", .handler = api_health_handler},
        {.method = HTTP_METHOD_GET, .path = "/health/live", .handler = api_live_handler, .vital = true},
        {.method = HTTP_METHOD_GET, .path = "/health/ready", .handler = api_ready_handler, .vital = true},
        {.method = HTTP_METHOD_GET, .path = "/metrics", .handler = api_metrics_handler},
    };
    static struct http_route routes[LENGTH_OF(others) + ENDPOINTS_MAX];
    size_t n = LENGTH_OF(others);
    memcpy(routes, others, sizeof others);
    WW_ASSERT(api_endpoint_count <= ENDPOINTS_MAX);
    for (size_t i = 0; i < api_endpoint_count; i++)
        routes[n++] = (struct http_route){.method = api_endpoints[i].method,
                                          .path = api_endpoints[i].path,
                                          .body_limit = api_endpoints[i].body_limit,
                                          .handler = api_call_handler,
                                          .data = &api_endpoints[i]};
    *ret_count = n;
    return routes;
}

void api_put_error(struct buf *out, const struct err_info *err, const char *request_id)
{
    buf_puts(out, "{\"error\":{\"code\":\"");
    buf_puts(out, err_code(err->code));
    buf_puts(out, "\",\"message\":");
    json_put_string(out, str_of(err_text(err)));
    buf_puts(out, ",\"request_id\":\"");
    buf_puts(out, request_id);
    buf_puts(out, "\"}}\n");
}

/* Refused by the server before a handler saw it. The execute family has one form for every answer. */
void api_error_body(struct http_exchange *x, const struct err_info *err, struct buf *body)
{
    struct api_context *api = http_exchange_server_data(x);
    metrics_add(&api->invoke.metrics->errors[err->code], 1);
    if (!str_eq(http_path(x), STR_LIT("/execute")) && !str_eq(http_path(x), STR_LIT("/execute/stream"))) {
        api_put_error(body, err, http_request_id(x));
        return;
    }
    buf_puts(body, "{\"output\":\"\",\"error\":");
    json_put_string(body, str_of(err_text(err)));
    buf_printf(body, ",\"code\":\"%s\",\"request_id\":\"%s\"}\n", err_code(err->code), http_request_id(x));
}

void api_on_done(struct http_exchange *x, int status, uint64_t reply_bytes, uint64_t duration_ns)
{
    struct api_context *api = http_exchange_server_data(x);
    struct metrics *m = api->invoke.metrics;
    metrics_add(&m->http_requests[status >= 100 && status < 600 ? status / 100 : 0], 1);
    metrics_observe(&m->request_time, duration_ns);
    LOG_INFO("http", LOG_CSTR("request_id", http_request_id(x)), LOG_CSTR("peer", http_peer(x)),
             LOG_CSTR("method", http_method_name(x)), LOG_STR("path", http_path(x)),
             LOG_I64("status", status), LOG_U64("bytes", reply_bytes),
             LOG_U64("us", duration_ns / NS_PER_US));
}
