/* Each (local expert, source rank) pair is a product of its own over its occupied slots: the same
 * sums wherever the expert and the micro-batch live. */
#include "kernels/cpu/product.h"

static swt_cpu_groups expert_groups(const swt_moe_dims *d, const int32_t *counts) {
    return (swt_cpu_groups){.weights = d->El, .sources = d->P, .capacity = d->K, .rows = counts};
}

swt_status swt_cpu_experts_forward(const swt_ctx *c, void *y, void *hidden, const void *x,
                                   const void *wi, const void *bi, const void *wo, const void *bo,
                                   const int32_t *counts, const swt_moe_dims *dims) {
    const swt_cpu_groups g = expert_groups(dims, counts);
    SWT_TRY(swt_cpu_products_nt(c, &g, hidden, x, wi, bi, NULL, true, dims->C, dims->F));
    return swt_cpu_products_nt(c, &g, y, hidden, wo, bo, NULL, false, dims->F, dims->C);
}

swt_status swt_cpu_experts_backward_input(const swt_ctx *c, void *dx, void *dhidden, const void *dy,
                                          const void *hidden, const void *wi, const void *wo,
                                          const int32_t *counts, const swt_moe_dims *dims) {
    const swt_cpu_groups g = expert_groups(dims, counts);
    SWT_TRY(swt_cpu_products_nn(c, &g, dhidden, dy, wo, hidden, dims->F, dims->C));
    return swt_cpu_products_nn(c, &g, dx, dhidden, wi, NULL, dims->C, dims->F);
}

swt_status swt_cpu_experts_backward_weight(const swt_ctx *c, float *dwi, float *dbi, float *dwo,
                                           float *dbo, const void *x, const void *hidden,
                                           const void *dhidden, const void *dy,
                                           const int32_t *counts, const swt_moe_dims *dims,
                                           int64_t p) {
    const swt_cpu_groups g = expert_groups(dims, counts);
    SWT_TRY(swt_cpu_products_tn(c, &g, p, dwi, dbi, dhidden, x, dims->C, dims->F, false));
    return swt_cpu_products_tn(c, &g, p, dwo, dbo, dy, hidden, dims->F, dims->C, false);
}
