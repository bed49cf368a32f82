/* The Wasmtime engine as we configure it: proposals off by name, a pool of instances, epochs, and the host
 * functions that a guest may import. One engine a process; with or without fuel, never both. */
#ifndef WW_SANDBOX_ENGINE_H
#define WW_SANDBOX_ENGINE_H

#include <wasmwiz_engine.h>

#include "base/err.h"
#include "base/str.h"

/* What a server may be asked to hold; fixed at start. */
struct engine_config {
    bool fuel;                 /* count it: about twice the run time on call-heavy guests */
    bool pool;                 /* false in the compiler, which runs nothing */
    uint32_t slots;            /* instances at once */
    uint64_t memory_max_bytes; /* the server-wide ceiling of one memory */
};

enum {
    ENGINE_MEMORIES_MAX = 4, /* of one module */
    ENGINE_TABLES_MAX = 8,
    ENGINE_TABLE_ELEMENTS_MAX = 100000, /* of one table, and of one run in all */
    ENGINE_STACK_BYTES = 512 * 1024,    /* of the guest's calls */
};

struct engine {
    struct engine_config config;
    wasm_engine_t *engine;
    wasmtime_linker_t *linker; /* NULL without a pool */
};

/* Starts the engine. `config.memory_max_bytes` is rounded up to a page. On OK *ret_engine is owned by the caller. */
MUST_CHECK enum err engine_new(const struct engine_config *config, struct engine **ret_engine,
                               struct err_info *reterr);
void engine_free(struct engine *e); /* takes NULL */

/* Memories and tables that the pool holds in all, for admission. */
uint32_t engine_pool_memories(const struct engine_config *config);
uint32_t engine_pool_tables(const struct engine_config *config);
/* Address space that the pool maps writable for stacks and tables, used or not. */
uint64_t engine_pool_data_bytes(const struct engine_config *config);

/* Compiles `wasm` (binary) to native code for an engine of the same `fuel`. ERR_MODULE_INVALID with the validator's
 * sentence. *ret_code is freed with wasm_byte_vec_delete(). Takes as long as it takes: for the compiler process. */
MUST_CHECK enum err engine_compile(struct engine *e, struct str wasm, wasm_byte_vec_t *ret_code,
                                   struct err_info *reterr);

/* Text format to binary, or ERR_MODULE_INVALID with line and column. *ret_wasm: wasm_byte_vec_delete(). */
MUST_CHECK enum err engine_wat_to_wasm(struct str text, wasm_byte_vec_t *ret_wasm, struct err_info *reterr);

/* A short name of engine version, configuration and CPU features: code compiled under one fits no other. */
const char *engine_fingerprint(bool fuel);

/* The sentence of a Wasmtime error, in one line, without the backtrace; frees the error. */
void engine_error_text(wasmtime_error_t *error, char *out, size_t size);

#endif
