#include "trace/export.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "http/client.h"

enum {
    HEADERS_MAX = 16,
    HEADERS_BYTES_MAX = 4096,
    URL_BYTES = 2048,
    SPAN_BYTES_MAX = 4096,
    QUEUE_BYTES_MAX = 4 * 1024 * 1024,
    ANSWER_BYTES_MAX = 64 * 1024,
    FLUSH_MS = 500,
    BACK_OFF_MAX = 6, /* doublings of a second */
};
#define SEND_TIMEOUT_NS (5 * NS_PER_S)
#define LAST_TIMEOUT_NS (2 * NS_PER_S)
#define CLOCK_SLACK_NS (10 * NS_PER_MS)

struct batch {
    struct buf spans; /* JSON objects with commas between them */
    uint64_t count;
};

struct tracer {
    struct loop *loop;
    char url[URL_BYTES];
    char *service;
    char *header_text;
    struct http_field headers[HEADERS_MAX + 1]; /* and Content-Type */
    size_t header_count;
    uint64_t threshold; /* of the lower half of a trace's id */
    bool all;
    uv_timer_t timer;
    uv_work_t work;
    struct batch sending; /* the pool's while `busy` */
    bool busy;            /* the loop's */
    unsigned failures;    /* in a row */
    uint64_t again_ns;    /* not before this */
    uv_mutex_t lock;      /* guards all that follows */
    struct batch queue;
    uint64_t wall_minus_monotonic;
    uint64_t exported, dropped;
};

/* --- the configuration -------------------------------------------------------------------------- */
static enum err parse_ratio(struct str text, double *ret, struct err_info *reterr)
{
    char copy[32], *end = copy;
    snprintf(copy, sizeof copy, "%.*s", STR_FMT(text));
    double value = strtod(copy, &end);
    if (!text.len || text.len >= sizeof copy || *end || !(value >= 0 && value <= 1))
        return err_set(reterr, ERR_FIELD_INVALID, "OTEL_TRACES_SAMPLER_ARG: \"%s\" is no number from 0 to 1",
                       copy);
    *ret = value;
    return OK;
}

static enum err make_url(struct str endpoint, char ret_url[static URL_BYTES], struct err_info *reterr)
{
    struct err_info why = {0};
    while (endpoint.len && endpoint.p[endpoint.len - 1] == '/')
        endpoint.len--;
    int len = snprintf(ret_url, URL_BYTES, "%.*s/v1/traces", STR_FMT(endpoint));
    if (len >= URL_BYTES)
        return err_set(reterr, ERR_FIELD_INVALID, "OTEL_EXPORTER_OTLP_ENDPOINT: it has more than %d bytes",
                       URL_BYTES - 12);
    if (http_client_check_url(ret_url, true, &why))
        return err_set(reterr, ERR_FIELD_INVALID, "OTEL_EXPORTER_OTLP_ENDPOINT: %s", err_text(&why));
    return OK;
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!strchr("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
                    s.p[i]) ||
            !s.p[i])
            return false;
    return s.len > 0;
}

/* In place; false where a percent sign is not followed by two digits, or a control character comes out. */
static bool decode_value(char *p, size_t *len)
{
    size_t to = 0;
    for (size_t from = 0; from < *len; from++) {
        unsigned char c = (unsigned char)p[from];
        if (c == '%') {
            if (*len - from < 3 || !hex_decode(str_make(p + from + 1, 2), &c, 1))
                return false;
            from += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return false;
        p[to++] = (char)c;
    }
    *len = to;
    return true;
}

/* The fields point into `text`, which is changed. */
static enum err parse_headers(char *text, struct http_field fields[static HEADERS_MAX], size_t *ret_count,
                              struct err_info *reterr)
{
    struct str rest = str_of(text);
    size_t count = 0;
    if (rest.len > HEADERS_BYTES_MAX)
        return err_set(reterr, ERR_FIELD_INVALID, "OTEL_EXPORTER_OTLP_HEADERS: it has more than %d bytes",
                       HEADERS_BYTES_MAX);
    while (rest.len) {
        struct str value = str_trim(str_split(&rest, ',')), name = str_trim(str_split(&value, '='));
        value = str_trim(value);
        if (count == HEADERS_MAX || !is_token(name) || !decode_value(text + (value.p - text), &value.len))
            return err_set(
                reterr, ERR_FIELD_INVALID,
                "OTEL_EXPORTER_OTLP_HEADERS: field %zu is not NAME=VALUE with a percent-encoded value, "
                "or there are more than %d",
                count + 1, HEADERS_MAX);
        fields[count++] = (struct http_field){name, value};
    }
    *ret_count = count;
    return OK;
}

static enum err parse_config(const struct trace_config *config, struct tracer *t, struct err_info *reterr)
{
    double ratio = 1;
    t->header_text = xstrndup(config->headers.p, config->headers.len);
    enum err e = make_url(config->endpoint, t->url, reterr);
    if (!e)
        e = parse_headers(t->header_text, t->headers, &t->header_count, reterr);
    if (!e)
        e = parse_ratio(config->ratio, &ratio, reterr);
    t->all = ratio >= 1;
    t->threshold = t->all ? UINT64_MAX : (uint64_t)(ratio * 0x1p64);
    return e;
}

enum err trace_config_check(const struct trace_config *config, struct err_info *reterr)
{
    struct tracer t = {0};
    enum err e = parse_config(config, &t, reterr);
    free(t.header_text);
    return e;
}

/* --- sending ------------------------------------------------------------------------------------ */
static bool send_batch(struct tracer *t, const struct batch *b, uint64_t timeout_ns, struct err_info *reterr)
{
    struct buf body = buf_make(QUEUE_BYTES_MAX + 4096);
    struct http_client_response answer = {0};
    buf_puts(&body, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":"
                    "{\"stringValue\":");
    json_put_string(&body, str_of(t->service));
    buf_puts(&body, "}},{\"key\":\"service.version\",\"value\":{\"stringValue\":\"" WW_VERSION
                    "\"}}]},\"scopeSpans\":[{\"scope\":{\"name\":\"wasmwiz\",\"version\":\"" WW_VERSION
                    "\"},\"spans\":[");
    buf_put_str(&body, buf_str(&b->spans));
    buf_puts(&body, "]}]}]}");
    const struct http_client_request request = {.method = "POST",
                                                .url = t->url,
                                                .fields = t->headers,
                                                .field_count = t->header_count,
                                                .body = buf_str(&body),
                                                .timeout_ns = timeout_ns,
                                                .response_bytes_max = ANSWER_BYTES_MAX,
                                                .private_too = true};
    enum err e = http_client_send(&request, &answer, reterr);
    bool taken = !e && answer.status >= 200 && answer.status < 300;
    if (!e && !taken)
        err_set(reterr, ERR_BUSY, "the collector answered with status %d", answer.status);
    buf_done(&answer.body);
    buf_done(&body);
    uv_mutex_lock(&t->lock);
    if (taken)
        t->exported += b->count;
    else
        t->dropped += b->count;
    uv_mutex_unlock(&t->lock);
    return taken;
}

static void work_send(uv_work_t *work)
{
    struct tracer *t = CONTAINER_OF(work, struct tracer, work);
    struct err_info why = {0};
    if (send_batch(t, &t->sending, SEND_TIMEOUT_NS, &why)) {
        if (t->failures)
            LOG_INFO("traces are taken again");
        t->failures = 0;
        return;
    }
    if (!t->failures)
        LOG_WARN("traces are lost", LOG_CSTR("reason", err_text(&why)));
    t->again_ns = clock_now_ns() + (NS_PER_S << MIN(t->failures, (unsigned)BACK_OFF_MAX));
    t->failures++;
}

static void after_send(uv_work_t *work, int status)
{
    struct tracer *t = CONTAINER_OF(work, struct tracer, work);
    (void)status;
    t->busy = false;
}

/* What has come until now changes hands. */
static void take_queue(struct tracer *t)
{
    uint64_t wall = clock_wall_ns() - clock_now_ns();
    buf_clear(&t->sending.spans);
    uv_mutex_lock(&t->lock);
    struct batch empty = t->sending;
    t->sending = t->queue;
    t->queue = (struct batch){.spans = empty.spans};
    /* Followed only where the clock was set, so that the spans of a request agree with each other. */
    if (wall - t->wall_minus_monotonic + CLOCK_SLACK_NS > 2 * CLOCK_SLACK_NS)
        t->wall_minus_monotonic = wall;
    uv_mutex_unlock(&t->lock);
}

static void on_timer(uv_timer_t *timer)
{
    struct tracer *t = CONTAINER_OF(timer, struct tracer, timer);
    if (t->busy || clock_now_ns() < t->again_ns)
        return;
    take_queue(t);
    if (t->sending.count)
        t->busy = uv_queue_work(&t->loop->uv, &t->work, work_send, after_send) == 0;
}

/* --- spans -------------------------------------------------------------------------------------- */
bool tracer_wants(const struct tracer *t, const struct trace_context *c)
{
    unsigned char low[8];
    uint64_t value = 0;
    if (!t)
        return false;
    if (c->parent_id[0])
        return c->sampled;
    if (t->all)
        return true;
    if (!hex_decode(str_make(c->trace_id + 16, 16), low, sizeof low))
        return false;
    for (size_t i = 0; i < sizeof low; i++)
        value = value << 8 | low[i];
    return value < t->threshold;
}

static void put_attribute(struct buf *out, const struct trace_attribute *a)
{
    buf_printf(out, "{\"key\":\"%s\",\"value\":{", a->name);
    if (a->text.p) {
        buf_puts(out, "\"stringValue\":");
        json_put_string(out, a->text);
    } else {
        buf_printf(out, "\"intValue\":\"%llu\"", (unsigned long long)a->number);
    }
    buf_puts(out, "}}");
}

/* 64-bit numbers are strings in the JSON of protocol buffers. */
static void put_span(struct buf *out, const struct trace_span *s, uint64_t wall_minus_monotonic)
{
    const struct trace_context *c = s->context;
    char id[TRACE_SPAN_ID_BYTES];
    if (s->child)
        trace_child_id(c, s->child, id);
    buf_printf(out, "{\"traceId\":\"%s\",\"spanId\":\"%s\"", c->trace_id, s->child ? id : c->span_id);
    const char *parent = s->child ? c->span_id : c->parent_id;
    if (parent[0])
        buf_printf(out, ",\"parentSpanId\":\"%s\"", parent);
    if (s->state.p) {
        buf_puts(out, ",\"traceState\":");
        json_put_string(out, s->state);
    }
    buf_puts(out, ",\"name\":");
    json_put_string(out, str_of(s->name));
    buf_printf(out, ",\"kind\":%d,\"startTimeUnixNano\":\"%llu\",\"endTimeUnixNano\":\"%llu\"", (int)s->kind,
               (unsigned long long)(s->start_ns + wall_minus_monotonic),
               (unsigned long long)(s->end_ns + wall_minus_monotonic));
    buf_puts(out, ",\"attributes\":[");
    for (size_t i = 0; i < s->attribute_count; i++) {
        if (i)
            buf_putc(out, ',');
        put_attribute(out, &s->attributes[i]);
    }
    buf_puts(out, "]");
    if (s->failure) {
        buf_puts(out, ",\"status\":{\"code\":2,\"message\":");
        json_put_string(out, str_of(s->failure));
        buf_putc(out, '}');
    }
    buf_putc(out, '}');
}

void tracer_put(struct tracer *t, const struct trace_span *span)
{
    char text[SPAN_BYTES_MAX];
    struct buf line = {.p = text, .capacity = sizeof text, .max = sizeof text - 1};
    if (!t)
        return;
    uv_mutex_lock(&t->lock);
    uint64_t wall_minus_monotonic = t->wall_minus_monotonic;
    uv_mutex_unlock(&t->lock);
    put_span(&line, span, wall_minus_monotonic);
    uv_mutex_lock(&t->lock);
    struct batch *q = &t->queue;
    if (line.overflow || q->spans.len + line.len + 1 > QUEUE_BYTES_MAX) {
        t->dropped++;
    } else {
        if (q->count++)
            buf_putc(&q->spans, ',');
        buf_put_str(&q->spans, buf_str(&line));
    }
    uv_mutex_unlock(&t->lock);
}

struct trace_stats tracer_stats(struct tracer *t)
{
    if (!t)
        return (struct trace_stats){0};
    uv_mutex_lock(&t->lock);
    struct trace_stats s = {t->exported, t->dropped};
    uv_mutex_unlock(&t->lock);
    return s;
}

/* --- life --------------------------------------------------------------------------------------- */
static void free_parts(struct tracer *t)
{
    buf_done(&t->sending.spans);
    buf_done(&t->queue.spans);
    free(t->service);
    free(t->header_text);
    free(t);
}

enum err tracer_new(struct loop *loop, const struct trace_config *config, struct tracer **ret_tracer,
                    struct err_info *reterr)
{
    struct tracer *t = xcalloc(1, sizeof *t);
    enum err e = parse_config(config, t, reterr);
    if (e) {
        free_parts(t);
        return e;
    }
    t->headers[t->header_count++] = (struct http_field){STR_LIT("Content-Type"), STR_LIT("application/json")};
    t->loop = loop;
    t->service = xstrndup(config->service.p, config->service.len);
    t->sending.spans = buf_make(QUEUE_BYTES_MAX);
    t->queue.spans = buf_make(QUEUE_BYTES_MAX);
    t->wall_minus_monotonic = clock_wall_ns() - clock_now_ns();
    uv_mutex_init(&t->lock);
    uv_timer_init(&loop->uv, &t->timer);
    uv_timer_start(&t->timer, on_timer, FLUSH_MS, FLUSH_MS);
    uv_unref((uv_handle_t *)&t->timer);
    *ret_tracer = t;
    return OK;
}

void tracer_stop(struct tracer *t)
{
    if (t)
        uv_close((uv_handle_t *)&t->timer, NULL);
}

void tracer_free(struct tracer *t)
{
    struct err_info why = {0};
    if (!t)
        return;
    take_queue(t);
    if (t->sending.count && !send_batch(t, &t->sending, LAST_TIMEOUT_NS, &why))
        LOG_WARN("the last traces are lost", LOG_U64("spans", t->sending.count),
                 LOG_CSTR("reason", err_text(&why)));
    uv_mutex_destroy(&t->lock);
    free_parts(t);
}
