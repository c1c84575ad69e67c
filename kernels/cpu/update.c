#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

/* Elements of a part, and of a block of a sum of squares: a few arrays' worth fits a core's cache.
 */
enum { BLOCK = 16384 };

static int64_t block_count(int64_t n, int64_t part) {
    return swt_min(BLOCK, n - part * BLOCK);
}

void swt_cpu_add_sums(const swt_ctx *c, int64_t *sum, const float *grad, int64_t n, double limit,
                      bool first) {
    if (!swt_cpu_vec(c)->grad_add(sum, grad, n, limit, first))
        __atomic_store_n(&c->state->nonfinite, SWT_STEP_BAD, __ATOMIC_RELAXED); /* parts meet */
}

static void grad_add_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_grad_add_args *a = args;
    const int64_t first = part * BLOCK;
    swt_cpu_add_sums(c, a->sum + first, a->grad + first, block_count(a->n, part), a->limit,
                     a->first);
}

swt_status swt_cpu_grad_add(const swt_ctx *c, const swt_grad_add_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->n, BLOCK), grad_add_part, a);
    return SWT_OK;
}

static void grad_finish_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_grad_finish_args *a = args;
    const int64_t first = part * BLOCK;
    swt_cpu_vec(c)->grad_finish(a->grad + first, a->sum + first, block_count(a->n, part));
}

swt_status swt_cpu_grad_finish(const swt_ctx *c, const swt_grad_finish_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->n, BLOCK), grad_finish_part, a);
    return SWT_OK;
}

static void grad_squares_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_grad_squares_args *a = args;
    const swt_span *span = &a->spans[part];
    double sum = 0.0;
    for (int64_t i = 0; i < span->count; i += BLOCK)
        sum += swt_cpu_vec(c)->sum_squares(a->grad + span->offset + i,
                                           swt_min(BLOCK, span->count - i));
    a->squares[span->index] = sum;
}

swt_status swt_cpu_grad_squares(const swt_ctx *c, const swt_grad_squares_args *a) {
    swt_cpu_run(c, a->n_spans, grad_squares_part, a);
    return SWT_OK;
}

static swt_vec_adam adam_factors(const swt_step_state *s, const swt_adam_hyper *h) {
    const double uncorrected = h->eps_uncorrected ? sqrt(s->correction2) : 1.0;
    return (swt_vec_adam){
        .clip = (float)s->clip,
        .beta1 = (float)h->beta1,
        .one_minus_beta1 = (float)(1.0 - h->beta1),
        .beta2 = (float)h->beta2,
        .one_minus_beta2 = (float)(1.0 - h->beta2),
        .keep = (float)(1.0 - s->lr * h->weight_decay),
        .rate = (float)(s->lr * uncorrected / s->correction1),
        .v_scale = h->eps_uncorrected ? 1.0f : (float)(1.0 / s->correction2),
        .eps = (float)h->eps,
    };
}

static void adam_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_adam_args *a = args;
    const swt_vec_adam factors = adam_factors(c->state, &a->hyper);
    const int64_t first = part * BLOCK;
    swt_cpu_vec(c)->adam(a->param + first, a->m + first, a->v + first, a->grad + first,
                         block_count(a->n, part), &factors);
}

swt_status swt_cpu_adam(const swt_ctx *c, const swt_adam_args *a) {
    if (!c->state->nonfinite)
        swt_cpu_run(c, swt_ceil_div(a->n, BLOCK), adam_part, a);
    return SWT_OK;
}

static void sgd_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_sgd_args *a = args;
    const float step = (float)(-c->state->lr * c->state->clip);
    const int64_t first = part * BLOCK;
    swt_cpu_vec(c)->axpy(a->param + first, a->grad + first, step, block_count(a->n, part));
}

swt_status swt_cpu_sgd(const swt_ctx *c, const swt_sgd_args *a) {
    if (!c->state->nonfinite)
        swt_cpu_run(c, swt_ceil_div(a->n, BLOCK), sgd_part, a);
    return SWT_OK;
}

/* Activations are F32 here: a copy, which the model does not ask for. */
swt_status swt_cpu_cast(const swt_ctx *c, const swt_cast_args *a) {
    (void)c;
    memcpy(a->to, a->from, (size_t)a->n * sizeof *a->from);
    return SWT_OK;
}
