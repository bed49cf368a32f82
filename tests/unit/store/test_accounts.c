/* What both databases must do alike: tiers, users, sessions, audit, and any text in all of them. */
#include "store/audit.h"
#include "store/sessions.h"
#include "store_fixture.h"

/* --- tiers --- */

static void check_tier(struct fixture *f, const char *name, uint64_t per_minute, uint64_t per_day)
{
    struct store_tier tier;
    CHECK_OK(f, store_tier_get(f->store, name, &tier, &f->info));
    assert_string_equal(tier.name, name);
    assert_int_equal(tier.per_minute, per_minute);
    assert_int_equal(tier.per_day, per_day);
    assert_true(tier.concurrency > 0);
}

static bool count_tier(void *ctx, const struct store_tier *tier)
{
    (void)tier;
    ++*(unsigned *)ctx;
    return true;
}

static void tiers_are_seeded_and_can_be_changed(void **state)
{
    struct fixture *f = begin(state);
    unsigned count = 0;
    check_tier(f, "free", 10, 500);
    check_tier(f, "basic", 100, 10000);
    check_tier(f, "pro", 500, 50000);
    struct store_tier gold = {"gold", 1000, 99999, 7}, none = {"none", 0, 1, 1}, tier;
    CHECK_OK(f, store_tier_put(f->store, &gold, &f->info));
    gold.per_minute = 1001;
    CHECK_OK(f, store_tier_put(f->store, &gold, &f->info));
    check_tier(f, "gold", 1001, 99999);
    assert_int_equal(store_tier_put(f->store, &none, &f->info), ERR_FIELD_INVALID);
    none = (struct store_tier){"", 1, 1, 1};
    assert_int_equal(store_tier_put(f->store, &none, &f->info), ERR_FIELD_INVALID);
    CHECK_OK(f, store_tier_each(f->store, count_tier, &count, &f->info));
    assert_int_equal(count, 4);
    struct store_key key = make_key(1, "x");
    snprintf(key.tier, sizeof key.tier, "gold");
    CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
    assert_int_equal(store_tier_delete(f->store, "gold", &f->info), ERR_CONFLICT);
    CHECK_OK(f, store_key_delete(f->store, key.id, &f->info));
    CHECK_OK(f, store_tier_delete(f->store, "gold", &f->info));
    assert_int_equal(store_tier_get(f->store, "gold", &tier, &f->info), ERR_NOT_FOUND);
    assert_int_equal(store_tier_delete(f->store, "gold", &f->info), ERR_NOT_FOUND);
}

/* --- users --- */

static void users_are_made_found_changed_and_deleted(void **state)
{
    struct fixture *f = begin(state);
    struct store_user user = make_user(1, "Ann@Example.org"), found, same = make_user(2, "ANN@example.ORG");
    CHECK_OK(f, store_user_insert(f->store, &user, &f->info));
    CHECK_OK(f, store_user_by_id(f->store, user.id, &found, &f->info));
    assert_users_equal(&user, &found);
    CHECK_OK(f, store_user_by_email(f->store, STR_LIT("ann@EXAMPLE.org"), &found, &f->info));
    assert_users_equal(&user, &found);
    assert_int_equal(store_user_insert(f->store, &same, &f->info), ERR_CONFLICT);
    assert_non_null(strstr(f->info.text, "ANN@example.ORG"));
    snprintf(same.email, sizeof same.email, "bob@example.org");
    snprintf(same.id, sizeof same.id, "%s", user.id);
    assert_int_equal(store_user_insert(f->store, &same, &f->info), ERR_CONFLICT);
    assert_null(strstr(f->info.text, "bob"));
    snprintf(same.id, sizeof same.id, "00000000000000ff");
    snprintf(same.tier, sizeof same.tier, "lead");
    assert_int_equal(store_user_insert(f->store, &same, &f->info), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "lead"));

    enum store_role admin = STORE_ROLE_ADMIN;
    bool active = false;
    struct store_user_change change = {.role = &admin};
    CHECK_OK(f, store_user_change(f->store, user.id, &change, 900, &f->info));
    user.role = admin;
    user.updated_ns = 900;
    CHECK_OK(f, store_user_by_id(f->store, user.id, &found, &f->info));
    assert_users_equal(&user, &found);
    change = (struct store_user_change){
        .email = "New@example.org", .password_hash = "other", .tier = "pro", .active = &active};
    CHECK_OK(f, store_user_change(f->store, user.id, &change, 901, &f->info));
    CHECK_OK(f, store_user_by_email(f->store, STR_LIT("new@example.org"), &found, &f->info));
    assert_string_equal(found.email, "New@example.org");
    assert_string_equal(found.password_hash, "other");
    assert_string_equal(found.tier, "pro");
    assert_false(found.active);
    assert_int_equal(found.role, admin);
    assert_int_equal(store_user_by_email(f->store, STR_LIT("ann@example.org"), &found, &f->info),
                     ERR_NOT_FOUND);
    change = (struct store_user_change){.tier = "lead"};
    assert_int_equal(store_user_change(f->store, user.id, &change, 902, &f->info), ERR_FIELD_INVALID);
    assert_int_equal(store_user_change(f->store, "none", &change, 902, &f->info), ERR_NOT_FOUND);
    change = (struct store_user_change){.email = ""};
    assert_int_equal(store_user_change(f->store, user.id, &change, 902, &f->info), ERR_FIELD_INVALID);

    CHECK_OK(f, store_user_delete(f->store, user.id, &f->info));
    assert_int_equal(store_user_delete(f->store, user.id, &f->info), ERR_NOT_FOUND);
    assert_int_equal(store_user_by_id(f->store, user.id, &found, &f->info), ERR_NOT_FOUND);
}

static void one_user_is_the_first(void **state)
{
    struct fixture *f = begin(state);
    struct store_user a = make_user(1, "a@example.org"), b = make_user(2, "b@example.org");
    uint64_t count = 9;
    a.role = STORE_ROLE_ADMIN;
    b.role = STORE_ROLE_OPERATOR;
    CHECK_OK(f, store_user_insert_first(f->store, &a, &f->info));
    assert_int_equal(store_user_insert_first(f->store, &b, &f->info), ERR_CONFLICT);
    CHECK_OK(f, store_user_insert(f->store, &b, &f->info));
    CHECK_OK(f, store_user_count(f->store, STORE_ROLE_ADMIN, &count, &f->info));
    assert_int_equal(count, 1);
    CHECK_OK(f, store_user_count(f->store, STORE_ROLE_OPERATOR, &count, &f->info));
    assert_int_equal(count, 2);
    bool no = false;
    struct store_user_change change = {.active = &no};
    CHECK_OK(f, store_user_change(f->store, a.id, &change, 1, &f->info));
    CHECK_OK(f, store_user_count(f->store, STORE_ROLE_USER, &count, &f->info));
    assert_int_equal(count, 1);
}

static void *be_first(void *ctx)
{
    struct race *r = ctx;
    char email[32];
    snprintf(email, sizeof email, "%u@example.org", r->number);
    struct store_user user = make_user(r->number, email);
    enum err e = store_user_insert_first(r->f->store, &user, NULL);
    r->won = e == OK;
    r->failures = e && e != ERR_CONFLICT;
    return NULL;
}

static void only_one_wins_the_race_to_be_first(void **state)
{
    struct fixture *f = begin(state);
    for (int round = 0; round < 10; round++) {
        assert_int_equal(run_race(f, be_first), 1);
        assert_int_equal(run_sql(f, "SELECT count(*) FROM users"), 1);
        run_sql(f, "DELETE FROM users");
    }
}

static bool note_user(void *ctx, const struct store_user *user)
{
    struct ids *ids = ctx;
    snprintf(ids->ids[ids->count++], sizeof ids->ids[0], "%s", user->id);
    return true;
}

static void users_come_in_pages(void **state)
{
    struct fixture *f = begin(state);
    struct store_cursor cursor = {0};
    struct ids ids = {0};
    for (unsigned i = 1; i <= 7; i++) {
        char email[32];
        snprintf(email, sizeof email, "%u@example.org", i);
        insert_user(f, i, email);
    }
    for (size_t expected = 3;; expected = MIN(expected + 3, (size_t)7)) {
        size_t before = ids.count;
        CHECK_OK(f, store_user_page(f->store, &cursor, 3, note_user, &ids, &f->info));
        if (ids.count == before)
            break;
        assert_int_equal(ids.count, expected);
    }
    for (unsigned i = 0; i < 7; i++)
        assert_string_equal(ids.ids[i], make_user(7 - i, "").id);
}

/* --- sessions --- */

static struct store_session make_session(unsigned number, unsigned user)
{
    struct store_session session = {
        .created_ns = 100 + number, .expires_ns = 1000 + number, .last_seen_ns = 100};
    snprintf(session.user_id, sizeof session.user_id, "%s", make_user(user, "").id);
    snprintf(session.address, sizeof session.address, "2001:db8::%x", number);
    session.id_hash[0] = session.csrf_hash[31] = (unsigned char)number;
    return session;
}

static bool count_session(void *ctx, const struct store_session *session)
{
    (void)session;
    ++*(unsigned *)ctx;
    return true;
}

static unsigned count_sessions(struct fixture *f, unsigned user)
{
    unsigned count = 0;
    CHECK_OK(f, store_session_each(f->store, make_user(user, "").id, count_session, &count, &f->info));
    return count;
}

static void sessions_live_and_end(void **state)
{
    struct fixture *f = begin(state);
    struct store_session found;
    struct store_user user;
    insert_user(f, 1, "a@example.org");
    insert_user(f, 2, "b@example.org");
    for (unsigned i = 1; i <= 6; i++) {
        struct store_session session = make_session(i, i == 6 ? 2 : 1);
        CHECK_OK(f, store_session_insert(f->store, &session, &f->info));
    }
    struct store_session one = make_session(1, 1), orphan = make_session(9, 9);
    assert_int_equal(store_session_insert(f->store, &one, &f->info), ERR_CONFLICT);
    assert_int_equal(store_session_insert(f->store, &orphan, &f->info), ERR_FIELD_INVALID);
    CHECK_OK(f, store_session_touch(f->store, one.id_hash, 500, 5000, &f->info));
    CHECK_OK(f, store_session_touch(f->store, one.id_hash, 400, 4000, &f->info));
    assert_int_equal(store_session_touch(f->store, orphan.id_hash, 1, 1, &f->info), ERR_NOT_FOUND);
    CHECK_OK(f, store_session_get(f->store, one.id_hash, &found, &user, &f->info));
    assert_int_equal(found.last_seen_ns, 500);
    assert_int_equal(found.expires_ns, 5000);
    assert_memory_equal(found.csrf_hash, one.csrf_hash, sizeof one.csrf_hash);
    assert_string_equal(found.address, "2001:db8::1");
    assert_string_equal(user.email, "a@example.org");
    assert_int_equal(store_session_get(f->store, orphan.id_hash, &found, &user, &f->info), ERR_NOT_FOUND);
    CHECK_OK(f, store_session_delete(f->store, make_session(2, 1).id_hash, &f->info));
    assert_int_equal(store_session_delete(f->store, make_session(2, 1).id_hash, &f->info), ERR_NOT_FOUND);
    assert_int_equal(count_sessions(f, 1), 4);
    uint64_t deleted = 0;
    CHECK_OK(f, store_session_prune(f->store, 1005, 1, &deleted, &f->info));
    assert_int_equal(deleted, 1);
    CHECK_OK(f, store_session_prune(f->store, 1005, 10, &deleted, &f->info));
    assert_int_equal(deleted, 1); /* 3 and 4; 5 ends at 1005, 1 was prolonged */
    assert_int_equal(count_sessions(f, 1), 2);
    CHECK_OK(f, store_session_delete_of_user(f->store, one.user_id, one.id_hash, &f->info));
    assert_int_equal(count_sessions(f, 1), 1);
    CHECK_OK(f, store_session_delete_of_user(f->store, one.user_id, NULL, &f->info));
    assert_int_equal(count_sessions(f, 1), 0);
    assert_int_equal(count_sessions(f, 2), 1);
    CHECK_OK(f, store_user_delete(f->store, make_user(2, "").id, &f->info));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM sessions"), 0);
}

/* --- audit --- */

struct events {
    struct store_audit_event events[64];
    size_t count;
};

static bool note_event(void *ctx, const struct store_audit_event *event)
{
    struct events *events = ctx;
    events->events[events->count++] = *event;
    return true;
}

static void audit_events_are_kept(void **state)
{
    struct fixture *f = begin(state);
    struct events events = {0};
    struct store_audit_filter all = {0}, both = {.actor = "ann", .target = "t1"}, target = {.target = "t0"};
    for (unsigned i = 0; i < 8; i++) {
        struct store_audit_event event = {
            .time_ns = 100 + i, .action = "key.revoke", .address = "::1", .detail = "a\xff"};
        snprintf(event.actor, sizeof event.actor, "%s", i < 4 ? "ann" : "bob");
        snprintf(event.target, sizeof event.target, "t%u", i % 2);
        CHECK_OK(f, store_audit_add(f->store, &event, &f->info));
    }
    uint64_t before = 0;
    for (size_t expected = 3; expected < 12; expected += 3) {
        CHECK_OK(f, store_audit_page(f->store, &all, &before, 3, note_event, &events, &f->info));
        assert_int_equal(events.count, MIN(expected, (size_t)8));
    }
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(events.events[i].time_ns, 107 - i);
    assert_string_equal(events.events[7].detail, "a?");
    assert_string_equal(events.events[7].actor, "ann");
    assert_string_equal(events.events[7].action, "key.revoke");
    before = events.count = 0;
    CHECK_OK(f, store_audit_page(f->store, &both, &before, 10, note_event, &events, &f->info));
    assert_int_equal(events.count, 2);
    before = events.count = 0;
    CHECK_OK(f, store_audit_page(f->store, &target, &before, 10, note_event, &events, &f->info));
    assert_int_equal(events.count, 4);
    uint64_t deleted;
    CHECK_OK(f, store_audit_prune(f->store, 105, 3, &deleted, &f->info));
    assert_int_equal(deleted, 3);
    CHECK_OK(f, store_audit_prune(f->store, 105, 3, &deleted, &f->info));
    assert_int_equal(deleted, 2);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM audit_events"), 3);
}

/* --- text --- */

static void strings_are_never_sql(void **state)
{
    struct fixture *f = begin(state);
    for (unsigned i = 0; i < LENGTH_OF(nasty); i++) {
        struct store_user user = make_user(i, nasty[i]), found_user;
        struct store_key key = make_key(i, nasty[i]), found;
        struct store_tier tier = {"", 1, 2, 3}, found_tier;
        struct store_audit_event event = {.time_ns = i + 1};
        struct events events = {0};
        uint64_t before = 0;
        snprintf(tier.name, sizeof tier.name, "%.12s", nasty[i]); /* cut between characters */
        CHECK_OK(f, store_tier_put(f->store, &tier, &f->info));
        CHECK_OK(f, store_tier_get(f->store, tier.name, &found_tier, &f->info));
        assert_string_equal(found_tier.name, tier.name);
        snprintf(user.password_hash, sizeof user.password_hash, "%s", nasty[i]);
        memcpy(user.tier, tier.name, sizeof user.tier);
        CHECK_OK(f, store_user_insert(f->store, &user, &f->info));
        CHECK_OK(f, store_user_by_email(f->store, str_of(nasty[i]), &found_user, &f->info));
        assert_users_equal(&user, &found_user);
        snprintf(key.prefix, sizeof key.prefix, "%.9s", nasty[i]);
        memcpy(key.tier, tier.name, sizeof key.tier);
        memcpy(key.user_id, user.id, sizeof key.user_id);
        CHECK_OK(f, store_key_insert(f->store, &key, &f->info));
        CHECK_OK(f, store_key_by_hash(f->store, key.hash, &found, &f->info));
        assert_keys_equal(&key, &found);
        assert_int_equal(store_key_by_id(f->store, nasty[i], &found, &f->info), ERR_NOT_FOUND);
        assert_int_equal(store_user_by_id(f->store, nasty[i], &found_user, &f->info), ERR_NOT_FOUND);
        snprintf(event.actor, sizeof event.actor, "%.12s", nasty[i]);
        snprintf(event.action, sizeof event.action, "%s", nasty[i]);
        snprintf(event.target, sizeof event.target, "%s", nasty[i]);
        snprintf(event.address, sizeof event.address, "%s", nasty[i]);
        snprintf(event.detail, sizeof event.detail, "%s", nasty[i]);
        CHECK_OK(f, store_audit_add(f->store, &event, &f->info));
        struct store_audit_filter filter = {.actor = event.actor, .target = nasty[i]};
        CHECK_OK(f, store_audit_page(f->store, &filter, &before, 9, note_event, &events, &f->info));
        assert_int_equal(events.count, 1);
        assert_string_equal(events.events[0].action, nasty[i]);
        assert_string_equal(events.events[0].address, nasty[i]);
        assert_string_equal(events.events[0].detail, nasty[i]);
    }
    assert_int_equal(count_keys(f), LENGTH_OF(nasty));
}

static void text_that_is_not_utf8_is_refused(void **state)
{
    struct fixture *f = begin(state);
    static const char *const bad[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80"};
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        struct store_key key = make_key(1, bad[i]);
        struct store_user user = make_user(1, bad[i]), found;
        assert_int_equal(store_key_insert(f->store, &key, &f->info), ERR_FIELD_INVALID);
        assert_non_null(strstr(f->info.text, "name"));
        assert_int_equal(store_user_insert(f->store, &user, &f->info), ERR_FIELD_INVALID);
        assert_non_null(strstr(f->info.text, "email"));
        assert_int_equal(store_user_by_email(f->store, str_of(bad[i]), &found, &f->info), ERR_NOT_FOUND);
    }
    assert_int_equal(count_keys(f), 0);
}

static void says_what_it_is(void **state)
{
    struct fixture *f = begin(state);
    CHECK_OK(f, store_ping(f->store, &f->info));
    assert_string_equal(store_backend(f->store), f->is_postgres ? "postgresql" : "sqlite");
    assert_non_null(strstr(store_describe(f->store), f->is_postgres ? "127.0.0.1:" : "/main.db"));
    struct store_stats stats = store_stats(f->store);
    assert_true(stats.connections > 0);
    assert_int_equal(stats.connections_in_use, 0);
    assert_int_equal(stats.connect_failures, 0);
}

int main(void)
{
    umask(0);
    const struct CMUnitTest tests[] = {
        ON_BOTH(tiers_are_seeded_and_can_be_changed),
        ON_BOTH(users_are_made_found_changed_and_deleted),
        ON_BOTH(one_user_is_the_first),
        ON_BOTH(only_one_wins_the_race_to_be_first),
        ON_BOTH(users_come_in_pages),
        ON_BOTH(sessions_live_and_end),
        ON_BOTH(audit_events_are_kept),
        ON_BOTH(strings_are_never_sql),
        ON_BOTH(text_that_is_not_utf8_is_refused),
        ON_BOTH(says_what_it_is),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
