/* A ring of messages in shared memory: one writer, one reader, in two processes that need not trust each
 * other. The bytes are mapped twice in a row, so a message is always one run of bytes.
 *
 * Each side keeps its own position in private memory and only publishes it; what the other side published
 * is checked before use (never behind, never more than the ring holds), and a message's length is read
 * once. A payload may change while it is read: the reader copies what it decides by.
 *
 * A message is a length (u32), four bytes of nothing, and the payload, padded to 8 bytes. */
#ifndef WW_SANDBOX_RING_H
#define WW_SANDBOX_RING_H

#include <stdatomic.h>

#include "base/base.h"

/* The shared part of one direction. */
struct ring_control {
    _Alignas(64) _Atomic uint64_t written; /* bytes, by the writer */
    _Alignas(64) _Atomic uint64_t read;    /* bytes, by the reader */
};

struct ring_writer {
    struct ring_control *control;
    uint8_t *bytes;
    uint64_t size; /* a power of two, at least a page */
    uint64_t at;
    uint64_t read_seen;
    uint64_t reserved;
};

struct ring_reader {
    struct ring_control *control;
    const uint8_t *bytes;
    uint64_t size;
    uint64_t at;
    uint64_t written_seen;
    uint64_t taken;
};

void ring_writer_init(struct ring_writer *w, struct ring_control *control, uint8_t *bytes, uint64_t size);
void ring_reader_init(struct ring_reader *r, struct ring_control *control, const uint8_t *bytes,
                      uint64_t size);

/* The longest payload that a ring of this size takes: a quarter of it, so that one message never needs
 * an empty ring. */
uint64_t ring_payload_max(uint64_t size);

/* Room for a message of `len` bytes, or NULL when there is none now (or the reader's position is
 * nonsense). The reservation is forgotten unless ring_publish() follows. */
void *ring_reserve(struct ring_writer *w, size_t len);
/* Makes the reserved message visible, shortened to `len`. */
void ring_publish(struct ring_writer *w, size_t len);

enum ring_state { RING_EMPTY, RING_MESSAGE, RING_BROKEN };
/* The next message, lent until ring_pop(). BROKEN: the writer published nonsense; the ring is dead. */
enum ring_state ring_peek(struct ring_reader *r, const void **ret_payload, size_t *ret_len);
void ring_pop(struct ring_reader *r);
/* Whether something is published that was not read; for the look before going to sleep. */
bool ring_has_more(const struct ring_reader *r);

#endif
