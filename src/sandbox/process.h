/* The processes `wasmwiz sandbox` and `wasmwiz compiler`: started by the front only, with their descriptors in
 * place. */
#ifndef WW_SANDBOX_PROCESS_H
#define WW_SANDBOX_PROCESS_H

#include "sandbox/loop.h"

/* Descriptors of a sandbox: 0, 1 nothing, 2 what it says in distress, 3 the area, then for channel i its event
 * descriptor 4+2i and the socket that brings compiled code 5+2i. */
enum { SANDBOX_FD_AREA = 3, SANDBOX_FD_CHANNELS = 4, SANDBOX_ARGS = 9 };

/* The arguments that sandbox_process_main() reads back, as strings: an array of SANDBOX_ARGS with a NULL at the end,
 * each malloc'ed. */
void sandbox_process_args(const struct sandbox_loop_config *config, uint32_t channels, const char *program,
                          char *ret_args[static SANDBOX_ARGS + 1]);

/* Serves until the front goes away. Returns the exit status. */
int sandbox_process_main(int argc, char **argv);
/* Raises the walls, tries them, prints what was refused; the exit status says whether all was. */
int sandbox_process_probe(void);

/* Descriptor 3 of a compiler is a socket, 0 to 2 are nothing. It takes one job: a byte and two descriptors (wasm to
 * read, code to write), answers with a struct compile_answer, and ends: what one module did to it, the next can't
 * feel. */
enum { COMPILER_FD_SOCKET = 3 };
struct compile_answer {
    uint32_t err; /* enum err; 0 = the code is written */
    uint32_t text_bytes;
    char text[320];
};
/* argv: FUEL MEMORY_MAX_BYTES ADDRESS_SPACE_BYTES CPU_SECONDS CODE_MAX_BYTES PARENT_PID. Returns the exit status. */
int compiler_process_main(int argc, char **argv);

/* Sends one byte with descriptors; receives them (-1 where there was none). Used by both ends. */
bool process_send_fds(int socket, const int *fds, int count);
bool process_receive_fds(int socket, int *ret_fds, int count);

#endif
