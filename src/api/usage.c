/* Usage: totals, rows and exports of one's own runs; of anybody's for operators. */

#include "api/call.h"
#include "base/clock.h"
#include "meter/usage_text.h"
#include "store/keys.h"

#define NS_PER_DAY (86400 * NS_PER_S)

enum { PERIOD_DAYS = 30, EXPORT_ROWS = STORE_PAGE_MAX, LINK_BYTES_MAX = 8 * 1024 };

/* --- which rows --------------------------------------------------------------------------------- */
static enum err query_time(struct api_call *call, const char *name, uint64_t *ret, struct err_info *reterr)
{
    struct str text;
    enum err e = api_call_query(call, name, &text, reterr);
    if (e || !text.p)
        return e;
    if (!clock_parse(text, ret))
        return err_set(reterr, ERR_FIELD_INVALID,
                       "%s: a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z is wanted",
                       name);
    return OK;
}

/* The last 30 days where nothing is said. */
static enum err read_period(struct api_call *call, struct store_usage_filter *filter, struct err_info *reterr)
{
    uint64_t today = clock_wall_ns() / NS_PER_DAY * NS_PER_DAY;
    filter->from_ns = today - (PERIOD_DAYS - 1) * NS_PER_DAY;
    enum err e = query_time(call, "from", &filter->from_ns, reterr);
    if (!e)
        e = query_time(call, "to", &filter->to_ns, reterr);
    if (!e && filter->to_ns && filter->to_ns <= filter->from_ns)
        return err_set(reterr, ERR_FIELD_INVALID, "to: it must be later than from");
    return e;
}

static enum err query_id(struct api_call *call, const char *name, const char **ret, struct err_info *reterr)
{
    struct str text;
    unsigned char bytes[STORE_ID_BYTES / 2];
    enum err e = api_call_query(call, name, &text, reterr);
    if (e || !text.p)
        return e;
    if (!hex_decode(text, bytes, sizeof bytes))
        return err_set(reterr, ERR_FIELD_INVALID, "%s: an id of %d hexadecimal digits is wanted", name,
                       STORE_ID_BYTES - 1);
    struct str copy = arena_copy(&call->arena, text);
    if (!copy.p)
        return err_set(reterr, ERR_INTERNAL, "the request is too large");
    *ret = copy.p;
    return OK;
}

static enum err not_yours(const char *name, struct err_info *reterr)
{
    return err_set(reterr, ERR_FORBIDDEN, "%s: only usage of your own can be seen", name);
}

static enum err check_key(struct api_call *call, const char *key_id, struct err_info *reterr)
{
    struct store_key key;
    const struct auth_principal *who = call->who;
    if (strcmp(key_id, who->key_id) == 0)
        return OK;
    enum err e =
        who->user_id[0] ? store_key_by_id(call->program->store, key_id, &key, reterr) : ERR_NOT_FOUND;
    if (e && e != ERR_NOT_FOUND)
        return e;
    return !e && strcmp(key.user_id, who->user_id) == 0 ? OK : not_yours("key_id", reterr);
}

/* An account sees its own, a key of nobody what was run with it, an operator all. */
static enum err read_whose(struct api_call *call, struct store_usage_filter *filter, struct err_info *reterr)
{
    const struct auth_principal *who = call->who;
    const char *key_id = NULL, *user_id = NULL;
    enum err e = query_id(call, "key_id", &key_id, reterr);
    if (!e)
        e = query_id(call, "user_id", &user_id, reterr);
    if (e)
        return e;
    if (key_id && user_id)
        return err_set(reterr, ERR_FIELD_INVALID, "user_id: it can't be asked for together with key_id");
    bool sees_all = who->user_id[0] && who->role >= STORE_ROLE_OPERATOR;
    if (!sees_all && user_id && (!who->user_id[0] || strcmp(user_id, who->user_id) != 0))
        return not_yours("user_id", reterr);
    if (!sees_all && key_id)
        e = check_key(call, key_id, reterr);
    if (!sees_all && !key_id && !who->user_id[0])
        key_id = who->key_id;
    filter->key_id = key_id;
    filter->user_id = key_id || (sees_all && !user_id) ? NULL : user_id ? user_id : who->user_id;
    return e;
}

static enum err read_filter(struct api_call *call, struct store_usage_filter *filter, struct err_info *reterr)
{
    enum err e = read_period(call, filter, reterr);
    return e ? e : read_whose(call, filter, reterr);
}

/* --- totals ------------------------------------------------------------------------------------- */
struct totals {
    struct buf *out;
    enum store_usage_group by;
    size_t count;
};

static bool put_total(void *ctx, const struct store_usage_total *total)
{
    struct totals *t = ctx;
    struct usage_cells cells;
    usage_cells_of_total(&cells, t->by, total);
    if (t->count++)
        buf_putc(t->out, ',');
    usage_put_json(t->out, &cells);
    return true;
}

enum err api_usage_totals(struct api_call *call, struct err_info *reterr)
{
    struct store_usage_filter filter = {0};
    struct totals t = {.out = &call->out, .by = STORE_USAGE_BY_DAY};
    struct str by;
    uint64_t limit = STORE_PAGE_MAX;
    enum err e = api_call_query(call, "by", &by, reterr);
    if (!e && by.p && !usage_group_parse(by, &t.by))
        e = err_set(reterr, ERR_FIELD_INVALID, "by: key, day, module or cause is wanted");
    if (!e)
        e = api_call_query_number(call, "limit", 1, STORE_PAGE_MAX, &limit, reterr);
    if (!e)
        e = read_filter(call, &filter, reterr);
    if (e)
        return e;
    usage_group_widen(t.by, &filter.from_ns, &filter.to_ns);
    buf_putc(&call->out, '{');
    api_put_text(&call->out, "by", usage_group_name(t.by));
    api_put_time(&call->out, "from", filter.from_ns);
    api_put_time(&call->out, "to", filter.to_ns);
    buf_puts(&call->out, ",\"totals\":[");
    e = store_usage_totals(call->program->store, t.by, &filter, (size_t)limit, put_total, &t, reterr);
    buf_puts(&call->out, "]}\n");
    return e;
}

/* --- rows --------------------------------------------------------------------------------------- */
struct rows {
    struct buf *out;
    bool csv;
    size_t count;
};

static bool put_row(void *ctx, const struct store_usage *row)
{
    struct rows *r = ctx;
    struct usage_cells cells;
    usage_cells_of_row(&cells, row);
    if (r->csv)
        usage_put_csv(r->out, &cells);
    else if (r->count)
        buf_putc(r->out, ',');
    if (!r->csv)
        usage_put_json(r->out, &cells);
    r->count++;
    return true;
}

static enum err put_rows_json(struct api_call *call, const struct store_usage_filter *filter,
                              struct store_cursor *cursor, size_t limit, size_t *ret_count,
                              struct err_info *reterr)
{
    struct rows r = {.out = &call->out};
    buf_puts(&call->out, "{\"runs\":[");
    enum err e = store_usage_page(call->program->store, filter, cursor, limit, put_row, &r, reterr);
    buf_putc(&call->out, ']');
    api_call_put_cursor(call, cursor, r.count == limit);
    buf_puts(&call->out, "}\n");
    *ret_count = r.count;
    return e;
}

enum err api_usage_runs(struct api_call *call, struct err_info *reterr)
{
    struct store_usage_filter filter = {0};
    struct store_cursor cursor;
    size_t limit, count;
    enum err e = api_call_page(call, &cursor, &limit, reterr);
    if (!e)
        e = read_filter(call, &filter, reterr);
    return e ? e : put_rows_json(call, &filter, &cursor, limit, &count, reterr);
}

/* --- export ------------------------------------------------------------------------------------- */
static void put_query_char(struct buf *out, char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("-._~=%+:", c))
        buf_putc(out, c);
    else
        buf_printf(out, "%%%02X", (unsigned)(unsigned char)c);
}

/* RFC 8288: the same question with another cursor. */
static void put_link(struct api_call *call, const struct store_cursor *cursor)
{
    struct buf link = buf_make(LINK_BYTES_MAX);
    struct str rest = call->query;
    buf_printf(&link, "<%s?", call->endpoint->path);
    while (rest.len) {
        struct str pair = str_split(&rest, '&');
        if (!pair.len || str_starts_with(pair, STR_LIT("cursor=")))
            continue;
        for (size_t i = 0; i < pair.len; i++)
            put_query_char(&link, pair.p[i]);
        buf_putc(&link, '&');
    }
    buf_printf(&link, "cursor=%llu-%s>; rel=\"next\"", (unsigned long long)cursor->time_ns, cursor->id);
    if (!link.overflow)
        api_call_field(call, "Link", buf_str(&link));
    buf_done(&link);
}

/* Only the first page has the line of names, so that pages can be put together. */
static enum err put_rows_csv(struct api_call *call, const struct store_usage_filter *filter,
                             struct store_cursor *cursor, size_t limit, size_t *ret_count,
                             struct err_info *reterr)
{
    struct rows r = {.out = &call->out, .csv = true};
    static const struct store_usage none;
    struct usage_cells cells;
    usage_cells_of_row(&cells, &none);
    if (!cursor->time_ns)
        usage_put_csv_head(&call->out, &cells);
    call->content_type = "text/csv; charset=utf-8";
    api_call_field(call, "Content-Disposition", STR_LIT("attachment; filename=\"usage.csv\""));
    enum err e = store_usage_page(call->program->store, filter, cursor, limit, put_row, &r, reterr);
    *ret_count = r.count;
    return e;
}

enum err api_usage_export(struct api_call *call, struct err_info *reterr)
{
    struct store_usage_filter filter = {0};
    struct store_cursor cursor;
    struct str format, asked;
    size_t limit, count = 0;
    enum err e = api_call_page(call, &cursor, &limit, reterr);
    if (!e)
        e = api_call_query(call, "limit", &asked, reterr);
    if (!e)
        e = api_call_query(call, "format", &format, reterr);
    if (!e)
        e = read_filter(call, &filter, reterr);
    if (e)
        return e;
    if (!asked.p)
        limit = EXPORT_ROWS;
    if (!format.p || str_eq(format, STR_LIT("csv")))
        e = put_rows_csv(call, &filter, &cursor, limit, &count, reterr);
    else if (str_eq(format, STR_LIT("json")))
        e = put_rows_json(call, &filter, &cursor, limit, &count, reterr);
    else
        return err_set(reterr, ERR_FIELD_INVALID, "format: csv or json is wanted");
    if (!e && count == limit)
        put_link(call, &cursor);
    return e;
}
