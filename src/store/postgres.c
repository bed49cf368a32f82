/* The backend for several instances: PostgreSQL through libpq, without ever waiting longer than the time-out:
 * calls are sent without blocking and waited for with poll(2). Values travel in binary. A connection on which
 * anything was not understood is closed rather than lent again. */
#include "store/driver.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <poll.h>

#include "base/buf.h"
#include "base/clock.h"

/* Types of the server, from its pg_type.h; arrays of them. */
enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_VARCHAR = 1043,
    OID_BYTEA_ARRAY = 1001,
    OID_TEXT_ARRAY = 1009,
    OID_INT8_ARRAY = 1016,
};

enum {
    PING_AFTER_S = 30,    /* an idle connection is asked for a sign of life before it is lent */
    GRACE_MS = 1000,      /* the server's own time-out comes first, and leaves the connection whole */
    BATCH_MAX = 64 << 20, /* bytes of a batch, or of one column of it */
};
#define ADVISORY_LOCK "7629121" /* any number, the same in all instances */

struct connection {
    struct store_conn conn;
    PGconn *pg;
    uint64_t timeout_ns, statement_ns; /* as the pool's */
    bool prepared[SQL_COUNT];
};

static struct connection *of(struct store_conn *conn)
{
    return CONTAINER_OF(conn, struct connection, conn);
}

/* libpq's sentences have several lines and end with one. */
MUST_CHECK static enum err down(const char *doing, const char *reason, struct err_info *reterr)
{
    char line[256];
    snprintf(line, sizeof line, "%s", reason);
    for (char *p = line; *p; p++)
        if (*p == '\n' || *p == '\t')
            *p = p[1] ? ' ' : 0;
    return err_set(reterr, ERR_STORE_DOWN, "%s: %s", doing, line[0] ? line : "no reason given");
}

/* --- the URL --- */

static void conninfo_freep(PQconninfoOption **options)
{
    PQconninfoFree(*options);
}

static const char *option_of(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val ? options->val : "";
    return "";
}

enum err store_postgres_check(const char *variable, const char *url, char *ret_description, size_t size,
                              struct err_info *reterr)
{
    char *why = NULL;
    CLEANUP(conninfo_freep) PQconninfoOption *options = PQconninfoParse(url, &why);
    PQfreemem(why); /* it may quote a piece of the password */
    if (!options)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "%s is not understood: its form is postgresql://USER:PASSWORD@HOST:PORT/NAME, with"
                       " other characters than letters and digits in USER and PASSWORD percent-encoded",
                       variable);
    const char *host = option_of(options, "host"), *port = option_of(options, "port");
    const char *name = option_of(options, "dbname");
    /* "p@ss" that was not encoded: the host would be shown in errors, and with it a piece of the password. */
    if (strchr(host, '@') || strchr(name, '@') || strchr(port, '@'))
        return err_set(reterr, ERR_FIELD_INVALID,
                       "%s has an \"@\" in its host or name: write %%40 for one in the password", variable);
    snprintf(ret_description, size, "%s:%s/%s", host[0] ? host : "local", port[0] ? port : "5432", name);
    return OK;
}

/* --- waiting --- */

static void result_freep(PGresult **r)
{
    PQclear(*r);
}

/* Until the socket is ready for `events`, or the deadline is over. */
MUST_CHECK static bool wait_for(PGconn *pg, short events, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now = clock_now_ns();
        if (now >= deadline_ns)
            return false;
        struct pollfd fd = {.fd = PQsocket(pg), .events = events};
        int ready = poll(&fd, 1, (int)MIN((deadline_ns - now) / NS_PER_MS + 1, (uint64_t)60000));
        if (ready > 0)
            return true;
    }
}

MUST_CHECK static enum err too_slow(struct connection *c, const char *doing, struct err_info *reterr)
{
    c->conn.broken = true;
    return err_set(reterr, ERR_STORE_DOWN,
                   "%s: the server did not answer within the time-out (DATABASE_TIMEOUT)", doing);
}

/* Sends what was queued. Answers are read meanwhile, so that the server never waits for us while we wait for
 * it. */
MUST_CHECK static enum err flush(struct connection *c, uint64_t deadline_ns, struct err_info *reterr)
{
    int unsent;
    while ((unsent = PQflush(c->pg)) == 1) {
        if (!wait_for(c->pg, POLLIN | POLLOUT, deadline_ns))
            return too_slow(c, "using the database", reterr);
        if (!PQconsumeInput(c->pg))
            break;
    }
    return OK; /* a connection that broke says so when its answer is fetched */
}

/* Sends what was queued and waits for the answer; *ret_result is the first that is an error, else the
 * last. */
MUST_CHECK static enum err receive(struct connection *c, PGresult **ret_result, struct err_info *reterr)
{
    uint64_t deadline = clock_now_ns() + c->statement_ns + GRACE_MS * NS_PER_MS;
    CLEANUP(result_freep) PGresult *kept = NULL;
    PGresult *r;
    enum err e = flush(c, deadline, reterr);
    if (e)
        return e;
    do {
        while (PQisBusy(c->pg)) {
            if (!wait_for(c->pg, POLLIN, deadline))
                return too_slow(c, "using the database", reterr);
            if (!PQconsumeInput(c->pg))
                break;
        }
        r = PQgetResult(c->pg);
        if (r && kept && PQresultStatus(kept) == PGRES_FATAL_ERROR) {
            PQclear(r);
        } else if (r) {
            PQclear(kept);
            kept = r;
        }
    } while (r);
    if (PQstatus(c->pg) != CONNECTION_OK)
        c->conn.broken = true;
    if (!kept) {
        c->conn.broken = true;
        return down("using the database", PQerrorMessage(c->pg), reterr);
    }
    *ret_result = TAKE(kept);
    return OK;
}

/* --- errors --- */

static bool is_class(const char *state, const char *class)
{
    return state[0] == class[0] && state[1] == class[1];
}

/* What the server's refusal means; `call` NULL: of a script. SQLSTATEs are those of its manual, appendix
 * A. */
MUST_CHECK static enum err refused(struct connection *c, const PGresult *r, struct store_call *call,
                                   struct err_info *reterr)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *constraint = PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME);
    state = state ? state : "";
    message = message ? message : PQerrorMessage(c->pg);
    if (is_class(state, "23") && call) {
        call->fault = strcmp(state, "23505") == 0   ? STORE_FAULT_UNIQUE
                      : strcmp(state, "23503") == 0 ? STORE_FAULT_FOREIGN
                                                    : STORE_FAULT_CHECK;
        snprintf(call->fault_name, sizeof call->fault_name, "%s", constraint ? constraint : "");
        return err_set(reterr, ERR_CONFLICT, "the database refused it: %s", message);
    }
    if (is_class(state, "22") && call) /* a value, or what it would make of a sum, is out of range */
        return err_set(reterr, ERR_FIELD_INVALID, "the database can't keep it: %s", message);
    if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0)
        c->conn.clashed = true;
    /* The connection's end; a primary that has become a standby; a statement that someone has thrown away, or
     * whose tables are others now: a new connection knows better. */
    if (is_class(state, "08") || is_class(state, "57") || strcmp(state, "25006") == 0 ||
        strcmp(state, "26000") == 0 || strcmp(state, "0A000") == 0 || strcmp(state, "42P05") == 0)
        c->conn.broken = strcmp(state, "57014") != 0; /* the statement's own time-out */
    return down("using the database", message, reterr);
}

MUST_CHECK static enum err check_result(struct connection *c, const PGresult *r, struct store_call *call,
                                        struct err_info *reterr)
{
    switch (PQresultStatus(r)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY: return OK;
    default: return refused(c, r, call, reterr);
    }
}

static enum err postgres_script(struct store_conn *conn, const char *sql, struct err_info *reterr)
{
    struct connection *c = of(conn);
    CLEANUP(result_freep) PGresult *r = NULL;
    if (!PQsendQuery(c->pg, sql)) {
        conn->broken = true;
        return down("using the database", PQerrorMessage(c->pg), reterr);
    }
    enum err e = receive(c, &r, reterr);
    return e ? e : check_result(c, r, NULL, reterr);
}

/* --- connecting --- */

static void be_silent(void *ctx, const PGresult *notice)
{
    (void)ctx, (void)notice;
}

static void postgres_disconnect(struct store_conn *conn)
{
    struct connection *c = of(conn);
    PQfinish(c->pg);
    free(c);
}

MUST_CHECK static enum err finish_connecting(struct connection *c, struct err_info *reterr)
{
    static const char doing[] = "connecting";
    uint64_t deadline = clock_now_ns() + c->timeout_ns;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD)
        return down(doing, c->pg ? PQerrorMessage(c->pg) : "no memory", reterr);
    while (status != PGRES_POLLING_OK) {
        if (!wait_for(c->pg, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
            return too_slow(c, doing, reterr);
        status = PQconnectPoll(c->pg);
        if (status == PGRES_POLLING_FAILED)
            return down(doing, PQerrorMessage(c->pg), reterr);
    }
    if (PQserverVersion(c->pg) < 140000)
        return err_set(reterr, ERR_STORE_DOWN, "the server is PostgreSQL %d; 14 or newer is needed",
                       PQserverVersion(c->pg) / 10000);
    if (PQsetnonblocking(c->pg, 1) != 0)
        return down(doing, PQerrorMessage(c->pg), reterr);
    char settings[160];
    unsigned long long ms = c->statement_ns / NS_PER_MS;
    snprintf(settings, sizeof settings,
             "SET statement_timeout = %llu; SET idle_in_transaction_session_timeout = %llu; SET bytea_output "
             "= hex",
             ms, 2 * ms);
    return postgres_script(&c->conn, settings, reterr);
}

static enum err postgres_connect(struct store_pool *pool, struct store_conn **ret_conn,
                                 struct err_info *reterr)
{
    struct connection *c = xcalloc(1, sizeof *c);
    char user_timeout[24];
    c->timeout_ns = pool->timeout_ns;
    c->statement_ns = pool->statement_ns;
    snprintf(user_timeout, sizeof user_timeout, "%llu",
             (unsigned long long)(pool->timeout_ns / NS_PER_MS + GRACE_MS));
    /* Of two with one name the later wins, and the URL stands where "dbname" does. */
    const char *const names[] = {"application_name", "keepalives_idle",  "keepalives_interval",
                                 "keepalives_count", "tcp_user_timeout", "target_session_attrs",
                                 "dbname",           "client_encoding",  NULL};
    const char *const values[] = {"wasmwiz", "30",         "10",
                                  "3",       user_timeout, pool->read_only ? "any" : "read-write",
                                  pool->url, "UTF8",       NULL};
    c->pg = PQconnectStartParams(names, values, 1);
    if (c->pg)
        PQsetNoticeReceiver(c->pg, be_silent, NULL);
    enum err e = finish_connecting(c, reterr);
    if (e)
        postgres_disconnect(&c->conn);
    else
        *ret_conn = &c->conn;
    return e;
}

static bool postgres_is_alive(struct store_conn *conn, uint64_t idle_ns)
{
    struct connection *c = of(conn);
    struct pollfd fd = {.fd = PQsocket(c->pg), .events = POLLIN};
    /* Bytes at an idle connection: its end, mostly. What else it may be (a setting of the server has changed)
     * is too rare to tell apart. */
    if (poll(&fd, 1, 0) != 0)
        return false;
    return idle_ns < PING_AFTER_S * NS_PER_S || postgres_script(conn, "SELECT 1", NULL) == OK;
}

/* --- values --- */

static Oid type_of(const struct store_value *v, bool array)
{
    switch (v->kind) {
    case STORE_NUMBER: return array ? OID_INT8_ARRAY : OID_INT8;
    case STORE_TEXT: return array ? OID_TEXT_ARRAY : OID_TEXT;
    default: return array ? OID_BYTEA_ARRAY : OID_BYTEA;
    }
}

/* The parameters of a call, in the form that libpq takes. */
struct parameters {
    Oid types[STORE_COLUMNS_MAX];
    const char *values[STORE_COLUMNS_MAX];
    int lengths[STORE_COLUMNS_MAX];
    int formats[STORE_COLUMNS_MAX];
    uint64_t numbers[STORE_COLUMNS_MAX];
    struct buf arrays[STORE_COLUMNS_MAX];
    int count;
};

static void parameters_done(struct parameters *p)
{
    for (int i = 0; i < p->count; i++)
        buf_done(&p->arrays[i]);
}

static void put_u32(struct buf *b, uint32_t n)
{
    n = htonl(n);
    buf_append(b, &n, sizeof n);
}

/* As the server's *_send() functions write a value: its length, -1 = NULL, and its bytes. */
static void put_value(struct buf *b, const struct store_value *v)
{
    if (v->is_null) {
        put_u32(b, UINT32_MAX);
    } else if (v->kind == STORE_NUMBER) {
        uint64_t number = htobe64(v->number);
        put_u32(b, sizeof number);
        buf_append(b, &number, sizeof number);
    } else {
        put_u32(b, (uint32_t)v->bytes.len);
        buf_append(b, v->bytes.p, v->bytes.len);
    }
}

/* The beginning of an array of one dimension, as array_send() of the server writes it: dimensions, flags, type of the
 * elements, length and lower bound. */
static void put_array(struct buf *b, Oid type, size_t rows)
{
    *b = buf_make(BATCH_MAX);
    put_u32(b, 1);
    put_u32(b, 1);
    put_u32(b, type);
    put_u32(b, (uint32_t)rows);
    put_u32(b, 1);
}

MUST_CHECK static enum err too_large(struct err_info *reterr)
{
    return err_set(reterr, ERR_FIELD_INVALID, "a batch of rows has more than %d bytes", BATCH_MAX);
}

/* Each column of the rows becomes an array. */
MUST_CHECK static enum err fill_arrays(struct parameters *p, const struct store_call *call,
                                       struct err_info *reterr)
{
    bool overflow = false;
    for (size_t i = 0; i < call->rows; i++) {
        struct store_value row[STORE_COLUMNS_MAX];
        enum err e = store_call_row(call, i, row, reterr);
        if (e)
            return e;
        for (size_t column = 0; column < call->count; column++) {
            if (i == 0) {
                put_array(&p->arrays[column], type_of(&row[column], false), call->rows);
                p->types[column] = type_of(&row[column], true);
            }
            put_value(&p->arrays[column], &row[column]);
        }
    }
    for (size_t column = 0; column < call->count; column++) {
        p->values[column] = p->arrays[column].p;
        p->lengths[column] = (int)p->arrays[column].len;
        p->formats[column] = 1;
        overflow |= p->arrays[column].overflow;
    }
    return overflow ? too_large(reterr) : OK;
}

static void fill(struct parameters *p, const struct store_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        const struct store_value *v = &call->values[i];
        p->types[i] = type_of(v, false);
        p->formats[i] = 1;
        if (v->is_null) {
            p->values[i] = NULL;
        } else if (v->kind == STORE_NUMBER) {
            p->numbers[i] = htobe64(v->number);
            p->values[i] = (const char *)&p->numbers[i];
            p->lengths[i] = sizeof p->numbers[i];
        } else {
            p->values[i] = v->bytes.p ? v->bytes.p : "";
            p->lengths[i] = (int)v->bytes.len;
        }
    }
}

/* A value of a kind that no column of ours has becomes bytes, which no reader takes for a number or a
 * text. */
static struct store_value value_at(const PGresult *r, int row, int column)
{
    const char *p = PQgetvalue(r, row, column);
    size_t len = (size_t)PQgetlength(r, row, column);
    Oid type = PQftype(r, column);
    struct store_value v = store_bytes("", p, len);
    if (PQgetisnull(r, row, column)) {
        v.is_null = true;
    } else if (type == OID_TEXT || type == OID_VARCHAR) {
        v.kind = STORE_TEXT;
    } else if ((type == OID_INT8 && len == 8) || (type == OID_INT4 && len == 4) ||
               (type == OID_INT2 && len == 2) || (type == OID_BOOL && len == 1)) {
        uint64_t number = p[0] < 0 ? UINT64_MAX : 0; /* the sign goes on */
        for (size_t i = 0; i < len; i++)
            number = number << 8 | (unsigned char)p[i];
        v = store_number("", number);
    }
    return v;
}

/* --- statements and rows --- */

MUST_CHECK static enum err prepare(struct connection *c, enum store_statement which,
                                   const struct parameters *p, const char *name, struct err_info *reterr)
{
    if (c->prepared[which])
        return OK;
    CLEANUP(result_freep) PGresult *r = NULL;
    if (!PQsendPrepare(c->pg, name, store_statement_sql(which, true), p->count, p->types)) {
        c->conn.broken = true;
        return down("preparing a statement", PQerrorMessage(c->pg), reterr);
    }
    enum err e = receive(c, &r, reterr);
    if (!e)
        e = check_result(c, r, NULL, reterr);
    c->prepared[which] = !e;
    return e;
}

MUST_CHECK static enum err give_rows(const PGresult *r, struct store_call *call, struct err_info *reterr)
{
    int rows = PQntuples(r), columns = PQnfields(r);
    WW_ASSERT(columns <= STORE_COLUMNS_MAX);
    for (int i = 0; call->each && i < rows; i++) {
        struct store_value row[STORE_COLUMNS_MAX];
        for (int j = 0; j < columns; j++)
            row[j] = value_at(r, i, j);
        enum err e = call->each(call->ctx, row, reterr);
        if (e)
            return e;
    }
    return OK;
}

/* --- copying --- */

static bool is_copy(const char *sql)
{
    return strncmp(sql, "COPY ", 5) == 0;
}

/* The rows in COPY's binary format (PostgreSQL's manual, COPY, "Binary Format"). */
MUST_CHECK static enum err put_rows(struct buf *b, const struct store_call *call, struct err_info *reterr)
{
    static const char head[] =
        "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* the signature, no flags, no more of a head */
    buf_append(b, head, sizeof head);
    for (size_t i = 0; i < call->rows; i++) {
        struct store_value row[STORE_COLUMNS_MAX];
        enum err e = store_call_row(call, i, row, reterr);
        if (e)
            return e;
        uint16_t columns = htons((uint16_t)call->count);
        buf_append(b, &columns, sizeof columns);
        for (size_t column = 0; column < call->count; column++)
            put_value(b, &row[column]);
    }
    buf_append(b, "\377\377", 2);
    return b->overflow ? too_large(reterr) : OK;
}

/* Begins the copy and gives the bytes; whatever the server says to that comes with the result. */
MUST_CHECK static enum err send_rows(struct connection *c, const char *sql, struct str bytes,
                                     struct err_info *reterr)
{
    uint64_t deadline = clock_now_ns() + c->statement_ns + GRACE_MS * NS_PER_MS;
    bool sent = PQsendQuery(c->pg, sql);
    enum err e = sent ? flush(c, deadline, reterr) : OK;
    while (sent && !e && PQisBusy(c->pg)) {
        if (!wait_for(c->pg, POLLIN, deadline))
            e = too_slow(c, "using the database", reterr);
        else if (!PQconsumeInput(c->pg))
            break;
    }
    if (e)
        return e;
    CLEANUP(result_freep) PGresult *begun = sent ? PQgetResult(c->pg) : NULL;
    if (PQresultStatus(begun) != PGRES_COPY_IN) {
        c->conn.broken = true; /* what else it has to say is not waited for */
        return down("using the database", PQerrorMessage(c->pg), reterr);
    }
    /* libpq keeps what the socket does not take; there is always room for it. */
    if (PQputCopyData(c->pg, bytes.p, (int)bytes.len) != 1 || PQputCopyEnd(c->pg, NULL) != 1) {
        c->conn.broken = true;
        return down("using the database", PQerrorMessage(c->pg), reterr);
    }
    return OK;
}

MUST_CHECK static enum err send_copy(struct connection *c, const struct store_call *call,
                                     struct err_info *reterr)
{
    struct buf bytes CLEANUP(buf_done) = buf_make(BATCH_MAX);
    enum err e = put_rows(&bytes, call, reterr);
    return e ? e : send_rows(c, store_statement_sql(call->statement, true), buf_str(&bytes), reterr);
}

/* --- calls --- */

MUST_CHECK static enum err send_call(struct connection *c, const struct store_call *call,
                                     struct err_info *reterr)
{
    CLEANUP(parameters_done) struct parameters p = {.count = (int)call->count};
    char name[16];
    snprintf(name, sizeof name, "s%d", (int)call->statement);
    enum err e = OK;
    if (call->rows)
        e = fill_arrays(&p, call, reterr);
    else
        fill(&p, call);
    if (!e)
        e = prepare(c, call->statement, &p, name, reterr);
    if (!e && !PQsendQueryPrepared(c->pg, name, p.count, p.values, p.lengths, p.formats, 1)) {
        c->conn.broken = true;
        e = down("using the database", PQerrorMessage(c->pg), reterr);
    }
    return e;
}

static enum err postgres_run(struct store_conn *conn, struct store_call *call, struct err_info *reterr)
{
    struct connection *c = of(conn);
    CLEANUP(result_freep) PGresult *r = NULL;
    bool copies = is_copy(store_statement_sql(call->statement, true));
    enum err e = copies ? send_copy(c, call, reterr) : send_call(c, call, reterr);
    if (!e)
        e = receive(c, &r, reterr);
    if (!e)
        e = check_result(c, r, call, reterr);
    if (e)
        return e;
    uint64_t changed = 0;
    call->changed = str_to_u64(str_of(PQcmdTuples(r)), INT64_MAX, &changed) ? changed : 0;
    return give_rows(r, call, reterr);
}

const struct store_ops store_postgres_ops = {
    .name = "postgresql",
    .begin = "BEGIN",
    .wants_arrays = true,
    .number = "BIGINT",
    .bytes = "BYTEA",
    .id = "TEXT COLLATE \"C\"",
    .serial = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    .strict = "",
    .clustered = "",
    .migrations_table = "CREATE TABLE IF NOT EXISTS schema_migrations"
                        " (version BIGINT PRIMARY KEY, applied_ns BIGINT NOT NULL)",
    .migration_lock = "SELECT pg_advisory_xact_lock(" ADVISORY_LOCK ")",
    .connect = postgres_connect,
    .disconnect = postgres_disconnect,
    .is_alive = postgres_is_alive,
    .run = postgres_run,
    .script = postgres_script,
};
