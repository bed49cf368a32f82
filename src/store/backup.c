#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/driver.h"

enum { PATH_BYTES = 4300, BUSY_MS = 30000 };

/* --- one database file -------------------------------------------------------------------------- */
static void closedb(sqlite3 **db)
{
    sqlite3_close(*db);
    *db = NULL;
}

MUST_CHECK static enum err fault(sqlite3 *db, enum err code, const char *doing, struct err_info *reterr)
{
    return err_set(reterr, code, "%s: %s", doing, sqlite3_errmsg(db));
}

/* The file may come from anywhere: nothing in its schema gets to run. */
MUST_CHECK static enum err open_db(const char *path, int flags, sqlite3 **ret_db, struct err_info *reterr)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK) {
        enum err e = err_set(reterr, ERR_STORE_DOWN, "%s can't be opened: %s", path, sqlite3_errmsg(db));
        sqlite3_close(db);
        return e;
    }
    sqlite3_busy_timeout(db, BUSY_MS);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    *ret_db = db;
    return OK;
}

/* The first column of the first row as text, cut at `size`; false: an error, or no row. */
static bool ask(sqlite3 *db, const char *sql, char *ret, size_t size)
{
    sqlite3_stmt *q = NULL;
    bool found = sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW;
    const char *text = found ? (const char *)sqlite3_column_text(q, 0) : NULL;
    if (text)
        snprintf(ret, size, "%s", text);
    sqlite3_finalize(q);
    return text != NULL;
}

static bool ask_number(sqlite3 *db, const char *sql, uint64_t *ret)
{
    char text[32];
    return ask(db, sql, text, sizeof text) && str_to_u64(str_of(text), INT64_MAX, ret);
}

static bool is_sound(sqlite3 *db)
{
    char said[64];
    return ask(db, "PRAGMA integrity_check(1)", said, sizeof said) && strcmp(said, "ok") == 0;
}

/* The whole content as of now, in one read transaction, into an empty file. */
MUST_CHECK static enum err copy_into(sqlite3 *from, const char *part, struct err_info *reterr)
{
    sqlite3_stmt *q = NULL;
    CLEANUP(closep) int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(reterr, ERR_DISK_FAULT, "%s can't be made: %s", part, strerror(errno));
    bool ok = sqlite3_prepare_v2(from, "VACUUM INTO ?1", -1, &q, NULL) == SQLITE_OK &&
              sqlite3_bind_text(q, 1, part, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(q) == SQLITE_DONE;
    enum err e = ok ? OK : fault(from, ERR_STORE_DOWN, "copying the database", reterr);
    sqlite3_finalize(q);
    return e;
}

/* --- the table of a backup ---------------------------------------------------------------------- */
MUST_CHECK static enum err put_info(sqlite3 *db, struct str secret, struct err_info *reterr)
{
    static const char make[] =
        "PRAGMA journal_mode = DELETE;"
        "CREATE TABLE wasmwiz_backup (format INTEGER NOT NULL, created_ns INTEGER NOT NULL,"
        " program TEXT NOT NULL, secret TEXT NOT NULL) STRICT";
    sqlite3_stmt *q = NULL;
    bool ok =
        sqlite3_exec(db, make, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db, "INSERT INTO wasmwiz_backup VALUES (1, ?1, ?2, ?3)", -1, &q, NULL) ==
            SQLITE_OK &&
        sqlite3_bind_int64(q, 1, (int64_t)clock_wall_ns()) == SQLITE_OK &&
        sqlite3_bind_text(q, 2, WW_VERSION, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_text(q, 3, secret.len ? secret.p : "", (int)secret.len, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_DONE;
    enum err e = ok ? OK : fault(db, ERR_DISK_FAULT, "writing the backup", reterr);
    sqlite3_finalize(q);
    return e;
}

MUST_CHECK static enum err read_info(sqlite3 *db, const char *path, struct store_backup_info *ret,
                                     struct err_info *reterr)
{
    uint64_t format;
    if (!ask_number(db, "SELECT format FROM wasmwiz_backup", &format) || format != 1 ||
        !ask_number(db, "SELECT created_ns FROM wasmwiz_backup", &ret->created_ns) ||
        !ask(db, "SELECT program FROM wasmwiz_backup", ret->program, sizeof ret->program) ||
        !ask(db, "SELECT secret FROM wasmwiz_backup", ret->secret, sizeof ret->secret) ||
        !ask_number(db, "SELECT max(version) FROM schema_migrations", &ret->schema_version))
        return err_set(reterr, ERR_FIELD_INVALID, "%s is no backup of `wasmwiz backup`", path);
    if (ret->schema_version > store_schema_version())
        return err_set(reterr, ERR_FIELD_INVALID,
                       "%s was made by wasmwiz %s, whose schema has version %llu; this program knows %llu",
                       path, ret->program, (unsigned long long)ret->schema_version,
                       (unsigned long long)store_schema_version());
    if (!is_sound(db))
        return err_set(reterr, ERR_FIELD_INVALID, "%s is damaged", path);
    return OK;
}

/* --- files -------------------------------------------------------------------------------------- */
MUST_CHECK static enum err database_path(const struct store_config *config, const char *instead,
                                         const char **ret_path, struct err_info *reterr)
{
    const char *path = store_sqlite_path(config->url ? config->url : "");
    if (!path)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "DATABASE_URL is no embedded database: use `%s`, which comes with PostgreSQL",
                       instead);
    *ret_path = path;
    return OK;
}

MUST_CHECK static enum err make_part_name(const char *path, char ret[static PATH_BYTES],
                                          struct err_info *reterr)
{
    if (snprintf(ret, PATH_BYTES, "%s.part", path) >= PATH_BYTES)
        return err_set(reterr, ERR_FIELD_INVALID, "the path %.40s... is too long", path);
    if (unlink(ret) < 0 && errno != ENOENT) /* of one that was killed */
        return err_set(reterr, ERR_DISK_FAULT, "%s can't be removed: %s", ret, strerror(errno));
    return OK;
}

/* Onto the disk, and under its own name. link() refuses where rename() would replace. */
MUST_CHECK static enum err publish(const char *part, const char *path, bool replace, uint64_t *ret_bytes,
                                   struct err_info *reterr)
{
    struct stat st = {0};
    CLEANUP(closep) int fd = open(part, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0 && fstat(fd, &st) == 0;
    if (ok && replace)
        ok = rename(part, path) == 0;
    else if (ok)
        ok = link(part, path) == 0 && unlink(part) == 0;
    if (!ok)
        return err_set(reterr, errno == EEXIST ? ERR_CONFLICT : ERR_DISK_FAULT, "%s can't be written: %s",
                       path, strerror(errno));
    char folder[PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0;
    CLEANUP(closep) int folder_fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0 || fsync(folder_fd) < 0)
        return err_set(reterr, ERR_DISK_FAULT, "the folder of %s can't be saved: %s", path, strerror(errno));
    *ret_bytes = (uint64_t)st.st_size;
    return OK;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* --- out ---------------------------------------------------------------------------------------- */
MUST_CHECK static enum err finish_copy(const char *part, struct str secret, struct store_backup_info *info,
                                       struct err_info *reterr)
{
    CLEANUP(closedb) sqlite3 *db = NULL;
    enum err e = open_db(part, SQLITE_OPEN_READWRITE, &db, reterr);
    if (!e)
        e = put_info(db, secret, reterr);
    return e ? e : read_info(db, part, info, reterr);
}

enum err store_backup(const struct store_config *config, const char *path, struct str secret, bool replace,
                      struct store_backup_info *ret_info, struct err_info *reterr)
{
    char part[PATH_BYTES];
    const char *from = NULL;
    struct store_backup_info info = {0};
    CLEANUP(closedb) sqlite3 *db = NULL;
    WW_ASSERT(secret.len <= STORE_BACKUP_SECRET_MAX);
    enum err e = database_path(config, "pg_dump", &from, reterr);
    if (!e && !exists(from))
        e = err_set(reterr, ERR_NOT_FOUND, "there is no database %s", from);
    if (!e && !replace && exists(path))
        e = err_set(reterr, ERR_CONFLICT, "%s is there already", path);
    if (!e)
        e = make_part_name(path, part, reterr);
    if (!e)
        e = open_db(from, SQLITE_OPEN_READWRITE, &db, reterr);
    if (e)
        return e;
    e = copy_into(db, part, reterr);
    if (!e)
        e = finish_copy(part, secret, &info, reterr);
    if (!e)
        e = publish(part, path, replace, &info.bytes, reterr);
    if (e)
        unlink(part);
    else
        *ret_info = info;
    explicit_bzero(info.secret, sizeof info.secret);
    return e;
}

/* --- back --------------------------------------------------------------------------------------- */
MUST_CHECK static enum err copy_back(const char *path, const char *part, struct store_backup_info *info,
                                     struct err_info *reterr)
{
    CLEANUP(closedb) sqlite3 *backup = NULL;
    CLEANUP(closedb) sqlite3 *copy = NULL;
    enum err e = open_db(path, SQLITE_OPEN_READONLY, &backup, reterr);
    if (!e)
        e = read_info(backup, path, info, reterr);
    if (!e)
        e = copy_into(backup, part, reterr);
    if (!e)
        e = open_db(part, SQLITE_OPEN_READWRITE, &copy, reterr);
    /* The secret goes out of the file, not only out of sight. */
    if (!e && sqlite3_exec(copy, "PRAGMA secure_delete = ON; DROP TABLE wasmwiz_backup", NULL, NULL, NULL) !=
                  SQLITE_OK)
        e = fault(copy, ERR_DISK_FAULT, "writing the database", reterr);
    return e;
}

/* What belongs to the old file must not be taken for the new one's. */
MUST_CHECK static enum err remove_journals(const char *path, struct err_info *reterr)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
    char name[PATH_BYTES];
    for (size_t i = 0; i < LENGTH_OF(suffixes); i++) {
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        if (unlink(name) < 0 && errno != ENOENT)
            return err_set(reterr, ERR_DISK_FAULT, "%s can't be removed: %s", name, strerror(errno));
    }
    return OK;
}

enum err store_restore(const struct store_config *config, const char *path, bool replace,
                       struct store_backup_info *ret_info, struct err_info *reterr)
{
    char part[PATH_BYTES];
    const char *to = NULL;
    struct store_backup_info info = {0};
    enum err e = database_path(config, "pg_restore", &to, reterr);
    if (!e && !exists(path))
        e = err_set(reterr, ERR_NOT_FOUND, "there is no file %s", path);
    if (!e && !replace && exists(to))
        e = err_set(reterr, ERR_CONFLICT, "the database %s is there already", to);
    if (!e)
        e = make_part_name(to, part, reterr);
    if (e)
        return e;
    e = copy_back(path, part, &info, reterr);
    if (!e)
        e = remove_journals(to, reterr);
    if (!e)
        e = publish(part, to, replace, &info.bytes, reterr);
    if (e)
        unlink(part);
    else
        *ret_info = info;
    explicit_bzero(info.secret, sizeof info.secret);
    return e;
}
