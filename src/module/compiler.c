#include "module/compiler.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "sandbox/process.h"

enum { ARGS = 8, SPARE_KINDS = 2, JOB_TRIES = 2, SPARE_LIFE_NS = 1000 * 1000 * 1000 };

struct compiler_process {
    struct list link;
    struct compiler *compiler;
    struct compile_job *job; /* NULL: a spare */
    bool fuel;
    uv_process_t process;
    uv_poll_t poll;
    uv_timer_t timer;
    int socket;
    unsigned open_handles;
    uint64_t spawned_ns;
    uint64_t started_ns; /* its job */
    struct compile_answer answer;
    size_t answer_bytes;
    bool timed_out;
};

struct compiler {
    struct loop *loop;
    struct compiler_config config;
    char program[4096];
    struct list processes;
    struct list queue;
    struct compiler_process *spares[SPARE_KINDS];
    uint32_t working, queued;
    bool stopping;
};

static void pump(struct compiler *c);

/* --- the end of a job --------------------------------------------------------------------------- */
static void judge(struct compiler_process *p, int signal_number)
{
    struct compile_job *job = p->job;
    const struct compiler_config *config = &p->compiler->config;
    if (p->answer_bytes == sizeof p->answer && !p->timed_out) {
        /* From a process that handled hostile input: bounded, and read as text only. */
        enum err e = p->answer.err < ERR_COUNT ? (enum err)p->answer.err : ERR_INTERNAL;
        p->answer.text[sizeof p->answer.text - 1] = 0;
        job->err = e ? err_set(&job->info, e, "%s", p->answer.text) : OK;
    } else if (p->timed_out) {
        job->err =
            err_set(&job->info, ERR_COMPILE_LIMIT, "compiling took longer than %llu ms and was stopped",
                    (unsigned long long)(config->wall_ns / NS_PER_MS));
    } else if (signal_number == SIGXCPU) {
        job->err = err_set(&job->info, ERR_COMPILE_LIMIT, "compiling used more than %llu s of processor time",
                           (unsigned long long)config->cpu_seconds);
    } else if (signal_number == SIGABRT || signal_number == SIGSEGV) {
        job->err =
            err_set(&job->info, ERR_COMPILE_LIMIT,
                    "the compiler gave up on this module, most likely for want of memory (limit %llu bytes)",
                    (unsigned long long)config->address_space_bytes);
    } else {
        job->err = err_set(&job->info, ERR_INTERNAL, "the compiler process died (signal %d)", signal_number);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct compiler_process *p = handle->data;
    if (--p->open_handles == 0) {
        closep(&p->socket);
        free(p);
    }
}

static void close_process(struct compiler_process *p)
{
    list_remove(&p->link);
    uv_close((uv_handle_t *)&p->process, on_handle_closed);
    uv_close((uv_handle_t *)&p->poll, on_handle_closed);
    uv_close((uv_handle_t *)&p->timer, on_handle_closed);
}

static void read_answer(struct compiler_process *p)
{
    while (p->answer_bytes < sizeof p->answer) {
        ssize_t n = read(p->socket, (char *)&p->answer + p->answer_bytes, sizeof p->answer - p->answer_bytes);
        if (n <= 0)
            return;
        p->answer_bytes += (size_t)n;
    }
}

static void on_process_exit(uv_process_t *process, int64_t status, int signal_number)
{
    struct compiler_process *p = process->data;
    struct compiler *c = p->compiler;
    struct compile_job *job = p->job;
    (void)status;
    if (p == c->spares[p->fuel])
        c->spares[p->fuel] = NULL;
    if (job) {
        c->working--;
        read_answer(p);
        bool killed_by_another =
            signal_number == SIGKILL && !p->timed_out && p->answer_bytes < sizeof p->answer;
        if (c->stopping) {
            job->err = err_set(&job->info, ERR_SHUTTING_DOWN, "the server is shutting down");
        } else if (killed_by_another && ++job->tries < JOB_TRIES && ftruncate(job->code_fd, 0) == 0 &&
                   lseek(job->code_fd, 0, SEEK_SET) == 0) {
            LOG_WARN("compiler killed, its job is done again", LOG_I64("pid", process->pid));
            list_push_front(&c->queue, &job->link);
            c->queued++;
            job = NULL;
        } else {
            judge(p, signal_number);
        }
        if (job) {
            job->took_ns = clock_now_ns() - p->started_ns;
            job->done(job);
        }
    }
    /* A spare that dies young would die again: the next job starts the next one. */
    bool again = p->job || clock_now_ns() - p->spawned_ns > SPARE_LIFE_NS;
    close_process(p);
    if (again)
        pump(c);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct compiler_process *p = poll->data;
    (void)status, (void)events;
    read_answer(p);
    uv_poll_stop(poll); /* the rest at its exit, which follows */
}

static void on_timeout(uv_timer_t *timer)
{
    struct compiler_process *p = timer->data;
    p->timed_out = p->answer_bytes < sizeof p->answer;
    uv_process_kill(&p->process, SIGKILL);
}

/* --- processes ---------------------------------------------------------------------------------- */
static struct compiler_process *start_process(struct compiler *c, bool fuel)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return NULL;
    struct compiler_process *p = xcalloc(1, sizeof *p);
    p->compiler = c;
    p->fuel = fuel;
    p->socket = pair[0];
    fcntl(p->socket, F_SETFL, O_NONBLOCK);
    char numbers[ARGS - 2][24];
    const unsigned long long values[] = {fuel,
                                         c->config.memory_max_bytes,
                                         c->config.address_space_bytes,
                                         c->config.cpu_seconds,
                                         c->config.code_bytes_max,
                                         (unsigned long long)getpid()};
    char program[] = "wasmwiz", role[] = "compiler";
    char *args[ARGS + 1] = {program, role};
    for (size_t i = 0; i < LENGTH_OF(values); i++) {
        snprintf(numbers[i], sizeof numbers[i], "%llu", values[i]);
        args[2 + i] = numbers[i];
    }
    char *no_env[] = {NULL};
    uv_stdio_container_t stdio[] = {{.flags = UV_IGNORE},
                                    {.flags = UV_IGNORE},
                                    {.flags = UV_IGNORE},
                                    {.flags = UV_INHERIT_FD, .data.fd = pair[1]}};
    uv_process_options_t options = {.exit_cb = on_process_exit,
                                    .file = c->program,
                                    .args = args,
                                    .env = no_env,
                                    .stdio = stdio,
                                    .stdio_count = LENGTH_OF(stdio)};
    int rc = uv_spawn(&c->loop->uv, &p->process, &options);
    close(pair[1]);
    uv_poll_init(&c->loop->uv, &p->poll, p->socket);
    uv_timer_init(&c->loop->uv, &p->timer);
    p->process.data = p->poll.data = p->timer.data = p;
    p->open_handles = 3;
    list_init(&p->link);
    if (rc) {
        LOG_ERROR("compiler not started", LOG_CSTR("reason", uv_strerror(rc)));
        close_process(p);
        return NULL;
    }
    p->spawned_ns = clock_now_ns();
    list_push_back(&c->processes, &p->link);
    return p;
}

static void keep_spare(struct compiler *c, bool fuel)
{
    if (c->config.keep_spare && !c->spares[fuel] && !c->stopping) {
        struct compiler_process *p = start_process(c, fuel);
        if (p) {
            uv_unref((uv_handle_t *)&p->process); /* a spare keeps no loop alive */
            c->spares[fuel] = p;
        }
    }
}

static void fail_job(struct compile_job *job, const char *why)
{
    job->err = err_set(&job->info, ERR_INTERNAL, "%s", why);
    job->done(job);
}

static void start_job(struct compiler *c, struct compile_job *job)
{
    struct compiler_process *p = TAKE(c->spares[job->fuel]);
    if (!p)
        p = start_process(c, job->fuel);
    if (!p) {
        fail_job(job, "a compiler process could not be started");
        return;
    }
    uv_ref((uv_handle_t *)&p->process);
    p->job = job;
    p->started_ns = clock_now_ns();
    c->working++;
    if (!process_send_fds(p->socket, (int[]){job->wasm_fd, job->code_fd}, 2))
        LOG_WARN("compiler gone before its job", LOG_I64("pid", p->process.pid)); /* its exit is on the way */
    uv_poll_start(&p->poll, UV_READABLE, on_readable);
    uv_timer_start(&p->timer, on_timeout, c->config.wall_ns / NS_PER_MS, 0);
}

static void pump(struct compiler *c)
{
    while (!c->stopping && c->working < c->config.processes_max && !list_is_empty(&c->queue)) {
        struct compile_job *job = LIST_ENTRY(list_pop_front(&c->queue), struct compile_job, link);
        c->queued--;
        start_job(c, job);
    }
    if (c->working < c->config.processes_max)
        keep_spare(c, false);
}

void compiler_submit(struct compiler *c, struct compile_job *job)
{
    list_init(&job->link);
    job->tries = 0;
    if (c->stopping || c->queued >= c->config.queue_max) {
        job->err = c->stopping
                       ? err_set(&job->info, ERR_SHUTTING_DOWN, "the server is shutting down")
                       : err_set(&job->info, ERR_BUSY, "%u modules wait to be compiled already", c->queued);
        job->done(job);
        return;
    }
    list_push_back(&c->queue, &job->link);
    c->queued++;
    pump(c);
}

/* --- life ------------------------------------------------------------------------------------- */
enum err compiler_new(struct loop *loop, const struct compiler_config *config, struct compiler **ret_compiler,
                      struct err_info *reterr)
{
    struct compiler *c = xcalloc(1, sizeof *c);
    size_t size = sizeof c->program;
    c->loop = loop;
    c->config = *config;
    list_init(&c->processes);
    list_init(&c->queue);
    if (uv_exepath(c->program, &size)) {
        free(c);
        return err_set(reterr, ERR_INTERNAL, "the program's own path is unknown; is /proc mounted?");
    }
    keep_spare(c, false);
    *ret_compiler = c;
    return OK;
}

void compiler_stop(struct compiler *c)
{
    c->stopping = true;
    for (struct list *link; (link = list_pop_front(&c->queue));) {
        struct compile_job *job = LIST_ENTRY(link, struct compile_job, link);
        c->queued--;
        job->err = err_set(&job->info, ERR_SHUTTING_DOWN, "the server is shutting down");
        job->done(job);
    }
    LIST_EACH(link, &c->processes)
    {
        struct compiler_process *p = LIST_ENTRY(link, struct compiler_process, link);
        uv_ref((uv_handle_t *)&p->process);
        uv_process_kill(&p->process, SIGKILL);
    }
}

void compiler_free(struct compiler *c)
{
    free(c);
}

uint32_t compiler_load(const struct compiler *c)
{
    return c->working + c->queued;
}
