#include "store/users.h"

#include "store/driver.h"

/* --- tiers --- */

struct tier_walk {
    bool (*each)(void *ctx, const struct store_tier *tier);
    void *ctx;
    bool found;
    bool stopped;
};

static enum err give_tier(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct tier_walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_tier tier = {0};
    if (w->stopped)
        return OK;
    store_read_text(&r, tier.name, sizeof tier.name);
    tier.per_minute = store_read_number(&r);
    tier.per_day = store_read_number(&r);
    tier.concurrency = store_read_number(&r);
    enum err e = store_read_end(&r, "a tier", reterr);
    if (e)
        return e;
    w->found = true;
    w->stopped = !w->each(w->ctx, &tier);
    return OK;
}

static bool copy_tier(void *ctx, const struct store_tier *tier)
{
    *(struct store_tier *)ctx = *tier;
    return false;
}

enum err store_tier_get(struct store *s, const char *name, struct store_tier *ret_tier,
                        struct err_info *reterr)
{
    struct tier_walk w = {.each = copy_tier, .ctx = ret_tier};
    struct store_value by = store_cstr("tier", name);
    struct store_call call = {
        .statement = SQL_TIER_GET, .values = &by, .count = 1, .each = give_tier, .ctx = &w};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    if (!e && !w.found)
        return err_set(reterr, ERR_NOT_FOUND, "there is no tier \"%s\"", name);
    return e;
}

enum err store_tier_put(struct store *s, const struct store_tier *tier, struct err_info *reterr)
{
    struct store_value values[] = {
        store_cstr("tier", tier->name),
        store_number("per_minute", tier->per_minute),
        store_number("per_day", tier->per_day),
        store_number("concurrency", tier->concurrency),
    };
    struct store_call call = {.statement = SQL_TIER_PUT, .values = values, .count = LENGTH_OF(values)};
    enum err e = store_run(s, STORE_WRITE, &call, reterr);
    if (e == ERR_CONFLICT)
        return err_set(
            reterr, ERR_FIELD_INVALID,
            "a tier needs a name of 1 to %d characters, and per_minute, per_day and concurrency above 0",
            STORE_TIER_BYTES - 1);
    return e;
}

enum err store_tier_delete(struct store *s, const char *name, struct err_info *reterr)
{
    struct store_value by = store_cstr("tier", name);
    struct store_call call = {.statement = SQL_TIER_DELETE, .values = &by, .count = 1};
    enum err e = store_run_on(s, &call, "tier with this name", reterr);
    if (e == ERR_CONFLICT)
        return err_set(reterr, e, "the tier \"%s\" is in use by users or keys", name);
    return e;
}

enum err store_tier_each(struct store *s, bool (*each)(void *ctx, const struct store_tier *tier), void *ctx,
                         struct err_info *reterr)
{
    struct tier_walk w = {.each = each, .ctx = ctx};
    struct store_value limit = store_limit(STORE_PAGE_MAX);
    struct store_call call = {
        .statement = SQL_TIER_EACH, .values = &limit, .count = 1, .each = give_tier, .ctx = &w};
    return store_run(s, STORE_READ, &call, reterr);
}

/* --- roles --- */

static const char *const role_names[STORE_ROLE_COUNT] = {
    [STORE_ROLE_USER] = "user",
    [STORE_ROLE_OPERATOR] = "operator",
    [STORE_ROLE_ADMIN] = "admin",
};

const char *store_role_name(enum store_role role)
{
    WW_ASSERT(role < STORE_ROLE_COUNT);
    return role_names[role];
}

bool store_role_parse(struct str word, enum store_role *ret_role)
{
    for (unsigned i = 0; i < STORE_ROLE_COUNT; i++)
        if (str_eq(word, str_of(role_names[i]))) {
            *ret_role = (enum store_role)i;
            return true;
        }
    return false;
}

/* --- users --- */

void store_user_read(struct store_reader *r, struct store_user *user)
{
    memset(user, 0, sizeof *user);
    store_read_text(r, user->id, sizeof user->id);
    store_read_text(r, user->email, sizeof user->email);
    store_read_text(r, user->password_hash, sizeof user->password_hash);
    r->damaged |= !store_role_parse(store_read_str(r), &user->role);
    store_read_text(r, user->tier, sizeof user->tier);
    user->active = store_read_bool(r);
    user->created_ns = store_read_number(r);
    user->updated_ns = store_read_number(r);
}

/* ASCII only, by the program and not by a database's locale, so that it is the same everywhere. */
static void fold(struct str email, char folded[static STORE_EMAIL_BYTES])
{
    size_t len = MIN(email.len, (size_t)STORE_EMAIL_BYTES - 1);
    for (size_t i = 0; i < len; i++)
        folded[i] = (char)(email.p[i] >= 'A' && email.p[i] <= 'Z' ? email.p[i] + ('a' - 'A') : email.p[i]);
    folded[len] = 0;
}

MUST_CHECK static enum err explain(enum err e, const struct store_call *call, const char *email,
                                   const char *tier, struct err_info *reterr)
{
    if (e != ERR_CONFLICT)
        return e;
    /* SQLite names the columns of the index, PostgreSQL the index. */
    if (store_fault_is(call, STORE_FAULT_UNIQUE, "email"))
        return err_set(reterr, e, "there is an account with the address \"%s\" already", email ? email : "");
    if (call->fault == STORE_FAULT_UNIQUE)
        return err_set(reterr, e, "a user with this id is already there");
    if (call->fault == STORE_FAULT_FOREIGN)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no tier \"%s\"", tier ? tier : "");
    return err_set(reterr, ERR_FIELD_INVALID, "a user needs an id of %d characters and an address of 1 to %d",
                   STORE_ID_BYTES - 1, STORE_EMAIL_BYTES - 1);
}

/* The first user: inserted under a lock. */
struct insertion {
    struct store_call *lock, *call;
};

static enum err insert_body(void *ctx, struct store_conn *conn, struct err_info *reterr)
{
    struct insertion *i = ctx;
    enum err e = store_conn_run(conn, i->lock, reterr);
    return e ? e : store_conn_run(conn, i->call, reterr);
}

MUST_CHECK static enum err insert(struct store *s, const struct store_user *user, bool first,
                                  struct err_info *reterr)
{
    char folded[STORE_EMAIL_BYTES];
    fold(str_of(user->email), folded);
    struct store_value values[] = {
        store_cstr("id", user->id),
        store_cstr("email", user->email),
        store_cstr("password_hash", user->password_hash),
        store_cstr("role", store_role_name(user->role)),
        store_cstr("tier", user->tier),
        store_number("active", user->active),
        store_number("created_ns", user->created_ns),
        store_number("updated_ns", user->updated_ns),
        store_cstr("email", folded),
    };
    struct store_call lock = {.statement = SQL_USER_LOCK};
    struct store_call call = {.statement = first ? SQL_USER_INSERT_FIRST : SQL_USER_INSERT,
                              .values = values,
                              .count = LENGTH_OF(values)};
    struct insertion i = {&lock, &call};
    enum err e =
        first ? store_transact(s, insert_body, &i, reterr) : store_run(s, STORE_WRITE, &call, reterr);
    if (!e && !call.changed)
        return err_set(reterr, ERR_CONFLICT, "there is a user already");
    return explain(e, &call, user->email, user->tier, reterr);
}

enum err store_user_insert(struct store *s, const struct store_user *user, struct err_info *reterr)
{
    return insert(s, user, false, reterr);
}

enum err store_user_insert_first(struct store *s, const struct store_user *user, struct err_info *reterr)
{
    return insert(s, user, true, reterr);
}

struct user_walk {
    bool (*each)(void *ctx, const struct store_user *user);
    void *ctx;
    struct store_cursor *cursor; /* NULL: not a page */
    bool found;
    bool stopped;
};

static enum err give_user(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct user_walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_user user;
    if (w->stopped)
        return OK;
    store_user_read(&r, &user);
    enum err e = store_read_end(&r, "a user", reterr);
    if (e)
        return e;
    if (w->cursor)
        store_cursor_set(w->cursor, user.created_ns, user.id);
    w->found = true;
    w->stopped = !w->each(w->ctx, &user);
    return OK;
}

static bool copy_user(void *ctx, const struct store_user *user)
{
    *(struct store_user *)ctx = *user;
    return false;
}

MUST_CHECK static enum err find(struct store *s, enum store_statement statement, const char *field,
                                const char *by, struct store_user *ret_user, struct err_info *reterr)
{
    struct user_walk w = {.each = copy_user, .ctx = ret_user};
    struct store_value value = store_cstr(field, by);
    struct store_call call = {
        .statement = statement, .values = &value, .count = 1, .each = give_user, .ctx = &w};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    if (!e && !w.found)
        return err_set(reterr, ERR_NOT_FOUND, "there is no user with this %s", field);
    return e;
}

enum err store_user_by_id(struct store *s, const char *id, struct store_user *ret_user,
                          struct err_info *reterr)
{
    return find(s, SQL_USER_BY_ID, "id", id, ret_user, reterr);
}

enum err store_user_by_email(struct store *s, struct str email, struct store_user *ret_user,
                             struct err_info *reterr)
{
    char folded[STORE_EMAIL_BYTES];
    /* What can't be an address that is kept is not asked for. */
    if (email.len >= STORE_EMAIL_BYTES || !store_text_is_clean(email))
        return err_set(reterr, ERR_NOT_FOUND, "there is no user with this email");
    fold(email, folded);
    return find(s, SQL_USER_BY_EMAIL, "email", folded, ret_user, reterr);
}

static enum err take_count(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct store_reader r = {row, false};
    *(uint64_t *)ctx = store_read_number(&r);
    return store_read_end(&r, "a count of users", reterr);
}

/* A change of a user that must leave an active administrator. */
struct guarded {
    struct store_call lock, was_admin, change, admins;
    uint64_t was, left;
};

static enum err guarded_body(void *ctx, struct store_conn *conn, struct err_info *reterr)
{
    struct guarded *g = ctx;
    enum err e = store_conn_run(conn, &g->lock, reterr);
    if (!e)
        e = store_conn_run(conn, &g->was_admin, reterr);
    if (!e)
        e = store_conn_run(conn, &g->change, reterr);
    if (!e)
        e = store_conn_run(conn, &g->admins, reterr);
    if (!e && g->was && !g->left)
        return err_set(reterr, ERR_CONFLICT, "this is the last active administrator, and one must be left");
    return e;
}

MUST_CHECK static enum err run_keeping_admin(struct store *s, const char *id, const struct store_call *change,
                                             const char *email, const char *tier, struct err_info *reterr)
{
    struct store_value by = store_cstr("id", id);
    struct guarded g = {
        .lock = {.statement = SQL_USER_LOCK},
        .was_admin = {.statement = SQL_USER_IS_ADMIN, .values = &by, .count = 1, .each = take_count},
        .change = *change,
        .admins = {.statement = SQL_USER_ADMINS, .each = take_count},
    };
    g.was_admin.ctx = &g.was;
    g.admins.ctx = &g.left;
    enum err e = store_transact(s, guarded_body, &g, reterr);
    if (!e && !g.change.changed)
        return err_set(reterr, ERR_NOT_FOUND, "there is no user with this id");
    return e == ERR_CONFLICT && g.change.fault ? explain(e, &g.change, email, tier, reterr) : e;
}

enum err store_user_change(struct store *s, const char *id, const struct store_user_change *change,
                           uint64_t now_ns, struct err_info *reterr)
{
    char folded[STORE_EMAIL_BYTES];
    if (change->email)
        fold(str_of(change->email), folded);
    struct store_value active = store_number("active", change->active && *change->active);
    active.is_null = !change->active;
    struct store_value values[] = {
        store_cstr("id", id),
        store_cstr("email", change->email),
        store_cstr("email", change->email ? folded : NULL),
        store_cstr("password_hash", change->password_hash),
        store_cstr("role", change->role ? store_role_name(*change->role) : NULL),
        store_cstr("tier", change->tier),
        active,
        store_number("updated_ns", now_ns),
        store_cstr("password_hash", change->if_password_hash),
    };
    enum err e = OK;
    if (change->email)
        e = store_check_length("email", strlen(change->email), 1, STORE_EMAIL_BYTES - 1, reterr);
    if (!e && change->password_hash)
        e = store_check_length("password_hash", strlen(change->password_hash), 0,
                               STORE_PASSWORD_HASH_BYTES - 1, reterr);
    if (e)
        return e;
    struct store_call call = {.statement = SQL_USER_CHANGE, .values = values, .count = LENGTH_OF(values)};
    if (change->keep_admin)
        return run_keeping_admin(s, id, &call, change->email, change->tier, reterr);
    e = store_run_on(s, &call, "user with this id", reterr);
    return explain(e, &call, change->email, change->tier, reterr);
}

enum err store_user_delete(struct store *s, const char *id, struct err_info *reterr)
{
    struct store_value by = store_cstr("id", id);
    struct store_call call = {.statement = SQL_USER_DELETE, .values = &by, .count = 1};
    return store_run_on(s, &call, "user with this id", reterr);
}

enum err store_user_delete_keep_admin(struct store *s, const char *id, struct err_info *reterr)
{
    struct store_value by = store_cstr("id", id);
    struct store_call call = {.statement = SQL_USER_DELETE, .values = &by, .count = 1};
    return run_keeping_admin(s, id, &call, NULL, NULL, reterr);
}

enum err store_user_count(struct store *s, enum store_role least, uint64_t *ret_count,
                          struct err_info *reterr)
{
    struct store_value values[STORE_ROLE_COUNT];
    uint64_t count = 0;
    for (unsigned i = 0; i < STORE_ROLE_COUNT; i++)
        values[i] = store_cstr("role", role_names[MAX(i, (unsigned)least)]);
    struct store_call call = {.statement = SQL_USER_COUNT,
                              .values = values,
                              .count = STORE_ROLE_COUNT,
                              .each = take_count,
                              .ctx = &count};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    if (!e)
        *ret_count = count;
    return e;
}

enum err store_user_page(struct store *s, struct store_cursor *cursor, size_t limit,
                         bool (*each)(void *ctx, const struct store_user *user), void *ctx,
                         struct err_info *reterr)
{
    struct user_walk w = {.each = each, .ctx = ctx, .cursor = cursor};
    struct store_value values[] = {STORE_CURSOR_VALUES(cursor), store_limit(limit)};
    struct store_call call = {.statement = SQL_USER_PAGE,
                              .values = values,
                              .count = LENGTH_OF(values),
                              .each = give_user,
                              .ctx = &w};
    return store_run(s, STORE_READ, &call, reterr);
}
