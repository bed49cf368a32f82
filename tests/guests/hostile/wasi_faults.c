/* Calls every function of WASI preview 1 with descriptors, lengths and addresses that are wrong, and prints a
 * line a call: the function, what must come of it, and the errno that came. What must come:
 *   fault    EFAULT, and nothing has changed
 *   badf     EBADF
 *   inval    EINVAL
 *   refused  any errno but 0: there is more than one good reason to say no
 *   denied   files and sockets: EBADF or ENOTCAPABLE, or that the descriptor is of another kind
 *   any      nothing to hold it to but that it comes back
 *   fine     0
 * At the end it says whether the bytes at the end of its memory and its stdin are still what they were. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef uint32_t i32;
typedef uint64_t i64;

#define WASI(name, ...)                                                                                 \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) extern i32 raw_##name( \
        __VA_ARGS__)

WASI(args_get, i32, i32);
WASI(args_sizes_get, i32, i32);
WASI(environ_get, i32, i32);
WASI(environ_sizes_get, i32, i32);
WASI(clock_res_get, i32, i32);
WASI(clock_time_get, i32, i64, i32);
WASI(fd_advise, i32, i64, i64, i32);
WASI(fd_allocate, i32, i64, i64);
WASI(fd_close, i32);
WASI(fd_datasync, i32);
WASI(fd_fdstat_get, i32, i32);
WASI(fd_fdstat_set_flags, i32, i32);
WASI(fd_fdstat_set_rights, i32, i64, i64);
WASI(fd_filestat_get, i32, i32);
WASI(fd_filestat_set_size, i32, i64);
WASI(fd_filestat_set_times, i32, i64, i64, i32);
WASI(fd_pread, i32, i32, i32, i64, i32);
WASI(fd_prestat_get, i32, i32);
WASI(fd_prestat_dir_name, i32, i32, i32);
WASI(fd_pwrite, i32, i32, i32, i64, i32);
WASI(fd_read, i32, i32, i32, i32);
WASI(fd_readdir, i32, i32, i32, i64, i32);
WASI(fd_renumber, i32, i32);
WASI(fd_seek, i32, i64, i32, i32);
WASI(fd_sync, i32);
WASI(fd_tell, i32, i32);
WASI(fd_write, i32, i32, i32, i32);
WASI(path_create_directory, i32, i32, i32);
WASI(path_filestat_get, i32, i32, i32, i32, i32);
WASI(path_filestat_set_times, i32, i32, i32, i32, i64, i64, i32);
WASI(path_link, i32, i32, i32, i32, i32, i32, i32);
WASI(path_open, i32, i32, i32, i32, i32, i64, i64, i32, i32);
WASI(path_readlink, i32, i32, i32, i32, i32, i32);
WASI(path_remove_directory, i32, i32, i32);
WASI(path_rename, i32, i32, i32, i32, i32, i32);
WASI(path_symlink, i32, i32, i32, i32, i32);
WASI(path_unlink_file, i32, i32, i32);
WASI(poll_oneoff, i32, i32, i32, i32);
WASI(proc_raise, i32);
WASI(sched_yield, void);
WASI(random_get, i32, i32);
WASI(sock_accept, i32, i32, i32);
WASI(sock_recv, i32, i32, i32, i32, i32, i32);
WASI(sock_send, i32, i32, i32, i32, i32);
WASI(sock_shutdown, i32, i32);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit"),
               noreturn)) extern void raw_proc_exit(i32);

#define CALL(want, name, ...) printf(#name " " want " %u\n", (unsigned)raw_##name(__VA_ARGS__))

enum {
    BAD = 0xffffffff,
    HALF = 0x80000000,
    STDIN = 0,
    STDOUT = 1,
    CLOSED = 99, /* a descriptor that is not open */
    DIR = 3,     /* where a first folder would be, if there were any */
};

struct vec {
    i32 at, length;
};

static struct vec good_vec, bad_vec, straddling_vec, wrapping_vec;
static char scratch[256];
static i32 here; /* scratch's address */
static i32 edge; /* four bytes before the end of memory */
static unsigned char *edge_bytes;

static i32 at(const void *p)
{
    return (i32)(uintptr_t)p;
}

static void arguments(void)
{
    CALL("fault", args_sizes_get, BAD, here);
    CALL("fault", args_sizes_get, here, BAD);
    CALL("fault", args_sizes_get, edge + 1, here);
    CALL("fault", args_get, BAD, here);
    CALL("fault", args_get, here, BAD);
    CALL("fault", args_get, edge, here);
    CALL("fault", args_get, here, edge + 3);
    CALL("fault", environ_sizes_get, BAD, here);
    CALL("fault", environ_sizes_get, here, BAD);
    CALL("any", environ_get, BAD, BAD);
}

static void clocks_and_random(void)
{
    for (i32 id = 0; id < 4; id++) {
        CALL("fault", clock_res_get, id, BAD);
        CALL("fault", clock_time_get, id, 0, BAD);
        CALL("fault", clock_time_get, id, 0, edge);
    }
    CALL("inval", clock_res_get, 77, here);
    CALL("inval", clock_time_get, BAD, 0, here);
    CALL("fault", random_get, BAD, 16);
    CALL("fault", random_get, 0, BAD);
    CALL("fault", random_get, edge, 5);
    CALL("fault", random_get, HALF, HALF);
}

static void polls(void)
{
    memset(scratch, 0, sizeof scratch); /* one subscription: a sleep of no time */
    CALL("inval", poll_oneoff, here, here + 64, 0, here + 128);
    CALL("fault", poll_oneoff, BAD, here + 64, 1, here + 128);
    CALL("fault", poll_oneoff, edge, here + 64, 1, here + 128);
    CALL("fault", poll_oneoff, here, BAD, 1, here + 128);
    CALL("fault", poll_oneoff, here, edge, 1, here + 128);
    CALL("fault", poll_oneoff, here, here + 64, 1, BAD);
    CALL("refused", poll_oneoff, here, here + 64, BAD, here + 128);
    CALL("refused", poll_oneoff, here, here + 64, 0x05555556, here + 128); /* * 48 wraps in 32 bits */
}

static void streams(void)
{
    const struct vec *bad[] = {&bad_vec, &straddling_vec, &wrapping_vec};
    for (i32 i = 0; i < 3; i++) {
        CALL("fault", fd_read, STDIN, at(bad[i]), 1, here);
        CALL("fault", fd_write, STDOUT, at(bad[i]), 1, here);
    }
    CALL("fault", fd_read, STDIN, BAD, 1, here);
    CALL("fault", fd_read, STDIN, edge, 1, here);
    CALL("fault", fd_read, STDIN, at(&good_vec), 1, BAD);
    CALL("refused", fd_read, STDIN, at(&good_vec), BAD, here);
    CALL("refused", fd_read, STDIN, at(&good_vec), 0x20000001, here); /* * 8 wraps in 32 bits */
    CALL("refused", fd_read, STDOUT, at(&good_vec), 1, here);
    CALL("fault", fd_write, STDOUT, BAD, 1, here);
    CALL("fault", fd_write, STDOUT, edge, 1, here);
    CALL("fault", fd_write, STDOUT, at(&good_vec), 1, BAD);
    CALL("refused", fd_write, STDOUT, at(&good_vec), BAD, here);
    CALL("refused", fd_write, STDOUT, at(&good_vec), 0x20000001, here);
    CALL("refused", fd_write, STDIN, at(&good_vec), 1, here);
    CALL("badf", fd_read, CLOSED, at(&good_vec), 1, here);
    CALL("badf", fd_write, BAD, at(&good_vec), 1, here);
    CALL("refused", fd_pread, STDIN, BAD, 1, 0, BAD);
    CALL("refused", fd_pwrite, STDOUT, BAD, 1, 0, BAD);
    CALL("badf", fd_pread, CLOSED, at(&good_vec), 1, 0, here);
    CALL("badf", fd_pwrite, BAD, at(&good_vec), 1, 0, here);
}

static void descriptors(void)
{
    CALL("fault", fd_fdstat_get, STDOUT, BAD);
    CALL("fault", fd_fdstat_get, STDOUT, edge);
    CALL("badf", fd_fdstat_get, CLOSED, here);
    CALL("refused", fd_filestat_get, STDOUT, BAD);
    CALL("badf", fd_filestat_get, BAD, here);
    CALL("refused", fd_seek, STDOUT, 0, 0, BAD);
    CALL("badf", fd_seek, CLOSED, 0, 0, here);
    CALL("refused", fd_tell, STDIN, BAD);
    CALL("badf", fd_tell, BAD, here);
    CALL("refused", fd_readdir, STDIN, BAD, BAD, 0, BAD);
    CALL("badf", fd_readdir, DIR, here, 64, 0, here + 128);
    CALL("badf", fd_prestat_get, DIR, here);
    CALL("refused", fd_prestat_get, BAD, BAD);
    CALL("badf", fd_prestat_dir_name, DIR, here, 64);
    CALL("refused", fd_prestat_dir_name, HALF, BAD, BAD);
    CALL("badf", fd_advise, CLOSED, 0, 0, 0);
    CALL("badf", fd_allocate, CLOSED, 0, 1);
    CALL("refused", fd_allocate, STDOUT, 0, 1ull << 62);
    CALL("badf", fd_close, CLOSED);
    CALL("badf", fd_close, BAD);
    CALL("badf", fd_datasync, HALF);
    CALL("badf", fd_sync, CLOSED);
    CALL("badf", fd_fdstat_set_flags, BAD, 0);
    CALL("badf", fd_fdstat_set_rights, BAD, 0, 0);
    CALL("badf", fd_filestat_set_size, CLOSED, 0);
    CALL("refused", fd_filestat_set_size, STDOUT, 1ull << 62);
    CALL("badf", fd_filestat_set_times, CLOSED, 0, 0, 0);
    CALL("badf", fd_renumber, CLOSED, STDOUT);
    CALL("badf", fd_renumber, STDOUT, CLOSED);
    CALL("badf", fd_renumber, STDOUT, BAD);
}

static void files_and_sockets(void)
{
    static const char path[] = "/etc/passwd";
    i32 name = at(path), length = sizeof path - 1;
    const i32 from[] = {STDIN, DIR, CLOSED, BAD};
    for (i32 i = 0; i < sizeof from / sizeof *from; i++) {
        i32 dir = from[i];
        CALL("denied", path_open, dir, 0, name, length, 0, ~0ull, ~0ull, 0, here);
        CALL("refused", path_open, dir, 0, BAD, BAD, 0, ~0ull, ~0ull, 0, BAD);
        CALL("denied", path_create_directory, dir, name, length);
        CALL("denied", path_filestat_get, dir, 0, name, length, here);
        CALL("refused", path_filestat_get, dir, 0, name, length, BAD);
        CALL("denied", path_filestat_set_times, dir, 0, name, length, 0, 0, 0);
        CALL("denied", path_link, dir, 0, name, length, dir, name, length);
        CALL("denied", path_readlink, dir, name, length, here, 64, here + 128);
        CALL("refused", path_readlink, dir, BAD, length, BAD, BAD, BAD);
        CALL("denied", path_remove_directory, dir, name, length);
        CALL("denied", path_rename, dir, name, length, dir, name, length);
        CALL("denied", path_symlink, name, length, dir, name, length);
        CALL("denied", path_unlink_file, dir, name, length);
        CALL("denied", sock_accept, dir, 0, here);
        CALL("refused", sock_accept, dir, 0, BAD);
        CALL("denied", sock_recv, dir, at(&good_vec), 1, 0, here, here + 4);
        CALL("refused", sock_recv, dir, BAD, BAD, 0, BAD, BAD);
        CALL("denied", sock_send, dir, at(&good_vec), 1, 0, here);
        CALL("refused", sock_send, dir, BAD, BAD, 0, BAD);
        CALL("denied", sock_shutdown, dir, 3);
    }
}

int main(void)
{
    here = at(scratch);
    edge = (i32)__builtin_wasm_memory_size(0) * 65536u - 4;
    edge_bytes = (unsigned char *)(uintptr_t)edge;
    memcpy(edge_bytes, "edge", 4);
    good_vec = (struct vec){here, sizeof scratch};
    bad_vec = (struct vec){BAD, 16};
    straddling_vec = (struct vec){edge, 5};
    wrapping_vec = (struct vec){HALF, HALF};

    arguments();
    clocks_and_random();
    polls();
    streams();
    descriptors();
    files_and_sockets();
    CALL("refused", proc_raise, 200);
    CALL("fine", sched_yield);
    printf("edge %.4s\n", (const char *)edge_bytes);
    ssize_t n = read(STDIN, scratch, sizeof scratch);
    printf("stdin %.*s\n", (int)(n > 0 ? n : 0), scratch);
    fflush(stdout);
    raw_proc_exit(0);
}
