/* A form's way to a page: what comes out of the parser is bounded text, and nothing of it is markup once it is escaped. */
#include "web/form.h"
#include "web/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct str s)
{
    WW_ASSERT(s.p);
    while (s.len) {
        size_t len = utf8_sequence_length(s);
        WW_ASSERT(len && s.p[0]);
        s = str_make(s.p + len, s.len - len);
    }
}

static void check_escaped(struct str text)
{
    struct buf out = buf_make(8 * WEB_FORM_BYTES_MAX + 16);
    WW_ASSERT(web_put_escaped(&out, text));
    struct str left = buf_str(&out);
    for (size_t i = 0; i < left.len; i++) {
        unsigned char c = (unsigned char)left.p[i];
        WW_ASSERT(c != '<' && c != '>' && c != '"' && c != '\'' && c != 0x7f);
        WW_ASSERT(c >= ' ' || c == '\n' || c == '\t');
        if (c == '&')
            WW_ASSERT(memmem(left.p + i, MIN(left.len - i, (size_t)6), ";", 1));
    }
    if (left.len)
        check_text(left);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct web_form form = {.count = 0};
    struct err_info info = {0};
    struct str body = str_make(data, size);
    arena_init(&arena, 256 * KIB);
    enum err e = web_form_parse(body, &arena, &form, &info);
    WW_ASSERT(info.code == e && (e || form.count <= WEB_FORM_FIELDS_MAX));
    for (size_t i = 0; !e && i < form.count; i++) {
        struct str name = form.fields[i].name, value = form.fields[i].value;
        WW_ASSERT(name.len && name.len <= WEB_FORM_NAME_MAX && value.len <= size);
        check_text(name);
        check_text(value);
        check_escaped(value);
        WW_ASSERT(web_form_get(&form, arena_copy(&arena, name).p).p == value.p); /* it is there once */
    }
    check_escaped(str_make(body.p, MIN(size, (size_t)WEB_FORM_BYTES_MAX)));
    arena_done(&arena);
    return 0;
}
