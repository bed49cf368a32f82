#include "executor/pool.h"

#include "sandbox/engine.h"

/* Above each count is a bit that it never reaches. Where these bits are set in what there is, subtracting what is
 * used clears the bit of a count that is not enough, and leaves the other counts alone. */
enum { COUNT_BITS = 20, FIELD_BITS = COUNT_BITS + 1 };

static const uint64_t guards = (uint64_t)1 << COUNT_BITS | (uint64_t)1 << (FIELD_BITS + COUNT_BITS) |
                               (uint64_t)1 << (2 * FIELD_BITS + COUNT_BITS);

static uint64_t pack(uint64_t runs, uint64_t memories, uint64_t tables)
{
    return runs | memories << FIELD_BITS | tables << (2 * FIELD_BITS);
}

static uint64_t places_of(const struct exec_code *code)
{
    return pack(1, code->memories, code->tables);
}

static bool is_within(uint64_t used, struct exec_pool_size size)
{
    return (((size.places | guards) - used) & guards) == guards;
}

struct exec_pool_size exec_pool_size(const struct engine_config *config)
{
    uint32_t memories = engine_pool_memories(config), tables = engine_pool_tables(config);
    /* Every loop of the front may have added a run's places for a moment before it finds that they are too many. */
    WW_ASSERT(MAX(config->slots, MAX(memories, tables)) < 1U << (COUNT_BITS - 1));
    WW_ASSERT(memories >= ENGINE_MEMORIES_MAX &&
              tables >= ENGINE_TABLES_MAX); /* any module fits an empty one */
    return (struct exec_pool_size){.places = pack(config->slots, memories, tables)};
}

bool exec_pool_fits(const struct exec_pool *p, struct exec_pool_size size, const struct exec_code *code)
{
    return is_within(atomic_load_explicit(&p->used, memory_order_relaxed) + places_of(code), size);
}

bool exec_pool_take(struct exec_pool *p, struct exec_pool_size size, const struct exec_code *code)
{
    uint64_t places = places_of(code);
    if (is_within(atomic_fetch_add(&p->used, places) + places, size))
        return true;
    atomic_fetch_sub(&p->used, places);
    return false;
}

void exec_pool_give_back(struct exec_pool *p, const struct exec_code *code)
{
    atomic_fetch_sub(&p->used, places_of(code));
}

uint32_t exec_pool_runs(const struct exec_pool *p)
{
    return (uint32_t)atomic_load_explicit(&p->used, memory_order_relaxed) & ((1U << COUNT_BITS) - 1);
}
