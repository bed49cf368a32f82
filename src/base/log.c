#include "base/log.h"

#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log_file.h"

static enum log_level least_level = LOG_LEVEL_INFO;
static bool as_json;
static _Atomic(log_follow_fn *) follower;

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

const char *log_level_name(enum log_level level)
{
    return names[level];
}

void log_follow(log_follow_fn *fn)
{
    atomic_store(&follower, fn);
}

static void put_value(struct buf *line, const struct log_field *f)
{
    switch (f->kind) {
    case LOG_KIND_STR: json_put_string(line, f->str); break;
    case LOG_KIND_U64: buf_put_u64(line, f->u64); break;
    case LOG_KIND_I64: buf_printf(line, "%lld", (long long)f->u64); break;
    }
}

/* One line without its end. What does not fit is left out, a field as a whole. */
static struct str put_line(char text[static LOG_LINE_MAX_BYTES], bool json, const char *time,
                           enum log_level level, const char *event, const struct log_field *fields,
                           size_t count)
{
    struct buf line = {.p = text, .capacity = LOG_LINE_MAX_BYTES, .max = LOG_LINE_MAX_BYTES - 2};
    if (json)
        buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", time, names[level], event);
    else
        buf_printf(&line, "%s %-5s %s", time, names[level], event);
    size_t whole = line.len;
    for (size_t i = 0; i < count; i++) {
        buf_puts(&line, json ? ",\"" : " ");
        buf_puts(&line, fields[i].key);
        buf_puts(&line, json ? "\":" : "=");
        put_value(&line, &fields[i]);
        if (line.overflow)
            break;
        whole = line.len;
    }
    if (json)
        text[whole++] = '}';
    return str_make(text, whole);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    char text[LOG_LINE_MAX_BYTES], time[32];
    clock_format(clock_wall_ns(), time);
    struct str line = put_line(text, as_json, time, level, event, fields, count);
    text[line.len] = '\n';
    ssize_t written = write(STDERR_FILENO, text, line.len + 1);
    (void)written; /* nobody is left to tell */
    log_file_write(str_make(text, line.len + 1));
    log_follow_fn *follow = atomic_load_explicit(&follower, memory_order_acquire);
    if (follow)
        follow(level, as_json ? line : put_line(text, true, time, level, event, fields, count));
}
