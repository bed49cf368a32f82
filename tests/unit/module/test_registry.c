/* The registry with real compilers: one compilation for all who ask, two caches, refusals, and what is thrown away. */
#include "../sandbox/process_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "module/files.h"
#include "module/module.h"

enum { PATIENCE_S = 30, ASKS_MAX = 32 };

/* Somebody who asks for a module. */
struct ask {
    struct module_wait wait;
    struct fixture *f;
    bool ready;
    bool at_once; /* it was in memory */
};

struct fixture {
    char dir[64], cache_dir[80], temp_dir[80];
    struct loop loop;
    struct modules *modules;
    struct modules_config config;
    uv_timer_t patience;
    struct ask asks[ASKS_MAX];
    size_t ask_count;
};

static void on_patience(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("it does not come to an end");
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/ww-registry-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->cache_dir, sizeof f->cache_dir, "%s/cache", f->dir);
    snprintf(f->temp_dir, sizeof f->temp_dir, "%s/tmp", f->dir);
    assert_int_equal(mkdir(f->cache_dir, 0700), 0);
    assert_int_equal(mkdir(f->temp_dir, 0700), 0);
    f->config = (struct modules_config){
        .cache_dir = f->cache_dir,
        .temp_dir = f->temp_dir,
        .temp_ttl_ns = 3600 * NS_PER_S,
        .cache_bytes_max = GIB,
        .modules_max = 10,
        .seal_key = {1, 2, 3},
        .precheck = precheck_limits_default(FIXTURE_MEMORY_MAX),
        .compiler = {.wall_ns = 20 * NS_PER_S,
                     .cpu_seconds = 60,
                     .code_bytes_max = 10 * MIB,
                     .memory_max_bytes = FIXTURE_MEMORY_MAX,
                     .processes_max = 2,
                     .queue_max = 10},
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    *state = f;
    return 0;
}

static void start(struct fixture *f)
{
    struct err_info info = {0};
    loop_init(&f->loop, 0);
    uv_timer_init(&f->loop.uv, &f->patience);
    uv_timer_start(&f->patience, on_patience, 1000 * PATIENCE_S, 0);
    if (modules_new(&f->loop, &f->config, &f->modules, &info))
        fail_msg("%s", info.text);
}

static void forget_asks(struct fixture *f)
{
    for (size_t i = 0; i < f->ask_count; i++)
        module_unref(f->asks[i].wait.module);
    f->ask_count = 0;
}

static void stop(struct fixture *f)
{
    modules_stop(f->modules);
    uv_close((uv_handle_t *)&f->patience, NULL);
    loop_close(&f->loop);
    uv_run(&f->loop.uv, UV_RUN_DEFAULT);
    loop_done(&f->loop);
    modules_free(TAKE(f->modules));
}

/* The names in the folder, each to `each`; how many there are. */
static unsigned walk(const char *dir, void (*each)(const char *path))
{
    unsigned count = 0;
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        char path[512];
        if (entry->d_name[0] == '.')
            continue;
        count++;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (each)
            each(path);
    }
    closedir(d);
    return count;
}

static void remove_file(const char *path)
{
    unlink(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->modules)
        stop(f);
    forget_asks(f);
    walk(f->cache_dir, remove_file);
    walk(f->temp_dir, remove_file);
    int failed = rmdir(f->cache_dir) | rmdir(f->temp_dir) | rmdir(f->dir);
    free(f);
    return failed;
}

static void on_ready(struct module_wait *w)
{
    struct ask *a = CONTAINER_OF(w, struct ask, wait);
    assert_false(a->ready || a->at_once);
    a->ready = true;
}

static struct ask *ask_bytes(struct fixture *f, struct str wasm, bool fuel)
{
    unsigned char sha[MODULE_SHA_BYTES];
    WW_ASSERT(f->ask_count < ASKS_MAX);
    struct ask *a = &f->asks[f->ask_count++];
    *a = (struct ask){.f = f, .wait = {.loop = &f->loop, .ready = on_ready, .err = ERR_COUNT}};
    assert_int_equal(EVP_Digest(wasm.p, wasm.len, sha, NULL, EVP_sha256(), NULL), 1);
    char *mine = xstrndup(wasm.p, wasm.len);
    a->at_once = modules_get(f->modules, sha, fuel, &mine, wasm.len, &a->wait);
    if (a->at_once)
        assert_non_null(mine); /* was not needed */
    free(mine);
    return a;
}

static struct ask *ask(struct fixture *f, const char *wat)
{
    wasm_byte_vec_t wasm = fixture_wasm(wat);
    struct ask *a = ask_bytes(f, str_make(wasm.data, wasm.size), false);
    wasm_byte_vec_delete(&wasm);
    return a;
}

static void await(struct ask *a)
{
    while (!a->ready && !a->at_once)
        uv_run(&a->f->loop.uv, UV_RUN_ONCE);
}

static struct module *expect_module(struct ask *a, enum module_source source)
{
    await(a);
    if (a->wait.err || !a->wait.module)
        fail_msg("%s: %s", err_name(a->wait.err), a->wait.info.text);
    assert_int_equal(a->wait.source, source);
    return a->wait.module;
}

static void expect_err(struct ask *a, enum err want, const char *word)
{
    await(a);
    if (a->wait.err != want || !strstr(err_text(&a->wait.info), word))
        fail_msg("%s \"%s\" instead of %s", err_name(a->wait.err), a->wait.info.text, err_name(want));
    assert_null(a->wait.module);
}

/* Whether the code of this module runs here. */
static bool runs(const struct module *m)
{
    struct engine *e = fixture_engine(true, m->fuel);
    wasmtime_module_t *module;
    wasmtime_error_t *error = wasmwiz_module_open(e->engine, dup(m->code_fd), &module);
    if (error)
        wasmtime_error_delete(error);
    else
        wasmtime_module_delete(module);
    engine_free(e);
    return !error;
}

/* --- finding ------------------------------------------------------------------------------------ */
static void test_compiled_memory_disk(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct module *m = expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED);
    assert_true(runs(m));
    assert_true(m->compile_ns > 0);
    assert_int_equal(m->facts.memories, 1);
    assert_int_equal(fcntl(m->code_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    struct ask *again = ask(f, GUEST_ECHO);
    assert_true(again->at_once);
    assert_ptr_equal(expect_module(again, MODULE_FROM_MEMORY), m);
    assert_int_equal(walk(f->cache_dir, NULL), 1);
    struct modules_stats stats = modules_stats(f->modules);
    assert_int_equal(stats.compiled, 1);
    assert_int_equal(stats.hits_memory, 1);
    assert_int_equal(stats.loaded, 1);
    assert_true(stats.cache_bytes > 0);
    stop(f);
    forget_asks(f);

    start(f); /* another life */
    assert_true(modules_stats(f->modules).cache_bytes == stats.cache_bytes);
    m = expect_module(ask(f, GUEST_ECHO), MODULE_FROM_DISK);
    assert_true(runs(m));
    assert_int_equal(m->compile_ns, 0);
    assert_int_equal(m->facts.memories, 1);
    assert_int_equal(modules_stats(f->modules).hits_disk, 1);
    assert_int_equal(modules_stats(f->modules).compiled, 0);
}

static void test_fuel_is_another_module(void **state)
{
    struct fixture *f = *state;
    start(f);
    wasm_byte_vec_t wasm = fixture_wasm(GUEST_ECHO);
    struct ask *plain = ask_bytes(f, str_make(wasm.data, wasm.size), false);
    struct ask *fuel = ask_bytes(f, str_make(wasm.data, wasm.size), true);
    wasm_byte_vec_delete(&wasm);
    struct module *a = expect_module(plain, MODULE_COMPILED), *b = expect_module(fuel, MODULE_COMPILED);
    assert_true(a != b && a->id != b->id && !a->fuel && b->fuel);
    assert_true(runs(a) && runs(b));
    assert_int_equal(walk(f->cache_dir, NULL), 2);
}

static void test_one_compilation_for_all(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct ask *asks[8];
    for (size_t i = 0; i < LENGTH_OF(asks); i++)
        asks[i] = ask(f, GUEST_ECHO);
    struct module *m = expect_module(asks[0], MODULE_COMPILED);
    for (size_t i = 0; i < LENGTH_OF(asks); i++) {
        assert_false(asks[i]->at_once);
        assert_ptr_equal(expect_module(asks[i], MODULE_COMPILED), m);
    }
    assert_int_equal(modules_stats(f->modules).compiled, 1);
    assert_int_equal(walk(f->temp_dir, NULL), 1);
}

static void test_without_folders(void **state)
{
    struct fixture *f = *state;
    f->config.cache_dir = f->config.temp_dir = NULL;
    start(f);
    assert_true(runs(expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED)));
    assert_true(ask(f, GUEST_ECHO)->at_once);
}

/* A cache that can't be written costs time, not the run. */
static void test_cache_that_is_gone(void **state)
{
    struct fixture *f = *state;
    f->config.cache_dir = "/tmp/ww-is-not-there";
    start(f);
    assert_true(runs(expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED)));
}

static void test_uploads_that_can_not_be_kept(void **state)
{
    struct fixture *f = *state;
    f->config.temp_dir = "/tmp/ww-is-not-there";
    start(f);
    expect_err(ask(f, GUEST_ECHO), ERR_DISK_FAULT, "temporary folder");
    struct ask *again = ask(f, GUEST_ECHO);
    assert_false(again->at_once); /* that may be over the next time */
    expect_err(again, ERR_DISK_FAULT, "temporary folder");
}

/* --- code that was tampered with ---------------------------------------------------------------- */
static void flip_a_byte(const char *path)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, 1000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 1000), 1);
    close(fd);
}

static void cut(const char *path)
{
    assert_int_equal(truncate(path, 10), 0);
}

static void test_tampered_code_is_compiled_again(void **state)
{
    struct fixture *f = *state;
    void (*const ways[])(const char *) = {flip_a_byte, cut};
    start(f);
    expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED);
    for (size_t i = 0; i < LENGTH_OF(ways); i++) {
        stop(f);
        forget_asks(f);
        assert_int_equal(walk(f->cache_dir, ways[i]), 1);
        start(f);
        assert_true(runs(expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED)));
        assert_int_equal(walk(f->cache_dir, NULL), 1);
    }
    stop(f);
    forget_asks(f);
    f->config.seal_key[0]++; /* another node's key */
    start(f);
    expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED);
}

/* --- refusals ----------------------------------------------------------------------------------- */
static void test_refusals_are_remembered(void **state)
{
    struct fixture *f = *state;
    start(f);
    static const struct {
        struct str bytes;
        enum err err;
        const char *word;
    } bad[] = {
        {{"this is text", 12}, ERR_NOT_WASM, ""},
        {{"\0asm\1\0\0\0\x0a\x02\x01\x00", 12}, ERR_MODULE_INVALID, ""},
        {{"\0asm\x0d\0\1\0", 8}, ERR_MODULE_REJECTED, "component"},
    };
    for (size_t i = 0; i < LENGTH_OF(bad); i++)
        for (int again = 0; again < 2; again++) {
            struct ask *a = ask_bytes(f, bad[i].bytes, false);
            expect_err(a, bad[i].err, bad[i].word);
            assert_int_equal(a->at_once, again);
        }
    /* What only the compiler sees. */
    for (int again = 0; again < 2; again++) {
        struct ask *a = ask(f, "(module (func (result i32) (f32.const 1)))");
        expect_err(a, ERR_MODULE_INVALID, "type mismatch");
        assert_int_equal(a->at_once, again);
    }
    assert_int_equal(modules_stats(f->modules).refused, 8);
    assert_int_equal(modules_stats(f->modules).compiled, 0);
    assert_int_equal(walk(f->cache_dir, NULL), 0);
    assert_int_equal(walk(f->temp_dir, NULL), 1); /* the one that went as far as the compiler */
}

static void test_busy_is_not_remembered(void **state)
{
    struct fixture *f = *state;
    char wat[100];
    struct ask *asks[5];
    f->config.compiler.processes_max = 1;
    f->config.compiler.queue_max = 1;
    start(f);
    for (int i = 0; i < 5; i++) {
        snprintf(wat, sizeof wat, "(module (func (export \"_start\") (drop (i32.const %d))))", i);
        asks[i] = ask(f, wat);
    }
    int busy = -1, good = 0;
    for (int i = 0; i < 5; i++) {
        await(asks[i]);
        if (asks[i]->wait.err == ERR_BUSY)
            busy = i;
        else
            good += expect_module(asks[i], MODULE_COMPILED) != NULL;
    }
    assert_true(busy >= 0 && good >= 2);
    snprintf(wat, sizeof wat, "(module (func (export \"_start\") (drop (i32.const %d))))", busy);
    expect_module(ask(f, wat), MODULE_COMPILED);
}

/* --- what is thrown away ------------------------------------------------------------------------ */
static void test_least_used_go(void **state)
{
    struct fixture *f = *state;
    static const char *const wats[] = {GUEST_ECHO, GUEST_HELLO, GUEST_EMPTY, GUEST_TRAP};
    f->config.modules_max = 3;
    start(f);
    struct module *kept = NULL;
    for (size_t i = 0; i < 3; i++) {
        struct module *m = expect_module(ask(f, wats[i]), MODULE_COMPILED);
        if (i == 1)
            kept = m;
    }
    assert_true(ask(f, wats[0])->at_once); /* 1 is the one used longest ago now */
    expect_module(ask(f, wats[3]), MODULE_COMPILED);
    assert_int_equal(modules_stats(f->modules).loaded, 3);
    assert_true(ask(f, wats[0])->at_once);
    assert_true(ask(f, wats[2])->at_once);
    assert_true(runs(kept)); /* whoever holds it may go on */
    struct module *again = expect_module(ask(f, wats[1]), MODULE_FROM_DISK);
    assert_true(again->id > kept->id);
}

static void test_cache_is_trimmed(void **state)
{
    struct fixture *f = *state;
    char wat[100];
    start(f);
    expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED);
    uint64_t one = modules_stats(f->modules).cache_bytes;
    stop(f);
    f->config.cache_bytes_max = 4 * one;
    start(f);
    for (int i = 0; i < 8; i++) {
        snprintf(wat, sizeof wat, "(module (func (export \"_start\") (drop (i32.const %d))))", i);
        expect_module(ask(f, wat), MODULE_COMPILED);
        assert_true(modules_stats(f->modules).cache_bytes <= 4 * one);
    }
    assert_int_equal(cache_size(f->cache_dir), modules_stats(f->modules).cache_bytes);
}

static void test_uploads_are_removed(void **state)
{
    struct fixture *f = *state;
    f->config.temp_ttl_ns = NS_PER_MS;
    start(f);
    expect_module(ask(f, GUEST_ECHO), MODULE_COMPILED);
    while (walk(f->temp_dir, NULL))
        uv_run(&f->loop.uv, UV_RUN_ONCE);
}

/* Files of an earlier life are found in any order; each goes when its own time is up. */
static void test_leftovers_are_removed(void **state)
{
    struct fixture *f = *state;
    enum { YOUNG = 8 };
    f->config.temp_ttl_ns = 1000 * NS_PER_S;
    for (int i = 0; i < 2 * YOUNG; i++) {
        char path[200];
        struct timespec times[2];
        snprintf(path, sizeof path, "%s/%08d-89ab-4cde-8123-456789abcdef.wasm", f->temp_dir, i);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        clock_gettime(CLOCK_REALTIME, &times[0]);
        times[0].tv_sec -= i % 2 ? 999 : 0; /* half of them have a second left */
        times[1] = times[0];
        assert_int_equal(futimens(fd, times), 0);
        close(fd);
    }
    start(f);
    while (walk(f->temp_dir, NULL) > YOUNG)
        uv_run(&f->loop.uv, UV_RUN_ONCE);
}

/* --- the end ------------------------------------------------------------------------------------ */
static void test_stop_while_loading(void **state)
{
    struct fixture *f = *state;
    start(f);
    ask(f, GUEST_ECHO);
    ask(f, GUEST_HELLO);
    for (int turns = 0; turns < 3; turns++)
        uv_run(&f->loop.uv, UV_RUN_NOWAIT);
    ask(f, GUEST_EMPTY);
    stop(f);
    for (size_t i = 0; i < f->ask_count; i++) {
        assert_true(f->asks[i].ready); /* nobody is left without an answer */
        assert_true(f->asks[i].wait.err == ERR_SHUTTING_DOWN || f->asks[i].wait.module);
    }
}

int main(int argc, char **argv)
{
    fixture_be_process(argc, argv);
#define REGISTRY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        REGISTRY_TEST(test_compiled_memory_disk),
        REGISTRY_TEST(test_fuel_is_another_module),
        REGISTRY_TEST(test_one_compilation_for_all),
        REGISTRY_TEST(test_without_folders),
        REGISTRY_TEST(test_cache_that_is_gone),
        REGISTRY_TEST(test_uploads_that_can_not_be_kept),
        REGISTRY_TEST(test_tampered_code_is_compiled_again),
        REGISTRY_TEST(test_refusals_are_remembered),
        REGISTRY_TEST(test_busy_is_not_remembered),
        REGISTRY_TEST(test_least_used_go),
        REGISTRY_TEST(test_cache_is_trimmed),
        REGISTRY_TEST(test_uploads_are_removed),
        REGISTRY_TEST(test_leftovers_are_removed),
        REGISTRY_TEST(test_stop_while_loading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
