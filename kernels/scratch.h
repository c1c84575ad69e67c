/* How an operation divides its scratch into pieces. */
#ifndef SWT_SCRATCH_H
#define SWT_SCRATCH_H

#include "base/checked.h"

/* The next piece of scratch, from a multiple of 64 bytes on. */
static inline int64_t swt_scratch_piece(int64_t *end, int64_t bytes) {
    const int64_t start = *end;
    *end += swt_ceil_div(bytes, 64) * 64;
    return start;
}

#endif
