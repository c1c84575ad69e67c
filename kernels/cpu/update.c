#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

/* Elements of a part, and of a block of a sum of squares: a few arrays' worth fits a core's cache.
 */
enum { BLOCK = 16384 };

typedef struct update_args {
    const swt_ctx *c;
    int64_t *sum;
    float *grad_out, *param, *m, *v;
    const float *grad;
    const int64_t *sum_in;
    int64_t n;
    double limit;      /* grad_add */
    bool first;        /* grad_add */
    swt_vec_adam adam; /* adam */
    float step;        /* sgd */
    double *squares;   /* grad_squares */
    const swt_span *spans;
} update_args;

static int64_t block_count(const update_args *a, int64_t part) {
    return swt_min(BLOCK, a->n - part * BLOCK);
}

void swt_cpu_add_sums(const swt_ctx *c, int64_t *sum, const float *grad, int64_t n, double limit,
                      bool first) {
    if (!swt_cpu_vec(c)->grad_add(sum, grad, n, limit, first))
        __atomic_store_n(&c->state->nonfinite, 1, __ATOMIC_RELAXED); /* parts may meet here */
}

static void grad_add_part(const void *args, int64_t part) {
    const update_args *a = args;
    const int64_t first = part * BLOCK;
    swt_cpu_add_sums(a->c, a->sum + first, a->grad + first, block_count(a, part), a->limit,
                     a->first);
}

swt_status swt_cpu_grad_add(const swt_ctx *c, int64_t *sum, const float *grad, int64_t n,
                            double limit, bool first) {
    const update_args a = {
        .c = c, .sum = sum, .grad = grad, .n = n, .limit = limit, .first = first};
    swt_cpu_run_parts(c, swt_ceil_div(n, BLOCK), grad_add_part, &a);
    return SWT_OK;
}

static void grad_finish_part(const void *args, int64_t part) {
    const update_args *a = args;
    const int64_t first = part * BLOCK;
    swt_cpu_vec(a->c)->grad_finish(a->grad_out + first, a->sum_in + first, block_count(a, part));
}

swt_status swt_cpu_grad_finish(const swt_ctx *c, float *grad, const int64_t *sum, int64_t n) {
    const update_args a = {.c = c, .grad_out = grad, .sum_in = sum, .n = n};
    swt_cpu_run_parts(c, swt_ceil_div(n, BLOCK), grad_finish_part, &a);
    return SWT_OK;
}

static void grad_squares_part(const void *args, int64_t part) {
    const update_args *a = args;
    const swt_span *span = &a->spans[part];
    double sum = 0.0;
    for (int64_t i = 0; i < span->count; i += BLOCK)
        sum += swt_cpu_vec(a->c)->sum_squares(a->grad + span->offset + i,
                                              swt_min(BLOCK, span->count - i));
    a->squares[span->index] = sum;
}

swt_status swt_cpu_grad_squares(const swt_ctx *c, double *squares, const float *grad,
                                const swt_span *spans, int64_t n_spans) {
    const update_args a = {.c = c, .squares = squares, .grad = grad, .spans = spans};
    swt_cpu_run_parts(c, n_spans, grad_squares_part, &a);
    return SWT_OK;
}

static void adam_part(const void *args, int64_t part) {
    const update_args *a = args;
    const int64_t first = part * BLOCK;
    swt_cpu_vec(a->c)->adam(a->param + first, a->m + first, a->v + first, a->grad + first,
                            block_count(a, part), &a->adam);
}

swt_status swt_cpu_adam(const swt_ctx *c, float *param, float *m, float *v, const float *grad,
                        int64_t n, const swt_adam_hyper *hyper) {
    const swt_step_state *s = c->state;
    if (s->nonfinite)
        return SWT_OK;
    const double uncorrected = sqrt(s->correction2);
    const update_args a = {
        .c = c,
        .param = param,
        .m = m,
        .v = v,
        .grad = grad,
        .n = n,
        .adam = {.clip = (float)s->clip,
                 .beta1 = (float)hyper->beta1,
                 .one_minus_beta1 = (float)(1.0 - hyper->beta1),
                 .beta2 = (float)hyper->beta2,
                 .one_minus_beta2 = (float)(1.0 - hyper->beta2),
                 .keep = (float)(1.0 - s->lr * hyper->weight_decay),
                 .rate =
                     (float)(s->lr * (hyper->eps_uncorrected ? uncorrected : 1.0) / s->correction1),
                 .v_scale = hyper->eps_uncorrected ? 1.0f : (float)(1.0 / s->correction2),
                 .eps = (float)hyper->eps}};
    swt_cpu_run_parts(c, swt_ceil_div(n, BLOCK), adam_part, &a);
    return SWT_OK;
}

static void sgd_part(const void *args, int64_t part) {
    const update_args *a = args;
    const int64_t first = part * BLOCK;
    swt_cpu_vec(a->c)->axpy(a->param + first, a->grad + first, a->step, block_count(a, part));
}

swt_status swt_cpu_sgd(const swt_ctx *c, float *param, const float *grad, int64_t n) {
    if (c->state->nonfinite)
        return SWT_OK;
    const update_args a = {.c = c,
                           .param = param,
                           .grad = grad,
                           .n = n,
                           .step = (float)(-c->state->lr * c->state->clip)};
    swt_cpu_run_parts(c, swt_ceil_div(n, BLOCK), sgd_part, &a);
    return SWT_OK;
}

/* Activations are F32 here: a copy, which the model does not ask for. */
swt_status swt_cpu_cast(const swt_ctx *c, void *to, const float *from, int64_t n) {
    (void)c;
    memcpy(to, from, (size_t)n * sizeof *from);
    return SWT_OK;
}
