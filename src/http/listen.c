#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "http/server.h"

enum { BACKLOG = 4096, NAME_MAX_BYTES = 253, LABEL_MAX_BYTES = 63 };

/* A label of a name (RFC 1123, section 2.1), or one with "_", which name services of local networks give out. */
static bool label_fits(struct str label)
{
    if (!label.len || label.len > LABEL_MAX_BYTES || label.p[0] == '-' || label.p[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!isalnum((unsigned char)label.p[i]) && label.p[i] != '-' && label.p[i] != '_')
            return false;
    return true;
}

bool http_host_fits(const char *host)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) == 0) {
        freeaddrinfo(found);
        return true;
    }
    struct str rest = str_of(host), label = STR_NULL;
    if (!rest.len || rest.len > NAME_MAX_BYTES)
        return false;
    do { /* a dot at the end is fine: str_split() leaves nothing behind it */
        label = str_split(&rest, '.');
        if (!label_fits(label))
            return false;
    } while (rest.len);
    /* No top-level domain is a number: this is an address that was not written right. */
    uint64_t number;
    return !str_to_u64(label, UINT64_MAX, &number);
}

/* A socket that listens on `address`, or -errno. */
static int listen_on(const struct addrinfo *address, bool reuse_port)
{
    CLEANUP(closep)
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    int on = 1;
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) ||
        bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    int listening = fd;
    fd = -1;
    return listening;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static enum err code_of(int error)
{
    switch (error) {
    case EADDRINUSE: return ERR_CONFLICT;
    case EADDRNOTAVAIL:
    case EACCES: return ERR_FIELD_INVALID;
    default: return ERR_INTERNAL;
    }
}

enum err http_listen(const char *host, uint16_t port, bool reuse_port, int *ret_fd, uint16_t *ret_port,
                     struct err_info *reterr)
{
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    snprintf(service, sizeof service, "%u", port);
    int failed = getaddrinfo(host, service, &hints, &found);
    if (failed)
        return err_set(reterr, ERR_FIELD_INVALID, "cannot listen on \"%s\" port %u: %s", host, port,
                       gai_strerror(failed));
    int fd = -EADDRNOTAVAIL;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = listen_on(a, reuse_port);
    freeaddrinfo(found);
    if (fd < 0)
        return err_set(reterr, code_of(-fd), "cannot listen on \"%s\" port %u: %s", host, port,
                       uv_strerror(fd));
    *ret_fd = fd;
    *ret_port = port_of(fd);
    return OK;
}
