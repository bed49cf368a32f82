/* Which trace a request belongs to: W3C Trace Context (https://www.w3.org/TR/trace-context/, version 00).
 *
 * A caller's `traceparent` is believed where it has exactly the form of the specification; anything else counts as
 * absent, and the request begins a trace of its own, whose id is the request's id. Ids of spans are made of the request's
 * id, too: so nothing has to be kept with a request, and all who ask about it get the same answer. */
#ifndef WW_TRACE_CONTEXT_H
#define WW_TRACE_CONTEXT_H

#include "base/str.h"

enum { TRACE_ID_BYTES = 33, TRACE_SPAN_ID_BYTES = 17, TRACE_STATE_MAX = 512 };

struct trace_context {
    char trace_id[TRACE_ID_BYTES];       /* 32 hexadecimal digits */
    char span_id[TRACE_SPAN_ID_BYTES];   /* of the request itself */
    char parent_id[TRACE_SPAN_ID_BYTES]; /* the caller's span; "": this is the root */
    bool sampled;                        /* the caller records its part; only where there is a parent */
};

/* From the value of `traceparent` (.p NULL: absent) and the request's 32 hexadecimal digits. */
struct trace_context trace_context_make(struct str traceparent, const char *request_id);
/* The id of the n-th span within the request's; `n` from 1. */
void trace_child_id(const struct trace_context *c, unsigned n, char ret_id[static TRACE_SPAN_ID_BYTES]);

#endif
