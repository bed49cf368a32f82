/* `wasmwiz keys`: API keys in the database. */
#include "auth/key.h"
#include "store/audit.h"
#include "base/clock.h"
#include "cli/command.h"
#include "main/commands.h"
#include "store/keys.h"

static const char usage[] =
    "usage: wasmwiz keys create --name NAME [--tier free|basic|pro] [--expires 30d]\n"
    "       wasmwiz keys list\n"
    "       wasmwiz keys revoke ID|NAME\n\n"
    "create prints the new key, and nothing else, on stdout: it can't be shown again.\n"
    "All take --data FOLDER (DATA_DIR) and read API_SALT as `wasmwiz serve` does.\n";

static void print_time(uint64_t wall_ns, const char *none)
{
    char text[32];
    if (wall_ns)
        clock_format(wall_ns, text);
    printf("  %-24s", wall_ns ? text : none);
}

static bool print_key(void *ctx, const struct store_key *k)
{
    (void)ctx;
    printf("%-16s  %-5s  %-12s", k->id, k->tier, k->prefix);
    print_time(k->created_ns, "");
    print_time(k->expires_ns, "never");
    printf("  %-8s  %s\n",
           k->revoked_ns                                      ? "revoked"
           : k->expires_ns && k->expires_ns < clock_wall_ns() ? "expired"
                                                              : "live",
           k->name);
    return true;
}

static enum err list_keys(struct store *store, struct err_info *reterr)
{
    printf("%-16s  %-5s  %-12s  %-24s  %-24s  %-8s  %s\n", "ID", "TIER", "PREFIX", "CREATED", "EXPIRES",
           "STATE", "NAME");
    return store_key_each(store, print_key, NULL, reterr);
}

/* "30d", or what durations else take. */
static bool parse_expiry(const char *text, uint64_t *ret_wall_ns)
{
    struct str s = str_of(text);
    uint64_t amount;
    if (s.len > 1 && s.p[s.len - 1] == 'd' && str_to_u64(str_make(s.p, s.len - 1), 36500, &amount))
        amount *= 24 * 3600 * NS_PER_S;
    else if (!str_to_duration_ns(s, &amount))
        return false;
    *ret_wall_ns = clock_wall_ns() + amount;
    return amount > 0;
}

struct request {
    const char *verb, *name, *tier, *target;
    uint64_t expires_ns;
};

static bool parse(int argc, char **argv, void *request)
{
    struct request *r = request;
    *r = (struct request){.verb = argc ? argv[0] : "", .tier = "free"};
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--name") == 0 && has_value) {
            r->name = argv[++i];
        } else if (strcmp(argv[i], "--tier") == 0 && has_value) {
            r->tier = argv[++i];
        } else if (strcmp(argv[i], "--expires") == 0 && has_value) {
            if (!parse_expiry(argv[++i], &r->expires_ns)) {
                fprintf(stderr, "wasmwiz keys: --expires takes a time such as 30d or 12h\n");
                return false;
            }
        } else if (argv[i][0] != '-' && !r->target) {
            r->target = argv[i];
        } else {
            fprintf(stderr, "wasmwiz keys: \"%s\" is not understood here\n", argv[i]);
            return false;
        }
    }
    if (strcmp(r->verb, "create") == 0 && r->name && !r->target)
        return true;
    if (strcmp(r->verb, "list") == 0 && !r->name && !r->target)
        return true;
    return strcmp(r->verb, "revoke") == 0 && r->target && !r->name;
}

/* Into the audit trail. The key itself is there by then: that this failed is said, and no more. */
static void note(struct store *store, const char *action, const char *target, const char *detail)
{
    struct err_info err = {0};
    struct store_audit_event event = {.time_ns = clock_wall_ns()};
    snprintf(event.action, sizeof event.action, "%s", action);
    snprintf(event.target, sizeof event.target, "%s", target);
    snprintf(event.detail, sizeof event.detail, "%s", detail);
    if (store_audit_add(store, &event, &err))
        fprintf(stderr, "wasmwiz keys: the audit trail does not have it: %s\n", err_text(&err));
}

static enum err carry_out(const void *request, const struct settings *s, struct err_info *reterr)
{
    const struct request *r = request;
    char token[AUTH_KEY_TOKEN_BYTES];
    CLEANUP(freep) char *salt = NULL;
    struct store *store = NULL;
    enum err e = cli_store_open(s, &store, reterr);
    if (e)
        return e;
    if (strcmp(r->verb, "list") == 0) {
        e = list_keys(store, reterr);
    } else if (strcmp(r->verb, "revoke") == 0) {
        e = store_key_revoke(store, str_of(r->target), clock_wall_ns(), reterr);
        if (!e) {
            note(store, "key.revoke", r->target, "on the command line");
            fprintf(stderr, "revoked %s; servers notice within a second\n", r->target);
        }
    } else {
        e = auth_salt_load(s->data_dir, s->api_salt, s->environment == ENVIRONMENT_DEVELOPMENT, &salt,
                           reterr);
        if (!e) {
            struct auth *auth = auth_new(store, str_of(salt), 8);
            struct store_key row;
            const struct auth_key_request wanted = {
                .name = str_of(r->name), .tier = str_of(r->tier), .expires_ns = r->expires_ns};
            e = auth_key_create(auth, &wanted, &row, token, reterr);
            if (!e) {
                note(store, "key.create", row.id, r->name);
                printf("%s\n", token);
            }
            auth_free(auth);
        }
    }
    store_close(store);
    return e;
}

static bool needs_salt(const void *request)
{
    return strcmp(((const struct request *)request)->verb, "create") == 0;
}

int command_keys(int argc, char **argv)
{
    struct request r;
    return cli_command_run(&(struct cli_command){.name = "keys",
                                                 .usage = usage,
                                                 .request = &r,
                                                 .parse = parse,
                                                 .needs_salt = needs_salt,
                                                 .carry_out = carry_out},
                           argc, argv);
}
