/* SHA-256 (FIPS 180-4) of stdin; with an argument, hashed that many times again. The constants are computed as
 * the standard defines them: the first 32 bits of the fractions of the roots of the first primes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sha {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
};

static uint32_t first_state[8], constants[64];

/* The fraction of the `root`th (2 or 3) root of n, times 2^32: the largest x with x^root <= n * 2^(32 root). */
static uint32_t root_fraction(uint64_t n, int root)
{
    uint64_t x = 0;
    for (int bit = 36; bit >= 0; bit--) {
        uint64_t try = x | (uint64_t)1 << bit;
        /* try^root / 2^(32 root) <= n, in 128 bits: (2^37)^3 and n * 2^96 both fit */
        unsigned __int128 power = try;
        for (int i = 1; i < root; i++)
            power *= try;
        if (power <= (unsigned __int128)n << (32 * root))
            x = try;
    }
    return (uint32_t)x;
}

static void make_constants(void)
{
    int count = 0;
    for (uint64_t n = 2; count < 64; n++) {
        int prime = 1;
        for (uint64_t d = 2; d * d <= n; d++)
            if (n % d == 0)
                prime = 0;
        if (!prime)
            continue;
        if (count < 8)
            first_state[count] = root_fraction(n, 2);
        constants[count++] = root_fraction(n, 3);
    }
}

static uint32_t rotate(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static void mix(struct sha *s)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 |
               (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, s->state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t e = v[4], a = v[0];
        uint32_t one = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                       constants[i] + w[i];
        uint32_t two =
            (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += one;
        v[0] = one + two;
    }
    for (int i = 0; i < 8; i++)
        s->state[i] += v[i];
}

static void sha_init(struct sha *s)
{
    *s = (struct sha){.length = 0};
    memcpy(s->state, first_state, sizeof s->state);
}

static void sha_add(struct sha *s, const unsigned char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        s->block[s->length++ % 64] = data[i];
        if (s->length % 64 == 0)
            mix(s);
    }
}

static void sha_done(struct sha *s, unsigned char digest[32])
{
    uint64_t bits = s->length * 8;
    sha_add(s, (const unsigned char *)"\x80", 1);
    while (s->length % 64 != 56)
        sha_add(s, (const unsigned char *)"", 1);
    for (int shift = 56; shift >= 0; shift -= 8)
        sha_add(s, &(unsigned char){(unsigned char)(bits >> shift)}, 1);
    for (int i = 0; i < 32; i++)
        digest[i] = (unsigned char)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

int main(int argc, char **argv)
{
    static unsigned char piece[65536];
    unsigned char digest[32];
    unsigned long again = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    struct sha s;
    size_t length;

    make_constants();
    sha_init(&s);
    while ((length = fread(piece, 1, sizeof piece, stdin)) > 0)
        sha_add(&s, piece, length);
    sha_done(&s, digest);
    while (again--) {
        sha_init(&s);
        sha_add(&s, digest, sizeof digest);
        sha_done(&s, digest);
    }
    for (size_t i = 0; i < sizeof digest; i++)
        printf("%02x", digest[i]);
    putchar('\n');
    return 0;
}
