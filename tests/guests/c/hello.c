/* Says hello, then each argument on a line. */
#include <stdio.h>

int main(int argc, char **argv)
{
    puts("hello from C");
    for (int i = 1; i < argc; i++)
        printf("arg %d: %s\n", i, argv[i]);
    return 0;
}
