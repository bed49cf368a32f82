/* `wasmwiz run`: one module, here, with the same walls, limits and receipt as on a server. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "invoke/invocation.h"
#include "main/commands.h"
#include "main/parts.h"
#include "module/seal.h"

static const char usage[] =
    "usage: wasmwiz run [OPTIONS] FILE.wasm|FILE.wat [ARGS...]\n\n"
    "Runs the module's _start behind the same walls as on a server. stdin, stdout and stderr are the "
    "guest's.\n\n"
    "  --timeout 5s          wall time (EXECUTION_TIMEOUT)\n"
    "  --memory 128MiB       memory, all memories together (MEMORY_LIMIT)\n"
    "  --max-output 10MiB    bytes to stdout (MAX_OUTPUT)\n"
    "  --fuel N              count instructions and stop after N\n"
    "  --seed N              decides the guest's random numbers; default 0\n"
    "  --env K=V             a variable of the guest's environment; may be repeated\n"
    "  --invoke NAME         call this export instead of _start; ARGS are its parameters\n"
    "  --receipt FORM        text, json (one line, last on stderr) or none; default: text, after a\n"
    "                        failure that is no exit of the guest's own\n"
    "  --data FOLDER         keep compiled code there (DATA_DIR); without it nothing is kept\n\n"
    "exit status: the guest's own; 124 time or fuel limit, 134 trap, 137 memory or output limit,\n"
    "65 rejected before running, 64 wrong usage, 130 interrupted\n";

enum receipt_form { RECEIPT_ON_FAILURE, RECEIPT_TEXT, RECEIPT_JSON, RECEIPT_NONE };
enum { MODULE_FILE_MAX = 256 * 1024 * 1024, STDIN_PIECE = 32 * 1024 };

struct run_command {
    struct settings settings;
    struct loop loop;
    struct invoke_context context;
    struct metrics metrics;
    struct executor *executor;
    struct modules *modules;
    struct invocation *inv;
    /* What was asked for. */
    const char *file;
    const char *invoke;
    uint64_t timeout_ns, memory_bytes, output_bytes, fuel, seed;
    enum receipt_form form;
    struct buf args, env;
    uint32_t args_count, env_count;
    /* stdin, read on libuv's pool since it may be a file, a pipe or a terminal. */
    uv_fs_t read;
    char piece[STDIN_PIECE];
    size_t room;
    bool reading, stdin_ended;
    uv_signal_t interrupt;
    bool open_line; /* what the guest wrote to stderr last did not end its line */
    int exit_status;
};

/* --- arguments ---------------------------------------------------------------------------------- */
static bool usage_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
static bool usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("wasmwiz run: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("; `wasmwiz run --help` tells more\n", stderr);
    va_end(ap);
    return false;
}

static bool take_option(struct run_command *c, const char *name, const char *value)
{
    struct str v = str_of(value);
    if (strcmp(name, "--timeout") == 0)
        return (str_to_duration_ns(v, &c->timeout_ns) && c->timeout_ns >= NS_PER_MS &&
                c->timeout_ns <= 3600 * NS_PER_S) ||
               usage_error("--timeout: \"%s\" is not a time from 1ms to 1h", value);
    if (strcmp(name, "--memory") == 0)
        return (str_to_bytes(v, &c->memory_bytes) && c->memory_bytes >= WASM_PAGE_BYTES &&
                c->memory_bytes <= 4 * GIB) ||
               usage_error("--memory: \"%s\" is not a size from 64KiB to 4GiB", value);
    if (strcmp(name, "--max-output") == 0)
        return (str_to_bytes(v, &c->output_bytes) && c->output_bytes <= 1024 * GIB) ||
               usage_error("--max-output: \"%s\" is not a size from 0 to 1024GiB", value);
    if (strcmp(name, "--fuel") == 0)
        return (str_to_u64(v, INT64_MAX, &c->fuel) && c->fuel > 0) ||
               usage_error("--fuel: \"%s\" is not a whole number from 1 to %lld", value,
                           (long long)INT64_MAX);
    if (strcmp(name, "--seed") == 0)
        return str_to_u64(v, UINT64_MAX, &c->seed) ||
               usage_error("--seed: \"%s\" is not a whole number from 0 to %llu", value,
                           (unsigned long long)UINT64_MAX);
    if (strcmp(name, "--env") == 0) {
        c->env_count++;
        if (!strchr(value, '=') || value[0] == '=')
            return usage_error("--env: \"%s\" has not the form KEY=VALUE", value);
        return buf_append(&c->env, value, v.len + 1) ||
               usage_error("--env: the variables have more than %d bytes", ARGS_BYTES_MAX);
    }
    if (strcmp(name, "--invoke") == 0) {
        c->invoke = value;
        return v.len > 0 || usage_error("--invoke: the name is empty");
    }
    if (strcmp(name, "--receipt") == 0) {
        c->form = strcmp(value, "text") == 0   ? RECEIPT_TEXT
                  : strcmp(value, "json") == 0 ? RECEIPT_JSON
                                               : RECEIPT_NONE;
        return c->form != RECEIPT_NONE || strcmp(value, "none") == 0 ||
               usage_error("--receipt: \"%s\" is not text, json or none", value);
    }
    return usage_error("there is no option \"%s\"", name);
}

/* Options end at the file; what is behind it is the guest's. */
static bool parse(struct run_command *c, int argc, char **argv)
{
    int i = 0;
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        char name[32];
        const char *equals = strchr(argv[i], '=');
        snprintf(name, sizeof name, "%.*s", (int)(equals ? equals - argv[i] : 31), argv[i]);
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (!equals && i + 1 >= argc)
            return usage_error("%s: a value is missing", name);
        if (!take_option(c, name, equals ? equals + 1 : argv[++i]))
            return false;
    }
    if (i >= argc)
        return usage_error("a file is missing");
    c->file = argv[i];
    const char *slash = strrchr(argv[i], '/');
    buf_puts(&c->args, slash ? slash + 1 : argv[i]);
    buf_putc(&c->args, 0);
    for (c->args_count = 1, i++; i < argc; i++, c->args_count++)
        buf_append(&c->args, argv[i], strlen(argv[i]) + 1);
    return !c->args.overflow || usage_error("the arguments have more than %d bytes", ARGS_BYTES_MAX);
}

/* --- the module --------------------------------------------------------------------------------- */
static int read_module(struct run_command *c, struct invocation *inv)
{
    struct err_info err = {0};
    struct buf bytes = buf_make(MODULE_FILE_MAX);
    CLEANUP(closep) int fd = open(c->file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0) {
        char *to = buf_reserve(&bytes, 64 * 1024);
        n = to ? read(fd, to, 64 * 1024) : -1;
        if (n > 0)
            bytes.len += (size_t)n;
    }
    if (n < 0) {
        fprintf(stderr, "wasmwiz run: %s: %s\n", c->file,
                bytes.overflow ? "the file is too large" : strerror(errno));
        buf_done(&bytes);
        return EXIT_NO_INPUT;
    }
    if (str_ends_with(str_of(c->file), STR_LIT(".wat"))) {
        wasm_byte_vec_t wasm;
        if (engine_wat_to_wasm(buf_str(&bytes), &wasm, &err)) {
            fprintf(stderr, "wasmwiz run: %s: %s\n", c->file, err_text(&err));
            buf_done(&bytes);
            return EXIT_DATA;
        }
        buf_clear(&bytes);
        buf_append(&bytes, wasm.data, wasm.size);
        wasm_byte_vec_delete(&wasm);
    }
    if (bytes.len == 0)
        buf_reserve(&bytes, 1);
    inv->wasm = buf_take(&bytes, &inv->wasm_len);
    WW_ASSERT(EVP_Digest(inv->wasm, inv->wasm_len, inv->sha, NULL, EVP_sha256(), NULL) == 1);
    return 0;
}

/* --- the guest's streams ------------------------------------------------------------------------ */
static void read_stdin(struct run_command *c);

static void on_stdin(uv_fs_t *req)
{
    struct run_command *c = CONTAINER_OF(req, struct run_command, read);
    ssize_t n = req->result;
    uv_fs_req_cleanup(req);
    c->reading = false;
    if (!c->inv || !c->inv->exec)
        return;
    size_t len = n > 0 ? (size_t)n : 0;
    c->stdin_ended = n <= 0; /* an unreadable stdin is an empty one */
    c->room -= len;
    exec_run_stdin(c->inv->exec, str_make(c->piece, len), c->stdin_ended);
    read_stdin(c);
}

static void read_stdin(struct run_command *c)
{
    if (c->reading || c->stdin_ended || c->room < STDIN_PIECE)
        return;
    uv_buf_t buf = uv_buf_init(c->piece, STDIN_PIECE);
    c->reading = uv_fs_read(&c->loop.uv, &c->read, STDIN_FILENO, &buf, 1, -1, on_stdin) == 0;
}

static void on_stdin_room(struct invocation *inv, size_t bytes)
{
    struct run_command *c = inv->origin_data;
    c->room = bytes;
    read_stdin(c);
}

/* Blocks while the reader of our output is slow: the guest then waits at its window, under its own deadline. */
static void on_output(struct invocation *inv, int fd, struct str bytes)
{
    struct run_command *c = inv->origin_data;
    if (fd == 2 && bytes.len)
        c->open_line = bytes.p[bytes.len - 1] != '\n';
    while (bytes.len) {
        ssize_t n = write(fd, bytes.p, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (c->inv && c->inv->exec && !c->inv->gone)
                exec_run_cancel(c->inv->exec);
            return;
        }
        bytes = str_make(bytes.p + n, bytes.len - (size_t)n);
    }
}

/* --- the outcome -------------------------------------------------------------------------------- */
/* A receipt for what never ran. */
static void put_refusal(struct invocation *inv)
{
    const struct run_limits *limits = &inv->spec.limits;
    struct receipt *r = &inv->receipt;
    *r = (struct receipt){.cause = err_status(inv->failure.code) < 500 ? CAUSE_REJECTED : CAUSE_CANCELLED,
                          .detail = err_text(&inv->failure),
                          .compile_source = "none",
                          .trap_code = -1,
                          .limits = {limits->timeout_ns, limits->memory_bytes, limits->stdout_bytes,
                                     limits->stderr_bytes, limits->fuel}};
    memcpy(r->run_id, inv->id, sizeof r->run_id);
}

static void on_reply(struct invocation *inv)
{
    struct run_command *c = inv->origin_data;
    struct buf text = buf_make(64 * 1024);
    if (inv->failure.code) {
        int status = err_status(inv->failure.code);
        c->exit_status = status < 500 ? EXIT_DATA : EXIT_SOFTWARE;
        if (c->form == RECEIPT_JSON)
            put_refusal(inv);
        else
            buf_printf(&text, "wasmwiz: %s - %s\n", err_code(inv->failure.code), err_text(&inv->failure));
    } else {
        int status = cause_exit_status(inv->receipt.cause);
        c->exit_status = status >= 0 ? status : (int)MIN(inv->receipt.exit_code, 255U);
    }
    bool failed = inv->failure.code || inv->receipt.cause != CAUSE_OK;
    if (c->form == RECEIPT_JSON) {
        receipt_put_json(&text, &inv->receipt);
        buf_putc(&text, '\n');
    } else if (!inv->failure.code && (c->form == RECEIPT_TEXT || (c->form == RECEIPT_ON_FAILURE && failed &&
                                                                  inv->receipt.cause != CAUSE_EXIT))) {
        receipt_put_text(&text, &inv->receipt);
    }
    if (text.len && c->open_line)
        fputc('\n', stderr);
    if (c->form != RECEIPT_NONE || inv->failure.code)
        fputs(buf_cstr(&text), stderr);
    buf_done(&text);
}

static void on_released(struct invocation *inv)
{
    struct run_command *c = inv->origin_data;
    c->inv = NULL;
    uv_stop(&c->loop.uv);
}

/* stdin is read once the run has begun: getting the module may take its time. */
static void on_started(struct invocation *inv)
{
    read_stdin(inv->origin_data);
}

static enum step_result on_receive(struct invocation *inv)
{
    (void)inv;
    return STEP_DONE;
}

static const struct invoke_origin origin = {.receive = on_receive,
                                            .started = on_started,
                                            .output = on_output,
                                            .stdin_room = on_stdin_room,
                                            .reply = on_reply,
                                            .released = on_released};

static void on_interrupt(uv_signal_t *handle, int number)
{
    struct run_command *c = CONTAINER_OF(handle, struct run_command, interrupt);
    (void)number;
    if (c->inv && c->inv->exec)
        exec_run_cancel(c->inv->exec);
    else
        _exit(130);
}

/* --- putting it together ------------------------------------------------------------------------ */
static enum err start_parts(struct run_command *c, struct err_info *reterr)
{
    struct settings *s = &c->settings;
    s->sandboxes = s->compilers = 1;
    s->max_concurrent = 1;
    s->max_wasm_size = MODULE_FILE_MAX;
    s->memory_limit = MAX(c->memory_bytes, 4 * MIB);
    s->isolation = ISOLATION_PROCESS;
    struct exec_config exec = parts_exec_config(s);
    struct modules_config modules = parts_modules_config(s);
    static char cache_dir[4200];
    modules.compiler.keep_spare = false;
    enum err e = OK;
    if (getenv("DATA_DIR") || strcmp(s->data_dir, "./wasmwiz-data") != 0) {
        snprintf(cache_dir, sizeof cache_dir, "%s/cache", s->data_dir);
        modules.cache_dir = cache_dir;
        e = parts_make_folder(cache_dir, reterr);
        if (!e)
            e = seal_key_load(s->data_dir, modules.seal_key, reterr);
    }
    struct loop *loops[] = {&c->loop};
    if (!e)
        e = executor_new(&exec, loops, 1, &c->executor, reterr);
    if (!e)
        e = modules_new(&c->loop, &modules, &c->modules, reterr);
    if (e)
        return e;
    c->context = (struct invoke_context){.loop = &c->loop,
                                         .exec = executor_attach(c->executor, &c->loop),
                                         .modules = c->modules,
                                         .metrics = &c->metrics,
                                         .timeout_ns = c->timeout_ns,
                                         .memory_bytes = c->memory_bytes,
                                         .stdout_bytes = c->output_bytes,
                                         .stderr_bytes = MIN(s->max_stderr, c->output_bytes)};
    return OK;
}

static int start_invocation(struct run_command *c)
{
    static const char hex_digits[] = "0123456789abcdef";
    char id[33] = {0};
    unsigned char random[16];
    WW_ASSERT(uv_random(NULL, NULL, random, sizeof random, 0, NULL) == 0);
    for (int i = 0; i < 32; i++)
        id[i] = hex_digits[(random[i / 2] >> (i % 2 * 4)) & 15];
    struct invocation *inv = invocation_new(&c->context, &origin, c, id);
    int status = read_module(c, inv);
    if (status)
        return status;
    c->inv = inv;
    inv->spec.entry = str_of(c->invoke ? c->invoke : "");
    inv->spec.args = buf_str(&c->args);
    inv->spec.args_count = c->args_count;
    inv->spec.env = buf_str(&c->env);
    inv->spec.env_count = c->env_count;
    inv->spec.seed = c->seed;
    inv->spec.limits.fuel = c->fuel;
    c->room = STDIN_WINDOW_BYTES;
    invocation_enter(inv, INVOKE_STEP_resolve);
    return 0;
}

static int run(struct run_command *c)
{
    struct err_info err = {0};
    loop_init(&c->loop, 0);
    if (start_parts(c, &err)) {
        fprintf(stderr, "wasmwiz run: %s\n", err_text(&err));
        return EXIT_SOFTWARE;
    }
    uv_signal_init(&c->loop.uv, &c->interrupt);
    uv_signal_start(&c->interrupt, on_interrupt, SIGINT);
    int status = start_invocation(c);
    if (status)
        return status;
    if (c->inv)
        uv_run(&c->loop.uv, UV_RUN_DEFAULT);
    return c->exit_status;
}

int command_run(int argc, char **argv)
{
    static struct run_command c;
    struct buf text = buf_make(16 * 1024);
    for (int i = 0; i < argc && argv[i][0] == '-'; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
    int ours = 0; /* --data is a setting and stands before the file */
    while (ours < argc && argv[ours][0] == '-')
        ours += strchr(argv[ours], '=') ? 1 : 2;
    ours = MIN(ours, argc);
    int left = ours;
    bool good = settings_load(&c.settings, &left, argv, &text);
    memmove(argv + left, argv + ours, (size_t)(argc - ours) * sizeof *argv);
    argc -= ours - left;
    if (!good) {
        fprintf(stderr, "wasmwiz run: the settings are not right:\n%s", buf_cstr(&text));
        return EXIT_CONFIG;
    }
    log_setup(LOG_LEVEL_ERROR, false);
    parts_raise_limits();
    c.timeout_ns = c.settings.execution_timeout;
    c.memory_bytes = c.settings.memory_limit;
    c.output_bytes = c.settings.max_output;
    c.args = buf_make(ARGS_BYTES_MAX);
    c.env = buf_make(ARGS_BYTES_MAX);
    if (!parse(&c, argc, argv))
        return EXIT_USAGE;
    int status = run(&c);
    /* The children die with this process; a read of stdin may still block a thread of the pool. */
    fflush(stderr);
    _exit(status);
}
