/* Secrets: made, sealed, opened, and the signature; the expected values were made by Python's hmac and hashlib. */
#include "../unit.h"
#include "webhook/internal.h"

static struct webhooks with_salt(const char *salt)
{
    struct webhooks w;
    memset(&w, 0, sizeof w);
    webhook_key_derive(str_of(salt), w.key);
    return w;
}

static void the_signature_is_the_documented_one(void **state)
{
    static const char secret[] = "whsec_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char signature[WEBHOOK_SIGNATURE_BYTES];
    (void)state;
    webhook_sign(secret, 1795276800, STR_LIT("{\"id\":\"b1946ac92492d234\",\"event\":\"webhook.test\"}"),
                 signature);
    assert_string_equal(signature,
                        "t=1795276800,v1=a26c3450daac2478613a5a99190cf59ef6d8b28966719fc4519dec5f1bfdad5e");
    webhook_sign(secret, UINT64_MAX, STR_LIT(""), signature); /* the longest */
    assert_int_equal(strlen(signature), 2 + 20 + 4 + 64);
}

/* A database outlives programs: what they derive must stay the same. */
static void the_key_is_derived_as_ever(void **state)
{
    struct webhooks w = with_salt("a salt of the tests");
    char hex[2 * sizeof w.key + 1];
    (void)state;
    hex_encode(w.key, sizeof w.key, hex);
    assert_string_equal(hex, "9d8c851331768b40daf0b81076602b3cdbb8ff319a0a9885fc52e1764cb08f20");
}

static void a_secret_opens_for_its_webhook_only(void **state)
{
    struct webhooks w = with_salt("a salt of the tests"), other = with_salt("another salt of tests");
    struct store_webhook hook = {.id = "0123456789abcdef"}, again = {.id = "0123456789abcdef"};
    char secret[WEBHOOK_SECRET_BYTES], second[WEBHOOK_SECRET_BYTES],
        opened[WEBHOOK_SECRET_BYTES] = "untouched";
    struct err_info err = {0};
    (void)state;
    assert_int_equal(webhook_make_secret(&w, &hook, secret, &err), OK);
    assert_int_equal(webhook_make_secret(&w, &again, second, &err), OK);
    assert_string_not_equal(secret, second);
    assert_int_equal(strlen(secret), WEBHOOK_SECRET_BYTES - 1);
    assert_null(memmem(hook.secret, hook.secret_len, secret, 16)); /* sealed indeed */

    assert_int_equal(webhook_open_secret(&other, &hook, opened, &err), ERR_INTERNAL);
    struct store_webhook moved = hook;
    moved.id[0] = '1';
    assert_int_equal(webhook_open_secret(&w, &moved, opened, &err), ERR_INTERNAL);
    for (size_t i = 0; i < hook.secret_len; i++) {
        struct store_webhook broken = hook;
        broken.secret[i] ^= 1;
        assert_int_equal(webhook_open_secret(&w, &broken, opened, &err), ERR_INTERNAL);
    }
    for (size_t len = 0; len < sizeof hook.secret; len++) {
        struct store_webhook cut = hook;
        cut.secret_len = len;
        if (len != hook.secret_len)
            assert_int_equal(webhook_open_secret(&w, &cut, opened, &err), ERR_INTERNAL);
    }
    assert_string_equal(opened, "untouched");
    assert_int_equal(webhook_open_secret(&w, &hook, opened, &err), OK);
    assert_string_equal(opened, secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_signature_is_the_documented_one),
        cmocka_unit_test(the_key_is_derived_as_ever),
        cmocka_unit_test(a_secret_opens_for_its_webhook_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
