#include "meter/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { SEGMENT_BYTES = 4 * 1024 * 1024, SEGMENTS_A_LANE = 4, ADOPT_TURNS_MAX = 64 };

/* The loop's part stands apart from the pool's, on cache lines of its own. */
struct lane {
    /* the loop's */
    struct segment *current; /* not touched once it is full: the pool may have freed it */
    uint32_t used, capacity; /* of it */
    uint32_t reserved;
    _Atomic uint64_t added;
    char apart[64];
    /* handed from the pool to the loop */
    _Atomic(struct segment *) spare;
    /* the pool's: the chain, oldest first, the spare is its end; under the journal's mutex */
    struct segment *first, *last;
    uint32_t taken; /* slots of the first segment that the last read covers */
    char apart_too[64];
};

struct journal {
    int folder_fd;
    size_t segment_bytes;
    uint64_t bytes_max;
    uint32_t lane_count;
    struct lane *lanes;
    pthread_mutex_t mutex; /* of the chains and the next one; never on a loop */
    struct segment *empty; /* drained, to be used again: at most one for each lane */
    uint32_t empty_count;
    struct segment *orphan; /* the file of a dead process that is being drained */
    uint32_t orphan_taken;  /* slots of it that the last read covers */
    bool look_again;        /* there may be another one */
    bool was_full;
    _Atomic bool folder_changed; /* since it was last written to the disk */
    _Atomic uint64_t own_bytes, other_bytes, drained, torn;
};

/* --- the loop's side ---------------------------------------------------------------------------- */
bool journal_reserve(struct journal *j, uint32_t lane)
{
    struct lane *l = &j->lanes[lane];
    uint32_t room = l->capacity - l->used;
    struct segment *spare = atomic_load_explicit(&l->spare, memory_order_acquire);
    if (spare)
        room += spare->capacity;
    if (room <= l->reserved)
        return false;
    l->reserved++;
    return true;
}

void journal_release(struct journal *j, uint32_t lane)
{
    WW_ASSERT(j->lanes[lane].reserved > 0);
    j->lanes[lane].reserved--;
}

bool journal_put(struct journal *j, uint32_t lane, const struct usage_run *run)
{
    struct lane *l = &j->lanes[lane];
    bool wants_spare = false;
    journal_release(j, lane);
    if (l->used == l->capacity) {
        l->current = atomic_exchange_explicit(&l->spare, NULL, memory_order_acq_rel);
        WW_ASSERT(l->current);
        l->capacity = l->current->capacity;
        l->used = 0;
        wants_spare = true;
    }
    segment_put(l->current, l->used++, run);
    atomic_store_explicit(&l->added, atomic_load_explicit(&l->added, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    return wants_spare;
}

/* --- tending ------------------------------------------------------------------------------------ */
static bool may_grow(struct journal *j)
{
    bool fits = atomic_load(&j->own_bytes) + atomic_load(&j->other_bytes) + j->segment_bytes <= j->bytes_max;
    if (!fits && !j->was_full)
        LOG_ERROR("the usage journal is full: executions are refused until the database takes rows",
                  LOG_U64("bytes_max", j->bytes_max));
    j->was_full = !fits;
    return fits;
}

static struct segment *take_empty(struct journal *j)
{
    pthread_mutex_lock(&j->mutex);
    struct segment *s = j->empty;
    if (s) {
        j->empty = s->next;
        j->empty_count--;
        segment_reuse(s);
    }
    pthread_mutex_unlock(&j->mutex);
    return s;
}

/* OK without a segment: there is no room for one. */
static enum err get_segment(struct journal *j, struct segment **ret_segment, struct err_info *reterr)
{
    *ret_segment = take_empty(j);
    if (*ret_segment || !may_grow(j))
        return OK;
    enum err e = segment_new(j->folder_fd, j->segment_bytes, ret_segment, reterr);
    if (e)
        return e;
    atomic_fetch_add(&j->own_bytes, (*ret_segment)->bytes);
    atomic_store(&j->folder_changed, true);
    return OK;
}

static void append(struct journal *j, struct lane *l, struct segment *s)
{
    pthread_mutex_lock(&j->mutex);
    if (l->last)
        l->last->next = s;
    else
        l->first = s;
    l->last = s;
    pthread_mutex_unlock(&j->mutex);
    atomic_store_explicit(&l->spare, s, memory_order_release);
}

enum err journal_tend(struct journal *j, struct err_info *reterr)
{
    for (uint32_t i = 0; i < j->lane_count; i++) {
        struct segment *s;
        if (atomic_load(&j->lanes[i].spare))
            continue;
        enum err e = get_segment(j, &s, reterr);
        if (e || !s)
            return e;
        append(j, &j->lanes[i], s);
    }
    return OK;
}

/* The mutex keeps draining from freeing a segment meanwhile; loops do not want it. */
enum err journal_sync(struct journal *j, struct err_info *reterr)
{
    enum err e = OK;
    if (atomic_exchange(&j->folder_changed, false) && fsync(j->folder_fd) < 0)
        e = err_set(reterr, ERR_DISK_FAULT, "the usage journal's folder could not be written to the disk: %s",
                    strerror(errno));
    for (uint32_t i = 0; i < j->lane_count; i++) {
        struct lane *l = &j->lanes[i];
        pthread_mutex_lock(&j->mutex);
        for (struct segment *s = l->first; !e && s; s = s->next)
            e = segment_drained(s) < segment_published(s) ? segment_sync(s, reterr) : OK;
        pthread_mutex_unlock(&j->mutex);
    }
    return e;
}

/* --- draining ----------------------------------------------------------------------------------- */
/* Adds up the files of others, and takes the first one whose owner is dead. */
static void look_for_orphans(struct journal *j)
{
    struct err_info err = {0};
    struct stat st;
    uint64_t bytes = 0;
    int fd = openat(j->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        closep(&fd);
        return;
    }
    for (struct dirent *d; (d = readdir(dir));) {
        if (!segment_has_name(d->d_name)) {
            segment_sweep(j->folder_fd, d->d_name);
            continue;
        }
        if (!j->orphan && segment_adopt(j->folder_fd, d->d_name, &j->orphan, &err))
            LOG_ERROR("usage of an earlier process is not to be had", LOG_CSTR("reason", err_text(&err)));
        if (fstatat(j->folder_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            bytes += (uint64_t)MAX(st.st_size, 0);
    }
    closedir(dir);
    uint64_t own = atomic_load(&j->own_bytes);
    atomic_store(&j->other_bytes, bytes > own ? bytes - own : 0);
}

/* Reads slots from `from` on; returns the slot behind the last one that was looked at. */
static uint32_t read_slots(struct journal *j, const struct segment *s, uint32_t from,
                           struct store_usage *rows, size_t max, size_t *count)
{
    uint32_t end = segment_end(s), torn = 0;
    for (; from < end && *count < max; from++) {
        enum segment_slot what = segment_get(s, from, &rows[*count]);
        *count += what == SEGMENT_RUN;
        torn += what == SEGMENT_TORN;
    }
    if (torn) {
        atomic_fetch_add(&j->torn, torn);
        LOG_ERROR("records of the usage journal were not whole and are left out", LOG_CSTR("file", s->name),
                  LOG_U64("records", torn));
    }
    return from;
}

static void drop_orphan(struct journal *j)
{
    struct segment *s = TAKE(j->orphan);
    uint64_t bytes = atomic_load(&j->other_bytes);
    atomic_store(&j->other_bytes, bytes > s->bytes ? bytes - s->bytes : 0);
    segment_free(s, true);
}

/* One after the other, so that little memory is held; those without a run that waits are removed on the way. */
static void read_orphans(struct journal *j, struct store_usage *rows, size_t max, size_t *count)
{
    for (unsigned turn = 0; turn < ADOPT_TURNS_MAX && *count == 0; turn++) {
        if (!j->orphan)
            look_for_orphans(j);
        j->look_again = j->orphan != NULL;
        if (!j->orphan)
            return;
        j->orphan_taken = read_slots(j, j->orphan, segment_drained(j->orphan), rows, max, count);
        if (*count == 0)
            drop_orphan(j);
    }
}

/* One that is drained. */
static void put_away(struct journal *j, struct segment *s)
{
    if (j->empty_count < j->lane_count) {
        s->next = j->empty;
        j->empty = s;
        j->empty_count++;
    } else {
        atomic_fetch_sub(&j->own_bytes, s->bytes);
        segment_free(s, true);
    }
}

/* The chain's first segment, without those that are drained to their end. */
static struct segment *first_of(struct journal *j, struct lane *l)
{
    pthread_mutex_lock(&j->mutex);
    while (l->first && segment_drained(l->first) == l->first->capacity) {
        struct segment *s = l->first;
        l->first = s->next;
        if (!l->first)
            l->last = NULL;
        put_away(j, s);
    }
    struct segment *first = l->first;
    pthread_mutex_unlock(&j->mutex);
    return first;
}

size_t journal_read(struct journal *j, bool adopt, struct store_usage *rows, size_t max)
{
    size_t count = 0;
    if (adopt || j->look_again)
        read_orphans(j, rows, max / 4, &count);
    for (uint32_t i = 0; i < j->lane_count; i++) {
        struct lane *l = &j->lanes[i];
        struct segment *s = first_of(j, l);
        size_t share = count + (max - count) / (j->lane_count - i);
        l->taken = s ? read_slots(j, s, segment_drained(s), rows, share, &count) : 0;
    }
    if (count == 0)
        journal_drained(j); /* nothing, or nothing that was whole */
    return count;
}

void journal_drained(struct journal *j)
{
    for (uint32_t i = 0; i < j->lane_count; i++) {
        struct lane *l = &j->lanes[i];
        if (!l->taken)
            continue;
        atomic_fetch_add(&j->drained, l->taken - segment_drained(l->first));
        segment_set_drained(l->first, l->taken);
        l->taken = 0;
        first_of(j, l);
    }
    if (!j->orphan || !j->orphan_taken)
        return;
    segment_set_drained(j->orphan, j->orphan_taken);
    if (j->orphan_taken == segment_end(j->orphan))
        drop_orphan(j);
    j->orphan_taken = 0;
}

/* --- opening and closing ------------------------------------------------------------------------ */
enum err journal_open(const struct journal_config *config, struct journal **ret_journal,
                      struct err_info *reterr)
{
    int fd = open(config->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(reterr, ERR_DISK_FAULT, "the usage journal's folder %s can't be opened: %s",
                       config->folder, strerror(errno));
    struct journal *j = xcalloc(1, sizeof *j);
    struct err_info err = {0};
    j->folder_fd = fd;
    j->bytes_max = config->bytes_max;
    j->lane_count = config->lanes;
    j->lanes = xcalloc(config->lanes, sizeof *j->lanes);
    uint64_t share = config->bytes_max / (config->lanes * SEGMENTS_A_LANE) & ~(uint64_t)4095;
    j->segment_bytes = (size_t)MAX(MIN(share, (uint64_t)SEGMENT_BYTES), (uint64_t)SEGMENT_BYTES_MIN);
    pthread_mutex_init(&j->mutex, NULL);
    j->look_again = true;
    look_for_orphans(j); /* for the bytes that are there already */
    if (journal_tend(j, &err))
        LOG_ERROR("the usage journal has no room", LOG_CSTR("reason", err_text(&err)));
    *ret_journal = j;
    return OK;
}

static void free_chain(struct segment *s)
{
    for (struct segment *next; s; s = next) {
        next = s->next;
        segment_free(s, segment_drained(s) == segment_published(s));
    }
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    for (uint32_t i = 0; i < j->lane_count; i++)
        free_chain(j->lanes[i].first);
    free_chain(j->empty);
    if (j->orphan)
        segment_free(j->orphan, false);
    pthread_mutex_destroy(&j->mutex);
    close(j->folder_fd);
    free(j->lanes);
    free(j);
}

struct journal_stats journal_stats(struct journal *j)
{
    uint64_t waiting = 0, drained = atomic_load(&j->drained);
    for (uint32_t i = 0; i < j->lane_count; i++)
        waiting += atomic_load_explicit(&j->lanes[i].added, memory_order_relaxed);
    return (struct journal_stats){.bytes = atomic_load(&j->own_bytes) + atomic_load(&j->other_bytes),
                                  .waiting = waiting > drained ? waiting - drained : 0,
                                  .torn = atomic_load(&j->torn)};
}
