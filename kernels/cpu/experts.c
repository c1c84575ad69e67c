/* Each (local expert, source rank) pair is a gemm of its own over its occupied slots: the same
 * sums wherever the expert and the micro-batch live. */
#include "base/checked.h"
#include "kernels/cpu/gemm.h"

static swt_cpu_groups expert_groups(const swt_moe_dims *d, const int32_t *counts) {
    return (swt_cpu_groups){.weights = d->El, .sources = d->P, .capacity = d->K, .rows = counts};
}

swt_status swt_cpu_experts_forward(const swt_ctx *c, const swt_experts_forward_args *a) {
    const swt_moe_dims *d = &a->dims;
    const swt_cpu_groups g = expert_groups(d, a->counts);
    const int64_t C = d->C, F = d->F;
    const bool relu = d->ffn == SWT_FFN_RELU;
    swt_cpu_gemms_nt(c, &g, relu ? a->hidden : a->pre, a->x, a->wi, a->bi, NULL, relu, C,
                     swt_moe_wi_width(d));
    if (!relu)
        SWT_TRY(swt_cpu_gelu_forward(c, &(swt_gelu_forward_args){.y = a->hidden,
                                                                 .x = a->pre,
                                                                 .counts = a->counts,
                                                                 .dims = swt_moe_gelu_dims(d)}));
    swt_cpu_gemms_nt(c, &g, a->y, a->hidden, a->wo, a->bo, NULL, false, F, C);
    return SWT_OK;
}

/* Up to SWT_ROWS slots of a pair. */
static void dot_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_experts_backward_input_args *a = args;
    const swt_vec *vec = swt_cpu_vec(c);
    const int64_t C = a->dims.C, F = a->dims.F, K = a->dims.K;
    const int64_t blocks = swt_ceil_div(K, SWT_ROWS), pair = part / blocks;
    const int64_t begin = part % blocks * SWT_ROWS;
    const int64_t end = swt_min(a->counts[pair], begin + SWT_ROWS);
    const float *dy = a->dy, *dhidden = a->dhidden, *hidden = a->hidden;
    const float *bo = a->bo != NULL ? (const float *)a->bo + pair / a->dims.P * C : NULL;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = pair * K + i;
        a->dot[row] = vec->dot(dhidden + row * F, hidden + row * F, F);
        if (bo != NULL)
            a->dot[row] += vec->dot(dy + row * C, bo, C);
    }
}

swt_status swt_cpu_experts_backward_input(const swt_ctx *c,
                                          const swt_experts_backward_input_args *a) {
    const swt_moe_dims *d = &a->dims;
    const swt_cpu_groups g = expert_groups(d, a->counts);
    const int64_t C = d->C, F = d->F, pairs = g.weights * g.sources;
    const bool relu = d->ffn == SWT_FFN_RELU;
    swt_cpu_gemms_nn(c, &g, a->dhidden, a->dy, a->wo, relu ? a->hidden : NULL, F, C);
    if (!relu)
        SWT_TRY(swt_cpu_gelu_backward(c, &(swt_gelu_backward_args){.dx = a->dpre,
                                                                   .dy = a->dhidden,
                                                                   .x = a->pre,
                                                                   .counts = a->counts,
                                                                   .dims = swt_moe_gelu_dims(d)}));
    swt_cpu_gemms_nn(c, &g, a->dx, relu ? a->dhidden : a->dpre, a->wi, NULL, C,
                     swt_moe_wi_width(d));
    swt_cpu_run(c, pairs * swt_ceil_div(g.capacity, SWT_ROWS), dot_part, a);
    return SWT_OK;
}

swt_status swt_cpu_experts_backward_weight(const swt_ctx *c,
                                           const swt_experts_backward_weight_args *a) {
    const swt_cpu_groups g = expert_groups(&a->dims, a->counts);
    const int64_t C = a->dims.C, F = a->dims.F, W = swt_moe_wi_width(&a->dims);
    const swt_expert_sums *s = &a->sums;
    if (!a->exact) {
        swt_cpu_gemms_tn(c, &g, a->dwi, a->dbi, a->dpre, a->x, C, W, false);
        swt_cpu_gemms_tn(c, &g, a->dwo, a->dbo, a->dy, a->hidden, F, C, false);
        return SWT_OK;
    }
    const swt_cpu_sums wi = {s->wi, s->bi, s->limit, s->first, s->last};
    const swt_cpu_sums wo = {s->wo, s->bo, s->limit, s->first, s->last};
    swt_cpu_gemms_tn_sums(c, &g, &wi, a->dwi, a->dbi, a->dpre, a->x, C, W);
    swt_cpu_gemms_tn_sums(c, &g, &wo, a->dwo, a->dbo, a->dy, a->hidden, F, C);
    return SWT_OK;
}
