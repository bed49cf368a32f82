/* Which keys were used when: a table of a fixed size. Where its place for a key is taken by others, the one that was used
 * longest ago is forgotten. On one thread at a time. */
#ifndef WW_METER_KEY_USES_H
#define WW_METER_KEY_USES_H

#include "store/keys.h"

struct key_uses;

struct key_uses *key_uses_new(void);
void key_uses_free(struct key_uses *k); /* takes NULL */

/* The key was used at that wall time. */
void key_uses_note(struct key_uses *k, const char *key_id, uint64_t time_ns);
/* Up to `max` keys whose last use the database is to hear of: a minute later than what it was told before. */
size_t key_uses_due(struct key_uses *k, struct store_key_use *uses, size_t max);
/* The database has heard of these. */
void key_uses_told(struct key_uses *k, const struct store_key_use *uses, size_t count);
/* Keys that were used since then. */
uint64_t key_uses_since(const struct key_uses *k, uint64_t time_ns);

#endif
