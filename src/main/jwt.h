/* JWTs in `serve`: the issuer out of the settings, and the times at which its keys are read again. All of it belongs to the
 * first loop's thread; the reading is done on the pool. */
#ifndef WW_MAIN_JWT_H
#define WW_MAIN_JWT_H

#include <uv.h>

#include "auth/issuer.h"
#include "main/settings.h"

struct auth;

struct jwt {
    struct auth_issuer *issuer; /* NULL: no key is set, so JWTs are not taken; then nothing below is used */
    struct auth *auth;
    uv_timer_t timer;
    uv_signal_t reload; /* SIGHUP */
    uv_work_t work;
    bool reading, again; /* again: asked for while they are being read */
};

/* Appends a line for each of the settings JWT_* that can't be. */
void jwt_check_settings(const struct settings *set, struct buf *errors);
/* Makes the issuer, where there is a key, and lets `auth` trust it. FIELD_INVALID names the setting whose file can't
 * be used. jwt_done() in either case, after auth_free(). */
MUST_CHECK enum err jwt_open(struct jwt *j, const struct settings *set, struct auth *auth,
                             struct err_info *reterr);
/* Reads the keys of a URL now, and all keys again as they are due, or on SIGHUP. */
void jwt_start(struct jwt *j, uv_loop_t *loop, const struct settings *set);
/* Closes what jwt_start() opened. */
void jwt_close(struct jwt *j);
void jwt_done(struct jwt *j);

#endif
