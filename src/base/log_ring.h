/* The last lines of the log in a fixed amount of memory, for readers that each go at their own pace.
 *
 * A new line pushes out the oldest ones. A reader wants the lines of at least its level; how many of those were pushed
 * out before it came to them is told to it. Nobody is waited for. No lock: the caller has one. */
#ifndef WW_BASE_LOG_RING_H
#define WW_BASE_LOG_RING_H

#include "base/buf.h"
#include "base/log.h"

enum { LOG_RING_BYTES = 256 * 1024 };

/* Starts as zeroes. Positions count all bytes that were ever put in. */
struct log_ring {
    char bytes[LOG_RING_BYTES];
    uint64_t begin, end;
    uint64_t put[LOG_LEVEL_COUNT];  /* lines of at least this level: ever put in, */
    uint64_t gone[LOG_LEVEL_COUNT]; /* and ever pushed out */
};

struct log_reader {
    enum log_level least;
    uint64_t at;
    uint64_t passed; /* of the lines that it wants: those before `at` */
};

/* `line` has at most LOG_LINE_MAX_BYTES. */
void log_ring_put(struct log_ring *ring, enum log_level level, struct str line);
/* A reader of what comes from now on. */
struct log_reader log_ring_join(const struct log_ring *ring, enum log_level least);
/* Appends the reader's next line to `line` and adds to *lost the lines that were pushed out before it. False: there is
 * none yet. */
bool log_ring_next(const struct log_ring *ring, struct log_reader *reader, struct buf *line, uint64_t *lost);

#endif
