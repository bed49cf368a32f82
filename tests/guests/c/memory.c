/* Allocates N MiB (default 1), a MiB at a time, and touches every page. Exit status 3 where malloc() says no. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    unsigned long wanted = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    for (unsigned long i = 0; i < wanted; i++) {
        volatile char *p = malloc(1 << 20);
        if (!p) {
            fprintf(stderr, "malloc failed after %lu MiB\n", i);
            return 3;
        }
        for (size_t at = 0; at < 1 << 20; at += 4096)
            p[at] = 1;
    }
    printf("%lu MiB touched\n", wanted);
    return 0;
}
