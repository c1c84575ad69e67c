/* Time for measuring. */
#ifndef SWT_BASE_CLOCK_H
#define SWT_BASE_CLOCK_H

#include <time.h>

/* Milliseconds since a fixed moment; never goes back. */
static inline double swt_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

#endif
