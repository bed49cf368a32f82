/* `wasmwiz admin`: accounts, for who has the data folder or the database's address; above all the first administrator. */
#include <errno.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "auth/password.h"
#include "auth/user.h"
#include "base/clock.h"
#include "cli/command.h"
#include "base/log.h"
#include "main/commands.h"

enum { LINE_BYTES = AUTH_PASSWORD_MAX_BYTES + 3, INTERRUPT = 3 };

static const char usage[] =
    "usage: wasmwiz admin create EMAIL [--role admin|operator|user] [--tier TIER] [--password-stdin]\n"
    "       wasmwiz admin list\n"
    "       wasmwiz admin role EMAIL admin|operator|user\n"
    "       wasmwiz admin password EMAIL [--password-stdin]\n\n"
    "create makes an account (default: an administrator); so a new installation gets its first one. It "
    "prints\n"
    "the account's first API key, and nothing else, on stdout: it can't be shown again. role and password\n"
    "change an account; a new password ends its sessions. Servers notice within a second.\n"
    "A password is asked for on the terminal, or is the first line of stdin with --password-stdin. None is "
    "ever\n"
    "printed.\n"
    "All take --data FOLDER (DATA_DIR), and read DATABASE_URL and API_SALT as `wasmwiz serve` does.\n";

struct request {
    const char *verb, *email, *tier;
    enum store_role role;
    bool from_stdin;
};

/* --- the password ------------------------------------------------------------------------------- */
/* A line without its end; `text` is wiped where it fails. */
static enum err read_line(int fd, char text[static LINE_BYTES], struct err_info *reterr)
{
    size_t len = 0;
    char c = 0;
    enum err e = OK;
    while (!e && len < LINE_BYTES - 1) {
        ssize_t n = read(fd, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || c == INTERRUPT || (n == 0 && !len))
            e = err_set(reterr, ERR_FIELD_INVALID, "no password was given");
        if (n <= 0 || c == '\n' || e)
            break;
        text[len++] = c;
    }
    if (len && text[len - 1] == '\r')
        len--;
    text[len] = 0;
    if (e)
        explicit_bzero(text, LINE_BYTES);
    return e;
}

/* Without echo; an interrupt is a character meanwhile, so that the terminal is never left without it. */
static enum err ask(int terminal, const char *prompt, char text[static LINE_BYTES], struct err_info *reterr)
{
    struct termios kept, silent;
    if (tcgetattr(terminal, &kept) < 0)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no terminal; use --password-stdin");
    silent = kept;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
    silent.c_lflag |= ICANON;
    dprintf(terminal, "%s: ", prompt);
    tcsetattr(terminal, TCSAFLUSH, &silent);
    enum err e = read_line(terminal, text, reterr);
    tcsetattr(terminal, TCSAFLUSH, &kept);
    dprintf(terminal, "\n");
    return e;
}

static enum err ask_twice(char text[static LINE_BYTES], struct err_info *reterr)
{
    char again[LINE_BYTES] = "";
    CLEANUP(closep) int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (terminal < 0)
        return err_set(reterr, ERR_FIELD_INVALID, "there is no terminal; use --password-stdin");
    enum err e = ask(terminal, "Password", text, reterr);
    if (!e)
        e = auth_password_check("password", str_of(text), reterr);
    if (!e)
        e = ask(terminal, "The same again", again, reterr);
    if (!e && strcmp(text, again) != 0)
        e = err_set(reterr, ERR_FIELD_INVALID, "the two are not the same");
    explicit_bzero(again, sizeof again);
    return e;
}

/* --- the verbs ---------------------------------------------------------------------------------- */
static const struct auth_actor command_line = {"", "", ""};

static bool print_user(void *ctx, const struct store_user *u)
{
    char time[32];
    clock_format(u->created_ns, time);
    printf("%-16s  %-8s  %-8s  %-8s  %-24s  %s\n", u->id, store_role_name(u->role), u->tier,
           u->active ? "active" : "inactive", time, u->email);
    ++*(size_t *)ctx;
    return true;
}

static enum err list(struct store *store, struct err_info *reterr)
{
    struct store_cursor cursor = {0};
    size_t count;
    printf("%-16s  %-8s  %-8s  %-8s  %-24s  %s\n", "ID", "ROLE", "TIER", "STATE", "CREATED", "EMAIL");
    do {
        count = 0;
        enum err e = store_user_page(store, &cursor, STORE_PAGE_MAX, print_user, &count, reterr);
        if (e)
            return e;
    } while (count == STORE_PAGE_MAX);
    return OK;
}

static enum err create(struct auth *auth, const struct request *r, const char *password,
                       struct err_info *reterr)
{
    char token[AUTH_KEY_TOKEN_BYTES];
    struct store_user user;
    const struct auth_user_request wanted = {.email = str_of(r->email),
                                             .password = str_of(password),
                                             .role = r->role,
                                             .tier = str_of(r->tier),
                                             .when = AUTH_USER_ANY_TIME};
    enum err e = auth_user_create(auth, &wanted, &command_line, &user, token, reterr);
    if (!e) {
        fprintf(stderr, "made %s, %s, with the id %s; its first API key, which can't be shown again:\n",
                user.email, store_role_name(user.role), user.id);
        printf("%s\n", token);
        fflush(stdout);
    }
    explicit_bzero(token, sizeof token);
    return e;
}

static enum err change(struct auth *auth, struct store *store, const struct request *r, const char *password,
                       struct err_info *reterr)
{
    struct store_user user;
    struct auth_user_change wanted = {0};
    if (password)
        wanted.password = str_of(password);
    else
        wanted.role = &r->role;
    enum err e = store_user_by_email(store, str_of(r->email), &user, reterr);
    if (!e)
        e = auth_user_change(auth, user.id, &wanted, &command_line, reterr);
    if (!e && password)
        printf("changed the password of %s; its sessions have ended\n", user.email);
    else if (!e)
        printf("%s has the role %s now\n", user.email, store_role_name(r->role));
    return e;
}

/* --- the command -------------------------------------------------------------------------------- */
static bool parse(int argc, char **argv, void *request)
{
    struct request *r = request;
    bool has_role = false;
    *r = (struct request){.verb = argc ? argv[0] : "", .role = STORE_ROLE_ADMIN};
    bool is_create = strcmp(r->verb, "create") == 0, is_role = strcmp(r->verb, "role") == 0,
         is_password = strcmp(r->verb, "password") == 0;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (is_create && strcmp(argv[i], "--role") == 0 && has_value && !has_role) {
            has_role = store_role_parse(str_of(argv[++i]), &r->role);
            if (!has_role)
                return false;
        } else if (is_create && strcmp(argv[i], "--tier") == 0 && has_value) {
            r->tier = argv[++i];
        } else if ((is_create || is_password) && strcmp(argv[i], "--password-stdin") == 0) {
            r->from_stdin = true;
        } else if (argv[i][0] != '-' && !r->email) {
            r->email = argv[i];
        } else if (!is_role || has_role || !(has_role = store_role_parse(str_of(argv[i]), &r->role))) {
            return false;
        }
    }
    if (strcmp(r->verb, "list") == 0)
        return argc == 1;
    return r->email && (is_create || is_password || (is_role && has_role));
}

static enum err with_auth(const struct request *r, const struct settings *s, struct store *store,
                          struct err_info *reterr)
{
    char password[LINE_BYTES] = "";
    bool wants_password = strcmp(r->verb, "role") != 0;
    CLEANUP(freep) char *salt = NULL;
    enum err e =
        auth_salt_load(s->data_dir, s->api_salt, s->environment == ENVIRONMENT_DEVELOPMENT, &salt, reterr);
    if (!e && wants_password)
        e = r->from_stdin ? read_line(STDIN_FILENO, password, reterr) : ask_twice(password, reterr);
    if (!e) {
        struct auth *auth = auth_new(store, str_of(salt), 8);
        e = strcmp(r->verb, "create") == 0 ? create(auth, r, password, reterr)
                                           : change(auth, store, r, wants_password ? password : NULL, reterr);
        auth_free(auth);
    }
    explicit_bzero(password, sizeof password);
    if (salt)
        explicit_bzero(salt, strlen(salt));
    return e;
}

static enum err carry_out(const void *request, const struct settings *s, struct err_info *reterr)
{
    const struct request *r = request;
    struct store *store = NULL;
    enum err e = cli_store_open(s, &store, reterr);
    if (e)
        return e;
    e = strcmp(r->verb, "list") == 0 ? list(store, reterr) : with_auth(r, s, store, reterr);
    store_close(store);
    return e;
}

static bool needs_salt(const void *request)
{
    return strcmp(((const struct request *)request)->verb, "list") != 0;
}

int command_admin(int argc, char **argv)
{
    struct request r;
    log_setup(LOG_LEVEL_WARN, false); /* what happened is said on stdout, and stands in the audit trail */
    return cli_command_run(&(struct cli_command){.name = "admin",
                                                 .usage = usage,
                                                 .request = &r,
                                                 .parse = parse,
                                                 .needs_salt = needs_salt,
                                                 .carry_out = carry_out},
                           argc, argv);
}
