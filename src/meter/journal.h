/* The journal of usage: what runs cost, on disk before the caller hears of them, for as long as the database has not
 * taken it. A lane for each loop of the front, a chain of segments (segment.h) each.
 *
 * The loop's side makes no system call and takes no lock: it fills the next slot of its current segment. Before a run is
 * accepted a slot is reserved for it, so that no accepted run finds the journal full. A lane has its current segment and
 * a spare; the pool's side makes the spares, up to `bytes_max` for all files of the folder, other processes' among them.
 *
 * The pool's side has two jobs that may go on at once: tending (spares, writing to the disk) and draining (reading runs,
 * taking over the files of processes that died, putting away what is drained). Each is done by one thread at a time. */
#ifndef WW_METER_JOURNAL_H
#define WW_METER_JOURNAL_H

#include "meter/segment.h"

struct journal;

struct journal_config {
    const char *folder; /* exists */
    uint64_t bytes_max;
    uint32_t lanes;
};

/* Opens the journal with room in all lanes where the bound and the disk allow it. ERR_DISK_FAULT: the folder can't be
 * used. Blocks. */
MUST_CHECK enum err journal_open(const struct journal_config *config, struct journal **ret_journal,
                                 struct err_info *reterr);
/* Nobody may use it any more. What is not drained stays for the next process. Takes NULL. */
void journal_close(struct journal *j);

/* --- a loop, on its lane ------------------------------------------------------------------------ */
/* Takes room for one run. False: there is none, because the database or the disk is down for long. */
bool journal_reserve(struct journal *j, uint32_t lane);
/* Gives it back unused. */
void journal_release(struct journal *j, uint32_t lane);
/* Keeps a run, in the room that was reserved for it. True: the lane should be tended to. */
bool journal_put(struct journal *j, uint32_t lane, const struct usage_run *run);

/* --- the pool ----------------------------------------------------------------------------------- */
/* Makes the spares that are missing. ERR_DISK_FAULT. */
MUST_CHECK enum err journal_tend(struct journal *j, struct err_info *reterr);
/* Writes all that waits to the disk. ERR_DISK_FAULT. */
MUST_CHECK enum err journal_sync(struct journal *j, struct err_info *reterr);

/* Runs that wait, up to `max`, into `rows`, which are to be given to the database; returns how many. Then either
 * journal_drained() is called, or nothing more is read: the next process will read the same. Files of processes that died
 * meanwhile are looked for where `adopt`; those that were there at the start are read by themselves. */
size_t journal_read(struct journal *j, bool adopt, struct store_usage *rows, size_t max);
/* What the last journal_read() gave is in the database. */
void journal_drained(struct journal *j);

struct journal_stats {
    uint64_t bytes;   /* of all files of the folder, as last seen */
    uint64_t waiting; /* runs of this process */
    uint64_t torn;    /* records that were not whole, and were left out */
};
/* Any thread. */
struct journal_stats journal_stats(struct journal *j);

#endif
