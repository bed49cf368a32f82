#include "auth/principal.h"

struct auth_principal *auth_principal_new(enum auth_kind kind)
{
    struct auth_principal *p = xcalloc(1, sizeof *p);
    atomic_init(&p->refs, 1);
    p->kind = kind;
    return p;
}

struct auth_principal *auth_principal_ref(struct auth_principal *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void auth_principal_unref(struct auth_principal *p)
{
    if (p && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
        free(p);
}

void auth_principal_unrefp(struct auth_principal **p)
{
    auth_principal_unref(*p);
    *p = NULL;
}

void auth_principal_set_tier(struct auth_principal *p, const struct store_tier *tier)
{
    snprintf(p->tier, sizeof p->tier, "%s", tier->name);
    p->per_minute = (uint32_t)MIN(tier->per_minute, UINT32_MAX);
    p->per_day = (uint32_t)MIN(tier->per_day, UINT32_MAX);
    p->concurrency = (uint32_t)MIN(tier->concurrency, UINT32_MAX);
}
