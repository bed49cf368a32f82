#include "main/front.h"

#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "base/log_file.h"
#include "main/upgrade.h"

_Static_assert((int)CLIENT_AUTH_OFF == HTTP_CLIENT_AUTH_OFF &&
                   (int)CLIENT_AUTH_REQUIRED == HTTP_CLIENT_AUTH_REQUIRED,
               "the words of TLS_CLIENT_AUTH stand in this order");

enum err front_open(struct front *f, const struct settings *set, struct err_info *reterr)
{
    enum err e = http_proxies_parse(str_of(set->trusted_proxies), &f->proxies, reterr);
    if (set->connections_per_address)
        f->peers = http_peers_new((uint32_t)set->connections_per_address, (uint32_t)set->connections_max);
    if (e || !set->tls_cert[0])
        return e;
    return http_tls_new(&(struct http_tls_config){.certificates = set->tls_cert,
                                                  .keys = set->tls_key,
                                                  .client_auth = (enum http_client_auth)set->tls_client_auth,
                                                  .client_ca = set->tls_client_ca},
                        &f->tls, reterr);
}

void front_configure(const struct front *f, struct http_server_config *config)
{
    config->tls = f->tls;
    config->proxies = f->proxies;
    config->peers = f->peers;
}

static void on_reload(uv_signal_t *handle, int number)
{
    struct front *f = CONTAINER_OF(handle, struct front, reload);
    struct err_info err = {0};
    (void)number;
    log_file_reopen();
    if (!f->tls)
        LOG_INFO("SIGHUP: there are no TLS files to read again");
    else if (http_tls_reload(f->tls, &err))
        LOG_ERROR("the TLS files were not reloaded; the old ones stay in use",
                  LOG_CSTR("reason", err_text(&err)));
    else
        LOG_INFO("the TLS files were reloaded, the log file was opened anew");
}

enum err front_start(struct front *f, uv_loop_t *loop, const struct settings *set, const char *host,
                     uint16_t port, struct err_info *reterr)
{
    uv_signal_init(loop, &f->reload);
    uv_signal_start(&f->reload, on_reload, SIGHUP);
    int fd = upgrade_take_redirect();
    f->redirect_fd = -1;
    if (!set->redirect_port) {
        if (fd >= 0)
            close(fd);
        return OK;
    }
    struct http_server_config config = {
        .limits = http_limits_default(), .proxies = f->proxies, .peers = f->peers, .redirect_port = port};
    uint16_t from = (uint16_t)set->redirect_port;
    enum err e = fd >= 0 ? OK : http_listen(host, from, false, &fd, &from, reterr);
    if (e)
        return e;
    f->redirect_fd = fd;
    return http_server_new(loop, fd, &config, &f->redirect, reterr);
}

void front_close(struct front *f)
{
    http_server_free(f->redirect);
    f->redirect = NULL;
    uv_close((uv_handle_t *)&f->reload, NULL);
}

void front_done(struct front *f)
{
    http_tls_free(f->tls);
    http_proxies_free(f->proxies);
    http_peers_free(f->peers);
}
