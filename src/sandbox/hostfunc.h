/* The functions that guests may import, bound to the engine. */
#ifndef WW_SANDBOX_HOSTFUNC_H
#define WW_SANDBOX_HOSTFUNC_H

#include <wasmtime.h>

#include "base/err.h"

/* Defines all of WASI preview1 in `linker`. */
MUST_CHECK enum err hostfunc_define_all(wasmtime_linker_t *linker, struct err_info *reterr);

#endif
