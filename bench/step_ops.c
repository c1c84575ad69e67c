/* The op table of a timed step: each slot tells the clock and passes on to the product's. */
#include "bench/step_clock.h"
#include "kernels/swt_op_table.h"

/* The exact sums' two operations have a phase of their own. */
static step_phase phase_of(const step_clock *clock, int op) {
    return op == SWT_OP_grad_add || op == SWT_OP_grad_finish ? PHASE_REDUCTION : clock->phase;
}

#define TIMED(op)                                                                                  \
    static swt_status timed_##op(const swt_ctx *c, const swt_##op##_args *a) {                     \
        step_clock *clock = step_clock_of(c);                                                      \
        step_call k;                                                                               \
        SWT_TRY(step_clock_begin(clock, &k));                                                      \
        SWT_TRY(clock->inner->op(c, a));                                                           \
        return step_clock_end(&k, #op, phase_of(clock, SWT_OP_##op));                              \
    }
SWT_OPS(TIMED)

/* Without exact sums: the gradients stay those of the last micro-batches, in fp32. */
static swt_status unsummed_experts_backward_weight(const swt_ctx *c,
                                                   const swt_experts_backward_weight_args *a) {
    swt_experts_backward_weight_args unsummed = *a;
    unsummed.sums.exact = false;
    return timed_experts_backward_weight(c, &unsummed);
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
    *out = *inner;
    out->name = "timed";
#define SLOT(op) out->op = timed_##op;
    SWT_OPS(SLOT)
    if (no_sums) {
        out->experts_backward_weight = unsummed_experts_backward_weight;
        out->grad_add = skip_grad_add;
        out->grad_finish = skip_grad_finish;
    }
}
