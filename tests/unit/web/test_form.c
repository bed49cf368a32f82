/* Forms as browsers send them, and as nobody should. */
#include "../unit.h"

#include "base/buf.h"
#include "web/form.h"

static enum err parse(const char *body, size_t len, struct web_form *form, struct err_info *info)
{
    static struct arena arena;
    arena_done(&arena);
    arena_init(&arena, 256 * KIB);
    return web_form_parse(str_make(body, len), &arena, form, info);
}

#define PARSE(literal) parse(literal, sizeof(literal) - 1, &form, &info)
#define IS(name, literal) assert_true(str_eq(web_form_get(&form, name), STR_LIT(literal)))

static void reads_what_browsers_send(void **state)
{
    (void)state;
    struct web_form form;
    struct err_info info = {0};
    assert_int_equal(PARSE(""), OK);
    assert_int_equal(form.count, 0);
    assert_int_equal(PARSE("email=me%40example.org&password=correct+horse%2B%26%3D&csrf="), OK);
    assert_int_equal(form.count, 3);
    IS("email", "me@example.org");
    IS("password", "correct horse+&=");
    IS("csrf", "");
    assert_non_null(web_form_get(&form, "csrf").p);
    assert_null(web_form_get(&form, "Csrf").p);
    assert_int_equal(PARSE("a=b=c"), OK);
    IS("a", "b=c");
    assert_int_equal(PARSE("n%61me=%C3%BC%3Cscript%3E"), OK);
    IS("name", "\xc3\xbc<script>");
}

static void refuses_what_is_broken(void **state)
{
    (void)state;
    struct web_form form = {.count = 77};
    struct err_info info;
    const struct {
        struct str body;
        enum err e;
    } cases[] = {
        {STR_LIT("a"), ERR_BAD_REQUEST},         {STR_LIT("&"), ERR_BAD_REQUEST},
        {STR_LIT("a=1&&b=2"), ERR_BAD_REQUEST},  {STR_LIT("a=1&"), ERR_BAD_REQUEST},
        {STR_LIT("=1"), ERR_BAD_REQUEST},        {STR_LIT("a b=1"), ERR_BAD_REQUEST},
        {STR_LIT("a%0d%0a=1"), ERR_BAD_REQUEST}, {STR_LIT("a%=1"), ERR_BAD_REQUEST},
        {STR_LIT("%c3%bc=1"), ERR_BAD_REQUEST},  {STR_LIT("a=%"), ERR_FIELD_INVALID},
        {STR_LIT("a=%4"), ERR_FIELD_INVALID},    {STR_LIT("a=%zz"), ERR_FIELD_INVALID},
        {STR_LIT("a=%00"), ERR_FIELD_INVALID},   {STR_LIT("a=x\0y"), ERR_FIELD_INVALID},
        {STR_LIT("a=%ff"), ERR_FIELD_INVALID},   {STR_LIT("a=%ed%a0%80"), ERR_FIELD_INVALID},
        {STR_LIT("a=1&a=1"), ERR_FIELD_INVALID}, {STR_LIT("a=1&%61=2"), ERR_FIELD_INVALID},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        info = (struct err_info){0};
        enum err e = parse(cases[i].body.p, cases[i].body.len, &form, &info);
        if (e != cases[i].e || info.code != e || !info.text[0] || form.count != 77)
            fail_msg("case %zu: %s", i, info.text);
    }
}

static void is_bounded(void **state)
{
    (void)state;
    static char body[WEB_FORM_BYTES_MAX + 1];
    struct web_form form;
    struct err_info info;
    memset(body, 'a', sizeof body);
    body[1] = '=';
    assert_int_equal(parse(body, WEB_FORM_BYTES_MAX, &form, &info), OK);
    assert_int_equal(form.fields[0].value.len, WEB_FORM_BYTES_MAX - 2);
    assert_int_equal(parse(body, sizeof body, &form, &info), ERR_BODY_TOO_LARGE);
    body[1] = 'a';
    body[WEB_FORM_NAME_MAX] = '=';
    assert_int_equal(parse(body, 200, &form, &info), OK);
    body[WEB_FORM_NAME_MAX] = 'a';
    body[WEB_FORM_NAME_MAX + 1] = '=';
    assert_int_equal(parse(body, 200, &form, &info), ERR_BAD_REQUEST);

    struct buf many = buf_make(4096);
    for (int i = 0; i < WEB_FORM_FIELDS_MAX; i++)
        buf_printf(&many, "%sf%d=", i ? "&" : "", i);
    assert_int_equal(parse(many.p, many.len, &form, &info), OK);
    assert_int_equal(form.count, WEB_FORM_FIELDS_MAX);
    buf_puts(&many, "&more=");
    assert_int_equal(parse(many.p, many.len, &form, &info), ERR_BAD_REQUEST);
    buf_done(&many);
}

static void asks_for_text(void **state)
{
    (void)state;
    struct web_form form;
    struct err_info info;
    struct str text = STR_LIT("kept");
    assert_int_equal(PARSE("name=abc&empty="), OK);
    assert_int_equal(web_form_text(&form, "name", 1, 2, &text, &info), ERR_FIELD_INVALID);
    assert_string_equal(info.text, "name: it has 3 bytes; 1 to 2 are wanted");
    assert_int_equal(web_form_text(&form, "empty", 1, 2, &text, &info), ERR_FIELD_INVALID);
    assert_int_equal(web_form_text(&form, "absent", 0, 2, &text, &info), ERR_FIELD_INVALID);
    assert_string_equal(info.text, "absent: it is missing");
    assert_true(str_eq(text, STR_LIT("kept")));
    assert_int_equal(web_form_text(&form, "name", 3, 3, &text, &info), OK);
    assert_true(str_eq(text, STR_LIT("abc")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_browsers_send),
        cmocka_unit_test(refuses_what_is_broken),
        cmocka_unit_test(is_bounded),
        cmocka_unit_test(asks_for_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
