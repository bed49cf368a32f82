#include "web/file.h"

const struct web_file web_files[] = {
#define WEB_FILE(name, hash, text) {name, hash, STR_LIT(text)},
#include "web/files.inc"
#undef WEB_FILE
};
const size_t web_file_count = LENGTH_OF(web_files);

const struct web_file *web_file_find(struct str name)
{
    for (size_t i = 0; i < web_file_count; i++)
        if (str_eq(str_of(web_files[i].name), name))
            return &web_files[i];
    return NULL;
}
