/* Operations of the dense layers: linear layers, embedding, norms, GELU, the loss. The
 * conventions stand in swt_ops.h, which includes this. */
#ifndef SWT_OPS_DENSE_H
#define SWT_OPS_DENSE_H

#include "kernels/dropout.h"

/* ------------------------------------------------------------------ linear layers */

typedef enum swt_epilogue { SWT_EPILOGUE_NONE, SWT_EPILOGUE_RELU } swt_epilogue;

/* y = f(x w^T + bias) + residual, f identity or ReLU. */
typedef struct swt_linear_forward_args {
    void *y;              /* (N, out) */
    const void *x;        /* (N, in) */
    const void *w;        /* (out, in) */
    const void *bias;     /* (out) or NULL */
    const void *residual; /* (N, out) or NULL; may be y itself */
    int64_t N, in, out;
    swt_epilogue epilogue;
} swt_linear_forward_args;

/* dx = dy w + dresidual, and where relu_output is given, then without dresidual, dx = 0 wherever
 * relu_output <= 0: it is the ReLU's output that was this layer's input x. */
typedef struct swt_linear_backward_input_args {
    void *dx;                /* (N, in) */
    const void *dy;          /* (N, out) */
    const void *w;           /* (out, in) */
    const void *relu_output; /* (N, in) or NULL */
    const void *dresidual;   /* (N, in) or NULL; may be dx itself */
    int64_t N, in, out;
} swt_linear_backward_input_args;

/* dw = dy^T x;  dbias[o] = sum_n dy[n, o].  N = 0 gives zeros, or adds nothing. */
typedef struct swt_linear_backward_weight_args {
    float *dw;      /* (out, in) */
    float *dbias;   /* (out) or NULL */
    const void *dy; /* (N, out) */
    const void *x;  /* (N, in) */
    int64_t N, in, out;
    bool add; /* to dw and dbias */
} swt_linear_backward_weight_args;

/* ------------------------------------------------------------------ embedding */

/* x[n] = table[tokens[n]]. */
typedef struct swt_embedding_forward_args {
    void *x;               /* (N, C) */
    const void *table;     /* (V, C) */
    const int32_t *tokens; /* (N), 0 <= token < V */
    int64_t N, C, V;
} swt_embedding_forward_args;

/* dtable[v] = sum over n with tokens[n] == v, in order of n, of dx[n]. */
typedef struct swt_embedding_backward_args {
    float *dtable;         /* (V, C) */
    const void *dx;        /* (N, C) */
    const int32_t *tokens; /* (N), 0 <= token < V */
    int64_t N, C, V;
    bool add; /* to dtable */
} swt_embedding_backward_args;

/* ------------------------------------------------------------------ norms */

/* mean[n] = mean(x[n]); rstd[n] = 1 / sqrt(mean((x[n] - mean)^2) + eps);
 * y = scale ((x - mean) rstd weight + bias).
 * LayerNorm where mean is given; without it, here and in backward, RMS norm: mean is 0 in all of
 * the above, so rstd = 1 / sqrt(mean(x^2) + eps). Source: Ba, Kiros, Hinton 2016, section 3; Zhang,
 * Sennrich 2019, equation 4. */
typedef struct swt_norm_forward_args {
    void *y;             /* (N, C) */
    float *mean;         /* (N), saved for backward; NULL: RMS norm */
    float *rstd;         /* (N), saved for backward */
    const void *x;       /* (N, C) */
    const float *weight; /* (C) */
    const float *bias;   /* (C) or NULL */
    int64_t N, C;
    double eps;
    float scale; /* 1; C^-0.5 before a head that is tied to the embedding */
} swt_norm_forward_args;

/* With xhat = (x - mean) rstd, d = scale dy and g = d weight:
 * dx = rstd (g - mean_C(g) - xhat mean_C(g xhat)) + dresidual, of RMS norm without mean_C(g);
 * dweight = sum_n d xhat;  dbias = sum_n d.  The sums run over fixed blocks of 64 rows, added in
 * order. */
typedef struct swt_norm_backward_args {
    void *dx;              /* (N, C) */
    float *dweight;        /* (C) */
    float *dbias;          /* (C) or NULL */
    const void *dy;        /* (N, C) */
    const void *dresidual; /* (N, C) or NULL; may be dx itself */
    const void *x;         /* (N, C) */
    const float *weight;   /* (C) */
    const float *mean;     /* (N); NULL: RMS norm */
    const float *rstd;     /* (N) */
    void *scratch;         /* swt_norm_backward_scratch_bytes(N, C) */
    int64_t N, C;
    float scale; /* as in forward */
    bool add;    /* to dweight and dbias */
} swt_norm_backward_args;

/* -1 where the dimensions are negative or too large. */
int64_t swt_norm_backward_scratch_bytes(int64_t N, int64_t C);

/* ------------------------------------------------------------------ GELU */

/* What a feed-forward does between its two layers, dense or an expert's. */
typedef enum swt_ffn { SWT_FFN_RELU, SWT_FFN_GELU, SWT_FFN_GEGLU } swt_ffn;

/* Outputs of its first layer, wi, for F hidden features: those of GEGLU are u and v. */
static inline SWT_ON_ANY int64_t swt_wi_width(swt_ffn ffn, int64_t F) {
    return ffn == SWT_FFN_GEGLU ? 2 * F : F;
}

typedef struct swt_gelu_dims {
    int64_t blocks, rows, F; /* of a linear layer: one block of N rows */
    bool gated;              /* a row of x holds u and behind it v, both of F; else u alone */
} swt_gelu_dims;

/* Of a row of x. */
static inline SWT_ON_ANY int64_t swt_gelu_width(const swt_gelu_dims *d) {
    return d->gated ? 2 * d->F : d->F;
}

/* y = gelu(u), gated: gelu(u) v (GEGLU);
 * gelu(u) = u (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3))) / 2.
 * Where row_counts is given, the first row_counts[b] rows of block b are occupied, as an expert's
 * slots are; the others are neither read nor written, but by a backend with ops->all_slots, where
 * they mean nothing.
 * Source: Hendrycks, Gimpel 2016, section 2; gated: Shazeer 2020, section 2. */
typedef struct swt_gelu_forward_args {
    void *y;                   /* (blocks, rows, F) */
    const void *x;             /* (blocks, rows, swt_gelu_width) */
    const int32_t *row_counts; /* (blocks) or NULL */
    swt_gelu_dims dims;
} swt_gelu_forward_args;

/* du = dy gelu'(u), gated: dy v gelu'(u);  dv = dy gelu(u): in dx as u and v are in x. */
typedef struct swt_gelu_backward_args {
    void *dx;                  /* (blocks, rows, swt_gelu_width) */
    const void *dy;            /* (blocks, rows, F) */
    const void *x;             /* (blocks, rows, swt_gelu_width) */
    const int32_t *row_counts; /* (blocks) or NULL */
    swt_gelu_dims dims;
} swt_gelu_backward_args;

/* ------------------------------------------------------------------ the loss */

/* What swt_cross_entropy writes into stats. */
enum { SWT_LOSS_SUM, SWT_LOSS_CORRECT, SWT_LOSS_Z, SWT_LOSS_STATS };

/* Cross-entropy and z-loss of the output with their gradient. Over the real targets (target >= 0)
 * of the micro-batch, with lse[n] = logsumexp(logits[n]):
 * stats[SUM] = sum_n (lse[n] - logits[n, target[n]]), stats[CORRECT] = number of n whose largest
 * logit (lowest index on ties) is the target, stats[Z] = sum_n lse[n]^2;
 * dlogits[n] = ((1 + 2 z_coef lse[n]) softmax(logits[n]) - onehot(target[n])) / c->state->targets,
 * zero rows without one. The arithmetic is F32, sums are F64 in an order that N alone decides.
 * Source of the z-loss: Mesh-TensorFlow's z_loss of the softmax's cross-entropy. */
typedef struct swt_cross_entropy_args {
    void *dlogits;          /* (N, V); NULL: no gradient; or logits itself */
    double *stats;          /* (SWT_LOSS_STATS) */
    const void *logits;     /* (N, V) */
    const int32_t *targets; /* (N), target < V */
    void *scratch;          /* swt_cross_entropy_scratch_bytes(N) */
    int64_t N, V;
    float z_coef; /* of the mean over targets of lse^2 */
} swt_cross_entropy_args;

/* -1 where N is negative or too large. */
int64_t swt_cross_entropy_scratch_bytes(int64_t N);

#endif
