/* The file behind the log: appended to by any thread, rotated by size, kept in a number of old ones.
 *
 *     LOG_FILE  ->  LOG_FILE.1  ->  LOG_FILE.2  ...  ->  deleted
 *
 * The descriptor's number never changes: a new file takes its place under the same number (dup3), so writers need no
 * lock. Two processes may write to one file (an upgrade): who rotates holds the file's lock (flock) and looks whether the
 * path still leads to it; each looks once a second, and follows where another process, or logrotate, moved it away.
 *
 * A line that the disk does not take is lost and counted; stderr hears of it, at most once in ten minutes. Nothing here ever fails a caller. */
#ifndef WW_BASE_LOG_FILE_H
#define WW_BASE_LOG_FILE_H

#include "base/err.h"
#include "base/str.h"

struct log_file_config {
    const char *path;   /* lent until log_file_close() */
    uint64_t bytes_max; /* of one file; a line that passes it is still whole, in the old file */
    uint32_t keep;      /* old files beside the one that is written; 0 = none */
};

/* Opens or makes the file (mode 0600); one a process, before threads start. ERR_DISK_FAULT says why not. */
MUST_CHECK enum err log_file_open(const struct log_file_config *config, struct err_info *reterr);
/* Closes it; nobody writes any more. Fine where none is open. */
void log_file_close(void);
/* Appends one line with its newline. Any thread; nothing happens where no file is open. */
void log_file_write(struct str line);
/* Opens the path anew: for SIGHUP after logrotate. Any thread. */
void log_file_reopen(void);
/* Lines that were lost so far. */
uint64_t log_file_lost(void);

#endif
