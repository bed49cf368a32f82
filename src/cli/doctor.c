/* `wasmwiz doctor`: what protects this machine from guests, and what bounds them. */
#include <sys/resource.h>
#include <unistd.h>

#include "main/commands.h"
#include "main/parts.h"
#include "main/settings.h"
#include "sandbox/walls.h"

static void put_syscalls(struct buf *out, const char *who, enum walls_kind kind)
{
    size_t count = 0;
    buf_printf(out, "  %-10s", who);
    for (const char *const *name = walls_syscalls(kind); *name; name++, count++)
        buf_printf(out, "%s%s", count && count % 8 == 0 ? "\n            " : " ", *name);
    buf_printf(out, "\n            (%zu in all; any other fails with EPERM)\n", count);
}

static unsigned long long number_in_file(const char *path)
{
    unsigned long long value = 0;
    FILE *f = fopen(path, "re");
    if (f) {
        if (fscanf(f, "%llu", &value) != 1)
            value = 0;
        fclose(f);
    }
    return value;
}

int command_doctor(int argc, char **argv)
{
    struct settings s;
    struct buf out = buf_make(64 * 1024);
    bool probe = argc == 1 && strcmp(argv[0], "--probe") == 0;
    if (argc > 0 && !probe) {
        bool help = strcmp(argv[0], "--help") == 0;
        fputs(
            "usage: wasmwiz doctor [--probe]\n\nShows the walls around guests, the limits and settings in "
            "effect.\n"
            "  --probe  raises the walls and tries to get past them; exit status 1 if anything was allowed\n",
            help ? stdout : stderr);
        return help ? 0 : EXIT_USAGE;
    }
    if (probe) {
        /* In a child: the walls stay up for the rest of a process. */
        char program[] = "wasmwiz", role[] = "sandbox", flag[] = "--probe";
        char *args[] = {program, role, flag, NULL};
        char path[4096];
        size_t size = sizeof path;
        fflush(stdout);
        if (uv_exepath(path, &size) == 0)
            execv(path, args);
        perror("wasmwiz doctor");
        return EXIT_SOFTWARE;
    }
    if (!settings_load(&s, &(int){0}, NULL, &out)) {
        fputs(buf_cstr(&out), stderr);
        return EXIT_CONFIG;
    }
    struct exec_config exec = parts_exec_config(&s);
    int landlock = walls_landlock_abi();
    unsigned long long maps = number_in_file("/proc/sys/vm/max_map_count");
    buf_printf(&out,
               "wasmwiz %s, wasmtime %s, code cache %s\n\nwalls around a sandbox and a compiler process\n",
               WW_VERSION, WASMTIME_VERSION, engine_fingerprint(false));
    if (landlock)
        buf_printf(&out, "  Landlock   ABI %d: no path%s\n", landlock, landlock >= 4 ? ", no TCP" : "");
    else
        buf_puts(&out, "  Landlock   this kernel has none; seccomp alone refuses files and sockets\n");
    buf_puts(&out,
             "  also       no_new_privs, no core file, not dumpable, empty environment, descriptors closed,\n"
             "             no locked memory, killed when the server dies\n");
    put_syscalls(&out, "seccomp", WALLS_SANDBOX);
    put_syscalls(&out, "compiler", WALLS_COMPILER);
    buf_printf(&out,
               "\nsandboxes\n  isolation  %s\n  processes  %u, and as many for runs with fuel, on demand\n"
               "  slots      %u runs in each; this kernel's %llu memory mappings allow about %llu\n"
               "  memory     %llu MiB for the guests of each\n",
               exec.isolation == EXEC_INLINE ? "inline: guests share the server's process" : "process",
               exec.sandboxes, exec.sandbox.engine.slots, maps, maps / 5,
               (unsigned long long)(exec.sandbox.pool_max_bytes / MIB));
    buf_printf(
        &out,
        "  stack      %d KiB a guest\n  tables     %d a module, %d elements\n  memories   %d a module\n",
        ENGINE_STACK_BYTES / 1024, ENGINE_TABLES_MAX, ENGINE_TABLE_ELEMENTS_MAX, ENGINE_MEMORIES_MAX);
    if (exec.sandbox.engine.slots > maps / 5)
        buf_puts(&out,
                 "  WARNING    more slots than mappings: raise vm.max_map_count or lower MAX_CONCURRENT\n");
    buf_puts(&out, "\nsettings\n");
    struct buf effective = buf_make(32 * 1024);
    settings_put_effective(&effective, &s);
    for (struct str rest = buf_str(&effective); rest.len;) {
        struct str line = str_split(&rest, '\n');
        buf_printf(&out, "  %.*s\n", STR_FMT(line));
    }
    fputs(buf_cstr(&out), stdout);
    buf_done(&effective);
    buf_done(&out);
    settings_done(&s);
    return 0;
}
