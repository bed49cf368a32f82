/* Attempts to log in, and the guards that hold when several ask at once: both databases alike. */
#include "store/logins.h"
#include "store/users.h"
#include "store_fixture.h"

/* --- attempts --- */

static void attempts_are_counted_and_forgotten(void **state)
{
    struct fixture *f = begin(state);
    const struct store_login none = {0}, first = {1, 100}, second = {2, 200};
    struct store_login seen = {9, 9};
    CHECK_OK(f, store_login_get(f->store, "ann", &seen, &f->info));
    assert_int_equal(seen.attempts, 0);
    assert_int_equal(seen.last_ns, 0);
    CHECK_OK(f, store_login_put(f->store, "ann", &none, &first, &f->info));
    assert_int_equal(store_login_put(f->store, "ann", &none, &first, &f->info), ERR_CONFLICT);
    CHECK_OK(f, store_login_put(f->store, "ann", &first, &second, &f->info));
    assert_int_equal(store_login_put(f->store, "ann", &first, &second, &f->info), ERR_CONFLICT);
    CHECK_OK(f, store_login_get(f->store, "ann", &seen, &f->info));
    assert_int_equal(seen.attempts, 2);
    assert_int_equal(seen.last_ns, 200);
    for (unsigned left = 2; left > 0; left--)
        CHECK_OK(f, store_login_give(f->store, "ann", &f->info));
    CHECK_OK(f, store_login_give(f->store, "ann", &f->info)); /* never below none */
    CHECK_OK(f, store_login_get(f->store, "ann", &seen, &f->info));
    assert_int_equal(seen.attempts, 0);
    assert_int_equal(seen.last_ns, 200);
    CHECK_OK(f, store_login_forget(f->store, "ann", &f->info));
    CHECK_OK(f, store_login_forget(f->store, "ann", &f->info));
    CHECK_OK(f, store_login_give(f->store, "ann", &f->info));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM login_attempts"), 0);
}

static void subjects_have_a_length(void **state)
{
    struct fixture *f = begin(state);
    const struct store_login none = {0}, first = {1, 100};
    char longest[STORE_LOGIN_SUBJECT_BYTES + 1] = "";
    memset(longest, 'x', STORE_LOGIN_SUBJECT_BYTES);
    assert_int_equal(store_login_put(f->store, longest, &none, &first, &f->info), ERR_FIELD_INVALID);
    assert_int_equal(store_login_put(f->store, "", &none, &first, &f->info), ERR_FIELD_INVALID);
    longest[STORE_LOGIN_SUBJECT_BYTES - 1] = 0;
    CHECK_OK(f, store_login_put(f->store, longest, &none, &first, &f->info));
}

static void old_attempts_are_pruned(void **state)
{
    struct fixture *f = begin(state);
    const struct store_login none = {0};
    for (unsigned i = 1; i <= 5; i++) {
        char subject[8];
        snprintf(subject, sizeof subject, "s%u", i);
        CHECK_OK(f, store_login_put(f->store, subject, &none, &(struct store_login){i, i * 10}, &f->info));
    }
    uint64_t deleted;
    CHECK_OK(f, store_login_prune(f->store, 40, 2, &deleted, &f->info));
    assert_int_equal(deleted, 2);
    CHECK_OK(f, store_login_prune(f->store, 40, 2, &deleted, &f->info));
    assert_int_equal(deleted, 1);
    assert_int_equal(run_sql(f, "SELECT min(last_ns) FROM login_attempts"), 40);
}

static void *count_once(void *ctx)
{
    struct race *r = ctx;
    const struct store_login none = {0}, first = {1, 100};
    enum err e = store_login_put(r->f->store, "ann", &none, &first, NULL);
    r->won = e == OK;
    r->failures = e && e != ERR_CONFLICT;
    return NULL;
}

static void one_of_many_counts(void **state)
{
    struct fixture *f = begin(state);
    for (int round = 0; round < 5; round++) {
        assert_int_equal(run_race(f, count_once), 1);
        CHECK_OK(f, store_login_forget(f->store, "ann", &f->info));
    }
}

/* --- keys within a number --- */

static struct store_key key_of(unsigned number, const struct store_user *user)
{
    char name[16];
    snprintf(name, sizeof name, "key%u", number);
    struct store_key key = make_key(number, name);
    memcpy(key.user_id, user->id, sizeof key.user_id);
    return key;
}

static void a_user_has_so_many_keys(void **state)
{
    struct fixture *f = begin(state);
    insert_user(f, 1, "a@example.org");
    insert_user(f, 2, "b@example.org");
    struct store_user a = make_user(1, ""), b = make_user(2, "");
    struct store_key one = key_of(1, &a), two = key_of(2, &a), three = key_of(3, &a), others = key_of(4, &b);
    CHECK_OK(f, store_key_insert_within(f->store, &one, 2, &f->info));
    struct store_key same = key_of(9, &a);
    memcpy(same.name, one.name, sizeof same.name);
    assert_int_equal(store_key_insert_within(f->store, &same, 2, &f->info), ERR_CONFLICT);
    assert_non_null(strstr(f->info.text, one.name));
    CHECK_OK(f, store_key_insert_within(f->store, &two, 2, &f->info));
    assert_int_equal(store_key_insert_within(f->store, &three, 2, &f->info), ERR_CONFLICT);
    assert_non_null(strstr(f->info.text, "2 keys"));
    CHECK_OK(f, store_key_insert_within(f->store, &others, 1, &f->info));
    CHECK_OK(f, store_key_revoke(f->store, str_of(one.id), 5, &f->info));
    CHECK_OK(f, store_key_insert_within(f->store, &three, 2, &f->info));
    struct store_user nobody = {.id = "00000000000000ff"};
    struct store_key lost = key_of(7, &nobody);
    assert_int_equal(store_key_insert_within(f->store, &lost, 2, &f->info), ERR_FIELD_INVALID);
    assert_int_equal(count_keys(f), 4);
}

static void *make_a_key(void *ctx)
{
    struct race *r = ctx;
    struct store_user user = make_user(1, "");
    struct store_key key = key_of(r->number, &user);
    enum err e = store_key_insert_within(r->f->store, &key, 2, NULL);
    r->won = e == OK;
    r->failures = e && e != ERR_CONFLICT;
    return NULL;
}

static void no_race_makes_more_keys(void **state)
{
    struct fixture *f = begin(state);
    insert_user(f, 1, "a@example.org");
    for (int round = 0; round < 5; round++) {
        assert_int_equal(run_race(f, make_a_key), 2);
        assert_int_equal(run_sql(f, "SELECT count(*) FROM api_keys"), 2);
        run_sql(f, "DELETE FROM api_keys");
    }
}

/* --- the last administrator --- */

static struct store_user insert_admin(struct fixture *f, unsigned number)
{
    char email[32];
    snprintf(email, sizeof email, "%u@example.org", number);
    struct store_user user = make_user(number, email);
    user.role = STORE_ROLE_ADMIN;
    CHECK_OK(f, store_user_insert(f->store, &user, &f->info));
    return user;
}

static void the_last_administrator_stays(void **state)
{
    struct fixture *f = begin(state);
    const enum store_role user_role = STORE_ROLE_USER, admin_role = STORE_ROLE_ADMIN;
    const bool no = false;
    const struct store_user_change demote = {.role = &user_role, .keep_admin = true},
                                   deactivate = {.active = &no, .keep_admin = true},
                                   harmless = {.role = &admin_role, .tier = "pro", .keep_admin = true},
                                   wrong = {.tier = "lead", .keep_admin = true};
    struct store_user admin = insert_admin(f, 1), other = make_user(2, "u@example.org"), found;
    CHECK_OK(f, store_user_insert(f->store, &other, &f->info));
    assert_int_equal(store_user_change(f->store, admin.id, &demote, 1, &f->info), ERR_CONFLICT);
    assert_int_equal(store_user_change(f->store, admin.id, &deactivate, 1, &f->info), ERR_CONFLICT);
    assert_int_equal(store_user_delete_keep_admin(f->store, admin.id, &f->info), ERR_CONFLICT);
    assert_non_null(strstr(f->info.text, "last"));
    CHECK_OK(f, store_user_by_id(f->store, admin.id, &found, &f->info));
    assert_users_equal(&admin, &found);
    CHECK_OK(f, store_user_change(f->store, admin.id, &harmless, 1, &f->info));
    assert_int_equal(store_user_change(f->store, admin.id, &wrong, 1, &f->info), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "lead"));
    /* Others are not guarded. */
    CHECK_OK(f, store_user_change(f->store, other.id, &deactivate, 1, &f->info));
    CHECK_OK(f, store_user_delete_keep_admin(f->store, other.id, &f->info));
    assert_int_equal(store_user_change(f->store, other.id, &demote, 1, &f->info), ERR_NOT_FOUND);
    assert_int_equal(store_user_delete_keep_admin(f->store, other.id, &f->info), ERR_NOT_FOUND);
    insert_admin(f, 3);
    CHECK_OK(f, store_user_change(f->store, admin.id, &demote, 1, &f->info));
}

static void *demote_one(void *ctx)
{
    struct race *r = ctx;
    const enum store_role role = STORE_ROLE_USER;
    const struct store_user_change demote = {.role = &role, .keep_admin = true};
    struct store_user user = make_user(r->number, "");
    enum err e = r->number % 2 ? store_user_change(r->f->store, user.id, &demote, 1, NULL)
                               : store_user_delete_keep_admin(r->f->store, user.id, NULL);
    r->won = e == OK;
    r->failures = e && e != ERR_CONFLICT;
    return NULL;
}

static void no_race_takes_them_all(void **state)
{
    struct fixture *f = begin(state);
    for (int round = 0; round < 5; round++) {
        for (unsigned i = 1; i <= RACERS; i++)
            insert_admin(f, i);
        assert_int_equal(run_race(f, demote_one), RACERS - 1);
        assert_int_equal(run_sql(f, "SELECT count(*) FROM users WHERE role = 'admin'"), 1);
        run_sql(f, "DELETE FROM users");
    }
}

static void a_password_is_replaced_only_while_it_is_the_same(void **state)
{
    struct fixture *f = begin(state);
    insert_user(f, 1, "a@example.org");
    struct store_user user = make_user(1, ""), found;
    struct store_user_change change = {.password_hash = "new", .if_password_hash = "another"};
    assert_int_equal(store_user_change(f->store, user.id, &change, 1, &f->info), ERR_NOT_FOUND);
    change.if_password_hash = user.password_hash;
    CHECK_OK(f, store_user_change(f->store, user.id, &change, 1, &f->info));
    CHECK_OK(f, store_user_by_id(f->store, user.id, &found, &f->info));
    assert_string_equal(found.password_hash, "new");
}

int main(void)
{
    umask(0);
    const struct CMUnitTest tests[] = {
        ON_BOTH(attempts_are_counted_and_forgotten),
        ON_BOTH(subjects_have_a_length),
        ON_BOTH(old_attempts_are_pruned),
        ON_BOTH(one_of_many_counts),
        ON_BOTH(a_user_has_so_many_keys),
        ON_BOTH(no_race_makes_more_keys),
        ON_BOTH(the_last_administrator_stays),
        ON_BOTH(no_race_takes_them_all),
        ON_BOTH(a_password_is_replaced_only_while_it_is_the_same),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
