/* A borrowed run of bytes with its length; not NUL-terminated, never owned through this type. */
#ifndef WW_BASE_STR_H
#define WW_BASE_STR_H

#include "base/base.h"

struct str {
    const char *p;
    size_t len;
};

/* For printf: "%.*s", STR_FMT(s). Evaluates `s` twice. */
#define STR_FMT(s) (int)MIN((s).len, (size_t)0x7fffffff), (s).p
#define STR_LIT(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NULL ((struct str){NULL, 0})

static inline struct str str_of(const char *cstr)
{
    return (struct str){cstr, cstr ? strlen(cstr) : 0};
}

static inline struct str str_make(const void *p, size_t len)
{
    return (struct str){p, len};
}

bool str_eq(struct str a, struct str b);
/* Equality without regard to ASCII case, as HTTP field names want it. */
bool str_ieq(struct str a, struct str b);
bool str_starts_with(struct str s, struct str prefix);
bool str_ends_with(struct str s, struct str suffix);
/* The first `c` in `s`, or s.len. */
size_t str_index(struct str s, char c);
/* Without spaces and tabs at both ends. */
struct str str_trim(struct str s);
/* Cuts `rest` at the first `sep`: returns what stood before it, leaves what stands after it. */
struct str str_split(struct str *rest, char sep);

/* Parses all of `s` as a decimal number. False: empty, other characters, or above `max`. */
bool str_to_u64(struct str s, uint64_t max, uint64_t *ret);
/* Parses "128MiB", "10mb", "64k", "4096": bytes, with KiB/MiB/GiB (K/KB/M/MB/G/GB mean the same).
 * False: no such form, or it does not fit 64 bits. */
bool str_to_bytes(struct str s, uint64_t *ret);
/* Parses "5s", "250ms", "2m", "1h", "30d", "1.5s", a bare number = seconds: nanoseconds. */
bool str_to_duration_ns(struct str s, uint64_t *ret);

/* Lower-case hexadecimal of `len` bytes into `out` (2*len+1 bytes, NUL-terminated). */
void hex_encode(const void *data, size_t len, char *out);
/* The reverse; false unless `s` is exactly 2*len hexadecimal digits. */
bool hex_decode(struct str s, void *out, size_t len);
/* Length of the valid UTF-8 sequence (RFC 3629) at the start of `s`, 0 where there is none. */
size_t utf8_sequence_length(struct str s);

#endif
