#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kv/redis_url.h"

static void takes_the_forms(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host, *user, *password;
        uint16_t port;
        uint32_t database;
    } rows[] = {
        {"redis://127.0.0.1:6379", "127.0.0.1", "", "", 6379, 0},
        {"redis://localhost", "localhost", "", "", 6379, 0},
        {"redis://localhost/", "localhost", "", "", 6379, 0},
        {"redis://cache.internal:1/15", "cache.internal", "", "", 1, 15},
        {"redis://:secret@h:65535/2", "h", "", "secret", 65535, 2},
        {"redis://me:secret@h", "h", "me", "secret", 6379, 0},
        {"redis://me:s%40c:r@t@h", "h", "me", "s@c:r@t", 6379, 0},
        {"redis://[::1]:7000/3", "::1", "", "", 7000, 3},
        {"redis://:p@[fe80::1]", "fe80::1", "", "p", 6379, 0},
    };
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct redis_url url;
        struct err_info info = {0};
        if (redis_url_parse(str_of(rows[i].url), &url, &info))
            fail_msg("%s: %s", rows[i].url, info.text);
        assert_string_equal(url.host, rows[i].host);
        assert_string_equal(url.user, rows[i].user);
        assert_string_equal(url.password, rows[i].password);
        assert_int_equal(url.port, rows[i].port);
        assert_int_equal(url.database, rows[i].database);
    }
}

static void refuses_others_without_repeating_them(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "",
        "redis:/h",
        "rediss://:hush@h",
        "http://:hush@h",
        "redis://",
        "redis://:hush@",
        "redis://:hush@:6379",
        "redis://:hush@h:0",
        "redis://:hush@h:65536",
        "redis://:hush@h:x",
        "redis://:hush@h:",
        "redis://:hush@h:1:2",
        "redis://:hush@h/x",
        "redis://:hush@h/65536",
        "redis://:hush@h/1/2",
        "redis://hush@h",
        "redis://:@h",
        "redis://:hush%@h",
        "redis://:hush%4@h",
        "redis://:hush%zz@h",
        "redis://:hush%00@h",
        "redis://:hu sh@h",
        "redis://:hush\n@h",
        "redis://[::1",
        "redis://[]:1",
        "redis://[::1]x",
        "redis://[::1]:",
    };
    for (size_t i = 0; i < LENGTH_OF(urls); i++) {
        struct redis_url url;
        struct err_info info = {0};
        if (redis_url_parse(str_of(urls[i]), &url, &info) != ERR_FIELD_INVALID)
            fail_msg("%s was taken", urls[i]);
        assert_null(strstr(info.text, "hush"));
        assert_non_null(strstr(info.text, "REDIS_URL"));
    }
    char longest[1200] = "redis://:";
    memset(longest + strlen(longest), 'p', 512);
    memcpy(longest + 9 + 512, "@h", 3);
    struct redis_url url;
    assert_int_equal(redis_url_parse(str_of(longest), &url, NULL), ERR_FIELD_INVALID);
    memcpy(longest + 9 + 511, "@h", 3);
    assert_int_equal(redis_url_parse(str_of(longest), &url, NULL), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_forms),
        cmocka_unit_test(refuses_others_without_repeating_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
