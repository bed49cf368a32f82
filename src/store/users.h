/* Tiers and users. */
#ifndef WW_STORE_USERS_H
#define WW_STORE_USERS_H

#include "store/store.h"

/* What an account or a key may use. */
struct store_tier {
    char name[STORE_TIER_BYTES];
    uint64_t per_minute;  /* executions */
    uint64_t per_day;     /* UTC */
    uint64_t concurrency; /* runs under way at once */
};

MUST_CHECK enum err store_tier_get(struct store *s, const char *name, struct store_tier *ret_tier,
                                   struct err_info *reterr);
/* Makes the tier or changes it. */
MUST_CHECK enum err store_tier_put(struct store *s, const struct store_tier *tier, struct err_info *reterr);
/* ERR_CONFLICT: it is in use. */
MUST_CHECK enum err store_tier_delete(struct store *s, const char *name, struct err_info *reterr);
/* By name; at most STORE_PAGE_MAX. */
MUST_CHECK enum err store_tier_each(struct store *s, bool (*each)(void *ctx, const struct store_tier *tier),
                                    void *ctx, struct err_info *reterr);

enum store_role { STORE_ROLE_USER, STORE_ROLE_OPERATOR, STORE_ROLE_ADMIN, STORE_ROLE_COUNT };
/* "user", "operator", "admin". */
const char *store_role_name(enum store_role role);
bool store_role_parse(struct str word, enum store_role *ret_role);

enum { STORE_EMAIL_BYTES = 255, STORE_PASSWORD_HASH_BYTES = 129 };

struct store_user {
    char id[STORE_ID_BYTES];
    char email[STORE_EMAIL_BYTES]; /* as it was given; unique without regard to ASCII case */
    char password_hash[STORE_PASSWORD_HASH_BYTES];
    enum store_role role;
    char tier[STORE_TIER_BYTES];
    bool active;
    uint64_t created_ns;
    uint64_t updated_ns;
};

/* ERR_CONFLICT: the address is taken. ERR_FIELD_INVALID: no such tier, and the like. */
MUST_CHECK enum err store_user_insert(struct store *s, const struct store_user *user,
                                      struct err_info *reterr);
/* The same, but only while there is no user at all: ERR_CONFLICT otherwise. For the first administrator. */
MUST_CHECK enum err store_user_insert_first(struct store *s, const struct store_user *user,
                                            struct err_info *reterr);
MUST_CHECK enum err store_user_by_id(struct store *s, const char *id, struct store_user *ret_user,
                                     struct err_info *reterr);
MUST_CHECK enum err store_user_by_email(struct store *s, struct str email, struct store_user *ret_user,
                                        struct err_info *reterr);
/* What store_user_change() is to change; NULL = as it is. */
struct store_user_change {
    const char *email;
    const char *password_hash;
    const char *tier;
    const enum store_role *role;
    const bool *active;
    const char *if_password_hash; /* only while it is this one: ERR_NOT_FOUND otherwise; NULL = any */
    bool keep_admin; /* ERR_CONFLICT where it would take the role from the last active administrator */
};
MUST_CHECK enum err store_user_change(struct store *s, const char *id, const struct store_user_change *change,
                                      uint64_t now_ns, struct err_info *reterr);
/* With keys, sessions and webhooks; usage and audit stay. */
MUST_CHECK enum err store_user_delete(struct store *s, const char *id, struct err_info *reterr);
/* The same, but ERR_CONFLICT for the last active administrator. */
MUST_CHECK enum err store_user_delete_keep_admin(struct store *s, const char *id, struct err_info *reterr);
/* Active users that have at least this role. */
MUST_CHECK enum err store_user_count(struct store *s, enum store_role least, uint64_t *ret_count,
                                     struct err_info *reterr);
/* Newest first; *cursor moves to the last row given. */
MUST_CHECK enum err store_user_page(struct store *s, struct store_cursor *cursor, size_t limit,
                                    bool (*each)(void *ctx, const struct store_user *user), void *ctx,
                                    struct err_info *reterr);

#endif
