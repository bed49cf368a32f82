/* Sessions: cookies as clients send them, beginnings and ends, and the token that other sites can't know. */
#include "auth_fixture.h"

#define HOUR_NS (3600 * NS_PER_S)
#define ID "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define ID2 "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct store_user make_user(struct fixture *f, const char *id)
{
    struct store_user user = {
        .password_hash = "x", .tier = "basic", .role = STORE_ROLE_OPERATOR, .active = true};
    snprintf(user.id, sizeof user.id, "%016x", (unsigned)strtoul(id, NULL, 16));
    snprintf(user.email, sizeof user.email, "%s@example.org", id);
    CHECK_OK(f, store_user_insert(f->store, &user, &f->info));
    return user;
}

static struct auth_session begin_session(struct fixture *f, const struct store_user *user)
{
    struct auth_session session;
    CHECK_OK(f, auth_session_begin(f->auth, user, "192.0.2.1", &session, &f->info));
    return session;
}

static enum err find(struct fixture *f, const char *id)
{
    struct auth_principal *who = NULL;
    enum err e = auth_session_find(f->auth, str_of(id), &who, &f->info);
    assert_true((e == OK) == (who != NULL));
    auth_principal_unref(who);
    return e;
}

static void reads_cookies(void **state)
{
    (void)state;
    const struct {
        const char *cookie;
        bool secure, found;
    } cases[] = {
        {"wasmwiz=" ID, false, true},
        {"__Host-wasmwiz=" ID, true, true},
        {"a=b; wasmwiz=" ID "; c=d", false, true},
        {"a=b;wasmwiz=" ID, false, true},
        {"  wasmwiz=" ID "  ", false, true},
        {"__Host-wasmwiz=" ID, false, false}, /* each by its own name */
        {"wasmwiz=" ID, true, false},
        {"wasmwiz=" ID "; __Host-wasmwiz=" ID2, true, true},
        {"wasmwiz=" ID "; wasmwiz=" ID2, false, false},
        {"wasmwiz=" ID "; wasmwiz=" ID, false, false},
        {"wasmwiz=x; wasmwiz=" ID, false, false},
        {"wasmwiz=" ID "; wasmwiz=", false, false},
        {"Wasmwiz=" ID, false, false},
        {"WASMWIZ=" ID, false, false},
        {"xwasmwiz=" ID, false, false},
        {"wasmwiz =" ID, false, false},
        {"wasmwiz= " ID, false, false},
        {"wasmwiz=\"" ID "\"", false, false},
        {"wasmwiz=" ID "0", false, false},
        {"wasmwiz=00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff", false, false},
        {"wasmwiz=g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", false, false},
        {"wasmwiz", false, false},
        {"wasmwiz=", false, false},
        {"=", false, false},
        {";;;", false, false},
        {"", false, false},
        {ID, false, false},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct str id = auth_session_of_cookie(str_of(cases[i].cookie), cases[i].secure);
        if ((id.p != NULL) != cases[i].found)
            fail_msg("%s", cases[i].cookie);
        if (id.p)
            assert_true(
                str_eq(id, cases[i].secure && strstr(cases[i].cookie, ID2) ? STR_LIT(ID2) : STR_LIT(ID)));
    }
    assert_null(auth_session_of_cookie(STR_NULL, true).p);
}

static void writes_cookies(void **state)
{
    struct fixture *f = *state;
    char cookie[AUTH_SET_COOKIE_BYTES];
    auth_set_session_times(f->auth, HOUR_NS, 10 * HOUR_NS);
    auth_session_cookie(f->auth, ID, true, cookie);
    assert_string_equal(cookie,
                        "__Host-wasmwiz=" ID "; Path=/; Max-Age=36000; HttpOnly; SameSite=Lax; Secure");
    auth_session_cookie(f->auth, ID, false, cookie);
    assert_string_equal(cookie, "wasmwiz=" ID "; Path=/; Max-Age=36000; HttpOnly; SameSite=Lax");
    auth_session_cookie(f->auth, "", true, cookie);
    assert_string_equal(cookie, "__Host-wasmwiz=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure");
}

static void begins_and_ends(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    struct auth_session a = begin_session(f, &user), b = begin_session(f, &user);
    struct auth_principal *who;
    assert_string_not_equal(a.id, b.id);
    CHECK_OK(f, auth_session_find(f->auth, str_of(a.id), &who, &f->info));
    assert_int_equal(who->kind, AUTH_BY_SESSION);
    assert_string_equal(who->user_id, user.id);
    assert_string_equal(who->id, user.id);
    assert_string_equal(who->key_id, "");
    assert_string_equal(who->tier, "basic");
    assert_int_equal(who->per_minute, 100);
    assert_int_equal(who->role, STORE_ROLE_OPERATOR);
    auth_principal_unref(who);
    CHECK_OK(f, auth_session_end(f->auth, a.id, &f->info));
    CHECK_OK(f, auth_session_end(f->auth, a.id, &f->info));
    assert_int_equal(find(f, a.id), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, b.id), OK);
    assert_int_equal(find(f, ID), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, "short"), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, ""), ERR_UNAUTHORIZED);
}

static void the_store_has_no_id(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    struct auth_session session = begin_session(f, &user);
    char sql[400];
    snprintf(
        sql, sizeof sql,
        "SELECT count(*) FROM sessions WHERE lower(hex(id_hash)) IN ('%s', '%s') OR lower(hex(csrf_hash)) IN"
        " ('%s', '%s')",
        session.id, session.csrf, session.id, session.csrf);
    assert_int_equal(run_sql(f, sql), 0);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM sessions"), 1);
    /* What is kept opens nothing. */
    unsigned char hash[STORE_SESSION_HASH_BYTES];
    char as_id[AUTH_SESSION_BYTES];
    auth_session_hash(f->auth, session.id, hash);
    hex_encode(hash, sizeof hash, as_id);
    assert_int_equal(find(f, as_id), ERR_UNAUTHORIZED);
}

static void tokens_are_of_one_session(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    struct auth_session a = begin_session(f, &user), b = begin_session(f, &user);
    char again[AUTH_SESSION_BYTES];
    auth_session_csrf(f->auth, a.id, again);
    assert_string_equal(again, a.csrf);
    assert_string_not_equal(a.csrf, b.csrf);
    assert_string_not_equal(a.csrf, a.id);
    assert_true(auth_session_csrf_is_right(f->auth, a.id, str_of(a.csrf)));
    assert_false(auth_session_csrf_is_right(f->auth, a.id, str_of(b.csrf)));
    assert_false(auth_session_csrf_is_right(f->auth, a.id, str_of(a.id)));
    assert_false(auth_session_csrf_is_right(f->auth, a.id, str_make(a.csrf, AUTH_SESSION_BYTES - 2)));
    assert_false(auth_session_csrf_is_right(f->auth, a.id, STR_LIT("")));
    assert_false(auth_session_csrf_is_right(f->auth, a.id, STR_NULL));
    again[0] = again[0] == 'a' ? 'b' : 'a';
    assert_false(auth_session_csrf_is_right(f->auth, a.id, str_of(again)));
}

static void ends_when_it_is_not_used(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    auth_set_session_times(f->auth, HOUR_NS, 10 * HOUR_NS);
    struct auth_session session = begin_session(f, &user);
    for (int i = 0; i < 8; i++) { /* used, it goes on */
        clock_ahead_ns += HOUR_NS * 9 / 10;
        assert_int_equal(find(f, session.id), OK);
    }
    clock_ahead_ns += HOUR_NS + NS_PER_S;
    assert_int_equal(find(f, session.id), ERR_UNAUTHORIZED);
}

static void ends_at_the_latest(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    auth_set_session_times(f->auth, HOUR_NS, 10 * HOUR_NS);
    struct auth_session session = begin_session(f, &user);
    for (int i = 0; i < 19; i++) {
        clock_ahead_ns += HOUR_NS / 2;
        assert_int_equal(find(f, session.id), OK);
    }
    clock_ahead_ns += HOUR_NS / 2 + NS_PER_S;
    assert_int_equal(find(f, session.id), ERR_UNAUTHORIZED);
    begin_session(f, &user); /* which sweeps */
    assert_int_equal(run_sql(f, "SELECT count(*) FROM sessions"), 1);
}

static void an_inactive_user_has_none(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    const bool no = false;
    struct auth_session session = begin_session(f, &user);
    CHECK_OK(f,
             store_user_change(f->store, user.id, &(struct store_user_change){.active = &no}, 1, &f->info));
    assert_int_equal(find(f, session.id), ERR_FORBIDDEN);
    assert_int_equal(auth_session_begin(f->auth, &user, "", &session, &f->info), ERR_UNAUTHORIZED);
    CHECK_OK(f, store_user_delete(f->store, user.id, &f->info));
    assert_int_equal(find(f, session.id), ERR_UNAUTHORIZED);
}

/* Between the check of a password and the beginning of its session the password changes. */
static void an_old_password_begins_none(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    struct auth_session session;
    const struct store_user_change change = {.password_hash = "new"};
    CHECK_OK(f, store_user_change(f->store, user.id, &change, 1, &f->info));
    assert_int_equal(auth_session_begin(f->auth, &user, "", &session, &f->info), ERR_UNAUTHORIZED);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM sessions"), 0);
}

static void the_oldest_make_room(void **state)
{
    struct fixture *f = *state;
    struct store_user user = make_user(f, "1");
    struct auth_session first = begin_session(f, &user), second = {.id = ""};
    for (int i = 0; i < AUTH_SESSIONS_MAX; i++) {
        clock_ahead_ns += NS_PER_MS;
        struct auth_session next = begin_session(f, &user);
        if (i == 0)
            second = next;
    }
    assert_int_equal(run_sql(f, "SELECT count(*) FROM sessions"), AUTH_SESSIONS_MAX);
    assert_int_equal(find(f, first.id), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, second.id), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_cookies, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_cookies, setup, teardown),
        cmocka_unit_test_setup_teardown(begins_and_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(the_store_has_no_id, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_are_of_one_session, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_when_it_is_not_used, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_at_the_latest, setup, teardown),
        cmocka_unit_test_setup_teardown(an_inactive_user_has_none, setup, teardown),
        cmocka_unit_test_setup_teardown(an_old_password_begins_none, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_make_room, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
