/* The functions that a guest may import here: those of WASI preview1, from the table sandbox/wasi.def. */
#ifndef WW_MODULE_KNOWN_IMPORTS_H
#define WW_MODULE_KNOWN_IMPORTS_H

#include "base/str.h"

/* Is there a function `name` in `module`? A `name` whose .p is NULL asks whether `module` has any. Fits
 * precheck_import_known. Compares names one by one: it runs once an import, when a module is compiled. */
bool module_import_is_known(struct str module, struct str name);

#endif
