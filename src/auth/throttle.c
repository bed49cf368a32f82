#include "auth/throttle.h"

#include <arpa/inet.h>

#include "auth/internal.h"
#include "base/buf.h"
#include "base/clock.h"
#include "store/logins.h"

enum { SUBJECT_TEXT_BYTES = 320, TRIES = 4, PRUNE_ROWS = 20 };
/* Attempts older than this count no more; longer than every ceiling below. */
#define FORGET_AFTER_NS (2 * 3600 * NS_PER_S)

static const struct {
    const char *name;
    unsigned free;       /* attempts without a delay */
    uint64_t first_ns;   /* the delay after the next one */
    uint64_t ceiling_ns; /* no delay is longer */
    bool is_client_address;
} throttles[AUTH_THROTTLE_COUNT] = {
    /* An account can be kept closed by others' guesses, so its ceiling is low: some 30 guesses an hour. */
    [AUTH_THROTTLE_ACCOUNT] = {"account", 5, NS_PER_S, 300 * NS_PER_S, false},
    [AUTH_THROTTLE_ADDRESS] = {"address", 20, NS_PER_S, 900 * NS_PER_S, true},
    [AUTH_THROTTLE_REGISTER] = {"register", 10, 10 * NS_PER_S, 3600 * NS_PER_S, true},
};

/* The part of a client's address that counts; see limit_address(). */
static void put_client(struct buf *to, struct str address)
{
    enum { PREFIX_BYTES = 8 };
    char text[INET6_ADDRSTRLEN + 1], hex[2 * PREFIX_BYTES + 1];
    struct in6_addr v6;
    snprintf(text, sizeof text, "%.*s", STR_FMT(address));
    if (inet_pton(AF_INET6, text, &v6) == 1 && !IN6_IS_ADDR_V4MAPPED(&v6)) {
        hex_encode(v6.s6_addr, PREFIX_BYTES, hex);
        buf_puts(to, hex);
    } else if (inet_pton(AF_INET6, text, &v6) == 1) {
        buf_printf(to, "%u.%u.%u.%u", v6.s6_addr[12], v6.s6_addr[13], v6.s6_addr[14], v6.s6_addr[15]);
    } else {
        buf_put_str(to, address);
    }
}

/* What the store knows the subject by: a part of the HMAC of its name. */
static void subject_of(struct auth *a, enum auth_throttle which, struct str subject,
                       char to[static STORE_LOGIN_SUBJECT_BYTES])
{
    char room[SUBJECT_TEXT_BYTES];
    unsigned char mac[AUTH_MAC_BYTES];
    struct buf text = {.p = room, .capacity = sizeof room, .max = sizeof room - 1};
    buf_printf(&text, "attempt %s ", throttles[which].name);
    if (throttles[which].is_client_address)
        put_client(&text, subject);
    else
        for (size_t i = 0; i < subject.len; i++)
            buf_putc(&text, (char)(subject.p[i] >= 'A' && subject.p[i] <= 'Z' ? subject.p[i] + ('a' - 'A')
                                                                              : subject.p[i]));
    WW_ASSERT(!text.overflow); /* callers have checked the length */
    auth_hash(a, buf_str(&text), mac);
    hex_encode(mac, (STORE_LOGIN_SUBJECT_BYTES - 1) / 2, to);
}

static uint64_t delay_ns(enum auth_throttle which, uint64_t attempts)
{
    if (attempts < throttles[which].free)
        return 0;
    uint64_t delay = throttles[which].first_ns;
    for (uint64_t i = throttles[which].free; i < attempts && delay < throttles[which].ceiling_ns; i++)
        delay *= 2;
    return MIN(delay, throttles[which].ceiling_ns);
}

enum err auth_throttle_take(struct auth *a, enum auth_throttle which, struct str subject,
                            uint32_t *ret_wait_s, struct err_info *reterr)
{
    char id[STORE_LOGIN_SUBJECT_BYTES];
    struct store_login seen;
    uint64_t pruned;
    enum err e = OK;
    subject_of(a, which, subject, id);
    for (int i = 0; i < TRIES; i++) {
        uint64_t now = clock_wall_ns();
        e = store_login_get(a->store, id, &seen, reterr);
        if (e)
            return e;
        uint64_t attempts = now > seen.last_ns + FORGET_AFTER_NS ? 0 : seen.attempts;
        uint64_t since = now > seen.last_ns ? now - seen.last_ns : 0;
        uint64_t delay = delay_ns(which, attempts);
        if (since < delay) {
            /* The clock was set back: the wait begins anew, once, or it would last until the clock is there again. */
            const struct store_login now_on = {seen.attempts, now};
            if (now < seen.last_ns && (e = store_login_put(a->store, id, &seen, &now_on, reterr))) {
                if (e == ERR_CONFLICT)
                    continue;
                return e;
            }
            *ret_wait_s = (uint32_t)((delay - since + NS_PER_S - 1) / NS_PER_S);
            return err_set(reterr, ERR_RATE_LIMITED, "too many attempts; try again in %u seconds",
                           *ret_wait_s);
        }
        const struct store_login next = {attempts + 1, now};
        e = store_login_put(a->store, id, &seen, &next, reterr);
        if (e == ERR_CONFLICT)
            continue;
        if (!e && attempts == 0)
            e = store_login_prune(a->store, now - FORGET_AFTER_NS, PRUNE_ROWS, &pruned, reterr);
        return e;
    }
    *ret_wait_s = 1;
    return err_set(reterr, ERR_RATE_LIMITED, "too many attempts at once; try again in a second");
}

enum err auth_throttle_give(struct auth *a, enum auth_throttle which, struct str subject,
                            struct err_info *reterr)
{
    char id[STORE_LOGIN_SUBJECT_BYTES];
    subject_of(a, which, subject, id);
    return store_login_give(a->store, id, reterr);
}

enum err auth_throttle_forget(struct auth *a, enum auth_throttle which, struct str subject,
                              struct err_info *reterr)
{
    char id[STORE_LOGIN_SUBJECT_BYTES];
    subject_of(a, which, subject, id);
    return store_login_forget(a->store, id, reterr);
}
