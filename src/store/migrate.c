/* The schema: numbered steps, up and down, from store/migrations/NNNN_name.{up,down}.sql. The build turns the
 * files into migrations.inc. They are written once for both databases: {words} stand for what differs in a
 * column, and lines behind "-- only sqlite" or "-- only postgres" are for that one, until "-- both". * A step
 * that was released is never changed; a new one is appended. */
#include "store/driver.h"

#include "base/buf.h"
#include "base/clock.h"

struct migration {
    const char *name, *up, *down;
};

static const struct migration migrations[] = {
#define MIGRATION(name, up, down) {name, up, down},
#include "store/migrations.inc"
#undef MIGRATION
};

enum { SCRIPT_MAX = 64 * 1024 };

uint64_t store_schema_version(void)
{
    return LENGTH_OF(migrations);
}

static const char *meaning(const struct store_ops *ops, struct str word)
{
    const struct {
        struct str word;
        const char *meaning;
    } words[] = {
        {STR_LIT("number"), ops->number}, {STR_LIT("bytes"), ops->bytes},
        {STR_LIT("id"), ops->id},         {STR_LIT("serial"), ops->serial},
        {STR_LIT("strict"), ops->strict}, {STR_LIT("clustered"), ops->clustered},
    };
    for (size_t i = 0; i < LENGTH_OF(words); i++)
        if (str_eq(words[i].word, word))
            return words[i].meaning;
    WW_UNREACHABLE("a migration has a word in braces that no dialect knows");
}

/* The file in the words of one dialect. */
static void translate(const struct store_ops *ops, const char *file, struct buf *out)
{
    struct str rest = str_of(file);
    const struct store_ops *only = NULL;
    while (rest.len) {
        struct str line = str_split(&rest, '\n');
        if (str_eq(line, STR_LIT("-- only sqlite")))
            only = &store_sqlite_ops;
        else if (str_eq(line, STR_LIT("-- only postgres")))
            only = &store_postgres_ops;
        else if (str_eq(line, STR_LIT("-- both")))
            only = NULL;
        if (str_starts_with(line, STR_LIT("--")) || (only && only != ops))
            continue;
        while (line.len) {
            size_t brace = str_index(line, '{');
            buf_append(out, line.p, brace);
            if (brace == line.len)
                break;
            line = str_make(line.p + brace + 1, line.len - brace - 1);
            buf_puts(out, meaning(ops, str_split(&line, '}')));
        }
        buf_putc(out, '\n');
    }
    WW_ASSERT(!out->overflow);
}

/* What the database has. */
struct applied {
    uint64_t version;                          /* the last one */
    uint64_t times[LENGTH_OF(migrations) + 1]; /* by version */
};

static enum err take_applied(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct applied *a = ctx;
    struct store_reader r = {row, false};
    uint64_t version = store_read_number(&r), time_ns = store_read_number(&r);
    a->version = MAX(a->version, version);
    if (version < LENGTH_OF(a->times))
        a->times[version] = MAX(time_ns, (uint64_t)1);
    return store_read_end(&r, "the table of migrations", reterr);
}

MUST_CHECK static enum err read_applied(struct store_conn *conn, struct applied *ret, struct err_info *reterr)
{
    struct store_call call = {.statement = SQL_MIGRATION_EACH, .each = take_applied, .ctx = ret};
    *ret = (struct applied){0};
    return store_conn_run(conn, &call, reterr);
}

MUST_CHECK static enum err too_new(uint64_t version, struct err_info *reterr)
{
    return err_set(reterr, ERR_STORE_DOWN,
                   "it has schema version %llu, this program knows none above %zu: use a newer program",
                   (unsigned long long)version, LENGTH_OF(migrations));
}

/* One step, to version `i + 1` or from it, and its note. */
MUST_CHECK static enum err take_step(struct store_conn *conn, size_t i, bool up, struct err_info *reterr)
{
    const struct store_ops *ops = conn->pool->ops;
    struct err_info why = {0};
    struct buf script = buf_make(SCRIPT_MAX);
    translate(ops, up ? migrations[i].up : migrations[i].down, &script);
    enum err e = ops->script(conn, buf_cstr(&script), &why);
    buf_done(&script);
    if (!e) {
        struct store_value values[] = {store_number("version", i + 1),
                                       store_number("applied", clock_wall_ns())};
        struct store_call call = {
            .statement = up ? SQL_MIGRATION_ADD : SQL_MIGRATION_DROP, .values = values, .count = up ? 2 : 1};
        e = store_conn_run(conn, &call, &why);
    }
    if (e)
        return err_set(reterr, ERR_STORE_DOWN, "migration %zu (%s, %s) failed: %s", i + 1, migrations[i].name,
                       up ? "up" : "down", err_text(&why));
    return OK;
}

/* Between BEGIN and COMMIT; *ret_from is the version that was found. */
MUST_CHECK static enum err migrate_locked(struct store_conn *conn, uint64_t target, uint64_t *ret_from,
                                          struct err_info *reterr)
{
    const struct store_ops *ops = conn->pool->ops;
    struct applied applied;
    enum err e = OK;
    if (ops->migration_lock)
        e = ops->script(conn, ops->migration_lock, reterr);
    if (!e)
        e = ops->script(conn, ops->migrations_table, reterr);
    if (!e)
        e = read_applied(conn, &applied, reterr);
    if (e)
        return e;
    if (applied.version > LENGTH_OF(migrations))
        return too_new(applied.version, reterr);
    *ret_from = applied.version;
    for (uint64_t v = applied.version; !e && v < target; v++)
        e = take_step(conn, v, true, reterr);
    for (uint64_t v = applied.version; !e && v > target; v--)
        e = take_step(conn, v - 1, false, reterr);
    return e;
}

enum err store_migrate_pool(struct store_pool *pool, uint64_t target,
                            void (*each)(void *ctx, const struct store_migration *m, bool up), void *ctx,
                            struct err_info *reterr)
{
    WW_ASSERT(target <= LENGTH_OF(migrations));
    struct store_conn *conn;
    uint64_t from = 0;
    enum err e = pool_lend(pool, &conn, reterr);
    if (e)
        return e;
    e = pool->ops->script(conn, pool->ops->begin, reterr);
    if (!e)
        e = migrate_locked(conn, target, &from, reterr);
    if (!e)
        e = pool->ops->script(conn, "COMMIT", reterr);
    /* On a failure the connection is closed, which rolls back; after a change its statements are stale. */
    conn->broken = e || from != target;
    pool_return(pool, conn);
    if (e || !each)
        return e;
    for (uint64_t v = from; v != target; v += v < target ? 1 : (uint64_t)-1) {
        size_t i = (size_t)MIN(v, v < target ? v : v - 1);
        each(ctx, &(struct store_migration){.version = i + 1, .name = migrations[i].name}, from < target);
    }
    return OK;
}

static enum err take_found(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct store_reader r = {row, false};
    *(bool *)ctx = store_read_bool(&r);
    return store_read_end(&r, "the list of tables", reterr);
}

/* What is applied; where there is no table of it, nothing is. Needs no right to make anything. */
MUST_CHECK static enum err look(struct store_pool *pool, struct applied *ret, struct err_info *reterr)
{
    struct store_conn *conn;
    bool found = false;
    struct store_call call = {.statement = SQL_MIGRATION_TABLE, .each = take_found, .ctx = &found};
    enum err e = pool_lend(pool, &conn, reterr);
    if (e)
        return e;
    *ret = (struct applied){0};
    e = store_conn_run(conn, &call, reterr);
    if (!e && found)
        e = read_applied(conn, ret, reterr);
    pool_return(pool, conn);
    return e;
}

enum err store_migration_walk(struct store_pool *pool,
                              void (*each)(void *ctx, const struct store_migration *m), void *ctx,
                              struct err_info *reterr)
{
    struct applied applied;
    enum err e = look(pool, &applied, reterr);
    if (e)
        return e;
    for (size_t i = 0; i < LENGTH_OF(migrations); i++) {
        struct store_migration m = {i + 1, migrations[i].name, applied.times[i + 1]};
        each(ctx, &m);
    }
    return applied.version > LENGTH_OF(migrations) ? too_new(applied.version, reterr) : OK;
}

enum err store_check_schema(struct store_pool *pool, struct err_info *reterr)
{
    struct applied applied;
    enum err e = look(pool, &applied, reterr);
    if (e)
        return e;
    if (applied.version > LENGTH_OF(migrations))
        return too_new(applied.version, reterr);
    if (applied.version < LENGTH_OF(migrations))
        return err_set(
            reterr, ERR_STORE_DOWN,
            "its schema has version %llu and this program needs %zu: run `wasmwiz migrate up` first",
            (unsigned long long)applied.version, LENGTH_OF(migrations));
    return OK;
}
