/* The op table of a timed step: each slot tells the clock and passes on to the product's. */
#include "bench/step_clock.h"
#include "kernels/swt_op_table.h"

#define TIMED(op, phase_, parameters, arguments)                                                   \
    static swt_status timed_##op parameters {                                                      \
        step_clock *clock = step_clock_of(c);                                                      \
        step_call k;                                                                               \
        SWT_TRY(step_clock_begin(clock, &k));                                                      \
        SWT_TRY(clock->inner->op arguments);                                                       \
        return step_clock_end(&k, #op, phase_);                                                    \
    }

TIMED(router_forward, clock->phase,
      (const swt_ctx *c, float *probs, float *lse, int32_t *expert, float *gate, const void *h,
       const float *w, const float *bias, const int32_t *routed, void *scratch,
       const swt_moe_dims *dims),
      (c, probs, lse, expert, gate, h, w, bias, routed, scratch, dims))
TIMED(router_assign, clock->phase,
      (const swt_ctx *c, int32_t *slot, int32_t *kept, int32_t *counts, const int32_t *expert,
       const float *gate, void *scratch, const swt_moe_dims *dims),
      (c, slot, kept, counts, expert, gate, scratch, dims))
TIMED(router_losses, clock->phase,
      (const swt_ctx *c, double *stats, const float *probs, const float *lse, const int32_t *expert,
       const int32_t *kept, const int32_t *counts, const swt_moe_dims *dims),
      (c, stats, probs, lse, expert, kept, counts, dims))
TIMED(router_backward, clock->phase,
      (const swt_ctx *c, void *dh, float *dw, float *dbias, const float *dgate, const void *h,
       const float *w, const float *probs, const float *lse, const int32_t *expert,
       const float *gate, const int32_t *counts, void *scratch, const swt_moe_dims *dims),
      (c, dh, dw, dbias, dgate, h, w, probs, lse, expert, gate, counts, scratch, dims))
TIMED(dispatch_forward, clock->phase,
      (const swt_ctx *c, void *send, int32_t *send_counts, const void *h, const int32_t *expert,
       const int32_t *slot, const int32_t *kept, const swt_moe_dims *dims, int64_t first_slot),
      (c, send, send_counts, h, expert, slot, kept, dims, first_slot))
TIMED(dispatch_backward, clock->phase,
      (const swt_ctx *c, void *dh, float *dgate, const void *dsend, const float *dot,
       const int32_t *expert, const float *gate, const int32_t *slot, const swt_moe_dims *dims),
      (c, dh, dgate, dsend, dot, expert, gate, slot, dims))
TIMED(experts_forward, clock->phase,
      (const swt_ctx *c, void *y, void *hidden, const void *x, const void *wi, const void *bi,
       const void *wo, const void *bo, const int32_t *counts, const swt_moe_dims *dims),
      (c, y, hidden, x, wi, bi, wo, bo, counts, dims))
TIMED(experts_backward_input, clock->phase,
      (const swt_ctx *c, void *dx, void *dhidden, float *dot, const void *dy, const void *hidden,
       const void *wi, const void *wo, const void *bo, const int32_t *counts,
       const swt_moe_dims *dims),
      (c, dx, dhidden, dot, dy, hidden, wi, wo, bo, counts, dims))
TIMED(experts_backward_weight, clock->phase,
      (const swt_ctx *c, float *dwi, float *dbi, float *dwo, float *dbo, const void *x,
       const void *hidden, const void *dhidden, const void *dy, const int32_t *counts,
       const swt_moe_dims *dims, const swt_expert_sums *sums),
      (c, dwi, dbi, dwo, dbo, x, hidden, dhidden, dy, counts, dims, sums))
TIMED(combine_forward, clock->phase,
      (const swt_ctx *c, void *y, const void *residual, const void *recv, const void *h,
       const int32_t *expert, const float *gate, const int32_t *slot, const swt_moe_dims *dims,
       int64_t first_slot),
      (c, y, residual, recv, h, expert, gate, slot, dims, first_slot))
TIMED(combine_backward, clock->phase,
      (const swt_ctx *c, void *drecv, float *dgate, void *dh, const void *dy, const void *h,
       const int32_t *expert, const float *gate, const int32_t *slot, const swt_moe_dims *dims),
      (c, drecv, dgate, dh, dy, h, expert, gate, slot, dims))
/* The exact sums' two operations have a phase of their own. */
static step_phase phase_of(const step_clock *clock, int op) {
    return op == SWT_OP_grad_add || op == SWT_OP_grad_finish ? PHASE_REDUCTION : clock->phase;
}

#define TIMED_OP(op)                                                                               \
    static swt_status timed_##op(const swt_ctx *c, const swt_##op##_args *a) {                     \
        step_clock *clock = step_clock_of(c);                                                      \
        step_call k;                                                                               \
        SWT_TRY(step_clock_begin(clock, &k));                                                      \
        SWT_TRY(clock->inner->op(c, a));                                                           \
        return step_clock_end(&k, #op, phase_of(clock, SWT_OP_##op));                              \
    }
SWT_OPS(TIMED_OP)

/* Without exact sums: the gradients stay those of the last micro-batches, in fp32. */
static swt_status unsummed_experts_backward_weight(const swt_ctx *c, float *dwi, float *dbi,
                                                   float *dwo, float *dbo, const void *x,
                                                   const void *hidden, const void *dhidden,
                                                   const void *dy, const int32_t *counts,
                                                   const swt_moe_dims *dims,
                                                   const swt_expert_sums *sums) {
    (void)sums;
    return timed_experts_backward_weight(c, dwi, dbi, dwo, dbo, x, hidden, dhidden, dy, counts,
                                         dims, NULL);
}

static swt_status skip_grad_add(const swt_ctx *c, const swt_grad_add_args *a) {
    (void)c, (void)a;
    return SWT_OK;
}

static swt_status skip_grad_finish(const swt_ctx *c, const swt_grad_finish_args *a) {
    (void)c, (void)a;
    return SWT_OK;
}

void step_ops_fill(swt_ops *out, const swt_ops *inner, bool no_sums) {
    *out = (swt_ops){.name = "timed",
                     .bf16 = inner->bf16,
                     .expert_sums = inner->expert_sums,
                     .all_slots = inner->all_slots,
                     .workspace_bytes = inner->workspace_bytes,
                     .router_forward = timed_router_forward,
                     .router_assign = timed_router_assign,
                     .router_losses = timed_router_losses,
                     .router_backward = timed_router_backward,
                     .dispatch_forward = timed_dispatch_forward,
                     .dispatch_backward = timed_dispatch_backward,
                     .experts_forward = timed_experts_forward,
                     .experts_backward_input = timed_experts_backward_input,
                     .experts_backward_weight =
                         no_sums ? unsummed_experts_backward_weight : timed_experts_backward_weight,
                     .combine_forward = timed_combine_forward,
                     .combine_backward = timed_combine_backward,
#define SLOT(op) .op = timed_##op,
                     SWT_OPS(SLOT)};
    if (no_sums) {
        out->grad_add = skip_grad_add;
        out->grad_finish = skip_grad_finish;
    }
}
