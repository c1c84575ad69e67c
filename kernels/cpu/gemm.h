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

/* One block, inside a part, in its scratch: what swt_vec_gemm says, with rows <= SWT_ROWS, columns
 * <= SWT_COLUMNS and any k. start must be NULL: a long k uses it for itself. nn: b is (k, columns).
 * nt: b is (columns, k), b_row floats from row to row. */
void swt_cpu_block_nn(const swt_ctx *c, const swt_vec_gemm *p);
void swt_cpu_block_nt(const swt_ctx *c, const swt_vec_gemm *p);

/* Gemms of the same shape, one for each weight and source. Those of weight w and source s have
 * the rows (w * sources + s) * capacity ... of which row_counts[w * sources + s] are occupied; all
 * of capacity where row_counts is NULL. Others are neither read nor written. */
typedef struct swt_cpu_groups {
    int64_t weights, sources, capacity;
    const int32_t *row_counts;
} swt_cpu_groups;

/* One gemm whose N rows are all occupied: a linear layer. */
static inline swt_cpu_groups swt_cpu_one_group(int64_t N) {
    return (swt_cpu_groups){.weights = 1, .sources = 1, .capacity = N};
}

/* y = f(x w^T + bias) + residual, f = ReLU or identity. Shapes with `rows` for (weights, sources,
 * capacity), here and below; in and out are the layer's widths in all three. */
typedef struct swt_cpu_gemms_nt_args {
    float *y;              /* (rows, out) */
    const float *x;        /* (rows, in) */
    const float *w;        /* (weights, out, in) */
    const float *bias;     /* (weights, out) or NULL */
    const float *residual; /* (rows, out), possibly y itself, or NULL */
    swt_cpu_groups groups;
    int64_t in, out;
    bool relu;
} swt_cpu_gemms_nt_args;
void swt_cpu_gemms_nt(const swt_ctx *c, const swt_cpu_gemms_nt_args *a);

/* dx = dy w, and 0 wherever mask <= 0. */
typedef struct swt_cpu_gemms_nn_args {
    float *dx;             /* (rows, in) */
    const float *dy;       /* (rows, out) */
    const float *w;        /* (weights, out, in) */
    const float *mask;     /* (rows, in) or NULL */
    const float *residual; /* (rows, in), possibly dx itself, or NULL */
    swt_cpu_groups groups;
    int64_t in, out;
} swt_cpu_gemms_nn_args;
void swt_cpu_gemms_nn(const swt_ctx *c, const swt_cpu_gemms_nn_args *a);

/* Integer sums of one layer's gradients, as in swt_expert_sums. */
typedef struct swt_cpu_sums {
    int64_t *weight; /* (weights, out, in), NULL where first and last */
    int64_t *bias;   /* (weights, out), NULL there and where dbias is */
    bool exact;      /* false: there are none */
    double limit;
    bool first, last;
} swt_cpu_sums;

/* dw = dy^T x and dbias = sum of dy's rows, source by source in order; add: added to what they
 * hold. sums.exact: those of each source by itself, added to the sums; dw and dbias are written by
 * the last call alone, which finishes them. */
typedef struct swt_cpu_gemms_tn_args {
    float *dw;       /* (weights, out, in) */
    float *dbias;    /* (weights, out) or NULL */
    const float *dy; /* (rows, out) */
    const float *x;  /* (rows, in) */
    swt_cpu_groups groups;
    int64_t in, out;
    bool add; /* not with sums */
    swt_cpu_sums sums;
} swt_cpu_gemms_tn_args;
void swt_cpu_gemms_tn(const swt_ctx *c, const swt_cpu_gemms_tn_args *a);

#endif
