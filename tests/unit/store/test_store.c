/* What every SQL backend must do behind store/store.h, and what is SQLite's own: its file, its modes, its
 * damage. Each test has a folder of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store.h"

struct fixture {
    char folder[64];
    char path[96];
    struct store *store; /* open on `path` */
    struct err_info info;
};

#define CHECK_OK(f, call)                              \
    do {                                               \
        if (call)                                      \
            fail_msg("%s: %s", #call, (f)->info.text); \
    } while (0)

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/ww-store-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/main.db", f->folder);
    CHECK_OK(f, store_open(f->path, &f->store, &f->info));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    store_close(f->store);
    for (size_t i = 0; i < LENGTH_OF(suffixes); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", f->path, suffixes[i]);
        unlink(path);
    }
    int failed = rmdir(f->folder);
    free(f);
    return failed;
}

/* A key whose id and hash follow from `number`. */
static struct store_key make_key(unsigned number, const char *name)
{
    struct store_key key = {.created_ns = 1000 + number, .tier = "free"};
    snprintf(key.id, sizeof key.id, "%016x", number);
    snprintf(key.name, sizeof key.name, "%s", name);
    snprintf(key.prefix, sizeof key.prefix, "ww_%u", number);
    memset(key.hash, 0xa5, sizeof key.hash);
    memcpy(key.hash, &number, sizeof number);
    return key;
}

static void insert(struct fixture *f, unsigned number, const char *name)
{
    struct store_key key = make_key(number, name);
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
}

static bool count_key(void *ctx, const struct store_key *key)
{
    (void)key;
    ++*(unsigned *)ctx;
    return true;
}

static unsigned count_keys(struct fixture *f)
{
    unsigned count = 0;
    CHECK_OK(f, store_key_each(f->store, count_key, &count, &f->info));
    return count;
}

static void assert_keys_equal(const struct store_key *a, const struct store_key *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->prefix, b->prefix);
    assert_string_equal(a->tier, b->tier);
    assert_memory_equal(a->hash, b->hash, sizeof a->hash);
    assert_int_equal(a->created_ns, b->created_ns);
    assert_int_equal(a->expires_ns, b->expires_ns);
    assert_int_equal(a->revoked_ns, b->revoked_ns);
}

/* Runs SQL over a connection of the test's own: another program at the same file. */
static void run_sql(struct fixture *f, const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void reopen(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
    CHECK_OK(f, store_open(f->path, &f->store, &f->info));
}

/* The store can't be opened; the sentence has `word`. */
static void expect_down(const char *path, const char *word)
{
    struct store *store = (struct store *)0x1;
    struct err_info info = {0};
    enum err e = store_open(path, &store, &info);
    if (e != ERR_STORE_DOWN || !strstr(info.text, word))
        fail_msg("%s: %s \"%s\", wanted \"%s\"", path, err_name(e), info.text, word);
    assert_ptr_equal(store, (struct store *)0x1);
    assert_int_equal(info.code, ERR_STORE_DOWN);
}

static void a_fresh_file_is_empty_and_private(void **state)
{
    struct fixture *f = *state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    CHECK_OK(f, store_ping(f->store, &f->info));
    assert_int_equal(count_keys(f), 0);
    for (size_t i = 0; i < LENGTH_OF(suffixes); i++) {
        char path[128];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", f->path, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
}

static void keeps_keys_over_a_restart(void **state)
{
    struct fixture *f = *state;
    struct store_key key = make_key(1, "first"), found;
    key.expires_ns = INT64_MAX;
    key.revoked_ns = 7;
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    for (int i = 0; i < 2; i++) {
        memset(&found, 0xff, sizeof found);
        CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
        assert_keys_equal(&key, &found);
        reopen(f);
    }
}

static void an_unknown_hash_is_not_found(void **state)
{
    struct fixture *f = *state;
    insert(f, 1, "one");
    struct store_key near = make_key(1, "one"), found = {.created_ns = 77};
    near.hash[31] ^= 1;
    assert_int_equal(store_key_by_hash(f->store, near.hash, &found, &f->info), ERR_NOT_FOUND);
    assert_int_equal(found.created_ns, 77);
}

static void a_live_name_is_taken(void **state)
{
    struct fixture *f = *state;
    insert(f, 1, "ci");
    struct store_key second = make_key(2, "ci");
    assert_int_equal(store_key_insert(f->store, &second, &f->info), ERR_CONFLICT);
    assert_non_null(strstr(f->info.text, "\"ci\""));
    assert_int_equal(count_keys(f), 1);
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("ci"), 5, &f->info));
    CHECK_OK(f, store_key_insert(f->store, &second, &f->info));
    /* Two revoked keys may have one name. */
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("ci"), 6, &f->info));
    insert(f, 3, "ci");
    assert_int_equal(count_keys(f), 3);
    /* The same id or hash again is a clash too, but not one of names. */
    second = make_key(2, "other");
    assert_int_equal(store_key_insert(f->store, &second, &f->info), ERR_CONFLICT);
    assert_null(strstr(f->info.text, "other"));
    second.hash[9] ^= 1;
    assert_int_equal(store_key_insert(f->store, &second, &f->info), ERR_CONFLICT);
}

static uint64_t revoked_ns(struct fixture *f, unsigned number)
{
    struct store_key key = make_key(number, ""), found;
    CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
    return found.revoked_ns;
}

static void revokes_by_id_and_by_name(void **state)
{
    struct fixture *f = *state;
    insert(f, 1, "one");
    insert(f, 2, "two");
    insert(f, 3, "0000000000000001"); /* named like the id of another */
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("two"), 50, &f->info));
    assert_int_equal(revoked_ns(f, 1), 0);
    assert_int_equal(revoked_ns(f, 2), 50);
    assert_int_equal(store_key_revoke(f->store, STR_LIT("two"), 51, &f->info), ERR_NOT_FOUND);
    assert_int_equal(revoked_ns(f, 2), 50);
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("0000000000000001"), 60, &f->info));
    assert_int_equal(revoked_ns(f, 1), 60);
    assert_int_equal(revoked_ns(f, 3), 0);
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("0000000000000001"), 61, &f->info));
    assert_int_equal(revoked_ns(f, 3), 61);
    static const struct str unknown[] = {
        {NULL, 0},
        STR_LIT("o"),
        STR_LIT("one2"),
        STR_LIT("%"),
        STR_LIT("o_e"),
        STR_LIT("ONE"),
        STR_LIT("an identifier that is longer than any identifier that the database holds, by far"),
    };
    insert(f, 4, "one");
    for (size_t i = 0; i < LENGTH_OF(unknown); i++)
        assert_int_equal(store_key_revoke(f->store, unknown[i], 70, &f->info), ERR_NOT_FOUND);
    assert_int_equal(revoked_ns(f, 4), 0);
}

struct walk {
    char ids[8][17];
    size_t count;
    size_t stop_after;
};

static bool note_key(void *ctx, const struct store_key *key)
{
    struct walk *walk = ctx;
    snprintf(walk->ids[walk->count++], sizeof walk->ids[0], "%s", key->id);
    return walk->count < walk->stop_after;
}

static void lists_newest_first(void **state)
{
    struct fixture *f = *state;
    insert(f, 2, "b");
    insert(f, 3, "c");
    insert(f, 1, "a");
    struct store_key same_time = make_key(4, "d");
    same_time.created_ns = 1003;
    CHECK_OK(f, store_key_insert(f->store, &same_time, &f->info));
    static const char *const wanted[] = {"0000000000000004", "0000000000000003", "0000000000000002",
                                         "0000000000000001"};
    for (size_t stop = 1; stop <= 4; stop++) {
        struct walk walk = {.stop_after = stop};
        CHECK_OK(f, store_key_each(f->store, note_key, &walk, &f->info));
        assert_int_equal(walk.count, stop);
        for (size_t i = 0; i < stop; i++)
            assert_string_equal(walk.ids[i], wanted[i]);
    }
}

static void strings_are_never_sql(void **state)
{
    struct fixture *f = *state;
    static const char *const nasty[] = {
        "'; DROP TABLE api_keys; --",
        "\" OR 1=1 --",
        "%",
        "_",
        "?1",
        ":name",
        "\\",
        "\x01\x7f\xff",
        "NULL",
        "''",
    };
    for (unsigned i = 0; i < LENGTH_OF(nasty); i++) {
        struct store_key key = make_key(i, nasty[i]), found;
        snprintf(key.prefix, sizeof key.prefix, "%.12s", nasty[i]);
        snprintf(key.tier, sizeof key.tier, "%.7s", nasty[i]);
        CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
        CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
        assert_keys_equal(&key, &found);
    }
    for (unsigned i = 0; i < LENGTH_OF(nasty); i++) {
        CHECK_OK(f, store_key_revoke(f->store, str_of(nasty[i]), 9 + i, &f->info));
        assert_int_equal(revoked_ns(f, i), 9 + i);
    }
    struct store_key key = make_key(99, "id");
    snprintf(key.id, sizeof key.id, "%s", "' OR '1'='1'; --");
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    CHECK_OK(f, store_key_revoke(f->store, str_of(key.id), 99, &f->info));
    assert_int_equal(revoked_ns(f, 99), 99);
    assert_int_equal(revoked_ns(f, 0), 9);
    assert_int_equal(count_keys(f), LENGTH_OF(nasty) + 1);
}

static void refuses_times_that_do_not_fit(void **state)
{
    struct fixture *f = *state;
    struct store_key key = make_key(1, "late");
    key.expires_ns = (uint64_t)INT64_MAX + 1;
    assert_int_equal(store_key_insert(f->store, &key, &f->info), ERR_FIELD_INVALID);
    assert_int_equal(count_keys(f), 0);
}

static uint64_t version(struct fixture *f)
{
    uint64_t v;
    CHECK_OK(f, store_version(f->store, &v, &f->info));
    return v;
}

static void the_version_tells_of_changes(void **state)
{
    struct fixture *f = *state;
    struct store *other;
    CHECK_OK(f, store_open(f->path, &other, &f->info));
    uint64_t before = version(f);
    assert_true(version(f) == before);
    CHECK_OK(f, store_ping(other, &f->info));
    assert_true(version(f) == before);

    struct store_key key = make_key(1, "x");
    CHECK_OK(f, store_key_insert(other, &key, &f->info));
    uint64_t after = version(f);
    assert_true(after != before);
    assert_int_equal(store_key_insert(other, &key, &f->info), ERR_CONFLICT);
    assert_true(version(f) == after);

    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("x"), 3, &f->info));
    assert_true(version(f) != after);
    store_close(other);
}

enum { PROCESSES = 4, ROUNDS = 40, KEYS_EACH = 3, THREADS = 4 };

/* A child's whole life: its exit status says what failed. */
static int open_and_fill(const char *path, unsigned number, int start)
{
    struct store *store;
    struct err_info info = {0};
    char go;
    if (read(start, &go, 1) != 0) /* all start when the parent closes its end */
        return 1;
    if (store_open(path, &store, &info)) {
        fprintf(stderr, "%s\n", info.text);
        return 2;
    }
    for (unsigned i = 0; i < KEYS_EACH; i++) {
        char name[32];
        snprintf(name, sizeof name, "key-%u-%u", number, i);
        struct store_key key = make_key(number * 100 + i, name);
        if (store_key_insert(store, &key, &info)) {
            fprintf(stderr, "%s\n", info.text);
            return 3;
        }
    }
    store_close(store);
    return 0;
}

static void several_processes_open_a_new_file_at_once(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(unlink(f->path), 0);
        int start[2];
        pid_t children[PROCESSES];
        assert_int_equal(pipe(start), 0);
        for (unsigned i = 0; i < PROCESSES; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                close(start[1]);
                _exit(open_and_fill(f->path, i, start[0]));
            }
        }
        close(start[0]);
        close(start[1]);
        for (unsigned i = 0; i < PROCESSES; i++) {
            int status;
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), 0);
        }
        CHECK_OK(f, store_open(f->path, &f->store, &f->info));
        assert_int_equal(count_keys(f), PROCESSES * KEYS_EACH);
        store_close(f->store);
        f->store = NULL;
    }
}

struct worker {
    pthread_t thread;
    struct fixture *f;
    unsigned number;
    unsigned failures;
};

static void *insert_and_read(void *ctx)
{
    struct worker *w = ctx;
    for (unsigned i = 0; i < KEYS_EACH; i++) {
        char name[32];
        struct store_key key, found;
        uint64_t v;
        snprintf(name, sizeof name, "key-%u-%u", w->number, i);
        key = make_key(w->number * 100 + i, name);
        w->failures += store_key_insert(w->f->store, &key, NULL) != OK;
        w->failures += store_key_by_hash(w->f->store, key.hash, &found, NULL) != OK;
        w->failures += strcmp(found.name, name) != 0;
        w->failures += store_version(w->f->store, &v, NULL) != OK;
    }
    return NULL;
}

static void several_threads_share_a_store(void **state)
{
    struct fixture *f = *state;
    struct worker workers[THREADS] = {0};
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].f = f;
        workers[i].number = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, insert_and_read, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].failures, 0);
    }
    assert_int_equal(count_keys(f), THREADS * KEYS_EACH);
}

static void overwrite(const char *path, const char *bytes, size_t len)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void a_file_that_is_no_database_is_down(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    char junk[200];
    memset(junk, 'j', sizeof junk);
    overwrite(f->path, junk, sizeof junk);
    expect_down(f->path, "not a database");
    expect_down(f->path, f->path);
}

static void a_damaged_page_is_down(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 30; i++) {
        char name[32];
        snprintf(name, sizeof name, "key-%u", i);
        insert(f, i, name);
    }
    store_close(f->store);
    f->store = NULL;
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    CLEANUP(freep) char *junk = xmalloc((size_t)st.st_size);
    memset(junk, 'j', (size_t)st.st_size);
    FILE *file = fopen(f->path, "r+"); /* all but the first page, which says that it is a database */
    assert_non_null(file);
    assert_int_equal(fseek(file, 4096, SEEK_SET), 0);
    assert_int_equal(fwrite(junk, 1, (size_t)st.st_size - 4096, file), (size_t)st.st_size - 4096);
    assert_int_equal(fclose(file), 0);
    expect_down(f->path, "malformed");
}

static void a_damaged_row_is_down(void **state)
{
    struct fixture *f = *state;
    struct store_key key = make_key(1, "x"), found;
    insert(f, 1, "x");
    run_sql(f, "UPDATE api_keys SET prefix = 'longer than a prefix is'");
    assert_int_equal(store_key_by_hash(f->store, key.hash, &found, &f->info), ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "damaged"));
    unsigned count = 0;
    assert_int_equal(store_key_each(f->store, count_key, &count, &f->info), ERR_STORE_DOWN);
    run_sql(f, "UPDATE api_keys SET prefix = 'ww_', expires_ns = -1");
    assert_int_equal(store_key_by_hash(f->store, key.hash, &found, &f->info), ERR_STORE_DOWN);
    run_sql(f, "UPDATE api_keys SET expires_ns = 0");
    CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
}

static void a_lost_table_is_down(void **state)
{
    struct fixture *f = *state;
    struct store_key key = make_key(1, "x"), found;
    run_sql(f, "ALTER TABLE api_keys RENAME TO gone");
    assert_int_equal(store_key_by_hash(f->store, key.hash, &found, &f->info), ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "no such table"));
    assert_int_equal(store_key_insert(f->store, &key, &f->info), ERR_STORE_DOWN);
    CHECK_OK(f, store_ping(f->store, &f->info));
    run_sql(f, "DROP TABLE schema_migrations");
    assert_int_equal(store_ping(f->store, &f->info), ERR_STORE_DOWN);
}

static void a_newer_schema_is_refused(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    run_sql(f, "INSERT INTO schema_migrations VALUES (99, 0)");
    expect_down(f->path, "schema version 99");
    run_sql(f, "DELETE FROM schema_migrations WHERE version = 99");
    reopen(f);
}

static void a_failed_migration_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    run_sql(f,
            "DELETE FROM schema_migrations"); /* so that the first step runs again and meets its own table */
    expect_down(f->path, "already exists");
    run_sql(f, "DROP TABLE api_keys");
    reopen(f);
    insert(f, 1, "x");
}

static void a_place_where_no_file_can_be_is_down(void **state)
{
    struct fixture *f = *state;
    char path[160];
    snprintf(path, sizeof path, "%s/missing/main.db", f->folder);
    expect_down(path, "No such file");
    snprintf(path, sizeof path, "%s/below", f->path);
    expect_down(path, "Not a directory");
    expect_down(f->folder, "unable to open");
    expect_down("", "No such file");

    /* Root may write anywhere, so try as somebody else. */
    assert_int_equal(chmod(f->folder, 0555), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store *store;
        struct err_info info = {0};
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(1);
        snprintf(path, sizeof path, "%s/new.db", f->folder);
        enum err e = store_open(path, &store, &info);
        _exit(e == ERR_STORE_DOWN && strstr(info.text, "Permission denied") ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(f->folder, 0755), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* SQLite gives this name a database that no other process sees. */
static void a_database_in_memory_is_refused(void **state)
{
    struct fixture *f = *state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(f->folder), 0);
    expect_down(":memory:", "WAL");
    unlink(":memory:");
    assert_int_equal(chdir(before), 0);
}

static void close_takes_null(void **state)
{
    (void)state;
    store_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    umask(0);
    const struct CMUnitTest tests[] = {
        TEST(a_fresh_file_is_empty_and_private),
        TEST(keeps_keys_over_a_restart),
        TEST(an_unknown_hash_is_not_found),
        TEST(a_live_name_is_taken),
        TEST(revokes_by_id_and_by_name),
        TEST(lists_newest_first),
        TEST(strings_are_never_sql),
        TEST(refuses_times_that_do_not_fit),
        TEST(the_version_tells_of_changes),
        TEST(several_processes_open_a_new_file_at_once),
        TEST(several_threads_share_a_store),
        TEST(a_file_that_is_no_database_is_down),
        TEST(a_damaged_page_is_down),
        TEST(a_damaged_row_is_down),
        TEST(a_lost_table_is_down),
        TEST(a_newer_schema_is_refused),
        TEST(a_failed_migration_leaves_nothing),
        TEST(a_place_where_no_file_can_be_is_down),
        TEST(a_database_in_memory_is_refused),
        cmocka_unit_test(close_takes_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
