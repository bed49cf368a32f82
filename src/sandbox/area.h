/* The memory that the front shares with one sandbox process: a control page and, for each of the front's loops, a
 * channel of two rings. One memfd; each ring's bytes are mapped twice in a row. Both processes map the same layout,
 * which depends on the number of channels only. */
#ifndef WW_SANDBOX_AREA_H
#define WW_SANDBOX_AREA_H

#include "base/err.h"
#include "sandbox/ring.h"

enum { AREA_RING_BYTES = 1024 * 1024, AREA_CHANNELS_MAX = 256 };

/* Everything here may be written by a hostile sandbox: the front reads no more out of it than hints. */
struct area_control {
    _Alignas(64) _Atomic uint32_t doorbell;       /* futex: the front wakes the sandbox */
    _Alignas(64) _Atomic uint32_t sandbox_sleeps; /* 1 while it waits at the doorbell */
    _Alignas(64) _Atomic uint64_t turns;          /* of the sandbox's loop: it is alive while this moves */
    _Atomic uint32_t ready;                       /* 1 once it serves */
};

struct area_channel_control {
    struct ring_control to_sandbox;
    struct ring_control from_sandbox;
    _Alignas(64) _Atomic uint32_t
        front_sleeps; /* 1 while that loop of the front waits for its event descriptor */
};

struct area {
    int fd;
    uint32_t channels;
    struct area_control *control;
    struct area_channel_control *channel_controls;
    size_t control_bytes;
    uint8_t **rings; /* 2 * channels: to the sandbox, from the sandbox */
};

/* Makes the memory, sealed against resizing. On OK the caller owns *ret_area: area_done(). */
MUST_CHECK enum err area_create(struct area *ret_area, uint32_t channels, struct err_info *reterr);
/* Maps what area_create() of another process made; `fd` is taken over. */
MUST_CHECK enum err area_attach(struct area *ret_area, int fd, uint32_t channels, struct err_info *reterr);
void area_done(struct area *a);

/* The ends of channel `i`. */
struct ring_writer area_to_sandbox_writer(struct area *a, uint32_t i);
struct ring_reader area_to_sandbox_reader(struct area *a, uint32_t i);
struct ring_writer area_from_sandbox_writer(struct area *a, uint32_t i);
struct ring_reader area_from_sandbox_reader(struct area *a, uint32_t i);

/* Wakes the sandbox if it sleeps. */
void area_ring_doorbell(struct area *a);
/* Sleeps at the doorbell until it rings or `deadline_ns` (monotonic, UINT64_MAX = none); `has_work` is asked once
 * more in between. */
void area_wait_doorbell(struct area *a, uint64_t deadline_ns, bool (*has_work)(void *), void *arg);

#endif
