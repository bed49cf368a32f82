/* Results and errors: `enum err` from the table base/err.def, and `struct err_info` with the
 * sentence that names the field, the limit and the value. OK is 0. */
#ifndef WW_BASE_ERR_H
#define WW_BASE_ERR_H

#include "base/base.h"

enum err {
    OK = 0,
#define ERR(name, status, retry, text) ERR_##name,
#include "base/err.def"
#undef ERR
    ERR_COUNT
};

/* Where a function says what went wrong; the caller owns it. Starts as zeroes. */
struct err_info {
    enum err code;
    char text[384];
};

/* Fills `info` (may be NULL) with `code` and a formatted sentence, cut at its size.
 * Returns `code`, so that `return err_set(...)` reads well. */
enum err err_set(struct err_info *info, enum err code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The stable upper-case name, e.g. "BAD_REQUEST"; "OK" for OK. Never NULL. */
const char *err_name(enum err code);
/* The lower-case machine code of JSON bodies and metric labels, e.g. "bad_request". */
const char *err_code(enum err code);
/* The HTTP status. */
int err_status(enum err code);
/* Whether the same request may succeed later. */
bool err_may_retry(enum err code);
/* The general sentence of the table. */
const char *err_sentence(enum err code);
/* The sentence of `info`, or the general one where it has none. */
const char *err_text(const struct err_info *info);
/* What a client is told: the same, but the general sentence where the fault is the server's own (INTERNAL, STORE_DOWN,
 * DISK_FAULT). That sentence is for the log: it may name hosts, users and paths. */
const char *err_told(const struct err_info *info);

#endif
