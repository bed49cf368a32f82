/* multipart/form-data (RFC 7578, RFC 2046 section 5.1) parsed as it streams: no copy of a part is kept
 * here, each piece goes to the caller as it comes. Everything is bounded: parts, head bytes, boundary.
 * Knows nothing of sockets, so it can be fed by tests and the fuzzer in pieces of any size. */
#ifndef WW_HTTP_MULTIPART_H
#define WW_HTTP_MULTIPART_H

#include "base/err.h"
#include "base/str.h"

struct multipart;

struct multipart_part {
    struct str name;     /* from Content-Disposition; always there */
    struct str filename; /* .p NULL where absent; only its last path component */
    struct str type;     /* Content-Type; .p NULL where absent */
};

struct multipart_ops {
    /* A part begins; the strings live until part_end(). Any error ends the parse with it. */
    enum err (*part_begin)(void *ctx, const struct multipart_part *part, struct err_info *reterr);
    enum err (*part_data)(void *ctx, struct str bytes, struct err_info *reterr);
    enum err (*part_end)(void *ctx, struct err_info *reterr);
};

struct multipart_limits {
    uint32_t parts_max;      /* default 16 */
    uint32_t head_bytes_max; /* of one part's fields; default 4096 */
};

/* `content_type`: the request's Content-Type. ERR_UNSUPPORTED_TYPE: not multipart/form-data.
 * ERR_MULTIPART_BROKEN: no or a bad boundary (1 to 70 characters of RFC 2046's set).
 * On OK *ret_parser is owned by the caller: multipart_free(). */
MUST_CHECK enum err multipart_new(struct str content_type, const struct multipart_limits *limits,
                                  const struct multipart_ops *ops, void *ctx, struct multipart **ret_parser,
                                  struct err_info *reterr);
/* Takes the next piece of the body. An error is final. */
MUST_CHECK enum err multipart_feed(struct multipart *m, struct str bytes, struct err_info *reterr);
/* The body has ended: ERR_MULTIPART_BROKEN unless the closing delimiter was seen. */
MUST_CHECK enum err multipart_end(struct multipart *m, struct err_info *reterr);
/* Takes NULL. */
void multipart_free(struct multipart *m);

#endif
