#include "base/log_ring.h"

/* Stands before each line. Both may lie across the end of the memory. */
struct head {
    uint16_t len;
    uint16_t level;
};

_Static_assert(LOG_LINE_MAX_BYTES <= UINT16_MAX, "a length fits");

static void copy_in(struct log_ring *ring, const void *from, size_t len)
{
    size_t at = ring->end % LOG_RING_BYTES, first = MIN(len, LOG_RING_BYTES - at);
    memcpy(ring->bytes + at, from, first);
    memcpy(ring->bytes, (const char *)from + first, len - first);
    ring->end += len;
}

static void copy_out(const struct log_ring *ring, uint64_t position, void *to, size_t len)
{
    size_t at = position % LOG_RING_BYTES, first = MIN(len, LOG_RING_BYTES - at);
    memcpy(to, ring->bytes + at, first);
    memcpy((char *)to + first, ring->bytes, len - first);
}

/* One more line of this level: it counts for all who want at least so much. */
static void count(uint64_t counts[static LOG_LEVEL_COUNT], unsigned level)
{
    for (unsigned least = 0; least <= level; least++)
        counts[least]++;
}

void log_ring_put(struct log_ring *ring, enum log_level level, struct str line)
{
    struct head head = {(uint16_t)line.len, (uint16_t)level}, oldest;
    WW_ASSERT(line.len <= LOG_LINE_MAX_BYTES);
    while (ring->end - ring->begin + sizeof head + line.len > LOG_RING_BYTES) {
        copy_out(ring, ring->begin, &oldest, sizeof oldest);
        ring->begin += sizeof oldest + oldest.len;
        count(ring->gone, oldest.level);
    }
    copy_in(ring, &head, sizeof head);
    copy_in(ring, line.p, line.len);
    count(ring->put, level);
}

struct log_reader log_ring_join(const struct log_ring *ring, enum log_level least)
{
    return (struct log_reader){.least = least, .at = ring->end, .passed = ring->put[least]};
}

bool log_ring_next(const struct log_ring *ring, struct log_reader *reader, struct buf *line, uint64_t *lost)
{
    struct head head;
    if (reader->at < ring->begin) {
        *lost += ring->gone[reader->least] - reader->passed;
        reader->at = ring->begin;
        reader->passed = ring->gone[reader->least];
    }
    while (reader->at < ring->end) {
        copy_out(ring, reader->at, &head, sizeof head);
        uint64_t text = reader->at + sizeof head;
        reader->at = text + head.len;
        if (head.level < reader->least)
            continue;
        reader->passed++;
        char *to = buf_reserve(line, head.len);
        WW_ASSERT(to);
        copy_out(ring, text, to, head.len);
        line->len += head.len;
        return true;
    }
    return false;
}
