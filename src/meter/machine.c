#include "meter/machine.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* proc(5): the program's name, field 2, stands in parentheses and may contain anything. */
bool machine_read_process(int pid, struct machine_process *ret)
{
    char path[64], text[1024];
    unsigned long long user, kernel, threads, virtual_bytes, resident;
    if (pid)
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
    else
        snprintf(path, sizeof path, "/proc/self/stat");
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t len = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[len] = 0;
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 1,
                        " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu %*s %*s %*s %*s %llu %*s %*s "
                        "%llu %llu",
                        &user, &kernel, &threads, &virtual_bytes, &resident) != 5)
        return false;
    *ret = (struct machine_process){
        .cpu_ns = (user + kernel) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK)),
        .resident_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE),
        .virtual_bytes = virtual_bytes,
        .threads = (uint32_t)threads,
    };
    return true;
}

uint32_t machine_count_fds(void)
{
    uint32_t count = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return 0;
    while (readdir(d))
        count++;
    closedir(d);
    return count - MIN(count, 3U); /* ".", ".." and the one that reads here */
}

uint64_t machine_ended_children_cpu_ns(void)
{
    struct rusage use;
    if (getrusage(RUSAGE_CHILDREN, &use) < 0)
        return 0;
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * NS_PER_S +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * NS_PER_US;
}

struct machine_room machine_memory(void)
{
    char line[128];
    unsigned long long available = 0, all = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && (!available || !all) && fgets(line, sizeof line, f))
        if (sscanf(line, "MemTotal: %llu", &all) != 1)
            (void)sscanf(line, "MemAvailable: %llu", &available);
    if (f)
        fclose(f);
    return (struct machine_room){available * KIB, all * KIB};
}

struct machine_room machine_disk(const char *folder)
{
    struct statvfs fs;
    if (statvfs(folder, &fs) < 0)
        return (struct machine_room){0};
    return (struct machine_room){(uint64_t)fs.f_bavail * fs.f_frsize, (uint64_t)fs.f_blocks * fs.f_frsize};
}
