#include "module/precheck.h"

#include <stdarg.h>

#include "module/wasm_reader.h"

enum { HEADER_BYTES = 8, MEMORY_PAGES_MAX = 65536 };

/* The state of one pass. As only functions can be imported, facts.imports also counts the functions that
 * come before the module's own in the function index space. */
struct pass {
    struct wasm_reader r; /* the section at hand */
    const struct precheck_limits *limits;
    precheck_import_known *import_known;
    struct precheck_facts facts;
    uint64_t table_elements;
    uint32_t bodies;
    bool has_data_count;
    uint32_t data_count;
    int place; /* of the last section that was not custom, in the order of the specification */
    struct err_info *reterr;
};

struct precheck_limits precheck_limits_default(uint64_t memory_bytes)
{
    return (struct precheck_limits){
        .module_bytes = 10 * MIB,
        .types = 10000,
        .imports = 1000,
        .functions = 100000,
        .function_bytes = MIB,
        .function_locals = 50000,
        .globals = 10000,
        .exports = 10000,
        .tables = 8,
        .table_elements = 1000000,
        .memories = 4,
        .memory_bytes = memory_bytes,
        .elements = 10000,
        .data_segments = 100000,
    };
}

/* The ways to say no. */

MUST_CHECK PRINTF_LIKE(3, 4) static enum err broken(const struct pass *p, size_t at, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(p->reterr, ERR_MODULE_INVALID, "at byte %zu: %s", at, text);
}

MUST_CHECK static enum err feature_is_off(const struct pass *p, const char *feature)
{
    return err_set(p->reterr, ERR_MODULE_REJECTED, "the module uses %s, which is off", feature);
}

/* A name out of the module, fit for a sentence: short, and without anything that a terminal obeys. */
struct shown_name {
    char text[64];
};

static struct shown_name shown(struct str name)
{
    struct shown_name s;
    size_t len = 0;
    for (; len < name.len && len < sizeof s.text - 4; len++)
        s.text[len] = name.p[len] >= ' ' && name.p[len] <= '~' ? name.p[len] : '?';
    snprintf(s.text + len, sizeof s.text - len, "%s", len < name.len ? "..." : "");
    return s;
}

/* Readers of what occurs in several sections. */

MUST_CHECK static enum err read_byte(struct pass *p, const char *what, uint8_t *ret)
{
    if (!wasm_read_byte(&p->r, ret))
        return broken(p, p->r.at, "%s is missing, the section has ended", what);
    return OK;
}

MUST_CHECK static enum err read_u32(struct pass *p, const char *what, uint32_t *ret)
{
    if (!wasm_read_u32(&p->r, ret))
        return broken(p, p->r.at, "%s is cut off or is no 32-bit LEB128 number", what);
    return OK;
}

MUST_CHECK static enum err read_name(struct pass *p, const char *what, struct str *ret)
{
    if (!wasm_read_name(&p->r, ret))
        return broken(p, p->r.at, "%s is cut off or is not UTF-8", what);
    return OK;
}

/* The number of `things` that follow, each at least `least_bytes` long. */
MUST_CHECK static enum err read_count(struct pass *p, const char *things, uint32_t limit, size_t least_bytes,
                                      uint32_t *ret)
{
    size_t at = p->r.at;
    uint32_t count;
    if (!wasm_read_u32(&p->r, &count))
        return broken(p, at, "the number of %s is cut off or is no 32-bit LEB128 number", things);
    if (count > limit)
        return err_set(p->reterr, ERR_MODULE_REJECTED, "the module declares %u %s, at most %u are allowed",
                       count, things, limit);
    if (count > wasm_reader_left(&p->r) / least_bytes)
        return broken(p, at, "%u %s do not fit into the %zu bytes left in the section", count, things,
                      wasm_reader_left(&p->r));
    *ret = count;
    return OK;
}

MUST_CHECK static enum err read_index(struct pass *p, const char *thing, uint32_t count, uint32_t *ret)
{
    size_t at = p->r.at;
    enum err e = read_u32(p, thing, ret);
    if (e)
        return e;
    if (*ret >= count)
        return broken(p, at, "%s %u does not exist, there are %u", thing, *ret, count);
    return OK;
}

/* One value type (section 5.3.5). */
MUST_CHECK static enum err read_value_type(struct pass *p, uint8_t *ret)
{
    uint8_t byte;
    enum err e = read_byte(p, "a type", &byte);
    if (e)
        return e;
    bool number_or_vector = byte >= 0x7b && byte <= 0x7f;
    bool plain_reference = byte == 0x70 || byte == 0x6f; /* funcref, externref */
    bool other_reference = byte == 0x63 || byte == 0x64 || (byte >= 0x68 && byte <= 0x75);
    if (number_or_vector || plain_reference) {
        *ret = byte;
        return OK;
    }
    if (other_reference)
        return feature_is_off(p, "a reference type of a proposal (garbage collection, function references, "
                                 "exceptions or stack switching)");
    return broken(p, p->r.at - 1, "0x%02x is no value type", byte);
}

/* The limits of a table or memory (section 5.3.8 and the proposals threads, memory64, custom page sizes). */
MUST_CHECK static enum err read_limits(struct pass *p, bool memory, uint32_t *ret_min)
{
    const char *thing = memory ? "memory" : "table";
    size_t at = p->r.at;
    uint8_t flags;
    enum err e = read_byte(p, "a limits flag", &flags);
    if (e)
        return e;
    if (flags > (memory ? 0x0f : 0x07))
        return broken(p, at, "0x%02x is no limits flag of a %s", flags, thing);
    if (flags & 8)
        return feature_is_off(p, "a memory with a custom page size");
    if (flags & 4)
        return feature_is_off(p, memory ? "a 64-bit memory (memory64)" : "a 64-bit table (memory64)");
    if (flags & 2)
        return feature_is_off(p, memory ? "shared memory (threads)" : "a shared table (threads)");
    uint32_t min, max = UINT32_MAX;
    if ((e = read_u32(p, "the minimum of limits", &min)))
        return e;
    if (flags & 1) {
        if ((e = read_u32(p, "the maximum of limits", &max)))
            return e;
        if (memory && max > MEMORY_PAGES_MAX)
            return broken(p, at, "a memory's maximum is %u pages, at most %d exist", max, MEMORY_PAGES_MAX);
    }
    if (memory && min > MEMORY_PAGES_MAX)
        return broken(p, at, "a memory's minimum is %u pages, at most %d exist", min, MEMORY_PAGES_MAX);
    if (min > max)
        return broken(p, at, "a %s's minimum %u is above its maximum %u", thing, min, max);
    *ret_min = min;
    return OK;
}

MUST_CHECK static enum err read_table_type(struct pass *p, uint32_t *ret_min)
{
    uint8_t type;
    enum err e = read_value_type(p, &type);
    if (e)
        return e;
    if (type != 0x70 && type != 0x6f)
        return broken(p, p->r.at - 1, "0x%02x is no type for the elements of a table", type);
    return read_limits(p, false, ret_min);
}

MUST_CHECK static enum err read_global_type(struct pass *p)
{
    uint8_t type, mutability;
    enum err e;
    if ((e = read_value_type(p, &type)) || (e = read_byte(p, "the mutability of a global", &mutability)))
        return e;
    if (mutability > 1)
        return broken(p, p->r.at - 1, "0x%02x is no mutability of a global", mutability);
    return OK;
}

/* The sections, in their order. Each reader gets the section's content in p->r; the loop below checks that
 * it leaves nothing. */

MUST_CHECK static enum err read_types(struct pass *p)
{
    enum err e = read_count(p, "types", p->limits->types, 2, &p->facts.types);
    for (uint32_t i = 0; !e && i < p->facts.types; i++) {
        uint8_t form, type;
        if ((e = read_byte(p, "a type", &form)))
            return e;
        if (form == 0x4e || form == 0x4f || form == 0x50 || form == 0x5e || form == 0x5f)
            return feature_is_off(p, "garbage-collected types (GC)");
        if (form == 0x5d)
            return feature_is_off(p, "stack switching");
        if (form != 0x60)
            return broken(p, p->r.at - 1, "0x%02x is no form of a type", form);
        for (int list = 0; !e && list < 2; list++) { /* parameters, then results */
            uint32_t count;
            if ((e = read_count(p, list ? "results" : "parameters", UINT32_MAX, 1, &count)))
                return e;
            for (uint32_t j = 0; !e && j < count; j++)
                e = read_value_type(p, &type);
        }
    }
    return e;
}

/* What people meet who built for another host than this one: what they can do. */
static const char *import_hint(const struct pass *p, struct str module)
{
    static const struct {
        struct str prefix;
        const char *hint;
    } hints[] = {
        {STR_LIT("wasi_unstable"), ": the guest was built for the old snapshot of WASI; "
                                   "build it for wasi_snapshot_preview1 (wasm32-wasip1)"},
        {STR_LIT("wasi:"), ": the guest was built for WASI preview 2; build it for wasm32-wasip1"},
        {STR_LIT("__wbindgen"), ": the guest was built for a browser; build it for wasm32-wasip1"},
        {STR_LIT("gojs"), ": the guest was built for a browser; build it with GOOS=wasip1"},
    };
    for (size_t i = 0; i < LENGTH_OF(hints); i++)
        if (str_starts_with(module, hints[i].prefix))
            return hints[i].hint;
    return p->import_known(module, STR_NULL) ? ": its module is known, but has no function of this name" : "";
}

MUST_CHECK static enum err read_import(struct pass *p)
{
    enum { FUNCTION, TABLE, MEMORY, GLOBAL, TAG };
    struct str module, name;
    uint8_t kind;
    uint32_t ignored;
    enum err e;
    if ((e = read_name(p, "the module name of an import", &module)) ||
        (e = read_name(p, "the name of an import", &name)) ||
        (e = read_byte(p, "the kind of an import", &kind)))
        return e;
    const char *refused = NULL;
    switch (kind) {
    case FUNCTION: e = read_index(p, "the type", p->facts.types, &ignored); break;
    case TABLE: e = read_table_type(p, &ignored), refused = "table"; break;
    case MEMORY: e = read_limits(p, true, &ignored), refused = "memory"; break;
    case GLOBAL: e = read_global_type(p), refused = "global"; break;
    case TAG: return feature_is_off(p, "exceptions");
    default: return broken(p, p->r.at - 1, "0x%02x is no kind of import", kind);
    }
    if (e)
        return e;
    if (refused)
        return err_set(p->reterr, ERR_MODULE_REJECTED,
                       "the import %s.%s is not provided: it is a %s, only functions can be imported",
                       shown(module).text, shown(name).text, refused);
    if (!p->import_known(module, name))
        return err_set(p->reterr, ERR_MODULE_REJECTED, "the import %s.%s is not provided%s",
                       shown(module).text, shown(name).text, import_hint(p, module));
    return OK;
}

MUST_CHECK static enum err read_imports(struct pass *p)
{
    enum err e = read_count(p, "imports", p->limits->imports, 4, &p->facts.imports);
    for (uint32_t i = 0; !e && i < p->facts.imports; i++)
        e = read_import(p);
    return e;
}

MUST_CHECK static enum err read_functions(struct pass *p)
{
    uint32_t type;
    enum err e = read_count(p, "functions", p->limits->functions, 1, &p->facts.functions);
    for (uint32_t i = 0; !e && i < p->facts.functions; i++)
        e = read_index(p, "the type", p->facts.types, &type);
    return e;
}

MUST_CHECK static enum err read_tables(struct pass *p)
{
    enum err e = read_count(p, "tables", p->limits->tables, 3, &p->facts.tables);
    for (uint32_t i = 0; !e && i < p->facts.tables; i++) {
        uint32_t min;
        if (wasm_reader_left(&p->r) && p->r.bytes[p->r.at] == 0x40)
            return feature_is_off(p, "a table with an initial value (function references)");
        if ((e = read_table_type(p, &min)))
            return e;
        p->table_elements += min;
    }
    if (!e && p->table_elements > p->limits->table_elements)
        return err_set(p->reterr, ERR_MODULE_REJECTED,
                       "the module's tables start with %llu elements, at most %llu are allowed",
                       (unsigned long long)p->table_elements, (unsigned long long)p->limits->table_elements);
    return e;
}

MUST_CHECK static enum err read_memories(struct pass *p)
{
    enum err e = read_count(p, "memories", p->limits->memories, 2, &p->facts.memories);
    for (uint32_t i = 0; !e && i < p->facts.memories; i++) {
        uint32_t min_pages;
        if ((e = read_limits(p, true, &min_pages)))
            return e;
        p->facts.memory_min_bytes += min_pages * WASM_PAGE_BYTES;
    }
    if (!e && p->facts.memory_min_bytes > p->limits->memory_bytes)
        return err_set(p->reterr, ERR_MODULE_REJECTED,
                       "the module's memory starts with %llu bytes, at most %llu are allowed",
                       (unsigned long long)p->facts.memory_min_bytes,
                       (unsigned long long)p->limits->memory_bytes);
    return e;
}

MUST_CHECK static enum err read_tags(struct pass *p)
{
    return feature_is_off(p, "exceptions");
}

/* Of globals, element and data segments only the number matters here: the initial values in them are
 * expressions, and reading those is the compiler's work. */
MUST_CHECK static enum err read_count_only(struct pass *p, const char *things, uint32_t limit,
                                           size_t least_bytes, uint32_t *ret)
{
    enum err e = read_count(p, things, limit, least_bytes, ret);
    if (!e && *ret)
        p->r.at = p->r.end;
    return e;
}

MUST_CHECK static enum err read_globals(struct pass *p)
{
    return read_count_only(p, "globals", p->limits->globals, 3, &p->facts.globals);
}

MUST_CHECK static enum err read_exports(struct pass *p)
{
    static const char *const kinds[] = {"the exported function", "the exported table", "the exported memory",
                                        "the exported global"};
    const uint32_t counts[] = {p->facts.imports + p->facts.functions, p->facts.tables, p->facts.memories,
                               p->facts.globals};
    enum err e = read_count(p, "exports", p->limits->exports, 3, &p->facts.exports);
    for (uint32_t i = 0; !e && i < p->facts.exports; i++) {
        struct str name;
        uint8_t kind;
        uint32_t index;
        if ((e = read_name(p, "the name of an export", &name)) ||
            (e = read_byte(p, "the kind of an export", &kind)))
            return e;
        if (kind >= LENGTH_OF(kinds))
            return kind == 4 ? feature_is_off(p, "exceptions")
                             : broken(p, p->r.at - 1, "0x%02x is no kind of export", kind);
        e = read_index(p, kinds[kind], counts[kind], &index);
    }
    return e;
}

MUST_CHECK static enum err read_start(struct pass *p)
{
    uint32_t index;
    p->facts.has_start = true;
    return read_index(p, "the start function", p->facts.imports + p->facts.functions, &index);
}

MUST_CHECK static enum err read_elements(struct pass *p)
{
    return read_count_only(p, "element segments", p->limits->elements, 3, &p->facts.elements);
}

MUST_CHECK static enum err read_data_count(struct pass *p)
{
    p->has_data_count = true;
    return read_u32(p, "the number of data segments", &p->data_count);
}

/* The locals of function `index`, whose body p->r is narrowed to. */
MUST_CHECK static enum err read_locals(struct pass *p, uint32_t index)
{
    uint64_t locals = 0;
    uint32_t groups;
    uint8_t type;
    enum err e = read_count(p, "groups of locals", UINT32_MAX, 2, &groups);
    for (uint32_t i = 0; !e && i < groups; i++) {
        uint32_t count;
        if ((e = read_u32(p, "the number of locals", &count)) || (e = read_value_type(p, &type)))
            return e;
        locals += count;
    }
    if (!e && locals > p->limits->function_locals)
        return err_set(p->reterr, ERR_MODULE_REJECTED,
                       "function %u declares %llu locals, at most %u are allowed", index,
                       (unsigned long long)locals, p->limits->function_locals);
    return e;
}

MUST_CHECK static enum err read_body(struct pass *p, uint32_t index)
{
    size_t at = p->r.at, section_end = p->r.end;
    uint32_t size;
    enum err e = read_u32(p, "the size of a function", &size);
    if (e)
        return e;
    if (size > wasm_reader_left(&p->r))
        return broken(p, at, "function %u says %u bytes, %zu are left in the section", index, size,
                      wasm_reader_left(&p->r));
    if (size > p->limits->function_bytes)
        return err_set(p->reterr, ERR_MODULE_REJECTED,
                       "function %u is %u bytes long, at most %llu are allowed", index, size,
                       (unsigned long long)p->limits->function_bytes);
    p->facts.largest_function_bytes = MAX(p->facts.largest_function_bytes, size);
    p->r.end = p->r.at + size;
    e = read_locals(p, index);
    p->r.at = p->r.end;
    p->r.end = section_end;
    return e;
}

MUST_CHECK static enum err read_code(struct pass *p)
{
    enum err e = read_count(p, "function bodies", p->limits->functions, 3, &p->bodies);
    for (uint32_t i = 0; !e && i < p->bodies; i++)
        e = read_body(p, p->facts.imports + i);
    return e;
}

MUST_CHECK static enum err read_data(struct pass *p)
{
    return read_count_only(p, "data segments", p->limits->data_segments, 2, &p->facts.data_segments);
}

MUST_CHECK static enum err read_custom(struct pass *p)
{
    struct str name;
    enum err e = read_name(p, "the name of a custom section", &name);
    if (e)
        return e;
    p->facts.has_names |= str_eq(name, STR_LIT("name"));
    p->r.at = p->r.end;
    return OK;
}

/* By section id; `place` is the order in the file (section 5.5.15), 0 = anywhere and any number of times. */
static const struct {
    const char *name;
    int place;
    enum err (*read)(struct pass *p);
} sections[] = {
    /* clang-format off */
    [0] = {"custom", 0, read_custom},
    [1] = {"type", 1, read_types},
    [2] = {"import", 2, read_imports},
    [3] = {"function", 3, read_functions},
    [4] = {"table", 4, read_tables},
    [5] = {"memory", 5, read_memories},
    [13] = {"tag", 6, read_tags},
    [6] = {"global", 7, read_globals},
    [7] = {"export", 8, read_exports},
    [8] = {"start", 9, read_start},
    [9] = {"element", 10, read_elements},
    [12] = {"data count", 11, read_data_count},
    [10] = {"code", 12, read_code},
    [11] = {"data", 13, read_data},
    /* clang-format on */
};

MUST_CHECK static enum err read_section(struct pass *p, struct wasm_reader *file)
{
    size_t at = file->at;
    uint8_t id = file->bytes[file->at++];
    if (id >= LENGTH_OF(sections))
        return broken(p, at, "%u is no section id", id);
    uint32_t size;
    const char *name = sections[id].name;
    if (!wasm_read_u32(file, &size))
        return broken(p, file->at, "the size of the %s section is cut off or is no 32-bit LEB128 number",
                      name);
    if (!wasm_read_window(file, size, &p->r))
        return broken(p, at, "the %s section says %u bytes, %zu are left in the file", name, size,
                      wasm_reader_left(file));
    if (sections[id].place) {
        if (sections[id].place <= p->place)
            return broken(p, at, "the %s section is there twice or in the wrong order", name);
        p->place = sections[id].place;
    }
    enum err e = sections[id].read(p);
    if (e)
        return e;
    if (wasm_reader_left(&p->r))
        return broken(p, p->r.at, "the %s section has %zu bytes too many", name, wasm_reader_left(&p->r));
    return OK;
}

/* What no section can tell alone. */
MUST_CHECK static enum err check_counts(const struct pass *p, size_t end)
{
    if (p->bodies != p->facts.functions)
        return broken(p, end, "the module declares %u functions, but has the code of %u", p->facts.functions,
                      p->bodies);
    if (p->has_data_count && p->data_count != p->facts.data_segments)
        return broken(p, end, "the module announces %u data segments, but has %u", p->data_count,
                      p->facts.data_segments);
    return OK;
}

static bool looks_like_text_format(struct str s)
{
    if (str_starts_with(s, STR_LIT("\xef\xbb\xbf")))
        s = str_make(s.p + 3, s.len - 3);
    while (s.len && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\r' || s.p[0] == '\n'))
        s = str_make(s.p + 1, s.len - 1);
    return str_starts_with(s, STR_LIT("(module")) || str_starts_with(s, STR_LIT("(component")) ||
           str_starts_with(s, STR_LIT(";;")) || str_starts_with(s, STR_LIT("(;"));
}

/* What a file without the magic bytes is instead. */
static const char *other_format(struct str file)
{
    if (file.len == 0)
        return "the file is empty";
    if (str_starts_with(file, STR_LIT("\x7f\x45LF")))
        return "the file is an ELF program for a machine: compile it for WebAssembly, such as wasm32-wasip1";
    if (str_starts_with(file, STR_LIT("\x1f\x8b")))
        return "the file is compressed with gzip: send the module as it is";
    if (str_starts_with(file, STR_LIT("PK\x03\x04")) || str_starts_with(file, STR_LIT("PK\x05\x06")))
        return "the file is a zip archive: send the module that is in it";
    if (looks_like_text_format(file))
        return "the file looks like WebAssembly text (WAT): send the binary form, as wat2wasm makes it";
    return "the file is not WebAssembly: it does not begin with the bytes 00 61 73 6d";
}

/* The magic bytes, the version and the layer: a component has layer 1. */
MUST_CHECK static enum err check_header(const struct pass *p, struct str file)
{
    const unsigned char *b = (const unsigned char *)file.p;
    if (!str_starts_with(file, STR_LIT("\0asm")))
        return err_set(p->reterr, ERR_NOT_WASM, "%s", other_format(file));
    if (file.len < HEADER_BYTES)
        return broken(p, file.len, "the file ends within its header of %d bytes", HEADER_BYTES);
    unsigned version = b[4] | (unsigned)b[5] << 8, layer = b[6] | (unsigned)b[7] << 8;
    if (layer == 1)
        return err_set(p->reterr, ERR_MODULE_REJECTED,
                       "the file is a component; only core modules run here: build it for wasm32-wasip1");
    if (layer != 0 || version != 1)
        return broken(
            p, 4, "version %u, layer %u of the format is unknown, only version 1 of core modules is known",
            version, layer);
    return OK;
}

enum err module_precheck(struct str wasm, const struct precheck_limits *limits,
                         precheck_import_known *import_known, struct precheck_facts *ret_facts,
                         struct err_info *reterr)
{
    struct pass p = {.limits = limits, .import_known = import_known, .reterr = reterr};
    if (wasm.len > limits->module_bytes)
        return err_set(reterr, ERR_MODULE_TOO_LARGE, "the module is %zu bytes long, at most %llu are allowed",
                       wasm.len, (unsigned long long)limits->module_bytes);
    enum err e = check_header(&p, wasm);
    if (e)
        return e;
    struct wasm_reader file = wasm_reader_make(wasm);
    file.at = HEADER_BYTES;
    while (!e && wasm_reader_left(&file))
        e = read_section(&p, &file);
    if (!e)
        e = check_counts(&p, wasm.len);
    if (!e)
        *ret_facts = p.facts;
    return e;
}
