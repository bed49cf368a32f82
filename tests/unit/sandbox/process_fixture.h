/* Test programs that are their own `wasmwiz sandbox` and `wasmwiz compiler`: whoever starts the program's own path
 * with such an argument gets the real process. */
#ifndef WW_TESTS_PROCESS_FIXTURE_H
#define WW_TESTS_PROCESS_FIXTURE_H

#include "engine_fixture.h"

#include "sandbox/process.h"

/* First in main(). Does not return in such a process; leaves without the sanitizer's look for leaks, for which
 * the walls leave it nothing. */
static inline void fixture_be_process(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "sandbox") == 0)
        _exit(sandbox_process_main(argc - 2, argv + 2));
    if (argc > 1 && strcmp(argv[1], "compiler") == 0)
        _exit(compiler_process_main(argc - 2, argv + 2));
}

/* Memory of all guests, for the configuration of a sandbox process: the limit on its data, which is made of this, has
 * to leave room for the sanitizer's shadow. */
#define FIXTURE_POOL_BYTES (UINT64_C(1) << 50)

#endif
