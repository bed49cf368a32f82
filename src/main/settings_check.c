/* What no single value tells: settings that contradict each other, folders and files that can't be used. */
#include <errno.h>
#include <unistd.h>

#include "auth/auth.h"
#include "base/log.h"
#include "base/log_file.h"
#include "http/server.h"
#include "kv/kv.h"
#include "main/parts.h"
#include "trace/export.h"

#define FRONT_MEMORY_LEAST (64 * MIB)

void settings_check_salt(const struct settings *s, struct buf *errors)
{
    size_t len = strlen(s->api_salt);
    if (len && len < AUTH_SALT_MIN_BYTES)
        buf_printf(errors, "API_SALT: it has %zu characters; at least %d are needed\n", len,
                   AUTH_SALT_MIN_BYTES);
    if (!len && s->environment != ENVIRONMENT_DEVELOPMENT)
        buf_printf(errors,
                   "API_SALT: it is required unless ENVIRONMENT is development; set it to at least %d random "
                   "characters\n",
                   AUTH_SALT_MIN_BYTES);
}

static void check_database(const struct settings *s, struct buf *errors)
{
    char path[PARTS_PATH_BYTES];
    struct err_info err = {0};
    const struct store_config store = parts_store_config(s, path);
    if (s->database_pool_min > s->database_pool_max)
        buf_printf(errors, "DATABASE_POOL_MIN: %llu is more than DATABASE_POOL_MAX, which is %llu\n",
                   (unsigned long long)s->database_pool_min, (unsigned long long)s->database_pool_max);
    if (store_check_url(store.url, &err))
        buf_printf(errors, "%s\n", err_text(&err));
    if (s->database_replica_url[0] && store_check_replica_url(store.url, store.replica_url, &err))
        buf_printf(errors, "%s\n", err_text(&err));
}

/* Each of the files, separated by commas. */
static void check_files(const char *variable, const char *paths, struct buf *errors)
{
    struct str rest = str_of(paths);
    while (rest.len) {
        struct str path = str_trim(str_split(&rest, ','));
        CLEANUP(freep) char *copy = xstrndup(path.p, path.len);
        if (access(copy, R_OK) < 0)
            buf_printf(errors, "%s: %s can't be read: %s\n", variable, copy, strerror(errno));
    }
}

static void check_tls(const struct settings *s, struct buf *errors)
{
    bool tls = s->tls_cert[0] != 0;
    if (tls != (s->tls_key[0] != 0))
        buf_printf(errors, "%s: it is missing; TLS_CERT and TLS_KEY go together\n",
                   tls ? "TLS_KEY" : "TLS_CERT");
    if (!tls && s->tls_client_auth != CLIENT_AUTH_OFF)
        buf_puts(errors, "TLS_CLIENT_AUTH: it needs TLS_CERT\n");
    if (!tls && s->redirect_port)
        buf_puts(errors, "REDIRECT_PORT: it needs TLS_CERT: there is no https:// to lead to\n");
    if (s->redirect_port && s->redirect_port == s->server_port)
        buf_puts(errors, "REDIRECT_PORT: it can't be SERVER_PORT, too\n");
    if (s->tls_client_auth != CLIENT_AUTH_OFF && !s->tls_client_ca[0])
        buf_puts(errors, "TLS_CLIENT_AUTH: it needs TLS_CLIENT_CA, which says who may sign\n");
    check_files("TLS_CERT", s->tls_cert, errors);
    check_files("TLS_KEY", s->tls_key, errors);
    check_files("TLS_CLIENT_CA", s->tls_client_ca, errors);
}

/* The folder, or the nearest above it that exists already, must take new files. */
static void check_folder(const char *variable, const char *path, struct buf *errors)
{
    CLEANUP(freep) char *at = xstrdup(path);
    while (access(at, F_OK) < 0 && errno == ENOENT) {
        char *slash = strrchr(at, '/');
        if (!slash || slash == at) {
            snprintf(at, strlen(at) + 1, "%s", slash ? "/" : ".");
            break;
        }
        *slash = 0;
    }
    if (access(at, W_OK | X_OK) < 0)
        buf_printf(errors, "%s: the folder %s can't be written: %s\n", variable, at, strerror(errno));
}

static void check_folders(const struct settings *s, struct buf *errors)
{
    check_folder("DATA_DIR", s->data_dir, errors);
    if (s->wasm_temp_dir[0])
        check_folder("WASM_TEMP_DIR", s->wasm_temp_dir, errors);
    CLEANUP(freep) char *log_dir = settings_log_dir(s);
    if (log_dir && access(log_dir, W_OK | X_OK) < 0)
        buf_printf(errors, "LOG_FILE: the folder %s can't be written: %s\n", log_dir, strerror(errno));
}

static void check_memory(const struct settings *s, struct buf *errors)
{
    if (s->guest_memory && s->memory_limit > s->guest_memory)
        buf_puts(errors, "MEMORY_LIMIT: one run may not have more than GUEST_MEMORY, which all runs share\n");
    if (s->front_memory && s->front_memory < FRONT_MEMORY_LEAST)
        buf_puts(errors, "FRONT_MEMORY: the server can't work with less than 64MiB; 0 is no limit\n");
    if (s->front_memory && s->isolation == ISOLATION_INLINE)
        buf_puts(errors, "FRONT_MEMORY: with ISOLATION=inline guests live in the same process; use "
                         "GUEST_MEMORY, or ISOLATION=process\n");
}

static void check_text_forms(const struct settings *s, struct buf *errors)
{
    struct http_proxies *proxies = NULL;
    struct err_info err = {0};
    const struct trace_config trace = settings_trace_config(s);
    if (s->server_host[0] && !http_host_fits(s->server_host))
        buf_printf(errors, "SERVER_HOST: \"%s\" is no address and can't be a name\n", s->server_host);
    if (kv_check_url(str_of(s->redis_url), &err))
        buf_printf(errors, "%s\n", err_text(&err));
    if (http_proxies_parse(str_of(s->trusted_proxies), &proxies, &err))
        buf_printf(errors, "TRUSTED_PROXIES: %s\n", err_text(&err));
    http_proxies_free(proxies);
    if (s->otlp_endpoint[0] && trace_config_check(&trace, &err))
        buf_printf(errors, "%s\n", err_text(&err));
}

void settings_check(const struct settings *s, struct buf *errors)
{
    settings_check_salt(s, errors);
    check_database(s, errors);
    check_tls(s, errors);
    check_folders(s, errors);
    check_memory(s, errors);
    check_text_forms(s, errors);
}

char *settings_log_dir(const struct settings *s)
{
    const char *slash = strrchr(s->log_file, '/');
    if (!s->log_file[0])
        return NULL;
    if (!slash)
        return xstrdup(".");
    return xstrndup(s->log_file, MAX((size_t)(slash - s->log_file), (size_t)1));
}

struct trace_config settings_trace_config(const struct settings *s)
{
    return (struct trace_config){.endpoint = str_of(s->otlp_endpoint),
                                 .headers = str_of(s->otlp_headers),
                                 .service = str_of(s->otlp_service),
                                 .ratio = str_of(s->otlp_ratio)};
}

enum err settings_start_log(const struct settings *s, struct err_info *reterr)
{
    bool json = s->log_format == LOG_FORMAT_AUTO ? s->environment != ENVIRONMENT_DEVELOPMENT
                                                 : s->log_format == LOG_FORMAT_JSON;
    log_setup((enum log_level)s->log_level, json);
    return s->log_file[0] ? log_file_open(&(struct log_file_config){s->log_file, s->log_file_size,
                                                                    (uint32_t)s->log_file_keep},
                                          reterr)
                          : OK;
}
