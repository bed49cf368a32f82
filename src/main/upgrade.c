#include "main/upgrade.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"

enum { FIRST_FD = 3, SOCKETS_MAX = 64 };

static const char variable[] = "WASMWIZ_UPGRADE", redirect_variable[] = "WASMWIZ_UPGRADE_REDIRECT";
static char program[4096];
static char **arguments;
static uint32_t inherited, taken;
static int inherited_redirect = -1;

extern char **environ;

void upgrade_remember(char **argv)
{
    size_t size = sizeof program;
    arguments = argv;
    if (uv_exepath(program, &size))
        program[0] = 0;
}

/* --- the successor's side ----------------------------------------------------------------------- */
uint32_t upgrade_inherited(void)
{
    const char *value = getenv(variable);
    uint64_t count;
    if (value && str_to_u64(str_of(value), SOCKETS_MAX, &count)) {
        inherited = (uint32_t)count;
        if (getenv(redirect_variable))
            inherited_redirect = FIRST_FD + (int)inherited + 1;
        for (uint32_t i = 0; i <= inherited + (inherited_redirect >= 0); i++)
            fcntl(FIRST_FD + (int)i, F_SETFD, FD_CLOEXEC);
    }
    unsetenv(variable);
    unsetenv(redirect_variable);
    return inherited;
}

int upgrade_take_redirect(void)
{
    int fd = inherited_redirect;
    inherited_redirect = -1;
    return fd;
}

int upgrade_take_socket(uint16_t *ret_port)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    if (taken >= inherited)
        return -1;
    int fd = FIRST_FD + (int)taken++;
    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        *ret_port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                        : ((struct sockaddr_in *)&address)->sin_port);
    return fd;
}

void upgrade_tell_ready(void)
{
    if (!inherited)
        return;
    int fd = FIRST_FD + (int)inherited;
    if (write(fd, "R", 1) != 1)
        LOG_WARN("the process that this one replaces could not be told");
    close(fd);
}

/* --- the predecessor's side --------------------------------------------------------------------- */
static struct {
    uv_process_t process;
    uv_pipe_t ready;
    bool open;
    void (*done)(void *arg, bool ok);
    void *arg;
    char byte[1];
} successor;

static void on_closed(uv_handle_t *handle)
{
    (void)handle;
    successor.open = false;
}

static void conclude(bool ok)
{
    if (uv_is_closing((uv_handle_t *)&successor.ready))
        return;
    uv_close((uv_handle_t *)&successor.ready, NULL);
    uv_close((uv_handle_t *)&successor.process, on_closed);
    successor.done(successor.arg, ok);
}

static void on_exit_of_successor(uv_process_t *process, int64_t status, int signal_number)
{
    LOG_ERROR("the successor ended before it served", LOG_I64("pid", process->pid), LOG_I64("status", status),
              LOG_I64("signal", signal_number));
    conclude(false);
}

static void give_byte(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle, (void)suggested;
    *buf = uv_buf_init(successor.byte, sizeof successor.byte);
}

static void on_ready(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    if (n > 0)
        conclude(true);
    else if (n < 0)
        uv_read_stop(stream); /* its exit tells the rest */
}

static uv_stdio_container_t inherit(int fd)
{
    return (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = fd};
}

/* uv_spawn() with the variables that tell the successor what it inherits. */
static int spawn(uv_loop_t *loop, uv_process_options_t *options, uint32_t count, bool redirect)
{
    char value[32];
    snprintf(value, sizeof value, "%u", count);
    setenv(variable, value, 1);
    if (redirect)
        setenv(redirect_variable, "1", 1);
    options->env = environ;
    int rc = uv_spawn(loop, &successor.process, options);
    unsetenv(variable);
    unsetenv(redirect_variable);
    return rc;
}

enum err upgrade_start(uv_loop_t *loop, const int *sockets, uint32_t count, int redirect,
                       void (*done)(void *arg, bool ok), void *arg, struct err_info *reterr)
{
    uv_stdio_container_t stdio[FIRST_FD + SOCKETS_MAX + 2];
    if (successor.open)
        return err_set(reterr, ERR_CONFLICT, "an upgrade is under way already");
    if (!program[0] || count == 0 || count > SOCKETS_MAX)
        return err_set(reterr, ERR_INTERNAL, "this process can't be replaced");
    for (int i = 0; i < FIRST_FD; i++)
        stdio[i] = inherit(i);
    for (uint32_t i = 0; i < count; i++)
        stdio[FIRST_FD + i] = inherit(sockets[i]);
    stdio[FIRST_FD + count + 1] = inherit(redirect);
    uv_pipe_init(loop, &successor.ready, 0);
    stdio[FIRST_FD + count] =
        (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE,
                               .data.stream = (uv_stream_t *)&successor.ready};
    uv_process_options_t options = {
        .exit_cb = on_exit_of_successor,
        .file = program,
        .args = arguments,
        .stdio = stdio,
        .stdio_count = (int)(FIRST_FD + count + 1) + (redirect >= 0),
    };
    successor.done = done;
    successor.arg = arg;
    successor.open = true;
    int rc = spawn(loop, &options, count, redirect >= 0);
    if (rc) {
        uv_close((uv_handle_t *)&successor.ready, NULL);
        uv_close((uv_handle_t *)&successor.process, on_closed);
        return err_set(reterr, ERR_INTERNAL, "%s could not be started: %s", program, uv_strerror(rc));
    }
    LOG_INFO("successor started", LOG_I64("pid", successor.process.pid), LOG_CSTR("program", program));
    uv_read_start((uv_stream_t *)&successor.ready, give_byte, on_ready);
    return OK;
}

/* --- who serves --------------------------------------------------------------------------------- */
void upgrade_write_pid(const char *data_dir)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/wasmwiz.pid", data_dir);
    FILE *f = fopen(path, "we");
    if (!f)
        return; /* only `wasmwiz upgrade` misses it */
    fprintf(f, "%d\n", (int)getpid());
    fclose(f);
}

/* The number may have gone to another program since. */
static bool is_wasmwiz(int pid)
{
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(name, sizeof name, f) && strcmp(name, "wasmwiz\n") == 0;
    fclose(f);
    return ok;
}

int upgrade_read_pid(const char *data_dir)
{
    char path[4200];
    int pid = 0;
    snprintf(path, sizeof path, "%s/wasmwiz.pid", data_dir);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%d", &pid) != 1 || pid < 2 || !is_wasmwiz(pid))
        pid = 0;
    fclose(f);
    return pid;
}

void upgrade_remove_pid(const char *data_dir)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/wasmwiz.pid", data_dir);
    if (upgrade_read_pid(data_dir) == (int)getpid()) /* a successor's stays */
        unlink(path);
}
