/* Each (local expert, source rank) pair is a product of its own over its occupied slots: the same
 * sums wherever the expert and the micro-batch live. */
#include "base/checked.h"
#include "kernels/cpu/product.h"

static swt_cpu_groups expert_groups(const swt_moe_dims *d, const int32_t *counts) {
    return (swt_cpu_groups){.weights = d->El, .sources = d->P, .capacity = d->K, .rows = counts};
}

swt_status swt_cpu_experts_forward(const swt_ctx *c, void *y, void *hidden, const void *x,
                                   const void *wi, const void *bi, const void *wo, const void *bo,
                                   const int32_t *counts, const swt_moe_dims *dims) {
    const swt_cpu_groups g = expert_groups(dims, counts);
    swt_cpu_products_nt(c, &g, hidden, x, wi, bi, NULL, true, dims->C, dims->F);
    swt_cpu_products_nt(c, &g, y, hidden, wo, bo, NULL, false, dims->F, dims->C);
    return SWT_OK;
}

typedef struct dot_args {
    const swt_vec *vec;
    swt_cpu_groups groups;
    float *dot;
    const float *dy, *bo, *dhidden, *hidden;
    int64_t C, F;
} dot_args;

static void dot_part(const void *args, int64_t part) {
    const dot_args *a = args;
    const swt_cpu_groups *g = &a->groups;
    const int64_t blocks = swt_ceil_div(g->capacity, SWT_ROWS), pair = part / blocks;
    const int64_t begin = part % blocks * SWT_ROWS;
    const int64_t end = swt_min(g->rows[pair], begin + SWT_ROWS);
    const float *bo = a->bo != NULL ? a->bo + pair / g->sources * a->C : NULL;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = pair * g->capacity + i;
        a->dot[row] = a->vec->dot(a->dhidden + row * a->F, a->hidden + row * a->F, a->F);
        if (bo != NULL)
            a->dot[row] += a->vec->dot(a->dy + row * a->C, bo, a->C);
    }
}

swt_status swt_cpu_experts_backward_input(const swt_ctx *c, void *dx, void *dhidden, float *dot,
                                          const void *dy, const void *hidden, const void *wi,
                                          const void *wo, const void *bo, const int32_t *counts,
                                          const swt_moe_dims *dims) {
    const swt_cpu_groups g = expert_groups(dims, counts);
    const dot_args a = {.vec = swt_cpu_vec(c),
                        .groups = g,
                        .dot = dot,
                        .dy = dy,
                        .bo = bo,
                        .dhidden = dhidden,
                        .hidden = hidden,
                        .C = dims->C,
                        .F = dims->F};
    swt_cpu_products_nn(c, &g, dhidden, dy, wo, hidden, dims->F, dims->C);
    swt_cpu_products_nn(c, &g, dx, dhidden, wi, NULL, dims->C, dims->F);
    const int64_t pairs = g.weights * g.sources;
    swt_cpu_run_parts(c, pairs * swt_ceil_div(g.capacity, SWT_ROWS), dot_part, &a);
    return SWT_OK;
}

swt_status swt_cpu_experts_backward_weight(const swt_ctx *c, float *dwi, float *dbi, float *dwo,
                                           float *dbo, const void *x, const void *hidden,
                                           const void *dhidden, const void *dy,
                                           const int32_t *counts, const swt_moe_dims *dims,
                                           const swt_expert_sums *sums) {
    const swt_cpu_groups g = expert_groups(dims, counts);
    const int64_t C = dims->C, F = dims->F;
    if (sums == NULL) {
        swt_cpu_products_tn(c, &g, dwi, dbi, dhidden, x, C, F, false);
        swt_cpu_products_tn(c, &g, dwo, dbo, dy, hidden, F, C, false);
        return SWT_OK;
    }
    const swt_cpu_sums wi = {sums->wi, sums->bi, sums->limit, sums->first, sums->last};
    const swt_cpu_sums wo = {sums->wo, sums->bo, sums->limit, sums->first, sums->last};
    swt_cpu_products_tn_sums(c, &g, &wi, dwi, dbi, dhidden, x, C, F);
    swt_cpu_products_tn_sums(c, &g, &wo, dwo, dbo, dy, hidden, F, C);
    return SWT_OK;
}
