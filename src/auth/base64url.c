#include "auth/base64url.h"

/* 0 to 63, or -1. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool auth_base64url_decode(struct str text, unsigned char *to, size_t size, size_t *ret_len)
{
    size_t len = text.len / 4 * 3 + (text.len % 4 ? text.len % 4 - 1 : 0);
    if (text.len % 4 == 1 || len > size)
        return false;
    uint32_t bits = 0;
    unsigned held = 0; /* how many of `bits` are not written yet */
    size_t at = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.p[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            to[at++] = (unsigned char)(bits >> held);
            bits &= (1u << held) - 1;
        }
    }
    WW_ASSERT(at == len);
    if (bits)
        return false;
    *ret_len = len;
    return true;
}
