/* What a guest costs that waits for its input, with many of them in one sandbox:
 *     parked MODULE.wasm [GUESTS]
 * starts the guests without input (the module must read stdin to its end and echo it), measures, gives each its
 * input, sees every one end well, measures again, and prints a line of JSON: bytes of memory for each guest
 * (resident; page tables, which are not counted in that; what is kept resident after the end) and mappings. */
#include <inttypes.h>

#include "inside.h"

enum { GUESTS_MAX = 1000000, SPARE_SLOTS = 64 };

struct usage {
    uint64_t resident_bytes;
    uint64_t page_table_bytes;
    uint64_t mappings;
};

static struct usage usage_now(void)
{
    struct usage u = {0};
    char line[512];
    FILE *f = fopen("/proc/self/status", "re");
    WW_ASSERT(f);
    while (fgets(line, sizeof line, f)) {
        struct str value = str_of(line), name = str_split(&value, ':');
        value = str_trim(value);
        uint64_t *to = str_eq(name, STR_LIT("VmRSS"))   ? &u.resident_bytes
                       : str_eq(name, STR_LIT("VmPTE")) ? &u.page_table_bytes
                                                        : NULL;
        if (to && str_to_u64(str_split(&value, ' '), UINT64_MAX / KIB, to))
            *to *= KIB;
    }
    fclose(f);
    f = fopen("/proc/self/maps", "re");
    WW_ASSERT(f);
    while (fgets(line, sizeof line, f))
        u.mappings++;
    fclose(f);
    return u;
}

static void on_done(void *ctx, const struct message_done *m)
{
    uint64_t *done = ctx;
    if (m->report.cause || m->report.stdout_bytes != 5) {
        fprintf(stderr, "%s: %s\n", cause_name(m->report.cause), m->report.text);
        exit(1);
    }
    ++*done;
}

static void turn_until_idle(struct inside *in, uint64_t *done)
{
    while (inside_turn(in, on_done, done) == SANDBOX_BUSY)
        continue;
}

int main(int argc, char **argv)
{
    uint64_t guests = 10000, done = 0;
    if (argc < 2 || argc > 3 ||
        (argc > 2 && (!str_to_u64(str_of(argv[2]), GUESTS_MAX, &guests) || guests == 0))) {
        fprintf(stderr, "usage: parked MODULE.wasm [GUESTS, at most %d]\n", GUESTS_MAX);
        return 64;
    }
    struct inside in;
    inside_open(&in, argv[1], (uint32_t)guests + SPARE_SLOTS);
    inside_run(&in, 0, STR_LIT("hello"), true);
    turn_until_idle(&in, &done);
    WW_ASSERT(done == 1);

    struct usage before = usage_now();
    for (uint64_t i = 0; i < guests; i++) {
        inside_run(&in, UINT64_C(1) << 32 | i, STR_NULL, false);
        turn_until_idle(&in, &done);
    }
    WW_ASSERT(done == 1 && sandbox_loop_runs(in.loop) == guests);
    struct usage after = usage_now();
    for (uint64_t i = 0; i < guests; i++) {
        inside_stdin(&in, UINT64_C(1) << 32 | i, STR_LIT("hello"));
        turn_until_idle(&in, &done);
    }
    WW_ASSERT(done == 1 + guests && sandbox_loop_runs(in.loop) == 0);
    struct usage at_end = usage_now();

    printf("{\"guests\":%" PRIu64 ",\"resident_bytes\":%" PRIu64 ",\"page_table_bytes\":%" PRIu64
           ",\"mappings\":%.2f,\"kept_bytes\":%" PRIu64 "}\n",
           guests, (after.resident_bytes - before.resident_bytes) / guests,
           (after.page_table_bytes - before.page_table_bytes) / guests,
           (double)(after.mappings - before.mappings) / (double)guests,
           (at_end.resident_bytes - before.resident_bytes) / guests);
    inside_close(&in);
    return 0;
}
