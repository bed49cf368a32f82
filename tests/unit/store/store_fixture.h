/* What the tests of src/store/ share: a fresh database for each test, on SQLite and on a real PostgreSQL, which
 * runs in a folder of its own under /tmp on a free port and ends with the test program. */
#ifndef WW_TESTS_STORE_FIXTURE_H
#define WW_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/keys.h"

enum { SERVER_START_S = 60 };

/* The PostgreSQL of this test program. */
static struct {
    const char *why_not; /* NULL: it runs */
    char folder[64];
    char bin[200];
    uid_t uid; /* it refuses to be root's */
    gid_t gid;
    uint16_t port;
    pid_t pid;
    unsigned databases;
} server = {.why_not = "it was not started"};

struct fixture {
    bool is_postgres;
    char folder[64]; /* SQLite */
    char url[160];
    struct store *store; /* open on `url` */
    struct err_info info;
};

#define CHECK_OK(f, call)                              \
    do {                                               \
        if (call)                                      \
            fail_msg("%s: %s", #call, (f)->info.text); \
    } while (0)

/* --- PostgreSQL --- */

/* A child that runs a program of PostgreSQL as the server's user, silently. */
UNUSED static pid_t server_spawn(const char *program, char *const argv[])
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", server.bin, program);
    pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    int null = open("/dev/null", O_RDWR);
    char log[128];
    snprintf(log, sizeof log, "%s/log", server.folder);
    if (geteuid() == 0 &&
        (setresgid(server.gid, server.gid, server.gid) || setresuid(server.uid, server.uid, server.uid)))
        _exit(126);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    prctl(PR_SET_PDEATHSIG, SIGQUIT); /* also when a test is killed */
    if (getppid() != parent || chdir(server.folder))
        _exit(126);
    execv(path, argv);
    _exit(127);
}

UNUSED static void server_url(char *url, size_t size, const char *database)
{
    snprintf(url, size, "postgresql://wasmwiz@127.0.0.1:%u/%s", server.port, database);
}

/* Runs SQL on a connection of the test's own; returns the first value as a number, 0 where there is none. */
UNUSED static uint64_t server_sql(const char *database, const char *sql)
{
    char url[160];
    uint64_t number = 0;
    server_url(url, sizeof url, database);
    PGconn *pg = PQconnectdb(url);
    if (PQstatus(pg) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(pg));
    PGresult *r = PQexec(pg, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(pg));
    if (PQntuples(r) && PQnfields(r))
        (void)str_to_u64(str_of(PQgetvalue(r, 0, 0)), UINT64_MAX, &number);
    PQclear(r);
    PQfinish(pg);
    return number;
}

/* Starts it on the port it has and waits until it answers. */
UNUSED static void server_start(void)
{
    char port[8], url[160];
    snprintf(port, sizeof port, "%u", server.port);
    char *argv[] = {"postgres", "-D",
                    "data",     "-F",
                    "-h",       "127.0.0.1",
                    "-p",       port,
                    "-k",       ".",
                    "-N",       "40",
                    "-c",       "full_page_writes=off",
                    "-c",       "shared_buffers=16MB",
                    "-c",       "max_wal_size=128MB",
                    "-c",       "deadlock_timeout=50ms",
                    NULL};
    server.pid = server_spawn("postgres", argv);
    server_url(url, sizeof url, "postgres");
    for (uint64_t end = clock_now_ns() + SERVER_START_S * NS_PER_S; PQping(url) != PQPING_OK; usleep(20000))
        if (clock_now_ns() > end || waitpid(server.pid, NULL, WNOHANG) == server.pid)
            fail_msg("PostgreSQL did not start: see %s/log", server.folder);
}

/* SIGINT: it ends its connections, then itself. SIGQUIT: it drops everything, as in a crash. */
UNUSED static void server_stop(int signal)
{
    kill(server.pid, signal);
    waitpid(server.pid, NULL, 0);
    server.pid = 0;
}

UNUSED static uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 &&
                getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* What stands in the way of a server of our own, or NULL. */
UNUSED static const char *server_prepare(void)
{
    glob_t found = {0};
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) != 0)
        return "there is no PostgreSQL here (Debian package postgresql)";
    snprintf(server.bin, sizeof server.bin, "%.*s",
             (int)(strlen(found.gl_pathv[found.gl_pathc - 1]) - strlen("/initdb")),
             found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    const struct passwd *user = getpwnam("postgres");
    user = user ? user : getpwnam("nobody");
    snprintf(server.folder, sizeof server.folder, "/tmp/ww-postgres-XXXXXX");
    if (!user || !mkdtemp(server.folder))
        return "there is no user or no folder to run it";
    server.uid = user->pw_uid;
    server.gid = user->pw_gid;
    if (geteuid() == 0 && chown(server.folder, server.uid, server.gid) != 0)
        return "its folder can't be given away";
    char *argv[] = {"initdb",  "-D", "data", "-A",         "trust",     "-U",
                    "wasmwiz", "-E", "UTF8", "--locale=C", "--no-sync", NULL};
    int status;
    pid_t pid = server_spawn("initdb", argv);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return "initdb failed (see the file log in its folder under /tmp)";
    server.port = free_port();
    return NULL;
}

UNUSED static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

UNUSED static void remove_folder(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

UNUSED static int group_setup(void **state)
{
    (void)state;
    server.why_not = server_prepare();
    if (!server.why_not)
        server_start();
    return 0;
}

UNUSED static int group_teardown(void **state)
{
    (void)state;
    if (server.pid)
        server_stop(SIGQUIT);
    if (!server.why_not)
        remove_folder(server.folder);
    return 0;
}

/* --- a test's database --- */

UNUSED static void migrate(struct fixture *f, uint64_t target)
{
    struct store_config config = {.url = f->url};
    CHECK_OK(f, store_migrate(&config, target, NULL, NULL, &f->info));
}

UNUSED static void reopen(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
    CHECK_OK(f, store_open(f->url, &f->store, &f->info));
}

UNUSED static int setup_sqlite(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/ww-store-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->url, sizeof f->url, "sqlite:%s/main.db", f->folder);
    reopen(f);
    *state = f;
    return 0;
}

/* An empty database, without a schema. */
UNUSED static void make_database(char *url, size_t size)
{
    char name[32], sql[80];
    snprintf(name, sizeof name, "test%u", ++server.databases);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s STRATEGY file_copy", name);
    server_sql("postgres", sql);
    server_url(url, size, name);
}

UNUSED static int setup_postgresql(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->is_postgres = true;
    *state = f;
    if (server.why_not)
        return 0;
    make_database(f->url, sizeof f->url);
    migrate(f, store_schema_version());
    reopen(f);
    return 0;
}

UNUSED static int teardown(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    if (f->folder[0])
        remove_folder(f->folder);
    free(f);
    return 0;
}

/* The fixture at the start of every test. */
UNUSED static struct fixture *begin(void **state)
{
    struct fixture *f = *state;
    if (f->is_postgres && server.why_not) {
        print_message("skipped: %s\n", server.why_not);
        skip();
    }
    return f;
}

/* Runs SQL over a connection of the test's own: another program at the same database. */
UNUSED static uint64_t run_sql(struct fixture *f, const char *sql)
{
    if (f->is_postgres)
        return server_sql(strrchr(f->url, '/') + 1, sql);
    sqlite3 *db;
    sqlite3_stmt *q = NULL;
    uint64_t number = 0;
    assert_int_equal(sqlite3_open(f->url + strlen("sqlite:"), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    for (const char *rest = sql; *rest;) {
        if (sqlite3_prepare_v2(db, rest, -1, &q, &rest) != SQLITE_OK)
            fail_msg("%s: %s", sql, sqlite3_errmsg(db));
        int step = sqlite3_step(q);
        if (step == SQLITE_ROW)
            number = (uint64_t)sqlite3_column_int64(q, 0);
        else if (step != SQLITE_DONE)
            fail_msg("%s: %s", sql, sqlite3_errmsg(db));
        sqlite3_finalize(q);
    }
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return number;
}

/* A test on one backend, and on both. */
#define ON(backend, name)                                         \
    {                                                             \
#backend "_" #name, name, setup_##backend, teardown, NULL \
    }
#define ON_BOTH(name) ON(sqlite, name), ON(postgresql, name)

/* --- things to store --- */

/* A key whose id and hash follow from `number`. */
UNUSED static struct store_key make_key(unsigned number, const char *name)
{
    struct store_key key = {.created_ns = 1000 + number, .tier = "free"};
    snprintf(key.id, sizeof key.id, "%016x", number);
    snprintf(key.name, sizeof key.name, "%s", name);
    snprintf(key.prefix, sizeof key.prefix, "ww_%u", number);
    memset(key.hash, 0xa5, sizeof key.hash);
    memcpy(key.hash, &number, sizeof number);
    return key;
}

UNUSED static struct store_user make_user(unsigned number, const char *email)
{
    struct store_user user = {.role = STORE_ROLE_USER,
                              .tier = "basic",
                              .active = true,
                              .created_ns = 500 + number,
                              .updated_ns = 600 + number};
    snprintf(user.id, sizeof user.id, "%016x", 0xabc000 + number);
    snprintf(user.email, sizeof user.email, "%s", email);
    snprintf(user.password_hash, sizeof user.password_hash, "$argon2id$%u", number);
    return user;
}

UNUSED static void insert_user(struct fixture *f, unsigned number, const char *email)
{
    struct store_user user = make_user(number, email);
    CHECK_OK(f, store_user_insert(f->store, &user, &f->info));
}

/* Strings that would be SQL if anything were careless; each fits 64 bytes. */
UNUSED static const char *const nasty[] = {
    "'; DROP TABLE api_keys; --",
    "\" OR \"\"=\"",
    "' OR '1'='1",
    "\\'; SELECT 1; --",
    "$1",
    "?1",
    "%s%n%x",
    "/* */ -- ;",
    "a'b\"c`d",
    "$$ x $$",
    "\\x00\\u0000",
    "E'\\x41'",
    "{number}",
    "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
    "\n\r\t\x01",
};

/* --- what several of them do --- */

UNUSED static bool count_key(void *ctx, const struct store_key *key)
{
    (void)key;
    ++*(unsigned *)ctx;
    return true;
}

UNUSED static unsigned count_keys(struct fixture *f)
{
    unsigned count = 0;
    CHECK_OK(f, store_key_each(f->store, count_key, &count, &f->info));
    return count;
}

UNUSED static void insert(struct fixture *f, unsigned number, const char *name)
{
    struct store_key key = make_key(number, name);
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
}

UNUSED static void assert_keys_equal(const struct store_key *a, const struct store_key *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->prefix, b->prefix);
    assert_string_equal(a->tier, b->tier);
    assert_memory_equal(a->hash, b->hash, sizeof a->hash);
    assert_int_equal(a->created_ns, b->created_ns);
    assert_int_equal(a->expires_ns, b->expires_ns);
    assert_int_equal(a->revoked_ns, b->revoked_ns);
    assert_string_equal(a->user_id, b->user_id);
    assert_int_equal(a->last_used_ns, b->last_used_ns);
}

UNUSED static void assert_users_equal(const struct store_user *a, const struct store_user *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->email, b->email);
    assert_string_equal(a->password_hash, b->password_hash);
    assert_int_equal(a->role, b->role);
    assert_string_equal(a->tier, b->tier);
    assert_int_equal(a->active, b->active);
    assert_int_equal(a->created_ns, b->created_ns);
    assert_int_equal(a->updated_ns, b->updated_ns);
}

struct race {
    pthread_t thread;
    struct fixture *f;
    unsigned number, failures, won;
};

enum { RACERS = 4 };

/* Runs `body` on several threads and returns how often it won. */
UNUSED static unsigned run_race(struct fixture *f, void *(*body)(void *))
{
    struct race races[RACERS] = {0};
    unsigned won = 0;
    for (unsigned i = 0; i < RACERS; i++) {
        races[i].f = f;
        races[i].number = i + 1;
        assert_int_equal(pthread_create(&races[i].thread, NULL, body, &races[i]), 0);
    }
    for (unsigned i = 0; i < RACERS; i++) {
        assert_int_equal(pthread_join(races[i].thread, NULL), 0);
        assert_int_equal(races[i].failures, 0);
        won += races[i].won;
    }
    return won;
}

struct ids {
    char ids[64][17];
    size_t count;
    size_t stop_after;
};

#endif
