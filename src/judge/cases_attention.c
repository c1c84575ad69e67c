/* Attention against the oracle: causal self-attention on the columns of one tensor, as the model
 * calls it, and by turns other masks, lengths and tensors of their own. */
#include "judge/case.h"
#include "judge/oracle.h"

#include <math.h>

/* Dimensions; the scale is the usual one. Packed: q, k and v side by side in rows of 3 H D. */
static bool draw_dims(swt_case *k, swt_attention_dims *d) {
    const bool packed = k->number % 3 != 2, wide = k->number == 0;
    const int64_t most = k->t->large ? 130 : 65;
    swt_case_dim(k, "B", &d->B, swt_trial_choose(k->t, 1, 2));
    swt_case_dim(k, "H", &d->H, swt_trial_choose(k->t, 1, 3));
    swt_case_dim(k, "D", &d->D, wide ? SWT_HEAD_WIDTH_MAX : swt_trial_size(k->t, 65));
    swt_case_dim(k, "Tq", &d->Tq, wide ? 9 : swt_trial_size(k->t, most));
    swt_case_dim(k, "Tk", &d->Tk, packed ? d->Tq : swt_trial_size(k->t, most));
    swt_case_dim(k, "q_stride", &d->q_stride, d->H * d->D * (packed ? 3 : 1));
    swt_case_dim(k, "kv_stride", &d->kv_stride, d->q_stride);
    d->mask = packed || k->number % 2 != 0 ? SWT_MASK_CAUSAL : SWT_MASK_NONE;
    d->scale = (float)(1 / sqrt((double)d->D));
    swt_case_note(k, "mask", (int64_t)d->mask);
    k->choices = 0; /* lengths are drawn here */
    return packed;
}

/* Part 1 or 2 of the rows of a packed tensor: k or v, dk or dv. */
static void *part(const swt_case *k, void *packed, const swt_attention_dims *d, int64_t number) {
    return (unsigned char *)packed +
           (size_t)(number * d->H * d->D) * swt_dtype_bytes(k->t->ctx.dtype);
}

/* Sequences of any length; the shortest have no keys at all. */
static const int32_t *draw_lengths(swt_case *k, const swt_attention_dims *d) {
    return k->number % 3 == 2 ? swt_trial_integers(k->t, d->B, 0, (int)d->Tk) : NULL;
}

/* A score is a dot product of D terms, wrong by some sqrt(D) roundings of its typical size; p =
 * exp(s - lse) turns that absolute error into a relative one, and adds one or two roundings of its
 * own and those of s and lse themselves; sums over T keep it. */
static double tolerance_of(const swt_attention_dims *d) {
    const double terms = sqrt((double)d->D), T = (double)(d->Tq > d->Tk ? d->Tq : d->Tk);
    return (4 + 2 * sqrt(T) + 2 * (double)d->scale * terms * (1 + terms)) * SWT_ROUNDING;
}

void swt_draw_attention_forward(swt_case *k, void *args) {
    swt_attention_forward_args *a = args;
    swt_attention_dims *d = &a->dims;
    const bool packed = draw_dims(k, d);
    a->key_lengths = draw_lengths(k, d);
    if (!packed)
        return;
    void *qkv = swt_case_uniform(k, 3 * d->B * d->Tq * d->H * d->D, k->t->ctx.dtype, -1, 1);
    a->q = qkv;
    a->k = part(k, qkv, d, 1);
    a->v = part(k, qkv, d, 2);
}

/* A query that sees no key has lse = -infinity. */
void swt_judge_attention_forward(swt_case *k, const void *args) {
    const swt_attention_forward_args *a = args;
    const swt_attention_dims *d = &a->dims;
    double *y = swt_case_want(k, a->y), *lse = swt_case_want(k, a->lse);
    swt_oracle_attention_forward(y, lse, swt_case_wide(k, a->q), swt_case_wide(k, a->k),
                                 swt_case_wide(k, a->v), a->key_lengths, d);
    swt_case_close(k, a->y, y, tolerance_of(d), 0);
    if (a->key_lengths == NULL) {
        swt_case_close(k, a->lse, lse, tolerance_of(d), 1);
        return;
    }
    for (int64_t i = 0; i < d->B * d->H * d->Tq; i++)
        swt_case_number(k, a->lse, i, lse[i],
                        isfinite(lse[i]) ? 8 * tolerance_of(d) * fmax(1, fabs(lse[i])) : 0);
}

/* y and lse are those of the oracle, rounded. */
static void give_forward(swt_case *k, swt_attention_backward_args *a) {
    const swt_attention_dims *d = &a->dims;
    swt_trial *t = k->t;
    const int64_t n = d->B * d->Tq * d->H * d->D, heads = d->B * d->H * d->Tq;
    const int64_t q = d->B * d->Tq * d->q_stride, kv = d->B * d->Tk * d->kv_stride;
    const int64_t skip = d->q_stride - d->H * d->D; /* behind the last row's own part */
    double *y = swt_trial_doubles(t, n), *lse = swt_trial_doubles(t, heads);
    double *wide[3] = {swt_trial_doubles(t, q), swt_trial_doubles(t, kv), swt_trial_doubles(t, kv)};
    const void *tensors[] = {a->q, a->k, a->v};
    for (int i = 0; i < 3; i++)
        for (int64_t e = 0; e < (i == 0 ? q : kv) - skip; e++)
            wide[i][e] = swt_trial_element(tensors[i], e, t->ctx.dtype);
    swt_oracle_attention_forward(y, lse, wide[0], wide[1], wide[2], a->key_lengths, d);
    a->y = swt_case_rounded(k, y, n, t->ctx.dtype);
    a->lse = swt_case_rounded(k, lse, heads, SWT_F32);
}

void swt_draw_attention_backward(swt_case *k, void *args) {
    swt_attention_backward_args *a = args;
    swt_attention_dims *d = &a->dims;
    const swt_dtype dtype = k->t->ctx.dtype;
    const bool packed = draw_dims(k, d);
    const int64_t HD = d->H * d->D, q = d->B * d->Tq * HD, kv = d->B * d->Tk * HD;
    a->key_lengths = draw_lengths(k, d);
    if (packed) {
        void *qkv = swt_case_uniform(k, 3 * q, dtype, -1, 1),
             *dqkv = swt_trial_out(k->t, 3 * q, dtype);
        a->q = qkv;
        a->k = part(k, qkv, d, 1);
        a->v = part(k, qkv, d, 2);
        a->dq = dqkv;
        a->dk = part(k, dqkv, d, 1);
        a->dv = part(k, dqkv, d, 2);
    } else {
        a->q = swt_case_uniform(k, q, dtype, -1, 1);
        a->k = swt_case_uniform(k, kv, dtype, -1, 1);
        a->v = swt_case_uniform(k, kv, dtype, -1, 1);
    }
    give_forward(k, a);
}

/* Rows of H D elements; what lies between them is another tensor's. */
static void close_rows(swt_case *k, const void *tensor, const double *want, int64_t rows,
                       int64_t stride, double tolerance, double scale) {
    const swt_attention_backward_args *a = &k->host.attention_backward;
    for (int64_t r = 0; r < rows; r++)
        swt_case_close_part(k, tensor, r * stride, a->dims.H * a->dims.D, want + r * stride,
                            tolerance, scale);
}

/* dp and dy . y are sums of D products each and cancel in part: their size is that of one. */
void swt_judge_attention_backward(swt_case *k, const void *args) {
    const swt_attention_backward_args *a = args;
    const swt_attention_dims *d = &a->dims;
    double *dq = swt_case_want(k, a->dq), *dk = swt_case_want(k, a->dk),
           *dv = swt_case_want(k, a->dv);
    swt_oracle_attention_backward(
        dq, dk, dv, swt_case_wide(k, a->dy), swt_case_wide(k, a->y), swt_case_wide(k, a->lse),
        swt_case_wide(k, a->q), swt_case_wide(k, a->k), swt_case_wide(k, a->v), a->key_lengths, d);
    const double terms = sqrt((double)d->D) / 3, scale = (double)d->scale * terms;
    const double T = (double)(d->Tq < d->Tk ? d->Tq : d->Tk);
    const double tolerance = tolerance_of(d) * (1 + terms / sqrt(T));
    close_rows(k, a->dq, dq, d->B * d->Tq, d->q_stride, tolerance, scale);
    close_rows(k, a->dk, dk, d->B * d->Tk, d->kv_stride, tolerance, scale);
    close_rows(k, a->dv, dv, d->B * d->Tk, d->kv_stride, tolerance, scale);
}
