/* The pages for people: HTML made here, out of templates that are in the program, with forms that work without
 * JavaScript. A page is a call (api/call.h) with a surface of its own: bodies are forms, answers are HTML, and the only
 * credential is a session's cookie.
 *
 * What keeps other sites from acting through a visitor's browser: every POST must come from a page of ours
 * (web/origin.h), with a session it needs the session's token in the form, and the cookie is SameSite=Lax.
 * What keeps a value from becoming markup: the renderer escapes all of them (web/template.h), and the policy of the pages
 * allows no script or style but the files of web/static/. */
#ifndef WW_WEB_WEB_H
#define WW_WEB_WEB_H

#include "http/server.h"

/* The routes of all pages and their files, for api_routes(). Not thread-safe: for the start. */
const struct http_route *web_routes(size_t *ret_count);

/* The hooks of struct http_server_config: a page for addresses of pages, else what the API answers. */
void web_error_body(struct http_exchange *x, const struct err_info *err, struct buf *body);
const struct http_field *web_error_fields(struct http_exchange *x, size_t *ret_count);

#endif
