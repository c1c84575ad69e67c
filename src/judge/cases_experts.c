/* The experts' feed-forward against the oracle's linear layers, block by block: a block is what one
 * source sends to one expert. Slots that are not occupied hold NaN, or zeros where a backend's
 * experts take all slots; they are written by no other backend. What an operation makes of a result
 * of its own is judged by that result as it is, rounded to the type of activations. */
#include "judge/case.h"
#include "judge/oracle.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 65 };

/* Shapes of a large trial: El, P, K, C, F. */
enum { SHAPES = 10 };
static const int64_t shapes[SHAPES][5] = {
    {3, 3, 90, 65, 130}, {2, 2, 5, 7, 3},    {4, 1, 64, 32, 64}, {1, 3, 65, 5, 40},
    {3, 4, 10, 64, 130}, {2, 1, 0, 8, 8},    {16, 2, 3, 40, 5},  {5, 2, 130, 33, 20},
    {1, 1, 1, 1, 1},     {1, 2, 20, 256, 2},
};

static void draw_dim(swt_case *k, const char *name, int64_t *dim, int which, int64_t small) {
    swt_case_dim(k, name, dim, k->t->large ? shapes[k->number % SHAPES][which] : small);
}

/* The dimensions, and the counts of the blocks: empty and full ones are common. */
static const int32_t *draw_layout(swt_case *k, swt_moe_dims *d) {
    *d = swt_oracle_moe_dims(1, 1, 1);
    draw_dim(k, "El", &d->El, 0, swt_trial_choose(k->t, 1, 3));
    draw_dim(k, "P", &d->P, 1, swt_trial_choose(k->t, 1, 3));
    draw_dim(k, "K", &d->K, 2, swt_trial_size(k->t, 33));
    draw_dim(k, "C", &d->C, 3, swt_trial_size(k->t, WIDTH));
    draw_dim(k, "F", &d->F, 4, swt_trial_size(k->t, WIDTH));
    d->N = d->group_capacity = d->K;
    d->E = d->El * d->P;
    d->ffn = (swt_ffn)swt_case_note(k, "ffn", k->number < 8 ? 0 : k->number / 4 - 1);
    if (swt_case_note(k, "dropout", k->number & 1)) /* a scale of 2 rounds nothing */
        d->dropout = swt_dropout_mask_of(0.5, SWT_DROPOUT_EXPERTS, 3, 1000);
    int32_t *counts = swt_trial_integers(k->t, d->E, 0, (int)d->K);
    for (int64_t i = 0; i < d->E; i++)
        counts[i] = i % 4 == 1 ? 0 : i % 4 == 2 ? (int32_t)d->K : counts[i];
    return counts;
}

/* Of hidden values: ReLU's. */
static float least_hidden(const swt_moe_dims *d) {
    return d->ffn == SWT_FFN_RELU ? 0 : -1;
}

/* The hidden values of block b's n slots, or their gradients, after dropout. */
static void drop(const swt_case *k, const swt_moe_dims *d, double *x, int64_t b, int64_t n) {
    const int64_t local = b / d->P, source = b % d->P;
    for (int64_t i = 0; d->dropout.limit > 0 && i < n * d->F; i++)
        x[i] *= swt_oracle_dropout(&d->dropout, k->t->state->seed, k->t->state->step,
                                   (source * d->E + local) * d->K + i / d->F, i % d->F, 0);
}

static double scale_of_kept(const swt_moe_dims *d) {
    return d->dropout.limit > 0 ? (double)d->dropout.scale : 1;
}

/* What an operation reads in slots. */
static void *draw_slots(swt_case *k, const swt_moe_dims *d, const int32_t *counts, int64_t width,
                        float least) {
    return swt_case_slots(k, counts, d->El * d->P, d->K, width, k->t->ctx.dtype, least,
                          k->t->ctx.ops->all_slots ? 0 : NAN);
}

static void expect_untouched(swt_case *k, const void *tensor, const swt_moe_dims *d,
                             const int32_t *counts, int64_t width) {
    if (!k->t->ctx.ops->all_slots)
        swt_case_empty_slots(k, tensor, counts, d->El * d->P, d->K, width, false);
}

/* Of local expert j, where the tensor is given. */
static const double *part_of(const double *tensor, int64_t j, int64_t size) {
    return tensor == NULL ? NULL : tensor + j * size;
}

void swt_draw_experts_forward(swt_case *k, void *args) {
    swt_experts_forward_args *a = args;
    a->slot_counts = draw_layout(k, &a->dims);
    a->x = draw_slots(k, &a->dims, a->slot_counts, a->dims.C, -1);
}

void swt_judge_experts_forward(swt_case *k, const void *args) {
    const swt_experts_forward_args *a = args;
    const int64_t P = a->dims.P, K = a->dims.K, C = a->dims.C, F = a->dims.F,
                  W = swt_moe_wi_width(&a->dims);
    const bool relu = a->dims.ffn == SWT_FFN_RELU, gated = a->dims.ffn == SWT_FFN_GEGLU;
    const void *made = relu ? a->hidden : a->pre; /* by wi */
    const double *x = swt_case_wide(k, a->x), *pre = swt_case_got(k, a->pre),
                 *hidden = swt_case_got(k, a->hidden), *wi = swt_case_wide(k, a->wi),
                 *bi = swt_case_wide(k, a->bi), *wo = swt_case_wide(k, a->wo),
                 *bo = swt_case_wide(k, a->bo);
    const double size_C = scale_of_kept(&a->dims) * (1 + swt_sum_size(C)),
                 size_F = 1 + swt_sum_size(F);
    double *want = swt_trial_doubles(k->t, K * W), *want_y = swt_trial_doubles(k->t, K * C);
    for (int64_t b = 0; b < a->dims.El * P; b++) {
        const int64_t n = a->slot_counts[b], j = b / P;
        swt_oracle_linear_forward(want, x + b * K * C, wi + j * W * C, part_of(bi, j, W), NULL, n,
                                  C, W, relu);
        if (relu)
            drop(k, &a->dims, want, b, n);
        swt_case_close_part(k, made, b * K * W, n * W, want, swt_sum_tolerance(C), size_C);
        if (!relu) {
            swt_oracle_gelu_forward(want, pre + b * K * W, n, F, gated);
            drop(k, &a->dims, want, b, n);
            swt_case_close_part(k, a->hidden, b * K * F, n * F, want, 6 * SWT_ROUNDING, size_C);
        }
        swt_oracle_linear_forward(want_y, hidden + b * K * F, wo + j * C * F, part_of(bo, j, C),
                                  NULL, n, F, C, false);
        swt_case_close_part(k, a->y, b * K * C, n * C, want_y, swt_sum_tolerance(F),
                            size_C * size_F);
    }
    expect_untouched(k, made, &a->dims, a->slot_counts, W);
    expect_untouched(k, a->hidden, &a->dims, a->slot_counts, F);
    expect_untouched(k, a->y, &a->dims, a->slot_counts, C);
}

/* The hidden values are 0 where the mask is. */
static void empty_dropped(swt_case *k, swt_experts_backward_input_args *a) {
    const swt_moe_dims *d = &a->dims;
    const int64_t count = d->El * d->P * d->K * d->F, block = d->K * d->F;
    const size_t bytes = swt_dtype_bytes(k->t->ctx.dtype);
    double *kept = swt_trial_doubles(k->t, block);
    for (int64_t i = 0; d->dropout.limit > 0 && i < count; i++) {
        for (int64_t n = 0; i % block == 0 && n < block; n++)
            kept[n] = 1;
        if (i % block == 0)
            drop(k, d, kept, i / block, d->K);
        if (kept[i % block] == 0)
            memset((unsigned char *)a->hidden + (size_t)i * bytes, 0, bytes);
    }
}

void swt_draw_experts_backward_input(swt_case *k, void *args) {
    swt_experts_backward_input_args *a = args;
    a->slot_counts = draw_layout(k, &a->dims);
    a->dy = draw_slots(k, &a->dims, a->slot_counts, a->dims.C, -1);
    a->hidden = draw_slots(k, &a->dims, a->slot_counts, a->dims.F, least_hidden(&a->dims));
    empty_dropped(k, a);
    if (a->dims.ffn != SWT_FFN_RELU)
        a->pre = draw_slots(k, &a->dims, a->slot_counts, swt_moe_wi_width(&a->dims), -1);
}

static double inner(const double *x, const double *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* dot is judged twice: by the dhidden that it is made of, which was not scaled by dropout yet, and
 * as what it is, dy . y. */
static void judge_dot(swt_case *k, const swt_experts_backward_input_args *a) {
    const int64_t P = a->dims.P, K = a->dims.K, C = a->dims.C, F = a->dims.F;
    const double size_C = 1 + swt_sum_size(C), size_F = 1 + swt_sum_size(F);
    const double *wo = swt_case_wide(k, a->wo), *bo = swt_case_wide(k, a->bo),
                 *all_dy = swt_case_wide(k, a->dy), *all_hidden = swt_case_wide(k, a->hidden),
                 *all_dhidden = swt_case_got(k, a->dhidden);
    double *y = swt_trial_doubles(k->t, K * C), *dot = swt_trial_doubles(k->t, K);
    const bool bf16 = k->t->ctx.dtype == SWT_BF16;
    const double rounding = bf16 ? 0x1p-8 : 0; /* of dhidden */
    for (int64_t b = 0; b < a->dims.El * P; b++) {
        const int64_t n = a->slot_counts[b], j = b / P;
        const double *dy = all_dy + b * K * C, *hidden = all_hidden + b * K * F,
                     *dhidden = all_dhidden + b * K * F;
        for (int64_t i = 0; i < n; i++) {
            dot[i] = inner(dhidden + i * F, hidden + i * F, F) / scale_of_kept(&a->dims);
            if (bo != NULL)
                dot[i] += inner(dy + i * C, bo + j * C, C);
        }
        swt_case_close_part(k, a->dot, b * K, n, dot, swt_sum_tolerance(C) + swt_sum_tolerance(F),
                            size_C * size_F);
        swt_oracle_linear_forward(y, hidden, wo + j * C * F, part_of(bo, j, C), NULL, n, F, C,
                                  false);
        for (int64_t i = 0; i < n; i++)
            dot[i] = inner(dy + i * C, y + i * C, C);
        swt_case_close_part(k, a->dot, b * K, n, dot,
                            2 * swt_sum_tolerance(C) + swt_sum_tolerance(F) + rounding,
                            size_C * size_F * (bf16 ? size_C : 1));
    }
    expect_untouched(k, a->dot, &a->dims, a->slot_counts, 1);
}

void swt_judge_experts_backward_input(swt_case *k, const void *args) {
    const swt_experts_backward_input_args *a = args;
    const int64_t P = a->dims.P, K = a->dims.K, C = a->dims.C, F = a->dims.F,
                  W = swt_moe_wi_width(&a->dims);
    const bool relu = a->dims.ffn == SWT_FFN_RELU, gated = a->dims.ffn == SWT_FFN_GEGLU;
    const void *back = relu ? a->dhidden : a->dpre; /* through wi */
    const double size_C = scale_of_kept(&a->dims) * (1 + swt_sum_size(C)),
                 size_F = 1 + swt_sum_size(F);
    const double *wi = swt_case_wide(k, a->wi), *wo = swt_case_wide(k, a->wo),
                 *dy = swt_case_wide(k, a->dy), *pre = swt_case_wide(k, a->pre),
                 *mask = relu ? swt_case_wide(k, a->hidden) : NULL,
                 *dhidden = swt_case_got(k, a->dhidden), *dpre = swt_case_got(k, back);
    double *want = swt_trial_doubles(k->t, K * W), *dx = swt_trial_doubles(k->t, K * C);
    for (int64_t b = 0; b < a->dims.El * P; b++) {
        const int64_t n = a->slot_counts[b], j = b / P;
        swt_oracle_linear_backward_input(want, dy + b * K * C, wo + j * C * F,
                                         part_of(mask, b, K * F), n, F, C);
        drop(k, &a->dims, want, b, n);
        swt_case_close_part(k, a->dhidden, b * K * F, n * F, want, swt_sum_tolerance(C), size_C);
        if (!relu) {
            swt_oracle_gelu_backward(want, dhidden + b * K * F, pre + b * K * W, n, F, gated);
            swt_case_close_part(k, a->dpre, b * K * W, n * W, want, 6 * SWT_ROUNDING, size_C);
        }
        swt_oracle_linear_backward_input(dx, dpre + b * K * W, wi + j * W * C, NULL, n, C, W);
        swt_case_close_part(k, a->dx, b * K * C, n * C, dx, swt_sum_tolerance(W), size_C * size_F);
    }
    expect_untouched(k, a->dhidden, &a->dims, a->slot_counts, F);
    expect_untouched(k, back, &a->dims, a->slot_counts, W);
    expect_untouched(k, a->dx, &a->dims, a->slot_counts, C);
    judge_dot(k, a);
}

/* ---- gradients of parameters */

/* Integer sums: of which the call is the last, they hold nothing of use afterwards. */
static int64_t *draw_sums(swt_case *k, const swt_expert_sums *s, int64_t n) {
    int64_t *sum = s->last ? swt_trial_scratch(k->t, n * (int64_t)sizeof *sum)
                           : swt_trial_out(k->t, n, SWT_I64);
    for (int64_t i = 0; i < n && !s->first; i++)
        sum[i] = (int64_t)ldexp(swt_trial_draw(k->t) - 0.5, 48);
    return sum;
}

/* A bias's gradient, which must be there when its sums are. */
static float *draw_gradient(swt_case *k, const swt_experts_backward_weight_args *a, int64_t n) {
    return a->sums.exact && !a->sums.last ? swt_trial_scratch(k->t, n * (int64_t)sizeof(float))
                                          : swt_trial_out(k->t, n, SWT_F32);
}

/* By turns not exact, and exact: the first call, the last, and both at once, which has sums only
 * where the backend needs them. */
void swt_draw_experts_backward_weight(swt_case *k, void *args) {
    swt_experts_backward_weight_args *a = args;
    const swt_moe_dims *d = &a->dims;
    swt_expert_sums *s = &a->sums;
    a->slot_counts = draw_layout(k, &a->dims);
    a->x = draw_slots(k, d, a->slot_counts, d->C, -1);
    a->hidden = draw_slots(k, d, a->slot_counts, d->F, least_hidden(d));
    a->dpre = draw_slots(k, d, a->slot_counts, swt_moe_wi_width(d), -1);
    a->dy = draw_slots(k, d, a->slot_counts, d->C, -1);
    s->exact = swt_case_note(k, "exact", k->number % 4 > 0);
    s->limit = 0x1p60;
    s->first = swt_case_note(k, "first", k->number % 4 != 2);
    s->last = swt_case_note(k, "last", k->number % 4 != 1);
    const bool bi = k->number >> 2 & 1, bo = k->number >> 3 & 1;
    const bool sums = s->exact && (!s->first || !s->last || k->t->ctx.ops->expert_sums);
    k->choices = 0;
    if (bi)
        a->dbi = draw_gradient(k, a, d->El * swt_moe_wi_width(d));
    if (bo)
        a->dbo = draw_gradient(k, a, d->El * d->C);
    if (!sums)
        return;
    s->wi = draw_sums(k, s, d->El * swt_moe_wi_width(d) * d->C);
    s->wo = draw_sums(k, s, d->El * d->C * d->F);
    if (bi)
        s->bi = draw_sums(k, s, d->El * swt_moe_wi_width(d));
    if (bo)
        s->bo = draw_sums(k, s, d->El * d->C);
}

/* One parameter's gradients of local expert j: `want` are those of this call, from `rows` rows. */
static void expect_gradients(swt_case *k, const swt_experts_backward_weight_args *a,
                             const float *grad, const int64_t *sum, int64_t j, int64_t n,
                             double *want, int64_t rows) {
    const double tolerance = swt_sum_tolerance(rows), size = 1 + swt_sum_size(rows);
    const int64_t *old = swt_case_before(k, sum);
    if (grad == NULL)
        return;
    for (int64_t i = 0; i < n && a->sums.exact && !a->sums.first; i++)
        want[i] += (double)old[j * n + i] * 0x1p-48;
    for (int64_t i = 0; i < n && a->sums.exact && !a->sums.last; i++)
        swt_trial_number(k->t, "sum", (double)sum[j * n + i] * 0x1p-48, want[i],
                         rows == 0 ? 0 : 8 * tolerance * size);
    if (a->sums.exact && !a->sums.last)
        return;
    swt_case_close_part(k, grad, j * n, n, want, tolerance, size);
    for (int64_t i = 0; rows == 0 && i < n; i++)
        swt_case_number(k, grad, j * n + i, (double)(float)want[i], 0);
}

void swt_judge_experts_backward_weight(swt_case *k, const void *args) {
    const swt_experts_backward_weight_args *a = args;
    const int64_t P = a->dims.P, K = a->dims.K, C = a->dims.C, F = a->dims.F,
                  W = swt_moe_wi_width(&a->dims);
    const double *x = swt_case_wide(k, a->x), *hidden = swt_case_wide(k, a->hidden),
                 *dpre = swt_case_wide(k, a->dpre), *dy = swt_case_wide(k, a->dy);
    for (int64_t j = 0; j < a->dims.El; j++) {
        double *dwi = swt_trial_doubles(k->t, W * C), *dbi = swt_trial_doubles(k->t, W),
               *dwo = swt_trial_doubles(k->t, C * F), *dbo = swt_trial_doubles(k->t, C);
        int64_t rows = 0;
        for (int64_t b = j * P; b < (j + 1) * P; b++) {
            const int64_t n = a->slot_counts[b];
            swt_oracle_linear_backward_weight(dwi, dbi, dpre + b * K * W, x + b * K * C, n, C, W);
            swt_oracle_linear_backward_weight(dwo, dbo, dy + b * K * C, hidden + b * K * F, n, F,
                                              C);
            rows += n;
        }
        expect_gradients(k, a, a->dwi, a->sums.wi, j, W * C, dwi, rows);
        expect_gradients(k, a, a->dbi, a->sums.bi, j, W, dbi, rows);
        expect_gradients(k, a, a->dwo, a->sums.wo, j, C * F, dwo, rows);
        expect_gradients(k, a, a->dbo, a->sums.bo, j, C, dbo, rows);
    }
}
