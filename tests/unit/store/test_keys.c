/* What both databases must do alike: keys, and the number that tells of changes. */
#include "store_fixture.h"

/* --- keys --- */

static void keys_are_kept(void **state)
{
    struct fixture *f = begin(state);
    struct store_key key = make_key(1, "first"), found, near;
    insert_user(f, 1, "a@example.org");
    key.expires_ns = INT64_MAX;
    key.revoked_ns = 7;
    key.last_used_ns = 8;
    snprintf(key.user_id, sizeof key.user_id, "%s", make_user(1, "").id);
    memset(key.hash, 0, 16); /* bytes that end strings */
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    for (int i = 0; i < 2; i++) {
        memset(&found, 0xff, sizeof found);
        CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
        assert_keys_equal(&key, &found);
        CHECK_OK(f, store_key_by_id(f->store, key.id, &found, &f->info));
        assert_keys_equal(&key, &found);
        reopen(f);
    }
    near = key;
    near.hash[31] ^= 1;
    found.created_ns = 77;
    assert_int_equal(store_key_by_hash(f->store, near.hash, &found, &f->info), ERR_NOT_FOUND);
    assert_int_equal(found.created_ns, 77);
    snprintf(near.user_id, sizeof near.user_id, "nobody");
    snprintf(near.id, sizeof near.id, "0000000000000002");
    assert_int_equal(store_key_insert(f->store, &near, &f->info), ERR_FIELD_INVALID);
    near.expires_ns = (uint64_t)INT64_MAX + 1;
    assert_int_equal(store_key_insert(f->store, &near, &f->info), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "expires_ns"));
    assert_int_equal(count_keys(f), 1);
}

static void a_key_comes_with_its_user(void **state)
{
    struct fixture *f = begin(state);
    struct store_user user = make_user(1, "a@example.org"), found_user;
    struct store_key key = make_key(1, "x"), found;
    insert(f, 2, "of nobody");
    CHECK_OK(f, store_user_insert(f->store, &user, &f->info));
    snprintf(key.user_id, sizeof key.user_id, "%s", user.id);
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    CHECK_OK(f, store_key_and_user_by_hash(f->store, key.hash, &found, &found_user, &f->info));
    assert_keys_equal(&key, &found);
    assert_users_equal(&user, &found_user);
    struct store_key nobodys = make_key(2, "of nobody");
    CHECK_OK(f, store_key_and_user_by_hash(f->store, nobodys.hash, &found, &found_user, &f->info));
    assert_keys_equal(&nobodys, &found);
    assert_string_equal(found_user.id, "");
    CHECK_OK(f, store_user_delete(f->store, user.id, &f->info));
    assert_int_equal(store_key_and_user_by_hash(f->store, key.hash, &found, &found_user, &f->info),
                     ERR_NOT_FOUND);
    assert_int_equal(count_keys(f), 1);
}

static void a_live_name_is_taken(void **state)
{
    struct fixture *f = begin(state);
    insert(f, 1, "ci");
    struct store_key second = make_key(2, "ci");
    assert_int_equal(store_key_insert(f->store, &second, &f->info), ERR_CONFLICT);
    assert_non_null(strstr(f->info.text, "\"ci\""));
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("ci"), 5, &f->info));
    CHECK_OK(f, store_key_insert(f->store, &second, &f->info));
    CHECK_OK(f,
             store_key_revoke(f->store, STR_LIT("ci"), 6, &f->info)); /* two revoked keys may have one name */
    insert(f, 3, "ci");
    assert_int_equal(count_keys(f), 3);
    /* The same id or hash again is a clash too, but not one of names. */
    second = make_key(2, "other");
    assert_int_equal(store_key_insert(f->store, &second, &f->info), ERR_CONFLICT);
    assert_null(strstr(f->info.text, "other"));
    second.hash[9] ^= 1;
    assert_int_equal(store_key_insert(f->store, &second, &f->info), ERR_CONFLICT);
    insert(f, 4, "free");
    struct store_key_change change = {.name = "ci"};
    assert_int_equal(store_key_change(f->store, make_key(4, "").id, &change, &f->info), ERR_CONFLICT);
    assert_non_null(strstr(f->info.text, "\"ci\""));
}

static uint64_t revoked_ns(struct fixture *f, unsigned number)
{
    struct store_key key = make_key(number, ""), found;
    CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
    return found.revoked_ns;
}

static void revokes_by_id_and_by_name(void **state)
{
    struct fixture *f = begin(state);
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
        STR_LIT("one\0"),
        STR_LIT("\xff"),
        STR_LIT("an identifier that is longer than any identifier that the database holds, by far"),
    };
    insert(f, 4, "one");
    for (size_t i = 0; i < LENGTH_OF(unknown); i++)
        assert_int_equal(store_key_revoke(f->store, unknown[i], 70, &f->info), ERR_NOT_FOUND);
    assert_int_equal(revoked_ns(f, 4), 0);
    /* The name of a user's key is the user's affair. */
    insert_user(f, 1, "a@example.org");
    struct store_key key = make_key(5, "mine");
    snprintf(key.user_id, sizeof key.user_id, "%s", make_user(1, "").id);
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    assert_int_equal(store_key_revoke(f->store, STR_LIT("mine"), 70, &f->info), ERR_NOT_FOUND);
    CHECK_OK(f, store_key_revoke(f->store, str_of(key.id), 70, &f->info));
}

static void keys_are_changed_and_deleted(void **state)
{
    struct fixture *f = begin(state);
    struct store_key key = make_key(1, "one"), found;
    uint64_t expires = 12345;
    insert(f, 1, "one");
    struct store_key_change change = {.name = "uno"};
    CHECK_OK(f, store_key_change(f->store, key.id, &change, &f->info));
    change = (struct store_key_change){.tier = "pro", .expires_ns = &expires};
    CHECK_OK(f, store_key_change(f->store, key.id, &change, &f->info));
    CHECK_OK(f, store_key_by_id(f->store, key.id, &found, &f->info));
    assert_string_equal(found.name, "uno");
    assert_string_equal(found.tier, "pro");
    assert_int_equal(found.expires_ns, 12345);
    change = (struct store_key_change){.tier = "none"};
    assert_int_equal(store_key_change(f->store, key.id, &change, &f->info), ERR_FIELD_INVALID);
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("uno"), 9, &f->info));
    change = (struct store_key_change){.name = "eins"};
    assert_int_equal(store_key_change(f->store, key.id, &change, &f->info), ERR_NOT_FOUND);
    CHECK_OK(f, store_key_delete(f->store, key.id, &f->info));
    assert_int_equal(store_key_delete(f->store, key.id, &f->info), ERR_NOT_FOUND);
}

static void the_last_use_only_moves_forward(void **state)
{
    struct fixture *f = begin(state);
    struct store_key_use uses[] = {{"0000000000000001", 50},
                                   {"0000000000000002", 70},
                                   {"0000000000000001", 60},
                                   {"00000000000000ff", 80},
                                   {"0000000000000001", 55}};
    struct store_key found;
    uint64_t before, after;
    insert(f, 1, "one");
    insert(f, 2, "two");
    insert(f, 3, "three");
    CHECK_OK(f, store_version(f->store, &before, &f->info));
    CHECK_OK(f, store_key_touch(f->store, uses, LENGTH_OF(uses), &f->info));
    CHECK_OK(f, store_key_touch(f->store, uses, 0, &f->info));
    uses[1].time_ns = 69;
    CHECK_OK(f, store_key_touch(f->store, uses, 2, &f->info));
    CHECK_OK(f, store_version(f->store, &after, &f->info));
    assert_int_equal(before, after);
    static const uint64_t expected[] = {60, 70, 0};
    for (unsigned i = 0; i < LENGTH_OF(expected); i++) {
        CHECK_OK(f, store_key_by_id(f->store, make_key(i + 1, "").id, &found, &f->info));
        assert_int_equal(found.last_used_ns, expected[i]);
    }
}

static bool note_key(void *ctx, const struct store_key *key)
{
    struct ids *ids = ctx;
    snprintf(ids->ids[ids->count++], sizeof ids->ids[0], "%s", key->id);
    return ids->count != ids->stop_after;
}

static void keys_are_listed_newest_first(void **state)
{
    struct fixture *f = begin(state);
    struct ids ids = {.stop_after = 2};
    insert(f, 2, "b");
    insert(f, 3, "c");
    insert(f, 1, "a");
    CHECK_OK(f, store_key_each(f->store, note_key, &ids, &f->info));
    assert_int_equal(ids.count, 2);
    assert_string_equal(ids.ids[0], "0000000000000003");
    assert_string_equal(ids.ids[1], "0000000000000002");
    /* More than two of its pages, all of one time. */
    run_sql(f,
            f->is_postgres
                ? "INSERT INTO api_keys (id, name, prefix, tier, hash, created_ns, expires_ns, revoked_ns)"
                  " SELECT to_char(i, 'FM0000000000000000'), 'n' || i, 'ww_', 'free',"
                  " decode(lpad(to_hex(i), 64, '0'), 'hex'), 5, 0, 0 FROM generate_series(10, 1109) AS g (i)"
                : "WITH RECURSIVE g (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM g WHERE i < 1109)"
                  " INSERT INTO api_keys (id, name, prefix, tier, hash, created_ns, expires_ns, revoked_ns)"
                  " SELECT printf('%016d', i), 'n' || i, 'ww_', 'free', randomblob(32), 5, 0, 0 FROM g");
    assert_int_equal(count_keys(f), 1103);
}

/* Rows that come in while somebody turns the pages neither repeat nor hide others. */
static void pages_are_stable_under_inserts(void **state)
{
    struct fixture *f = begin(state);
    struct store_cursor cursor = {0};
    struct ids ids = {0};
    insert_user(f, 1, "a@example.org");
    for (unsigned i = 1; i <= 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "k%u", i);
        struct store_key key = make_key(i, name);
        key.created_ns = 100 + i / 4; /* ties */
        snprintf(key.user_id, sizeof key.user_id, "%s", i % 2 ? make_user(1, "").id : "");
        CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    }
    for (unsigned page = 0; page < 8; page++) {
        char name[32];
        snprintf(name, sizeof name, "late%u", page);
        insert(f, 100 + page, name); /* newer than all */
        CHECK_OK(f, store_key_page(f->store, NULL, &cursor, 3, note_key, &ids, &f->info));
    }
    assert_int_equal(ids.count, 21); /* the 20, and the one that was there before the first page */
    for (size_t i = 0; i < ids.count; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids.ids[i], ids.ids[j]);
    ids.count = 0;
    cursor = (struct store_cursor){0};
    for (unsigned page = 0; page < 5; page++)
        CHECK_OK(f, store_key_page(f->store, make_user(1, "").id, &cursor, 3, note_key, &ids, &f->info));
    assert_int_equal(ids.count, 10);
    for (size_t i = 0; i < ids.count; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids.ids[i], ids.ids[j]);
}

static void *insert_and_read(void *ctx)
{
    struct race *r = ctx;
    for (unsigned i = 0; i < 20; i++) {
        char name[32];
        struct store_key key, found;
        uint64_t v;
        snprintf(name, sizeof name, "key-%u-%u", r->number, i);
        key = make_key(r->number * 100 + i, name);
        r->failures += store_key_insert(r->f->store, &key, NULL) != OK;
        r->failures += store_key_by_hash(r->f->store, key.hash, &found, NULL) != OK;
        r->failures += strcmp(found.name, name) != 0;
        r->failures += store_version(r->f->store, &v, NULL) != OK;
    }
    return NULL;
}

static void several_threads_share_a_store(void **state)
{
    struct fixture *f = begin(state);
    run_race(f, insert_and_read);
    assert_int_equal(count_keys(f), RACERS * 20);
}

/* --- the version --- */

static void the_version_tells_of_changes(void **state)
{
    struct fixture *f = begin(state);
    static const char *const changes[] = {
        "UPDATE tiers SET per_day = 501 WHERE name = 'free'",
        "INSERT INTO tiers (name, per_minute, per_day, concurrency) VALUES ('x', 1, 1, 1)",
        "DELETE FROM tiers WHERE name = 'x'",
        "UPDATE users SET active = 0",
        "UPDATE api_keys SET revoked_ns = 5",
        "UPDATE api_keys SET tier = 'pro'",
        "DELETE FROM api_keys",
        "DELETE FROM users",
    };
    struct store *other;
    uint64_t seen, now;
    insert_user(f, 1, "a@example.org");
    insert(f, 1, "x");
    CHECK_OK(f, store_open(f->url, &other, &f->info));
    CHECK_OK(f, store_version(f->store, &seen, &f->info));
    for (size_t i = 0; i < LENGTH_OF(changes); i++) {
        CHECK_OK(f, store_ping(other, &f->info));
        CHECK_OK(f, store_version(f->store, &now, &f->info));
        assert_int_equal(now, seen);
        run_sql(f, changes[i]);
        CHECK_OK(f, store_version(f->store, &now, &f->info));
        if (now == seen)
            fail_msg("not noticed: %s", changes[i]);
        seen = now;
    }
    struct store_key key = make_key(2, "y");
    CHECK_OK(f, store_key_insert(other, &key, &f->info));
    CHECK_OK(f, store_version(f->store, &now, &f->info));
    assert_true(now != seen);
    seen = now;
    CHECK_OK(f, store_key_revoke(f->store, STR_LIT("y"), 3, &f->info));
    CHECK_OK(f, store_version(f->store, &now, &f->info));
    assert_true(now != seen);
    store_close(other);
}

int main(void)
{
    umask(0);
    const struct CMUnitTest tests[] = {
        ON_BOTH(keys_are_kept),
        ON_BOTH(a_key_comes_with_its_user),
        ON_BOTH(a_live_name_is_taken),
        ON_BOTH(revokes_by_id_and_by_name),
        ON_BOTH(keys_are_changed_and_deleted),
        ON_BOTH(the_last_use_only_moves_forward),
        ON_BOTH(keys_are_listed_newest_first),
        ON_BOTH(pages_are_stable_under_inserts),
        ON_BOTH(several_threads_share_a_store),
        ON_BOTH(the_version_tells_of_changes),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
