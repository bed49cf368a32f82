/* The loop that runs guests, driven over its rings as the front does: many runs, one thread, hostile messages. */
#include "engine_fixture.h"

#include <fcntl.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "sandbox/area.h"
#include "sandbox/loop.h"

enum { CHANNELS = 2, FDS = 64, ENDED_MAX = 256, PATIENCE_S = 20 };

/* What came back about one run. */
struct seen {
    uint64_t id;
    uint32_t channel;
    bool done, absent;
    struct run_report report;
    struct buf out[2];
    uint64_t stdin_credit;
};

struct fixture {
    struct area area;
    struct ring_writer to[CHANNELS];
    struct ring_reader from[CHANNELS];
    struct sandbox_loop *loop;
    int fds[CHANNELS][FDS];
    size_t fd_first[CHANNELS], fd_count[CHANNELS];
    unsigned notified[CHANNELS];
    bool deaf;   /* the front reads nothing */
    bool greedy; /* it gives credit for all output at once */
    struct seen seen[ENDED_MAX];
    size_t seen_count;
    unsigned loaded_ok, loaded_not;
    char load_text[MESSAGE_TEXT_MAX + 1];
    struct run_limits limits;
};

static int take_fd(void *ctx, uint32_t channel)
{
    struct fixture *f = ctx;
    if (f->fd_first[channel] == f->fd_count[channel])
        return -1;
    return f->fds[channel][f->fd_first[channel]++];
}

static void notify(void *ctx, uint32_t channel)
{
    struct fixture *f = ctx;
    f->notified[channel]++;
}

static void start(struct fixture *f, uint32_t slots, uint32_t modules_max)
{
    static const struct sandbox_channel_ops ops = {.take_fd = take_fd, .notify = notify};
    struct sandbox_loop_config config = {
        .engine = {.pool = true, .slots = slots, .memory_max_bytes = FIXTURE_MEMORY_MAX},
        .pool_max_bytes = GIB,
        .modules_max = modules_max,
    };
    struct err_info info = {0};
    struct ring_reader from[CHANNELS];
    struct ring_writer to[CHANNELS];
    for (uint32_t i = 0; i < CHANNELS; i++) {
        from[i] = area_to_sandbox_reader(&f->area, i);
        to[i] = area_from_sandbox_writer(&f->area, i);
    }
    if (sandbox_loop_new(&config, CHANNELS, from, to, &ops, f, &f->loop, &info))
        fail_msg("%s", info.text);
    fixture_trap_signals();
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct err_info info = {0};
    if (area_create(&f->area, CHANNELS, &info))
        fail_msg("%s", info.text);
    for (uint32_t i = 0; i < CHANNELS; i++) {
        f->to[i] = area_to_sandbox_writer(&f->area, i);
        f->from[i] = area_from_sandbox_reader(&f->area, i);
    }
    f->greedy = true;
    f->limits = (struct run_limits){.timeout_ns = 10 * NS_PER_S,
                                    .memory_bytes = FIXTURE_MEMORY_MAX,
                                    .table_elements = 1000,
                                    .stdout_bytes = 64 * MIB,
                                    .stderr_bytes = MIB};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sandbox_loop_free(f->loop);
    area_done(&f->area);
    for (size_t i = 0; i < f->seen_count; i++) {
        buf_done(&f->seen[i].out[0]);
        buf_done(&f->seen[i].out[1]);
    }
    for (uint32_t i = 0; i < CHANNELS; i++)
        while (f->fd_first[i] < f->fd_count[i])
            close(f->fds[i][f->fd_first[i]++]);
    free(f);
    return 0;
}

/* --- the front's side --------------------------------------------------------------------------- */
static void send(struct fixture *f, uint32_t channel, const void *m, size_t len)
{
    void *to = ring_reserve(&f->to[channel], len);
    assert_non_null(to);
    memcpy(to, m, len);
    ring_publish(&f->to[channel], len);
}

static void send_load_fd(struct fixture *f, uint32_t channel, uint64_t id, int fd)
{
    struct message_load m = {.head = {MESSAGE_LOAD, 0, id}, .memories = 1, .tables = 0};
    assert_true(f->fd_count[channel] < FDS);
    f->fds[channel][f->fd_count[channel]++] = fd;
    send(f, channel, &m, sizeof m);
}

static void load(struct fixture *f, uint64_t id, const char *wat)
{
    send_load_fd(f, 0, id, fixture_code(wat, false));
}

static void send_run(struct fixture *f, uint32_t channel, uint64_t id, uint64_t module, struct str input,
                     bool eof)
{
    struct {
        struct message_run run;
        char data[4096];
    } m = {.run = {.head = {MESSAGE_RUN, (uint32_t)input.len, id},
                   .module_id = module,
                   .limits = f->limits,
                   .stdin_bytes = (uint32_t)input.len,
                   .stdin_eof = eof}};
    assert_true(input.len <= sizeof m.data);
    if (input.len)
        memcpy(m.data, input.p, input.len);
    send(f, channel, &m, sizeof m.run + input.len);
}

static void run(struct fixture *f, uint64_t id, uint64_t module)
{
    send_run(f, 0, id, module, STR_NULL, true);
}

static void send_stdin(struct fixture *f, uint64_t id, struct str bytes, bool eof)
{
    struct message_stdin head = {.head = {MESSAGE_STDIN, (uint32_t)bytes.len, id}, .eof = eof};
    char *to = ring_reserve(&f->to[0], sizeof head + bytes.len);
    assert_non_null(to);
    memcpy(to, &head, sizeof head);
    if (bytes.len)
        memcpy(to + sizeof head, bytes.p, bytes.len);
    ring_publish(&f->to[0], sizeof head + bytes.len);
}

static void send_small(struct fixture *f, uint32_t channel, uint32_t type, uint64_t id, uint64_t bytes)
{
    struct message_credit m = {.head = {type, 0, id}, .bytes = bytes};
    send(f, channel, &m, type == MESSAGE_CANCEL ? sizeof m.head : sizeof m);
}

static struct seen *seen_of(struct fixture *f, uint32_t channel, uint64_t id)
{
    for (size_t i = 0; i < f->seen_count; i++)
        if (f->seen[i].id == id && f->seen[i].channel == channel)
            return &f->seen[i];
    assert_true(f->seen_count < ENDED_MAX);
    struct seen *s = &f->seen[f->seen_count++];
    *s = (struct seen){.id = id, .channel = channel, .out = {buf_make(64 * MIB), buf_make(64 * MIB)}};
    return s;
}

static void take_message(struct fixture *f, uint32_t channel, const void *payload, size_t len)
{
    union message_any m;
    struct str data;
    assert_true(message_check_from_sandbox(payload, len, &m, &data));
    if (m.head.type == MESSAGE_LOADED) {
        f->loaded_ok += m.loaded.ok;
        f->loaded_not += !m.loaded.ok;
        snprintf(f->load_text, sizeof f->load_text, "%.*s", STR_FMT(data));
        return;
    }
    struct seen *s = seen_of(f, channel, m.head.id);
    assert_false(s->done || s->absent); /* nothing comes behind the end */
    switch (m.head.type) {
    case MESSAGE_OUTPUT:
        buf_put_str(&s->out[m.output.fd == 2], data);
        if (f->greedy)
            send_small(f, channel, MESSAGE_CREDIT, s->id, data.len);
        break;
    case MESSAGE_STDIN_CREDIT: s->stdin_credit += m.credit.bytes; break;
    case MESSAGE_ABSENT: s->absent = true; break;
    default:
        buf_put_str(&s->out[0], str_make(data.p, m.done.stdout_bytes));
        buf_put_str(&s->out[1], str_make(data.p + m.done.stdout_bytes, m.done.stderr_bytes));
        s->report = m.done.report;
        s->done = true;
        assert_int_equal(s->report.stdout_bytes, s->out[0].len);
        assert_int_equal(s->report.stderr_bytes, s->out[1].len);
    }
}

static void listen(struct fixture *f)
{
    const void *payload;
    size_t len;
    for (uint32_t i = 0; i < CHANNELS; i++)
        for (enum ring_state state; (state = ring_peek(&f->from[i], &payload, &len)) != RING_EMPTY;) {
            assert_int_equal(state, RING_MESSAGE);
            take_message(f, i, payload, len);
            ring_pop(&f->from[i]);
        }
}

/* One turn, and what a process does after it. */
static enum sandbox_turn turn(struct fixture *f)
{
    uint64_t wake_ns;
    enum sandbox_turn t = sandbox_loop_turn(f->loop, &wake_ns);
    if (!f->deaf)
        listen(f);
    if (t == SANDBOX_IDLE && wake_ns != UINT64_MAX)
        nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
    return t;
}

/* Turns until the run has ended. */
static struct seen *await(struct fixture *f, uint32_t channel, uint64_t id)
{
    uint64_t give_up = clock_now_ns() + PATIENCE_S * NS_PER_S;
    struct seen *s = seen_of(f, channel, id);
    while (!s->done && !s->absent) {
        if (turn(f) == SANDBOX_BROKEN)
            fail_msg("it broke while run %llu was awaited", (unsigned long long)id);
        if (clock_now_ns() > give_up)
            fail_msg("run %llu does not end", (unsigned long long)id);
    }
    return s;
}

static void expect_end(struct fixture *f, uint64_t id, enum cause want)
{
    struct seen *s = await(f, 0, id);
    assert_true(s->done);
    if (s->report.cause != want)
        fail_msg("run %llu: %s (%s) instead of %s", (unsigned long long)id,
                 cause_name((enum cause)s->report.cause), s->report.text, cause_name(want));
}

/* Turns until all that came was looked at and nobody can go on. */
static void settle(struct fixture *f)
{
    uint64_t give_up = clock_now_ns() + PATIENCE_S * NS_PER_S;
    while (turn(f) == SANDBOX_BUSY)
        assert_true(clock_now_ns() < give_up);
}

/* --- tests -------------------------------------------------------------------------------------- */
static void test_many_runs_of_one_module(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    load(f, 7, GUEST_HELLO);
    for (uint64_t id = 0; id < 50; id++)
        send_run(f, (uint32_t)id % CHANNELS, id, 7, STR_NULL, true);
    for (uint64_t id = 0; id < 50; id++) {
        struct seen *s = await(f, (uint32_t)id % CHANNELS, id);
        assert_int_equal(s->report.cause, CAUSE_OK);
        assert_int_equal(s->out[0].len, 5);
        assert_memory_equal(s->out[0].p, "hello", 5);
    }
    assert_int_equal(f->loaded_ok, 1);
    assert_true(f->notified[0] && f->notified[1]);
    assert_int_equal(sandbox_loop_runs(f->loop), 0);
    settle(f);
    uint64_t wake_ns;
    assert_int_equal(sandbox_loop_turn(f->loop, &wake_ns), SANDBOX_IDLE);
    assert_true(wake_ns == UINT64_MAX);
}

/* More runs than the pool has slots: the rest waits its turn and loses none of its time. */
static void test_full_pool_queues(void **state)
{
    struct fixture *f = *state;
    const uint64_t hog_ns = 30 * NS_PER_MS, patient_ns = f->limits.timeout_ns;
    start(f, 2, 8);
    load(f, 1, GUEST_FOREVER);
    load(f, 2, GUEST_HELLO);
    f->limits.timeout_ns = hog_ns;
    for (uint64_t id = 0; id < 6; id++)
        run(f, id, 1);
    f->limits.timeout_ns = patient_ns;
    run(f, 6, 2);
    for (uint64_t id = 0; id < 6; id++) {
        expect_end(f, id, CAUSE_DEADLINE);
        assert_true(seen_of(f, 0, id)->report.run_ns >= hog_ns);
    }
    expect_end(f, 6, CAUSE_OK);
}

static void test_short_run_beside_hogs(void **state)
{
    struct fixture *f = *state;
    start(f, 8, 8);
    load(f, 1, GUEST_FOREVER);
    load(f, 2, GUEST_HELLO);
    for (uint64_t id = 0; id < 4; id++)
        run(f, id, 1);
    for (uint64_t id = 100; id < 120; id++) {
        run(f, id, 2);
        expect_end(f, id, CAUSE_OK);
    }
    for (uint64_t id = 0; id < 4; id++) {
        assert_false(seen_of(f, 0, id)->done);
        send_small(f, 0, MESSAGE_CANCEL, id, 0);
        expect_end(f, id, CAUSE_CANCELLED);
    }
}

static void test_absent_module(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    run(f, 3, 99);
    assert_true(await(f, 0, 3)->absent);
    assert_int_equal(sandbox_loop_runs(f->loop), 0);
    f->seen_count = 0;
    load(f, 99, GUEST_HELLO);
    run(f, 3, 99); /* the same place again */
    expect_end(f, 3, CAUSE_OK);
}

static void test_code_that_is_none(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    int fd = memfd_create("nothing", MFD_CLOEXEC);
    assert_int_equal(write(fd, "this is no code at all", 22), 22);
    send_load_fd(f, 0, 5, fd);
    run(f, 1, 5);
    assert_true(await(f, 0, 1)->absent);
    assert_int_equal(f->loaded_not, 1);
    assert_true(f->load_text[0]);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    /* Code of an engine with other settings. */
    send_load_fd(f, 0, 6, fixture_code(GUEST_HELLO, true));
    run(f, 2, 6);
    assert_true(await(f, 0, 2)->absent);
    assert_int_equal(f->loaded_not, 2);
}

static void test_load_twice(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    int first = fixture_code(GUEST_HELLO, false), second = dup(first);
    send_load_fd(f, 0, 5, first);
    send_load_fd(f, 1, 5, second);
    send_run(f, 1, 1, 5, STR_NULL, true);
    assert_true(await(f, 1, 1)->done);
    assert_int_equal(fcntl(second, F_GETFD), -1); /* not needed, and not kept */
}

static void test_least_used_modules_go(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 3);
    for (uint64_t m = 1; m <= 3; m++)
        load(f, m, GUEST_HELLO);
    run(f, 1, 1); /* 2 is the one used longest ago now */
    expect_end(f, 1, CAUSE_OK);
    load(f, 4, GUEST_HELLO);
    static const uint64_t there[] = {1, 3, 4};
    for (size_t i = 0; i < LENGTH_OF(there); i++) {
        run(f, 10 + i, there[i]);
        expect_end(f, 10 + i, CAUSE_OK);
    }
    run(f, 20, 2);
    assert_true(await(f, 0, 20)->absent);
}

static void test_modules_in_use_stay(void **state)
{
    struct fixture *f = *state;
    start(f, 8, 2);
    load(f, 1, GUEST_FOREVER);
    load(f, 2, GUEST_FOREVER);
    run(f, 1, 1);
    run(f, 2, 2);
    for (int i = 0; i < 20; i++)
        turn(f);
    load(f, 3, GUEST_HELLO); /* one too many, but there is nobody to drop */
    run(f, 3, 3);
    expect_end(f, 3, CAUSE_OK);
    for (uint64_t id = 1; id <= 2; id++) {
        send_small(f, 0, MESSAGE_CANCEL, id, 0);
        expect_end(f, id, CAUSE_CANCELLED);
    }
}

/* Ids that fall on one place of the table, and places that must be closed up when one goes. */
static void test_many_modules(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 20);
    int fd = fixture_code(GUEST_HELLO, false);
    for (uint64_t m = 1; m <= 60; m++) {
        send_load_fd(f, 0, m << 52, dup(fd)); /* the product keeps few high bits apart */
        settle(f);
    }
    close(fd);
    for (uint64_t m = 41; m <= 60; m++) {
        run(f, m, m << 52);
        expect_end(f, m, CAUSE_OK);
    }
    for (uint64_t m = 1; m <= 40; m++) {
        run(f, 100 + m, m << 52);
        assert_true(await(f, 0, 100 + m)->absent);
    }
}

/* --- deadlines and cancelling ------------------------------------------------------------------- */
static void test_deadlines_in_any_order(void **state)
{
    struct fixture *f = *state;
    static const unsigned ms[] = {40, 10, 50, 20, 30, 15, 45, 5};
    start(f, 16, 8);
    load(f, 1, GUEST_ECHO);
    load(f, 2, GUEST_FOREVER);
    for (uint64_t i = 0; i < LENGTH_OF(ms); i++) {
        f->limits.timeout_ns = ms[i] * NS_PER_MS;
        send_run(f, 0, i, i % 2 ? 1 : 2, STR_NULL, false); /* half of them wait, half compute */
    }
    for (uint64_t i = 0; i < LENGTH_OF(ms); i++) {
        expect_end(f, i, CAUSE_DEADLINE);
        uint64_t run_ns = seen_of(f, 0, i)->report.run_ns;
        if (run_ns < ms[i] * NS_PER_MS)
            fail_msg("run %llu with %u ms was ended after %llu ns", (unsigned long long)i, ms[i],
                     (unsigned long long)run_ns);
    }
}

static void test_cancel_in_every_state(void **state)
{
    struct fixture *f = *state;
    start(f, 2, 8);
    load(f, 1, GUEST_ECHO);
    load(f, 2, GUEST_FOREVER);
    send_run(f, 0, 1, 1, STR_NULL, false); /* will wait for stdin */
    run(f, 2, 2);                          /* will compute */
    run(f, 3, 2);                          /* will wait for a slot */
    send_small(f, 0, MESSAGE_CANCEL, 3, 0);
    expect_end(f, 3, CAUSE_CANCELLED);
    assert_int_equal(seen_of(f, 0, 3)->report.run_ns, 0);
    send_small(f, 0, MESSAGE_CANCEL, 1, 0);
    send_small(f, 0, MESSAGE_CANCEL, 1, 0); /* twice */
    expect_end(f, 1, CAUSE_CANCELLED);
    send_small(f, 0, MESSAGE_CANCEL, 2, 0);
    expect_end(f, 2, CAUSE_CANCELLED);
    send_small(f, 0, MESSAGE_CANCEL, 2, 0);  /* it has ended */
    send_small(f, 0, MESSAGE_CANCEL, 77, 0); /* there never was one */
    settle(f);
    run(f, 4, 2); /* in the queue, cancelled in the same batch */
    send_small(f, 0, MESSAGE_CANCEL, 4, 0);
    expect_end(f, 4, CAUSE_CANCELLED);
    assert_int_equal(sandbox_loop_runs(f->loop), 0);
}

/* --- streams ------------------------------------------------------------------------------------ */
static void test_stdin_of_several_megabytes(void **state)
{
    struct fixture *f = *state;
    static char piece[16 * 1024];
    uint64_t total = 3 * MIB, sent = 0, window = STDIN_WINDOW_BYTES;
    start(f, 4, 8);
    load(f, 1, GUEST_ECHO);
    send_run(f, 0, 1, 1, STR_NULL, false);
    struct seen *s = seen_of(f, 0, 1);
    while (sent < total) {
        uint64_t len = MIN(MIN(window + s->stdin_credit - sent, sizeof piece), total - sent);
        for (uint64_t i = 0; i < len; i++)
            piece[i] = (char)((sent + i) * 7 % 251);
        if (len) {
            send_stdin(f, 1, str_make(piece, len), sent + len == total);
            sent += len;
        }
        assert_int_not_equal(turn(f), SANDBOX_BROKEN);
        assert_false(s->done && sent < total);
    }
    expect_end(f, 1, CAUSE_OK);
    assert_int_equal(s->report.stdin_bytes, total);
    assert_int_equal(s->out[0].len, total);
    for (uint64_t i = 0; i < total; i++)
        if (s->out[0].p[i] != (char)(i * 7 % 251))
            fail_msg("byte %llu", (unsigned long long)i);
}

static void test_output_window(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    f->greedy = false;
    load(f, 1, GUEST_FLOOD);
    load(f, 2, GUEST_HELLO);
    run(f, 1, 1);
    settle(f);
    struct seen *s = seen_of(f, 0, 1);
    assert_int_equal(s->out[0].len, OUTPUT_WINDOW_BYTES);
    run(f, 2, 2); /* others go on */
    expect_end(f, 2, CAUSE_OK);
    assert_int_equal(s->out[0].len, OUTPUT_WINDOW_BYTES);
    send_small(f, 0, MESSAGE_CREDIT, 1, 1000);
    settle(f);
    assert_int_equal(s->out[0].len, OUTPUT_WINDOW_BYTES + 1000);
    send_small(f, 0, MESSAGE_CREDIT, 1, UINT64_MAX); /* more than it ever sent */
    settle(f);
    assert_int_equal(s->out[0].len, 2 * OUTPUT_WINDOW_BYTES + 1000);
    send_small(f, 0, MESSAGE_CANCEL, 1, 0);
    expect_end(f, 1, CAUSE_CANCELLED);
}

static void test_output_limit_over_the_ring(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    f->limits.stdout_bytes = 3 * MIB + 5;
    load(f, 1, GUEST_FLOOD);
    run(f, 1, 1);
    expect_end(f, 1, CAUSE_OUTPUT_LIMIT);
    assert_int_equal(seen_of(f, 0, 1)->out[0].len, 3 * MIB + 5);
}

/* The front does not read: the ring fills up, runs end meanwhile, and all arrives later. */
static void test_full_ring(void **state)
{
    struct fixture *f = *state;
    start(f, 64, 8);
    f->deaf = true;
    f->limits.stdout_bytes = 100000;
    load(f, 1, GUEST_FLOOD);
    load(f, 2, GUEST_HELLO);
    for (uint64_t id = 0; id < 40; id++)
        run(f, id, id % 2 ? 1 : 2);
    for (int i = 0; i < 2000; i++)
        assert_int_not_equal(turn(f), SANDBOX_BROKEN);
    assert_true(sandbox_loop_runs(f->loop) > 0);
    f->deaf = false;
    for (uint64_t id = 0; id < 40; id++) {
        expect_end(f, id, id % 2 ? CAUSE_OUTPUT_LIMIT : CAUSE_OK);
        assert_int_equal(seen_of(f, 0, id)->out[0].len, id % 2 ? 100000 : 5);
    }
}

static void test_free_with_runs_in_every_state(void **state)
{
    struct fixture *f = *state;
    start(f, 3, 8);
    f->greedy = false;
    load(f, 1, GUEST_ECHO);
    load(f, 2, GUEST_FOREVER);
    load(f, 3, GUEST_FLOOD);
    send_run(f, 0, 1, 1, STR_NULL, false);
    run(f, 2, 2);
    run(f, 3, 3);
    run(f, 4, 2);
    run(f, 5, 1);
    for (int i = 0; i < 100; i++)
        turn(f);
    assert_int_equal(sandbox_loop_runs(f->loop), 5);
}

/* --- messages that make no sense ---------------------------------------------------------------- */
static void expect_broken(struct fixture *f)
{
    uint64_t wake_ns;
    for (int i = 0; i < 10; i++)
        if (sandbox_loop_turn(f->loop, &wake_ns) == SANDBOX_BROKEN)
            return;
    fail_msg("it was swallowed");
}

static void test_nonsense(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    send(f, 0, "nonsense", 8);
    expect_broken(f);
}

static void test_run_id_in_use(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    load(f, 1, GUEST_FOREVER);
    run(f, 5, 1);
    run(f, (UINT64_C(1) << 32) + 5, 1); /* another life of the same place */
    expect_broken(f);
}

static void test_run_id_too_large(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    load(f, 1, GUEST_HELLO);
    run(f, (1 << 20) - 1, 1);
    expect_end(f, (1 << 20) - 1, CAUSE_OK);
    run(f, 1 << 20, 1);
    expect_broken(f);
}

static void test_too_much_stdin(void **state)
{
    struct fixture *f = *state;
    static char piece[MESSAGE_DATA_MAX];
    start(f, 4, 8);
    f->limits.timeout_ns = 60 * NS_PER_S;
    load(f, 1, GUEST_FOREVER);
    send_run(f, 0, 1, 1, STR_NULL, false);
    for (int i = 0; i < 5; i++)
        send_stdin(f, 1, str_make(piece, sizeof piece), false);
    turn(f);
    send_stdin(f, 1, str_make(piece, sizeof piece), false);
    expect_broken(f);
}

static void test_load_without_descriptor(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    struct message_load m = {.head = {MESSAGE_LOAD, 0, 1}};
    send(f, 0, &m, sizeof m);
    expect_broken(f);
}

static void test_broken_ring(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 8);
    atomic_store(&f->area.channel_controls[1].to_sandbox.written, 12);
    expect_broken(f);
}

int main(void)
{
#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_many_runs_of_one_module),
        LOOP_TEST(test_full_pool_queues),
        LOOP_TEST(test_short_run_beside_hogs),
        LOOP_TEST(test_absent_module),
        LOOP_TEST(test_code_that_is_none),
        LOOP_TEST(test_load_twice),
        LOOP_TEST(test_least_used_modules_go),
        LOOP_TEST(test_modules_in_use_stay),
        LOOP_TEST(test_many_modules),
        LOOP_TEST(test_deadlines_in_any_order),
        LOOP_TEST(test_cancel_in_every_state),
        LOOP_TEST(test_stdin_of_several_megabytes),
        LOOP_TEST(test_output_window),
        LOOP_TEST(test_output_limit_over_the_ring),
        LOOP_TEST(test_full_ring),
        LOOP_TEST(test_free_with_runs_in_every_state),
        LOOP_TEST(test_nonsense),
        LOOP_TEST(test_run_id_in_use),
        LOOP_TEST(test_run_id_too_large),
        LOOP_TEST(test_too_much_stdin),
        LOOP_TEST(test_load_without_descriptor),
        LOOP_TEST(test_broken_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
