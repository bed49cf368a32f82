/* Accounts: who am I. */
#include "api/call.h"

enum err api_me(struct api_call *call, struct err_info *reterr)
{
    const struct auth_principal *who = call->who;
    (void)reterr;
    buf_putc(&call->out, '{');
    api_put_text(&call->out, "user_id", who->user_id);
    api_put_text(&call->out, "key_id", who->key_id);
    api_put_text(&call->out, "role", store_role_name(who->role));
    api_put_text(&call->out, "tier", who->tier);
    buf_puts(&call->out, "}\n");
    return OK;
}
