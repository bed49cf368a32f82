/* A kv on a loop of the test's own, asked as if it answered at once. */
#ifndef WW_TESTS_KV_FIXTURE_H
#define WW_TESTS_KV_FIXTURE_H

#include "kv/kv.h"
#include "redis_fixture.h"

struct kv_fixture {
    struct loop loop;
    struct kv *kv;
    bool answered;
};

static inline void kv_fixture_open(struct kv_fixture *f, const char *url)
{
    struct err_info info = {0};
    const struct kv_config config = {.url = str_of(url), .loops = 1, .timeout_ns = 2 * NS_PER_S};
    loop_init(&f->loop, 0);
    enum err e = kv_open(&config, &f->kv, &info);
    WW_ASSERT(!e);
    kv_attach(f->kv, &f->loop);
}

/* Turns the loop until the connection is as wanted. */
static inline void kv_fixture_until(struct kv_fixture *f, bool degraded)
{
    while (kv_health(f->kv).degraded != degraded)
        uv_run(&f->loop.uv, UV_RUN_ONCE);
}

static inline void kv_fixture_close(struct kv_fixture *f)
{
    kv_detach(f->kv, &f->loop);
    loop_close(&f->loop);
    uv_run(&f->loop.uv, UV_RUN_DEFAULT);
    loop_done(&f->loop);
    kv_free(f->kv);
}

struct kv_asked {
    struct kv_wait wait;
    bool answered;
};

static inline void kv_on_ready(struct kv_wait *w)
{
    CONTAINER_OF(w, struct kv_asked, wait)->answered = true;
}

static inline void kv_ask(struct kv_fixture *f, const struct kv_request *request, struct kv_asked *a)
{
    a->wait = (struct kv_wait){.ready = kv_on_ready};
    a->answered = false;
    a->answered = kv_take(f->kv, &f->loop, request, &a->wait);
}

static inline void kv_await(struct kv_fixture *f, struct kv_asked *a)
{
    while (!a->answered)
        uv_run(&f->loop.uv, UV_RUN_ONCE);
}

/* Takes, and waits for the answer. */
static inline struct kv_answer kv_take_now(struct kv_fixture *f, const struct kv_request *request,
                                           struct kv_ticket *ret_ticket)
{
    struct kv_asked a;
    kv_ask(f, request, &a);
    kv_await(f, &a);
    if (ret_ticket)
        *ret_ticket = a.wait.ticket;
    return a.wait.answer;
}

#endif
