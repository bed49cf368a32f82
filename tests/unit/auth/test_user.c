/* Accounts, against a real store and with the real hash. */
#include "auth_fixture.h"

#include <sodium.h>

#include "auth/password.h"

#define MAIL "ann@example.org"
#define WORD "correct horse"

static const struct auth_actor command_line = {"", "", ""};
static const struct auth_actor client = {"", "192.0.2.1", "a request"};
static uint32_t wait_s;

static struct store_user create(struct fixture *f, const char *email, enum store_role role)
{
    const struct auth_user_request request = {
        .email = str_of(email), .password = STR_LIT(WORD), .role = role};
    struct store_user user;
    char token[AUTH_KEY_TOKEN_BYTES];
    CHECK_OK(f, auth_user_create(f->auth, &request, &command_line, &user, token, &f->info));
    return user;
}

static enum err login_as(struct fixture *f, const char *email, const char *password, struct store_user *user)
{
    return auth_user_login(f->auth, str_of(email), str_of(password), &client, user, &wait_s, &f->info);
}

static enum err login(struct fixture *f, const char *email, const char *password)
{
    struct store_user user;
    return login_as(f, email, password, &user);
}

static uint64_t events(struct fixture *f, const char *action)
{
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM audit_events WHERE action = '%s'", action);
    return run_sql(f, sql);
}

static void an_account_comes_with_its_key(void **state)
{
    struct fixture *f = *state;
    const struct auth_user_request request = {.email = STR_LIT("Ann@Example.org"),
                                              .password = STR_LIT(WORD),
                                              .role = STORE_ROLE_OPERATOR,
                                              .tier = STR_LIT("basic")};
    struct store_user user, found;
    struct auth_principal *who;
    char token[AUTH_KEY_TOKEN_BYTES];
    CHECK_OK(f, auth_user_create(f->auth, &request, &command_line, &user, token, &f->info));
    CHECK_OK(f, store_user_by_email(f->store, STR_LIT(MAIL), &found, &f->info));
    assert_string_equal(found.id, user.id);
    assert_string_equal(found.email, "Ann@Example.org");
    assert_true(found.active && found.created_ns);
    assert_memory_equal(found.password_hash, "$argon2id$", 10);
    CHECK_OK(f, auth_find(f->auth, str_of(token), &who, &f->info));
    assert_string_equal(who->user_id, user.id);
    assert_string_equal(who->name, "default");
    assert_string_equal(who->tier, "basic");
    assert_int_equal(who->role, STORE_ROLE_OPERATOR);
    auth_principal_unref(who);
    assert_int_equal(events(f, "user.create"), 1);
    assert_int_equal(events(f, "key.create"), 1);
    assert_int_equal(auth_user_create(f->auth, &request, &command_line, &user, token, &f->info),
                     ERR_CONFLICT);
}

static void addresses_are_checked(void **state)
{
    struct fixture *f = *state;
    char longest[AUTH_EMAIL_MAX_BYTES + 2];
    memset(longest, 'a', sizeof longest);
    longest[5] = '@';
    longest[sizeof longest - 1] = 0;
    const char *const bad[] = {"",      "@",     "a@",    "@a",      "a",          "a@b@c", "a b@c",
                               "a@b c", "a@b\n", "\ta@b", "a@b\x7f", "a@\xc3\xa4", longest};
    struct store_user user;
    char token[AUTH_KEY_TOKEN_BYTES];
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        const struct auth_user_request request = {.email = str_of(bad[i]), .password = STR_LIT(WORD)};
        assert_int_equal(auth_user_create(f->auth, &request, &command_line, &user, token, &f->info),
                         ERR_FIELD_INVALID);
        assert_memory_equal(f->info.text, "email:", 6);
    }
    longest[AUTH_EMAIL_MAX_BYTES] = 0;
    create(f, longest, STORE_ROLE_USER);
    create(f, "a@b", STORE_ROLE_USER);
    create(f, "'OR'1'='1'--@x", STORE_ROLE_USER);
}

static void other_fields_are_checked(void **state)
{
    struct fixture *f = *state;
    struct store_user user;
    char token[AUTH_KEY_TOKEN_BYTES];
    struct auth_user_request request = {.email = STR_LIT(MAIL), .password = STR_LIT("123456789")};
    assert_int_equal(auth_user_create(f->auth, &request, &command_line, &user, token, &f->info),
                     ERR_FIELD_INVALID);
    request.password = STR_LIT("1234567890");
    request.tier = STR_LIT("12345678901234567");
    assert_int_equal(auth_user_create(f->auth, &request, &command_line, &user, token, &f->info),
                     ERR_FIELD_INVALID);
    request.tier = STR_LIT("lead");
    assert_int_equal(auth_user_create(f->auth, &request, &command_line, &user, token, &f->info),
                     ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "lead"));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM users"), 0);
    request.tier = STR_LIT("");
    request.when = AUTH_USER_FIRST;
    CHECK_OK(f, auth_user_create(f->auth, &request, &command_line, &user, token, &f->info));
    assert_string_equal(user.tier, "free");
    request.email = STR_LIT("b@example.org");
    assert_int_equal(auth_user_create(f->auth, &request, &command_line, &user, token, &f->info),
                     ERR_CONFLICT);
}

static enum err register_as(struct fixture *f, const char *email, bool first_is_admin,
                            struct store_user *user)
{
    char token[AUTH_KEY_TOKEN_BYTES];
    return auth_user_register(f->auth, str_of(email), STR_LIT(WORD), first_is_admin, &client, user, token,
                              &wait_s, &f->info);
}

static void the_first_may_be_administrator(void **state)
{
    struct fixture *f = *state;
    struct store_user user;
    CHECK_OK(f, register_as(f, "a@example.org", true, &user));
    assert_int_equal(user.role, STORE_ROLE_ADMIN);
    CHECK_OK(f, register_as(f, "b@example.org", true, &user));
    assert_int_equal(user.role, STORE_ROLE_USER);
    assert_int_equal(register_as(f, "B@example.org", true, &user), ERR_CONFLICT);
    /* A deactivated one was the first all the same. */
    run_sql(f, "UPDATE users SET active = 0");
    CHECK_OK(f, register_as(f, "c@example.org", true, &user));
    assert_int_equal(user.role, STORE_ROLE_USER);
    run_sql(f, "DELETE FROM users");
    CHECK_OK(f, register_as(f, "d@example.org", false, &user));
    assert_int_equal(user.role, STORE_ROLE_USER);
}

static void accounts_are_not_made_by_the_dozen(void **state)
{
    struct fixture *f = *state;
    struct store_user user;
    enum err e = OK;
    unsigned made = 0;
    for (; !e && made < 30; made += !e) {
        char email[32];
        snprintf(email, sizeof email, "%u@example.org", made);
        e = register_as(f, email, false, &user);
    }
    assert_int_equal(e, ERR_RATE_LIMITED);
    assert_int_equal(made, 10);
    assert_int_equal(wait_s, 10);
}

static void logs_in_and_slows_down(void **state)
{
    struct fixture *f = *state;
    struct store_user ann = create(f, MAIL, STORE_ROLE_USER), user;
    char wrong[400];
    CHECK_OK(f, login_as(f, "ANN@example.ORG", WORD, &user));
    assert_string_equal(user.id, ann.id);
    assert_int_equal(login(f, "bob@example.org", WORD), ERR_UNAUTHORIZED);
    snprintf(wrong, sizeof wrong, "%s", f->info.text);
    for (int i = 0; i < 4; i++)
        assert_int_equal(login(f, MAIL, "wrong horse"), ERR_UNAUTHORIZED);
    assert_string_equal(f->info.text, wrong); /* whether the account is there is not told */
    CHECK_OK(f, login(f, MAIL, WORD));        /* and all is forgiven */
    for (int i = 0; i < 5; i++)
        assert_int_equal(login(f, MAIL, "wrong horse"), ERR_UNAUTHORIZED);
    assert_int_equal(login(f, MAIL, WORD), ERR_RATE_LIMITED); /* even when it is right */
    assert_int_equal(wait_s, 1);
    clock_ahead_ns += NS_PER_S;
    CHECK_OK(f, login(f, MAIL, WORD));
    /* Accounts that are not there lock as well. */
    for (int i = 0; i < 4; i++)
        assert_int_equal(login(f, "bob@example.org", WORD), ERR_UNAUTHORIZED);
    assert_int_equal(login(f, "bob@example.org", WORD), ERR_RATE_LIMITED);
    assert_int_equal(events(f, "login.ok"), 3);
    assert_int_equal(events(f, "login.failed"), 14);
}

static void one_client_does_not_try_all_accounts(void **state)
{
    struct fixture *f = *state;
    create(f, MAIL, STORE_ROLE_USER);
    unsigned tried = 0;
    for (enum err e = OK; e != ERR_RATE_LIMITED && tried < 40; tried++) {
        char email[32];
        snprintf(email, sizeof email, "%u@example.org", tried);
        e = login(f, email, WORD);
        if (tried % 3 == 0 && e != ERR_RATE_LIMITED) /* an account of one's own does not help */
            CHECK_OK(f, login(f, MAIL, WORD));
    }
    assert_in_range(tried, 10, 25);
    struct store_user user;
    const struct auth_actor elsewhere = {"", "192.0.2.2", "another"};
    CHECK_OK(f, auth_user_login(f->auth, STR_LIT(MAIL), STR_LIT(WORD), &elsewhere, &user, &wait_s, &f->info));
}

static void an_inactive_account_stays_out(void **state)
{
    struct fixture *f = *state;
    struct store_user ann = create(f, MAIL, STORE_ROLE_USER);
    const bool no = false, yes = true;
    struct auth_session session;
    CHECK_OK(f, auth_session_begin(f->auth, &ann, "", &session, &f->info));
    CHECK_OK(f, auth_user_change(f->auth, ann.id, &(struct auth_user_change){.active = &no}, &command_line,
                                 &f->info));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM sessions"), 0);
    assert_int_equal(login(f, MAIL, WORD), ERR_FORBIDDEN);
    assert_int_equal(login(f, MAIL, "wrong horse"), ERR_UNAUTHORIZED);
    CHECK_OK(f, auth_user_change(f->auth, ann.id, &(struct auth_user_change){.active = &yes}, &command_line,
                                 &f->info));
    CHECK_OK(f, login(f, MAIL, WORD));
    assert_int_equal(events(f, "user.deactivate"), 1);
    assert_int_equal(events(f, "user.activate"), 1);
}

static void hashes_are_brought_up_to_date(void **state)
{
    struct fixture *f = *state;
    struct store_user ann = create(f, MAIL, STORE_ROLE_USER), found;
    char old[crypto_pwhash_STRBYTES];
    assert_int_equal(
        crypto_pwhash_str(old, WORD, strlen(WORD), crypto_pwhash_OPSLIMIT_MIN, crypto_pwhash_MEMLIMIT_MIN),
        0);
    const struct store_user_change change = {.password_hash = old};
    CHECK_OK(f, store_user_change(f->store, ann.id, &change, 1, &f->info));
    CHECK_OK(f, login_as(f, MAIL, WORD, &ann));
    CHECK_OK(f, store_user_by_id(f->store, ann.id, &found, &f->info));
    assert_string_not_equal(found.password_hash, old);
    assert_string_equal(found.password_hash, ann.password_hash); /* so that a session can begin */
    CHECK_OK(f, login(f, MAIL, WORD));
}

static enum err change_password(struct fixture *f, const char *id, const char *from, const char *to,
                                const char *keep)
{
    return auth_user_change_password(f->auth, id, str_of(from), str_of(to), keep, &client, &wait_s, &f->info);
}

static void a_new_password_ends_the_other_sessions(void **state)
{
    struct fixture *f = *state;
    struct store_user ann = create(f, MAIL, STORE_ROLE_USER);
    struct auth_session own, other;
    struct auth_principal *who;
    CHECK_OK(f, auth_session_begin(f->auth, &ann, "", &own, &f->info));
    CHECK_OK(f, auth_session_begin(f->auth, &ann, "", &other, &f->info));
    assert_int_equal(change_password(f, ann.id, "wrong horse", "battery staple", own.id), ERR_FORBIDDEN);
    assert_int_equal(change_password(f, ann.id, WORD, "short", own.id), ERR_FIELD_INVALID);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM sessions"), 2);
    CHECK_OK(f, change_password(f, ann.id, WORD, "battery staple", own.id));
    CHECK_OK(f, auth_session_find(f->auth, str_of(own.id), &who, &f->info));
    auth_principal_unref(who);
    assert_int_equal(auth_session_find(f->auth, str_of(other.id), &who, &f->info), ERR_UNAUTHORIZED);
    assert_int_equal(login(f, MAIL, WORD), ERR_UNAUTHORIZED);
    CHECK_OK(f, login(f, MAIL, "battery staple"));
    CHECK_OK(f, change_password(f, ann.id, "battery staple", WORD, NULL));
    assert_int_equal(auth_session_find(f->auth, str_of(own.id), &who, &f->info), ERR_UNAUTHORIZED);
    /* A stolen session does not guess on. */
    for (int i = 0; i < 5; i++)
        assert_int_equal(change_password(f, ann.id, "wrong horse", "battery staple", NULL), ERR_FORBIDDEN);
    assert_int_equal(change_password(f, ann.id, WORD, "battery staple", NULL), ERR_RATE_LIMITED);
}

static void an_administrator_stays(void **state)
{
    struct fixture *f = *state;
    struct store_user admin = create(f, MAIL, STORE_ROLE_ADMIN);
    const enum store_role role = STORE_ROLE_USER;
    const struct auth_user_change demote = {.role = &role};
    assert_int_equal(auth_user_change(f->auth, admin.id, &demote, &command_line, &f->info), ERR_CONFLICT);
    assert_int_equal(auth_user_delete(f->auth, admin.id, &command_line, &f->info), ERR_CONFLICT);
    assert_int_equal(events(f, "user.role") + events(f, "user.delete"), 0);
    create(f, "b@example.org", STORE_ROLE_ADMIN);
    CHECK_OK(f, auth_user_change(f->auth, admin.id, &demote, &command_line, &f->info));
    CHECK_OK(f, auth_user_delete(f->auth, admin.id, &command_line, &f->info));
    assert_int_equal(auth_user_delete(f->auth, admin.id, &command_line, &f->info), ERR_NOT_FOUND);
    assert_int_equal(events(f, "user.role"), 1);
    assert_int_equal(events(f, "user.delete"), 1);
}

/* What is remembered about a key is forgotten with the change, without waiting for the next look. */
static void changes_are_in_force_at_once(void **state)
{
    struct fixture *f = *state;
    const struct auth_user_request request = {.email = STR_LIT(MAIL), .password = STR_LIT(WORD)};
    const enum store_role role = STORE_ROLE_ADMIN;
    struct store_user user;
    struct auth_principal *who;
    char token[AUTH_KEY_TOKEN_BYTES];
    CHECK_OK(f, auth_user_create(f->auth, &request, &command_line, &user, token, &f->info));
    auth_refresh(f->auth);
    CHECK_OK(f, auth_find(f->auth, str_of(token), &who, &f->info));
    auth_principal_unref(who);
    assert_int_equal(auth_cached(f->auth, str_of(token), &who), AUTH_KNOWN);
    auth_principal_unref(who);
    const struct auth_user_change change = {.role = &role, .tier = "pro"};
    CHECK_OK(f, auth_user_change(f->auth, user.id, &change, &command_line, &f->info));
    assert_int_equal(auth_cached(f->auth, str_of(token), &who), AUTH_ASK);
    CHECK_OK(f, auth_find(f->auth, str_of(token), &who, &f->info));
    assert_int_equal(who->role, STORE_ROLE_ADMIN);
    assert_string_equal(who->tier, "pro");
    auth_principal_unref(who);
}

int main(void)
{
    alarm(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_account_comes_with_its_key, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(other_fields_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_may_be_administrator, setup, teardown),
        cmocka_unit_test_setup_teardown(accounts_are_not_made_by_the_dozen, setup, teardown),
        cmocka_unit_test_setup_teardown(logs_in_and_slows_down, setup, teardown),
        cmocka_unit_test_setup_teardown(one_client_does_not_try_all_accounts, setup, teardown),
        cmocka_unit_test_setup_teardown(an_inactive_account_stays_out, setup, teardown),
        cmocka_unit_test_setup_teardown(hashes_are_brought_up_to_date, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_password_ends_the_other_sessions, setup, teardown),
        cmocka_unit_test_setup_teardown(an_administrator_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(changes_are_in_force_at_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
