/* The experts: each (local expert, source rank) pair is a gemm of its own over all its K slots,
 * with the same sums wherever the expert and the micro-batch live. Unoccupied slots hold zeros,
 * which add nothing to a sum; what is made in them means nothing.
 *
 * Pairs run in batches: the sources of one expert, or one source's experts, whichever makes fewer
 * batches. A gemm's bits do not depend on its batch. */
#include "kernels/cuda/experts.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear.h"

/* How the pairs are cut into batches of gemms: how far it is from one call to the next, and from
 * one gemm of a batch to the next. */
typedef struct pairs {
    int64_t calls, batch;
    int64_t slots_by_call, slots_by_gemm;
    int64_t experts_by_call, experts_by_gemm;
} pairs;

static pairs pairs_of(const swt_moe_dims *d) {
    const bool by_source = d->El > d->P; /* a call for each source, else for each expert */
    const int64_t K = d->K, expert = d->P * K;
    return (pairs){.calls = by_source ? d->P : d->El,
                   .batch = by_source ? d->El : d->P,
                   .slots_by_call = by_source ? K : expert,
                   .slots_by_gemm = by_source ? expert : K,
                   .experts_by_call = !by_source,
                   .experts_by_gemm = by_source};
}

/* NULL stays NULL. */
static const void *slice(const void *tensor, int64_t elements, swt_dtype type) {
    return tensor != NULL ? (const char *)tensor + elements * (int64_t)swt_dtype_bytes(type) : NULL;
}

/* A gemm of a matrix of slots with its expert's weights. */
typedef struct slot_gemm {
    void *out;      /* (El, P, K, cols) */
    const void *in; /* (El, P, K, inner) */
    const void *w;  /* (El, inner, cols), or transposed (El, cols, inner) */
    bool transposed;
    const void *bias; /* (El, cols) or NULL */
    bool relu;
    int64_t inner, cols;
} slot_gemm;

static swt_status multiply_slots(const swt_ctx *c, const swt_moe_dims *d, const slot_gemm *s) {
    const pairs n = pairs_of(d);
    const swt_dtype type = c->dtype;
    const int64_t weights = s->inner * s->cols;
    for (int64_t i = 0; i < n.calls; i++) {
        const int64_t slots = i * n.slots_by_call, expert = i * n.experts_by_call;
        const swt_cuda_gemm p = {.rows = d->K,
                                 .cols = s->cols,
                                 .inner = s->inner,
                                 .batch = n.batch,
                                 .a = {.data = slice(s->in, slots * s->inner, type),
                                       .type = type,
                                       .stride = n.slots_by_gemm * s->inner},
                                 .b = {.data = slice(s->w, expert * weights, type),
                                       .type = type,
                                       .transposed = s->transposed,
                                       .stride = n.experts_by_gemm * weights},
                                 .out = (void *)slice(s->out, slots * s->cols, type),
                                 .out_type = type,
                                 .out_stride = n.slots_by_gemm * s->cols,
                                 .bias = slice(s->bias, expert * s->cols, type),
                                 .bias_stride = n.experts_by_gemm * s->cols,
                                 .relu = s->relu};
        SWT_TRY(swt_cuda_multiply(c, &p));
    }
    return SWT_OK;
}

swt_status swt_cuda_experts_forward(const swt_ctx *c, const swt_experts_forward_args *a) {
    const swt_moe_dims *d = &a->dims;
    const bool relu = d->ffn == SWT_FFN_RELU;
    const slot_gemm in = {.out = relu ? a->hidden : a->pre,
                          .in = a->x,
                          .w = a->wi,
                          .transposed = true,
                          .bias = a->bi,
                          .relu = relu,
                          .inner = d->C,
                          .cols = swt_moe_wi_width(d)};
    const swt_gelu_forward_args gelu = {
        .y = a->hidden, .x = a->pre, .row_counts = a->slot_counts, .dims = swt_moe_gelu_dims(d)};
    const slot_gemm out = {.out = a->y,
                           .in = a->hidden,
                           .w = a->wo,
                           .transposed = true,
                           .bias = a->bo,
                           .inner = d->F,
                           .cols = d->C};
    SWT_TRY(multiply_slots(c, d, &in));
    if (!relu)
        SWT_TRY(swt_cuda_gelu_forward(c, &gelu));
    SWT_TRY(swt_cuda_drop_hidden(c, a->hidden, d));
    return multiply_slots(c, d, &out);
}

swt_status swt_cuda_experts_backward_input(const swt_ctx *c,
                                           const swt_experts_backward_input_args *a) {
    const swt_moe_dims *d = &a->dims;
    const bool relu = d->ffn == SWT_FFN_RELU;
    const slot_gemm out = {.out = a->dhidden, .in = a->dy, .w = a->wo, .inner = d->C, .cols = d->F};
    const swt_gelu_backward_args gelu = {.dx = a->dpre,
                                         .dy = a->dhidden,
                                         .x = a->pre,
                                         .row_counts = a->slot_counts,
                                         .dims = swt_moe_gelu_dims(d)};
    const slot_gemm in = {.out = a->dx,
                          .in = relu ? a->dhidden : a->dpre,
                          .w = a->wi,
                          .inner = swt_moe_wi_width(d),
                          .cols = d->C};
    SWT_TRY(multiply_slots(c, d, &out));
    SWT_TRY(swt_cuda_hidden_gradient(c, a));
    SWT_TRY(swt_cuda_drop_hidden(c, a->dhidden, d));
    if (!relu)
        SWT_TRY(swt_cuda_gelu_backward(c, &gelu));
    return multiply_slots(c, d, &in);
}

/* ------------------------------------------------------------------ weights */

/* One layer of the experts: dw = dy^T x, dbias = sum of dy, and their integer sums. */
typedef struct layer_gradient {
    float *dw, *dbias;       /* (El, out, in), (El, out) or NULL */
    const void *dy, *x;      /* (El, P, K, out), (El, P, K, in) */
    int64_t *sum, *bias_sum; /* as dw and dbias, or NULL */
    int64_t out, in;
} layer_gradient;

/* Of source p. add: to what they hold. */
static swt_status source_gradient(const swt_ctx *c, const swt_experts_backward_weight_args *a,
                                  const layer_gradient *g, int64_t p, bool add) {
    const int64_t El = a->dims.El, P = a->dims.P, K = a->dims.K;
    const swt_cuda_gemm gemm = {.rows = g->out,
                                .cols = g->in,
                                .inner = K,
                                .batch = El,
                                .a = {.data = slice(g->dy, p * K * g->out, c->dtype),
                                      .type = c->dtype,
                                      .transposed = true,
                                      .stride = P * K * g->out},
                                .b = {.data = slice(g->x, p * K * g->in, c->dtype),
                                      .type = c->dtype,
                                      .stride = P * K * g->in},
                                .out = g->dw,
                                .out_type = SWT_F32,
                                .out_stride = g->out * g->in,
                                .add = add ? g->dw : NULL};
    SWT_TRY(swt_cuda_multiply(c, &gemm));
    if (g->dbias == NULL)
        return SWT_OK;
    const swt_cuda_columns sums = {.batch = El,
                                   .rows = K,
                                   .stride = P * K,
                                   .columns = g->out,
                                   .type = c->dtype,
                                   .row_counts = a->slot_counts + p,
                                   .row_counts_stride = P,
                                   .add = add};
    return swt_cuda_column_sums(c, g->dbias, gemm.a.data, &sums);
}

static swt_status add_to_sums(const swt_ctx *c, const layer_gradient *g, const swt_moe_dims *d,
                              double limit, bool first) {
    const swt_grad_add_args weight = {
        .sum = g->sum, .grad = g->dw, .n = d->El * g->out * g->in, .limit = limit, .first = first};
    SWT_TRY(swt_cuda_grad_add(c, &weight));
    if (g->dbias == NULL)
        return SWT_OK;
    const swt_grad_add_args bias = {
        .sum = g->bias_sum, .grad = g->dbias, .n = d->El * g->out, .limit = limit, .first = first};
    return swt_cuda_grad_add(c, &bias);
}

static swt_status finish_sums(const swt_ctx *c, const layer_gradient *g, const swt_moe_dims *d) {
    const swt_grad_finish_args weight = {.grad = g->dw, .sum = g->sum, .n = d->El * g->out * g->in};
    const swt_grad_finish_args bias = {.grad = g->dbias, .sum = g->bias_sum, .n = d->El * g->out};
    SWT_TRY(swt_cuda_grad_finish(c, &weight));
    return g->dbias == NULL ? SWT_OK : swt_cuda_grad_finish(c, &bias);
}

static swt_status layer_gradients(const swt_ctx *c, const swt_experts_backward_weight_args *a,
                                  const layer_gradient *g) {
    const swt_expert_sums *s = &a->sums;
    for (int64_t p = 0; p < a->dims.P; p++) {
        SWT_TRY(source_gradient(c, a, g, p, !a->sums.exact && p > 0));
        if (a->sums.exact)
            SWT_TRY(add_to_sums(c, g, &a->dims, s->limit, s->first && p == 0));
    }
    return a->sums.exact && s->last ? finish_sums(c, g, &a->dims) : SWT_OK;
}

swt_status swt_cuda_experts_backward_weight(const swt_ctx *c,
                                            const swt_experts_backward_weight_args *a) {
    const swt_moe_dims *d = &a->dims;
    const layer_gradient in = {.dw = a->dwi,
                               .dbias = a->dbi,
                               .dy = a->dpre,
                               .x = a->x,
                               .sum = a->sums.wi,
                               .bias_sum = a->sums.bi,
                               .out = swt_moe_wi_width(d),
                               .in = d->C};
    const layer_gradient out = {.dw = a->dwo,
                                .dbias = a->dbo,
                                .dy = a->dy,
                                .x = a->hidden,
                                .sum = a->sums.wo,
                                .bias_sum = a->sums.bo,
                                .out = d->C,
                                .in = d->F};
    SWT_TRY(layer_gradients(c, a, &in));
    return layer_gradients(c, a, &out);
}
