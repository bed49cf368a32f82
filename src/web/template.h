/* Turns templates into HTML. A template is text with tags:
 *
 *     {{name}}                 the value, escaped; there is no way to put one in unescaped
 *     {{#name}} ... {{/name}}  once for each row of a list, or once where a text is not empty
 *     {{^name}} ... {{/name}}  where the list has no row, or the text is empty or absent
 *     {{>page}}                the page's own template, inside of the frame that all pages share
 *
 * A name is looked up in the row, then in what is around it. Escaped text is safe between tags and inside quoted
 * attributes, and nowhere else: not in scripts, styles or as the beginning of an address. Templates are ours: a broken one, or
 * a {{name}} that nobody knows, is a bug. */
#ifndef WW_WEB_TEMPLATE_H
#define WW_WEB_TEMPLATE_H

#include "base/buf.h"

struct web_scope;

struct web_value {
    const char *name;
    struct str text;
    const struct web_scope *rows; /* a list: the text is of no matter; not NULL */
    size_t row_count;
};

struct web_scope {
    const struct web_value *values;
    size_t count;
    const struct web_scope *outer; /* of a row: set by the renderer */
};

#define WEB_TEXT(name_, text_) ((struct web_value){.name = (name_), .text = (text_)})
#define WEB_LIST(name_, rows_, count_) \
    ((struct web_value){.name = (name_), .rows = (rows_), .row_count = (count_)})

/* Appends `text` as HTML text: & < > " ' become references; what is not UTF-8, and control characters but newline and
 * tab, become U+FFFD. */
bool web_put_escaped(struct buf *out, struct str text);
/* Appends `base` with `page` inside. */
void web_render(struct buf *out, struct str base, struct str page, const struct web_scope *scope);

#endif
