/* How many primes there are up to N (default 100000: 9592), by trial division: processor time and little else. */
#include <stdio.h>
#include <stdlib.h>

static int is_prime(unsigned n)
{
    if (n < 4)
        return n > 1;
    if (n % 2 == 0)
        return 0;
    for (unsigned d = 3; d <= n / d; d += 2)
        if (n % d == 0)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    unsigned limit = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100000, count = 0;
    for (unsigned n = 2; n <= limit; n++)
        count += (unsigned)is_prime(n);
    printf("%u\n", count);
    return 0;
}
