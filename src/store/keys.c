#include "store/keys.h"

#include "store/driver.h"

enum { EACH_PAGE = 500 };

static void take_key(struct store_reader *r, struct store_key *key)
{
    memset(key, 0, sizeof *key);
    store_read_text(r, key->id, sizeof key->id);
    store_read_text(r, key->name, sizeof key->name);
    store_read_text(r, key->prefix, sizeof key->prefix);
    store_read_text(r, key->tier, sizeof key->tier);
    store_read_bytes(r, key->hash, sizeof key->hash);
    key->created_ns = store_read_number(r);
    key->expires_ns = store_read_number(r);
    key->revoked_ns = store_read_number(r);
    store_read_text(r, key->user_id, sizeof key->user_id);
    key->last_used_ns = store_read_number(r);
}

/* A constraint that a new or changed key ran against. */
MUST_CHECK static enum err explain(enum err e, const struct store_call *call, const char *name,
                                   const char *tier, const char *user_id, struct err_info *reterr)
{
    if (e != ERR_CONFLICT)
        return e;
    if (store_fault_is(call, STORE_FAULT_UNIQUE, "api_keys_live_name"))
        return err_set(reterr, e, "the name \"%s\" is used by a key that is not revoked", name ? name : "");
    if (call->fault == STORE_FAULT_UNIQUE)
        return err_set(reterr, e, "a key with this id or hash is already there");
    if (call->fault == STORE_FAULT_FOREIGN)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no tier \"%s\", or no user \"%s\"",
                       tier ? tier : "", user_id);
    return err_set(reterr, ERR_FIELD_INVALID,
                   "a key needs an id of %d characters, a name of 1 to %d and a tier of 1 to %d",
                   STORE_ID_BYTES - 1, STORE_NAME_MAX, STORE_TIER_BYTES - 1);
}

/* An insertion; `max`: of keys that the user may have, 0 = it is not looked at. */
struct insertion {
    struct store_call lock, count, insert;
    uint64_t max;
    uint64_t counted;
};

static enum err take_count(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct store_reader r = {row, false};
    *(uint64_t *)ctx = store_read_number(&r);
    return store_read_end(&r, "a count of keys", reterr);
}

static enum err insert_within(void *ctx, struct store_conn *conn, struct err_info *reterr)
{
    struct insertion *i = ctx;
    enum err e = store_conn_run(conn, &i->lock, reterr);
    if (!e)
        e = store_conn_run(conn, &i->count, reterr);
    if (!e && i->counted >= i->max)
        return err_set(reterr, ERR_CONFLICT, "the account has %llu keys, which is its limit; revoke one",
                       (unsigned long long)i->counted);
    return e ? e : store_conn_run(conn, &i->insert, reterr);
}

MUST_CHECK static enum err insert(struct store *s, const struct store_key *key, uint64_t max,
                                  struct err_info *reterr)
{
    struct store_value values[] = {
        store_cstr("id", key->id),
        store_cstr("name", key->name),
        store_cstr("prefix", key->prefix),
        store_cstr("tier", key->tier),
        store_bytes("hash", key->hash, sizeof key->hash),
        store_number("created_ns", key->created_ns),
        store_number("expires_ns", key->expires_ns),
        store_number("revoked_ns", key->revoked_ns),
        store_optional("user_id", key->user_id),
        store_number("last_used_ns", key->last_used_ns),
    };
    struct store_value user = store_cstr("user_id", key->user_id);
    struct insertion i = {
        .max = max,
        .lock = {.statement = SQL_KEY_LOCK, .values = &user, .count = 1},
        .count = {.statement = SQL_KEY_COUNT, .values = &user, .count = 1, .each = take_count},
        .insert = {.statement = SQL_KEY_INSERT, .values = values, .count = LENGTH_OF(values)},
    };
    i.count.ctx = &i.counted;
    enum err e =
        max ? store_transact(s, insert_within, &i, reterr) : store_run(s, STORE_WRITE, &i.insert, reterr);
    if (e == ERR_CONFLICT && max && i.counted >= max)
        return e;
    return explain(e, &i.insert, key->name, key->tier, key->user_id, reterr);
}

enum err store_key_insert(struct store *s, const struct store_key *key, struct err_info *reterr)
{
    return insert(s, key, 0, reterr);
}

enum err store_key_insert_within(struct store *s, const struct store_key *key, uint64_t max,
                                 struct err_info *reterr)
{
    return insert(s, key, max, reterr);
}

struct found {
    struct store_key *key;
    struct store_user *user; /* NULL: not asked for */
    bool found;
};

static enum err take_found(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct found *f = ctx;
    struct store_reader r = {row, false};
    struct store_key key;
    struct store_user user = {0};
    take_key(&r, &key);
    /* Without a user its columns are NULL. */
    if (f->user && key.user_id[0])
        store_user_read(&r, &user);
    enum err e = store_read_end(&r, "a key", reterr);
    if (e)
        return e;
    *f->key = key;
    if (f->user)
        *f->user = user;
    f->found = true;
    return OK;
}

MUST_CHECK static enum err find(struct store *s, enum store_statement statement, struct store_value by,
                                struct store_key *ret_key, struct store_user *ret_user,
                                struct err_info *reterr)
{
    struct found f = {.key = ret_key, .user = ret_user};
    struct store_call call = {
        .statement = statement, .values = &by, .count = 1, .each = take_found, .ctx = &f};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    if (!e && !f.found)
        return err_set(reterr, ERR_NOT_FOUND, "there is no key with this %s", by.field);
    return e;
}

enum err store_key_by_hash(struct store *s, const unsigned char hash[static STORE_KEY_HASH_BYTES],
                           struct store_key *ret_key, struct err_info *reterr)
{
    return find(s, SQL_KEY_BY_HASH, store_bytes("hash", hash, STORE_KEY_HASH_BYTES), ret_key, NULL, reterr);
}

enum err store_key_and_user_by_hash(struct store *s, const unsigned char hash[static STORE_KEY_HASH_BYTES],
                                    struct store_key *ret_key, struct store_user *ret_user,
                                    struct err_info *reterr)
{
    return find(s, SQL_KEY_AND_USER_BY_HASH, store_bytes("hash", hash, STORE_KEY_HASH_BYTES), ret_key,
                ret_user, reterr);
}

enum err store_key_by_id(struct store *s, const char *id, struct store_key *ret_key, struct err_info *reterr)
{
    return find(s, SQL_KEY_BY_ID, store_cstr("id", id), ret_key, NULL, reterr);
}

enum err store_key_revoke(struct store *s, struct str id_or_name, uint64_t now_ns, struct err_info *reterr)
{
    WW_ASSERT(now_ns);
    struct store_value values[] = {store_text("id", id_or_name), store_number("revoked_ns", now_ns)};
    struct store_call call = {.statement = SQL_KEY_REVOKE, .values = values, .count = LENGTH_OF(values)};
    /* What can't be a name is not asked for: it may be anything. */
    if (id_or_name.len && id_or_name.len <= STORE_NAME_MAX && store_text_is_clean(id_or_name)) {
        enum err e = store_run(s, STORE_WRITE, &call, reterr);
        if (e || call.changed)
            return e;
    }
    return err_set(reterr, ERR_NOT_FOUND, "no key that is not revoked has the id or name \"%.*s\"",
                   (int)MIN(id_or_name.len, (size_t)STORE_NAME_MAX), id_or_name.p ? id_or_name.p : "");
}

enum err store_key_change(struct store *s, const char *id, const struct store_key_change *change,
                          struct err_info *reterr)
{
    struct store_value expires = store_number("expires_ns", change->expires_ns ? *change->expires_ns : 0);
    expires.is_null = !change->expires_ns;
    struct store_value values[] = {store_cstr("id", id), store_cstr("name", change->name),
                                   store_cstr("tier", change->tier), expires};
    struct store_call call = {.statement = SQL_KEY_CHANGE, .values = values, .count = LENGTH_OF(values)};
    enum err e = store_run_on(s, &call, "key with this id that is not revoked", reterr);
    return explain(e, &call, change->name, change->tier, "", reterr);
}

enum err store_key_delete(struct store *s, const char *id, struct err_info *reterr)
{
    struct store_value by = store_cstr("id", id);
    struct store_call call = {.statement = SQL_KEY_DELETE, .values = &by, .count = 1};
    return store_run_on(s, &call, "key with this id", reterr);
}

struct touches {
    const struct store_key_use *uses;
    size_t count;
};

static void make_touch(void *ctx, size_t i, struct store_value *v)
{
    const struct store_key_use *use = &((const struct touches *)ctx)->uses[i];
    v[0] = store_cstr("id", use->id);
    v[1] = store_number("time_ns", use->time_ns);
}

static enum err touch(void *ctx, struct store_conn *conn, struct err_info *reterr)
{
    struct touches *t = ctx;
    struct store_call call = {
        .statement = SQL_KEY_TOUCH, .count = 2, .rows = t->count, .make_row = make_touch, .ctx = t};
    return store_conn_run(conn, &call, reterr);
}

enum err store_key_touch(struct store *s, const struct store_key_use *uses, size_t count,
                         struct err_info *reterr)
{
    enum err e = OK;
    for (size_t done = 0, rows; !e && done < count; done += rows) {
        rows = MIN(count - done, (size_t)STORE_BATCH_MAX);
        struct touches t = {.uses = uses + done, .count = rows};
        e = store_transact(s, touch, &t, reterr);
    }
    return e;
}

struct page {
    store_key_each_fn *each;
    void *ctx;
    struct store_cursor *cursor;
    size_t given;
    bool stopped;
};

static enum err give_key(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct page *p = ctx;
    struct store_reader r = {row, false};
    struct store_key key;
    if (p->stopped)
        return OK;
    take_key(&r, &key);
    enum err e = store_read_end(&r, "a key", reterr);
    if (e)
        return e;
    store_cursor_set(p->cursor, key.created_ns, key.id);
    p->given++;
    p->stopped = !p->each(p->ctx, &key);
    return OK;
}

MUST_CHECK static enum err give_page(struct store *s, const char *user_id, size_t limit, struct page *p,
                                     struct err_info *reterr)
{
    struct store_value values[] = {STORE_CURSOR_VALUES(p->cursor), store_limit(limit),
                                   store_cstr("user_id", user_id)};
    struct store_call call = {.statement = user_id ? SQL_KEY_PAGE_OF_USER : SQL_KEY_PAGE,
                              .values = values,
                              .count = user_id ? 4 : 3,
                              .each = give_key,
                              .ctx = p};
    return store_run(s, STORE_READ, &call, reterr);
}

enum err store_key_page(struct store *s, const char *user_id, struct store_cursor *cursor, size_t limit,
                        store_key_each_fn *each, void *ctx, struct err_info *reterr)
{
    struct page p = {.each = each, .ctx = ctx, .cursor = cursor};
    return give_page(s, user_id, limit, &p, reterr);
}

enum err store_key_each(struct store *s, store_key_each_fn *each, void *ctx, struct err_info *reterr)
{
    struct store_cursor cursor = {0};
    struct page p = {.each = each, .ctx = ctx, .cursor = &cursor};
    enum err e;
    do {
        p.given = 0;
        e = give_page(s, NULL, EACH_PAGE, &p, reterr);
    } while (!e && !p.stopped && p.given == EACH_PAGE);
    return e;
}
