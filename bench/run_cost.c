/* What one run costs inside a sandbox, from RUN message to DONE message, store to delete, on one thread and
 * without another process:
 *     run_cost MODULE.wasm [RUNS] [INPUT_BYTES]
 * prints a line of JSON: microseconds a run, the best and the mean of 20 batches. */
#include <inttypes.h>

#include "base/clock.h"
#include "inside.h"

enum { BATCHES = 20, INPUT_BYTES_MAX = 40000, SLOTS = 1000 };

struct last {
    bool done;
    uint64_t output_bytes;
};

static void on_done(void *ctx, const struct message_done *m)
{
    if (m->report.cause) {
        fprintf(stderr, "%s: %s\n", cause_name(m->report.cause), m->report.text);
        exit(1);
    }
    *(struct last *)ctx = (struct last){.done = true, .output_bytes = m->report.stdout_bytes};
}

int main(int argc, char **argv)
{
    uint64_t runs = 20000, input_bytes = 1024;
    if (argc < 2 || argc > 4 ||
        (argc > 2 && (!str_to_u64(str_of(argv[2]), 100000000, &runs) || runs < BATCHES)) ||
        (argc > 3 && !str_to_u64(str_of(argv[3]), INPUT_BYTES_MAX, &input_bytes))) {
        fprintf(stderr, "usage: run_cost MODULE.wasm [RUNS, at least %d] [INPUT_BYTES, at most %d]\n",
                BATCHES, INPUT_BYTES_MAX);
        return 64;
    }
    struct inside in;
    inside_open(&in, argv[1], SLOTS);
    static char input[INPUT_BYTES_MAX];
    memset(input, 'x', sizeof input);

    uint64_t best = UINT64_MAX, total = 0, per_batch = runs / BATCHES;
    struct last last = {0};
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t start = clock_now_ns();
        for (uint64_t i = 0; i < per_batch; i++) {
            last.done = false;
            inside_run(&in, i << 32, str_make(input, input_bytes), true);
            while (!last.done)
                inside_turn(&in, on_done, &last);
        }
        uint64_t took = clock_now_ns() - start;
        best = MIN(best, took);
        total += took;
    }
    printf("{\"runs\":%" PRIu64 ",\"input_bytes\":%" PRIu64 ",\"output_bytes\":%" PRIu64 ",\"best_us\":%.2f,"
           "\"mean_us\":%.2f}\n",
           per_batch * BATCHES, input_bytes, last.output_bytes, (double)best / (double)per_batch / 1e3,
           (double)total / (double)(per_batch * BATCHES) / 1e3);
    inside_close(&in);
    return 0;
}
