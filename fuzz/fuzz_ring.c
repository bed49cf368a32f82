/* The ring against a partner that lies: the input moves both published positions as it likes and writes anywhere into
 * the ring's memory, between the calls of an honest reader and an honest writer. Neither may touch a byte outside the
 * ring (it lies between two pages that can't be touched), and what one of them makes of one state of the memory must
 * come to an end.
 *
 * Format: operations of a byte each with their numbers behind it (see take_number). What is missing reads as 0. */
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 4096, OPERATIONS_MAX = 2000 };

static uint8_t *ring_bytes;
static struct ring_control control;

static void map_ring(void)
{
    int fd = memfd_create("ring", MFD_CLOEXEC);
    WW_ASSERT(fd >= 0 && ftruncate(fd, SIZE) == 0);
    uint8_t *at = mmap(NULL, 4 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    WW_ASSERT(at != MAP_FAILED);
    for (int i = 1; i <= 2; i++)
        WW_ASSERT(mmap(at + i * SIZE, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
                  MAP_FAILED);
    close(fd);
    ring_bytes = at + SIZE;
}

struct input {
    const uint8_t *p, *end;
};

static uint8_t take_u8(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

/* Mostly near a position of ours or near a multiple of the ring, where the mistakes would be. */
static uint64_t take_number(struct input *in, uint64_t near)
{
    uint8_t how = take_u8(in);
    uint64_t n = 0;
    switch (how % 8) {
    case 0: return near + take_u8(in) * 8U;
    case 1: return near - take_u8(in) * 8U;
    case 2: return near + SIZE - 64 + take_u8(in);
    case 3: return near + take_u8(in);
    case 4: return near - take_u8(in);
    case 5: return UINT64_MAX - take_u8(in);
    case 6: return take_u8(in) * (uint64_t)SIZE + take_u8(in) * 8U;
    default:
        for (int i = 0; i < 8; i++)
            n = n << 8 | take_u8(in);
        return n;
    }
}

static unsigned look_at(const uint8_t *p, size_t len)
{
    unsigned sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += p[i];
    return sum;
}

/* Takes messages until there is none: the state stands still meanwhile, so there is an end. */
static void drain(struct ring_reader *r, unsigned most)
{
    const void *payload;
    size_t len;
    for (unsigned n = 0; n < most; n++) {
        uint64_t at = r->at;
        enum ring_state state = ring_peek(r, &payload, &len);
        WW_ASSERT(r->at == at); /* a look takes nothing */
        if (state != RING_MESSAGE)
            return;
        const uint8_t *p = payload;
        WW_ASSERT(p >= ring_bytes && len <= ring_payload_max(SIZE) && p + len <= ring_bytes + 2 * SIZE);
        look_at(p, len);
        ring_pop(r);
        WW_ASSERT(r->at > at && r->at % 8 == 0 && r->at - at <= ring_payload_max(SIZE) + 16);
        WW_ASSERT(atomic_load(&control.read) == r->at);
        WW_ASSERT(n <= 2 * SIZE / 8); /* what it had seen before, and what stands there now */
    }
}

static void write_message(struct ring_writer *w, struct input *in)
{
    size_t len = take_u8(in) % 4 ? take_u8(in) * 5U : (size_t)take_number(in, 0);
    uint64_t at = w->at;
    uint8_t *to = ring_reserve(w, len);
    WW_ASSERT(w->at == at);
    if (!to)
        return;
    WW_ASSERT(len <= ring_payload_max(SIZE) && to >= ring_bytes && to + len <= ring_bytes + 2 * SIZE);
    memset(to, take_u8(in), len);
    ring_publish(w, len - (len ? take_u8(in) % len : 0));
    WW_ASSERT(w->at > at && w->at - at <= len + 16 && atomic_load(&control.written) == w->at);
}

static void scribble(struct input *in)
{
    size_t at = (size_t)take_number(in, 0) % SIZE, len = take_u8(in) % 32;
    for (size_t i = 0; i < len; i++)
        ring_bytes[(at + i) % SIZE] = take_u8(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct ring_reader r;
    struct ring_writer w;
    if (!ring_bytes)
        map_ring();
    memset(ring_bytes, 0, SIZE);
    atomic_store(&control.written, 0);
    atomic_store(&control.read, 0);
    ring_reader_init(&r, &control, ring_bytes, SIZE);
    ring_writer_init(&w, &control, ring_bytes, SIZE);
    for (int i = 0; i < OPERATIONS_MAX && in.p < in.end; i++) {
        switch (take_u8(&in) % 8) {
        case 0: scribble(&in); break;
        case 1: atomic_store(&control.written, take_number(&in, r.at)); break;
        case 2: atomic_store(&control.read, take_number(&in, w.at)); break;
        case 3: drain(&r, UINT32_MAX); break;
        case 4: drain(&r, take_u8(&in) % 4); break;
        case 5:
        case 6: write_message(&w, &in); break;
        default: /* a frame where the reader looks next */
            ring_bytes[r.at % SIZE] = take_u8(&in);
            ring_bytes[r.at % SIZE + 1] = take_u8(&in);
            break;
        }
    }
    drain(&r, UINT32_MAX);
    return 0;
}
