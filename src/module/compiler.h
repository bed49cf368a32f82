/* Compiler processes: one job each, killable, limited. A spare one waits, so that a job does not pay for its start. */
#ifndef WW_MODULE_COMPILER_H
#define WW_MODULE_COMPILER_H

#include "base/err.h"
#include "base/loop.h"

struct compiler_config {
    uint64_t wall_ns; /* a job may take this long */
    uint64_t address_space_bytes;
    uint64_t cpu_seconds;
    uint64_t code_bytes_max;
    uint64_t memory_max_bytes; /* of the engine: the server-wide ceiling of a guest's memory */
    uint32_t processes_max;    /* jobs at once */
    uint32_t queue_max;        /* jobs that wait */
    bool keep_spare;
};

struct compiler;

/* One job. The caller fills the first part and keeps it until done() was called, on the compiler's loop. */
struct compile_job {
    int wasm_fd; /* read from its start; both descriptors stay the caller's */
    int code_fd; /* written; nobody else writes to it */
    bool fuel;
    void (*done)(struct compile_job *job);
    enum err err; /* OK, MODULE_INVALID, COMPILE_LIMIT, BUSY, INTERNAL */
    struct err_info info;
    uint64_t took_ns;
    /* The compiler's. */
    struct list link;
    unsigned tries;
};

MUST_CHECK enum err compiler_new(struct loop *loop, const struct compiler_config *config,
                                 struct compiler **ret_compiler, struct err_info *reterr);
/* On the compiler's loop. When done() is called, the process that had the descriptors is dead. */
void compiler_submit(struct compiler *c, struct compile_job *job);
void compiler_stop(struct compiler *c); /* kills all; jobs end with SHUTTING_DOWN */
void compiler_free(struct compiler *c);
/* Jobs under way and waiting. */
uint32_t compiler_load(const struct compiler *c);

#endif
