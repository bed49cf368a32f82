/* What the files of the WASI implementation share: the frame of a call, guest memory access, errno values.
 * Nobody else includes this, tests apart.
 *
 * A handler takes its frame and returns the errno for the guest; a call that ends in another way sets
 * frame->outcome. All handlers keep one order: first every place in memory that the call may touch (EFAULT),
 * then the descriptors (EBADF), then what such a descriptor can't do, then the values. So a refused call
 * has changed nothing. */
#ifndef WW_SANDBOX_WASI_IMPL_H
#define WW_SANDBOX_WASI_IMPL_H

#include "sandbox/wasi.h"

#include <endian.h>

/* The errno values in use, numbered by the witx. */
enum wasi_errno {
    WASI_SUCCESS = 0,
    WASI_EBADF = 8,
    WASI_EFAULT = 21,
    WASI_EINVAL = 28,
    WASI_ENOTDIR = 54,
    WASI_ENOTSOCK = 57,
    WASI_ESPIPE = 70,
    WASI_ENOTCAPABLE = 76
};

/* A filestat: u64 device, u64 inode, u8 type, u64 links at 24, u64 size, three times of u64. */
enum { WASI_FILESTAT_BYTES = 64 };

struct wasi_frame {
    struct wasi *w;
    struct guest_memory mem;
    const uint64_t *args;
    enum wasi_outcome outcome;
};

#define WASI(name, signature, may_wait) uint32_t wasi_on_##name(struct wasi_frame *f);
#include "sandbox/wasi.def"
#undef WASI

static inline uint32_t wasi_arg(const struct wasi_frame *f, int index)
{
    return (uint32_t)f->args[index];
}

/* Whether `len` bytes at `offset` are guest memory. No bytes are there at any offset: Zig hands out
 * 0xffffffff as the address of an empty buffer. */
static inline bool guest_fits(struct guest_memory mem, uint64_t offset, uint64_t len)
{
    return !len || (offset <= mem.size && len <= mem.size - offset);
}

/* The bytes themselves. The range was checked before: that is asserted, so that a forgotten check ends in
 * a dead sandbox and not in foreign memory. */
static inline uint8_t *guest_at(struct guest_memory mem, uint64_t offset, uint64_t len)
{
    WW_ASSERT(len && guest_fits(mem, offset, len));
    return mem.base + offset;
}

/* Little-endian values at any alignment. */
static inline uint8_t guest_get_u8(struct guest_memory mem, uint64_t offset)
{
    return *guest_at(mem, offset, 1);
}

static inline uint16_t guest_get_u16(struct guest_memory mem, uint64_t offset)
{
    uint16_t v;
    memcpy(&v, guest_at(mem, offset, sizeof v), sizeof v);
    return le16toh(v);
}

static inline uint32_t guest_get_u32(struct guest_memory mem, uint64_t offset)
{
    uint32_t v;
    memcpy(&v, guest_at(mem, offset, sizeof v), sizeof v);
    return le32toh(v);
}

static inline uint64_t guest_get_u64(struct guest_memory mem, uint64_t offset)
{
    uint64_t v;
    memcpy(&v, guest_at(mem, offset, sizeof v), sizeof v);
    return le64toh(v);
}

static inline void guest_put_u8(struct guest_memory mem, uint64_t offset, uint8_t v)
{
    *guest_at(mem, offset, 1) = v;
}

static inline void guest_put_u16(struct guest_memory mem, uint64_t offset, uint16_t v)
{
    v = htole16(v);
    memcpy(guest_at(mem, offset, sizeof v), &v, sizeof v);
}

static inline void guest_put_u32(struct guest_memory mem, uint64_t offset, uint32_t v)
{
    v = htole32(v);
    memcpy(guest_at(mem, offset, sizeof v), &v, sizeof v);
}

static inline void guest_put_u64(struct guest_memory mem, uint64_t offset, uint64_t v)
{
    v = htole64(v);
    memcpy(guest_at(mem, offset, sizeof v), &v, sizeof v);
}

/* The stream behind guest descriptor `fd`: 0, 1 or 2; -1 where it is not open. */
static inline int wasi_stream_of(const struct wasi *w, uint32_t fd)
{
    return fd < LENGTH_OF(w->fds) ? w->fds[fd] : -1;
}

/* The answer of a call that no stream can serve: EFAULT where its memory doesn't fit, EBADF where `fd` is not
 * open, otherwise `e`. */
static inline uint32_t wasi_refuse(const struct wasi_frame *f, bool memory_fits, uint32_t fd, uint32_t e)
{
    if (!memory_fits)
        return WASI_EFAULT;
    return wasi_stream_of(f->w, fd) < 0 ? WASI_EBADF : e;
}

/* Checks an array of iovecs and every buffer in it; *ret_total is their sum. EFAULT: some of it is outside
 * memory. EINVAL: the sum does not fit the u32 in which the guest wants the result, as writev() has it. */
uint32_t wasi_iovecs_check(struct guest_memory mem, uint32_t iovs, uint32_t count, uint32_t *ret_total);

#endif
