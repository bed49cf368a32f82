#include "base/log.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log_file.h"

enum { LINE_MAX_BYTES = 4096 };

static enum log_level least_level = LOG_LEVEL_INFO;
static bool as_json;

static const char *const names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level least, bool json)
{
    least_level = least;
    as_json = json;
}

bool log_is_on(enum log_level level)
{
    return level >= least_level;
}

static void put_value(struct buf *line, const struct log_field *f)
{
    switch (f->kind) {
    case LOG_KIND_STR: json_put_string(line, f->str); break;
    case LOG_KIND_U64: buf_put_u64(line, f->u64); break;
    case LOG_KIND_I64: buf_printf(line, "%lld", (long long)f->u64); break;
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    char text[LINE_MAX_BYTES], time[32];
    struct buf line = {.p = text, .capacity = sizeof text, .max = sizeof text - 2};
    clock_format(clock_wall_ns(), time);
    if (as_json)
        buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", time, names[level], event);
    else
        buf_printf(&line, "%s %-5s %s", time, names[level], event);
    size_t whole = line.len;
    for (size_t i = 0; i < count; i++) {
        buf_puts(&line, as_json ? ",\"" : " ");
        buf_puts(&line, fields[i].key);
        buf_puts(&line, as_json ? "\":" : "=");
        put_value(&line, &fields[i]);
        if (line.overflow)
            break;
        whole = line.len;
    }
    line.len = whole; /* a field that does not fit is left out whole */
    if (as_json)
        text[line.len++] = '}';
    text[line.len++] = '\n';
    ssize_t written = write(STDERR_FILENO, text, line.len);
    (void)written; /* nobody is left to tell */
    log_file_write(str_make(text, line.len));
}
