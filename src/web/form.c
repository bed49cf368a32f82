#include "web/form.h"

#include "http/params.h"

static bool is_utf8(struct str s)
{
    while (s.len) {
        size_t len = utf8_sequence_length(s);
        if (!len)
            return false;
        s = str_make(s.p + len, s.len - len);
    }
    return true;
}

/* .p NULL: broken, or the arena is full. */
static struct str decode(struct str s, struct arena *arena)
{
    char *room = arena_alloc(arena, s.len + 1);
    struct str text;
    return room && http_urlencoded_decode(s, room, &text) && is_utf8(text) ? text : STR_NULL;
}

static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.p[i] <= ' ' || name.p[i] >= 0x7f)
            return false;
    return name.len && name.len <= WEB_FORM_NAME_MAX;
}

MUST_CHECK static enum err take_pair(struct str pair, struct arena *arena, struct web_form *form,
                                     struct err_info *reterr)
{
    bool has_value = str_index(pair, '=') < pair.len;
    struct str name = decode(str_split(&pair, '='), arena);
    if (!has_value || !name.p || !is_name(name))
        return err_set(reterr, ERR_BAD_REQUEST, "the form is malformed: a name and its value are wanted");
    if (web_form_get(form, arena_copy(arena, name).p).p)
        return err_set(reterr, ERR_FIELD_INVALID, "%.*s: it is in the form twice", STR_FMT(name));
    if (form->count == WEB_FORM_FIELDS_MAX)
        return err_set(reterr, ERR_BAD_REQUEST, "the form has more than %d fields", WEB_FORM_FIELDS_MAX);
    struct str value = decode(pair, arena);
    if (!value.p)
        return err_set(reterr, ERR_FIELD_INVALID, "%.*s: its value is not well formed", STR_FMT(name));
    form->fields[form->count++] = (struct web_form_field){name, value};
    return OK;
}

enum err web_form_parse(struct str body, struct arena *arena, struct web_form *ret_form,
                        struct err_info *reterr)
{
    struct web_form form = {.count = 0};
    if (body.len > WEB_FORM_BYTES_MAX)
        return err_set(reterr, ERR_BODY_TOO_LARGE, "the form has %zu bytes; at most %d are taken", body.len,
                       WEB_FORM_BYTES_MAX);
    bool more = body.len > 0; /* behind a last '&', too, a pair has to come */
    while (more) {
        more = str_index(body, '&') < body.len;
        enum err e = take_pair(str_split(&body, '&'), arena, &form, reterr);
        if (e)
            return e;
    }
    *ret_form = form;
    return OK;
}

struct str web_form_get(const struct web_form *form, const char *name)
{
    for (size_t i = 0; i < form->count; i++)
        if (str_eq(form->fields[i].name, str_of(name)))
            return form->fields[i].value;
    return STR_NULL;
}

enum err web_form_text(const struct web_form *form, const char *name, size_t min, size_t max, struct str *ret,
                       struct err_info *reterr)
{
    struct str value = web_form_get(form, name);
    if (!value.p)
        return err_set(reterr, ERR_FIELD_INVALID, "%s: it is missing", name);
    if (value.len < min || value.len > max)
        return err_set(reterr, ERR_FIELD_INVALID, "%s: it has %zu bytes; %zu to %zu are wanted", name,
                       value.len, min, max);
    *ret = value;
    return OK;
}
