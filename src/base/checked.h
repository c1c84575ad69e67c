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

/* The product of the dimensions of a tensor: -1 if one is negative, or if the bytes of so many
 * elements of the widest type would wrap. */
#define SWT_COUNT(...)                                                                             \
    swt_checked_count((const int64_t[]){__VA_ARGS__},                                              \
                      (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

static inline int64_t swt_checked_count(const int64_t *dims, int n) {
    const int64_t widest_bytes = 8;
    int64_t count = 1, bytes = 0;
    bool empty = false;
    for (int i = 0; i < n; i++) {
        if (dims[i] < 0)
            return -1;
        empty = empty || dims[i] == 0;
    }
    for (int i = 0; i < n && !empty; i++)
        if (!swt_checked_mul(count, dims[i], &count))
            return -1;
    return empty ? 0 : swt_checked_mul(count, widest_bytes, &bytes) ? count : -1;
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
