#include "web/template.h"

#define REPLACEMENT STR_LIT("\xef\xbf\xbd")

static const char *reference_of(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

bool web_put_escaped(struct buf *out, struct str text)
{
    for (size_t step; text.len; text = str_make(text.p + step, text.len - step)) {
        unsigned char c = (unsigned char)text.p[0];
        const char *reference = reference_of(text.p[0]);
        step = utf8_sequence_length(text);
        if (reference)
            buf_puts(out, reference);
        else if (!step || (c < ' ' && c != '\n' && c != '\t') || c == 0x7f)
            buf_put_str(out, REPLACEMENT);
        else
            buf_append(out, text.p, step);
        step = MAX(step, (size_t)1);
    }
    return !out->overflow;
}

/* --- templates ---------------------------------------------------------------------------------- */
/* Where `needle` begins in `s`, or s.len. */
static size_t find(struct str s, const char *needle)
{
    const char *at = s.len ? memmem(s.p, s.len, needle, strlen(needle)) : NULL;
    return at ? (size_t)(at - s.p) : s.len;
}

static struct str skip(struct str s, size_t count)
{
    return str_make(s.p + count, s.len - count);
}

/* Cuts the next tag off `rest`: returns the text before it; *ret_tag is what stands in its braces, .p NULL: there is none. */
static struct str next_tag(struct str *rest, struct str *ret_tag)
{
    size_t open = find(*rest, "{{");
    struct str before = str_make(rest->p, open);
    *ret_tag = STR_NULL;
    *rest = skip(*rest, open);
    if (rest->len) {
        size_t close = find(*rest, "}}");
        WW_ASSERT(close > 2 && close < rest->len);
        *ret_tag = str_make(rest->p + 2, close - 2);
        *rest = skip(*rest, close + 2);
    }
    return before;
}

/* Cuts off all up to the end of a section, and that; sections of the same name may lie inside. */
static struct str take_section(struct str *rest, struct str name)
{
    const char *start = rest->p, *end = NULL;
    for (int depth = 1; depth;) {
        struct str tag, before = next_tag(rest, &tag);
        WW_ASSERT(tag.p); /* else the section has no end */
        end = before.p + before.len;
        if (str_eq(skip(tag, 1), name))
            depth += tag.p[0] == '/' ? -1 : tag.p[0] == '#' || tag.p[0] == '^';
    }
    return str_make(start, (size_t)(end - start));
}

static const struct web_value *look_up(const struct web_scope *scope, struct str name)
{
    for (; scope; scope = scope->outer)
        for (size_t i = 0; i < scope->count; i++)
            if (str_eq(str_of(scope->values[i].name), name))
                return &scope->values[i];
    return NULL;
}

static void render(struct buf *out, struct str text, const struct str *page, const struct web_scope *scope);

static void render_section(struct buf *out, char kind, struct str body, const struct web_value *value,
                           const struct web_scope *scope)
{
    bool is_list = value && value->rows;
    bool there = value && (is_list ? value->row_count : value->text.len) > 0;
    if (there == (kind == '^'))
        return;
    for (size_t i = 0; i < (is_list && there ? value->row_count : 1); i++) {
        struct web_scope row = {NULL, 0, scope};
        if (is_list && there)
            row = (struct web_scope){value->rows[i].values, value->rows[i].count, scope};
        render(out, body, NULL, &row);
    }
}

/* `page`: NULL inside of it and in sections, where it has no place. */
static void render(struct buf *out, struct str text, const struct str *page, const struct web_scope *scope)
{
    while (text.len) {
        struct str tag;
        buf_put_str(out, next_tag(&text, &tag));
        if (!tag.p)
            return;
        struct str name = strchr("#^>/", tag.p[0]) ? skip(tag, 1) : tag;
        const struct web_value *value = look_up(scope, name);
        switch (tag.p[0]) {
        case '#':
        case '^': render_section(out, tag.p[0], take_section(&text, name), value, scope); break;
        case '>':
            WW_ASSERT(page && str_eq(name, STR_LIT("page")));
            render(out, *page, NULL, scope);
            break;
        default: WW_ASSERT(value && !value->rows); web_put_escaped(out, value->text);
        }
    }
}

void web_render(struct buf *out, struct str base, struct str page, const struct web_scope *scope)
{
    render(out, base, &page, scope);
}
