/* A client of HTTP/2 that writes its frames by hand, and says in one line what came back. */
#ifndef WW_TESTS_HTTP2_FIXTURE_H
#define WW_TESTS_HTTP2_FIXTURE_H

#include <nghttp2/nghttp2.h>

#include "http_fixture.h"

enum { NONE = 0, END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, END = END_STREAM | END_HEADERS };
enum { PIECES_MAX = 300 };

struct h2_client {
    struct world *w;
    int fd;
    bool reset, ended;
    struct buf out, in, seen; /* what is to be sent; bytes that are no whole frame; the summary */
    nghttp2_hd_inflater *inflater;
    int32_t body_of[PIECES_MAX];
    struct buf body[PIECES_MAX];
    size_t body_count, data_frames;
    uint64_t window_updates; /* of streams, in bytes */
};

/* --- sending ---------------------------------------------------------------------------------------- */

static void h2_frame(struct h2_client *c, uint8_t type, uint8_t flags, uint32_t id, struct str payload)
{
    const uint8_t head[9] = {
        (uint8_t)(payload.len >> 16), (uint8_t)(payload.len >> 8), (uint8_t)payload.len, type,       flags,
        (uint8_t)(id >> 24),          (uint8_t)(id >> 16),         (uint8_t)(id >> 8),   (uint8_t)id};
    assert_true(buf_append(&c->out, head, sizeof head) && buf_put_str(&c->out, payload));
}

static void put_string(struct buf *b, struct str s)
{
    if (s.len < 127) {
        buf_putc(b, (char)s.len);
    } else { /* RFC 7541 section 5.1 */
        size_t rest = s.len - 127;
        for (buf_putc(b, 127); rest >= 128; rest /= 128)
            buf_putc(b, (char)(rest % 128 + 128));
        buf_putc(b, (char)rest);
    }
    buf_put_str(b, s);
}

static void put_pair(struct buf *b, const char *name, struct str value)
{
    buf_putc(b, 0); /* literal, without indexing */
    put_string(b, str_of(name));
    put_string(b, value);
}

/* A head from "name=value" lines; `fields` NULL: none. */
static struct buf h2_block(const char *method, const char *path, const char *fields)
{
    struct buf b = buf_make(1 << 20);
    struct str rest = str_of(fields);
    put_pair(&b, ":method", str_of(method));
    put_pair(&b, ":scheme", STR_LIT("http"));
    put_pair(&b, ":path", str_of(path));
    if (!fields || !strstr(fields, "host="))
        put_pair(&b, ":authority", STR_LIT("h"));
    while (rest.len) {
        struct str value = str_split(&rest, '\n'), name = str_split(&value, '=');
        CLEANUP(freep) char *copy = xstrndup(name.p, name.len);
        put_pair(&b, copy, value);
    }
    return b;
}

static void h2_head(struct h2_client *c, uint32_t id, uint8_t flags, const char *method, const char *path,
                    const char *fields)
{
    struct buf b = h2_block(method, path, fields);
    h2_frame(c, NGHTTP2_HEADERS, flags, id, buf_str(&b));
    buf_done(&b);
}

UNUSED static void h2_get(struct h2_client *c, uint32_t id, const char *path)
{
    h2_head(c, id, END, "GET", path, NULL);
}

UNUSED static void h2_data(struct h2_client *c, uint32_t id, uint8_t flags, struct str bytes)
{
    h2_frame(c, NGHTTP2_DATA, flags, id, bytes);
}

UNUSED static void h2_u32(struct h2_client *c, uint8_t type, uint32_t id, uint32_t value)
{
    const uint8_t payload[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                                (uint8_t)value};
    h2_frame(c, type, 0, id, str_make(payload, sizeof payload));
}

UNUSED static void h2_setting(struct h2_client *c, uint8_t name, uint32_t value)
{
    const uint8_t payload[6] = {
        0, name, (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    h2_frame(c, NGHTTP2_SETTINGS, 0, 0, str_make(payload, sizeof payload));
}

static void h2_send(struct h2_client *c)
{
    client_send(c->w, c->fd, buf_str(&c->out));
    buf_clear(&c->out);
}

/* --- reading ---------------------------------------------------------------------------------------- */

static struct buf *body_of(struct h2_client *c, int32_t id)
{
    for (size_t i = 0; i < c->body_count; i++)
        if (c->body_of[i] == id)
            return &c->body[i];
    assert_true(c->body_count < PIECES_MAX);
    c->body_of[c->body_count] = id;
    c->body[c->body_count] = buf_make(2 * BIG_BYTES);
    return &c->body[c->body_count++];
}

static uint32_t u32_at(struct str s, size_t at)
{
    const uint8_t *p = (const uint8_t *)s.p + at;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void say_body(struct h2_client *c, int32_t id)
{
    struct buf *body = body_of(c, id);
    if (body->len < 200)
        buf_printf(&c->seen, "%d=%.*s;", id, STR_FMT(buf_str(body)));
    else
        buf_printf(&c->seen, "%d=%zu bytes;", id, body->len);
}

/* The fields in the order of RFC 9113 section 8.3, and all that every reply has; "3+name=value;" is a trailer. */
static void see_head(struct h2_client *c, int32_t id, struct str block)
{
    int found = 0;
    bool final = true, trailers = true;
    while (block.len) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t used =
            nghttp2_hd_inflate_hd2(c->inflater, &nv, &flags, (const uint8_t *)block.p, block.len, 1);
        assert_true(used >= 0);
        block = str_make(block.p + used, block.len - (size_t)used);
        struct str name = str_make(nv.name, nv.namelen), value = str_make(nv.value, nv.valuelen);
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            for (size_t i = 0; i < name.len; i++)
                assert_false(name.p[i] >= 'A' && name.p[i] <= 'Z');
            if (str_eq(name, STR_LIT(":status"))) {
                trailers = false;
                buf_printf(&c->seen, "%d:%.*s;", id, STR_FMT(value));
                final = value.p[0] != '1';
            }
            if (trailers) {
                say_body(c, id);
                buf_printf(&c->seen, "%d+%.*s=%.*s;", id, STR_FMT(name), STR_FMT(value));
            }
            found += str_eq(name, STR_LIT("date")) || str_eq(name, STR_LIT("x-request-id")) ||
                     str_eq(name, STR_LIT("x-frame-options"));
            assert_false(str_eq(name, STR_LIT("connection")) ||
                         str_eq(name, STR_LIT("strict-transport-security")));
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL)
            nghttp2_hd_inflate_end_headers(c->inflater);
    }
    assert_int_equal(found, final && !trailers ? 3 : 0);
}

/* "3:200;" a head, "3=text;" a whole body, "3!8;" a reset, "goaway 1/11;" the last stream and the code. */
static void see_frame(struct h2_client *c, uint8_t type, uint8_t flags, int32_t id, struct str payload)
{
    switch (type) {
    case NGHTTP2_HEADERS: see_head(c, id, payload); break;
    case NGHTTP2_DATA: buf_put_str(body_of(c, id), payload), c->data_frames++; break;
    case NGHTTP2_RST_STREAM: buf_printf(&c->seen, "%d!%u;", id, u32_at(payload, 0)); break;
    case NGHTTP2_GOAWAY: buf_printf(&c->seen, "goaway %u/%u;", u32_at(payload, 0), u32_at(payload, 4)); break;
    case NGHTTP2_WINDOW_UPDATE: c->window_updates += id ? u32_at(payload, 0) : 0; break;
    case NGHTTP2_SETTINGS:
        if (!(flags & ACK))
            h2_frame(c, NGHTTP2_SETTINGS, ACK, 0, STR_LIT(""));
        break;
    case NGHTTP2_PING:
        if (!(flags & ACK))
            buf_puts(&c->seen, "ping;");
        break;
    default: break;
    }
    if (type == NGHTTP2_DATA && (flags & END_STREAM))
        say_body(c, id);
}

static void h2_read(struct h2_client *c)
{
    turn(c->w);
    c->ended = !client_read(c->fd, &c->in, &c->reset);
    while (c->in.len >= 9) {
        struct str s = buf_str(&c->in);
        size_t len = u32_at(s, 0) >> 8;
        if (s.len < 9 + len)
            break;
        see_frame(c, (uint8_t)s.p[3], (uint8_t)s.p[4], (int32_t)u32_at(s, 5), str_make(s.p + 9, len));
        buf_consume(&c->in, 9 + len);
    }
}

/* Sends what is there and reads until the summary is `text`, which must be how it begins meanwhile. */
static void h2_expect(struct h2_client *c, const char *text)
{
    h2_send(c);
    while (strcmp(buf_cstr(&c->seen), text) != 0) {
        if (c->ended || strncmp(buf_cstr(&c->seen), text, c->seen.len) != 0)
            fail_msg("expected \"%s\", there is \"%s\"%s", text, buf_cstr(&c->seen),
                     c->ended ? " and the end" : "");
        h2_read(c);
        rest(c->fd);
    }
    buf_clear(&c->seen);
}

/* Reads until the server has closed; all of the summary. */
UNUSED static const char *h2_to_end(struct h2_client *c)
{
    h2_send(c);
    while (!c->ended) {
        h2_read(c);
        rest(c->fd);
    }
    return buf_cstr(&c->seen);
}

static struct h2_client *h2_new(struct world *w)
{
    struct h2_client *c = xcalloc(1, sizeof *c);
    c->w = w;
    c->fd = client_new(w);
    c->out = c->in = buf_make(64 << 20);
    c->seen = buf_make(1 << 20);
    assert_int_equal(nghttp2_hd_inflate_new(&c->inflater), 0);
    buf_puts(&c->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    h2_frame(c, NGHTTP2_SETTINGS, 0, 0, STR_LIT(""));
    return c;
}

static void h2_free(struct h2_client *c)
{
    close(c->fd);
    buf_done(&c->out);
    buf_done(&c->in);
    buf_done(&c->seen);
    for (size_t i = 0; i < c->body_count; i++)
        buf_done(&c->body[i]);
    nghttp2_hd_inflate_del(c->inflater);
    free(c);
}

#endif
