/* Replacing the running program without losing a connection: on SIGUSR2 the new binary is started with the listening
 * sockets of the old one; once it serves, it says so and the old one drains.
 *
 * The successor finds in the environment WASMWIZ_UPGRADE=N: descriptors 3 .. N+2 are the sockets, N+3 is a pipe to
 * write one byte to. WASMWIZ_UPGRADE_REDIRECT=1 says that N+4 is the socket of the redirect listener. The ports belong
 * to the sockets, so they can't change on the way. */
#ifndef WW_MAIN_UPGRADE_H
#define WW_MAIN_UPGRADE_H

#include <uv.h>

#include "base/err.h"

/* How many sockets this process was handed; 0: it was started in the ordinary way. Takes the variables out of the
 * environment. */
uint32_t upgrade_inherited(void);
/* The next of them, and its port. -1: there is none left. The caller owns it. */
int upgrade_take_socket(uint16_t *ret_port);
/* The socket of the redirect listener. -1: none was handed over. The caller owns it. */
int upgrade_take_redirect(void);
/* Tells the predecessor that this process serves. */
void upgrade_tell_ready(void);

/* Starts the successor: the file that this program was started from, as it is now, with the same arguments.
 * `redirect` is -1 where there is no such listener. `done(arg, true)`: it serves; `done(arg, false)`: it ended
 * before that, and the present process goes on. One at a time. */
MUST_CHECK enum err upgrade_start(uv_loop_t *loop, const int *sockets, uint32_t count, int redirect,
                                  void (*done)(void *arg, bool ok), void *arg, struct err_info *reterr);

/* Remembers how this process was started; first thing in main(). */
void upgrade_remember(char **argv);

/* Writes this process's id to DATA_DIR/wasmwiz.pid, for `wasmwiz upgrade`. */
void upgrade_write_pid(const char *data_dir);
/* The id that stands there; 0: none, or no process of this program has it any more. */
int upgrade_read_pid(const char *data_dir);
/* Removes the file if it names this process. */
void upgrade_remove_pid(const char *data_dir);

#endif
