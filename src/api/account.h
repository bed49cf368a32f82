/* What people do with their accounts, by the JSON API and by the pages alike: with the events of the audit trail, the
 * webhooks and the cookies that belong to it. All of it blocks: for the `work` of a call. */
#ifndef WW_API_ACCOUNT_H
#define WW_API_ACCOUNT_H

#include "api/call.h"

/* ERR_FORBIDDEN: people can't make accounts by themselves here. */
MUST_CHECK enum err api_account_may_register(const struct api_call *call, struct err_info *reterr);
/* auth_user_register(), where that is allowed; how long to wait goes into the call. */
MUST_CHECK enum err api_account_register(struct api_call *call, struct str email, struct str password,
                                         struct store_user *ret_user,
                                         char ret_token[static AUTH_KEY_TOKEN_BYTES],
                                         struct err_info *reterr);
/* Checks the password and begins a session; its cookie goes into the reply. Errors of auth_user_login(). */
MUST_CHECK enum err api_account_login(struct api_call *call, struct str email, struct str password,
                                      struct store_user *ret_user, struct auth_session *ret_session,
                                      struct err_info *reterr);
/* The second half of it, for a user whose password has just been set. */
MUST_CHECK enum err api_account_begin_session(struct api_call *call, const struct store_user *user,
                                              struct auth_session *ret_session, struct err_info *reterr);
/* Ends the call's session and takes the cookie away. ERR_BAD_REQUEST: the credential is no session. */
MUST_CHECK enum err api_account_logout(struct api_call *call, struct err_info *reterr);

/* Sets another password for the caller; other sessions end. How long to wait goes into the call. Errors of
 * auth_user_change_password(). */
MUST_CHECK enum err api_account_change_password(struct api_call *call, struct str current,
                                                struct str password, struct err_info *reterr);

/* Makes a key of the caller's account and tier; `expires_ns`: wall, 0 = never. Errors of auth_key_create(). */
MUST_CHECK enum err api_account_add_key(struct api_call *call, struct str name, uint64_t expires_ns,
                                        struct store_key *ret_row,
                                        char ret_token[static AUTH_KEY_TOKEN_BYTES], struct err_info *reterr);
/* Fine where it is revoked already. ERR_NOT_FOUND: no such key, or one of somebody else, where the caller is no
 * administrator. */
MUST_CHECK enum err api_account_revoke_key(struct api_call *call, const char *id, struct err_info *reterr);

#endif
