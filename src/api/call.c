#include "api/call.h"

#include <arpa/inet.h>

#include "base/clock.h"
#include "base/json.h"

enum { CALL_ARENA_BYTES = 512 * 1024, OUT_BYTES_MAX = 32 * 1024 * 1024 };

const struct api_endpoint api_endpoints[] = {
#define ENDPOINT(method, path, access, body_limit, fields, fn) \
    {HTTP_METHOD_##method, path, API_##access, body_limit, fields, fn, NULL},
#include "api/endpoints.def"
#undef ENDPOINT
};
const size_t api_endpoint_count = LENGTH_OF(api_endpoints);

enum stage { AT_ADDRESS_LIMIT, AT_BODY, AT_CREDENTIAL, AT_KEY_LIMIT, AT_WORK, AT_END };

/* A call on its way; frees itself. On its loop's thread, but for the two functions on the pool. */
struct way {
    struct api_call call;
    struct http_exchange *x; /* NULL: the client left */
    struct api_context *api;
    enum stage stage;
    bool waits; /* for the pool, or for an answer about limits */
    bool streams;
    struct str token;
    struct str cookie; /* the session's id; looked at where there is no token */
    struct str csrf;
    bool changes_nothing; /* GET and HEAD */
    bool unasked;         /* nobody is asked who they are, and nothing is counted */
    struct err_info head; /* what is wrong with the head; told behind the address limit, so it is bounded */
    struct buf body;
    struct limit_wait limit;
    struct kv_ticket address_ticket; /* kept until it is known who asks */
    struct limit_state limit_state;  /* told to the caller */
    uv_work_t work;
    enum err result;
    struct err_info info;
};

static void go_on(struct way *w);

static void count_refusal(const struct way *w, enum metrics_limit limit)
{
    metrics_add(&w->api->invoke.metrics->limit_hits[limit], 1);
}

/* --- the end ------------------------------------------------------------------------------------ */
static void free_way(struct way *w)
{
    struct invoke_context *c = &w->api->invoke;
    if (c->limit)
        limit_give(c->limit, c->loop, &w->address_ticket, false);
    auth_principal_unref(w->call.who);
    json_decref(w->call.body);
    buf_done(&w->body);
    buf_done(&w->call.out);
    arena_done(&w->call.arena);
    free(w);
    if (--c->live == 0 && c->on_idle)
        c->on_idle(c);
}

static void make_error(struct api_call *call, const struct err_info *info)
{
    call->status = err_status(info->code);
    if (call->endpoint->surface) {
        call->endpoint->surface->fail(call, info);
        return;
    }
    buf_clear(&call->out);
    api_put_error(&call->out, info, call->request_id);
    call->content_type = "application/json";
}

/* The head of a stream, or all of the reply. */
static void send_reply(struct way *w)
{
    struct api_call *call = &w->call;
    const struct api_surface *surface = call->endpoint->surface;
    struct http_field fields[HTTP_ERROR_FIELDS_MAX + API_CALL_FIELDS_MAX + LIMIT_FIELDS_MAX + 3];
    struct limit_field limits[LIMIT_FIELDS_MAX];
    char retry_after[11];
    size_t n = 0;
    snprintf(retry_after, sizeof retry_after, "%u", MAX(call->retry_after_s, 1u));
    if (w->result) {
        metrics_add(&w->api->invoke.metrics->errors[w->result], 1);
        api_log_failure(call->request_id, &w->info);
        make_error(call, &w->info);
        if (call->status == 401)
            fields[n++] = (struct http_field){STR_LIT("WWW-Authenticate"), STR_LIT("Bearer")};
        else if (err_may_retry(w->result) && !w->limit_state.refused_by)
            fields[n++] = (struct http_field){STR_LIT("Retry-After"), str_of(retry_after)};
        if (w->result == ERR_RATE_LIMITED && !w->limit_state.refused_by) /* so the work said it */
            count_refusal(w, METRICS_LIMIT_LOGIN);
    }
    WW_ASSERT(!call->out.overflow);
    for (size_t i = 0; surface && i < surface->field_count; i++)
        fields[n++] = surface->fields[i];
    if (!surface && http_status_has_body(call->status))
        fields[n++] = (struct http_field){STR_LIT("Content-Type"), str_of(call->content_type)};
    fields[n++] = (struct http_field){STR_LIT("Cache-Control"), STR_LIT("no-store")};
    size_t limit_count = limit_fields(&w->limit_state, limits);
    for (size_t i = 0; i < limit_count; i++)
        fields[n++] = (struct http_field){str_of(limits[i].name), str_of(limits[i].value)};
    for (size_t i = 0; i < call->field_count; i++)
        fields[n++] = call->fields[i];
    if (w->streams) {
        http_reply_begin(w->x, call->status, fields, n);
        return;
    }
    struct http_exchange *x = TAKE(w->x);
    http_exchange_set_data(x, NULL);
    size_t len;
    char *body = buf_take(&call->out, &len);
    http_reply_take(x, call->status, fields, n, body, len);
}

/* --- an answer in pieces ------------------------------------------------------------------------ */
bool api_stream_send(struct api_call *call, struct str bytes)
{
    return http_reply_data(CONTAINER_OF(call, struct way, call)->x, bytes);
}

void api_stream_end(struct api_call *call)
{
    struct http_exchange *x = TAKE(CONTAINER_OF(call, struct way, call)->x);
    if (!x)
        return;
    http_exchange_set_data(x, NULL);
    http_reply_end(x, NULL, 0);
}

void api_stream_free(struct api_call *call)
{
    struct way *w = CONTAINER_OF(call, struct way, call);
    WW_ASSERT(w->streams && !w->x);
    free_way(w);
}

/* The work is done: true where its answer goes on from here. */
static bool begin_stream(struct way *w)
{
    struct api_call *call = &w->call;
    if (w->result || !call->stream || http_method(w->x) == HTTP_METHOD_HEAD)
        return false;
    w->result = call->stream->begin(call, w->api->invoke.loop, &w->info);
    w->streams = w->result == OK;
    return w->streams;
}

/* --- who asks ----------------------------------------------------------------------------------- */
static enum err unauthorized(struct err_info *reterr)
{
    return err_set(reterr, ERR_UNAUTHORIZED,
                   "the credential is missing, unknown, expired or revoked: log in, or send \"Authorization: "
                   "Bearer KEY\"");
}

/* METRICS is one of the others, by the settings. */
static enum api_access access_of(const struct api_call *call)
{
    enum api_access access = call->endpoint->access;
    return access != API_METRICS ? access : call->program->metrics_for_operators ? API_OPERATOR : API_OPEN;
}

static enum err check_access(const struct api_call *call, struct err_info *reterr)
{
    const struct auth_principal *who = call->who;
    enum api_access access = access_of(call);
    if (access == API_OPEN)
        return OK;
    if (!who)
        return unauthorized(reterr);
    if (access >= API_ACCOUNT && !who->user_id[0])
        return err_set(reterr, ERR_FORBIDDEN,
                       "this key belongs to no account: log in, or use a key of an account");
    enum store_role least = access == API_ADMIN      ? STORE_ROLE_ADMIN
                            : access == API_OPERATOR ? STORE_ROLE_OPERATOR
                                                     : STORE_ROLE_USER;
    if (who->role < least)
        return err_set(reterr, ERR_FORBIDDEN, "this needs the role \"%s\"; the account has \"%s\"",
                       store_role_name(least), store_role_name(who->role));
    return OK;
}

static void work_credential(uv_work_t *work)
{
    struct way *w = CONTAINER_OF(work, struct way, work);
    w->result = auth_find(w->api->invoke.auth, w->token, &w->call.who, &w->info);
}

static enum err find_session(struct way *w, struct err_info *reterr)
{
    struct api_call *call = &w->call;
    struct auth *auth = w->api->invoke.auth;
    bool is_open = access_of(call) == API_OPEN;
    enum err e = auth_session_find(auth, w->cookie, &call->who, reterr);
    if (e == ERR_UNAUTHORIZED || (e == ERR_FORBIDDEN && is_open))
        return OK; /* nobody, then */
    if (e)
        return e;
    if (!w->changes_nothing && !auth_session_csrf_is_right(auth, w->cookie.p, w->csrf)) {
        auth_principal_unref(TAKE(call->who));
        return is_open
                   ? OK
                   : err_set(reterr, ERR_FORBIDDEN, "%s: with a session, this needs its token; %s",
                             call->endpoint->surface ? "csrf" : "X-CSRF-Token",
                             call->endpoint->surface ? "load the page again" : "GET /api/auth/me tells it");
    }
    call->session = w->cookie.p;
    return OK;
}

static void work_session(uv_work_t *work)
{
    struct way *w = CONTAINER_OF(work, struct way, work);
    w->result = find_session(w, &w->info);
}

/* --- the body ----------------------------------------------------------------------------------- */
bool api_call_knows(const struct api_call *call, struct str name)
{
    struct str rest = str_of(call->endpoint->fields);
    while (rest.len)
        if (str_eq(str_split(&rest, ' '), name))
            return true;
    return false;
}

static enum err parse_body(struct way *w, struct err_info *reterr)
{
    struct api_call *call = &w->call;
    const char *name;
    json_t *value;
    json_error_t error;
    if (call->endpoint->surface)
        return call->endpoint->surface->parse(call, buf_str(&w->body), &w->csrf, reterr);
    if (!w->body.len)
        return OK;
    call->body = json_loadb(w->body.p, w->body.len, JSON_REJECT_DUPLICATES, &error);
    if (!call->body) {
        char *quoted = strstr(error.text, " near "); /* what stands there may be a password */
        if (quoted)
            *quoted = 0;
        return err_set(reterr, ERR_BAD_REQUEST, "the body is not JSON: line %d, column %d: %s", error.line,
                       error.column, error.text);
    }
    if (!json_is_object(call->body))
        return err_set(reterr, ERR_BAD_REQUEST, "the body must be a JSON object");
    json_object_foreach(call->body, name, value) if (!api_call_knows(call, str_of(name))) return err_set(
        reterr, ERR_FIELD_INVALID, "the body has a field \"%.40s\"; known are: %s", name,
        call->endpoint->fields);
    return OK;
}

/* --- the way ------------------------------------------------------------------------------------ */
static void after_pool(uv_work_t *work, int status)
{
    struct way *w = CONTAINER_OF(work, struct way, work);
    (void)status;
    w->waits = false;
    go_on(w);
}

static void to_pool(struct way *w, uv_work_cb fn)
{
    w->waits = true;
    WW_ASSERT(uv_queue_work(&w->api->invoke.loop->uv, &w->work, fn, after_pool) == 0);
}

static void work_endpoint(uv_work_t *work)
{
    struct way *w = CONTAINER_OF(work, struct way, work);
    w->result = w->call.endpoint->work(&w->call, &w->info);
    if (!w->result && w->call.out.overflow)
        w->result = err_set(&w->info, ERR_INTERNAL, "the answer is too large");
}

/* The answer about a limit is there. */
static enum err take_limit(struct way *w)
{
    bool refused = w->limit.answer == LIMIT_REFUSED;
    w->limit_state = w->limit.state;
    if (w->stage == AT_ADDRESS_LIMIT && !refused)
        w->address_ticket = w->limit.ticket;
    else
        limit_give(w->api->invoke.limit, w->api->invoke.loop, &w->limit.ticket, false);
    if (!refused)
        return OK;
    count_refusal(w, w->stage == AT_ADDRESS_LIMIT ? METRICS_LIMIT_ADDRESS : METRICS_LIMIT_REQUESTS);
    limit_refusal(&w->limit.state, &w->info);
    api_log_refusal(w->call.request_id, w->call.peer, w->call.who, &w->info);
    return w->info.code;
}

/* Who wants a page and has not logged in is shown where; everybody else who is turned away is told in the log. */
static void log_refusal(const struct way *w, enum err e)
{
    const struct api_call *call = &w->call;
    if (e && !(e == ERR_UNAUTHORIZED && call->endpoint->surface))
        api_log_refusal(call->request_id, call->peer, call->who, &w->info);
}

/* It is known who asks, or that nobody does. */
static enum err end_credential(struct way *w)
{
    enum err e = w->result ? w->result : check_access(&w->call, &w->info);
    if (w->api->invoke.limit)
        limit_give(w->api->invoke.limit, w->api->invoke.loop, &w->address_ticket, w->call.who && !e);
    log_refusal(w, e);
    return e;
}

static void on_limit(struct limit_wait *wait)
{
    struct way *w = CONTAINER_OF(wait, struct way, limit);
    w->waits = false;
    go_on(w);
}

static void ask_address_limit(struct way *w)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    if (inet_pton(AF_INET, w->call.peer, &v4->sin_addr) == 1)
        address.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, w->call.peer, &v6->sin6_addr) == 1)
        address.ss_family = AF_INET6;
    w->limit.ready = on_limit;
    w->waits = limit_address(w->api->invoke.limit, w->api->invoke.loop, (struct sockaddr *)&address,
                             &w->limit) == LIMIT_ASK;
}

static void ask_credential(struct way *w)
{
    if (!w->token.p) {
        if (w->cookie.p)
            to_pool(w, work_session);
        return;
    }
    switch (auth_cached(w->api->invoke.auth, w->token, &w->call.who)) {
    case AUTH_KNOWN: return;
    case AUTH_REFUSED: w->result = unauthorized(&w->info); return;
    case AUTH_ASK: to_pool(w, work_credential); return;
    }
}

static void ask_key_limit(struct way *w)
{
    w->limit.ready = on_limit;
    w->waits =
        limit_key(w->api->invoke.limit, w->api->invoke.loop, str_of(w->call.who->id), &w->limit) == LIMIT_ASK;
}

static bool has_limits(const struct way *w)
{
    return w->api->invoke.limit && !w->unasked;
}

/* Begins what the stage is for; true: it is done already. */
static bool begin_stage(struct way *w)
{
    bool limits = has_limits(w);
    switch (w->stage) {
    case AT_ADDRESS_LIMIT:
        if (limits)
            ask_address_limit(w);
        break;
    case AT_BODY: http_body_resume(w->x); return false; /* on_end() goes on */
    case AT_CREDENTIAL: ask_credential(w); break;
    case AT_KEY_LIMIT:
        if (limits && w->call.who)
            ask_key_limit(w);
        break;
    case AT_WORK: to_pool(w, work_endpoint); break;
    case AT_END: break;
    }
    return !w->waits;
}

static enum err end_address_limit(struct way *w, bool limits)
{
    enum err e = limits ? take_limit(w) : OK;
    if (e || !w->head.code)
        return e;
    w->info = w->head;
    log_refusal(w, w->info.code);
    return w->info.code;
}

static enum err end_stage(struct way *w)
{
    bool limits = has_limits(w);
    if (w->stage == AT_CREDENTIAL)
        return end_credential(w);
    if (w->result)
        return w->result;
    switch (w->stage) {
    case AT_ADDRESS_LIMIT: return end_address_limit(w, limits);
    case AT_BODY: return parse_body(w, &w->info);
    case AT_KEY_LIMIT: return limits && w->call.who ? take_limit(w) : OK;
    default: return OK;
    }
}

/* What the stage waited for has come: ends it and begins the next ones. */
static void go_on(struct way *w)
{
    do {
        w->result = end_stage(w);
        w->stage = w->result ? AT_END : w->stage + 1;
        if (!w->x) {
            free_way(w);
            return;
        }
        if (w->stage == AT_END) {
            bool streams = begin_stream(w);
            send_reply(w);
            if (streams)
                w->call.stream->writable(&w->call);
            else
                free_way(w);
            return;
        }
    } while (begin_stage(w));
}

/* --- the handler -------------------------------------------------------------------------------- */
static const struct api_endpoint *endpoint_of(struct http_exchange *x)
{
    return http_route_data(x);
}

/* The media type that a body must have. */
static const char *body_type(const struct api_endpoint *endpoint)
{
    return endpoint->surface ? endpoint->surface->body_type : "application/json";
}

static bool has_body_type(struct http_exchange *x)
{
    struct str type = http_field(x, "content-type");
    return str_ieq(str_trim(str_split(&type, ';')), str_of(body_type(endpoint_of(x))));
}

static struct str copy_field(struct way *w, struct str value)
{
    return value.p ? arena_copy(&w->call.arena, value) : STR_NULL;
}

/* False: there is an Authorization field, and it is none that could be right. */
static bool take_credential(struct way *w, struct http_exchange *x)
{
    bool is_page = w->call.endpoint->surface != NULL;
    size_t count = is_page ? 0 : http_field_count(x, "authorization");
    enum http_method method = http_method(x);
    w->changes_nothing = method == HTTP_METHOD_GET || method == HTTP_METHOD_HEAD;
    if (count == 1)
        w->token = copy_field(w, auth_bearer_token(http_field(x, "authorization")));
    if (count == 0 && http_field_count(x, "cookie") == 1)
        w->cookie = copy_field(w, auth_session_of_cookie(http_field(x, "cookie"), w->call.secure));
    if (w->cookie.p && !is_page)
        w->csrf = copy_field(w, http_field(x, "x-csrf-token"));
    return count == 0 || w->token.p;
}

static void on_head(struct http_exchange *x)
{
    struct way *w = xcalloc(1, sizeof *w);
    struct api_call *call = &w->call;
    w->x = x;
    w->api = http_exchange_server_data(x);
    w->api->invoke.live++;
    http_exchange_set_data(x, w);
    arena_init(&call->arena, CALL_ARENA_BYTES);
    call->program = w->api->program;
    call->endpoint = endpoint_of(x);
    call->request_id = arena_copy(&call->arena, str_of(http_request_id(x))).p;
    call->peer = arena_copy(&call->arena, str_of(http_peer(x))).p;
    call->secure = http_is_secure(x);
    call->query = arena_copy(&call->arena, http_query(x));
    call->status = 200;
    call->content_type = "application/json";
    call->out = buf_make(OUT_BYTES_MAX);
    struct str prefix = str_of(call->endpoint->path), path = http_path(x);
    call->rest = STR_LIT("");
    if (str_ends_with(prefix, STR_LIT("*")))
        call->rest = arena_copy(&call->arena, str_make(path.p + prefix.len - 1, path.len - (prefix.len - 1)));
    w->unasked = call->endpoint->access == API_METRICS && access_of(call) == API_OPEN;
    bool broken_credential = !w->unasked && !take_credential(w, x);
    w->body = buf_make(call->endpoint->body_limit);
    http_body_pause(x);
    enum err e = OK;
    if (broken_credential)
        e = unauthorized(&w->head);
    else if (str_ends_with(prefix, STR_LIT("*")) && !call->rest.len)
        e = err_set(&w->head, ERR_NOT_FOUND, "the address ends where an id is wanted");
    if (!e && call->endpoint->surface)
        e = call->endpoint->surface->head(call, x, &w->head);
    WW_ASSERT(e == w->head.code);
    if (begin_stage(w))
        go_on(w);
}

static void on_body(struct http_exchange *x, struct str bytes)
{
    struct way *w = http_exchange_data(x);
    if (!w)
        return;
    if (!w->body.len && !has_body_type(x)) {
        w->result =
            err_set(&w->info, ERR_UNSUPPORTED_TYPE, "the body must be %s", body_type(w->call.endpoint));
        go_on(w);
        return;
    }
    bool fits = buf_put_str(&w->body, bytes);
    WW_ASSERT(fits); /* the server keeps the route's limit */
}

static void on_end(struct http_exchange *x)
{
    struct way *w = http_exchange_data(x);
    if (w)
        go_on(w);
}

static void on_gone(struct http_exchange *x)
{
    struct way *w = http_exchange_data(x);
    if (!w)
        return;
    w->x = NULL;
    if (w->streams)
        w->call.stream->gone(&w->call);
    else if (!w->waits)
        free_way(w);
}

static void on_writable(struct http_exchange *x)
{
    struct way *w = http_exchange_data(x);
    w->call.stream->writable(&w->call);
}

const struct http_handler api_call_handler = {
    .head = on_head, .body = on_body, .end = on_end, .gone = on_gone, .writable = on_writable};
