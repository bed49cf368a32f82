/* Descriptors: the three streams, and a small table that says which of them stands behind which number.
 * None of them is a file, a directory or a socket, and no call makes a new one. */
#include "sandbox/wasi_impl.h"

/* An iovec is u32 buf, u32 len. */
enum { IOVEC_BYTES = 8, FDSTAT_BYTES = 24, PRESTAT_BYTES = 8 };

/* Bits of fdstat's rights. */
#define RIGHT_FD_DATASYNC ((uint64_t)1 << 0)
#define RIGHT_FD_READ ((uint64_t)1 << 1)
#define RIGHT_FD_FDSTAT_SET_FLAGS ((uint64_t)1 << 3)
#define RIGHT_FD_SYNC ((uint64_t)1 << 4)
#define RIGHT_FD_WRITE ((uint64_t)1 << 6)
#define RIGHT_FD_FILESTAT_GET ((uint64_t)1 << 21)
#define RIGHT_POLL_FD_READWRITE ((uint64_t)1 << 27)

static uint64_t stream_rights(int stream)
{
    return RIGHT_FD_DATASYNC | RIGHT_FD_FDSTAT_SET_FLAGS | RIGHT_FD_SYNC | RIGHT_FD_FILESTAT_GET |
           RIGHT_POLL_FD_READWRITE | (stream == 0 ? RIGHT_FD_READ : RIGHT_FD_WRITE);
}

/* Calls that touch no memory and that no stream can serve. */
static uint32_t refuse(const struct wasi_frame *f, uint32_t e)
{
    return wasi_refuse(f, true, wasi_arg(f, 0), e);
}

uint32_t wasi_iovecs_check(struct guest_memory mem, uint32_t iovs, uint32_t count, uint32_t *ret_total)
{
    if (!guest_fits(mem, iovs, (uint64_t)count * IOVEC_BYTES))
        return WASI_EFAULT;
    uint64_t total = 0; /* at most 2^29 lengths of 2^32: no overflow */
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = iovs + (uint64_t)i * IOVEC_BYTES;
        uint32_t len = guest_get_u32(mem, at + 4);
        if (!guest_fits(mem, guest_get_u32(mem, at), len))
            return WASI_EFAULT;
        total += len;
    }
    if (total > UINT32_MAX)
        return WASI_EINVAL;
    *ret_total = (uint32_t)total;
    return WASI_SUCCESS;
}

/* Iovecs of one call that are looked at; what is behind them is left for the next call, as after a short write.
 * So a call takes no longer than a slice, however many its guest lists. */
enum { IOVECS_MAX = 4096 };

/* Moves one buffer. True: all of it was moved, and the next may follow. */
static bool move_buffer(struct wasi_frame *f, int stream, uint32_t buffer, uint32_t len, uint32_t *moved)
{
    const struct wasi_streams *streams = f->w->streams;
    for (uint32_t done = 0; done < len;) {
        uint32_t rest = len - done;
        uint8_t *at = guest_at(f->mem, (uint64_t)buffer + done, rest);
        size_t n = 0;
        enum wasi_stream_state state = stream == 0 ? streams->read(f->w->ctx, at, rest, &n)
                                                   : streams->write(f->w->ctx, stream, at, rest, &n);
        if (state == WASI_STREAM_LIMIT) {
            f->outcome = WASI_OUTPUT_LIMIT;
            return false;
        }
        if (state == WASI_STREAM_WAIT) {
            if (stream != 0)
                f->outcome = WASI_WAIT_OUTPUT;
            else if (!*moved)
                f->outcome = WASI_WAIT_STDIN;
            return false;
        }
        WW_ASSERT(n <= rest && (n || stream == 0));
        done += (uint32_t)n;
        *moved += (uint32_t)n;
        /* A short read is an answer: asking for the rest could wait, or lose an end of file. */
        if (stream == 0 && n < rest)
            return false;
    }
    return true;
}

/* fd_read and fd_write. A read gives what is there, and waits only where that is nothing at all. A write waits until
 * all is written, since many a guest does not look at how much was: what was taken before a wait is remembered in
 * w->written, and skipped when the same call is made again. */
static uint32_t stream_move(struct wasi_frame *f, bool reading)
{
    uint32_t iovs = wasi_arg(f, 1);
    uint32_t count = wasi_arg(f, 2);
    uint32_t ret = wasi_arg(f, 3);
    if (!guest_fits(f->mem, ret, 4) || !guest_fits(f->mem, iovs, (uint64_t)count * IOVEC_BYTES))
        return WASI_EFAULT;
    uint32_t total;
    count = MIN(count, (uint32_t)IOVECS_MAX);
    uint32_t e = wasi_iovecs_check(f->mem, iovs, count, &total);
    if (e)
        return e;
    int stream = wasi_stream_of(f->w, wasi_arg(f, 0));
    if (stream < 0 || (stream == 0) != reading)
        return WASI_EBADF;

    uint32_t moved = 0, before = f->w->written, skip = before;
    for (uint32_t i = 0; i < count && moved < total - before; i++) {
        uint64_t at = iovs + (uint64_t)i * IOVEC_BYTES;
        uint32_t buffer = guest_get_u32(f->mem, at);
        uint32_t len = MIN(guest_get_u32(f->mem, at + 4), total - moved);
        uint32_t skipped = MIN(skip, len);
        skip -= skipped;
        /* What was read may have been written over the iovecs themselves: they are looked at afresh. */
        if (!guest_fits(f->mem, buffer, len) ||
            !move_buffer(f, stream, buffer + skipped, len - skipped, &moved))
            break;
    }
    f->w->written = f->outcome == WASI_WAIT_OUTPUT ? before + moved : 0;
    if (f->outcome == WASI_RETURN)
        guest_put_u32(f->mem, ret, before + moved);
    return WASI_SUCCESS;
}

uint32_t wasi_on_fd_read(struct wasi_frame *f)
{
    return stream_move(f, true);
}

uint32_t wasi_on_fd_write(struct wasi_frame *f)
{
    return stream_move(f, false);
}

/* Calls that need an offset, which no stream has. */
static uint32_t refuse_offset(const struct wasi_frame *f, int ret_at, uint64_t ret_bytes)
{
    return wasi_refuse(f, guest_fits(f->mem, wasi_arg(f, ret_at), ret_bytes), wasi_arg(f, 0), WASI_ESPIPE);
}

static uint32_t refuse_positioned_move(const struct wasi_frame *f)
{
    if (!guest_fits(f->mem, wasi_arg(f, 4), 4))
        return WASI_EFAULT;
    uint32_t total;
    uint32_t e = wasi_iovecs_check(f->mem, wasi_arg(f, 1), wasi_arg(f, 2), &total);
    return e ? e : refuse(f, WASI_ESPIPE);
}

uint32_t wasi_on_fd_pread(struct wasi_frame *f)
{
    return refuse_positioned_move(f);
}

uint32_t wasi_on_fd_pwrite(struct wasi_frame *f)
{
    return refuse_positioned_move(f);
}

uint32_t wasi_on_fd_seek(struct wasi_frame *f)
{
    return refuse_offset(f, 3, 8);
}

uint32_t wasi_on_fd_tell(struct wasi_frame *f)
{
    return refuse_offset(f, 1, 8);
}

uint32_t wasi_on_fd_close(struct wasi_frame *f)
{
    uint32_t fd = wasi_arg(f, 0);
    if (wasi_stream_of(f->w, fd) < 0)
        return WASI_EBADF;
    f->w->fds[fd] = -1;
    return WASI_SUCCESS;
}

/* Both must be open: a number that was never given out can't be taken. */
uint32_t wasi_on_fd_renumber(struct wasi_frame *f)
{
    uint32_t from = wasi_arg(f, 0);
    uint32_t to = wasi_arg(f, 1);
    int stream = wasi_stream_of(f->w, from);
    if (stream < 0 || wasi_stream_of(f->w, to) < 0)
        return WASI_EBADF;
    f->w->fds[from] = -1;
    f->w->fds[to] = (int8_t)stream;
    return WASI_SUCCESS;
}

/* An fdstat is u8 filetype, u16 flags at 2, u64 rights at 8, u64 inheriting rights at 16. The type stays 0,
 * "unknown", as for a pipe: a character device would be a terminal to wasi-libc, which then buffers lines
 * (a call for each), and a regular file would have a size and an offset to those who ask (Zig, Rust). */
uint32_t wasi_on_fd_fdstat_get(struct wasi_frame *f)
{
    uint32_t ret = wasi_arg(f, 1);
    if (!guest_fits(f->mem, ret, FDSTAT_BYTES))
        return WASI_EFAULT;
    int stream = wasi_stream_of(f->w, wasi_arg(f, 0));
    if (stream < 0)
        return WASI_EBADF;
    memset(guest_at(f->mem, ret, FDSTAT_BYTES), 0, FDSTAT_BYTES);
    guest_put_u64(f->mem, (uint64_t)ret + 8, stream_rights(stream));
    return WASI_SUCCESS;
}

/* append, dsync, nonblock, rsync, sync: none of them changes what a stream does here. */
uint32_t wasi_on_fd_fdstat_set_flags(struct wasi_frame *f)
{
    enum { FDFLAGS_ALL = 0x1f };

    return refuse(f, wasi_arg(f, 1) & ~(uint32_t)FDFLAGS_ALL ? WASI_EINVAL : WASI_SUCCESS);
}

/* Rights may be given up but not gained. Giving up is not kept: rights left preview1 as deprecated, and a
 * stream that its guest stops using needs no guard. */
uint32_t wasi_on_fd_fdstat_set_rights(struct wasi_frame *f)
{
    int stream = wasi_stream_of(f->w, wasi_arg(f, 0));
    if (stream < 0)
        return WASI_EBADF;
    bool grows = f->args[1] & ~stream_rights(stream) || f->args[2];
    return grows ? WASI_ENOTCAPABLE : WASI_SUCCESS;
}

/* Of a stream all of it is 0. */
uint32_t wasi_on_fd_filestat_get(struct wasi_frame *f)
{
    uint32_t ret = wasi_arg(f, 1);
    if (!guest_fits(f->mem, ret, WASI_FILESTAT_BYTES))
        return WASI_EFAULT;
    if (wasi_stream_of(f->w, wasi_arg(f, 0)) < 0)
        return WASI_EBADF;
    memset(guest_at(f->mem, ret, WASI_FILESTAT_BYTES), 0, WASI_FILESTAT_BYTES);
    return WASI_SUCCESS;
}

uint32_t wasi_on_fd_filestat_set_size(struct wasi_frame *f)
{
    return refuse(f, WASI_ENOTCAPABLE);
}

uint32_t wasi_on_fd_filestat_set_times(struct wasi_frame *f)
{
    return refuse(f, WASI_ENOTCAPABLE);
}

uint32_t wasi_on_fd_allocate(struct wasi_frame *f)
{
    return refuse(f, WASI_ENOTCAPABLE);
}

uint32_t wasi_on_fd_advise(struct wasi_frame *f)
{
    return refuse(f, WASI_ESPIPE);
}

/* There is nothing to bring to a disk, and that is done: Zig takes an error here for a bug of its own. */
uint32_t wasi_on_fd_sync(struct wasi_frame *f)
{
    return refuse(f, WASI_SUCCESS);
}

uint32_t wasi_on_fd_datasync(struct wasi_frame *f)
{
    return refuse(f, WASI_SUCCESS);
}

uint32_t wasi_on_fd_readdir(struct wasi_frame *f)
{
    bool fits = guest_fits(f->mem, wasi_arg(f, 1), wasi_arg(f, 2)) && guest_fits(f->mem, wasi_arg(f, 4), 4);
    return wasi_refuse(f, fits, wasi_arg(f, 0), WASI_ENOTDIR);
}

/* EBADF at 3 is what ends a libc's search for preopened directories. */
uint32_t wasi_on_fd_prestat_get(struct wasi_frame *f)
{
    return guest_fits(f->mem, wasi_arg(f, 1), PRESTAT_BYTES) ? WASI_EBADF : WASI_EFAULT;
}

uint32_t wasi_on_fd_prestat_dir_name(struct wasi_frame *f)
{
    return guest_fits(f->mem, wasi_arg(f, 1), wasi_arg(f, 2)) ? WASI_EBADF : WASI_EFAULT;
}
