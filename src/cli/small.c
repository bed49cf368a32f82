/* The commands that are a few lines each: version, settings, errors, and the two roles that only the server starts. */
#include "base/cause.h"
#include "base/err.h"
#include "main/commands.h"
#include "main/settings.h"
#include "sandbox/engine.h"
#include "sandbox/process.h"

int command_version(int argc, char **argv)
{
    if (argc > 0) {
        bool help = strcmp(argv[0], "--help") == 0;
        fputs("usage: wasmwiz version\n\nPrints the versions of the program and its engine.\n",
              help ? stdout : stderr);
        return help ? 0 : EXIT_USAGE;
    }
    printf("wasmwiz %s (wasmtime %s)\n", WW_VERSION, WASMTIME_VERSION);
    return 0;
}

int command_settings(int argc, char **argv)
{
    struct buf out = buf_make(64 * 1024);
    const char *form = argc == 1 ? argv[0] : argc == 0 ? "show" : "";
    int status = 0;
    if (strcmp(form, "env") == 0) {
        settings_put_env_example(&out);
    } else if (strcmp(form, "markdown") == 0) {
        settings_put_markdown(&out);
    } else if (strcmp(form, "show") == 0) {
        struct settings s;
        if (settings_load(&s, &(int){0}, NULL, &out))
            settings_put_effective(&out, &s);
        else
            status = EXIT_CONFIG;
        settings_done(&s);
    } else {
        status = strcmp(form, "--help") == 0 ? 0 : EXIT_USAGE;
        buf_puts(&out, "usage: wasmwiz settings [show|env|markdown]\n\n"
                       "  show      what is in effect here, from .env and the environment (default)\n"
                       "  env       a commented .env file with every default\n"
                       "  markdown  the table of the documentation\n");
    }
    fputs(buf_cstr(&out), status ? stderr : stdout);
    buf_done(&out);
    return status;
}

int command_errors(int argc, char **argv)
{
    if (argc > 0) {
        bool help = strcmp(argv[0], "--help") == 0;
        fputs("usage: wasmwiz errors\n\nPrints the reference of error codes and causes as Markdown.\n",
              help ? stdout : stderr);
        return help ? 0 : EXIT_USAGE;
    }
    puts("# Errors and causes\n\nMade by `wasmwiz errors` from the tables `src/base/err.def` and "
         "`src/base/cause.def`.\n\n"
         "## Errors: the request was refused and nothing ran\n\n"
         "| code | HTTP status | the same request may succeed later | meaning |\n|---|---|---|---|");
    for (int i = 1; i < ERR_COUNT; i++)
        printf("| `%s` | %d | %s | %s |\n", err_code((enum err)i), err_status((enum err)i),
               err_may_retry((enum err)i) ? "yes" : "no", err_sentence((enum err)i));
    puts("\n## Causes: how a run ended (`receipt.cause`)\n\n"
         "| cause | HTTP status of `/execute` | exit status of `wasmwiz run` | meaning |\n|---|---|---|---|");
    for (int i = 0; i < CAUSE_COUNT; i++) {
        enum cause c = (enum cause)i;
        char status[16];
        snprintf(status, sizeof status, "%d", cause_exit_status(c));
        printf("| `%s` | %d | %s | %s |\n", cause_name(c), cause_http_status(c),
               cause_exit_status(c) < 0 ? "the guest's" : status, cause_sentence(c));
    }
    return 0;
}

int command_sandbox(int argc, char **argv)
{
    if (argc == 1 && strcmp(argv[0], "--probe") == 0)
        return sandbox_process_probe();
    return sandbox_process_main(argc, argv);
}

int command_compiler(int argc, char **argv)
{
    return compiler_process_main(argc, argv);
}
