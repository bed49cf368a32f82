/* `wasmwiz backup` and `wasmwiz restore`: the embedded database, and the salt that its keys are hashed with. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/key.h"
#include "base/clock.h"
#include "cli/command.h"
#include "main/commands.h"
#include "main/parts.h"
#include "main/upgrade.h"
#include "store/backup.h"

enum { PATH_BYTES = 4300 };

static const char backup_usage[] = "usage: wasmwiz backup FILE|- [--force]\n\n"
                                   "Copies the embedded database into one file (mode 0600), as it is at one "
                                   "moment; the server may run on. With\n"
                                   "it goes the salt that a development server made for itself, without "
                                   "which no key would work: so keep the\n"
                                   "file as secret as the data folder. A salt from API_SALT is not in it: "
                                   "keep that by yourself. Compiled code\n"
                                   "is not in it either; it is made again.\n"
                                   "  -        writes to stdout\n"
                                   "  --force  replaces the file\n"
                                   "A PostgreSQL is saved by pg_dump.\n";

static const char restore_usage[] = "usage: wasmwiz restore FILE [--force]\n\n"
                                    "Puts the database of a backup in place, and the salt if one is in it. "
                                    "No server may use the data folder.\n"
                                    "  --force  replaces the database that is there\n"
                                    "A PostgreSQL is restored by pg_restore or psql.\n";

struct request {
    const char *file;
    bool force;
};

static bool parse(int argc, char **argv, void *request)
{
    struct request *r = request;
    *r = (struct request){0};
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--force") == 0)
            r->force = true;
        else if (!r->file && (argv[i][0] != '-' || strcmp(argv[i], "-") == 0))
            r->file = argv[i];
        else
            return false;
    }
    return r->file != NULL;
}

/* --- backup ------------------------------------------------------------------------------------- */
static enum err copy_to_stdout(const char *path, struct err_info *reterr)
{
    char bytes[64 * 1024];
    size_t n;
    FILE *f = fopen(path, "re");
    bool ok = f != NULL;
    while (ok && (n = fread(bytes, 1, sizeof bytes, f)) > 0)
        ok = fwrite(bytes, 1, n, stdout) == n;
    ok = ok && !ferror(f) && fflush(stdout) == 0;
    if (f)
        fclose(f);
    return ok ? OK
              : err_set(reterr, ERR_DISK_FAULT, "the backup can't be written to stdout: %s", strerror(errno));
}

static enum err backup(const void *request, const struct settings *s, struct err_info *reterr)
{
    const struct request *r = request;
    char path[PARTS_PATH_BYTES], temporary[PATH_BYTES], time[32];
    bool to_stdout = strcmp(r->file, "-") == 0;
    struct store_config store = parts_store_config(s, path);
    struct store_backup_info info;
    struct err_info no_salt = {0};
    CLEANUP(freep) char *salt = NULL;
    if (!s->api_salt[0] && auth_salt_load(s->data_dir, "", false, &salt, &no_salt))
        fprintf(stderr, "wasmwiz backup: there is no salt here: %s\n", err_text(&no_salt));
    snprintf(temporary, sizeof temporary, "%s/backup.%d", s->data_dir, (int)getpid());
    enum err e = store_backup(&store, to_stdout ? temporary : r->file, str_of(salt), r->force || to_stdout,
                              &info, reterr);
    if (salt)
        explicit_bzero(salt, strlen(salt));
    if (!e && to_stdout)
        e = copy_to_stdout(temporary, reterr);
    if (to_stdout)
        unlink(temporary);
    if (e)
        return e;
    clock_format(info.created_ns, time);
    fprintf(stderr, "saved %llu bytes as of %s, schema version %llu, %s\n", (unsigned long long)info.bytes,
            time, (unsigned long long)info.schema_version,
            info.secret[0]   ? "with the salt of this data folder: keep the file secret"
            : s->api_salt[0] ? "without API_SALT: keep that by yourself, the keys need it"
                             : "without a salt");
    explicit_bzero(info.secret, sizeof info.secret);
    return OK;
}

/* --- restore ------------------------------------------------------------------------------------ */
/* The salt as the server reads it, whole or as it was. */
static enum err put_salt(const char *data_dir, const char *salt, struct err_info *reterr)
{
    char path[PATH_BYTES], part[PATH_BYTES];
    snprintf(path, sizeof path, "%s/api_salt", data_dir);
    snprintf(part, sizeof part, "%s/api_salt.part", data_dir);
    unlink(part);
    CLEANUP(closep) int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "%s\n", salt) < 0 || fsync(fd) < 0 || rename(part, path) < 0)
        return err_set(reterr, ERR_DISK_FAULT, "%s can't be written: %s", path, strerror(errno));
    return OK;
}

static enum err restore(const void *request, const struct settings *s, struct err_info *reterr)
{
    const struct request *r = request;
    char path[PARTS_PATH_BYTES], time[32];
    struct store_config store = parts_store_config(s, path);
    struct store_backup_info info;
    int pid = upgrade_read_pid(s->data_dir);
    if (pid)
        return err_set(reterr, ERR_CONFLICT, "the server with process id %d uses %s: stop it first", pid,
                       s->data_dir);
    enum err e = parts_make_folder(s->data_dir, reterr);
    if (!e)
        e = store_restore(&store, r->file, r->force, &info, reterr);
    if (!e && info.secret[0])
        e = put_salt(s->data_dir, info.secret, reterr);
    if (e)
        return e;
    clock_format(info.created_ns, time);
    fprintf(stderr, "restored what was saved at %s by wasmwiz %s, schema version %llu%s\n", time,
            info.program, (unsigned long long)info.schema_version,
            info.secret[0] ? ", with its salt"
                           : "; its salt is not in it: start with the API_SALT of then, or no key works");
    explicit_bzero(info.secret, sizeof info.secret);
    return OK;
}

/* --- both --------------------------------------------------------------------------------------- */
int command_backup(int argc, char **argv)
{
    struct request r;
    return cli_command_run(&(struct cli_command){.name = "backup",
                                                 .usage = backup_usage,
                                                 .request = &r,
                                                 .parse = parse,
                                                 .carry_out = backup,
                                                 .not_found_status = EXIT_NO_INPUT},
                           argc, argv);
}

int command_restore(int argc, char **argv)
{
    struct request r;
    return cli_command_run(&(struct cli_command){.name = "restore",
                                                 .usage = restore_usage,
                                                 .request = &r,
                                                 .parse = parse,
                                                 .carry_out = restore,
                                                 .not_found_status = EXIT_NO_INPUT},
                           argc, argv);
}
