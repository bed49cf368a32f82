/* The settings: where they come from, what they may be, and what people are told about them. */
#include "../unit.h"

#include <errno.h>
#include <unistd.h>

#include "main/settings.h"

#define least_TEXT(x) 0
#define least_SECRET(x) 0
#define least_NUMBER(x) x
#define least_BYTES(x) x
#define least_DURATION(x) x
#define least_CHOICE(x) 0
enum kind { TEXT, SECRET, NUMBER, BYTES, DURATION, CHOICE };
static const struct {
    const char *variable, *flag, *initial, *help;
    enum kind kind;
    uint64_t least, most;
    size_t offset;
} rows[] = {
#define SETTING(field, kind, variable, flag, dflt, least, most, help) \
    {variable, flag, dflt, help, kind, least_##kind(least), most, offsetof(struct settings, field)},
#include "main/settings.def"
#undef SETTING
};

static char dir[64];
static struct settings s;
static struct buf errors;

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ww-settings-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    clearenv();
    errors = buf_make(64 * 1024);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    settings_done(&s);
    buf_done(&errors);
    unlink(".env");
    assert_int_equal(chdir("/"), 0);
    return rmdir(dir);
}

/* Loads with these flags (the last is NULL); how many of them are left. */
static int load(char **argv)
{
    int argc = 0;
    while (argv && argv[argc])
        argc++;
    settings_done(&s);
    buf_clear(&errors);
    bool good = settings_load(&s, &argc, argv, &errors);
    assert_int_equal(good, errors.len == 0);
    return argc;
}

static void put_env_file(const char *text)
{
    FILE *f = fopen(".env", "we");
    fputs(text, f);
    fclose(f);
}

static unsigned lines(const struct buf *b)
{
    unsigned count = 0;
    for (size_t i = 0; i < b->len; i++)
        count += b->p[i] == '\n';
    return count;
}

static void expect_no_errors(void)
{
    if (errors.len)
        fail_msg("%s", buf_cstr(&errors));
}

static void expect_complaint(const char *word)
{
    if (!strstr(buf_cstr(&errors), word))
        fail_msg("\"%s\" is not in: %s", word, buf_cstr(&errors));
}

/* --- sources ------------------------------------------------------------------------------------ */
static void test_defaults(void **state)
{
    (void)state;
    load(NULL);
    expect_no_errors();
    assert_int_equal(s.environment, ENVIRONMENT_PRODUCTION);
    assert_int_equal(s.isolation, ISOLATION_PROCESS);
    assert_int_equal(s.server_port, 8080);
    assert_string_equal(s.data_dir, "./wasmwiz-data");
    assert_string_equal(s.api_salt, "");
    assert_int_equal(s.max_wasm_size, 10 * MIB);
    assert_int_equal(s.memory_limit, 128 * MIB);
    assert_int_equal(s.execution_timeout, 5 * NS_PER_S);
    assert_int_equal(s.wasm_temp_ttl, 3600 * NS_PER_S);
}

static void test_precedence(void **state)
{
    (void)state;
    char one[] = "--port", two[] = "4000", *argv[] = {one, two, NULL};
    put_env_file("SERVER_PORT=2000\nDATA_DIR=/from/file\nLOG_LEVEL=warn\n");
    load(NULL);
    expect_no_errors();
    assert_int_equal(s.server_port, 2000);
    setenv("SERVER_PORT", "3000", 1);
    setenv("DATA_DIR", "/from/environment", 1);
    load(NULL);
    assert_int_equal(s.server_port, 3000);
    assert_string_equal(s.data_dir, "/from/environment");
    assert_int_equal(s.log_level, 2); /* still from the file */
    load(argv);
    assert_int_equal(s.server_port, 4000);
    assert_string_equal(s.data_dir, "/from/environment");
    setenv("DATA_DIR", "", 1); /* empty is as good as not there */
    load(NULL);
    assert_string_equal(s.data_dir, "/from/file");
}

static void test_flags(void **state)
{
    (void)state;
    char a[] = "--port=1", b[] = "file.wasm", c[] = "--data", d[] = "/x=y", e[] = "--unknown",
         f[] = "--host=", g[] = "--port", h[] = "2";
    char *argv[] = {a, b, c, d, e, f, g, h, NULL};
    assert_int_equal(load(argv), 2);
    expect_no_errors();
    assert_string_equal(argv[0], "file.wasm");
    assert_string_equal(argv[1], "--unknown");
    assert_int_equal(s.server_port, 2); /* the last one counts */
    assert_string_equal(s.data_dir, "/x=y");
    assert_string_equal(s.server_host, "");
    char i[] = "--port", *missing[] = {i, NULL};
    load(missing);
    expect_complaint("--port: a value is missing");
    char j[] = "--port=", *empty[] = {j, NULL};
    load(empty);
    expect_complaint("SERVER_PORT (--port)");
}

static void test_env_file(void **state)
{
    (void)state;
    put_env_file("# a comment\n"
                 "\n"
                 "   # another, SERVER_PORT=1\n"
                 "export SERVER_PORT = 2000 \r\n"
                 "DATA_DIR=\"/with spaces and = and #\"\n"
                 "SERVER_HOST='::1'\n"
                 "WASM_TEMP_DIR=\"half\n"
                 "SOMEBODY_ELSES=thing\n"
                 "no equals sign\n"
                 "=no name\n"
                 "server_port=9\n"
                 "\r\n"
                 "MAX_INPUT_SIZE=2MiB"); /* without a line's end */
    load(NULL);
    expect_no_errors();
    assert_int_equal(s.server_port, 2000);
    assert_string_equal(s.data_dir, "/with spaces and = and #");
    assert_string_equal(s.server_host, "::1");
    assert_string_equal(s.wasm_temp_dir, "\"half");
    assert_int_equal(s.max_input_size, 2 * MIB);
    put_env_file("SERVER_PORT=yes\n");
    load(NULL);
    expect_complaint("SERVER_PORT (in .env): \"yes\" is not allowed; allowed is 0 to 65535");
    put_env_file("");
    load(NULL);
    expect_no_errors();
}

static void test_rust_log(void **state)
{
    (void)state;
    static const char *const words[] = {"trace", "debug", "info", "warn", "error"};
    for (unsigned i = 0; i < LENGTH_OF(words); i++) {
        setenv("RUST_LOG", words[i], 1);
        load(NULL);
        expect_no_errors();
        assert_int_equal(s.log_level, i ? i - 1 : 0);
    }
    static const char *const bad[] = {"loud", "INFO", "wasmwiz=debug", "debug,hyper=info", "off"};
    for (unsigned i = 0; i < LENGTH_OF(bad); i++) {
        setenv("RUST_LOG", bad[i], 1);
        load(NULL);
        expect_complaint("RUST_LOG: ");
        expect_complaint(bad[i]);
        expect_complaint("allowed is trace or debug or info or warn or error");
        assert_int_equal(lines(&errors), 1);
    }
    put_env_file("LOG_LEVEL=warn\n"); /* then nobody asks RUST_LOG, whatever it says */
    load(NULL);
    expect_no_errors();
    assert_int_equal(s.log_level, 2);
    put_env_file("RUST_LOG=error\n");
    unsetenv("RUST_LOG");
    load(NULL);
    assert_int_equal(s.log_level, 3);
    char flag[] = "--log-level=debug", *argv[] = {flag, NULL};
    load(argv);
    assert_int_equal(s.log_level, 0);
    put_env_file("");
    load(NULL);
    assert_int_equal(s.log_level, 1);
}

/* What does not fit must not be left out in silence. */
static void test_env_file_that_is_too_large(void **state)
{
    (void)state;
    struct buf text = buf_make(MIB);
    while (text.len < 70000)
        buf_puts(&text, "# ----------------------------------------------------------------------\n");
    buf_puts(&text, "SERVER_PORT=2000\n");
    put_env_file(buf_cstr(&text));
    load(NULL);
    buf_done(&text);
    assert_true(s.server_port == 2000 || errors.len > 0);
}

/* --- values ------------------------------------------------------------------------------------- */
static void set_number(const char *variable, enum kind kind, uint64_t value)
{
    char text[32];
    bool seconds = kind == DURATION && value % NS_PER_S == 0; /* nanoseconds of years have too many digits */
    snprintf(text, sizeof text, "%llu%s", (unsigned long long)(seconds ? value / NS_PER_S : value),
             seconds            ? "s"
             : kind == DURATION ? "ns"
                                : "");
    setenv(variable, text, 1);
}

static void test_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        if (rows[i].kind != NUMBER && rows[i].kind != BYTES && rows[i].kind != DURATION)
            continue;
        const uint64_t *value = (const uint64_t *)(const void *)((const char *)&s + rows[i].offset);
        const uint64_t good[] = {rows[i].least, rows[i].most};
        for (size_t j = 0; j < LENGTH_OF(good); j++) {
            set_number(rows[i].variable, rows[i].kind, good[j]);
            load(NULL);
            expect_no_errors();
            assert_true(*value == good[j]);
        }
        const uint64_t bad[] = {rows[i].most + 1, UINT64_MAX / 2000, rows[i].least - 1};
        for (size_t j = 0; j < LENGTH_OF(bad); j++) {
            if (bad[j] >= rows[i].least && bad[j] <= rows[i].most)
                continue;
            if (j == 2 && rows[i].least == 0)
                continue;
            set_number(rows[i].variable, rows[i].kind, bad[j]);
            load(NULL);
            expect_complaint(rows[i].variable);
            assert_int_equal(lines(&errors), 1);
        }
        unsetenv(rows[i].variable);
    }
}

static void test_words_that_are_no_values(void **state)
{
    (void)state;
    static const char *const bad[] = {"x", "-1", "1.5.2", "0x10", " ", "1 2", "99999999999999999999999"};
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        if (rows[i].kind == TEXT || rows[i].kind == SECRET)
            continue;
        for (size_t j = 0; j < LENGTH_OF(bad); j++) {
            setenv(rows[i].variable, bad[j], 1);
            load(NULL);
            expect_complaint(rows[i].variable);
            expect_complaint("allowed is ");
        }
        unsetenv(rows[i].variable);
    }
    setenv("ENVIRONMENT", "Production", 1);
    load(NULL);
    expect_complaint("development or staging or production");
}

static void test_all_mistakes_at_once(void **state)
{
    (void)state;
    char a[] = "--loops=many", *argv[] = {a, NULL};
    put_env_file("LOG_LEVEL=loud\nQUEUE_MAX=0\n");
    setenv("SERVER_PORT", "65536", 1);
    load(argv);
    assert_int_equal(lines(&errors), 4);
    expect_complaint("LOG_LEVEL (in .env)");
    expect_complaint("QUEUE_MAX (in .env)");
    expect_complaint("SERVER_PORT (environment): \"65536\"");
    expect_complaint("LOOPS (--loops): \"many\"");
}

static void test_units(void **state)
{
    (void)state;
    setenv("MEMORY_LIMIT", "64MiB", 1);
    setenv("EXECUTION_TIMEOUT", "250ms", 1);
    setenv("DRAIN_TIMEOUT", "2m", 1);
    setenv("BODY_MIN_RATE", "1k", 1); /* a number, not a size */
    load(NULL);
    expect_complaint("BODY_MIN_RATE");
    assert_int_equal(lines(&errors), 1);
    assert_int_equal(s.memory_limit, 64 * MIB);
    assert_int_equal(s.execution_timeout, 250 * NS_PER_MS);
    assert_int_equal(s.drain_timeout, 120 * NS_PER_S);
}

/* --- what people read --------------------------------------------------------------------------- */
static void expect_every_variable(const struct buf *b)
{
    assert_false(b->overflow);
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        char name[80];
        snprintf(name, sizeof name, "%s", rows[i].variable);
        const char *at = strstr(b->p, name);
        if (!at)
            fail_msg("%s is not there", rows[i].variable);
    }
}

static void test_help(void **state)
{
    (void)state;
    struct buf b = buf_make(64 * 1024);
    settings_put_help(&b);
    buf_putc(&b, 0);
    expect_every_variable(&b);
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
        if (rows[i].flag)
            assert_non_null(strstr(b.p, rows[i].flag));
    for (const char *p = b.p, *end; (end = strchr(p, '\n')); p = end + 1)
        assert_in_range(end - p, 1, 110);
    buf_done(&b);
}

/* A table of five columns whatever is in the texts. */
static void test_markdown(void **state)
{
    (void)state;
    struct buf b = buf_make(64 * 1024);
    settings_put_markdown(&b);
    assert_int_equal(lines(&b), LENGTH_OF(rows) + 2);
    for (size_t i = 0, bars = 0; i < b.len; i++) {
        bars += b.p[i] == '|';
        if (b.p[i] == '\n') {
            assert_int_equal(bars, 6);
            bars = 0;
        }
    }
    buf_putc(&b, 0);
    expect_every_variable(&b);
    buf_done(&b);
}

/* The example, with every line in force, says what is so without it. */
static void test_env_example(void **state)
{
    (void)state;
    struct buf b = buf_make(64 * 1024), in_force = buf_make(64 * 1024);
    struct settings plain;
    settings_put_env_example(&b);
    buf_putc(&b, 0);
    expect_every_variable(&b);
    load(NULL);
    plain = s;
    memset(&s, 0, sizeof s);
    for (struct str rest = str_make(b.p, b.len - 1); rest.len;) {
        struct str line = str_split(&rest, '\n');
        if (line.len > 1 && line.p[0] == '#' && line.p[1] >= 'A' && line.p[1] <= 'Z') {
            buf_append(&in_force, line.p + 1, line.len - 1);
            buf_putc(&in_force, '\n');
        }
    }
    assert_int_equal(lines(&in_force), LENGTH_OF(rows));
    put_env_file(buf_cstr(&in_force));
    load(NULL);
    expect_no_errors();
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        const char *a = (const char *)&plain + rows[i].offset, *c = (const char *)&s + rows[i].offset;
        if (rows[i].kind == TEXT || rows[i].kind == SECRET)
            assert_string_equal(*(char *const *)(const void *)a, *(char *const *)(const void *)c);
        else
            assert_memory_equal(a, c, rows[i].kind == CHOICE ? sizeof(unsigned) : sizeof(uint64_t));
    }
    settings_done(&plain);
    buf_done(&b);
    buf_done(&in_force);
}

static void test_effective(void **state)
{
    (void)state;
    struct buf b = buf_make(64 * 1024);
    setenv("API_SALT", "do-not-show-this-to-anybody", 1);
    setenv("EXECUTION_TIMEOUT", "1500ms", 1);
    setenv("MEMORY_LIMIT", "64MiB", 1);
    setenv("LOG_LEVEL", "error", 1);
    load(NULL);
    settings_put_effective(&b, &s);
    buf_putc(&b, 0);
    expect_every_variable(&b);
    assert_int_equal(lines(&b), LENGTH_OF(rows));
    assert_null(strstr(b.p, "do-not-show"));
    assert_non_null(strstr(b.p, "(set)"));
    assert_non_null(strstr(b.p, " 1500ms\n"));
    assert_non_null(strstr(b.p, " 64MiB\n"));
    assert_non_null(strstr(b.p, " error\n"));
    buf_done(&b);
}

/* A secret that is wrong is not shown, either. */
static void test_secrets_are_not_shown(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
        if (rows[i].kind == SECRET)
            setenv(rows[i].variable, "do-not-show-this", 1);
    setenv("SERVER_PORT", "x", 1);
    load(NULL);
    assert_null(strstr(buf_cstr(&errors), "do-not-show"));
}

int main(void)
{
#define SETTINGS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        SETTINGS_TEST(test_defaults),
        SETTINGS_TEST(test_precedence),
        SETTINGS_TEST(test_flags),
        SETTINGS_TEST(test_env_file),
        SETTINGS_TEST(test_rust_log),
        SETTINGS_TEST(test_env_file_that_is_too_large),
        SETTINGS_TEST(test_ranges),
        SETTINGS_TEST(test_words_that_are_no_values),
        SETTINGS_TEST(test_all_mistakes_at_once),
        SETTINGS_TEST(test_units),
        SETTINGS_TEST(test_help),
        SETTINGS_TEST(test_markdown),
        SETTINGS_TEST(test_env_example),
        SETTINGS_TEST(test_effective),
        SETTINGS_TEST(test_secrets_are_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
