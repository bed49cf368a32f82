/* The virtual clock and poll_oneoff. */
#include "wasi_fixture.h"

enum { REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU };
enum { AT_SUBS = 1000, AT_EVENTS = 10000, AT_RET = 500 };

#define START_NS NS_PER_S
#define REALTIME_START_NS (1577836800 * NS_PER_S)

static uint64_t look(struct fixture *fx, uint32_t clock)
{
    assert_int_equal(CALL(fx, clock_time_get, clock, 0, AT_RET), 0);
    return guest_get_u64(fx->mem, AT_RET);
}

static void clocks_start_at_fixed_instants_and_move_by_looks(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(look(fx, MONOTONIC), START_NS);
    assert_int_equal(look(fx, REALTIME), REALTIME_START_NS + 1000);
    assert_int_equal(look(fx, PROCESS_CPU), START_NS + 2000);
    assert_int_equal(look(fx, THREAD_CPU), START_NS + 3000);
    assert_int_equal(look(fx, MONOTONIC), START_NS + 4000);
}

static void the_resolution_is_the_tick(void **state)
{
    struct fixture *fx = *state;
    for (uint32_t clock = REALTIME; clock <= THREAD_CPU; clock++) {
        guest_put_u64(fx->mem, AT_RET, 0);
        assert_int_equal(CALL(fx, clock_res_get, clock, AT_RET), 0);
        assert_int_equal(guest_get_u64(fx->mem, AT_RET), 1000);
    }
    assert_int_equal(fx->w.monotonic_ns, START_NS);
}

static void other_clocks_do_not_exist(void **state)
{
    struct fixture *fx = *state;
    static const uint32_t ids[] = {4, 5, 0x100, UINT32_MAX};
    guest_put_u64(fx->mem, AT_RET, 77);
    for (size_t i = 0; i < LENGTH_OF(ids); i++) {
        assert_int_equal(CALL(fx, clock_res_get, ids[i], AT_RET), WASI_EINVAL);
        assert_int_equal(CALL(fx, clock_time_get, ids[i], 0, AT_RET), WASI_EINVAL);
    }
    assert_int_equal(guest_get_u64(fx->mem, AT_RET), 77);
    assert_int_equal(fx->w.monotonic_ns, START_NS);
}

static void subscribe_clock(struct fixture *fx, uint32_t index, uint32_t clock, uint64_t timeout,
                            uint16_t flags)
{
    uint64_t at = AT_SUBS + 48 * (uint64_t)index;
    memset(guest_at(fx->mem, at, 48), 0, 48);
    guest_put_u64(fx->mem, at, 100 + index);
    guest_put_u32(fx->mem, at + 16, clock);
    guest_put_u64(fx->mem, at + 24, timeout);
    guest_put_u64(fx->mem, at + 32, 12345);
    guest_put_u16(fx->mem, at + 40, flags);
}

static void subscribe_fd(struct fixture *fx, uint32_t index, uint8_t type, uint32_t fd)
{
    uint64_t at = AT_SUBS + 48 * (uint64_t)index;
    memset(guest_at(fx->mem, at, 48), 0, 48);
    guest_put_u64(fx->mem, at, 100 + index);
    guest_put_u8(fx->mem, at + 8, type);
    guest_put_u32(fx->mem, at + 16, fd);
}

/* Polls `count` subscriptions; how many events came. */
static uint32_t poll_all(struct fixture *fx, uint32_t count)
{
    memset(fx->mem.base + AT_EVENTS, 0xee, 32 * (size_t)count + 32);
    assert_int_equal(CALL(fx, poll_oneoff, AT_SUBS, AT_EVENTS, count, AT_RET), 0);
    uint32_t events = guest_get_u32(fx->mem, AT_RET);
    assert_in_range(events, 1, count);
    /* Nothing behind the last event. */
    assert_int_equal(guest_get_u64(fx->mem, AT_EVENTS + 32 * (uint64_t)events), 0xeeeeeeeeeeeeeeee);
    return events;
}

/* That event `index` answers subscription `subscription`. */
static void event_is(struct fixture *fx, uint32_t index, uint32_t subscription, uint8_t type, uint16_t error)
{
    uint64_t at = AT_EVENTS + 32 * (uint64_t)index;
    assert_int_equal(guest_get_u64(fx->mem, at), 100 + subscription);
    assert_int_equal(guest_get_u16(fx->mem, at + 8), error);
    assert_int_equal(guest_get_u8(fx->mem, at + 10), type);
    assert_int_equal(guest_get_u64(fx->mem, at + 16), type && !error ? 1 : 0);
    assert_int_equal(guest_get_u64(fx->mem, at + 24), 0);
}

static void a_sleep_jumps_the_clock(void **state)
{
    struct fixture *fx = *state;
    for (uint32_t clock = REALTIME; clock <= THREAD_CPU; clock++) {
        uint64_t before = look(fx, MONOTONIC);
        subscribe_clock(fx, 0, clock, 3 * NS_PER_S, 0);
        assert_int_equal(poll_all(fx, 1), 1);
        event_is(fx, 0, 0, 0, 0);
        /* Since `before`: the look, the sleep, the poll's own look. */
        assert_int_equal(look(fx, MONOTONIC), before + 3 * NS_PER_S + 2000);
    }
}

static void an_absolute_time_is_of_its_clock(void **state)
{
    struct fixture *fx = *state;
    subscribe_clock(fx, 0, REALTIME, REALTIME_START_NS + 5 * NS_PER_S, 1);
    assert_int_equal(poll_all(fx, 1), 1);
    assert_int_equal(look(fx, REALTIME), REALTIME_START_NS + 5 * NS_PER_S + 1000);
    subscribe_clock(fx, 0, MONOTONIC, START_NS + 7 * NS_PER_S, 1);
    assert_int_equal(poll_all(fx, 1), 1);
    assert_int_equal(look(fx, MONOTONIC), START_NS + 7 * NS_PER_S + 1000);
    /* Times past are due at once: before this run, and before 2020 for realtime. */
    uint64_t before = look(fx, MONOTONIC);
    static const uint64_t past[] = {0, 1, START_NS};
    for (size_t i = 0; i < LENGTH_OF(past); i++) {
        subscribe_clock(fx, 0, i == 2 ? MONOTONIC : REALTIME, past[i], 1);
        assert_int_equal(poll_all(fx, 1), 1);
    }
    assert_int_equal(look(fx, MONOTONIC), before + 1000 + 3 * 1000);
}

static void the_earliest_wakes_and_takes_its_equals_along(void **state)
{
    struct fixture *fx = *state;
    subscribe_clock(fx, 0, MONOTONIC, 9 * NS_PER_S, 0);
    subscribe_clock(fx, 1, MONOTONIC, 2 * NS_PER_S, 0);
    subscribe_clock(fx, 2, REALTIME, REALTIME_START_NS + 2 * NS_PER_S, 1);
    subscribe_clock(fx, 3, MONOTONIC, 2 * NS_PER_S + 1, 0);
    assert_int_equal(poll_all(fx, 4), 2);
    event_is(fx, 0, 1, 0, 0);
    event_is(fx, 1, 2, 0, 0);
    assert_int_equal(look(fx, MONOTONIC), START_NS + 2 * NS_PER_S + 1000);
}

static void a_ready_stream_stops_the_jump(void **state)
{
    struct fixture *fx = *state;
    subscribe_clock(fx, 0, MONOTONIC, 60 * NS_PER_S, 0);
    subscribe_fd(fx, 1, 1, 0);
    subscribe_fd(fx, 2, 2, 1);
    subscribe_fd(fx, 3, 2, 2);
    subscribe_clock(fx, 4, MONOTONIC, 0, 0);
    assert_int_equal(poll_all(fx, 5), 4);
    event_is(fx, 0, 1, 1, 0);
    event_is(fx, 1, 2, 2, 0);
    event_is(fx, 2, 3, 2, 0);
    event_is(fx, 3, 4, 0, 0);
    assert_int_equal(look(fx, MONOTONIC), START_NS + 1000);
    assert_int_equal(fx->stream_calls, 0);
}

static void errors_are_events(void **state)
{
    struct fixture *fx = *state;
    subscribe_fd(fx, 0, 1, 3);
    subscribe_fd(fx, 1, 2, UINT32_MAX);
    subscribe_fd(fx, 2, 1, 1);
    subscribe_fd(fx, 3, 2, 0);
    subscribe_clock(fx, 4, 4, 0, 0);
    subscribe_clock(fx, 5, MONOTONIC, NS_PER_S, 2);
    subscribe_clock(fx, 6, MONOTONIC, NS_PER_S, 0);
    assert_int_equal(poll_all(fx, 7), 6);
    event_is(fx, 0, 0, 1, WASI_EBADF);
    event_is(fx, 1, 1, 2, WASI_EBADF);
    event_is(fx, 2, 2, 1, WASI_EBADF);
    event_is(fx, 3, 3, 2, WASI_EBADF);
    event_is(fx, 4, 4, 0, WASI_EINVAL);
    event_is(fx, 5, 5, 0, WASI_EINVAL);
    assert_int_equal(look(fx, MONOTONIC), START_NS + 1000);

    assert_int_equal(CALL(fx, fd_close, 0), 0);
    subscribe_fd(fx, 0, 1, 0);
    assert_int_equal(poll_all(fx, 1), 1);
    event_is(fx, 0, 0, 1, WASI_EBADF);
}

static void bad_polls_change_nothing(void **state)
{
    struct fixture *fx = *state;
    subscribe_clock(fx, 0, MONOTONIC, NS_PER_S, 0);
    subscribe_fd(fx, 1, 3, 0);
    guest_put_u32(fx->mem, AT_RET, 77);
    assert_int_equal(CALL(fx, poll_oneoff, AT_SUBS, AT_EVENTS, 0, AT_RET), WASI_EINVAL);
    assert_int_equal(CALL(fx, poll_oneoff, AT_SUBS, AT_EVENTS, 2, AT_RET), WASI_EINVAL);
    static const uint32_t counts[] = {(FIXTURE_MEMORY - AT_SUBS) / 48 + 1, 0x05555556, 0x08000000,
                                      UINT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(counts); i++)
        assert_int_equal(CALL(fx, poll_oneoff, AT_SUBS, 0, counts[i], AT_RET), WASI_EFAULT);
    assert_int_equal(guest_get_u32(fx->mem, AT_RET), 77);
    assert_int_equal(guest_get_u64(fx->mem, AT_EVENTS), 0);
    assert_int_equal(fx->w.monotonic_ns, START_NS);
}

/* As many as memory holds, the events over the subscriptions: whatever comes of it stays inside. */
static void overlapping_arrays_stay_inside(void **state)
{
    struct fixture *fx = *state;
    enum { COUNT = FIXTURE_MEMORY / 48 };
    static const uint32_t outs[] = {0, 8, 16, 40, FIXTURE_MEMORY - 32 * COUNT};
    for (size_t i = 0; i < LENGTH_OF(outs); i++) {
        memset(fx->mem.base, 0, fx->mem.size);
        for (uint32_t s = 0; s < COUNT; s++) {
            guest_put_u64(fx->mem, 48 * (uint64_t)s, 0x0101010101010101u * (s % 251));
            guest_put_u8(fx->mem, 48 * (uint64_t)s + 8, (uint8_t)(s % 3));
        }
        assert_int_equal(CALL(fx, poll_oneoff, 0, outs[i], COUNT, FIXTURE_MEMORY - 4), 0);
        assert_in_range(guest_get_u32(fx->mem, FIXTURE_MEMORY - 4), 1, COUNT);
    }
}

static void time_ends_and_does_not_wrap(void **state)
{
    struct fixture *fx = *state;
    static const uint64_t timeouts[] = {UINT64_MAX, (uint64_t)INT64_MAX, UINT64_MAX - START_NS};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < LENGTH_OF(timeouts); i++) {
            for (uint16_t flags = 0; flags < 2; flags++) {
                subscribe_clock(fx, 0, i == 1 ? REALTIME : MONOTONIC, timeouts[i], flags);
                assert_int_equal(poll_all(fx, 1), 1);
                event_is(fx, 0, 0, 0, 0);
                assert_int_equal(look(fx, REALTIME), INT64_MAX);
            }
        }
    }
    assert_int_equal(look(fx, MONOTONIC), INT64_MAX - (REALTIME_START_NS - START_NS));

    /* A clock that somebody set beyond the end stays where it is. */
    fx->w.realtime_offset_ns = UINT64_MAX;
    fx->w.monotonic_ns = START_NS;
    subscribe_clock(fx, 0, MONOTONIC, 5, 0);
    assert_int_equal(poll_all(fx, 1), 1);
    assert_int_equal(look(fx, MONOTONIC), START_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WASI_TEST(clocks_start_at_fixed_instants_and_move_by_looks),
        WASI_TEST(the_resolution_is_the_tick),
        WASI_TEST(other_clocks_do_not_exist),
        WASI_TEST(a_sleep_jumps_the_clock),
        WASI_TEST(an_absolute_time_is_of_its_clock),
        WASI_TEST(the_earliest_wakes_and_takes_its_equals_along),
        WASI_TEST(a_ready_stream_stops_the_jump),
        WASI_TEST(errors_are_events),
        WASI_TEST(bad_polls_change_nothing),
        WASI_TEST(overlapping_arrays_stay_inside),
        WASI_TEST(time_ends_and_does_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
