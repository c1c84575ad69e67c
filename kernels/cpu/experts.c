/* Each (local expert, source rank) pair is a product of its own over its occupied slots, cut into
 * parts by their number: the same cuts wherever the expert and the micro-batch live. */
#include "base/checked.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/product.h"

enum {
    SLOTS = 128, /* of a part that computes rows */
    OUTPUTS = 64 /* rows of a weight's gradient in a part */
};

typedef struct experts_args {
    const swt_ctx *c;
    const swt_moe_dims *d;
    float *y, *hidden_out;         /* forward */
    float *dx, *dhidden_out, *dot; /* backward_input */
    float *dwi, *dbi, *dwo, *dbo;  /* backward_weight */
    const float *x, *hidden, *dhidden, *dy;
    const float *wi, *bi, *wo, *bo;
    const int32_t *counts;
    int64_t p; /* backward_weight */
} experts_args;

/* A part's slots: rows first .. first + rows - 1 of (El P K) rows, all of expert j. */
typedef struct slot_range {
    int64_t j, first, rows;
} slot_range;

static int64_t slot_parts(const swt_moe_dims *d) {
    return d->El * d->P * swt_ceil_div(d->K, SLOTS);
}

static slot_range slots_of(const experts_args *a, int64_t part) {
    const int64_t blocks = swt_ceil_div(a->d->K, SLOTS), pair = part / blocks;
    const int64_t begin = part % blocks * SLOTS;
    return (slot_range){.j = pair / a->d->P,
                        .first = pair * a->d->K + begin,
                        .rows = swt_min(a->counts[pair] - begin, SLOTS)};
}

static swt_status forward_part(const void *args, int64_t part) {
    const experts_args *a = args;
    const swt_vec *vec = swt_cpu_vec(a->c);
    const int64_t C = a->d->C, F = a->d->F;
    const slot_range r = slots_of(a, part);
    if (r.rows <= 0)
        return SWT_OK;
    float *hidden = a->hidden_out + r.first * F, *y = a->y + r.first * C;
    SWT_TRY(
        swt_cpu_product_nt(hidden, a->x + r.first * C, a->wi + r.j * F * C, r.rows, C, F, false));
    for (int64_t i = 0; i < r.rows; i++)
        vec->epilogue(hidden + i * F, a->bi ? a->bi + r.j * F : NULL, NULL, true, F);
    SWT_TRY(swt_cpu_product_nt(y, hidden, a->wo + r.j * C * F, r.rows, F, C, false));
    for (int64_t i = 0; a->bo && i < r.rows; i++)
        vec->epilogue(y + i * C, a->bo + r.j * C, NULL, false, C);
    return SWT_OK;
}

swt_status swt_cpu_experts_forward(const swt_ctx *c, void *y, void *hidden, const void *x,
                                   const void *wi, const void *bi, const void *wo, const void *bo,
                                   const int32_t *counts, const swt_moe_dims *dims) {
    const experts_args a = {.c = c,
                            .d = dims,
                            .y = y,
                            .hidden_out = hidden,
                            .x = x,
                            .wi = wi,
                            .bi = bi,
                            .wo = wo,
                            .bo = bo,
                            .counts = counts};
    return swt_cpu_run_parts(c, slot_parts(dims), forward_part, &a);
}

static swt_status backward_input_part(const void *args, int64_t part) {
    const experts_args *a = args;
    const int64_t C = a->d->C, F = a->d->F;
    const slot_range r = slots_of(a, part);
    if (r.rows <= 0)
        return SWT_OK;
    float *dhidden = a->dhidden_out + r.first * F;
    SWT_TRY(
        swt_cpu_product_nn(dhidden, a->dy + r.first * C, a->wo + r.j * C * F, r.rows, F, C, false));
    const swt_vec *vec = swt_cpu_vec(a->c);
    vec->relu_mask(dhidden, a->hidden + r.first * F, r.rows * F);
    for (int64_t i = 0, row = r.first; i < r.rows; i++, row++) {
        a->dot[row] = vec->dot(dhidden + i * F, a->hidden + row * F, F);
        if (a->bo)
            a->dot[row] += vec->dot(a->dy + row * C, a->bo + r.j * C, C);
    }
    return swt_cpu_product_nn(a->dx + r.first * C, dhidden, a->wi + r.j * F * C, r.rows, C, F,
                              false);
}

swt_status swt_cpu_experts_backward_input(const swt_ctx *c, void *dx, void *dhidden, float *dot,
                                          const void *dy, const void *hidden, const void *wi,
                                          const void *wo, const void *bo, const int32_t *counts,
                                          const swt_moe_dims *dims) {
    const experts_args a = {.c = c,
                            .d = dims,
                            .dx = dx,
                            .dhidden_out = dhidden,
                            .dot = dot,
                            .dy = dy,
                            .hidden = hidden,
                            .wi = wi,
                            .wo = wo,
                            .bo = bo,
                            .counts = counts};
    return swt_cpu_run_parts(c, slot_parts(dims), backward_input_part, &a);
}

/* A block of rows of dw (El, out, in) and dbias (El, out) of expert j, from its n slots of dy and
 * x. */
static swt_status weight_rows(const swt_vec *vec, float *dw, float *dbias, const float *dy,
                              const float *x, int64_t j, int64_t block, int64_t n, int64_t in,
                              int64_t out) {
    const int64_t first = block * OUTPUTS, rows = swt_min(OUTPUTS, out - first);
    if (dbias)
        vec->column_sum(dbias + j * out + first, dy + first, n, out, rows, false);
    return swt_cpu_product_tn(dw + (j * out + first) * in, dy + first, out, x, n, in, rows, false);
}

static swt_status backward_weight_part(const void *args, int64_t part) {
    const experts_args *a = args;
    const int64_t C = a->d->C, F = a->d->F;
    const int64_t wi_blocks = swt_ceil_div(F, OUTPUTS),
                  blocks = wi_blocks + swt_ceil_div(C, OUTPUTS);
    const int64_t j = part / blocks, block = part % blocks, pair = j * a->d->P + a->p;
    const int64_t first = pair * a->d->K, n = a->counts[pair];
    const float *hidden = a->hidden + first * F, *dhidden = a->dhidden + first * F;
    const float *x = a->x + first * C, *dy = a->dy + first * C;
    const swt_vec *vec = swt_cpu_vec(a->c);
    if (block < wi_blocks)
        return weight_rows(vec, a->dwi, a->dbi, dhidden, x, j, block, n, C, F);
    return weight_rows(vec, a->dwo, a->dbo, dy, hidden, j, block - wi_blocks, n, F, C);
}

swt_status swt_cpu_experts_backward_weight(const swt_ctx *c, float *dwi, float *dbi, float *dwo,
                                           float *dbo, const void *x, const void *hidden,
                                           const void *dhidden, const void *dy,
                                           const int32_t *counts, const swt_moe_dims *dims,
                                           int64_t p) {
    const experts_args a = {.c = c,
                            .d = dims,
                            .dwi = dwi,
                            .dbi = dbi,
                            .dwo = dwo,
                            .dbo = dbo,
                            .x = x,
                            .hidden = hidden,
                            .dhidden = dhidden,
                            .dy = dy,
                            .counts = counts,
                            .p = p};
    const int64_t blocks = swt_ceil_div(dims->F, OUTPUTS) + swt_ceil_div(dims->C, OUTPUTS);
    return swt_cpu_run_parts(c, dims->El * blocks, backward_weight_part, &a);
}
