/* What one instance changes the other forgets: because the database says so, and because the other one does. */
#include "auth_fixture.h"

#include "../kv/redis_fixture.h"
#include "auth/key.h"
#include "auth/watch.h"

enum { NEVER_MS = 3600 * 1000, SOON_MS = 10 };

/* Over the same store as the fixture's. */
struct instance {
    struct auth *auth;
    struct kv *kv;
    struct loop loop;
    struct auth_watch *watch;
};

static void begin(struct instance *in, struct fixture *f, const char *url, uint64_t interval_ms)
{
    const struct kv_config config = {.url = str_of(url), .loops = 1};
    in->auth = auth_new(f->store, STR_LIT("a salt of enough characters"), 16);
    loop_init(&in->loop, 0);
    CHECK_OK(f, kv_open(&config, &in->kv, &f->info));
    kv_attach(in->kv, &in->loop);
    in->watch = auth_watch_start(in->auth, in->kv, &in->loop, interval_ms);
    while (kv_health(in->kv).degraded)
        uv_run(&in->loop.uv, UV_RUN_ONCE);
}

static void end(struct instance *in)
{
    auth_watch_stop(in->watch);
    kv_detach(in->kv, &in->loop);
    loop_close(&in->loop);
    uv_run(&in->loop.uv, UV_RUN_DEFAULT);
    loop_done(&in->loop);
    kv_free(in->kv);
    auth_watch_free(in->watch);
    auth_free(in->auth);
}

static bool is_known(struct instance *in, const char *token)
{
    struct auth_principal *who;
    if (auth_cached(in->auth, str_of(token), &who) != AUTH_KNOWN)
        return false;
    auth_principal_unref(who);
    return true;
}

static void make_known(struct fixture *f, struct instance *in, const char *token)
{
    struct auth_principal *who;
    CHECK_OK(f, auth_find(in->auth, str_of(token), &who, &f->info));
    auth_principal_unref(who);
    assert_true(is_known(in, token));
}

static void make_key(struct fixture *f, struct instance *in, const char *name, struct store_key *key,
                     char token[static AUTH_KEY_TOKEN_BYTES])
{
    const struct auth_key_request request = {.name = str_of(name), .tier = STR_LIT("free")};
    CHECK_OK(f, auth_key_create(in->auth, &request, key, token, &f->info));
}

/* A run of the loop until all that was queued before has been done. */
static void turn(struct instance *in)
{
    for (int i = 0; i < 20; i++) {
        uv_run(&in->loop.uv, UV_RUN_NOWAIT);
        usleep(1000);
    }
}

static void the_database_is_asked(void **state)
{
    struct fixture *f = *state;
    struct instance in;
    struct store_key key;
    char token[AUTH_KEY_TOKEN_BYTES];
    begin(&in, f, "", SOON_MS);
    make_key(f, &in, "key", &key, token);
    turn(&in);
    make_known(f, &in, token);
    CHECK_OK(f, store_key_revoke(f->store, str_of(key.id), clock_wall_ns(), &f->info));
    while (is_known(&in, token))
        uv_run(&in.loop.uv, UV_RUN_ONCE);
    end(&in);
}

/* Neither asks by itself within the time of the test. */
static void instances_tell_each_other(void **state)
{
    struct fixture *f = *state;
    struct redis_server server = {.port = 0};
    struct instance here, there;
    struct store_key key;
    char token[AUTH_KEY_TOKEN_BYTES];
    if (!redis_is_installed()) {
        print_message("skipped: redis-server is not installed\n");
        skip();
    }
    redis_start(&server);
    begin(&here, f, server.url, NEVER_MS);
    begin(&there, f, server.url, NEVER_MS);
    make_key(f, &here, "key", &key, token);
    turn(&there); /* it has subscribed, and asked because of that */
    make_known(f, &there, token);
    turn(&there);
    assert_true(is_known(&there, token));
    CHECK_OK(f, store_key_revoke(f->store, str_of(key.id), clock_wall_ns(), &f->info));
    auth_changed(here.auth);
    auth_changed(here.auth);
    while (is_known(&there, token)) {
        uv_run(&here.loop.uv, UV_RUN_NOWAIT);
        uv_run(&there.loop.uv, UV_RUN_NOWAIT);
    }
    /* After a gap in which something may have been said, the database is asked. */
    make_key(f, &here, "another", &key, token);
    make_known(f, &there, token);
    turn(&there);
    make_known(f, &there, token);
    CHECK_OK(f, store_key_revoke(f->store, str_of(key.id), clock_wall_ns(), &f->info));
    redis_do(&server, "CLIENT KILL TYPE pubsub");
    while (is_known(&there, token))
        uv_run(&there.loop.uv, UV_RUN_ONCE);
    end(&here);
    end(&there);
    redis_stop(&server);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_database_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(instances_tell_each_other, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
