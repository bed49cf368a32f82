/* What both databases must do alike: migrations. */
#include "store_fixture.h"

enum { PROCESSES = 4 };

/* --- the schema --- */

struct status {
    uint64_t known, applied;
};

static void note_migration(void *ctx, const struct store_migration *m)
{
    struct status *status = ctx;
    assert_int_equal(m->version, ++status->known);
    assert_true(m->name[0]);
    status->applied += m->applied_ns != 0;
}

static uint64_t applied(struct fixture *f)
{
    struct store_config config = {.url = f->url};
    struct status status = {0};
    CHECK_OK(f, store_migration_each(&config, note_migration, &status, &f->info));
    assert_int_equal(status.known, store_schema_version());
    return status.applied;
}

static uint64_t tables(struct fixture *f)
{
    return run_sql(f, f->is_postgres
                          ? "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                            " WHERE nspname = 'public' AND relname NOT LIKE 'schema_migrations%'"
                          : "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
                            " AND name <> 'schema_migrations'");
}

static void goes_down_to_nothing_and_up_again(void **state)
{
    struct fixture *f = begin(state);
    uint64_t before = tables(f);
    assert_int_equal(applied(f), store_schema_version());
    store_close(f->store);
    f->store = NULL;
    for (int round = 0; round < 2; round++) {
        migrate(f, 0);
        assert_int_equal(applied(f), 0);
        assert_int_equal(tables(f), 0);
        if (f->is_postgres)
            assert_int_equal(run_sql(f, "SELECT count(*) FROM pg_proc WHERE proname = 'store_changed'"), 0);
        for (uint64_t v = 1; v <= store_schema_version(); v++) {
            migrate(f, v);
            assert_int_equal(applied(f), v);
        }
        assert_int_equal(tables(f), before);
    }
    reopen(f);
    struct store_key key = make_key(1, "x");
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
}

struct steps {
    uint64_t versions[32];
    size_t count;
    bool up;
};

static void note_step(void *ctx, const struct store_migration *m, bool up)
{
    struct steps *steps = ctx;
    steps->versions[steps->count++] = m->version;
    steps->up = up;
}

static void tells_its_steps_in_order(void **state)
{
    struct fixture *f = begin(state);
    struct store_config config = {.url = f->url};
    struct steps down = {0}, up = {0}, none = {0};
    uint64_t last = store_schema_version();
    store_close(f->store);
    f->store = NULL;
    CHECK_OK(f, store_migrate(&config, last, note_step, &none, &f->info));
    assert_int_equal(none.count, 0);
    CHECK_OK(f, store_migrate(&config, 1, note_step, &down, &f->info));
    CHECK_OK(f, store_migrate(&config, last, note_step, &up, &f->info));
    assert_false(down.up);
    assert_true(up.up);
    assert_int_equal(down.count, last - 1);
    assert_int_equal(up.count, last - 1);
    for (size_t i = 0; i < last - 1; i++) {
        assert_int_equal(down.versions[i], last - i);
        assert_int_equal(up.versions[i], i + 2);
    }
}

/* A key of before the accounts is there after them, and the other way round. */
static void keys_survive_the_steps(void **state)
{
    struct fixture *f = begin(state);
    struct store_key key = make_key(7, "old"), found;
    struct store_key of_user = make_key(8, "old");
    insert_user(f, 1, "a@example.org");
    snprintf(of_user.user_id, sizeof of_user.user_id, "%s", make_user(1, "").id);
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    CHECK_OK(f, store_key_insert(f->store, &of_user, &f->info)); /* the name is free: another owner */
    store_close(f->store);
    f->store = NULL;
    migrate(f, 1);
    migrate(f, store_schema_version());
    reopen(f);
    CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
    assert_string_equal(found.name, "old");
    assert_int_equal(found.created_ns, key.created_ns);
    CHECK_OK(f, store_key_by_hash(f->store, of_user.hash, &found, &f->info));
    assert_string_equal(found.name, "old-0000000000000008");
    assert_string_equal(found.user_id, "");
}

/* A child's whole life: its exit status says what failed. */
static int migrate_and_fill(const char *url, unsigned number, int start)
{
    struct store_config config = {.url = url};
    struct store *store;
    struct err_info info = {0};
    char go, name[32];
    if (read(start, &go, 1) != 0) /* all start when the parent closes its end */
        return 1;
    snprintf(name, sizeof name, "key-%u", number);
    struct store_key key = make_key(number, name);
    if (store_migrate(&config, store_schema_version(), NULL, NULL, &info) || store_open(url, &store, &info) ||
        store_key_insert(store, &key, &info)) {
        fprintf(stderr, "%s\n", info.text);
        return 2;
    }
    store_close(store);
    return 0;
}

static void several_processes_migrate_at_once(void **state)
{
    struct fixture *f = begin(state);
    store_close(f->store);
    f->store = NULL;
    for (int round = 0; round < 5; round++) {
        migrate(f, 0);
        int start[2];
        pid_t children[PROCESSES];
        assert_int_equal(pipe(start), 0);
        for (unsigned i = 0; i < PROCESSES; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                close(start[1]);
                _exit(migrate_and_fill(f->url, i + 1, start[0]));
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
        reopen(f);
        assert_int_equal(count_keys(f), PROCESSES);
        store_close(f->store);
        f->store = NULL;
    }
}

static void a_newer_schema_is_refused(void **state)
{
    struct fixture *f = begin(state);
    struct store *other = NULL;
    run_sql(f, "INSERT INTO schema_migrations (version, applied_ns) VALUES (99, 0)");
    assert_int_equal(store_open(f->url, &other, &f->info), ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "schema version 99"));
    struct store_config config = {.url = f->url};
    assert_int_equal(store_migrate(&config, 0, NULL, NULL, &f->info), ERR_STORE_DOWN);
    assert_true(tables(f) > 0);
}

/* The second step meets a table that is in its way: nothing of it stays, nor its note. */
static void a_failed_migration_leaves_nothing(void **state)
{
    struct fixture *f = begin(state);
    store_close(f->store);
    f->store = NULL;
    migrate(f, 1);
    run_sql(f, "CREATE TABLE sessions (x TEXT)");
    uint64_t before = tables(f);
    struct store_config config = {.url = f->url};
    assert_int_equal(store_migrate(&config, store_schema_version(), NULL, NULL, &f->info), ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "migration 2 (accounts, up)"));
    assert_int_equal(applied(f), 1);
    assert_int_equal(tables(f), before);
    run_sql(f, "DROP TABLE sessions");
    migrate(f, store_schema_version());
    reopen(f);
}

int main(void)
{
    umask(0);
    const struct CMUnitTest tests[] = {
        ON_BOTH(goes_down_to_nothing_and_up_again),
        ON_BOTH(tells_its_steps_in_order),
        ON_BOTH(keys_survive_the_steps),
        ON_BOTH(several_processes_migrate_at_once),
        ON_BOTH(a_newer_schema_is_refused),
        ON_BOTH(a_failed_migration_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
