/* The Cookie field and the Authorization field: what comes out lies inside of what came in, and has its form. */
#include "auth/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct str part, struct str whole)
{
    WW_ASSERT(!part.p || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"wasmwiz=", "__Host-wasmwiz="};
    struct str field = str_make(data, size);
    for (int secure = 0; secure < 2; secure++) {
        struct str id = auth_session_of_cookie(field, secure);
        size_t name_len = strlen(names[secure]);
        check_inside(id, field);
        if (!id.p)
            continue;
        WW_ASSERT(id.len == AUTH_SESSION_BYTES - 1);
        for (size_t i = 0; i < id.len; i++)
            WW_ASSERT(strchr("0123456789abcdef", id.p[i]) && id.p[i]);
        WW_ASSERT(id.p >= field.p + name_len && memcmp(id.p - name_len, names[secure], name_len) == 0);
    }
    struct str token = auth_bearer_token(field);
    check_inside(token, field);
    WW_ASSERT(!token.p || (token.len && token.len <= AUTH_TOKEN_MAX_BYTES));
    return 0;
}
