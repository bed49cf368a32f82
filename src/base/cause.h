/* Why a run ended: `enum cause` from the table base/cause.def. */
#ifndef WW_BASE_CAUSE_H
#define WW_BASE_CAUSE_H

#include "base/base.h"

enum cause {
#define CAUSE(name, status, cli, text) CAUSE_##name,
#include "base/cause.def"
#undef CAUSE
    CAUSE_COUNT
};

/* The lower-case name of receipts and metric labels, e.g. "memory_limit". Never NULL. */
const char *cause_name(enum cause cause);
/* The HTTP status on the execution API. */
int cause_http_status(enum cause cause);
/* The exit status of `wasmwiz run`; -1 where it is the guest's own. */
int cause_exit_status(enum cause cause);
/* One sentence for people. */
const char *cause_sentence(enum cause cause);

#endif
