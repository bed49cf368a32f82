/* What the two faces of an execution share: execute.c takes forms and replies with all at once, execute_stream.c lets
 * input and output flow. */
#ifndef WW_API_EXECUTE_H
#define WW_API_EXECUTE_H

#include <openssl/evp.h>

#include "api/api.h"
#include "http/multipart.h"

enum part {
    PART_WASM,
    PART_INPUT,
    PART_ARGS,
    PART_INVOKE,
    PART_TIMEOUT_MS,
    PART_MEMORY_BYTES,
    PART_MAX_OUTPUT_BYTES,
    PART_FUEL,
    PART_SEED,
    PART_OUTPUT,
    PART_COUNT
};
/* Where input and output flow. */
struct execution_stream {
    bool wanted;
    bool events; /* output goes out as server-sent events */
    bool begun;  /* the reply */
    size_t room; /* bytes of stdin that the run takes now */
    uint64_t input_bytes;
    uint64_t untaken;      /* output that the client has not taken */
    bool busy;             /* events are with the client: those that come meanwhile wait */
    struct buf pending[2]; /* of events: stdout and stderr as the guest wrote them */
};

/* One request; lives in the invocation's arena. */
struct execution {
    struct http_exchange *x;
    struct api_context *api;
    struct multipart *form;
    EVP_MD_CTX *hash;
    unsigned seen; /* bit a part */
    enum part part;
    struct buf wasm;
    struct buf field;
    bool body_complete;
    bool body_failed;
    bool want_base64;
    bool want_raw;
    struct execution_stream stream;
    struct err_info form_error; /* told once it is known who asks */
};

enum { RECEIPT_FIELD_MAX_BYTES = 16 * 1024 };

enum { EXECUTION_FIELDS_MAX = 4 + LIMIT_FIELDS_MAX };

/* The fields of a reply: its type, some more, and how the key stands with its limits. */
struct execution_fields {
    struct http_field all[EXECUTION_FIELDS_MAX];
    size_t count;
    struct limit_field limits[LIMIT_FIELDS_MAX];
};

/* --- execute.c ---------------------------------------------------------------------------------- */
void execution_add_field(struct execution_fields *f, struct str name, struct str value);
void execution_add_limits(struct execution_fields *f, const struct invocation *inv);
/* Begins an invocation for a request whose head is here. */
void execution_begin(struct http_exchange *x, const struct invoke_origin *origin, bool streams);
/* STEP_FAIL where the form's head was bad, STEP_DONE where all parts that are wanted by now are here. */
enum step_result execution_receive(struct invocation *inv);
/* The reply of a request that was refused. */
void execution_reply_failure(struct http_exchange *x, struct invocation *inv);
/* api_log_failure() about an execution, also about one that a sandbox's death ended. A stream that has begun with 200
 * counts, too: its client hears of it by the receipt, or by a broken reply. */
void execution_log_failure(const struct invocation *inv);
/* The receipt as the value of a field: ASCII, one line. */
void execution_put_receipt_field(struct buf *out, const struct receipt *r);
/* Raw output, whole. */
void execution_reply_raw(struct http_exchange *x, struct invocation *inv);
void execution_released(struct invocation *inv);
void execution_on_body(struct http_exchange *x, struct str bytes);
void execution_on_end(struct http_exchange *x);
void execution_on_gone(struct http_exchange *x);

/* --- execute_stream.c --------------------------------------------------------------------------- */
/* Sets an invocation up whose input and output flow; its request's head is here. */
void execution_stream_prepare(struct invocation *inv);
/* More of the part `input`. */
MUST_CHECK enum err execution_stream_input(struct invocation *inv, struct str bytes, struct err_info *reterr);
/* The form is complete, and so is the input. */
void execution_stream_end(struct invocation *inv);
/* A piece of the body was looked at: waits for room where there is none. May end, and free, the invocation. */
void execution_stream_pace(struct invocation *inv);

#endif
