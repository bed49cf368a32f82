/* Guests for the tests: written in text, compiled here, handed over as descriptors as the compiler process does. */
#ifndef WW_TESTS_ENGINE_FIXTURE_H
#define WW_TESTS_ENGINE_FIXTURE_H

#include "../unit.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/engine.h"

/* What AddressSanitizer must leave to the engine: the signals of traps, and the stacks of fibers. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:use_sigaltstack=0:"
           "detect_stack_use_after_return=0";
}

/* cmocka takes the signals of traps for itself at the start of each test: gives them back to the engine. To be
 * called in the test, with an engine there. */
static inline void fixture_trap_signals(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    static struct sigaction of_engine[LENGTH_OF(numbers)];
    static bool known;
    for (size_t i = 0; i < LENGTH_OF(numbers); i++)
        if (known)
            sigaction(numbers[i], &of_engine[i], NULL);
        else
            sigaction(numbers[i], NULL, &of_engine[i]);
    known = true;
}

enum { FIXTURE_SLOTS = 4, FIXTURE_MEMORY_MAX = 16 * 1024 * 1024 };

static inline struct engine *fixture_engine(bool pool, bool fuel)
{
    struct engine_config config = {
        .pool = pool, .fuel = fuel, .slots = FIXTURE_SLOTS, .memory_max_bytes = FIXTURE_MEMORY_MAX};
    struct engine *e;
    struct err_info info = {0};
    if (engine_new(&config, &e, &info))
        fail_msg("%s", info.text);
    fixture_trap_signals();
    return e;
}

static inline wasm_byte_vec_t fixture_wasm(const char *wat)
{
    wasm_byte_vec_t wasm;
    struct err_info info = {0};
    if (engine_wat_to_wasm(str_of(wat), &wasm, &info))
        fail_msg("%s", info.text);
    return wasm;
}

static inline int fixture_compile(const char *wat, bool fuel)
{
    struct engine *compiler = fixture_engine(false, fuel);
    struct err_info info = {0};
    wasm_byte_vec_t wasm = fixture_wasm(wat), code;
    if (engine_compile(compiler, str_make(wasm.data, wasm.size), &code, &info))
        fail_msg("%s", info.text);
    int fd = memfd_create("code", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, code.data, code.size), code.size);
    wasm_byte_vec_delete(&wasm);
    wasm_byte_vec_delete(&code);
    engine_free(compiler);
    return fd;
}

/* A descriptor with the native code of this guest; those of the guests below are compiled once a program. */
static inline int fixture_code(const char *wat, bool fuel)
{
    static struct {
        const char *wat;
        bool fuel;
        int fd;
    } known[16];
    static size_t count;
    for (size_t i = 0; i < count; i++)
        if (known[i].fuel == fuel && strcmp(known[i].wat, wat) == 0)
            return dup(known[i].fd);
    int fd = fixture_compile(wat, fuel);
    if (count == LENGTH_OF(known))
        return fd;
    known[count].wat = xstrdup(wat);
    known[count].fuel = fuel;
    known[count].fd = fd;
    return dup(known[count++].fd);
}

/* --- guests ------------------------------------------------------------------------------------- */
#define IMPORT_WASI(name, params) \
    "(import \"wasi_snapshot_preview1\" \"" #name "\" (func $" #name " (param " params ") (result i32)))"
#define IMPORT_WRITE IMPORT_WASI(fd_write, "i32 i32 i32 i32")
#define IMPORT_READ IMPORT_WASI(fd_read, "i32 i32 i32 i32")
#define IMPORT_EXIT "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func $proc_exit (param i32)))"
#define MEMORY_PAGE "(memory (export \"memory\") 1)"

/* Copies stdin to stdout, 4096 bytes at a time, until it ends. */
#define GUEST_ECHO                                                                         \
    "(module " IMPORT_WRITE IMPORT_READ MEMORY_PAGE                                        \
    "(data (i32.const 0) \"\\00\\01\\00\\00\\00\\10\\00\\00\")"                            \
    "(func (export \"_start\") (loop $more"                                                \
    "  (i32.store (i32.const 4) (i32.const 4096))"                                         \
    "  (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"     \
    "  (if (i32.load (i32.const 8)) (then"                                                 \
    "    (i32.store (i32.const 4) (i32.load (i32.const 8)))"                               \
    "    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))" \
    "    (br $more))))))"

#define GUEST_HELLO                                                                                      \
    "(module " IMPORT_WRITE MEMORY_PAGE "(data (i32.const 0) \"\\08\\00\\00\\00\\05\\00\\00\\00hello\")" \
    "(func (export \"_start\")"                                                                          \
    "  (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"

/* Writes 4096 bytes of stdout for ever. */
#define GUEST_FLOOD                                                                                 \
    "(module " IMPORT_WRITE MEMORY_PAGE "(data (i32.const 0) \"\\00\\01\\00\\00\\00\\10\\00\\00\")" \
    "(func (export \"_start\") (loop $more"                                                         \
    "  (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))"            \
    "  (br $more))))"

#define GUEST_FOREVER "(module (func $spin (export \"_start\") (loop $l (br $l))))"
#define GUEST_TRAP \
    "(module (func $bad unreachable) (func $mid call $bad) (func (export \"_start\") call $mid))"
#define GUEST_EMPTY "(module (func (export \"_start\")))"

#endif
