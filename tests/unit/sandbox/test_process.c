/* The processes `sandbox` and `compiler`, started as the front starts them, and the descriptors handed to them. */
#include "process_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "sandbox/area.h"

enum { PATIENCE_S = 20 };

/* Starts this program anew with `args`, and `fds` as its descriptors from 3 on. */
static pid_t start(char *const *args, const int *fds, int count)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child)
        return child;
    int kept[8];
    for (int i = 0; i < count; i++)
        kept[i] = fcntl(fds[i], F_DUPFD, 100);
    for (int i = 0; i < count; i++)
        dup2(kept[i], 3 + i);
    execv("/proc/self/exe", args);
    _exit(127);
}

static int end_of(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* --- descriptors over a socket ------------------------------------------------------------------ */
static void make_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void test_descriptors(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    for (int count = 1; count <= 4; count++) {
        int sent[4], got[4];
        struct stat a, b;
        for (int i = 0; i < count; i++)
            sent[i] = memfd_create("x", 0);
        assert_true(process_send_fds(pair[0], sent, count));
        assert_true(process_receive_fds(pair[1], got, count));
        for (int i = 0; i < count; i++) {
            assert_int_equal(fstat(sent[i], &a), 0);
            assert_int_equal(fstat(got[i], &b), 0);
            assert_true(got[i] != sent[i] && a.st_ino == b.st_ino);
            assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
            close(sent[i]);
            close(got[i]);
        }
    }
    close(pair[0]);
    close(pair[1]);
}

/* Several in a row stay several. */
static void test_descriptors_keep_their_order(void **state)
{
    (void)state;
    int pair[2], sent[8], got;
    make_pair(pair);
    for (int i = 0; i < 8; i++) {
        sent[i] = memfd_create("x", 0);
        assert_int_equal(ftruncate(sent[i], i), 0);
        assert_true(process_send_fds(pair[0], &sent[i], 1));
        close(sent[i]);
    }
    for (int i = 0; i < 8; i++) {
        struct stat st;
        assert_true(process_receive_fds(pair[1], &got, 1));
        assert_int_equal(fstat(got, &st), 0);
        assert_int_equal(st.st_size, i);
        close(got);
    }
    close(pair[0]);
    close(pair[1]);
}

static void test_no_descriptors(void **state)
{
    (void)state;
    int pair[2], got[2] = {7, 7}, none = -1;
    make_pair(pair);
    assert_int_equal(write(pair[0], "F", 1), 1);
    assert_false(process_receive_fds(pair[1], got, 1));
    assert_int_equal(got[0], -1);
    assert_false(process_send_fds(pair[0], &none, 1));
    close(pair[0]);
    assert_false(process_receive_fds(pair[1], got, 2)); /* the other end is closed */
    assert_int_equal(got[0], -1);
    assert_int_equal(got[1], -1);
    assert_false(process_send_fds(pair[1], &pair[1], 1));
    close(pair[1]);
}

/* More than were asked for must not stay open for nobody. */
static void test_wrong_number_of_descriptors(void **state)
{
    (void)state;
    int pair[2], sent[2] = {memfd_create("x", 0), memfd_create("y", 0)}, got = 7;
    make_pair(pair);
    int next = fcntl(pair[0], F_DUPFD, 0); /* the lowest that is free */
    close(next);
    assert_true(process_send_fds(pair[0], sent, 2));
    assert_false(process_receive_fds(pair[1], &got, 1));
    assert_int_equal(got, -1);
    assert_false(is_open(next));
    close(sent[0]);
    close(sent[1]);
    close(pair[0]);
    close(pair[1]);
}

/* --- a sandbox ---------------------------------------------------------------------------------- */
static const struct sandbox_loop_config sandbox_config = {
    .engine = {.pool = true, .slots = 4, .memory_max_bytes = FIXTURE_MEMORY_MAX},
    .pool_max_bytes = FIXTURE_POOL_BYTES,
    .modules_max = 8,
};

struct sandbox {
    pid_t pid;
    struct area area;
    int event, socket;
    struct ring_writer to;
    struct ring_reader from;
};

static struct sandbox start_sandbox(void)
{
    struct sandbox s;
    struct err_info info = {0};
    int pair[2];
    char *args[SANDBOX_ARGS + 1];
    if (area_create(&s.area, 1, &info))
        fail_msg("%s", info.text);
    make_pair(pair);
    s.event = eventfd(0, EFD_CLOEXEC);
    s.socket = pair[0];
    s.to = area_to_sandbox_writer(&s.area, 0);
    s.from = area_from_sandbox_reader(&s.area, 0);
    sandbox_process_args(&sandbox_config, 1, "wasmwiz", args);
    s.pid = start(args, (int[]){s.area.fd, s.event, pair[1]}, 3);
    close(pair[1]);
    for (int i = 0; i < SANDBOX_ARGS; i++)
        free(args[i]);
    return s;
}

static void drop_sandbox(struct sandbox *s)
{
    kill(s->pid, SIGKILL);
    end_of(s->pid);
    close(s->event);
    close(s->socket);
    area_done(&s->area);
}

/* The next message; sleeps on the event descriptor as a loop of the front does. */
static union message_any next_message(struct sandbox *s, char *ret_data, size_t size)
{
    union message_any m;
    struct str data;
    const void *payload;
    size_t len;
    uint64_t give_up = clock_now_ns() + PATIENCE_S * NS_PER_S;
    for (enum ring_state state; (state = ring_peek(&s->from, &payload, &len)) != RING_MESSAGE;) {
        assert_int_equal(state, RING_EMPTY);
        assert_true(clock_now_ns() < give_up);
        atomic_store(&s->area.channel_controls[0].front_sleeps, 1);
        if (ring_has_more(&s->from))
            continue;
        struct pollfd p = {.fd = s->event, .events = POLLIN};
        uint64_t count;
        if (poll(&p, 1, 1000 * PATIENCE_S) > 0)
            assert_int_equal(read(s->event, &count, sizeof count), sizeof count);
    }
    assert_true(message_check_from_sandbox(payload, len, &m, &data));
    snprintf(ret_data, size, "%.*s", STR_FMT(data));
    ring_pop(&s->from);
    return m;
}

static void tell(struct sandbox *s, const void *m, size_t len)
{
    memcpy(ring_reserve(&s->to, len), m, len);
    ring_publish(&s->to, len);
    area_ring_doorbell(&s->area);
}

static void test_sandbox_serves(void **state)
{
    (void)state;
    struct sandbox s = start_sandbox();
    char text[1000];
    int code = fixture_code(GUEST_HELLO, false);
    struct message_load load = {.head = {MESSAGE_LOAD, 0, 1}, .memories = 1};
    struct message_run run = {
        .head = {MESSAGE_RUN, 0, 0},
        .module_id = 1,
        .limits = {.timeout_ns = 10 * NS_PER_S, .memory_bytes = MIB, .stdout_bytes = 1000},
        .stdin_eof = 1};
    assert_true(process_send_fds(s.socket, &code, 1));
    close(code);
    tell(&s, &load, sizeof load);
    assert_int_equal(next_message(&s, text, sizeof text).loaded.ok, 1);
    assert_int_equal(atomic_load(&s.area.control->ready), 1);
    for (uint64_t id = 0; id < 20; id++) { /* it sleeps and wakes between them */
        run.head.id = id;
        tell(&s, &run, sizeof run);
        union message_any m = next_message(&s, text, sizeof text);
        assert_int_equal(m.head.type, MESSAGE_DONE);
        assert_int_equal(m.head.id, id);
        assert_int_equal(m.done.report.cause, CAUSE_OK);
        assert_string_equal(text, "hello");
    }
    assert_true(atomic_load(&s.area.control->turns) >= 19); /* the last one may not be counted yet */
    drop_sandbox(&s);
}

static void test_sandbox_ends_at_nonsense(void **state)
{
    (void)state;
    struct sandbox s = start_sandbox();
    tell(&s, "nonsense", 8);
    int status = end_of(s.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
    close(s.event);
    close(s.socket);
    area_done(&s.area);
}

static int run_with(const char *const *words)
{
    char *args[16] = {0};
    for (int i = 0; words[i]; i++)
        args[i] = (char *)(uintptr_t)words[i];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), status;
    pid_t child = start(args, &null, 1);
    close(null);
    status = end_of(child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_by_hand(void **state)
{
    (void)state;
    assert_int_equal(run_with((const char *const[]){"wasmwiz", "sandbox", NULL}), 64);
    assert_int_equal(
        run_with((const char *const[]){"wasmwiz", "sandbox", "1", "0", "4", "65536", "1", "1", "x", NULL}),
        64);
    assert_int_equal(
        run_with((const char *const[]){"wasmwiz", "sandbox", "0", "0", "4", "65536", "1", "1", "1", NULL}),
        64);
    assert_int_equal(
        run_with((const char *const[]){"wasmwiz", "sandbox", "257", "0", "4", "65536", "1", "1", "1", NULL}),
        64);
    assert_int_equal(run_with((const char *const[]){"wasmwiz", "compiler", NULL}), 64);
    assert_int_equal(
        run_with((const char *const[]){"wasmwiz", "compiler", "0", "65536", "0", "9", "1", "-1", NULL}), 64);
}

/* --- a compiler --------------------------------------------------------------------------------- */
static pid_t start_compiler(const char *fuel, const char *code_max, int socket)
{
    char parent[24];
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    const char *const words[] = {"wasmwiz", "compiler", fuel, "16777216", "0", "60", code_max, parent, NULL};
    return start((char *const *)(uintptr_t)words, &socket, 1);
}

static struct compile_answer compile(struct str wasm, const char *fuel, const char *code_max, int *ret_code,
                                     int *ret_status)
{
    struct compile_answer answer = {.err = UINT32_MAX};
    int pair[2], wasm_fd = memfd_create("wasm", MFD_CLOEXEC);
    *ret_code = memfd_create("code", MFD_CLOEXEC);
    make_pair(pair);
    assert_int_equal(write(wasm_fd, wasm.p, wasm.len), wasm.len);
    pid_t child = start_compiler(fuel, code_max, pair[1]);
    close(pair[1]);
    assert_true(process_send_fds(pair[0], (int[]){wasm_fd, *ret_code}, 2));
    close(wasm_fd);
    size_t got = 0;
    for (ssize_t n; (n = read(pair[0], (char *)&answer + got, sizeof answer - got)) > 0;)
        got += (size_t)n;
    close(pair[0]);
    assert_true(got == 0 || got == sizeof answer);
    *ret_status = end_of(child);
    return answer;
}

static void test_compiler_compiles(void **state)
{
    (void)state;
    for (int fuel = 0; fuel < 2; fuel++) {
        int code, status;
        wasm_byte_vec_t wasm = fixture_wasm(GUEST_ECHO);
        struct compile_answer a =
            compile(str_make(wasm.data, wasm.size), fuel ? "1" : "0", "10000000", &code, &status);
        wasm_byte_vec_delete(&wasm);
        if (a.err)
            fail_msg("%s", a.text);
        assert_int_equal(status, 0);
        struct engine *e = fixture_engine(true, fuel);
        wasmtime_module_t *module;
        wasmtime_error_t *error = wasmwiz_module_open(e->engine, code, &module);
        assert_null(error);
        wasmtime_module_delete(module);
        engine_free(e);
    }
}

static void test_compiler_refuses(void **state)
{
    (void)state;
    int code, status;
    struct compile_answer a = compile(STR_LIT("\0asm\1\0\0\0\xff"), "0", "10000000", &code, &status);
    assert_int_equal(a.err, ERR_MODULE_INVALID);
    assert_int_equal(a.text_bytes, strlen(a.text));
    assert_true(a.text[0]);
    close(code);
    a = compile(STR_LIT(""), "0", "10000000", &code, &status);
    assert_int_equal(a.err, ERR_INTERNAL);
    close(code);
    wasm_byte_vec_t wasm = fixture_wasm(GUEST_ECHO);
    a = compile(str_make(wasm.data, wasm.size), "0", "1000", &code, &status);
    wasm_byte_vec_delete(&wasm);
    assert_int_equal(a.err, ERR_COMPILE_LIMIT);
    struct stat st;
    assert_int_equal(fstat(code, &st), 0);
    assert_true(st.st_size <= 1000);
    close(code);
}

/* Whoever started it is gone before it could ask to be told of that. */
static void test_orphans_end(void **state)
{
    (void)state;
    const char *const sandbox[] = {"wasmwiz", "sandbox", "1", "0", "4", "65536", "1", "1", "1", NULL};
    const char *const compiler[] = {"wasmwiz", "compiler", "0", "65536", "0", "9", "1000", "1", NULL};
    assert_int_equal(run_with(sandbox), 0);
    assert_int_equal(run_with(compiler), 0);
}

static void test_compiler_without_work(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    pid_t child = start_compiler("0", "1000000", pair[1]);
    close(pair[1]);
    close(pair[0]);
    assert_int_equal(end_of(child), 0);
}

int main(int argc, char **argv)
{
    fixture_be_process(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptors),      cmocka_unit_test(test_descriptors_keep_their_order),
        cmocka_unit_test(test_no_descriptors),   cmocka_unit_test(test_wrong_number_of_descriptors),
        cmocka_unit_test(test_sandbox_serves),   cmocka_unit_test(test_sandbox_ends_at_nonsense),
        cmocka_unit_test(test_by_hand),          cmocka_unit_test(test_compiler_compiles),
        cmocka_unit_test(test_compiler_refuses), cmocka_unit_test(test_compiler_without_work),
        cmocka_unit_test(test_orphans_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
