#include "auth/cache.h"

#include <openssl/crypto.h>

struct auth_cache {
    struct auth_cache_entry *entries;
    struct auth_cache_entry **buckets;
    size_t bucket_mask;
    struct list used; /* newest first */
    struct list unused;
};

struct auth_cache *auth_cache_new(size_t max)
{
    struct auth_cache *c = xcalloc(1, sizeof *c);
    size_t buckets = 1;
    max = MAX(max, (size_t)1);
    while (buckets < max)
        buckets *= 2;
    c->entries = xcalloc(max, sizeof *c->entries);
    c->buckets = xcalloc(buckets, sizeof *c->buckets);
    c->bucket_mask = buckets - 1;
    list_init(&c->used);
    list_init(&c->unused);
    for (size_t i = 0; i < max; i++)
        list_push_back(&c->unused, &c->entries[i].recency);
    return c;
}

void auth_cache_free(struct auth_cache *c)
{
    if (!c)
        return;
    auth_cache_clear(c);
    free(c->entries);
    free(c->buckets);
    free(c);
}

/* Where the pointer to the entry of `mac` stands, or would stand. */
static struct auth_cache_entry **slot_of(struct auth_cache *c, const unsigned char *mac)
{
    size_t hash;
    memcpy(&hash, mac, sizeof hash);
    struct auth_cache_entry **slot = &c->buckets[hash & c->bucket_mask];
    while (*slot && CRYPTO_memcmp((*slot)->mac, mac, AUTH_MAC_BYTES) != 0)
        slot = &(*slot)->next;
    return slot;
}

struct auth_cache_entry *auth_cache_find(struct auth_cache *c, const unsigned char mac[static AUTH_MAC_BYTES])
{
    struct auth_cache_entry *entry = *slot_of(c, mac);
    if (entry) {
        list_remove(&entry->recency);
        list_push_front(&c->used, &entry->recency);
    }
    return entry;
}

void auth_cache_remove(struct auth_cache *c, const unsigned char mac[static AUTH_MAC_BYTES])
{
    struct auth_cache_entry **slot = slot_of(c, mac), *entry = *slot;
    if (!entry)
        return;
    *slot = entry->next;
    auth_principal_unref(TAKE(entry->who));
    list_remove(&entry->recency);
    list_push_front(&c->unused, &entry->recency);
}

void auth_cache_put(struct auth_cache *c, const unsigned char mac[static AUTH_MAC_BYTES],
                    struct auth_principal *who, uint64_t until_ns)
{
    auth_cache_remove(c, mac);
    if (list_is_empty(&c->unused))
        auth_cache_remove(c, LIST_ENTRY(c->used.prev, struct auth_cache_entry, recency)->mac);
    struct auth_cache_entry *entry = LIST_ENTRY(list_pop_front(&c->unused), struct auth_cache_entry, recency);
    struct auth_cache_entry **slot = slot_of(c, mac);
    memcpy(entry->mac, mac, sizeof entry->mac);
    entry->who = who ? auth_principal_ref(who) : NULL;
    entry->until_ns = until_ns;
    entry->next = NULL;
    *slot = entry;
    list_push_front(&c->used, &entry->recency);
}

void auth_cache_clear(struct auth_cache *c)
{
    LIST_EACH(link, &c->used)
    {
        auth_principal_unref(TAKE(LIST_ENTRY(link, struct auth_cache_entry, recency)->who));
        list_remove(link);
        list_push_front(&c->unused, link);
    }
    memset(c->buckets, 0, (c->bucket_mask + 1) * sizeof *c->buckets);
}
