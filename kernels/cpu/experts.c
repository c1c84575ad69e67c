/* Each (local expert, source rank) pair is a gemm of its own over its occupied slots: the same
 * sums wherever the expert and the micro-batch live. */
#include "base/checked.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/gemm.h"

static swt_cpu_groups expert_groups(const swt_moe_dims *d, const int32_t *slot_counts) {
    return (swt_cpu_groups){
        .weights = d->El, .sources = d->P, .capacity = d->K, .row_counts = slot_counts};
}

swt_status swt_cpu_experts_forward(const swt_ctx *c, const swt_experts_forward_args *a) {
    const swt_moe_dims *d = &a->dims;
    const bool relu = d->ffn == SWT_FFN_RELU;
    const swt_cpu_gemms_nt_args wi = {.y = relu ? a->hidden : a->pre,
                                      .x = a->x,
                                      .w = a->wi,
                                      .bias = a->bi,
                                      .groups = expert_groups(d, a->slot_counts),
                                      .in = d->C,
                                      .out = swt_moe_wi_width(d),
                                      .relu = relu};
    const swt_gelu_forward_args gelu = {
        .y = a->hidden, .x = a->pre, .row_counts = a->slot_counts, .dims = swt_moe_gelu_dims(d)};
    const swt_cpu_gemms_nt_args wo = {.y = a->y,
                                      .x = a->hidden,
                                      .w = a->wo,
                                      .bias = a->bo,
                                      .groups = wi.groups,
                                      .in = d->F,
                                      .out = d->C};
    swt_cpu_gemms_nt(c, &wi);
    if (!relu)
        SWT_TRY(swt_cpu_gelu_forward(c, &gelu));
    SWT_TRY(swt_cpu_drop_hidden(c, a->hidden, a->slot_counts, d));
    swt_cpu_gemms_nt(c, &wo);
    return SWT_OK;
}

/* Up to SWT_ROWS slots of a pair. */
static void dot_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_experts_backward_input_args *a = args;
    const swt_vec *vec = swt_cpu_vec(c);
    const int64_t C = a->dims.C, F = a->dims.F, K = a->dims.K;
    const int64_t blocks = swt_ceil_div(K, SWT_ROWS), pair = part / blocks;
    const int64_t begin = part % blocks * SWT_ROWS;
    const int64_t end = swt_min(a->slot_counts[pair], begin + SWT_ROWS);
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
    const bool relu = d->ffn == SWT_FFN_RELU;
    const swt_cpu_gemms_nn_args wo = {.dx = a->dhidden,
                                      .dy = a->dy,
                                      .w = a->wo,
                                      .mask = relu ? a->hidden : NULL,
                                      .groups = expert_groups(d, a->slot_counts),
                                      .in = d->F,
                                      .out = d->C};
    const swt_gelu_backward_args gelu = {.dx = a->dpre,
                                         .dy = a->dhidden,
                                         .x = a->pre,
                                         .row_counts = a->slot_counts,
                                         .dims = swt_moe_gelu_dims(d)};
    const swt_cpu_gemms_nn_args wi = {.dx = a->dx,
                                      .dy = relu ? a->dhidden : a->dpre,
                                      .w = a->wi,
                                      .groups = wo.groups,
                                      .in = d->C,
                                      .out = swt_moe_wi_width(d)};
    swt_cpu_gemms_nn(c, &wo);
    swt_cpu_run(c, d->El * d->P * swt_ceil_div(d->K, SWT_ROWS), dot_part, a);
    SWT_TRY(swt_cpu_drop_hidden(c, a->dhidden, a->slot_counts, d));
    if (!relu)
        SWT_TRY(swt_cpu_gelu_backward(c, &gelu));
    swt_cpu_gemms_nn(c, &wi);
    return SWT_OK;
}

swt_status swt_cpu_experts_backward_weight(const swt_ctx *c,
                                           const swt_experts_backward_weight_args *a) {
    const swt_moe_dims *d = &a->dims;
    const swt_expert_sums *s = &a->sums;
    const swt_cpu_sums wi_sums = {.weight = s->wi,
                                  .bias = s->bi,
                                  .exact = s->exact,
                                  .limit = s->limit,
                                  .first = s->first,
                                  .last = s->last};
    const swt_cpu_gemms_tn_args wi = {.dw = a->dwi,
                                      .dbias = a->dbi,
                                      .dy = a->dpre,
                                      .x = a->x,
                                      .groups = expert_groups(d, a->slot_counts),
                                      .in = d->C,
                                      .out = swt_moe_wi_width(d),
                                      .sums = wi_sums};
    const swt_cpu_sums wo_sums = {.weight = s->wo,
                                  .bias = s->bo,
                                  .exact = s->exact,
                                  .limit = s->limit,
                                  .first = s->first,
                                  .last = s->last};
    const swt_cpu_gemms_tn_args wo = {.dw = a->dwo,
                                      .dbias = a->dbo,
                                      .dy = a->dy,
                                      .x = a->hidden,
                                      .groups = wi.groups,
                                      .in = d->F,
                                      .out = d->C,
                                      .sums = wo_sums};
    swt_cpu_gemms_tn(c, &wi);
    swt_cpu_gemms_tn(c, &wo);
    return SWT_OK;
}
