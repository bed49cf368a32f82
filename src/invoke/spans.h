/* The trace of an invocation: a span for each step that took time, below the request's own.
 *
 *     authenticate  receive  admit  resolve [compile]  queue  run  record  reply
 *
 * Nothing is kept, and no clock is read, unless the trace is wanted. */
#ifndef WW_INVOKE_SPANS_H
#define WW_INVOKE_SPANS_H

#include "invoke/invocation.h"

/* The step at inv->step begins, or goes on after it waited; the one before it has ended. */
void invocation_spans_step(struct invocation *inv);
/* In the last step: hands all of them to the tracer. */
void invocation_spans_put(struct invocation *inv);

#endif
