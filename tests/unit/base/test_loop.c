/* Posts from other threads: each is done once, on the loop's thread, in the order of its sender. */
#include "../unit.h"

#include "base/loop.h"

enum { THREADS = 4, POSTS = 500 };

struct job {
    struct loop_post post;
    unsigned sender, number;
};

static struct loop loop;
static uv_thread_t loop_thread;
static unsigned done, next_of[THREADS];

static void check_job(struct loop_post *post)
{
    struct job *job = CONTAINER_OF(post, struct job, post);
    uv_thread_t self = uv_thread_self();
    assert_true(uv_thread_equal(&self, &loop_thread));
    assert_int_equal(job->number, next_of[job->sender]);
    next_of[job->sender]++;
    free(job);
    if (++done == THREADS * POSTS)
        loop_close(&loop);
}

static void send_posts(void *arg)
{
    for (unsigned i = 0; i < POSTS; i++) {
        struct job *job = xcalloc(1, sizeof *job);
        job->sender = (unsigned)(uintptr_t)arg;
        job->number = i;
        loop_post(&loop, &job->post, check_job);
    }
}

static void test_threads(void **state)
{
    (void)state;
    uv_thread_t threads[THREADS];
    loop_thread = uv_thread_self();
    loop_init(&loop, 3);
    assert_int_equal(loop.index, 3);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], send_posts, (void *)i), 0);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    for (size_t i = 0; i < THREADS; i++)
        uv_thread_join(&threads[i]);
    loop_done(&loop);
    assert_int_equal(done, THREADS * POSTS);
}

struct chain {
    struct loop_post post;
    unsigned left;
};

/* A post may be used again, and freed, as soon as its function is called. */
static void go_on(struct loop_post *post)
{
    struct chain *c = CONTAINER_OF(post, struct chain, post);
    if (c->left-- > 0) {
        loop_post(&loop, post, go_on);
        return;
    }
    free(c);
    loop_close(&loop);
}

static void test_post_is_used_again(void **state)
{
    (void)state;
    loop_init(&loop, 0);
    struct chain *c = xcalloc(1, sizeof *c);
    c->left = 10;
    loop_post(&loop, &c->post, go_on);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    loop_done(&loop);
}

static void count_late(struct loop_post *post)
{
    (void)post;
    done++;
}

/* What is posted to a loop that is ending is done, too: somebody counts on it. */
static void test_post_at_the_end(void **state)
{
    (void)state;
    struct loop_post early, late;
    loop_init(&loop, 0);
    done = 0;
    loop_close(&loop);
    loop_post(&loop, &early, count_late);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    loop_post(&loop, &late, count_late);
    loop_done(&loop);
    assert_int_equal(done, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_post_is_used_again),
        cmocka_unit_test(test_post_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
