/* The vector code: rows, gemms, heads and updates in one table, compiled once per instruction
 * set from vec.c.
 *
 * All are pure functions of their arguments: no alignment is assumed, any n >= 0 is legal, outputs
 * may be an input itself (the same address) where both have the same shape. Sums run in an order
 * that n alone decides. An elementwise function gives an element the same bits wherever it stands
 * in its row.
 *
 * To add a primitive: a slot here, a static function of the slot's name in one of vec.c's parts
 * (rows.h, dropout.h, gemm.h, update.h, attention.h; tile.h has what they share), a line in vec.c's
 * table.
 */
#ifndef SWT_CPU_VEC_H
#define SWT_CPU_VEC_H

#include "kernels/cpu/vec/dropout_row.h"
#include "kernels/swt_ops.h"

#include <stdbool.h>
#include <stdint.h>

/* One head of one sequence. Row t of each tensor starts at base + t * stride. */
typedef struct swt_vec_head {
    const float *q, *k, *v;
    int64_t q_stride, kv_stride;
    int64_t y_stride; /* of y and dy */
    int64_t Tq, Tk;   /* queries, and keys that any of them sees: both >= 1 */
    int64_t D;        /* 1 <= D <= SWT_HEAD_WIDTH_MAX */
    bool causal;      /* query i sees the keys up to i alone; then Tk <= Tq */
    float scale;
    const float *bias;              /* (SWT_BIAS_DISTANCES) or NULL */
    const swt_vec_dropout *dropout; /* of the weights, or NULL */
    /* From this head's rows to those of the head that will probably be next, in floats: its tensors
     * are fetched into the cache meanwhile. 0: none. */
    int64_t next_q, next_kv, next_y;
} swt_vec_head;

/* Its gradients and what they are made of. */
typedef struct swt_vec_head_backward {
    const swt_vec_head *head;
    float *dq;           /* rows as q */
    float *dk, *dv;      /* rows as k and v */
    const float *dy, *y; /* rows of D */
    const float *lse;    /* (Tq) */
    float *dbias;        /* (SWT_BIAS_DISTANCES) of this head of this sequence, or NULL */
} swt_vec_head_backward;

/* The scalars of one Adam update, rounded once from the state's doubles:
 * param = param * keep - rate * m / (sqrt(v * v_scale) + eps). */
typedef struct swt_vec_adam {
    float clip, beta1, one_minus_beta1, beta2, one_minus_beta2, keep, rate, v_scale, eps;
} swt_vec_adam;

/* One gemm, out = [f(start + a b + bias)]_mask + residual: f = ReLU or identity, and []_mask is 0
 * wherever mask <= 0. Each sum over k is one chain in order. */
typedef struct swt_vec_gemm {
    float *out;            /* (rows, columns) */
    const float *a;        /* (rows, k) */
    const float *b;        /* (k, columns) */
    const float *start;    /* (rows, columns), possibly out itself, or NULL */
    const float *bias;     /* (columns) or NULL */
    const float *mask;     /* (rows, columns) or NULL */
    const float *residual; /* (rows, columns), possibly out itself, or NULL */
    int64_t rows, columns, k;
    int64_t out_row;      /* floats from a row to the next: of out, mask and residual */
    int64_t a_row, a_col; /* of a, and from a column to the next */
    int64_t b_row, start_row;
    bool relu;
} swt_vec_gemm;

/* What a part may use besides its stack, which a user may have made small (ulimit -s,
 * OMP_STACKSIZE). */
enum { SWT_SCRATCH_BYTES = 256 << 10 };

typedef struct swt_vec {
    const char *name; /* "plain", "avx2", "avx512" */

    /* Rows (rows.h). */
    float (*dot)(const float *x, const float *y, int64_t n);
    float (*max)(const float *x, int64_t n); /* -infinity if n = 0 */
    /* y += s x */
    void (*axpy)(float *y, const float *x, float s, int64_t n);
    /* y = r + s x; without r where that is NULL */
    void (*scale_add)(float *y, const float *r, const float *x, float s, int64_t n);
    /* y = s x */
    void (*scale)(float *y, const float *x, float s, int64_t n);
    /* p = softmax(x); returns logsumexp(x). p may be NULL. n >= 1. */
    float (*softmax)(float *p, const float *x, int64_t n);
    /* sum[i] = sum over rows of x[row * stride + i], i < n; add: is added to sum. */
    void (*column_sum)(float *sum, const float *x, int64_t rows, int64_t stride, int64_t n,
                       bool add);
    /* Rows first ... end - 1 of swt_norm_forward. */
    void (*norm_forward)(const swt_norm_forward_args *a, int64_t first, int64_t end);
    /* The same of swt_norm_backward: dx; dweight += sum dy xhat and dbias += sum dy, both (C). */
    void (*norm_backward)(const swt_norm_backward_args *a, int64_t first, int64_t end,
                          float *dweight, float *dbias);
    /* y = gelu(u), times v where that is given. */
    void (*gelu_forward)(float *y, const float *u, const float *v, int64_t n);
    /* As in swt_gelu_backward of one row: dv and v are NULL where it is not gated. */
    void (*gelu_backward)(float *du, float *dv, const float *dy, const float *u, const float *v,
                          int64_t n);

    /* y = residual + m x of one row, without residual where that is NULL (dropout.h). */
    void (*dropout)(float *y, const float *residual, const float *x, int64_t n,
                    const swt_vec_dropout *d);

    /* Gemms (gemm.h). */
    void (*gemm)(const swt_vec_gemm *p);
    /* y[c * y_stride + r] = x[r * x_stride + c] for r < rows, c < columns */
    void (*transpose)(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t rows,
                      int64_t columns);

    /* The update (update.h). */
    void (*adam)(float *param, float *m, float *v, const float *grad, int64_t n,
                 const swt_vec_adam *a);
    /* sum = q (first) or sum += q with q = rint(grad * 2^48), 0 for an element that is not finite
     * or has |q| > limit. Returns false if there was one. */
    bool (*grad_add)(int64_t *sum, const float *grad, int64_t n, double limit, bool first);
    /* grad = sum * 2^-48 */
    void (*grad_finish)(float *grad, const int64_t *sum, int64_t n);
    double (*sum_squares)(const float *x, int64_t n);
    /* Of a row of n: columns += grad^2, each in F64; returns the row's sum. */
    double (*factor_squares)(double *columns, const float *grad, int64_t n);
    /* The sum of u^2, u = grad row_scale col_scale. */
    double (*factored_squares)(const float *grad, float row_scale, const float *col_scale,
                               int64_t n);
    /* param -= step u */
    void (*factored_update)(float *param, const float *grad, float row_scale,
                            const float *col_scale, float step, int64_t n);

    /* One head (attention.h); formulas in ops_dense.h. Shapes: y rows of D, lse (Tq). scratch: of
     * SWT_SCRATCH_BYTES, aligned to 64. */
    void (*attention_forward)(float *y, float *lse, const swt_vec_head *head, void *scratch);
    void (*attention_backward)(const swt_vec_head_backward *a, void *scratch);
} swt_vec;

extern const swt_vec swt_vec_plain;
#ifdef SWT_X86
extern const swt_vec swt_vec_avx2, swt_vec_avx512;
#endif

#endif
