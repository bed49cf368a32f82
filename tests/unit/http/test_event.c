/* Server-sent events, as the standard's own parser would see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/event.h"

static void puts_events(void **state)
{
    (void)state;
    const struct {
        struct str data;
        const char *text;
    } cases[] = {
        {STR_LIT(""), "event: e\ndata: \n\n"},
        {STR_LIT("one"), "event: e\ndata: one\n\n"},
        {STR_LIT("a\nb"), "event: e\ndata: a\ndata: b\n\n"},
        {STR_LIT("a\r\nb\rc"), "event: e\ndata: a\ndata: b\ndata: c\n\n"},
        {STR_LIT("\n"), "event: e\ndata: \ndata: \n\n"},
        {STR_LIT("a\n\nevent: forged\n"), "event: e\ndata: a\ndata: \ndata: event: forged\ndata: \n\n"},
        {STR_LIT("\r\n"), "event: e\ndata: \ndata: \n\n"},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct buf out = buf_make(1000);
        assert_true(http_event_put(&out, "e", cases[i].data));
        assert_string_equal(buf_cstr(&out), cases[i].text);
        buf_done(&out);
    }
}

static void says_when_there_is_no_room(void **state)
{
    (void)state;
    struct buf out = buf_make(10);
    assert_false(http_event_put(&out, "e", STR_LIT("long")));
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(puts_events),
                                       cmocka_unit_test(says_when_there_is_no_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
