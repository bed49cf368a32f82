#include "sandbox/engine.h"

#include <openssl/evp.h>

#include "sandbox/hostfunc.h"

enum {
    KEEP_RESIDENT_BYTES = 256 * 1024, /* of a memory between two runs; see docs/decisions */
    TABLE_KEEP_RESIDENT_BYTES = 16 * 1024,
    FIBER_STACK_BYTES = ENGINE_STACK_BYTES + 256 * 1024,
    EXTRA_SLOTS = 64,
};

uint32_t engine_pool_memories(const struct engine_config *config)
{
    return config->slots + EXTRA_SLOTS;
}

uint32_t engine_pool_tables(const struct engine_config *config)
{
    return config->slots + 2 * EXTRA_SLOTS;
}

uint64_t engine_pool_data_bytes(const struct engine_config *config)
{
    return (uint64_t)config->slots * FIBER_STACK_BYTES +
           (uint64_t)engine_pool_tables(config) * ENGINE_TABLE_ELEMENTS_MAX * sizeof(void *);
}

static void set_proposals(wasm_config_t *c)
{
    wasmwiz_config_turn_off(c);
    wasmtime_config_shared_memory_set(c, false);
    wasmtime_config_gc_support_set(c, false);
    wasmtime_config_wasm_multi_memory_set(c, true);
    wasmtime_config_wasm_tail_call_set(c, true);
    wasmtime_config_wasm_simd_set(c, true);
    wasmtime_config_wasm_relaxed_simd_set(c, true);
    wasmtime_config_wasm_relaxed_simd_deterministic_set(c, true);
    wasmtime_config_cranelift_nan_canonicalization_set(c, true);
}

static void set_pool(wasm_config_t *c, const struct engine_config *config)
{
    wasmtime_pooling_allocation_config_t *p = wasmtime_pooling_allocation_config_new();
    wasmtime_pooling_allocation_config_total_core_instances_set(p, config->slots);
    wasmtime_pooling_allocation_config_total_memories_set(p, engine_pool_memories(config));
    wasmtime_pooling_allocation_config_total_tables_set(p, engine_pool_tables(config));
    wasmtime_pooling_allocation_config_total_stacks_set(p, config->slots);
    wasmtime_pooling_allocation_config_max_memories_per_module_set(p, ENGINE_MEMORIES_MAX);
    wasmtime_pooling_allocation_config_max_tables_per_module_set(p, ENGINE_TABLES_MAX);
    wasmtime_pooling_allocation_config_table_elements_set(p, ENGINE_TABLE_ELEMENTS_MAX);
    wasmtime_pooling_allocation_config_max_memory_size_set(p, config->memory_max_bytes);
    wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(p, KEEP_RESIDENT_BYTES);
    wasmtime_pooling_allocation_config_table_keep_resident_set(p, TABLE_KEEP_RESIDENT_BYTES);
    wasmtime_pooling_allocation_strategy_set(c, p);
    wasmtime_pooling_allocation_config_delete(p);
}

enum err engine_new(const struct engine_config *config, struct engine **ret_engine, struct err_info *reterr)
{
    struct engine *e = xcalloc(1, sizeof *e);
    e->config = *config;
    e->config.memory_max_bytes =
        (config->memory_max_bytes + WASM_PAGE_BYTES - 1) / WASM_PAGE_BYTES * WASM_PAGE_BYTES;
    wasm_config_t *c = wasm_config_new();
    set_proposals(c);
    wasmtime_config_epoch_interruption_set(c, true);
    wasmtime_config_consume_fuel_set(c, config->fuel);
    wasmtime_config_max_wasm_stack_set(c, ENGINE_STACK_BYTES);
    wasmtime_config_async_stack_size_set(c, FIBER_STACK_BYTES);
    wasmtime_config_memory_init_cow_set(c, true);
    wasmtime_config_parallel_compilation_set(c, true);
    wasmtime_config_native_unwind_info_set(c, false);
    if (config->pool)
        set_pool(c, &e->config);
    e->engine = wasm_engine_new_with_config(c);
    if (!e->engine) {
        free(e);
        return err_set(reterr, ERR_INTERNAL, "the WebAssembly engine did not start with %u slots",
                       config->slots);
    }
    if (config->pool) {
        e->linker = wasmtime_linker_new(e->engine);
        enum err err = hostfunc_define_all(e->linker, reterr);
        if (err) {
            engine_free(e);
            return err;
        }
    }
    *ret_engine = e;
    return OK;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    if (e->linker)
        wasmtime_linker_delete(e->linker);
    wasm_engine_delete(e->engine);
    free(e);
}

void engine_error_text(wasmtime_error_t *error, char *out, size_t size)
{
    wasm_name_t message;
    wasmtime_error_message(error, &message);
    size_t len = MIN(message.size, size - 1);
    /* Wasmtime prints a chain: "what\n\nCaused by:\n    why". Backtraces are given apart, as frames. */
    struct str text = str_make(message.data, len);
    size_t at = 0;
    bool blank = false;
    while (text.len && at + 3 < size) {
        struct str line = str_trim(str_split(&text, '\n'));
        if (str_starts_with(line, STR_LIT("error while executing at wasm backtrace")) || blank) {
            blank = str_starts_with(line, STR_LIT("Caused by:")) ? false : true;
            continue;
        }
        if (line.len == 0 || str_starts_with(line, STR_LIT("Caused by:")))
            continue;
        if (at)
            at += (size_t)snprintf(out + at, size - at, ": ");
        size_t room = MIN(line.len, size - at - 1);
        memcpy(out + at, line.p, room);
        at += room;
    }
    out[at] = 0;
    wasm_name_delete(&message);
    wasmtime_error_delete(error);
}

enum err engine_compile(struct engine *e, struct str wasm, wasm_byte_vec_t *ret_code, struct err_info *reterr)
{
    char text[300];
    wasmtime_module_t *module;
    wasmtime_error_t *error = wasmtime_module_new(e->engine, (const uint8_t *)wasm.p, wasm.len, &module);
    if (error) {
        engine_error_text(error, text, sizeof text);
        /* The validator's words for a proposal that is off. */
        if (strstr(text, "not enabled") || strstr(text, "disallowed") || strstr(text, "requires gc"))
            return err_set(reterr, ERR_MODULE_REJECTED, "the module uses a proposal that is off here: %s",
                           text);
        return err_set(reterr, ERR_MODULE_INVALID, "the module does not validate: %s", text);
    }
    error = wasmtime_module_serialize(module, ret_code);
    wasmtime_module_delete(module);
    if (error) {
        engine_error_text(error, text, sizeof text);
        return err_set(reterr, ERR_INTERNAL, "compiled code could not be written out: %s", text);
    }
    return OK;
}

enum err engine_wat_to_wasm(struct str text, wasm_byte_vec_t *ret_wasm, struct err_info *reterr)
{
    char why[300];
    wasmtime_error_t *error = wasmtime_wat2wasm(text.p, text.len, ret_wasm);
    if (!error)
        return OK;
    engine_error_text(error, why, sizeof why);
    return err_set(reterr, ERR_MODULE_INVALID, "the text format does not parse: %s", why);
}

/* What decides whether compiled code may run here: the engine refuses another version or configuration by
 * itself, so this only has to keep their files apart. */
const char *engine_fingerprint(bool fuel)
{
    static char names[2][24];
    char *name = names[fuel];
    if (!name[0]) {
        char text[512];
        unsigned features = 0;
        __builtin_cpu_init();
#define HAS(feature) features = features << 1 | !!__builtin_cpu_supports(feature)
        HAS("sse4.1"), HAS("sse4.2"), HAS("popcnt"), HAS("avx"), HAS("avx2"), HAS("fma"), HAS("bmi"),
            HAS("bmi2");
        HAS("avx512f"), HAS("avx512vl"), HAS("avx512dq"), HAS("avx512bitalg"), HAS("avx512vbmi");
#undef HAS
        snprintf(text, sizeof text, "%s/%s/fuel=%d/stack=%d/cpu=%x/1", WASMTIME_VERSION, WW_VERSION, fuel,
                 ENGINE_STACK_BYTES, features);
        unsigned char digest[32];
        EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL);
        char hex[17];
        hex_encode(digest, 8, hex);
        memcpy(name, hex, sizeof hex);
    }
    return name;
}
