/* What a call brings and what its answer is made of. */
#include "api/call.h"
#include "base/clock.h"
#include "base/json.h"
#include "http/params.h"

void api_call_field(struct api_call *call, const char *name, struct str value)
{
    WW_ASSERT(call->field_count < API_CALL_FIELDS_MAX);
    size_t clean = 0;
    while (clean < value.len && (unsigned char)value.p[clean] >= ' ' && value.p[clean] != 0x7f)
        clean++;
    struct str copy = arena_copy(&call->arena, str_make(value.p, clean));
    if (copy.p)
        call->fields[call->field_count++] = (struct http_field){str_of(name), copy};
}

struct auth_actor api_call_actor(const struct api_call *call)
{
    const struct auth_principal *who = call->who;
    return (struct auth_actor){!who              ? ""
                               : who->user_id[0] ? who->user_id
                                                 : who->id,
                               call->peer, call->request_id};
}

void api_call_event(const struct api_call *call, enum log_level level, const char *action, const char *target,
                    const char *detail)
{
    auth_event(call->program->auth, &(struct auth_event){.level = level,
                                                         .action = action,
                                                         .actor = api_call_actor(call).id,
                                                         .target = target,
                                                         .address = call->peer,
                                                         .request_id = call->request_id,
                                                         .detail = detail});
}

/* --- the body ----------------------------------------------------------------------------------- */
/* The field, NULL where it may be and is absent; null counts as absent. */
static enum err find_field(const struct api_call *call, const char *name, bool wanted, const json_t **ret,
                           struct err_info *reterr)
{
    *ret = json_object_get(call->body, name);
    if (json_is_null(*ret))
        *ret = NULL;
    return *ret || !wanted ? OK : err_set(reterr, ERR_FIELD_INVALID, "%s: it is missing", name);
}

enum err api_call_text(struct api_call *call, const char *name, bool wanted, size_t min, size_t max,
                       struct str *ret, struct err_info *reterr)
{
    const json_t *value;
    enum err e = find_field(call, name, wanted, &value, reterr);
    if (e || !value)
        return e;
    if (!json_is_string(value))
        return err_set(reterr, ERR_FIELD_INVALID, "%s: text is wanted", name);
    size_t len = json_string_length(value);
    if (len < min || len > max)
        return err_set(reterr, ERR_FIELD_INVALID, "%s: it has %zu bytes; %zu to %zu are wanted", name, len,
                       min, max);
    *ret = str_make(json_string_value(value), len);
    return OK;
}

enum err api_call_number(struct api_call *call, const char *name, bool wanted, uint64_t min, uint64_t max,
                         uint64_t *ret, struct err_info *reterr)
{
    const json_t *value;
    enum err e = find_field(call, name, wanted, &value, reterr);
    if (e || !value)
        return e;
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number < min || (uint64_t)number > max)
        return err_set(reterr, ERR_FIELD_INVALID, "%s: a whole number from %llu to %llu is wanted", name,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = (uint64_t)number;
    return OK;
}

enum err api_call_bool(struct api_call *call, const char *name, bool wanted, bool *ret,
                       struct err_info *reterr)
{
    const json_t *value;
    enum err e = find_field(call, name, wanted, &value, reterr);
    if (e || !value)
        return e;
    if (!json_is_boolean(value))
        return err_set(reterr, ERR_FIELD_INVALID, "%s: true or false is wanted", name);
    *ret = json_is_true(value);
    return OK;
}

/* --- the query ---------------------------------------------------------------------------------- */
/* .p NULL: broken, or with a NUL. */
static struct str decode(struct arena *arena, struct str s)
{
    char *out = arena_alloc(arena, s.len + 1);
    struct str value;
    return out && http_urlencoded_decode(s, out, &value) ? value : STR_NULL;
}

enum err api_call_query(struct api_call *call, const char *name, struct str *ret, struct err_info *reterr)
{
    struct str rest = call->query;
    *ret = STR_NULL;
    while (rest.len) {
        struct str value = str_split(&rest, '&');
        struct str key = str_split(&value, '=');
        if (!str_eq(key, str_of(name)))
            continue;
        if (ret->p)
            return err_set(reterr, ERR_FIELD_INVALID, "%s: it stands in the query twice", name);
        *ret = decode(&call->arena, value);
        if (!ret->p)
            return err_set(reterr, ERR_FIELD_INVALID, "%s: its value is not well formed", name);
    }
    return OK;
}

enum err api_call_query_number(struct api_call *call, const char *name, uint64_t min, uint64_t max,
                               uint64_t *ret, struct err_info *reterr)
{
    struct str text;
    uint64_t number;
    enum err e = api_call_query(call, name, &text, reterr);
    if (e || !text.p)
        return e;
    if (!str_to_u64(text, max, &number) || number < min)
        return err_set(reterr, ERR_FIELD_INVALID, "%s: a whole number from %llu to %llu is wanted", name,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = number;
    return OK;
}

enum err api_call_id(const struct api_call *call, char ret_id[static STORE_ID_BYTES], struct err_info *reterr)
{
    unsigned char bytes[(STORE_ID_BYTES - 1) / 2];
    if (!hex_decode(call->rest, bytes, sizeof bytes))
        return err_set(reterr, ERR_NOT_FOUND, "the address must end in an id of %d hexadecimal digits",
                       STORE_ID_BYTES - 1);
    hex_encode(bytes, sizeof bytes, ret_id);
    return OK;
}

/* A cursor is TIME-ID, both as they are in the row. */
enum err api_call_page(struct api_call *call, struct store_cursor *ret_cursor, size_t *ret_limit,
                       struct err_info *reterr)
{
    struct str text;
    uint64_t limit = API_PAGE_DEFAULT;
    *ret_cursor = (struct store_cursor){0};
    enum err e = api_call_query_number(call, "limit", 1, STORE_PAGE_MAX, &limit, reterr);
    if (!e)
        e = api_call_query(call, "cursor", &text, reterr);
    if (e)
        return e;
    *ret_limit = (size_t)limit;
    if (!text.p)
        return OK;
    struct str id = text, time = str_split(&id, '-');
    unsigned char bytes[sizeof ret_cursor->id / 2];
    if (!str_to_u64(time, INT64_MAX, &ret_cursor->time_ns) || id.len == 0 ||
        id.len >= sizeof ret_cursor->id || !hex_decode(id, bytes, id.len / 2))
        return err_set(reterr, ERR_FIELD_INVALID, "cursor: it must be the next_cursor of an earlier answer");
    memcpy(ret_cursor->id, id.p, id.len);
    return OK;
}

/* --- the answer --------------------------------------------------------------------------------- */
static void put_name(struct buf *out, const char *name)
{
    if (out->len && !memchr("{[", out->p[out->len - 1], 2))
        buf_putc(out, ',');
    json_put_key(out, name);
}

void api_put_text(struct buf *out, const char *name, const char *value)
{
    put_name(out, name);
    json_put_string(out, str_of(value));
}

void api_put_number(struct buf *out, const char *name, uint64_t value)
{
    put_name(out, name);
    buf_put_u64(out, value);
}

void api_put_bool(struct buf *out, const char *name, bool value)
{
    put_name(out, name);
    buf_puts(out, value ? "true" : "false");
}

void api_put_time(struct buf *out, const char *name, uint64_t wall_ns)
{
    char text[32];
    put_name(out, name);
    if (!wall_ns) {
        buf_puts(out, "null");
        return;
    }
    clock_format(wall_ns, text);
    buf_printf(out, "\"%s\"", text);
}

void api_call_put_cursor(struct api_call *call, const struct store_cursor *cursor, bool full)
{
    put_name(&call->out, "next_cursor");
    if (full)
        buf_printf(&call->out, "\"%llu-%s\"", (unsigned long long)cursor->time_ns, cursor->id);
    else
        buf_puts(&call->out, "null");
}
