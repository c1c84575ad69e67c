/* Matrix products of one part, on the calling thread (oneDNN). Row-major; legal for empty shapes: a
 * product over nothing is zero. accumulate: add to the output instead of overwriting it. Call them
 * inside a part of swt_cpu_run_parts only, which is what keeps oneDNN on one thread.
 * Errors: MEMORY, INTERNAL.                                                                      */
#ifndef SWT_CPU_PRODUCT_H
#define SWT_CPU_PRODUCT_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* y = x w^T.  Shapes: y (n, out), x (n, in), w (out, in). */
SWT_MUST_CHECK swt_status swt_cpu_product_nt(float *y, const float *x, const float *w, int64_t n,
                                             int64_t in, int64_t out, bool accumulate);

/* dx = dy w.  Shapes: dx (n, in), dy (n, out), w (out, in). */
SWT_MUST_CHECK swt_status swt_cpu_product_nn(float *dx, const float *dy, const float *w, int64_t n,
                                             int64_t in, int64_t out, bool accumulate);

/* dw = dy^T x, for `rows` of the outputs: dy points at the first of their columns.
 * Shapes: dw (rows, in), dy (n, rows) with dy_stride floats from row to row, x (n, in). */
SWT_MUST_CHECK swt_status swt_cpu_product_tn(float *dw, const float *dy, int64_t dy_stride,
                                             const float *x, int64_t n, int64_t in, int64_t rows,
                                             bool accumulate);

#endif
