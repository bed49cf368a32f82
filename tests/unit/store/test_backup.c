/* Backups of the embedded database: consistent under load, whole or not there, refused where they are not sound. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "store/backup.h"
#include "store_fixture.h"

static char file[160], target[160], part[176];

static struct fixture *begin_with_names(void **state)
{
    struct fixture *f = begin(state);
    snprintf(file, sizeof file, "%s/backup", f->folder);
    snprintf(target, sizeof target, "%s/new.db", f->folder);
    snprintf(part, sizeof part, "%s.part", file);
    return f;
}

static enum err save(struct fixture *f, const char *secret, bool replace, struct store_backup_info *info)
{
    return store_backup(&(struct store_config){.url = f->url}, file, str_of(secret), replace, info, &f->info);
}

static enum err restore(struct fixture *f, bool replace, struct store_backup_info *info)
{
    return store_restore(&(struct store_config){.url = target}, file, replace, info, &f->info);
}

static void add_key(struct fixture *f, unsigned n)
{
    char name[32];
    snprintf(name, sizeof name, "key-%u", n);
    struct store_key key = make_key(n, name);
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
}

static bool count_one(void *ctx, const struct store_key *key)
{
    (void)key;
    ++*(unsigned *)ctx;
    return true;
}

static unsigned keys_in_target(struct fixture *f)
{
    struct store *store;
    unsigned count = 0;
    CHECK_OK(f, store_open(target, &store, &f->info));
    CHECK_OK(f, store_key_each(store, count_one, &count, &f->info));
    store_close(store);
    return count;
}

static bool file_has(const char *path, const char *word)
{
    static char bytes[1 << 20];
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t len = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return memmem(bytes, len, word, strlen(word)) != NULL;
}

static void there_and_back(void **state)
{
    struct fixture *f = begin_with_names(state);
    struct store_backup_info saved, back;
    struct stat st;
    for (unsigned i = 0; i < 5; i++)
        add_key(f, i);
    CHECK_OK(f, save(f, "a secret of the tests", false, &saved));
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, saved.bytes);
    assert_int_equal(saved.schema_version, store_schema_version());
    add_key(f, 5); /* too late */
    CHECK_OK(f, restore(f, false, &back));
    assert_string_equal(back.secret, "a secret of the tests");
    assert_string_equal(back.program, WW_VERSION);
    assert_int_equal(back.created_ns, saved.created_ns);
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(keys_in_target(f), 5);
    assert_true(file_has(file, "a secret of the tests"));
    assert_false(file_has(target, "a secret of the tests"));
    assert_int_equal(access(part, F_OK), -1);
}

static void nothing_is_overwritten_unasked(void **state)
{
    struct fixture *f = begin_with_names(state);
    struct store_backup_info info;
    add_key(f, 0);
    CHECK_OK(f, save(f, "", false, &info));
    assert_int_equal(save(f, "", false, &info), ERR_CONFLICT);
    add_key(f, 1);
    CHECK_OK(f, save(f, "", true, &info));
    CHECK_OK(f, restore(f, false, &info));
    assert_int_equal(restore(f, false, &info), ERR_CONFLICT);
    assert_int_equal(keys_in_target(f), 2);
    add_key(f, 2);
    CHECK_OK(f, save(f, "", true, &info));
    CHECK_OK(f, restore(f, true, &info));
    assert_int_equal(keys_in_target(f), 3);
}

static atomic_bool stop;

static void *add_keys(void *arg)
{
    struct fixture *f = arg;
    struct err_info info = {0};
    for (unsigned n = 0; !atomic_load(&stop); n++) {
        char name[32];
        snprintf(name, sizeof name, "busy-%u", n);
        struct store_key key = make_key(n, name);
        if (store_key_insert(f->store, &key, &info))
            return "a key could not be added";
    }
    return NULL;
}

/* Writers go on while it copies; each copy is sound, and later ones have no less than earlier ones. */
static void others_may_write_meanwhile(void **state)
{
    struct fixture *f = begin_with_names(state);
    struct store_backup_info info;
    pthread_t writer;
    void *failure;
    unsigned last = 0;
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&writer, NULL, add_keys, f), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_OK(f, save(f, "", true, &info));
        CHECK_OK(f, restore(f, true, &info));
        unsigned now = keys_in_target(f);
        assert_true(now >= last);
        last = now;
    }
    atomic_store(&stop, true);
    pthread_join(writer, &failure);
    assert_null(failure);
    assert_true(last > 0);
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+e");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x55, f);
    fclose(f);
}

/* Wherever a byte is wrong, a restore ends in words or in a database that opens; the old one is never harmed. */
static void damage_is_noticed(void **state)
{
    struct fixture *f = begin_with_names(state);
    struct store_backup_info info;
    for (unsigned i = 0; i < 50; i++)
        add_key(f, i);
    CHECK_OK(f, save(f, "", false, &info));
    CHECK_OK(f, restore(f, false, &info));
    unsigned refused = 0;
    for (long at = 0; at < (long)info.bytes; at += 4001) {
        CHECK_OK(f, save(f, "", true, &info));
        flip_byte(file, at);
        enum err e = restore(f, true, &info);
        refused += e != OK;
        assert_true(e == OK || e == ERR_FIELD_INVALID || e == ERR_STORE_DOWN || e == ERR_DISK_FAULT);
        if (e)
            assert_true(keys_in_target(f) > 0);
    }
    assert_true(refused > 0);
    CHECK_OK(f, save(f, "", true, &info));
    assert_int_equal(truncate(file, (off_t)info.bytes / 2), 0);
    assert_int_not_equal(restore(f, true, &info), OK);
}

static void what_is_no_backup_is_refused(void **state)
{
    struct fixture *f = begin_with_names(state);
    struct store_backup_info info;
    assert_int_equal(restore(f, false, &info), ERR_NOT_FOUND);
    FILE *text = fopen(file, "we");
    fputs("this is no database at all, only some text\n", text);
    fclose(text);
    assert_int_equal(restore(f, false, &info), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, file));
    /* A database, but not a backup: that of a running server, say. */
    struct store_config here = {.url = target};
    assert_int_equal(store_restore(&here, f->url + strlen("sqlite:"), false, &info, &f->info),
                     ERR_FIELD_INVALID);
    assert_int_equal(access(target, F_OK), -1);
}

static void a_newer_programs_backup_is_refused(void **state)
{
    struct fixture *f = begin_with_names(state);
    struct store_backup_info info;
    sqlite3 *db;
    CHECK_OK(f, save(f, "", false, &info));
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "INSERT INTO schema_migrations VALUES (9999, 1)", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(restore(f, false, &info), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "9999"));
}

static void other_databases_have_their_own_tools(void **state)
{
    struct fixture *f = begin_with_names(state);
    struct store_backup_info info;
    struct store_config postgres = {.url = "postgresql://u:hidden@h/d"}, nowhere = {.url = "/nowhere/at.all"};
    assert_int_equal(store_backup(&postgres, file, STR_LIT(""), false, &info, &f->info), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "pg_dump"));
    assert_null(strstr(f->info.text, "hidden"));
    assert_int_equal(store_restore(&postgres, file, false, &info, &f->info), ERR_FIELD_INVALID);
    assert_int_equal(store_backup(&nowhere, file, STR_LIT(""), false, &info, &f->info), ERR_NOT_FOUND);
    struct store_config here = {.url = f->url};
    assert_int_equal(store_backup(&here, "/nowhere/at/all", STR_LIT(""), false, &info, &f->info),
                     ERR_DISK_FAULT);
}

int main(void)
{
#define BACKUP_TEST(name) cmocka_unit_test_setup_teardown(name, setup_sqlite, teardown)
    const struct CMUnitTest tests[] = {
        BACKUP_TEST(there_and_back),
        BACKUP_TEST(nothing_is_overwritten_unasked),
        BACKUP_TEST(others_may_write_meanwhile),
        BACKUP_TEST(damage_is_noticed),
        BACKUP_TEST(what_is_no_backup_is_refused),
        BACKUP_TEST(a_newer_programs_backup_is_refused),
        BACKUP_TEST(other_databases_have_their_own_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
