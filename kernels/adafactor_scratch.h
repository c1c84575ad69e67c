/* What both backends have of adafactor: its scratch, and what is made of its sums. */
#ifndef SWT_ADAFACTOR_SCRATCH_H
#define SWT_ADAFACTOR_SCRATCH_H

#include "kernels/scratch.h"
#include "kernels/swt_ops.h"

#include <float.h>
#include <math.h>

/* Rows of a block: the columns' sums are made block by block. */
enum { SWT_ADAFACTOR_ROWS = 64 };

/* Offsets in bytes, multiples of 64. What a row or a column multiplies g with is in its scale: u =
 * grad row_scale col_scale. */
typedef struct swt_adafactor_scratch {
    int64_t blocks;        /* of a tensor */
    int64_t columns;       /* double (n, blocks, cols) sums of grad^2 */
    int64_t param_squares; /* double (n, rows) */
    int64_t u_squares;     /* double (n, rows) */
    int64_t row_scale;     /* float (n, rows) */
    int64_t col_scale;     /* float (n, cols) */
    int64_t step;          /* float (n) */
    int64_t bytes;         /* of all */
} swt_adafactor_scratch;

static inline swt_adafactor_scratch swt_adafactor_scratch_of(int64_t n, int64_t rows,
                                                             int64_t cols) {
    enum { FLOAT = sizeof(float), DOUBLE = sizeof(double) };
    swt_adafactor_scratch s;
    s.blocks = swt_ceil_div(rows, SWT_ADAFACTOR_ROWS);
    s.bytes = 0;
    s.columns = swt_scratch_piece(&s.bytes, n * s.blocks * cols * DOUBLE);
    s.param_squares = swt_scratch_piece(&s.bytes, n * rows * DOUBLE);
    s.u_squares = swt_scratch_piece(&s.bytes, n * rows * DOUBLE);
    s.row_scale = swt_scratch_piece(&s.bytes, n * rows * FLOAT);
    s.col_scale = swt_scratch_piece(&s.bytes, n * cols * FLOAT);
    s.step = swt_scratch_piece(&s.bytes, n * FLOAT);
    return s;
}

/* d of the step under way. */
static inline SWT_ON_ANY double swt_adafactor_keep(const swt_step_state *state) {
    return 1.0 - pow((double)state->step, -0.8);
}

/* A factor that was `old`, after a step with this mean of g^2. */
static inline SWT_ON_ANY float swt_adafactor_factor(double keep, float old, double mean_square) {
    return (float)fmin(keep * (double)old + (1.0 - keep) * (mean_square + 1e-30), (double)FLT_MAX);
}

/* What param loses of each u, by the means of u^2 and of param^2. */
static inline SWT_ON_ANY float swt_adafactor_step(const swt_step_state *state,
                                                  const swt_adafactor_hyper *h, double mean_u,
                                                  double mean_param) {
    const double size = h->scale_parameter ? fmax(1e-3, sqrt(mean_param)) : 1.0;
    return (float)(state->lr * size / fmax(1.0, sqrt(mean_u) / h->clip_update));
}

#endif
