#include "base/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

enum { PATH_BYTES = 4300, FILE_MODE = 0600 };
#define TELL_PAUSE_NS (600 * NS_PER_S)

static struct {
    struct log_file_config config;
    int fd; /* -1: no file */
    pthread_mutex_t moving;
    _Atomic uint64_t bytes;   /* in the file, as far as this process knows */
    _Atomic uint64_t look_ns; /* when to look whether the path still leads here */
    _Atomic uint64_t lost;
    _Atomic uint64_t tell_ns; /* not before this is stderr told again */
    atomic_bool torn;         /* the file ends in the midst of a line */
} file = {.fd = -1, .moving = PTHREAD_MUTEX_INITIALIZER};

/* The log itself would come back here, so this goes to stderr past it. */
static void complain(const char *doing)
{
    char text[PATH_BYTES + 200];
    struct buf line = {.p = text, .capacity = sizeof text, .max = sizeof text - 1};
    int error = errno;
    uint64_t now = clock_now_ns(), tell_ns = atomic_load(&file.tell_ns);
    if (now < tell_ns || !atomic_compare_exchange_strong(&file.tell_ns, &tell_ns, now + TELL_PAUSE_NS))
        return;
    buf_printf(&line, "wasmwiz: %s the log file %s failed: %s; the server goes on, lines are lost\n", doing,
               file.config.path, strerror(error));
    ssize_t written = write(STDERR_FILENO, text, line.len);
    (void)written; /* nobody is left to tell */
}

static int open_path(void)
{
    return open(file.config.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, FILE_MODE);
}

/* Puts the file that the path leads to in the place of the old one. Under file.moving. */
static void follow_path(void)
{
    struct stat st;
    CLEANUP(closep) int fresh = open_path();
    if (fresh < 0 || fstat(fresh, &st) < 0 || dup3(fresh, file.fd, O_CLOEXEC) < 0) {
        complain("opening");
        return;
    }
    atomic_store(&file.bytes, (uint64_t)st.st_size);
    atomic_store(&file.torn, false);
}

/* Whether the path leads to the open file; its size with it. */
static bool path_is_ours(uint64_t *ret_bytes)
{
    struct stat at_path, ours;
    if (fstat(file.fd, &ours) < 0)
        return false;
    *ret_bytes = (uint64_t)ours.st_size;
    return stat(file.config.path, &at_path) == 0 && at_path.st_ino == ours.st_ino &&
           at_path.st_dev == ours.st_dev;
}

/* FILE.N-1 -> FILE.N, ..., FILE -> FILE.1; the oldest goes. */
static bool shift_files(void)
{
    char from[PATH_BYTES], to[PATH_BYTES];
    const char *path = file.config.path;
    if (file.config.keep == 0)
        return unlink(path) == 0;
    for (uint32_t n = file.config.keep - 1; n > 0; n--) {
        snprintf(from, sizeof from, "%s.%u", path, n);
        snprintf(to, sizeof to, "%s.%u", path, n + 1);
        if (rename(from, to) < 0 && errno != ENOENT)
            return false;
    }
    snprintf(to, sizeof to, "%s.1", path);
    return rename(path, to) == 0;
}

/* Follows the path where somebody moved the file, else moves it on where it is full. */
static void rotate(void)
{
    uint64_t bytes = 0;
    if (pthread_mutex_trylock(&file.moving) != 0)
        return; /* another thread does it */
    if (flock(file.fd, LOCK_EX | LOCK_NB) == 0) {
        bool ours = path_is_ours(&bytes);
        atomic_store(&file.bytes, bytes);
        bool full = ours && bytes >= file.config.bytes_max;
        if (full && !shift_files()) {
            complain("rotating");
            atomic_store(&file.bytes, 0); /* not again with each line */
        } else if (full || !ours) {
            follow_path(); /* which lets the lock go: its last descriptor is replaced */
        }
        flock(file.fd, LOCK_UN);
    }
    pthread_mutex_unlock(&file.moving);
}

void log_file_write(struct str line)
{
    if (file.fd < 0)
        return;
    if (atomic_load_explicit(&file.torn, memory_order_relaxed) && atomic_exchange(&file.torn, false) &&
        write(file.fd, "\n", 1) != 1)
        atomic_store(&file.torn, true);
    ssize_t written = write(file.fd, line.p, line.len);
    if (written != (ssize_t)line.len) {
        if (written > 0) {
            errno = ENOSPC;
            atomic_store(&file.torn, true);
        }
        atomic_fetch_add(&file.lost, 1);
        complain("writing");
    }
    uint64_t bytes = atomic_fetch_add(&file.bytes, line.len) + line.len, now = clock_now_ns();
    uint64_t look_ns = atomic_load_explicit(&file.look_ns, memory_order_relaxed);
    if (bytes >= file.config.bytes_max ||
        (now >= look_ns && atomic_compare_exchange_strong(&file.look_ns, &look_ns, now + NS_PER_S)))
        rotate();
}

void log_file_reopen(void)
{
    if (file.fd < 0)
        return;
    pthread_mutex_lock(&file.moving);
    follow_path();
    pthread_mutex_unlock(&file.moving);
}

uint64_t log_file_lost(void)
{
    return atomic_load(&file.lost);
}

enum err log_file_open(const struct log_file_config *config, struct err_info *reterr)
{
    struct stat st;
    WW_ASSERT(file.fd < 0);
    file.config = *config;
    CLEANUP(closep) int fd = open_path();
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(reterr, ERR_DISK_FAULT, "LOG_FILE: %s can't be opened: %s", config->path,
                       strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(reterr, ERR_DISK_FAULT, "LOG_FILE: %s is no regular file", config->path);
    atomic_store(&file.bytes, (uint64_t)st.st_size);
    atomic_store(&file.tell_ns, 0);
    atomic_store(&file.look_ns, 0);
    file.fd = fd;
    fd = -1; /* not closed here */
    return OK;
}

void log_file_close(void)
{
    closep(&file.fd);
}
