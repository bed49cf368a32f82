#include "module/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

/* --- uploads ------------------------------------------------------------------------------------ */
static void make_name(char name[static 42])
{
    unsigned char b[16];
    char hex[33];
    WW_ASSERT(getrandom(b, sizeof b, 0) == (ssize_t)sizeof b);
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    hex_encode(b, sizeof b, hex);
    snprintf(name, 42, "%.8s-%.4s-%.4s-%.4s-%.12s.wasm", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

static bool is_spool_name(const char *name)
{
    static const char form[] = "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx.wasm";
    if (strlen(name) != sizeof form - 1)
        return false;
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'x' ? !strchr("0123456789abcdef", name[i]) : form[i] != name[i])
            return false;
    return true;
}

static bool write_all(int fd, struct str s)
{
    while (s.len) {
        ssize_t n = write(fd, s.p, s.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s = str_make(s.p + n, s.len - (size_t)n);
    }
    return true;
}

enum err spool_put(const char *dir, struct str wasm, int *ret_fd, struct spool_file **ret_file,
                   struct err_info *reterr)
{
    char path[4400];
    struct spool_file *file = NULL;
    CLEANUP(closep) int fd = -1;
    if (dir) {
        file = xcalloc(1, sizeof *file);
        list_init(&file->link);
        make_name(file->name);
        snprintf(path, sizeof path, "%s/%s", dir, file->name);
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    } else {
        fd = memfd_create("module", MFD_CLOEXEC);
    }
    if (fd < 0 || !write_all(fd, wasm) || lseek(fd, 0, SEEK_SET) < 0) {
        int error = errno;
        if (dir && fd >= 0)
            unlink(path);
        free(file);
        return err_set(reterr, ERR_DISK_FAULT, "the upload could not be written to the temporary folder: %s",
                       strerror(error));
    }
    *ret_file = file;
    *ret_fd = fd;
    fd = -1;
    return OK;
}

void spool_remove(const char *dir, const char *name)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

void spool_scan(const char *dir, uint64_t ttl_ns, void (*each)(void *ctx, const char *name, uint64_t age_ns),
                void *ctx)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    uint64_t now = clock_wall_ns();
    for (struct dirent *entry; (entry = readdir(d));) {
        struct stat st;
        if (!is_spool_name(entry->d_name) || fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        uint64_t written = (uint64_t)st.st_mtim.tv_sec * NS_PER_S;
        uint64_t age = now > written ? now - written : 0;
        if (age >= ttl_ns)
            unlinkat(dirfd(d), entry->d_name, 0);
        else
            each(ctx, entry->d_name, age);
    }
    closedir(d);
}

/* --- the cache ---------------------------------------------------------------------------------- */
void cache_path(const char *dir, const unsigned char sha[static 32], const char *fingerprint, char *ret,
                size_t size)
{
    char hex[65];
    hex_encode(sha, 32, hex);
    snprintf(ret, size, "%s/%s-%s.code", dir, hex, fingerprint);
}

int cache_open_new(const char *dir)
{
    int fd = dir ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
    return fd >= 0 ? fd : memfd_create("code", MFD_CLOEXEC);
}

enum err cache_publish(int fd, const char *path, struct err_info *reterr)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return OK;
    /* An older file that failed its check stands there: it makes room. */
    if (errno == EEXIST && unlink(path) == 0 &&
        linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return OK;
    return err_set(reterr, ERR_DISK_FAULT, "compiled code could not be kept: %s", strerror(errno));
}

struct cached_file {
    char *name;
    uint64_t bytes;
    int64_t used_s;
};

static size_t list_cache(const char *dir, struct cached_file **ret_files, uint64_t *ret_total)
{
    size_t count = 0, capacity = 0;
    struct cached_file *files = NULL;
    *ret_total = 0;
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        struct stat st;
        if (!str_ends_with(str_of(entry->d_name), STR_LIT(".code")) ||
            fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            files = xrealloc(files, capacity * sizeof *files);
        }
        files[count++] =
            (struct cached_file){xstrdup(entry->d_name), (uint64_t)st.st_size, (int64_t)st.st_mtim.tv_sec};
        *ret_total += (uint64_t)st.st_size;
    }
    if (d)
        closedir(d);
    *ret_files = files;
    return count;
}

static int by_age(const void *a, const void *b)
{
    const struct cached_file *x = a, *y = b;
    return x->used_s < y->used_s ? -1 : x->used_s > y->used_s;
}

uint64_t cache_size(const char *dir)
{
    return cache_trim(dir, UINT64_MAX);
}

uint64_t cache_trim(const char *dir, uint64_t max_bytes)
{
    struct cached_file *files;
    uint64_t total;
    size_t count = list_cache(dir, &files, &total);
    if (total > max_bytes) {
        qsort(files, count, sizeof *files, by_age);
        for (size_t i = 0; i < count && total > max_bytes - max_bytes / 10; i++) {
            char path[4400];
            snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
            if (unlink(path) == 0)
                total -= files[i].bytes;
        }
    }
    for (size_t i = 0; i < count; i++)
        free(files[i].name);
    free(files);
    return total;
}
