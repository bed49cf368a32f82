/* What was told already, and which modules fail. */
#include <openssl/rand.h>

#include "webhook/internal.h"

void webhook_watch_init(struct webhook_watch *watch)
{
    memset(watch, 0, sizeof *watch);
    /* Secret, so that nobody finds names that share a place. */
    WW_ASSERT(RAND_bytes((unsigned char *)&watch->seed, sizeof watch->seed) == 1);
    WW_ASSERT(uv_mutex_init(&watch->mutex) == 0);
}

void webhook_watch_done(struct webhook_watch *watch)
{
    uv_mutex_destroy(&watch->mutex);
}

/* FNV-1a, from a secret start. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3;
    return hash ^ hash >> 29;
}

bool webhook_watch_limit(struct webhook_watch *watch, struct str key, struct str what, uint64_t window)
{
    uint64_t place = mix(mix(watch->seed, key.p, key.len), what.p, what.len);
    uint64_t told = mix(place, &window, sizeof window) | 1; /* never that of an empty place */
    return atomic_exchange(&watch->limits[place % WATCH_LIMITS], told) != told;
}

/* --- modules ------------------------------------------------------------------------------------ */
static uint64_t last_ns(const struct webhook_failing *f)
{
    return f->times_ns[(f->count + WEBHOOK_FAILURES - 1) % WEBHOOK_FAILURES];
}

static bool is_of(const struct webhook_failing *f, const char *user_id, const unsigned char *sha)
{
    return strcmp(f->user_id, user_id) == 0 && memcmp(f->sha, sha, sizeof f->sha) == 0;
}

/* That of the module; else a free one, or the one that has failed longest ago, as a new one. */
static struct webhook_failing *take_place(struct webhook_failing *failing, atomic_uint *used,
                                          const char *user_id, const unsigned char *sha)
{
    struct webhook_failing *best = &failing[0];
    for (size_t i = 0; i < WATCH_WAYS; i++) {
        struct webhook_failing *f = &failing[i];
        if (is_of(f, user_id, sha))
            return f;
        if (!f->user_id[0] || (best->user_id[0] && last_ns(f) < last_ns(best)))
            best = f;
    }
    if (!best->user_id[0])
        atomic_fetch_add(used, 1);
    *best = (struct webhook_failing){0};
    snprintf(best->user_id, sizeof best->user_id, "%s", user_id);
    memcpy(best->sha, sha, sizeof best->sha);
    return best;
}

static bool note_failure(struct webhook_failing *f, uint64_t now_ns)
{
    uint64_t hour = now_ns / (3600 * NS_PER_S) + 1;
    f->times_ns[f->count++ % WEBHOOK_FAILURES] = now_ns;
    uint64_t oldest_ns = f->times_ns[f->count % WEBHOOK_FAILURES];
    if (f->count < WEBHOOK_FAILURES || now_ns - oldest_ns > WEBHOOK_FAILURES_WITHIN_NS ||
        f->told_hour == hour)
        return false;
    f->told_hour = hour;
    return true;
}

bool webhook_watch_run(struct webhook_watch *watch, const char *user_id, const struct webhook_run *run)
{
    uint64_t place;
    memcpy(&place, run->sha, sizeof place);
    place = (place ^ watch->seed) % WATCH_SETS;
    atomic_uint *used = &watch->sets[place].used;
    if (!run->failed && atomic_load_explicit(used, memory_order_relaxed) == 0)
        return false;
    struct webhook_failing *failing = watch->sets[place].failing;
    bool tell = false;
    uv_mutex_lock(&watch->mutex);
    if (run->failed)
        tell = note_failure(take_place(failing, used, user_id, run->sha), run->wall_ns);
    for (size_t i = 0; !run->failed && i < WATCH_WAYS; i++)
        if (is_of(&failing[i], user_id, run->sha)) {
            failing[i] = (struct webhook_failing){0};
            atomic_fetch_sub(used, 1);
        }
    uv_mutex_unlock(&watch->mutex);
    return tell;
}
