#include "module/module.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "module/files.h"
#include "module/known_imports.h"
#include "module/seal.h"
#include "sandbox/engine.h"

enum {
    REFUSED_REMEMBERED_NS = 60LL * 1000 * 1000 * 1000, /* a bad module is not compiled again this soon */
    SWEEP_MS = 1000,
    BUCKETS = 4096,
};

enum entry_state { ENTRY_LOADING, ENTRY_READY, ENTRY_REFUSED };

/* One module that is known or on its way; by (hash, fuel). */
struct entry {
    struct entry *chain;
    struct list lru; /* READY and REFUSED, the least recently used first */
    struct modules *modules;
    unsigned char sha[MODULE_SHA_BYTES];
    bool fuel;
    enum entry_state state;
    struct module *module;
    struct err_info refusal;
    uint64_t refused_ns;
    struct list waits;
    /* While LOADING. */
    char *wasm;
    size_t wasm_len;
    uv_work_t work;
    struct loop_post post;
    struct compile_job job;
    struct precheck_facts facts;
    struct spool_file *spooled;
    int wasm_fd;
    int code_fd;
    enum module_source source;
    enum err err;
    struct err_info info;
};

struct modules {
    struct modules_config config;
    struct loop *loop;
    struct compiler *compiler;
    uv_mutex_t mutex; /* guards all below, and the fields of entries that are not LOADING */
    struct entry *buckets[BUCKETS];
    struct list lru;
    uint32_t count; /* in the list */
    uint64_t next_id;
    struct modules_stats stats;
    struct list spool; /* oldest first */
    uv_timer_t sweep;
    bool stopping;
};

const char *module_source_name(enum module_source source)
{
    static const char *const names[] = {"memory", "disk", "compiled"};
    return names[source];
}

void module_unref(struct module *m)
{
    if (m && atomic_fetch_sub(&m->refs, 1) == 1) {
        closep(&m->code_fd);
        free(m);
    }
}

/* --- the table; the mutex is held --------------------------------------------------------------- */
static struct entry **find(struct modules *ms, const unsigned char *sha, bool fuel)
{
    uint32_t at;
    memcpy(&at, sha, sizeof at);
    struct entry **e = &ms->buckets[at % BUCKETS];
    while (*e && ((*e)->fuel != fuel || memcmp((*e)->sha, sha, MODULE_SHA_BYTES) != 0))
        e = &(*e)->chain;
    return e;
}

static void forget(struct modules *ms, struct entry *e)
{
    struct entry **place = find(ms, e->sha, e->fuel);
    WW_ASSERT(*place == e && e->state != ENTRY_LOADING);
    *place = e->chain;
    list_remove(&e->lru);
    ms->count--;
    module_unref(e->module);
    free(e);
}

static bool is_worth_remembering(enum err e)
{
    return e == ERR_NOT_WASM || e == ERR_MODULE_INVALID || e == ERR_MODULE_REJECTED ||
           e == ERR_COMPILE_LIMIT || e == ERR_MODULE_TOO_LARGE;
}

static void fill_wait(struct modules *ms, struct entry *e, struct module_wait *w, enum module_source source)
{
    w->err = e->state == ENTRY_READY ? OK : e->refusal.code;
    w->info = e->refusal;
    w->module = NULL;
    w->source = source;
    if (e->state == ENTRY_READY) {
        w->module = e->module;
        atomic_fetch_add(&w->module->refs, 1);
    } else {
        ms->stats.refused += is_worth_remembering(e->refusal.code);
    }
}

/* --- the end of loading ------------------------------------------------------------------------- */
static void deliver(struct loop_post *post)
{
    struct module_wait *w = CONTAINER_OF(post, struct module_wait, post);
    w->ready(w);
}

static struct module *publish(struct modules *ms, struct entry *e)
{
    struct module *m = xcalloc(1, sizeof *m);
    atomic_store(&m->refs, 1);
    m->id = ++ms->next_id;
    memcpy(m->sha, e->sha, sizeof m->sha);
    m->fuel = e->fuel;
    m->code_fd = e->code_fd;
    e->code_fd = -1;
    m->wasm_bytes = e->wasm_len;
    m->compile_ns = e->source == MODULE_COMPILED ? e->job.took_ns : 0;
    m->facts = e->facts;
    return m;
}

/* Tells all who wait, and keeps the entry or not. On the modules' loop. */
static void finish_loading(struct entry *e)
{
    struct modules *ms = e->modules;
    char *wasm = TAKE(e->wasm);
    closep(&e->wasm_fd);
    if (e->err)
        closep(&e->code_fd);
    uv_mutex_lock(&ms->mutex);
    if (!e->err)
        e->module = publish(ms, e);
    if (e->spooled) {
        e->spooled->remove_ns = clock_now_ns() + ms->config.temp_ttl_ns;
        list_push_back(&ms->spool, &TAKE(e->spooled)->link);
    }
    e->state = e->err ? ENTRY_REFUSED : ENTRY_READY;
    e->refusal = e->info;
    e->refused_ns = clock_now_ns();
    if (!e->err && e->source == MODULE_COMPILED) {
        ms->stats.compiled++;
        ms->stats.compile_ns += e->job.took_ns;
    }
    for (struct list *link; (link = list_pop_front(&e->waits));) {
        struct module_wait *w = LIST_ENTRY(link, struct module_wait, link);
        fill_wait(ms, e, w, e->source);
        loop_post(w->loop, &w->post, deliver);
    }
    list_push_back(&ms->lru, &e->lru);
    ms->count++;
    if (e->err && !is_worth_remembering(e->err))
        forget(ms, e);
    while (ms->count > ms->config.modules_max)
        forget(ms, LIST_ENTRY(ms->lru.next, struct entry, lru));
    uv_mutex_unlock(&ms->mutex);
    free(wasm); /* last: unmapping megabytes takes longer than the rest */
}

/* --- sealing what was compiled: on the pool ----------------------------------------------------- */
static int reopen_read_only(int fd)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return open(self, O_RDONLY | O_CLOEXEC);
}

static void work_seal(uv_work_t *work)
{
    struct entry *e = CONTAINER_OF(work, struct entry, work);
    struct modules *ms = e->modules;
    const char *dir = ms->config.cache_dir;
    if (dir) {
        char path[4400];
        struct err_info why = {0};
        struct stat st = {0};
        cache_path(dir, e->sha, engine_fingerprint(e->fuel), path, sizeof path);
        /* A cache that can't be written costs time, not the run. */
        if (seal_put(e->code_fd, ms->config.seal_key, e->sha, engine_fingerprint(e->fuel), e->wasm_len,
                     &e->facts, &why) ||
            cache_publish(e->code_fd, path, &why)) {
            LOG_WARN("compiled code not kept", LOG_CSTR("reason", err_text(&why)));
        } else if (fstat(e->code_fd, &st) == 0) {
            uv_mutex_lock(&ms->mutex);
            ms->stats.cache_bytes += (uint64_t)st.st_size;
            bool full = ms->stats.cache_bytes > ms->config.cache_bytes_max;
            uv_mutex_unlock(&ms->mutex);
            uint64_t left = full ? cache_trim(dir, ms->config.cache_bytes_max) : 0;
            if (full) {
                uv_mutex_lock(&ms->mutex);
                ms->stats.cache_bytes = left;
                uv_mutex_unlock(&ms->mutex);
            }
        }
    }
    int fd = reopen_read_only(e->code_fd);
    closep(&e->code_fd);
    e->code_fd = fd;
    if (fd < 0)
        e->err =
            err_set(&e->info, ERR_DISK_FAULT, "compiled code could not be opened again: %s", strerror(errno));
}

static void after_seal(uv_work_t *work, int status)
{
    struct entry *e = CONTAINER_OF(work, struct entry, work);
    (void)status;
    finish_loading(e);
}

/* --- compiling: on the modules' loop ------------------------------------------------------------ */
static void on_compiled(struct compile_job *job)
{
    struct entry *e = CONTAINER_OF(job, struct entry, job);
    e->err = job->err;
    e->info = job->info;
    e->source = MODULE_COMPILED;
    if (e->err || e->modules->stopping ||
        uv_queue_work(&e->modules->loop->uv, &e->work, work_seal, after_seal)) {
        finish_loading(e);
    }
}

/* --- looking on disk and checking: on the pool -------------------------------------------------- */
static bool find_on_disk(struct entry *e)
{
    struct modules *ms = e->modules;
    char path[4400];
    struct seal seal;
    if (!ms->config.cache_dir)
        return false;
    cache_path(ms->config.cache_dir, e->sha, engine_fingerprint(e->fuel), path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    if (!seal_check(fd, ms->config.seal_key, e->sha, engine_fingerprint(e->fuel), &seal)) {
        LOG_WARN("cached code refused: its seal is not right", LOG_CSTR("file", path));
        unlink(path);
        close(fd);
        return false;
    }
    futimens(fd, NULL); /* its use, for the oldest-first removal */
    e->facts = seal.facts;
    e->code_fd = fd;
    e->source = MODULE_FROM_DISK;
    return true;
}

static void work_find(uv_work_t *work)
{
    struct entry *e = CONTAINER_OF(work, struct entry, work);
    struct modules *ms = e->modules;
    struct str wasm = str_make(e->wasm, e->wasm_len);
    if (find_on_disk(e))
        return;
    e->err = module_precheck(wasm, &ms->config.precheck, module_import_is_known, &e->facts, &e->info);
    if (!e->err)
        e->err = spool_put(ms->config.temp_dir, wasm, &e->wasm_fd, &e->spooled, &e->info);
    if (!e->err && (e->code_fd = cache_open_new(ms->config.cache_dir)) < 0)
        e->err =
            err_set(&e->info, ERR_DISK_FAULT, "no file for compiled code could be made: %s", strerror(errno));
}

static void after_find(uv_work_t *work, int status)
{
    struct entry *e = CONTAINER_OF(work, struct entry, work);
    struct modules *ms = e->modules;
    (void)status;
    if (e->err || e->source == MODULE_FROM_DISK) {
        if (!e->err) {
            uv_mutex_lock(&ms->mutex);
            ms->stats.hits_disk++;
            uv_mutex_unlock(&ms->mutex);
        }
        finish_loading(e);
        return;
    }
    free(TAKE(e->wasm)); /* the compiler reads the file */
    e->job = (struct compile_job){
        .wasm_fd = e->wasm_fd, .code_fd = e->code_fd, .fuel = e->fuel, .done = on_compiled};
    compiler_submit(ms->compiler, &e->job);
}

static void begin_loading(struct loop_post *post)
{
    struct entry *e = CONTAINER_OF(post, struct entry, post);
    if (e->modules->stopping || uv_queue_work(&e->modules->loop->uv, &e->work, work_find, after_find)) {
        e->err = err_set(&e->info, ERR_SHUTTING_DOWN, "the server is shutting down");
        finish_loading(e);
    }
}

/* --- the border --------------------------------------------------------------------------------- */
bool modules_get(struct modules *ms, const unsigned char sha[static MODULE_SHA_BYTES], bool fuel, char **wasm,
                 size_t wasm_len, struct module_wait *w)
{
    list_init(&w->link);
    uv_mutex_lock(&ms->mutex);
    struct entry **place = find(ms, sha, fuel), *e = *place;
    if (e && e->state == ENTRY_REFUSED && clock_now_ns() - e->refused_ns > REFUSED_REMEMBERED_NS) {
        forget(ms, e);
        place = find(ms, sha, fuel);
        e = NULL;
    }
    if (e && e->state != ENTRY_LOADING) {
        list_remove(&e->lru);
        list_push_back(&ms->lru, &e->lru);
        ms->stats.hits_memory += e->state == ENTRY_READY;
        fill_wait(ms, e, w, MODULE_FROM_MEMORY);
        uv_mutex_unlock(&ms->mutex);
        return true;
    }
    bool begin = !e;
    if (begin) {
        e = xcalloc(1, sizeof *e);
        e->modules = ms;
        memcpy(e->sha, sha, MODULE_SHA_BYTES);
        e->fuel = fuel;
        e->state = ENTRY_LOADING;
        e->wasm = TAKE(*wasm);
        e->wasm_len = wasm_len;
        e->wasm_fd = e->code_fd = -1;
        list_init(&e->lru);
        list_init(&e->waits);
        *place = e;
    }
    list_push_back(&e->waits, &w->link);
    uv_mutex_unlock(&ms->mutex);
    if (begin)
        loop_post(ms->loop, &e->post, begin_loading);
    return false;
}

struct modules_stats modules_stats(struct modules *ms)
{
    uv_mutex_lock(&ms->mutex);
    struct modules_stats s = ms->stats;
    s.loaded = ms->count;
    uv_mutex_unlock(&ms->mutex);
    s.compiling = compiler_load(ms->compiler);
    return s;
}

/* --- the temporary folder ----------------------------------------------------------------------- */
static void on_sweep(uv_timer_t *timer)
{
    struct modules *ms = CONTAINER_OF(timer, struct modules, sweep);
    uint64_t now = clock_now_ns();
    for (;;) {
        uv_mutex_lock(&ms->mutex);
        struct list *link = ms->spool.next;
        bool due = link != &ms->spool && LIST_ENTRY(link, struct spool_file, link)->remove_ns <= now;
        if (due)
            list_remove(link);
        uv_mutex_unlock(&ms->mutex);
        if (!due)
            return;
        struct spool_file *file = LIST_ENTRY(link, struct spool_file, link);
        spool_remove(ms->config.temp_dir, file->name);
        free(file);
    }
}

static void remember_leftover(void *ctx, const char *name, uint64_t age_ns)
{
    struct modules *ms = ctx;
    struct spool_file *file = xcalloc(1, sizeof *file);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->remove_ns = clock_now_ns() + ms->config.temp_ttl_ns - age_ns;
    struct list *before = ms->spool.prev; /* a folder has no order, the list has: the first to go is first */
    while (before != &ms->spool && LIST_ENTRY(before, struct spool_file, link)->remove_ns > file->remove_ns)
        before = before->prev;
    list_insert_between(&file->link, before, before->next);
}

/* --- life ------------------------------------------------------------------------------------- */
enum err modules_new(struct loop *loop, const struct modules_config *config, struct modules **ret_modules,
                     struct err_info *reterr)
{
    struct modules *ms = xcalloc(1, sizeof *ms);
    ms->config = *config;
    ms->loop = loop;
    list_init(&ms->lru);
    list_init(&ms->spool);
    WW_ASSERT(uv_mutex_init(&ms->mutex) == 0);
    enum err e = compiler_new(loop, &config->compiler, &ms->compiler, reterr);
    if (e) {
        uv_mutex_destroy(&ms->mutex);
        free(ms);
        return e;
    }
    if (config->temp_dir)
        spool_scan(config->temp_dir, config->temp_ttl_ns, remember_leftover, ms);
    if (config->cache_dir)
        ms->stats.cache_bytes = cache_size(config->cache_dir);
    uv_timer_init(&loop->uv, &ms->sweep);
    uv_timer_start(&ms->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    uv_unref((uv_handle_t *)&ms->sweep);
    *ret_modules = ms;
    return OK;
}

void modules_stop(struct modules *ms)
{
    ms->stopping = true;
    uv_close((uv_handle_t *)&ms->sweep, NULL);
    compiler_stop(ms->compiler);
}

void modules_free(struct modules *ms)
{
    if (!ms)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (ms->buckets[i])
            forget(ms, ms->buckets[i]);
    for (struct list *link; (link = list_pop_front(&ms->spool));)
        free(LIST_ENTRY(link, struct spool_file, link));
    compiler_free(ms->compiler);
    uv_mutex_destroy(&ms->mutex);
    free(ms);
}
