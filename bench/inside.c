#include "inside.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"

enum { MODULE_ID = 1, TIMEOUT_S = 600 };

static int take_fd(void *ctx, uint32_t channel)
{
    (void)channel;
    const struct inside *in = ctx;
    return dup(in->code_fd);
}

/* Both ends are on one thread: nobody sleeps. */
static void notify(void *ctx, uint32_t channel)
{
    (void)ctx, (void)channel;
}

NORETURN static void fail(const char *why)
{
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static void put_message(struct inside *in, const void *fixed, size_t fixed_len, struct str data)
{
    char *to = ring_reserve(&in->to, fixed_len + data.len);
    WW_ASSERT(to);
    memcpy(to, fixed, fixed_len);
    if (data.len)
        memcpy(to + fixed_len, data.p, data.len);
    ring_publish(&in->to, fixed_len + data.len);
}

static void read_file(const char *path, struct buf *ret)
{
    FILE *f = fopen(path, "rbe");
    if (!f) {
        perror(path);
        exit(1);
    }
    char *at;
    size_t got;
    while ((at = buf_reserve(ret, 65536)) && (got = fread(at, 1, 65536, f)) > 0)
        ret->len += got;
    fclose(f);
}

/* The native code of a module file, in a descriptor as a LOAD message carries it. */
static int compile(const char *path, uint64_t memory_max_bytes)
{
    struct err_info err = {0};
    struct buf wasm = buf_make(64 * MIB);
    struct engine_config config = {.memory_max_bytes = memory_max_bytes};
    struct engine *compiler;
    wasm_byte_vec_t code;
    read_file(path, &wasm);
    if (engine_new(&config, &compiler, &err) || engine_compile(compiler, buf_str(&wasm), &code, &err))
        fail(err_text(&err));
    int fd = memfd_create("code", MFD_CLOEXEC);
    WW_ASSERT(fd >= 0 && write(fd, code.data, code.size) == (ssize_t)code.size);
    wasm_byte_vec_delete(&code);
    engine_free(compiler);
    buf_done(&wasm);
    return fd;
}

void inside_open(struct inside *in, const char *module_path, uint32_t slots)
{
    static const struct sandbox_channel_ops ops = {take_fd, notify};
    struct sandbox_loop_config config = {
        .engine = {.pool = true, .slots = slots, .memory_max_bytes = 128 * MIB},
        .pool_max_bytes = UINT64_MAX,
        .modules_max = 16,
    };
    struct err_info err = {0};
    in->code_fd = compile(module_path, config.engine.memory_max_bytes);
    if (area_create(&in->area, 1, &err))
        fail(err_text(&err));
    in->to = area_to_sandbox_writer(&in->area, 0);
    in->from = area_from_sandbox_reader(&in->area, 0);
    struct ring_reader from = area_to_sandbox_reader(&in->area, 0);
    struct ring_writer to = area_from_sandbox_writer(&in->area, 0);
    if (sandbox_loop_new(&config, 1, &from, &to, &ops, in, &in->loop, &err))
        fail(err_text(&err));
    struct message_load load = {.head = {MESSAGE_LOAD, 0, MODULE_ID}, .memories = 1, .tables = 1};
    put_message(in, &load, sizeof load, STR_NULL);
}

void inside_close(struct inside *in)
{
    sandbox_loop_free(in->loop);
    area_done(&in->area);
    closep(&in->code_fd);
}

void inside_run(struct inside *in, uint64_t id, struct str input, bool eof)
{
    struct message_run m = {
        .head = {MESSAGE_RUN, (uint32_t)input.len, id},
        .module_id = MODULE_ID,
        .seed = 7,
        .limits = {.timeout_ns = TIMEOUT_S * NS_PER_S,
                   .memory_bytes = 128 * MIB,
                   .table_elements = ENGINE_TABLE_ELEMENTS_MAX,
                   .stdout_bytes = 10 * MIB,
                   .stderr_bytes = MIB},
        .stdin_bytes = (uint32_t)input.len,
        .stdin_eof = eof,
    };
    put_message(in, &m, sizeof m, input);
}

void inside_stdin(struct inside *in, uint64_t id, struct str input)
{
    struct message_stdin m = {.head = {MESSAGE_STDIN, (uint32_t)input.len, id}, .eof = 1};
    put_message(in, &m, sizeof m, input);
}

enum sandbox_turn inside_turn(struct inside *in, void (*on_done)(void *ctx, const struct message_done *m),
                              void *ctx)
{
    uint64_t wake;
    enum sandbox_turn turn = sandbox_loop_turn(in->loop, &wake);
    WW_ASSERT(turn != SANDBOX_BROKEN);
    const void *payload;
    size_t len;
    while (ring_peek(&in->from, &payload, &len) == RING_MESSAGE) {
        union message_any any;
        struct str data;
        WW_ASSERT(message_check_from_sandbox(payload, len, &any, &data));
        ring_pop(&in->from);
        if (any.head.type == MESSAGE_LOADED && !any.loaded.ok)
            fail("the module could not be loaded");
        WW_ASSERT(any.head.type != MESSAGE_ABSENT);
        if (any.head.type == MESSAGE_DONE)
            on_done(ctx, &any.done);
    }
    return turn;
}
