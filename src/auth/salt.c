/* The salt of the key hashes: from the configuration, or made once and kept in the data folder. */
#include "auth/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { SALT_RANDOM_BYTES = 32, SALT_DIGITS = 2 * SALT_RANDOM_BYTES, SALT_FILE_MAX = 1024 };

MUST_CHECK static enum err disk_fault(const char *doing, const char *path, struct err_info *reterr)
{
    return err_set(reterr, ERR_DISK_FAULT, "%s \"%s\": %m", doing, path);
}

/* All of a short file, NUL-terminated; false with errno. */
MUST_CHECK static bool read_all(int fd, char *to, size_t size, size_t *ret_len)
{
    size_t len = 0;
    while (len < size - 1) {
        ssize_t n = read(fd, to + len, size - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    to[len] = 0;
    *ret_len = len;
    return true;
}

/* ERR_NOT_FOUND: no such file. */
MUST_CHECK static enum err read_salt(const char *path, char **ret_salt, struct err_info *reterr)
{
    /* NONBLOCK: a FIFO in its place must not hold the start. */
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return err_set(reterr, ERR_NOT_FOUND, "there is no file \"%s\"", path);
    if (fd < 0 || fstat(fd, &st) != 0)
        return disk_fault("opening the salt file", path, reterr);
    if (!S_ISREG(st.st_mode) || st.st_size > SALT_FILE_MAX)
        return err_set(reterr, ERR_DISK_FAULT, "the salt file \"%s\" is no regular file of at most %d bytes",
                       path, SALT_FILE_MAX);
    if (st.st_mode & S_IRWXO)
        LOG_WARN("the salt file is open to everyone, make its mode 0600", LOG_CSTR("path", path));
    char salt[SALT_FILE_MAX + 1];
    size_t len = 0;
    enum err e = OK;
    if (!read_all(fd, salt, sizeof salt, &len))
        e = disk_fault("reading the salt file", path, reterr);
    while (len && (salt[len - 1] == '\n' || salt[len - 1] == '\r'))
        salt[--len] = 0;
    if (!e && (len < AUTH_SALT_MIN_BYTES || strcspn(salt, "\r\n") != len))
        e = err_set(reterr, ERR_DISK_FAULT,
                    "the salt file \"%s\" must hold one line of at least %d characters: it is damaged", path,
                    AUTH_SALT_MIN_BYTES);
    if (!e)
        *ret_salt = xstrndup(salt, len);
    OPENSSL_cleanse(salt, sizeof salt);
    return e;
}

/* Writes a new salt to the open file; false with errno. */
MUST_CHECK static bool write_salt(int fd)
{
    unsigned char bytes[SALT_RANDOM_BYTES] = {0};
    char line[SALT_DIGITS + 2];
    errno = EIO; /* for no random numbers and a short write */
    bool written = RAND_bytes(bytes, sizeof bytes) == 1;
    hex_encode(bytes, sizeof bytes, line);
    line[SALT_DIGITS] = '\n';
    written = written && write(fd, line, SALT_DIGITS + 1) == SALT_DIGITS + 1 && fsync(fd) == 0;
    OPENSSL_cleanse(bytes, sizeof bytes);
    OPENSSL_cleanse(line, sizeof line);
    return written;
}

/* Makes the file, whole or not at all. Where another process was faster, its file stays. */
MUST_CHECK static enum err make_salt(const char *data_dir, const char *path, struct err_info *reterr)
{
    char fresh[4096];
    if ((size_t)snprintf(fresh, sizeof fresh, "%s.XXXXXX", path) >= sizeof fresh)
        return err_set(reterr, ERR_FIELD_INVALID, "DATA_DIR has a path longer than %zu bytes", sizeof fresh);
    CLEANUP(closep) int fd = mkostemp(fresh, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return disk_fault("making the salt file", path, reterr);
    /* link() refuses where rename() would replace. */
    enum err e = OK;
    if (!write_salt(fd) || (link(fresh, path) != 0 && errno != EEXIST))
        e = disk_fault("writing the salt file", path, reterr);
    unlink(fresh);
    /* The name itself must survive a power cut, or the keys made until then are lost. */
    CLEANUP(closep) int folder = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!e && (folder < 0 || fsync(folder) != 0))
        e = disk_fault("saving the folder", data_dir, reterr);
    return e;
}

enum err auth_salt_load(const char *data_dir, const char *configured, bool may_create, char **ret_salt,
                        struct err_info *reterr)
{
    if (configured && configured[0]) {
        size_t len = strlen(configured);
        if (len < AUTH_SALT_MIN_BYTES)
            return err_set(reterr, ERR_FIELD_INVALID, "API_SALT has %zu characters, at least %d are needed",
                           len, AUTH_SALT_MIN_BYTES);
        *ret_salt = xstrdup(configured);
        return OK;
    }
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/api_salt", data_dir) >= sizeof path)
        return err_set(reterr, ERR_FIELD_INVALID, "DATA_DIR has a path longer than %zu bytes", sizeof path);
    enum err e = read_salt(path, ret_salt, reterr);
    if (e != ERR_NOT_FOUND)
        return e;
    if (!may_create)
        return err_set(
            reterr, ERR_FIELD_INVALID,
            "API_SALT is not set and \"%s\" does not exist: set it to at least %d random characters", path,
            AUTH_SALT_MIN_BYTES);
    e = make_salt(data_dir, path, reterr);
    return e ? e : read_salt(path, ret_salt, reterr);
}
