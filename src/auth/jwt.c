#include "auth/jwt.h"

#include "auth/auth.h"
#include "auth/base64url.h"

enum {
    PARTS = 3,
    PART_BYTES_MAX = AUTH_BASE64URL_ROOM(AUTH_TOKEN_MAX_BYTES),
    TYPE_BYTES_MAX = 32,
};
/* The year 2286; in nanoseconds it still fits 64 bits, with the leeway and the age. */
#define SECONDS_MAX 10000000000

struct parts {
    struct str header, payload, signature;
    struct str is_signed; /* header and payload, with the point */
};

static bool split(struct str token, struct parts *ret)
{
    struct str rest = token;
    ret->header = str_split(&rest, '.');
    ret->payload = str_split(&rest, '.');
    ret->signature = rest;
    ret->is_signed = str_make(token.p, ret->header.len + 1 + ret->payload.len);
    return token.len <= AUTH_TOKEN_MAX_BYTES && ret->header.len && ret->payload.len && ret->signature.len;
}

bool auth_jwt_has_form(struct str token)
{
    struct parts parts;
    if (!split(token, &parts))
        return false;
    size_t points = 0;
    for (size_t i = 0; i < token.len; i++) {
        char c = token.p[i];
        points += c == '.';
        if (c != '.' && c != '-' && c != '_' && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') &&
            !(c >= 'a' && c <= 'z'))
            return false;
    }
    return points == PARTS - 1;
}

static enum err refused(struct err_info *reterr, const char *why)
{
    return err_set(reterr, ERR_UNAUTHORIZED, "%s", why);
}

/* The object that a part holds; NULL: it is not base64url, not UTF-8, no JSON object, or has a member twice. */
static json_t *object_of(struct str part)
{
    unsigned char text[PART_BYTES_MAX];
    size_t len;
    if (!auth_base64url_decode(part, text, sizeof text, &len))
        return NULL;
    json_t *root = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

static struct str text_of(const json_t *value)
{
    return json_is_string(value) ? str_make(json_string_value(value), json_string_length(value)) : STR_NULL;
}

/* --- header ------------------------------------------------------------------------------------- */
/* Tokens of other kinds, signed by the same issuer for something else, say so: RFC 8725, section 3.11. */
static bool is_access_token(const json_t *type)
{
    struct str word = text_of(type);
    return !type || str_ieq(word, STR_LIT("JWT")) || str_ieq(word, STR_LIT("at+jwt")) ||
           str_ieq(word, STR_LIT("application/at+jwt"));
}

/* The key that the header asks for. */
MUST_CHECK static enum err choose_key(const struct auth_jwks *keys, struct str part,
                                      const struct auth_jwk **ret_key, struct err_info *reterr)
{
    CLEANUP(json_decrefp) json_t *header = object_of(part);
    if (!header)
        return refused(reterr, "the header is no JSON object in base64url, or has a member twice");
    enum auth_jwt_alg alg;
    if (!auth_jwt_alg_parse(text_of(json_object_get(header, "alg")), &alg))
        return refused(reterr, "\"alg\" is none of HS256, RS256, ES256");
    if (json_object_get(header, "crit"))
        return refused(reterr, "\"crit\" asks for extensions, of which none is known");
    if (!is_access_token(json_object_get(header, "typ")))
        return refused(reterr, "\"typ\" is neither JWT nor at+jwt");
    const json_t *kid = json_object_get(header, "kid");
    if (kid && !(text_of(kid).len && text_of(kid).len <= AUTH_KID_MAX_BYTES))
        return err_set(reterr, ERR_UNAUTHORIZED, "\"kid\" is no text of 1 to %d bytes", AUTH_KID_MAX_BYTES);
    const struct auth_jwk *key = auth_jwks_find(keys, alg, text_of(kid));
    if (!key)
        return err_set(reterr, alg == AUTH_HS256 ? ERR_UNAUTHORIZED : ERR_NOT_FOUND,
                       "there is no key for %s%s", auth_jwt_alg_name(alg), kid ? " with this \"kid\"" : "");
    *ret_key = key;
    return OK;
}

static bool is_signed_by(const struct auth_jwk *key, const struct parts *parts)
{
    unsigned char signature[PART_BYTES_MAX];
    size_t len;
    return auth_base64url_decode(parts->signature, signature, sizeof signature, &len) &&
           auth_jwk_verify(key, parts->is_signed, str_make(signature, len));
}

/* --- claims ------------------------------------------------------------------------------------- */
/* A NumericDate (RFC 7519, section 2), whole or not. jansson has refused what is no number of JSON, or none of C. */
static bool read_time(const json_t *claims, const char *name, bool *ret_there, uint64_t *ret_ns)
{
    const json_t *value = json_object_get(claims, name);
    *ret_there = value != NULL;
    *ret_ns = 0;
    if (!value)
        return true;
    double seconds = json_number_value(value); /* 0 where it is none */
    if (!json_is_number(value) || !(seconds >= 0) || seconds > SECONDS_MAX)
        return false;
    uint64_t whole = (uint64_t)seconds;
    *ret_ns = whole * NS_PER_S + (uint64_t)((seconds - (double)whole) * (double)NS_PER_S);
    return true;
}

MUST_CHECK static enum err check_times(const json_t *claims, const struct auth_jwt_rules *rules,
                                       uint64_t now_ns, uint64_t *ret_expires_ns, struct err_info *reterr)
{
    bool has_exp, has_nbf, has_iat;
    uint64_t exp, nbf, iat;
    if (!read_time(claims, "exp", &has_exp, &exp) || !read_time(claims, "nbf", &has_nbf, &nbf) ||
        !read_time(claims, "iat", &has_iat, &iat))
        return refused(reterr, "\"exp\", \"nbf\" or \"iat\" is no number of seconds from 0 to 10000000000");
    if (!has_exp)
        return refused(reterr, "\"exp\" is missing");
    if (rules->max_age_ns && !has_iat)
        return refused(reterr, "\"iat\" is missing, which JWT_MAX_AGE needs");
    if (rules->max_age_ns)
        exp = MIN(exp, iat + rules->max_age_ns);
    uint64_t expires_ns = exp + rules->leeway_ns;
    if (now_ns >= expires_ns)
        return refused(reterr, "it has expired");
    if (now_ns + rules->leeway_ns < nbf || now_ns + rules->leeway_ns < iat)
        return refused(reterr, "\"nbf\" or \"iat\" lies in the future");
    *ret_expires_ns = expires_ns;
    return OK;
}

/* One text, or a list of nothing but texts. */
static bool is_for(const json_t *audience, struct str wanted)
{
    bool found = false;
    size_t i;
    const json_t *one;
    if (!json_is_array(audience))
        return str_eq(text_of(audience), wanted);
    json_array_foreach(audience, i, one)
    {
        if (!json_is_string(one))
            return false;
        found = found || str_eq(text_of(one), wanted);
    }
    return found;
}

MUST_CHECK static enum err read_subject(const json_t *claims, enum auth_jwt_subject kind,
                                        struct auth_jwt_claims *ret, struct err_info *reterr)
{
    const char *name = kind == AUTH_SUBJECT_EMAIL_CLAIM ? "email" : "sub";
    struct str subject = text_of(json_object_get(claims, name));
    if (!subject.len || subject.len >= sizeof ret->subject)
        return err_set(reterr, ERR_UNAUTHORIZED, "\"%s\" is no text of 1 to %zu bytes", name,
                       sizeof ret->subject - 1);
    if (kind == AUTH_SUBJECT_EMAIL_CLAIM && !json_is_true(json_object_get(claims, "email_verified")))
        return refused(reterr, "\"email_verified\" is not true");
    memcpy(ret->subject, subject.p, subject.len);
    ret->subject[subject.len] = 0;
    return OK;
}

MUST_CHECK static enum err check_claims(const json_t *claims, const struct auth_jwt_rules *rules,
                                        uint64_t now_ns, struct auth_jwt_claims *ret, struct err_info *reterr)
{
    if (rules->issuer[0] && !str_eq(text_of(json_object_get(claims, "iss")), str_of(rules->issuer)))
        return refused(reterr, "\"iss\" is not JWT_ISSUER");
    if (rules->audience[0] && !is_for(json_object_get(claims, "aud"), str_of(rules->audience)))
        return refused(reterr, "\"aud\" does not name JWT_AUDIENCE");
    enum err e = check_times(claims, rules, now_ns, &ret->expires_ns, reterr);
    return e ? e : read_subject(claims, rules->subject, ret, reterr);
}

enum err auth_jwt_check(const struct auth_jwks *keys, const struct auth_jwt_rules *rules, struct str token,
                        uint64_t now_ns, struct auth_jwt_claims *ret_claims, struct err_info *reterr)
{
    struct parts parts;
    const struct auth_jwk *key = NULL;
    if (!auth_jwt_has_form(token) || !split(token, &parts))
        return refused(reterr, "it does not have three parts of base64url");
    enum err e = choose_key(keys, parts.header, &key, reterr);
    if (e)
        return e;
    if (!is_signed_by(key, &parts))
        return refused(reterr, "the signature is not that of the key");
    CLEANUP(json_decrefp) json_t *claims = object_of(parts.payload);
    if (!claims)
        return refused(reterr, "the payload is no JSON object in base64url, or has a member twice");
    struct auth_jwt_claims read = {0};
    e = check_claims(claims, rules, now_ns, &read, reterr);
    if (!e)
        *ret_claims = read;
    return e;
}
