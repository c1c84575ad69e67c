/* The linear layers, the embedding, LayerNorm, RMS norm, GELU and the cross-entropy against the
 * oracle. */
#include "judge/case.h"
#include "judge/oracle.h"

#include <math.h>

/* Shapes of a large trial: several parts and blocks of whatever a backend divides, long and narrow
 * ones, both sides of the sizes of tiles, and no row at all. Case 11 has that of case 0 again, and
 * so on, with other options. */
enum { SHAPES = 11 };

/* A dimension of a large trial's shape, else one that is drawn. */
static void draw_dim(swt_case *k, const char *name, int64_t *dim, int64_t large) {
    swt_case_dim(k, name, dim, k->t->large ? large : swt_trial_size(k->t, 130));
}

/* ---- linear layers */

static void draw_layer(swt_case *k, int64_t *N, int64_t *in, int64_t *out) {
    static const int64_t large[SHAPES][3] = {
        {1100, 140, 300}, {2, 1000, 3},  {0, 8, 5},     {515, 96, 200},
        {260, 1100, 70},  {1000, 12, 9}, {3, 5, 1300},  {65, 64, 130},
        {130, 65, 64},    {63, 33, 31},  {257, 128, 4},
    };
    const int64_t *shape = large[k->number % SHAPES];
    draw_dim(k, "N", N, shape[0]);
    draw_dim(k, "in", in, shape[1]);
    draw_dim(k, "out", out, shape[2]);
}

void swt_draw_linear_forward(swt_case *k, void *args) {
    swt_linear_forward_args *a = args;
    draw_layer(k, &a->N, &a->in, &a->out);
    a->epilogue =
        swt_case_note(k, "relu", k->number >> 3 & 1) ? SWT_EPILOGUE_RELU : SWT_EPILOGUE_NONE;
}

void swt_judge_linear_forward(swt_case *k, const void *args) {
    const swt_linear_forward_args *a = args;
    double *y = swt_case_want(k, a->y);
    swt_oracle_linear_forward(y, swt_case_wide(k, a->x), swt_case_wide(k, a->w),
                              swt_case_wide(k, a->bias), swt_case_wide(k, a->residual), a->N, a->in,
                              a->out, a->epilogue == SWT_EPILOGUE_RELU);
    swt_case_close(k, a->y, y, swt_sum_tolerance(a->in), 1 + swt_sum_size(a->in));
}

/* The ReLU's output has whole numbers: 0 of either sign, and those on both sides of it. */
void swt_draw_linear_backward_input(swt_case *k, void *args) {
    swt_linear_backward_input_args *a = args;
    draw_layer(k, &a->N, &a->in, &a->out);
    const bool relu = swt_case_note(k, "relu", k->number & 1) != 0;
    if (relu)
        a->relu_output = swt_case_whole(k, a->N * a->in, k->t->ctx.dtype, -1, 2);
    k->choices = relu ? 0 : (unsigned)k->number & ~1U; /* of dresidual and its place */
}

void swt_judge_linear_backward_input(swt_case *k, const void *args) {
    const swt_linear_backward_input_args *a = args;
    const double *relu_output = swt_case_wide(k, a->relu_output);
    double *dx = swt_case_want(k, a->dx);
    swt_oracle_linear_backward_input(dx, swt_case_wide(k, a->dy), swt_case_wide(k, a->w),
                                     relu_output, a->N, a->in, a->out);
    const double *dresidual = swt_case_wide(k, a->dresidual);
    for (int64_t i = 0; dresidual != NULL && i < a->N * a->in; i++)
        dx[i] += dresidual[i];
    swt_case_close(k, a->dx, dx, swt_sum_tolerance(a->out), 1 + swt_sum_size(a->out));
    for (int64_t i = 0; relu_output != NULL && i < a->N * a->in; i++)
        if (relu_output[i] <= 0)
            swt_case_number(k, a->dx, i, 0, 0);
}

void swt_draw_linear_backward_weight(swt_case *k, void *args) {
    swt_linear_backward_weight_args *a = args;
    draw_layer(k, &a->N, &a->in, &a->out);
    a->add = swt_case_note(k, "add", k->number >> 1 & 1);
}

void swt_judge_linear_backward_weight(swt_case *k, const void *args) {
    const swt_linear_backward_weight_args *a = args;
    double *dw = swt_case_want(k, a->dw), *dbias = swt_case_want(k, a->dbias);
    swt_oracle_linear_backward_weight(dw, dbias, swt_case_wide(k, a->dy), swt_case_wide(k, a->x),
                                      a->N, a->in, a->out);
    swt_case_close(k, a->dw, dw, swt_sum_tolerance(a->N), swt_sum_size(a->N));
    swt_case_close(k, a->dbias, dbias, swt_sum_tolerance(a->N), swt_sum_size(a->N));
}

/* ---- embedding */

static int32_t *draw_tokens(swt_case *k, int64_t *N, int64_t *C, int64_t *V) {
    static const int64_t large[SHAPES][3] = {
        {3000, 96, 65}, {130, 64, 65}, {0, 4, 4}, {300, 40, 2}, {17, 128, 1},  {3, 33, 1000},
        {512, 32, 65},  {65, 1, 65},   {1, 1, 1}, {5, 7, 3},    {2000, 33, 7},
    };
    const int64_t *shape = large[k->number % SHAPES];
    draw_dim(k, "N", N, shape[0]);
    draw_dim(k, "C", C, shape[1]);
    draw_dim(k, "V", V, shape[2]);
    return swt_trial_integers(k->t, *N, 0, (int)*V - 1);
}

void swt_draw_embedding_forward(swt_case *k, void *args) {
    swt_embedding_forward_args *a = args;
    a->tokens = draw_tokens(k, &a->N, &a->C, &a->V);
}

void swt_judge_embedding_forward(swt_case *k, const void *args) {
    const swt_embedding_forward_args *a = args;
    const swt_dtype dtype = k->t->ctx.dtype;
    const int64_t row_bytes = a->C * (int64_t)swt_dtype_bytes(dtype);
    for (int64_t n = 0; n < a->N; n++)
        swt_trial_same(k->t, "x", (const char *)a->x + n * row_bytes,
                       (const char *)a->table + a->tokens[n] * row_bytes, a->C, dtype);
}

void swt_draw_embedding_backward(swt_case *k, void *args) {
    swt_embedding_backward_args *a = args;
    a->tokens = draw_tokens(k, &a->N, &a->C, &a->V);
    a->add = swt_case_note(k, "add", k->number & 1);
}

/* A row is a sum of at most N numbers, about N / V of them. */
void swt_judge_embedding_backward(swt_case *k, const void *args) {
    const swt_embedding_backward_args *a = args;
    const double terms = 1 + (double)a->N / (double)a->V;
    double *dtable = swt_case_want(k, a->dtable);
    swt_oracle_embedding_backward(dtable, swt_case_wide(k, a->dx), a->tokens, a->N, a->C);
    swt_case_close(k, a->dtable, dtable, 4 * sqrt(terms) * SWT_ROUNDING, sqrt(terms / 3));
}

/* ---- LayerNorm */

static void draw_rows(swt_case *k, int64_t *N, int64_t *C) {
    static const int64_t large[SHAPES][2] = {
        {1000, 200}, {200, 5},  {0, 16},   {7, 1000}, {65, 64},  {300, 40},
        {300, 1},    {130, 65}, {33, 200}, {128, 17}, {192, 32},
    };
    const int64_t *shape = large[k->number % SHAPES];
    draw_dim(k, "N", N, shape[0]);
    draw_dim(k, "C", C, shape[1]);
}

/* That of a head that is tied to an embedding of 12 columns, or 1. */
static float draw_scale(swt_case *k) {
    return swt_case_note(k, "scaled", k->number % 5 == 1) ? 0.2886751f : 1.0f;
}

/* What the rows spread around. At 100 a variance as mean(x^2) - mean^2 would have three digits
 * left. */
static double offset_of(const swt_case *k) {
    static const double offsets[] = {0, -3, 100};
    return offsets[k->number % 3];
}

void swt_draw_norm_forward(swt_case *k, void *args) {
    swt_norm_forward_args *a = args;
    const double offset = offset_of(k);
    draw_rows(k, &a->N, &a->C);
    swt_case_note(k, "offset", (int64_t)offset);
    a->eps = 1e-5;
    a->scale = draw_scale(k);
    a->x = swt_case_uniform(k, a->N * a->C, k->t->ctx.dtype, offset - 1, offset + 1);
    a->weight = swt_case_uniform(k, a->C, SWT_F32, -2, 2);
}

/* The mean, and with it x - mean, is wrong by some sqrt(C) roundings of |offset| + 1; that error,
 * times rstd, is the output's. rstd is about sqrt(3), and up to 1 / sqrt(eps) = 316 where a row
 * hardly varies (few columns). */
void swt_judge_norm_forward(swt_case *k, const void *args) {
    const swt_norm_forward_args *a = args;
    double *y = swt_case_want(k, a->y), *mean = swt_case_want(k, a->mean),
           *rstd = swt_case_want(k, a->rstd), largest = 0;
    swt_oracle_norm_forward(y, mean, rstd, swt_case_wide(k, a->x), swt_case_wide(k, a->weight),
                            swt_case_wide(k, a->bias), a->N, a->C, a->eps, (double)a->scale);
    for (int64_t n = 0; n < a->N; n++)
        largest = fmax(largest, rstd[n]);
    const double tolerance =
        (4 + 2 * largest * (1 + fabs(offset_of(k)))) * sqrt((double)a->C) * SWT_ROUNDING;
    swt_case_close(k, a->mean, mean, tolerance, 1);
    swt_case_close(k, a->rstd, rstd, tolerance, 0);
    swt_case_close(k, a->y, y, tolerance, 1);
}

/* The formula holds for any statistics; these are about those of x in wide rows. */
void swt_draw_norm_backward(swt_case *k, void *args) {
    swt_norm_backward_args *a = args;
    draw_rows(k, &a->N, &a->C);
    a->add = swt_case_note(k, "add", k->number >> 2 & 1);
    a->scale = draw_scale(k);
    a->weight = swt_case_uniform(k, a->C, SWT_F32, -2, 2);
    if (swt_case_note(k, "mean", k->number >> 3 & 1))
        a->mean = swt_case_uniform(k, a->N, SWT_F32, -0.1, 0.1);
    k->choices &= k->number & 2 ? 7 : 1; /* of dbias, dresidual and its place; the mean's is made */
    a->rstd = swt_case_uniform(k, a->N, SWT_F32, 1.5, 2);
}

/* dx: two means over C and a few products, times rstd. The others: sums over N rows. */
void swt_judge_norm_backward(swt_case *k, const void *args) {
    const swt_norm_backward_args *a = args;
    double *dx = swt_case_want(k, a->dx), *dweight = swt_case_want(k, a->dweight),
           *dbias = swt_case_want(k, a->dbias);
    swt_oracle_norm_backward(dx, dweight, dbias, swt_case_wide(k, a->dy),
                             swt_case_wide(k, a->dresidual), swt_case_wide(k, a->x),
                             swt_case_wide(k, a->mean), swt_case_wide(k, a->rstd),
                             swt_case_wide(k, a->weight), a->N, a->C, (double)a->scale);
    const double rows = sqrt(1 + (double)a->N);
    swt_case_close(k, a->dx, dx, 8 * sqrt((double)a->C) * SWT_ROUNDING, 3);
    swt_case_close(k, a->dweight, dweight, 4 * rows * SWT_ROUNDING, rows);
    swt_case_close(k, a->dbias, dbias, 4 * rows * SWT_ROUNDING, rows);
}

/* ---- GELU */

/* In turns alone and gated, of all rows, far from 0, too, and of occupied ones near it. */
static const int32_t *draw_gelu(swt_case *k, swt_gelu_dims *d) {
    static const int64_t large[SHAPES][3] = {
        {1, 1000, 200}, {3, 70, 5}, {1, 0, 16},  {2, 7, 1000}, {1, 65, 64},  {9, 33, 40},
        {1, 300, 1},    {4, 1, 65}, {1, 33, 33}, {16, 8, 17},  {1, 192, 32},
    };
    const int64_t *shape = large[k->number % SHAPES];
    swt_case_dim(k, "blocks", &d->blocks, k->t->large ? shape[0] : swt_trial_choose(k->t, 1, 3));
    swt_case_dim(k, "rows", &d->rows, k->t->large ? shape[1] : swt_trial_size(k->t, 33));
    draw_dim(k, "F", &d->F, shape[2]);
    d->gated = swt_case_note(k, "gated", k->number & 1);
    k->choices = 0; /* counts are drawn here */
    return k->number & 2 ? swt_trial_integers(k->t, d->blocks, 0, (int)d->rows) : NULL;
}

/* Rows that are not occupied hold NaN, or zeros where a backend computes them, too. */
static void *draw_gelu_rows(swt_case *k, const swt_gelu_dims *d, const int32_t *row_counts,
                            int64_t width, double size) {
    const swt_dtype dtype = k->t->ctx.dtype;
    if (row_counts == NULL)
        return swt_case_uniform(k, d->blocks * d->rows * width, dtype, -size, size);
    return swt_case_slots(k, row_counts, d->blocks, d->rows, width, dtype, -1,
                          k->t->ctx.ops->all_slots ? 0 : NAN);
}

/* gelu(u) is wrong by up to 3 roundings, its slope by 4, of numbers of their size or of 1 / 3; up
 * to two products follow. Rows that are not occupied are untouched. */
static void expect_gelu_rows(swt_case *k, const swt_gelu_dims *d, const int32_t *row_counts,
                             const void *tensor, const double *want, int64_t width) {
    for (int64_t b = 0; b < d->blocks; b++) {
        const int64_t first = b * d->rows * width, n = row_counts != NULL ? row_counts[b] : d->rows;
        swt_case_close_part(k, tensor, first, n * width, want + first, 6 * SWT_ROUNDING, 0.5);
    }
    if (row_counts != NULL && !k->t->ctx.ops->all_slots)
        swt_case_empty_slots(k, tensor, row_counts, d->blocks, d->rows, width, false);
}

void swt_draw_gelu_forward(swt_case *k, void *args) {
    swt_gelu_forward_args *a = args;
    a->row_counts = draw_gelu(k, &a->dims);
    a->x = draw_gelu_rows(k, &a->dims, a->row_counts, swt_gelu_width(&a->dims), 12);
}

void swt_judge_gelu_forward(swt_case *k, const void *args) {
    const swt_gelu_forward_args *a = args;
    double *y = swt_case_want(k, a->y);
    swt_oracle_gelu_forward(y, swt_case_wide(k, a->x), a->dims.blocks * a->dims.rows, a->dims.F,
                            a->dims.gated);
    expect_gelu_rows(k, &a->dims, a->row_counts, a->y, y, a->dims.F);
}

void swt_draw_gelu_backward(swt_case *k, void *args) {
    swt_gelu_backward_args *a = args;
    a->row_counts = draw_gelu(k, &a->dims);
    a->x = draw_gelu_rows(k, &a->dims, a->row_counts, swt_gelu_width(&a->dims), 12);
    a->dy = draw_gelu_rows(k, &a->dims, a->row_counts, a->dims.F, 1);
}

void swt_judge_gelu_backward(swt_case *k, const void *args) {
    const swt_gelu_backward_args *a = args;
    double *dx = swt_case_want(k, a->dx);
    swt_oracle_gelu_backward(dx, swt_case_wide(k, a->dy), swt_case_wide(k, a->x),
                             a->dims.blocks * a->dims.rows, a->dims.F, a->dims.gated);
    expect_gelu_rows(k, &a->dims, a->row_counts, a->dx, dx, swt_gelu_width(&a->dims));
}

/* ---- the loss */

/* Logits are uniform in [-size, size). */
static double size_of(const swt_case *k) {
    return k->number / 4 == 1 ? 30 : 2;
}

/* One row in five has no target; where the gradient lies over the logits also the last one, behind
 * which nothing may be written. */
static const int32_t *draw_targets(swt_case *k, int64_t N, int64_t V) {
    int32_t *targets = swt_trial_integers(k->t, N, -1, (int)V - 1);
    for (int64_t n = 0; n < N; n++)
        if (swt_trial_choose(k->t, 0, 4) == 0 || (n == N - 1 && k->number % 4 == 3))
            targets[n] = -1;
    return targets;
}

/* One case in three has a z-loss, whose gradient is as large as the cross-entropy's. */
static double draw_z_coef(swt_case *k) {
    return swt_case_note(k, "z", k->number % 3 == 1) ? 0.125 : 0;
}

/* In turns: no gradient, into a tensor of its own, none, over the logits. The last four cases have
 * whole numbers: ties. Rows of 512 are whole steps of a GPU's threads. */
void swt_draw_cross_entropy(swt_case *k, void *args) {
    static const int64_t large[SHAPES][2] = {
        {257, 512}, {1000, 65}, {0, 9},   {3000, 130}, {40, 1000}, {130, 5},
        {200, 1},   {65, 65},   {3, 999}, {3, 4200},   {65, 2},
    };
    swt_cross_entropy_args *a = args;
    const int64_t *shape = large[k->number % SHAPES];
    const swt_dtype dtype = k->t->ctx.dtype;
    draw_dim(k, "N", &a->N, shape[0]);
    draw_dim(k, "V", &a->V, shape[1]);
    swt_case_note(k, "size", (int64_t)size_of(k));
    a->z_coef = (float)draw_z_coef(k);
    k->t->state->targets = 3 * a->N + 1;
    a->targets = draw_targets(k, a->N, a->V);
    a->logits = k->number >= 8 ? swt_case_whole(k, a->N * a->V, dtype, -2, 2)
                               : swt_case_uniform(k, a->N * a->V, dtype, -size_of(k), size_of(k));
    if (k->number % 4 == 3)
        a->logits = a->dlogits = swt_trial_copy(k->t, a->logits, a->N * a->V, dtype);
}

/* A row's loss is wrong by the rounding of its logsumexp (of size + log V) and of the sum of V
 * exponentials, each of which may be wrong by 2 units in the last place (4 roundings), all in the
 * same direction; so may the exponential of the gradient, which a z-loss makes larger. Its own
 * square, of a logsumexp up to size + log V, is wrong by twice that times its error. N rows. */
void swt_judge_cross_entropy(swt_case *k, const void *args) {
    const swt_cross_entropy_args *a = args;
    const double targets = (double)k->t->state->targets, V = (double)a->V;
    const double row = (8 + 4 * (size_of(k) + log(V)) + 4 * sqrt(V)) * SWT_ROUNDING;
    const double lse = size_of(k) + log(V), rows = 1 + 3 * sqrt((double)a->N);
    double *dlogits = swt_case_want(k, a->dlogits), stats[SWT_LOSS_STATS];
    swt_oracle_cross_entropy(dlogits, stats, swt_case_wide(k, a->logits), a->targets,
                             k->t->state->targets, a->N, a->V, (double)a->z_coef);
    swt_case_number(k, a->stats, SWT_LOSS_SUM, stats[SWT_LOSS_SUM], row * rows);
    swt_case_number(k, a->stats, SWT_LOSS_CORRECT, stats[SWT_LOSS_CORRECT], 0);
    swt_case_number(k, a->stats, SWT_LOSS_Z, stats[SWT_LOSS_Z], 2 * lse * row * rows);
    swt_case_close(k, a->dlogits, dlogits, row, (1 + 2 * (double)a->z_coef * lse) / targets);
    for (int64_t i = 0; dlogits != NULL && i < a->N * a->V; i++)
        if (a->targets[i / a->V] < 0)
            swt_case_number(k, a->dlogits, i, 0, 0);
}
