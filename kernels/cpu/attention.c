#include "base/checked.h"
#include "kernels/cpu/dropout.h"

#include <math.h>
#include <string.h>

/* A part is one head of one sequence. Where its first row stands in the tensors. */
typedef struct place {
    int64_t q, kv, y, lse;
} place;

static place place_of(const swt_attention_dims *d, int64_t part) {
    const int64_t b = part / d->H, column = part % d->H * d->D;
    return (place){.q = b * d->Tq * d->q_stride + column,
                   .kv = b * d->Tk * d->kv_stride + column,
                   .y = b * d->Tq * d->H * d->D + column,
                   .lse = part * d->Tq};
}

/* How many keys of the part's sequence any query sees: the first ones. */
static int64_t keys_seen(const swt_attention_dims *d, const int32_t *key_lengths, int64_t part) {
    if (d->Tq == 0)
        return 0;
    const int64_t keys = d->mask == SWT_MASK_CAUSAL ? swt_min(d->Tq, d->Tk) : d->Tk;
    return key_lengths == NULL ? keys : swt_max(swt_min(key_lengths[part / d->H], keys), 0);
}

/* The part's row of biases, one for each head. */
static const float *bias_of(const float *bias, const swt_attention_dims *d, int64_t part) {
    return bias == NULL ? NULL : bias + part % d->H * SWT_BIAS_DISTANCES;
}

/* Without the tensors themselves. The threads take parts in turn, so a thread's next one is
 * `threads` further, or close to it. */
static swt_vec_head head_of(const swt_ctx *c, const swt_attention_dims *d,
                            const int32_t *key_lengths, const float *bias, int64_t part) {
    const int64_t next = part + c->device->threads;
    const place from = place_of(d, part), to = place_of(d, next < d->B * d->H ? next : part);
    return (swt_vec_head){.q_stride = d->q_stride,
                          .kv_stride = d->kv_stride,
                          .y_stride = d->H * d->D,
                          .Tq = d->Tq,
                          .Tk = keys_seen(d, key_lengths, part),
                          .D = d->D,
                          .causal = d->mask == SWT_MASK_CAUSAL,
                          .scale = d->scale,
                          .bias = bias_of(bias, d, part),
                          .next_q = to.q - from.q,
                          .next_kv = to.kv - from.kv,
                          .next_y = to.y - from.y};
}

/* What drops the part's weights, in *room; NULL: nothing does. */
static const swt_vec_dropout *dropout_of(const swt_ctx *c, const swt_attention_dims *d,
                                         int64_t part, swt_vec_dropout *room) {
    if (d->dropout.limit == 0)
        return NULL;
    *room = swt_cpu_dropout_of(c, &d->dropout, part);
    room->draws = (uint32_t)swt_dropout_draws(d->Tk);
    return room;
}

static void zero_rows(float *x, int64_t stride, int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; i++)
        memset(x + i * stride, 0, (size_t)width * sizeof *x);
}

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_attention_forward_args *a = args;
    const swt_attention_dims *d = &a->dims;
    const place at = place_of(d, part);
    swt_vec_head head = head_of(c, d, a->key_lengths, a->bias, part);
    swt_vec_dropout dropout;
    head.dropout = dropout_of(c, d, part, &dropout);
    float *y = (float *)a->y + at.y, *lse = a->lse + at.lse;
    if (head.Tk == 0) {
        zero_rows(y, head.y_stride, d->Tq, d->D);
        for (int64_t i = 0; i < d->Tq; i++)
            lse[i] = -INFINITY;
        return;
    }
    head.q = (const float *)a->q + at.q;
    head.k = (const float *)a->k + at.kv;
    head.v = (const float *)a->v + at.kv;
    swt_cpu_vec(c)->attention_forward(y, lse, &head, swt_cpu_scratch(c));
}

swt_status swt_cpu_attention_forward(const swt_ctx *c, const swt_attention_forward_args *a) {
    swt_cpu_run(c, a->dims.B * a->dims.H, forward_part, a);
    return SWT_OK;
}

static void backward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_attention_backward_args *a = args;
    const swt_attention_dims *d = &a->dims;
    const place at = place_of(d, part);
    swt_vec_head head = head_of(c, d, a->key_lengths, a->bias, part);
    swt_vec_dropout dropout;
    head.dropout = dropout_of(c, d, part, &dropout);
    float *dq = (float *)a->dq + at.q, *dk = (float *)a->dk + at.kv, *dv = (float *)a->dv + at.kv;
    const int64_t unseen = head.Tk * d->kv_stride;
    zero_rows(dk + unseen, d->kv_stride, d->Tk - head.Tk, d->D);
    zero_rows(dv + unseen, d->kv_stride, d->Tk - head.Tk, d->D);
    float *dbias = a->dbias == NULL ? NULL : (float *)a->scratch + part * SWT_BIAS_DISTANCES;
    if (head.Tk == 0) {
        zero_rows(dq, d->q_stride, d->Tq, d->D);
        if (dbias != NULL)
            memset(dbias, 0, SWT_BIAS_DISTANCES * sizeof *dbias);
        return;
    }
    head.q = (const float *)a->q + at.q;
    head.k = (const float *)a->k + at.kv;
    head.v = (const float *)a->v + at.kv;
    const swt_vec_head_backward backward = {.head = &head,
                                            .dq = dq,
                                            .dk = dk,
                                            .dv = dv,
                                            .dy = (const float *)a->dy + at.y,
                                            .y = (const float *)a->y + at.y,
                                            .lse = a->lse + at.lse,
                                            .dbias = dbias};
    swt_cpu_vec(c)->attention_backward(&backward, swt_cpu_scratch(c));
}

/* A head's biases: the sequences' sums in order. */
static void bias_sum_part(const swt_ctx *c, const void *args, int64_t h) {
    const swt_attention_backward_args *a = args;
    float *dbias = a->dbias + h * SWT_BIAS_DISTANCES;
    if (!a->add)
        memset(dbias, 0, SWT_BIAS_DISTANCES * sizeof *dbias);
    for (int64_t b = 0; b < a->dims.B; b++)
        swt_cpu_vec(c)->axpy(dbias,
                             (const float *)a->scratch + (b * a->dims.H + h) * SWT_BIAS_DISTANCES,
                             1.0f, SWT_BIAS_DISTANCES);
}

swt_status swt_cpu_attention_backward(const swt_ctx *c, const swt_attention_backward_args *a) {
    swt_cpu_run(c, a->dims.B * a->dims.H, backward_part, a);
    if (a->dbias != NULL)
        swt_cpu_run(c, a->dims.H, bias_sum_part, a);
    return SWT_OK;
}

/* ---- the bias by distance */

swt_status swt_cpu_bias_forward(const swt_ctx *c, const swt_bias_forward_args *a) {
    (void)c;
    for (int64_t h = 0; h < a->H; h++)
        for (int r = -SWT_BIAS_REACH; r <= SWT_BIAS_REACH; r++)
            a->bias[h * SWT_BIAS_DISTANCES + SWT_BIAS_REACH + r] =
                a->table[swt_bias_bucket(r, a->both_ways) * a->H + h];
    return SWT_OK;
}

swt_status swt_cpu_bias_backward(const swt_ctx *c, const swt_bias_backward_args *a) {
    (void)c;
    memset(a->dtable, 0, (size_t)(SWT_BIAS_BUCKETS * a->H) * sizeof *a->dtable);
    for (int64_t h = 0; h < a->H; h++)
        for (int r = -SWT_BIAS_REACH; r <= SWT_BIAS_REACH; r++)
            a->dtable[swt_bias_bucket(r, a->both_ways) * a->H + h] +=
                a->dbias[h * SWT_BIAS_DISTANCES + SWT_BIAS_REACH + r];
    return SWT_OK;
}
