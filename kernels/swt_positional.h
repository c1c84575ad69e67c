/* The operations with their arguments by position, for checks that the judge does not make yet. On
 * its way out: each caller becomes a case of the judge. */
#ifndef SWT_POSITIONAL_H
#define SWT_POSITIONAL_H

#include "base/checked.h"
#include "kernels/swt_ops.h"

/* Causal self-attention of qkv (B, T, 3 H D): columns q, then k, then v. */
typedef struct pos_attention_dims {
    int64_t B, T, H, D;
    float scale;
} pos_attention_dims;

/* Elements of so many parts of a row; 0 where they cannot be counted. */
static inline int64_t pos_row(const pos_attention_dims *d, int64_t parts) {
    int64_t n = 0;
    return d->H >= 0 && d->D >= 0 && swt_checked_mul(d->H, d->D, &n) &&
                   swt_checked_mul(n, parts, &n)
               ? n
               : 0;
}

static inline swt_attention_dims pos_packed(const pos_attention_dims *d) {
    return (swt_attention_dims){.B = d->B,
                                .H = d->H,
                                .D = d->D,
                                .Tq = d->T,
                                .Tk = d->T,
                                .q_stride = pos_row(d, 3),
                                .kv_stride = pos_row(d, 3),
                                .mask = SWT_MASK_CAUSAL,
                                .scale = d->scale};
}

/* Part 0, 1 or 2 of qkv: q, k or v. */
static inline void *pos_part(const swt_ctx *c, const void *qkv, const pos_attention_dims *d,
                             int part) {
    if (c == NULL || qkv == NULL)
        return NULL;
    return (unsigned char *)(uintptr_t)qkv + (size_t)pos_row(d, part) * swt_dtype_bytes(c->dtype);
}

SWT_MUST_CHECK static inline swt_status pos_attention_forward(const swt_ctx *c, void *y, float *lse,
                                                              const void *qkv,
                                                              const pos_attention_dims *d) {
    return swt_attention_forward(c, &(swt_attention_forward_args){.y = y,
                                                                  .lse = lse,
                                                                  .q = pos_part(c, qkv, d, 0),
                                                                  .k = pos_part(c, qkv, d, 1),
                                                                  .v = pos_part(c, qkv, d, 2),
                                                                  .dims = pos_packed(d)});
}

SWT_MUST_CHECK static inline swt_status pos_attention_backward(const swt_ctx *c, void *dqkv,
                                                               const void *dy, const void *y,
                                                               const float *lse, const void *qkv,
                                                               const pos_attention_dims *d) {
    return swt_attention_backward(c, &(swt_attention_backward_args){.dq = pos_part(c, dqkv, d, 0),
                                                                    .dk = pos_part(c, dqkv, d, 1),
                                                                    .dv = pos_part(c, dqkv, d, 2),
                                                                    .dy = dy,
                                                                    .q = pos_part(c, qkv, d, 0),
                                                                    .k = pos_part(c, qkv, d, 1),
                                                                    .v = pos_part(c, qkv, d, 2),
                                                                    .y = y,
                                                                    .lse = lse,
                                                                    .dims = pos_packed(d)});
}

SWT_MUST_CHECK static inline swt_status
pos_router_forward(const swt_ctx *c, float *probs, float *lse, int32_t *expert, float *gate,
                   const void *h, const float *w, const float *bias, const int32_t *routed,
                   void *scratch, const swt_moe_dims *dims) {
    return swt_router_forward(c, &(swt_router_forward_args){.probs = probs,
                                                            .lse = lse,
                                                            .expert = expert,
                                                            .gate = gate,
                                                            .h = h,
                                                            .w = w,
                                                            .bias = bias,
                                                            .routed = routed,
                                                            .scratch = scratch,
                                                            .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status pos_router_assign(const swt_ctx *c, int32_t *slot,
                                                          int32_t *kept, int32_t *counts,
                                                          const int32_t *expert, const float *gate,
                                                          void *scratch, const swt_moe_dims *dims) {
    return swt_router_assign(c, dims == NULL ? NULL
                                             : &(swt_router_assign_args){.slot = slot,
                                                                         .kept = kept,
                                                                         .counts = counts,
                                                                         .expert = expert,
                                                                         .gate = gate,
                                                                         .scratch = scratch,
                                                                         .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status
pos_router_losses(const swt_ctx *c, double *stats, const float *probs, const float *lse,
                  const int32_t *expert, const int32_t *kept, const int32_t *counts,
                  const swt_moe_dims *dims) {
    return swt_router_losses(c, &(swt_router_losses_args){.stats = stats,
                                                          .probs = probs,
                                                          .lse = lse,
                                                          .expert = expert,
                                                          .kept = kept,
                                                          .counts = counts,
                                                          .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status
pos_router_backward(const swt_ctx *c, void *dh, float *dw, float *dbias, const float *dgate,
                    const void *h, const float *w, const float *probs, const float *lse,
                    const int32_t *expert, const float *gate, const int32_t *counts, void *scratch,
                    const swt_moe_dims *dims) {
    return swt_router_backward(c, &(swt_router_backward_args){.dh = dh,
                                                              .dw = dw,
                                                              .dbias = dbias,
                                                              .dgate = dgate,
                                                              .h = h,
                                                              .w = w,
                                                              .probs = probs,
                                                              .lse = lse,
                                                              .expert = expert,
                                                              .gate = gate,
                                                              .counts = counts,
                                                              .scratch = scratch,
                                                              .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status
pos_dispatch_forward(const swt_ctx *c, void *send, int32_t *send_counts, const void *h,
                     const int32_t *expert, const int32_t *slot, const int32_t *kept,
                     const swt_moe_dims *dims, int64_t first_slot) {
    return swt_dispatch_forward(c, &(swt_dispatch_forward_args){.send = send,
                                                                .send_counts = send_counts,
                                                                .h = h,
                                                                .expert = expert,
                                                                .slot = slot,
                                                                .kept = kept,
                                                                .dims = *dims,
                                                                .first_slot = first_slot});
}

SWT_MUST_CHECK static inline swt_status
pos_dispatch_backward(const swt_ctx *c, void *dh, float *dgate, const void *dsend, const float *dot,
                      const int32_t *expert, const float *gate, const int32_t *slot,
                      const swt_moe_dims *dims) {
    return swt_dispatch_backward(c, &(swt_dispatch_backward_args){.dh = dh,
                                                                  .dgate = dgate,
                                                                  .dsend = dsend,
                                                                  .dot = dot,
                                                                  .expert = expert,
                                                                  .gate = gate,
                                                                  .slot = slot,
                                                                  .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status pos_experts_forward(const swt_ctx *c, void *y, void *hidden,
                                                            const void *x, const void *wi,
                                                            const void *bi, const void *wo,
                                                            const void *bo, const int32_t *counts,
                                                            const swt_moe_dims *dims) {
    return swt_experts_forward(c, &(swt_experts_forward_args){.y = y,
                                                              .hidden = hidden,
                                                              .x = x,
                                                              .wi = wi,
                                                              .bi = bi,
                                                              .wo = wo,
                                                              .bo = bo,
                                                              .counts = counts,
                                                              .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status
pos_experts_backward_input(const swt_ctx *c, void *dx, void *dhidden, float *dot, const void *dy,
                           const void *hidden, const void *wi, const void *wo, const void *bo,
                           const int32_t *counts, const swt_moe_dims *dims) {
    return swt_experts_backward_input(c, &(swt_experts_backward_input_args){.dx = dx,
                                                                            .dhidden = dhidden,
                                                                            .dot = dot,
                                                                            .dy = dy,
                                                                            .hidden = hidden,
                                                                            .wi = wi,
                                                                            .wo = wo,
                                                                            .bo = bo,
                                                                            .counts = counts,
                                                                            .dims = *dims});
}

SWT_MUST_CHECK static inline swt_status
pos_experts_backward_weight(const swt_ctx *c, float *dwi, float *dbi, float *dwo, float *dbo,
                            const void *x, const void *hidden, const void *dhidden, const void *dy,
                            const int32_t *counts, const swt_moe_dims *dims,
                            const swt_expert_sums *sums) {
    return swt_experts_backward_weight(c, &(swt_experts_backward_weight_args){
                                              .dwi = dwi,
                                              .dbi = dbi,
                                              .dwo = dwo,
                                              .dbo = dbo,
                                              .x = x,
                                              .hidden = hidden,
                                              .dhidden = dhidden,
                                              .dy = dy,
                                              .counts = counts,
                                              .dims = *dims,
                                              .exact = sums != NULL,
                                              .sums = sums != NULL ? *sums : (swt_expert_sums){0}});
}

SWT_MUST_CHECK static inline swt_status
pos_combine_forward(const swt_ctx *c, void *y, const void *residual, const void *recv,
                    const void *h, const int32_t *expert, const float *gate, const int32_t *slot,
                    const swt_moe_dims *dims, int64_t first_slot) {
    return swt_combine_forward(c, &(swt_combine_forward_args){.y = y,
                                                              .residual = residual,
                                                              .recv = recv,
                                                              .h = h,
                                                              .expert = expert,
                                                              .gate = gate,
                                                              .slot = slot,
                                                              .dims = *dims,
                                                              .first_slot = first_slot});
}

SWT_MUST_CHECK static inline swt_status pos_combine_backward(const swt_ctx *c, void *drecv,
                                                             float *dgate, void *dh, const void *dy,
                                                             const void *h, const int32_t *expert,
                                                             const float *gate, const int32_t *slot,
                                                             const swt_moe_dims *dims) {
    return swt_combine_backward(c, &(swt_combine_backward_args){.drecv = drecv,
                                                                .dgate = dgate,
                                                                .dh = dh,
                                                                .dy = dy,
                                                                .h = h,
                                                                .expert = expert,
                                                                .gate = gate,
                                                                .slot = slot,
                                                                .dims = *dims});
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
