/* The walls around a process that handles what nobody trusts: no_new_privs, resource limits, no core file, an empty
 * environment, closed descriptors, Landlock (no path, no TCP) where the kernel has it, and a seccomp list of the few
 * system calls that are needed. Put up before the first untrusted byte is looked at; they can't be taken down. */
#ifndef WW_SANDBOX_WALLS_H
#define WW_SANDBOX_WALLS_H

#include "base/err.h"

enum walls_kind {
    WALLS_SANDBOX,  /* runs guests: no file, no socket but its own, no process */
    WALLS_COMPILER, /* the same, and threads */
};

struct walls_limits {
    uint64_t address_space_bytes; /* 0 = unlimited: the pool reserves terabytes without using them */
    uint64_t data_bytes;          /* private writable memory; 0 = unlimited */
    uint64_t cpu_seconds;         /* 0 = unlimited */
    uint64_t file_bytes;          /* written to any one file; 0 = unlimited */
    int keep_fds;                 /* descriptors 0 .. keep_fds-1 stay open */
};

/* The first half, while the process has one thread: resource limits, no_new_privs, Landlock, descriptors, environment.
 * ERR_INTERNAL: one could not be had; the process must end. */
MUST_CHECK enum err walls_raise(const struct walls_limits *limits, struct err_info *reterr);
/* The second half, once threads and memory are set up: seccomp, on all threads. */
MUST_CHECK enum err walls_seal(enum walls_kind kind, struct err_info *reterr);

/* The Landlock ABI version of this kernel, 0 = none. */
int walls_landlock_abi(void);

/* Tries everything that must not work, prints a line for each, "probe NAME refused|ALLOWED (errno)". Returns the number
 * that was allowed. Call behind the walls; needs stdout. `parent_pid`: whose memory to try. */
int walls_probe(int parent_pid);

/* The names of the system calls that the kind may use, for `wasmwiz doctor`; NULL-terminated. */
const char *const *walls_syscalls(enum walls_kind kind);

#endif
