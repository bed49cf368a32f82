/* What an account has run, day by day. */
#include "base/clock.h"
#include "store/usage.h"
#include "web/page.h"

#define DAY_NS (24 * 3600 * NS_PER_S)

enum { PERIOD_DAYS = 30, ROW_VALUES = 6, CELL_BYTES = 32 };

/* Rows and their texts are in the call's arena. */
struct day_rows {
    struct arena *arena;
    struct web_scope rows[PERIOD_DAYS + 1]; /* midnight may pass meanwhile */
    size_t count;
    uint64_t runs;
};

static struct str number(struct arena *arena, uint64_t value)
{
    char text[CELL_BYTES];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return arena_copy(arena, str_of(text));
}

static struct str shown_us(struct arena *arena, uint64_t us)
{
    char text[CELL_BYTES];
    snprintf(text, sizeof text, us < 1000000 ? "%.1f ms" : "%.1f s", (double)us / (us < 1000000 ? 1e3 : 1e6));
    return arena_copy(arena, str_of(text));
}

static struct str shown_bytes(struct arena *arena, uint64_t bytes)
{
    char text[CELL_BYTES];
    if (bytes < MIB)
        snprintf(text, sizeof text, "%.1f KiB", (double)bytes / (double)KIB);
    else
        snprintf(text, sizeof text, "%.1f MiB", (double)bytes / (double)MIB);
    return arena_copy(arena, str_of(text));
}

static bool list_day(void *ctx, const struct store_usage_total *total)
{
    struct day_rows *list = ctx;
    struct arena *arena = list->arena;
    struct web_value *values = arena_alloc(arena, ROW_VALUES * sizeof *values);
    char day[32];
    WW_ASSERT(values); /* a page of days is far below the arena's ceiling */
    clock_format(total->day * DAY_NS, day);
    values[0] = WEB_TEXT("day", arena_copy(arena, str_make(day, 10)));
    values[1] = WEB_TEXT("runs", number(arena, total->runs));
    values[2] = WEB_TEXT("time", shown_us(arena, total->duration_us));
    values[3] = WEB_TEXT("cpu", shown_us(arena, total->cpu_us));
    values[4] = WEB_TEXT("memory", shown_bytes(arena, total->memory_peak_bytes));
    values[5] = WEB_TEXT("output", shown_bytes(arena, total->output_bytes));
    list->rows[list->count++] = (struct web_scope){values, ROW_VALUES, NULL};
    list->runs += total->runs;
    return true;
}

enum err web_usage(struct api_call *call, struct err_info *reterr)
{
    struct day_rows list = {.arena = &call->arena};
    const struct store_usage_filter filter = {
        .from_ns = (clock_wall_ns() / DAY_NS - (PERIOD_DAYS - 1)) * DAY_NS, .user_id = call->who->user_id};
    struct store_user user;
    char csrf[AUTH_SESSION_BYTES];
    enum err e = store_user_by_id(call->program->store, call->who->user_id, &user, reterr);
    if (!e)
        e = store_usage_totals(call->program->store, STORE_USAGE_BY_DAY, &filter, LENGTH_OF(list.rows),
                               list_day, &list, reterr);
    if (e)
        return e;
    const struct web_value values[] = {
        WEB_TEXT("days", number(&call->arena, PERIOD_DAYS)),
        WEB_TEXT("runs", number(&call->arena, list.runs)),
        WEB_TEXT("one", str_of(list.runs == 1 ? "yes" : "")),
        WEB_LIST("rows", list.rows, list.count),
    };
    auth_session_csrf(call->program->auth, call->session, csrf);
    web_page_show(call, &(struct web_page){.template = "usage",
                                           .title = "Usage",
                                           .csrf = csrf,
                                           .email = user.email,
                                           .values = values,
                                           .value_count = LENGTH_OF(values)});
    return OK;
}
