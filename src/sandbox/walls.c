#include "sandbox/walls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Both kinds: memory, futexes, time, signals of traps, and the descriptors that they were given. */
#define COMMON_SYSCALLS                                                                                    \
    "read", "write", "writev", "close", "fstat", "newfstatat", "lseek", "mmap", "munmap", "mprotect",      \
        "mremap", "madvise", "brk", "futex", "sigaltstack", "rt_sigaction", "rt_sigprocmask",              \
        "rt_sigreturn", "clock_gettime", "clock_nanosleep", "nanosleep", "restart_syscall", "sched_yield", \
        "getpid", "gettid", "getrandom", "recvmsg", "exit", "exit_group", "rseq", "set_robust_list",       \
        "sched_getaffinity", "prctl_name"

static const char *const sandbox_syscalls[] = {COMMON_SYSCALLS, NULL};
static const char *const compiler_syscalls[] = {COMMON_SYSCALLS, "clone3_thread", "sendmsg", NULL};

const char *const *walls_syscalls(enum walls_kind kind)
{
    return kind == WALLS_COMPILER ? compiler_syscalls : sandbox_syscalls;
}

/* Entries that stand for a call with certain arguments only. */
static int add_rule(scmp_filter_ctx filter, const char *name)
{
    if (strcmp(name, "prctl_name") == 0)
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                                SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
    if (strcmp(name, "clone3_thread") == 0) {
        /* clone3's flags are behind a pointer, which seccomp can't see: glibc falls back to clone, where CLONE_THREAD
         * is demanded. */
        int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        return rc ? rc
                  : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                     SCMP_A0(SCMP_CMP_MASKED_EQ, 0x00010000 /* CLONE_THREAD */, 0x00010000));
    }
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR)
        return -EINVAL;
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}

/* Refused calls fail with EPERM: the engine's own look at an optional thing may fail, a guest can't tell the
 * difference, and the probe can report it. */
enum err walls_seal(enum walls_kind kind, struct err_info *reterr)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return err_set(reterr, ERR_INTERNAL, "libseccomp did not start");
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (const char *const *name = walls_syscalls(kind); *name && rc == 0; name++)
        rc = add_rule(filter, *name);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    if (rc)
        return err_set(reterr, ERR_INTERNAL, "the seccomp filter could not be loaded: %s", strerror(-rc));
    return OK;
}

int walls_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi > 0 ? (int)abi : 0;
}

/* Handles every file access right that the kernel's ABI knows, and grants none. */
static enum err raise_landlock(int abi, struct err_info *reterr)
{
    /* File rights of ABI 1; 2 adds REFER, 3 TRUNCATE, 5 IOCTL_DEV; 4 adds TCP bind and connect. The headers of an
     * older system lack the newer names, the numbers are the kernel's. */
    struct {
        uint64_t handled_access_fs;
        uint64_t handled_access_net;
    } rules = {.handled_access_fs = (1ULL << 13) - 1};
    if (abi >= 2)
        rules.handled_access_fs |= 1ULL << 13;
    if (abi >= 3)
        rules.handled_access_fs |= 1ULL << 14;
    if (abi >= 5)
        rules.handled_access_fs |= 1ULL << 15;
    if (abi >= 4)
        rules.handled_access_net = 3;
    size_t size = abi >= 4 ? sizeof rules : sizeof rules.handled_access_fs;
    CLEANUP(closep) int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return err_set(reterr, ERR_INTERNAL, "Landlock refused its rules: %s", strerror(errno));
    return OK;
}

static bool limit(__rlimit_resource_t which, uint64_t value)
{
    return setrlimit(which, &(struct rlimit){value, value}) == 0;
}

/* A bound that the front put on itself (a soft limit) came along with it, and is not meant for its children. */
static bool limit_data(uint64_t bytes)
{
    struct rlimit data;
    if (bytes)
        return limit(RLIMIT_DATA, bytes);
    if (getrlimit(RLIMIT_DATA, &data) < 0)
        return false;
    data.rlim_cur = data.rlim_max;
    return setrlimit(RLIMIT_DATA, &data) == 0;
}

static enum err raise_rlimits(const struct walls_limits *limits, struct err_info *reterr)
{
    bool ok = limit(RLIMIT_CORE, 0) && limit(RLIMIT_MEMLOCK, 0) && limit(RLIMIT_MSGQUEUE, 0);
    if (limits->address_space_bytes)
        ok = ok && limit(RLIMIT_AS, limits->address_space_bytes);
    ok = ok && limit_data(limits->data_bytes);
    if (limits->file_bytes)
        ok = ok && limit(RLIMIT_FSIZE, limits->file_bytes);
    if (limits->cpu_seconds) /* the soft limit's SIGXCPU says why; at the hard one it would be SIGKILL */
        ok = ok && setrlimit(RLIMIT_CPU, &(struct rlimit){limits->cpu_seconds, limits->cpu_seconds + 1}) == 0;
    return ok ? OK : err_set(reterr, ERR_INTERNAL, "a resource limit could not be set: %s", strerror(errno));
}

enum err walls_raise(const struct walls_limits *limits, struct err_info *reterr)
{
    int landlock_abi = walls_landlock_abi();
    clearenv();
    if (syscall(SYS_close_range, (unsigned)limits->keep_fds, ~0U, 0) < 0)
        return err_set(reterr, ERR_INTERNAL, "inherited descriptors could not be closed: %s",
                       strerror(errno));
    enum err e = raise_rlimits(limits, reterr);
    if (e)
        return e;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(reterr, ERR_INTERNAL, "no_new_privs could not be set: %s", strerror(errno));
    return landlock_abi ? raise_landlock(landlock_abi, reterr) : OK;
}

/* --- the probe ---------------------------------------------------------------------------------- */
static pid_t parent;

static long try_open(void)
{
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
}

static long try_create(void)
{
    return open("/tmp/wasmwiz-probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static long try_parent_mem(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)parent);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static long try_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}

static long try_unix_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static long try_fork(void)
{
    long pid = syscall(SYS_fork);
    if (pid == 0)
        _exit(0);
    return pid;
}

static long try_clone(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid;
}

static long try_exec(void)
{
    char *const argv[] = {(char *)(uintptr_t) "true", NULL};
    return execve("/bin/true", argv, NULL);
}

static long try_ptrace(void)
{
    return ptrace(PTRACE_SEIZE, parent, 0, 0);
}

static long try_kill(void)
{
    return kill(parent, 0);
}

static long try_process_vm_readv(void)
{
    char byte;
    struct iovec local = {&byte, 1}, remote = {(void *)(uintptr_t)&parent, 1};
    return process_vm_readv(parent, &local, 1, &remote, 1, 0);
}

static long try_memfd(void)
{
    return memfd_create("probe", 0);
}

static long try_mount(void)
{
    return syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL);
}

static long try_unshare(void)
{
    return syscall(SYS_unshare, 0x10000000);
}

static long try_bpf(void)
{
    return syscall(SYS_bpf, 0, NULL, 0);
}

static long try_io_uring(void)
{
    return syscall(SYS_io_uring_setup, 1, NULL);
}

static long try_setrlimit(void)
{
    return setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

static long try_chmod(void)
{
    return syscall(SYS_chmod, "/tmp", 01777);
}

int walls_probe(int parent_pid)
{
    static const struct {
        const char *name;
        long (*attempt)(void);
    } probes[] = {
        {"open", try_open},
        {"create", try_create},
        {"socket", try_socket},
        {"unix_socket", try_unix_socket},
        {"fork", try_fork},
        {"clone", try_clone},
        {"exec", try_exec},
        {"ptrace", try_ptrace},
        {"kill", try_kill},
        {"process_vm_readv", try_process_vm_readv},
        {"parent_mem", try_parent_mem},
        {"memfd_create", try_memfd},
        {"mount", try_mount},
        {"unshare", try_unshare},
        {"bpf", try_bpf},
        {"io_uring", try_io_uring},
        {"setrlimit", try_setrlimit},
        {"chmod", try_chmod},
    };
    int allowed = 0;
    parent = parent_pid;
    for (size_t i = 0; i < LENGTH_OF(probes); i++) {
        errno = 0;
        /* Any other error means that the kernel looked at the call's arguments: the wall let it through. */
        bool refused = probes[i].attempt() < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS);
        char line[96];
        int len = snprintf(line, sizeof line, "probe %s %s (%s)\n", probes[i].name,
                           refused ? "refused" : "ALLOWED", errno ? strerrorname_np(errno) : "0");
        allowed += !refused;
        if (write(STDOUT_FILENO, line, (size_t)len) < 0)
            return -1;
    }
    return allowed;
}
