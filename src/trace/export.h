/* Spans on their way to an OpenTelemetry collector: OTLP over HTTP, in JSON (https://opentelemetry.io/docs/specs/otlp/,
 * version 1). Whoever has a span puts it here; twice a second what has come is sent from libuv's pool.
 *
 * The queue is bounded, and a collector that is down is asked less and less often: spans that find no room, and batches
 * that were not taken, are dropped and counted. Nobody ever waits for a trace. */
#ifndef WW_TRACE_EXPORT_H
#define WW_TRACE_EXPORT_H

#include "base/err.h"
#include "base/loop.h"
#include "trace/context.h"

/* As they come from the settings. */
struct trace_config {
    struct str endpoint; /* the collector's base address; "/v1/traces" is put behind it */
    struct str headers;  /* NAME=VALUE,..., values percent-encoded; secret */
    struct str service;
    struct str ratio; /* of the traces that begin here: "0" to "1" */
};
/* FIELD_INVALID names the variable; no header's value is shown. */
MUST_CHECK enum err trace_config_check(const struct trace_config *config, struct err_info *reterr);

struct tracer;
/* `loop` sends. On OK the caller owns *ret_tracer. Errors as trace_config_check(). */
MUST_CHECK enum err tracer_new(struct loop *loop, const struct trace_config *config,
                               struct tracer **ret_tracer, struct err_info *reterr);
/* On its loop: its handles close as the loop runs on. Spans may still be put. */
void tracer_stop(struct tracer *t);
/* After all loops ended: sends what is left, which takes two seconds at most. Takes NULL, like the next ones. */
void tracer_free(struct tracer *t);

/* Whether the spans of this trace are wanted: the caller's flag decides, or the ratio. Any thread. */
bool tracer_wants(const struct tracer *t, const struct trace_context *c);

enum trace_kind { TRACE_INTERNAL = 1, TRACE_SERVER = 2 };

struct trace_attribute {
    const char *name; /* needs no escaping */
    struct str text;  /* .p NULL: it is a number */
    uint64_t number;
};

struct trace_span {
    const struct trace_context *context;
    unsigned child; /* 0: the request's own span, else the n-th below it */
    const char *name;
    enum trace_kind kind;
    uint64_t start_ns, end_ns; /* monotonic */
    const char *failure;       /* NULL: none; else what failed */
    struct str state;          /* the caller's tracestate; .p NULL: none */
    const struct trace_attribute *attributes;
    size_t attribute_count;
};
/* Copies it. Any thread. */
void tracer_put(struct tracer *t, const struct trace_span *span);

struct trace_stats {
    uint64_t exported, dropped; /* spans */
};
struct trace_stats tracer_stats(struct tracer *t);

#endif
