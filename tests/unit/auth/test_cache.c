/* The cache against the plainest thing that does the same: an array in order of use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/cache.h"

enum { CACHE_MAX = 8, MACS = 12, STEPS = 20000 };

/* They differ only at the end, so all are in one bucket. */
struct mac {
    unsigned char bytes[AUTH_MAC_BYTES];
};

static struct mac mac_of(unsigned number)
{
    struct mac mac = {{0}};
    mac.bytes[AUTH_MAC_BYTES - 1] = (unsigned char)number;
    return mac;
}

struct model {
    struct {
        unsigned number;
        uint64_t until_ns;
    } entries[CACHE_MAX]; /* newest first */
    size_t count;
};

static size_t model_index(const struct model *m, unsigned number)
{
    size_t i = 0;
    while (i < m->count && m->entries[i].number != number)
        i++;
    return i;
}

static void model_remove(struct model *m, size_t i)
{
    if (i < m->count)
        memmove(&m->entries[i], &m->entries[i + 1], (--m->count - i) * sizeof m->entries[0]);
}

static void model_put(struct model *m, unsigned number, uint64_t until_ns)
{
    model_remove(m, model_index(m, number));
    if (m->count == CACHE_MAX)
        m->count--;
    memmove(&m->entries[1], &m->entries[0], m->count++ * sizeof m->entries[0]);
    m->entries[0].number = number;
    m->entries[0].until_ns = until_ns;
}

static void does_what_the_model_does(void **state)
{
    (void)state;
    struct auth_cache *c = auth_cache_new(CACHE_MAX);
    struct model m = {0};
    uint32_t random = 1;
    for (uint64_t step = 1; step <= STEPS; step++) {
        random = random * 1664525 + 1013904223;
        unsigned number = (random >> 8) % MACS;
        struct mac mac = mac_of(number);
        unsigned action = (random >> 24) % 64;
        size_t i = model_index(&m, number);
        if (action == 0) {
            auth_cache_clear(c);
            m.count = 0;
        } else if (action < 12) {
            auth_cache_remove(c, mac.bytes);
            model_remove(&m, i);
        } else if (action < 32) {
            auth_cache_put(c, mac.bytes, NULL, step);
            model_put(&m, number, step);
        } else {
            struct auth_cache_entry *entry = auth_cache_find(c, mac.bytes);
            assert_true((entry != NULL) == (i < m.count));
            if (entry) {
                assert_memory_equal(entry->mac, mac.bytes, sizeof mac.bytes);
                assert_int_equal(entry->until_ns, m.entries[i].until_ns);
                model_put(&m, number, m.entries[i].until_ns);
            }
        }
    }
    auth_cache_free(c);
}

static void holds_its_own_references(void **state)
{
    (void)state;
    struct auth_cache *c = auth_cache_new(0); /* has room for one all the same */
    struct auth_principal *key = xcalloc(1, sizeof *key);
    struct mac a = mac_of(1), b = mac_of(2);
    atomic_init(&key->refs, 1);
    auth_cache_put(c, a.bytes, key, 0);
    assert_int_equal(key->refs, 2);
    auth_cache_put(c, a.bytes, key, 0);
    assert_int_equal(key->refs, 2);
    auth_cache_put(c, b.bytes, key, 0);
    assert_int_equal(key->refs, 2);
    assert_null(auth_cache_find(c, a.bytes));
    auth_cache_clear(c);
    assert_int_equal(key->refs, 1);
    auth_cache_put(c, a.bytes, key, 0);
    auth_cache_free(c);
    assert_int_equal(key->refs, 1);
    auth_principal_unref(key);
    auth_cache_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(does_what_the_model_does),
        cmocka_unit_test(holds_its_own_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
