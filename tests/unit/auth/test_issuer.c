/* Where keys come from and when they are read again; and what becomes of a token in auth_find() and auth_cached(), with
 * a real store. The clock passes through a function of this file, so tests move time. */
#include "../unit.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "auth/auth.h"
#include "auth/issuer.h"
#include "base/clock.h"
#include "jwt_fixture.h"
#include "store/users.h"

#define URL "https://issuer.test/jwks.json"
#define ID "0123456789abcdef"

static _Atomic uint64_t clock_ahead_ns;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    long failed = syscall(SYS_clock_gettime, id, ts);
    uint64_t ns = (uint64_t)ts->tv_nsec + clock_ahead_ns;
    ts->tv_sec += (time_t)(ns / NS_PER_S);
    ts->tv_nsec = (long)(ns % NS_PER_S);
    return (int)failed;
}

static struct {
    const char *body; /* NULL: it fails */
    unsigned asked;
    pthread_mutex_t gate; /* a fetch passes through */
} server = {.gate = PTHREAD_MUTEX_INITIALIZER};

static enum err fetch(const char *url, struct buf *body, struct err_info *reterr)
{
    assert_string_equal(url, URL);
    server.asked++;
    pthread_mutex_lock(&server.gate);
    pthread_mutex_unlock(&server.gate);
    if (!server.body)
        return err_set(reterr, ERR_BUSY, "no connection");
    assert_true(buf_puts(body, server.body));
    return OK;
}

static EVP_PKEY *rsa, *ec;

struct fixture {
    char folder[64];
    char path[96], database[96];
    struct store *store;
    struct auth *auth;
    struct auth_issuer *issuer;
    struct err_info info;
};

#define CHECK_OK(f, call)                              \
    do {                                               \
        if (call)                                      \
            fail_msg("%s: %s", #call, (f)->info.text); \
    } while (0)

static int make_keys(void **state)
{
    (void)state;
    rsa = EVP_RSA_gen(2048);
    ec = EVP_EC_gen("P-256");
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    drop_kept();
    return 0;
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    clock_ahead_ns = 0;
    server.asked = 0;
    server.body = NULL;
    snprintf(f->folder, sizeof f->folder, "/tmp/ww-issuer-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/keys", f->folder);
    snprintf(f->database, sizeof f->database, "%s/main.db", f->folder);
    CHECK_OK(f, store_open(f->database, &f->store, &f->info));
    f->auth = auth_new(f->store, STR_LIT("a salt of enough characters"), 16);
    auth_refresh(f->auth);
    struct store_user user = {.id = ID,
                              .email = "Ada@example.com",
                              .role = STORE_ROLE_OPERATOR,
                              .tier = "basic",
                              .active = true,
                              .created_ns = 1,
                              .updated_ns = 1};
    CHECK_OK(f, store_user_insert(f->store, &user, &f->info));
    auth_refresh(f->auth);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    auth_free(f->auth);
    auth_issuer_free(f->issuer);
    store_close(f->store);
    unlink(f->path);
    unlink(f->database);
    int failed = rmdir(f->folder);
    free(f);
    return failed;
}

static void put_file(struct fixture *f, const char *text)
{
    FILE *file = fopen(f->path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static enum err open_issuer(struct fixture *f, const char *secret, const char *pem, const char *jwks)
{
    struct auth_issuer_config config = {.secret = secret,
                                        .public_key = pem,
                                        .jwks = jwks,
                                        .rules = {.issuer = "", .audience = "us"},
                                        .fetch = fetch};
    f->info = (struct err_info){0};
    return auth_issuer_new(&config, &f->issuer, &f->info);
}

static void trust(struct fixture *f, const char *secret, const char *pem, const char *jwks)
{
    CHECK_OK(f, open_issuer(f, secret, pem, jwks));
    auth_trust(f->auth, f->issuer);
}

static const char *claims_for(const char *subject, uint64_t seconds)
{
    return text_of("{\"sub\":\"%s\",\"aud\":\"us\",\"exp\":%llu}", subject,
                   (unsigned long long)(clock_wall_ns() / NS_PER_S + seconds));
}

static char *secret_token(uint64_t seconds)
{
    return hmac_token(HS256, claims_for(ID, seconds), STR_LIT(SECRET));
}

static enum err find(struct fixture *f, const char *token)
{
    struct auth_principal *who = NULL;
    f->info = (struct err_info){0};
    enum err e = auth_find(f->auth, str_of(token), &who, &f->info);
    assert_true((e == OK) == (who != NULL));
    if (who) {
        assert_int_equal(who->kind, AUTH_BY_JWT);
        assert_string_equal(who->id, ID);
        assert_string_equal(who->user_id, ID);
        assert_string_equal(who->key_id, "");
        assert_true(who->expires_ns > clock_wall_ns());
    }
    auth_principal_unref(who);
    if (e == ERR_UNAUTHORIZED)
        assert_string_equal(f->info.text, err_sentence(ERR_UNAUTHORIZED));
    return e;
}

static enum auth_answer cached(struct fixture *f, const char *token)
{
    struct auth_principal *who = NULL;
    enum auth_answer answer = auth_cached(f->auth, str_of(token), &who);
    assert_true((answer == AUTH_KNOWN) == (who != NULL));
    auth_principal_unref(who);
    return answer;
}

static const char *set_of(EVP_PKEY *key, const char *kid)
{
    return text_of("{\"keys\":[%s]}", jwk_of(key, text_of(",\"kid\":\"%s\"", kid)));
}

static const char *signed_as(EVP_PKEY *key, const char *kid)
{
    const char *alg = key == rsa ? "RS256" : "ES256";
    return key_token(text_of("{\"alg\":\"%s\",\"kid\":\"%s\"}", alg, kid), claims_for(ID, 300), key);
}

static void only_safe_addresses_are_believed(void **state)
{
    (void)state;
    static const char *const safe[] = {
        "https://issuer.test/jwks.json",
        "https://issuer.test:8443",
        "https://10.0.0.1/?a=b@c",
        "http://localhost/x",
        "http://LOCALHOST:80/x",
        "http://127.0.0.1",
        "http://127.200.0.9:1/x",
        "http://[::1]:8080/x",
        "http://[::1]?x",
    };
    static const char *const unsafe[] = {
        "http://issuer.test/",
        "http://127.0.0.1.issuer.test/",
        "http://localhost.test/",
        "http://localhost@evil/",
        "http://127.0.0.1:80@evil/",
        "https://user:pass@issuer.test/",
        "http://localhost\\@evil/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://[::2]/",
        "http://[::1]evil/",
        "http://128.0.0.1/",
        "http:///x",
        "https://",
        "https:///x",
        "http://localhost :80/",
        "http:localhost",
        "ftp://localhost/",
    };
    for (size_t i = 0; i < LENGTH_OF(safe); i++)
        if (!auth_jwks_url_is_safe(safe[i]))
            fail_msg("%s", safe[i]);
    for (size_t i = 0; i < LENGTH_OF(unsafe); i++)
        if (auth_jwks_url_is_safe(unsafe[i]))
            fail_msg("%s", unsafe[i]);
    assert_true(auth_jwks_is_url("https://x"));
    assert_true(auth_jwks_is_url("http://x"));
    assert_false(auth_jwks_is_url("file:///x"));
    assert_false(auth_jwks_is_url("jwks.json"));
    assert_false(auth_jwks_is_url(""));
}

static void files_that_cannot_be_used_are_named(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(open_issuer(f, "short", "", ""), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "JWT_SECRET"));
    assert_int_equal(open_issuer(f, "", f->path, ""), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "JWT_PUBLIC_KEY: \""));
    assert_int_equal(open_issuer(f, "", f->folder, ""), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "no regular file"));
    assert_int_equal(open_issuer(f, "", "", f->path), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "JWT_JWKS: \""));
    put_file(f, "{}");
    assert_int_equal(open_issuer(f, "", "", f->path), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "JWT_JWKS: the JWK set"));
    assert_int_equal(open_issuer(f, "", f->path, ""), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "no public key"));
    struct buf large = buf_make(TEXT_MAX);
    for (size_t i = 0; i <= AUTH_JWKS_BYTES_MAX; i++)
        buf_putc(&large, ' ');
    put_file(f, keep(&large));
    assert_int_equal(open_issuer(f, "", "", f->path), ERR_FIELD_INVALID);
    assert_non_null(strstr(f->info.text, "longer than"));
    unlink(f->path);
    assert_int_equal(mkfifo(f->path, 0600), 0); /* does not hold the start */
    assert_int_equal(open_issuer(f, "", "", f->path), ERR_FIELD_INVALID);
}

static void without_an_issuer_a_token_is_nothing(void **state)
{
    struct fixture *f = *state;
    char *token = secret_token(300);
    assert_int_equal(cached(f, token), AUTH_REFUSED);
    assert_int_equal(find(f, token), ERR_UNAUTHORIZED);
}

static void a_token_is_remembered_until_it_expires(void **state)
{
    struct fixture *f = *state;
    trust(f, SECRET, "", "");
    char *token = secret_token(300), *bad = hmac_token(HS256, claims_for(ID, 300), STR_LIT("another"));
    struct auth_principal *who = NULL;
    assert_int_equal(cached(f, token), AUTH_ASK);
    CHECK_OK(f, auth_find(f->auth, str_of(token), &who, &f->info));
    assert_int_equal(who->role, STORE_ROLE_OPERATOR);
    assert_string_equal(who->tier, "basic");
    assert_int_equal(who->per_minute, 100);
    auth_principal_unref(who);
    assert_int_equal(cached(f, token), AUTH_KNOWN);
    assert_int_equal(find(f, bad), ERR_UNAUTHORIZED);
    assert_int_equal(cached(f, bad), AUTH_REFUSED);
    clock_ahead_ns += 2 * NS_PER_S;
    assert_int_equal(cached(f, bad), AUTH_ASK);
    clock_ahead_ns += 290 * NS_PER_S;
    assert_int_equal(cached(f, token), AUTH_KNOWN);
    clock_ahead_ns += 10 * NS_PER_S;
    assert_int_equal(cached(f, token), AUTH_REFUSED);
    assert_int_equal(find(f, token), ERR_UNAUTHORIZED);
}

static void the_account_is_asked_for_again_when_it_changes(void **state)
{
    struct fixture *f = *state;
    bool active = false;
    trust(f, SECRET, "", "");
    char *token = secret_token(300);
    assert_int_equal(find(f, token), OK);
    CHECK_OK(f, store_user_change(f->store, ID, &(struct store_user_change){.active = &active}, 2, &f->info));
    auth_refresh(f->auth);
    assert_int_equal(cached(f, token), AUTH_ASK);
    assert_int_equal(find(f, token), ERR_FORBIDDEN);
    assert_non_null(strstr(f->info.text, "not active"));
    CHECK_OK(f, store_user_delete(f->store, ID, &f->info));
    auth_refresh(f->auth);
    assert_int_equal(find(f, token), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, hmac_token(HS256, claims_for("' OR 1=1 --", 300), STR_LIT(SECRET))),
                     ERR_UNAUTHORIZED);
}

static void keys_of_an_address_come_later(void **state)
{
    struct fixture *f = *state;
    trust(f, SECRET, "", URL);
    assert_int_equal(server.asked, 0);
    const char *token = signed_as(rsa, "r");
    assert_int_equal(find(f, secret_token(300)), OK);
    assert_int_equal(find(f, token), ERR_BUSY);
    assert_int_equal(server.asked, 1);
    assert_int_equal(cached(f, token), AUTH_ASK); /* not remembered as bad */
    server.body = set_of(rsa, "r");
    auth_refresh_issuer(f->auth);
    assert_int_equal(find(f, token), OK);
    assert_int_equal(find(f, secret_token(300)), OK);
    assert_int_equal(find(f, signed_as(ec, "e")), ERR_UNAUTHORIZED); /* now it can be said */
}

static void nobody_has_keys_read_over_and_over(void **state)
{
    struct fixture *f = *state;
    server.body = set_of(rsa, "r");
    trust(f, "", "", URL);
    auth_refresh_issuer(f->auth);
    assert_int_equal(server.asked, 1);
    server.body = set_of(ec, "e");
    assert_int_equal(find(f, signed_as(ec, "e")), OK);
    assert_int_equal(server.asked, 2);
    for (int i = 0; i < 50; i++)
        assert_int_equal(find(f, signed_as(ec, text_of("k%d", i))), ERR_UNAUTHORIZED);
    assert_int_equal(server.asked, 2);
    clock_ahead_ns += 29 * NS_PER_S;
    assert_int_equal(find(f, signed_as(ec, "other")), ERR_UNAUTHORIZED);
    assert_int_equal(server.asked, 2);
    clock_ahead_ns += 2 * NS_PER_S;
    assert_int_equal(find(f, signed_as(ec, "third")), ERR_UNAUTHORIZED);
    assert_int_equal(server.asked, 3);
    clock_ahead_ns += 31 * NS_PER_S;
    /* What no key could help is not worth asking. */
    assert_int_equal(find(f, secret_token(300)), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, hmac_token("{\"alg\":\"none\",\"kid\":\"x\"}", "{}", STR_LIT(""))),
                     ERR_UNAUTHORIZED);
    assert_int_equal(server.asked, 3);
}

static void a_key_that_goes_takes_its_tokens_along(void **state)
{
    struct fixture *f = *state;
    server.body = set_of(rsa, "r");
    trust(f, SECRET, "", URL);
    auth_refresh_issuer(f->auth);
    const char *token = signed_as(rsa, "r"), *other = secret_token(300);
    assert_int_equal(find(f, token), OK);
    assert_int_equal(find(f, other), OK);
    auth_refresh_issuer(f->auth); /* the same again: nothing is forgotten */
    assert_int_equal(cached(f, token), AUTH_KNOWN);
    static const char *const broken[] = {NULL,    "", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\"}]}",
                                         "<html>"};
    for (size_t i = 0; i < LENGTH_OF(broken); i++) {
        server.body = broken[i];
        auth_refresh_issuer(f->auth);
        assert_int_equal(cached(f, token), AUTH_KNOWN);
        assert_int_equal(find(f, token), OK);
    }
    server.body = set_of(ec, "e");
    auth_refresh_issuer(f->auth);
    assert_int_equal(cached(f, token), AUTH_ASK);
    assert_int_equal(find(f, token), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, signed_as(ec, "e")), OK);
    assert_int_equal(find(f, other), OK);
}

static void files_are_read_again(void **state)
{
    struct fixture *f = *state;
    put_file(f, pem_of(rsa));
    trust(f, "", f->path, "");
    assert_int_equal(find(f, signed_as(rsa, "any")), OK);
    put_file(f, pem_of(ec));
    auth_refresh_issuer(f->auth);
    assert_int_equal(find(f, signed_as(rsa, "any")), ERR_UNAUTHORIZED);
    assert_int_equal(find(f, signed_as(ec, "any")), OK);
    unlink(f->path);
    auth_refresh_issuer(f->auth);
    assert_int_equal(find(f, signed_as(ec, "other")), OK);
}

static void *refresh(void *arg)
{
    auth_refresh_issuer(((struct fixture *)arg)->auth);
    return NULL;
}

/* While keys are on their way, a token that may need them is neither good nor bad, and its thread does not wait. */
static void nothing_is_said_while_keys_are_read(void **state)
{
    struct fixture *f = *state;
    pthread_t reader;
    server.body = set_of(rsa, "r");
    trust(f, SECRET, "", URL);
    auth_refresh_issuer(f->auth);
    assert_true(auth_issuer_may_refresh(f->issuer)); /* so the next 30 seconds nobody else */
    assert_int_equal(find(f, signed_as(ec, "e")), ERR_UNAUTHORIZED);
    pthread_mutex_lock(&server.gate);
    server.body = set_of(ec, "f");
    assert_int_equal(pthread_create(&reader, NULL, refresh, f), 0);
    while (!auth_issuer_is_waiting(f->issuer))
        usleep(1000);
    assert_int_equal(find(f, signed_as(ec, "f")), ERR_BUSY);
    assert_int_equal(find(f, signed_as(rsa, "r")), OK);
    assert_int_equal(find(f, secret_token(300)), OK);
    pthread_mutex_unlock(&server.gate);
    pthread_join(reader, NULL);
    assert_int_equal(find(f, signed_as(ec, "f")), OK);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_safe_addresses_are_believed),
        TEST(files_that_cannot_be_used_are_named),
        TEST(without_an_issuer_a_token_is_nothing),
        TEST(a_token_is_remembered_until_it_expires),
        TEST(the_account_is_asked_for_again_when_it_changes),
        TEST(keys_of_an_address_come_later),
        TEST(nobody_has_keys_read_over_and_over),
        TEST(a_key_that_goes_takes_its_tokens_along),
        TEST(files_are_read_again),
        TEST(nothing_is_said_while_keys_are_read),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
