/* What the front and a sandbox say to each other over the rings. Plain structs in host order (both ends are
 * one program on one machine), each followed by its variable part. The lengths in them are checked against
 * the message by message_check_*() before anything else looks at them.
 *
 * To the sandbox: LOAD* RUN STDIN CREDIT CANCEL. From it: LOADED ABSENT OUTPUT STDIN_CREDIT DONE.
 * A run begins with RUN and ends with exactly one DONE (or ABSENT: it never started). */
#ifndef WW_SANDBOX_MESSAGE_H
#define WW_SANDBOX_MESSAGE_H

#include "base/cause.h"
#include "base/str.h"

enum message_type {
    MESSAGE_LOAD = 1,
    MESSAGE_RUN,
    MESSAGE_STDIN,
    MESSAGE_CREDIT,
    MESSAGE_CANCEL,
    MESSAGE_LOADED = 32,
    MESSAGE_ABSENT,
    MESSAGE_OUTPUT,
    MESSAGE_STDIN_CREDIT,
    MESSAGE_DONE,
};

enum {
    MESSAGE_DATA_MAX = 48 * 1024,     /* variable part of one message */
    MESSAGE_FRAMES_MAX = 16,          /* trap frames in a DONE */
    MESSAGE_NAME_MAX = 95,            /* bytes of a function name in it */
    MESSAGE_TEXT_MAX = 384,           /* bytes of its sentence */
    STDIN_WINDOW_BYTES = 128 * 1024,  /* stdin sent and not yet consumed, at most */
    OUTPUT_WINDOW_BYTES = 256 * 1024, /* output sent and not yet credited, at most */
    ARGS_BYTES_MAX = 32 * 1024,       /* arguments and environment of one run together */
    ARGS_COUNT_MAX = 1024,
    ENTRY_BYTES_MAX = 256,
};

struct message {
    uint32_t type;
    uint32_t data_bytes; /* of the variable part */
    uint64_t id;         /* the run, or for LOAD and LOADED the module */
};

/* The compiled code follows as a descriptor on the channel's socket, one for each LOAD, in order. */
struct message_load {
    struct message head;
    uint32_t memories; /* that an instance needs, from the pre-check */
    uint32_t tables;
};

struct run_limits {
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0 = timeout_ns from when the run starts */
    uint64_t timeout_ns;
    uint64_t memory_bytes;
    uint64_t table_elements;
    uint64_t stdout_bytes;
    uint64_t stderr_bytes;
    uint64_t fuel; /* 0 = not counted; only in a sandbox whose engine counts */
};

/* The variable part: entry, args, env, then the first stdin bytes. */
struct message_run {
    struct message head;
    uint64_t module_id;
    uint64_t seed;
    struct run_limits limits;
    uint32_t entry_bytes; /* the export's name, without a NUL; empty = _start */
    uint32_t args_bytes;  /* NUL-terminated strings */
    uint32_t args_count;
    uint32_t env_bytes;
    uint32_t env_count;
    uint32_t stdin_bytes;
    uint32_t stdin_eof;
    uint32_t unused;
};

struct message_stdin {
    struct message head;
    uint32_t eof;
    uint32_t unused;
};

/* Bytes of output that the front has taken in, or of stdin that the guest has. */
struct message_credit {
    struct message head;
    uint64_t bytes;
};

struct message_loaded {
    struct message head;
    uint32_t ok; /* 0: the variable part is a sentence */
    uint32_t unused;
};

struct message_output {
    struct message head;
    uint32_t fd; /* 1 or 2 */
    uint32_t unused;
};

struct trap_frame {
    uint32_t function_index;
    uint32_t name_bytes;
    uint64_t offset; /* of the instruction in the module file */
    char name[MESSAGE_NAME_MAX + 1];
};

/* How a run ended. The variable part of DONE: the last stdout bytes, then the last stderr bytes. */
/* Of any figure of a report. */
#define MESSAGE_FIGURE_MAX ((uint64_t)1 << 53)

struct run_report {
    uint32_t cause; /* enum cause */
    uint32_t exit_code;
    uint64_t run_ns; /* from when its time began to run, to its end */
    uint64_t cpu_ns; /* of it on the processor */
    uint64_t memory_peak_bytes;
    uint64_t fuel;        /* used; 0 where not counted */
    uint64_t stdin_bytes; /* that the guest read */
    uint64_t stdout_bytes;
    uint64_t stderr_bytes;
    uint64_t host_calls;
    int32_t trap_code; /* Wasmtime's, -1 = none */
    uint32_t frame_count;
    char text[MESSAGE_TEXT_MAX]; /* a sentence for people, NUL-terminated */
};

struct message_done {
    struct message head;
    struct run_report report;
    uint32_t stdout_bytes;
    uint32_t stderr_bytes;
    uint32_t frames_bytes; /* struct trap_frame each, at the end of the variable part */
    uint32_t unused;
};

/* Checks one message that came out of a ring: a known type for that direction, a length that fits the struct,
 * inner lengths and counts that fit the variable part, strings that end. Copies the fixed part to `ret` (so that
 * the sender can't change it afterwards) and points *ret_data at the variable part, still in the ring. False: the
 * sender is broken or hostile. */
union message_any {
    struct message head;
    struct message_load load;
    struct message_run run;
    struct message_stdin in;
    struct message_credit credit;
    struct message_loaded loaded;
    struct message_output output;
    struct message_done done;
};
bool message_check_to_sandbox(const void *payload, size_t len, union message_any *ret, struct str *ret_data);
bool message_check_from_sandbox(const void *payload, size_t len, union message_any *ret,
                                struct str *ret_data);

#endif
