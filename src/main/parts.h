/* How the parts are put together from the settings; used by every role that runs guests. */
#ifndef WW_MAIN_PARTS_H
#define WW_MAIN_PARTS_H

#include "executor/executor.h"
#include "main/settings.h"
#include "module/module.h"
#include "store/store.h"

/* Cores that this process may use, at least 1. */
uint32_t parts_cores(void);
struct exec_config parts_exec_config(const struct settings *s);
enum { PARTS_PATH_BYTES = 4200 };
/* The database of the settings; `path` is room for the default one, and the strings are lent by it and by `s`. */
struct store_config parts_store_config(const struct settings *s, char path[static PARTS_PATH_BYTES]);
/* Folders and the seal's key are the caller's to fill. */
struct modules_config parts_modules_config(const struct settings *s);
/* Lets this process open as many descriptors as the system allows, ignore broken pipes, and have more of what blocks
 * (SQL, hashing of passwords) under way at once than the four that are libuv's default. Before any loop runs. */
void parts_raise_limits(void);
/* Bounds this process by FRONT_MEMORY; it is a soft limit, which sandboxes and compilers put aside. */
MUST_CHECK enum err parts_limit_memory(const struct settings *s, struct err_info *reterr);
/* Makes a folder (mode 0700) and those above it. ERR_DISK_FAULT names it. */
MUST_CHECK enum err parts_make_folder(const char *path, struct err_info *reterr);

#endif
