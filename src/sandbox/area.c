#include "sandbox/area.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096 };

static size_t control_bytes(uint32_t channels)
{
    size_t bytes = sizeof(struct area_control) + channels * sizeof(struct area_channel_control);
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static size_t file_bytes(uint32_t channels)
{
    return control_bytes(channels) + (size_t)channels * 2 * AREA_RING_BYTES;
}

/* Maps `AREA_RING_BYTES` of the file at `offset` twice in a row. */
static uint8_t *map_ring(int fd, off_t offset)
{
    uint8_t *at = mmap(NULL, 2 * (size_t)AREA_RING_BYTES, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    for (int i = 0; i < 2; i++)
        if (mmap(at + (size_t)i * AREA_RING_BYTES, AREA_RING_BYTES, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, fd, offset) == MAP_FAILED) {
            munmap(at, 2 * (size_t)AREA_RING_BYTES);
            return NULL;
        }
    return at;
}

enum err area_attach(struct area *ret_area, int fd, uint32_t channels, struct err_info *reterr)
{
    struct area a = {.fd = fd, .channels = channels, .control_bytes = control_bytes(channels)};
    a.rings = xcalloc((size_t)channels * 2, sizeof *a.rings);
    a.control = mmap(NULL, a.control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (a.control == MAP_FAILED)
        a.control = NULL;
    bool ok = a.control != NULL;
    for (uint32_t i = 0; ok && i < channels * 2; i++) {
        a.rings[i] = map_ring(fd, (off_t)(a.control_bytes + (size_t)i * AREA_RING_BYTES));
        ok = a.rings[i] != NULL;
    }
    if (!ok) {
        int error = errno;
        area_done(&a);
        return err_set(reterr, ERR_INTERNAL, "the rings could not be mapped: %s", strerror(error));
    }
    a.channel_controls = (struct area_channel_control *)(void *)(a.control + 1);
    *ret_area = a;
    return OK;
}

enum err area_create(struct area *ret_area, uint32_t channels, struct err_info *reterr)
{
    WW_ASSERT(channels >= 1 && channels <= AREA_CHANNELS_MAX);
    int fd = memfd_create("wasmwiz-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)file_bytes(channels)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int error = errno;
        closep(&fd);
        return err_set(reterr, ERR_INTERNAL, "memory for the rings could not be made: %s", strerror(error));
    }
    return area_attach(ret_area, fd, channels, reterr);
}

void area_done(struct area *a)
{
    for (uint32_t i = 0; a->rings && i < a->channels * 2; i++)
        if (a->rings[i])
            munmap(a->rings[i], 2 * (size_t)AREA_RING_BYTES);
    free(a->rings);
    if (a->control)
        munmap(a->control, a->control_bytes);
    closep(&a->fd);
    *a = (struct area){.fd = -1};
}

struct ring_writer area_to_sandbox_writer(struct area *a, uint32_t i)
{
    struct ring_writer w;
    ring_writer_init(&w, &a->channel_controls[i].to_sandbox, a->rings[2 * i], AREA_RING_BYTES);
    return w;
}

struct ring_reader area_to_sandbox_reader(struct area *a, uint32_t i)
{
    struct ring_reader r;
    ring_reader_init(&r, &a->channel_controls[i].to_sandbox, a->rings[2 * i], AREA_RING_BYTES);
    return r;
}

struct ring_writer area_from_sandbox_writer(struct area *a, uint32_t i)
{
    struct ring_writer w;
    ring_writer_init(&w, &a->channel_controls[i].from_sandbox, a->rings[2 * i + 1], AREA_RING_BYTES);
    return w;
}

struct ring_reader area_from_sandbox_reader(struct area *a, uint32_t i)
{
    struct ring_reader r;
    ring_reader_init(&r, &a->channel_controls[i].from_sandbox, a->rings[2 * i + 1], AREA_RING_BYTES);
    return r;
}

void area_ring_doorbell(struct area *a)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&a->control->sandbox_sleeps, memory_order_relaxed) ||
        !atomic_exchange(&a->control->sandbox_sleeps, 0))
        return;
    atomic_fetch_add(&a->control->doorbell, 1);
    syscall(SYS_futex, &a->control->doorbell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void area_wait_doorbell(struct area *a, uint64_t deadline_ns, bool (*has_work)(void *), void *arg)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    uint32_t seen = atomic_load(&a->control->doorbell);
    atomic_store(&a->control->sandbox_sleeps, 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (!has_work(arg))
        syscall(SYS_futex, &a->control->doorbell, FUTEX_WAIT_BITSET, seen,
                deadline_ns == UINT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
    atomic_store(&a->control->sandbox_sleeps, 0);
}
