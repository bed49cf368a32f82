/* The ring: what goes in comes out, in order and whole; what the other side publishes is not believed. */
#include "../unit.h"

#include <pthread.h>
#include <sched.h>

#include "sandbox/area.h"
#include "sandbox/ring.h"

enum { SIZE = AREA_RING_BYTES };

struct fixture {
    struct area area;
    struct ring_writer w;
    struct ring_reader r;
    struct ring_control *control;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct err_info info = {0};
    if (area_create(&f->area, 1, &info))
        fail_msg("%s", info.text);
    f->w = area_to_sandbox_writer(&f->area, 0);
    f->r = area_to_sandbox_reader(&f->area, 0);
    f->control = &f->area.channel_controls[0].to_sandbox;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    area_done(&f->area);
    free(f);
    return 0;
}

/* A length that differs from message to message and is often near a border. */
static size_t length_of(unsigned n)
{
    static const size_t lengths[] = {0, 1, 7, 8, 9, 15, 16, 17, 100, 4088, 4096, 65536, 100001};
    return lengths[n % LENGTH_OF(lengths)];
}

static bool put(struct fixture *f, unsigned n, size_t len)
{
    uint8_t *to = ring_reserve(&f->w, len);
    if (!to)
        return false;
    assert_int_equal((uintptr_t)to % 8, 0);
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(n + i);
    ring_publish(&f->w, len);
    return true;
}

static void expect(struct fixture *f, unsigned n, size_t want)
{
    const void *payload;
    size_t len;
    assert_int_equal(ring_peek(&f->r, &payload, &len), RING_MESSAGE);
    assert_int_equal(len, want);
    for (size_t i = 0; i < len; i++)
        if (((const uint8_t *)payload)[i] != (uint8_t)(n + i))
            fail_msg("message %u differs at byte %zu", n, i);
    ring_pop(&f->r);
}

static void expect_state(struct fixture *f, enum ring_state want)
{
    const void *payload;
    size_t len;
    assert_int_equal(ring_peek(&f->r, &payload, &len), want);
}

static void test_round_and_round(void **state)
{
    struct fixture *f = *state;
    unsigned in = 0, out = 0;
    expect_state(f, RING_EMPTY);
    while (f->w.at < 20 * (uint64_t)SIZE) {
        while (put(f, in, length_of(in)))
            in++;
        assert_true(in > out);
        assert_true(ring_has_more(&f->r));
        for (unsigned keep = in % 3; out + keep < in; out++)
            expect(f, out, length_of(out));
    }
    for (; out < in; out++)
        expect(f, out, length_of(out));
    expect_state(f, RING_EMPTY);
    assert_false(ring_has_more(&f->r));
}

static void test_longest(void **state)
{
    struct fixture *f = *state;
    size_t max = ring_payload_max(SIZE);
    assert_null(ring_reserve(&f->w, max + 1));
    assert_null(ring_reserve(&f->w, SIZE_MAX));
    assert_null(ring_reserve(&f->w, SIZE_MAX - 7));
    for (unsigned round = 0; round < 9; round++) {
        for (unsigned i = 0; i < 4; i++)
            assert_true(put(f, round + i, max));
        assert_null(ring_reserve(&f->w, max));
        for (unsigned i = 0; i < 4; i++)
            expect(f, round + i, max);
        assert_true(put(f, 5, round * 8)); /* another place to begin at */
        expect(f, 5, round * 8);
    }
}

static void test_shortened_and_forgotten(void **state)
{
    struct fixture *f = *state;
    assert_non_null(ring_reserve(&f->w, 1000));
    expect_state(f, RING_EMPTY);
    memset(ring_reserve(&f->w, 500), 7, 500);
    ring_publish(&f->w, 3);
    const void *payload;
    size_t len;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(ring_peek(&f->r, &payload, &len), RING_MESSAGE);
        assert_int_equal(len, 3);
        assert_memory_equal(payload, "\7\7\7", 3);
    }
    ring_pop(&f->r);
    expect_state(f, RING_EMPTY);
    assert_int_equal(atomic_load(&f->control->written), atomic_load(&f->control->read));
}

/* --- a writer that lies ------------------------------------------------------------------------- */
static void put_frame(struct fixture *f, uint64_t at, uint32_t len)
{
    memcpy(f->w.bytes + at % SIZE, &len, sizeof len);
}

static void test_position_that_makes_no_sense(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 100; i++) {
        assert_true(put(f, i, 1000));
        expect(f, i, 1000);
    }
    uint64_t at = f->r.at;
    const uint64_t bad[] = {at - 8,
                            0,
                            at + SIZE + 8,
                            at + 1,
                            at + 7,
                            at + 12,
                            UINT64_MAX,
                            UINT64_MAX - 7,
                            at + (UINT64_C(1) << 63)};
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        atomic_store(&f->control->written, bad[i]);
        expect_state(f, RING_BROKEN);
        assert_int_equal(f->r.at, at);
    }
    atomic_store(&f->control->written, at);
    expect_state(f, RING_EMPTY);
}

static void test_length_that_makes_no_sense(void **state)
{
    struct fixture *f = *state;
    const uint32_t bad[] = {
        1, 8, 100, (uint32_t)ring_payload_max(SIZE) + 1, SIZE, INT32_MAX, UINT32_MAX - 7, UINT32_MAX};
    atomic_store(&f->control->written, 8); /* room for an empty message only */
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        put_frame(f, 0, bad[i]);
        expect_state(f, RING_BROKEN);
    }
    put_frame(f, 0, 0);
    expect_state(f, RING_MESSAGE);
    ring_pop(&f->r);
    /* Longer than what is published, though it would fit the ring. */
    put_frame(f, 8, 1000);
    atomic_store(&f->control->written, 8 + 8 + 992);
    expect_state(f, RING_BROKEN);
}

/* What was seen once is not taken back: the reader goes on with what it saw. */
static void test_position_that_goes_back(void **state)
{
    struct fixture *f = *state;
    assert_true(put(f, 1, 64));
    assert_true(put(f, 2, 64));
    expect(f, 1, 64);
    atomic_store(&f->control->written, 0);
    expect(f, 2, 64);
    expect_state(f, RING_BROKEN);
}

/* --- a reader that lies ------------------------------------------------------------------------- */
static void test_reader_that_makes_no_sense(void **state)
{
    struct fixture *f = *state;
    size_t max = ring_payload_max(SIZE);
    for (unsigned i = 0; i < 4; i++)
        assert_true(put(f, i, max));
    const uint64_t bad[] = {SIZE + 8, SIZE + 1, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        atomic_store(&f->control->read, bad[i]);
        assert_null(ring_reserve(&f->w, 100));
    }
    atomic_store(&f->control->read, SIZE / 2);
    for (unsigned i = 4; i < 6; i++)
        assert_true(put(f, i, max));
    atomic_store(&f->control->read, SIZE / 4); /* behind what it said before */
    assert_null(ring_reserve(&f->w, 100));
}

/* --- two threads -------------------------------------------------------------------------------- */
enum { MESSAGES = 20000 };

static void *write_many(void *arg)
{
    struct fixture *f = arg;
    for (unsigned n = 0; n < MESSAGES; n++)
        while (!put(f, n, length_of(n) % 5000))
            sched_yield();
    return NULL;
}

static void test_two_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_many, f), 0);
    for (unsigned n = 0; n < MESSAGES; n++) {
        while (!ring_has_more(&f->r))
            sched_yield();
        expect(f, n, length_of(n) % 5000);
    }
    pthread_join(thread, NULL);
    expect_state(f, RING_EMPTY);
}

int main(void)
{
#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        RING_TEST(test_round_and_round),
        RING_TEST(test_longest),
        RING_TEST(test_shortened_and_forgotten),
        RING_TEST(test_position_that_makes_no_sense),
        RING_TEST(test_length_that_makes_no_sense),
        RING_TEST(test_position_that_goes_back),
        RING_TEST(test_reader_that_makes_no_sense),
        RING_TEST(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
