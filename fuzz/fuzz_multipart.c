/* The multipart parser: however the body is cut, what it says must be the same as for one piece. */
#include "base/buf.h"
#include "http/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err on_begin(void *ctx, const struct multipart_part *part, struct err_info *reterr)
{
    (void)reterr;
    WW_ASSERT(part->name.len > 0);
    WW_ASSERT(str_index(part->filename, '/') == part->filename.len);
    buf_printf(ctx, "<%zu %zu %zu ", part->name.len, part->filename.len, part->type.len);
    buf_put_str(ctx, part->name);
    buf_put_str(ctx, part->filename);
    buf_put_str(ctx, part->type);
    buf_putc(ctx, '>');
    return OK;
}

static enum err on_data(void *ctx, struct str bytes, struct err_info *reterr)
{
    (void)reterr;
    WW_ASSERT(bytes.len > 0);
    buf_put_str(ctx, bytes);
    return OK;
}

static enum err on_end(void *ctx, struct err_info *reterr)
{
    (void)reterr;
    buf_puts(ctx, "</>");
    return OK;
}

static struct buf parse(struct str content_type, struct str body, bool in_pieces, uint32_t seed)
{
    static const struct multipart_ops ops = {on_begin, on_data, on_end};
    struct multipart_limits limits = {.parts_max = 4, .head_bytes_max = 256};
    struct buf said = buf_make(1 << 22);
    struct multipart *m = NULL;
    struct err_info err = {0};
    enum err e = multipart_new(content_type, &limits, &ops, &said, &m, &err);
    while (!e && body.len) {
        seed = seed * 1664525 + 1013904223;
        size_t piece = in_pieces ? MIN(body.len, (size_t)(1 + (seed >> 16) % (seed & 1 ? 4 : 64))) : body.len;
        char *copy = xmalloc(piece);
        memcpy(copy, body.p, piece);
        e = multipart_feed(m, str_make(copy, piece), &err);
        free(copy);
        body = str_make(body.p + piece, body.len - piece);
    }
    if (!e)
        e = multipart_end(m, &err);
    if (e)
        buf_printf(&said, "!%d %s", e, err.text);
    multipart_free(m);
    return said;
}

/* The first byte seeds the cuts; where it is even the Content-Type is the first line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str content_type = STR_LIT("multipart/form-data; boundary=B"), body = str_make(data, size);
    if (size == 0)
        return 0;
    body = str_make(body.p + 1, body.len - 1);
    if (data[0] % 2 == 0)
        content_type = str_split(&body, '\n');
    struct buf whole = parse(content_type, body, false, 0), cut = parse(content_type, body, true, data[0]);
    WW_ASSERT(str_eq(buf_str(&whole), buf_str(&cut)));
    buf_done(&whole);
    buf_done(&cut);
    return 0;
}
