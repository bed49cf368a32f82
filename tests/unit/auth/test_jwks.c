/* Keys: which are taken, from which texts, and which one a token gets. */
#include "../unit.h"

#include "jwt_fixture.h"

static EVP_PKEY *rsa, *rsa_1024, *ec, *ec_384, *ed;

static int make_keys(void **state)
{
    (void)state;
    rsa = EVP_RSA_gen(2048);
    rsa_1024 = EVP_RSA_gen(1024);
    ec = EVP_EC_gen("P-256");
    ec_384 = EVP_EC_gen("P-384");
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    EVP_PKEY *all[] = {rsa, rsa_1024, ec, ec_384, ed};
    for (size_t i = 0; i < LENGTH_OF(all); i++)
        EVP_PKEY_free(all[i]);
    drop_kept();
    return 0;
}

static void expect_jwk(const char *text, const char *reason)
{
    struct auth_jwk key = {0};
    struct err_info info = {0};
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    enum err e = auth_jwk_from_json(json, &key, &info);
    if (reason ? e != ERR_FIELD_INVALID || !strstr(info.text, reason) : e != OK)
        fail_msg("%s: %s \"%s\", not \"%s\"", text, err_name(e), info.text, reason ? reason : "");
    assert_true(e || key.public_key);
    auth_jwk_done(&key);
    json_decref(json);
}

/* A number of so many bits, odd; as a modulus it is as good as any until somebody signs. */
static const char *modulus_of(size_t bits)
{
    unsigned char bytes[1100];
    struct buf b = buf_make(TEXT_MAX);
    memset(bytes, 0xff, sizeof bytes);
    bytes[0] = (unsigned char)(0xff >> (7 - (bits + 7) % 8));
    put_base64url(&b, bytes, (bits + 7) / 8);
    return keep(&b);
}

static void takes_keys_for_signatures(void **state)
{
    (void)state;
    static const char *const more[] = {"", ",\"kid\":\"k\"", ",\"use\":\"sig\"", ",\"key_ops\":[\"verify\"]",
                                       ",\"key_ops\":[7,\"sign\",\"verify\"],\"x5t\":\"x\",\"x5c\":[\"x\"]"};
    for (size_t i = 0; i < LENGTH_OF(more); i++) {
        expect_jwk(jwk_of(rsa, more[i]), NULL);
        expect_jwk(jwk_of(ec, more[i]), NULL);
    }
    expect_jwk(jwk_of(rsa, ",\"alg\":\"RS256\""), NULL);
    expect_jwk(jwk_of(ec, ",\"alg\":\"ES256\""), NULL);
}

static void refuses_keys_for_anything_else(void **state)
{
    (void)state;
    char kid[AUTH_KID_MAX_BYTES + 2] = "";
    memset(kid, 'k', sizeof kid - 1);
    const struct {
        const char *more, *reason;
    } cases[] = {
        {",\"use\":\"enc\"", "not for signatures"},
        {",\"use\":7", "not for signatures"},
        {",\"key_ops\":[]", "not for signatures"},
        {",\"key_ops\":\"verify\"", "not for signatures"},
        {",\"key_ops\":[\"sign\"]", "not for signatures"},
        {",\"alg\":\"HS256\"", "\"alg\""},
        {",\"alg\":\"RS512\"", "\"alg\""},
        {",\"alg\":\"none\"", "\"alg\""},
        {",\"alg\":null", "\"alg\""},
        {",\"kid\":\"\"", "\"kid\""},
        {",\"kid\":7", "\"kid\""},
        {text_of(",\"kid\":\"%s\"", kid), "\"kid\""},
        {",\"d\":\"AQAB\"", "private key"},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        expect_jwk(jwk_of(rsa, cases[i].more), cases[i].reason);
        expect_jwk(jwk_of(ec, cases[i].more), cases[i].reason);
    }
    expect_jwk(jwk_of(rsa, ",\"alg\":\"ES256\""), "\"alg\"");
    expect_jwk(jwk_of(ec, ",\"alg\":\"RS256\""), "\"alg\"");
    static const char *const strangers[] = {
        "{\"kty\":\"oct\",\"k\":\"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\",\"kid\":\"k\"}",
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
        "{\"kty\":\"rsa\"}",
        "{\"kty\":1}",
        "{}",
        "[]",
        "7",
        "null",
        "\"RSA\"",
    };
    for (size_t i = 0; i < LENGTH_OF(strangers); i++)
        expect_jwk(strangers[i], "\"kty\"");
}

static void numbers_of_rsa_are_bounded(void **state)
{
    (void)state;
    const char *fmt = "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"}";
    expect_jwk(text_of(fmt, modulus_of(2048), "AQAB"), NULL);
    expect_jwk(text_of(fmt, modulus_of(8192), "AQAB"), NULL);
    expect_jwk(text_of(fmt, modulus_of(2048), "Aw"), NULL);
    expect_jwk(text_of(fmt, modulus_of(2047), "AQAB"), "2048 to 8192");
    expect_jwk(text_of(fmt, modulus_of(8193), "AQAB"), "2048 to 8192");
    expect_jwk(text_of(fmt, modulus_of(8600), "AQAB"), "base64url of at most");
    expect_jwk(jwk_of(rsa_1024, ""), "2048 to 8192");
    static const char *const exponents[] = {"AQ", "AA", "Ag", "AQAA"}; /* 1, 0, even ones */
    for (size_t i = 0; i < LENGTH_OF(exponents); i++)
        expect_jwk(text_of(fmt, modulus_of(2048), exponents[i]), "2048 to 8192");
    static const char *const texts[] = {"", "AQABAQAB", "AQAB=", "A", "+/"};
    for (size_t i = 0; i < LENGTH_OF(texts); i++) {
        expect_jwk(text_of(fmt, modulus_of(2048), texts[i]), "base64url");
        expect_jwk(text_of(fmt, i == 1 ? "" : texts[i], "AQAB"), "base64url");
    }
    expect_jwk("{\"kty\":\"RSA\",\"n\":7,\"e\":\"AQAB\"}", "base64url");
    expect_jwk("{\"kty\":\"RSA\"}", "base64url");
    /* an even modulus */
    struct buf even = buf_make(TEXT_MAX);
    unsigned char bytes[256] = {0x80};
    put_base64url(&even, bytes, sizeof bytes);
    expect_jwk(text_of(fmt, keep(&even), "AQAB"), "2048 to 8192");
}

static void points_are_on_the_curve(void **state)
{
    (void)state;
    const char *fmt = "{\"kty\":\"EC\",\"crv\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"}";
    unsigned char bytes[33] = {0};
    struct buf zero = buf_make(TEXT_MAX), shorter = buf_make(TEXT_MAX), longer = buf_make(TEXT_MAX);
    put_base64url(&zero, bytes, 32);
    put_base64url(&shorter, bytes, 31);
    put_base64url(&longer, bytes, 33);
    const char *texts[] = {keep(&zero), keep(&shorter), keep(&longer)};
    expect_jwk(text_of(fmt, "P-256", texts[0], texts[0]), "on the curve");
    expect_jwk(text_of(fmt, "P-256", texts[1], texts[0]), "32 bytes");
    expect_jwk(text_of(fmt, "P-256", texts[0], texts[2]), "32 bytes");
    expect_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\"}", "32 bytes");
    expect_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":1,\"y\":2}", "32 bytes");
    static const char *const curves[] = {"P-384", "P-521", "secp256k1", "p-256", "prime256v1", ""};
    for (size_t i = 0; i < LENGTH_OF(curves); i++)
        expect_jwk(text_of(fmt, curves[i], texts[0], texts[0]), "\"crv\"");
    /* the right x with another y */
    char *good = jwk_of(ec, ""), *y = strstr(good, "\"y\":\"") + 5;
    y[3] = y[3] == 'A' ? 'B' : 'A';
    expect_jwk(good, "on the curve");
}

static void reads_public_keys_of_pem(void **state)
{
    (void)state;
    struct auth_jwk key = {0};
    struct err_info info = {0};
    assert_int_equal(auth_jwk_from_pem(str_of(pem_of(rsa)), &key, &info), OK);
    assert_int_equal(key.alg, AUTH_RS256);
    auth_jwk_done(&key);
    assert_int_equal(auth_jwk_from_pem(str_of(text_of("a comment\n%s", pem_of(ec))), &key, &info), OK);
    assert_int_equal(key.alg, AUTH_ES256);
    auth_jwk_done(&key);

    EVP_PKEY *others[] = {rsa_1024, ec_384, ed};
    for (size_t i = 0; i < LENGTH_OF(others); i++) {
        assert_int_equal(auth_jwk_from_pem(str_of(pem_of(others[i])), &key, &info), ERR_FIELD_INVALID);
        assert_non_null(strstr(info.text, "2048 to 8192"));
    }
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    WW_ASSERT(PEM_write_bio_PrivateKey(bio, ec, NULL, NULL, 0, NULL, NULL) == 1);
    struct str private = {NULL, (size_t)BIO_get_mem_data(bio, &text)};
    private.p = text;
    char *cut = pem_of(rsa);
    cut[strlen(cut) / 2] = 0;
    const struct str none[] = {
        private,
        STR_LIT(""),
        STR_NULL,
        STR_LIT("x"),
        str_of(cut),
        STR_LIT("-----BEGIN PUBLIC KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: "
                "AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n-----END PUBLIC "
                "KEY-----\n")};
    for (size_t i = 0; i < LENGTH_OF(none); i++) {
        assert_int_equal(auth_jwk_from_pem(none[i], &key, &info), ERR_FIELD_INVALID);
        assert_non_null(strstr(info.text, "no public key"));
    }
    BIO_free(bio);
}

static void a_secret_has_a_least_length(void **state)
{
    (void)state;
    struct auth_jwk key = {0};
    struct err_info info = {0};
    struct str secret = STR_LIT("0123456789abcdef0123456789abcdef");
    assert_int_equal(auth_jwk_from_secret(str_make(secret.p, 31), &key, &info), ERR_FIELD_INVALID);
    assert_null(strstr(info.text, "0123456789"));
    assert_int_equal(auth_jwk_from_secret(secret, &key, &info), OK);
    auth_jwk_done(&key);
    auth_jwk_done(&key);
}

static enum err load(const char *text, size_t *ret_count, struct err_info *info)
{
    struct auth_jwks *set = auth_jwks_new();
    enum err e = auth_jwks_add_json(set, str_of(text), info);
    *ret_count = auth_jwks_count(set);
    auth_jwks_unref(set);
    return e;
}

static void passes_over_what_cannot_serve(void **state)
{
    (void)state;
    size_t count;
    struct err_info info = {0};
    const char *set = text_of("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"},%s,7,%s,%s],\"more\":1}",
                              jwk_of(rsa, ",\"use\":\"enc\""), jwk_of(rsa, ""), jwk_of(ec, ""));
    assert_int_equal(load(set, &count, &info), OK);
    assert_int_equal(count, 2);
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"", "no JSON object"},
        {"[]", "no JSON object"},
        {"{\"keys\":[],\"keys\":[]}", "no JSON object"},
        {"{\"keys\":[]}x", "no JSON object"},
        {"{}", "\"keys\""},
        {"{\"keys\":{}}", "\"keys\""},
        {"{\"keys\":[]}", "no key that can serve"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"},7]}", "of the first: \"kty\""},
    };
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        assert_int_equal(load(bad[i].text, &count, &info), ERR_FIELD_INVALID);
        assert_non_null(strstr(info.text, bad[i].reason));
    }
}

static void a_set_is_bounded(void **state)
{
    (void)state;
    size_t count;
    struct err_info info = {0};
    for (int keys = AUTH_JWKS_KEYS_MAX; keys <= AUTH_JWKS_KEYS_MAX + 1; keys++) {
        struct buf b = buf_make(TEXT_MAX);
        buf_puts(&b, "{\"keys\":[");
        for (int i = 0; i < keys; i++)
            buf_printf(&b, "%s%s", i ? "," : "", jwk_of(ec, text_of(",\"kid\":\"k%d\"", i)));
        buf_puts(&b, "]}");
        enum err e = load(keep(&b), &count, &info);
        assert_int_equal(e, keys == AUTH_JWKS_KEYS_MAX ? OK : ERR_FIELD_INVALID);
        assert_int_equal(count, e ? 0 : AUTH_JWKS_KEYS_MAX);
    }
    char *set = text_of("{\"keys\":[%s]}", jwk_of(ec, ""));
    struct buf padded = buf_make(TEXT_MAX);
    buf_puts(&padded, set);
    while (padded.len < AUTH_JWKS_BYTES_MAX)
        buf_putc(&padded, ' ');
    assert_int_equal(load(buf_cstr(&padded), &count, &info), OK);
    buf_putc(&padded, ' ');
    assert_int_equal(load(keep(&padded), &count, &info), ERR_FIELD_INVALID);
    assert_non_null(strstr(info.text, "longer"));

    struct buf deep = buf_make(TEXT_MAX);
    for (int i = 0; i < 60000; i++)
        buf_putc(&deep, '[');
    assert_int_equal(load(keep(&deep), &count, &info), ERR_FIELD_INVALID);
}

static void which_key_is_meant_can_be_said(void **state)
{
    (void)state;
    size_t count;
    struct err_info info = {0};
    const char *twice =
        text_of("{\"keys\":[%s,%s]}", jwk_of(ec, ",\"kid\":\"k\""), jwk_of(ec, ",\"kid\":\"k\""));
    assert_int_equal(load(twice, &count, &info), ERR_FIELD_INVALID);
    assert_non_null(strstr(info.text, "two keys are for ES256"));

    struct auth_jwks *set = auth_jwks_new();
    const char *keys = text_of("{\"keys\":[%s,%s,%s]}", jwk_of(ec, ",\"kid\":\"k\""),
                               jwk_of(rsa, ",\"kid\":\"k\""), jwk_of(ec, ",\"kid\":\"l\""));
    assert_null(auth_jwks_find(set, AUTH_RS256, STR_LIT("k")));
    assert_null(auth_jwks_find(set, AUTH_RS256, STR_NULL));
    assert_int_equal(auth_jwks_add_json(set, str_of(keys), &info), OK);
    assert_int_equal(auth_jwks_find(set, AUTH_RS256, STR_LIT("k"))->alg, AUTH_RS256);
    assert_int_equal(auth_jwks_find(set, AUTH_ES256, STR_LIT("k"))->alg, AUTH_ES256);
    assert_string_equal(auth_jwks_find(set, AUTH_ES256, STR_LIT("l"))->kid, "l");
    assert_non_null(auth_jwks_find(set, AUTH_RS256, STR_NULL)); /* the only one */
    assert_null(auth_jwks_find(set, AUTH_ES256, STR_NULL));     /* one of two */
    assert_null(auth_jwks_find(set, AUTH_RS256, STR_LIT("l"))); /* it has another name */
    assert_null(auth_jwks_find(set, AUTH_HS256, STR_LIT("k")));
    assert_null(auth_jwks_find(set, AUTH_HS256, STR_NULL));
    struct auth_jwk secret = {0};
    assert_int_equal(auth_jwk_from_secret(STR_LIT(SECRET), &secret, &info), OK);
    assert_int_equal(auth_jwks_add(set, &secret, &info), OK);
    assert_int_equal(auth_jwks_find(set, AUTH_HS256, STR_LIT("k"))->alg, AUTH_HS256); /* it has no name */
    assert_int_equal(auth_jwk_from_secret(STR_LIT(SECRET), &secret, &info), OK);
    assert_int_equal(auth_jwks_add(set, &secret, &info), ERR_FIELD_INVALID);
    auth_jwks_unref(auth_jwks_ref(set));
    auth_jwks_unref(set);
    auth_jwks_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_keys_for_signatures),      cmocka_unit_test(refuses_keys_for_anything_else),
        cmocka_unit_test(numbers_of_rsa_are_bounded),     cmocka_unit_test(points_are_on_the_curve),
        cmocka_unit_test(reads_public_keys_of_pem),       cmocka_unit_test(a_secret_has_a_least_length),
        cmocka_unit_test(passes_over_what_cannot_serve),  cmocka_unit_test(a_set_is_bounded),
        cmocka_unit_test(which_key_is_meant_can_be_said),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
