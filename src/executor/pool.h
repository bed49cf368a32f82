/* What runs use of a sandbox's pool, all of the front's loops together: instances, memories, tables. The front
 * counts it, so that what does not fit waits in its queue, with the order and the time-out of the queue, and never
 * inside a sandbox. The front knows of an end only after the sandbox gave the places back, so it never counts too
 * little. */
#ifndef WW_EXECUTOR_POOL_H
#define WW_EXECUTOR_POOL_H

#include <stdatomic.h>

#include "executor/executor.h"

/* Three counts in one number: taking and giving back are one addition each. */
struct exec_pool {
    _Atomic uint64_t used;
};

/* How many of each a pool has, in the same form. */
struct exec_pool_size {
    uint64_t places;
};

struct exec_pool_size exec_pool_size(const struct engine_config *config);
/* Whether a run of `code` fits now; another loop may be faster. */
bool exec_pool_fits(const struct exec_pool *p, struct exec_pool_size size, const struct exec_code *code);
/* Takes its places; false: they are not there, and nothing is taken. */
MUST_CHECK bool exec_pool_take(struct exec_pool *p, struct exec_pool_size size, const struct exec_code *code);
void exec_pool_give_back(struct exec_pool *p, const struct exec_code *code);
/* Runs in the sandbox. */
uint32_t exec_pool_runs(const struct exec_pool *p);

#endif
