/* `wasmwiz migrate`: takes the schema of the database up or down, or shows where it stands. */
#include "base/clock.h"
#include "main/commands.h"
#include "main/parts.h"
#include "store/store.h"

static const char usage[] =
    "usage: wasmwiz migrate up\n"
    "       wasmwiz migrate down [VERSION] --yes\n"
    "       wasmwiz migrate status\n\n"
    "up brings the schema of DATABASE_URL to what this program needs. PostgreSQL needs it before the first\n"
    "start and after an update; the embedded database does it by itself.\n"
    "down takes it back to VERSION (default: one step; 0 = nothing is left). It deletes tables: what is in "
    "them\n"
    "is lost, so it wants --yes.\n"
    "All steps of a call succeed together or not at all.\n";

static void print_step(void *ctx, const struct store_migration *m, bool up)
{
    ++*(unsigned *)ctx;
    printf("%s %4llu  %s\n", up ? "up  " : "down", (unsigned long long)m->version, m->name);
}

static void print_migration(void *ctx, const struct store_migration *m)
{
    char time[32];
    if (m->applied_ns)
        clock_format(m->applied_ns, time);
    printf("%4llu  %-12s  %s%s\n", (unsigned long long)m->version, m->name,
           m->applied_ns ? "applied " : "pending", m->applied_ns ? time : "");
    *(uint64_t *)ctx += m->applied_ns != 0;
}

struct request {
    const char *verb;
    bool has_target, yes;
    uint64_t target;
};

static bool parse(int argc, char **argv, struct request *r)
{
    *r = (struct request){.verb = argc ? argv[0] : ""};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--yes") == 0)
            r->yes = true;
        else if (!r->has_target && str_to_u64(str_of(argv[i]), store_schema_version(), &r->target))
            r->has_target = true;
        else
            return false;
    }
    bool down = strcmp(r->verb, "down") == 0;
    if (!down && (r->has_target || r->yes))
        return false;
    return down || strcmp(r->verb, "up") == 0 || strcmp(r->verb, "status") == 0;
}

static void count_applied(void *ctx, const struct store_migration *m)
{
    *(uint64_t *)ctx += m->applied_ns != 0;
}

static enum err carry_out(struct request *r, const struct store_config *config, struct err_info *reterr)
{
    uint64_t have = 0;
    unsigned steps = 0;
    if (strcmp(r->verb, "status") == 0) {
        enum err e = store_migration_each(config, print_migration, &have, reterr);
        if (!e)
            printf("version %llu of %llu\n", (unsigned long long)have,
                   (unsigned long long)store_schema_version());
        return e;
    }
    if (strcmp(r->verb, "up") == 0) {
        r->target = store_schema_version();
    } else {
        enum err e = store_migration_each(config, count_applied, &have, reterr);
        if (e)
            return e;
        if (!r->has_target)
            r->target = have ? have - 1 : 0;
        if (r->target > have)
            return err_set(reterr, ERR_FIELD_INVALID, "the schema has version %llu: %llu is not below it",
                           (unsigned long long)have, (unsigned long long)r->target);
    }
    enum err e = store_migrate(config, r->target, print_step, &steps, reterr);
    if (!e && !steps)
        printf("nothing to do: version %llu\n", (unsigned long long)r->target);
    return e;
}

static int migrate(const struct settings *s, int argc, char **argv)
{
    struct request r;
    struct err_info err = {0};
    char path[PARTS_PATH_BYTES];
    struct store_config config = parts_store_config(s, path);
    if (!parse(argc, argv, &r)) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (strcmp(r.verb, "down") == 0 && !r.yes) {
        fprintf(stderr,
                "wasmwiz migrate: down deletes tables and what is in them; say --yes if you mean it\n");
        return EXIT_USAGE;
    }
    if (parts_make_folder(s->data_dir, &err) || carry_out(&r, &config, &err)) {
        fprintf(stderr, "wasmwiz migrate: %s\n", err_text(&err));
        return 1;
    }
    return 0;
}

int command_migrate(int argc, char **argv)
{
    struct settings s;
    struct buf text = buf_make(16 * 1024);
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
    int status = EXIT_CONFIG;
    if (settings_load(&s, &argc, argv, &text))
        status = migrate(&s, argc, argv);
    else
        fprintf(stderr, "wasmwiz migrate: the settings are not right:\n%s", buf_cstr(&text));
    buf_done(&text);
    settings_done(&s);
    return status;
}
