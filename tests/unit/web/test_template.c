/* The escaper, the renderer, and the templates as they are in the program. */
#include "../unit.h"

#include "web/file.h"
#include "web/template.h"

static struct str escaped(struct buf *out, struct str text)
{
    buf_clear(out);
    assert_true(web_put_escaped(out, text));
    return buf_str(out);
}

static void escapes(void **state)
{
    (void)state;
    struct buf out = buf_make(4096);
    const struct {
        struct str in, out;
    } cases[] = {
        {STR_LIT(""), STR_LIT("")},
        {STR_LIT("plain text, 1 + 1 = 2"), STR_LIT("plain text, 1 + 1 = 2")},
        {STR_LIT("<script>alert('x')</script>"), STR_LIT("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;")},
        {STR_LIT("\" onmouseover=\"x"), STR_LIT("&quot; onmouseover=&quot;x")},
        {STR_LIT("&amp;"), STR_LIT("&amp;amp;")},
        {STR_LIT("a\nb\tc"), STR_LIT("a\nb\tc")},
        {STR_LIT("a\0b\rc\x1b\x7f"), STR_LIT("a\xef\xbf\xbd"
                                             "b\xef\xbf\xbd"
                                             "c\xef\xbf\xbd\xef\xbf\xbd")},
        {STR_LIT("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"), STR_LIT("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80")},
        {STR_LIT("\xc3<"), STR_LIT("\xef\xbf\xbd&lt;")}, /* a byte that wants another does not eat it */
        {STR_LIT("\xc0\xbc"), STR_LIT("\xef\xbf\xbd\xef\xbf\xbd")},                 /* an overlong '<' */
        {STR_LIT("\xed\xa0\x80"), STR_LIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")}, /* a surrogate */
        {STR_LIT("{{x}}"), STR_LIT("{{x}}")},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++)
        if (!str_eq(escaped(&out, cases[i].in), cases[i].out))
            fail_msg("case %zu gave %s", i, buf_cstr(&out));
    buf_done(&out);
}

static void says_when_there_is_no_room(void **state)
{
    (void)state;
    struct buf out = buf_make(4);
    assert_false(web_put_escaped(&out, STR_LIT("<<")));
    buf_done(&out);
}

static void renders(void **state)
{
    (void)state;
    const struct web_value first[] = {WEB_TEXT("name", STR_LIT("a<b")), WEB_TEXT("live", STR_LIT("yes"))};
    const struct web_value second[] = {WEB_TEXT("name", STR_LIT("{{title}}"))};
    const struct web_scope rows[] = {{first, LENGTH_OF(first), NULL}, {second, LENGTH_OF(second), NULL}};
    const struct web_value around[] = {WEB_TEXT("title", STR_LIT("T&T")), WEB_TEXT("live", STR_LIT(""))};
    const struct web_value values[] = {WEB_LIST("rows", rows, 2), WEB_LIST("none", rows, 0),
                                       WEB_TEXT("name", STR_LIT("outer"))};
    const struct web_scope outer = {around, LENGTH_OF(around), NULL};
    const struct web_scope scope = {values, LENGTH_OF(values), &outer};
    const struct {
        const char *page, *result;
    } cases[] = {
        {"", "[]"},
        {"{{title}}", "[T&amp;T]"},
        {"{{#rows}}{{name}};{{/rows}}", "[a&lt;b;{{title}};]"}, /* a value is never a template */
        {"{{#rows}}{{#live}}{{name}}{{/live}}{{^live}}-{{/live}}{{/rows}}", "[a&lt;b-]"},
        {"{{#rows}}{{title}}{{/rows}}", "[T&amp;TT&amp;T]"},
        {"{{#none}}x{{/none}}{{^none}}empty{{/none}}", "[empty]"},
        {"{{#rows}}{{#rows}}.{{/rows}}{{/rows}}", "[....]"}, /* a section inside of one of its own name */
        {"{{#title}}yes{{/title}}{{^title}}no{{/title}}", "[yes]"},
        {"{{#unknown}}yes{{/unknown}}{{^unknown}}no{{/unknown}}", "[no]"},
        {"{{^rows}}x{{/rows}}{{name}}", "[outer]"},
        {"a { b } c", "[a { b } c]"},
    };
    struct buf out = buf_make(4096);
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        buf_clear(&out);
        web_render(&out, STR_LIT("[{{>page}}]"), str_of(cases[i].page), &scope);
        assert_string_equal(buf_cstr(&out), cases[i].result);
    }
    buf_done(&out);
}

/* A value inside of a markup tag stands in double quotes. */
static void values_are_quoted(struct str text)
{
    bool in_tag = false, in_quotes = false;
    for (size_t i = 0; i + 2 < text.len; i++) {
        char c = text.p[i];
        if (c == '{' && text.p[i + 1] == '{')
            assert_true(!in_tag || in_quotes || strchr("#^/", text.p[i + 2]));
        else if (in_tag && c == '"')
            in_quotes = !in_quotes;
        else if (!in_quotes && (c == '<' || c == '>'))
            in_tag = c == '<';
    }
    assert_false(in_quotes);
}

/* Where a value may stand: between tags and in quotes. So escaping is enough, and the policy of the pages can hold. */
static void templates_are_safe(void **state)
{
    (void)state;
    unsigned seen = 0;
    for (size_t i = 0; i < web_file_count; i++) {
        struct str name = str_of(web_files[i].name), text = web_files[i].bytes;
        if (!str_starts_with(name, STR_LIT("templates/")))
            continue;
        seen++;
        values_are_quoted(text);
        assert_null(memmem(text.p, text.len, "href=\"{{", 8)); /* an address begins with ours */
        assert_null(memmem(text.p, text.len, "style=", 6));
        assert_null(memmem(text.p, text.len, "<style", 6));
        assert_null(memmem(text.p, text.len, " onclick=", 9));
        assert_null(memmem(text.p, text.len, "<script>", 8));
        assert_null(memmem(text.p, text.len, "http:", 5));
        assert_null(memmem(text.p, text.len, "https:", 6));
    }
    assert_true(seen >= 5);
}

static void files_are_found(void **state)
{
    (void)state;
    const struct web_file *css = web_file_find(STR_LIT("static/app.css"));
    assert_non_null(css);
    assert_true(css->bytes.len > 1000 && css->bytes.p[css->bytes.len - 1] == '\n');
    assert_int_equal(strlen(css->hash), 16);
    assert_null(web_file_find(STR_LIT("static/app.cs")));
    assert_null(web_file_find(STR_LIT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes),         cmocka_unit_test(says_when_there_is_no_room),
        cmocka_unit_test(renders),         cmocka_unit_test(templates_are_safe),
        cmocka_unit_test(files_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
