/* Paths and sockets: they don't exist here. Every call is refused, after the same checks of memory that a
 * real one would make: a path on a stream with ENOTCAPABLE, a socket call on a stream with ENOTSOCK (what
 * shutdown() must say of a descriptor that is no socket), anything on another descriptor with EBADF. */
#include "sandbox/wasi_impl.h"

/* Whether memory argument `at` of length argument `at` + 1 lies in memory. */
static bool string_fits(const struct wasi_frame *f, int at)
{
    return guest_fits(f->mem, wasi_arg(f, at), wasi_arg(f, at + 1));
}

static bool result_fits(const struct wasi_frame *f, int at, uint64_t bytes)
{
    return guest_fits(f->mem, wasi_arg(f, at), bytes);
}

/* `fd_at`: which argument is the descriptor. */
static uint32_t deny_path(const struct wasi_frame *f, bool memory_fits, int fd_at)
{
    return wasi_refuse(f, memory_fits, wasi_arg(f, fd_at), WASI_ENOTCAPABLE);
}

static uint32_t deny_socket(const struct wasi_frame *f, bool memory_fits)
{
    return wasi_refuse(f, memory_fits, wasi_arg(f, 0), WASI_ENOTSOCK);
}

uint32_t wasi_on_path_create_directory(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 1), 0);
}

uint32_t wasi_on_path_filestat_get(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 2) && result_fits(f, 4, WASI_FILESTAT_BYTES), 0);
}

uint32_t wasi_on_path_filestat_set_times(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 2), 0);
}

/* path_link and path_rename: both directories must be open. */
static uint32_t deny_two_paths(const struct wasi_frame *f, bool memory_fits, int fd_at, int other_fd_at)
{
    uint32_t e = deny_path(f, memory_fits, fd_at);
    return e == WASI_ENOTCAPABLE ? deny_path(f, true, other_fd_at) : e;
}

uint32_t wasi_on_path_link(struct wasi_frame *f)
{
    return deny_two_paths(f, string_fits(f, 2) && string_fits(f, 5), 0, 4);
}

uint32_t wasi_on_path_open(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 2) && result_fits(f, 8, 4), 0);
}

uint32_t wasi_on_path_readlink(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 1) && string_fits(f, 3) && result_fits(f, 5, 4), 0);
}

uint32_t wasi_on_path_remove_directory(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 1), 0);
}

uint32_t wasi_on_path_rename(struct wasi_frame *f)
{
    return deny_two_paths(f, string_fits(f, 1) && string_fits(f, 4), 0, 3);
}

uint32_t wasi_on_path_symlink(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 0) && string_fits(f, 3), 2);
}

uint32_t wasi_on_path_unlink_file(struct wasi_frame *f)
{
    return deny_path(f, string_fits(f, 1), 0);
}

uint32_t wasi_on_sock_accept(struct wasi_frame *f)
{
    return deny_socket(f, result_fits(f, 2, 4));
}

/* sock_recv and sock_send. */
static uint32_t deny_transfer(const struct wasi_frame *f, bool results_fit)
{
    if (!results_fit)
        return WASI_EFAULT;
    uint32_t total;
    uint32_t e = wasi_iovecs_check(f->mem, wasi_arg(f, 1), wasi_arg(f, 2), &total);
    return e ? e : deny_socket(f, true);
}

uint32_t wasi_on_sock_recv(struct wasi_frame *f)
{
    return deny_transfer(f, result_fits(f, 4, 4) && result_fits(f, 5, 2));
}

uint32_t wasi_on_sock_send(struct wasi_frame *f)
{
    return deny_transfer(f, result_fits(f, 4, 4));
}

uint32_t wasi_on_sock_shutdown(struct wasi_frame *f)
{
    return deny_socket(f, true);
}
