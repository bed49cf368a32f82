/* A call of the JSON API: everything but executions. Here is what all such endpoints share, so that each is one
 * function, `work`, that runs on libuv's pool, may block, reads the call and fills in the answer:
 *
 *     address limit -> body -> who asks -> may they? -> key limit -> work() on the pool -> reply
 *
 * Who asks is told by an Authorization field or, where there is none, by the session's cookie. A cookie comes along
 * whoever has made the request, so with it every method but GET and HEAD needs the session's token in X-CSRF-Token. A
 * cookie that is not good any more counts as none. What the address limit took is given back to those who are known
 * and may: so it bounds how often somebody is refused, and the lines of the log about that.
 *
 * Where the answer has no end yet, work() leaves a `struct api_stream` that goes on from there on the call's loop.
 * Pages (web/) are calls, too: their `surface` says that bodies are forms and answers are HTML.
 *
 * An endpoint is a row of endpoints.def. A body is a JSON object with no fields but those of the row. Answers are JSON
 * unless the endpoint says otherwise; errors look like everywhere: {"error":{"code","message","request_id"}}. */
#ifndef WW_API_CALL_H
#define WW_API_CALL_H

#include <jansson.h>

#include "api/api.h"
#include "auth/event.h"
#include "auth/user.h"
#include "base/arena.h"

/* Who may call. A credential that is sent is checked wherever it is sent. */
enum api_access {
    API_OPEN,       /* anybody */
    API_CREDENTIAL, /* any good credential, a key of nobody, too */
    API_ACCOUNT,    /* one that belongs to an account */
    API_OPERATOR,   /* an account with this role or a higher one */
    API_ADMIN,
    API_METRICS /* as METRICS_ACCESS says: operators; or anybody, then no credential is looked at and nothing is counted */
};

enum { API_CALL_FIELDS_MAX = 6, API_PAGE_DEFAULT = 50 };

struct api_call;

/* What calls look like on the wire where that is not JSON. With one, only a session's cookie is a credential. All of it
 * happens on the loop: nothing may block. */
struct api_surface {
    const char *body_type; /* the media type of bodies */
    /* The head has come; what it refuses is not looked at further. */
    enum err (*head)(struct api_call *call, const struct http_exchange *x, struct err_info *reterr);
    /* Reads a body, perhaps an empty one, into call->form; *ret_csrf: the session's token, which came in it. */
    enum err (*parse)(struct api_call *call, struct str body, struct str *ret_csrf, struct err_info *reterr);
    /* Makes the answer to a call that failed; its status is set. What work() has put into `out` is still there. */
    void (*fail)(struct api_call *call, const struct err_info *err);
    const struct http_field
        *fields; /* of every answer, Content-Type among them; HTTP_ERROR_FIELDS_MAX at most */
    size_t field_count;
};

struct api_endpoint {
    enum http_method method;
    const char *path; /* a prefix where it ends in '*' */
    enum api_access access;
    uint64_t body_limit; /* bytes; 0: it takes no body */
    const char *fields;  /* those that the body may have, with one blank between them */
    /* On libuv's pool. On an error the answer is that error, whatever is in `out`. */
    enum err (*work)(struct api_call *call, struct err_info *reterr);
    const struct api_surface *surface; /* NULL: JSON */
};

/* An answer that comes in pieces. All of it is called on the call's loop. The call lives, and counts as live for the
 * drain, until api_stream_free(). A HEAD gets the fields and no stream. */
struct api_stream {
    /* First, where the client is still there. On an error the answer is that error, and nothing more is called. On OK
     * the call's status and fields are sent as they are now, and writable() is called at once. */
    enum err (*begin)(struct api_call *call, struct loop *loop, struct err_info *reterr);
    void (*writable)(struct api_call *call); /* all that was sent is out */
    void (*gone)(struct api_call *call);     /* the client left before api_stream_end() */
};

struct api_call {
    const struct api_program *program;
    const struct api_endpoint *endpoint;
    struct arena arena; /* freed with the call */
    const char *request_id;
    const char *peer;           /* the client's address */
    bool secure;                /* the client came over TLS */
    struct str rest;            /* of the path, behind an endpoint's prefix; never decoded, not empty there */
    struct str query;           /* as sent */
    struct auth_principal *who; /* NULL: an open endpoint, and no credential was sent */
    const char *session;        /* the id of the session that is the credential; NULL: it is another */
    json_t *body;               /* an object; NULL: the endpoint takes none, or none was sent */
    const void *form;           /* what the surface has made of the body */

    /* the answer */
    int status;               /* 200 */
    const char *content_type; /* application/json; of no matter with a surface */
    struct buf out;
    struct http_field fields[API_CALL_FIELDS_MAX];
    size_t field_count;
    uint32_t retry_after_s;          /* with an error that may go by; 1 where it is 0 */
    const struct api_stream *stream; /* NULL: `out` is all of it */
    void *stream_data;
};

/* False: no more until writable(). What is sent before that is kept, so what is sent at once is what it costs. */
bool api_stream_send(struct api_call *call, struct str bytes);
/* The reply is complete; gone() does not come any more. Fine after gone(), too. */
void api_stream_end(struct api_call *call);
/* The last: after the end, or gone(). Frees the call. */
void api_stream_free(struct api_call *call);

/* The caller, for the audit trail: the account, or the key where it has none. */
struct auth_actor api_call_actor(const struct api_call *call);

/* Appends a field of the reply; `value` is copied into the call's arena, and cut where it has a control character. */
void api_call_field(struct api_call *call, const char *name, struct str value);

/* auth_event() about what the caller did. */
void api_call_event(const struct api_call *call, enum log_level level, const char *action, const char *target,
                    const char *detail);

/* A field of the body. MISSING ones are refused where `wanted`, else *ret is untouched. All errors are FIELD_INVALID
 * and name the field. Text is UTF-8 without NUL of `min` to `max` bytes; it lives as long as the call. */
MUST_CHECK enum err api_call_text(struct api_call *call, const char *name, bool wanted, size_t min,
                                  size_t max, struct str *ret, struct err_info *reterr);
MUST_CHECK enum err api_call_number(struct api_call *call, const char *name, bool wanted, uint64_t min,
                                    uint64_t max, uint64_t *ret, struct err_info *reterr);
MUST_CHECK enum err api_call_bool(struct api_call *call, const char *name, bool wanted, bool *ret,
                                  struct err_info *reterr);

/* A parameter of the query, percent-decoded; .p NULL where it is absent. FIELD_INVALID: twice, or not well formed. */
MUST_CHECK enum err api_call_query(struct api_call *call, const char *name, struct str *ret,
                                   struct err_info *reterr);
MUST_CHECK enum err api_call_query_number(struct api_call *call, const char *name, uint64_t min, uint64_t max,
                                          uint64_t *ret, struct err_info *reterr);

/* What stands behind the endpoint's prefix, if it is an id of the store; ERR_NOT_FOUND otherwise. */
MUST_CHECK enum err api_call_id(const struct api_call *call, char ret_id[static STORE_ID_BYTES],
                                struct err_info *reterr);

/* Whether `name` is a field that the endpoint takes. */
bool api_call_knows(const struct api_call *call, struct str name);

/* The page that is asked for by ?limit= (1 to STORE_PAGE_MAX) and ?cursor=. */
MUST_CHECK enum err api_call_page(struct api_call *call, struct store_cursor *ret_cursor, size_t *ret_limit,
                                  struct err_info *reterr);
/* Appends `,"next_cursor":"..."`, or null where the page was not full. */
void api_call_put_cursor(struct api_call *call, const struct store_cursor *cursor, bool full);

/* Appends "name":value with a comma before it where one is needed. Times are RFC 3339 in UTC, null for 0. */
void api_put_text(struct buf *out, const char *name, const char *value);
void api_put_number(struct buf *out, const char *name, uint64_t value);
void api_put_bool(struct buf *out, const char *name, bool value);
void api_put_time(struct buf *out, const char *name, uint64_t wall_ns);

/* Appends {"id", "email", ... of an account, without the brace at its end. */
void api_put_user(struct buf *out, const struct store_user *user);

#define ENDPOINT(method, path, access, body_limit, fields, fn) \
    enum err fn(struct api_call *call, struct err_info *reterr);
#include "api/endpoints.def"
#undef ENDPOINT

extern const struct api_endpoint api_endpoints[];
extern const size_t api_endpoint_count;
extern const struct http_handler api_call_handler;

#endif
