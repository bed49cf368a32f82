/* A file of the usage journal: a head, then slots of one size, a run each. The loop that owns the lane fills slots in
 * order and publishes how many there are; a thread of libuv's pool reads them and publishes how many are drained.
 *
 * The file is mapped shared, so what was written is in the kernel's page cache and survives the death of the process;
 * segment_sync() makes it survive the loss of power. Its blocks are allocated when it is made, so that a full disk is an
 * error there and not a signal later. The owner holds a lock on it (flock) for as long as it lives: a file that can be
 * locked is an orphan. A file that is drained to its end is used again, which costs less than another one: its pages are
 * there.
 *
 * An orphan's bytes are hostile: read into memory (a mapped file that somebody cuts would end the process), the head
 * checked, each record by its checksum, which is made under the file's id and generation and the slot's
 * number, so that no record counts in another place or a second time; then each field. */
#ifndef WW_METER_SEGMENT_H
#define WW_METER_SEGMENT_H

#include <stdatomic.h>

#include "base/cause.h"
#include "base/err.h"
#include "base/str.h"
#include "store/usage.h"

enum { SEGMENT_NAME_BYTES = 32, SEGMENT_BYTES_MIN = 64 * 1024, SEGMENT_BYTES_MAX = 64 * 1024 * 1024 };

/* What is kept of a run. All is borrowed. */
struct usage_run {
    uint64_t time_ns;                /* wall; when it ended */
    const char *id;                  /* 32 hexadecimal digits */
    const char *key_id;              /* "" = without a key */
    const char *user_id;             /* "" = of nobody */
    const unsigned char *module_sha; /* 32 bytes */
    uint64_t duration_ns, cpu_ns, memory_peak_bytes, wasm_bytes, input_bytes, output_bytes;
    uint64_t queue_ns, compile_ns, fuel, stderr_bytes, host_calls;
    uint32_t exit_code;
    enum cause cause;
    int status;       /* of the HTTP reply */
    struct str error; /* a sentence, cut at 256 bytes; empty = none */
};

struct segment_head;

struct segment {
    char name[SEGMENT_NAME_BYTES];
    int folder_fd; /* borrowed */
    int fd;        /* with the lock */
    struct segment_head *head;
    size_t bytes;
    uint64_t id;
    uint32_t generation;
    uint32_t capacity; /* slots */
    bool mapped;       /* ours; false: an orphan, read into memory */
    uint32_t synced;   /* slots that segment_sync() has seen */
    struct segment *next;
};

/* Makes a file of `bytes` bytes in the folder. ERR_DISK_FAULT. */
MUST_CHECK enum err segment_new(int folder_fd, size_t bytes, struct segment **ret_segment,
                                struct err_info *reterr);
/* Takes over an orphan. OK with NULL: its owner lives, it is gone, it is another version's, which the log tells, or it is
 * no file of ours, which is then renamed to *.bad and told in the log. ERR_DISK_FAULT: it could not be read. */
MUST_CHECK enum err segment_adopt(int folder_fd, const char *name, struct segment **ret_segment,
                                  struct err_info *reterr);
/* Empties one of our own that is drained to its end, for its next use. */
void segment_reuse(struct segment *s);
/* The names that segment_adopt() takes. */
bool segment_has_name(const char *name);
/* Removes the file if it is one that was never finished, and whose maker is gone. */
void segment_sweep(int folder_fd, const char *name);
/* Unmaps and unlocks. `remove`: all of it is drained. Takes NULL. */
void segment_free(struct segment *s, bool remove);

/* Fills the slot, and publishes it and those before. By the owner alone, each slot once. */
void segment_put(struct segment *s, uint32_t slot, const struct usage_run *run);
/* Slots that may hold a run: those published, or in an orphan all. */
uint32_t segment_end(const struct segment *s);
/* Runs that were published; at most its capacity. */
uint32_t segment_published(const struct segment *s);

enum segment_slot { SEGMENT_RUN, SEGMENT_EMPTY, SEGMENT_TORN };
/* What is in the slot; RUN fills *ret. */
enum segment_slot segment_get(const struct segment *s, uint32_t slot, struct store_usage *ret);

uint32_t segment_drained(const struct segment *s);
void segment_set_drained(struct segment *s, uint32_t slots);
/* Writes what was published to the disk. Blocks. ERR_DISK_FAULT. */
MUST_CHECK enum err segment_sync(struct segment *s, struct err_info *reterr);

/* For fuzzing: an orphan out of these bytes, without a file; `reseal` makes all checksums right, which nobody guesses.
 * False: no segment. Free it with segment_free(). */
bool segment_parse(struct str bytes, bool reseal, struct segment **ret_segment);

#endif
