#include "auth/key.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "auth/internal.h"
#include "base/buf.h"
#include "base/clock.h"
#include "store/keys.h"

enum { TOKEN_LENGTH = AUTH_KEY_TOKEN_BYTES - 1 };
#define TOKEN_PREFIX STR_LIT("ww_")

static bool is_any_of(char c, const char *set)
{
    return c && strchr(set, c);
}

/* The form that auth_key_create() gives; what has another was never a key, and the store need not be asked. */
bool auth_key_has_form(struct str token)
{
    if (token.len != TOKEN_LENGTH || !str_starts_with(token, TOKEN_PREFIX))
        return false;
    for (size_t i = TOKEN_PREFIX.len; i < token.len; i++)
        if (!auth_is_alphanumeric(token.p[i]))
            return false;
    return true;
}

enum err auth_key_check_name(struct str name, struct err_info *reterr)
{
    bool fits = name.len >= 1 && name.len <= STORE_NAME_MAX;
    for (size_t i = 0; fits && i < name.len; i++)
        fits = auth_is_alphanumeric(name.p[i]) || is_any_of(name.p[i], "._-");
    if (!fits)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "name must have 1 to %d characters out of A-Z a-z 0-9 . _ -; the one given has %zu%s",
                       STORE_NAME_MAX, name.len,
                       name.len && name.len <= STORE_NAME_MAX ? ", some of them others" : "");
    return OK;
}

bool auth_random(void *to, size_t len)
{
    return RAND_bytes(to, (int)len) == 1;
}

MUST_CHECK static bool make_token(char token[static AUTH_KEY_TOKEN_BYTES])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    /* Bytes from FAIR on would favour the low digits. */
    enum { BASE = sizeof digits - 1, FAIR = 256 / BASE * BASE };
    unsigned char pool[64];
    bool fine = true;
    size_t len = TOKEN_PREFIX.len;
    memcpy(token, TOKEN_PREFIX.p, len);
    while (len < TOKEN_LENGTH && (fine = auth_random(pool, sizeof pool)))
        for (size_t i = 0; i < sizeof pool && len < TOKEN_LENGTH; i++)
            if (pool[i] < FAIR)
                token[len++] = digits[pool[i] % BASE];
    token[len] = 0;
    OPENSSL_cleanse(pool, sizeof pool);
    return fine;
}

static bool put_tier_name(void *ctx, const struct store_tier *tier)
{
    struct buf *names = ctx;
    if (names->len)
        buf_puts(names, ", ");
    return buf_puts(names, tier->name);
}

/* That the store has this tier; the sentence says which there are. */
MUST_CHECK static enum err check_tier(struct store *store, const char *name, struct err_info *reterr)
{
    enum { NAMES_BYTES_MAX = 200 };
    CLEANUP(buf_done) struct buf names = buf_make(NAMES_BYTES_MAX);
    struct store_tier tier;
    enum err e = store_tier_get(store, name, &tier, reterr);
    if (e != ERR_NOT_FOUND)
        return e;
    e = store_tier_each(store, put_tier_name, &names, reterr);
    if (e)
        return e;
    return err_set(reterr, ERR_FIELD_INVALID, "tier: there is no \"%s\"; known are: %.*s", name,
                   STR_FMT(buf_str(&names)));
}

enum err auth_key_create(struct auth *a, const struct auth_key_request *request, struct store_key *ret_row,
                         char ret_token[static AUTH_KEY_TOKEN_BYTES], struct err_info *reterr)
{
    enum err e = auth_key_check_name(request->name, reterr);
    if (e)
        return e;
    struct str tier = request->tier;
    if (tier.len == 0 || tier.len >= STORE_TIER_BYTES || memchr(tier.p, 0, tier.len))
        return err_set(reterr, ERR_FIELD_INVALID, "tier: a name of 1 to %d characters is wanted",
                       STORE_TIER_BYTES - 1);
    WW_ASSERT(request->user_id.len < STORE_ID_BYTES);
    unsigned char id[(STORE_KEY_ID_BYTES - 1) / 2];
    char token[AUTH_KEY_TOKEN_BYTES];
    if (!auth_random(id, sizeof id) || !make_token(token))
        return err_set(reterr, ERR_INTERNAL, "the system gives no random numbers to make a key from");
    struct store_key row = {.created_ns = clock_wall_ns(), .expires_ns = request->expires_ns};
    hex_encode(id, sizeof id, row.id);
    snprintf(row.user_id, sizeof row.user_id, "%.*s", STR_FMT(request->user_id));
    snprintf(row.name, sizeof row.name, "%.*s", STR_FMT(request->name));
    snprintf(row.tier, sizeof row.tier, "%.*s", STR_FMT(request->tier));
    snprintf(row.prefix, sizeof row.prefix, "%.*s", STORE_PREFIX_BYTES - 1, token);
    auth_hash(a, str_of(token), row.hash);
    e = check_tier(a->store, row.tier, reterr);
    if (!e)
        e = request->max ? store_key_insert_within(a->store, &row, request->max, reterr)
                         : store_key_insert(a->store, &row, reterr);
    if (!e) {
        memcpy(ret_token, token, sizeof token);
        *ret_row = row;
    }
    OPENSSL_cleanse(token, sizeof token);
    return e;
}
