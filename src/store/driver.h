/* The seam inside this folder: the families (keys.c, users.c, ...) fill a `struct store_call` with a
 * statement of statements.def and its values; a backend (sqlite.c, postgres.c) is a `struct store_ops` that
 * carries it out on a connection; pool.c lends connections; store.c brings them together and tries again
 * where that is right. SQL text is constant: nothing that comes from outside is ever part of it. */
#ifndef WW_STORE_DRIVER_H
#define WW_STORE_DRIVER_H

#include <pthread.h>

#include "base/list.h"
#include "store/store.h"

/* --- statements and values --- */

enum store_statement {
#define SAME(name, sql) SQL_##name,
#define DIFFER(name, sqlite, postgres) SQL_##name,
#include "store/statements.def"
    SQL_COUNT
};

enum { STORE_COLUMNS_MAX = 24, STORE_BATCH_MAX = 4000, STORE_TOGETHER = 8 };

/* A value that goes in, with the field's name for errors; or one of a row that came out. */
struct store_value {
    enum { STORE_NUMBER, STORE_TEXT, STORE_BYTES } kind;
    bool is_null;
    uint64_t number;
    struct str bytes; /* of TEXT and BYTES; lent */
    const char *field;
};

static inline struct store_value store_number(const char *field, uint64_t number)
{
    return (struct store_value){.kind = STORE_NUMBER, .number = number, .field = field};
}

static inline struct store_value store_text(const char *field, struct str text)
{
    return (struct store_value){.kind = STORE_TEXT, .bytes = text, .field = field};
}

/* NULL is SQL's NULL. */
static inline struct store_value store_cstr(const char *field, const char *text)
{
    return (struct store_value){.kind = STORE_TEXT, .is_null = !text, .bytes = str_of(text), .field = field};
}

/* "" is SQL's NULL. */
static inline struct store_value store_optional(const char *field, const char *text)
{
    return store_cstr(field, text[0] ? text : NULL);
}

static inline struct store_value store_bytes(const char *field, const void *bytes, size_t len)
{
    return (struct store_value){.kind = STORE_BYTES, .bytes = str_make(bytes, len), .field = field};
}

/* A constraint that a statement ran against. */
enum store_fault { STORE_NO_FAULT, STORE_FAULT_UNIQUE, STORE_FAULT_FOREIGN, STORE_FAULT_CHECK };

typedef enum err store_row_fn(void *ctx, const struct store_value *row, struct err_info *reterr);

struct store_call {
    enum store_statement statement;
    const struct store_value *values; /* NULL where there are many rows */
    size_t count;
    /* Many rows, which are made as they are needed, one after the other: fills `count` values with those of row `i`. What
     * they lend lasts until STORE_TOGETHER more are made. */
    size_t rows;
    void (*make_row)(void *ctx, size_t i, struct store_value *values);
    store_row_fn *each; /* NULL: what comes back is not looked at */
    void *ctx;          /* of both */
    /* Results. */
    uint64_t changed;       /* rows inserted, updated, deleted */
    bool *row_changed;      /* NULL, or room for `rows` (SQLite only): whether each had an effect */
    enum store_fault fault; /* with ERR_CONFLICT */
    char fault_name[96];    /* the constraint: its name or its columns */
};

/* --- connections --- */

struct store_pool;

/* The head of each backend's own struct. */
struct store_conn {
    struct list link; /* in its pool's idle list */
    struct store_pool *pool;
    uint64_t idle_since_ns;
    uint64_t expires_ns;
    bool broken;  /* must not be lent again */
    bool clashed; /* the last failure was a clash of transactions: the same again may work */
};

/* A backend. */
struct store_ops {
    const char *name;
    const char *begin; /* of a transaction that will write */
    bool embedded;     /* the schema follows the program by itself */
    bool wants_arrays; /* a call with many rows is one statement, with arrays or as a COPY */
    const char *number, *bytes, *id, *serial, *strict,
        *clustered;               /* what {number} etc. of the migrations mean */
    const char *migrations_table; /* makes schema_migrations where it is missing */
    const char *migration_lock;   /* run inside the transaction that migrates; NULL = `begin` is enough */
    /* A new connection, within the pool's timeout. */
    enum err (*connect)(struct store_pool *pool, struct store_conn **ret_conn, struct err_info *reterr);
    void (*disconnect)(struct store_conn *conn);
    /* Whether an idle connection can be lent. */
    bool (*is_alive)(struct store_conn *conn, uint64_t idle_ns);
    /* Carries out `call`. ERR_CONFLICT with call->fault, ERR_STORE_DOWN, or what call->each returned. */
    enum err (*run)(struct store_conn *conn, struct store_call *call, struct err_info *reterr);
    /* Constant SQL without values, several statements with ';' between them. */
    enum err (*script)(struct store_conn *conn, const char *sql, struct err_info *reterr);
};

extern const struct store_ops store_sqlite_ops;
extern const struct store_ops store_postgres_ops;

/* The text of a statement in the one dialect or the other. */
const char *store_statement_sql(enum store_statement statement, bool postgres);

/* Whether this URL can be PostgreSQL's, and what to show of it. Errors name `variable`, and none shows
 * the URL. */
MUST_CHECK enum err store_postgres_check(const char *variable, const char *url, char *ret_description,
                                         size_t size, struct err_info *reterr);

/* The path behind "sqlite:", "sqlite://" or nothing; NULL where another scheme stands. */
const char *store_sqlite_path(const char *url);

/* --- pool.c --- */

/* Lends connections: the last one used first, so that few are warm and the others age. Any thread. */
struct store_pool {
    const struct store_ops *ops;
    const char *url; /* borrowed */
    bool read_only;
    uint32_t min, max;
    uint64_t timeout_ns;   /* of a connect, and of waiting for a connection */
    uint64_t statement_ns; /* of a statement */
    uint64_t lifetime_ns;  /* of a connection, 0 = for ever */
    pthread_mutex_t lock;  /* guards all that follows */
    pthread_cond_t freed;
    struct list idle; /* last used first */
    uint32_t total, lent;
    bool connecting;      /* after a failure one tries, the others don't */
    uint32_t failures;    /* in a row */
    uint64_t retry_at_ns; /* back-off */
    struct err_info why;  /* the last failure */
    uint64_t connects, connect_failures;
};

/* The fields before `lock` are set by the caller. */
void pool_init(struct store_pool *p);
/* All connections are back. */
void pool_done(struct store_pool *p);
/* ERR_STORE_DOWN: no connection could be made, or none became free in time. */
MUST_CHECK enum err pool_lend(struct store_pool *p, struct store_conn **ret_conn, struct err_info *reterr);
void pool_return(struct store_pool *p, struct store_conn *conn);
/* Closes what is too old or idle for too long, and opens one where fewer than `min` are there. */
void pool_tend(struct store_pool *p);

/* --- store.c: what the families use --- */

enum store_use { STORE_WRITE, STORE_READ, STORE_READ_STALE, STORE_USES };

/* Checks the values (ERR_FIELD_INVALID names the field), borrows a connection, carries the call out. */
MUST_CHECK enum err store_run(struct store *s, enum store_use use, struct store_call *call,
                              struct err_info *reterr);
/* The same for a statement that must change a row: ERR_NOT_FOUND with "there is no WHAT" otherwise. */
MUST_CHECK enum err store_run_on(struct store *s, struct store_call *call, const char *what,
                                 struct err_info *reterr);
/* Runs `body` between BEGIN and COMMIT on one connection, and again where transactions clashed; so it starts
 * from nothing each time. In it store_conn_run(), nothing else of the store. */
MUST_CHECK enum err
store_transact(struct store *s, enum err (*body)(void *ctx, struct store_conn *conn, struct err_info *reterr),
               void *ctx, struct err_info *reterr);
MUST_CHECK enum err store_conn_run(struct store_conn *conn, struct store_call *call, struct err_info *reterr);
const struct store_ops *store_ops_of(const struct store *s);
/* Row `i` of a call with many, checked as the values of others are. */
MUST_CHECK enum err store_call_row(const struct store_call *call, size_t i, struct store_value *values,
                                   struct err_info *reterr);

/* A statement that deletes up to $2 rows that are older than $1. */
MUST_CHECK enum err store_prune(struct store *s, enum store_statement statement, uint64_t before_ns,
                                size_t limit, uint64_t *ret_deleted, struct err_info *reterr);

/* A text field's length in bytes. ERR_FIELD_INVALID names it. */
MUST_CHECK enum err store_check_length(const char *field, size_t len, size_t least, size_t most,
                                       struct err_info *reterr);
/* Puts '?' in place of what is not UTF-8. */
void store_clean_text(char *text);
bool store_text_is_clean(struct str text);

/* Whether the call ran against a constraint whose name or columns contain `word`. */
bool store_fault_is(const struct store_call *call, enum store_fault fault, const char *word);

/* Brings the schema to `target` on a connection of the pool. */
MUST_CHECK enum err store_migrate_pool(struct store_pool *pool, uint64_t target,
                                       void (*each)(void *ctx, const struct store_migration *m, bool up),
                                       void *ctx, struct err_info *reterr);
MUST_CHECK enum err store_migration_walk(struct store_pool *pool,
                                         void (*each)(void *ctx, const struct store_migration *m), void *ctx,
                                         struct err_info *reterr);
/* ERR_STORE_DOWN unless the schema is this program's. */
MUST_CHECK enum err store_check_schema(struct store_pool *pool, struct err_info *reterr);

/* --- reading rows --- */

/* Takes a row apart, column after column; the database may be damaged, so a row may be anything. */
struct store_reader {
    const struct store_value *at;
    bool damaged;
};
void store_read_text(struct store_reader *r, char *to, size_t size); /* NULL = "" */
void store_read_bytes(struct store_reader *r, void *to, size_t len); /* exactly `len` */
size_t store_read_bytes_up_to(struct store_reader *r, void *to, size_t max);
uint64_t store_read_number(struct store_reader *r);
bool store_read_bool(struct store_reader *r);
struct str store_read_str(struct store_reader *r); /* lent */
/* ERR_STORE_DOWN where something was wrong. */
MUST_CHECK enum err store_read_end(const struct store_reader *r, const char *what, struct err_info *reterr);

/* The columns of USER_COLUMNS (users.c). */
struct store_user;
void store_user_read(struct store_reader *r, struct store_user *user);

/* Pages: the values $1 and $2 of a cursor (the first page begins behind all), and a bounded limit. */
#define STORE_CURSOR_VALUES(c)                                                               \
    store_number("cursor", (c)->time_ns || (c)->id[0] ? (c)->time_ns : (uint64_t)INT64_MAX), \
        store_cstr("cursor", (c)->id)
void store_cursor_set(struct store_cursor *c, uint64_t time_ns, const char *id);
static inline struct store_value store_limit(size_t limit)
{
    return store_number("limit", MIN(limit, (size_t)STORE_PAGE_MAX));
}

#endif
