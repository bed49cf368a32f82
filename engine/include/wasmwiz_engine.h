/* What Wasmtime's C API lacks; implemented in engine/src/lib.rs. */
#ifndef WASMWIZ_ENGINE_H
#define WASMWIZ_ENGINE_H

#include <stdint.h>
#include <wasmtime.h>

enum wasmwiz_refused {
    WASMWIZ_REFUSED_NOTHING = 0,
    WASMWIZ_REFUSED_MEMORY = 1, /* memory_max */
    WASMWIZ_REFUSED_TABLE = 2,  /* table_max */
    WASMWIZ_REFUSED_POOL = 3,   /* pool_max, or the kernel had no more memory */
};

/* A store's limits and what it uses. Growth that is refused traps, and `refused` says which limit it was.
 * Growth past a maximum that the module itself declares gives -1, as the specification has it. */
struct wasmwiz_limits {
    uint64_t memory_max; /* bytes, the sum over all memories of the store */
    uint64_t memory_now;
    uint64_t memory_peak;
    uint64_t table_max; /* elements, the sum over all tables of the store */
    uint64_t table_now;
    uint64_t
        *pool_now; /* bytes used by all stores that share the counter; take memory_now back after the store */
    uint64_t pool_max;
    uint64_t last_growth; /* the shim's own, to take a failed growth back */
    uint64_t last_peak;
    uint64_t last_table_growth;
    uint32_t refused; /* enum wasmwiz_refused */
};

/* Installs `limits`; it stays where it is, and so does *pool_now, until the store is deleted. */
void wasmwiz_store_limits(wasmtime_store_t *store, struct wasmwiz_limits *limits);

/* Maps a compiled module out of `fd`, which is taken over. What is in the file is run as native code: only
 * what this engine's own configuration compiled and a seal protected since may come here. */
wasmtime_error_t *wasmwiz_module_open(wasm_engine_t *engine, int fd, wasmtime_module_t **ret_module);

/* Turns off, by name, the proposals that have no place here, whether or not they are compiled in. */
void wasmwiz_config_turn_off(wasm_config_t *config);

/* Rust's mangled name as its author wrote it, without the hash, cut at `size`: bytes written, 0 when it is no such name. */
size_t wasmwiz_demangle(const char *name, size_t len, char *out, size_t size);

#endif
