#include "web/page.h"

#include "web/file.h"
#include "web/origin.h"

/* No script or style but the files of ours. Referrer-Policy: with "no-referrer" browsers would send forms with "Origin:
 * null" (Fetch standard, section 3.2), and nobody could tell whose they are. */
static const struct http_field page_fields[] = {
    {STR_LIT("Content-Type"), STR_LIT("text/html; charset=utf-8")},
    {STR_LIT("Content-Security-Policy"),
     STR_LIT("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action "
             "'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'")},
    {STR_LIT("Referrer-Policy"), STR_LIT("same-origin")},
    {STR_LIT("Cross-Origin-Opener-Policy"), STR_LIT("same-origin")},
};

static struct str template_of(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "templates/%s.html", name);
    const struct web_file *file = web_file_find(str_of(path));
    WW_ASSERT(file);
    return file->bytes;
}

/* What makes browsers ask for a file again when it has changed. */
static struct str hash_of(const char *file)
{
    return str_of(web_file_find(str_of(file))->hash);
}

void web_page_put(struct buf *out, const struct web_page *page)
{
    const struct web_value common[] = {
        WEB_TEXT("title", str_of(page->title)),        WEB_TEXT("csrf", str_of(page->csrf)),
        WEB_TEXT("account", str_of(page->email)),      WEB_TEXT("css_hash", hash_of("static/app.css")),
        WEB_TEXT("js_hash", hash_of("static/app.js")), WEB_TEXT("icon_hash", hash_of("static/icon.svg")),
    };
    const struct web_scope around = {common, LENGTH_OF(common), NULL};
    const struct web_scope scope = {page->values, page->value_count, &around};
    web_render(out, template_of("base"), template_of(page->template), &scope);
}

void web_page_show(struct api_call *call, const struct web_page *page)
{
    buf_clear(&call->out);
    web_page_put(&call->out, page);
}

void web_page_put_error(struct buf *out, const struct err_info *err, const char *csrf, const char *request_id)
{
    char status[8];
    snprintf(status, sizeof status, "%d", err_status(err->code));
    const struct web_value values[] = {
        WEB_TEXT("status", str_of(status)),
        WEB_TEXT("sentence", str_of(err_told(err))),
        WEB_TEXT("request_id", str_of(request_id)),
        WEB_TEXT("login", str_of(err->code == ERR_UNAUTHORIZED ? "yes" : "")),
    };
    web_page_put(out, &(struct web_page){.template = "error",
                                         .title = "Error",
                                         .csrf = csrf,
                                         .values = values,
                                         .value_count = LENGTH_OF(values)});
}

enum err web_redirect(struct api_call *call, const char *path)
{
    buf_clear(&call->out);
    call->status = 303;
    api_call_field(call, "Location", str_of(path));
    return OK;
}

const struct web_form *web_form_of(const struct api_call *call)
{
    return call->form;
}

/* --- the surface -------------------------------------------------------------------------------- */
static enum err on_head(struct api_call *call, const struct http_exchange *x, struct err_info *reterr)
{
    if (call->endpoint->method != HTTP_METHOD_POST)
        return OK;
    if (http_field_count(x, "sec-fetch-site") > 1 || http_field_count(x, "origin") > 1)
        return err_set(reterr, ERR_BAD_REQUEST, "Sec-Fetch-Site or Origin is there twice");
    return web_origin_check(&(struct web_origin){.fetch_site = http_field(x, "sec-fetch-site"),
                                                 .origin = http_field(x, "origin"),
                                                 .host = http_field(x, "host"),
                                                 .secure = call->secure},
                            reterr);
}

static enum err parse_form(struct api_call *call, struct str body, struct str *ret_csrf,
                           struct err_info *reterr)
{
    struct web_form *form = arena_alloc(&call->arena, sizeof *form);
    if (!form)
        return err_set(reterr, ERR_INTERNAL, "the call has no memory left");
    enum err e = web_form_parse(body, &call->arena, form, reterr);
    for (size_t i = 0; !e && i < form->count; i++)
        if (!api_call_knows(call, form->fields[i].name))
            e = err_set(reterr, ERR_FIELD_INVALID, "the form has a field \"%.*s\"; known are: %s",
                        STR_FMT(form->fields[i].name), call->endpoint->fields);
    if (e)
        return e;
    call->form = form;
    *ret_csrf = web_form_get(form, "csrf");
    return OK;
}

static void on_fail(struct api_call *call, const struct err_info *err)
{
    char csrf[AUTH_SESSION_BYTES];
    if (call->out.len && !call->out.overflow)
        return; /* the page has said it itself */
    if (err->code == ERR_UNAUTHORIZED && call->endpoint->method == HTTP_METHOD_GET) {
        enum err e = web_redirect(call, "/login");
        WW_ASSERT(!e);
        return;
    }
    if (call->session)
        auth_session_csrf(call->program->auth, call->session, csrf);
    buf_clear(&call->out);
    web_page_put_error(&call->out, err, call->session ? csrf : NULL, call->request_id);
}

const struct api_surface web_surface = {
    .body_type = "application/x-www-form-urlencoded",
    .head = on_head,
    .parse = parse_form,
    .fail = on_fail,
    .fields = page_fields,
    .field_count = LENGTH_OF(page_fields),
};
