/* A store in a folder of its own, an auth over it, and a wall clock that stands still unless tests move it: so no
 * delay goes by on a slow machine. */
#ifndef WW_TESTS_AUTH_FIXTURE_H
#define WW_TESTS_AUTH_FIXTURE_H

#include "../unit.h"

#include <sqlite3.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "auth/user.h"
#include "base/clock.h"
#include "base/log.h"

static _Atomic uint64_t clock_ahead_ns;
static uint64_t clock_start_ns; /* 0: it goes */

/* The program's own calls reach this one first. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    long failed = syscall(SYS_clock_gettime, id, ts);
    if (id == CLOCK_REALTIME && clock_start_ns) {
        uint64_t ns = clock_start_ns + clock_ahead_ns;
        *ts = (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    }
    return (int)failed;
}

struct fixture {
    char folder[64];
    char path[96];
    struct store *store;
    struct auth *auth;
    struct err_info info;
};

#define CHECK_OK(f, call)                              \
    do {                                               \
        if (call)                                      \
            fail_msg("%s: %s", #call, (f)->info.text); \
    } while (0)

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    clock_ahead_ns = clock_start_ns = 0;
    clock_start_ns = clock_wall_ns();
    log_setup(LOG_LEVEL_ERROR, false);
    snprintf(f->folder, sizeof f->folder, "/tmp/ww-auth-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/main.db", f->folder);
    CHECK_OK(f, store_open(f->path, &f->store, &f->info));
    f->auth = auth_new(f->store, STR_LIT("a salt of enough characters"), 16);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    auth_free(f->auth);
    store_close(f->store);
    unlink(f->path);
    int failed = rmdir(f->folder);
    free(f);
    return failed;
}

UNUSED static uint64_t run_sql(struct fixture *f, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *q = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    uint64_t number = sqlite3_step(q) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return number;
}

#endif
