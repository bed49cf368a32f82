/* What stands before the API in `serve`: TLS, trusted proxies, and the listener that sends http:// to https://.
 * All of it belongs to the first loop's thread; the loops share the first three. */
#ifndef WW_MAIN_FRONT_H
#define WW_MAIN_FRONT_H

#include "http/server.h"
#include "main/settings.h"

struct front {
    struct http_tls *tls; /* NULL: clear text */
    struct http_proxies *proxies;
    struct http_peers *peers;     /* NULL: an address may have any number of connections */
    struct http_server *redirect; /* NULL: none */
    int redirect_fd;              /* its socket, for a successor; -1: none */
    uv_signal_t reload;           /* SIGHUP: the files of TLS are read again, the log's is opened again */
};

/* Reads the settings and the files they name. On failure, too, front_done() frees what there is. */
MUST_CHECK enum err front_open(struct front *f, const struct settings *set, struct err_info *reterr);
/* For the listeners of the API. */
void front_configure(const struct front *f, struct http_server_config *config);
/* Opens the redirect listener, which leads to `port`, or takes over the predecessor's; waits for SIGHUP. */
MUST_CHECK enum err front_start(struct front *f, uv_loop_t *loop, const struct settings *set,
                                const char *host, uint16_t port, struct err_info *reterr);
/* Closes the handles, after the redirect listener was drained. */
void front_close(struct front *f);
/* After the last server of the API. */
void front_done(struct front *f);

#endif
