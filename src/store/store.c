/* Opens a store over one of the backends, lends its connections to the families, and reads rows for them. */
#include "store/driver.h"

#include <unistd.h>

#include "base/clock.h"

enum {
    DEFAULT_POOL_MAX = 8,
    DEFAULT_TIMEOUT_S = 5,
    DEFAULT_LIFETIME_S = 1800,
    MIGRATION_TIMEOUT_S = 3600, /* of one step over large tables */
    SQLITE_READERS = 4,
    CLASH_RETRIES = 8,
    CLASH_PAUSE_US = 3000,
    DESCRIPTION_BYTES = 512,
};

struct store {
    const struct store_ops *ops;
    char *url, *replica_url; /* a path where SQLite is meant */
    char description[DESCRIPTION_BYTES];
    struct store_pool primary, second; /* second: SQLite's readers, or PostgreSQL's replica */
    bool has_second;
    struct store_pool *pool_of[STORE_USES];
};

static const char *const statements[SQL_COUNT][2] = {
#define SAME(name, sql) [SQL_##name] = {sql, sql},
#define DIFFER(name, sqlite, postgres) [SQL_##name] = {sqlite, postgres},
#include "store/statements.def"
};

const char *store_statement_sql(enum store_statement statement, bool postgres)
{
    return statements[statement][postgres];
}

/* --- opening --- */

static bool is_postgres(struct str url)
{
    return str_starts_with(url, STR_LIT("postgres://")) || str_starts_with(url, STR_LIT("postgresql://"));
}

const char *store_sqlite_path(const char *url)
{
    if (strncmp(url, "sqlite://", 9) == 0)
        return url + 9;
    if (strncmp(url, "sqlite:", 7) == 0)
        return url + 7;
    return strstr(url, "://") ? NULL : url;
}

static void fill_pool(struct store *s, struct store_pool *p, const struct store_config *config)
{
    p->ops = s->ops;
    p->url = s->url;
    p->timeout_ns = config->timeout_ns ? config->timeout_ns : DEFAULT_TIMEOUT_S * NS_PER_S;
    p->statement_ns = p->timeout_ns;
    if (s->ops->embedded) {
        p->min = p->max = 1; /* one writer: others would only wait in SQLite instead of here */
        return;
    }
    p->max = config->pool_max ? config->pool_max : DEFAULT_POOL_MAX;
    p->min = MIN(config->pool_min ? config->pool_min : 1, p->max);
    p->lifetime_ns = config->lifetime_ns ? config->lifetime_ns : DEFAULT_LIFETIME_S * NS_PER_S;
}

/* `description`: what store_describe() says. */
MUST_CHECK static enum err check_url(const char *url, char description[static DESCRIPTION_BYTES],
                                     struct err_info *reterr)
{
    if (is_postgres(str_of(url)))
        return store_postgres_check("DATABASE_URL", url, description, DESCRIPTION_BYTES, reterr);
    const char *path = store_sqlite_path(url);
    /* "postgresql:NAME" and the like would become a file of that name. */
    size_t word = strcspn(url, ":/");
    bool is_scheme = path == url && word && url[word] == ':';
    if (!path || !path[0] || is_scheme)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "DATABASE_URL must begin with postgresql:// or sqlite:, or be the path of a file");
    snprintf(description, DESCRIPTION_BYTES, "%s", path);
    return OK;
}

enum err store_check_url(const char *url, struct err_info *reterr)
{
    char unused[DESCRIPTION_BYTES];
    return check_url(url, unused, reterr);
}

enum err store_check_replica_url(const char *url, const char *replica_url, struct err_info *reterr)
{
    char unused[DESCRIPTION_BYTES];
    if (!is_postgres(str_of(url)))
        return err_set(reterr, ERR_FIELD_INVALID, "DATABASE_REPLICA_URL needs PostgreSQL in DATABASE_URL");
    if (!is_postgres(str_of(replica_url)))
        return err_set(reterr, ERR_FIELD_INVALID, "DATABASE_REPLICA_URL must begin with postgresql://");
    return store_postgres_check("DATABASE_REPLICA_URL", replica_url, unused, sizeof unused, reterr);
}

/* Everything that needs no connection. */
MUST_CHECK static enum err prepare(const struct store_config *config, struct store *s,
                                   struct err_info *reterr)
{
    const char *url = config->url ? config->url : "", *path = store_sqlite_path(url);
    bool has_replica = config->replica_url && config->replica_url[0];
    enum err e = check_url(url, s->description, reterr);
    if (!e && has_replica)
        e = store_check_replica_url(url, config->replica_url, reterr);
    if (e)
        return e;
    s->ops = is_postgres(str_of(url)) ? &store_postgres_ops : &store_sqlite_ops;
    s->url = xstrdup(path ? path : url);
    s->replica_url = has_replica ? xstrdup(config->replica_url) : NULL;
    s->has_second = s->ops->embedded || has_replica;
    fill_pool(s, &s->primary, config);
    s->pool_of[STORE_WRITE] = s->pool_of[STORE_READ] = s->pool_of[STORE_READ_STALE] = &s->primary;
    pool_init(&s->primary);
    if (s->has_second) {
        fill_pool(s, &s->second, config);
        s->second.read_only = true;
        s->pool_of[STORE_READ_STALE] = &s->second;
        if (s->ops->embedded) {
            s->second.max = SQLITE_READERS;
            s->pool_of[STORE_READ] = &s->second;
        } else {
            s->second.url = s->replica_url;
            s->second.min = 0; /* it may be down when we start */
        }
        pool_init(&s->second);
    }
    return OK;
}

static void store_closep(struct store **s)
{
    store_close(*s);
}

MUST_CHECK static enum err explain(const struct store *s, enum err e, const struct err_info *why,
                                   struct err_info *reterr)
{
    return err_set(reterr, e, "the database \"%.200s\" can't be used: %s", s->description, err_text(why));
}

enum err store_open_with(const struct store_config *config, struct store **ret_store, struct err_info *reterr)
{
    CLEANUP(store_closep) struct store *s = xcalloc(1, sizeof *s);
    struct err_info why = {0};
    enum err e = prepare(config, s, reterr);
    if (e)
        return e;
    if (s->ops->embedded)
        e = store_migrate_pool(&s->primary, store_schema_version(), NULL, NULL, &why);
    else
        e = store_check_schema(&s->primary, &why);
    if (e)
        return explain(s, e, &why, reterr);
    while (s->primary.total < s->primary.min && s->primary.failures == 0)
        pool_tend(&s->primary);
    *ret_store = TAKE(s);
    return OK;
}

enum err store_open(const char *url, struct store **ret_store, struct err_info *reterr)
{
    return store_open_with(&(struct store_config){.url = url}, ret_store, reterr);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    if (s->pool_of[STORE_WRITE]) {
        if (s->has_second)
            pool_done(&s->second);
        pool_done(&s->primary);
    }
    if (s->url)
        explicit_bzero(s->url, strlen(s->url));
    if (s->replica_url)
        explicit_bzero(s->replica_url, strlen(s->replica_url));
    free(s->url);
    free(s->replica_url);
    free(s);
}

enum err store_migrate(const struct store_config *config, uint64_t target,
                       void (*each)(void *ctx, const struct store_migration *m, bool up), void *ctx,
                       struct err_info *reterr)
{
    CLEANUP(store_closep) struct store *s = xcalloc(1, sizeof *s);
    struct err_info why = {0};
    enum err e = prepare(config, s, reterr);
    if (e)
        return e;
    s->primary.statement_ns = MAX(s->primary.statement_ns, MIGRATION_TIMEOUT_S * NS_PER_S);
    e = store_migrate_pool(&s->primary, target, each, ctx, &why);
    return e ? explain(s, e, &why, reterr) : OK;
}

enum err store_migration_each(const struct store_config *config,
                              void (*each)(void *ctx, const struct store_migration *m), void *ctx,
                              struct err_info *reterr)
{
    CLEANUP(store_closep) struct store *s = xcalloc(1, sizeof *s);
    struct err_info why = {0};
    enum err e = prepare(config, s, reterr);
    if (e)
        return e;
    e = store_migration_walk(&s->primary, each, ctx, &why);
    return e ? explain(s, e, &why, reterr) : OK;
}

const char *store_backend(const struct store *s)
{
    return s->ops->name;
}

const char *store_describe(const struct store *s)
{
    return s->description;
}

/* --- calls --- */

bool store_text_is_clean(struct str text)
{
    for (size_t i = 0; i < text.len;) {
        if (text.p[i] > 0) {
            i++;
            continue;
        }
        size_t len = text.p[i] ? utf8_sequence_length(str_make(text.p + i, text.len - i)) : 0;
        if (!len)
            return false;
        i += len;
    }
    return true;
}

void store_clean_text(char *text)
{
    size_t len;
    for (char *p = text; *p; p += len)
        if (*p > 0)
            len = 1;
        else if (!(len = utf8_sequence_length(str_of(p))))
            *p = '?', len = 1;
}

MUST_CHECK static enum err check_values(const struct store_value *values, size_t count,
                                        struct err_info *reterr)
{
    for (size_t i = 0; i < count; i++) {
        const struct store_value *v = &values[i];
        if (v->kind == STORE_NUMBER && v->number > INT64_MAX)
            return err_set(reterr, ERR_FIELD_INVALID,
                           "%s is %llu, which can't be stored: the limit is 2^63 - 1 (a time: the year 2262)",
                           v->field, (unsigned long long)v->number);
        if (v->kind == STORE_TEXT && !v->is_null && !store_text_is_clean(v->bytes))
            return err_set(reterr, ERR_FIELD_INVALID, "%s is not UTF-8 without NUL", v->field);
    }
    return OK;
}

enum err store_call_row(const struct store_call *call, size_t i, struct store_value *values,
                        struct err_info *reterr)
{
    call->make_row(call->ctx, i, values);
    return check_values(values, call->count, reterr);
}

enum err store_conn_run(struct store_conn *conn, struct store_call *call, struct err_info *reterr)
{
    WW_ASSERT(call->count <= STORE_COLUMNS_MAX && call->rows <= STORE_BATCH_MAX);
    enum err e = call->rows ? OK : check_values(call->values, call->count, reterr);
    if (e)
        return e;
    conn->clashed = false;
    call->changed = 0;
    call->fault = STORE_NO_FAULT;
    call->fault_name[0] = 0;
    return conn->pool->ops->run(conn, call, reterr);
}

/* Once, on a connection of `pool`. */
MUST_CHECK static enum err run_once(struct store_pool *pool, struct store_call *call, bool *ret_broken,
                                    bool *ret_clashed, struct err_info *reterr)
{
    struct store_conn *conn;
    enum err e = pool_lend(pool, &conn, reterr);
    *ret_broken = e != OK;
    *ret_clashed = false;
    if (e)
        return e;
    e = store_conn_run(conn, call, reterr);
    *ret_broken = conn->broken;
    *ret_clashed = conn->clashed;
    pool_return(pool, conn);
    return e;
}

enum err store_run(struct store *s, enum store_use use, struct store_call *call, struct err_info *reterr)
{
    struct store_pool *pool = s->pool_of[use];
    bool broken, clashed, again = use != STORE_WRITE; /* a write that was under way may have happened */
    for (int tries = 0;; tries++) {
        enum err e = run_once(pool, call, &broken, &clashed, reterr);
        if (e && broken && again) {
            again = pool != s->pool_of[STORE_READ];
            pool = s->pool_of[STORE_READ]; /* a replica that is gone is not missed */
        } else if (e && clashed && tries < CLASH_RETRIES) {
            usleep(CLASH_PAUSE_US * ((unsigned)tries + 1));
        } else {
            return e;
        }
    }
}

enum err store_run_on(struct store *s, struct store_call *call, const char *what, struct err_info *reterr)
{
    enum err e = store_run(s, STORE_WRITE, call, reterr);
    if (!e && !call->changed)
        return err_set(reterr, ERR_NOT_FOUND, "there is no %s", what);
    return e;
}

enum err store_prune(struct store *s, enum store_statement statement, uint64_t before_ns, size_t limit,
                     uint64_t *ret_deleted, struct err_info *reterr)
{
    struct store_value values[] = {store_number("before_ns", before_ns), store_number("limit", limit)};
    struct store_call call = {.statement = statement, .values = values, .count = LENGTH_OF(values)};
    enum err e = store_run(s, STORE_WRITE, &call, reterr);
    if (!e)
        *ret_deleted = call.changed;
    return e;
}

enum err store_transact(struct store *s,
                        enum err (*body)(void *ctx, struct store_conn *conn, struct err_info *reterr),
                        void *ctx, struct err_info *reterr)
{
    struct store_pool *pool = s->pool_of[STORE_WRITE];
    for (int tries = 0;; tries++) {
        struct store_conn *conn;
        enum err e = pool_lend(pool, &conn, reterr);
        if (e)
            return e;
        conn->clashed = false;
        e = s->ops->script(conn, s->ops->begin, reterr);
        if (!e) {
            e = body(ctx, conn, reterr);
            if (!e)
                e = s->ops->script(conn, "COMMIT", reterr);
            bool clashed = conn->clashed;
            if (e && !conn->broken && s->ops->script(conn, "ROLLBACK", NULL))
                conn->broken = true;
            conn->clashed = clashed;
        }
        bool again = e && conn->clashed && tries < CLASH_RETRIES;
        pool_return(pool, conn);
        if (!again)
            return e;
        usleep(CLASH_PAUSE_US * ((unsigned)tries + 1));
    }
}

const struct store_ops *store_ops_of(const struct store *s)
{
    return s->ops;
}

enum err store_check_length(const char *field, size_t len, size_t least, size_t most, struct err_info *reterr)
{
    if (len >= least && len <= most)
        return OK;
    return err_set(reterr, ERR_FIELD_INVALID, "%s has %zu bytes; %zu to %zu are allowed", field, len, least,
                   most);
}

bool store_fault_is(const struct store_call *call, enum store_fault fault, const char *word)
{
    return call->fault == fault && strstr(call->fault_name, word);
}

/* --- rows --- */

static const struct store_value *next(struct store_reader *r, int kind)
{
    const struct store_value *v = r->at++;
    if (!v->is_null && (int)v->kind != kind)
        r->damaged = true;
    return v->is_null || r->damaged ? NULL : v;
}

struct str store_read_str(struct store_reader *r)
{
    const struct store_value *v = next(r, STORE_TEXT);
    return v ? v->bytes : STR_LIT("");
}

void store_read_text(struct store_reader *r, char *to, size_t size)
{
    struct str text = store_read_str(r);
    if (text.len >= size || memchr(text.p, 0, text.len)) {
        r->damaged = true;
        text.len = 0;
    }
    memcpy(to, text.p, text.len);
    to[text.len] = 0;
}

size_t store_read_bytes_up_to(struct store_reader *r, void *to, size_t max)
{
    const struct store_value *v = next(r, STORE_BYTES);
    if (!v || v->bytes.len > max) {
        r->damaged = true;
        return 0;
    }
    memcpy(to, v->bytes.p, v->bytes.len);
    return v->bytes.len;
}

void store_read_bytes(struct store_reader *r, void *to, size_t len)
{
    r->damaged |= store_read_bytes_up_to(r, to, len) != len;
}

uint64_t store_read_number(struct store_reader *r)
{
    const struct store_value *v = next(r, STORE_NUMBER);
    if (v && v->number > INT64_MAX)
        r->damaged = true;
    return v ? v->number : 0;
}

bool store_read_bool(struct store_reader *r)
{
    uint64_t number = store_read_number(r);
    r->damaged |= number > 1;
    return number == 1;
}

enum err store_read_end(const struct store_reader *r, const char *what, struct err_info *reterr)
{
    if (!r->damaged)
        return OK;
    return err_set(reterr, ERR_STORE_DOWN, "reading %s: its row in the database is damaged", what);
}

void store_cursor_set(struct store_cursor *c, uint64_t time_ns, const char *id)
{
    c->time_ns = time_ns;
    snprintf(c->id, sizeof c->id, "%s", id);
}

/* --- the store itself --- */

static enum err take_number(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct store_reader r = {row, false};
    *(uint64_t *)ctx = store_read_number(&r);
    return store_read_end(&r, "a number", reterr);
}

enum err store_version(struct store *s, uint64_t *ret_version, struct err_info *reterr)
{
    uint64_t version = 0;
    struct store_call call = {.statement = SQL_CHANGES, .each = take_number, .ctx = &version};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    pool_tend(&s->primary);
    if (s->has_second)
        pool_tend(&s->second);
    if (!e && !version)
        return err_set(reterr, ERR_STORE_DOWN, "the row of store_changes is missing");
    if (!e)
        *ret_version = version;
    return e;
}

enum err store_ping(struct store *s, struct err_info *reterr)
{
    uint64_t version = 0;
    struct store_call call = {.statement = SQL_PING, .each = take_number, .ctx = &version};
    return store_run(s, STORE_READ, &call, reterr);
}

static void add_stats(struct store_stats *sum, struct store_pool *p)
{
    int failed = pthread_mutex_lock(&p->lock);
    WW_ASSERT(!failed);
    sum->connections += p->total;
    sum->connections_in_use += p->lent;
    sum->connects += p->connects;
    sum->connect_failures += p->connect_failures;
    failed = pthread_mutex_unlock(&p->lock);
    WW_ASSERT(!failed);
}

struct store_stats store_stats(struct store *s)
{
    struct store_stats sum = {0};
    add_stats(&sum, &s->primary);
    if (s->has_second)
        add_stats(&sum, &s->second);
    return sum;
}
