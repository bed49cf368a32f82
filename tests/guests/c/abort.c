/* Gives up three calls deep: a trap whose frames have names. */
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) static void third_call(int depth)
{
    fprintf(stderr, "giving up at depth %d\n", depth);
    abort();
}

__attribute__((noinline)) static void second_call(int depth)
{
    third_call(depth + 1);
    puts("never printed");
}

__attribute__((noinline)) static void first_call(int depth)
{
    second_call(depth + 1);
    puts("never printed");
}

int main(void)
{
    puts("before the trap");
    fflush(stdout);
    first_call(1);
    return 0;
}
