/* The subcommands of the program. Each gets the arguments behind its name and returns the exit status. */
#ifndef WW_MAIN_COMMANDS_H
#define WW_MAIN_COMMANDS_H

#define COMMAND(name, function, shown, line) int function(int argc, char **argv);
#include "main/commands.def"
#undef COMMAND

/* sysexits.h, as far as it goes */
enum { EXIT_USAGE = 64, EXIT_DATA = 65, EXIT_NO_INPUT = 66, EXIT_SOFTWARE = 70, EXIT_CONFIG = 78 };

#endif
