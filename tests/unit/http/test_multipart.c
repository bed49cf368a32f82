/* Each case is fed in one piece, cut in two at every place, and byte by byte: the outcome must be the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http/multipart.h"

static const char type_b[] = "multipart/form-data; boundary=B";

/* What the callbacks said: "<name|filename|type>data</>". */
struct record {
    struct buf text;
    enum err fail_at_data;
};

static void put_or_dash(struct buf *to, struct str s)
{
    buf_put_str(to, s.p ? s : STR_LIT("-"));
}

static enum err on_begin(void *ctx, const struct multipart_part *part, struct err_info *reterr)
{
    struct record *r = ctx;
    (void)reterr;
    buf_putc(&r->text, '<');
    put_or_dash(&r->text, part->name);
    buf_putc(&r->text, '|');
    put_or_dash(&r->text, part->filename);
    buf_putc(&r->text, '|');
    put_or_dash(&r->text, part->type);
    buf_putc(&r->text, '>');
    return OK;
}

static enum err on_data(void *ctx, struct str bytes, struct err_info *reterr)
{
    struct record *r = ctx;
    assert_true(bytes.len > 0);
    if (r->fail_at_data)
        return err_set(reterr, r->fail_at_data, "no more of this");
    buf_put_str(&r->text, bytes);
    return OK;
}

static enum err on_end(void *ctx, struct err_info *reterr)
{
    (void)reterr;
    buf_puts(&((struct record *)ctx)->text, "</>");
    return OK;
}

static const struct multipart_ops ops = {on_begin, on_data, on_end};

/* The transcript, with "!ERROR sentence" behind it where the parse failed. */
static void parse(struct record *r, const char *content_type, struct str body, const size_t *cuts,
                  size_t cut_count)
{
    struct multipart_limits limits = {.parts_max = 3, .head_bytes_max = 200};
    struct multipart *m = NULL;
    struct err_info err = {0};
    r->text = buf_make(1 << 20);
    enum err e = multipart_new(str_of(content_type), &limits, &ops, r, &m, &err);
    size_t at = 0;
    for (size_t i = 0; !e && i <= cut_count; i++) {
        size_t to = i < cut_count ? cuts[i] : body.len;
        /* A copy of exactly this size: reading past it is seen by the sanitizer. */
        char *piece = xmalloc(to - at);
        memcpy(piece, body.p + at, to - at);
        e = multipart_feed(m, str_make(piece, to - at), &err);
        free(piece);
        at = to;
    }
    if (!e)
        e = multipart_end(m, &err);
    else if (m)
        assert_int_equal(multipart_feed(m, STR_LIT("x"), NULL), e); /* final */
    if (e) {
        assert_int_equal(e, err.code);
        buf_printf(&r->text, "!%s %s", err_name(e), err.text);
    }
    multipart_free(m);
}

struct scenario {
    const char *body;
    const char *expected; /* the transcript; behind '!' its start is enough */
};

static void expect_same(const struct scenario *c, struct record *r)
{
    const char *text = buf_cstr(&r->text), *bang = strchr(c->expected, '!');
    bool same = bang ? strncmp(text, c->expected, strlen(c->expected)) == 0 : strcmp(text, c->expected) == 0;
    if (!same)
        fail_msg("body:\n%s\nexpected: %s\ngot:      %s", c->body, c->expected, text);
    buf_done(&r->text);
}

#define PART(disposition) "--B\r\nContent-Disposition: form-data; " disposition "\r\n\r\n"
#define NAMED PART("name=\"a\"")
#define BAD "!MULTIPART_BROKEN the form is malformed: "

static const struct scenario scenarios[] = {
    {NAMED "hello\r\n--B--\r\n", "<a|-|->hello</>"},
    {NAMED "hello\r\n--B--", "<a|-|->hello</>"},
    {NAMED "\r\n--B--\r\n", "<a|-|-></>"},
    {NAMED "1\r\n" PART("name=b") "2\r\n--B--\r\n", "<a|-|->1</><b|-|->2</>"},
    {"--B--\r\n", ""},
    {"--B \t \r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--B  \r\nContent-Disposition: form-data; "
     "name=b"
     "\r\n\r\ny\r\n--B-- \r\n",
     "<a|-|->x</><b|-|->y</>"},
    {"words before\r\nin lines\r\n" NAMED "x\r\n--B--\r\nwords behind\r\n--B\r\n", "<a|-|->x</>"},
    {"\r\n" NAMED "x\r\n--B--", "<a|-|->x</>"},
    {"--\r\n--C\r\n" NAMED "x\r\n--B--", "<a|-|->x</>"},
    /* what only looks like a delimiter is data */
    {NAMED "\r\n-\r\n--\r\n--A\r\r\n\n--B \r\r\n--B--", "<a|-|->\r\n-\r\n--\r\n--A\r\r\n\n--B \r</>"},
    {NAMED "--B--\r\n--B--", "<a|-|->--B--</>"},
    {NAMED "x\n--B\r\n--b\r\r\n--B--", "<a|-|->x\n--B\r\n--b\r</>"},
    {NAMED "\r\r\r\n\r\n\r\n--B--", "<a|-|->\r\r\r\n\r\n</>"},
    /* names, files, types */
    {PART("name=\"a b;c\"; filename=\"x.wasm\"\r\nContent-Type: application/wasm ") "\r\n--B--",
     "<a b;c|x.wasm|application/wasm></>"},
    {PART("filename=\"C:\\dir\\m.wasm\"; name=m") "\r\n--B--", "<m|m.wasm|-></>"},
    {PART("name=m; filename=\"../../etc/passwd\"") "\r\n--B--", "<m|passwd|-></>"},
    {PART("name=m; filename=\"a/..\"") "\r\n--B--", "<m||-></>"},
    {PART("name=m; filename=\".\"") "\r\n--B--", "<m||-></>"},
    {PART("name=m; filename=\"\"") "\r\n--B--", "<m||-></>"},
    {PART("name=\"q\\\"uo\\\\te\"") "\r\n--B--", "<q\"uo\\te|-|-></>"},
    {PART("NAME=m; FileName=f; filename*=UTF-8''evil; x=y;") "\r\n--B--", "<m|f|-></>"},
    {"--B\r\ncontent-TYPE:text/plain\r\nX-Other: 1\r\nContent-Transfer-Encoding: "
     "BINARY\r\ncontent-disposition:"
     "FORM-DATA ;name=a\r\n\r\nx\r\n--B--",
     "<a|-|text/plain>x</>"},
    /* broken */
    {"", BAD "it ends before"},
    {"--B", BAD "it ends before"},
    {"--B-", BAD "it ends before"},
    {NAMED "hello", "<a|-|->hello" BAD "it ends before"},
    {NAMED "hello\r\n--B\r\n", "<a|-|->hello</>" BAD "it ends before"},
    {NAMED "hello\r\n--B-\r\n", "<a|-|->hello</>" BAD "a boundary is followed"},
    {NAMED "hello\r\n--Bx\r\n", "<a|-|->hello</>" BAD "a boundary is followed"},
    {NAMED "hello\r\n--B\n", "<a|-|->hello</>" BAD "a boundary is followed"},
    {NAMED "hello\r\n--B\rx", "<a|-|->hello</>" BAD "a boundary is followed"},
    {NAMED "hello\r\n--B --\r\n", "<a|-|->hello</>" BAD "a boundary is followed"},
    {"--B\r\n\r\nx\r\n--B--", BAD "a part has no Content-Disposition"},
    {"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--", BAD "a part has no Content-Disposition"},
    {"--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--B--",
     BAD "Content-Disposition of a part is not"},
    {PART("nam=a") "x\r\n--B--", BAD "a part has no name"},
    {PART("name=\"\"") "x\r\n--B--", BAD "a part has no name"},
    {PART("name=\"a") "x\r\n--B--", BAD "the parameters of a part's"},
    {PART("name=\"a\\\"") "x\r\n--B--", BAD "the parameters of a part's"},
    {PART("name=a b") "x\r\n--B--", BAD "the parameters of a part's"},
    {PART("name=") "x\r\n--B--", BAD "the parameters of a part's"},
    {PART("name") "x\r\n--B--", BAD "the parameters of a part's"},
    {PART("=a") "x\r\n--B--", BAD "the parameters of a part's"},
    {PART("na me=a") "x\r\n--B--", BAD "the parameters of a part's"},
    {PART("name=a; name=b") "x\r\n--B--", BAD "Content-Disposition says the name"},
    {PART("name=a; filename=b; filename=c") "x\r\n--B--", BAD "Content-Disposition says the name"},
    {PART("name=a\r\nContent-Disposition: form-data; name=b") "x\r\n--B--",
     BAD "a part has two Content-Disposition"},
    {PART("name=a\r\nContent-Type: a/b\r\nContent-Type: a/b") "x\r\n--B--",
     BAD "a part has two Content-Type"},
    {PART("name=a\r\nContent-Transfer-Encoding: base64") "x\r\n--B--",
     BAD "Content-Transfer-Encoding of a part"},
    {PART("name=a\r\n folded: b") "x\r\n--B--", BAD "a field name in the head of a part has a blank"},
    {PART("name=a\r\nX : b") "x\r\n--B--", BAD "a field name in the head of a part has a blank"},
    {PART("name=a\r\nno colon") "x\r\n--B--", BAD "a line in the head of a part has no name and colon"},
    {PART("name=a\r\n: b") "x\r\n--B--", BAD "a line in the head of a part has no name and colon"},
    {PART("name=a\nX: b") "x\r\n--B--", BAD "a line in the head of a part does not end"},
    {PART("name=a\rX: b") "x\r\n--B--", BAD "the head of a part has a control character"},
    {PART("name=\"a\x01\"") "x\r\n--B--", BAD "the head of a part has a control character"},
    {PART("name=\"a\x7f\"") "x\r\n--B--", BAD "the head of a part has a control character"},
    {"--B                                                                 \r\n",
     BAD "a boundary is followed"}, /* 65 blanks */
    /* bounds: 3 parts, 200 bytes of head (see parse()) */
    {NAMED "\r\n" NAMED "\r\n" NAMED "\r\n" NAMED "\r\n--B--",
     "<a|-|-></><a|-|-></><a|-|-></>!MULTIPART_BROKEN the form has more than 3 parts"},
    {PART("name=a\r\nX: "
          "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
          "456789012345678901234567890123456789012345678901234567890123456789") "x\r\n--B--",
     "!MULTIPART_BROKEN the head of a part is larger than 200 bytes"},
};

static void test_scenarios(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(scenarios); i++) {
        const struct scenario *c = &scenarios[i];
        struct str body = str_of(c->body);
        struct record r = {0};
        parse(&r, type_b, body, NULL, 0);
        expect_same(c, &r);
        for (size_t cut = 1; cut < body.len; cut++) {
            parse(&r, type_b, body, &cut, 1);
            expect_same(c, &r);
        }
        size_t every[1024];
        assert_true(body.len < LENGTH_OF(every));
        for (size_t at = 1; at < body.len; at++)
            every[at - 1] = at;
        parse(&r, type_b, body, every, body.len ? body.len - 1 : 0);
        expect_same(c, &r);
    }
}

static void test_nul_bytes(void **state)
{
    (void)state;
    static const char data[] = NAMED "\0\r\n\0--B\r\0\n--B\r\n--B--";
    static const char head[] = "--B\r\nContent-Disposition: form-data; name=\"a\0\"\r\n\r\n\r\n--B--";
    struct record r = {0};
    parse(&r, type_b, str_make(data, sizeof data - 1), NULL, 0);
    static const char expected[] = "<a|-|->\0\r\n\0--B\r\0\n--B</>";
    assert_int_equal(r.text.len, sizeof expected - 1);
    assert_memory_equal(r.text.p, expected, sizeof expected - 1);
    buf_done(&r.text);
    parse(&r, type_b, str_make(head, sizeof head - 1), NULL, 0);
    assert_string_equal(buf_cstr(&r.text), BAD "the head of a part has a control character");
    buf_done(&r.text);
}

static void test_content_types(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        const char *body;
        const char *expected;
    } rows[] = {
        {"multipart/form-data; boundary=\"B C\"", "--B C--", ""},
        {"Multipart/Form-Data ; charset=utf-8 ; Boundary=\"B\" ; x=y", "--B--", ""},
        {"multipart/form-data;boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
         "------WebKitFormBoundary7MA4YWxkTrZu0gW--", ""},
        {"multipart/form-data; boundary=a'()+_,-./:=?", "--a'()+_,-./:=?--", ""},
        {"multipart/form-data; "
         "boundary=0123456789012345678901234567890123456789012345678901234567890123456789",
         "--0123456789012345678901234567890123456789012345678901234567890123456789--", ""},
        {"multipart/form-data; "
         "boundary=01234567890123456789012345678901234567890123456789012345678901234567890",
         "", BAD "Content-Type has no boundary"},
        {"multipart/form-data", "", BAD "Content-Type has no boundary"},
        {"multipart/form-data; boundary=\"\"", "", BAD "Content-Type has no boundary"},
        {"multipart/form-data; boundary=\"B \"", "", BAD "Content-Type has no boundary"},
        {"multipart/form-data; boundary=B@", "", BAD "Content-Type has no boundary"},
        {"multipart/form-data; boundary=B; boundary=C", "", BAD "Content-Type names two"},
        {"multipart/form-data; boundary=\"B", "", BAD "the parameters of Content-Type"},
        {"multipart/form-data boundary=B", "", "!UNSUPPORTED_TYPE"},
        {"multipart/mixed; boundary=B", "", "!UNSUPPORTED_TYPE"},
        {"application/json", "", "!UNSUPPORTED_TYPE"},
        {"", "", "!UNSUPPORTED_TYPE"},
    };
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct record r = {0};
        parse(&r, rows[i].type, str_of(rows[i].body), NULL, 0);
        expect_same(&(struct scenario){rows[i].type, rows[i].expected}, &r);
    }
}

static void test_outside_is_bounded(void **state)
{
    (void)state;
    static char body[2 * 4200];
    static const char rest[] = "\r\n--B--\r\n";
    struct record r = {0};
    memset(body, 'x', sizeof body);
    memcpy(body + 4090, rest, sizeof rest - 1);
    parse(&r, type_b, str_make(body, 4090 + sizeof rest - 1 + 4000), NULL, 0);
    assert_string_equal(buf_cstr(&r.text), "");
    buf_done(&r.text);
    parse(&r, type_b, str_make(body, 4090 + sizeof rest - 1 + 4100), NULL, 0);
    assert_string_equal(buf_cstr(&r.text), BAD "there are more than 4096 bytes outside of its parts");
    buf_done(&r.text);
    memset(body, 'x', sizeof body);
    parse(&r, type_b, str_make(body, 4200), NULL, 0);
    assert_string_equal(buf_cstr(&r.text), BAD "there are more than 4096 bytes outside of its parts");
    buf_done(&r.text);
}

static void test_callers_error_ends_it(void **state)
{
    (void)state;
    struct record r = {.fail_at_data = ERR_MODULE_TOO_LARGE};
    parse(&r, type_b, STR_LIT(NAMED "x\r\n--B--"), NULL, 0);
    assert_string_equal(buf_cstr(&r.text), "<a|-|->!MODULE_TOO_LARGE no more of this");
    buf_done(&r.text);
}

/* A large part comes as spans of the caller's own memory, not in crumbs. */
struct spans {
    size_t count, bytes;
};

static enum err count_data(void *ctx, struct str bytes, struct err_info *reterr)
{
    struct spans *s = ctx;
    (void)reterr;
    s->count++;
    s->bytes += bytes.len;
    return OK;
}

static enum err ignore_begin(void *ctx, const struct multipart_part *part, struct err_info *reterr)
{
    (void)ctx, (void)part, (void)reterr;
    return OK;
}

static enum err ignore_end(void *ctx, struct err_info *reterr)
{
    (void)ctx, (void)reterr;
    return OK;
}

static void test_large_part_in_large_spans(void **state)
{
    (void)state;
    enum { PIECE = 64 * 1024, PIECES = 160 };
    static const struct multipart_ops counting = {ignore_begin, count_data, ignore_end};
    struct spans spans = {0};
    struct multipart_limits limits = {0};
    struct multipart *m = NULL;
    struct err_info err = {0};
    char *piece = xmalloc(PIECE);
    for (size_t i = 0; i < PIECE; i++)
        piece[i] = (char)(i * 7 % 256);
    assert_int_equal(multipart_new(str_of(type_b), &limits, &counting, &spans, &m, &err), OK);
    assert_int_equal(multipart_feed(m, STR_LIT(NAMED), &err), OK);
    for (int i = 0; i < PIECES; i++)
        assert_int_equal(multipart_feed(m, str_make(piece, PIECE), &err), OK);
    assert_int_equal(multipart_feed(m, STR_LIT("\r\n--B--"), &err), OK);
    assert_int_equal(multipart_end(m, &err), OK);
    assert_int_equal(spans.bytes, (size_t)PIECE * PIECES);
    assert_true(spans.count <= 2 * PIECES);
    multipart_free(m);
    free(piece);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenarios),
        cmocka_unit_test(test_nul_bytes),
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_outside_is_bounded),
        cmocka_unit_test(test_callers_error_ends_it),
        cmocka_unit_test(test_large_part_in_large_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
