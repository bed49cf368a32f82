/* The embedded backend: SQLite in WAL mode. One connection a store, guarded by a mutex of its own: the work
 * is short, and writers to one file wait for each other anyway. Other processes have the same file open;
 * SQLite's file locks and the busy timeout keep peace with them. */
#include "store/store.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

enum { BUSY_TIMEOUT_MS = 5000, BUSY_PAUSE_US = 5000 };

/* Every statement is prepared once, when the store is opened. */
#define KEY_COLUMNS "id, name, prefix, tier, hash, created_ns, expires_ns, revoked_ns"
#define STATEMENTS(STATEMENT)                                                                                \
    STATEMENT(KEY_INSERT, "INSERT INTO api_keys (" KEY_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")  \
    STATEMENT(KEY_BY_HASH, "SELECT " KEY_COLUMNS " FROM api_keys WHERE hash = ?1")                           \
    /* A name may look like an id: the key with that id goes first. */                                       \
    STATEMENT(KEY_REVOKE, "UPDATE api_keys SET revoked_ns = ?2 WHERE rowid = (SELECT rowid FROM api_keys"    \
                          " WHERE (id = ?1 OR name = ?1) AND revoked_ns = 0 ORDER BY id = ?1 DESC LIMIT 1)") \
    STATEMENT(KEY_EACH, "SELECT " KEY_COLUMNS " FROM api_keys ORDER BY created_ns DESC, rowid DESC")         \
    STATEMENT(DATA_VERSION, "PRAGMA data_version")                                                           \
    STATEMENT(PING, "SELECT max(version) FROM schema_migrations")

enum statement {
#define STATEMENT(name, sql) name,
    STATEMENTS(STATEMENT)
#undef STATEMENT
        STATEMENT_COUNT
};

static const char *const statement_sql[] = {
#define STATEMENT(name, sql) [name] = sql,
    STATEMENTS(STATEMENT)
#undef STATEMENT
};

/* The schema, one step after the other: a step that was released is never changed, a new one is appended. */
static const char *const migrations[] = {
    "CREATE TABLE api_keys ("
    "  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 16),"
    "  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),"
    "  prefix TEXT NOT NULL,"
    "  tier TEXT NOT NULL,"
    "  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),"
    "  created_ns INTEGER NOT NULL,"
    "  expires_ns INTEGER NOT NULL," /* 0 = never, as the next */
    "  revoked_ns INTEGER NOT NULL"
    ") STRICT;"
    "CREATE UNIQUE INDEX api_keys_live_name ON api_keys (name) WHERE revoked_ns = 0;",
};

struct store {
    pthread_mutex_t lock; /* guards all that follows */
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENT_COUNT];
};

/* The connection's last failure: what was tried, SQLite's reason, and the system's where there is one. */
MUST_CHECK static enum err down(struct store *s, const char *doing, struct err_info *reterr)
{
    int code = sqlite3_extended_errcode(s->db), kind = code & 0xff;
    errno = kind == SQLITE_CANTOPEN || kind == SQLITE_IOERR ? sqlite3_system_errno(s->db) : 0;
    if (errno)
        return err_set(reterr, ERR_STORE_DOWN, "%s: %s (SQLite code %d, %m)", doing, sqlite3_errmsg(s->db),
                       code);
    return err_set(reterr, ERR_STORE_DOWN, "%s: %s (SQLite code %d)", doing, sqlite3_errmsg(s->db), code);
}

static void unlockp(struct store **s)
{
    int failed = pthread_mutex_unlock(&(*s)->lock);
    WW_ASSERT(!failed);
}

static struct store *lock(struct store *s)
{
    int failed = pthread_mutex_lock(&s->lock);
    WW_ASSERT(!failed);
    return s;
}

/* A prepared statement at work: reset and without its values when the scope ends. */
static void statement_done(sqlite3_stmt **statement)
{
    sqlite3_reset(*statement);
    sqlite3_clear_bindings(*statement);
}

#define LOCKED(s) CLEANUP(unlockp) UNUSED struct store *locked_ = lock(s)
#define STATEMENT_OF(s, name) CLEANUP(statement_done) sqlite3_stmt *q = (s)->statements[name]

/* Opening. */

MUST_CHECK static enum err run(struct store *s, const char *sql, const char *doing, struct err_info *reterr)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? OK : down(s, doing, reterr);
}

static int take_is_wal(void *ctx, int columns, char **values, char **names)
{
    (void)columns, (void)names;
    *(bool *)ctx = str_eq(str_of(values[0]), STR_LIT("wal"));
    return 0;
}

/* Turning a new file to WAL gives "busy" at once when another process does the same, whatever the timeout. */
MUST_CHECK static enum err turn_to_wal(struct store *s, struct err_info *reterr)
{
    uint64_t deadline = clock_now_ns() + BUSY_TIMEOUT_MS * NS_PER_MS;
    bool is_wal = false;
    while (sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", take_is_wal, &is_wal, NULL) != SQLITE_OK) {
        if ((sqlite3_errcode(s->db) & 0xff) != SQLITE_BUSY || clock_now_ns() > deadline)
            return down(s, "turning the database to WAL mode", reterr);
        usleep(BUSY_PAUSE_US);
    }
    if (!is_wal)
        return err_set(reterr, ERR_STORE_DOWN,
                       "it can't be turned to WAL mode where it lies: use a local disk");
    return OK;
}

static int take_number(void *ctx, int columns, char **values, char **names)
{
    (void)columns, (void)names;
    uint64_t *number = ctx;
    return values[0] && !str_to_u64(str_of(values[0]), INT64_MAX, number);
}

/* Between BEGIN and COMMIT. */
MUST_CHECK static enum err migrate_locked(struct store *s, struct err_info *reterr)
{
    uint64_t have = 0;
    enum err e = run(s,
                     "CREATE TABLE IF NOT EXISTS schema_migrations"
                     " (version INTEGER PRIMARY KEY, applied_ns INTEGER NOT NULL) STRICT",
                     "making the table of migrations", reterr);
    if (e)
        return e;
    if (sqlite3_exec(s->db, "SELECT max(version) FROM schema_migrations", take_number, &have, NULL) !=
        SQLITE_OK)
        return down(s, "reading the version of the schema", reterr);
    if (have > LENGTH_OF(migrations))
        return err_set(reterr, ERR_STORE_DOWN,
                       "it has schema version %llu, this program knows none above %zu: use a newer program",
                       (unsigned long long)have, LENGTH_OF(migrations));
    for (uint64_t i = have; !e && i < LENGTH_OF(migrations); i++) {
        char note[128];
        snprintf(note, sizeof note, "INSERT INTO schema_migrations VALUES (%llu, %llu)",
                 (unsigned long long)i + 1, (unsigned long long)clock_wall_ns());
        e = run(s, migrations[i], "migrating the schema", reterr);
        if (!e)
            e = run(s, note, "noting a migration", reterr);
    }
    return e;
}

MUST_CHECK static enum err migrate(struct store *s, struct err_info *reterr)
{
    /* IMMEDIATE: of several processes that start at once, one migrates and the others wait for it. */
    enum err e = run(s, "BEGIN IMMEDIATE", "locking the database", reterr);
    if (e)
        return e;
    e = migrate_locked(s, reterr);
    /* On a failure the connection is closed, which rolls back. */
    return e ? e : run(s, "COMMIT", "saving the schema", reterr);
}

MUST_CHECK static enum err open_connection(struct store *s, const char *path, struct err_info *reterr)
{
    /* Made here for its mode, which the WAL files inherit. mknod() never opens it: closing any descriptor of
     * a database drops the locks that this process has on it. */
    if (mknod(path, S_IFREG | 0600, 0) != 0 && errno != EEXIST)
        return err_set(reterr, ERR_STORE_DOWN, "making the file: %m");
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK) {
        WW_ASSERT(s->db); /* NULL: no memory */
        return down(s, "opening the file", reterr);
    }
    sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
    /* The file may have been in other hands: nothing in its schema gets to run functions or to forge tables. */
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    enum err e = turn_to_wal(s, reterr);
    /* FULL: a key was shown once, so it must survive a power cut that follows. */
    if (!e)
        e = run(s, "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON", "setting up the connection",
                reterr);
    return e ? e : migrate(s, reterr);
}

MUST_CHECK static enum err prepare_statements(struct store *s, struct err_info *reterr)
{
    for (int i = 0; i < STATEMENT_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i],
                               NULL) != SQLITE_OK)
            return down(s, "reading the schema", reterr);
    return OK;
}

static void store_closep(struct store **s)
{
    store_close(*s);
}

enum err store_open(const char *path, struct store **ret_store, struct err_info *reterr)
{
    CLEANUP(store_closep) struct store *s = xcalloc(1, sizeof *s);
    struct err_info why = {0};
    int failed = pthread_mutex_init(&s->lock, NULL);
    WW_ASSERT(!failed);
    enum err e = open_connection(s, path, &why);
    if (!e)
        e = prepare_statements(s, &why);
    if (e)
        return err_set(reterr, e, "the database \"%s\" can't be used: %s", path, err_text(&why));
    *ret_store = TAKE(s);
    return OK;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (int i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(s->statements[i]);
    int failed = sqlite3_close(s->db);
    WW_ASSERT(!failed); /* a statement was forgotten */
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Keys. */

static void bind_text(sqlite3_stmt *q, int column, const char *text)
{
    sqlite3_bind_text(q, column, text, -1, SQLITE_STATIC);
}

static bool column_text(sqlite3_stmt *q, int column, char *to, size_t size)
{
    const unsigned char *text = sqlite3_column_text(q, column);
    size_t len = (size_t)sqlite3_column_bytes(q, column);
    if (!text || len >= size)
        return false;
    memcpy(to, text, len);
    to[len] = 0;
    return true;
}

/* The row that `q` stands on. The file may be damaged, so the row may be anything. */
MUST_CHECK static enum err read_key(sqlite3_stmt *q, struct store_key *ret_key, struct err_info *reterr)
{
    struct store_key key;
    const void *hash = sqlite3_column_blob(q, 4);
    int64_t times[3];
    for (int i = 0; i < 3; i++)
        times[i] = sqlite3_column_int64(q, 5 + i);
    if (!column_text(q, 0, key.id, sizeof key.id) || !column_text(q, 1, key.name, sizeof key.name) ||
        !column_text(q, 2, key.prefix, sizeof key.prefix) || !column_text(q, 3, key.tier, sizeof key.tier) ||
        !hash || sqlite3_column_bytes(q, 4) != STORE_KEY_HASH_BYTES || times[0] < 0 || times[1] < 0 ||
        times[2] < 0)
        return err_set(reterr, ERR_STORE_DOWN, "reading a key: its row in the database is damaged");
    memcpy(key.hash, hash, sizeof key.hash);
    key.created_ns = (uint64_t)times[0];
    key.expires_ns = (uint64_t)times[1];
    key.revoked_ns = (uint64_t)times[2];
    *ret_key = key;
    return OK;
}

enum err store_key_insert(struct store *s, const struct store_key *key, struct err_info *reterr)
{
    if (MAX(key->created_ns, MAX(key->expires_ns, key->revoked_ns)) > INT64_MAX)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "a key has a time past the year 2262, which can't be stored");
    LOCKED(s);
    STATEMENT_OF(s, KEY_INSERT);
    bind_text(q, 1, key->id);
    bind_text(q, 2, key->name);
    bind_text(q, 3, key->prefix);
    bind_text(q, 4, key->tier);
    sqlite3_bind_blob(q, 5, key->hash, sizeof key->hash, SQLITE_STATIC);
    sqlite3_bind_int64(q, 6, (int64_t)key->created_ns);
    sqlite3_bind_int64(q, 7, (int64_t)key->expires_ns);
    sqlite3_bind_int64(q, 8, (int64_t)key->revoked_ns);
    switch (sqlite3_step(q)) {
    case SQLITE_DONE: return OK;
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
        if (strstr(sqlite3_errmsg(s->db), "api_keys.name"))
            return err_set(reterr, ERR_CONFLICT, "the name \"%s\" is used by a key that is not revoked",
                           key->name);
        return err_set(reterr, ERR_CONFLICT, "a key with this id or hash is already there");
    default: return down(s, "saving a key", reterr);
    }
}

enum err store_key_by_hash(struct store *s, const unsigned char hash[static STORE_KEY_HASH_BYTES],
                           struct store_key *ret_key, struct err_info *reterr)
{
    LOCKED(s);
    STATEMENT_OF(s, KEY_BY_HASH);
    sqlite3_bind_blob(q, 1, hash, STORE_KEY_HASH_BYTES, SQLITE_STATIC);
    switch (sqlite3_step(q)) {
    case SQLITE_ROW: return read_key(q, ret_key, reterr);
    case SQLITE_DONE: return err_set(reterr, ERR_NOT_FOUND, "there is no key with this hash");
    default: return down(s, "looking for a key", reterr);
    }
}

enum err store_key_revoke(struct store *s, struct str id_or_name, uint64_t now_ns, struct err_info *reterr)
{
    WW_ASSERT(now_ns && now_ns <= INT64_MAX);
    if (id_or_name.len && id_or_name.len <= STORE_NAME_MAX) {
        LOCKED(s);
        STATEMENT_OF(s, KEY_REVOKE);
        sqlite3_bind_text(q, 1, id_or_name.p, (int)id_or_name.len, SQLITE_STATIC);
        sqlite3_bind_int64(q, 2, (int64_t)now_ns);
        if (sqlite3_step(q) != SQLITE_DONE)
            return down(s, "revoking a key", reterr);
        if (sqlite3_changes(s->db))
            return OK;
    }
    return err_set(reterr, ERR_NOT_FOUND, "no key that is not revoked has the id or name \"%.*s\"",
                   (int)MIN(id_or_name.len, (size_t)STORE_NAME_MAX), id_or_name.p);
}

enum err store_key_each(struct store *s, bool (*each)(void *ctx, const struct store_key *key), void *ctx,
                        struct err_info *reterr)
{
    LOCKED(s);
    STATEMENT_OF(s, KEY_EACH);
    int step;
    while ((step = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_key key;
        enum err e = read_key(q, &key, reterr);
        if (e)
            return e;
        if (!each(ctx, &key))
            return OK;
    }
    return step == SQLITE_DONE ? OK : down(s, "listing the keys", reterr);
}

/* The connection's state. */

enum err store_version(struct store *s, uint64_t *ret_version, struct err_info *reterr)
{
    LOCKED(s);
    STATEMENT_OF(s, DATA_VERSION);
    if (sqlite3_step(q) != SQLITE_ROW)
        return down(s, "asking for the version of the data", reterr);
    /* data_version has 32 bits and leaves out what this connection itself has changed. */
    *ret_version = (uint64_t)sqlite3_column_int64(q, 0) << 32 | (uint32_t)sqlite3_total_changes64(s->db);
    return OK;
}

enum err store_ping(struct store *s, struct err_info *reterr)
{
    LOCKED(s);
    STATEMENT_OF(s, PING);
    return sqlite3_step(q) == SQLITE_ROW ? OK : down(s, "asking the database for a sign of life", reterr);
}
