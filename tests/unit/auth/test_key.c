/* API keys against a real store. The clock, the randomness and the store's answers pass through functions
 * of this file, which the program's own calls reach first: so tests move time and make faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "auth/key.h"
#include "base/clock.h"
#include "store/keys.h"

static _Atomic uint64_t clock_ahead_ns;
static enum { RANDOM_REAL, RANDOM_COUNTS, RANDOM_FAILS } random_mode;
static unsigned char random_next;
static atomic_bool store_fails;
static void (*before_compare)(void); /* runs once, before the next comparison of HMACs */

int clock_gettime(clockid_t id, struct timespec *ts)
{
    long failed = syscall(SYS_clock_gettime, id, ts);
    uint64_t ns = (uint64_t)ts->tv_nsec + clock_ahead_ns;
    ts->tv_sec += (time_t)(ns / NS_PER_S);
    ts->tv_nsec = (long)(ns % NS_PER_S);
    return (int)failed;
}

int RAND_bytes(unsigned char *to, int len)
{
    if (random_mode == RANDOM_REAL)
        return getrandom(to, (size_t)len, 0) == len;
    for (int i = 0; i < len; i++)
        to[i] = random_next++;
    return random_mode == RANDOM_COUNTS;
}

int sqlite3_step(sqlite3_stmt *statement)
{
    static int (*real)(sqlite3_stmt *);
    if (store_fails)
        return SQLITE_IOERR;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_step");
    return real(statement);
}

int CRYPTO_memcmp(const void *a, const void *b, size_t len)
{
    void (*run)(void) = before_compare;
    if (run) {
        before_compare = NULL;
        run();
    }
    return memcmp(a, b, len);
}

static const struct str salt = STR_LIT("a salt of enough characters");

struct fixture {
    char folder[64];
    char path[96];
    struct store *store;
    struct store *other; /* another process's look at the same file */
    struct auth *auth;
    struct err_info info;
};

#define CHECK_OK(f, call)                              \
    do {                                               \
        if (call)                                      \
            fail_msg("%s: %s", #call, (f)->info.text); \
    } while (0)

enum { CACHE_MAX = 4 };

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    clock_ahead_ns = 0;
    snprintf(f->folder, sizeof f->folder, "/tmp/ww-auth-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/main.db", f->folder);
    CHECK_OK(f, store_open(f->path, &f->store, &f->info));
    CHECK_OK(f, store_open(f->path, &f->other, &f->info));
    f->auth = auth_new(f->store, salt, CACHE_MAX);
    auth_refresh(f->auth);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    random_mode = RANDOM_REAL;
    store_fails = false;
    auth_free(f->auth);
    store_close(f->store);
    store_close(f->other);
    unlink(f->path);
    int failed = rmdir(f->folder);
    free(f);
    return failed;
}

struct token {
    char text[AUTH_KEY_TOKEN_BYTES];
};

static enum err make_key(struct auth *a, struct str name, struct str tier, uint64_t expires_ns,
                         char *ret_token, struct err_info *reterr)
{
    struct store_key row;
    return auth_key_create(a,
                           &(struct auth_key_request){.name = name, .tier = tier, .expires_ns = expires_ns},
                           &row, ret_token, reterr);
}

static struct token create(struct fixture *f, const char *name, uint64_t expires_ns)
{
    struct token token;
    CHECK_OK(f, make_key(f->auth, str_of(name), STR_LIT("free"), expires_ns, token.text, &f->info));
    return token;
}

/* A token that no key has; another for each number. */
static struct token unknown_token(unsigned number)
{
    struct token token;
    snprintf(token.text, sizeof token.text, "ww_%040u", number);
    return token;
}

static void find(struct fixture *f, struct token token)
{
    struct auth_principal *key;
    CHECK_OK(f, auth_find(f->auth, str_of(token.text), &key, &f->info));
    auth_principal_unref(key);
}

static void expect_unauthorized(struct fixture *f, struct str token)
{
    struct auth_principal *key = (struct auth_principal *)0x1;
    f->info = (struct err_info){0};
    assert_int_equal(auth_find(f->auth, token, &key, &f->info), ERR_UNAUTHORIZED);
    assert_ptr_equal(key, (struct auth_principal *)0x1);
    assert_string_equal(f->info.text, err_sentence(ERR_UNAUTHORIZED));
}

static enum auth_answer cached(struct fixture *f, struct token token)
{
    struct auth_principal *key = NULL;
    enum auth_answer answer = auth_cached(f->auth, str_of(token.text), &key);
    assert_true((answer == AUTH_KNOWN) == (key != NULL));
    auth_principal_unref(key);
    return answer;
}

static void takes_the_token_out_of_the_header(void **state)
{
    (void)state;
    char longest[7 + AUTH_TOKEN_MAX_BYTES + 2];
    memset(longest, 'x', sizeof longest - 1);
    memcpy(longest, "Bearer ", 7);
    longest[sizeof longest - 1] = 0;
    const struct {
        struct str header;
        const char *token;
    } cases[] = {
        {STR_LIT("Bearer ww_abc"), "ww_abc"},
        {STR_LIT("bEARER a.b-c_d~e+f/g=="), "a.b-c_d~e+f/g=="},
        {STR_LIT("Bearer   x"), "x"},
        {STR_LIT(" \tBearer x \t"), "x"},
        {STR_NULL, NULL},
        {STR_LIT(""), NULL},
        {STR_LIT("Bearer"), NULL},
        {STR_LIT("Bearer "), NULL},
        {STR_LIT("Bearer\tx"), NULL},
        {STR_LIT("Bearerx"), NULL},
        {STR_LIT("Bearers x"), NULL},
        {STR_LIT("Basic eA=="), NULL},
        {STR_LIT("ww_abc"), NULL},
        {STR_LIT("Bearer x y"), NULL},
        {STR_LIT("Bearer x,y"), NULL},
        {STR_LIT("Bearer ="), NULL},
        {STR_LIT("Bearer a=b"), NULL},
        {STR_LIT("Bearer \"x\""), NULL},
        {STR_LIT("Bearer x\0"), NULL},
        {STR_LIT("Bearer \xc3\xbc"), NULL},
        {{longest, sizeof longest - 1}, NULL},
        {{longest, sizeof longest - 2}, longest + 7},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct str token = auth_bearer_token(cases[i].header);
        if (!cases[i].token)
            assert_null(token.p);
        else
            assert_true(str_eq(
                token, str_make(cases[i].token, MIN(strlen(cases[i].token), (size_t)AUTH_TOKEN_MAX_BYTES))));
    }
}

static void a_created_key_is_found(void **state)
{
    struct fixture *f = *state;
    struct token token;
    uint64_t expires = clock_wall_ns() + 3600 * NS_PER_S;
    CHECK_OK(f, make_key(f->auth, STR_LIT("ci.Build_1-x"), STR_LIT("pro"), expires, token.text, &f->info));
    assert_int_equal(strlen(token.text), 43);
    assert_memory_equal(token.text, "ww_", 3);
    assert_int_equal(cached(f, token), AUTH_ASK);

    CLEANUP(auth_principal_unrefp) struct auth_principal *found = NULL, *warm = NULL;
    CHECK_OK(f, auth_find(f->auth, str_of(token.text), &found, &f->info));
    assert_string_equal(found->name, "ci.Build_1-x");
    assert_string_equal(found->tier, "pro");
    assert_int_equal(strlen(found->id), 16);
    assert_true(found->expires_ns == expires);
    assert_int_equal(auth_cached(f->auth, str_of(token.text), &warm), AUTH_KNOWN);
    assert_ptr_equal(warm, found);
}

static void a_key_outlives_the_cache(void **state)
{
    struct fixture *f = *state;
    struct token token = create(f, "x", 0);
    struct auth_principal *key;
    CHECK_OK(f, auth_find(f->auth, str_of(token.text), &key, &f->info));
    auth_free(TAKE(f->auth));
    assert_string_equal(key->name, "x");
    assert_ptr_equal(auth_principal_ref(key), key);
    auth_principal_unref(key);
    assert_string_equal(key->tier, "free");
    auth_principal_unrefp(&key);
    assert_null(key);
    auth_principal_unref(NULL);
    auth_free(NULL);
}

static bool take_row(void *ctx, const struct store_key *row)
{
    *(struct store_key *)ctx = *row;
    return false;
}

static void the_store_has_only_the_hmac(void **state)
{
    struct fixture *f = *state;
    struct token token = create(f, "x", 0);
    struct store_key row;
    unsigned char mac[32];
    unsigned len;
    CHECK_OK(f, store_key_each(f->store, take_row, &row, &f->info));
    assert_non_null(HMAC(EVP_sha256(), salt.p, (int)salt.len, (unsigned char *)token.text, 43, mac, &len));
    assert_memory_equal(row.hash, mac, sizeof mac);
    assert_int_equal(strlen(row.prefix), 12);
    assert_memory_equal(row.prefix, token.text, 12);
    assert_int_equal(row.revoked_ns, 0);

    store_close(TAKE(f->store)); /* the last to close brings all into one file */
    store_close(TAKE(f->other));
    CLEANUP(freep) char *bytes = xmalloc(MIB);
    FILE *file = fopen(f->path, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, MIB, file);
    fclose(file);
    assert_non_null(memmem(bytes, size, row.prefix, 12));
    assert_null(memmem(bytes, size, token.text, 13));
    assert_null(memmem(bytes, size, token.text + 12, 8));
}

/* The random bytes count 60, 61, ... 255, 0 and so on. A key takes 8 for its id and 64 for its token, so 31 keys
 * begin theirs at 68 + 72 * n modulo 256: 8 apart, and none within the last eight bytes, which stand for no digit.
 * Each other byte is then met as often, and each digit stands for four bytes. */
static void tokens_favour_no_digit(void **state)
{
    struct fixture *f = *state;
    unsigned count[256] = {0};
    random_mode = RANDOM_COUNTS;
    random_next = 60;
    for (int i = 0; i < 31; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        struct token token = create(f, name, 0);
        for (int j = 3; j < 43; j++)
            count[(unsigned char)token.text[j]]++;
    }
    unsigned digits = 0;
    for (int c = 0; c < 256; c++) {
        bool is_digit = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        assert_int_equal(count[c], is_digit ? 20 : 0);
        digits += is_digit;
    }
    assert_int_equal(digits, 62);
}

static void tokens_differ(void **state)
{
    struct fixture *f = *state;
    struct token a = create(f, "a", 0), b = create(f, "b", 0);
    for (int i = 3; i < 43; i += 10) /* not even in a part */
        assert_memory_not_equal(a.text + i, b.text + i, 10);
}

static void no_randomness_no_key(void **state)
{
    struct fixture *f = *state;
    struct token token = {"untouched"};
    random_mode = RANDOM_FAILS;
    assert_int_equal(make_key(f->auth, STR_LIT("x"), STR_LIT("free"), 0, token.text, &f->info), ERR_INTERNAL);
    random_mode = RANDOM_REAL;
    assert_string_equal(token.text, "untouched");
    struct store_key row = {.name = "none"};
    CHECK_OK(f, store_key_each(f->store, take_row, &row, &f->info));
    assert_string_equal(row.name, "none");
}

static void refuses_wrong_names_and_tiers(void **state)
{
    struct fixture *f = *state;
    char longest[65 + 1];
    memset(longest, 'n', 65);
    longest[65] = 0;
    const struct {
        struct str name, tier;
        const char *word;
    } cases[] = {
        {STR_LIT(""), STR_LIT("free"), "name"},
        {STR_NULL, STR_LIT("free"), "name"},
        {str_of(longest), STR_LIT("free"), "has 65"},
        {STR_LIT("a b"), STR_LIT("free"), "name"},
        {STR_LIT("a\0b"), STR_LIT("free"), "name"},
        {STR_LIT("a\0"), STR_LIT("free"), "name"},
        {STR_LIT("\xc3\xbc"), STR_LIT("free"), "name"},
        {STR_LIT("'"), STR_LIT("free"), "name"},
        {STR_LIT("a"), STR_LIT(""), "tier"},
        {STR_LIT("a"), STR_LIT("Free"), "tier"},
        {STR_LIT("a"), STR_LIT("enterprise"), "tier"},
        {STR_LIT("a"), STR_LIT("pro\0"), "tier"},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct token token = {"untouched"};
        assert_int_equal(make_key(f->auth, cases[i].name, cases[i].tier, 0, token.text, &f->info),
                         ERR_FIELD_INVALID);
        assert_non_null(strstr(f->info.text, cases[i].word));
        assert_string_equal(token.text, "untouched");
    }
    longest[64] = 0;
    create(f, longest, 0);
    struct token token = {"untouched"};
    assert_int_equal(make_key(f->auth, str_of(longest), STR_LIT("basic"), 0, token.text, &f->info),
                     ERR_CONFLICT);
    assert_string_equal(token.text, "untouched");
}

static void an_unknown_token_is_refused_for_a_second(void **state)
{
    struct fixture *f = *state;
    struct token token = unknown_token(1);
    assert_int_equal(cached(f, token), AUTH_ASK);
    expect_unauthorized(f, str_of(token.text));
    assert_int_equal(cached(f, token), AUTH_REFUSED);
    clock_ahead_ns += 1100 * NS_PER_MS;
    assert_int_equal(cached(f, token), AUTH_ASK);
}

static void another_form_is_refused_unasked(void **state)
{
    struct fixture *f = *state;
    struct token good = create(f, "x", 0);
    char longer[64];
    snprintf(longer, sizeof longer, "%sx", good.text);
    char inside[AUTH_KEY_TOKEN_BYTES];
    memcpy(inside, good.text, sizeof inside);
    inside[20] = '-';
    char prefix[AUTH_KEY_TOKEN_BYTES];
    memcpy(prefix, good.text, sizeof prefix);
    prefix[0] = 'W';
    const struct str cases[] = {STR_NULL,       STR_LIT("ww_"), str_make(good.text, 42),
                                str_of(longer), str_of(inside), str_of(prefix)};
    store_fails = true;
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct auth_principal *key;
        assert_int_equal(auth_cached(f->auth, cases[i], &key), AUTH_REFUSED);
        expect_unauthorized(f, cases[i]);
    }
}

static void one_changed_character_is_another_key(void **state)
{
    struct fixture *f = *state;
    struct token token = create(f, "x", 0);
    find(f, token);
    for (int i = 3; i < 43; i++) {
        struct token near = token;
        near.text[i] = near.text[i] == 'q' ? 'r' : 'q';
        expect_unauthorized(f, str_of(near.text));
        assert_int_equal(cached(f, near), AUTH_REFUSED);
    }
    assert_int_equal(cached(f, token), AUTH_KNOWN);
}

static void another_salt_knows_no_key(void **state)
{
    struct fixture *f = *state;
    struct token token = create(f, "x", 0);
    auth_free(f->auth);
    f->auth = auth_new(f->store, STR_LIT("a salt of enough characterz"), CACHE_MAX);
    expect_unauthorized(f, str_of(token.text));
}

static void a_revoked_key_is_refused_after_a_refresh(void **state)
{
    struct fixture *f = *state;
    struct store *const revokers[] = {f->other, f->store};
    for (size_t i = 0; i < LENGTH_OF(revokers); i++) {
        struct token token = create(f, "x", 0), stays = create(f, "stays", 0);
        auth_refresh(f->auth);
        find(f, token);
        find(f, stays);
        auth_refresh(f->auth); /* nothing has changed: nothing is forgotten */
        assert_int_equal(cached(f, token), AUTH_KNOWN);
        CHECK_OK(f, store_key_revoke(revokers[i], STR_LIT("x"), clock_wall_ns(), &f->info));
        auth_refresh(f->auth);
        assert_int_equal(cached(f, token), AUTH_ASK);
        expect_unauthorized(f, str_of(token.text));
        assert_int_equal(cached(f, token), AUTH_REFUSED);
        assert_int_equal(cached(f, stays), AUTH_ASK);
        find(f, stays);
        CHECK_OK(f, store_key_revoke(f->store, STR_LIT("stays"), clock_wall_ns(), &f->info));
        auth_refresh(f->auth);
    }
}

static void an_expired_key_is_refused_at_each_look(void **state)
{
    struct fixture *f = *state;
    struct token token = create(f, "x", clock_wall_ns() + 3600 * NS_PER_S);
    find(f, token);
    clock_ahead_ns += 3590 * NS_PER_S;
    assert_int_equal(cached(f, token), AUTH_KNOWN);
    clock_ahead_ns += 10 * NS_PER_S;
    assert_int_equal(cached(f, token), AUTH_REFUSED);
    assert_int_equal(cached(f, token), AUTH_REFUSED);
    expect_unauthorized(f, str_of(token.text));

    struct token past = create(f, "past", 1);
    expect_unauthorized(f, str_of(past.text));
}

static void remembers_so_many_and_drops_the_one_used_least(void **state)
{
    struct fixture *f = *state;
    struct token tokens[CACHE_MAX + 1];
    for (int i = 0; i < CACHE_MAX + 1; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        tokens[i] = create(f, name, 0);
    }
    for (int i = 0; i < CACHE_MAX; i++)
        find(f, tokens[i]);
    assert_int_equal(cached(f, tokens[0]), AUTH_KNOWN); /* so that 1 is the oldest */
    find(f, tokens[CACHE_MAX]);
    for (int i = 0; i < CACHE_MAX + 1; i++)
        assert_int_equal(cached(f, tokens[i]), i == 1 ? AUTH_ASK : AUTH_KNOWN);
}

static void guessing_pushes_out_no_key(void **state)
{
    struct fixture *f = *state;
    struct token token = create(f, "x", 0);
    find(f, token);
    for (unsigned i = 0; i < 2000; i++)
        expect_unauthorized(f, str_of(unknown_token(i).text));
    assert_int_equal(cached(f, token), AUTH_KNOWN);
    assert_int_equal(cached(f, unknown_token(1999)), AUTH_REFUSED);
    assert_int_equal(cached(f, unknown_token(0)), AUTH_ASK);
}

static void a_silent_store_is_no_refusal(void **state)
{
    struct fixture *f = *state;
    struct token known = create(f, "x", 0), cold = create(f, "y", 0);
    struct auth_principal *key;
    auth_refresh(f->auth);
    find(f, known);
    store_fails = true;
    assert_int_equal(auth_find(f->auth, str_of(cold.text), &key, &f->info), ERR_STORE_DOWN);
    assert_int_equal(cached(f, cold), AUTH_ASK);
    auth_refresh(f->auth);
    assert_int_equal(cached(f, known), AUTH_KNOWN);
    clock_ahead_ns += 31 * NS_PER_S; /* a revocation would not have been heard of */
    auth_refresh(f->auth);
    assert_int_equal(cached(f, known), AUTH_ASK);
    store_fails = false;
    find(f, known);
    find(f, cold);
    auth_refresh(f->auth);
    assert_int_equal(cached(f, known), AUTH_ASK);
    find(f, known);
    auth_refresh(f->auth);
    assert_int_equal(cached(f, known), AUTH_KNOWN);
}

static struct fixture *racing;

static void revoke_and_refresh(void)
{
    CHECK_OK(racing, store_key_revoke(racing->other, STR_LIT("x"), 5, &racing->info));
    auth_refresh(racing->auth);
}

/* The store has answered "live", then the key is revoked and the caches are forgotten: the old answer must not
 * come in behind that, as nothing would ever drop it. */
static void an_answer_older_than_a_change_is_not_remembered(void **state)
{
    struct fixture *f = racing = *state;
    struct token token = create(f, "x", 0);
    auth_refresh(f->auth);
    before_compare = revoke_and_refresh;
    find(f, token);
    assert_null(before_compare);
    assert_int_equal(cached(f, token), AUTH_ASK);
    expect_unauthorized(f, str_of(token.text));
}

struct worker {
    pthread_t thread;
    struct fixture *f;
    const struct token *tokens;
    unsigned failures;
};

static void *look_many_times(void *ctx)
{
    struct worker *w = ctx;
    for (unsigned i = 0; i < 400; i++) {
        const struct token *token = &w->tokens[i % (CACHE_MAX + 2)];
        struct auth_principal *key = NULL;
        enum auth_answer answer = auth_cached(w->f->auth, str_of(token->text), &key);
        if (answer == AUTH_ASK)
            w->failures += auth_find(w->f->auth, str_of(token->text), &key, NULL) != OK;
        w->failures += answer == AUTH_REFUSED || !key || key->name[0] != 'k';
        auth_principal_unref(key);
        if (i % 50 == 0)
            auth_refresh(w->f->auth);
    }
    return NULL;
}

static void threads_share_an_auth(void **state)
{
    struct fixture *f = *state;
    struct token tokens[CACHE_MAX + 2];
    for (int i = 0; i < CACHE_MAX + 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        tokens[i] = create(f, name, 0);
    }
    struct worker workers[4] = {0};
    for (unsigned i = 0; i < LENGTH_OF(workers); i++) {
        workers[i].f = f;
        workers[i].tokens = tokens;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, look_many_times, &workers[i]), 0);
    }
    for (unsigned i = 0; i < LENGTH_OF(workers); i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].failures, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_token_out_of_the_header),
        TEST(a_created_key_is_found),
        TEST(a_key_outlives_the_cache),
        TEST(the_store_has_only_the_hmac),
        TEST(tokens_favour_no_digit),
        TEST(tokens_differ),
        TEST(no_randomness_no_key),
        TEST(refuses_wrong_names_and_tiers),
        TEST(an_unknown_token_is_refused_for_a_second),
        TEST(another_form_is_refused_unasked),
        TEST(one_changed_character_is_another_key),
        TEST(another_salt_knows_no_key),
        TEST(a_revoked_key_is_refused_after_a_refresh),
        TEST(an_expired_key_is_refused_at_each_look),
        TEST(remembers_so_many_and_drops_the_one_used_least),
        TEST(guessing_pushes_out_no_key),
        TEST(a_silent_store_is_no_refusal),
        TEST(an_answer_older_than_a_change_is_not_remembered),
        TEST(threads_share_an_auth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
