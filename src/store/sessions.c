#include "store/sessions.h"

#include "store/driver.h"

static void take_session(struct store_reader *r, struct store_session *session)
{
    memset(session, 0, sizeof *session);
    store_read_bytes(r, session->id_hash, sizeof session->id_hash);
    store_read_text(r, session->user_id, sizeof session->user_id);
    store_read_bytes(r, session->csrf_hash, sizeof session->csrf_hash);
    session->created_ns = store_read_number(r);
    session->expires_ns = store_read_number(r);
    session->last_seen_ns = store_read_number(r);
    store_read_text(r, session->address, sizeof session->address);
}

static struct store_value hash_value(const unsigned char *hash)
{
    return store_bytes("id_hash", hash, STORE_SESSION_HASH_BYTES);
}

enum err store_session_insert(struct store *s, const struct store_session *session, struct err_info *reterr)
{
    struct store_value values[] = {
        hash_value(session->id_hash),
        store_cstr("user_id", session->user_id),
        store_bytes("csrf_hash", session->csrf_hash, sizeof session->csrf_hash),
        store_number("created_ns", session->created_ns),
        store_number("expires_ns", session->expires_ns),
        store_number("last_seen_ns", session->last_seen_ns),
        store_cstr("address", session->address),
    };
    struct store_call call = {.statement = SQL_SESSION_INSERT, .values = values, .count = LENGTH_OF(values)};
    enum err e = store_run(s, STORE_WRITE, &call, reterr);
    if (e == ERR_CONFLICT && call.fault == STORE_FAULT_FOREIGN)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no user \"%s\"", session->user_id);
    if (e == ERR_CONFLICT)
        return err_set(reterr, e, "this session is already there");
    return e;
}

struct found {
    struct store_session *session;
    struct store_user *user;
    bool found;
};

static enum err take_found(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct found *f = ctx;
    struct store_reader r = {row, false};
    struct store_session session;
    struct store_user user;
    take_session(&r, &session);
    store_user_read(&r, &user);
    enum err e = store_read_end(&r, "a session", reterr);
    if (e)
        return e;
    *f->session = session;
    *f->user = user;
    f->found = true;
    return OK;
}

enum err store_session_get(struct store *s, const unsigned char id_hash[static STORE_SESSION_HASH_BYTES],
                           struct store_session *ret_session, struct store_user *ret_user,
                           struct err_info *reterr)
{
    struct found f = {.session = ret_session, .user = ret_user};
    struct store_value by = hash_value(id_hash);
    struct store_call call = {
        .statement = SQL_SESSION_GET, .values = &by, .count = 1, .each = take_found, .ctx = &f};
    enum err e = store_run(s, STORE_READ, &call, reterr);
    if (!e && !f.found)
        return err_set(reterr, ERR_NOT_FOUND, "there is no session with this hash");
    return e;
}

enum err store_session_touch(struct store *s, const unsigned char id_hash[static STORE_SESSION_HASH_BYTES],
                             uint64_t now_ns, uint64_t expires_ns, struct err_info *reterr)
{
    struct store_value values[] = {hash_value(id_hash), store_number("last_seen_ns", now_ns),
                                   store_number("expires_ns", expires_ns)};
    struct store_call call = {.statement = SQL_SESSION_TOUCH, .values = values, .count = LENGTH_OF(values)};
    return store_run_on(s, &call, "session with this hash", reterr);
}

enum err store_session_delete(struct store *s, const unsigned char id_hash[static STORE_SESSION_HASH_BYTES],
                              struct err_info *reterr)
{
    struct store_value by = hash_value(id_hash);
    struct store_call call = {.statement = SQL_SESSION_DELETE, .values = &by, .count = 1};
    return store_run_on(s, &call, "session with this hash", reterr);
}

enum err store_session_delete_of_user(struct store *s, const char *user_id, const unsigned char *keep,
                                      struct err_info *reterr)
{
    struct store_value values[] = {store_cstr("user_id", user_id),
                                   keep ? hash_value(keep) : store_bytes("id_hash", "", 0)};
    struct store_call call = {
        .statement = SQL_SESSION_DELETE_OF_USER, .values = values, .count = LENGTH_OF(values)};
    return store_run(s, STORE_WRITE, &call, reterr);
}

struct walk {
    bool (*each)(void *ctx, const struct store_session *session);
    void *ctx;
    bool stopped;
};

static enum err give_session(void *ctx, const struct store_value *row, struct err_info *reterr)
{
    struct walk *w = ctx;
    struct store_reader r = {row, false};
    struct store_session session;
    if (w->stopped)
        return OK;
    take_session(&r, &session);
    enum err e = store_read_end(&r, "a session", reterr);
    if (!e)
        w->stopped = !w->each(w->ctx, &session);
    return e;
}

enum err store_session_each(struct store *s, const char *user_id,
                            bool (*each)(void *ctx, const struct store_session *session), void *ctx,
                            struct err_info *reterr)
{
    struct walk w = {.each = each, .ctx = ctx};
    struct store_value values[] = {store_cstr("user_id", user_id), store_limit(STORE_PAGE_MAX)};
    struct store_call call = {.statement = SQL_SESSION_EACH,
                              .values = values,
                              .count = LENGTH_OF(values),
                              .each = give_session,
                              .ctx = &w};
    return store_run(s, STORE_READ, &call, reterr);
}

enum err store_session_prune(struct store *s, uint64_t before_ns, size_t limit, uint64_t *ret_deleted,
                             struct err_info *reterr)
{
    return store_prune(s, SQL_SESSION_PRUNE, before_ns, limit, ret_deleted, reterr);
}
