#include "sandbox/ring.h"

enum { FRAME_BYTES = 8 };

static uint64_t padded(uint64_t len)
{
    return FRAME_BYTES + ((len + 7) & ~(uint64_t)7);
}

uint64_t ring_payload_max(uint64_t size)
{
    return size / 4 - FRAME_BYTES;
}

void ring_writer_init(struct ring_writer *w, struct ring_control *control, uint8_t *bytes, uint64_t size)
{
    *w = (struct ring_writer){.control = control, .bytes = bytes, .size = size};
}

void ring_reader_init(struct ring_reader *r, struct ring_control *control, const uint8_t *bytes,
                      uint64_t size)
{
    *r = (struct ring_reader){.control = control, .bytes = bytes, .size = size};
}

void *ring_reserve(struct ring_writer *w, size_t len)
{
    if (len > ring_payload_max(w->size))
        return NULL;
    uint64_t need = padded(len);
    if (w->at - w->read_seen + need > w->size) {
        uint64_t read = atomic_load_explicit(&w->control->read, memory_order_acquire);
        if (read < w->read_seen || read > w->at)
            return NULL;
        w->read_seen = read;
        if (w->at - read + need > w->size)
            return NULL;
    }
    w->reserved = len;
    return w->bytes + (w->at & (w->size - 1)) + FRAME_BYTES;
}

void ring_publish(struct ring_writer *w, size_t len)
{
    WW_ASSERT(len <= w->reserved);
    uint32_t frame[2] = {(uint32_t)len, 0};
    memcpy(w->bytes + (w->at & (w->size - 1)), frame, sizeof frame);
    w->at += padded(len);
    w->reserved = 0;
    atomic_store_explicit(&w->control->written, w->at, memory_order_release);
}

enum ring_state ring_peek(struct ring_reader *r, const void **ret_payload, size_t *ret_len)
{
    if (r->at == r->written_seen) {
        uint64_t written = atomic_load_explicit(&r->control->written, memory_order_acquire);
        if (written == r->at)
            return RING_EMPTY;
        if (written < r->at || written - r->at > r->size || written % 8)
            return RING_BROKEN;
        r->written_seen = written;
    }
    const uint8_t *frame = r->bytes + (r->at & (r->size - 1));
    uint32_t len = *(const volatile uint32_t *)(const void *)frame;
    if (len > ring_payload_max(r->size) || padded(len) > r->written_seen - r->at)
        return RING_BROKEN;
    r->taken = padded(len);
    *ret_payload = frame + FRAME_BYTES;
    *ret_len = len;
    return RING_MESSAGE;
}

void ring_pop(struct ring_reader *r)
{
    r->at += r->taken;
    r->taken = 0;
    atomic_store_explicit(&r->control->read, r->at, memory_order_release);
}

bool ring_has_more(const struct ring_reader *r)
{
    return atomic_load_explicit(&r->control->written, memory_order_acquire) != r->at;
}
