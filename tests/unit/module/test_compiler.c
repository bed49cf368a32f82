/* Compiler processes of this very program: what becomes of a job, whatever becomes of its process. */
#include "../sandbox/process_fixture.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/log.h"
#include "module/compiler.c"

enum { PATIENCE_S = 30, JOBS_MAX = 16 };

struct fixture {
    struct loop loop;
    struct compiler *compiler;
    struct compiler_config config;
    uv_timer_t patience;
    struct compile_job jobs[JOBS_MAX];
    size_t job_count;
    unsigned done;
};

static struct fixture *current; /* for done(), which has no context of its own */

static void on_done(struct compile_job *job)
{
    assert_true(job >= current->jobs && job < current->jobs + current->job_count);
    current->done++;
}

static void on_patience(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("it does not come to an end");
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->config = (struct compiler_config){
        .wall_ns = 20 * NS_PER_S,
        .cpu_seconds = 60,
        .code_bytes_max = 10 * MIB,
        .memory_max_bytes = FIXTURE_MEMORY_MAX,
        .processes_max = 2,
        .queue_max = 3,
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    *state = current = f;
    return 0;
}

static void start(struct fixture *f)
{
    struct err_info info = {0};
    loop_init(&f->loop, 0);
    uv_timer_init(&f->loop.uv, &f->patience);
    uv_timer_start(&f->patience, on_patience, 1000 * PATIENCE_S, 0);
    if (compiler_new(&f->loop, &f->config, &f->compiler, &info))
        fail_msg("%s", info.text);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (!f->compiler->stopping)
        compiler_stop(f->compiler);
    uv_close((uv_handle_t *)&f->patience, NULL);
    loop_close(&f->loop);
    uv_run(&f->loop.uv, UV_RUN_DEFAULT);
    loop_done(&f->loop);
    assert_int_equal(f->done, f->job_count); /* each is told, once */
    assert_int_equal(compiler_load(f->compiler), 0);
    compiler_free(f->compiler);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    for (size_t i = 0; i < f->job_count; i++) {
        close(f->jobs[i].wasm_fd);
        close(f->jobs[i].code_fd);
    }
    free(f);
    return 0;
}

static struct compile_job *submit_bytes(struct fixture *f, struct str wasm, bool fuel)
{
    WW_ASSERT(f->job_count < JOBS_MAX);
    struct compile_job *job = &f->jobs[f->job_count++];
    *job = (struct compile_job){.wasm_fd = memfd_create("wasm", MFD_CLOEXEC),
                                .code_fd = memfd_create("code", MFD_CLOEXEC),
                                .fuel = fuel,
                                .done = on_done,
                                .err = ERR_COUNT};
    assert_int_equal(write(job->wasm_fd, wasm.p, wasm.len), wasm.len);
    compiler_submit(f->compiler, job);
    return job;
}

static struct compile_job *submit(struct fixture *f, const char *wat)
{
    wasm_byte_vec_t wasm = fixture_wasm(wat);
    struct compile_job *job = submit_bytes(f, str_make(wasm.data, wasm.size), false);
    wasm_byte_vec_delete(&wasm);
    return job;
}

static void await(struct fixture *f, const struct compile_job *job)
{
    while (job->err == ERR_COUNT)
        uv_run(&f->loop.uv, UV_RUN_ONCE);
}

static void expect_err(struct fixture *f, const struct compile_job *job, enum err want, const char *word)
{
    await(f, job);
    if (job->err != want || !strstr(job->info.text, word))
        fail_msg("%s \"%s\" instead of %s", err_name(job->err), job->info.text, err_name(want));
}

/* Whether what is in the file runs on an engine of this kind. */
static bool is_code(int fd, bool fuel)
{
    struct engine *e = fixture_engine(true, fuel);
    wasmtime_module_t *module;
    wasmtime_error_t *error = wasmwiz_module_open(e->engine, dup(fd), &module);
    if (error)
        wasmtime_error_delete(error);
    else
        wasmtime_module_delete(module);
    engine_free(e);
    return !error;
}

static void test_compile(void **state)
{
    struct fixture *f = *state;
    for (int spare = 0; spare < 2; spare++) {
        f->config.keep_spare = spare;
        if (!spare)
            start(f);
        f->compiler->config.keep_spare = spare;
        struct compile_job *jobs[3];
        for (size_t i = 0; i < LENGTH_OF(jobs); i++)
            jobs[i] = submit(f, i % 2 ? GUEST_HELLO : GUEST_ECHO);
        assert_true(compiler_load(f->compiler) == 3);
        for (size_t i = 0; i < LENGTH_OF(jobs); i++) {
            expect_err(f, jobs[i], OK, "");
            assert_true(is_code(jobs[i]->code_fd, false));
            assert_true(jobs[i]->took_ns > 0);
        }
        assert_int_equal(f->compiler->spares[0] != NULL, spare);
    }
}

static void test_fuel(void **state)
{
    struct fixture *f = *state;
    start(f);
    wasm_byte_vec_t wasm = fixture_wasm(GUEST_ECHO);
    struct compile_job *job = submit_bytes(f, str_make(wasm.data, wasm.size), true);
    wasm_byte_vec_delete(&wasm);
    expect_err(f, job, OK, "");
    assert_true(is_code(job->code_fd, true));
    assert_false(is_code(job->code_fd, false));
}

static void test_bad_module(void **state)
{
    struct fixture *f = *state;
    start(f);
    expect_err(f, submit_bytes(f, STR_LIT("\0asm\1\0\0\0\xff"), false), ERR_MODULE_INVALID,
               "does not validate");
    f->compiler->config.code_bytes_max = 100;
    expect_err(f, submit(f, GUEST_ECHO), ERR_COMPILE_LIMIT, "larger than allowed");
}

static void test_wall_time(void **state)
{
    struct fixture *f = *state;
    f->config.wall_ns = NS_PER_MS; /* the process has not even started by then */
    start(f);
    expect_err(f, submit(f, GUEST_ECHO), ERR_COMPILE_LIMIT, "longer than 1 ms");
}

static void test_memory(void **state)
{
    struct fixture *f = *state;
    f->config.address_space_bytes = MIB; /* less than it has already */
    start(f);
    struct compile_job *job = submit(f, GUEST_ECHO);
    await(f, job);
    assert_true(job->err == ERR_COMPILE_LIMIT || job->err == ERR_INTERNAL);
    assert_true(job->info.text[0]);
}

static void test_queue_is_bounded(void **state)
{
    struct fixture *f = *state;
    start(f);
    for (int i = 0; i < 5; i++)
        submit(f, GUEST_HELLO);
    assert_int_equal(compiler_load(f->compiler), 5);
    assert_int_equal(f->done, 0);
    expect_err(f, submit(f, GUEST_HELLO), ERR_BUSY, "3 modules wait");
    for (int i = 0; i < 5; i++)
        expect_err(f, &f->jobs[i], OK, "");
    assert_int_equal(compiler_load(f->compiler), 0);
}

static void test_stop(void **state)
{
    struct fixture *f = *state;
    f->config.keep_spare = true;
    start(f);
    for (int i = 0; i < 4; i++)
        submit(f, GUEST_HELLO);
    compiler_stop(f->compiler);
    for (int i = 0; i < 4; i++)
        expect_err(f, &f->jobs[i], ERR_SHUTTING_DOWN, "shutting down");
    expect_err(f, submit(f, GUEST_HELLO), ERR_SHUTTING_DOWN, "shutting down");
}

/* --- killed by somebody else, e.g. by the kernel for want of memory ----------------------------- */
static struct compiler_process *process_of(struct fixture *f, const struct compile_job *job)
{
    LIST_EACH(link, &f->compiler->processes)
    {
        struct compiler_process *p = LIST_ENTRY(link, struct compiler_process, link);
        if (p->job == job)
            return p;
    }
    return NULL;
}

static void test_killed_once(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct compile_job *job = submit(f, GUEST_ECHO);
    assert_int_equal(write(job->code_fd, "half of it", 10), 10);
    kill(process_of(f, job)->process.pid, SIGKILL);
    expect_err(f, job, OK, ""); /* done again, from the start */
    assert_true(is_code(job->code_fd, false));
}

static void test_killed_twice(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct compile_job *job = submit(f, GUEST_ECHO);
    for (int i = 0; i < 2; i++) {
        while (!process_of(f, job))
            uv_run(&f->loop.uv, UV_RUN_ONCE);
        pid_t pid = process_of(f, job)->process.pid;
        kill(pid, SIGKILL);
        while (job->err == ERR_COUNT && process_of(f, job) && process_of(f, job)->process.pid == pid)
            uv_run(&f->loop.uv, UV_RUN_ONCE);
    }
    expect_err(f, job, ERR_INTERNAL, "signal 9");
}

static void test_spare_that_died(void **state)
{
    struct fixture *f = *state;
    f->config.keep_spare = true;
    start(f);
    struct compiler_process *spare = f->compiler->spares[0];
    assert_non_null(spare);
    kill(spare->process.pid, SIGKILL);
    siginfo_t info; /* it is dead, and nobody was told of it yet */
    assert_int_equal(waitid(P_PID, (id_t)spare->process.pid, &info, WEXITED | WNOWAIT), 0);
    expect_err(f, submit(f, GUEST_ECHO), OK, "");
    spare = f->compiler->spares[0];
    if (spare) { /* and one whose death is known */
        kill(spare->process.pid, SIGKILL);
        while (f->compiler->spares[0] == spare)
            uv_run(&f->loop.uv, UV_RUN_ONCE);
    }
    expect_err(f, submit(f, GUEST_ECHO), OK, "");
}

/* The soft limit's signal tells that it was the processor time. */
static void test_processor_time(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct compile_job *job = submit(f, GUEST_ECHO);
    kill(process_of(f, job)->process.pid, SIGXCPU);
    expect_err(f, job, ERR_COMPILE_LIMIT, "processor time");
}

static void test_no_descriptors_left(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct compile_job *job = &f->jobs[f->job_count++];
    *job = (struct compile_job){.wasm_fd = memfd_create("wasm", MFD_CLOEXEC),
                                .code_fd = memfd_create("code", MFD_CLOEXEC),
                                .done = on_done,
                                .err = ERR_COUNT};
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, before.rlim_max}), 0);
    compiler_submit(f->compiler, job);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    expect_err(f, job, ERR_INTERNAL, "could not be started");
    expect_err(f, submit(f, GUEST_ECHO), OK, "");
}

int main(int argc, char **argv)
{
    fixture_be_process(argc, argv);
#define COMPILER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        COMPILER_TEST(test_compile),        COMPILER_TEST(test_fuel),
        COMPILER_TEST(test_bad_module),     COMPILER_TEST(test_wall_time),
        COMPILER_TEST(test_memory),         COMPILER_TEST(test_queue_is_bounded),
        COMPILER_TEST(test_stop),           COMPILER_TEST(test_killed_once),
        COMPILER_TEST(test_killed_twice),   COMPILER_TEST(test_spare_that_died),
        COMPILER_TEST(test_processor_time), COMPILER_TEST(test_no_descriptors_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
