/* The frame of a command that works on what a server keeps: help, settings, wrong usage, exit statuses. */
#ifndef WW_CLI_COMMAND_H
#define WW_CLI_COMMAND_H

#include "main/settings.h"
#include "store/store.h"

struct cli_command {
    const char *name;
    const char *usage;
    void *request; /* what parse() fills and carry_out() reads */
    /* Of the arguments, those that are no settings. False: wrong usage. */
    bool (*parse)(int argc, char **argv, void *request);
    /* Whether carry_out() reads the salt: then API_SALT must be as `wasmwiz serve` wants it. NULL: never. */
    bool (*needs_salt)(const void *request);
    /* What failed goes to stderr as one sentence. */
    enum err (*carry_out)(const void *request, const struct settings *s, struct err_info *reterr);
    int not_found_status; /* exit status for ERR_NOT_FOUND; 0 = as for any other error, 1 */
};

/* Returns the exit status. */
int cli_command_run(const struct cli_command *c, int argc, char **argv);
/* Opens the store of the settings and makes the data folder where it is missing. */
MUST_CHECK enum err cli_store_open(const struct settings *s, struct store **ret_store,
                                   struct err_info *reterr);

#endif
