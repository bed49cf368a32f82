/* What both databases must do alike: usage and its sums, webhooks and their queue. */
#include "store/usage.h"
#include "store/webhooks.h"
#include "store_fixture.h"

#define DAY (86400 * NS_PER_S)
enum { THREADS = 4, MANY = 7001 };

/* --- usage --- */

/* A run: its key, day and cause follow from `number`, so that sums can be foretold. */
static struct store_usage make_usage(unsigned number)
{
    struct store_usage u = {
        .time_ns = (number % 3) * DAY + 1000 + number,
        .duration_us = 10,
        .cpu_us = 5,
        .memory_peak_bytes = number,
        .cause = number % 4 ? CAUSE_OK : CAUSE_DEADLINE,
        .status = number % 4 ? 200 : 422,
        .wasm_bytes = 100,
        .input_bytes = 7,
        .output_bytes = 3,
        .exit_code = number % 3,
        .queue_us = 11,
        .compile_us = 12,
        .fuel = 13,
        .stderr_bytes = 14,
        .host_calls = 15,
    };
    snprintf(u.id, sizeof u.id, "%032x", number);
    snprintf(u.key_id, sizeof u.key_id, "%016x", number % 2);
    snprintf(u.user_id, sizeof u.user_id, "%s", number % 2 ? "00000000000000aa" : "");
    u.module_sha[0] = (unsigned char)(number % 5);
    return u;
}

static uint64_t add_many(struct fixture *f, unsigned from, unsigned to)
{
    struct store_usage *rows = xcalloc(to - from + 1, sizeof *rows);
    uint64_t added = 77;
    for (unsigned i = from; i < to; i++)
        rows[i - from] = make_usage(i);
    CHECK_OK(f, store_usage_add(f->store, rows, to - from, &added, &f->info));
    free(rows);
    return added;
}

static uint64_t count_rows(struct fixture *f)
{
    return run_sql(f, "SELECT count(*) FROM usage_logs");
}

/* The days must say what the rows say, column by column. */
static void check_days(struct fixture *f)
{
    static const char *const columns[] = {"1",          "duration_us", "cpu_us",
                                          "wasm_bytes", "input_bytes", "output_bytes"};
    for (size_t i = 0; i < LENGTH_OF(columns); i++) {
        char rows[160], days[160];
        snprintf(rows, sizeof rows,
                 "SELECT coalesce(sum(%s * (1 + (time_ns / %llu) %% 7)), 0) FROM usage_logs", columns[i],
                 (unsigned long long)DAY);
        snprintf(days, sizeof days, "SELECT coalesce(sum(%s * (1 + day %% 7)), 0) FROM usage_daily",
                 i ? columns[i] : "runs");
        assert_int_equal(run_sql(f, rows), run_sql(f, days));
    }
}

struct rows {
    struct store_usage rows[64];
    size_t count;
};

static bool note_row(void *ctx, const struct store_usage *row)
{
    struct rows *rows = ctx;
    rows->rows[rows->count++] = *row;
    return rows->count < LENGTH_OF(rows->rows);
}

static void a_row_is_kept_as_it_is(void **state)
{
    struct fixture *f = begin(state);
    struct store_usage u = make_usage(1);
    struct store_cursor cursor = {0};
    struct rows rows = {0};
    u.cause = CAUSE_MEMORY_LIMIT;
    u.duration_us = INT64_MAX;
    snprintf(u.error, sizeof u.error, "the guest's \xff\xc3\xa4 words");
    memset(u.module_sha, 0xfe, sizeof u.module_sha);
    CHECK_OK(f, store_usage_add(f->store, &u, 1, NULL, &f->info));
    CHECK_OK(f, store_usage_page(f->store, &(struct store_usage_filter){0}, &cursor, 5, note_row, &rows,
                                 &f->info));
    assert_int_equal(rows.count, 1);
    assert_string_equal(rows.rows[0].error, "the guest's ?\xc3\xa4 words");
    memcpy(rows.rows[0].error, u.error, sizeof u.error);
    assert_memory_equal(&rows.rows[0], &u, sizeof u);
    assert_int_equal(cursor.time_ns, u.time_ns);
    u.time_ns = (uint64_t)INT64_MAX + 1;
    assert_int_equal(store_usage_add(f->store, &u, 1, NULL, &f->info), ERR_FIELD_INVALID);
}

/* Several rows go in one step: each keeps its own words. */
static void each_row_has_its_own_error(void **state)
{
    struct fixture *f = begin(state);
    struct store_usage given[37];
    struct store_cursor cursor = {0};
    struct rows rows = {0};
    for (unsigned i = 0; i < LENGTH_OF(given); i++) {
        given[i] = make_usage(0);
        given[i].time_ns = DAY + i;
        snprintf(given[i].error, sizeof given[i].error, i % 5 ? "\xff%u" : i % 10 ? "%u" : "", i);
    }
    CHECK_OK(f, store_usage_add(f->store, given, LENGTH_OF(given), NULL, &f->info));
    CHECK_OK(f, store_usage_page(f->store, &(struct store_usage_filter){0}, &cursor, 64, note_row, &rows,
                                 &f->info));
    assert_int_equal(rows.count, LENGTH_OF(given));
    for (unsigned i = 0; i < LENGTH_OF(given); i++) {
        char *error = given[LENGTH_OF(given) - 1 - i].error; /* the newest comes first */
        if (error[0] == '\xff')
            error[0] = '?';
        assert_string_equal(rows.rows[i].error, error);
    }
}

static void a_replay_adds_nothing(void **state)
{
    struct fixture *f = begin(state);
    assert_int_equal(add_many(f, 0, 0), 0);
    assert_int_equal(add_many(f, 0, 100), 100);
    check_days(f);
    assert_int_equal(add_many(f, 0, 100), 0);
    assert_int_equal(add_many(f, 50, 120), 20);
    check_days(f);
    assert_int_equal(count_rows(f), 120);
    struct store_usage twice[] = {make_usage(500), make_usage(501), make_usage(500)};
    uint64_t added;
    CHECK_OK(f, store_usage_add(f->store, twice, 3, &added, &f->info));
    assert_int_equal(added, 2);
    check_days(f);
    assert_int_equal(count_rows(f), 122);
}

static void a_large_batch_is_added_whole(void **state)
{
    struct fixture *f = begin(state);
    assert_int_equal(add_many(f, 0, MANY), MANY);
    assert_int_equal(count_rows(f), MANY);
    assert_int_equal(add_many(f, MANY - 10, MANY + 3000), 3000);
    check_days(f);
}

/* A batch with a row that can't be stored leaves nothing behind. */
static void a_batch_is_added_whole_or_not_at_all(void **state)
{
    struct fixture *f = begin(state);
    struct store_usage rows[] = {make_usage(1), make_usage(2), make_usage(3)};
    uint64_t added = 77;
    run_sql(f, "INSERT INTO usage_daily VALUES ('0000000000000000', 2, 'ok', '', 9223372036854775807, 0, "
               "0, 0, 0, 0, 0)");
    /* No time will mend that: it is not taken for a database that is down. */
    assert_int_equal(store_usage_add(f->store, rows, 3, &added, &f->info), ERR_FIELD_INVALID);
    assert_int_equal(added, 77);
    assert_int_equal(count_rows(f), 0);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM usage_daily"), 1);
}

struct writer {
    pthread_t thread;
    struct fixture *f;
    unsigned number, failures;
    uint64_t added;
};

/* Every batch overlaps with those of the others, in another order. */
static void *write_usage(void *ctx)
{
    struct writer *w = ctx;
    for (unsigned round = 0; round < 12; round++) {
        struct store_usage rows[60];
        uint64_t added = 0;
        for (unsigned i = 0; i < LENGTH_OF(rows); i++)
            rows[i] = make_usage(round * 50 + (w->number % 2 ? i : 59 - i));
        w->failures += store_usage_add(w->f->store, rows, LENGTH_OF(rows), &added, NULL) != OK;
        w->added += added;
    }
    return NULL;
}

static void writers_at_once_count_each_run_once(void **state)
{
    struct fixture *f = begin(state);
    struct writer writers[THREADS] = {0};
    uint64_t added = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i].f = f;
        writers[i].number = i;
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_usage, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        assert_int_equal(writers[i].failures, 0);
        added += writers[i].added;
    }
    assert_int_equal(added, 11 * 50 + 60);
    assert_int_equal(count_rows(f), added);
    check_days(f);
}

static void rows_come_in_pages(void **state)
{
    struct fixture *f = begin(state);
    struct store_cursor cursor = {0};
    struct rows rows = {0};
    struct store_usage_filter all = {0}, of_key = {.key_id = "0000000000000001"},
                              of_user = {.user_id = "00000000000000aa"},
                              of_day = {.from_ns = DAY, .to_ns = 2 * DAY},
                              of_both = {.from_ns = DAY, .key_id = "0000000000000000"};
    add_many(f, 0, 30);
    for (size_t expected = 7; expected < 50; expected += 7) {
        CHECK_OK(f, store_usage_page(f->store, &all, &cursor, 7, note_row, &rows, &f->info));
        assert_int_equal(rows.count, MIN(expected, (size_t)30));
        struct store_usage late = make_usage(3000 + (unsigned)expected);
        late.time_ns = 100 * DAY + expected;
        CHECK_OK(f, store_usage_add(f->store, &late, 1, NULL, &f->info));
    }
    for (size_t i = 1; i < rows.count; i++)
        assert_true(rows.rows[i].time_ns < rows.rows[i - 1].time_ns);
    const struct {
        const struct store_usage_filter *filter;
        size_t rows;
    } cases[] = {{&of_key, 15 + 4}, {&of_user, 15 + 4}, {&of_day, 10}, {&of_both, 10 + 3}};
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        cursor = (struct store_cursor){0};
        rows.count = 0;
        CHECK_OK(f, store_usage_page(f->store, cases[i].filter, &cursor, 60, note_row, &rows, &f->info));
        assert_int_equal(rows.count, cases[i].rows);
    }
}

struct totals {
    struct store_usage_total totals[16];
    size_t count;
};

static bool note_total(void *ctx, const struct store_usage_total *total)
{
    struct totals *totals = ctx;
    totals->totals[totals->count++] = *total;
    return true;
}

static struct totals total(struct fixture *f, enum store_usage_group by, struct store_usage_filter filter)
{
    struct totals totals = {0};
    CHECK_OK(f, store_usage_totals(f->store, by, &filter, 16, note_total, &totals, &f->info));
    return totals;
}

static void totals_add_up(void **state)
{
    struct fixture *f = begin(state);
    struct store_usage_filter all = {0}, of_key = {.key_id = "0000000000000001"},
                              of_user = {.user_id = "00000000000000aa"};
    add_many(f, 0, 61); /* 61 of key 0 and 1, days 0..2, causes 16 deadline */
    struct totals t = total(f, STORE_USAGE_BY_KEY, all);
    assert_int_equal(t.count, 2);
    assert_string_equal(t.totals[0].key_id, "0000000000000000");
    assert_int_equal(t.totals[0].runs, 31);
    assert_int_equal(t.totals[0].duration_us, 310);
    assert_int_equal(t.totals[0].cpu_us, 155);
    assert_int_equal(t.totals[0].memory_peak_bytes, 60);
    assert_int_equal(t.totals[0].wasm_bytes, 3100);
    assert_int_equal(t.totals[0].input_bytes, 217);
    assert_int_equal(t.totals[0].output_bytes, 93);
    assert_int_equal(t.totals[1].runs, 30);
    t = total(f, STORE_USAGE_BY_DAY, all);
    assert_int_equal(t.count, 3);
    assert_int_equal(t.totals[0].day, 2);
    assert_int_equal(t.totals[2].day, 0);
    assert_int_equal(t.totals[2].runs, 21);
    t = total(f, STORE_USAGE_BY_CAUSE, all);
    assert_int_equal(t.count, 2);
    assert_int_equal(t.totals[0].cause, CAUSE_OK);
    assert_int_equal(t.totals[0].runs, 45);
    assert_int_equal(t.totals[1].cause, CAUSE_DEADLINE);
    assert_int_equal(t.totals[1].runs, 16);
    t = total(f, STORE_USAGE_BY_MODULE, all);
    assert_int_equal(t.count, 5);
    assert_int_equal(t.totals[0].runs, 13);
    assert_int_equal(t.totals[0].module_sha[0], 0);
    for (int by = STORE_USAGE_BY_KEY; by <= STORE_USAGE_BY_MODULE; by++) {
        uint64_t runs[2] = {0};
        struct totals narrow[2] = {total(f, (enum store_usage_group)by, of_key),
                                   total(f, (enum store_usage_group)by, of_user)};
        for (int i = 0; i < 2; i++)
            for (size_t j = 0; j < narrow[i].count; j++)
                runs[i] += narrow[i].totals[j].runs;
        assert_int_equal(runs[0], 30);
        assert_int_equal(runs[1], 30);
    }
    /* Whole days, those at the ends included; modules to the nanosecond. */
    struct store_usage_filter part = {.from_ns = DAY + 5000, .to_ns = 2 * DAY + 1};
    assert_int_equal(total(f, STORE_USAGE_BY_DAY, part).count, 2);
    assert_int_equal(total(f, STORE_USAGE_BY_MODULE, part).count, 0);
    part.to_ns = 2 * DAY;
    assert_int_equal(total(f, STORE_USAGE_BY_DAY, part).count, 1);
    part.to_ns = part.from_ns;
    assert_int_equal(total(f, STORE_USAGE_BY_DAY, part).count, 0);
}

/* Runs without a key are told apart by their users. */
static void users_without_a_key_have_sums_of_their_own(void **state)
{
    struct fixture *f = begin(state);
    static const char *const users[] = {"", "00000000000000aa", "00000000000000bb"};
    for (unsigned i = 0; i < 30; i++) {
        struct store_usage u = make_usage(i);
        u.key_id[0] = 0;
        snprintf(u.user_id, sizeof u.user_id, "%s", users[i % 3]);
        CHECK_OK(f, store_usage_add(f->store, &u, 1, NULL, &f->info));
    }
    check_days(f);
    for (size_t i = 1; i < LENGTH_OF(users); i++) {
        struct totals t = total(f, STORE_USAGE_BY_KEY, (struct store_usage_filter){.user_id = users[i]});
        struct store_cursor cursor = {0};
        struct rows rows = {0};
        assert_int_equal(t.count, 1);
        assert_string_equal(t.totals[0].key_id, "");
        assert_int_equal(t.totals[0].runs, 10);
        CHECK_OK(f, store_usage_page(f->store, &(struct store_usage_filter){.user_id = users[i]}, &cursor, 60,
                                     note_row, &rows, &f->info));
        assert_int_equal(rows.count, 10);
    }
}

static void old_rows_go_and_their_days_stay(void **state)
{
    struct fixture *f = begin(state);
    uint64_t deleted = 0, all = 0;
    add_many(f, 0, 90); /* 30 a day */
    do {
        CHECK_OK(f, store_usage_prune(f->store, DAY, 7, &deleted, &f->info));
        assert_true(deleted <= 7);
        all += deleted;
    } while (deleted == 7);
    assert_int_equal(all, 30);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM usage_logs WHERE time_ns < 86400000000000"), 0);
    assert_int_equal(count_rows(f), 60);
    assert_int_equal(run_sql(f, "SELECT sum(runs) FROM usage_daily"), 90);
    /* What comes now for the old day is added to it. */
    struct store_usage late = make_usage(3000);
    CHECK_OK(f, store_usage_add(f->store, &late, 1, NULL, &f->info));
    assert_int_equal(run_sql(f, "SELECT sum(runs) FROM usage_daily WHERE day = 0"), 31);
}

static void strings_of_usage_are_never_sql(void **state)
{
    struct fixture *f = begin(state);
    for (unsigned i = 0; i < LENGTH_OF(nasty); i++) {
        struct store_usage u = make_usage(i);
        struct store_cursor cursor = {0};
        struct rows rows = {0};
        memset(u.id, 0, sizeof u.id);
        memset(u.key_id, 0, sizeof u.key_id);
        memset(u.user_id, 0, sizeof u.user_id);
        snprintf(u.id, sizeof u.id, "%s", nasty[i]);
        snprintf(u.key_id, sizeof u.key_id, "%.12s", nasty[i]);
        snprintf(u.user_id, sizeof u.user_id, "%.12s", nasty[i]);
        snprintf(u.error, sizeof u.error, "%s", nasty[i]);
        CHECK_OK(f, store_usage_add(f->store, &u, 1, NULL, &f->info));
        struct store_usage_filter of_key = {.key_id = u.key_id}, of_user = {.user_id = u.user_id};
        CHECK_OK(f, store_usage_page(f->store, &of_key, &cursor, 9, note_row, &rows, &f->info));
        assert_int_equal(rows.count, 1);
        assert_memory_equal(&rows.rows[0], &u, sizeof u);
        assert_int_equal(total(f, STORE_USAGE_BY_KEY, of_user).count, 1);
        assert_string_equal(total(f, STORE_USAGE_BY_KEY, of_key).totals[0].key_id, u.key_id);
    }
    assert_int_equal(count_rows(f), LENGTH_OF(nasty));
}

static void a_damaged_row_is_told(void **state)
{
    struct fixture *f = begin(state);
    struct store_cursor cursor = {0};
    struct rows rows = {0};
    add_many(f, 0, 3);
    run_sql(f, "UPDATE usage_logs SET cause = 'unheard of'");
    assert_int_equal(
        store_usage_page(f->store, &(struct store_usage_filter){0}, &cursor, 5, note_row, &rows, &f->info),
        ERR_STORE_DOWN);
    assert_non_null(strstr(f->info.text, "damaged"));
    assert_int_equal(rows.count, 0);
}

/* --- webhooks --- */

static struct store_webhook make_hook(unsigned number, unsigned user)
{
    struct store_webhook hook = {
        .secret = {1, 0, 2}, .secret_len = 3, .active = true, .created_ns = 10 + number};
    snprintf(hook.id, sizeof hook.id, "%016x", 0x40000 + number);
    snprintf(hook.user_id, sizeof hook.user_id, "%s", make_user(user, "").id);
    snprintf(hook.url, sizeof hook.url, "https://example.org/%u", number);
    snprintf(hook.events, sizeof hook.events, "key.created limit.reached");
    return hook;
}

static bool count_hook(void *ctx, const struct store_webhook *hook)
{
    (void)hook;
    ++*(unsigned *)ctx;
    return true;
}

static void webhooks_are_made_changed_and_deleted(void **state)
{
    struct fixture *f = begin(state);
    struct store_webhook hook = make_hook(1, 1), found;
    insert_user(f, 1, "a@example.org");
    assert_int_equal(store_webhook_get(f->store, hook.id, &found, &f->info), ERR_NOT_FOUND);
    for (unsigned i = 1; i <= 5; i++) {
        struct store_webhook each = make_hook(i, 1);
        CHECK_OK(f, store_webhook_insert(f->store, &each, &f->info));
    }
    assert_int_equal(store_webhook_insert(f->store, &hook, &f->info), ERR_CONFLICT);
    struct store_webhook orphan = make_hook(9, 9);
    assert_int_equal(store_webhook_insert(f->store, &orphan, &f->info), ERR_FIELD_INVALID);
    CHECK_OK(f, store_webhook_get(f->store, hook.id, &found, &f->info));
    assert_memory_equal(&found, &hook, sizeof hook);
    assert_true(store_webhook_wants(&found, STR_LIT("limit.reached")));
    assert_true(store_webhook_wants(&found, STR_LIT("key.created")));
    assert_false(store_webhook_wants(&found, STR_LIT("key")));
    assert_false(store_webhook_wants(&found, STR_LIT("")));
    bool no = false;
    struct store_webhook_change change = {.url = nasty[0], .events = "", .active = &no};
    CHECK_OK(f, store_webhook_change(f->store, hook.id, &change, &f->info));
    change = (struct store_webhook_change){.events = "key.created"};
    CHECK_OK(f, store_webhook_change(f->store, hook.id, &change, &f->info));
    CHECK_OK(f, store_webhook_get(f->store, hook.id, &found, &f->info));
    assert_string_equal(found.url, nasty[0]);
    assert_string_equal(found.events, "key.created");
    assert_false(found.active);
    assert_false(store_webhook_wants(&found, STR_LIT("key.created")));
    assert_int_equal(store_webhook_change(f->store, "none", &change, &f->info), ERR_NOT_FOUND);
    unsigned count = 0;
    struct store_cursor cursor = {0};
    for (int page = 0; page < 4; page++)
        CHECK_OK(f, store_webhook_page(f->store, hook.user_id, &cursor, 2, count_hook, &count, &f->info));
    assert_int_equal(count, 5);
    CHECK_OK(f, store_webhook_delete(f->store, hook.id, &f->info));
    assert_int_equal(store_webhook_delete(f->store, hook.id, &f->info), ERR_NOT_FOUND);
    CHECK_OK(f, store_user_delete(f->store, hook.user_id, &f->info));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM webhooks"), 0);
}

static struct store_delivery make_delivery(unsigned number, uint64_t due_ns)
{
    struct store_delivery d = {.body = STR_LIT("{\"a\":\"'; DROP TABLE webhooks; --\"}"),
                               .created_ns = 50 + number,
                               .next_attempt_ns = due_ns};
    snprintf(d.id, sizeof d.id, "%016x", 0x50000 + number);
    snprintf(d.webhook_id, sizeof d.webhook_id, "%s", make_hook(1, 1).id);
    snprintf(d.event, sizeof d.event, "key.created");
    return d;
}

struct claimed {
    char ids[64][17];
    uint64_t attempts[64];
    size_t count;
};

static bool note_delivery(void *ctx, const struct store_delivery *d)
{
    struct claimed *c = ctx;
    snprintf(c->ids[c->count], sizeof c->ids[0], "%s", d->id);
    c->attempts[c->count++] = d->attempts;
    assert_true(str_eq(d->body, make_delivery(0, 0).body));
    return true;
}

static void add_deliveries(struct fixture *f, unsigned count)
{
    struct store_webhook hook = make_hook(1, 1);
    insert_user(f, 1, "a@example.org");
    CHECK_OK(f, store_webhook_insert(f->store, &hook, &f->info));
    for (unsigned i = 0; i < count; i++) {
        struct store_delivery d = make_delivery(i, 100 + i);
        CHECK_OK(f, store_delivery_add(f->store, &d, &f->info));
    }
}

static struct claimed claim(struct fixture *f, uint64_t now, uint64_t until, size_t limit)
{
    struct claimed c = {0};
    CHECK_OK(f, store_delivery_claim(f->store, &(struct store_claim){now, until, limit, {NULL}},
                                     note_delivery, &c, &f->info));
    return c;
}

static void deliveries_are_claimed_and_settled(void **state)
{
    struct fixture *f = begin(state);
    add_deliveries(f, 6);
    struct store_delivery again = make_delivery(0, 100), orphan = make_delivery(99, 100);
    CHECK_OK(f, store_delivery_add(f->store, &again, &f->info));
    snprintf(orphan.webhook_id, sizeof orphan.webhook_id, "none");
    assert_int_equal(store_delivery_add(f->store, &orphan, &f->info), ERR_FIELD_INVALID);
    assert_int_equal(claim(f, 99, 200, 10).count, 0);
    struct claimed c = claim(f, 103, 200, 3);
    assert_int_equal(c.count, 3); /* of the four that are due */
    assert_int_equal(c.attempts[0], 1);
    assert_int_equal(claim(f, 103, 200, 3).count, 1);
    assert_int_equal(claim(f, 103, 200, 3).count, 0);
    CHECK_OK(f, store_delivery_settle(f->store, c.ids[0], STORE_DELIVERY_DONE, 0, "", &f->info));
    assert_int_equal(store_delivery_settle(f->store, c.ids[0], STORE_DELIVERY_DONE, 0, "", &f->info),
                     ERR_NOT_FOUND);
    CHECK_OK(f, store_delivery_settle(f->store, c.ids[1], STORE_DELIVERY_FAILED, 0, "gone \xff", &f->info));
    CHECK_OK(f, store_delivery_settle(f->store, c.ids[2], STORE_DELIVERY_PENDING, 150, "500", &f->info));
    c = claim(f, 150, 300, 10); /* that one, 4 and 5 */
    assert_int_equal(c.count, 3);
    c = claim(f, 200, 400, 10); /* the fourth of before, whose taker has died */
    assert_int_equal(c.count, 1);
    assert_int_equal(c.attempts[0], 2);
    struct store_cursor cursor = {0};
    c.count = 0;
    CHECK_OK(f, store_delivery_page(f->store, make_hook(1, 1).id, &cursor, 4, note_delivery, &c, &f->info));
    CHECK_OK(f, store_delivery_page(f->store, make_hook(1, 1).id, &cursor, 4, note_delivery, &c, &f->info));
    assert_int_equal(c.count, 6);
    uint64_t deleted;
    CHECK_OK(f, store_delivery_prune(f->store, 1000, 10, &deleted, &f->info));
    assert_int_equal(deleted, 2);
    CHECK_OK(f, store_webhook_delete(f->store, make_hook(1, 1).id, &f->info));
    assert_int_equal(run_sql(f, "SELECT count(*) FROM webhook_deliveries"), 0);
}

static void a_webhook_is_passed_over_and_put_off(void **state)
{
    struct fixture *f = begin(state);
    struct claimed c = {0};
    add_deliveries(f, 3);
    struct store_webhook hook = make_hook(1, 1), other = make_hook(2, 1);
    CHECK_OK(f, store_webhook_insert(f->store, &other, &f->info));
    struct store_delivery d = make_delivery(7, 500);
    snprintf(d.webhook_id, sizeof d.webhook_id, "%s", other.id);
    CHECK_OK(f, store_delivery_add(f->store, &d, &f->info));
    struct store_claim passing_over = {1000, 2000, 10, {NULL, hook.id}};
    CHECK_OK(f, store_delivery_claim(f->store, &passing_over, note_delivery, &c, &f->info));
    assert_int_equal(c.count, 1);
    assert_string_equal(c.ids[0], d.id);
    CHECK_OK(f, store_delivery_postpone(f->store, hook.id, 1500, &f->info));
    assert_int_equal(claim(f, 1499, 2000, 10).count, 0);
    c = claim(f, 1500, 9000, 10);
    assert_int_equal(c.count, 3);
    assert_int_equal(c.attempts[0], 1);
    CHECK_OK(f, store_delivery_postpone(f->store, hook.id, 100, &f->info)); /* never back */
    CHECK_OK(f, store_delivery_settle(f->store, c.ids[0], STORE_DELIVERY_DONE, 0, "", &f->info));
    CHECK_OK(f, store_delivery_postpone(f->store, hook.id, 10000, &f->info));
    assert_int_equal(claim(f, 9000, 20000, 10).count, 1); /* the other's */
    assert_int_equal(claim(f, 10000, 20000, 10).count, 2);
}

struct taker {
    pthread_t thread;
    struct fixture *f;
    struct claimed claimed;
    unsigned failures;
};

static void *take_all(void *ctx)
{
    static const struct store_claim all_due = {.now_ns = 1000, .until_ns = 9000, .limit = 3};
    struct taker *t = ctx;
    size_t before;
    do {
        before = t->claimed.count;
        t->failures += store_delivery_claim(t->f->store, &all_due, note_delivery, &t->claimed, NULL) != OK;
    } while (t->claimed.count > before);
    return NULL;
}

static void no_two_take_the_same_delivery(void **state)
{
    struct fixture *f = begin(state);
    struct taker takers[THREADS] = {0};
    add_deliveries(f, 60);
    size_t all = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        takers[i].f = f;
        assert_int_equal(pthread_create(&takers[i].thread, NULL, take_all, &takers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(takers[i].thread, NULL), 0);
        assert_int_equal(takers[i].failures, 0);
        all += takers[i].claimed.count;
    }
    assert_int_equal(all, 60);
    assert_int_equal(run_sql(f, "SELECT count(*) FROM webhook_deliveries WHERE attempts = 1"), 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(a_row_is_kept_as_it_is),
        ON_BOTH(each_row_has_its_own_error),
        ON_BOTH(a_replay_adds_nothing),
        ON_BOTH(a_large_batch_is_added_whole),
        ON_BOTH(a_batch_is_added_whole_or_not_at_all),
        ON_BOTH(writers_at_once_count_each_run_once),
        ON_BOTH(rows_come_in_pages),
        ON_BOTH(totals_add_up),
        ON_BOTH(users_without_a_key_have_sums_of_their_own),
        ON_BOTH(old_rows_go_and_their_days_stay),
        ON_BOTH(strings_of_usage_are_never_sql),
        ON_BOTH(a_damaged_row_is_told),
        ON_BOTH(webhooks_are_made_changed_and_deleted),
        ON_BOTH(deliveries_are_claimed_and_settled),
        ON_BOTH(a_webhook_is_passed_over_and_put_off),
        ON_BOTH(no_two_take_the_same_delivery),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
