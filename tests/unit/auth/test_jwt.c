/* The check of a token: what is good, and everything near it that is not, with the reason, so that no case is refused
 * for another one. */
#include "../unit.h"

#include "auth/auth.h"
#include "jwt_fixture.h"

#define NOW 1700000000
#define NOW_NS (NOW * NS_PER_S)
#define GOOD \
    "{\"sub\":\"0123456789abcdef\",\"iss\":\"me\",\"aud\":\"us\",\"iat\":1699999990,\"exp\":1700000100}"

static EVP_PKEY *rsa, *other_rsa, *ec, *other_ec;
static struct auth_jwks *keys; /* the secret, rsa as "r" and ec as "e" */
static struct auth_jwt_rules rules;

static const struct auth_jwt_rules usual = {
    .issuer = "me", .audience = "us", .subject = AUTH_SUBJECT_ID, .leeway_ns = 60 * NS_PER_S};

static int make_keys(void **state)
{
    (void)state;
    rsa = EVP_RSA_gen(2048);
    other_rsa = EVP_RSA_gen(2048);
    ec = EVP_EC_gen("P-256");
    other_ec = EVP_EC_gen("P-256");
    struct auth_jwk secret = {0};
    keys = auth_jwks_new();
    assert_int_equal(auth_jwk_from_secret(STR_LIT(SECRET), &secret, NULL), OK);
    assert_int_equal(auth_jwks_add(keys, &secret, NULL), OK);
    const char *set =
        text_of("{\"keys\":[%s,%s]}", jwk_of(rsa, ",\"kid\":\"r\""), jwk_of(ec, ",\"kid\":\"e\""));
    assert_int_equal(auth_jwks_add_json(keys, str_of(set), NULL), OK);
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    auth_jwks_unref(keys);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(other_rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(other_ec);
    drop_kept();
    return 0;
}

static int usual_rules(void **state)
{
    (void)state;
    rules = usual;
    return 0;
}

static void expect_good(const char *token, uint64_t now_ns)
{
    struct auth_jwt_claims claims;
    struct err_info info = {0};
    if (auth_jwt_check(keys, &rules, str_of(token), now_ns, &claims, &info))
        fail_msg("%s: %s", token, info.text);
    assert_string_equal(claims.subject, "0123456789abcdef");
    assert_true(claims.expires_ns > now_ns);
}

static void expect_bad_with(struct str token, uint64_t now_ns, enum err wanted, const char *reason)
{
    struct auth_jwt_claims claims, before;
    struct err_info info = {0};
    memset(&claims, 0x5a, sizeof claims);
    before = claims;
    enum err e = auth_jwt_check(keys, &rules, token, now_ns, &claims, &info);
    if (e != wanted || !strstr(info.text, reason))
        fail_msg("%.*s: %s \"%s\", not \"%s\"", STR_FMT(token), err_name(e), info.text, reason);
    assert_memory_equal(&claims, &before, sizeof claims);
}

static void expect_bad(const char *token, const char *reason)
{
    expect_bad_with(str_of(token), NOW_NS, ERR_UNAUTHORIZED, reason);
}

/* Signed well, whatever it says. */
static char *saying(const char *payload)
{
    return hmac_token(HS256, payload, STR_LIT(SECRET));
}

static char *headed(const char *header)
{
    return hmac_token(header, GOOD, STR_LIT(SECRET));
}

/* With those members besides "sub", "iss" and "aud". */
static char *timed(const char *members)
{
    return saying(text_of("{\"sub\":\"0123456789abcdef\",\"iss\":\"me\",\"aud\":\"us\"%s}", members));
}

static void all_three_algorithms_are_good(void **state)
{
    (void)state;
    expect_good(saying(GOOD), NOW_NS);
    expect_good(key_token(RS256, GOOD, rsa), NOW_NS);
    expect_good(key_token("{\"alg\":\"RS256\"}", GOOD, rsa), NOW_NS);
    expect_good(headed("{\"alg\":\"HS256\",\"kid\":\"any\",\"typ\":\"at+JWT\",\"jku\":\"https://x\"}"),
                NOW_NS);
    /* r or s begins with zero bytes now and then; raw signatures keep them. */
    for (int i = 0; i < 600; i++)
        expect_good(key_token(ES256, GOOD, ec), NOW_NS);
}

static void knows_the_form(void **state)
{
    (void)state;
    assert_true(auth_jwt_has_form(STR_LIT("a.b.c")));
    assert_true(auth_jwt_has_form(STR_LIT("aZ09.-.__")));
    static const struct str bad[] = {
        STR_LIT(""),       STR_LIT("a.b"),    STR_LIT("a.b.c.d"),   STR_LIT(".b.c"),  STR_LIT("a..c"),
        STR_LIT("a.b."),   STR_LIT(".."),     STR_LIT("a.b.c="),    STR_LIT("a.b c"), STR_LIT("a.b.c\n"),
        STR_LIT("a.b.\0"), STR_LIT("a+.b.c"), STR_LIT("a.b.c.d.e"),
    };
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        assert_false(auth_jwt_has_form(bad[i]));
        expect_bad_with(bad[i], NOW_NS, ERR_UNAUTHORIZED, "three parts");
    }
    char longest[AUTH_TOKEN_MAX_BYTES + 1];
    memset(longest, 'A', sizeof longest);
    longest[1] = longest[3] = '.';
    assert_true(auth_jwt_has_form(str_make(longest, AUTH_TOKEN_MAX_BYTES)));
    assert_false(auth_jwt_has_form(str_make(longest, sizeof longest)));
}

static void the_header_is_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *header, *reason;
    } cases[] = {
        {"{\"alg\":\"none\"}", "\"alg\""},
        {"{\"alg\":\"None\"}", "\"alg\""},
        {"{\"alg\":\"NONE\"}", "\"alg\""},
        {"{\"alg\":\"nOnE\"}", "\"alg\""},
        {"{\"alg\":\"\"}", "\"alg\""},
        {"{\"alg\":\"hs256\"}", "\"alg\""},
        {"{\"alg\":\"HS256 \"}", "\"alg\""},
        {"{\"alg\":\"HS25\"}", "\"alg\""},
        {"{\"alg\":\"HS384\"}", "\"alg\""},
        {"{\"alg\":\"PS256\"}", "\"alg\""},
        {"{\"alg\":\"ES256K\"}", "\"alg\""},
        {"{\"alg\":null}", "\"alg\""},
        {"{\"alg\":[\"HS256\"]}", "\"alg\""},
        {"{\"typ\":\"JWT\"}", "\"alg\""},
        {"{\"Alg\":\"HS256\"}", "\"alg\""},
        {"{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", "\"crit\""},
        {"{\"alg\":\"HS256\",\"crit\":[]}", "\"crit\""},
        {"{\"alg\":\"HS256\",\"crit\":null}", "\"crit\""},
        {"{\"alg\":\"HS256\",\"typ\":\"secevent+jwt\"}", "\"typ\""},
        {"{\"alg\":\"HS256\",\"typ\":\"\"}", "\"typ\""},
        {"{\"alg\":\"HS256\",\"typ\":null}", "\"typ\""},
        {"{\"alg\":\"HS256\",\"kid\":\"\"}", "\"kid\""},
        {"{\"alg\":\"HS256\",\"kid\":7}", "\"kid\""},
        {"{\"alg\":\"none\",\"alg\":\"HS256\"}", "header"},
        {"{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}", "header"},
        {"{\"alg\":\"HS256\",\"x\":{\"y\":1,\"y\":2}}", "header"},
        {"{\"alg\":\"HS256\"}x", "header"},
        {"{\"alg\":\"HS256\"}{}", "header"},
        {"\xef\xbb\xbf{\"alg\":\"HS256\"}", "header"},
        {"{\"alg\":\"HS256\",\"x\":\"\xff\"}", "header"},
        {"{\"alg\":\"HS256\",\"x\":\"\\u0000\"}", "header"},
        {"[\"HS256\"]", "header"},
        {"\"HS256\"", "header"},
        {"{'alg':'HS256'}", "header"},
        {"{\"alg\":\"HS256\"", "header"},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        expect_bad(headed(cases[i].header), cases[i].reason);
        if (!strstr(cases[i].header, "HS256"))
            expect_bad(assemble(cases[i].header, GOOD, "x", 1), cases[i].reason);
    }
    char kid[AUTH_KID_MAX_BYTES + 2] = "";
    memset(kid, 'k', sizeof kid - 1);
    expect_bad(headed(text_of("{\"alg\":\"HS256\",\"kid\":\"%s\"}", kid)), "\"kid\"");
    kid[AUTH_KID_MAX_BYTES] = 0;
    expect_good(headed(text_of("{\"alg\":\"HS256\",\"kid\":\"%s\"}", kid)), NOW_NS);
}

/* Which key it is says the header, but what for says the key. */
static void no_key_is_taken_for_another_kind(void **state)
{
    (void)state;
    unsigned char signature[1024];
    const struct str guesses[] = {str_of(pem_of(rsa)), str_of(pem_of(ec)), STR_LIT(""), STR_LIT("\0"),
                                  str_of(jwk_of(rsa, ",\"kid\":\"r\""))};
    static const char *const headers[] = {HS256, "{\"alg\":\"HS256\",\"kid\":\"r\"}",
                                          "{\"alg\":\"HS256\",\"kid\":\"e\"}"};
    for (size_t i = 0; i < LENGTH_OF(guesses); i++)
        for (size_t h = 0; h < LENGTH_OF(headers); h++)
            expect_bad(hmac_token(headers[h], GOOD, guesses[i]), "signature");
    expect_bad(hmac_token(RS256, GOOD, STR_LIT(SECRET)), "signature");
    expect_bad(hmac_token(ES256, GOOD, STR_LIT(SECRET)), "signature");

    size_t len = sign_raw(rsa, signed_part("{\"alg\":\"ES256\"}", GOOD), signature, 32);
    expect_bad(assemble("{\"alg\":\"ES256\"}", GOOD, signature, len), "signature");
    len = sign_raw(ec, signed_part("{\"alg\":\"RS256\"}", GOOD), signature, 32);
    expect_bad(assemble("{\"alg\":\"RS256\"}", GOOD, signature, len), "signature");
    expect_bad(key_token(RS256, GOOD, other_rsa), "signature");
    expect_bad(key_token(ES256, GOOD, other_ec), "signature");

    /* The kid of a key for another algorithm is an unknown one. */
    expect_bad_with(str_of(key_token("{\"alg\":\"ES256\",\"kid\":\"r\"}", GOOD, ec)), NOW_NS, ERR_NOT_FOUND,
                    "no key for ES256 with this \"kid\"");
    expect_bad_with(str_of(key_token("{\"alg\":\"RS256\",\"kid\":\"x\"}", GOOD, rsa)), NOW_NS, ERR_NOT_FOUND,
                    "no key for RS256 with this \"kid\"");

    /* Without a secret there is no HS256 at all, nor a search for one. */
    struct auth_jwks *all = keys, *published = keys = auth_jwks_new();
    const char *set = text_of("{\"keys\":[%s]}", jwk_of(rsa, ",\"kid\":\"r\""));
    assert_int_equal(auth_jwks_add_json(published, str_of(set), NULL), OK);
    for (size_t i = 0; i < LENGTH_OF(guesses); i++)
        for (size_t h = 0; h < LENGTH_OF(headers); h++)
            expect_bad(hmac_token(headers[h], GOOD, guesses[i]), "no key for HS256");
    keys = all;
    auth_jwks_unref(published);
}

static void a_signature_has_one_form(void **state)
{
    (void)state;
    unsigned char signature[1024] = {0};
    struct str text = signed_part(ES256, GOOD);
    size_t len = sign_der(ec, text, signature);
    expect_bad(assemble(ES256, GOOD, signature, len), "signature");
    len = sign_raw(ec, text, signature, 33); /* a zero byte more in each */
    expect_bad(assemble(ES256, GOOD, signature, len), "signature");
    len = sign_raw(ec, text, signature, 32);
    expect_bad(assemble(ES256, GOOD, signature, len - 1), "signature");
    expect_bad(assemble(ES256, GOOD, signature, len + 1), "signature");
    expect_bad(assemble(ES256, GOOD, signature, 1), "signature");
    memset(signature, 0, 64); /* the signature that is right for all, where nobody looks */
    expect_bad(assemble(ES256, GOOD, signature, 64), "signature");
    memset(signature, 0xff, 64);
    expect_bad(assemble(ES256, GOOD, signature, 64), "signature");

    memset(signature, 0, sizeof signature);
    len = sign_der(rsa, signed_part(RS256, GOOD), signature);
    memmove(signature + 1, signature, len);
    signature[0] = 0;
    expect_bad(assemble(RS256, GOOD, signature, len + 1), "signature"); /* the same number */
    expect_bad(assemble(RS256, GOOD, signature + 1, len - 1), "signature");
    memset(signature, 0, sizeof signature);
    expect_bad(assemble(RS256, GOOD, signature, 256), "signature");
    signature[255] = 1;
    expect_bad(assemble(RS256, GOOD, signature, 256), "signature");

    char *good = saying(GOOD);
    good[strlen(good) - 2] = 0;
    expect_bad(good, "signature");
    expect_bad(assemble(HS256, GOOD, "", 0), "three parts");
    char *other = saying(GOOD), *stranger = saying("{\"sub\":\"0123456789abcdee\",\"exp\":1800000000}");
    size_t cut = (size_t)(strrchr(other, '.') - other);
    expect_bad(text_of("%.*s%s", (int)cut, other, strrchr(stranger, '.')), "signature");
}

static void no_bit_may_change(void **state)
{
    (void)state;
    char *tokens[] = {saying(GOOD), key_token(RS256, GOOD, rsa), key_token(ES256, GOOD, ec)};
    for (size_t t = 0; t < LENGTH_OF(tokens); t++)
        for (size_t i = 0; tokens[t][i]; i++)
            for (unsigned bit = 0; bit < 8; bit++) {
                struct auth_jwt_claims claims;
                tokens[t][i] ^= (char)(1u << bit);
                assert_int_not_equal(auth_jwt_check(keys, &rules, str_of(tokens[t]), NOW_NS, &claims, NULL),
                                     OK);
                tokens[t][i] ^= (char)(1u << bit);
            }
    for (size_t t = 0; t < LENGTH_OF(tokens); t++)
        expect_good(tokens[t], NOW_NS);
}

static void the_payload_is_read_strictly(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"sub\":\"a\",\"sub\":\"b\",\"exp\":1800000000}",
        "{\"exp\":1,\"exp\":1800000000}",
        "{\"exp\":1,\"\\u0065xp\":1800000000}",
        "[]",
        "{}x",
        "{",
        "1",
        "{\"exp\":1e400}",
        "{\"exp\":NaN}",
        "{\"exp\":Infinity}",
        "{\"exp\":99999999999999999999}",
        "{\"exp\":0x7fffffff}",
        "{\"exp\":+1800000000}",
        "{\"sub\":\"\\u0000\"}",
        "{\"sub\":\"\xc0\xaf\"}",
        "{\"sub\":\"\\ud800\"}",
    };
    for (size_t i = 0; i < LENGTH_OF(bad); i++)
        expect_bad(saying(bad[i]), "payload");

    /* As deep as a token may be long. */
    char deep[5001] = "";
    memset(deep, '[', sizeof deep - 1);
    expect_bad(saying(deep), "payload");
    for (size_t i = 0; i + 5 < sizeof deep; i += 5)
        memcpy(deep + i, "{\"a\":", 5);
    expect_bad(saying(deep), "payload");
    expect_bad(headed(deep), "header");
}

static void who_it_is_from_and_for(void **state)
{
    (void)state;
#define TIMES "\"sub\":\"0123456789abcdef\",\"exp\":1700000100"
    static const struct {
        const char *payload, *reason; /* NULL: it is good */
    } cases[] = {
        {"{\"iss\":\"me\",\"aud\":\"us\"," TIMES "}", NULL},
        {"{\"iss\":\"me\",\"aud\":[\"us\"]," TIMES "}", NULL},
        {"{\"iss\":\"me\",\"aud\":[\"them\",\"us\"]," TIMES "}", NULL},
        {"{\"iss\":\"you\",\"aud\":\"us\"," TIMES "}", "\"iss\""},
        {"{\"iss\":\"Me\",\"aud\":\"us\"," TIMES "}", "\"iss\""},
        {"{\"iss\":\"me/\",\"aud\":\"us\"," TIMES "}", "\"iss\""},
        {"{\"iss\":[\"me\"],\"aud\":\"us\"," TIMES "}", "\"iss\""},
        {"{\"aud\":\"us\"," TIMES "}", "\"iss\""},
        {"{\"iss\":\"me\"," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":\"them\"," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":\"u\"," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":[]," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":[\"them\"]," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":[\"us\",1]," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":[[\"us\"]]," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":{\"us\":1}," TIMES "}", "\"aud\""},
        {"{\"iss\":\"me\",\"aud\":null," TIMES "}", "\"aud\""},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        if (cases[i].reason)
            expect_bad(saying(cases[i].payload), cases[i].reason);
        else
            expect_good(saying(cases[i].payload), NOW_NS);
    }
    rules.issuer = rules.audience = "";
    expect_good(saying("{" TIMES "}"), NOW_NS);
    expect_good(saying("{\"iss\":1,\"aud\":2," TIMES "}"), NOW_NS);
}

static void times_are_numbers_within_bounds(void **state)
{
    (void)state;
    static const char *const good[] = {
        ",\"exp\":1700000100",
        ",\"exp\":1700000100.5",
        ",\"exp\":1.7000001e9",
        ",\"exp\":10000000000",
        ",\"exp\":1e10",
        ",\"exp\":1700000100,\"nbf\":0,\"iat\":0",
        ",\"exp\":1700000100,\"nbf\":-0.0",
        ",\"exp\":1700000100,\"iat\":1.5",
    };
    static const char *const bad[] = {
        ",\"exp\":\"1700000100\"",
        ",\"exp\":-1",
        ",\"exp\":-1e300",
        ",\"exp\":10000000001",
        ",\"exp\":1e300",
        ",\"exp\":9223372036854775807",
        ",\"exp\":-9223372036854775808",
        ",\"exp\":null",
        ",\"exp\":true",
        ",\"exp\":[1700000100]",
        ",\"exp\":{}",
        ",\"exp\":10000000000.001",
        ",\"exp\":1700000100,\"nbf\":-1",
        ",\"exp\":1700000100,\"nbf\":\"0\"",
        ",\"exp\":1700000100,\"iat\":-1",
        ",\"exp\":1700000100,\"iat\":null",
    };
    for (size_t i = 0; i < LENGTH_OF(good); i++)
        expect_good(timed(good[i]), NOW_NS);
    for (size_t i = 0; i < LENGTH_OF(bad); i++)
        expect_bad(timed(bad[i]), "is no number");
    expect_bad(timed(""), "\"exp\" is missing");
}

static void clocks_may_differ_by_the_leeway(void **state)
{
    (void)state;
    const uint64_t leeway = usual.leeway_ns, exp = 1700000100 * NS_PER_S, from = 1700000050 * NS_PER_S;
    struct str token = str_of(timed(",\"exp\":1700000100"));
    expect_good(token.p, exp + leeway - 1);
    expect_bad_with(token, exp + leeway, ERR_UNAUTHORIZED, "expired");
    rules.leeway_ns = 0;
    expect_good(token.p, exp - 1);
    expect_bad_with(token, exp, ERR_UNAUTHORIZED, "expired");

    static const char *const begins[] = {",\"exp\":1700000100,\"nbf\":1700000050",
                                         ",\"exp\":1700000100,\"iat\":1700000050"};
    for (size_t i = 0; i < LENGTH_OF(begins); i++) {
        token = str_of(timed(begins[i]));
        rules.leeway_ns = leeway;
        expect_good(token.p, from - leeway);
        expect_bad_with(token, from - leeway - 1, ERR_UNAUTHORIZED, "in the future");
        rules.leeway_ns = 0;
        expect_good(token.p, from);
        expect_bad_with(token, from - 1, ERR_UNAUTHORIZED, "in the future");
    }

    struct auth_jwt_claims claims;
    rules.leeway_ns = leeway;
    assert_int_equal(
        auth_jwt_check(keys, &rules, str_of(timed(",\"exp\":1700000100.25")), NOW_NS, &claims, NULL), OK);
    assert_int_equal(claims.expires_ns, exp + NS_PER_S / 4 + leeway);
}

static void an_age_may_be_the_end(void **state)
{
    (void)state;
    rules.max_age_ns = 30 * NS_PER_S;
    struct str token = str_of(timed(",\"exp\":1700000100,\"iat\":1700000000"));
    const uint64_t end = 1700000030 * NS_PER_S + usual.leeway_ns;
    expect_good(token.p, end - 1);
    expect_bad_with(token, end, ERR_UNAUTHORIZED, "expired");
    expect_bad(timed(",\"exp\":1700000100"), "\"iat\" is missing");
    rules.max_age_ns = 1000 * NS_PER_S; /* "exp" comes first */
    expect_bad_with(token, 1700000100 * NS_PER_S + usual.leeway_ns, ERR_UNAUTHORIZED, "expired");
    rules.max_age_ns = 90ull * 24 * 3600 * NS_PER_S; /* the most there is, with the latest of times */
    expect_bad(timed(",\"exp\":10000000000,\"iat\":10000000000"), "in the future");
}

static void the_subject_names_the_account(void **state)
{
    (void)state;
    char long_name[AUTH_SUBJECT_BYTES + 1] = "";
    memset(long_name, 'a', sizeof long_name - 1);
    static const char *const bad[] = {"", ",\"sub\":\"\"", ",\"sub\":7", ",\"sub\":null", ",\"sub\":[\"a\"]"};
    const char *fmt = "{\"iss\":\"me\",\"aud\":\"us\",\"exp\":1700000100%s}";
    struct auth_jwt_claims claims;
    for (size_t i = 0; i < LENGTH_OF(bad); i++)
        expect_bad(saying(text_of(fmt, bad[i])), "\"sub\" is no text");
    expect_bad(saying(text_of(fmt, text_of(",\"sub\":\"%s\"", long_name))), "\"sub\" is no text");
    long_name[AUTH_SUBJECT_BYTES - 1] = 0;
    const char *longest = saying(text_of(fmt, text_of(",\"sub\":\"%s\"", long_name)));
    assert_int_equal(auth_jwt_check(keys, &rules, str_of(longest), NOW_NS, &claims, NULL), OK);
    assert_string_equal(claims.subject, long_name);

    rules.subject = AUTH_SUBJECT_EMAIL_CLAIM;
    const char *mail = saying(text_of(fmt, ",\"sub\":\"a\",\"email\":\"b@c\",\"email_verified\":true"));
    assert_int_equal(auth_jwt_check(keys, &rules, str_of(mail), NOW_NS, &claims, NULL), OK);
    assert_string_equal(claims.subject, "b@c");
    expect_bad(saying(text_of(fmt, ",\"sub\":\"a\",\"email_verified\":true")), "\"email\" is no text");
    static const char *const unverified[] = {"", ",\"email_verified\":false", ",\"email_verified\":\"true\"",
                                             ",\"email_verified\":1", ",\"email_verified\":null"};
    for (size_t i = 0; i < LENGTH_OF(unverified); i++)
        expect_bad(saying(text_of(fmt, text_of(",\"email\":\"b@c\"%s", unverified[i]))), "email_verified");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_three_algorithms_are_good, usual_rules),
        cmocka_unit_test_setup(knows_the_form, usual_rules),
        cmocka_unit_test_setup(the_header_is_read_strictly, usual_rules),
        cmocka_unit_test_setup(no_key_is_taken_for_another_kind, usual_rules),
        cmocka_unit_test_setup(a_signature_has_one_form, usual_rules),
        cmocka_unit_test_setup(no_bit_may_change, usual_rules),
        cmocka_unit_test_setup(the_payload_is_read_strictly, usual_rules),
        cmocka_unit_test_setup(who_it_is_from_and_for, usual_rules),
        cmocka_unit_test_setup(times_are_numbers_within_bounds, usual_rules),
        cmocka_unit_test_setup(clocks_may_differ_by_the_leeway, usual_rules),
        cmocka_unit_test_setup(an_age_may_be_the_end, usual_rules),
        cmocka_unit_test_setup(the_subject_names_the_account, usual_rules),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
