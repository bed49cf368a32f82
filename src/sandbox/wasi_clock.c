/* The virtual clock, and waiting on it.
 *
 * Time is a number that only calls move: a look at any clock moves it by a microsecond, a sleep moves it to
 * its end at once. So a run takes the same time whenever and wherever it runs, and a loop that waits for
 * the clock ends. All four clocks are this one: realtime with its offset, the CPU clocks as they are. */
#include "sandbox/wasi_impl.h"

enum wasi_clock {
    CLOCK_ID_REALTIME,
    CLOCK_ID_MONOTONIC,
    CLOCK_ID_PROCESS_CPU,
    CLOCK_ID_THREAD_CPU,
    CLOCK_ID_COUNT
};

/* What a look costs, and the resolution that the clocks claim. */
#define TICK_NS NS_PER_US

/* The monotonic clock stops here: realtime then stands at the last instant that a signed number of
 * nanoseconds can hold (in the year 2262), as most guests keep it. */
static uint64_t clock_end_ns(const struct wasi *w)
{
    return w->realtime_offset_ns < INT64_MAX ? INT64_MAX - w->realtime_offset_ns : 0;
}

/* Moves time to `until`, then by the tick that a look costs. */
static void clock_advance(struct wasi *w, uint64_t until)
{
    uint64_t end = clock_end_ns(w);
    uint64_t room = until < end ? end - until : 0;
    w->monotonic_ns = until + MIN(room, TICK_NS);
}

uint32_t wasi_on_clock_res_get(struct wasi_frame *f)
{
    uint32_t id = wasi_arg(f, 0);
    uint32_t ret = wasi_arg(f, 1);
    if (!guest_fits(f->mem, ret, 8))
        return WASI_EFAULT;
    if (id >= CLOCK_ID_COUNT)
        return WASI_EINVAL;
    guest_put_u64(f->mem, ret, TICK_NS);
    return WASI_SUCCESS;
}

uint32_t wasi_on_clock_time_get(struct wasi_frame *f)
{
    uint32_t id = wasi_arg(f, 0);
    uint32_t ret = wasi_arg(f, 2);
    if (!guest_fits(f->mem, ret, 8))
        return WASI_EFAULT;
    if (id >= CLOCK_ID_COUNT)
        return WASI_EINVAL;
    uint64_t now = f->w->monotonic_ns;
    clock_advance(f->w, now);
    guest_put_u64(f->mem, ret, id == CLOCK_ID_REALTIME ? now + f->w->realtime_offset_ns : now);
    return WASI_SUCCESS;
}

/* A subscription is 48 bytes: u64 userdata, u8 type at 8; for a clock u32 id at 16, u64 timeout at 24,
 * u64 precision at 32, u16 flags at 40; for a descriptor u32 fd at 16.
 * An event is 32 bytes: u64 userdata, u16 error at 8, u8 type at 10; for a descriptor u64 nbytes at 16,
 * u16 flags at 24. */
enum { SUBSCRIPTION_BYTES = 48, EVENT_BYTES = 32, SUBSCRIPTION_ABSTIME = 1 };
enum event_type { EVENT_CLOCK, EVENT_FD_READ, EVENT_FD_WRITE, EVENT_TYPE_COUNT };

struct subscription {
    uint64_t userdata;
    uint64_t due_ns; /* on the monotonic clock; 0 = at once */
    uint8_t type;    /* enum event_type */
    uint16_t error;
};

/* When a clock subscription at `at` is due. False: its clock or its flags don't exist. */
static bool clock_due(const struct wasi_frame *f, uint64_t at, uint64_t *ret_due)
{
    uint32_t id = guest_get_u32(f->mem, at + 16);
    uint64_t timeout = guest_get_u64(f->mem, at + 24);
    uint16_t flags = guest_get_u16(f->mem, at + 40);
    if (id >= CLOCK_ID_COUNT || flags & ~SUBSCRIPTION_ABSTIME)
        return false;
    uint64_t now = f->w->monotonic_ns;
    uint64_t end = MAX(clock_end_ns(f->w), now);
    if (!(flags & SUBSCRIPTION_ABSTIME)) {
        *ret_due = now + MIN(timeout, end - now);
        return true;
    }
    uint64_t offset = id == CLOCK_ID_REALTIME ? f->w->realtime_offset_ns : 0;
    *ret_due = timeout > offset ? MIN(timeout - offset, end) : 0;
    return true;
}

/* Reads subscription `index` of the array at `in`. False: its type does not exist. */
static bool subscription_read(const struct wasi_frame *f, uint32_t in, uint32_t index,
                              struct subscription *ret)
{
    uint64_t at = in + (uint64_t)index * SUBSCRIPTION_BYTES;
    struct subscription s = {.userdata = guest_get_u64(f->mem, at), .type = guest_get_u8(f->mem, at + 8)};
    if (s.type >= EVENT_TYPE_COUNT)
        return false;
    if (s.type == EVENT_CLOCK) {
        if (!clock_due(f, at, &s.due_ns))
            s.error = WASI_EINVAL;
    } else {
        int stream = wasi_stream_of(f->w, guest_get_u32(f->mem, at + 16));
        if (stream < 0 || (stream == 0) != (s.type == EVENT_FD_READ))
            s.error = WASI_EBADF;
    }
    *ret = s;
    return true;
}

static void event_write(struct guest_memory mem, uint64_t at, const struct subscription *s)
{
    memset(guest_at(mem, at, EVENT_BYTES), 0, EVENT_BYTES);
    guest_put_u64(mem, at, s->userdata);
    guest_put_u16(mem, at + 8, s->error);
    guest_put_u8(mem, at + 10, s->type);
    /* "At least a byte": the count is a hint, and asking the stream would make polls wait. */
    if (s->type != EVENT_CLOCK && !s->error)
        guest_put_u64(mem, at + 16, 1);
}

/* Streams are always ready, and the read or write itself waits. So whenever one of them is subscribed to,
 * or a subscription is in error, or its time has passed, the call answers with all such and time stands;
 * otherwise time jumps to the earliest deadline. More than SUBSCRIPTIONS_MAX are refused: a call
 * may not take longer than a slice. */
enum { SUBSCRIPTIONS_MAX = 65536 };

uint32_t wasi_on_poll_oneoff(struct wasi_frame *f)
{
    uint32_t in = wasi_arg(f, 0);
    uint32_t out = wasi_arg(f, 1);
    uint32_t count = wasi_arg(f, 2);
    uint32_t ret = wasi_arg(f, 3);
    if (!guest_fits(f->mem, in, (uint64_t)count * SUBSCRIPTION_BYTES) ||
        !guest_fits(f->mem, out, (uint64_t)count * EVENT_BYTES) || !guest_fits(f->mem, ret, 4))
        return WASI_EFAULT;
    if (!count || count > SUBSCRIPTIONS_MAX)
        return WASI_EINVAL;

    struct subscription s;
    uint64_t until = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (!subscription_read(f, in, i, &s))
            return WASI_EINVAL;
        until = MIN(until, s.due_ns);
    }
    until = MAX(until, f->w->monotonic_ns);

    /* The guest may have let the two arrays overlap: then subscriptions change under the events, and what
     * is no subscription any more is passed over. */
    uint32_t events = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!subscription_read(f, in, i, &s) || s.due_ns > until)
            continue;
        event_write(f->mem, out + (uint64_t)events * EVENT_BYTES, &s);
        events++;
    }
    clock_advance(f->w, until);
    guest_put_u32(f->mem, ret, events);
    return WASI_SUCCESS;
}
