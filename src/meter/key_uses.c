#include "meter/key_uses.h"

enum { PLACES = 16384, PROBES = 8 };
static const uint64_t told_every_ns = 60 * NS_PER_S;

struct place {
    char id[STORE_KEY_ID_BYTES]; /* "" = free */
    uint64_t used_ns, told_ns;
};

struct key_uses {
    struct place places[PLACES];
};

struct key_uses *key_uses_new(void)
{
    return xcalloc(1, sizeof(struct key_uses));
}

void key_uses_free(struct key_uses *k)
{
    free(k);
}

/* Ids are random and ours: nobody chooses where they fall. */
static uint32_t place_of(const char *id)
{
    uint32_t hash = 2166136261;
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619;
    return hash;
}

/* The key's place; where it has none, a free one or the one that was used longest ago, with another id in it. */
static struct place *look(struct key_uses *k, const char *id)
{
    uint32_t start = place_of(id);
    struct place *best = NULL;
    for (uint32_t i = 0; i < PROBES; i++) {
        struct place *p = &k->places[(start + i) % PLACES];
        if (strcmp(p->id, id) == 0)
            return p;
        if (!best || p->used_ns < best->used_ns)
            best = p;
    }
    return best;
}

void key_uses_note(struct key_uses *k, const char *key_id, uint64_t time_ns)
{
    if (!key_id[0])
        return;
    struct place *p = look(k, key_id);
    if (strcmp(p->id, key_id) != 0) {
        *p = (struct place){.used_ns = time_ns};
        snprintf(p->id, sizeof p->id, "%s", key_id);
    }
    p->used_ns = MAX(p->used_ns, time_ns);
}

size_t key_uses_due(struct key_uses *k, struct store_key_use *uses, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < PLACES && count < max; i++) {
        const struct place *p = &k->places[i];
        if (!p->id[0] || p->used_ns - p->told_ns < told_every_ns)
            continue;
        memcpy(uses[count].id, p->id, sizeof uses[count].id);
        uses[count++].time_ns = p->used_ns;
    }
    return count;
}

void key_uses_told(struct key_uses *k, const struct store_key_use *uses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct place *p = look(k, uses[i].id);
        if (strcmp(p->id, uses[i].id) == 0)
            p->told_ns = uses[i].time_ns;
    }
}

uint64_t key_uses_since(const struct key_uses *k, uint64_t time_ns)
{
    uint64_t count = 0;
    for (size_t i = 0; i < PLACES; i++)
        count += k->places[i].id[0] && k->places[i].used_ns >= time_ns;
    return count;
}
