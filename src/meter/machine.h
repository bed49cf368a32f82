/* What processes use and what the machine has left, as the kernel says. All of it reads files of the kernel: on the
 * serving loops' pool only, because a file system may hang. */
#ifndef WW_METER_MACHINE_H
#define WW_METER_MACHINE_H

#include "base/base.h"

struct machine_process {
    uint64_t cpu_ns, resident_bytes, virtual_bytes;
    uint32_t threads;
};
/* Of this process (`pid` 0), or of another. False: it is gone; *ret is untouched. */
bool machine_read_process(int pid, struct machine_process *ret);
/* Descriptors that this process has open. */
uint32_t machine_count_fds(void);
/* Processor time of the children of this process that have ended. */
uint64_t machine_ended_children_cpu_ns(void);

struct machine_room {
    uint64_t free_bytes, bytes; /* 0: unknown */
};
struct machine_room machine_memory(void);
/* Of the file system where the folder is, as far as this user may fill it. */
struct machine_room machine_disk(const char *folder);

#endif
