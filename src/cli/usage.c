/* `wasmwiz usage`: what was run, added up, from the database. */
#include "meter/usage_text.h"

#include "base/clock.h"
#include "cli/command.h"
#include "main/commands.h"

#define NS_PER_DAY (86400 * NS_PER_S)

enum { PERIOD_DAYS = 30 };

static const char usage[] =
    "usage: wasmwiz usage [--by day|key|module|cause] [--from TIME] [--to TIME] [--key ID]\n"
    "                     [--format table|csv|json]\n\n"
    "Runs added up, from the database of `wasmwiz serve`: --data FOLDER (DATA_DIR) or DATABASE_URL.\n"
    "TIME is a date (2026-01-31: its first moment, UTC) or RFC 3339 (2026-01-31T12:00:00Z). --from is\n"
    "included, --to is not; without them: the last 30 days. Totals by day, key and cause are of whole "
    "days.\n";

enum format { FORMAT_TABLE, FORMAT_CSV, FORMAT_JSON };
static const char *const formats[] = {"table", "csv", "json"};

struct request {
    enum store_usage_group by;
    enum format format;
    struct store_usage_filter filter;
};

struct printing {
    const struct request *request;
    struct buf out;
    size_t count;
};

/* --- printing ----------------------------------------------------------------------------------- */
static void put_table_line(struct buf *out, const struct usage_cells *cells, bool names)
{
    for (size_t i = 0; i < cells->count; i++) {
        const struct usage_cell *c = &cells->all[i];
        if (!c->is_number)
            buf_printf(out, "%-16s", names ? c->name : c->text[0] ? c->text : "-");
        else if (names)
            buf_printf(out, "  %*s", MAX((int)strlen(c->name), 12), c->name);
        else
            buf_printf(out, "  %*llu", MAX((int)strlen(c->name), 12), (unsigned long long)c->number);
    }
    buf_putc(out, '\n');
}

static bool print_total(void *ctx, const struct store_usage_total *total)
{
    struct printing *p = ctx;
    struct usage_cells cells;
    usage_cells_of_total(&cells, p->request->by, total);
    switch (p->request->format) {
    case FORMAT_TABLE:
        if (!p->count)
            put_table_line(&p->out, &cells, true);
        put_table_line(&p->out, &cells, false);
        break;
    case FORMAT_CSV:
        if (!p->count)
            usage_put_csv_head(&p->out, &cells);
        usage_put_csv(&p->out, &cells);
        break;
    case FORMAT_JSON:
        buf_puts(&p->out, p->count ? ",\n " : "[");
        usage_put_json(&p->out, &cells);
        break;
    }
    p->count++;
    return true;
}

static enum err print_totals(const struct request *r, struct store *store, struct err_info *reterr)
{
    struct printing p = {.request = r, .out = buf_make(STORE_PAGE_MAX * 1024)};
    enum err e = store_usage_totals(store, r->by, &r->filter, STORE_PAGE_MAX, print_total, &p, reterr);
    if (r->format == FORMAT_JSON)
        buf_puts(&p.out, p.count ? "]\n" : "[]\n");
    else if (r->format == FORMAT_TABLE && !p.count)
        buf_puts(&p.out, "no runs\n");
    if (!e)
        fputs(buf_cstr(&p.out), stdout);
    buf_done(&p.out);
    return e;
}

/* --- asking ------------------------------------------------------------------------------------- */
static bool parse_format(const char *word, enum format *ret)
{
    for (size_t i = 0; i < LENGTH_OF(formats); i++)
        if (strcmp(word, formats[i]) == 0) {
            *ret = (enum format)i;
            return true;
        }
    return false;
}

static bool parse(int argc, char **argv, void *request)
{
    struct request *r = request;
    uint64_t today = clock_wall_ns() / NS_PER_DAY * NS_PER_DAY;
    *r = (struct request){.by = STORE_USAGE_BY_DAY, .filter.from_ns = today - (PERIOD_DAYS - 1) * NS_PER_DAY};
    for (int i = 0; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool good = value != NULL;
        if (good && strcmp(name, "--by") == 0)
            good = usage_group_parse(str_of(value), &r->by);
        else if (good && strcmp(name, "--from") == 0)
            good = clock_parse(str_of(value), &r->filter.from_ns);
        else if (good && strcmp(name, "--to") == 0)
            good = clock_parse(str_of(value), &r->filter.to_ns);
        else if (good && strcmp(name, "--format") == 0)
            good = parse_format(value, &r->format);
        else if (good && strcmp(name, "--key") == 0)
            r->filter.key_id = value;
        else
            good = false;
        if (!good) {
            fprintf(stderr, "wasmwiz usage: \"%s%s%s\" is not understood\n", name, value ? " " : "",
                    value ? value : "");
            return false;
        }
    }
    return true;
}

static enum err carry_out(const void *request, const struct settings *s, struct err_info *reterr)
{
    const struct request *r = request;
    struct store *store = NULL;
    enum err e = cli_store_open(s, &store, reterr);
    if (!e)
        e = print_totals(r, store, reterr);
    store_close(store);
    return e;
}

int command_usage(int argc, char **argv)
{
    struct request r;
    return cli_command_run(
        &(struct cli_command){
            .name = "usage", .usage = usage, .request = &r, .parse = parse, .carry_out = carry_out},
        argc, argv);
}
