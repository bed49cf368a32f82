/* What is SQLite's own: its file, its modes, its damage. */
#include <errno.h>

#include "store_fixture.h"

enum { PROCESSES = 4, ROUNDS = 20, KEYS_EACH = 3 };

static const char *path_of(const struct fixture *f)
{
    return f->url + strlen("sqlite:");
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
    struct fixture *f = begin(state);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    CHECK_OK(f, store_ping(f->store, &f->info));
    assert_int_equal(count_keys(f), 0);
    for (size_t i = 0; i < LENGTH_OF(suffixes); i++) {
        char path[128];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", path_of(f), suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
}

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
    struct fixture *f = begin(state);
    store_close(f->store);
    f->store = NULL;
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(unlink(path_of(f)), 0);
        int start[2];
        pid_t children[PROCESSES];
        assert_int_equal(pipe(start), 0);
        for (unsigned i = 0; i < PROCESSES; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                close(start[1]);
                _exit(open_and_fill(path_of(f), i, start[0]));
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
        CHECK_OK(f, store_open(path_of(f), &f->store, &f->info));
        assert_int_equal(count_keys(f), PROCESSES * KEYS_EACH);
        store_close(f->store);
        f->store = NULL;
    }
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
    struct fixture *f = begin(state);
    store_close(f->store);
    f->store = NULL;
    char junk[200];
    memset(junk, 'j', sizeof junk);
    overwrite(path_of(f), junk, sizeof junk);
    expect_down(path_of(f), "not a database");
    expect_down(path_of(f), path_of(f));
}

static void a_damaged_page_is_down(void **state)
{
    struct fixture *f = begin(state);
    for (unsigned i = 0; i < 30; i++) {
        char name[32];
        snprintf(name, sizeof name, "key-%u", i);
        insert(f, i, name);
    }
    store_close(f->store);
    f->store = NULL;
    struct stat st;
    assert_int_equal(stat(path_of(f), &st), 0);
    CLEANUP(freep) char *junk = xmalloc((size_t)st.st_size);
    memset(junk, 'j', (size_t)st.st_size);
    FILE *file = fopen(path_of(f), "r+"); /* all but the first page, which says that it is a database */
    assert_non_null(file);
    assert_int_equal(fseek(file, 4096, SEEK_SET), 0);
    assert_int_equal(fwrite(junk, 1, (size_t)st.st_size - 4096, file), (size_t)st.st_size - 4096);
    assert_int_equal(fclose(file), 0);
    expect_down(path_of(f), "malformed");
}

static void a_damaged_row_is_down(void **state)
{
    struct fixture *f = begin(state);
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
    struct fixture *f = begin(state);
    struct store_key key = make_key(1, "x"), found;
    run_sql(f, "ALTER TABLE api_keys RENAME TO gone");
    assert_int_equal(store_key_by_hash(f->store, key.hash, &found, &f->info), ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "no such table"));
    assert_int_equal(store_key_insert(f->store, &key, &f->info), ERR_STORE_DOWN);
    CHECK_OK(f, store_ping(f->store, &f->info));
    run_sql(f, "DROP TABLE schema_migrations");
    assert_int_equal(store_ping(f->store, &f->info), ERR_STORE_DOWN);
}

static void a_place_where_no_file_can_be_is_down(void **state)
{
    struct fixture *f = begin(state);
    char path[160];
    snprintf(path, sizeof path, "%s/missing/main.db", f->folder);
    expect_down(path, "No such file");
    snprintf(path, sizeof path, "%s/below", path_of(f));
    expect_down(path, "Not a directory");
    expect_down(f->folder, "unable to open");

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
    struct fixture *f = begin(state);
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

static void the_forms_of_its_url(void **state)
{
    struct fixture *f = begin(state);
    char url[160];
    static const char *const prefixes[] = {"", "sqlite:", "sqlite://"};
    insert(f, 1, "x");
    for (size_t i = 0; i < LENGTH_OF(prefixes); i++) {
        struct store *store;
        struct store_key found;
        snprintf(url, sizeof url, "%s%s", prefixes[i], path_of(f));
        CHECK_OK(f, store_open(url, &store, &f->info));
        CHECK_OK(f, store_key_by_id(store, make_key(1, "").id, &found, &f->info));
        assert_string_equal(store_describe(store), path_of(f));
        store_close(store);
    }
    static const char *const refused[] = {
        "", "sqlite:", "sqlite://", "mysql://h/d", "postgresql:d", "postgres:5432/d", "file:x"};
    for (size_t i = 0; i < LENGTH_OF(refused); i++) {
        struct store *store = (struct store *)0x1;
        if (store_check_url(refused[i], &f->info) != ERR_FIELD_INVALID ||
            store_open(refused[i], &store, &f->info) != ERR_FIELD_INVALID)
            fail_msg("\"%s\" has no form that is known", refused[i]);
        assert_ptr_equal(store, (struct store *)0x1);
    }
    static const char *const taken[] = {"x", "./a:b", "/tmp/a:b", "sqlite:a:b"};
    for (size_t i = 0; i < LENGTH_OF(taken); i++)
        CHECK_OK(f, store_check_url(taken[i], &f->info));
}

/* One that reads a long list does not keep others from writing. */
static bool write_meanwhile(void *ctx, const struct store_key *key)
{
    struct fixture *f = ctx;
    (void)key;
    run_sql(f, "UPDATE api_keys SET prefix = 'ww_new'");
    return false;
}

static void readers_and_writers_do_not_wait_for_each_other(void **state)
{
    struct fixture *f = begin(state);
    insert(f, 1, "x");
    insert(f, 2, "y");
    CHECK_OK(f, store_key_each(f->store, write_meanwhile, f, &f->info));
}

int main(void)
{
    umask(0);
    const struct CMUnitTest tests[] = {
        ON(sqlite, a_fresh_file_is_empty_and_private),
        ON(sqlite, several_processes_open_a_new_file_at_once),
        ON(sqlite, a_file_that_is_no_database_is_down),
        ON(sqlite, a_damaged_page_is_down),
        ON(sqlite, a_damaged_row_is_down),
        ON(sqlite, a_lost_table_is_down),
        ON(sqlite, a_place_where_no_file_can_be_is_down),
        ON(sqlite, a_database_in_memory_is_refused),
        ON(sqlite, the_forms_of_its_url),
        ON(sqlite, readers_and_writers_do_not_wait_for_each_other),
        cmocka_unit_test(close_takes_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
