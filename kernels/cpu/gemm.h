/* Gemms (products of matrices) of the layers, in blocks that stay in the second-level cache.
 * Row-major; legal for empty shapes: a gemm over nothing is zero.
 *
 * Bits: an output is one chain of multiply-adds over k in blocks of SWT_STEPS (nt, nn), so that how
 * rows and columns are cut cannot matter; a weight's gradient (tn) sums over rows in blocks of
 * SWT_SUM_ROWS, added in order. */
#ifndef SWT_CPU_GEMM_H
#define SWT_CPU_GEMM_H

#include "kernels/cpu/cpu.h"

enum {
    SWT_ROWS = 512,    /* most rows of a block */
    SWT_COLUMNS = 64,  /* most columns of a block */
    SWT_STEPS = 512,   /* of k at a time: 128 KiB of b */
    SWT_SUM_ROWS = 256 /* rows that a weight's gradient sums at a time */
};

/* One block, inside a part, in its scratch: p->c = ... as in swt_vec_gemm, with p->rows <=
 * SWT_ROWS, p->columns <= SWT_COLUMNS and any k; start is the block's own and must be NULL. nn: b
 * is (k, columns). nt: b is (columns, k), b_step floats from row to row. */
void swt_cpu_block_nn(const swt_ctx *c, const swt_vec_gemm *p);
void swt_cpu_block_nt(const swt_ctx *c, const swt_vec_gemm *p);

/* Gemms of the same shape, one for each weight and source. Those of weight w and source s have
 * the rows (w * sources + s) * capacity ... of which rows[w * sources + s] are occupied; all of
 * capacity where rows is NULL. Others are neither read nor written. */
typedef struct swt_cpu_groups {
    int64_t weights, sources, capacity;
    const int32_t *rows;
} swt_cpu_groups;

/* One gemm whose N rows are all occupied: a linear layer. */
static inline swt_cpu_groups swt_cpu_one_group(int64_t N) {
    return (swt_cpu_groups){.weights = 1, .sources = 1, .capacity = N};
}

/* y = f(x w^T + bias) + residual, f = ReLU or identity.
 * Shapes: y, residual (weights, sources, capacity, out), x (..., in), w (weights, out, in), bias
 * (weights, out). bias and residual may be NULL, residual y itself. */
void swt_cpu_gemms_nt(const swt_ctx *c, const swt_cpu_groups *g, float *y, const float *x,
                      const float *w, const float *bias, const float *residual, bool relu,
                      int64_t in, int64_t out);

/* dx = dy w, and 0 wherever mask <= 0. Shapes: dx, mask (weights, sources, capacity, in), dy (...,
 * out), w (weights, out, in). mask may be NULL. */
void swt_cpu_gemms_nn(const swt_ctx *c, const swt_cpu_groups *g, float *dx, const float *dy,
                      const float *w, const float *mask, int64_t in, int64_t out);

/* dw = dy^T x and dbias = sum of dy's rows, source by source in order; add: added to what they
 * hold. Shapes: dw (weights, out, in), dbias (weights, out) or NULL, dy, x as above. */
void swt_cpu_gemms_tn(const swt_ctx *c, const swt_cpu_groups *g, float *dw, float *dbias,
                      const float *dy, const float *x, int64_t in, int64_t out, bool add);

/* Integer sums as in swt_expert_sums. Shapes: sum (weights, out, in), bias_sum (weights, out). */
typedef struct swt_cpu_sums {
    int64_t *sum, *bias_sum; /* NULL where first and last */
    double limit;
    bool first, last;
} swt_cpu_sums;

/* The same of each source by itself, added to the sums; last: dw and dbias (or NULL) are finished,
 * else they are not written. */
void swt_cpu_gemms_tn_sums(const swt_ctx *c, const swt_cpu_groups *g, const swt_cpu_sums *sums,
                           float *dw, float *dbias, const float *dy, const float *x, int64_t in,
                           int64_t out);

#endif
