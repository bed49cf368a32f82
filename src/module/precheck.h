/* A first look at a module, before the compiler process sees it: is it WebAssembly at all, is it a core
 * module, and does what it declares stay within the limits? One pass over the section structure in the
 * front, hostile input, no allocation that the input sizes. It is no validator: that is the compiler's job.
 * Format: WebAssembly core specification, section 5 (binary format). */
#ifndef WW_MODULE_PRECHECK_H
#define WW_MODULE_PRECHECK_H

#include "base/err.h"
#include "base/str.h"

struct precheck_limits {
    uint64_t module_bytes;    /* default 10 MiB */
    uint32_t types;           /* 10,000 */
    uint32_t imports;         /* 1,000 */
    uint32_t functions;       /* 100,000 */
    uint64_t function_bytes;  /* one body: 1 MiB (Go's and Zig's largest stay below it) */
    uint32_t function_locals; /* 50,000 as declared, over all groups of one body */
    uint32_t globals;         /* 10,000 */
    uint32_t exports;         /* 10,000 */
    uint32_t tables;          /* 8 */
    uint64_t table_elements;  /* initial elements, all tables: 1,000,000 */
    uint32_t memories;        /* 4 */
    uint64_t memory_bytes;    /* declared minimum, all memories */
    uint32_t elements;        /* segments: 10,000 */
    uint32_t data_segments;   /* 100,000 */
};
/* The defaults above; memory_bytes as given. */
struct precheck_limits precheck_limits_default(uint64_t memory_bytes);

/* What was seen, for metrics and the receipt. */
struct precheck_facts {
    uint32_t types, imports, functions, globals, exports, tables, memories, elements, data_segments;
    uint64_t memory_min_bytes;
    uint64_t largest_function_bytes;
    bool has_start;
    bool has_names;
};

/* Which imports exist. `module`/`name` as in the binary. True: known. A `name` whose .p is NULL asks whether
 * anything of `module` is known: the sentence about an unknown import tells. */
typedef bool precheck_import_known(struct str module, struct str name);

/* OK, or: ERR_NOT_WASM (no magic bytes; the sentence tells text WAT, ELF, gzip, zip or an empty file apart),
 * ERR_MODULE_INVALID (broken structure, with the byte offset), ERR_MODULE_REJECTED (a component, memory64,
 * shared memory, an unknown import, a declaration over its limit: each sentence names the thing, the value
 * and the limit), ERR_MODULE_TOO_LARGE. */
MUST_CHECK enum err module_precheck(struct str wasm, const struct precheck_limits *limits,
                                    precheck_import_known *import_known, struct precheck_facts *ret_facts,
                                    struct err_info *reterr);

#endif
