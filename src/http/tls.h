/* TLS 1.2 and 1.3 by OpenSSL: the certificates of a listener, and the layer that makes an encrypted stream
 * of bytes out of a plain one (connection.h).
 *
 * A `struct http_tls` is shared by all loops. Its files are read by http_tls_new() and again by
 * http_tls_reload(), which swaps in the new contexts at once: connections keep what they began with.
 * A client that resumes a session shows a ticket that only this set of contexts can open. */
#ifndef WW_HTTP_TLS_H
#define WW_HTTP_TLS_H

#include <openssl/ssl.h>

#include "http/connection.h"
#include "http/server.h"

enum { HTTP_TLS_PLAIN_BYTES = 16 * 1024 };

/* One generation of contexts; refcounted. */
struct http_tls_set;

/* --- tls_context.c ------------------------------------------------------------------------------ */
/* The set that new connections use: a new reference. */
struct http_tls_set *http_tls_set_get(struct http_tls *tls);
void http_tls_set_unref(struct http_tls_set *set);
/* A server-side session of this set. */
SSL *http_tls_set_session(struct http_tls_set *set);
/* The first error that OpenSSL remembers, as text; forgets all of them. */
const char *http_tls_reason(char out[static 160]);

/* --- identity.c --------------------------------------------------------------------------------- */
/* Who the verified client certificate of `ssl` names; NULL: there is none. */
struct http_identity *http_identity_new(const SSL *ssl);
void http_identity_free(struct http_identity *id);

/* --- tls.c -------------------------------------------------------------------------------------- */
/* Puts TLS between the stream of `c` and its protocol. */
void http_tls_open(struct http_connection *c, struct http_tls *tls);
/* Frees c->tls, if any. */
void http_tls_close(struct http_connection *c);
/* Records from the client; an empty run goes on with those that were kept. */
void http_tls_feed(struct http_connection *c, struct str sealed);
void http_tls_end_of_input(struct http_connection *c);
void http_tls_flushed(struct http_connection *c);

/* --- greet.c ------------------------------------------------------------------------------------ */
/* The handshake is over: who goes on? */
void http_connection_chosen(struct http_connection *c, bool http2);

#endif
