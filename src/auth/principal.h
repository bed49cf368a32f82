/* Who is asking: what a credential of any kind comes to. Immutable once published, shared by reference. */
#ifndef WW_AUTH_PRINCIPAL_H
#define WW_AUTH_PRINCIPAL_H

#include <stdatomic.h>

#include "store/keys.h"
#include "store/users.h"

enum auth_kind { AUTH_BY_KEY, AUTH_BY_JWT, AUTH_BY_SESSION };

struct auth_principal {
    atomic_uint refs;
    enum auth_kind kind;
    char id[STORE_ID_BYTES];     /* what limits count by: the key's id, or the user's where there is no key */
    char key_id[STORE_ID_BYTES]; /* "" = came without a key */
    char user_id[STORE_ID_BYTES];  /* "" = a key of nobody, made by `wasmwiz keys` */
    char name[STORE_NAME_MAX + 1]; /* the key's, "" = none */
    enum store_role role;
    char tier[STORE_TIER_BYTES];
    uint64_t expires_ns;                       /* wall, 0 = never */
    uint32_t per_minute, per_day, concurrency; /* executions that its tier allows; 0 = no such limit */
};

/* A new one, with one reference, all else zeroes. */
struct auth_principal *auth_principal_new(enum auth_kind kind);
struct auth_principal *auth_principal_ref(struct auth_principal *p);
void auth_principal_unref(struct auth_principal *p);   /* takes NULL */
void auth_principal_unrefp(struct auth_principal **p); /* for CLEANUP */
/* Takes over the tier's name and figures. */
void auth_principal_set_tier(struct auth_principal *p, const struct store_tier *tier);

#endif
