/* Trusted proxies: who the client is when the peer is only a proxy (RFC 7239 and its older
 * X-Forwarded-For and X-Forwarded-Proto).
 *
 * The lists are read from their end: the last entry was written by the peer, the one before it by whom that
 * entry names, and so on for as long as each is trusted. What stands further left anybody can have written. */
#include <arpa/inet.h>

#include "http/internal.h"
#include "http/params.h"
#include "http/proxy.h"

enum { RANGES_MAX = 256, V4_PREFIX_BITS = 96, HOPS_MAX = 16, FORWARDED_MAX_BYTES = 4096 };

/* IPv4 as ::ffff:a.b.c.d, so that there is one form only. */
struct address {
    unsigned char bytes[16];
};

struct http_proxies {
    size_t count;
    struct {
        struct address address;
        unsigned bits;
    } ranges[RANGES_MAX];
};

static bool is_v4(const struct address *a)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(a->bytes, mapped, sizeof mapped) == 0;
}

static bool address_parse(struct str text, struct address *ret)
{
    char copy[INET6_ADDRSTRLEN];
    if (text.len >= sizeof copy)
        return false;
    memcpy(copy, text.p, text.len);
    copy[text.len] = 0;
    *ret = (struct address){.bytes = {[10] = 0xff, [11] = 0xff}};
    return inet_pton(AF_INET, copy, ret->bytes + 12) == 1 || inet_pton(AF_INET6, copy, ret->bytes) == 1;
}

static void address_format(const struct address *a, char out[static HTTP_PEER_BYTES])
{
    if (is_v4(a))
        inet_ntop(AF_INET, a->bytes + 12, out, HTTP_PEER_BYTES);
    else
        inet_ntop(AF_INET6, a->bytes, out, HTTP_PEER_BYTES);
}

/* --- the list ------------------------------------------------------------------------------------- */

enum err http_proxies_parse(struct str text, struct http_proxies **ret_proxies, struct err_info *reterr)
{
    *ret_proxies = NULL;
    if (str_trim(text).len == 0)
        return OK;
    CLEANUP(freep) struct http_proxies *p = xcalloc(1, sizeof *p);
    while (text.len) {
        struct str item = str_trim(str_split(&text, ',')), rest = item;
        struct str address = str_split(&rest, '/');
        bool has_bits = address.len < item.len;
        if (p->count == RANGES_MAX)
            return err_set(reterr, ERR_FIELD_INVALID, "there are more than %d trusted proxies", RANGES_MAX);
        if (!address_parse(address, &p->ranges[p->count].address))
            return err_set(reterr, ERR_FIELD_INVALID,
                           "the trusted proxy \"%.*s\" is not an address, nor a range "
                           "like 10.0.0.0/8",
                           STR_FMT(item));
        bool v4 = is_v4(&p->ranges[p->count].address);
        uint64_t bits = v4 ? 32 : 128;
        if (has_bits && !str_to_u64(rest, bits, &bits))
            return err_set(reterr, ERR_FIELD_INVALID,
                           "the trusted proxy \"%.*s\" has no length from 0 to %llu "
                           "behind its \"/\"",
                           STR_FMT(item), (unsigned long long)bits);
        p->ranges[p->count++].bits = (unsigned)bits + (v4 ? V4_PREFIX_BITS : 0);
    }
    *ret_proxies = TAKE(p);
    return OK;
}

void http_proxies_free(struct http_proxies *p)
{
    free(p);
}

static bool has(const struct http_proxies *p, const struct address *a)
{
    for (size_t i = 0; i < p->count; i++) {
        const unsigned char *range = p->ranges[i].address.bytes;
        unsigned whole = p->ranges[i].bits / 8, left = p->ranges[i].bits % 8;
        unsigned differ = left ? (unsigned)(range[whole] ^ a->bytes[whole]) >> (8 - left) : 0;
        bool other_kind = is_v4(a) && p->ranges[i].bits < V4_PREFIX_BITS; /* "::/0" is IPv6 only */
        if (memcmp(range, a->bytes, whole) == 0 && !differ && !other_kind)
            return true;
    }
    return false;
}

bool http_proxies_trust(const struct http_proxies *p, const char *peer)
{
    struct address a;
    return p && address_parse(str_of(peer), &a) && has(p, &a);
}

/* --- what the fields say --------------------------------------------------------------------------- */

/* The last hops that a field lists. */
struct hops {
    size_t count; /* of all; those that are kept are at [i % HOPS_MAX] */
    struct {
        struct str node, proto;
    } hops[HOPS_MAX];
    size_t used;
    char bytes[FORWARDED_MAX_BYTES]; /* of unquoted values */
};

/* 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1] or [2001:db8::1]:80. */
static bool node_parse(struct str node, struct address *ret)
{
    if (str_starts_with(node, STR_LIT("["))) {
        size_t end = str_index(node, ']');
        return end < node.len && address_parse(str_make(node.p + 1, end - 1), ret);
    }
    if (address_parse(node, ret))
        return true;
    return address_parse(str_make(node.p, str_index(node, ':')), ret);
}

static void add_hop(struct hops *h, struct str node, struct str proto)
{
    h->hops[h->count % HOPS_MAX].node = node;
    h->hops[h->count % HOPS_MAX].proto = proto;
    h->count++;
}

/* Where the element at the start of a Forwarded value ends: a comma in quotes is none. */
static size_t element_length(struct str s)
{
    bool quoted = false;
    for (size_t i = 0; i < s.len; i++) {
        if (quoted && s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            quoted = !quoted;
        else if (s.p[i] == ',' && !quoted)
            return i;
    }
    return s.len;
}

/* False: not of the form that RFC 7239 section 4 describes. */
static bool add_element(struct hops *h, struct str element)
{
    struct str node = STR_LIT(""), proto = STR_LIT(""), name, value;
    /* http_param_next() wants the ';' that stands before each. */
    if (h->used + 2 * (element.len + 1) > sizeof h->bytes)
        return false;
    char *copy = h->bytes + h->used, *out = copy + element.len + 1;
    copy[0] = ';';
    memcpy(copy + 1, element.p, element.len);
    h->used += element.len + 1;
    struct str rest = str_make(copy, element.len + 1);
    enum http_param found;
    while ((found = http_param_next(&rest, out, &name, &value)) == HTTP_PARAM_FOUND) {
        out += value.len;
        if (str_ieq(name, STR_LIT("for")))
            node = value;
        else if (str_ieq(name, STR_LIT("proto")))
            proto = value;
    }
    h->used = (size_t)(out - h->bytes);
    add_hop(h, node, proto);
    return found == HTTP_PARAM_END;
}

static bool read_forwarded(struct hops *h, struct str value)
{
    while (value.len) {
        size_t len = element_length(value);
        if (!add_element(h, str_trim(str_make(value.p, len))))
            return false;
        len += len < value.len;
        value = str_make(value.p + len, value.len - len);
    }
    return true;
}

static void read_list(struct hops *h, struct str value)
{
    while (value.len)
        add_hop(h, str_trim(str_split(&value, ',')), STR_LIT(""));
}

/* The client's address as the hops tell it; true where they do. */
static bool client_of(const struct hops *h, const struct http_proxies *p, struct address *ret_client,
                      struct str *ret_proto)
{
    bool found = false;
    for (size_t n = 0; n < MIN(h->count, (size_t)HOPS_MAX); n++) {
        size_t at = (h->count - 1 - n) % HOPS_MAX;
        struct address a;
        if (!node_parse(h->hops[at].node, &a))
            break;
        found = true;
        *ret_client = a;
        *ret_proto = h->hops[at].proto;
        if (!has(p, &a))
            break;
    }
    return found;
}

void http_proxy_apply(struct http_exchange *x)
{
    const struct http_proxies *p = x->server->config.proxies;
    struct hops forwarded = {.count = 0}, older = {.count = 0};
    struct str older_proto = STR_LIT(""), proto = STR_LIT(""), ignored;
    struct address client, other;
    bool readable = true, has_forwarded = false;
    for (uint32_t i = 0; i < x->field_count; i++) {
        struct str name = http_exchange_str(x, x->fields[i].name);
        struct str value = str_trim(http_exchange_str(x, x->fields[i].value));
        if (str_ieq(name, STR_LIT("forwarded"))) {
            has_forwarded = true;
            readable = readable && read_forwarded(&forwarded, value);
        } else if (str_ieq(name, STR_LIT("x-forwarded-for"))) {
            read_list(&older, value);
        } else if (str_ieq(name, STR_LIT("x-forwarded-proto"))) {
            while (value.len)
                older_proto = str_trim(str_split(&value, ','));
        }
    }
    bool found = readable && client_of(&forwarded, p, &client, &proto);
    bool found_older = client_of(&older, p, &other, &ignored);
    /* A proxy sets one of the two and may let pass what the client wrote into the other: where they
     * disagree nobody knows, and the peer is all that is certain. */
    if (has_forwarded && older.count &&
        (!found || !found_older || memcmp(client.bytes, other.bytes, sizeof client.bytes) != 0))
        return;
    if (!found && !found_older)
        return;
    address_format(found ? &client : &other, x->forwarded_peer);
    x->peer = x->forwarded_peer;
    if (!found)
        proto = older_proto;
    else if (older_proto.len && !str_ieq(older_proto, proto))
        proto = STR_LIT("");
    if (proto.len || older_proto.len)
        x->secure = str_ieq(proto, STR_LIT("https"));
}
