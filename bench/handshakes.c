/* TLS handshakes, each on a connection of its own with one request on it, from several threads at once:
 *     handshakes PORT SECONDS THREADS full|resumed PATH
 * prints a line of JSON: how many, how many of them resumed a session, and the microseconds they took in all.
 * `resumed`: each thread shows the newest ticket that it got; its very first handshake, which is full, is not
 * counted. The server's certificate is not checked: it is this machine's own. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/base.h"
#include "base/clock.h"
#include "base/str.h"

enum { THREADS_MAX = 64, SECONDS_MAX = 600, TIMEOUT_S = 10 };

struct client {
    SSL_CTX *ctx;
    SSL_SESSION *session; /* the newest; NULL where each handshake is to be full */
    bool resume;
    struct sockaddr_in address;
    const char *request;
    uint64_t end_ns;
    uint64_t handshakes, resumed;
};

NORETURN static void fail(const char *why)
{
    fprintf(stderr, "handshakes: %s\n", why);
    exit(1);
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct client *c = SSL_get_app_data(ssl);
    if (!c->resume)
        return 0;
    SSL_SESSION_free(c->session);
    c->session = session;
    return 1; /* the reference is ours now */
}

static int connect_to(const struct client *c)
{
    const struct timeval patience = {.tv_sec = TIMEOUT_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (const struct sockaddr *)&c->address, sizeof c->address) != 0)
        fail("cannot connect");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* One connection from its beginning to its end. True: it resumed a session. */
static bool once(struct client *c)
{
    char reply[4096];
    size_t got = 0;
    int fd = connect_to(c), n;
    SSL *ssl = SSL_new(c->ctx);
    WW_ASSERT(ssl && SSL_set_fd(ssl, fd) == 1);
    SSL_set_app_data(ssl, c);
    if (c->session)
        SSL_set_session(ssl, c->session);
    if (SSL_connect(ssl) != 1)
        fail("a handshake failed");
    int len = (int)strlen(c->request);
    if (SSL_write(ssl, c->request, len) != len)
        fail("a request could not be sent");
    while (got < sizeof reply && (n = SSL_read(ssl, reply + got, (int)(sizeof reply - got))) > 0)
        got += (size_t)n;
    if (!str_starts_with(str_make(reply, got), STR_LIT("HTTP/1.1 200")))
        fail("an answer is not a 200");
    bool resumed = SSL_session_reused(ssl);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    return resumed;
}

static void *work(void *arg)
{
    struct client *c = arg;
    if (c->resume)
        once(c);
    while (clock_now_ns() < c->end_ns) {
        c->resumed += once(c);
        c->handshakes++;
    }
    SSL_SESSION_free(c->session);
    return NULL;
}

static SSL_CTX *make_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    WW_ASSERT(ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    return ctx;
}

int main(int argc, char **argv)
{
    uint64_t port, seconds, threads;
    bool resume = argc == 6 && strcmp(argv[4], "resumed") == 0;
    if (argc != 6 || !str_to_u64(str_of(argv[1]), UINT16_MAX, &port) ||
        !str_to_u64(str_of(argv[2]), SECONDS_MAX, &seconds) ||
        !str_to_u64(str_of(argv[3]), THREADS_MAX, &threads) || !threads ||
        (!resume && strcmp(argv[4], "full") != 0)) {
        fprintf(stderr, "usage: handshakes PORT SECONDS THREADS full|resumed PATH\n");
        return 64;
    }
    char request[512];
    static struct client clients[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    SSL_CTX *ctx = make_context();
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             argv[5]);
    uint64_t start_ns = clock_now_ns(), handshakes = 0, resumed = 0;
    for (uint64_t i = 0; i < threads; i++) {
        clients[i] = (struct client){
            .ctx = ctx,
            .resume = resume,
            .address = {.sin_family = AF_INET,
                        .sin_port = htons((uint16_t)port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
            .request = request,
            .end_ns = start_ns + seconds * NS_PER_S,
        };
        WW_ASSERT(pthread_create(&ids[i], NULL, work, &clients[i]) == 0);
    }
    for (uint64_t i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        handshakes += clients[i].handshakes;
        resumed += clients[i].resumed;
    }
    printf("{\"handshakes\":%" PRIu64 ",\"resumed\":%" PRIu64 ",\"us\":%" PRIu64 "}\n", handshakes, resumed,
           (clock_now_ns() - start_ns) / 1000);
    SSL_CTX_free(ctx);
    return 0;
}
