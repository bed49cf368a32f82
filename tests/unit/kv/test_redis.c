/* What is Redis' own: that it goes, comes back, is slow, has forgotten, wants a password, talks nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kv_fixture.h"

struct fixture {
    struct redis_server server;
    struct kv_fixture kv, other; /* two instances */
};

static int setup(void **state)
{
    *state = NULL;
    if (!redis_is_installed()) {
        print_message("skipped: redis-server is not installed\n");
        return 0;
    }
    struct fixture *f = xcalloc(1, sizeof *f);
    f->server.password = "p@ss/w%rd";
    redis_start(&f->server);
    snprintf(f->server.url, sizeof f->server.url, "redis://:p%%40ss%%2Fw%%25rd@127.0.0.1:%d", f->server.port);
    kv_fixture_open(&f->kv, f->server.url);
    char with_user[sizeof f->server.url];
    snprintf(with_user, sizeof with_user, "redis://default:p%%40ss%%2Fw%%25rd@127.0.0.1:%d/0",
             f->server.port);
    kv_fixture_open(&f->other, with_user);
    kv_fixture_until(&f->kv, false);
    kv_fixture_until(&f->other, false);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (!f)
        return 0;
    kv_fixture_close(&f->kv);
    kv_fixture_close(&f->other);
    redis_stop(&f->server);
    free(f);
    return 0;
}

#define NEED(f, state)              \
    struct fixture *(f) = *(state); \
    if (!(f))                       \
    skip()

#define REQUEST(text, ...)                                                 \
    (struct kv_request)                                                    \
    {                                                                      \
        .space = KV_RUNS, .key = STR_LIT(text), .figures = { __VA_ARGS__ } \
    }

static uint32_t take_all(struct kv_fixture *kv, const struct kv_request *q, uint32_t tries, bool local)
{
    uint32_t allowed = 0;
    for (uint32_t i = 0; i < tries; i++) {
        struct kv_answer a = kv_take_now(kv, q, NULL);
        assert_int_equal(a.local, local);
        allowed += !a.refusal;
    }
    return allowed;
}

static void instances_share(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .per_minute = 10, .per_day = 500);
    assert_int_equal(take_all(&f->kv, &q, 7, false), 7);
    assert_int_equal(take_all(&f->other, &q, 7, false), 3);
    q.look = true;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).day_left, 490);
}

static void without_redis_it_goes_on(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .per_minute = 10, .per_day = 12);
    struct kv_request fresh = REQUEST("fresh", .per_minute = 10);
    assert_int_equal(take_all(&f->kv, &q, 6, false), 6);
    redis_kill(&f->server);
    kv_fixture_until(&f->kv, true);
    kv_fixture_until(&f->other, true);
    struct kv_health health = kv_health(f->kv.kv);
    assert_true(strlen(health.reason) > 0);
    /* From where it stood, not from the start; what is new starts in this process. */
    assert_int_equal(take_all(&f->kv, &q, 10, true), 4);
    assert_int_equal(take_all(&f->kv, &fresh, 20, true), 10);
    /* Back by itself, and Redis, which knows nothing, learns both. */
    redis_start(&f->server);
    kv_fixture_until(&f->kv, false);
    kv_fixture_until(&f->other, false);
    assert_int_equal(take_all(&f->kv, &q, 5, false), 0);
    assert_int_equal(take_all(&f->other, &q, 5, false), 0);
    assert_int_equal(take_all(&f->kv, &fresh, 5, false), 0);
    q.look = true;
    assert_int_equal(kv_take_now(&f->other, &q, NULL).day_left, 2);
}

static void takes_without_redis_count_there_later(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .per_minute = 100, .per_day = 100);
    assert_int_equal(take_all(&f->kv, &q, 10, false), 10);
    assert_int_equal(take_all(&f->other, &q, 10, false), 10);
    redis_kill(&f->server);
    kv_fixture_until(&f->kv, true);
    kv_fixture_until(&f->other, true);
    assert_int_equal(take_all(&f->kv, &q, 7, true), 7);
    assert_int_equal(take_all(&f->other, &q, 5, true), 5);
    redis_start(&f->server);
    kv_fixture_until(&f->kv, false);
    kv_fixture_until(&f->other, false);
    /* 10 and 10, then 7 and 5, and these two: nothing lost, nothing twice. */
    assert_int_equal(take_all(&f->other, &q, 1, false), 1);
    assert_int_equal(take_all(&f->kv, &q, 1, false), 1);
    q.look = true;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).day_left, 100 - 34);
}

static void leases_outlast_a_failure(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .concurrency = 3);
    q.lease_ns = 3600 * NS_PER_S;
    struct kv_ticket shared[2], local;
    kv_take_now(&f->kv, &q, &shared[0]);
    kv_take_now(&f->kv, &q, &shared[1]);
    assert_true(shared[0].shared && shared[1].shared);
    redis_kill(&f->server);
    kv_fixture_until(&f->kv, true);
    assert_int_equal(kv_take_now(&f->kv, &q, &local).running, 3);
    assert_false(local.shared);
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_CONCURRENCY);
    redis_start(&f->server);
    kv_fixture_until(&f->kv, false);
    /* Redis is empty, but this process knows its own. */
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).refusal, KV_NO_CONCURRENCY);
    kv_give(f->kv.kv, &f->kv.loop, &local, false);
    assert_int_equal(kv_take_now(&f->kv, &q, &local).refusal, KV_ALLOWED);
    assert_true(local.shared);
    kv_give(f->kv.kv, &f->kv.loop, &shared[0], false);
    kv_give(f->kv.kv, &f->kv.loop, &shared[1], false);
    kv_give(f->kv.kv, &f->kv.loop, &local, false);
    q.look = true;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).running, 0);
}

static void drop_connections(struct redis_server *s)
{
    redis_do(s, "CLIENT KILL TYPE normal SKIPME yes");
}

static void a_lease_given_back_meanwhile_is_not_lost(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .concurrency = 1);
    q.lease_ns = 3600 * NS_PER_S;
    struct kv_ticket ticket;
    assert_int_equal(kv_take_now(&f->kv, &q, &ticket).refusal, KV_ALLOWED);
    assert_int_equal(kv_take_now(&f->other, &q, NULL).refusal, KV_NO_CONCURRENCY);
    drop_connections(&f->server);
    kv_fixture_until(&f->kv, true);
    kv_give(f->kv.kv, &f->kv.loop, &ticket, false);
    kv_fixture_until(&f->kv, false);
    kv_fixture_until(&f->other, true);
    kv_fixture_until(&f->other, false);
    /* What this instance asks now comes behind what it gives. */
    struct kv_request look = q;
    look.look = true;
    kv_take_now(&f->kv, &look, NULL);
    assert_int_equal(kv_take_now(&f->other, &look, NULL).running, 0);
}

static void silence_is_a_failure(void **state)
{
    NEED(f, state);
    enum { COUNT = 20 };
    struct kv_request q = REQUEST("key", .per_minute = 10, .concurrency = 5);
    q.lease_ns = 3600 * NS_PER_S;
    struct kv_asked asked[COUNT];
    kill(f->server.pid, SIGSTOP);
    for (size_t i = 0; i < COUNT; i++) {
        kv_ask(&f->kv, &q, &asked[i]);
        assert_false(asked[i].answered);
    }
    uint32_t allowed = 0;
    for (size_t i = 0; i < COUNT; i++) {
        kv_await(&f->kv, &asked[i]);
        assert_true(asked[i].wait.answer.local);
        allowed += !asked[i].wait.answer.refusal;
    }
    assert_int_equal(allowed, 5);
    assert_true(kv_health(f->kv.kv).degraded);
    for (size_t i = 0; i < COUNT; i++)
        kv_give(f->kv.kv, &f->kv.loop, &asked[i].wait.ticket, false);
    kill(f->server.pid, SIGCONT);
    kv_fixture_until(&f->kv, false);
    /* Of what was asked into the silence, no lease stays behind. */
    q.look = true;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).running, 0);
}

/* Commands that clients have sent, but for those that ask. */
static uint64_t commands_of(struct redis_server *s)
{
    redisContext *c = redis_talk(s);
    redisReply *reply = redisCommand(c, "INFO stats");
    const char *count = strstr(reply->str, "total_commands_processed:");
    assert_non_null(count);
    uint64_t commands = strtoull(strchr(count, ':') + 1, NULL, 10);
    freeReplyObject(reply);
    redisFree(c);
    return commands;
}

static void a_burst_is_few_commands(void **state)
{
    NEED(f, state);
    enum { COUNT = 300, MAY = 200, FEW = 60 /* each script's own calls among them */ };
    struct kv_request q = REQUEST("key", .per_minute = MAY, .per_day = 1000, .concurrency = COUNT);
    struct kv_request other = REQUEST("key", .per_minute = MAY, .per_day = 100), look = q;
    struct kv_asked *asked = xcalloc(COUNT, sizeof *asked), after, looked;
    q.lease_ns = 60 * NS_PER_S;
    look.look = true;
    uint64_t before = commands_of(&f->server);
    for (size_t i = 0; i < COUNT; i++)
        kv_ask(&f->kv, &q, &asked[i]);
    kv_ask(&f->kv, &other, &after);
    kv_ask(&f->kv, &look, &looked);
    kv_await(&f->kv, &looked);
    assert_true(after.answered);
    /* In the order in which they came, each with what was left for it. */
    for (size_t i = 0; i < COUNT; i++) {
        const struct kv_answer *a = &asked[i].wait.answer;
        assert_true(asked[i].answered && !a->local);
        assert_int_equal(a->refusal, i < MAY ? KV_ALLOWED : KV_NO_MINUTE);
        assert_int_equal(a->day_left, 1000 - MIN(i + 1, (size_t)MAY));
        assert_int_equal(a->running, MIN(i + 1, (size_t)MAY));
        assert_int_equal(asked[i].wait.ticket.leased, i < MAY);
    }
    assert_int_equal(after.wait.answer.refusal, KV_NO_DAY);
    assert_int_equal(looked.wait.answer.running, MAY);
    assert_in_range(commands_of(&f->server) - before, 1, FEW);
    before = commands_of(&f->server);
    for (size_t i = 0; i < MAY; i++)
        kv_give(f->kv.kv, &f->kv.loop, &asked[i].wait.ticket, false);
    assert_int_equal(kv_take_now(&f->kv, &look, NULL).running, 0);
    assert_int_equal(kv_take_now(&f->other, &look, NULL).running, 0);
    assert_in_range(commands_of(&f->server) - before, 1, FEW);
    free(asked);
}

/* Redis starts anew and empty: what is held is told without being asked. */
static void leases_are_told_to_an_empty_redis(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .concurrency = 5);
    struct kv_ticket tickets[3];
    q.lease_ns = 60 * NS_PER_S;
    for (size_t i = 0; i < LENGTH_OF(tickets); i++)
        assert_int_equal(kv_take_now(&f->kv, &q, &tickets[i]).running, i + 1);
    redis_do(&f->server, "FLUSHALL");
    drop_connections(&f->server);
    kv_fixture_until(&f->kv, true);
    kv_give(f->kv.kv, &f->kv.loop, &tickets[0], false);
    kv_fixture_until(&f->kv, false);
    struct kv_request look = q, aside = REQUEST("other", .per_minute = 10);
    look.look = true;
    kv_take_now(&f->kv, &aside, NULL); /* comes behind it */
    kv_fixture_until(&f->other, true);
    kv_fixture_until(&f->other, false);
    assert_int_equal(kv_take_now(&f->other, &look, NULL).running, 2);
    kv_give(f->kv.kv, &f->kv.loop, &tickets[1], false);
    kv_give(f->kv.kv, &f->kv.loop, &tickets[2], false);
    kv_take_now(&f->kv, &aside, NULL);
    assert_int_equal(kv_take_now(&f->other, &look, NULL).running, 0);
}

static void forgotten_scripts_are_sent_again(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .per_minute = 10, .per_day = 10, .concurrency = 10);
    q.lease_ns = NS_PER_S;
    struct kv_ticket ticket;
    redis_do(&f->server, "SCRIPT FLUSH SYNC");
    assert_int_equal(kv_take_now(&f->kv, &q, &ticket).refusal, KV_ALLOWED);
    assert_true(ticket.shared);
    redis_do(&f->server, "SCRIPT FLUSH SYNC");
    kv_give(f->kv.kv, &f->kv.loop, &ticket, true);
    q.look = true;
    struct kv_answer a = {.day_left = 0};
    while (a.day_left != 10)
        a = kv_take_now(&f->kv, &q, NULL);
    assert_false(a.local);
    assert_int_equal(a.running, 0);
}

static void an_error_is_a_failure(void **state)
{
    NEED(f, state);
    struct kv_request q = REQUEST("key", .per_minute = 10);
    redis_do(&f->server, "SET ww:{r:key} nonsense");
    assert_true(kv_take_now(&f->kv, &q, NULL).local);
    assert_true(kv_health(f->kv.kv).degraded);
    /* The next brings the one decided here with it, in vain. */
    kv_fixture_until(&f->kv, false);
    assert_true(kv_take_now(&f->kv, &q, NULL).local);
    redis_do(&f->server, "DEL ww:{r:key}");
    kv_fixture_until(&f->kv, false);
    q.look = true;
    assert_int_equal(kv_take_now(&f->kv, &q, NULL).minute_left, 8); /* told now, both */
}

static void a_wrong_password_is_told(void **state)
{
    NEED(f, state);
    char url[64];
    struct kv_fixture kv;
    snprintf(url, sizeof url, "redis://:wrong@127.0.0.1:%d", f->server.port);
    kv_fixture_open(&kv, url);
    while (!strstr(kv_health(kv.kv).reason, "WRONGPASS"))
        uv_run(&kv.loop.uv, UV_RUN_ONCE);
    assert_null(strstr(kv_health(kv.kv).reason, "wrong@"));
    struct kv_request q = REQUEST("key", .per_minute = 10);
    assert_true(kv_take_now(&kv, &q, NULL).local);
    kv_fixture_close(&kv);
}

static void detaching_answers_who_waits(void **state)
{
    NEED(f, state);
    struct kv_fixture kv;
    struct kv_asked asked;
    struct kv_request q = REQUEST("key", .per_minute = 10);
    kv_fixture_open(&kv, f->server.url);
    kv_fixture_until(&kv, false);
    kv_ask(&kv, &q, &asked);
    assert_false(asked.answered);
    kv_detach(kv.kv, &kv.loop);
    assert_true(asked.answered && asked.wait.answer.local);
    kv_ask(&kv, &q, &asked);
    assert_true(asked.answered && asked.wait.answer.local);
    kv_fixture_close(&kv);
    /* While it looks up, connects, greets. */
    for (int turns = 0; turns < 6; turns++) {
        kv_fixture_open(&kv, turns % 2 ? f->server.url : "redis://localhost:1");
        for (int i = 0; i < turns; i++)
            uv_run(&kv.loop.uv, UV_RUN_NOWAIT);
        kv_fixture_close(&kv);
    }
}

struct ear {
    struct kv_listener listener;
    size_t gaps, messages;
    char last[32];
};

static void on_heard(struct kv_listener *l, struct str message)
{
    struct ear *ear = CONTAINER_OF(l, struct ear, listener);
    if (message.p)
        snprintf(ear->last, sizeof ear->last, "%.*s", STR_FMT(message));
    message.p ? ear->messages++ : ear->gaps++;
}

static void messages_cross_instances(void **state)
{
    NEED(f, state);
    static struct ear ear; /* until the teardown */
    ear = (struct ear){.listener = {.loop = &f->other.loop, .topic = "revoked", .heard = on_heard}};
    kv_listen(f->other.kv, &ear.listener);
    while (!ear.gaps)
        uv_run(&f->other.loop.uv, UV_RUN_ONCE);
    kv_publish(f->kv.kv, &f->kv.loop, STR_LIT("revoked"), STR_LIT("key 1"));
    while (!ear.messages) {
        uv_run(&f->kv.loop.uv, UV_RUN_NOWAIT);
        uv_run(&f->other.loop.uv, UV_RUN_NOWAIT);
    }
    assert_string_equal(ear.last, "key 1");
    /* A listener that lost the connection hears that something may be missing. */
    size_t gaps = ear.gaps;
    redis_do(&f->server, "CLIENT KILL TYPE pubsub");
    while (ear.gaps == gaps)
        uv_run(&f->other.loop.uv, UV_RUN_ONCE);
    kv_publish(f->kv.kv, &f->kv.loop, STR_LIT("revoked"), STR_LIT("key 2"));
    while (ear.messages < 2) {
        uv_run(&f->kv.loop.uv, UV_RUN_NOWAIT);
        uv_run(&f->other.loop.uv, UV_RUN_NOWAIT);
    }
    assert_string_equal(ear.last, "key 2");
    /* Others on the channel who follow no rule. */
    redis_do(&f->server, "PUBLISH wasmwiz:0:messages x");
    redis_do(&f->server, "PUBLISH wasmwiz:0:messages \"\"");
    for (int i = 0; i < 20; i++)
        uv_run(&f->other.loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(ear.messages, 2);
}

/* ---- a peer that is no Redis ---- */

static void die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        _exit(1);
}

/* Answers the greeting and the scripts, then each take with `reply`; a process each connection. */
static void serve_nonsense(int listener, const char *greeting, const char *reply)
{
    enum { BEFORE_TAKES = 5 };
    pid_t parent = getpid();
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0 || fork()) {
            close(fd);
            continue;
        }
        die_with(parent);
        char bytes[16384];
        size_t commands = 0;
        for (ssize_t got; (got = read(fd, bytes, sizeof bytes)) > 0;)
            for (ssize_t i = 0; i < got; i++) {
                if (bytes[i] != '*' || (i && bytes[i - 1] != '\n'))
                    continue;
                const char *answer = ++commands <= BEFORE_TAKES ? greeting : reply;
                if (write(fd, answer, strlen(answer)) < 0)
                    _exit(0);
            }
        _exit(0);
    }
}

static void nonsense_is_a_failure(void **state)
{
    (void)state;
    static const struct {
        const char *greeting, *reply;
    } rows[] = {
        {"+OK\r\n", "*7\r\n:0\r\n:5\r\n:5\r\n:5\r\n:5\r\n:5\r\n:-1\r\n"},
        {"+OK\r\n", "*7\r\n:4\r\n:5\r\n:5\r\n:5\r\n:5\r\n:5\r\n:1\r\n"},
        {"+OK\r\n", "*7\r\n:0\r\n:5\r\n:5\r\n:4294967296\r\n:5\r\n:5\r\n:1\r\n"},
        {"+OK\r\n", "*7\r\n:0\r\n:5\r\n$1\r\n5\r\n:5\r\n:5\r\n:5\r\n:1\r\n"},
        {"+OK\r\n", "*7\r\n:0\r\n:5\r\n:5\r\n:5\r\n:5\r\n:5\r\n:1\r\n"}, /* refused for no reason */
        {"+OK\r\n", "*6\r\n:0\r\n:5\r\n:5\r\n:5\r\n:5\r\n:5\r\n"},
        {"+OK\r\n", "*-1\r\n"},
        {"+OK\r\n", "$-1\r\n"},
        {"+OK\r\n", ":1\r\n"},
        {"+OK\r\n", "-NOSCRIPT again and again\r\n"},
        {"+OK\r\n", "-READONLY a replica\r\n"},
        {"+OK\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"},
        {"-LOADING\r\n", "+OK\r\n"},
        {"SSH-2.0-server\r\n", "+OK\r\n"},
    };
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof at;
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
        assert_int_equal(listen(listener, 8), 0);
        pid_t parent = getpid(), pid = fork();
        if (pid == 0) {
            die_with(parent);
            serve_nonsense(listener, rows[i].greeting, rows[i].reply);
        }
        close(listener);
        char url[64];
        struct kv_fixture kv;
        snprintf(url, sizeof url, "redis://127.0.0.1:%d", ntohs(at.sin_port));
        kv_fixture_open(&kv, url);
        if (rows[i].greeting[0] == '+')
            kv_fixture_until(&kv, false);
        else
            while (!kv_health(kv.kv).reason[0] || strstr(kv_health(kv.kv).reason, "yet"))
                uv_run(&kv.loop.uv, UV_RUN_ONCE);
        struct kv_request q = REQUEST("key", .per_minute = 10, .concurrency = 4);
        q.lease_ns = NS_PER_S;
        struct kv_answer a = kv_take_now(&kv, &q, NULL);
        assert_true(a.local);
        assert_int_equal(a.refusal, KV_ALLOWED);
        assert_true(kv_health(kv.kv).degraded);
        kv_fixture_close(&kv);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(instances_share),
        WITH_SERVER(without_redis_it_goes_on),
        WITH_SERVER(takes_without_redis_count_there_later),
        WITH_SERVER(leases_outlast_a_failure),
        WITH_SERVER(a_lease_given_back_meanwhile_is_not_lost),
        WITH_SERVER(silence_is_a_failure),
        WITH_SERVER(a_burst_is_few_commands),
        WITH_SERVER(leases_are_told_to_an_empty_redis),
        WITH_SERVER(forgotten_scripts_are_sent_again),
        WITH_SERVER(an_error_is_a_failure),
        WITH_SERVER(a_wrong_password_is_told),
        WITH_SERVER(detaching_answers_who_waits),
        WITH_SERVER(messages_cross_instances),
        cmocka_unit_test(nonsense_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
