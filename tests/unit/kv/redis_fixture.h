/* A real redis-server of a test's own: in a temporary folder, on a free port of this machine, keeping nothing. It
 * dies with the test. */
#ifndef WW_TESTS_REDIS_FIXTURE_H
#define WW_TESTS_REDIS_FIXTURE_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "base/base.h"
#include "base/clock.h"

struct redis_server {
    char folder[32];
    char url[64];
    int port;
    const char *password; /* NULL: none */
    pid_t pid;
};

static inline bool redis_is_installed(void)
{
    return access("/usr/bin/redis-server", X_OK) == 0 || access("/usr/local/bin/redis-server", X_OK) == 0;
}

/* A port where nobody listens. */
static inline int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    WW_ASSERT(fd >= 0);
    int failed = bind(fd, (struct sockaddr *)&at, len) || getsockname(fd, (struct sockaddr *)&at, &len);
    WW_ASSERT(!failed);
    close(fd);
    return ntohs(at.sin_port);
}

/* For what the backend under test must not see. */
static inline redisContext *redis_talk(const struct redis_server *s)
{
    redisContext *c = redisConnect("127.0.0.1", s->port);
    if (c && !c->err && s->password) {
        redisReply *reply = redisCommand(c, "AUTH %s", s->password);
        freeReplyObject(reply);
    }
    return c;
}

static inline bool redis_answers(const struct redis_server *s)
{
    redisContext *c = redis_talk(s);
    redisReply *reply = c && !c->err ? redisCommand(c, "PING") : NULL;
    bool fine = reply && reply->type == REDIS_REPLY_STATUS;
    if (reply)
        freeReplyObject(reply);
    if (c)
        redisFree(c);
    return fine;
}

/* Runs a command whose reply does not matter. */
static inline void redis_do(const struct redis_server *s, const char *command)
{
    redisContext *c = redis_talk(s);
    redisReply *reply = c && !c->err ? redisCommand(c, command) : NULL;
    if (reply)
        freeReplyObject(reply);
    if (c)
        redisFree(c);
}

/* Starts it, again on the same port if it was stopped, and returns when it answers. */
static inline void redis_start(struct redis_server *s)
{
    pid_t parent = getpid();
    char port[8];
    if (!s->port) {
        s->port = free_port();
        snprintf(s->folder, sizeof s->folder, "/tmp/ww-redis-XXXXXX");
        bool made = mkdtemp(s->folder);
        WW_ASSERT(made);
        snprintf(s->url, sizeof s->url, "redis://%s%s%s127.0.0.1:%d", s->password ? ":" : "",
                 s->password ? s->password : "", s->password ? "@" : "", s->port);
    }
    snprintf(port, sizeof port, "%d", s->port);
    s->pid = fork();
    WW_ASSERT(s->pid >= 0);
    if (s->pid == 0) {
        int nowhere = open("/dev/null", O_RDWR);
        dup2(nowhere, STDIN_FILENO);
        dup2(nowhere, STDOUT_FILENO);
        dup2(nowhere, STDERR_FILENO);
        closefrom(STDERR_FILENO + 1);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
            execlp("redis-server", "redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", s->folder,
                   "--save", "", "--appendonly", "no", "--requirepass", s->password ? s->password : "",
                   (char *)NULL);
        _exit(127);
    }
    while (!redis_answers(s)) {
        WW_ASSERT(waitpid(s->pid, NULL, WNOHANG) == 0);
        usleep(10000);
    }
}

static inline void redis_kill(struct redis_server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

static inline void redis_stop(struct redis_server *s)
{
    if (s->pid)
        redis_kill(s);
    rmdir(s->folder);
}

#endif
