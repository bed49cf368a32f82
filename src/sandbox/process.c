#include "sandbox/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "sandbox/area.h"
#include "sandbox/walls.h"

enum { FDS_MAX = 4, ENGINE_DATA_BYTES = 1 << 30 };

/* --- descriptors over a socket ------------------------------------------------------------------ */
bool process_send_fds(int socket, const int *fds, int count)
{
    char byte = 'F';
    struct iovec iov = {&byte, 1};
    union {
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    WW_ASSERT(count >= 1 && count <= FDS_MAX);
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof(int));
    return sendmsg(socket, &msg, MSG_NOSIGNAL) == 1;
}

bool process_receive_fds(int socket, int *ret_fds, int count)
{
    char byte;
    struct iovec iov = {&byte, 1};
    union {
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    WW_ASSERT(count >= 1 && count <= FDS_MAX);
    for (int i = 0; i < count; i++)
        ret_fds[i] = -1;
    ssize_t got;
    do
        got = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got != 1)
        return false;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
        return false;
    if (c->cmsg_len == CMSG_LEN((size_t)count * sizeof(int))) {
        memcpy(ret_fds, CMSG_DATA(c), (size_t)count * sizeof(int));
        return true;
    }
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len;
         at += sizeof(int)) { /* not what was asked for */
        int fd;
        memcpy(&fd, (char *)c + at, sizeof fd);
        close(fd);
    }
    return false;
}

/* --- the sandbox -------------------------------------------------------------------------------- */
struct sandbox_process {
    struct area area;
    struct sandbox_loop *loop;
};

static int take_fd(void *ctx, uint32_t channel)
{
    int fd;
    (void)ctx;
    return process_receive_fds(SANDBOX_FD_CHANNELS + 2 * (int)channel + 1, &fd, 1) ? fd : -1;
}

static void notify(void *ctx, uint32_t channel)
{
    struct sandbox_process *p = ctx;
    _Atomic uint32_t *sleeps = &p->area.channel_controls[channel].front_sleeps;
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(sleeps, memory_order_relaxed) || !atomic_exchange(sleeps, 0))
        return;
    uint64_t one = 1;
    ssize_t written = write(SANDBOX_FD_CHANNELS + 2 * (int)channel, &one, sizeof one);
    (void)written; /* a front that is gone shows at the next LOAD, or by the signal of its death */
}

static bool has_messages(void *arg)
{
    struct sandbox_process *p = arg;
    return sandbox_loop_has_messages(p->loop);
}

void sandbox_process_args(const struct sandbox_loop_config *config, uint32_t channels, const char *program,
                          char *ret_args[static SANDBOX_ARGS + 1])
{
    const unsigned long long values[] = {channels,
                                         config->engine.fuel,
                                         config->engine.slots,
                                         config->engine.memory_max_bytes,
                                         config->pool_max_bytes,
                                         config->modules_max,
                                         (unsigned long long)getpid()};
    ret_args[0] = xstrdup(program);
    ret_args[1] = xstrdup("sandbox");
    for (size_t i = 0; i < LENGTH_OF(values); i++) {
        char text[24];
        snprintf(text, sizeof text, "%llu", values[i]);
        ret_args[2 + i] = xstrdup(text);
    }
    ret_args[SANDBOX_ARGS] = NULL;
}

static int fail(const struct err_info *err)
{
    fprintf(stderr, "%s\n", err_text(err));
    return 70;
}

/* A parent that dies takes its children along: no orphan keeps running guests. */
static void die_with_parent(uint64_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if ((uint64_t)getppid() != parent)
        _exit(0);            /* it died before this was in force */
    signal(SIGINT, SIG_IGN); /* Ctrl-C is the front's to handle: it drains */
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a write past the limit fails instead */
}

int sandbox_process_main(int argc, char **argv)
{
    uint64_t values[SANDBOX_ARGS - 2];
    struct err_info err = {0};
    if (argc != (int)LENGTH_OF(values)) {
        fprintf(stderr, "wasmwiz sandbox is started by the server, not by hand\n");
        return 64;
    }
    for (size_t i = 0; i < LENGTH_OF(values); i++)
        if (!str_to_u64(str_of(argv[i]), UINT64_MAX, &values[i]))
            return 64;
    uint32_t channels = (uint32_t)values[0];
    if (channels < 1 || channels > AREA_CHANNELS_MAX)
        return 64;
    struct sandbox_loop_config config = {
        .engine = {.fuel = values[1] != 0,
                   .pool = true,
                   .slots = (uint32_t)values[2],
                   .memory_max_bytes = values[3]},
        .pool_max_bytes = values[4],
        .modules_max = (uint32_t)values[5],
    };
    die_with_parent(values[6]);
    struct sandbox_process p = {0};
    struct ring_reader from[AREA_CHANNELS_MAX];
    struct ring_writer to[AREA_CHANNELS_MAX];
    static const struct sandbox_channel_ops ops = {.take_fd = take_fd, .notify = notify};
    struct walls_limits limits = {.data_bytes = config.pool_max_bytes +
                                                engine_pool_data_bytes(&config.engine) + ENGINE_DATA_BYTES,
                                  .keep_fds = SANDBOX_FD_CHANNELS + 2 * (int)channels};
    if (walls_raise(&limits, &err) || area_attach(&p.area, SANDBOX_FD_AREA, channels, &err))
        return fail(&err);
    for (uint32_t i = 0; i < channels; i++) {
        from[i] = area_to_sandbox_reader(&p.area, i);
        to[i] = area_from_sandbox_writer(&p.area, i);
    }
    if (sandbox_loop_new(&config, channels, from, to, &ops, &p, &p.loop, &err) ||
        walls_seal(WALLS_SANDBOX, &err))
        return fail(&err);
    atomic_store(&p.area.control->ready, 1);
    for (uint32_t i = 0; i < channels; i++)
        notify(&p, i);
    for (;;) {
        uint64_t wake_ns;
        enum sandbox_turn turn = sandbox_loop_turn(p.loop, &wake_ns);
        atomic_fetch_add_explicit(&p.area.control->turns, 1, memory_order_relaxed);
        if (turn == SANDBOX_BROKEN) {
            fprintf(stderr, "a channel carried nonsense\n");
            return 70;
        }
        if (turn == SANDBOX_IDLE &&
            sandbox_loop_runs(p.loop)) /* its turns are the front's sign that it lives */
            wake_ns = MIN(wake_ns, clock_now_ns() + NS_PER_S);
        if (turn == SANDBOX_IDLE)
            area_wait_doorbell(&p.area, wake_ns, has_messages, &p);
    }
}

int sandbox_process_probe(void)
{
    struct err_info err = {0};
    struct engine *engine;
    struct engine_config config = {.pool = true, .slots = 4, .memory_max_bytes = WASM_PAGE_BYTES};
    struct walls_limits limits = {.data_bytes = ENGINE_DATA_BYTES, .keep_fds = 3};
    int parent = (int)getppid();
    if (walls_raise(&limits, &err) || engine_new(&config, &engine, &err) || walls_seal(WALLS_SANDBOX, &err))
        return fail(&err);
    return walls_probe(parent) == 0 ? 0 : 1;
}

/* --- the compiler ------------------------------------------------------------------------------- */
static bool write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static enum err compile_job(struct engine *engine, int wasm_fd, int code_fd, struct err_info *reterr)
{
    struct stat st;
    if (fstat(wasm_fd, &st) < 0 || st.st_size <= 0)
        return err_set(reterr, ERR_INTERNAL, "the compiler got no module");
    size_t len = (size_t)st.st_size;
    void *wasm = mmap(NULL, len, PROT_READ, MAP_PRIVATE, wasm_fd, 0);
    if (wasm == MAP_FAILED)
        return err_set(reterr, ERR_INTERNAL, "the compiler could not read the module: %s", strerror(errno));
    wasm_byte_vec_t code;
    enum err e = engine_compile(engine, str_make(wasm, len), &code, reterr);
    munmap(wasm, len);
    if (e)
        return e;
    bool ok = write_all(code_fd, code.data, code.size);
    wasm_byte_vec_delete(&code);
    return ok ? OK : err_set(reterr, ERR_COMPILE_LIMIT, "the compiled code is larger than allowed");
}

int compiler_process_main(int argc, char **argv)
{
    uint64_t values[6];
    struct err_info err = {0};
    if (argc != (int)LENGTH_OF(values)) {
        fprintf(stderr, "wasmwiz compiler is started by the server, not by hand\n");
        return 64;
    }
    for (size_t i = 0; i < LENGTH_OF(values); i++)
        if (!str_to_u64(str_of(argv[i]), UINT64_MAX, &values[i]))
            return 64;
    die_with_parent(values[5]);
    struct walls_limits limits = {.address_space_bytes = values[2],
                                  .cpu_seconds = values[3],
                                  .file_bytes = values[4],
                                  .keep_fds = COMPILER_FD_SOCKET + 1};
    struct engine_config config = {.fuel = values[0] != 0, .memory_max_bytes = values[1]};
    struct engine *engine;
    if (walls_raise(&limits, &err) || engine_new(&config, &engine, &err) || walls_seal(WALLS_COMPILER, &err))
        return fail(&err);
    int fds[2];
    if (!process_receive_fds(COMPILER_FD_SOCKET, fds, 2))
        return 0; /* the front has no work any more */
    struct compile_answer answer = {0};
    answer.err = compile_job(engine, fds[0], fds[1], &err);
    if (answer.err) {
        answer.text_bytes = (uint32_t)snprintf(answer.text, sizeof answer.text, "%s", err_text(&err));
        answer.text_bytes = (uint32_t)MIN((size_t)answer.text_bytes, sizeof answer.text - 1);
    }
    return write_all(COMPILER_FD_SOCKET, (const char *)&answer, sizeof answer) ? 0 : 70;
}
