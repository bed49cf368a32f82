#include "limit/limit.h"

#define US_PER_S ((uint64_t)1000000)

struct limit {
    struct limit_config config;
};

struct limit *limit_new(const struct limit_config *config)
{
    WW_ASSERT(config->key_per_minute <= KV_PER_MINUTE_MAX &&
              config->address_per_minute <= KV_PER_MINUTE_MAX && config->lease_ns &&
              config->lease_ns <= KV_LEASE_MAX_NS);
    struct limit *l = xcalloc(1, sizeof *l);
    l->config = *config;
    return l;
}

void limit_free(struct limit *l)
{
    free(l);
}

static uint32_t seconds_up(uint64_t us)
{
    return (uint32_t)((us + US_PER_S - 1) / US_PER_S);
}

static enum limit_what what_of(enum kv_refusal refusal)
{
    switch (refusal) {
    case KV_NO_MINUTE: return LIMIT_MINUTE;
    case KV_NO_DAY: return LIMIT_DAY;
    case KV_NO_CONCURRENCY: return LIMIT_CONCURRENCY;
    case KV_ALLOWED: break;
    }
    return LIMIT_NOTHING;
}

static struct limit_state state_of(const struct kv_answer *a, const struct kv_figures *f)
{
    struct limit_state state = {.refused_by = what_of(a->refusal), .local = a->local};
    if (f->per_day && (!f->per_minute || a->day_left < a->minute_left || a->refusal == KV_NO_DAY)) {
        state.limit = f->per_day;
        state.remaining = a->day_left;
        state.reset_s = seconds_up(a->midnight_us);
    } else if (f->per_minute) {
        state.limit = f->per_minute;
        state.remaining = a->minute_left;
        state.reset_s = seconds_up(a->full_us);
    }
    if (state.refused_by) {
        const uint32_t figures[] = {
            [LIMIT_MINUTE] = f->per_minute, [LIMIT_DAY] = f->per_day, [LIMIT_CONCURRENCY] = f->concurrency};
        state.figure = figures[state.refused_by];
        state.retry_after_s = MAX(seconds_up(a->retry_us), 1u);
    }
    return state;
}

static void fill(struct limit_wait *w)
{
    w->answer = w->kv.answer.refusal ? LIMIT_REFUSED : LIMIT_ALLOWED;
    w->state = state_of(&w->kv.answer, &w->figures);
    w->ticket = w->kv.ticket;
}

static void on_answer(struct kv_wait *kv)
{
    struct limit_wait *w = CONTAINER_OF(kv, struct limit_wait, kv);
    fill(w);
    w->ready(w);
}

static enum limit_answer allow(struct limit_wait *w)
{
    w->answer = LIMIT_ALLOWED;
    w->state = (struct limit_state){.limit = 0};
    w->ticket = (struct kv_ticket){.key_len = 0};
    return LIMIT_ALLOWED;
}

static enum limit_answer take(struct limit *l, struct loop *loop, const struct kv_request *request,
                              struct limit_wait *w)
{
    struct kv_request counted = *request;
    struct kv_figures *f = &counted.figures;
    f->per_minute = MIN(f->per_minute, (uint32_t)KV_PER_MINUTE_MAX);
    if (!f->per_minute && !f->per_day && !f->concurrency)
        return allow(w);
    w->figures = *f;
    w->kv.ready = on_answer;
    if (!kv_take(l->config.kv, loop, &counted, &w->kv))
        return LIMIT_ASK;
    fill(w);
    return w->answer;
}

enum limit_answer limit_execution(struct limit *l, struct loop *loop, struct str key,
                                  const struct kv_figures *figures, struct limit_wait *w)
{
    const struct kv_request request = {
        .space = KV_RUNS, .key = key, .figures = *figures, .lease_ns = l->config.lease_ns};
    return take(l, loop, &request, w);
}

enum limit_answer limit_look(struct limit *l, struct loop *loop, struct str key,
                             const struct kv_figures *figures, struct limit_wait *w)
{
    const struct kv_request request = {.space = KV_RUNS, .key = key, .figures = *figures, .look = true};
    return take(l, loop, &request, w);
}

enum limit_answer limit_key(struct limit *l, struct loop *loop, struct str key, struct limit_wait *w)
{
    const struct kv_request request = {
        .space = KV_REQUESTS, .key = key, .figures = {.per_minute = l->config.key_per_minute}};
    return take(l, loop, &request, w);
}

/* The bytes that a client's address counts by; an IPv4 address inside IPv6 (RFC 4291, section 2.5.5.2) is that one. */
static struct str subject_of(const struct sockaddr *address)
{
    enum { PREFIX_BYTES = 8, MAPPED_BYTES = 12 };
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        return str_make(&v4->sin_addr, sizeof v4->sin_addr);
    }
    if (address->sa_family != AF_INET6)
        return STR_NULL;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(v6))
        return str_make(v6->s6_addr + MAPPED_BYTES, sizeof(struct in_addr));
    return str_make(v6->s6_addr, PREFIX_BYTES);
}

enum limit_answer limit_address(struct limit *l, struct loop *loop, const struct sockaddr *address,
                                struct limit_wait *w)
{
    const struct kv_request request = {.space = KV_ADDRESSES,
                                       .key = subject_of(address),
                                       .figures = {.per_minute = l->config.address_per_minute}};
    return request.key.len ? take(l, loop, &request, w) : allow(w);
}

void limit_give(struct limit *l, struct loop *loop, struct kv_ticket *ticket, bool refund)
{
    kv_give(l->config.kv, loop, ticket, refund);
}

const char *limit_what_name(enum limit_what what)
{
    static const char *const names[] = {[LIMIT_NOTHING] = "",
                                        [LIMIT_MINUTE] = "minute",
                                        [LIMIT_DAY] = "day",
                                        [LIMIT_CONCURRENCY] = "concurrency"};
    return names[what];
}

enum err limit_refusal(const struct limit_state *state, struct err_info *info)
{
    if (state->refused_by == LIMIT_CONCURRENCY)
        return err_set(
            info, ERR_RATE_LIMITED,
            "%u executions of this key are under way, which is its limit; try again when one has ended",
            state->figure);
    return err_set(info, ERR_RATE_LIMITED, "the limit of %u a %s is used up; try again in %u seconds",
                   state->figure, limit_what_name(state->refused_by), state->retry_after_s);
}

static void put_field(struct limit_field *field, const char *name, uint32_t value)
{
    char digits[sizeof field->value];
    size_t at = sizeof digits;
    digits[--at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    field->name = name;
    memcpy(field->value, digits + at, sizeof digits - at);
}

size_t limit_fields(const struct limit_state *state, struct limit_field ret[static LIMIT_FIELDS_MAX])
{
    size_t count = 0;
    if (state->limit) {
        put_field(&ret[count++], "RateLimit-Limit", state->limit);
        put_field(&ret[count++], "RateLimit-Remaining", state->remaining);
        put_field(&ret[count++], "RateLimit-Reset", state->reset_s);
        put_field(&ret[count++], "X-RateLimit-Limit", state->limit);
        put_field(&ret[count++], "X-RateLimit-Remaining", state->remaining);
        put_field(&ret[count++], "X-RateLimit-Reset", state->reset_s);
    }
    if (state->refused_by)
        put_field(&ret[count++], "Retry-After", state->retry_after_s);
    return count;
}
