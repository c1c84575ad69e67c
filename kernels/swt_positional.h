/* The operations with their arguments by position, for checks that the judge does not make yet. On
 * its way out: each caller becomes a case of the judge. */
#ifndef SWT_POSITIONAL_H
#define SWT_POSITIONAL_H

#include "kernels/swt_ops.h"

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
