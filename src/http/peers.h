/* How many connections each client address has; see struct http_peers in server.h.
 *
 * An IPv6 client usually owns a /64, so that counts as one address. Only addresses with an open connection are
 * kept, so there are never more of them than connections. */
#ifndef WW_HTTP_PEERS_H
#define WW_HTTP_PEERS_H

#include <sys/socket.h>

#include "http/server.h"

/* An address with at least one connection. */
struct http_peer;

/* Counts one more connection from `address`. False: it has as many as it may. On true *ret_peer is for
 * http_peers_leave(); NULL where the address is of no family that is counted. Any thread. */
MUST_CHECK bool http_peers_enter(struct http_peers *p, const struct sockaddr *address,
                                 struct http_peer **ret_peer);
/* One of its connections is closed. Takes NULL. Any thread. */
void http_peers_leave(struct http_peer *peer);
/* A connection of `peer` (the address as text) was turned away: counted, and logged at most once a second. Any
 * thread. */
void http_peers_note_refusal(struct http_peers *p, const char *peer);

#endif
