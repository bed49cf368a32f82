/* A caller's traceparent: whatever it is, what comes out is ids of the right form, and only a good one is believed. */
#include "base/base.h"
#include "trace/context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char request_id[] = "0123456789abcdef0123456789abcdef";

static bool is_id(const char *text, size_t len)
{
    return strlen(text) == len && strspn(text, "0123456789abcdef") == len && strspn(text, "0") < len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* In memory of its own length, so that a byte read behind it is noticed. */
    CLEANUP(freep) char *copy = xmalloc(MAX(size, (size_t)1));
    memcpy(copy, data, size);
    struct trace_context c = trace_context_make(str_make(copy, size), request_id);
    WW_ASSERT(is_id(c.trace_id, 32) && is_id(c.span_id, 16));
    if (!c.parent_id[0]) {
        WW_ASSERT(strcmp(c.trace_id, request_id) == 0 && !c.sampled);
        return 0;
    }
    WW_ASSERT(size >= 55 && is_id(c.parent_id, 16));
    WW_ASSERT(memcmp(c.trace_id, data + 3, 32) == 0 && memcmp(c.parent_id, data + 36, 16) == 0);
    return 0;
}
