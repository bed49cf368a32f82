/* The form in a request's body: application/x-www-form-urlencoded (URL standard, section 5.1), read strictly. Every pair
 * has its '=', names come once, text is UTF-8 without NUL. */
#ifndef WW_WEB_FORM_H
#define WW_WEB_FORM_H

#include "base/arena.h"
#include "base/err.h"

enum { WEB_FORM_BYTES_MAX = 8 * 1024, WEB_FORM_FIELDS_MAX = 16, WEB_FORM_NAME_MAX = 64 };

struct web_form {
    size_t count;
    struct web_form_field {
        struct str name;
        struct str value;
    } fields[WEB_FORM_FIELDS_MAX];
};

/* Names and values are kept in `arena`. ERR_BAD_REQUEST: not well formed; ERR_FIELD_INVALID names the field. */
MUST_CHECK enum err web_form_parse(struct str body, struct arena *arena, struct web_form *ret_form,
                                   struct err_info *reterr);
/* The field's value; .p NULL where it is absent. */
struct str web_form_get(const struct web_form *form, const char *name);
/* The same for one that has to be there, with `min` to `max` bytes. ERR_FIELD_INVALID names the field. */
MUST_CHECK enum err web_form_text(const struct web_form *form, const char *name, size_t min, size_t max,
                                  struct str *ret, struct err_info *reterr);

#endif
