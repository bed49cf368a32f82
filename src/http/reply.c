#include <time.h>

#include "http/internal.h"

/* Every reply carries these, unless its handler sets the same field itself (a page has its own policy). */
#define SECURITY_FIELDS(FIELD)                 \
    FIELD("X-Content-Type-Options", "nosniff") \
    FIELD("X-Frame-Options", "DENY")           \
    FIELD("Referrer-Policy", "no-referrer")    \
    FIELD("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

/* Over TLS only, where it means something (RFC 6797). */
#define SECURE_FIELD(FIELD) FIELD("Strict-Transport-Security", "max-age=31536000")

#define AS_TEXT(name, value) name ": " value "\r\n"
#define AS_ROW(name, value) {STR_LIT(name), STR_LIT(value), STR_LIT(name ": " value "\r\n")},
static const char security_text[] = SECURITY_FIELDS(AS_TEXT);
static const struct {
    struct str name;
    struct str value;
    struct str line;
} security_rows[] = {SECURITY_FIELDS(AS_ROW) SECURE_FIELD(AS_ROW)};
enum { SECURE_ROW = LENGTH_OF(security_rows) - 1, DATE_BYTES = 29 };

#define STATUSES(STATUS)                           \
    STATUS(200, "OK")                              \
    STATUS(201, "Created")                         \
    STATUS(202, "Accepted")                        \
    STATUS(204, "No Content")                      \
    STATUS(206, "Partial Content")                 \
    STATUS(301, "Moved Permanently")               \
    STATUS(302, "Found")                           \
    STATUS(303, "See Other")                       \
    STATUS(304, "Not Modified")                    \
    STATUS(307, "Temporary Redirect")              \
    STATUS(308, "Permanent Redirect")              \
    STATUS(400, "Bad Request")                     \
    STATUS(401, "Unauthorized")                    \
    STATUS(403, "Forbidden")                       \
    STATUS(404, "Not Found")                       \
    STATUS(405, "Method Not Allowed")              \
    STATUS(406, "Not Acceptable")                  \
    STATUS(408, "Request Timeout")                 \
    STATUS(409, "Conflict")                        \
    STATUS(410, "Gone")                            \
    STATUS(411, "Length Required")                 \
    STATUS(412, "Precondition Failed")             \
    STATUS(413, "Content Too Large")               \
    STATUS(414, "URI Too Long")                    \
    STATUS(415, "Unsupported Media Type")          \
    STATUS(417, "Expectation Failed")              \
    STATUS(422, "Unprocessable Content")           \
    STATUS(425, "Too Early")                       \
    STATUS(429, "Too Many Requests")               \
    STATUS(431, "Request Header Fields Too Large") \
    STATUS(499, "Client Closed Request")           \
    STATUS(500, "Internal Server Error")           \
    STATUS(501, "Not Implemented")                 \
    STATUS(502, "Bad Gateway")                     \
    STATUS(503, "Service Unavailable")             \
    STATUS(504, "Gateway Timeout")                 \
    STATUS(505, "HTTP Version Not Supported")

static bool put_status(struct buf *out, int status)
{
    switch (status) {
#define AS_CASE(code, text) \
    case code: return buf_put_str(out, STR_LIT("HTTP/1.1 " #code " " text "\r\n"));
        STATUSES(AS_CASE)
#undef AS_CASE
    default: return buf_printf(out, "HTTP/1.1 %d \r\n", status);
    }
}

bool http_status_has_body(int status)
{
    return status != 204 && status != 304;
}

/* Date changes once a second, the rest of the common fields never. RFC 9110 section 5.6.7; the names
 * are not left to strftime, which would follow the locale. */
static void refresh_common(struct http_server *s)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = time(NULL);
    if (now == s->date_second)
        return;
    struct tm tm;
    gmtime_r(&now, &tm);
    int len = snprintf(s->common, sizeof s->common, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n%s",
                       days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900,
                       tm.tm_hour, tm.tm_min, tm.tm_sec, security_text);
    WW_ASSERT(len > 0 && (size_t)len < sizeof s->common);
    s->common_len = (size_t)len;
    s->date_second = now;
}

/* Which rows of the security table have no place in this reply, as bits. */
static unsigned overridden(const struct http_exchange *x, const struct http_reply *r)
{
    unsigned rows = x->secure ? 0 : 1u << SECURE_ROW;
    for (size_t f = 0; f < r->field_count; f++)
        for (unsigned i = 0; i < LENGTH_OF(security_rows); i++)
            if (str_ieq(r->fields[f].name, security_rows[i].name))
                rows |= 1u << i;
    return rows;
}

static void put_common(struct http_server *s, const struct http_exchange *x, const struct http_reply *r)
{
    struct buf *out = &s->output;
    refresh_common(s);
    unsigned without = overridden(x, r);
    if (without == 1u << SECURE_ROW) {
        buf_append(out, s->common, s->common_len);
        return;
    }
    buf_append(out, s->common, s->common_len - (sizeof security_text - 1));
    for (unsigned i = 0; i < LENGTH_OF(security_rows); i++)
        if (!(without & 1u << i))
            buf_put_str(out, security_rows[i].line);
}

static bool is_clean_byte(unsigned char c)
{
    return (c >= 0x20 || c == '\t') && c != 0x7f;
}

/* Bytes of a word that are zero have their highest bit set (Warren, Hacker's Delight, 2nd edition, section 6-1: others
 * above one may have, too, which is a false alarm only). */
static uint64_t zero_bytes(uint64_t word)
{
    return (word - 0x0101010101010101) & ~word & 0x8080808080808080;
}

/* Eight bytes at a time: all of every reply's fields come by here. */
static bool is_clean(struct str s)
{
    size_t i = 0;
    for (; s.len - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, s.p + i, sizeof word);
        if (!(zero_bytes(word & 0xe0e0e0e0e0e0e0e0) | zero_bytes(word ^ 0x7f7f7f7f7f7f7f7f)))
            continue;
        for (size_t k = 0; k < sizeof word; k++)
            if (!is_clean_byte((unsigned char)s.p[i + k]))
                return false;
    }
    for (; i < s.len; i++)
        if (!is_clean_byte((unsigned char)s.p[i]))
            return false;
    return true;
}

bool http_field_is_clean(const struct http_field *f)
{
    return f->name.len && is_clean(f->name) && is_clean(f->value);
}

size_t http_reply_common(struct http_server *s, const struct http_exchange *x, const struct http_reply *r,
                         struct http_field out[static HTTP_COMMON_FIELDS_MAX])
{
    _Static_assert(LENGTH_OF(security_rows) + 2 <= HTTP_COMMON_FIELDS_MAX, "they fit");
    size_t count = 0;
    refresh_common(s);
    unsigned without = overridden(x, r);
    out[count++] = (struct http_field){STR_LIT("Date"), str_make(s->common + 6, DATE_BYTES)};
    for (unsigned i = 0; i < LENGTH_OF(security_rows); i++)
        if (!(without & 1u << i))
            out[count++] = (struct http_field){security_rows[i].name, security_rows[i].value};
    out[count++] =
        (struct http_field){STR_LIT("X-Request-Id"), str_make(x->request_id, sizeof x->request_id - 1)};
    return count;
}

static void put_field(struct buf *out, struct str name, struct str value)
{
    WW_ASSERT(http_field_is_clean(&(struct http_field){name, value}));
    buf_put_str(out, name);
    buf_append(out, ": ", 2);
    buf_put_str(out, value);
    buf_append(out, "\r\n", 2);
}

void http_reply_head(struct http_server *s, const struct http_exchange *x, const struct http_reply *r,
                     enum http_persistence persistence)
{
    struct buf *out = &s->output;
    buf_clear(out);
    put_status(out, r->status);
    put_common(s, x, r);
    buf_put_str(out, STR_LIT("X-Request-Id: "));
    buf_append(out, x->request_id, sizeof x->request_id - 1);
    buf_append(out, "\r\n", 2);
    for (size_t i = 0; i < r->field_count; i++)
        put_field(out, r->fields[i].name, r->fields[i].value);
    if (r->pieces) {
        if (persistence != HTTP_PERSIST_UNFRAMED)
            buf_put_str(out, STR_LIT("Transfer-Encoding: chunked\r\n"));
    } else if (http_status_has_body(r->status)) {
        buf_put_str(out, STR_LIT("Content-Length: "));
        buf_put_u64(out, r->body.len);
        buf_append(out, "\r\n", 2);
    }
    if (persistence == HTTP_PERSIST_CLOSE || persistence == HTTP_PERSIST_UNFRAMED)
        buf_put_str(out, STR_LIT("Connection: close\r\n"));
    else if (persistence == HTTP_PERSIST_KEEP_ALIVE)
        buf_put_str(out, STR_LIT("Connection: keep-alive\r\n"));
    buf_append(out, "\r\n", 2);
    WW_ASSERT(!out->overflow);
}

void http_reply_last_chunk(struct buf *out, const struct http_field *trailers, size_t count)
{
    buf_put_str(out, STR_LIT("0\r\n"));
    for (size_t i = 0; i < count; i++)
        put_field(out, trailers[i].name, trailers[i].value);
    buf_append(out, "\r\n", 2);
}
