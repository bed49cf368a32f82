#include "main/parts.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COMPILE_CPU_FACTOR = 4, CODE_BYTES_FACTOR = 32, SLOTS_SPARE = 64 };

uint32_t parts_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    return (uint32_t)MAX(CPU_COUNT(&set), 1);
}

static uint64_t half_of_memory(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

struct exec_config parts_exec_config(const struct settings *s)
{
    uint32_t sandboxes = s->sandboxes ? (uint32_t)s->sandboxes : parts_cores();
    uint64_t memory = s->guest_memory ? s->guest_memory : half_of_memory();
    return (struct exec_config){
        .isolation = s->isolation == ISOLATION_INLINE ? EXEC_INLINE : EXEC_PROCESS,
        .sandboxes = sandboxes,
        .concurrent_max = (uint32_t)s->max_concurrent,
        .queue_max = (uint32_t)s->queue_max,
        .queue_timeout_ns = s->queue_timeout,
        .sandbox = {.engine = {.pool = true,
                               .slots = (uint32_t)s->max_concurrent + SLOTS_SPARE,
                               .memory_max_bytes = s->memory_limit},
                    .pool_max_bytes = memory / sandboxes,
                    .modules_max = (uint32_t)s->modules_max},
    };
}

struct modules_config parts_modules_config(const struct settings *s)
{
    struct modules_config config = {
        .temp_ttl_ns = s->wasm_temp_ttl,
        .cache_bytes_max = s->cache_size,
        .modules_max = (uint32_t)s->modules_max,
        .precheck = precheck_limits_default(s->memory_limit),
        .compiler = {.wall_ns = s->compile_timeout,
                     .address_space_bytes = s->compile_memory,
                     .cpu_seconds = (s->compile_timeout / NS_PER_S + 1) * COMPILE_CPU_FACTOR,
                     .code_bytes_max = s->max_wasm_size * CODE_BYTES_FACTOR,
                     .memory_max_bytes = s->memory_limit,
                     .processes_max = s->compilers ? (uint32_t)s->compilers : parts_cores(),
                     .queue_max = (uint32_t)s->queue_max,
                     .keep_spare = true},
    };
    config.precheck.module_bytes = s->max_wasm_size;
    config.precheck.tables = ENGINE_TABLES_MAX;
    config.precheck.table_elements = ENGINE_TABLE_ELEMENTS_MAX;
    config.precheck.memories = ENGINE_MEMORIES_MAX;
    return config;
}

void parts_raise_limits(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN);
    setenv("UV_THREADPOOL_SIZE", "16", false);
}

/* The soft limit only: the walls of sandboxes and compilers replace it. */
enum err parts_limit_memory(const struct settings *s, struct err_info *reterr)
{
    struct rlimit data;
    if (!s->front_memory)
        return OK;
    if (getrlimit(RLIMIT_DATA, &data) == 0) {
        data.rlim_cur = MIN(s->front_memory, data.rlim_max);
        if (setrlimit(RLIMIT_DATA, &data) == 0)
            return OK;
    }
    return err_set(reterr, ERR_INTERNAL, "FRONT_MEMORY could not be set: %s", strerror(errno));
}

struct store_config parts_store_config(const struct settings *s, char path[static PARTS_PATH_BYTES])
{
    snprintf(path, PARTS_PATH_BYTES, "sqlite:%s/wasmwiz.db", s->data_dir);
    return (struct store_config){
        .url = s->database_url[0] ? s->database_url : path,
        .replica_url = s->database_replica_url,
        .pool_min = (uint32_t)s->database_pool_min,
        .pool_max = (uint32_t)s->database_pool_max,
        .timeout_ns = s->database_timeout,
        .lifetime_ns = s->database_lifetime,
    };
}

enum err parts_make_folder(const char *path, struct err_info *reterr)
{
    CLEANUP(freep) char *copy = xstrdup(path);
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p)
            continue;
        char end = *p;
        *p = 0;
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
            return err_set(reterr, ERR_DISK_FAULT, "the folder %s could not be made: %s", copy,
                           strerror(errno));
        *p = end;
        if (!end)
            break;
    }
    if (access(path, W_OK | X_OK) < 0)
        return err_set(reterr, ERR_DISK_FAULT, "the folder %s can't be written: %s", path, strerror(errno));
    return OK;
}
