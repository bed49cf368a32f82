/* The templates and the files of the pages. They are in the program: CMake makes web/files.inc of web/templates/ and
 * web/static/. */
#ifndef WW_WEB_FILE_H
#define WW_WEB_FILE_H

#include "base/str.h"

struct web_file {
    const char *name; /* "templates/base.html" */
    const char *hash; /* of the bytes: 16 hexadecimal digits */
    struct str bytes;
};

extern const struct web_file web_files[];
extern const size_t web_file_count;

/* NULL: there is none. */
const struct web_file *web_file_find(struct str name);

#endif
