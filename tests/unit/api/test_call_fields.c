/* What a call brings and what its answer is made of: bodies, queries, pages, ids. */
#include "../unit.h"

#include "api/call.h"
#include "base/clock.h"

static struct api_call call;
static struct err_info info;

static int setup(void **state)
{
    (void)state;
    call = (struct api_call){.out = buf_make(4096), .query = STR_LIT(""), .rest = STR_LIT("")};
    arena_init(&call.arena, 64 * 1024);
    info = (struct err_info){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(call.body);
    buf_done(&call.out);
    arena_done(&call.arena);
    return 0;
}

static void set_body(const char *text)
{
    json_decref(call.body);
    call.body = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(call.body);
}

static void refused(enum err e, const char *field)
{
    assert_int_equal(e, ERR_FIELD_INVALID);
    if (strncmp(info.text, field, strlen(field)) != 0)
        fail_msg("\"%s\" does not name %s", info.text, field);
}

static void takes_text(void **state)
{
    (void)state;
    struct str text = STR_LIT("untouched");
    set_body("{\"a\":\"x\",\"e\":\"\",\"n\":null,\"i\":1,\"l\":[],\"u\":\"\\u00e4\"}");
    assert_int_equal(api_call_text(&call, "a", true, 1, 1, &text, &info), OK);
    assert_true(str_eq(text, STR_LIT("x")));
    assert_int_equal(api_call_text(&call, "u", true, 2, 2, &text, &info), OK); /* bytes, not characters */
    text = STR_LIT("untouched");
    assert_int_equal(api_call_text(&call, "none", false, 1, 9, &text, &info), OK);
    assert_int_equal(api_call_text(&call, "n", false, 1, 9, &text, &info), OK);
    refused(api_call_text(&call, "none", true, 1, 9, &text, &info), "none:");
    refused(api_call_text(&call, "n", true, 1, 9, &text, &info), "n:");
    refused(api_call_text(&call, "i", true, 1, 9, &text, &info), "i:");
    refused(api_call_text(&call, "l", false, 1, 9, &text, &info), "l:");
    refused(api_call_text(&call, "e", false, 1, 9, &text, &info), "e:");
    refused(api_call_text(&call, "a", true, 2, 9, &text, &info), "a:");
    refused(api_call_text(&call, "u", true, 1, 1, &text, &info), "u:");
    assert_true(str_eq(text, STR_LIT("untouched")));
    json_decref(call.body);
    call.body = NULL; /* no body at all */
    assert_int_equal(api_call_text(&call, "a", false, 1, 9, &text, &info), OK);
    refused(api_call_text(&call, "a", true, 1, 9, &text, &info), "a:");
}

static void takes_numbers_and_booleans(void **state)
{
    (void)state;
    uint64_t number = 77;
    bool truth = true;
    set_body("{\"a\":5,\"z\":0,\"neg\":-1,\"f\":5.0,\"s\":\"5\",\"t\":true,\"big\":9223372036854775807,\"n\":"
             "null}");
    assert_int_equal(api_call_number(&call, "a", true, 5, 5, &number, &info), OK);
    assert_int_equal(number, 5);
    assert_int_equal(api_call_number(&call, "z", true, 0, 5, &number, &info), OK);
    assert_int_equal(number, 0);
    assert_int_equal(api_call_number(&call, "big", true, 0, INT64_MAX, &number, &info), OK);
    assert_true(number == INT64_MAX);
    assert_int_equal(api_call_number(&call, "n", false, 1, 5, &number, &info), OK);
    refused(api_call_number(&call, "a", true, 6, 9, &number, &info), "a:");
    refused(api_call_number(&call, "a", true, 0, 4, &number, &info), "a:");
    refused(api_call_number(&call, "neg", true, 0, UINT64_MAX, &number, &info), "neg:");
    refused(api_call_number(&call, "f", true, 0, 9, &number, &info), "f:");
    refused(api_call_number(&call, "s", true, 0, 9, &number, &info), "s:");
    refused(api_call_number(&call, "t", true, 0, 9, &number, &info), "t:");
    assert_true(number == INT64_MAX);
    assert_int_equal(api_call_bool(&call, "none", false, &truth, &info), OK);
    assert_true(truth);
    assert_int_equal(api_call_bool(&call, "t", true, &truth, &info), OK);
    refused(api_call_bool(&call, "z", true, &truth, &info), "z:");
    refused(api_call_bool(&call, "s", false, &truth, &info), "s:");
}

static void decodes_queries(void **state)
{
    (void)state;
    const struct {
        const char *query, *value; /* NULL: absent; "!": refused */
    } cases[] = {
        {"", NULL},         {"b=1", NULL},
        {"a=1", "1"},       {"a=", ""},
        {"a", ""},          {"b=2&a=1", "1"},
        {"a=1&b=2", "1"},   {"a=x+y", "x y"},
        {"a=%41%2b", "A+"}, {"a=%e2%82%ac", "\xe2\x82\xac"},
        {"a=b=c", "b=c"},   {"aa=1", NULL},
        {"A=1", NULL},      {"%61=1", NULL},
        {"&&a=1&", "1"},    {"a=1&a=1", "!"},
        {"a=%", "!"},       {"a=%4", "!"},
        {"a=%zz", "!"},     {"a=%00", "!"},
        {"a=%2", "!"},      {"a=x&a", "!"},
        {"b=%zz&a=1", "1"},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct str value = STR_LIT("untouched");
        call.query = str_of(cases[i].query);
        enum err e = api_call_query(&call, "a", &value, &info);
        bool wanted_error = cases[i].value && strcmp(cases[i].value, "!") == 0;
        if ((e != OK) != wanted_error || (!e && (value.p != NULL) != (cases[i].value != NULL)))
            fail_msg("%s: %d", cases[i].query, e);
        if (!e && value.p) {
            assert_true(str_eq(value, str_of(cases[i].value)));
            assert_int_equal(value.p[value.len], 0); /* so that it may go to the store */
        }
    }
}

static void a_query_does_not_outgrow_its_call(void **state)
{
    (void)state;
    static char query[2 + 100 * 1024];
    struct str value;
    memset(query, 'x', sizeof query);
    memcpy(query, "a=", 2);
    call.query = str_make(query, sizeof query);
    refused(api_call_query(&call, "a", &value, &info), "a:");
}

static void takes_pages(void **state)
{
    (void)state;
    struct store_cursor cursor, again;
    size_t limit;
    assert_int_equal(api_call_page(&call, &cursor, &limit, &info), OK);
    assert_int_equal(limit, API_PAGE_DEFAULT);
    assert_int_equal(cursor.time_ns, 0);
    assert_string_equal(cursor.id, "");
    call.query = STR_LIT("limit=1000&cursor=12345-00ff");
    assert_int_equal(api_call_page(&call, &cursor, &limit, &info), OK);
    assert_int_equal(limit, STORE_PAGE_MAX);
    assert_int_equal(cursor.time_ns, 12345);
    assert_string_equal(cursor.id, "00ff");
    /* What an answer gives is what the next call takes. */
    buf_putc(&call.out, '{');
    api_call_put_cursor(&call, &cursor, true);
    assert_string_equal(buf_cstr(&call.out), "{\"next_cursor\":\"12345-00ff\"");
    call.query = STR_LIT("cursor=12345-00ff");
    assert_int_equal(api_call_page(&call, &again, &limit, &info), OK);
    assert_memory_equal(&again, &cursor, sizeof cursor);
    const char *const bad[] = {"limit=0",        "limit=1001",
                               "limit=",         "limit=+1",
                               "limit=1e3",      "cursor=",
                               "cursor=-",       "cursor=1",
                               "cursor=1-",      "cursor=-00",
                               "cursor=1-0",     "cursor=1-zz",
                               "cursor=x-00",    "cursor=9223372036854775808-00",
                               "cursor=1-00-00", "cursor=1-000000000000000000000000000000000000"};
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        call.query = str_of(bad[i]);
        refused(api_call_page(&call, &cursor, &limit, &info), bad[i][0] == 'l' ? "limit:" : "cursor:");
    }
}

static void takes_ids(void **state)
{
    (void)state;
    char id[STORE_ID_BYTES] = "untouched";
    const char *const bad[] = {"",
                               "x",
                               "00112233445566",
                               "00112233445566770",
                               "001122334455667g",
                               "0011223344556677/",
                               "%30011223344556677",
                               "' OR 1=1 -- 00"};
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        call.rest = str_of(bad[i]);
        assert_int_equal(api_call_id(&call, id, &info), ERR_NOT_FOUND);
    }
    assert_string_equal(id, "untouched");
    call.rest = STR_LIT("00112233445566AA");
    assert_int_equal(api_call_id(&call, id, &info), OK);
    assert_string_equal(id, "00112233445566aa");
}

static void writes_members(void **state)
{
    (void)state;
    buf_putc(&call.out, '{');
    api_put_text(&call.out, "a", "x\"\n");
    api_put_number(&call.out, "b", UINT64_MAX);
    api_put_bool(&call.out, "c", false);
    api_put_time(&call.out, "d", 0);
    api_put_time(&call.out, "e", 1000 * NS_PER_S);
    api_call_put_cursor(&call, &(struct store_cursor){0}, false);
    assert_string_equal(buf_cstr(&call.out),
                        "{\"a\":\"x\\\"\\n\",\"b\":18446744073709551615,\"c\":false,\"d\":null,"
                        "\"e\":\"1970-01-01T00:16:40.000Z\",\"next_cursor\":null");
}

static void fields_of_the_reply_have_no_control_characters(void **state)
{
    (void)state;
    api_call_field(&call, "X-A", STR_LIT("a\r\nSet-Cookie: x"));
    api_call_field(&call, "X-B", STR_LIT("fine"));
    assert_int_equal(call.field_count, 2);
    assert_true(str_eq(call.fields[0].value, STR_LIT("a")));
    assert_true(str_eq(call.fields[1].value, STR_LIT("fine")));
}

static void tells_who_it_was(void **state)
{
    (void)state;
    struct auth_principal who = {.id = "key", .key_id = "key"};
    call.peer = "192.0.2.1";
    assert_string_equal(api_call_actor(&call).id, "");
    assert_string_equal(api_call_actor(&call).address, "192.0.2.1");
    call.who = &who;
    assert_string_equal(api_call_actor(&call).id, "key");
    snprintf(who.user_id, sizeof who.user_id, "user");
    assert_string_equal(api_call_actor(&call).id, "user");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_text, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_numbers_and_booleans, setup, teardown),
        cmocka_unit_test_setup_teardown(decodes_queries, setup, teardown),
        cmocka_unit_test_setup_teardown(a_query_does_not_outgrow_its_call, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_members, setup, teardown),
        cmocka_unit_test_setup_teardown(fields_of_the_reply_have_no_control_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_who_it_was, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
