#include "auth/jwks.h"

#include <stdatomic.h>

struct auth_jwks {
    atomic_uint refs;
    size_t count;
    struct auth_jwk keys[AUTH_JWKS_KEYS_MAX];
};

struct auth_jwks *auth_jwks_new(void)
{
    struct auth_jwks *set = xcalloc(1, sizeof *set);
    atomic_init(&set->refs, 1);
    return set;
}

struct auth_jwks *auth_jwks_ref(struct auth_jwks *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void auth_jwks_unref(struct auth_jwks *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < set->count; i++)
        auth_jwk_done(&set->keys[i]);
    free(set);
}

void auth_jwks_unrefp(struct auth_jwks **set)
{
    auth_jwks_unref(*set);
    *set = NULL;
}

size_t auth_jwks_count(const struct auth_jwks *set)
{
    return set->count;
}

const struct auth_jwk *auth_jwks_find(const struct auth_jwks *set, enum auth_jwt_alg alg, struct str kid)
{
    const struct auth_jwk *only = NULL;
    size_t count = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct auth_jwk *key = &set->keys[i];
        if (key->alg != alg)
            continue;
        if (kid.len && str_eq(kid, str_of(key->kid)))
            return key;
        only = key;
        count++;
    }
    return count == 1 && (!kid.len || !only->kid[0]) ? only : NULL;
}

enum err auth_jwks_add(struct auth_jwks *set, struct auth_jwk *key, struct err_info *reterr)
{
    enum err e = OK;
    for (size_t i = 0; !e && i < set->count; i++)
        if (set->keys[i].alg == key->alg && strcmp(set->keys[i].kid, key->kid) == 0)
            e = err_set(reterr, ERR_FIELD_INVALID, "two keys are for %s and have the same \"kid\", or none",
                        auth_jwt_alg_name(key->alg));
    if (!e && set->count == AUTH_JWKS_KEYS_MAX)
        e = err_set(reterr, ERR_FIELD_INVALID, "there are more than %d keys", AUTH_JWKS_KEYS_MAX);
    if (e) {
        auth_jwk_done(key);
        return e;
    }
    set->keys[set->count++] = *key;
    *key = (struct auth_jwk){0};
    return OK;
}

/* Of the set's members; `keys` is lent. */
MUST_CHECK static enum err add_members(struct auth_jwks *set, const json_t *keys, struct err_info *reterr)
{
    struct err_info first = {0};
    size_t i, added = 0;
    const json_t *member;
    if (!json_is_array(keys) || json_array_size(keys) > AUTH_JWKS_KEYS_MAX)
        return err_set(reterr, ERR_FIELD_INVALID, "the JWK set must have \"keys\", a list of at most %d",
                       AUTH_JWKS_KEYS_MAX);
    json_array_foreach(keys, i, member)
    {
        struct auth_jwk key = {0};
        struct err_info why = {0};
        if (auth_jwk_from_json(member, &key, &why)) {
            if (!first.code)
                first = why;
            continue;
        }
        enum err e = auth_jwks_add(set, &key, reterr);
        if (e)
            return e;
        added++;
    }
    if (!added)
        return err_set(reterr, ERR_FIELD_INVALID, "the JWK set has no key that can serve%s%s",
                       first.code ? "; of the first: " : "", first.text);
    return OK;
}

enum err auth_jwks_add_json(struct auth_jwks *set, struct str text, struct err_info *reterr)
{
    json_error_t at;
    if (text.len > AUTH_JWKS_BYTES_MAX)
        return err_set(reterr, ERR_FIELD_INVALID, "the JWK set is longer than %d bytes", AUTH_JWKS_BYTES_MAX);
    json_t *root = json_loadb(text.p ? text.p : "", text.len, JSON_REJECT_DUPLICATES, &at);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(reterr, ERR_FIELD_INVALID, "the JWK set is no JSON object, or has a member twice");
    }
    enum err e = add_members(set, json_object_get(root, "keys"), reterr);
    json_decref(root);
    return e;
}
