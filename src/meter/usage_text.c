#include "meter/usage_text.h"

#include "base/clock.h"
#include "base/json.h"

#define NS_PER_DAY (86400 * NS_PER_S)

enum { TIME_BYTES = 32, DATE_LEN = 10 };

static const char *const groups[] = {
    [STORE_USAGE_BY_KEY] = "key",
    [STORE_USAGE_BY_DAY] = "day",
    [STORE_USAGE_BY_CAUSE] = "cause",
    [STORE_USAGE_BY_MODULE] = "module",
};

/* --- cells -------------------------------------------------------------------------------------- */
static void add_text(struct usage_cells *c, const char *name, const char *text)
{
    WW_ASSERT(c->count < USAGE_CELLS_MAX);
    c->all[c->count++] = (struct usage_cell){.name = name, .text = text};
}

static void add_number(struct usage_cells *c, const char *name, uint64_t number)
{
    WW_ASSERT(c->count < USAGE_CELLS_MAX);
    c->all[c->count++] = (struct usage_cell){.name = name, .is_number = true, .text = "", .number = number};
}

static const char *sha_text(struct usage_cells *c, const unsigned char sha[static STORE_SHA_BYTES])
{
    char *text = c->scratch + TIME_BYTES;
    hex_encode(sha, STORE_SHA_BYTES, text);
    return text;
}

void usage_cells_of_row(struct usage_cells *c, const struct store_usage *u)
{
    c->count = 0;
    clock_format(u->time_ns, c->scratch);
    add_text(c, "time", c->scratch);
    add_text(c, "run_id", u->id);
    add_text(c, "key_id", u->key_id);
    add_text(c, "user_id", u->user_id);
    add_text(c, "module_sha256", sha_text(c, u->module_sha));
    add_text(c, "status", u->cause == CAUSE_OK ? "ok" : "failed");
    add_text(c, "cause", cause_name(u->cause));
    add_number(c, "http_status", u->status);
    add_text(c, "error", u->error);
    add_number(c, "duration_us", u->duration_us);
    add_number(c, "cpu_us", u->cpu_us);
    add_number(c, "memory_peak_bytes", u->memory_peak_bytes);
    add_number(c, "wasm_bytes", u->wasm_bytes);
    add_number(c, "input_bytes", u->input_bytes);
    add_number(c, "output_bytes", u->output_bytes);
    add_number(c, "exit_code", u->exit_code);
    add_number(c, "queue_us", u->queue_us);
    add_number(c, "compile_us", u->compile_us);
    add_number(c, "fuel", u->fuel);
    add_number(c, "stderr_bytes", u->stderr_bytes);
    add_number(c, "host_calls", u->host_calls);
}

void usage_cells_of_total(struct usage_cells *c, enum store_usage_group by, const struct store_usage_total *t)
{
    c->count = 0;
    switch (by) {
    case STORE_USAGE_BY_KEY: add_text(c, "key_id", t->key_id); break;
    case STORE_USAGE_BY_DAY:
        clock_format(MIN(t->day, INT64_MAX / NS_PER_DAY) * NS_PER_DAY, c->scratch);
        c->scratch[DATE_LEN] = 0;
        add_text(c, "day", c->scratch);
        break;
    case STORE_USAGE_BY_CAUSE: add_text(c, "cause", cause_name(t->cause)); break;
    case STORE_USAGE_BY_MODULE: add_text(c, "module_sha256", sha_text(c, t->module_sha)); break;
    }
    add_number(c, "runs", t->runs);
    add_number(c, "duration_us", t->duration_us);
    add_number(c, "cpu_us", t->cpu_us);
    add_number(c, "memory_peak_bytes", t->memory_peak_bytes);
    add_number(c, "wasm_bytes", t->wasm_bytes);
    add_number(c, "input_bytes", t->input_bytes);
    add_number(c, "output_bytes", t->output_bytes);
}

/* --- forms -------------------------------------------------------------------------------------- */
void usage_put_json(struct buf *out, const struct usage_cells *cells)
{
    for (size_t i = 0; i < cells->count; i++) {
        const struct usage_cell *c = &cells->all[i];
        buf_putc(out, i ? ',' : '{');
        json_put_key(out, c->name);
        if (c->is_number)
            buf_put_u64(out, c->number);
        else if (c->text[0])
            json_put_string(out, str_of(c->text));
        else
            buf_puts(out, "null");
    }
    buf_putc(out, '}');
}

static void put_field(struct buf *out, const char *text)
{
    bool is_formula = text[0] && strchr("=+-@\t\r", text[0]);
    bool quoted = strpbrk(text, ",\"\r\n") != NULL;
    if (quoted)
        buf_putc(out, '"');
    if (is_formula)
        buf_putc(out, '\'');
    for (const char *p = text; *p; p++) {
        if (*p == '"')
            buf_putc(out, '"');
        buf_putc(out, *p);
    }
    if (quoted)
        buf_putc(out, '"');
}

void usage_put_csv_head(struct buf *out, const struct usage_cells *cells)
{
    for (size_t i = 0; i < cells->count; i++)
        buf_printf(out, "%s%s", i ? "," : "", cells->all[i].name);
    buf_puts(out, "\r\n");
}

void usage_put_csv(struct buf *out, const struct usage_cells *cells)
{
    for (size_t i = 0; i < cells->count; i++) {
        const struct usage_cell *c = &cells->all[i];
        if (i)
            buf_putc(out, ',');
        if (c->is_number)
            buf_put_u64(out, c->number);
        else
            put_field(out, c->text);
    }
    buf_puts(out, "\r\n");
}

/* --- groups ------------------------------------------------------------------------------------- */
bool usage_group_parse(struct str word, enum store_usage_group *ret)
{
    for (size_t i = 0; i < LENGTH_OF(groups); i++)
        if (str_eq(word, str_of(groups[i]))) {
            *ret = (enum store_usage_group)i;
            return true;
        }
    return false;
}

const char *usage_group_name(enum store_usage_group by)
{
    return groups[by];
}

void usage_group_widen(enum store_usage_group by, uint64_t *from_ns, uint64_t *to_ns)
{
    if (by == STORE_USAGE_BY_MODULE)
        return;
    *from_ns -= *from_ns % NS_PER_DAY;
    if (*to_ns)
        *to_ns += (NS_PER_DAY - *to_ns % NS_PER_DAY) % NS_PER_DAY;
}
