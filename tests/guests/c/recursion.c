/* Calls itself N deep (default 1000) and comes back: prints the depth it saw. */
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) static unsigned long dive(unsigned long left)
{
    /* the barrier keeps the compiler from making a loop of it */
    unsigned long below = left ? dive(left - 1) : 0;
    __asm__ volatile("" : "+r"(below));
    return below + 1;
}

int main(int argc, char **argv)
{
    unsigned long depth = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    printf("%lu\n", depth ? dive(depth - 1) : 0);
    return 0;
}
