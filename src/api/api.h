/* The HTTP API: handlers that decode a request, call one folder and encode the answer. */
#ifndef WW_API_API_H
#define WW_API_API_H

#include "http/server.h"
#include "invoke/invocation.h"
#include "store/store.h"
#include "webhook/webhook.h"

/* What the handlers of one loop share: http_exchange_server_data(). */
struct api_context {
    struct invoke_context invoke;
    const struct api_program *program;
    struct http_server *server;
};

/* What all loops share; immutable while they run, or with its own lock. */
struct api_program {
    struct executor *executor;
    struct modules *modules;
    struct store *store;
    struct auth *auth;
    struct kv *kv;
    bool may_register;   /* whether people may make accounts by themselves */
    bool first_is_admin; /* and the very first one is an administrator */
    struct webhooks *webhooks;
    struct tracer *tracer;      /* NULL: nothing is traced */
    bool metrics_for_operators; /* /metrics wants a credential */
    struct usage *usage;
    const struct retention *retention;
    const char *data_dir, *temp_dir;
    const char *log_dir; /* NULL: no log file */
    uint64_t module_bytes_max;
    uint64_t input_bytes_max;
    uint64_t memory_bytes_max;
    uint64_t timeout_ns_max;
    uint64_t output_bytes_max;
    uint64_t stream_bytes_max;
    uint64_t start_wall_ns;
    struct metrics *const *metrics;
    struct api_context *const *contexts;
    uint32_t loop_count;
    const struct http_peers *peers; /* may be NULL */
    atomic_bool draining;
};

/* The table of routes for http_server_new(); `program`'s limits decide the body limits. `others` are copied behind them.
 * Call before the loops run: it is one table. */
const struct http_route *api_routes(const struct api_program *program, const struct http_route *others,
                                    size_t other_count, size_t *ret_count);

/* The hooks of struct http_server_config. */
void api_error_body(struct http_exchange *x, const struct err_info *err, struct buf *body);
void api_on_done(struct http_exchange *x, int status, uint64_t reply_bytes, uint64_t duration_ns);

/* The trace that a request belongs to: the caller's, or its own. */
struct trace_context api_trace(const struct http_exchange *x);

/* --- the families ------------------------------------------------------------------------------- */
extern const struct http_handler api_execute_handler;
extern const struct http_handler api_execute_stream_handler;
extern const struct http_handler api_live_handler;
extern const struct http_handler api_ready_handler;
extern const struct http_handler api_health_handler;

/* Appends {"error":{"code","message","request_id"}}. */
void api_put_error(struct buf *out, const struct err_info *err, const char *request_id);

/* The log's line "request failed" about what is answered with a 5xx; others have none. Once a request, by whoever
 * writes the answer. */
void api_log_failure(const char *request_id, const struct err_info *err);
/* The security line about a 401, 403 or 429; others have none. `who` may be NULL. */
void api_log_refusal(const char *request_id, const char *peer, const struct auth_principal *who,
                     const struct err_info *err);

#endif
