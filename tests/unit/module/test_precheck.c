/* The first look at a module: good ones pass with the right facts, every other one is refused with its
 * code and a sentence that says what and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "module/precheck.h"

enum { SECTIONS_MAX = 14 };

struct section {
    uint8_t id;
    struct str content;
};

#define HEADER STR_LIT("\0asm\1\0\0\0")
/* One type without parameters and results, one function of it, its empty body. */
#define TYPE                     \
    {                            \
        1, STR_LIT("\1\x60\0\0") \
    }
#define FUNCTION           \
    {                      \
        3, STR_LIT("\1\0") \
    }
#define CODE                      \
    {                             \
        10, STR_LIT("\1\2\0\x0b") \
    }

static bool known(struct str module, struct str name)
{
    return str_eq(module, STR_LIT("host")) && (!name.p || str_eq(name, STR_LIT("call")));
}

static void put_u32(struct buf *b, uint32_t value)
{
    for (; value >= 0x80; value >>= 7)
        buf_putc(b, (char)(value | 0x80));
    buf_putc(b, (char)value);
}

static void put_section(struct buf *b, uint8_t id, struct str content)
{
    buf_putc(b, (char)id);
    put_u32(b, (uint32_t)content.len);
    buf_put_str(b, content);
}

/* Checks a copy of exactly the module's length, so that a sanitizer sees a read past it. On a refusal the
 * facts must be untouched and the sentence there. */
static enum err check(struct str wasm, const struct precheck_limits *limits, struct precheck_facts *ret_facts,
                      struct err_info *reterr)
{
    CLEANUP(freep) char *copy = xmalloc(wasm.len);
    if (wasm.len)
        memcpy(copy, wasm.p, wasm.len);
    struct precheck_facts before;
    memset(&before, 0x5a, sizeof before);
    memcpy(ret_facts, &before, sizeof before);
    *reterr = (struct err_info){0};
    enum err e = module_precheck(str_make(copy, wasm.len), limits, known, ret_facts, reterr);
    if (e) {
        assert_memory_equal(ret_facts, &before, sizeof before);
        assert_int_equal(reterr->code, e);
        assert_true(strlen(reterr->text) > 10);
    }
    return e;
}

static void expect(const char *label, struct str wasm, const struct precheck_limits *limits, enum err code,
                   const char *word)
{
    struct precheck_facts facts;
    struct err_info info;
    enum err e = check(wasm, limits, &facts, &info);
    if (e != code || (code && !strstr(info.text, word)))
        fail_msg("%s: %s \"%s\", wanted %s with \"%s\"", label, err_name(e), info.text, err_name(code), word);
}

/* Every section once. */
static const struct section full[] = {
    {1, STR_LIT("\2\x60\0\0\x60\3\x7f\x7e\x7b\1\x7f")},
    {2, STR_LIT("\1\4host\4call\0\1")},
    {3, STR_LIT("\2\0\0")},
    {4, STR_LIT("\2\x70\0\3\x6f\1\0\5")},
    {5, STR_LIT("\1\1\2\x10")},
    {6, STR_LIT("\2\x7f\1\x41\0\x0b\x7e\0\x42\7\x0b")},
    {7, STR_LIT("\4\6memory\2\0\1f\0\2\1t\1\1\1g\3\1")},
    {8, STR_LIT("\1")},
    {9, STR_LIT("\1\0\x41\0\x0b\1\1")},
    {12, STR_LIT("\1")},
    {10, STR_LIT("\2\2\0\x0b\7\2\3\x7f\1\x7d\1\x0b")},
    {11, STR_LIT("\1\1\2hi")},
    {0, STR_LIT("\4name\1\0")},
};

static void build(struct buf *b, const struct section *sections, size_t count)
{
    buf_put_str(b, HEADER);
    for (size_t i = 0; i < count; i++)
        put_section(b, sections[i].id, sections[i].content);
    assert_false(b->overflow);
}

static void passes_good_modules(void **state)
{
    (void)state;
    struct precheck_limits limits = precheck_limits_default(MIB);
    struct precheck_facts facts;
    struct err_info info;
    assert_int_equal(check(HEADER, &limits, &facts, &info), OK);
    assert_int_equal(facts.functions + facts.imports + facts.memories + facts.has_start + facts.has_names, 0);

    CLEANUP(buf_done) struct buf b = buf_make(4096);
    build(&b, full, LENGTH_OF(full));
    if (check(buf_str(&b), &limits, &facts, &info))
        fail_msg("%s", info.text);
    assert_int_equal(facts.types, 2);
    assert_int_equal(facts.imports, 1);
    assert_int_equal(facts.functions, 2);
    assert_int_equal(facts.tables, 2);
    assert_int_equal(facts.memories, 1);
    assert_int_equal(facts.memory_min_bytes, 128 * KIB);
    assert_int_equal(facts.globals, 2);
    assert_int_equal(facts.exports, 4);
    assert_int_equal(facts.elements, 1);
    assert_int_equal(facts.data_segments, 1);
    assert_int_equal(facts.largest_function_bytes, 7);
    assert_true(facts.has_start);
    assert_true(facts.has_names);
}

/* Cut anywhere, a module is broken, except where a section has just ended and the counts still agree. */
static void refuses_every_truncation(void **state)
{
    (void)state;
    struct precheck_limits limits = precheck_limits_default(MIB);
    CLEANUP(buf_done) struct buf b = buf_make(4096);
    build(&b, full, LENGTH_OF(full));
    bool may_end[512] = {false};
    size_t end = HEADER.len;
    may_end[end] = true;
    for (size_t i = 0; i < LENGTH_OF(full); i++) {
        end += 2 + full[i].content.len;
        uint8_t id = full[i].id;
        may_end[end] = id < 3 || id == 11; /* a function section wants its code, a data count its data */
    }
    assert_int_equal(end, b.len);
    size_t passed = 0;
    for (size_t len = 0; len < b.len; len++) {
        struct precheck_facts facts;
        struct err_info info;
        enum err e = check(str_make(b.p, len), &limits, &facts, &info);
        enum err wanted = may_end[len] ? OK : len < 4 ? ERR_NOT_WASM : ERR_MODULE_INVALID;
        if (e != wanted)
            fail_msg("cut at %zu: %s \"%s\", wanted %s", len, err_name(e), info.text, err_name(wanted));
        passed += !e;
    }
    assert_int_equal(passed, 4);
}

/* Any one byte changed to any value: no crash, and only the codes that the header promises. */
static void survives_every_changed_byte(void **state)
{
    (void)state;
    struct precheck_limits limits = precheck_limits_default(MIB);
    CLEANUP(buf_done) struct buf b = buf_make(4096);
    build(&b, full, LENGTH_OF(full));
    for (size_t at = 0; at < b.len; at++) {
        char was = b.p[at];
        for (int value = 0; value < 256; value++) {
            struct precheck_facts facts;
            struct err_info info;
            b.p[at] = (char)value;
            enum err e = check(buf_str(&b), &limits, &facts, &info);
            assert_true(e == OK || e == ERR_NOT_WASM || e == ERR_MODULE_INVALID || e == ERR_MODULE_REJECTED);
            if (at < 4 && b.p[at] != was)
                assert_int_equal(e, ERR_NOT_WASM);
        }
        b.p[at] = was;
    }
}

static void tells_other_files_apart(void **state)
{
    (void)state;
    static const struct {
        struct str file;
        enum err code;
        const char *word;
    } cases[] = {
        {STR_LIT(""), ERR_NOT_WASM, "empty"},
        {STR_LIT("\0as"), ERR_NOT_WASM, "00 61 73 6d"},
        {STR_LIT("hello, world"), ERR_NOT_WASM, "00 61 73 6d"},
        {STR_LIT("\x7f"
                 "ELF\2\1\1\0"),
         ERR_NOT_WASM, "ELF"},
        {STR_LIT("\x1f\x8b\x08\0"), ERR_NOT_WASM, "gzip"},
        {STR_LIT("PK\x03\x04\x14\0"), ERR_NOT_WASM, "zip"},
        {STR_LIT("(module)"), ERR_NOT_WASM, "WAT"},
        {STR_LIT("\xef\xbb\xbf\r\n\t (module (memory 1))"), ERR_NOT_WASM, "WAT"},
        {STR_LIT(";; a comment\n(module)"), ERR_NOT_WASM, "WAT"},
        {STR_LIT("   "), ERR_NOT_WASM, "00 61 73 6d"},
        {STR_LIT("\0asm"), ERR_MODULE_INVALID, "header"},
        {STR_LIT("\0asm\1\0\0"), ERR_MODULE_INVALID, "header"},
        {STR_LIT("\0asm\2\0\0\0"), ERR_MODULE_INVALID, "version 2"},
        {STR_LIT("\0asm\1\0\2\0"), ERR_MODULE_INVALID, "layer 2"},
        {STR_LIT("\0asm\x0d\0\1\0"), ERR_MODULE_REJECTED, "is a component"},
    };
    struct precheck_limits limits = precheck_limits_default(MIB);
    for (size_t i = 0; i < LENGTH_OF(cases); i++)
        expect(cases[i].word, cases[i].file, &limits, cases[i].code, cases[i].word);
}

/* One wrong thing each. */
static const struct bad {
    const char *label;
    struct section sections[SECTIONS_MAX];
    size_t count;
    enum err code;
    const char *word;
} bad[] = {
#define BAD(label, n, code, word, ...)            \
    {                                             \
        label, {__VA_ARGS__}, n, ERR_##code, word \
    }
    /* order and number of sections */
    BAD("unknown id", 1, MODULE_INVALID, "at byte 8: 14 is no section id", {14, STR_LIT("")}),
    BAD("id 255", 2, MODULE_INVALID, "255 is no section id", TYPE, {255, STR_LIT("")}),
    BAD("type twice", 2, MODULE_INVALID, "type section is there twice", TYPE, TYPE),
    BAD("wrong order", 2, MODULE_INVALID, "wrong order", {5, STR_LIT("\0")}, {4, STR_LIT("\0")}),
    BAD("data count after code", 4, MODULE_INVALID, "wrong order", TYPE, FUNCTION, CODE, {12, STR_LIT("\0")}),
    BAD("rest in section", 1, MODULE_INVALID, "1 bytes too many", {1, STR_LIT("\1\x60\0\0\0")}),
    BAD("rest after count 0", 1, MODULE_INVALID, "2 bytes too many", {6, STR_LIT("\0\0\0")}),
    BAD("empty section", 1, MODULE_INVALID, "number of types", {1, STR_LIT("")}),
    /* types */
    BAD("5-byte count past 32 bits", 1, MODULE_INVALID, "LEB128", {1, STR_LIT("\xff\xff\xff\xff\x1f")}),
    BAD("6-byte count", 1, MODULE_INVALID, "LEB128", {1, STR_LIT("\x80\x80\x80\x80\x80\0")}),
    BAD("count past section", 1, MODULE_INVALID, "5 types do not fit", {1, STR_LIT("\5\x60\0\0")}),
    BAD("type form", 1, MODULE_INVALID, "0x61 is no form", {1, STR_LIT("\1\x61\0\0")}),
    BAD("value type", 1, MODULE_INVALID, "at byte 13: 0x40 is no value type", {1, STR_LIT("\1\x60\1\x40\0")}),
    BAD("parameters past section", 1, MODULE_INVALID, "9 parameters", {1, STR_LIT("\1\x60\x09\x7f\0")}),
    BAD("results missing", 1, MODULE_INVALID, "results", {1, STR_LIT("\1\x60\1\x7f")}),
    BAD("GC struct", 1, MODULE_REJECTED, "(GC), which is off", {1, STR_LIT("\1\x5f\0\0")}),
    BAD("GC rec", 1, MODULE_REJECTED, "(GC), which is off", {1, STR_LIT("\1\x4e\1\x60\0\0")}),
    BAD("continuation", 1, MODULE_REJECTED, "stack switching", {1, STR_LIT("\1\x5d\0\0")}),
    BAD("typed reference", 1, MODULE_REJECTED, "function references", {1, STR_LIT("\1\x60\1\x64\0\0")}),
    /* imports */
    BAD("import name no UTF-8", 1, MODULE_INVALID, "name of an import is cut off or is not UTF-8",
        {2, STR_LIT("\1\4host\1\xff\0\0")}),
    BAD("import module cut off", 1, MODULE_INVALID, "module name of an import", {2, STR_LIT("\1\x70hos")}),
    BAD("import of a type that is not there", 2, MODULE_INVALID, "type 1 does not exist, there are 1", TYPE,
        {2, STR_LIT("\1\4host\4call\0\1")}),
    BAD("import kind", 1, MODULE_INVALID, "0x05 is no kind of import", {2, STR_LIT("\1\4host\4call\5\0")}),
    BAD("unknown module", 2, MODULE_REJECTED, "import env.abort is not provided", TYPE,
        {2, STR_LIT("\1\3env\5abort\0\0")}),
    BAD("unknown function", 2, MODULE_REJECTED, "its module is known, but", TYPE,
        {2, STR_LIT("\1\4host\5cally\0\0")}),
    BAD("old WASI", 2, MODULE_REJECTED,
        "import wasi_unstable.fd_read is not provided: the guest was built for the old", TYPE,
        {2, STR_LIT("\1\x0dwasi_unstable\7fd_read\0\0")}),
    BAD("preview 2", 2, MODULE_REJECTED, "preview 2", TYPE,
        {2, STR_LIT("\1\x0dwasi:cli/exit\4"
                    "exit\0\0")}),
    BAD("terminal codes in a name", 2, MODULE_REJECTED, "import ?[2J.??x is not", TYPE,
        {2, STR_LIT("\1\4\x1b[2J\3\xc2\x9bx\0\0")}),
    BAD("memory import", 1, MODULE_REJECTED, "import env.memory is not provided: it is a memory",
        {2, STR_LIT("\1\3env\6memory\2\0\1")}),
    BAD("table import", 1, MODULE_REJECTED, "import env.t is not provided: it is a table",
        {2, STR_LIT("\1\3env\1t\1\x70\0\1")}),
    BAD("global import", 1, MODULE_REJECTED, "import host.call is not provided: it is a global",
        {2, STR_LIT("\1\4host\4call\3\x7f\0")}),
    BAD("global import mutability", 1, MODULE_INVALID, "0x02 is no mutability",
        {2, STR_LIT("\1\1m\1g\3\x7f\2")}),
    BAD("tag import", 1, MODULE_REJECTED, "exceptions, which is off", {2, STR_LIT("\1\4host\4call\4\0\0")}),
    BAD("shared memory import", 1, MODULE_REJECTED, "shared memory (threads), which is off",
        {2, STR_LIT("\1\3env\6memory\2\3\1\2")}),
    /* functions and their code */
    BAD("function of no type", 3, MODULE_INVALID, "type 1 does not exist", TYPE, {3, STR_LIT("\1\1")}, CODE),
    BAD("no code", 2, MODULE_INVALID, "1 functions, but has the code of 0", TYPE, FUNCTION),
    BAD("no functions", 2, MODULE_INVALID, "0 functions, but has the code of 1", TYPE, CODE),
    BAD("body past section", 3, MODULE_INVALID, "function 0 says 3 bytes, 2 are left", TYPE, FUNCTION,
        {10, STR_LIT("\1\3\0\x0b")}),
    BAD("empty body", 3, MODULE_INVALID, "groups of locals", TYPE, FUNCTION, {10, STR_LIT("\1\0\0\x0b")}),
    BAD("locals past body", 3, MODULE_INVALID, "number of locals is cut off", TYPE, FUNCTION,
        {10, STR_LIT("\1\3\1\x80\x80\1\x7f\x0b")}),
    BAD("groups past body", 3, MODULE_INVALID, "2 groups of locals do not fit", TYPE, FUNCTION,
        {10, STR_LIT("\1\4\2\1\x7f\x0b\0\0\0")}),
    BAD("local type", 3, MODULE_INVALID, "0x00 is no value type", TYPE, FUNCTION,
        {10, STR_LIT("\1\4\1\1\0\x0b")}),
    BAD("too many locals in two groups", 3, MODULE_REJECTED,
        "function 0 declares 50001 locals, at most 50000", TYPE, FUNCTION,
        {10, STR_LIT("\1\x08\2\xd0\x86\3\x7f\1\x7e\x0b")}),
    BAD("locals that wrap 32 bits", 3, MODULE_REJECTED, "declares 4294967296 locals", TYPE, FUNCTION,
        {10, STR_LIT("\1\x0a\2\xff\xff\xff\xff\x0f\x7f\1\x7e\x0b")}),
    BAD("code past its bodies", 3, MODULE_INVALID, "1 bytes too many", TYPE, FUNCTION,
        {10, STR_LIT("\1\2\0\x0b\0")}),
    /* tables and memories */
    BAD("9 tables", 1, MODULE_REJECTED, "the module declares 9 tables, at most 8 are allowed",
        {4, STR_LIT("\x09\x70\0\0\x70\0\0\x70\0\0\x70\0\0\x70\0\0\x70\0\0\x70\0\0\x70\0\0\x70\0\0")}),
    BAD("table elements", 1, MODULE_REJECTED, "start with 1000001 elements, at most 1000000",
        {4, STR_LIT("\2\x70\0\xc0\x84\x3d\x70\0\1")}),
    BAD("table of numbers", 1, MODULE_INVALID, "0x7f is no type for the elements",
        {4, STR_LIT("\1\x7f\0\1")}),
    BAD("table with a value", 1, MODULE_REJECTED, "function references",
        {4, STR_LIT("\1\x40\0\x70\0\1\xd0\x70\x0b")}),
    BAD("table flag", 1, MODULE_INVALID, "0x08 is no limits flag of a table", {4, STR_LIT("\1\x70\x08\1\1")}),
    BAD("table64", 1, MODULE_REJECTED, "64-bit table", {4, STR_LIT("\1\x70\4\1")}),
    BAD("shared table", 1, MODULE_REJECTED, "shared table", {4, STR_LIT("\1\x70\2\1")}),
    BAD("table upside down", 1, MODULE_INVALID, "minimum 3 is above its maximum 2",
        {4, STR_LIT("\1\x70\1\3\2")}),
    BAD("shared memory", 1, MODULE_REJECTED, "uses shared memory (threads), which is off",
        {5, STR_LIT("\1\3\1\2")}),
    BAD("shared without maximum", 1, MODULE_REJECTED, "shared memory (threads)", {5, STR_LIT("\1\2\1")}),
    BAD("memory64", 1, MODULE_REJECTED, "memory64", {5, STR_LIT("\1\4\1")}),
    BAD("shared memory64", 1, MODULE_REJECTED, "memory64", {5, STR_LIT("\1\7\1\2")}),
    BAD("custom page size", 1, MODULE_REJECTED, "custom page size", {5, STR_LIT("\1\x08\1\0")}),
    BAD("memory flag", 1, MODULE_INVALID, "0x10 is no limits flag of a memory", {5, STR_LIT("\1\x10\1")}),
    BAD("memory upside down", 1, MODULE_INVALID, "minimum 2 is above its maximum 1",
        {5, STR_LIT("\1\1\2\1")}),
    BAD("65537 pages", 1, MODULE_INVALID, "minimum is 65537 pages", {5, STR_LIT("\1\0\x81\x80\4")}),
    BAD("maximum 65537 pages", 1, MODULE_INVALID, "maximum is 65537 pages", {5, STR_LIT("\1\1\0\x81\x80\4")}),
    BAD("memory over the limit in sum", 1, MODULE_REJECTED, "starts with 1114112 bytes, at most 1048576",
        {5, STR_LIT("\2\0\x10\0\1")}),
    BAD("memory cut off", 1, MODULE_INVALID, "minimum of limits", {5, STR_LIT("\1\0\x80")}),
    BAD("memory without flag", 1, MODULE_INVALID, "1 memories do not fit", {5, STR_LIT("\1")}),
    /* the rest */
    BAD("tags", 1, MODULE_REJECTED, "exceptions, which is off", {13, STR_LIT("\1\0\0")}),
    BAD("globals past section", 1, MODULE_INVALID, "3 globals do not fit",
        {6, STR_LIT("\3\x7f\0\x41\0\x0b")}),
    BAD("export name no UTF-8", 1, MODULE_INVALID, "name of an export", {7, STR_LIT("\1\2\xc3z\0\0")}),
    BAD("export kind", 1, MODULE_INVALID, "0x05 is no kind of export", {7, STR_LIT("\1\1f\5\0")}),
    BAD("exported tag", 1, MODULE_REJECTED, "exceptions", {7, STR_LIT("\1\1f\4\0")}),
    BAD("exported function", 4, MODULE_INVALID, "exported function 1 does not exist, there are 1", TYPE,
        FUNCTION, {7, STR_LIT("\1\1f\0\1")}, CODE),
    BAD("exported memory", 1, MODULE_INVALID, "exported memory 0 does not exist", {7, STR_LIT("\1\1m\2\0")}),
    BAD("exported table", 2, MODULE_INVALID, "exported table 1", {4, STR_LIT("\1\x70\0\0")},
        {7, STR_LIT("\1\1t\1\1")}),
    BAD("exported global", 1, MODULE_INVALID, "exported global 0", {7, STR_LIT("\1\1g\3\0")}),
    BAD("start", 4, MODULE_INVALID, "start function 1 does not exist", TYPE, FUNCTION, {8, STR_LIT("\1")},
        CODE),
    BAD("start and more", 4, MODULE_INVALID, "start section has 1 bytes too many", TYPE, FUNCTION,
        {8, STR_LIT("\0\0")}, CODE),
    BAD("element segments past section", 1, MODULE_INVALID, "element segments do not fit",
        {9, STR_LIT("\2\0")}),
    BAD("data without its count", 2, MODULE_INVALID, "announces 2 data segments, but has 1",
        {12, STR_LIT("\2")}, {11, STR_LIT("\1\1\0")}),
    BAD("data count without data", 1, MODULE_INVALID, "announces 1 data segments, but has 0",
        {12, STR_LIT("\1")}),
    BAD("custom without name", 1, MODULE_INVALID, "name of a custom section", {0, STR_LIT("")}),
    BAD("custom name no UTF-8", 1, MODULE_INVALID, "name of a custom section", {0, STR_LIT("\1\x80")}),
};

static void refuses_bad_modules(void **state)
{
    (void)state;
    struct precheck_limits limits = precheck_limits_default(MIB);
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        CLEANUP(buf_done) struct buf b = buf_make(4096);
        build(&b, bad[i].sections, bad[i].count);
        expect(bad[i].label, buf_str(&b), &limits, bad[i].code, bad[i].word);
    }
}

static void refuses_sections_past_the_file(void **state)
{
    (void)state;
    struct precheck_limits limits = precheck_limits_default(MIB);
    expect("size past the file", STR_LIT("\0asm\1\0\0\0\1\5\1\x60\0\0"), &limits, ERR_MODULE_INVALID,
           "at byte 8: the type section says 5 bytes, 4 are left");
    expect("size cut off", STR_LIT("\0asm\1\0\0\0\1\x84"), &limits, ERR_MODULE_INVALID,
           "size of the type section");
    expect("size past 32 bits", STR_LIT("\0asm\1\0\0\0\1\x84\x80\x80\x80\x10\1\x60\0\0"), &limits,
           ERR_MODULE_INVALID, "size of the type section");
    expect("size as large as can be", STR_LIT("\0asm\1\0\0\0\0\xff\xff\xff\xff\x0f\1x"), &limits,
           ERR_MODULE_INVALID, "says 4294967295 bytes");
    expect("size in 5 bytes", STR_LIT("\0asm\1\0\0\0\1\x84\x80\x80\x80\0\1\x60\0\0"), &limits, OK, "");
}

/* A section of `count` equal things passes when the limit is `count`, and is refused when it is one less. */
static void keeps_every_limit(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct precheck_limits l;
    const struct {
        uint32_t *limit;
        uint8_t id;
        const char *things;
        struct str one;
    } cases[] = {
        {&l.types, 1, "types", STR_LIT("\x60\0\0")},
        {&l.imports, 2, "imports", STR_LIT("\4host\4call\0\0")},
        {&l.functions, 3, "functions", STR_LIT("\0")},
        {&l.tables, 4, "tables", STR_LIT("\x70\0\0")},
        {&l.memories, 5, "memories", STR_LIT("\0\0")},
        {&l.globals, 6, "globals", STR_LIT("\x7f\0\x41\0\x0b")},
        {&l.exports, 7, "exports", STR_LIT("\1f\0\0")},
        {&l.elements, 9, "element segments", STR_LIT("\1\0\0")},
        {&l.data_segments, 11, "data segments", STR_LIT("\1\0")},
    };
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        CLEANUP(buf_done) struct buf content = buf_make(8192), b = buf_make(8192);
        put_u32(&content, COUNT);
        for (int n = 0; n < COUNT; n++)
            buf_put_str(&content, cases[i].one);
        buf_put_str(&b, HEADER);
        if (cases[i].id > 1)
            put_section(&b, 1, STR_LIT("\1\x60\0\0"));
        if (cases[i].id == 7)
            put_section(&b, 3, STR_LIT("\1\0"));
        put_section(&b, cases[i].id, buf_str(&content));
        if (cases[i].id == 7)
            put_section(&b, 10, STR_LIT("\1\2\0\x0b"));
        if (cases[i].id == 3) {
            buf_clear(&content);
            put_u32(&content, COUNT);
            for (int n = 0; n < COUNT; n++)
                buf_put_str(&content, STR_LIT("\2\0\x0b"));
            put_section(&b, 10, buf_str(&content));
        }
        assert_false(b.overflow || content.overflow);
        l = precheck_limits_default(MIB);
        *cases[i].limit = COUNT;
        expect(cases[i].things, buf_str(&b), &l, OK, "");
        *cases[i].limit = COUNT - 1;
        char sentence[80];
        snprintf(sentence, sizeof sentence, "the module declares 300 %s, at most 299 are allowed",
                 cases[i].things);
        expect(cases[i].things, buf_str(&b), &l, ERR_MODULE_REJECTED, sentence);
    }
}

static void keeps_the_limits_of_sizes(void **state)
{
    (void)state;
    CLEANUP(buf_done) struct buf b = buf_make(4096);
    build(&b, full, LENGTH_OF(full));
    struct precheck_limits exact = precheck_limits_default(128 * KIB);
    exact.module_bytes = b.len;
    exact.function_bytes = 7;
    exact.function_locals = 4;
    exact.table_elements = 3;
    expect("exact", buf_str(&b), &exact, OK, "");

    struct precheck_limits l = exact;
    l.module_bytes--;
    expect("module", buf_str(&b), &l, ERR_MODULE_TOO_LARGE, "bytes long, at most");
    l = exact, l.function_bytes--;
    expect("function", buf_str(&b), &l, ERR_MODULE_REJECTED,
           "function 2 is 7 bytes long, at most 6 are allowed");
    l = exact, l.function_locals--;
    expect("locals", buf_str(&b), &l, ERR_MODULE_REJECTED,
           "function 2 declares 4 locals, at most 3 are allowed");
    l = exact, l.table_elements--;
    expect("elements", buf_str(&b), &l, ERR_MODULE_REJECTED, "start with 3 elements, at most 2 are allowed");
    l = exact, l.memory_bytes--;
    expect("memory", buf_str(&b), &l, ERR_MODULE_REJECTED,
           "starts with 131072 bytes, at most 131071 are allowed");
}

/* A name of any length leaves room for the rest of the sentence. */
static void cuts_long_names(void **state)
{
    (void)state;
    struct precheck_limits limits = precheck_limits_default(MIB);
    CLEANUP(buf_done) struct buf content = buf_make(4096), b = buf_make(8192);
    buf_putc(&content, 1);
    for (int name = 0; name < 2; name++) {
        put_u32(&content, 1000);
        for (int i = 0; i < 1000; i++)
            buf_putc(&content, 'x');
    }
    buf_put_str(&content, STR_LIT("\0\0"));
    build(&b, (const struct section[]){TYPE, {2, buf_str(&content)}}, 2);
    expect("long", buf_str(&b), &limits, ERR_MODULE_REJECTED, "xxx....xxx");
    expect("long", buf_str(&b), &limits, ERR_MODULE_REJECTED, "xxx... is not provided");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_good_modules),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(survives_every_changed_byte),
        cmocka_unit_test(tells_other_files_apart),
        cmocka_unit_test(refuses_bad_modules),
        cmocka_unit_test(refuses_sections_past_the_file),
        cmocka_unit_test(keeps_every_limit),
        cmocka_unit_test(keeps_the_limits_of_sizes),
        cmocka_unit_test(cuts_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
