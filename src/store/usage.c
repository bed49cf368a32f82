#include "store/usage.h"

#include "store/driver.h"

enum { ROW_VALUES = 20, SUM_VALUES = 11 };
#define NS_PER_DAY (86400 * NS_PER_S)

/* --- adding --- */

static void put_row(struct store_value *v, const struct store_usage *u, const char *error)
{
    *v++ = store_number("time_ns", u->time_ns);
    *v++ = store_cstr("id", u->id);
    *v++ = store_cstr("key_id", u->key_id);
    *v++ = store_optional("user_id", u->user_id);
    *v++ = store_bytes("module_sha", u->module_sha, sizeof u->module_sha);
    *v++ = store_number("duration_us", u->duration_us);
    *v++ = store_number("cpu_us", u->cpu_us);
    *v++ = store_number("memory_peak_bytes", u->memory_peak_bytes);
    *v++ = store_cstr("cause", cause_name(u->cause));
    *v++ = store_number("status", u->status);
    *v++ = store_cstr("error", error);
    *v++ = store_number("wasm_bytes", u->wasm_bytes);
    *v++ = store_number("input_bytes", u->input_bytes);
    *v++ = store_number("output_bytes", u->output_bytes);
    *v++ = store_number("exit_code", u->exit_code);
    *v++ = store_number("queue_us", u->queue_us);
    *v++ = store_number("compile_us", u->compile_us);
    *v++ = store_number("fuel", u->fuel);
    *v++ = store_number("stderr_bytes", u->stderr_bytes);
    *v++ = store_number("host_calls", u->host_calls);
}

/* What is added to usage_daily at once: one key, day, cause and user. */
struct sum {
    const struct store_usage *first;
    uint64_t runs, duration_us, cpu_us, memory_peak_bytes, wasm_bytes, input_bytes, output_bytes;
};

struct batch {
    const struct store_usage *rows;
    size_t count;
    bool *is_new;     /* room for `count` */
    struct sum *sums; /* the same */
    size_t sum_count;
    uint64_t added;
    bool came_again; /* some are there already */
    char mended[STORE_TOGETHER][STORE_ERROR_BYTES];
};

/* The order of the primary key, as bytes: that of the statements, too. */
static int compare(const struct store_usage *a, const struct store_usage *b)
{
    uint64_t day_a = a->time_ns / NS_PER_DAY, day_b = b->time_ns / NS_PER_DAY;
    int order = strcmp(a->key_id, b->key_id);
    if (!order)
        order = (day_a > day_b) - (day_a < day_b);
    if (!order && a->cause != b->cause)
        order = strcmp(cause_name(a->cause), cause_name(b->cause));
    return order ? order : strcmp(a->user_id, b->user_id);
}

static int compare_sums(const void *left, const void *right)
{
    const struct sum *a = left, *b = right;
    return compare(a->first, b->first);
}

static void add_sum(struct sum *to, const struct sum *s)
{
    to->runs += s->runs;
    to->duration_us += s->duration_us;
    to->cpu_us += s->cpu_us;
    to->memory_peak_bytes = MAX(to->memory_peak_bytes, s->memory_peak_bytes);
    to->wasm_bytes += s->wasm_bytes;
    to->input_bytes += s->input_bytes;
    to->output_bytes += s->output_bytes;
}

/* To the last of the sums if it is one of the same, else behind it. */
static void append_sum(struct batch *b, const struct sum *s)
{
    if (b->sum_count && compare(b->sums[b->sum_count - 1].first, s->first) == 0)
        add_sum(&b->sums[b->sum_count - 1], s);
    else
        b->sums[b->sum_count++] = *s;
}

/* The rows that are new, added up and in order. */
static void add_up(struct batch *b)
{
    b->sum_count = 0;
    b->added = 0;
    for (size_t i = 0; i < b->count; i++) {
        const struct store_usage *u = &b->rows[i];
        const struct sum one = {.first = u,
                                .runs = 1,
                                .duration_us = u->duration_us,
                                .cpu_us = u->cpu_us,
                                .memory_peak_bytes = u->memory_peak_bytes,
                                .wasm_bytes = u->wasm_bytes,
                                .input_bytes = u->input_bytes,
                                .output_bytes = u->output_bytes};
        if (!b->is_new[i])
            continue;
        append_sum(b, &one);
        b->added++;
    }
    size_t parts = b->sum_count;
    qsort(b->sums, parts, sizeof *b->sums, compare_sums);
    b->sum_count = 0;
    for (size_t i = 0; i < parts; i++) {
        struct sum part = b->sums[i];
        append_sum(b, &part);
    }
}

static void make_sum(void *ctx, size_t i, struct store_value *v)
{
    const struct sum *s = &((const struct batch *)ctx)->sums[i];
    *v++ = store_cstr("key_id", s->first->key_id);
    *v++ = store_number("day", s->first->time_ns / NS_PER_DAY);
    *v++ = store_cstr("cause", cause_name(s->first->cause));
    *v++ = store_cstr("user_id", s->first->user_id);
    *v++ = store_number("runs", s->runs);
    *v++ = store_number("duration_us", s->duration_us);
    *v++ = store_number("cpu_us", s->cpu_us);
    *v++ = store_number("memory_peak_bytes", s->memory_peak_bytes);
    *v++ = store_number("wasm_bytes", s->wasm_bytes);
    *v++ = store_number("input_bytes", s->input_bytes);
    *v++ = store_number("output_bytes", s->output_bytes);
}

/* An error that is not UTF-8 is mended in memory of the batch; the others are used as they are. */
static void make_row(void *ctx, size_t i, struct store_value *v)
{
    struct batch *b = ctx;
    const char *error = b->rows[i].error;
    if (!store_text_is_clean(str_of(error))) {
        char *mended = b->mended[i % LENGTH_OF(b->mended)];
        snprintf(mended, sizeof b->mended[0], "%s", error);
        store_clean_text(mended);
        error = mended;
    }
    put_row(v, &b->rows[i], error);
}

static struct store_call rows_call(struct batch *b, enum store_statement statement)
{
    return (struct store_call){
        .statement = statement, .count = ROW_VALUES, .rows = b->count, .make_row = make_row, .ctx = b};
}

/* Of the rows that are new. */
MUST_CHECK static enum err add_sums(struct batch *b, struct store_conn *conn, struct err_info *reterr)
{
    add_up(b);
    struct store_call call = {.statement = SQL_DAILY_ADD,
                              .count = SUM_VALUES,
                              .rows = b->sum_count,
                              .make_row = make_sum,
                              .ctx = b};
    return b->sum_count ? store_conn_run(conn, &call, reterr) : OK;
}

static enum err add_new(void *ctx, struct store_conn *conn, struct err_info *reterr)
{
    struct batch *b = ctx;
    struct store_call call = rows_call(b, SQL_USAGE_ADD);
    memset(b->is_new, true, b->count * sizeof *b->is_new);
    enum err e = store_conn_run(conn, &call, reterr);
    b->came_again = e && call.fault == STORE_FAULT_UNIQUE;
    return e ? e : add_sums(b, conn, reterr);
}

static enum err add_each_again(void *ctx, struct store_conn *conn, struct err_info *reterr)
{
    struct batch *b = ctx;
    struct store_call call = rows_call(b, SQL_USAGE_ADD_AGAIN);
    call.row_changed = b->is_new;
    enum err e = store_conn_run(conn, &call, reterr);
    return e ? e : add_sums(b, conn, reterr);
}

static enum err take_added(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct store_reader r = {row, false};
    ((struct batch *)ctx)->added = store_read_number(&r);
    return store_read_end(&r, "a count of rows", reterr);
}

MUST_CHECK static enum err add_again(struct store *s, struct batch *b, struct err_info *reterr)
{
    if (!store_ops_of(s)->wants_arrays)
        return store_transact(s, add_each_again, b, reterr);
    struct store_call call = rows_call(b, SQL_USAGE_ADD_AGAIN); /* a transaction by itself */
    call.each = take_added;
    return store_run(s, STORE_WRITE, &call, reterr);
}

enum err store_usage_add(struct store *s, const struct store_usage *rows, size_t count, uint64_t *ret_added,
                         struct err_info *reterr)
{
    size_t most = MIN(count, (size_t)STORE_BATCH_MAX) + 1;
    CLEANUP(freep) struct sum *sums = xcalloc(most, sizeof *sums);
    CLEANUP(freep) bool *is_new = xcalloc(most, sizeof *is_new);
    uint64_t added = 0;
    enum err e = OK;
    for (size_t done = 0; !e && done < count;) {
        struct batch b = {.rows = rows + done,
                          .count = MIN(count - done, (size_t)STORE_BATCH_MAX),
                          .sums = sums,
                          .is_new = is_new};
        e = store_transact(s, add_new, &b, reterr);
        if (e && b.came_again)
            e = add_again(s, &b, reterr);
        added += b.added;
        done += b.count;
    }
    if (!e && ret_added)
        *ret_added = added;
    return e;
}

enum err store_usage_prune(struct store *s, uint64_t before_ns, size_t limit, uint64_t *ret_deleted,
                           struct err_info *reterr)
{
    return store_prune(s, SQL_USAGE_PRUNE, before_ns, limit, ret_deleted, reterr);
}

/* --- reading --- */

static enum cause read_cause(struct store_reader *r)
{
    struct str word = store_read_str(r);
    for (unsigned i = 0; i < CAUSE_COUNT; i++)
        if (str_eq(word, str_of(cause_name((enum cause)i))))
            return (enum cause)i;
    r->damaged = true;
    return CAUSE_OK;
}

static void take_usage(struct store_reader *r, struct store_usage *u)
{
    memset(u, 0, sizeof *u);
    u->time_ns = store_read_number(r);
    store_read_text(r, u->id, sizeof u->id);
    store_read_text(r, u->key_id, sizeof u->key_id);
    store_read_text(r, u->user_id, sizeof u->user_id);
    store_read_bytes(r, u->module_sha, sizeof u->module_sha);
    u->duration_us = store_read_number(r);
    u->cpu_us = store_read_number(r);
    u->memory_peak_bytes = store_read_number(r);
    u->cause = read_cause(r);
    u->status = (uint32_t)store_read_number(r);
    store_read_text(r, u->error, sizeof u->error);
    u->wasm_bytes = store_read_number(r);
    u->input_bytes = store_read_number(r);
    u->output_bytes = store_read_number(r);
    u->exit_code = store_read_number(r);
    u->queue_us = store_read_number(r);
    u->compile_us = store_read_number(r);
    u->fuel = store_read_number(r);
    u->stderr_bytes = store_read_number(r);
    u->host_calls = store_read_number(r);
}

/* The statement for any row, and behind it those of a key and of a user; *ret_of is whose, NULL =
 * anybody's. */
static enum store_statement narrow(enum store_statement any, const struct store_usage_filter *filter,
                                   const char **ret_of)
{
    *ret_of = filter->key_id ? filter->key_id : filter->user_id;
    return (enum store_statement)((int)any + (filter->key_id ? 1 : filter->user_id ? 2 : 0));
}

static uint64_t end_of(const struct store_usage_filter *filter)
{
    return filter->to_ns ? filter->to_ns : (uint64_t)INT64_MAX;
}

struct row_walk {
    bool (*each)(void *ctx, const struct store_usage *row);
    void *ctx;
    struct store_cursor *cursor;
    bool stopped;
};

static enum err give_row(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct row_walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_usage u;
    if (w->stopped)
        return OK;
    take_usage(&r, &u);
    enum err e = store_read_end(&r, "a row of usage", reterr);
    if (e)
        return e;
    store_cursor_set(w->cursor, u.time_ns, u.id);
    w->stopped = !w->each(w->ctx, &u);
    return OK;
}

enum err store_usage_page(struct store *s, const struct store_usage_filter *filter,
                          struct store_cursor *cursor, size_t limit,
                          bool (*each)(void *ctx, const struct store_usage *row), void *ctx,
                          struct err_info *reterr)
{
    struct row_walk w = {.each = each, .ctx = ctx, .cursor = cursor};
    const char *of;
    enum store_statement statement = narrow(SQL_USAGE_PAGE, filter, &of);
    uint64_t to = end_of(filter);
    if (cursor->time_ns) /* said twice, so that no database starts at the newest row again and again */
        to = MIN(to, cursor->time_ns + 1);
    struct store_value values[] = {store_number("from", filter->from_ns), store_number("to", to),
                                   STORE_CURSOR_VALUES(cursor), store_limit(limit), store_cstr("id", of)};
    struct store_call call = {
        .statement = statement, .values = values, .count = of ? 6 : 5, .each = give_row, .ctx = &w};
    return store_run(s, STORE_READ_STALE, &call, reterr);
}

struct total_walk {
    bool (*each)(void *ctx, const struct store_usage_total *total);
    void *ctx;
    enum store_usage_group by;
    bool stopped;
};

static enum err give_total(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct total_walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_usage_total t = {0};
    if (w->stopped)
        return OK;
    switch (w->by) {
    case STORE_USAGE_BY_KEY: store_read_text(&r, t.key_id, sizeof t.key_id); break;
    case STORE_USAGE_BY_DAY: t.day = store_read_number(&r); break;
    case STORE_USAGE_BY_CAUSE: t.cause = read_cause(&r); break;
    case STORE_USAGE_BY_MODULE: store_read_bytes(&r, t.module_sha, sizeof t.module_sha); break;
    }
    t.runs = store_read_number(&r);
    t.duration_us = store_read_number(&r);
    t.cpu_us = store_read_number(&r);
    t.memory_peak_bytes = store_read_number(&r);
    t.wasm_bytes = store_read_number(&r);
    t.input_bytes = store_read_number(&r);
    t.output_bytes = store_read_number(&r);
    enum err e = store_read_end(&r, "a sum of usage", reterr);
    if (!e)
        w->stopped = !w->each(w->ctx, &t);
    return e;
}

enum err store_usage_totals(struct store *s, enum store_usage_group by,
                            const struct store_usage_filter *filter, size_t limit,
                            bool (*each)(void *ctx, const struct store_usage_total *total), void *ctx,
                            struct err_info *reterr)
{
    static const enum store_statement any[] = {
        [STORE_USAGE_BY_KEY] = SQL_USAGE_BY_KEY,
        [STORE_USAGE_BY_DAY] = SQL_USAGE_BY_DAY,
        [STORE_USAGE_BY_CAUSE] = SQL_USAGE_BY_CAUSE,
        [STORE_USAGE_BY_MODULE] = SQL_USAGE_BY_MODULE,
    };
    struct total_walk w = {.each = each, .ctx = ctx, .by = by};
    const char *of;
    enum store_statement statement = narrow(any[by], filter, &of);
    uint64_t from = filter->from_ns, to = end_of(filter);
    if (to <= from)
        return OK;
    if (by != STORE_USAGE_BY_MODULE) {
        from /= NS_PER_DAY;
        to = (to - 1) / NS_PER_DAY + 1;
    }
    struct store_value values[] = {store_number("from", from), store_number("to", to), store_limit(limit),
                                   store_cstr("id", of)};
    struct store_call call = {
        .statement = statement, .values = values, .count = of ? 4 : 3, .each = give_total, .ctx = &w};
    return store_run(s, STORE_READ_STALE, &call, reterr);
}
