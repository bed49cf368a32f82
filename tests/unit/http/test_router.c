#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/router.h"

/* In an order that the router must not depend on. */
static const struct http_route routes[] = {
    {.method = HTTP_METHOD_GET, .path = "/a/*"},       {.method = HTTP_METHOD_GET, .path = "/a/b/c/*"},
    {.method = HTTP_METHOD_GET, .path = "/a/b/*"},     {.method = HTTP_METHOD_POST, .path = "/a/b/*"},
    {.method = HTTP_METHOD_GET, .path = "/a/b/exact"}, {.method = HTTP_METHOD_HEAD, .path = "/a/b/exact"},
    {.method = HTTP_METHOD_DELETE, .path = "/x"},      {.method = HTTP_METHOD_GET, .path = "/"},
    {.method = HTTP_METHOD_PUT, .path = "/a/*"},
};

static void expect(const struct http_router *r, enum http_method method, const char *path, int route,
                   const char *allow)
{
    unsigned methods = 0;
    char text[HTTP_ALLOW_BYTES] = "";
    const struct http_route *found = http_router_find(r, method, str_of(path), &methods);
    assert_int_equal(found ? found - routes : -1, route);
    if (found)
        return;
    if (methods)
        http_router_allow(methods, text);
    assert_string_equal(text, allow);
}

static void test_routes(void **state)
{
    (void)state;
    struct http_router r;
    http_router_init(&r, routes, LENGTH_OF(routes));
    expect(&r, HTTP_METHOD_GET, "/", 7, "");
    expect(&r, HTTP_METHOD_GET, "/a/", 0, "");
    expect(&r, HTTP_METHOD_GET, "/a/x", 0, "");
    expect(&r, HTTP_METHOD_GET, "/a/b", 0, "");
    expect(&r, HTTP_METHOD_GET, "/a/b/", 2, "");
    expect(&r, HTTP_METHOD_GET, "/a/b/c", 2, "");
    expect(&r, HTTP_METHOD_GET, "/a/b/c/", 1, "");
    expect(&r, HTTP_METHOD_GET, "/a/b/c/d/e", 1, "");
    expect(&r, HTTP_METHOD_GET, "/a/b/exact", 4, "");
    expect(&r, HTTP_METHOD_GET, "/a/b/exactly", 2, "");
    expect(&r, HTTP_METHOD_HEAD, "/a/b/exact", 5, "");
    expect(&r, HTTP_METHOD_HEAD, "/a/b/x", 2, "");
    /* a method that only a shorter prefix takes */
    expect(&r, HTTP_METHOD_POST, "/a/b/c/d", 3, "");
    expect(&r, HTTP_METHOD_POST, "/a/b/exact", 3, "");
    expect(&r, HTTP_METHOD_PUT, "/a/b/exact", 8, "");
    expect(&r, HTTP_METHOD_DELETE, "/a/b/exact", -1, "GET, HEAD, POST, PUT, OPTIONS");
    expect(&r, HTTP_METHOD_GET, "/x", -1, "DELETE, OPTIONS");
    expect(&r, HTTP_METHOD_HEAD, "/x", -1, "DELETE, OPTIONS");
    expect(&r, HTTP_METHOD_GET, "/a", -1, "");
    expect(&r, HTTP_METHOD_GET, "", -1, "");
    expect(&r, HTTP_METHOD_GET, "/X", -1, "");
    expect(&r, HTTP_METHOD_GET, "/x/", -1, "");
    http_router_done(&r);
}

static void test_no_routes(void **state)
{
    (void)state;
    struct http_router r;
    http_router_init(&r, NULL, 0);
    expect(&r, HTTP_METHOD_GET, "/", -1, "");
    http_router_done(&r);
}

static void test_many_routes(void **state)
{
    (void)state;
    enum { MANY = 300 };
    static struct http_route many[MANY];
    static char paths[MANY][24];
    struct http_router r;
    unsigned methods;
    for (int i = 0; i < MANY; i++) {
        snprintf(paths[i], sizeof paths[i], "/path/%d", i);
        many[i] = (struct http_route){.method = HTTP_METHOD_GET, .path = paths[i]};
    }
    http_router_init(&r, many, MANY);
    for (int i = 0; i < MANY; i++)
        assert_ptr_equal(http_router_find(&r, HTTP_METHOD_GET, str_of(paths[i]), &methods), &many[i]);
    assert_null(http_router_find(&r, HTTP_METHOD_GET, STR_LIT("/path/300"), &methods));
    http_router_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_no_routes),
        cmocka_unit_test(test_many_routes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
