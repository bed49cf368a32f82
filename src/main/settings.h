/* Settings: one table (main/settings.def), filled from flags, the environment, a file .env and the defaults, in that
 * order of precedence. All that is wrong is reported at once, naming the variable and what is allowed. */
#ifndef WW_MAIN_SETTINGS_H
#define WW_MAIN_SETTINGS_H

#include "base/buf.h"
#include "base/err.h"
#include "trace/export.h"

typedef char *setting_TEXT;
typedef char *setting_SECRET;
typedef uint64_t setting_NUMBER; /* as written */
typedef uint64_t setting_BYTES;
typedef uint64_t setting_DURATION; /* nanoseconds */
typedef unsigned setting_CHOICE;   /* place among the words */

struct settings {
#define SETTING(field, kind, variable, flag, dflt, least, most, help) setting_##kind field;
#include "main/settings.def"
#undef SETTING
};

enum { ENVIRONMENT_DEVELOPMENT, ENVIRONMENT_STAGING, ENVIRONMENT_PRODUCTION };
enum { ISOLATION_PROCESS, ISOLATION_INLINE };
enum { LOG_FORMAT_AUTO, LOG_FORMAT_JSON, LOG_FORMAT_TEXT };
enum { METRICS_OPEN, METRICS_OPERATOR };
enum { RATE_LIMITS_ON, RATE_LIMITS_OFF };
enum { USAGE_ON, USAGE_OFF };
enum { REGISTRATION_AUTO, REGISTRATION_OPEN, REGISTRATION_CLOSED };
enum { WEBHOOKS_PRIVATE_AUTO, WEBHOOKS_PRIVATE_ON, WEBHOOKS_PRIVATE_OFF };
enum { JWT_SUBJECT_ID, JWT_SUBJECT_EMAIL, JWT_SUBJECT_EMAIL_CLAIM };
enum { CLIENT_AUTH_OFF, CLIENT_AUTH_OPTIONAL, CLIENT_AUTH_REQUIRED };

/* Reads all sources. `argc`/`argv` without the program and the subcommand; flags that are not settings are left in
 * argv, *argc counts them. False: *reterrors holds a line for each mistake. settings_done() in either case. */
bool settings_load(struct settings *s, int *argc, char **argv, struct buf *reterrors);
void settings_done(struct settings *s);
/* Appends a line for each mistake that is not in one value but between them: what belongs together, what a server can't start
 * with. Looks at folders, and changes nothing. */
void settings_check(const struct settings *s, struct buf *errors);
/* The part of it about API_SALT alone: for whoever makes what only a server with the same salt will know. */
void settings_check_salt(const struct settings *s, struct buf *errors);
/* Lent by `s`. */
struct trace_config settings_trace_config(const struct settings *s);
/* The folder of LOG_FILE, malloc'ed; NULL where it is not set. */
char *settings_log_dir(const struct settings *s);
/* Appends a line for each name in .env that is no setting of ours, with the nearest that is. */
void settings_put_unknown(struct buf *out);

/* The log as the settings want it: its level, form and file. Before threads start; ERR_DISK_FAULT names the file. */
MUST_CHECK enum err settings_start_log(const struct settings *s, struct err_info *reterr);

/* Appends the table for --help: flags, variables, defaults, ranges. */
void settings_put_help(struct buf *out);
/* Appends a commented .env.example. */
void settings_put_env_example(struct buf *out);
/* Appends a Markdown table for the docs. */
void settings_put_markdown(struct buf *out);
/* Appends a line for each variable with its value as it is in effect, secrets hidden. */
void settings_put_effective(struct buf *out, const struct settings *s);

#endif
