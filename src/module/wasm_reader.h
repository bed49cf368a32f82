/* Reads the primitives of the WebAssembly binary format (core specification, section 5.2) from hostile
 * bytes. A reader is a window `at`..`end` on a binary that somebody else owns; offsets count from the
 * start of that binary, so that a complaint can name them. A read that fails moves nothing and gives
 * false: the bytes are cut off, or they are no value of that kind. */
#ifndef WW_MODULE_WASM_READER_H
#define WW_MODULE_WASM_READER_H

#include "base/str.h"

struct wasm_reader {
    const unsigned char *bytes;
    size_t at;
    size_t end;
};

static inline struct wasm_reader wasm_reader_make(struct str binary)
{
    return (struct wasm_reader){(const unsigned char *)binary.p, 0, binary.len};
}

static inline size_t wasm_reader_left(const struct wasm_reader *r)
{
    return r->end - r->at;
}

MUST_CHECK bool wasm_read_byte(struct wasm_reader *r, uint8_t *ret);
/* Unsigned LEB128 of at most 5 bytes and 32 bits; the bits past those must be 0. */
MUST_CHECK bool wasm_read_u32(struct wasm_reader *r, uint32_t *ret);
/* A length and that many bytes of UTF-8, lent from the binary. */
MUST_CHECK bool wasm_read_name(struct wasm_reader *r, struct str *ret);
MUST_CHECK bool wasm_skip(struct wasm_reader *r, size_t count);
/* A reader of the next `count` bytes; `r` goes on behind them. */
MUST_CHECK bool wasm_read_window(struct wasm_reader *r, size_t count, struct wasm_reader *ret);

#endif
