/* Functions that can't be used safely don't compile here. */
#ifndef WW_BASE_BANNED_H
#define WW_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC poison strcpy strcat strncat sprintf vsprintf gets strtok atoi atol atoll system popen
#pragma GCC poison tmpnam mktemp

#endif
