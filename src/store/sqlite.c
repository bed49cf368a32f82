/* The embedded backend: SQLite in WAL mode. A store has one connection that writes and a few that read;
 * other processes may have the same file open, and SQLite's file locks and the busy timeout keep peace
 * with them. */
#include "store/driver.h"

#include <errno.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

enum { BUSY_PAUSE_US = 5000 };

struct statement {
    sqlite3_stmt *q;               /* NULL: not prepared yet */
    int places[STORE_COLUMNS_MAX]; /* of $1, $2, ... */
    sqlite3_stmt
        *together; /* the same for STORE_TOGETHER rows; NULL: it takes one only, or not prepared yet */
};

struct connection {
    struct store_conn conn;
    sqlite3 *db;
    struct statement statements[SQL_COUNT];
};

static struct connection *of(struct store_conn *conn)
{
    return CONTAINER_OF(conn, struct connection, conn);
}

/* The connection's last failure: what was tried, SQLite's reason, and the system's where there is one. */
MUST_CHECK static enum err down(struct connection *c, const char *doing, struct err_info *reterr)
{
    int code = sqlite3_extended_errcode(c->db), kind = code & 0xff;
    errno = kind == SQLITE_CANTOPEN || kind == SQLITE_IOERR ? sqlite3_system_errno(c->db) : 0;
    if (errno)
        return err_set(reterr, ERR_STORE_DOWN, "%s: %s (SQLite code %d, %m)", doing, sqlite3_errmsg(c->db),
                       code);
    return err_set(reterr, ERR_STORE_DOWN, "%s: %s (SQLite code %d)", doing, sqlite3_errmsg(c->db), code);
}

/* --- opening --- */

MUST_CHECK static enum err run(struct connection *c, const char *sql, const char *doing,
                               struct err_info *reterr)
{
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? OK : down(c, doing, reterr);
}

static int take_is_wal(void *ctx, int columns, char **values, char **names)
{
    (void)columns, (void)names;
    *(bool *)ctx = str_eq(str_of(values[0]), STR_LIT("wal"));
    return 0;
}

/* Turning a new file to WAL gives "busy" at once when another process does the same, whatever the timeout. */
MUST_CHECK static enum err turn_to_wal(struct connection *c, uint64_t timeout_ns, struct err_info *reterr)
{
    uint64_t deadline = clock_now_ns() + timeout_ns;
    bool is_wal = false;
    while (sqlite3_exec(c->db, "PRAGMA journal_mode = WAL", take_is_wal, &is_wal, NULL) != SQLITE_OK) {
        if ((sqlite3_errcode(c->db) & 0xff) != SQLITE_BUSY || clock_now_ns() > deadline)
            return down(c, "turning the database to WAL mode", reterr);
        usleep(BUSY_PAUSE_US);
    }
    if (!is_wal)
        return err_set(reterr, ERR_STORE_DOWN,
                       "it can't be turned to WAL mode where it lies: use a local disk");
    return OK;
}

MUST_CHECK static enum err open_file(struct connection *c, const struct store_pool *pool,
                                     struct err_info *reterr)
{
    /* Made here for its mode, which the WAL files inherit. mknod() never opens it: closing any descriptor of
     * a database drops the locks that this process has on it. */
    if (mknod(pool->url, S_IFREG | 0600, 0) != 0 && errno != EEXIST)
        return err_set(reterr, ERR_STORE_DOWN, "making the file: %m");
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(pool->url, &c->db, flags, NULL) != SQLITE_OK) {
        WW_ASSERT(c->db); /* NULL: no memory */
        return down(c, "opening the file", reterr);
    }
    sqlite3_busy_timeout(c->db, (int)MIN(pool->timeout_ns / NS_PER_MS, (uint64_t)INT32_MAX));
    /* The file may have been in other hands: nothing in its schema gets to run functions or to forge
     * tables. */
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    enum err e = turn_to_wal(c, pool->timeout_ns, reterr);
    /* FULL: a key was shown once, so it must survive a power cut that follows. */
    if (!e)
        e = run(c, "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON", "setting up the connection",
                reterr);
    if (!e && pool->read_only)
        e = run(c, "PRAGMA query_only = ON", "setting up the connection", reterr);
    return e;
}

static void sqlite_disconnect(struct store_conn *conn)
{
    struct connection *c = of(conn);
    for (int i = 0; i < SQL_COUNT; i++) {
        sqlite3_finalize(c->statements[i].q);
        sqlite3_finalize(c->statements[i].together);
    }
    int failed = sqlite3_close(c->db);
    WW_ASSERT(!failed); /* a statement was forgotten */
    free(c);
}

MUST_CHECK static enum err sqlite_connect(struct store_pool *pool, struct store_conn **ret_conn,
                                          struct err_info *reterr)
{
    struct connection *c = xcalloc(1, sizeof *c);
    enum err e = open_file(c, pool, reterr);
    if (e)
        sqlite_disconnect(&c->conn);
    else
        *ret_conn = &c->conn;
    return e;
}

static bool sqlite_is_alive(struct store_conn *conn, uint64_t idle_ns)
{
    (void)conn, (void)idle_ns;
    return true;
}

/* --- calls --- */

MUST_CHECK static enum err statement_get(struct connection *c, enum store_statement which,
                                         struct statement **ret_statement, struct err_info *reterr)
{
    struct statement *st = &c->statements[which];
    if (!st->q) {
        const char *sql = store_statement_sql(which, false);
        if (sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st->q, NULL) != SQLITE_OK)
            return down(c, "preparing a statement", reterr);
        for (int i = 0; i < STORE_COLUMNS_MAX; i++) {
            char name[16];
            snprintf(name, sizeof name, "$%d", i + 1);
            st->places[i] = sqlite3_bind_parameter_index(st->q, name);
        }
    }
    *ret_statement = st;
    return OK;
}

/* A prepared statement at work: reset and without its values when the scope ends. */
static void statement_done(sqlite3_stmt **q)
{
    sqlite3_reset(*q);
    sqlite3_clear_bindings(*q);
}

static void bind_value(sqlite3_stmt *q, int place, const struct store_value *v)
{
    int code;
    if (v->is_null)
        code = sqlite3_bind_null(q, place);
    else if (v->kind == STORE_NUMBER)
        code = sqlite3_bind_int64(q, place, (int64_t)v->number);
    else if (v->kind == STORE_TEXT)
        code = sqlite3_bind_text64(q, place, v->bytes.p ? v->bytes.p : "", v->bytes.len, SQLITE_STATIC,
                                   SQLITE_UTF8);
    else
        code = sqlite3_bind_blob64(q, place, v->bytes.p ? v->bytes.p : "", v->bytes.len, SQLITE_STATIC);
    WW_ASSERT(code == SQLITE_OK); /* a place that the statement does not have, or a value of gigabytes */
}

static void read_row(sqlite3_stmt *q, struct store_value *row)
{
    int columns = sqlite3_column_count(q);
    WW_ASSERT(columns <= STORE_COLUMNS_MAX);
    for (int i = 0; i < columns; i++) {
        struct store_value *v = &row[i];
        *v = (struct store_value){0};
        switch (sqlite3_column_type(q, i)) {
        case SQLITE_INTEGER: *v = store_number("", (uint64_t)sqlite3_column_int64(q, i)); break;
        case SQLITE_TEXT: {
            const void *text = sqlite3_column_text(q, i);
            *v = store_text("", str_make(text, (size_t)sqlite3_column_bytes(q, i)));
            break;
        }
        case SQLITE_NULL: v->is_null = true; break;
        default: { /* and FLOAT, which no column of ours is: its text is no blob of a fitting length */
            const void *blob = sqlite3_column_blob(q, i);
            *v = store_bytes("", blob ? blob : "", (size_t)sqlite3_column_bytes(q, i));
        }
        }
    }
}

/* After a step that failed: a constraint, or the database itself. */
MUST_CHECK static enum err step_failed(struct connection *c, struct store_call *call, struct err_info *reterr)
{
    switch (sqlite3_extended_errcode(c->db)) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY: call->fault = STORE_FAULT_UNIQUE; break;
    case SQLITE_CONSTRAINT_TRIGGER: /* what a deferred or cascading foreign key gives */
    case SQLITE_CONSTRAINT_FOREIGNKEY: call->fault = STORE_FAULT_FOREIGN; break;
    case SQLITE_CONSTRAINT_CHECK:
    case SQLITE_CONSTRAINT_NOTNULL: call->fault = STORE_FAULT_CHECK; break;
    case SQLITE_CONSTRAINT_DATATYPE: /* a sum that is too large becomes a fraction */
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
        return err_set(reterr, ERR_FIELD_INVALID, "the database can't keep it: %s", sqlite3_errmsg(c->db));
    default: return down(c, "using the database", reterr);
    }
    snprintf(call->fault_name, sizeof call->fault_name, "%s", sqlite3_errmsg(c->db));
    return err_set(reterr, ERR_CONFLICT, "the database refused it: %s", call->fault_name);
}

/* Runs the statement with the values it has. */
MUST_CHECK static enum err step(struct connection *c, sqlite3_stmt *q, struct store_call *call,
                                uint64_t *ret_changed, struct err_info *reterr)
{
    int code;
    while ((code = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_value row[STORE_COLUMNS_MAX];
        read_row(q, row);
        enum err e = call->each ? call->each(call->ctx, row, reterr) : OK;
        if (e)
            return e;
    }
    if (code != SQLITE_DONE)
        return step_failed(c, call, reterr);
    *ret_changed = sqlite3_stmt_readonly(q) ? 0 : (uint64_t)sqlite3_changes64(c->db);
    call->changed += *ret_changed;
    return OK;
}

/* "INSERT ... VALUES ($1, ...)" and nothing more: several rows can go in one step, of which each costs as much as a
 * quarter of a row. */
MUST_CHECK static enum err prepare_together(struct connection *c, struct statement *st, const char *sql,
                                            struct err_info *reterr)
{
    const char *values = strstr(sql, "($1, ");
    int count = sqlite3_bind_parameter_count(st->q);
    if (st->together || !values || strchr(values, ')')[1])
        return OK;
    struct buf text CLEANUP(buf_done) = buf_make(16 * KIB);
    buf_append(&text, sql, (size_t)(values - sql));
    for (int row = 0; row < STORE_TOGETHER; row++)
        for (int i = 0; i < count; i++)
            buf_puts(&text, i ? ", ?" : row ? "), (?" : "(?");
    buf_putc(&text, ')');
    if (sqlite3_prepare_v3(c->db, buf_cstr(&text), -1, SQLITE_PREPARE_PERSISTENT, &st->together, NULL) !=
        SQLITE_OK)
        return down(c, "preparing a statement", reterr);
    return OK;
}

/* As many of the rows as make whole steps; *ret_done of them. */
MUST_CHECK static enum err run_together(struct connection *c, sqlite3_stmt *together, struct store_call *call,
                                        size_t *ret_done, struct err_info *reterr)
{
    CLEANUP(statement_done) sqlite3_stmt *q = together;
    size_t done = 0;
    enum err e = OK;
    for (; !e && call->rows - done >= STORE_TOGETHER; done += STORE_TOGETHER) {
        uint64_t changed;
        sqlite3_reset(q);
        for (size_t row = 0; !e && row < STORE_TOGETHER; row++) {
            struct store_value values[STORE_COLUMNS_MAX];
            e = store_call_row(call, done + row, values, reterr);
            for (size_t i = 0; !e && i < call->count; i++)
                bind_value(q, (int)(row * call->count + i + 1), &values[i]);
        }
        if (!e)
            e = step(c, q, call, &changed, reterr);
    }
    *ret_done = done;
    return e;
}

static enum err sqlite_run(struct store_conn *conn, struct store_call *call, struct err_info *reterr)
{
    struct connection *c = of(conn);
    struct statement *st = NULL;
    size_t done = 0;
    enum err e = statement_get(c, call->statement, &st, reterr);
    if (!e && call->rows >= STORE_TOGETHER && !call->row_changed)
        e = prepare_together(c, st, store_statement_sql(call->statement, false), reterr);
    if (!e && st->together && !call->row_changed)
        e = run_together(c, st->together, call, &done, reterr);
    if (e)
        return e;
    CLEANUP(statement_done) sqlite3_stmt *q = st->q;
    for (; !e && done < MAX(call->rows, (size_t)1); done++) {
        struct store_value made[STORE_COLUMNS_MAX];
        const struct store_value *values = call->rows ? made : call->values;
        uint64_t changed;
        if (call->rows && (e = store_call_row(call, done, made, reterr)))
            return e;
        sqlite3_reset(q);
        for (size_t i = 0; i < call->count; i++)
            bind_value(q, st->places[i], &values[i]);
        e = step(c, q, call, &changed, reterr);
        if (!e && call->row_changed)
            call->row_changed[done] = changed != 0;
    }
    return e;
}

static enum err sqlite_script(struct store_conn *conn, const char *sql, struct err_info *reterr)
{
    return run(of(conn), sql, "using the database", reterr);
}

const struct store_ops store_sqlite_ops = {
    .name = "sqlite",
    /* Of several that want to write, one does and the others wait: no transaction fails in its midst. */
    .begin = "BEGIN IMMEDIATE",
    .embedded = true,
    .number = "INTEGER",
    .bytes = "BLOB",
    .id = "TEXT",
    .serial = "INTEGER PRIMARY KEY AUTOINCREMENT",
    .strict = " STRICT",
    .clustered = " STRICT, WITHOUT ROWID",
    .migrations_table = "CREATE TABLE IF NOT EXISTS schema_migrations"
                        " (version INTEGER PRIMARY KEY, applied_ns INTEGER NOT NULL) STRICT",
    .connect = sqlite_connect,
    .disconnect = sqlite_disconnect,
    .is_alive = sqlite_is_alive,
    .run = sqlite_run,
    .script = sqlite_script,
};
