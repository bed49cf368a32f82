#include "module/wasm_reader.h"

bool wasm_read_byte(struct wasm_reader *r, uint8_t *ret)
{
    if (r->at == r->end)
        return false;
    *ret = r->bytes[r->at++];
    return true;
}

bool wasm_read_u32(struct wasm_reader *r, uint32_t *ret)
{
    uint32_t value = 0;
    size_t at = r->at;
    for (unsigned shift = 0; shift < 35 && at < r->end; shift += 7) {
        uint8_t byte = r->bytes[at++];
        if (shift == 28 && byte > 0x0f)
            return false;
        value |= (uint32_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            r->at = at;
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool is_utf8(struct str s)
{
    while (s.len) {
        size_t n = utf8_sequence_length(s);
        if (!n)
            return false;
        s = str_make(s.p + n, s.len - n);
    }
    return true;
}

bool wasm_read_name(struct wasm_reader *r, struct str *ret)
{
    struct wasm_reader ahead = *r;
    uint32_t len;
    if (!wasm_read_u32(&ahead, &len) || len > wasm_reader_left(&ahead))
        return false;
    struct str name = str_make(ahead.bytes + ahead.at, len);
    if (!is_utf8(name))
        return false;
    r->at = ahead.at + len;
    *ret = name;
    return true;
}

bool wasm_skip(struct wasm_reader *r, size_t count)
{
    if (count > wasm_reader_left(r))
        return false;
    r->at += count;
    return true;
}

bool wasm_read_window(struct wasm_reader *r, size_t count, struct wasm_reader *ret)
{
    size_t from = r->at;
    if (!wasm_skip(r, count))
        return false;
    *ret = (struct wasm_reader){r->bytes, from, r->at};
    return true;
}
