/* Ends with the status of its argument, after a word on each stream. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    puts("before the exit");
    fputs("leaving\n", stderr);
    return argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0;
}
