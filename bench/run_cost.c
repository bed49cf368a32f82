/* What one run costs inside a sandbox, from RUN message to DONE message, on one thread and without another process:
 *     run_cost MODULE.wasm [RUNS] [INPUT_BYTES]
 * prints a line of JSON: microseconds a run, the best and the mean of 20 batches. */
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "sandbox/area.h"
#include "sandbox/loop.h"

static int code_fd;

static int take_fd(void *ctx, uint32_t channel)
{
    (void)ctx, (void)channel;
    return dup(code_fd);
}

static void notify(void *ctx, uint32_t channel)
{
    (void)ctx, (void)channel;
}

static void put_message(struct ring_writer *w, const void *fixed, size_t fixed_len, struct str data)
{
    char *to = ring_reserve(w, fixed_len + data.len);
    WW_ASSERT(to);
    memcpy(to, fixed, fixed_len);
    if (data.len)
        memcpy(to + fixed_len, data.p, data.len);
    ring_publish(w, fixed_len + data.len);
}

/* Runs turns until one DONE came back; its cause, and its output's length. */
static uint32_t one_run(struct sandbox_loop *loop, struct ring_writer *to, struct ring_reader *from, uint64_t id,
                        struct str input, uint32_t *ret_output)
{
    struct message_run m = {
        .head = {MESSAGE_RUN, (uint32_t)input.len, id},
        .module_id = 1,
        .seed = 7,
        .limits = {.timeout_ns = 5 * NS_PER_S, .memory_bytes = 128 * MIB, .table_elements = 100000,
                   .stdout_bytes = 10 * MIB, .stderr_bytes = MIB},
        .stdin_bytes = (uint32_t)input.len,
        .stdin_eof = 1,
    };
    put_message(to, &m, sizeof m, input);
    for (;;) {
        uint64_t wake;
        const void *payload;
        size_t len;
        WW_ASSERT(sandbox_loop_turn(loop, &wake) != SANDBOX_BROKEN);
        while (ring_peek(from, &payload, &len) == RING_MESSAGE) {
            union message_any any;
            struct str data;
            WW_ASSERT(message_check_from_sandbox(payload, len, &any, &data));
            uint32_t type = any.head.type;
            ring_pop(from);
            if (type == MESSAGE_DONE) {
                *ret_output = any.done.stdout_bytes;
                if (any.done.report.cause)
                    fprintf(stderr, "%s: %s\n", cause_name(any.done.report.cause), any.done.report.text);
                return any.done.report.cause;
            }
            WW_ASSERT(type != MESSAGE_ABSENT);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t runs = 20000, input_bytes = 1024;
    if (argc < 2 || (argc > 2 && !str_to_u64(str_of(argv[2]), 100000000, &runs)) ||
        (argc > 3 && !str_to_u64(str_of(argv[3]), 40000, &input_bytes))) {
        fprintf(stderr, "usage: run_cost MODULE.wasm [RUNS] [INPUT_BYTES]\n");
        return 64;
    }
    struct err_info err = {0};
    FILE *f = fopen(argv[1], "rb");
    if (!f) {
        perror(argv[1]);
        return 66;
    }
    struct buf wasm = buf_make(64 * MIB);
    char *at;
    size_t got;
    while ((at = buf_reserve(&wasm, 65536)) && (got = fread(at, 1, 65536, f)) > 0)
        wasm.len += got;
    fclose(f);

    struct engine *compiler;
    struct engine_config compile_config = {.memory_max_bytes = 128 * MIB};
    wasm_byte_vec_t code;
    if (engine_new(&compile_config, &compiler, &err) || engine_compile(compiler, buf_str(&wasm), &code, &err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        return 65;
    }
    code_fd = memfd_create("code", MFD_CLOEXEC);
    WW_ASSERT(write(code_fd, code.data, code.size) == (ssize_t)code.size);

    struct area area;
    struct sandbox_loop *loop;
    static const struct sandbox_channel_ops ops = {take_fd, notify};
    struct sandbox_loop_config config = {.engine = {.pool = true, .slots = 1000, .memory_max_bytes = 128 * MIB},
                                         .pool_max_bytes = GIB, .modules_max = 16};
    if (area_create(&area, 1, &err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        return 70;
    }
    struct ring_reader in = area_to_sandbox_reader(&area, 0), from = area_from_sandbox_reader(&area, 0);
    struct ring_writer to = area_to_sandbox_writer(&area, 0), out = area_from_sandbox_writer(&area, 0);
    if (sandbox_loop_new(&config, 1, &in, &out, &ops, NULL, &loop, &err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        return 70;
    }
    struct message_load load = {.head = {MESSAGE_LOAD, 0, 1}, .memories = 1, .tables = 1};
    put_message(&to, &load, sizeof load, STR_NULL);

    char *input = xcalloc(1, input_bytes + 1);
    memset(input, 'x', input_bytes);
    uint64_t best = UINT64_MAX, total = 0;
    uint32_t output = 0;
    enum { BATCHES = 20 };
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t start = clock_now_ns();
        for (uint64_t i = 0; i < runs / BATCHES; i++)
            if (one_run(loop, &to, &from, i << 32, str_make(input, input_bytes), &output))
                return 1;
        uint64_t took = clock_now_ns() - start;
        best = MIN(best, took);
        total += took;
    }
    uint64_t per_batch = runs / BATCHES;
    printf("{\"runs\":%" PRIu64 ",\"input_bytes\":%" PRIu64 ",\"output_bytes\":%u,\"best_us\":%.2f,\"mean_us\":%.2f}\n",
           runs, input_bytes, output, (double)best / (double)per_batch / 1e3,
           (double)total / (double)(per_batch * BATCHES) / 1e3);
    sandbox_loop_free(loop);
    area_done(&area);
    return 0;
}
