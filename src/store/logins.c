#include "store/logins.h"

#include "store/driver.h"

static enum err take_login(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct store_reader r = {row, false};
    struct store_login login;
    login.attempts = store_read_number(&r);
    login.last_ns = store_read_number(&r);
    enum err e = store_read_end(&r, "an attempt to log in", reterr);
    if (!e)
        *(struct store_login *)ctx = login;
    return e;
}

enum err store_login_get(struct store *s, const char *subject, struct store_login *ret_login,
                         struct err_info *reterr)
{
    struct store_login login = {0};
    struct store_value by = store_cstr("subject", subject);
    struct store_call call = {
        .statement = SQL_LOGIN_GET, .values = &by, .count = 1, .each = take_login, .ctx = &login};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    if (!e)
        *ret_login = login;
    return e;
}

enum err store_login_put(struct store *s, const char *subject, const struct store_login *seen,
                         const struct store_login *login, struct err_info *reterr)
{
    struct store_value values[] = {
        store_cstr("subject", subject),          store_number("attempts", login->attempts),
        store_number("last_ns", login->last_ns), store_number("attempts", seen->attempts),
        store_number("last_ns", seen->last_ns),
    };
    struct store_call call = {.statement = SQL_LOGIN_PUT, .values = values, .count = LENGTH_OF(values)};
    enum err e = store_run(s, STORE_WRITE, &call, reterr);
    if (e == ERR_CONFLICT)
        return err_set(reterr, ERR_FIELD_INVALID, "a subject needs 1 to %d characters",
                       STORE_LOGIN_SUBJECT_BYTES - 1);
    if (!e && !call.changed)
        return err_set(reterr, ERR_CONFLICT, "another attempt was counted meanwhile");
    return e;
}

static enum err run_on_subject(struct store *s, enum store_statement statement, const char *subject,
                               struct err_info *reterr)
{
    struct store_value by = store_cstr("subject", subject);
    struct store_call call = {.statement = statement, .values = &by, .count = 1};
    return store_run(s, STORE_WRITE, &call, reterr);
}

enum err store_login_give(struct store *s, const char *subject, struct err_info *reterr)
{
    return run_on_subject(s, SQL_LOGIN_GIVE, subject, reterr);
}

enum err store_login_forget(struct store *s, const char *subject, struct err_info *reterr)
{
    return run_on_subject(s, SQL_LOGIN_FORGET, subject, reterr);
}

enum err store_login_prune(struct store *s, uint64_t before_ns, size_t limit, uint64_t *ret_deleted,
                           struct err_info *reterr)
{
    return store_prune(s, SQL_LOGIN_PRUNE, before_ns, limit, ret_deleted, reterr);
}
