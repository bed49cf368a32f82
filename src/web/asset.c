/* The files of the pages, with validators (RFC 9110 section 8.8.3). Pages ask for them by hash (?v=), so such an answer is
 * good for ever; an answer to any other query is asked for again each time. */
#include "web/file.h"
#include "web/page.h"

static struct str type_of(struct str name)
{
    static const struct {
        struct str ending, type;
    } types[] = {
        {STR_LIT(".css"), STR_LIT("text/css; charset=utf-8")},
        {STR_LIT(".js"), STR_LIT("text/javascript; charset=utf-8")},
        {STR_LIT(".svg"), STR_LIT("image/svg+xml")},
    };
    for (size_t i = 0; i < LENGTH_OF(types); i++)
        if (str_ends_with(name, types[i].ending))
            return types[i].type;
    WW_UNREACHABLE("every file of web/static/ has one of these endings");
}

/* Whether the client has it: If-None-Match (RFC 9110 section 13.1.2), a list of tags, compared weakly, or "*". */
static bool client_has(struct str if_none_match, struct str tag)
{
    while (if_none_match.len) {
        struct str one = str_trim(str_split(&if_none_match, ','));
        if (str_starts_with(one, STR_LIT("W/")))
            one = str_make(one.p + 2, one.len - 2);
        if (str_eq(one, tag) || str_eq(one, STR_LIT("*")))
            return true;
    }
    return false;
}

static void on_head(struct http_exchange *x)
{
    const struct web_file *file = http_route_data(x);
    char tag[32], query[32];
    snprintf(tag, sizeof tag, "\"%s\"", file->hash);
    snprintf(query, sizeof query, "v=%s", file->hash);
    bool by_hash = str_eq(http_query(x), str_of(query));
    const struct http_field fields[] = {
        {STR_LIT("ETag"), str_of(tag)},
        {STR_LIT("Cache-Control"),
         by_hash ? STR_LIT("public, max-age=31536000, immutable") : STR_LIT("no-cache")},
        {STR_LIT("Content-Type"), type_of(str_of(file->name))},
    };
    if (client_has(http_field(x, "if-none-match"), str_of(tag)))
        http_reply(x, 304, fields, LENGTH_OF(fields) - 1, STR_LIT(""));
    else
        http_reply(x, 200, fields, LENGTH_OF(fields), file->bytes);
}

const struct http_handler web_asset_handler = {.head = on_head};
