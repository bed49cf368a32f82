/* A file of the usage journal that somebody wrote: what is read out of it must be fit for the database. */
#include "meter/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { BYTES = SEGMENT_BYTES_MIN + 4096, HEAD_BYTES = 4096 };
    static char bytes[BYTES];
    struct segment *s;
    /* Slots follow the head at once in the input, so that it stays short. */
    size_t head = MIN(size, (size_t)256);
    memset(bytes, 0, sizeof bytes);
    if (size == 0)
        return 0;
    memcpy(bytes, data, head);
    memcpy(bytes + HEAD_BYTES, data + head, MIN(size - head, (size_t)BYTES - HEAD_BYTES));
    if (!segment_parse(str_make(bytes, sizeof bytes), size % 2, &s))
        return 0;
    uint32_t end = segment_end(s);
    WW_ASSERT(segment_drained(s) <= end && segment_published(s) <= end);
    for (uint32_t i = 0; i < end; i++) {
        struct store_usage row;
        if (segment_get(s, i, &row) != SEGMENT_RUN)
            continue;
        WW_ASSERT(strlen(row.id) < sizeof row.id && strlen(row.key_id) < sizeof row.key_id);
        WW_ASSERT(strlen(row.error) < sizeof row.error && row.cause < CAUSE_COUNT);
        const uint64_t figures[] = {row.time_ns,    row.duration_us, row.cpu_us,       row.memory_peak_bytes,
                                    row.wasm_bytes, row.input_bytes, row.output_bytes, row.exit_code,
                                    row.queue_us,   row.compile_us,  row.fuel,         row.stderr_bytes,
                                    row.host_calls};
        for (size_t f = 0; f < LENGTH_OF(figures); f++)
            WW_ASSERT(figures[f] <= INT64_MAX);
    }
    segment_free(s, false);
    return 0;
}
