/* Attention against the oracle: causal self-attention on the columns of one tensor, as the model
 * calls it, and by turns other masks, lengths and tensors of their own. */
#include "judge/case.h"
#include "judge/oracle.h"

#include <math.h>

/* How q, k and v lie in memory, and their gradients. */
typedef enum layout {
    QKV_PACKED, /* side by side in rows of 3 H D */
    KV_PACKED,  /* q by itself, k and v side by side */
    APART,      /* three tensors */
    GAPS,       /* with 3 numbers between rows: most rows are not aligned */
    SHIFTED     /* with 8 numbers between rows, which begin one number late */
} layout;

typedef struct shape {
    int64_t B, H, D, Tq, Tk;
    swt_mask mask;
    layout layout;
    bool lengths; /* of B > 2 sequences: 0, -1 (counts as 0), ..., Tk + 1 (counts as Tk) */
    bool bias;
    int scores; /* -1: -200 and less, and one of 0 too many would be all that is left; 1: 200 and
                   more, whose exponentials overflow; 0: small ones */
} shape;

/* Of a large trial. Each number of 64 columns that a head may have (one to four), whole ones and
 * others, has several tiles of 64 queries or keys. */
static const shape shapes[SWT_CASES] = {
    {2, 2, 136, 130, 130, SWT_MASK_CAUSAL, QKV_PACKED, false, true, 0},
    {2, 3, 5, 1, 1, SWT_MASK_CAUSAL, QKV_PACKED, false, false, 0},
    {2, 2, 40, 64, 64, SWT_MASK_CAUSAL, QKV_PACKED, false, true, 0},
    {3, 1, 200, 65, 70, SWT_MASK_NONE, APART, true, false, 0},
    {1, 1, 256, 70, 70, SWT_MASK_CAUSAL, QKV_PACKED, false, false, 0},
    {6, 2, 5, 17, 80, SWT_MASK_NONE, GAPS, true, true, 0},
    {1, 2, 64, 63, 63, SWT_MASK_CAUSAL, APART, false, true, 1},
    {2, 2, 72, 70, 133, SWT_MASK_NONE, KV_PACKED, false, true, 0},
    {3, 1, 100, 70, 70, SWT_MASK_CAUSAL, SHIFTED, true, true, 0},
    {2, 1, 250, 67, 131, SWT_MASK_CAUSAL, GAPS, false, true, 0},
    {4, 1, 5, 40, 90, SWT_MASK_NONE, GAPS, true, false, -1},
    {0, 2, 4, 5, 5, SWT_MASK_CAUSAL, QKV_PACKED, false, true, 0},
    {5, 2, 7, 30, 140, SWT_MASK_CAUSAL, APART, true, false, -1},
    {2, 2, 8, 9, 0, SWT_MASK_NONE, APART, false, true, 0},
    {1, 1, 1, 200, 200, SWT_MASK_CAUSAL, QKV_PACKED, false, true, 0},
    {4, 1, 128, 128, 1, SWT_MASK_NONE, KV_PACKED, true, true, 0},
};

/* Of a small one, by turns, without its dimensions. */
enum { TURNS = 8 };
static const shape turns[TURNS] = {
    {.layout = QKV_PACKED, .mask = SWT_MASK_CAUSAL},
    {.layout = APART, .mask = SWT_MASK_NONE, .lengths = true, .bias = true},
    {.layout = KV_PACKED, .mask = SWT_MASK_NONE},
    {.layout = GAPS, .mask = SWT_MASK_NONE, .lengths = true, .scores = -1},
    {.layout = QKV_PACKED, .mask = SWT_MASK_CAUSAL, .bias = true},
    {.layout = SHIFTED, .mask = SWT_MASK_CAUSAL, .lengths = true},
    {.layout = APART, .mask = SWT_MASK_CAUSAL, .bias = true, .scores = 1},
    {.layout = KV_PACKED, .mask = SWT_MASK_CAUSAL, .lengths = true},
};

static const shape *turn_of(const swt_case *k) {
    return k->t->large ? &shapes[k->number] : &turns[k->number % TURNS];
}

static shape draw_shape(swt_case *k) {
    swt_trial *t = k->t;
    shape s = *turn_of(k);
    const bool wide = k->number == 0;
    if (t->large)
        return s;
    s.B = swt_trial_choose(t, 1, 3);
    s.H = swt_trial_choose(t, 1, 3);
    s.D = wide ? SWT_HEAD_WIDTH_MAX : swt_trial_size(t, 65);
    s.Tq = wide ? 9 : swt_trial_size(t, 65);
    s.Tk = s.layout == QKV_PACKED ? s.Tq : swt_trial_size(t, 65);
    return s;
}

static int64_t gap_of(layout l) {
    return l == GAPS ? 3 : l == SHIFTED ? 8 : 0;
}

/* The scale is the usual one. */
static void set_dims(swt_case *k, swt_attention_dims *d, const shape *s) {
    const int64_t HD = s->H * s->D, gap = gap_of(s->layout);
    swt_case_dim(k, "B", &d->B, s->B);
    swt_case_dim(k, "H", &d->H, s->H);
    swt_case_dim(k, "D", &d->D, s->D);
    swt_case_dim(k, "Tq", &d->Tq, s->Tq);
    swt_case_dim(k, "Tk", &d->Tk, s->Tk);
    swt_case_dim(k, "q_stride", &d->q_stride, s->layout == QKV_PACKED ? 3 * HD : HD + gap);
    swt_case_dim(k, "kv_stride", &d->kv_stride, s->layout == KV_PACKED ? 2 * HD : d->q_stride);
    d->mask = s->mask;
    d->scale = (float)(1 / sqrt((double)d->D));
    swt_case_note(k, "mask", (int64_t)d->mask);
    swt_case_note(k, "scores", s->scores);
    swt_case_note(k, "bias", s->bias);
    if (swt_case_note(k, "dropout", k->number % 3 == 1))
        d->dropout = swt_dropout_mask_of(0.25, SWT_DROPOUT_WEIGHTS, 2, 77);
    k->choices = s->bias ? 1 : 0; /* dbias; lengths and biases are drawn here */
}

static const float *draw_bias(swt_case *k, const shape *s) {
    return s->bias ? swt_case_uniform(k, s->H * SWT_BIAS_DISTANCES, SWT_F32, -1, 1) : NULL;
}

static const int32_t *draw_lengths(swt_case *k, const shape *s) {
    if (!s->lengths)
        return NULL;
    int32_t *lengths = swt_trial_integers(k->t, s->B, -1, (int)s->Tk + 1);
    if (s->B > 2) {
        lengths[0] = 0;
        lengths[1] = -1;
        lengths[s->B - 1] = (int32_t)s->Tk + 1;
    }
    return lengths;
}

/* ---- tensors: of q, k and v, and of their gradients */

typedef struct three {
    unsigned char *q, *k, *v;
} three;

/* The part of another tensor that begins so many elements behind its first. */
static unsigned char *behind(const swt_case *k, unsigned char *tensor, int64_t elements) {
    return tensor + (size_t)elements * swt_dtype_bytes(k->t->ctx.dtype);
}

/* `take` gives the memory of a tensor: number 0 of q, 1 of k or what is packed with it, 2 of v. */
static three take_three(swt_case *k, const shape *s, const swt_attention_dims *d,
                        void *(*take)(swt_case *k, const shape *s, int64_t count, int number)) {
    const int64_t HD = d->H * d->D, shift = s->layout == SHIFTED;
    const int64_t q = d->B * d->Tq * d->q_stride + shift, kv = d->B * d->Tk * d->kv_stride + shift;
    three x = {.q = behind(k, take(k, s, q, 0), shift)};
    x.k = s->layout == QKV_PACKED ? behind(k, x.q, HD) : behind(k, take(k, s, kv, 1), shift);
    x.v = s->layout == QKV_PACKED || s->layout == KV_PACKED ? behind(k, x.k, HD)
                                                            : behind(k, take(k, s, kv, 2), shift);
    return x;
}

/* What q and k are below: where scores are not small, they are no less than half of it, either. */
static double size_of(int scores) {
    return scores == 0 ? 1 : 20;
}

static double size_of_case(const swt_case *k) {
    return size_of(turn_of(k)->scores);
}

static void *draw_input(swt_case *k, const shape *s, int64_t count, int number) {
    const double size = size_of(s->scores);
    const swt_dtype dtype = k->t->ctx.dtype;
    if (s->scores == 0 || number == 2)
        return swt_case_uniform(k, count, dtype, -1, 1);
    if (number == 1 && s->scores < 0)
        return swt_case_uniform(k, count, dtype, -size, -size / 2);
    return swt_case_uniform(k, count, dtype, size / 2, size);
}

static void *take_output(swt_case *k, const shape *s, int64_t count, int number) {
    (void)s;
    (void)number;
    return swt_trial_out(k->t, count, k->t->ctx.dtype);
}

/* ---- the operations */

/* A score is a dot product of D terms, wrong by some sqrt(D) roundings of its typical size; p =
 * exp(s - lse) turns that absolute error into a relative one, and adds those of s and lse
 * themselves; sums over T keep it. A GPU's exponential may be wrong by 2 units in the last place,
 * which are 4 roundings, and by that in the same direction for all terms of a sum: so is lse, and
 * p = exp(s - lse) twice that. */
static double tolerance_of(const swt_case *k, const swt_attention_dims *d) {
    const double terms = sqrt((double)d->D), T = (double)(d->Tq > d->Tk ? d->Tq : d->Tk);
    const double size = size_of_case(k), score = (double)d->scale * size * size * terms;
    return (8 + 2 * sqrt(T) + 2 * score * (1 + terms)) * SWT_ROUNDING;
}

void swt_draw_attention_forward(swt_case *k, void *args) {
    swt_attention_forward_args *a = args;
    const shape s = draw_shape(k);
    set_dims(k, &a->dims, &s);
    a->key_lengths = draw_lengths(k, &s);
    a->bias = draw_bias(k, &s);
    const three x = take_three(k, &s, &a->dims, draw_input);
    a->q = x.q;
    a->k = x.k;
    a->v = x.v;
}

/* A query that sees no key has lse = -infinity. */
void swt_judge_attention_forward(swt_case *k, const void *args) {
    const swt_attention_forward_args *a = args;
    const swt_attention_dims *d = &a->dims;
    double *y = swt_case_want(k, a->y), *lse = swt_case_want(k, a->lse);
    swt_oracle_attention_forward(y, lse,
                                 &(swt_oracle_attention){.seed = k->t->state->seed,
                                                         .step = k->t->state->step,
                                                         .q = swt_case_wide(k, a->q),
                                                         .k = swt_case_wide(k, a->k),
                                                         .v = swt_case_wide(k, a->v),
                                                         .bias = swt_case_wide(k, a->bias),
                                                         .key_lengths = a->key_lengths,
                                                         .d = d});
    swt_case_close(k, a->y, y, tolerance_of(k, d), 0);
    swt_case_close(k, a->lse, lse, tolerance_of(k, d), 1);
}

/* As doubles, from the first row's beginning to the last one's end. */
static double *wide_rows(swt_case *k, const void *tensor, int64_t rows, int64_t stride,
                         int64_t HD) {
    const int64_t n = rows > 0 ? (rows - 1) * stride + HD : 0;
    double *wide = swt_trial_doubles(k->t, n);
    for (int64_t i = 0; i < n; i++)
        wide[i] = swt_trial_element(tensor, i, k->t->ctx.dtype);
    return wide;
}

/* y and lse are those of the oracle, rounded. */
void swt_draw_attention_backward(swt_case *k, void *args) {
    swt_attention_backward_args *a = args;
    const swt_attention_dims *d = &a->dims;
    const shape s = draw_shape(k);
    set_dims(k, &a->dims, &s);
    a->key_lengths = draw_lengths(k, &s);
    a->bias = draw_bias(k, &s);
    a->add = swt_case_note(k, "add", s.bias && (k->number & 2));
    const three x = take_three(k, &s, d, draw_input), dx = take_three(k, &s, d, take_output);
    a->q = x.q;
    a->k = x.k;
    a->v = x.v;
    a->dq = dx.q;
    a->dk = dx.k;
    a->dv = dx.v;
    const int64_t HD = d->H * d->D, queries = d->B * d->Tq, keys = d->B * d->Tk;
    double *y = swt_trial_doubles(k->t, queries * HD),
           *lse = swt_trial_doubles(k->t, queries * d->H);
    double *bias = s.bias ? swt_trial_doubles(k->t, d->H * SWT_BIAS_DISTANCES) : NULL;
    for (int64_t i = 0; s.bias && i < d->H * SWT_BIAS_DISTANCES; i++)
        bias[i] = (double)a->bias[i];
    swt_oracle_attention_forward(
        y, lse,
        &(swt_oracle_attention){.seed = k->t->state->seed,
                                .step = k->t->state->step,
                                .q = wide_rows(k, x.q, queries, d->q_stride, HD),
                                .k = wide_rows(k, x.k, keys, d->kv_stride, HD),
                                .v = wide_rows(k, x.v, keys, d->kv_stride, HD),
                                .bias = bias,
                                .key_lengths = a->key_lengths,
                                .d = d});
    a->y = swt_case_rounded(k, y, queries * HD, k->t->ctx.dtype);
    a->lse = swt_case_rounded(k, lse, queries * d->H, SWT_F32);
}

/* Rows of H D elements. What lies between them stays, or is another tensor's. */
static void judge_rows(swt_case *k, const void *tensor, const double *want, int64_t rows,
                       int64_t stride, double tolerance, double scale) {
    const swt_attention_dims *d = &k->host.attention_backward.dims;
    const int64_t HD = d->H * d->D, gap = gap_of(turn_of(k)->layout);
    for (int64_t r = 0; r < rows; r++) {
        swt_case_close_part(k, tensor, r * stride, HD, want + r * stride, tolerance, scale);
        const size_t end = (size_t)(r * stride + HD) * swt_dtype_bytes(k->t->ctx.dtype);
        if (r < rows - 1)
            swt_trial_same(k->t, "gap", (const char *)tensor + end,
                           (const char *)swt_case_before(k, tensor) + end, gap, k->t->ctx.dtype);
    }
}

/* dp and dy . y are sums of D products each and cancel in part: their size is that of one, and
 * where weights are dropped that of the scale of the others. */
void swt_judge_attention_backward(swt_case *k, const void *args) {
    const swt_attention_backward_args *a = args;
    const swt_attention_dims *d = &a->dims;
    double *dq = swt_case_want(k, a->dq), *dk = swt_case_want(k, a->dk),
           *dv = swt_case_want(k, a->dv), *dbias = swt_case_want(k, a->dbias);
    const swt_oracle_attention inputs = {.seed = k->t->state->seed,
                                         .step = k->t->state->step,
                                         .q = swt_case_wide(k, a->q),
                                         .k = swt_case_wide(k, a->k),
                                         .v = swt_case_wide(k, a->v),
                                         .bias = swt_case_wide(k, a->bias),
                                         .key_lengths = a->key_lengths,
                                         .d = d};
    swt_oracle_attention_backward(
        &(swt_oracle_attention_gradients){.dq = dq, .dk = dk, .dv = dv, .dbias = dbias},
        swt_case_wide(k, a->dy), swt_case_wide(k, a->y), swt_case_wide(k, a->lse), &inputs);
    const double kept = d->dropout.limit > 0 ? (double)d->dropout.scale : 1;
    const double terms = kept * sqrt((double)d->D) / 3;
    const double scale = (double)d->scale * size_of_case(k) * terms;
    const double T = (double)(d->Tq < d->Tk ? d->Tq : d->Tk);
    const double tolerance = tolerance_of(k, d) * (1 + terms / sqrt(fmax(1, T)));
    judge_rows(k, a->dq, dq, d->B * d->Tq, d->q_stride, tolerance, scale);
    judge_rows(k, a->dk, dk, d->B * d->Tk, d->kv_stride, tolerance, scale);
    judge_rows(k, a->dv, dv, d->B * d->Tk, d->kv_stride, tolerance, scale);
    /* A query's p are 1 in all, and what is wrong with them is another error in each query. */
    const double queries = sqrt(1 + (double)(d->B * d->Tq));
    swt_case_close(k, a->dbias, dbias, tolerance, terms * queries);
}

/* ---- the bias by distance */

void swt_draw_bias_forward(swt_case *k, void *args) {
    swt_bias_forward_args *a = args;
    swt_case_dim(k, "H", &a->H, swt_trial_size(k->t, 70));
    a->both_ways = swt_case_note(k, "both_ways", k->number & 1);
}

void swt_judge_bias_forward(swt_case *k, const void *args) {
    const swt_bias_forward_args *a = args;
    const double *table = swt_case_wide(k, a->table);
    double *bias = swt_case_want(k, a->bias);
    for (int64_t i = 0; i < a->H * SWT_BIAS_DISTANCES; i++) {
        const int distance = (int)(i % SWT_BIAS_DISTANCES) - SWT_BIAS_REACH;
        bias[i] =
            table[swt_oracle_bias_bucket(distance, a->both_ways) * a->H + i / SWT_BIAS_DISTANCES];
    }
    swt_case_close(k, a->bias, bias, 0, 0);
}

void swt_draw_bias_backward(swt_case *k, void *args) {
    swt_bias_backward_args *a = args;
    swt_case_dim(k, "H", &a->H, swt_trial_size(k->t, 70));
    a->both_ways = swt_case_note(k, "both_ways", k->number & 1);
}

/* A sum of up to 129 + 16 numbers. */
void swt_judge_bias_backward(swt_case *k, const void *args) {
    const swt_bias_backward_args *a = args;
    const double *dbias = swt_case_wide(k, a->dbias);
    double *dtable = swt_case_want(k, a->dtable);
    for (int64_t i = 0; i < a->H * SWT_BIAS_DISTANCES; i++) {
        const int distance = (int)(i % SWT_BIAS_DISTANCES) - SWT_BIAS_REACH;
        dtable[swt_oracle_bias_bucket(distance, a->both_ways) * a->H + i / SWT_BIAS_DISTANCES] +=
            dbias[i];
    }
    swt_case_close(k, a->dtable, dtable, 12 * SWT_ROUNDING, 12);
}
