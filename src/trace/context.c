#include "trace/context.h"

enum { PARENT_BYTES = 55, TRACE_AT = 3, SPAN_AT = 36, FLAGS_AT = 53, FLAG_SAMPLED = 1 };

/* Lower case only, as the specification wants it. */
static bool is_hex(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!(s.p[i] >= '0' && s.p[i] <= '9') && !(s.p[i] >= 'a' && s.p[i] <= 'f'))
            return false;
    return true;
}

static bool is_id(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] != '0')
            return is_hex(s);
    return false;
}

/* 00-TRACE-PARENT-FLAGS. Later versions may go on behind another dash. */
static bool parse(struct str s, struct trace_context *ret)
{
    unsigned char flags;
    if (s.len < PARENT_BYTES || s.p[TRACE_AT - 1] != '-' || s.p[SPAN_AT - 1] != '-' ||
        s.p[FLAGS_AT - 1] != '-')
        return false;
    struct str version = str_make(s.p, 2), trace = str_make(s.p + TRACE_AT, TRACE_ID_BYTES - 1),
               span = str_make(s.p + SPAN_AT, TRACE_SPAN_ID_BYTES - 1), bits = str_make(s.p + FLAGS_AT, 2);
    if (!is_hex(version) || str_eq(version, STR_LIT("ff")) || !is_id(trace) || !is_id(span) || !is_hex(bits))
        return false;
    if (s.len > PARENT_BYTES && (str_eq(version, STR_LIT("00")) || s.p[PARENT_BYTES] != '-'))
        return false;
    if (!hex_decode(bits, &flags, 1))
        return false;
    memcpy(ret->trace_id, trace.p, trace.len);
    memcpy(ret->parent_id, span.p, span.len);
    ret->sampled = flags & FLAG_SAMPLED;
    return true;
}

struct trace_context trace_context_make(struct str traceparent, const char *request_id)
{
    struct trace_context c = {0};
    size_t len = strnlen(request_id, TRACE_ID_BYTES - 1);
    if (!traceparent.p || !parse(traceparent, &c))
        memcpy(c.trace_id, request_id, len);
    memcpy(c.span_id, request_id, MIN(len, (size_t)TRACE_SPAN_ID_BYTES - 1));
    return c;
}

void trace_child_id(const struct trace_context *c, unsigned n, char ret_id[static TRACE_SPAN_ID_BYTES])
{
    uint64_t id = 0;
    if (!hex_decode(str_of(c->span_id), &id, sizeof id))
        id = 1;
    /* The finalizer of SplitMix64 (Steele, Lea, Flood): other ids for other `n`, and never the same for two of them. */
    id += n * UINT64_C(0x9e3779b97f4a7c15);
    id = (id ^ (id >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    id = (id ^ (id >> 27)) * UINT64_C(0x94d049bb133111eb);
    id ^= id >> 31;
    id = id ? id : 1; /* all zeroes are no id */
    hex_encode(&id, sizeof id, ret_id);
}
