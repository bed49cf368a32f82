/* `wasmwiz upgrade`: asks the server of DATA_DIR to replace itself by the binary that stands at its path now. */
#include "main/upgrade.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "main/commands.h"
#include "main/settings.h"

enum { WAIT_STEPS = 300, STEP_NS = 100 * 1000 * 1000 };

static const char usage[] = "usage: wasmwiz upgrade [--data FOLDER]\n\n"
                            "Replaces the running server by the program that stands at its path now: put the "
                            "new binary there first. The new\n"
                            "process takes over the listening sockets; the old one answers what it has and "
                            "ends. The same as SIGUSR2.\n";

int command_upgrade(int argc, char **argv)
{
    struct settings s;
    struct buf text = buf_make(16 * 1024);
    bool good = settings_load(&s, &argc, argv, &text);
    if (argc > 0 || !good) {
        bool help = good && strcmp(argv[0], "--help") == 0;
        fputs(good ? usage : buf_cstr(&text), help ? stdout : stderr);
        return help ? 0 : EXIT_USAGE;
    }
    int old = upgrade_read_pid(s.data_dir), now = old;
    if (!old || kill(old, SIGUSR2) < 0) {
        fprintf(stderr, "wasmwiz upgrade: no server of %s runs%s%s\n", s.data_dir, old ? ": " : "",
                old ? strerror(errno) : "");
        return 1;
    }
    for (int i = 0; i < WAIT_STEPS && now == old && kill(old, 0) == 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
        now = upgrade_read_pid(s.data_dir);
    }
    if (now == old) {
        fprintf(stderr, "wasmwiz upgrade: the new program did not begin to serve; the old one goes on (its "
                        "log says why)\n");
        return 1;
    }
    printf("process %d serves now, %d finishes what it has\n", now, old);
    settings_done(&s);
    return 0;
}
