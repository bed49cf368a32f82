/* Sessions of browsers. A session is 256 random bits in a cookie; kept are HMACs only. It ends when it is not used for
 * a while, and at the latest some time after it began.
 *
 * Each has a CSRF token, made from its id, that scripts of the own pages can ask for and other sites can't: it has to
 * come with whatever may change something. */
#ifndef WW_AUTH_SESSION_H
#define WW_AUTH_SESSION_H

#include "auth/auth.h"
#include "store/sessions.h"

enum {
    AUTH_SESSION_BYTES = 65, /* 64 hexadecimal digits and a NUL; so has a CSRF token */
    AUTH_SET_COOKIE_BYTES = 192,
    AUTH_SESSIONS_MAX = 100, /* of a user; the oldest go */
};

struct auth_session {
    char id[AUTH_SESSION_BYTES];
    char csrf[AUTH_SESSION_BYTES];
    uint64_t expires_ns; /* wall; unless it is used before */
};

/* How long sessions live: without use, and at most. */
void auth_set_session_times(struct auth *a, uint64_t idle_ns, uint64_t lifetime_ns);

/* The session's id in a Cookie field (RFC 6265): over TLS of `__Host-wasmwiz`, else of `wasmwiz`. .p NULL: there is
 * none, it has not the form of an id, or there are two, of which nobody can say which one is meant. */
struct str auth_session_of_cookie(struct str cookie, bool secure);
/* The Set-Cookie field for a session; `id` "" takes the cookie away. */
void auth_session_cookie(struct auth *a, const char *id, bool secure, char to[static AUTH_SET_COOKIE_BYTES]);

/* Begins a session of a user as it was when its password was checked; ERR_UNAUTHORIZED where the password was changed
 * or the user deactivated since. `address`: the client's. Blocks. */
MUST_CHECK enum err auth_session_begin(struct auth *a, const struct store_user *user, const char *address,
                                       struct auth_session *ret_session, struct err_info *reterr);
/* Who is behind a session's id. *ret_who is a new reference. ERR_UNAUTHORIZED: no such session, or it has ended;
 * ERR_FORBIDDEN: its user is not active. Blocks. */
MUST_CHECK enum err auth_session_find(struct auth *a, struct str id, struct auth_principal **ret_who,
                                      struct err_info *reterr);
/* The session's CSRF token. */
void auth_session_csrf(struct auth *a, const char *id, char ret_csrf[static AUTH_SESSION_BYTES]);
/* Whether `token` (.p may be NULL) is it; in constant time. */
bool auth_session_csrf_is_right(struct auth *a, const char *id, struct str token);
/* What the store knows the session by. */
void auth_session_hash(struct auth *a, const char *id, unsigned char hash[static STORE_SESSION_HASH_BYTES]);
/* Ends it; fine where it has ended. Blocks. */
MUST_CHECK enum err auth_session_end(struct auth *a, const char *id, struct err_info *reterr);

#endif
