#include "http/params.h"

static void skip(struct str *s, size_t count)
{
    *s = str_make(s->p + count, s->len - count);
}

static size_t blanks(struct str s)
{
    size_t count = 0;
    while (count < s.len && (s.p[count] == ' ' || s.p[count] == '\t'))
        count++;
    return count;
}

/* A quoted string at the start of `rest`; false where its end is missing. */
static bool unquote(struct str *rest, char *out, size_t *ret_len)
{
    size_t at = 1, len = 0;
    while (at < rest->len && rest->p[at] != '"') {
        bool escape =
            rest->p[at] == '\\' && at + 1 < rest->len && (rest->p[at + 1] == '"' || rest->p[at + 1] == '\\');
        at += escape;
        out[len++] = rest->p[at++];
    }
    if (at >= rest->len)
        return false;
    skip(rest, at + 1);
    *ret_len = len;
    return true;
}

enum http_param http_param_next(struct str *rest, char *out, struct str *ret_name, struct str *ret_value)
{
    size_t len = 0;
    skip(rest, blanks(*rest));
    if (rest->len == 0)
        return HTTP_PARAM_END;
    if (rest->p[0] != ';')
        return HTTP_PARAM_BROKEN;
    skip(rest, 1);
    skip(rest, blanks(*rest));
    if (rest->len == 0)
        return HTTP_PARAM_END; /* a ';' too many */
    size_t name_len = str_index(*rest, '=');
    if (name_len == 0 || name_len == rest->len)
        return HTTP_PARAM_BROKEN;
    *ret_name = str_make(rest->p, name_len);
    for (size_t i = 0; i < name_len; i++)
        if (memchr(" \t;\"", rest->p[i], 4))
            return HTTP_PARAM_BROKEN;
    skip(rest, name_len + 1);
    if (rest->len && rest->p[0] == '"') {
        if (!unquote(rest, out, &len))
            return HTTP_PARAM_BROKEN;
    } else {
        while (len < rest->len && !memchr(" \t;\"", rest->p[len], 4))
            len++;
        if (len == 0)
            return HTTP_PARAM_BROKEN;
        memcpy(out, rest->p, len);
        skip(rest, len);
    }
    *ret_value = str_make(out, len);
    return HTTP_PARAM_FOUND;
}

bool http_urlencoded_decode(struct str s, char *out, struct str *ret)
{
    size_t len = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i] == '+' ? ' ' : s.p[i];
        if (c == '%') {
            if (s.len - i < 3 || !hex_decode(str_make(s.p + i + 1, 2), &c, 1))
                return false;
            i += 2;
        }
        if (!c)
            return false;
        out[len++] = c;
    }
    *ret = str_make(out, len);
    return true;
}
