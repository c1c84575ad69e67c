/* Arithmetic on sizes that come from outside (file contents, options): false where it would wrap.
 */
#ifndef SWT_BASE_CHECKED_H
#define SWT_BASE_CHECKED_H

#include "base/on_any.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool swt_checked_mul(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool swt_checked_add(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

static inline SWT_ON_ANY int64_t swt_ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static inline SWT_ON_ANY int64_t swt_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline SWT_ON_ANY int64_t swt_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

#endif
