/* The ring of lines: what a reader gets is what was put in, and what it missed is counted. */
#include "../unit.h"

#include "base/log_ring.h"

static struct log_ring ring;
static char text[LOG_LINE_MAX_BYTES];
static struct buf line = {.p = text, .capacity = sizeof text, .max = sizeof text};

static int setup(void **state)
{
    (void)state;
    memset(&ring, 0, sizeof ring);
    return 0;
}

/* A line that says which one it is, all over its length. */
static struct str make(uint64_t number, size_t len)
{
    static char made[LOG_LINE_MAX_BYTES];
    for (size_t i = 0; i < len; i++)
        made[i] = (char)('a' + (number + i) % 26);
    return str_make(made, len);
}

/* 0 to LOG_LINE_MAX_BYTES, with no pattern that the ring's size could have. */
static size_t length_of(uint64_t number)
{
    return (size_t)(number * 2654435761u % (LOG_LINE_MAX_BYTES + 1));
}

static enum log_level level_of(uint64_t number)
{
    return (enum log_level)(number * 7 / 3 % LOG_LEVEL_COUNT);
}

static void put(uint64_t number)
{
    log_ring_put(&ring, level_of(number), make(number, length_of(number)));
}

/* The reader's next line is that one, and none was lost. */
static void expect(struct log_reader *reader, uint64_t number)
{
    uint64_t lost = 0;
    line.len = 0;
    assert_true(log_ring_next(&ring, reader, &line, &lost));
    struct str wanted = make(number, length_of(number));
    assert_int_equal(line.len, wanted.len);
    assert_memory_equal(line.p, wanted.p, wanted.len);
    assert_int_equal(lost, 0);
}

static void expect_none(struct log_reader *reader)
{
    uint64_t lost = 0;
    line.len = 0;
    assert_false(log_ring_next(&ring, reader, &line, &lost));
    assert_int_equal(line.len + lost, 0);
}

static void readers_that_keep_up_get_all(void **state)
{
    (void)state;
    struct log_reader all = log_ring_join(&ring, LOG_LEVEL_DEBUG),
                      errors = log_ring_join(&ring, LOG_LEVEL_ERROR);
    for (uint64_t n = 0; n < 5000; n++) { /* 40 times around */
        put(n);
        expect(&all, n);
        expect_none(&all);
        if (level_of(n) == LOG_LEVEL_ERROR)
            expect(&errors, n);
        expect_none(&errors);
    }
}

static void a_reader_gets_what_comes_after_it(void **state)
{
    (void)state;
    put(1);
    struct log_reader late = log_ring_join(&ring, LOG_LEVEL_DEBUG);
    expect_none(&late);
    put(2);
    expect(&late, 2);
}

/* Each looks only now and then: every line that it wants is either read or counted as lost. */
static void what_is_lost_is_counted_by_level(void **state)
{
    (void)state;
    struct {
        struct log_reader reader;
        uint64_t wanted, read, lost, next;
    } readers[LOG_LEVEL_COUNT] = {0};
    for (unsigned l = 0; l < LOG_LEVEL_COUNT; l++)
        readers[l].reader = log_ring_join(&ring, (enum log_level)l);
    for (uint64_t n = 1; n <= 30000; n++) {
        put(n);
        for (unsigned l = 0; l < LOG_LEVEL_COUNT; l++) {
            readers[l].wanted += level_of(n) >= l;
            if (n % (l == 0 ? 50 : 700 * l) && n != 30000) /* the first one keeps up */
                continue;
            for (line.len = 0; log_ring_next(&ring, &readers[l].reader, &line, &readers[l].lost);
                 line.len = 0)
                readers[l].read++;
            assert_int_equal(readers[l].read + readers[l].lost, readers[l].wanted);
        }
    }
    assert_int_equal(readers[0].lost, 0);
    assert_true(readers[1].lost > 10000 && readers[1].read > 1000);
    assert_true(readers[3].lost > 1000 && readers[3].read > 10);
}

static void lines_that_nobody_wants_are_not_lost(void **state)
{
    (void)state;
    struct log_reader errors = log_ring_join(&ring, LOG_LEVEL_ERROR);
    for (unsigned i = 0; i < 10000; i++)
        log_ring_put(&ring, LOG_LEVEL_WARN, STR_LIT("something that pushes others out of the ring"));
    expect_none(&errors);
}

static void as_much_is_kept_as_there_is_room(void **state)
{
    (void)state;
    struct log_reader reader = log_ring_join(&ring, LOG_LEVEL_DEBUG);
    uint64_t lost = 0, read = 0;
    for (unsigned i = 0; i < 1000; i++)
        log_ring_put(&ring, LOG_LEVEL_INFO, make(i, 1020)); /* and 4 that stand before it */
    for (line.len = 0; log_ring_next(&ring, &reader, &line, &lost); line.len = 0) {
        assert_memory_equal(line.p, make(lost + read, 1020).p, 1020);
        read++;
    }
    assert_int_equal(read, LOG_RING_BYTES / 1024);
    assert_int_equal(lost, 1000 - read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(readers_that_keep_up_get_all, setup),
        cmocka_unit_test_setup(a_reader_gets_what_comes_after_it, setup),
        cmocka_unit_test_setup(what_is_lost_is_counted_by_level, setup),
        cmocka_unit_test_setup(lines_that_nobody_wants_are_not_lost, setup),
        cmocka_unit_test_setup(as_much_is_kept_as_there_is_room, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
