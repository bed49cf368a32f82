/* What is PostgreSQL's own: the server goes and comes back, hangs, is slow; the pool; the replica; the URL. */
#include <stdatomic.h>

#include "store/usage.h"
#include "store_fixture.h"

enum { THREADS = 6, RECOVERY_S = 30 };

static const struct store_usage_filter all_rows = {0};

static void open_with(struct fixture *f, struct store_config config)
{
    config.url = f->url;
    store_close(f->store);
    f->store = NULL;
    CHECK_OK(f, store_open_with(&config, &f->store, &f->info));
}

/* Connections of the store to its database. */
static uint64_t backends(struct fixture *f)
{
    return run_sql(f, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'wasmwiz'"
                      " AND datname = current_database()");
}

static bool take_none(void *ctx, const struct store_usage *row)
{
    (void)ctx, (void)row;
    return false;
}

/* --- opening --- */

static void a_schema_that_is_behind_is_refused(void **state)
{
    struct fixture *f = begin(state);
    struct store *other = (struct store *)0x1;
    for (uint64_t v = 0; v < store_schema_version(); v++) {
        migrate(f, v);
        assert_int_equal(store_open(f->url, &other, &f->info), ERR_STORE_DOWN);
        assert_non_null(strstr(f->info.text, "wasmwiz migrate up"));
        assert_ptr_equal(other, (struct store *)0x1);
    }
}

/* The program may run as a role that can't change tables: it only looks. */
static void a_role_without_rights_to_make_tables_is_enough(void **state)
{
    struct fixture *f = begin(state);
    struct store *other;
    char url[160];
    run_sql(f, "DO 'BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END'");
    run_sql(f, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO plain");
    snprintf(url, sizeof url, "postgres://plain@127.0.0.1:%u%s", server.port, strrchr(f->url, '/'));
    CHECK_OK(f, store_open(url, &other, &f->info));
    struct store_key key = make_key(1, "x");
    CHECK_OK(f, store_key_insert(other, &key, &f->info));
    store_close(other);
}

static void expect_refused(const char *url, enum err wanted, const char *word)
{
    struct store *store = (struct store *)0x1;
    struct err_info info = {0};
    enum err e = store_open(url, &store, &info);
    if (e != wanted || !strstr(info.text, word))
        fail_msg("%s: %s \"%s\", wanted \"%s\"", url, err_name(e), info.text, word);
    if (strstr(info.text, "ecre"))
        fail_msg("the password is shown: %s", info.text);
    assert_ptr_equal(store, (struct store *)0x1);
}

static void bad_urls_are_refused_without_the_password(void **state)
{
    struct fixture *f = begin(state);
    char url[200];
    expect_refused("mysql://u:secret@h/d", ERR_FIELD_INVALID, "postgresql://");
    expect_refused("postgresql://u:se%zzecret@h/d", ERR_FIELD_INVALID, "percent-encoded");
    expect_refused("postgresql://u:s@secret@h/d", ERR_FIELD_INVALID, "%40");
    expect_refused("postgresql://u:s/secret@h/d", ERR_FIELD_INVALID, "%40");
    expect_refused("postgresql://u:secret@h/d?nosuch=1", ERR_FIELD_INVALID, "not understood");
    snprintf(url, sizeof url, "postgresql://u:secret@127.0.0.1:%u/d?connect_timeout=2", free_port());
    expect_refused(url, ERR_STORE_DOWN, "refused");
    snprintf(url, sizeof url, "postgresql://wasmwiz:secret@127.0.0.1:%u/nosuch", server.port);
    expect_refused(url, ERR_STORE_DOWN, "does not exist");
    snprintf(url, sizeof url, "postgresql://nosuch:secret@127.0.0.1:%u/postgres", server.port);
    expect_refused(url, ERR_STORE_DOWN, "role");
    snprintf(url, sizeof url, "postgresql://wasmwiz:secret@127.0.0.1:%u%s", server.port,
             strrchr(f->url, '/'));
    struct store *store;
    CHECK_OK(f, store_open(url, &store, &f->info));
    assert_null(strstr(store_describe(store), "secret"));
    store_close(store);
    struct store_config config = {.url = f->url, .replica_url = "sqlite:x"};
    assert_int_equal(store_open_with(&config, &store, &f->info), ERR_FIELD_INVALID);
    config = (struct store_config){.url = "sqlite:/tmp/x", .replica_url = f->url};
    assert_int_equal(store_open_with(&config, &store, &f->info), ERR_FIELD_INVALID);
}

/* --- the server goes away --- */

static void an_ended_connection_is_not_noticed_by_callers(void **state)
{
    struct fixture *f = begin(state);
    struct store_key found;
    insert(f, 1, "before");
    for (unsigned round = 0; round < 5; round++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", round);
        run_sql(f, "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                   " WHERE application_name = 'wasmwiz' AND datname = current_database()");
        assert_int_equal(backends(f), 0);
        if (round % 2)
            CHECK_OK(f, store_key_by_hash(f->store, make_key(1, "").hash, &found, &f->info));
        else
            insert(f, 10 + round, name);
    }
}

static void wait_until_it_is_back(struct fixture *f)
{
    uint64_t end = clock_now_ns() + RECOVERY_S * NS_PER_S;
    while (store_ping(f->store, &f->info) != OK) {
        if (clock_now_ns() > end)
            fail_msg("it did not come back: %s", f->info.text);
        usleep(20000);
    }
}

static void a_server_that_is_gone_is_down_and_comes_back(void **state)
{
    struct fixture *f = begin(state);
    struct store_key key = make_key(2, "y"), found;
    uint64_t version;
    insert(f, 1, "x");
    for (int round = 0; round < 2; round++) {
        server_stop(round ? SIGINT : SIGQUIT);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(store_key_by_hash(f->store, key.hash, &found, &f->info), ERR_STORE_DOWN);
            assert_int_equal(store_key_insert(f->store, &key, &f->info), ERR_STORE_DOWN);
            assert_int_equal(store_version(f->store, &version, &f->info), ERR_STORE_DOWN);
            assert_int_equal(store_ping(f->store, &f->info), ERR_STORE_DOWN);
            assert_true(err_may_retry(f->info.code));
            usleep(5000);
        }
        assert_true(store_stats(f->store).connect_failures > 0);
        assert_int_equal(store_stats(f->store).connections, 0);
        server_start();
        wait_until_it_is_back(f);
        CHECK_OK(f, store_key_by_hash(f->store, make_key(1, "").hash, &found, &f->info));
    }
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
}

struct writer {
    pthread_t thread;
    struct fixture *f;
    unsigned number, other_errors, batches, downs;
    atomic_bool *stop;
};

/* Writes batches, each again until it is in, as a journal would. */
static void *write_through_crashes(void *ctx)
{
    struct writer *w = ctx;
    while (!atomic_load(w->stop)) {
        struct store_usage rows[20] = {0};
        for (unsigned i = 0; i < LENGTH_OF(rows); i++) {
            rows[i].time_ns = 1 + w->batches;
            snprintf(rows[i].id, sizeof rows[i].id, "%u-%u-%u", w->number, w->batches, i);
            snprintf(rows[i].key_id, sizeof rows[i].key_id, "k%u", i % 3);
        }
        struct err_info info = {0};
        enum err e;
        while ((e = store_usage_add(w->f->store, rows, LENGTH_OF(rows), NULL, &info))) {
            w->downs++;
            if (e != ERR_STORE_DOWN && w->other_errors++ == 0)
                print_message("%s: %s\n", err_name(e), info.text);
            usleep(5000);
        }
        w->batches++;
    }
    return NULL;
}

/* The server crashes three times under writers: what they were told is in is in, once. */
static void nothing_is_lost_or_doubled_by_crashes(void **state)
{
    struct fixture *f = begin(state);
    struct writer writers[THREADS] = {0};
    atomic_bool stop = false;
    uint64_t rows = 0, downs = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i].f = f;
        writers[i].number = i;
        writers[i].stop = &stop;
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_through_crashes, &writers[i]), 0);
    }
    for (int crash = 0; crash < 3; crash++) {
        usleep(150000);
        server_stop(SIGQUIT);
        usleep(50000);
        server_start();
    }
    wait_until_it_is_back(f);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        assert_int_equal(writers[i].other_errors, 0);
        rows += writers[i].batches * 20;
        downs += writers[i].downs;
    }
    assert_true(downs > 0);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM usage_logs"), rows);
    assert_int_equal(run_sql(f, "SELECT sum(runs) FROM usage_daily"), rows);
}

/* --- the server is slow --- */

static PGconn *connect_raw(struct fixture *f)
{
    PGconn *pg = PQconnectdb(f->url);
    assert_int_equal(PQstatus(pg), CONNECTION_OK);
    return pg;
}

static void raw(PGconn *pg, const char *sql)
{
    PGresult *r = PQexec(pg, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(pg));
    PQclear(r);
}

static void a_statement_ends_at_its_time(void **state)
{
    struct fixture *f = begin(state);
    struct store_key found;
    open_with(f, (struct store_config){.timeout_ns = 700 * NS_PER_MS, .pool_max = 1});
    insert(f, 1, "x");
    uint64_t connects = store_stats(f->store).connects;
    PGconn *pg = connect_raw(f);
    raw(pg, "BEGIN; LOCK TABLE api_keys");
    assert_int_equal(store_key_by_hash(f->store, make_key(1, "").hash, &found, &f->info), ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "timeout"));
    CHECK_OK(f, store_ping(f->store, &f->info));
    raw(pg, "ROLLBACK");
    PQfinish(pg);
    CHECK_OK(f, store_key_by_hash(f->store, make_key(1, "").hash, &found, &f->info));
    assert_int_equal(store_stats(f->store).connects,
                     connects); /* the server's own time-out leaves it whole */
}

/* The process of the server behind the store's only connection. */
static pid_t backend(struct fixture *f)
{
    return (pid_t)run_sql(f, "SELECT pid FROM pg_stat_activity WHERE application_name = 'wasmwiz'"
                             " AND datname = current_database()");
}

/* A backend that says nothing at all: the client's time-out gives it up. */
static void a_silent_server_is_given_up(void **state)
{
    struct fixture *f = begin(state);
    open_with(f, (struct store_config){.timeout_ns = 700 * NS_PER_MS, .pool_max = 1});
    pid_t pid = backend(f);
    struct store_key key = make_key(1, "x");
    assert_int_equal(kill(pid, SIGSTOP), 0);
    enum err e = store_key_insert(f->store, &key, &f->info);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(e, ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "DATABASE_TIMEOUT"));
    wait_until_it_is_back(f);
    assert_true(store_stats(f->store).connects >= 2);
}

static void *revoke_key(void *ctx)
{
    struct writer *w = ctx;
    struct err_info info = {0};
    if (store_key_revoke(w->f->store, STR_LIT("x"), 5, &info)) {
        print_message("%s\n", info.text);
        w->other_errors++;
    }
    return NULL;
}

/* Two transactions wait for each other; the server ends ours, and nobody hears of it. */
static void a_clash_of_transactions_is_tried_again(void **state)
{
    struct fixture *f = begin(state);
    struct store_key found;
    pthread_t thread;
    insert(f, 1, "x");
    run_sql(f, "DO 'BEGIN EXECUTE ''ALTER DATABASE '' || current_database() || '' SET deadlock_timeout = "
               "1000''; END'");
    reopen(f);
    PGconn *pg = connect_raw(f);
    raw(pg, "SET deadlock_timeout = '60s'; BEGIN; UPDATE store_changes SET version = version + 1");
    struct writer w = {.f = f};
    assert_int_equal(pthread_create(&thread, NULL, revoke_key, &w), 0);
    while (run_sql(f, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 0)
        usleep(2000);
    raw(pg,
        "UPDATE api_keys SET prefix = 'ww_other'; COMMIT"); /* a ring: the one who waited first finds it */
    PQfinish(pg);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w.other_errors, 0);
    CHECK_OK(f, store_key_by_id(f->store, make_key(1, "").id, &found, &f->info));
    assert_int_equal(found.revoked_ns, 5);
    assert_string_equal(found.prefix, "ww_other");
}

/* --- the pool --- */

static void *hammer(void *ctx)
{
    struct writer *w = ctx;
    for (unsigned i = 0; i < 100; i++) {
        struct err_info info = {0};
        if (store_ping(w->f->store, &info) && w->other_errors++ == 0)
            print_message("%s\n", info.text);
        if (i % 20 == 0 && store_stats(w->f->store).connections > 2)
            w->other_errors++;
    }
    return NULL;
}

static void the_pool_keeps_its_bounds(void **state)
{
    struct fixture *f = begin(state);
    struct writer writers[THREADS] = {0};
    open_with(f, (struct store_config){.pool_min = 2, .pool_max = 2});
    assert_int_equal(backends(f), 2);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i].f = f;
        assert_int_equal(pthread_create(&writers[i].thread, NULL, hammer, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        assert_int_equal(writers[i].other_errors, 0);
    }
    assert_int_equal(backends(f), 2);
    assert_int_equal(store_stats(f->store).connects, 2);
    assert_int_equal(store_stats(f->store).connections_in_use, 0);
}

static void *wait_for_the_silent(void *ctx)
{
    struct writer *w = ctx;
    struct store_key key = make_key(1, "x");
    w->other_errors = store_key_insert(w->f->store, &key, NULL) != ERR_STORE_DOWN;
    return NULL;
}

/* The only connection waits for a backend that says nothing: a second longer than others wait for it. On a machine so
 * busy that the second was over before the other had waited, nothing was shown: once more. */
static void a_pool_that_is_all_busy_says_so(void **state)
{
    enum { TRIES = 10 };
    const uint64_t timeout_ns = 700 * NS_PER_MS, held_ns = timeout_ns + NS_PER_S;
    struct fixture *f = begin(state);
    open_with(f, (struct store_config){.pool_max = 1, .timeout_ns = timeout_ns});
    enum err e = OK;
    for (int i = 0; i < TRIES; i++) {
        struct writer w = {.f = f};
        CHECK_OK(f, store_ping(f->store, &f->info));
        while (backends(f) != 1) /* that of the try before goes */
            usleep(1000);
        pid_t pid = backend(f);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        uint64_t began = clock_now_ns();
        assert_int_equal(pthread_create(&w.thread, NULL, wait_for_the_silent, &w), 0);
        while (store_stats(f->store).connections_in_use == 0 && clock_now_ns() - began < held_ns)
            usleep(1000);
        f->info = (struct err_info){0};
        e = store_ping(f->store, &f->info);
        bool was_held = clock_now_ns() - began < held_ns;
        assert_int_equal(pthread_join(w.thread, NULL), 0);
        assert_int_equal(kill(pid, SIGCONT), 0);
        assert_int_equal(w.other_errors, 0);
        if (was_held)
            break;
    }
    assert_int_equal(e, ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "DATABASE_POOL_MAX"));
}

static void connections_are_replaced_when_they_are_old(void **state)
{
    struct fixture *f = begin(state);
    open_with(f, (struct store_config){.lifetime_ns = 50 * NS_PER_MS});
    uint64_t version;
    for (int i = 0; i < 5; i++) {
        usleep(60000);
        CHECK_OK(f, store_version(f->store, &version, &f->info));
    }
    assert_true(store_stats(f->store).connects >= 4);
    assert_true(store_stats(f->store).connections >= 1);
}

/* --- the replica --- */

/* Another database stands for it: so it shows which of the two answered. */
static void old_reads_go_to_the_replica_and_back(void **state)
{
    struct fixture *f = begin(state);
    struct fixture replica = {.is_postgres = true};
    make_database(replica.url, sizeof replica.url);
    migrate(&replica, store_schema_version());
    reopen(&replica);
    struct store_usage u = {.time_ns = 5, .id = "r"};
    CHECK_OK(f, store_usage_add(replica.store, &u, 1, NULL, &f->info));
    store_close(replica.store);
    open_with(f, (struct store_config){.replica_url = replica.url});
    insert(f, 1, "x");

    struct store_cursor cursor = {0};
    struct store_key found;
    CHECK_OK(f, store_usage_page(f->store, &all_rows, &cursor, 5, take_none, NULL, &f->info));
    assert_string_equal(cursor.id, "r");
    CHECK_OK(f, store_key_by_hash(f->store, make_key(1, "").hash, &found, &f->info)); /* the primary's */
    snprintf(u.id, sizeof u.id, "p");
    CHECK_OK(f, store_usage_add(f->store, &u, 1, NULL, &f->info));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM usage_logs WHERE id = 'p'"), 1);

    /* Its end: renamed away, so that no new connection is made, either. */
    char sql[200];
    const char *name = strrchr(replica.url, '/') + 1;
    snprintf(sql, sizeof sql,
             "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '%s'",
             name);
    run_sql(f, sql);
    snprintf(sql, sizeof sql, "ALTER DATABASE %s RENAME TO gone_%s", name, name);
    run_sql(f, sql);
    for (int i = 0; i < 3; i++) {
        cursor = (struct store_cursor){0};
        CHECK_OK(f, store_usage_page(f->store, &all_rows, &cursor, 5, take_none, NULL, &f->info));
        assert_string_equal(cursor.id, "p");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(postgresql, a_schema_that_is_behind_is_refused),
        ON(postgresql, a_role_without_rights_to_make_tables_is_enough),
        ON(postgresql, bad_urls_are_refused_without_the_password),
        ON(postgresql, an_ended_connection_is_not_noticed_by_callers),
        ON(postgresql, a_server_that_is_gone_is_down_and_comes_back),
        ON(postgresql, nothing_is_lost_or_doubled_by_crashes),
        ON(postgresql, a_statement_ends_at_its_time),
        ON(postgresql, a_silent_server_is_given_up),
        ON(postgresql, a_clash_of_transactions_is_tried_again),
        ON(postgresql, the_pool_keeps_its_bounds),
        ON(postgresql, a_pool_that_is_all_busy_says_so),
        ON(postgresql, connections_are_replaced_when_they_are_old),
        ON(postgresql, old_reads_go_to_the_replica_and_back),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
