/* The operations of kernels/swt_ops.h once more, as scalar loops over doubles, written from the
 * formulas and never made faster: the judge of every backend. Letters, shapes and names are
 * swt_ops.h's. oracle_dense.c, oracle_moe.c. */
#ifndef SWT_JUDGE_ORACLE_H
#define SWT_JUDGE_ORACLE_H

#include "kernels/swt_ops.h"

/* ------------------------------------------------------------------ dense layers */

void swt_oracle_linear_forward(double *y, const double *x, const double *w, const double *bias,
                               const double *residual, int64_t N, int64_t in, int64_t out,
                               bool relu);
void swt_oracle_linear_backward_input(double *dx, const double *dy, const double *w,
                                      const double *relu_output, int64_t N, int64_t in,
                                      int64_t out);
/* Adds to dw and dbias. */
void swt_oracle_linear_backward_weight(double *dw, double *dbias, const double *dy, const double *x,
                                       int64_t N, int64_t in, int64_t out);

/* Adds to dtable. */
void swt_oracle_embedding_backward(double *dtable, const double *dx, const int32_t *tokens,
                                   int64_t N, int64_t C);

/* mean NULL: RMS norm; bias, dbias and dresidual may be NULL. */
void swt_oracle_norm_forward(double *y, double *mean, double *rstd, const double *x,
                             const double *weight, const double *bias, int64_t N, int64_t C,
                             double eps, double scale);
/* Adds to dweight and dbias. */
void swt_oracle_norm_backward(double *dx, double *dweight, double *dbias, const double *dy,
                              const double *dresidual, const double *x, const double *mean,
                              const double *rstd, const double *weight, int64_t N, int64_t C,
                              double scale);

void swt_oracle_gelu_forward(double *y, const double *x, int64_t N, int64_t F, bool gated);
void swt_oracle_gelu_backward(double *dx, const double *dy, const double *x, int64_t N, int64_t F,
                              bool gated);

/* The factor of a number, 0 or mask->scale. row is counted from the mask's first, and `before`
 * numbers of draws are those of other rows of the same number. */
double swt_oracle_dropout(const swt_dropout_mask *mask, uint64_t seed, int64_t step, int64_t row,
                          int64_t column, int64_t before);

/* Shapes as in swt_attention_forward_args; bias, key_lengths and dbias may be NULL. */
typedef struct swt_oracle_attention {
    uint64_t seed; /* this and the step: of dropout */
    int64_t step;
    const double *q, *k, *v, *bias;
    const int32_t *key_lengths;
    const swt_attention_dims *d;
} swt_oracle_attention;

typedef struct swt_oracle_attention_gradients {
    double *dq, *dk, *dv, *dbias;
} swt_oracle_attention_gradients;

void swt_oracle_attention_forward(double *y, double *lse, const swt_oracle_attention *a);
/* Adds to the gradients. */
void swt_oracle_attention_backward(const swt_oracle_attention_gradients *g, const double *dy,
                                   const double *y, const double *lse,
                                   const swt_oracle_attention *a);

/* The bucket of a distance by the formula, with a logarithm: swt_bias_bucket's judge. */
int swt_oracle_bias_bucket(int distance, bool both_ways);

/* stats as swt_cross_entropy; dlogits may be NULL. targets_of_batch is state.targets. */
void swt_oracle_cross_entropy(double *dlogits, double stats[SWT_LOSS_STATS], const double *logits,
                              const int32_t *targets, int64_t targets_of_batch, int64_t N,
                              int64_t V, double z_coef);

/* logsumexp of n numbers, and the index of the largest, lowest on ties, NaN as -infinity. */
double swt_oracle_logsumexp(const double *z, int64_t n);
int32_t swt_oracle_argmax(const double *z, int64_t n);

/* ------------------------------------------------------------------ the switch layer */

/* A switch layer on one rank: one group, room for every token, F = 2 C, dropping by position,
 * dropped tokens 0, gate scaled, no jitter, training, block 3, micro-batch 5, loss scales 0. */
swt_moe_dims swt_oracle_moe_dims(int64_t N, int64_t C, int64_t E);

/* The factors of the router's input, (N, C): 1 where there is no jitter. */
void swt_oracle_jitter(double *factor, const swt_moe_dims *dims, uint64_t seed, int64_t step);

/* z (N, E), probs (N, E), lse (N) from h (N, C) and the jitter's factors (N, C). */
void swt_oracle_router_forward(double *z, double *probs, double *lse, const double *h,
                               const double *factor, const double *w, const double *bias,
                               const swt_moe_dims *dims);

/* As swt_router_assign, with the keys of random dropping from seed and step. */
void swt_oracle_router_assign(int32_t *slot, int32_t *kept_counts, int32_t *group_counts,
                              const int32_t *expert, const float *gate, const swt_moe_dims *dims,
                              uint64_t seed, int64_t step);

void swt_oracle_router_losses(double *stats, const double *probs, const double *lse,
                              const int32_t *expert, const int32_t *kept_counts,
                              const int32_t *group_counts, const swt_moe_dims *dims);

/* Also gives dz (N, E). Adds to dh; overwrites dw and dbias (NULL without). */
void swt_oracle_router_backward(double *dz, double *dh, double *dw, double *dbias,
                                const double *dgate, const double *h, const double *factor,
                                const double *w, const double *probs, const double *lse,
                                const int32_t *expert, const double *gate,
                                const int32_t *group_counts, const swt_moe_dims *dims);

/* y = residual (NULL: 0) + s o; tokens of other rounds are left alone. */
void swt_oracle_combine_forward(double *y, const double *residual, const double *recv,
                                const double *h, const int32_t *expert, const double *gate,
                                const int32_t *slot, const swt_moe_dims *dims, int64_t first_slot);
/* Overwrites dgate and dh; of drecv the occupied slots. dgate of every token: what
 * swt_combine_backward and swt_dispatch_backward write between them. */
void swt_oracle_combine_backward(double *drecv, double *dgate, double *dh, const double *dy,
                                 const double *recv, const double *h, const int32_t *expert,
                                 const double *gate, const int32_t *slot, const swt_moe_dims *dims);

#endif
