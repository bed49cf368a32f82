#include "base/base.h"
#include "main/commands.h"
#include "main/upgrade.h"

static const struct {
    const char *name;
    int (*function)(int argc, char **argv);
    bool shown;
    const char *line;
} commands[] = {
#define COMMAND(name, function, shown, line) {#name, function, shown, line},
#include "main/commands.def"
#undef COMMAND
};

static void print_help(FILE *to)
{
    fputs("WasmWiz runs WebAssembly that nobody trusts, with limits that hold.\n\n"
          "usage: wasmwiz COMMAND [OPTIONS]\n\ncommands:\n",
          to);
    for (size_t i = 0; i < LENGTH_OF(commands); i++)
        if (commands[i].shown)
            fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].line);
    fputs("\n`wasmwiz COMMAND --help` tells more.\n", to);
}

int main(int argc, char **argv)
{
    upgrade_remember(argv);
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0)
        return command_version(0, NULL);
    for (size_t i = 0; i < LENGTH_OF(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].function(argc - 2, argv + 2);
    fprintf(stderr, "wasmwiz: there is no command \"%s\"\n\n", argv[1]);
    print_help(stderr);
    return EXIT_USAGE;
}
