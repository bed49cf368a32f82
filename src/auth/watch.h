/* What others have changed: keys, users and tiers that another instance, or the command line, has written to the
 * database. The database has a number that changes with each of them; the watch asks for it every so often, and at once
 * when another instance says through kv/ that it has changed something. Then the auth forgets what it remembers. So the
 * database alone is enough for a change to be in force everywhere in time, and with Redis it takes milliseconds. */
#ifndef WW_AUTH_WATCH_H
#define WW_AUTH_WATCH_H

#include "auth/auth.h"
#include "kv/kv.h"

struct auth_watch;

/* Before the loop runs. All are borrowed and outlive the watch; `auth` has it tell of its own changes. `interval_ms`:
 * between two questions to the database. */
struct auth_watch *auth_watch_start(struct auth *auth, struct kv *kv, struct loop *loop,
                                    uint64_t interval_ms);
/* On the thread of the loop: lets the loop end. */
void auth_watch_stop(struct auth_watch *w);
/* After the loop has ended, and kv_free(). Takes NULL. */
void auth_watch_free(struct auth_watch *w);

#endif
