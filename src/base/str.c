#include "base/str.h"

static unsigned char lower(char c)
{
    unsigned char u = (unsigned char)c;
    return u >= 'A' && u <= 'Z' ? (unsigned char)(u + 32) : u;
}

bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool str_ieq(struct str a, struct str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool str_starts_with(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq(str_make(s.p, prefix.len), prefix);
}

bool str_ends_with(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_eq(str_make(s.p + s.len - suffix.len, suffix.len), suffix);
}

size_t str_index(struct str s, char c)
{
    const char *hit = s.len ? memchr(s.p, c, s.len) : NULL;
    return hit ? (size_t)(hit - s.p) : s.len;
}

struct str str_trim(struct str s)
{
    while (s.len && (s.p[0] == ' ' || s.p[0] == '\t'))
        s.p++, s.len--;
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s.len--;
    return s;
}

struct str str_split(struct str *rest, char sep)
{
    size_t at = str_index(*rest, sep);
    struct str head = {rest->p, at};
    size_t skip = at < rest->len ? at + 1 : at;
    *rest = (struct str){rest->p + skip, rest->len - skip};
    return head;
}

bool str_to_u64(struct str s, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value))
            return false;
    }
    if (value > max)
        return false;
    *ret = value;
    return true;
}

/* Splits a number from the unit behind it; the number may have three decimals. */
static bool number_and_unit(struct str s, uint64_t *ret_thousandths, struct str *ret_unit)
{
    size_t digits = 0;
    while (digits < s.len && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    uint64_t value;
    if (!str_to_u64(str_make(s.p, digits), UINT64_MAX / 1000 - 1, &value)) /* the decimals must fit, too */
        return false;
    value *= 1000;
    if (digits < s.len && s.p[digits] == '.') {
        uint64_t scale = 100;
        size_t first = ++digits;
        for (; digits < s.len && s.p[digits] >= '0' && s.p[digits] <= '9'; digits++, scale /= 10)
            value += scale * (uint64_t)(s.p[digits] - '0');
        if (digits == first || digits > first + 3)
            return false;
    }
    *ret_thousandths = value;
    *ret_unit = str_trim(str_make(s.p + digits, s.len - digits));
    return true;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static bool scaled(struct str s, const struct unit *units, size_t count, uint64_t *ret)
{
    uint64_t thousandths;
    struct str unit;
    if (!number_and_unit(s, &thousandths, &unit))
        return false;
    for (size_t i = 0; i < count; i++)
        if (str_ieq(unit, str_of(units[i].name))) {
            unsigned __int128 value = (unsigned __int128)thousandths * units[i].factor / 1000;
            if (value > UINT64_MAX)
                return false;
            *ret = (uint64_t)value;
            return true;
        }
    return false;
}

bool str_to_bytes(struct str s, uint64_t *ret)
{
    static const struct unit units[] = {
        {"", 1},     {"b", 1},     {"k", KIB}, {"kb", KIB}, {"kib", KIB}, {"m", MIB},
        {"mb", MIB}, {"mib", MIB}, {"g", GIB}, {"gb", GIB}, {"gib", GIB},
    };
    return scaled(s, units, LENGTH_OF(units), ret);
}

bool str_to_duration_ns(struct str s, uint64_t *ret)
{
    static const struct unit units[] = {
        {"", NS_PER_S}, {"s", NS_PER_S},      {"ms", NS_PER_MS},      {"us", NS_PER_US},
        {"ns", 1},      {"m", 60 * NS_PER_S}, {"h", 3600 * NS_PER_S}, {"d", 86400 * NS_PER_S},
    };
    return scaled(s, units, LENGTH_OF(units), ret);
}

void hex_encode(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * len] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    unsigned char l = lower(c);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

bool hex_decode(struct str s, void *out, size_t len)
{
    unsigned char *p = out;
    if (s.len != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(s.p[2 * i]), low = hex_digit(s.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        p[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

size_t utf8_sequence_length(struct str s)
{
    if (s.len == 0)
        return 0;
    const unsigned char *p = (const unsigned char *)s.p;
    size_t need;
    uint32_t code, least;
    if (p[0] < 0x80)
        return 1;
    if ((p[0] & 0xe0) == 0xc0)
        need = 2, code = p[0] & 0x1f, least = 0x80;
    else if ((p[0] & 0xf0) == 0xe0)
        need = 3, code = p[0] & 0x0f, least = 0x800;
    else if ((p[0] & 0xf8) == 0xf0)
        need = 4, code = p[0] & 0x07, least = 0x10000;
    else
        return 0;
    if (s.len < need)
        return 0;
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    return need;
}
