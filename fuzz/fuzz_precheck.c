/* The first look at a module, fed with anything. What it lets pass keeps the limits; what it refuses has
 * one of the promised codes and a sentence. */
#include "module/known_imports.h"
#include "module/precheck.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct precheck_limits limits = precheck_limits_default(MIB);
    limits.module_bytes = 2048;
    limits.function_bytes = 512;
    limits.types = limits.functions = limits.exports = 64;
    struct precheck_facts facts = {0};
    struct err_info info = {0};
    switch (module_precheck(str_make(data, size), &limits, module_import_is_known, &facts, &info)) {
    case OK:
        WW_ASSERT(size >= 8 && size <= limits.module_bytes);
        WW_ASSERT(facts.types <= limits.types && facts.functions <= limits.functions);
        WW_ASSERT(facts.exports <= limits.exports && facts.memories <= limits.memories);
        WW_ASSERT(facts.memory_min_bytes <= limits.memory_bytes);
        WW_ASSERT(facts.largest_function_bytes <= limits.function_bytes);
        break;
    case ERR_NOT_WASM:
    case ERR_MODULE_INVALID:
    case ERR_MODULE_REJECTED:
    case ERR_MODULE_TOO_LARGE:
        WW_ASSERT(info.text[0] && !facts.types && !facts.has_start);
        for (const char *c = info.text; *c; c++)
            WW_ASSERT(*c >= ' ' && *c <= '~');
        break;
    default: WW_ASSERT(false && "a code that the header does not promise");
    }
    return 0;
}
