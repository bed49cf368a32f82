/* The HTTP side of one loop: listening sockets, connections, requests and replies; HTTP/1 and HTTP/2, in clear text
 * (HTTP/2 with prior knowledge) or over TLS (by ALPN).
 *
 * A `struct http_exchange` is one request and its reply, whatever the protocol version under it. Its life, all on
 * the loop's own thread:
 *
 *     handler->head()   the head is complete and valid; look at the request, set http_exchange_set_data()
 *     handler->body()   zero or more times, as the bytes come
 *     handler->end()    the body is complete
 *     http_reply()      at any time after head(): the exchange now belongs to the server again
 *  or handler->gone()   the client left, or broke the protocol, before there was a reply
 *
 * Exactly one of http_reply() (or what ends one in pieces) and gone() ends an exchange; after it (in gone(): when it
 * returns) the pointer is dead for the handler. Whether a reply got through is told to on_done(). A reply sent
 * before the body is complete makes the server discard what is left of it, within a bound, or close the connection.
 * The server owns all memory of the exchange; `struct str` values of the request live until the exchange ends.
 *
 * Rules that no handler can forget, because the server keeps them: RFC 9112 framing without lenient flags, one
 * `Host`, bounds on head, target and body, total deadlines and minimum rates, one request in flight per HTTP/1
 * connection, 100 streams per HTTP/2 connection, Date and Connection fields, security headers, HEAD and 405/Allow. */
#ifndef WW_HTTP_SERVER_H
#define WW_HTTP_SERVER_H

#include <uv.h>

#include "base/err.h"
#include "base/buf.h"

enum http_method {
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_OPTIONS,
    HTTP_METHOD_COUNT
};

struct http_field {
    struct str name;
    struct str value;
};

struct http_exchange;

struct http_handler {
    void (*head)(struct http_exchange *x); /* always there */
    void (*body)(struct http_exchange *x,
                 struct str bytes);        /* NULL: a body is refused with 413 when not empty */
    void (*end)(struct http_exchange *x);  /* NULL: nothing to do */
    void (*gone)(struct http_exchange *x); /* NULL: nothing to free */
    void (*writable)(
        struct http_exchange *x); /* what http_reply_data() kept is out; NULL: replies are whole */
};

/* A route: exact `path`, or a prefix where the path ends in '*'. `body_limit` in bytes; a larger
 * Content-Length is 413 before the body is read, and chunks are counted as they come. */
struct http_route {
    enum http_method method;
    const char *path;
    uint64_t body_limit;
    struct http_handler handler;
    const void *data; /* for its handler: http_route_data() */
    bool vital;       /* served even where replies_bytes_max is passed */
};

struct http_limits {
    uint32_t connections_max; /* per loop; further ones are not accepted until one ends */
    uint32_t head_bytes_max;  /* request line and fields: 431, or 414 for the target */
    uint32_t target_bytes_max;
    uint32_t fields_max;
    uint64_t head_timeout_ns;  /* from the first byte of a head to its end, in all */
    uint64_t idle_timeout_ns;  /* keep-alive without a request */
    uint64_t body_timeout_ns;  /* a body may take this long, plus the time that min_rate grants */
    uint64_t body_min_rate;    /* bytes a second */
    uint64_t write_timeout_ns; /* a client that does not read its reply */
    uint64_t
        replies_bytes_max; /* of replies that clients have not taken: above it requests are refused with 503 */
};
/* Sensible values for all. */
struct http_limits http_limits_default(void);

enum http_client_auth { HTTP_CLIENT_AUTH_OFF, HTTP_CLIENT_AUTH_OPTIONAL, HTTP_CLIENT_AUTH_REQUIRED };

struct http_tls_config {
    /* PEM files, separated by commas: a certificate (with its chain) and a key each. The first is for
     * clients that name no host that is in another (SNI). */
    const char *certificates;
    const char *keys;
    enum http_client_auth client_auth;
    const char *client_ca; /* PEM: who may sign client certificates; NULL where client_auth is OFF */
};

/* The TLS side of listeners; outlives their servers, may be shared by loops. FIELD_INVALID: a file can't be
 * used; *reterr names it. */
struct http_tls;
MUST_CHECK enum err http_tls_new(const struct http_tls_config *config, struct http_tls **ret_tls,
                                 struct err_info *reterr);
/* Reads the files again, for connections made from now on; on failure all stays as it was. Any thread. */
MUST_CHECK enum err http_tls_reload(struct http_tls *tls, struct err_info *reterr);
void http_tls_free(struct http_tls *tls);

/* Addresses whose word about the client behind them is believed; immutable. */
struct http_proxies;
/* From "10.0.0.0/8, 192.0.2.1, 2001:db8::/32"; NULL for an empty text. FIELD_INVALID: not such a list. */
MUST_CHECK enum err http_proxies_parse(struct str text, struct http_proxies **ret_proxies,
                                       struct err_info *reterr);
void http_proxies_free(struct http_proxies *p);

/* Counts the connections of each client address; shared by the loops, of which it outlives the servers. */
struct http_peers;
/* An address may have `limit` connections, at least one, and an IPv6 network of 64 bits counts as one address.
 * `connections_max` is how many there are about at most, of all addresses. */
struct http_peers *http_peers_new(uint32_t limit, uint32_t connections_max);
/* Connections that were turned away so far; 0 for NULL. Any thread. */
uint64_t http_peers_refused(const struct http_peers *p);
void http_peers_free(struct http_peers *p); /* takes NULL */

struct http_server;

enum { HTTP_ERROR_FIELDS_MAX = 4 };

struct http_server_config {
    const struct http_route *routes; /* outlives the server */
    size_t route_count;
    struct http_limits limits;
    struct http_tls *tls;               /* NULL: clear text */
    const struct http_proxies *proxies; /* whose Forwarded and X-Forwarded-* fields count; may be NULL */
    struct http_peers *peers;           /* NULL: an address may have any number; `proxies` always may */
    uint16_t redirect_port;             /* not 0: every request is sent to https:// at this port instead */
    void *data;                         /* for handlers: http_exchange_server_data() */
    /* Told once a reply is complete or the client gone: for the access log and the counters.
     * `status` 0 = no reply was begun; `reply_bytes` = its head and body, 0 where the socket refused it.
     * Not told of a client that leaves before its head is complete. May be NULL. */
    void (*on_done)(struct http_exchange *x, int status, uint64_t reply_bytes, uint64_t duration_ns);
    /* Makes the reply for requests refused by the server itself (bad framing, 404, 405, 413 ...),
     * so that all errors look alike: append the body to be sent as application/json. NULL: text. */
    void (*error_body)(struct http_exchange *x, const struct err_info *err, struct buf *body);
    /* The fields that go with that body in place of Content-Type: application/json, lent, at most
     * HTTP_ERROR_FIELDS_MAX; NULL: that one. May be NULL. */
    const struct http_field *(*error_fields)(struct http_exchange *x, size_t *ret_count);
};

/* Starts serving on `loop` with an already bound and listening TCP socket `fd` (non-blocking; taken over, also
 * on failure). *ret_server is owned by the caller: http_server_free() after the drain. */
MUST_CHECK enum err http_server_new(uv_loop_t *loop, int fd, const struct http_server_config *config,
                                    struct http_server **ret_server, struct err_info *reterr);

/* Whether `host` is an address (IPv4 or IPv6 literal) or a name by its form; nobody is asked for it. */
bool http_host_fits(const char *host);
/* Opens a listening socket (SO_REUSEPORT where `reuse_port`) on host (IPv4 or IPv6 literal or name) and port; 0 =
 * any free one. On OK *ret_fd is owned by the caller and *ret_port is the real port. */
MUST_CHECK enum err http_listen(const char *host, uint16_t port, bool reuse_port, int *ret_fd,
                                uint16_t *ret_port, struct err_info *reterr);

/* Stops accepting; idle connections are closed, busy ones finish their reply with `Connection: close`.
 * At `deadline_ns` (monotonic) what is left is cut. `done` is called once, from the loop, when the last is gone. */
void http_server_drain(struct http_server *s, uint64_t deadline_ns, void (*done)(void *), void *arg);
/* After `done`. */
void http_server_free(struct http_server *s);
/* Connections open now. */
uint32_t http_server_connections(const struct http_server *s);

/* --- the request ------------------------------------------------------------------------------ */
enum http_method http_method(const struct http_exchange *x);
const char *http_method_name(const struct http_exchange *x);
struct str http_path(const struct http_exchange *x);  /* as sent, without the query; never decoded */
struct str http_query(const struct http_exchange *x); /* behind '?', without it; empty where none */
/* The field's value, surrounding blanks trimmed; .p NULL where absent. Of a repeated field the first. */
struct str http_field(const struct http_exchange *x, const char *name);
/* How many fields of this name there are. */
size_t http_field_count(const struct http_exchange *x, const char *name);
/* Content-Length, or -1 where the body is chunked or there is none. */
int64_t http_content_length(const struct http_exchange *x);
/* The client's address as text, e.g. "127.0.0.1": the peer's, or what a trusted proxy says. Lives with the
 * exchange. */
const char *http_peer(const struct http_exchange *x);
/* Whether the client's own connection is TLS: this one, or the one that a trusted proxy speaks of. */
bool http_is_secure(const struct http_exchange *x);
/* Of a client certificate that was verified: its subject (RFC 2253 form), NULL where there is none, and its
 * alternative names as "DNS:...", "IP:...", "URI:..." or "email:...". They live with the exchange. */
const char *http_peer_subject(const struct http_exchange *x);
size_t http_peer_san_count(const struct http_exchange *x);
const char *http_peer_san(const struct http_exchange *x, size_t index);
/* 128 random bits in hexadecimal, made for this exchange: X-Request-Id of the reply, the log and the error. */
const char *http_request_id(const struct http_exchange *x);
/* That of the route which took the request. */
const void *http_route_data(const struct http_exchange *x);
void *http_exchange_server_data(const struct http_exchange *x);
void *http_exchange_data(const struct http_exchange *x);
void http_exchange_set_data(struct http_exchange *x, void *data);
uv_loop_t *http_exchange_loop(const struct http_exchange *x);

/* Stops and goes on calling body(); the server stops reading the socket meanwhile. */
void http_body_pause(struct http_exchange *x);
void http_body_resume(struct http_exchange *x);

/* --- the reply -------------------------------------------------------------------------------- */
/* Sends a whole reply: head and body in one write where the socket takes it. `fields` and `body` are copied
 * or sent before it returns. Content-Length, Date, Connection, X-Request-Id and the security headers are
 * added; a security field that `fields` has too replaces the usual one. Names and values with control
 * characters are a bug (WW_ASSERT), and so are fields of more than 200 KiB. */
void http_reply(struct http_exchange *x, int status, const struct http_field *fields, size_t field_count,
                struct str body);
/* The same, but takes over `body` (malloc'ed, from buf_take()). */
void http_reply_take(struct http_exchange *x, int status, const struct http_field *fields, size_t field_count,
                     char *body, size_t body_len);
/* An error reply with config.error_body's body, `Retry-After` (seconds) where `retry_after` > 0. */
void http_reply_error(struct http_exchange *x, const struct err_info *err, unsigned retry_after);

/* A reply whose body comes in pieces, as a guest writes it. gone() may still come, until the end or the abort; bytes of
 * the request's body go on coming, too. HTTP/1.1 gets chunks, HTTP/2 DATA frames, HTTP/1.0 a connection that closes. */
void http_reply_begin(struct http_exchange *x, int status, const struct http_field *fields,
                      size_t field_count);
/* More of the body. False: the client has not taken all of it yet, and handler->writable() will tell when it has. What
 * is given before that is kept too, so what a handler gives at once is what it costs. */
bool http_reply_data(struct http_exchange *x, struct str bytes);
/* Ends it, with trailer fields where the protocol version has them; the exchange belongs to the server again. */
void http_reply_end(struct http_exchange *x, const struct http_field *trailers, size_t trailer_count);
/* Ends it in a way that shows the client that the body is not complete. */
void http_reply_abort(struct http_exchange *x);
/* Whether a reply of this status has a body at all (RFC 9110 section 6.4.1). */
bool http_status_has_body(int status);

#endif
