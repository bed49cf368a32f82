/* The two folders of modules on disk: uploads on their way to the compiler, removed an hour later, and the cache of
 * sealed code, kept below a size. All of it blocks: for libuv's pool. */
#ifndef WW_MODULE_FILES_H
#define WW_MODULE_FILES_H

#include <stdatomic.h>

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"

/* --- uploads ------------------------------------------------------------------------------------ */
struct spool_file {
    struct list link; /* oldest first: all have the same time to live */
    uint64_t remove_ns;
    char name[42]; /* <uuid4>.wasm */
};

/* Writes `wasm` to `dir`/<uuid4>.wasm (RFC 9562 version 4), mode 0600. *ret_fd reads it from its start; *ret_file
 * (malloc'ed) names it. ERR_DISK_FAULT. `dir` NULL: memory only, *ret_file NULL. */
MUST_CHECK enum err spool_put(const char *dir, struct str wasm, int *ret_fd, struct spool_file **ret_file,
                              struct err_info *reterr);
void spool_remove(const char *dir, const char *name);
/* Removes what an earlier program left: files of that form older than `ttl_ns`. Younger ones are told to `each`. */
void spool_scan(const char *dir, uint64_t ttl_ns, void (*each)(void *ctx, const char *name, uint64_t age_ns),
                void *ctx);

/* --- the cache ---------------------------------------------------------------------------------- */
/* `dir`/<sha in hex>-<fingerprint>.code into `ret` (at least 4352 bytes). */
void cache_path(const char *dir, const unsigned char sha[static 32], const char *fingerprint, char *ret,
                size_t size);
/* A new file to write code to, without a name in the folder until cache_publish(). In memory where `dir` is NULL or
 * takes no such file: then it can't be published. -1 and errno. */
int cache_open_new(const char *dir);
/* Gives the file its name. */
MUST_CHECK enum err cache_publish(int fd, const char *path, struct err_info *reterr);
/* Bytes in the folder. */
uint64_t cache_size(const char *dir);
/* Removes the least recently used files until `max_bytes` hold them with a tenth to spare. Returns what is left. */
uint64_t cache_trim(const char *dir, uint64_t max_bytes);

#endif
