/* traceparent, as strict as the specification. */
#include "../unit.h"

#include "trace/context.h"

#define ID "0123456789abcdef0123456789abcdef"
#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void test_a_good_one_is_believed(void **state)
{
    (void)state;
    struct trace_context c = trace_context_make(STR_LIT("00-" TRACE "-" SPAN "-01"), ID);
    assert_string_equal(c.trace_id, TRACE);
    assert_string_equal(c.parent_id, SPAN);
    assert_string_equal(c.span_id, "0123456789abcdef");
    assert_true(c.sampled);
    assert_false(trace_context_make(STR_LIT("00-" TRACE "-" SPAN "-fe"), ID).sampled);
    assert_true(trace_context_make(STR_LIT("00-" TRACE "-" SPAN "-ff"), ID).sampled);
    /* A version to come: what we know of it stands where it stood. */
    assert_string_equal(trace_context_make(STR_LIT("01-" TRACE "-" SPAN "-00"), ID).trace_id, TRACE);
    assert_string_equal(trace_context_make(STR_LIT("fe-" TRACE "-" SPAN "-00-more"), ID).trace_id, TRACE);
}

static void test_others_begin_a_trace_of_their_own(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-0",
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01-more",
        "01-" TRACE "-" SPAN "-01more",
        "ff-" TRACE "-" SPAN "-01",
        "0g-" TRACE "-" SPAN "-01",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-" TRACE "-" SPAN "-0x",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-4BF92f3577b34da6a3ce929d0e0e4736-" SPAN "-01",
        "00-" TRACE "-00F067aa0ba902b7-01",
        " 0-" TRACE "-" SPAN "-01",
    };
    (void)state;
    for (size_t i = 0; i <= LENGTH_OF(bad); i++) {
        struct str text = i < LENGTH_OF(bad) ? str_of(bad[i]) : STR_NULL;
        struct trace_context c = trace_context_make(text, ID);
        assert_string_equal(c.trace_id, ID);
        assert_string_equal(c.parent_id, "");
        assert_string_equal(c.span_id, "0123456789abcdef");
        assert_false(c.sampled);
    }
}

static void test_children_have_ids_of_their_own(void **state)
{
    char ids[64][TRACE_SPAN_ID_BYTES];
    (void)state;
    struct trace_context c = trace_context_make(STR_NULL, ID), other = trace_context_make(STR_NULL, TRACE);
    for (unsigned i = 0; i < LENGTH_OF(ids); i++) {
        char again[TRACE_SPAN_ID_BYTES];
        trace_child_id(&c, i + 1, ids[i]);
        trace_child_id(&c, i + 1, again);
        assert_string_equal(ids[i], again);
        trace_child_id(&other, i + 1, again);
        assert_string_not_equal(ids[i], again);
        assert_int_equal(strspn(ids[i], "0123456789abcdef"), 16);
        assert_string_not_equal(ids[i], c.span_id);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_one_is_believed),
        cmocka_unit_test(test_others_begin_a_trace_of_their_own),
        cmocka_unit_test(test_children_have_ids_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
