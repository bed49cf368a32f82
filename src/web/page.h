/* What the pages share: how they are shown, and the surface that makes a call a page. Inside of web/ only. */
#ifndef WW_WEB_PAGE_H
#define WW_WEB_PAGE_H

#include "api/account.h"
#include "web/form.h"
#include "web/template.h"

struct web_page {
    const char *template; /* a name in web/templates/, without ".html" */
    const char *title;
    const char *csrf;  /* the session's token; NULL: there is no session */
    const char *email; /* of the account; NULL or "": it is not shown */
    const struct web_value *values;
    size_t value_count;
};

/* Appends the page. */
void web_page_put(struct buf *out, const struct web_page *page);
/* Makes it the answer to the call; its status stays. */
void web_page_show(struct api_call *call, const struct web_page *page);
/* The page of an error; `csrf` as above. */
void web_page_put_error(struct buf *out, const struct err_info *err, const char *csrf,
                        const char *request_id);
/* The answer is another address of ours, to be got (303). */
enum err web_redirect(struct api_call *call, const char *path);
/* The form that came with the call. */
const struct web_form *web_form_of(const struct api_call *call);

extern const struct api_surface web_surface;

/* The page of an account's keys. */
struct web_keys_view {
    const struct store_user *user;
    const char *session;      /* its id */
    struct store_cursor from; /* where the list begins; zeroes: at the newest */
    size_t limit;             /* keys on the page, at most API_PAGE_DEFAULT, which 0 means */
    struct str key_name;      /* of the key that was, or was not made; .p NULL: none */
    const char *key;          /* the new key itself; NULL: there is none */
    const char *error;        /* NULL: none */
};
MUST_CHECK enum err web_keys_show(struct api_call *call, const struct web_keys_view *view,
                                  struct err_info *reterr);

/* A work() that fails answers with the page of the error, unless it has made a page of its own. */
#define PAGE(method, path, access, body_limit, fields, fn) \
    enum err fn(struct api_call *call, struct err_info *reterr);
#include "web/pages.def"
#undef PAGE

/* A file of web/static/; its route's data is the struct web_file. */
extern const struct http_handler web_asset_handler;

#endif
