/* SQL storage: one set of functions over two databases. SQLite (WAL, one file) is embedded and needs nothing;
 * PostgreSQL is for several instances. Which one is decided by the URL, and nothing else differs for callers.
 *
 * This header opens and watches a store; the families of functions have headers of their own: keys.h, users.h
 * (with tiers), sessions.h, audit.h, usage.h, webhooks.h. In all of them
 *  - functions block, so on a serving loop they are called from libuv's pool only; any thread may call them;
 *  - times are wall nanoseconds since 1970, 0 = never; numbers have 63 bits;
 *  - text is UTF-8 without NUL; what does not fit its field is ERR_FIELD_INVALID, and names the field;
 *  - ERR_STORE_DOWN may be tried again: the store finds its way back by itself. A write that fails so may or
 *    may not have happened;
 *  - lists come in pages: `each` gets one row after the other, lent for the call; false from it ends the walk. It
 *    must not call the store. */
#ifndef WW_STORE_STORE_H
#define WW_STORE_STORE_H

#include "base/err.h"
#include "base/str.h"

enum {
    STORE_ID_BYTES = 17,      /* 16 hexadecimal digits and a NUL */
    STORE_TIER_BYTES = 17,    /* a tier's name has 1 to 16 characters */
    STORE_ADDRESS_BYTES = 64, /* of a client, with a NUL */
    STORE_PAGE_MAX = 1000,    /* rows of a page; larger limits mean this one */
};

/* Where the next page begins: behind the row with this time and id. Zeroes = the first page. Pages go from
 * new to old, so rows that come in meanwhile neither repeat nor hide others. */
struct store_cursor {
    uint64_t time_ns;
    char id[33];
};

/* How to reach the database; 0 and NULL stand for the defaults. Copied by store_open_with(). */
struct store_config {
    const char *url;         /* postgres://..., postgresql://..., sqlite:PATH, or a path */
    const char *replica_url; /* PostgreSQL: for reads that may be some seconds old; NULL or "" = none */
    uint32_t pool_min;       /* PostgreSQL: connections kept open; 1 */
    uint32_t pool_max;       /* and at most; 8 */
    uint64_t timeout_ns;     /* of a connect, of a statement, and of waiting for a connection; 5 s */
    uint64_t lifetime_ns;    /* of a connection to PostgreSQL; 30 min */
};

struct store;

/* Whether the URL has one of the forms above; nothing is opened. ERR_FIELD_INVALID names DATABASE_URL, or
 * DATABASE_REPLICA_URL, which only a PostgreSQL in `url` may have, and does not repeat the value: it may hold a
 * password. */
MUST_CHECK enum err store_check_url(const char *url, struct err_info *reterr);
MUST_CHECK enum err store_check_replica_url(const char *url, const char *replica_url,
                                            struct err_info *reterr);

/* Opens a store. SQLite: makes the file (mode 0600) and brings its schema up to date, safe in several
 * processes at once. PostgreSQL: the schema must be this program's: ERR_STORE_DOWN says so and names the
 * command. ERR_FIELD_INVALID: the URL has no form that is known; no error shows the URL's password.
 * *ret_store is owned by the caller: store_close(). */
MUST_CHECK enum err store_open_with(const struct store_config *config, struct store **ret_store,
                                    struct err_info *reterr);
/* The same with defaults. */
MUST_CHECK enum err store_open(const char *url, struct store **ret_store, struct err_info *reterr);
/* Takes NULL. No other call may be under way. */
void store_close(struct store *s);

/* "sqlite" or "postgresql". */
const char *store_backend(const struct store *s);
/* Which database this is, for people: the file, or host, port and name; without user and password. */
const char *store_describe(const struct store *s);

/* A number that changes whenever a tier, a user or a key has changed in what caches may hold, here, in
 * another process or on another machine. Only differences mean anything. Also tends the pool: call it twice a
 * second. */
MUST_CHECK enum err store_version(struct store *s, uint64_t *ret_version, struct err_info *reterr);
/* OK when the database answers. */
MUST_CHECK enum err store_ping(struct store *s, struct err_info *reterr);

/* What the pools hold, for metrics. */
struct store_stats {
    uint32_t connections, connections_in_use;
    uint64_t connects, connect_failures;
};
struct store_stats store_stats(struct store *s);

/* --- the schema --- */

struct store_migration {
    uint64_t version; /* 1, 2, ... */
    const char *name;
    uint64_t applied_ns; /* 0 = not applied */
};

/* The version that this program needs. */
uint64_t store_schema_version(void);
/* Takes the schema up or down to `target` (at most store_schema_version(), 0 = no table is left), all steps
 * in one transaction, one process at a time. `each` (may be NULL) hears of every step after all are
 * committed. */
MUST_CHECK enum err store_migrate(const struct store_config *config, uint64_t target,
                                  void (*each)(void *ctx, const struct store_migration *m, bool up),
                                  void *ctx, struct err_info *reterr);
/* Calls `each` for every migration that this program knows, oldest first. */
MUST_CHECK enum err store_migration_each(const struct store_config *config,
                                         void (*each)(void *ctx, const struct store_migration *m), void *ctx,
                                         struct err_info *reterr);

#endif
