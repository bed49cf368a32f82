/* Tries what a guest may not do, through the C library and by calling WASI itself, and prints each answer. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>

static const char *name_of(int code)
{
    switch (code) {
    case 0: return "OK";
    case EACCES: return "EACCES";
    case EBADF: return "EBADF";
    case EINVAL: return "EINVAL";
    case ENOENT: return "ENOENT";
    case ENOSYS: return "ENOSYS";
    case ENOTCAPABLE: return "ENOTCAPABLE";
    case ENOTDIR: return "ENOTDIR";
    case ENOTSOCK: return "ENOTSOCK";
    case ENOTSUP: return "ENOTSUP";
    case EPERM: return "EPERM";
    case ESPIPE: return "ESPIPE";
    default: return strerror(code);
    }
}

static void answer(const char *what, int code)
{
    printf("%s: %s\n", what, name_of(code));
}

static void try_library(void)
{
    answer("open /etc/passwd", open("/etc/passwd", O_RDONLY) < 0 ? errno : 0);
    answer("open file for writing", open("file", O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0);
    answer("opendir /", opendir("/") ? 0 : errno);
    answer("mkdir folder", mkdir("folder", 0700) < 0 ? errno : 0);
    answer("unlink file", unlink("file") < 0 ? errno : 0);
    answer("lseek stdin", lseek(STDIN_FILENO, 0, SEEK_CUR) < 0 ? errno : 0);
}

/* Straight to the host, on stdout and on the first descriptor that a preopened folder would have. */
static void try_wasi(void)
{
    __wasi_fd_t fd;
    __wasi_filestat_t stat;
    __wasi_prestat_t prestat;
    __wasi_size_t size;
    __wasi_roflags_t flags;
    char byte = 0;
    __wasi_iovec_t in = {(uint8_t *)&byte, 1};
    __wasi_ciovec_t out = {(const uint8_t *)&byte, 1};

    answer("fd_prestat_get 3", __wasi_fd_prestat_get(3, &prestat));
    answer("path_open 3", __wasi_path_open(3, 0, "file", 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd));
    answer("path_open stdout", __wasi_path_open(1, 0, "file", 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd));
    answer("path_filestat_get 3", __wasi_path_filestat_get(3, 0, "file", &stat));
    answer("path_create_directory 3", __wasi_path_create_directory(3, "folder"));
    answer("path_unlink_file 3", __wasi_path_unlink_file(3, "file"));
    answer("path_rename 3", __wasi_path_rename(3, "a", 3, "b"));
    answer("fd_read 3", __wasi_fd_read(3, &in, 1, &size));
    answer("fd_readdir 3", __wasi_fd_readdir(3, (uint8_t *)&byte, 1, 0, &size));
    answer("fd_renumber 3", __wasi_fd_renumber(3, 1));
    answer("fd_pread stdin", __wasi_fd_pread(0, &in, 1, 0, &size));
    answer("sock_accept 3", __wasi_sock_accept(3, 0, &fd));
    answer("sock_recv stdin", __wasi_sock_recv(0, &in, 1, 0, &size, &flags));
    answer("sock_send stdout", __wasi_sock_send(1, &out, 1, 0, &size));
    answer("sock_shutdown 3", __wasi_sock_shutdown(3, __WASI_SDFLAGS_RD));
}

int main(void)
{
    try_library();
    try_wasi();
    return 0;
}
