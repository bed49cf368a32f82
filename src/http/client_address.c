/* Which addresses are of the public Internet: the IANA registries of special-purpose addresses (RFC 6890). */
#include <arpa/inet.h>

#include "http/client.h"

struct range4 {
    uint32_t address;
    unsigned bits;
};

#define V4(a, b, c, d) (((uint32_t)(a) << 24) | ((uint32_t)(b) << 16) | ((uint32_t)(c) << 8) | (uint32_t)(d))

static const struct range4 not_public4[] = {
    {V4(0, 0, 0, 0), 8},       /* this network */
    {V4(10, 0, 0, 0), 8},      /* private */
    {V4(100, 64, 0, 0), 10},   /* shared by a provider's customers */
    {V4(127, 0, 0, 0), 8},     /* this machine */
    {V4(169, 254, 0, 0), 16},  /* the link; clouds answer for their machines there */
    {V4(172, 16, 0, 0), 12},   /* private */
    {V4(192, 0, 0, 0), 24},    /* protocols */
    {V4(192, 0, 2, 0), 24},    /* documentation */
    {V4(192, 88, 99, 0), 24},  /* relays of 6to4 */
    {V4(192, 168, 0, 0), 16},  /* private */
    {V4(198, 18, 0, 0), 15},   /* benchmarks */
    {V4(198, 51, 100, 0), 24}, /* documentation */
    {V4(203, 0, 113, 0), 24},  /* documentation */
    {V4(224, 0, 0, 0), 4},     /* groups */
    {V4(240, 0, 0, 0), 4},     /* reserved, and everybody on the link */
};

struct range6 {
    unsigned char address[16];
    unsigned bits;
};

/* Inside of 2000::/3; what is outside of it is not public: loopback, link, private, groups, IPv4-mapped, NAT64. */
static const struct range6 not_public6[] = {
    {{0x20, 0x01, 0x00}, 23},             /* protocols, among them Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},       /* documentation */
    {{0x20, 0x02}, 16},                   /* 6to4 */
    {{0x26, 0x20, 0x00, 0x4f, 0x80}, 48}, /* answers about private addresses */
    {{0x3f, 0xff, 0x00}, 20},             /* documentation */
};

static bool begins_with(const unsigned char *address, const unsigned char *prefix, unsigned bits)
{
    unsigned whole = bits / 8;
    unsigned char mask = (unsigned char)(0xff << (8 - bits % 8));
    return memcmp(address, prefix, whole) == 0 &&
           (bits % 8 == 0 || ((address[whole] ^ prefix[whole]) & mask) == 0);
}

static bool is_public4(uint32_t address)
{
    for (size_t i = 0; i < LENGTH_OF(not_public4); i++)
        if ((address ^ not_public4[i].address) >> (32 - not_public4[i].bits) == 0)
            return false;
    return true;
}

static bool is_public6(const unsigned char address[16])
{
    if (address[0] >> 5 != 1)
        return false;
    for (size_t i = 0; i < LENGTH_OF(not_public6); i++)
        if (begins_with(address, not_public6[i].address, not_public6[i].bits))
            return false;
    return true;
}

bool http_client_address_is_public(const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        return is_public4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family != AF_INET6)
        return false;
    memcpy(&v6, address, sizeof v6);
    return is_public6(v6.sin6_addr.s6_addr);
}
