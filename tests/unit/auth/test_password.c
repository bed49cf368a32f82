/* Passwords, with the real hash; and the turnstile before it, with one that waits for the test. */
#include "../unit.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sodium.h>
#include <unistd.h>

#include "auth/password.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed; /* hashes wait */
    unsigned inside, most_inside, ended;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* The program's own calls come here first. */
int crypto_pwhash_str_verify(const char str[crypto_pwhash_STRBYTES], const char *const password,
                             unsigned long long len)
{
    static int (*real)(const char *, const char *, unsigned long long);
    pthread_mutex_lock(&gate.lock);
    gate.inside++;
    gate.most_inside = MAX(gate.most_inside, gate.inside);
    pthread_cond_broadcast(&gate.changed);
    while (gate.closed)
        pthread_cond_wait(&gate.changed, &gate.lock);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "crypto_pwhash_str_verify");
    gate.inside--;
    pthread_mutex_unlock(&gate.lock);
    return real(str, password, len);
}

static struct {
    unsigned long long passes;
    size_t memory_bytes;
} pretended;

int crypto_pwhash(unsigned char *const out, unsigned long long out_len, const char *const password,
                  unsigned long long len, const unsigned char *const salt, unsigned long long passes,
                  size_t memory_bytes, int algorithm)
{
    pretended.passes = passes;
    pretended.memory_bytes = memory_bytes;
    return crypto_pwhash_argon2id(out, out_len, password, len, salt, passes, memory_bytes, algorithm);
}

static char hash[STORE_PASSWORD_HASH_BYTES];
static struct err_info info;

static int hash_one(void **state)
{
    (void)state;
    info = (struct err_info){0};
    return auth_password_hash(STR_LIT("correct horse"), hash, &info);
}

static bool is_right(struct str password, const char *against)
{
    bool right = false, outdated = true;
    assert_int_equal(auth_password_verify(password, against, &right, &outdated, &info), OK);
    assert_false(outdated);
    return right;
}

static void knows_the_password(void **state)
{
    (void)state;
    char other[STORE_PASSWORD_HASH_BYTES];
    assert_memory_equal(hash, "$argon2id$", 10);
    assert_true(is_right(STR_LIT("correct horse"), hash));
    assert_false(is_right(STR_LIT("correct horsf"), hash));
    assert_false(is_right(STR_LIT("correct hors"), hash));
    assert_false(is_right(STR_LIT(""), hash));
    assert_false(is_right(STR_LIT("correct horse"), ""));
    assert_false(is_right(STR_LIT("correct horse"), "no hash"));
    assert_int_equal(auth_password_hash(STR_LIT("correct horse"), other, &info), OK);
    assert_string_not_equal(hash, other); /* salted */
}

static void bytes_are_bytes(void **state)
{
    (void)state;
    char longest[AUTH_PASSWORD_MAX_BYTES];
    memset(longest, 'x', sizeof longest);
    struct str all = str_make(longest, sizeof longest), cut = str_make(longest, sizeof longest - 1);
    char of_longest[STORE_PASSWORD_HASH_BYTES], of_zero[STORE_PASSWORD_HASH_BYTES];
    assert_int_equal(auth_password_hash(all, of_longest, &info), OK);
    assert_true(is_right(all, of_longest));
    assert_false(is_right(cut, of_longest)); /* nothing is cut off */
    assert_int_equal(auth_password_hash(STR_LIT("0123456789\0a"), of_zero, &info), OK);
    assert_false(is_right(STR_LIT("0123456789\0b"), of_zero));
}

/* The same work, seen by its parameters. */
static void an_unknown_account_costs_as_much(void **state)
{
    (void)state;
    char wanted[64];
    pretended.passes = 0;
    assert_false(is_right(STR_LIT("correct horse"), NULL));
    snprintf(wanted, sizeof wanted, "$m=%zu,t=%llu,p=1$", pretended.memory_bytes / 1024, pretended.passes);
    assert_non_null(strstr(hash, wanted));
}

static void old_parameters_are_noticed(void **state)
{
    (void)state;
    char old[crypto_pwhash_STRBYTES];
    bool right = false, outdated = false;
    assert_int_equal(
        crypto_pwhash_str(old, "correct horse", 13, crypto_pwhash_OPSLIMIT_MIN, crypto_pwhash_MEMLIMIT_MIN),
        0);
    assert_int_equal(auth_password_verify(STR_LIT("correct horse"), old, &right, &outdated, &info), OK);
    assert_true(right && outdated);
    assert_int_equal(auth_password_verify(STR_LIT("wrong"), old, &right, &outdated, &info), OK);
    assert_false(right || outdated);
}

static void lengths_are_checked(void **state)
{
    (void)state;
    char text[AUTH_PASSWORD_MAX_BYTES + 1] = {0};
    const struct {
        size_t len;
        enum err e;
    } cases[] = {{0, ERR_FIELD_INVALID},
                 {AUTH_PASSWORD_MIN_BYTES - 1, ERR_FIELD_INVALID},
                 {AUTH_PASSWORD_MIN_BYTES, OK},
                 {AUTH_PASSWORD_MAX_BYTES, OK},
                 {AUTH_PASSWORD_MAX_BYTES + 1, ERR_FIELD_INVALID}};
    for (size_t i = 0; i < LENGTH_OF(cases); i++)
        assert_int_equal(auth_password_check("new_password", str_make(text, cases[i].len), &info),
                         cases[i].e);
    assert_non_null(strstr(info.text, "new_password"));
    assert_non_null(strstr(info.text, "257"));
}

/* --- the turnstile --- */

enum { CROWD = AUTH_HASHES_AT_ONCE + AUTH_HASHES_WAITING, TOO_MANY = 3 };

static void *verify_one(void *ctx)
{
    bool right, outdated;
    struct err_info why = {0};
    enum err e = auth_password_verify(STR_LIT("correct horse"), hash, &right, &outdated, &why);
    pthread_mutex_lock(&gate.lock);
    *(enum err *)ctx = e;
    gate.ended++;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    return NULL;
}

/* As many as may work and wait stay; the others are told at once. */
static void few_work_some_wait_the_rest_goes(void **state)
{
    (void)state;
    pthread_t threads[CROWD + TOO_MANY];
    enum err results[CROWD + TOO_MANY];
    unsigned busy = 0, fine = 0;
    gate.closed = true;
    gate.ended = gate.most_inside = 0;
    for (size_t i = 0; i < LENGTH_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, verify_one, &results[i]), 0);
    pthread_mutex_lock(&gate.lock);
    while (gate.ended < TOO_MANY || gate.inside < AUTH_HASHES_AT_ONCE)
        pthread_cond_wait(&gate.changed, &gate.lock);
    assert_int_equal(gate.ended, TOO_MANY);
    assert_int_equal(gate.most_inside, AUTH_HASHES_AT_ONCE);
    gate.closed = false;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    for (size_t i = 0; i < LENGTH_OF(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        busy += results[i] == ERR_BUSY;
        fine += results[i] == OK;
    }
    assert_int_equal(busy, TOO_MANY);
    assert_int_equal(fine, CROWD);
    assert_true(is_right(STR_LIT("correct horse"), hash)); /* and then there is room again */
}

int main(void)
{
    alarm(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_the_password),
        cmocka_unit_test(bytes_are_bytes),
        cmocka_unit_test(an_unknown_account_costs_as_much),
        cmocka_unit_test(old_parameters_are_noticed),
        cmocka_unit_test(lengths_are_checked),
        cmocka_unit_test(few_work_some_wait_the_rest_goes),
    };
    return cmocka_run_group_tests(tests, hash_one, NULL);
}
