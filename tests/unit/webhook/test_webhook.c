/* From what happened to rows of the store, and the pauses between attempts. Nothing is sent: nobody listens. */
#include <unistd.h>

#include "../unit.h"
#include "store/users.h"
#include "webhook/internal.h"

enum { HANG_SECONDS = 100 };

static char folder[] = "/tmp/wasmwiz-webhook-XXXXXX";
static char path[64];
static struct store *store;
static const char user_id[] = "00000000000000aa";

static void check(enum err e, const struct err_info *err)
{
    if (e)
        fail_msg("%s", err_text(err));
}

static int open_all(void **state)
{
    struct err_info err = {0};
    struct store_user user = {.email = "a@example.org", .tier = "free", .active = true, .created_ns = 1};
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/db", folder);
    check(store_open(path, &store, &err), &err);
    snprintf(user.id, sizeof user.id, "%s", user_id);
    check(store_user_insert(store, &user, &err), &err);
    return 0;
}

static int close_all(void **state)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[80];
    (void)state;
    store_close(store);
    for (size_t i = 0; i < LENGTH_OF(ends); i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        remove(name);
    }
    return rmdir(folder);
}

static struct webhooks *start(void)
{
    return webhooks_new(&(struct webhooks_config){.store = store,
                                                  .salt = STR_LIT("a salt of the tests"),
                                                  .private_too = true,
                                                  .retry_ns = 3600 * NS_PER_S,
                                                  .attempts = 100});
}

/* A webhook that nobody answers for, at a closed port. */
static struct store_webhook add_hook(unsigned number, const char *events, bool active)
{
    struct webhooks w = {0};
    struct err_info err = {0};
    char secret[WEBHOOK_SECRET_BYTES];
    struct store_webhook hook = {.url = "http://127.0.0.1:1/", .active = active, .created_ns = number};
    webhook_key_derive(STR_LIT("a salt of the tests"), w.key);
    snprintf(hook.id, sizeof hook.id, "%016x", number);
    snprintf(hook.user_id, sizeof hook.user_id, "%s", user_id);
    snprintf(hook.events, sizeof hook.events, "%s", events);
    check(webhook_make_secret(&w, &hook, secret, &err), &err);
    check(store_webhook_insert(store, &hook, &err), &err);
    return hook;
}

static bool count_delivery(void *ctx, const struct store_delivery *d)
{
    (void)d;
    ++*(size_t *)ctx;
    return true;
}

static size_t count(const char *hook_id)
{
    struct store_cursor cursor = {0};
    struct err_info err = {0};
    size_t n = 0;
    check(store_delivery_page(store, hook_id, &cursor, STORE_PAGE_MAX, count_delivery, &n, &err), &err);
    return n;
}

static void remove_hook(const struct store_webhook *hook)
{
    struct err_info err = {0};
    check(store_webhook_delete(store, hook->id, &err), &err);
}

static void emit(struct webhooks *w, unsigned number)
{
    char once[32];
    snprintf(once, sizeof once, "%u", number);
    webhook_emit(w, user_id, WEBHOOK_KEY_CREATED, str_of(once), STR_LIT("{\"a\":1}"));
}

static void what_is_queued_reaches_the_store_before_the_end(void **state)
{
    struct store_webhook all = add_hook(1, "key.created limit.reached", true);
    struct store_webhook other = add_hook(2, "limit.reached", true), off = add_hook(3, "key.created", false);
    (void)state;
    struct webhooks *w = start();
    for (unsigned i = 0; i < 300; i++)
        emit(w, i);
    webhook_emit(w, "", WEBHOOK_KEY_CREATED, STR_LIT("x"), STR_LIT("{}")); /* nobody's */
    webhook_emit(NULL, user_id, WEBHOOK_KEY_CREATED, STR_LIT("x"), STR_LIT("{}"));
    webhooks_free(w);
    assert_int_equal(count(all.id), 300);
    assert_int_equal(count(other.id), 0);
    assert_int_equal(count(off.id), 0);
    remove_hook(&all);
    remove_hook(&other);
    remove_hook(&off);
}

static void what_happens_twice_is_kept_once(void **state)
{
    struct store_webhook hook = add_hook(4, "key.created limit.reached module.failing", true);
    const unsigned char sha[32] = {1};
    (void)state;
    for (unsigned i = 0; i < 2; i++) { /* two instances, or one after its end */
        struct webhooks *w = start();
        emit(w, 1);
        emit(w, 1);
        webhook_key_created(w, user_id, "00000000000000bb", "laptop", "free");
        webhook_limit_reached(
            w, user_id,
            &(struct webhook_limit){.key_id = "00000000000000bb", .what = "minute", .wall_ns = 1});
        for (unsigned j = 0; j < WEBHOOK_FAILURES; j++)
            webhook_run_ended(
                w, user_id,
                &(struct webhook_run){
                    .sha = sha, .run_id = "r", .cause = "trap", .failed = true, .wall_ns = j * NS_PER_S});
        webhooks_free(w);
    }
    assert_int_equal(count(hook.id), 4);
    remove_hook(&hook);
}

static void a_full_queue_drops_what_comes(void **state)
{
    struct webhooks w = {0}; /* without threads: nobody takes anything out of it */
    (void)state;
    list_init(&w.queue);
    assert_int_equal(uv_mutex_init(&w.mutex), 0);
    assert_int_equal(uv_cond_init(&w.for_keeper), 0);
    for (unsigned i = 0; i < WEBHOOK_QUEUE_MAX + 5; i++)
        emit(&w, i);
    assert_int_equal(w.queued, WEBHOOK_QUEUE_MAX);
    assert_int_equal(w.dropped, 5);
    while (w.queued--)
        webhook_item_free(LIST_ENTRY(list_pop_front(&w.queue), struct webhook_item, link));
    assert_true(list_is_empty(&w.queue));
    uv_cond_destroy(&w.for_keeper);
    uv_mutex_destroy(&w.mutex);
}

static void pauses_double_up_to_an_hour(void **state)
{
    (void)state;
    for (uint64_t attempt = 1; attempt <= 100; attempt++) {
        uint64_t middle = attempt < 10 ? (10ULL << (attempt - 1)) * NS_PER_S : 3600 * NS_PER_S;
        middle = MIN(middle, 3600 * NS_PER_S);
        uint64_t least = webhook_pause_ns(10 * NS_PER_S, attempt, 0);
        uint64_t most = webhook_pause_ns(10 * NS_PER_S, attempt, UINT32_MAX);
        assert_int_equal(least, middle * 3 / 4);
        assert_true(most > middle && most <= middle * 5 / 4);
    }
    assert_true(webhook_pause_ns(UINT64_MAX, UINT64_MAX, UINT32_MAX) <= 2 * 3600 * NS_PER_S);
    assert_int_equal(webhook_pause_ns(0, 5, UINT32_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_queued_reaches_the_store_before_the_end),
        cmocka_unit_test(what_happens_twice_is_kept_once),
        cmocka_unit_test(a_full_queue_drops_what_comes),
        cmocka_unit_test(pauses_double_up_to_an_hour),
    };
    alarm(HANG_SECONDS);
    return cmocka_run_group_tests(tests, open_all, close_all);
}
