#include "cli/command.h"

#include "main/commands.h"
#include "main/parts.h"

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

int cli_command_run(const struct cli_command *c, int argc, char **argv)
{
    struct settings s;
    struct err_info err = {0};
    struct buf text = buf_make(16 * 1024);
    int status = 0;
    if (asks_for_help(argc, argv)) {
        fputs(c->usage, stdout);
        return 0;
    }
    bool good = settings_load(&s, &argc, argv, &text);
    if (good && !c->parse(argc, argv, c->request)) {
        fputs(c->usage, stderr);
        status = EXIT_USAGE;
    } else {
        if (good && c->needs_salt && c->needs_salt(c->request))
            settings_check_salt(&s, &text);
        if (text.len) {
            fprintf(stderr, "wasmwiz %s: the settings are not right:\n%s", c->name, buf_cstr(&text));
            status = EXIT_CONFIG;
        } else if (c->carry_out(c->request, &s, &err)) {
            fprintf(stderr, "wasmwiz %s: %s\n", c->name, err_text(&err));
            status = err.code == ERR_NOT_FOUND && c->not_found_status ? c->not_found_status : 1;
        }
    }
    buf_done(&text);
    settings_done(&s);
    return status;
}

enum err cli_store_open(const struct settings *s, struct store **ret_store, struct err_info *reterr)
{
    char path[PARTS_PATH_BYTES];
    const struct store_config config = parts_store_config(s, path);
    enum err e = parts_make_folder(s->data_dir, reterr);
    return e ? e : store_open_with(&config, ret_store, reterr);
}
