#include "base/err.h"

#include <ctype.h>
#include <stdarg.h>

enum { NO_RETRY, RETRY };

static const struct {
    const char *name;
    int status;
    int retry;
    const char *sentence;
} table[ERR_COUNT] = {
    [OK] = {"OK", 200, NO_RETRY, "fine"},
#define ERR(name, status, retry, text) [ERR_##name] = {#name, status, retry, text},
#include "base/err.def"
#undef ERR
};

static char codes[ERR_COUNT][32];

__attribute__((constructor)) static void lower_names(void)
{
    for (int i = 0; i < ERR_COUNT; i++)
        for (size_t j = 0; table[i].name[j] && j + 1 < sizeof codes[i]; j++)
            codes[i][j] = (char)tolower((unsigned char)table[i].name[j]);
}

static enum err checked(enum err code)
{
    return (unsigned)code < ERR_COUNT ? code : ERR_INTERNAL;
}

enum err err_set(struct err_info *info, enum err code, const char *fmt, ...)
{
    if (!info)
        return code;
    info->code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(info->text, sizeof info->text, fmt, ap);
    va_end(ap);
    return code;
}

const char *err_name(enum err code)
{
    return table[checked(code)].name;
}

const char *err_code(enum err code)
{
    return codes[checked(code)];
}

int err_status(enum err code)
{
    return table[checked(code)].status;
}

bool err_may_retry(enum err code)
{
    return table[checked(code)].retry == RETRY;
}

const char *err_sentence(enum err code)
{
    return table[checked(code)].sentence;
}

const char *err_text(const struct err_info *info)
{
    return info->text[0] ? info->text : err_sentence(info->code);
}

const char *err_told(const struct err_info *info)
{
    bool is_ours = info->code == ERR_INTERNAL || info->code == ERR_STORE_DOWN || info->code == ERR_DISK_FAULT;
    return is_ours ? err_sentence(info->code) : err_text(info);
}
