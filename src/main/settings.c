#include "main/settings.h"

#include <errno.h>

enum kind { KIND_TEXT, KIND_SECRET, KIND_NUMBER, KIND_BYTES, KIND_DURATION, KIND_CHOICE };
enum { ENV_FILE_BYTES_MAX = 64 * 1024, LOG_LEVEL_UNSET = 1000 };

struct row {
    const char *variable;
    const char *flag; /* NULL: only by variable */
    const char *initial;
    enum kind kind;
    const char *words; /* of a CHOICE */
    uint64_t least, most;
    const char *help;
    size_t offset;
};

#define least_TEXT(x) 0
#define least_SECRET(x) 0
#define least_NUMBER(x) x
#define least_BYTES(x) x
#define least_DURATION(x) x
#define least_CHOICE(x) 0
#define words_TEXT(x) NULL
#define words_SECRET(x) NULL
#define words_NUMBER(x) NULL
#define words_BYTES(x) NULL
#define words_DURATION(x) NULL
#define words_CHOICE(x) x

static const struct row rows[] = {
#define SETTING(field, kind, variable, flag, dflt, least, most, help) \
    {variable,                                                        \
     flag,                                                            \
     dflt,                                                            \
     KIND_##kind,                                                     \
     words_##kind(least),                                             \
     least_##kind(least),                                             \
     most,                                                            \
     help,                                                            \
     offsetof(struct settings, field)},
#include "main/settings.def"
#undef SETTING
};
enum { ROWS = LENGTH_OF(rows) };

/* --- values ------------------------------------------------------------------------------------- */
static void *field(const struct settings *s, const struct row *row)
{
    return (char *)(uintptr_t)s + row->offset;
}

static void put_amount(struct buf *out, const struct row *row, uint64_t value)
{
    static const struct {
        uint64_t ns;
        const char *unit;
    } units[] = {{3600 * NS_PER_S, "h"}, {60 * NS_PER_S, "m"}, {NS_PER_S, "s"}, {NS_PER_MS, "ms"}, {1, "ns"}};
    static const struct {
        uint64_t bytes;
        const char *unit;
    } sizes[] = {{GIB, "GiB"}, {MIB, "MiB"}, {KIB, "KiB"}};
    if (row->kind == KIND_DURATION && value)
        for (size_t i = 0; i < LENGTH_OF(units); i++)
            if (value % units[i].ns == 0) {
                buf_printf(out, "%llu%s", (unsigned long long)(value / units[i].ns), units[i].unit);
                return;
            }
    if (row->kind == KIND_BYTES && value)
        for (size_t i = 0; i < LENGTH_OF(sizes); i++)
            if (value % sizes[i].bytes == 0) {
                buf_printf(out, "%llu%s", (unsigned long long)(value / sizes[i].bytes), sizes[i].unit);
                return;
            }
    buf_put_u64(out, value);
}

static void put_range(struct buf *out, const struct row *row)
{
    switch (row->kind) {
    case KIND_TEXT: buf_puts(out, "text"); return;
    case KIND_SECRET: buf_puts(out, "text, secret"); return;
    case KIND_CHOICE: {
        struct str words = str_of(row->words);
        for (const char *between = ""; words.len; between = " or ") {
            buf_puts(out, between);
            buf_put_str(out, str_split(&words, ' '));
        }
        return;
    }
    default:
        put_amount(out, row, row->least);
        buf_puts(out, " to ");
        put_amount(out, row, row->most);
    }
}

static bool set_value(struct settings *s, const struct row *row, struct str text)
{
    uint64_t value;
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_SECRET: {
        char **to = field(s, row);
        free(*to);
        *to = xstrndup(text.p, text.len);
        return true;
    }
    case KIND_CHOICE: {
        struct str words = str_of(row->words);
        for (unsigned i = 0; words.len; i++)
            if (str_eq(str_split(&words, ' '), text)) {
                *(unsigned *)field(s, row) = i;
                return true;
            }
        return false;
    }
    case KIND_NUMBER:
        if (!str_to_u64(text, UINT64_MAX, &value))
            return false;
        break;
    case KIND_BYTES:
        if (!str_to_bytes(text, &value))
            return false;
        break;
    case KIND_DURATION:
        if (!str_to_duration_ns(text, &value))
            return false;
        break;
    }
    /* 0 asks for the default wherever the default is 0, too. */
    if ((value < row->least && strcmp(row->initial, "0") != 0) || value > row->most)
        return false;
    *(uint64_t *)field(s, row) = value;
    return true;
}

static void complain(struct buf *errors, const struct row *row, const char *where, struct str text)
{
    buf_printf(errors, "%s (%s): ", row->variable, where);
    if (row->kind != KIND_SECRET)
        buf_printf(errors, "\"%.*s\" is not allowed; ", STR_FMT(str_make(text.p, MIN(text.len, (size_t)60))));
    buf_puts(errors, "allowed is ");
    put_range(errors, row);
    buf_putc(errors, '\n');
}

/* --- sources ------------------------------------------------------------------------------------ */
static const struct row *row_by_variable(struct str name)
{
    for (size_t i = 0; i < ROWS; i++)
        if (str_eq(name, str_of(rows[i].variable)))
            return &rows[i];
    return NULL;
}

static void take(struct settings *s, const struct row *row, const char *where, struct str text,
                 struct buf *errors)
{
    if (!set_value(s, row, text))
        complain(errors, row, where, text);
}

/* KEY=VALUE lines of .env; '#' begins a comment line; quotes around the value are taken off. */
static void each_in_env_file(struct buf *errors, void (*each)(void *ctx, struct str name, struct str value),
                             void *ctx)
{
    FILE *f = fopen(".env", "re");
    if (!f) {
        if (errno != ENOENT)
            buf_printf(errors, ".env: it could not be read: %s\n", strerror(errno));
        return;
    }
    static char bytes[ENV_FILE_BYTES_MAX];
    size_t len = fread(bytes, 1, sizeof bytes, f);
    if (len == sizeof bytes)
        buf_printf(errors, ".env: it has more than %d bytes\n", ENV_FILE_BYTES_MAX - 1);
    fclose(f);
    struct str rest = str_make(bytes, len);
    while (rest.len) {
        struct str line = str_trim(str_split(&rest, '\n'));
        if (line.len && line.p[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0 || line.p[0] == '#')
            continue;
        if (str_starts_with(line, STR_LIT("export ")))
            line = str_trim(str_make(line.p + 7, line.len - 7));
        struct str name = str_trim(str_split(&line, '=')), value = str_trim(line);
        if (value.len >= 2 && (value.p[0] == '"' || value.p[0] == '\'') &&
            value.p[value.len - 1] == value.p[0])
            value = str_make(value.p + 1, value.len - 2);
        each(ctx, name, value);
    }
}

struct env_file {
    struct settings *settings;
    struct buf *errors;
};

/* Names that are not ours are others'. */
static void take_from_env_file(void *ctx, struct str name, struct str value)
{
    const struct env_file *to = ctx;
    const struct row *row = row_by_variable(name);
    const char *set = row ? getenv(row->variable) : NULL;
    if (row && !(set && set[0]))
        take(to->settings, row, "in .env", value, to->errors);
}

static void load_environment(struct settings *s, struct buf *errors)
{
    for (size_t i = 0; i < ROWS; i++) {
        const char *value = getenv(rows[i].variable);
        if (value && value[0])
            take(s, &rows[i], "environment", str_of(value), errors);
    }
}

/* "--flag value" and "--flag=value"; what is not ours stays in argv. */
static void load_flags(struct settings *s, int *argc, char **argv, struct buf *errors)
{
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        const struct row *row = NULL;
        struct str arg = str_of(argv[i]), name = str_split(&arg, '=');
        for (size_t j = 0; j < ROWS && !row; j++)
            if (rows[j].flag && str_eq(name, str_of(rows[j].flag)))
                row = &rows[j];
        if (!row) {
            argv[kept++] = argv[i];
            continue;
        }
        if (strchr(argv[i], '='))
            take(s, row, row->flag, arg, errors);
        else if (i + 1 < *argc)
            take(s, row, row->flag, str_of(argv[++i]), errors);
        else
            buf_printf(errors, "%s: a value is missing\n", row->flag);
    }
    *argc = kept;
}

/* Nobody has set LOG_LEVEL: RUST_LOG does, else the default. */
static void take_rust_log(struct settings *s, struct buf *errors)
{
    const struct row *row = row_by_variable(STR_LIT("LOG_LEVEL"));
    struct str name = str_of(s->rust_log[0] ? s->rust_log : row->initial);
    if (set_value(s, row, str_eq(name, STR_LIT("trace")) ? STR_LIT("debug") : name))
        return;
    buf_printf(errors, "RUST_LOG: \"%.*s\" is not allowed; allowed is trace or ",
               STR_FMT(str_make(name.p, MIN(name.len, (size_t)60))));
    put_range(errors, row);
    buf_putc(errors, '\n');
}

bool settings_load(struct settings *s, int *argc, char **argv, struct buf *reterrors)
{
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < ROWS; i++)
        WW_ASSERT(set_value(s, &rows[i], str_of(rows[i].initial)));
    s->log_level = LOG_LEVEL_UNSET;
    each_in_env_file(reterrors, take_from_env_file, &(struct env_file){s, reterrors});
    load_environment(s, reterrors);
    load_flags(s, argc, argv, reterrors);
    if (s->log_level == LOG_LEVEL_UNSET)
        take_rust_log(s, reterrors);
    return reterrors->len == 0;
}

void settings_done(struct settings *s)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].kind == KIND_TEXT || rows[i].kind == KIND_SECRET)
            freep(field(s, &rows[i]));
}

/* --- names that nobody knows -------------------------------------------------------------------- */
enum { NAME_MAX_BYTES = 64, NEAR_EDITS = 3 };

/* How many characters must be put in, taken out or replaced to make `b` of `a` (Levenshtein's distance). */
static size_t edits_between(struct str a, struct str b)
{
    size_t row[NAME_MAX_BYTES + 1];
    WW_ASSERT(b.len <= NAME_MAX_BYTES);
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t replaced = diagonal + (a.p[i - 1] != b.p[j - 1]);
            diagonal = row[j];
            row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[b.len];
}

static void put_unknown(void *ctx, struct str name, struct str value)
{
    struct buf *out = ctx;
    const char *nearest = NULL;
    size_t least = NEAR_EDITS + 1;
    (void)value;
    if (row_by_variable(name) || name.len > NAME_MAX_BYTES)
        return;
    for (size_t i = 0; i < ROWS; i++) {
        size_t edits = edits_between(name, str_of(rows[i].variable));
        if (edits < least) {
            least = edits;
            nearest = rows[i].variable;
        }
    }
    buf_printf(out, "\"%.*s\" is no setting", STR_FMT(name));
    if (nearest)
        buf_printf(out, "; is %s meant?", nearest);
    buf_putc(out, '\n');
}

void settings_put_unknown(struct buf *out)
{
    struct buf unread = buf_make(1024);
    each_in_env_file(&unread, put_unknown, out);
    buf_done(&unread);
}

/* --- what people read --------------------------------------------------------------------------- */
enum { HELP_INDENT = 21, HELP_COLUMNS = 100 };

/* The text behind the variable's name, broken between words. */
static void put_wrapped(struct buf *out, const char *text)
{
    size_t column = HELP_INDENT;
    for (struct str rest = str_of(text); rest.len;) {
        struct str word = str_split(&rest, ' ');
        if (column + word.len + 1 > HELP_COLUMNS) {
            buf_printf(out, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        }
        if (column > HELP_INDENT)
            buf_putc(out, ' ');
        buf_put_str(out, word);
        column += word.len + 1;
    }
    buf_putc(out, '\n');
}

void settings_put_help(struct buf *out)
{
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        struct buf range = buf_make(1024);
        if (row->flag)
            buf_printf(&range, "%s VALUE; ", row->flag);
        put_range(&range, row);
        if (row->initial[0])
            buf_printf(&range, "; default %s", row->initial);
        buf_printf(out, "  %-18s ", row->variable);
        if (strlen(row->variable) > HELP_INDENT - 3)
            buf_printf(out, "\n%*s", HELP_INDENT, "");
        put_wrapped(out, row->help);
        buf_printf(out, "%*s", HELP_INDENT, "");
        put_wrapped(out, buf_cstr(&range));
        buf_done(&range);
    }
}

void settings_put_env_example(struct buf *out)
{
    buf_puts(out,
             "# Settings of WasmWiz. Copy to .env and change what differs; every line shows the default.\n"
             "# Made by `wasmwiz settings env`.\n");
    for (size_t i = 0; i < ROWS; i++) {
        buf_printf(out, "\n# %s\n# Allowed: ", rows[i].help);
        put_range(out, &rows[i]);
        buf_printf(out, "\n#%s=%s\n", rows[i].variable, rows[i].initial);
    }
}

void settings_put_markdown(struct buf *out)
{
    buf_puts(out, "| variable | flag | default | allowed | what it is for |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < ROWS; i++) {
        buf_printf(out, "| `%s` | %s%s%s | %s | ", rows[i].variable, rows[i].flag ? "`" : "",
                   rows[i].flag ? rows[i].flag : "", rows[i].flag ? "`" : "", rows[i].initial);
        put_range(out, &rows[i]);
        buf_printf(out, " | %s |\n", rows[i].help);
    }
}

void settings_put_effective(struct buf *out, const struct settings *s)
{
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        buf_printf(out, "%-28s ", row->variable);
        if (row->kind == KIND_SECRET) {
            buf_puts(out, (*(char **)field(s, row))[0] ? "(set)" : "(not set)");
        } else if (row->kind == KIND_TEXT) {
            buf_puts(out, *(char **)field(s, row));
        } else if (row->kind == KIND_CHOICE) {
            struct str words = str_of(row->words), word = str_split(&words, ' ');
            for (unsigned n = *(unsigned *)field(s, row); n > 0; n--)
                word = str_split(&words, ' ');
            buf_put_str(out, word);
        } else {
            put_amount(out, row, *(uint64_t *)field(s, row));
        }
        buf_putc(out, '\n');
    }
}
