/* A line on stdout, and each argument as a line on stderr. */
#include <stdio.h>

int main(int argc, char **argv)
{
    puts("this is stdout");
    for (int i = 1; i < argc; i++)
        fprintf(stderr, "%s\n", argv[i]);
    return 0;
}
