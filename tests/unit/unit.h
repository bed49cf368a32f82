/* cmocka with what it wants to stand before it. */
#ifndef WW_TESTS_UNIT_H
#define WW_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
