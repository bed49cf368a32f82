/* Modules by the SHA-256 of their bytes: checked, compiled once, kept in memory (LRU by count) and, sealed, on
 * disk. Requests that need the same new module at the same time wait for one compilation.
 *
 * Shared by all loops of the front, under one mutex that is never held over I/O; what blocks runs on libuv's pool,
 * compiling runs in a process of its own. */
#ifndef WW_MODULE_MODULE_H
#define WW_MODULE_MODULE_H

#include <stdatomic.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"
#include "module/compiler.h"
#include "module/precheck.h"

enum { MODULE_SHA_BYTES = 32 };

enum module_source {
    MODULE_FROM_MEMORY,
    MODULE_FROM_DISK,
    MODULE_COMPILED,
};
/* "memory", "disk", "compiled". */
const char *module_source_name(enum module_source source);

/* A compiled module; immutable, shared by reference. */
struct module {
    atomic_uint refs;
    uint64_t id; /* of this program's life; never used twice */
    unsigned char sha[MODULE_SHA_BYTES];
    bool fuel;
    int code_fd; /* compiled code, read-only */
    uint64_t wasm_bytes;
    uint64_t compile_ns; /* 0 where it came from disk */
    struct precheck_facts facts;
};
void module_unref(struct module *m); /* takes NULL */

struct modules_config {
    const char *cache_dir; /* NULL: nothing is kept on disk */
    const char *temp_dir;  /* uploads on their way to the compiler: <uuid4>.wasm; NULL: memory only */
    uint64_t temp_ttl_ns;
    uint64_t cache_bytes_max;
    uint32_t modules_max; /* in memory */
    unsigned char seal_key[32];
    struct precheck_limits precheck;
    struct compiler_config compiler;
};

struct modules;

/* `loop` (the front's first) supervises the compiler processes. On OK the caller owns *ret_modules. */
MUST_CHECK enum err modules_new(struct loop *loop, const struct modules_config *config,
                                struct modules **ret_modules, struct err_info *reterr);
/* On that loop: no more compilations; its handles close as the loop runs on. */
void modules_stop(struct modules *ms);
void modules_free(struct modules *ms); /* takes NULL; after all loops ended */

/* One who waits for a module; embedded in the invocation. The four fields are filled before ready() is called, on
 * `loop`. */
struct module_wait {
    struct loop_post post;
    struct list link;
    struct loop *loop;
    void (*ready)(struct module_wait *w);
    enum err
        err; /* OK, NOT_WASM, MODULE_INVALID, MODULE_REJECTED, COMPILE_LIMIT, BUSY, DISK_FAULT, INTERNAL */
    struct err_info info;
    struct module *module; /* a new reference, on OK */
    enum module_source source;
};

/* Asks for the module with this hash. True: it is in memory, the fields of `w` are filled (also with a remembered
 * refusal) and ready() will not be called. False: ready() will be. `*wasm` (malloc'ed, wasm_len bytes) is taken, and
 * NULL afterwards, when it is needed. */
bool modules_get(struct modules *ms, const unsigned char sha[static MODULE_SHA_BYTES], bool fuel, char **wasm,
                 size_t wasm_len, struct module_wait *w);
struct modules_stats {
    uint64_t hits_memory, hits_disk, compiled, refused, compile_ns;
    uint32_t loaded, compiling;
    uint64_t cache_bytes;
};
struct modules_stats modules_stats(struct modules *ms);

#endif
