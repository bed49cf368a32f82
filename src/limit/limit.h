/* Now, later or never: who may run how often, and who may ask how often.
 *
 * Executions take a token of their key's tier (a bucket of the per-minute figure with steady refill, a counter of the
 * UTC day) and hold a lease while they run. Everything else takes from looser limits: one for each key, one for each
 * client address. What an answer says goes into the header fields of every reply.
 *
 * Where the counters are (memory, Redis) is kv/'s matter. In memory an answer costs a fraction of a microsecond and
 * comes at once; from Redis it comes later: LIMIT_ASK. */
#ifndef WW_LIMIT_LIMIT_H
#define WW_LIMIT_LIMIT_H

#include <netinet/in.h>

#include "kv/kv.h"

struct limit_config {
    struct kv *kv; /* borrowed, outlives the limit */
    /* Of requests that are no executions; 0: no such limit. At most KV_PER_MINUTE_MAX. */
    uint32_t key_per_minute;
    uint32_t address_per_minute;
    /* Above the longest run, its queue included: after that, the lease of an instance that died ends by itself. */
    uint64_t lease_ns;
};

struct limit;

struct limit *limit_new(const struct limit_config *config);
void limit_free(struct limit *l); /* takes NULL */

enum limit_answer { LIMIT_ALLOWED, LIMIT_REFUSED, LIMIT_ASK };
enum limit_what { LIMIT_NOTHING, LIMIT_MINUTE, LIMIT_DAY, LIMIT_CONCURRENCY };

/* What the caller is told. All zeroes: there is no limit to tell of. */
struct limit_state {
    enum limit_what refused_by;
    /* The limit that is nearest: tokens a minute or a day, those left, seconds (rounded up) until all are back. */
    uint32_t limit, remaining, reset_s;
    uint32_t figure; /* refused: the figure that was passed, for the sentence */
    uint32_t
        retry_after_s; /* refused: waiting this long is enough (for concurrency a guess: when a run ends) */
    bool local;        /* counted by this process alone, although the limits should be shared */
};

/* One who waits for an answer; embedded in what it is about, stays in place until the answer has come. */
struct limit_wait {
    void (*ready)(struct limit_wait *w); /* set by the caller; only called after LIMIT_ASK */
    /* filled with every answer */
    enum limit_answer answer; /* ALLOWED or REFUSED */
    struct limit_state state;
    struct kv_ticket ticket; /* ALLOWED: to be given back by limit_give() once */
    /* the limit's own */
    struct kv_wait kv;
    struct kv_figures figures;
};

/* Takes one execution of this key, 1 to KV_KEY_MAX bytes; `figures` are those of its tier, and above
 * KV_PER_MINUTE_MAX a minute count as that. LIMIT_ASK: ready() is called on `loop`, after this returned. Otherwise
 * `w` is filled now. On the thread of `loop`. */
enum limit_answer limit_execution(struct limit *l, struct loop *loop, struct str key,
                                  const struct kv_figures *figures, struct limit_wait *w);
/* How the key stands, taking nothing: for replies about executions that took none. LIMIT_REFUSED: one would be. */
enum limit_answer limit_look(struct limit *l, struct loop *loop, struct str key,
                             const struct kv_figures *figures, struct limit_wait *w);
/* Takes one request that is no execution: of a key, of a client address. An IPv6 client counts by its /64: it has all
 * of that. An address that is neither IPv4 nor IPv6 has no limit. */
enum limit_answer limit_key(struct limit *l, struct loop *loop, struct str key, struct limit_wait *w);
enum limit_answer limit_address(struct limit *l, struct loop *loop, const struct sockaddr *address,
                                struct limit_wait *w);
/* The run has ended, or never began; `refund`: it shall cost nothing (400, 401, 403, 413). Fine on an empty ticket,
 * which it is afterwards. On the thread of `loop`. */
void limit_give(struct limit *l, struct loop *loop, struct kv_ticket *ticket, bool refund);

/* "minute", "day", "concurrency": for people and JSON. "" for nothing. */
const char *limit_what_name(enum limit_what what);
/* Fills `info` with ERR_RATE_LIMITED and the sentence for a refusal. Returns that code. */
enum err limit_refusal(const struct limit_state *state, struct err_info *info);

enum { LIMIT_FIELDS_MAX = 7 };

struct limit_field {
    const char *name;
    char value[11];
};
/* The header fields of a reply: RateLimit-Limit, -Remaining, -Reset, their X-RateLimit- twins, and Retry-After for a
 * refusal. Returns how many; 0 where there is no limit. */
size_t limit_fields(const struct limit_state *state, struct limit_field ret[static LIMIT_FIELDS_MAX]);

#endif
