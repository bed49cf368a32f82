/* Echo by lines through stdio; then, on stderr, the sum and mean of the numbers that the lines begin with. With the
 * C library's reading and printing of numbers it makes a module of about 40 KB. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    unsigned long lines = 0;
    double sum = 0;
    while (getline(&line, &room, stdin) > 0) {
        fputs(line, stdout);
        lines++;
        sum += strtod(line, NULL);
    }
    fprintf(stderr, "%lu lines, sum %.2f, mean %.2f\n", lines, sum, lines ? sum / (double)lines : 0);
    return 0;
}
