/* What a guest sees of the world: its environment, two clocks, random bytes, and an hour of sleep. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(void)
{
    int count = 0;
    while (environ && environ[count])
        count++;
    printf("env %d\n", count);
    for (int i = 0; i < count; i++)
        printf("env %s\n", environ[i]);

    printf("realtime_ns %lld\n", now_ns(CLOCK_REALTIME));
    long long before = now_ns(CLOCK_MONOTONIC);
    printf("monotonic_ns %lld\n", before);

    unsigned char bytes[8];
    if (getentropy(bytes, sizeof bytes) != 0)
        return 1;
    printf("random ");
    for (size_t i = 0; i < sizeof bytes; i++)
        printf("%02x", bytes[i]);
    putchar('\n');

    if (nanosleep(&(struct timespec){.tv_sec = 3600}, NULL) != 0)
        return 2;
    printf("slept_s %lld\n", (now_ns(CLOCK_MONOTONIC) - before) / 1000000000LL);
    return 0;
}
