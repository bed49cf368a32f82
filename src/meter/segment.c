#include "meter/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum {
    VERSION = 3,
    HEAD_BYTES = 4096,
    RUN_ID_BYTES = 32,
    ID_BYTES = 16,
    CAUSE_BYTES = 16,
    CACHE_LINE_BYTES = 64,
    ERROR_BYTES = 256
};

static const char magic[8] = {'W', 'W', 'U', 'S', 'A', 'G', 'E', '\n'};
static const char suffix[] = ".journal";

/* Little-endian, as all machines that this is built for. */
struct segment_head {
    char magic[8];
    uint32_t version;
    uint32_t slot_bytes;
    uint64_t id; /* random */
    uint32_t capacity;
    uint32_t zero;
    uint64_t checksum;           /* of what is above */
    char apart[88];              /* a cache line for each of the two writers */
    _Atomic uint32_t published;  /* by the loop */
    _Atomic uint32_t generation; /* how often it was used again */
    char apart_too[56];
    _Atomic uint32_t drained; /* by the pool */
};

/* Texts are padded with NULs; what is behind the error's end is of no use. The cause is a word, so that another version's numbers do not matter. */
struct slot {
    uint64_t checksum; /* of what is below, without the end of `error` that is not used */
    uint64_t time_ns;
    uint64_t duration_us, cpu_us, memory_peak_bytes, wasm_bytes, input_bytes, output_bytes;
    uint64_t queue_us, compile_us, fuel, stderr_bytes, host_calls, exit_code;
    uint32_t status;
    uint32_t error_len;
    char id[RUN_ID_BYTES];
    char key_id[ID_BYTES], user_id[ID_BYTES];
    unsigned char module_sha[STORE_SHA_BYTES];
    char cause[CAUSE_BYTES];
    char error[ERROR_BYTES];
};

_Static_assert(sizeof(struct segment_head) <= HEAD_BYTES, "the head has a page");
_Static_assert(sizeof(struct slot) % sizeof(uint64_t) == 0, "slots are whole words");
_Static_assert(ERROR_BYTES == STORE_ERROR_BYTES - 1 && RUN_ID_BYTES == STORE_RUN_ID_BYTES - 1 &&
                   ID_BYTES == STORE_ID_BYTES - 1,
               "a row has room for what a slot holds");

static struct slot *slot_at(const struct segment *s, uint32_t slot)
{
    return (struct slot *)(void *)((char *)s->head + HEAD_BYTES) + slot;
}

/* --- the checksum ------------------------------------------------------------------------------- */
/* Finds what a crash or a failing disk did; against people who can write the folder it is no help, nor need it be: they
 * have the database's password, too. Four lanes, because one multiplication waits for the one before. */
static uint64_t checksum(uint64_t seed, const void *data, size_t bytes)
{
    static const uint64_t odd = 0x9e3779b97f4a7c15;
    uint64_t lanes[4] = {seed, seed + 1, seed + 2, seed + 3};
    const char *p = data;
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++) {
        uint64_t word;
        memcpy(&word, p + i * sizeof word, sizeof word);
        uint64_t mixed = (lanes[i % 4] ^ word) * odd;
        lanes[i % 4] = mixed ^ mixed >> 32;
    }
    uint64_t sum = bytes;
    for (size_t i = 0; i < 4; i++) {
        sum = (sum ^ lanes[i]) * odd;
        sum ^= sum >> 29;
    }
    return sum ? sum : 1; /* 0 is a slot that was never written */
}

static uint64_t sum_of_slot(const struct segment *s, uint32_t slot)
{
    const struct slot *r = slot_at(s, slot);
    size_t words = (MIN(r->error_len, (uint32_t)ERROR_BYTES) + sizeof(uint64_t) - 1) / sizeof(uint64_t);
    return checksum(s->id ^ ((uint64_t)slot << 32 | s->generation), &r->time_ns,
                    offsetof(struct slot, error) - offsetof(struct slot, time_ns) + words * sizeof(uint64_t));
}

static uint64_t sum_of_head(const struct segment_head *h)
{
    return checksum(VERSION, h, offsetof(struct segment_head, checksum));
}

/* --- making ------------------------------------------------------------------------------------- */
static enum err fault(const char *what, const char *name, struct err_info *reterr)
{
    return err_set(reterr, ERR_DISK_FAULT, "the usage journal's file %s could not be %s: %s", name, what,
                   strerror(errno));
}

static void fill_head(struct segment *s)
{
    struct segment_head *h = s->head;
    memcpy(h->magic, magic, sizeof h->magic);
    h->version = VERSION;
    h->slot_bytes = sizeof(struct slot);
    h->id = s->id;
    h->capacity = s->capacity;
    h->checksum = sum_of_head(h);
}

/* Until it has its lock and its head it has another name, which nobody looks at. */
static enum err make_file(struct segment *s, struct err_info *reterr)
{
    char raw[SEGMENT_NAME_BYTES];
    snprintf(s->name, sizeof s->name, "%016llx%s", (unsigned long long)s->id, suffix);
    snprintf(raw, sizeof raw, "%016llx.new", (unsigned long long)s->id);
    s->fd = openat(s->folder_fd, raw, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (s->fd < 0 || flock(s->fd, LOCK_EX | LOCK_NB) < 0)
        return fault("made", raw, reterr);
    errno = posix_fallocate(s->fd, 0, (off_t)s->bytes);
    void *p = errno ? MAP_FAILED : mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (p == MAP_FAILED) {
        enum err e = fault("made", raw, reterr);
        unlinkat(s->folder_fd, raw, 0);
        return e;
    }
    s->head = p;
    s->mapped = true;
    /* Pages are there before the loop writes: a fault of the first write to one asks the file system, which costs the
     * loop microseconds. A kernel without this advice (before 5.14) is slower, no more. */
    madvise(p, s->bytes, MADV_POPULATE_WRITE);
    fill_head(s);
    return renameat(s->folder_fd, raw, s->folder_fd, s->name) < 0 ? fault("named", s->name, reterr) : OK;
}

enum err segment_new(int folder_fd, size_t bytes, struct segment **ret_segment, struct err_info *reterr)
{
    struct segment *s = xcalloc(1, sizeof *s);
    WW_ASSERT(bytes >= SEGMENT_BYTES_MIN && bytes <= SEGMENT_BYTES_MAX);
    s->folder_fd = folder_fd;
    s->bytes = bytes;
    s->fd = -1;
    s->capacity = (uint32_t)((bytes - HEAD_BYTES) / sizeof(struct slot));
    if (getrandom(&s->id, sizeof s->id, 0) != sizeof s->id)
        s->id = (uint64_t)(uintptr_t)s ^ (uint64_t)getpid() << 32; /* it only has to be another one */
    enum err e = make_file(s, reterr);
    if (e)
        segment_free(s, false);
    else
        *ret_segment = s;
    return e;
}

void segment_reuse(struct segment *s)
{
    WW_ASSERT(s->mapped && segment_drained(s) == s->capacity);
    /* In this order: whoever finds it half way finds nothing to read. */
    atomic_store_explicit(&s->head->generation, ++s->generation, memory_order_release);
    atomic_store_explicit(&s->head->published, 0, memory_order_release);
    atomic_store_explicit(&s->head->drained, 0, memory_order_release);
    s->synced = 0;
    s->next = NULL;
}

void segment_sweep(int folder_fd, const char *name)
{
    if (!str_ends_with(str_of(name), STR_LIT(".new")))
        return;
    CLEANUP(closep) int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(folder_fd, name, 0);
}

void segment_free(struct segment *s, bool remove)
{
    if (!s)
        return;
    if (remove)
        unlinkat(s->folder_fd, s->name, 0);
    if (s->mapped)
        munmap(s->head, s->bytes);
    else
        free(s->head);
    closep(&s->fd);
    free(s);
}

/* --- taking over -------------------------------------------------------------------------------- */
bool segment_has_name(const char *name)
{
    struct str s = str_of(name);
    uint64_t id;
    return s.len == 2 * sizeof id + sizeof suffix - 1 && str_ends_with(s, str_of(suffix)) &&
           hex_decode(str_make(s.p, 2 * sizeof id), &id, sizeof id);
}

/* Checks the head of the bytes, which are the segment's now. */
static bool check_head(struct segment *s)
{
    const struct segment_head *h = s->head;
    if (s->bytes < SEGMENT_BYTES_MIN || s->bytes > SEGMENT_BYTES_MAX)
        return false;
    if (memcmp(h->magic, magic, sizeof magic) != 0 || h->version != VERSION ||
        h->slot_bytes != sizeof(struct slot) || h->checksum != sum_of_head(h))
        return false;
    s->id = h->id;
    s->generation = atomic_load_explicit(&h->generation, memory_order_relaxed);
    s->capacity = h->capacity;
    return s->capacity <= (s->bytes - HEAD_BYTES) / sizeof(struct slot);
}

bool segment_parse(struct str bytes, bool reseal, struct segment **ret_segment)
{
    struct segment *s = xcalloc(1, sizeof *s);
    s->fd = s->folder_fd = -1;
    s->bytes = bytes.len;
    s->head = xcalloc(1, MAX(bytes.len, (size_t)HEAD_BYTES));
    memcpy(s->head, bytes.p, bytes.len);
    if (reseal)
        s->head->checksum = sum_of_head(s->head);
    if (!check_head(s)) {
        segment_free(s, false);
        return false;
    }
    for (uint32_t i = 0; reseal && i < s->capacity; i++)
        slot_at(s, i)->checksum = sum_of_slot(s, i);
    *ret_segment = s;
    return true;
}

static bool read_all(int fd, char *to, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, to + done, bytes - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENODATA; /* somebody cuts it */
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* Made by a program of another version, which alone can read it. */
static bool is_of_another_version(const struct segment_head *h)
{
    return memcmp(h->magic, magic, sizeof magic) == 0 && h->version != VERSION;
}

static void put_aside(const struct segment *s)
{
    char bad[SEGMENT_NAME_BYTES + 8];
    snprintf(bad, sizeof bad, "%s.bad", s->name);
    LOG_ERROR("a file of the usage journal is damaged; it was put aside", LOG_CSTR("file", bad));
    if (renameat(s->folder_fd, s->name, s->folder_fd, bad) < 0)
        unlinkat(s->folder_fd, s->name, 0);
}

/* OK without s->head: nothing to take over. */
static enum err take_over(struct segment *s, struct err_info *reterr)
{
    struct stat st;
    s->fd = openat(s->folder_fd, s->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (s->fd < 0)
        return errno == ENOENT ? OK : fault("opened", s->name, reterr);
    if (flock(s->fd, LOCK_EX | LOCK_NB) < 0)
        return OK; /* its owner lives */
    if (fstat(s->fd, &st) < 0)
        return fault("read", s->name, reterr);
    if (st.st_nlink == 0)
        return OK; /* another process drained it meanwhile */
    if (!S_ISREG(st.st_mode) || st.st_size < SEGMENT_BYTES_MIN || st.st_size > SEGMENT_BYTES_MAX) {
        put_aside(s);
        return OK;
    }
    s->bytes = (size_t)st.st_size;
    struct segment_head *head = xmalloc(s->bytes);
    s->head = head;
    if (!read_all(s->fd, (char *)head, s->bytes))
        return fault("read", s->name, reterr);
    if (check_head(s))
        return OK;
    if (is_of_another_version(head))
        LOG_WARN("a file of the usage journal waits for the version of the program that made it",
                 LOG_CSTR("file", s->name), LOG_U64("version", head->version));
    else
        put_aside(s);
    s->head = NULL;
    free(head);
    return OK;
}

enum err segment_adopt(int folder_fd, const char *name, struct segment **ret_segment, struct err_info *reterr)
{
    struct segment *s = xcalloc(1, sizeof *s);
    s->folder_fd = folder_fd;
    s->fd = -1;
    snprintf(s->name, sizeof s->name, "%s", name);
    enum err e = take_over(s, reterr);
    if (e || !s->head) {
        segment_free(s, false);
        s = NULL;
    }
    if (!e)
        *ret_segment = s;
    return e;
}

/* --- writing ------------------------------------------------------------------------------------ */
static void put_text(char *to, size_t size, struct str text)
{
    size_t len = MIN(text.len, size);
    memcpy(to, text.p, len);
    memset(to + len, 0, size - len);
}

void segment_put(struct segment *s, uint32_t slot, const struct usage_run *run)
{
    struct slot *r = slot_at(s, slot);
    WW_ASSERT(s->mapped && slot < s->capacity);
    r->time_ns = run->time_ns;
    r->duration_us = run->duration_ns / NS_PER_US;
    r->cpu_us = run->cpu_ns / NS_PER_US;
    r->memory_peak_bytes = run->memory_peak_bytes;
    r->wasm_bytes = run->wasm_bytes;
    r->input_bytes = run->input_bytes;
    r->output_bytes = run->output_bytes;
    r->queue_us = run->queue_ns / NS_PER_US;
    r->compile_us = run->compile_ns / NS_PER_US;
    r->fuel = run->fuel;
    r->stderr_bytes = run->stderr_bytes;
    r->host_calls = run->host_calls;
    r->exit_code = run->exit_code;
    r->status = (uint32_t)run->status;
    r->error_len = (uint32_t)MIN(run->error.len, (size_t)ERROR_BYTES);
    put_text(r->id, sizeof r->id, str_of(run->id));
    put_text(r->key_id, sizeof r->key_id, str_of(run->key_id));
    put_text(r->user_id, sizeof r->user_id, str_of(run->user_id));
    memcpy(r->module_sha, run->module_sha, sizeof r->module_sha);
    put_text(r->cause, sizeof r->cause, str_of(cause_name(run->cause)));
    if (r->error_len)
        put_text(r->error, sizeof r->error, run->error);
    r->checksum = sum_of_slot(s, slot);
    atomic_store_explicit(&s->head->published, slot + 1, memory_order_release);
    /* Until the next run there is time to fetch the lines that it will be written to. */
    for (size_t at = 0; at <= offsetof(struct slot, error); at += CACHE_LINE_BYTES)
        __builtin_prefetch((char *)(r + 1) + at, true);
}

/* --- reading ------------------------------------------------------------------------------------ */
uint32_t segment_published(const struct segment *s)
{
    return MIN(atomic_load_explicit(&s->head->published, memory_order_acquire), s->capacity);
}

uint32_t segment_end(const struct segment *s)
{
    return s->mapped ? segment_published(s) : s->capacity;
}

uint32_t segment_drained(const struct segment *s)
{
    uint32_t drained = atomic_load_explicit(&s->head->drained, memory_order_relaxed);
    return drained <= s->capacity ? drained : 0; /* draining again changes nothing */
}

void segment_set_drained(struct segment *s, uint32_t slots)
{
    atomic_store_explicit(&s->head->drained, slots, memory_order_relaxed);
    if (!s->mapped && s->fd >= 0 &&
        pwrite(s->fd, &slots, sizeof slots, offsetof(struct segment_head, drained)) != sizeof slots)
        LOG_WARN("how far the usage journal is drained could not be noted", LOG_CSTR("file", s->name));
}

/* Hexadecimal digits. */
static bool get_text(char *to, const char *from, size_t size)
{
    size_t len = strnlen(from, size);
    unsigned others = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)from[i];
        others |= ((unsigned)c - '0' > 9) & ((unsigned)c - 'a' > 5);
    }
    memcpy(to, from, len);
    to[len] = 0;
    return !others;
}

static bool get_cause(enum cause *ret, const char *from)
{
    for (unsigned i = 0; i < CAUSE_COUNT; i++)
        if (strncmp(cause_name((enum cause)i), from, CAUSE_BYTES) == 0) {
            *ret = (enum cause)i;
            return true;
        }
    return false;
}

static bool number_fits(uint64_t n)
{
    return n <= INT64_MAX;
}

enum segment_slot segment_get(const struct segment *s, uint32_t slot, struct store_usage *ret)
{
    const struct slot *r = slot_at(s, slot);
    WW_ASSERT(slot < s->capacity);
    /* Behind what was published is what an earlier generation left, or nothing. */
    if (r->error_len > ERROR_BYTES || r->checksum != sum_of_slot(s, slot))
        return slot < segment_published(s) ? SEGMENT_TORN : SEGMENT_EMPTY;
    bool good = number_fits(r->time_ns) && number_fits(r->duration_us) && number_fits(r->cpu_us) &&
                number_fits(r->memory_peak_bytes) && number_fits(r->wasm_bytes) &&
                number_fits(r->input_bytes) && number_fits(r->output_bytes) && number_fits(r->queue_us) &&
                number_fits(r->compile_us) && number_fits(r->fuel) && number_fits(r->stderr_bytes) &&
                number_fits(r->host_calls) && number_fits(r->exit_code) && r->status < 1000 && r->id[0];
    if (!good || !get_text(ret->id, r->id, sizeof r->id) ||
        !get_text(ret->key_id, r->key_id, sizeof r->key_id) ||
        !get_text(ret->user_id, r->user_id, sizeof r->user_id) || !get_cause(&ret->cause, r->cause))
        return SEGMENT_TORN;
    ret->time_ns = r->time_ns;
    memcpy(ret->module_sha, r->module_sha, sizeof ret->module_sha);
    ret->duration_us = r->duration_us;
    ret->cpu_us = r->cpu_us;
    ret->memory_peak_bytes = r->memory_peak_bytes;
    ret->status = r->status;
    memcpy(ret->error, r->error, r->error_len);
    ret->error[r->error_len] = 0;
    ret->wasm_bytes = r->wasm_bytes;
    ret->input_bytes = r->input_bytes;
    ret->output_bytes = r->output_bytes;
    ret->queue_us = r->queue_us;
    ret->compile_us = r->compile_us;
    ret->fuel = r->fuel;
    ret->stderr_bytes = r->stderr_bytes;
    ret->host_calls = r->host_calls;
    ret->exit_code = r->exit_code;
    return SEGMENT_RUN;
}

enum err segment_sync(struct segment *s, struct err_info *reterr)
{
    uint32_t published = segment_published(s);
    if (published == s->synced)
        return OK;
    if (fdatasync(s->fd) < 0)
        return fault("written to the disk", s->name, reterr);
    s->synced = published;
    return OK;
}
