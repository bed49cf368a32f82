/* The log: one event is one line, whatever is in its fields. */
#include "../unit.h"

#include <jansson.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static char written[20000];

/* Calls `doing` with stderr in a file; what it wrote is in `written`. */
static size_t capture(void (*doing)(void))
{
    FILE *f = tmpfile();
    assert_non_null(f);
    int kept = dup(STDERR_FILENO);
    dup2(fileno(f), STDERR_FILENO);
    doing();
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(f);
    size_t len = fread(written, 1, sizeof written - 1, f);
    written[len] = 0;
    fclose(f);
    return len;
}

/* The one line that was written, as JSON. */
static json_t *as_json(size_t len)
{
    json_error_t error;
    assert_true(len > 1);
    assert_ptr_equal(strchr(written, '\n'), written + len - 1);
    json_t *line = json_loads(written, 0, &error);
    if (!line)
        fail_msg("%s: %s", error.text, written);
    return line;
}

static void write_each_kind(void)
{
    LOG_INFO("something", LOG_CSTR("text", "a \"b\"\nforged line"), LOG_U64("big", INT64_MAX),
             LOG_I64("small", -5), LOG_STR("none", STR_NULL));
}

static void test_json(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_INFO, true);
    json_t *line = as_json(capture(write_each_kind));
    assert_string_equal(json_string_value(json_object_get(line, "event")), "something");
    assert_string_equal(json_string_value(json_object_get(line, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(line, "text")), "a \"b\"\nforged line");
    assert_string_equal(json_string_value(json_object_get(line, "none")), "");
    assert_int_equal(json_integer_value(json_object_get(line, "small")), -5);
    assert_non_null(strstr(written, "\"big\":9223372036854775807"));
    assert_int_equal(json_string_length(json_object_get(line, "time")), 24);
    json_decref(line);
}

static void test_text(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_INFO, false);
    size_t len = capture(write_each_kind);
    assert_ptr_equal(strchr(written, '\n'), written + len - 1);
    assert_non_null(strstr(
        written, " info  something text=\"a \\\"b\\\"\\nforged line\" big=9223372036854775807 small=-5"));
}

static void write_too_much(void)
{
    static char large[5000];
    memset(large, 'x', sizeof large);
    LOG_INFO("large", LOG_CSTR("first", "kept"), LOG_STR("second", str_make(large, sizeof large)),
             LOG_CSTR("third", "lost"));
}

static void write_nearly_too_much(void)
{
    static char text[4200];
    for (size_t len = 3900; len < sizeof text; len++) {
        memset(text, 'x', len);
        LOG_INFO("sweep", LOG_STR("text", str_make(text, len)));
    }
}

static void test_line_is_cut_between_fields(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_INFO, true);
    json_t *line = as_json(capture(write_too_much));
    assert_string_equal(json_string_value(json_object_get(line, "first")), "kept");
    assert_null(json_object_get(line, "second"));
    json_decref(line);
    log_setup(LOG_LEVEL_INFO, false);
    capture(write_too_much);
    assert_non_null(strstr(written, "first=\"kept\"\n"));
    /* The sanitizer watches the last bytes of the line's memory. */
    capture(write_nearly_too_much);
}

static void write_each_level(void)
{
    LOG_DEBUG("one", LOG_U64("n", 1));
    LOG_INFO("two", LOG_U64("n", 2));
    LOG_WARN("three");
    LOG_ERROR("four", LOG_U64("n", 4));
}

static void test_levels(void **state)
{
    (void)state;
    static const struct {
        enum log_level least;
        unsigned lines;
    } cases[] = {{LOG_LEVEL_DEBUG, 4}, {LOG_LEVEL_INFO, 3}, {LOG_LEVEL_WARN, 2}, {LOG_LEVEL_ERROR, 1}};
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        log_setup(cases[i].least, false);
        unsigned lines = 0;
        capture(write_each_level);
        for (const char *p = written; (p = strchr(p, '\n')); p++)
            lines++;
        assert_int_equal(lines, cases[i].lines);
    }
}

static enum log_level followed_levels[8];
static char followed[8][LOG_LINE_MAX_BYTES + 1];
static unsigned followed_count;

static void on_line(enum log_level level, struct str line)
{
    assert_in_range(followed_count, 0, LENGTH_OF(followed) - 1);
    memcpy(followed[followed_count], line.p, line.len);
    followed[followed_count][line.len] = 0;
    followed_levels[followed_count++] = level;
}

static void test_follower(void **state)
{
    (void)state;
    for (unsigned json = 0; json < 2; json++) {
        log_setup(LOG_LEVEL_INFO, json);
        followed_count = 0;
        log_follow(on_line);
        size_t len = capture(write_each_level);
        assert_int_equal(followed_count, 3); /* what LOG_LEVEL lets through */
        for (unsigned i = 0; i < 3; i++) {
            json_t *line = json_loads(followed[i], 0, NULL);
            assert_non_null(line);
            const char *level = json_string_value(json_object_get(line, "level"));
            assert_string_equal(level, log_level_name(followed_levels[i]));
            json_decref(line);
        }
        assert_int_equal(followed_levels[2], LOG_LEVEL_ERROR);
        assert_true(len && (written[0] == '{') == json); /* the log itself keeps its form */
        capture(write_too_much);
        assert_non_null(strstr(followed[3], "\"first\":\"kept\"}"));
        log_follow(NULL);
        capture(write_each_level);
        assert_int_equal(followed_count, 4);
    }
}

static void test_time(void **state)
{
    (void)state;
    char out[32];
    clock_format(0, out);
    assert_string_equal(out, "1970-01-01T00:00:00.000Z");
    clock_format(1767323045678 * NS_PER_MS, out);
    assert_string_equal(out, "2026-01-02T03:04:05.678Z");
    uint64_t before = clock_now_ns();
    assert_true(clock_now_ns() >= before);
    assert_true(clock_wall_ns() > 1600000000 * NS_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_line_is_cut_between_fields),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_follower),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
