#include "module/known_imports.h"

static const struct str wasi_functions[] = {
#define WASI(name, signature, may_wait) {#name, sizeof(#name) - 1},
#include "sandbox/wasi.def"
#undef WASI
};

bool module_import_is_known(struct str module, struct str name)
{
    if (!str_eq(module, STR_LIT("wasi_snapshot_preview1")))
        return false;
    if (!name.p)
        return true;
    for (size_t i = 0; i < LENGTH_OF(wasi_functions); i++)
        if (str_eq(name, wasi_functions[i]))
            return true;
    return false;
}
