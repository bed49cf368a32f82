#include "main/jwt.h"

#include <signal.h>

#include "auth/auth.h"
#include "http/client.h"

#define FETCH_TIMEOUT_NS (5 * NS_PER_S)

_Static_assert((int)JWT_SUBJECT_ID == AUTH_SUBJECT_ID && (int)JWT_SUBJECT_EMAIL == AUTH_SUBJECT_EMAIL &&
                   (int)JWT_SUBJECT_EMAIL_CLAIM == AUTH_SUBJECT_EMAIL_CLAIM,
               "the words of JWT_SUBJECT stand in this order");

static bool has_key(const struct settings *set)
{
    return set->jwt_secret[0] || set->jwt_public_key[0] || set->jwt_jwks[0];
}

void jwt_check_settings(const struct settings *set, struct buf *errors)
{
    size_t secret_len = strlen(set->jwt_secret);
    if (secret_len && secret_len < AUTH_SECRET_MIN_BYTES)
        buf_printf(errors, "JWT_SECRET: it has %zu bytes; at least %d are needed\n", secret_len,
                   AUTH_SECRET_MIN_BYTES);
    struct err_info why = {0};
    if (auth_jwks_is_url(set->jwt_jwks) && !auth_jwks_url_is_safe(set->jwt_jwks))
        buf_puts(errors,
                 "JWT_JWKS: a URL must begin with https://, or lead to this machine (localhost, 127.0.0.1, "
                 "[::1]), and have no user or password in it\n");
    else if (auth_jwks_is_url(set->jwt_jwks) && http_client_check_url(set->jwt_jwks, true, &why))
        buf_printf(errors, "JWT_JWKS: %s\n", err_text(&why));
    /* An issuer signs for others as well: their tokens must not open this door. */
    if (has_key(set) && !set->jwt_audience[0])
        buf_puts(errors,
                 "JWT_AUDIENCE: it is required with JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS; set it to what "
                 "the tokens for this server have in \"aud\"\n");
    if (!has_key(set) && (set->jwt_audience[0] || set->jwt_issuer[0]))
        buf_puts(errors, "JWT_AUDIENCE and JWT_ISSUER need a key: JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS\n");
}

/* The address is the operator's, so it may be in a private network. */
static enum err fetch(const char *url, struct buf *body, struct err_info *reterr)
{
    const struct http_field accept = {STR_LIT("Accept"), STR_LIT("application/json")};
    struct http_client_request request = {
        .method = "GET",
        .url = url,
        .fields = &accept,
        .field_count = 1,
        .timeout_ns = FETCH_TIMEOUT_NS,
        .response_bytes_max = body->max,
        .private_too = true,
    };
    struct http_client_response response;
    enum err e = http_client_send(&request, &response, reterr);
    if (e)
        return e;
    if (response.status != 200)
        e = err_set(reterr, ERR_BUSY, "the answer has the status %d; 200 is wanted", response.status);
    else if (!buf_put_str(body, buf_str(&response.body)))
        e = err_set(reterr, ERR_FIELD_INVALID, "the answer is longer than %zu bytes", body->max);
    buf_done(&response.body);
    return e;
}

enum err jwt_open(struct jwt *j, const struct settings *set, struct auth *auth, struct err_info *reterr)
{
    if (!has_key(set))
        return OK;
    struct auth_issuer_config config = {
        .secret = set->jwt_secret,
        .public_key = set->jwt_public_key,
        .jwks = set->jwt_jwks,
        .rules = {.issuer = set->jwt_issuer,
                  .audience = set->jwt_audience,
                  .subject = (enum auth_jwt_subject)set->jwt_subject,
                  .leeway_ns = set->jwt_leeway,
                  .max_age_ns = set->jwt_max_age},
        .fetch = fetch,
    };
    enum err e = auth_issuer_new(&config, &j->issuer, reterr);
    if (!e)
        auth_trust(auth, j->issuer);
    j->auth = auth;
    return e;
}

static void work_read(uv_work_t *work)
{
    auth_refresh_issuer(CONTAINER_OF(work, struct jwt, work)->auth);
}

static void read_keys(struct jwt *j);

static void after_read(uv_work_t *work, int status)
{
    struct jwt *j = CONTAINER_OF(work, struct jwt, work);
    (void)status;
    j->reading = false;
    if (j->again)
        read_keys(j);
}

static void read_keys(struct jwt *j)
{
    j->again = j->reading;
    if (!j->reading)
        j->reading = uv_queue_work(j->timer.loop, &j->work, work_read, after_read) == 0;
}

static void on_timer(uv_timer_t *timer)
{
    read_keys(CONTAINER_OF(timer, struct jwt, timer));
}

static void on_reload(uv_signal_t *handle, int number)
{
    (void)number;
    read_keys(CONTAINER_OF(handle, struct jwt, reload));
}

void jwt_start(struct jwt *j, uv_loop_t *loop, const struct settings *set)
{
    if (!j->issuer)
        return;
    uint64_t every_ms = set->jwt_jwks_refresh / NS_PER_MS;
    uv_timer_init(loop, &j->timer);
    uv_timer_start(&j->timer, on_timer, auth_jwks_is_url(set->jwt_jwks) ? 0 : every_ms, every_ms);
    uv_signal_init(loop, &j->reload);
    uv_signal_start(&j->reload, on_reload, SIGHUP);
}

void jwt_close(struct jwt *j)
{
    if (!j->issuer)
        return;
    j->again = false;
    uv_close((uv_handle_t *)&j->timer, NULL);
    uv_close((uv_handle_t *)&j->reload, NULL);
}

void jwt_done(struct jwt *j)
{
    auth_issuer_free(j->issuer);
    j->issuer = NULL;
}
