/* Functions that can't be used safely don't compile here. */
#ifndef WW_BASE_BANNED_H
#define WW_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With _FORTIFY_SOURCE some of them are macros already. */
#undef strcpy
#undef strcat
#undef strncat
#undef sprintf
#undef vsprintf
#undef gets

#pragma GCC poison strcpy strcat strncat sprintf vsprintf gets strtok atoi atol atoll system popen
#pragma GCC poison tmpnam mktemp

#endif
