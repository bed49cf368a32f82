#include "base/cause.h"

#include <ctype.h>

static const struct {
    const char *name;
    int http_status;
    int exit_status;
    const char *sentence;
} table[CAUSE_COUNT] = {
#define CAUSE(name, status, cli, text) [CAUSE_##name] = {#name, status, cli, text},
#include "base/cause.def"
#undef CAUSE
};

static char names[CAUSE_COUNT][24];

__attribute__((constructor)) static void lower_names(void)
{
    for (int i = 0; i < CAUSE_COUNT; i++)
        for (size_t j = 0; table[i].name[j] && j + 1 < sizeof names[i]; j++)
            names[i][j] = (char)tolower((unsigned char)table[i].name[j]);
}

static enum cause checked(enum cause cause)
{
    return (unsigned)cause < CAUSE_COUNT ? cause : CAUSE_SANDBOX_CRASHED;
}

const char *cause_name(enum cause cause)
{
    return names[checked(cause)];
}

int cause_http_status(enum cause cause)
{
    return table[checked(cause)].http_status;
}

int cause_exit_status(enum cause cause)
{
    return table[checked(cause)].exit_status;
}

const char *cause_sentence(enum cause cause)
{
    return table[checked(cause)].sentence;
}
