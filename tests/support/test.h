/* cmocka with what it needs to have been included. */
#ifndef SWT_TESTS_SUPPORT_TEST_H
#define SWT_TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
