#include "api/api.h"

#include "api/call.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

enum { FORM_OVERHEAD_BYTES = 64 * 1024, SPAN_PATH_MAX = 256 };

const struct http_route *api_routes(const struct api_program *program, const struct http_route *others,
                                    size_t other_count, size_t *ret_count)
{
    enum { OTHERS_MAX = 128 };
    const uint64_t form = program->module_bytes_max + FORM_OVERHEAD_BYTES;
    const struct http_route first[] = {
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
    };
    static struct http_route routes[LENGTH_OF(first) + OTHERS_MAX];
    size_t n = LENGTH_OF(first);
    memcpy(routes, first, sizeof first);
    WW_ASSERT(api_endpoint_count + other_count <= OTHERS_MAX);
    for (size_t i = 0; i < api_endpoint_count; i++)
        routes[n++] = (struct http_route){.method = api_endpoints[i].method,
                                          .path = api_endpoints[i].path,
                                          .body_limit = api_endpoints[i].body_limit,
                                          .handler = api_call_handler,
                                          .data = &api_endpoints[i]};
    for (size_t i = 0; i < other_count; i++)
        routes[n++] = others[i];
    *ret_count = n;
    return routes;
}

void api_put_error(struct buf *out, const struct err_info *err, const char *request_id)
{
    buf_puts(out, "{\"error\":{\"code\":\"");
    buf_puts(out, err_code(err->code));
    buf_puts(out, "\",\"message\":");
    json_put_string(out, str_of(err_told(err)));
    buf_puts(out, ",\"request_id\":\"");
    buf_puts(out, request_id);
    buf_puts(out, "\"}}\n");
}

/* What many clients at once, one that sends what nobody speaks, or a shutdown bring about is no fault of the server's. */
static enum log_level failure_level(enum err code)
{
    switch (code) {
    case ERR_BUSY:
    case ERR_SHUTTING_DOWN:
    case ERR_NOT_IMPLEMENTED:
    case ERR_VERSION_UNSUPPORTED: return LOG_LEVEL_WARN;
    default: return LOG_LEVEL_ERROR;
    }
}

void api_log_failure(const char *request_id, const struct err_info *err)
{
    if (err_status(err->code) >= 500)
        LOG_AT(failure_level(err->code), "request failed", LOG_CSTR("request_id", request_id),
               LOG_CSTR("code", err_code(err->code)), LOG_I64("status", err_status(err->code)),
               LOG_CSTR("reason", err_text(err)));
}

void api_log_refusal(const char *request_id, const char *peer, const struct auth_principal *who,
                     const struct err_info *err)
{
    const char *event = err->code == ERR_UNAUTHORIZED   ? "authentication failed"
                        : err->code == ERR_FORBIDDEN    ? "permission denied"
                        : err->code == ERR_RATE_LIMITED ? "rate limit"
                                                        : NULL;
    if (event)
        LOG_WARN(event, LOG_CSTR("request_id", request_id), LOG_CSTR("peer", peer),
                 LOG_CSTR("who", who ? who->id : ""), LOG_CSTR("reason", err_text(err)));
}

/* Refused by the server before a handler saw it. The execute family has one form for every answer. */
void api_error_body(struct http_exchange *x, const struct err_info *err, struct buf *body)
{
    struct api_context *api = http_exchange_server_data(x);
    metrics_add(&api->invoke.metrics->errors[err->code], 1);
    api_log_failure(http_request_id(x), err);
    if (!str_eq(http_path(x), STR_LIT("/execute")) && !str_eq(http_path(x), STR_LIT("/execute/stream"))) {
        api_put_error(body, err, http_request_id(x));
        return;
    }
    buf_puts(body, "{\"output\":\"\",\"error\":");
    json_put_string(body, str_of(err_told(err)));
    buf_printf(body, ",\"code\":\"%s\",\"request_id\":\"%s\"}\n", err_code(err->code), http_request_id(x));
}

struct trace_context api_trace(const struct http_exchange *x)
{
    struct str parent = http_field_count(x, "traceparent") == 1 ? http_field(x, "traceparent") : STR_NULL;
    return trace_context_make(parent, http_request_id(x));
}

/* The request's own span; those of an execution's steps lie below it. */
static void put_span(struct tracer *t, struct http_exchange *x, const struct trace_context *trace, int status,
                     uint64_t reply_bytes, uint64_t duration_ns)
{
    uint64_t now = clock_now_ns();
    struct str path = http_path(x);
    struct str state = trace->parent_id[0] && http_field_count(x, "tracestate") == 1
                           ? http_field(x, "tracestate")
                           : STR_NULL;
    const struct trace_attribute attributes[] = {
        {"http.request.method", str_of(http_method_name(x)), 0},
        {"url.path", str_make(path.p, MIN(path.len, (size_t)SPAN_PATH_MAX)), 0},
        {"http.response.status_code", STR_NULL, (uint64_t)status},
        {"http.response.size", STR_NULL, reply_bytes},
        {"client.address", str_of(http_peer(x)), 0},
        {"wasmwiz.request_id", str_of(http_request_id(x)), 0}};
    tracer_put(t, &(struct trace_span){.context = trace,
                                       .name = http_method_name(x),
                                       .kind = TRACE_SERVER,
                                       .start_ns = now - duration_ns,
                                       .end_ns = now,
                                       .failure = status >= 500 ? "server error" : NULL,
                                       .state = state.len <= TRACE_STATE_MAX ? state : STR_NULL,
                                       .attributes = attributes,
                                       .attribute_count = LENGTH_OF(attributes)});
}

void api_on_done(struct http_exchange *x, int status, uint64_t reply_bytes, uint64_t duration_ns)
{
    struct api_context *api = http_exchange_server_data(x);
    struct metrics *m = api->invoke.metrics;
    metrics_add(&m->http_requests[status >= 100 && status < 600 ? status / 100 : 0], 1);
    metrics_observe(&m->request_time, duration_ns);
    const struct trace_context trace = api_trace(x);
    if (tracer_wants(api->program->tracer, &trace))
        put_span(api->program->tracer, x, &trace, status, reply_bytes, duration_ns);
    LOG_INFO("http", LOG_CSTR("request_id", http_request_id(x)), LOG_CSTR("trace_id", trace.trace_id),
             LOG_CSTR("peer", http_peer(x)), LOG_CSTR("method", http_method_name(x)),
             LOG_STR("path", http_path(x)), LOG_I64("status", status), LOG_U64("bytes", reply_bytes),
             LOG_U64("us", duration_ns / NS_PER_US));
}
