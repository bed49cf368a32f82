/* One file that holds the embedded database as it was at one moment, and what else is needed with it.
 *
 * The file is an SQLite database itself, with one table more, wasmwiz_backup, in which lie its version, when and by what
 * program it was made, and a secret of the caller's. It is whole or not there: both ways go through a file beside the target
 * (".part") that takes its name at the end. All files have mode 0600.
 *
 * PostgreSQL has its own tools: ERR_FIELD_INVALID names them. */
#ifndef WW_STORE_BACKUP_H
#define WW_STORE_BACKUP_H

#include "store/store.h"

enum { STORE_BACKUP_SECRET_MAX = 1024 };

struct store_backup_info {
    uint64_t created_ns;
    uint64_t schema_version;
    uint64_t bytes; /* of the file */
    char program[32];
    char secret[STORE_BACKUP_SECRET_MAX + 1]; /* "" = none; wipe it after use */
};

/* Copies the database behind `config` to the file `path`, while others use it. `secret` may be empty. NOT_FOUND: there is
 * no database yet. CONFLICT: the file is there, and not `replace`. STORE_DOWN: it can't be read, or the copy is not sound.
 * DISK_FAULT: the copy can't be written. */
MUST_CHECK enum err store_backup(const struct store_config *config, const char *path, struct str secret,
                                 bool replace, struct store_backup_info *ret_info, struct err_info *reterr);
/* Puts the backup `path` in the place of the database behind `config`; nobody may have that open. The schema is brought up
 * to date by the next store_open(). NOT_FOUND: no such file. FIELD_INVALID: it is no backup, is damaged, or was made by a
 * newer program. CONFLICT: there is a database, and not `replace`. */
MUST_CHECK enum err store_restore(const struct store_config *config, const char *path, bool replace,
                                  struct store_backup_info *ret_info, struct err_info *reterr);

#endif
