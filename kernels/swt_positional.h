/* The operations with their arguments by position, for checks that the judge does not make yet. On
 * its way out: each caller becomes a case of the judge. */
#ifndef SWT_POSITIONAL_H
#define SWT_POSITIONAL_H

#include "kernels/swt_ops.h"

SWT_MUST_CHECK static inline swt_status pos_linear_forward(const swt_ctx *c, void *y, const void *x,
                                                           const void *w, const void *bias,
                                                           const void *residual, int64_t N,
                                                           int64_t in, int64_t out,
                                                           swt_epilogue epilogue) {
    return swt_linear_forward(c, &(swt_linear_forward_args){.y = y,
                                                            .x = x,
                                                            .w = w,
                                                            .bias = bias,
                                                            .residual = residual,
                                                            .N = N,
                                                            .in = in,
                                                            .out = out,
                                                            .epilogue = epilogue});
}

SWT_MUST_CHECK static inline swt_status
pos_linear_backward_input(const swt_ctx *c, void *dx, const void *dy, const void *w,
                          const void *relu_output, int64_t N, int64_t in, int64_t out) {
    return swt_linear_backward_input(
        c,
        &(swt_linear_backward_input_args){
            .dx = dx, .dy = dy, .w = w, .relu_output = relu_output, .N = N, .in = in, .out = out});
}

SWT_MUST_CHECK static inline swt_status
pos_linear_backward_weight(const swt_ctx *c, float *dw, float *dbias, const void *dy, const void *x,
                           int64_t N, int64_t in, int64_t out, int add) {
    return swt_linear_backward_weight(c, &(swt_linear_backward_weight_args){.dw = dw,
                                                                            .dbias = dbias,
                                                                            .dy = dy,
                                                                            .x = x,
                                                                            .N = N,
                                                                            .in = in,
                                                                            .out = out,
                                                                            .add = add != 0});
}

SWT_MUST_CHECK static inline swt_status pos_embedding_forward(const swt_ctx *c, void *x,
                                                              const void *table,
                                                              const int32_t *tokens, int64_t N,
                                                              int64_t C, int64_t V) {
    return swt_embedding_forward(
        c, &(swt_embedding_forward_args){
               .x = x, .table = table, .tokens = tokens, .N = N, .C = C, .V = V});
}

SWT_MUST_CHECK static inline swt_status pos_embedding_backward(const swt_ctx *c, float *dtable,
                                                               const void *dx,
                                                               const int32_t *tokens, int64_t N,
                                                               int64_t C, int64_t V, int add) {
    return swt_embedding_backward(
        c,
        &(swt_embedding_backward_args){
            .dtable = dtable, .dx = dx, .tokens = tokens, .N = N, .C = C, .V = V, .add = add != 0});
}

SWT_MUST_CHECK static inline swt_status pos_norm_forward(const swt_ctx *c, void *y, float *mean,
                                                         float *rstd, const void *x,
                                                         const float *weight, const float *bias,
                                                         int64_t N, int64_t C, double eps) {
    return swt_norm_forward(c, &(swt_norm_forward_args){.y = y,
                                                        .mean = mean,
                                                        .rstd = rstd,
                                                        .x = x,
                                                        .weight = weight,
                                                        .bias = bias,
                                                        .N = N,
                                                        .C = C,
                                                        .eps = eps});
}

SWT_MUST_CHECK static inline swt_status
pos_norm_backward(const swt_ctx *c, void *dx, float *dweight, float *dbias, const void *dy,
                  const void *dresidual, const void *x, const float *mean, const float *rstd,
                  const float *weight, void *scratch, int64_t N, int64_t C, int add) {
    return swt_norm_backward(c, &(swt_norm_backward_args){.dx = dx,
                                                          .dweight = dweight,
                                                          .dbias = dbias,
                                                          .dy = dy,
                                                          .dresidual = dresidual,
                                                          .x = x,
                                                          .weight = weight,
                                                          .mean = mean,
                                                          .rstd = rstd,
                                                          .scratch = scratch,
                                                          .N = N,
                                                          .C = C,
                                                          .add = add != 0});
}

SWT_MUST_CHECK static inline swt_status pos_attention_forward(const swt_ctx *c, void *y, float *lse,
                                                              const void *qkv,
                                                              const swt_attention_dims *dims) {
    return swt_attention_forward(
        c, &(swt_attention_forward_args){.y = y, .lse = lse, .qkv = qkv, .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status pos_attention_backward(const swt_ctx *c, void *dqkv,
                                                               const void *dy, const void *y,
                                                               const float *lse, const void *qkv,
                                                               const swt_attention_dims *dims) {
    return swt_attention_backward(
        c, &(swt_attention_backward_args){
               .dqkv = dqkv, .dy = dy, .qkv = qkv, .y = y, .lse = lse, .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status pos_cross_entropy(const swt_ctx *c, void *dlogits,
                                                          double *stats, const void *logits,
                                                          const int32_t *targets, void *scratch,
                                                          int64_t N, int64_t V) {
    return swt_cross_entropy(c, &(swt_cross_entropy_args){.dlogits = dlogits,
                                                          .stats = stats,
                                                          .logits = logits,
                                                          .targets = targets,
                                                          .scratch = scratch,
                                                          .N = N,
                                                          .V = V});
}

SWT_MUST_CHECK static inline swt_status pos_state_advance(const swt_ctx *c,
                                                          const swt_schedule *schedule) {
    return swt_state_advance(c, &(swt_state_advance_args){.schedule = *schedule});
}

SWT_MUST_CHECK static inline swt_status pos_count_targets(const swt_ctx *c, int64_t *count,
                                                          const int32_t *targets, int64_t n) {
    return swt_count_targets(c,
                             &(swt_count_targets_args){.count = count, .targets = targets, .n = n});
}

SWT_MUST_CHECK static inline swt_status pos_grad_add(const swt_ctx *c, int64_t *sum,
                                                     const float *grad, int64_t n, double limit,
                                                     bool first) {
    return swt_grad_add(
        c, &(swt_grad_add_args){.sum = sum, .grad = grad, .n = n, .limit = limit, .first = first});
}

SWT_MUST_CHECK static inline swt_status pos_grad_finish(const swt_ctx *c, float *grad,
                                                        const int64_t *sum, int64_t n) {
    return swt_grad_finish(c, &(swt_grad_finish_args){.grad = grad, .sum = sum, .n = n});
}

SWT_MUST_CHECK static inline swt_status pos_grad_squares(const swt_ctx *c, double *squares,
                                                         const float *grad, const swt_span *spans,
                                                         int64_t n_spans) {
    return swt_grad_squares(
        c, &(swt_grad_squares_args){
               .squares = squares, .grad = grad, .spans = spans, .n_spans = n_spans});
}

SWT_MUST_CHECK static inline swt_status pos_state_clip(const swt_ctx *c, const double *squares,
                                                       int64_t n, const int64_t *nonfinite_ranks,
                                                       double max_norm) {
    return swt_state_clip(c, &(swt_state_clip_args){.squares = squares,
                                                    .nonfinite_ranks = nonfinite_ranks,
                                                    .n = n,
                                                    .max_norm = max_norm});
}

SWT_MUST_CHECK static inline swt_status pos_adam(const swt_ctx *c, float *param, float *m, float *v,
                                                 const float *grad, int64_t n,
                                                 const swt_adam_hyper *hyper) {
    return swt_adam(
        c, &(swt_adam_args){.param = param, .m = m, .v = v, .grad = grad, .n = n, .hyper = *hyper});
}

SWT_MUST_CHECK static inline swt_status pos_sgd(const swt_ctx *c, float *param, const float *grad,
                                                int64_t n) {
    return swt_sgd(c, &(swt_sgd_args){.param = param, .grad = grad, .n = n});
}

SWT_MUST_CHECK static inline swt_status pos_cast(const swt_ctx *c, void *to, const float *from,
                                                 int64_t n) {
    return swt_cast(c, &(swt_cast_args){.to = to, .from = from, .n = n});
}

#endif
