/* Usage as text: a row of usage_logs, or a total of several, is a list of named cells, and cells become JSON, CSV or a line
 * for people. The API and the command line say the same with them. */
#ifndef WW_METER_USAGE_TEXT_H
#define WW_METER_USAGE_TEXT_H

#include "base/buf.h"
#include "store/usage.h"

enum { USAGE_CELLS_MAX = 21, USAGE_SCRATCH_BYTES = 128 };

struct usage_cell {
    const char *name;
    bool is_number;
    const char *text; /* "" = nothing */
    uint64_t number;
};

/* The texts are lent by the row or total, and by `scratch`. */
struct usage_cells {
    size_t count;
    struct usage_cell all[USAGE_CELLS_MAX];
    char scratch[USAGE_SCRATCH_BYTES];
};

void usage_cells_of_row(struct usage_cells *cells, const struct store_usage *row);
void usage_cells_of_total(struct usage_cells *cells, enum store_usage_group by,
                          const struct store_usage_total *total);

/* Appends an object; "" becomes null. */
void usage_put_json(struct buf *out, const struct usage_cells *cells);
/* Appends a line (RFC 4180) of the names, of the values. What a spreadsheet would take for a formula gets an apostrophe in
 * front: error sentences have words of the guest in them. */
void usage_put_csv_head(struct buf *out, const struct usage_cells *cells);
void usage_put_csv(struct buf *out, const struct usage_cells *cells);

/* "key", "day", "module", "cause". False: another word. */
bool usage_group_parse(struct str word, enum store_usage_group *ret);
const char *usage_group_name(enum store_usage_group by);
/* The period that totals of that kind are of: whole days, but for modules. `to_ns` 0 = no end. */
void usage_group_widen(enum store_usage_group by, uint64_t *from_ns, uint64_t *to_ns);

#endif
