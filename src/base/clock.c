#include "base/clock.h"

#include <time.h>

static uint64_t now(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return now(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
    return now(CLOCK_REALTIME);
}

void clock_format(uint64_t wall_ns, char out[static 32])
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t at = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + at, 32 - at, ".%03uZ", (unsigned)(wall_ns % NS_PER_S / NS_PER_MS));
}
