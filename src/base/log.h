/* The log: one line an event, on stderr and, where set, in a file (base/log_file.h). Readable in
 * development, JSON in production. Only the layer that decides what becomes of an error logs it.
 *
 *     LOG_INFO("listening", LOG_STR("address", address), LOG_U64("port", port));
 */
#ifndef WW_BASE_LOG_H
#define WW_BASE_LOG_H

#include "base/err.h"
#include "base/str.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum { LOG_LEVEL_COUNT = LOG_LEVEL_ERROR + 1, LOG_LINE_MAX_BYTES = 4096 };

struct log_field {
    const char *key;
    enum { LOG_KIND_STR, LOG_KIND_U64, LOG_KIND_I64 } kind;
    struct str str;
    uint64_t u64;
};

#define LOG_STR(k, s) ((struct log_field){.key = (k), .kind = LOG_KIND_STR, .str = (s)})
#define LOG_CSTR(k, s) ((struct log_field){.key = (k), .kind = LOG_KIND_STR, .str = str_of(s)})
#define LOG_U64(k, n) ((struct log_field){.key = (k), .kind = LOG_KIND_U64, .u64 = (n)})
#define LOG_I64(k, n) ((struct log_field){.key = (k), .kind = LOG_KIND_I64, .u64 = (uint64_t)(n)})

/* Chooses the least level and the form; call before threads start. */
void log_setup(enum log_level least, bool json);
bool log_is_on(enum log_level level);
/* "info" */
const char *log_level_name(enum log_level level);
/* Writes one line with one write(2) to stderr, and one to the file; values are escaped, so no line can be
 * forged. A line is cut at 4 KiB. Any thread. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count);

/* From now on `fn` is called with each line, as JSON whatever form the log has, without the newline. On the thread that
 * writes it: it may neither wait nor log, and may still be called for a moment after it was replaced. NULL: nobody
 * follows, which costs one load a line. */
typedef void log_follow_fn(enum log_level level, struct str line);
void log_follow(log_follow_fn *fn);

#define LOG_AT(level, event, ...)                                                                \
    (log_is_on(level)                                                                            \
         ? log_write((level), (event), (const struct log_field[]){__VA_ARGS__},                  \
                     sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field)) \
         : (void)0)
#define LOG_DEBUG(event, ...) LOG_AT(LOG_LEVEL_DEBUG, event, __VA_ARGS__)
#define LOG_INFO(event, ...) LOG_AT(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define LOG_WARN(event, ...) LOG_AT(LOG_LEVEL_WARN, event, __VA_ARGS__)
#define LOG_ERROR(event, ...) LOG_AT(LOG_LEVEL_ERROR, event, __VA_ARGS__)

#endif
