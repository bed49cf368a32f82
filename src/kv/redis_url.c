#include "kv/redis_url.h"

enum { DATABASE_MAX = 65535 };
#define SCHEME STR_LIT("redis://")

static enum err invalid(struct err_info *reterr, const char *why)
{
    return err_set(reterr, ERR_FIELD_INVALID,
                   "REDIS_URL must be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]: %s", why);
}

/* Bytes that would end a C string or are not printable are refused. */
static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] <= ' ' || s.p[i] == 0x7f)
            return false;
    return true;
}

/* Percent-decoding (RFC 3986, section 2.1) into a C string. */
static bool decode(struct str s, char *to, size_t size)
{
    size_t len = 0;
    for (size_t i = 0; i < s.len; i++) {
        char byte = s.p[i];
        if (byte == '%') {
            if (s.len - i < 3 || !hex_decode(str_make(s.p + i + 1, 2), &byte, 1))
                return false;
            i += 2;
        }
        if (!byte || len + 1 >= size)
            return false;
        to[len++] = byte;
    }
    to[len] = 0;
    return true;
}

static bool copy(struct str s, char *to, size_t size)
{
    if (!s.len || s.len >= size)
        return false;
    memcpy(to, s.p, s.len);
    to[s.len] = 0;
    return true;
}

static enum err parse_place(struct str place, struct redis_url *ret, struct err_info *reterr)
{
    struct str host, port = STR_LIT("6379");
    if (place.len && place.p[0] == '[') {
        place = str_make(place.p + 1, place.len - 1);
        if (str_index(place, ']') == place.len)
            return invalid(reterr, "the bracket of the IPv6 address is not closed");
        host = str_split(&place, ']');
        if (place.len && place.p[0] != ':')
            return invalid(reterr, "behind the bracket only :PORT may stand");
        if (place.len)
            port = str_make(place.p + 1, place.len - 1);
    } else {
        bool has_port = str_index(place, ':') < place.len;
        host = str_split(&place, ':');
        if (has_port)
            port = place;
    }
    uint64_t number;
    if (!copy(host, ret->host, sizeof ret->host))
        return invalid(reterr, "HOST must have 1 to 253 characters");
    if (!str_to_u64(port, UINT16_MAX, &number) || !number)
        return invalid(reterr, "PORT must be 1 to 65535");
    ret->port = (uint16_t)number;
    return OK;
}

enum err redis_url_parse(struct str url, struct redis_url *ret, struct err_info *reterr)
{
    struct redis_url parsed = {.database = 0};
    if (!str_starts_with(url, SCHEME))
        return invalid(reterr, "it does not begin with redis://");
    struct str rest = str_make(url.p + SCHEME.len, url.len - SCHEME.len);
    if (!is_plain(rest))
        return invalid(reterr, "it has a blank or a control character");
    size_t at = rest.len;
    while (at > 0 && rest.p[at - 1] != '@')
        at--;
    if (at > 0) {
        struct str password = str_make(rest.p, at - 1);
        struct str user = str_split(&password, ':');
        rest = str_make(rest.p + at, rest.len - at);
        if (!password.len || !decode(user, parsed.user, sizeof parsed.user) ||
            !decode(password, parsed.password, sizeof parsed.password))
            return invalid(reterr,
                           "before @ must stand [USER]:PASSWORD, percent-encoded, at most 127 and 511 bytes");
    }
    struct str place = str_split(&rest, '/');
    uint64_t number = 0;
    if (rest.len && !str_to_u64(rest, DATABASE_MAX, &number))
        return invalid(reterr, "DATABASE must be a number up to 65535");
    parsed.database = (uint32_t)number;
    enum err e = parse_place(place, &parsed, reterr);
    if (!e)
        *ret = parsed;
    return e;
}
