/* Attention whose queries and keys are not one causal sequence: without a mask, of different
 * lengths, with keys cut short, from tensors of their own; against the oracle, and the oracle
 * against finite differences. */
#include "base/checked.h"
#include "judge/oracle.h"
#include "support/judge.h"

#include <math.h>
#include <string.h>

/* How q, k and v lie in memory. */
typedef enum layout {
    APART,    /* three tensors */
    GAPS,     /* three tensors with GAP numbers between rows: most rows are not aligned */
    SHIFTED,  /* three tensors with 8 numbers between rows that begin one number late */
    KV_PACKED /* q by itself, k and v side by side */
} layout;

typedef struct mask_case {
    int64_t B, Tq, Tk, H, D;
    swt_mask mask;
    layout layout;
    bool lengths; /* 0, -1 (counts as 0), ..., Tk + 1 (counts as Tk) */
    bool low;     /* scores of about -1000: one of 0 too many, and nothing of them is left */
} mask_case;

static const mask_case cases[] = {
    {2, 5, 9, 2, 8, SWT_MASK_NONE, APART, false, false},
    {1, 1, 1, 1, 1, SWT_MASK_NONE, APART, false, false},
    {2, 70, 33, 2, 16, SWT_MASK_NONE, KV_PACKED, false, false},
    {1, 33, 131, 2, 40, SWT_MASK_NONE, GAPS, false, false},
    {2, 128, 64, 1, 64, SWT_MASK_NONE, APART, false, false},
    {1, 3, 66, 1, 256, SWT_MASK_NONE, KV_PACKED, false, false},
    {3, 65, 70, 1, 136, SWT_MASK_NONE, APART, true, false},
    {5, 40, 40, 3, 32, SWT_MASK_NONE, KV_PACKED, true, false},
    {6, 17, 80, 2, 5, SWT_MASK_NONE, GAPS, true, false},
    {4, 130, 1, 1, 4, SWT_MASK_NONE, APART, true, false},
    {2, 20, 9, 2, 8, SWT_MASK_CAUSAL, APART, false, false},
    {2, 20, 70, 2, 8, SWT_MASK_NONE, SHIFTED, false, false},
    {3, 70, 70, 2, 16, SWT_MASK_CAUSAL, SHIFTED, true, false},
    {2, 9, 90, 2, 8, SWT_MASK_CAUSAL, GAPS, false, false},
    {1, 140, 70, 1, 33, SWT_MASK_CAUSAL, KV_PACKED, false, false},
    {1, 1, 200, 2, 16, SWT_MASK_CAUSAL, APART, false, false},
    {6, 100, 100, 1, 32, SWT_MASK_CAUSAL, KV_PACKED, true, false},
    {5, 30, 140, 2, 7, SWT_MASK_CAUSAL, APART, true, false},
    {2, 20, 9, 2, 8, SWT_MASK_NONE, APART, false, true},
    {4, 40, 90, 1, 5, SWT_MASK_NONE, GAPS, true, true},
    {4, 40, 13, 1, 16, SWT_MASK_CAUSAL, GAPS, true, true},
    {2, 0, 9, 2, 8, SWT_MASK_NONE, APART, false, false},
    {2, 9, 0, 2, 8, SWT_MASK_NONE, APART, false, false},
};
enum { CASES = sizeof cases / sizeof cases[0], GAP = 3 };

typedef struct attention_tensors {
    swt_attention_dims d;
    double size;               /* q and k are in [-size, size) */
    int64_t q_count, kv_count; /* of memory, gaps included */
    int shift;                 /* of their first rows */
    float *q, *k, *v, *y, *lse, *dy, *dq, *dk, *dv;
    const int32_t *lengths; /* NULL: none */
} attention_tensors;

static int64_t gap_of(layout l) {
    return l == GAPS ? GAP : l == SHIFTED ? 8 : 0;
}

static attention_tensors draw(swt_bed *bed, const mask_case *c) {
    swt_bed_begin(bed,
                  "attention B=%lld Tq=%lld Tk=%lld H=%lld D=%lld mask=%d layout=%d lengths=%d",
                  (long long)c->B, (long long)c->Tq, (long long)c->Tk, (long long)c->H,
                  (long long)c->D, (int)c->mask, (int)c->layout, c->lengths);
    const int64_t HD = c->H * c->D, gap = gap_of(c->layout);
    attention_tensors t = {.d = {.B = c->B,
                                 .H = c->H,
                                 .D = c->D,
                                 .Tq = c->Tq,
                                 .Tk = c->Tk,
                                 .q_stride = HD + gap,
                                 .kv_stride = c->layout == KV_PACKED ? 2 * HD : HD + gap,
                                 .mask = c->mask,
                                 .scale = (float)(1 / sqrt((double)c->D))},
                           .size = c->low ? 20 : 1};
    const double least = c->low ? t.size / 2 : -t.size;
    t.q_count = c->B * c->Tq * t.d.q_stride;
    t.kv_count = c->B * c->Tk * t.d.kv_stride;
    t.shift = c->layout == SHIFTED;
    t.q = t.shift + swt_bed_uniform(bed, t.q_count + t.shift, least, t.size);
    t.k = t.shift + swt_bed_uniform(bed, t.kv_count + t.shift, -t.size, -least);
    t.v = c->layout == KV_PACKED ? t.k + HD
                                 : t.shift + swt_bed_uniform(bed, t.kv_count + t.shift, -1, 1);
    if (c->lengths) {
        int32_t *lengths = swt_bed_integers(bed, c->B, 0, (int)c->Tk);
        lengths[0] = 0;
        lengths[1] = -1;
        lengths[c->B - 1] = (int32_t)c->Tk + 1;
        t.lengths = lengths;
    }
    t.y = swt_bed_out(bed, c->B * c->Tq * HD, SWT_F32);
    t.lse = swt_bed_out(bed, c->B * c->H * c->Tq, SWT_F32);
    t.dy = swt_bed_uniform(bed, c->B * c->Tq * HD, -1, 1);
    return t;
}

static void forward(swt_bed *bed, const attention_tensors *t) {
    SWT_BED_RUN(bed, swt_attention_forward(&bed->ctx,
                                           &(swt_attention_forward_args){.y = t->y,
                                                                         .lse = t->lse,
                                                                         .q = t->q,
                                                                         .k = t->k,
                                                                         .v = t->v,
                                                                         .key_lengths = t->lengths,
                                                                         .dims = t->d}));
}

/* Gradients of q, k and v in memory of ones. */
static void backward(swt_bed *bed, attention_tensors *t) {
    swt_bed_keep(bed);
    const bool packed = t->v == t->k + t->d.H * t->d.D;
    const int64_t q_count = t->q_count + t->shift, kv_count = t->kv_count + t->shift;
    const float *ones = swt_bed_uniform(bed, q_count + kv_count, 1, 1);
    t->dq = t->shift + (float *)swt_bed_copy(bed, ones, q_count, SWT_F32);
    t->dk = t->shift + (float *)swt_bed_copy(bed, ones, kv_count, SWT_F32);
    t->dv = packed ? t->dk + t->d.H * t->d.D
                   : t->shift + (float *)swt_bed_copy(bed, ones, kv_count, SWT_F32);
    SWT_BED_RUN(bed, swt_attention_backward(
                         &bed->ctx, &(swt_attention_backward_args){.dq = t->dq,
                                                                   .dk = t->dk,
                                                                   .dv = t->dv,
                                                                   .dy = t->dy,
                                                                   .q = t->q,
                                                                   .k = t->k,
                                                                   .v = t->v,
                                                                   .key_lengths = t->lengths,
                                                                   .y = t->y,
                                                                   .lse = t->lse,
                                                                   .dims = t->d}));
}

/* The typical size of a score; see test_attention.c. */
static double score_size(const attention_tensors *t) {
    return (double)t->d.scale * t->size * t->size * sqrt((double)t->d.D);
}

static double tolerance_of(const attention_tensors *t) {
    const double T = (double)(t->d.Tq + t->d.Tk), terms = sqrt((double)t->d.D);
    return (4 + 2 * sqrt(T) + 2 * score_size(t) * (1 + terms)) * SWT_UNIT;
}

/* The rows alone, one behind the other. */
static float *rows_of(swt_bed *bed, const float *x, int64_t rows, int64_t stride, int64_t width) {
    float *to = swt_bed_uniform(bed, rows * width, 0, 0);
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + r * width, x + r * stride, (size_t)width * sizeof *to);
    return to;
}

static double *wide_rows_of(swt_bed *bed, const double *x, int64_t rows, int64_t stride,
                            int64_t width) {
    double *to = swt_bed_doubles(bed, rows * width);
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + r * width, x + r * stride, (size_t)width * sizeof *to);
    return to;
}

static void expect_rows(swt_bed *bed, const char *what, const float *got, const double *want,
                        int64_t rows, int64_t stride, const attention_tensors *t, double scale) {
    const int64_t HD = t->d.H * t->d.D;
    swt_expect_close(bed, what, rows_of(bed, got, rows, stride, HD),
                     wide_rows_of(bed, want, rows, stride, HD), rows * HD,
                     tolerance_of(t) * (1 + sqrt((double)t->d.D)), scale);
}

static void check_forward(swt_bed *bed, const attention_tensors *t) {
    const swt_attention_dims *d = &t->d;
    const int64_t n = d->B * d->Tq * d->H * d->D, heads = d->B * d->H * d->Tq;
    double *y = swt_bed_doubles(bed, n), *lse = swt_bed_doubles(bed, heads);
    const double *k = swt_bed_widen(bed, t->k, t->kv_count);
    const double *v =
        t->v == t->k + d->H * d->D ? k + d->H * d->D : swt_bed_widen(bed, t->v, t->kv_count);
    swt_oracle_attention_forward(y, lse, swt_bed_widen(bed, t->q, t->q_count), k, v, t->lengths, d);
    float *finite = swt_bed_uniform(bed, heads, 0, 0);
    for (int64_t i = 0; i < heads; i++) {
        assert_true(isinf(lse[i]) == isinf(t->lse[i]) && !(t->lse[i] == INFINITY));
        finite[i] = isinf(lse[i]) ? 0 : t->lse[i];
        lse[i] = isinf(lse[i]) ? 0 : lse[i];
    }
    swt_expect_close(bed, "y", t->y, y, n, tolerance_of(t), 0);
    swt_expect_close(bed, "lse", finite, lse, heads, tolerance_of(t), 1);
}

/* What lies between rows is still 1. */
static void expect_gaps(const float *x, int64_t rows, int64_t stride, int64_t width) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = width; i < stride; i++)
            assert_true(x[r * stride + i] == 1);
}

static void check_backward(swt_bed *bed, const attention_tensors *t) {
    const swt_attention_dims *d = &t->d;
    const int64_t HD = d->H * d->D, queries = d->B * d->Tq, keys = d->B * d->Tk;
    const bool packed = t->v == t->k + HD;
    double *dq = swt_bed_doubles(bed, t->q_count), *dk = swt_bed_doubles(bed, t->kv_count);
    double *dv = packed ? dk + HD : swt_bed_doubles(bed, t->kv_count);
    const double *k = swt_bed_widen(bed, t->k, t->kv_count);
    const double *v = packed ? k + HD : swt_bed_widen(bed, t->v, t->kv_count);
    swt_oracle_attention_backward(dq, dk, dv, swt_bed_widen(bed, t->dy, queries * HD),
                                  swt_bed_widen(bed, t->y, queries * HD),
                                  swt_bed_widen(bed, t->lse, queries * d->H),
                                  swt_bed_widen(bed, t->q, t->q_count), k, v, t->lengths, d);
    const double scale = score_size(t) / t->size / 3;
    expect_rows(bed, "dq", t->dq, dq, queries, d->q_stride, t, scale);
    expect_rows(bed, "dk", t->dk, dk, keys, d->kv_stride, t, scale);
    expect_rows(bed, "dv", t->dv, dv, keys, d->kv_stride, t, scale);
    expect_gaps(t->dq, queries, d->q_stride, HD);
    if (!packed) {
        expect_gaps(t->dk, keys, d->kv_stride, HD);
        expect_gaps(t->dv, keys, d->kv_stride, HD);
    }
}

static void test_against_oracle(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int i = 0; i < CASES; i++) {
        attention_tensors t = draw(&bed, &cases[i]);
        forward(&bed, &t);
        check_forward(&bed, &t);
        backward(&bed, &t);
        check_backward(&bed, &t);
    }
    swt_bed_close(&bed);
}

/* Keys that nobody sees do not touch a bit of what is seen, and get gradients of zero. */
static void test_unseen_keys(void **state) {
    (void)state;
    static const mask_case c = {3, 70, 90, 2, 16, SWT_MASK_NONE, APART, true, false};
    swt_bed bed;
    swt_bed_open(&bed, 2);
    attention_tensors t = draw(&bed, &c), other = t;
    const int64_t n = c.B * c.Tq * c.H * c.D, row = t.d.kv_stride;
    other.k = swt_bed_copy(&bed, t.k, t.kv_count, SWT_F32);
    other.v = swt_bed_copy(&bed, t.v, t.kv_count, SWT_F32);
    other.y = swt_bed_out(&bed, n, SWT_F32);
    for (int64_t b = 0; b < c.B; b++)
        for (int64_t j = swt_max(t.lengths[b], 0); j < c.Tk; j++)
            for (int64_t i = 0; i < row; i++) {
                other.k[(b * c.Tk + j) * row + i] = 1e6F;
                other.v[(b * c.Tk + j) * row + i] = -1e6F;
            }
    forward(&bed, &t);
    forward(&bed, &other);
    swt_expect_bytes(&bed, "y", other.y, t.y, n, SWT_F32);
    backward(&bed, &t);
    for (int64_t b = 0; b < c.B; b++)
        for (int64_t j = swt_max(t.lengths[b], 0); j < c.Tk; j++)
            for (int64_t i = 0; i < row; i++)
                assert_true(t.dk[(b * c.Tk + j) * row + i] == 0 &&
                            t.dv[(b * c.Tk + j) * row + i] == 0);
    swt_bed_close(&bed);
}

static void run_both(swt_bed *bed, const void *c) {
    attention_tensors t = draw(bed, c);
    forward(bed, &t);
    backward(bed, &t);
}

static void test_threads(void **state) {
    (void)state;
    static const mask_case c = {5, 70, 90, 3, 40, SWT_MASK_NONE, KV_PACKED, true, false};
    swt_bed_same_bits(run_both, &c);
}

typedef struct oracle_attention {
    swt_attention_dims d;
    int32_t lengths[2];
    double *q, *k, *v, *y, *lse, *dy;
} oracle_attention;

static double attention_loss(const void *context) {
    const oracle_attention *o = context;
    swt_oracle_attention_forward(o->y, o->lse, o->q, o->k, o->v, o->lengths, &o->d);
    return swt_inner(o->dy, o->y, o->d.B * o->d.Tq * o->d.H * o->d.D);
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int mask = SWT_MASK_NONE; mask <= SWT_MASK_CAUSAL; mask++) {
        swt_bed_begin(&bed, "attention oracle, mask %d", mask);
        oracle_attention o = {.d = {.B = 2,
                                    .H = 2,
                                    .D = 3,
                                    .Tq = 4,
                                    .Tk = 5,
                                    .q_stride = 7,
                                    .kv_stride = 6,
                                    .mask = (swt_mask)mask,
                                    .scale = 0.7F},
                              .lengths = {3, 5}};
        enum { Q = 2 * 4 * 7, KV = 2 * 5 * 6, Y = 2 * 4 * 6 };
        o.q = swt_bed_widen(&bed, swt_bed_uniform(&bed, Q, -1, 1), Q);
        o.k = swt_bed_widen(&bed, swt_bed_uniform(&bed, KV, -1, 1), KV);
        o.v = swt_bed_widen(&bed, swt_bed_uniform(&bed, KV, -1, 1), KV);
        o.dy = swt_bed_widen(&bed, swt_bed_uniform(&bed, Y, -1, 1), Y);
        o.y = swt_bed_doubles(&bed, Y);
        o.lse = swt_bed_doubles(&bed, Y);
        double *dq = swt_bed_doubles(&bed, Q), *dk = swt_bed_doubles(&bed, KV),
               *dv = swt_bed_doubles(&bed, KV);
        (void)attention_loss(&o);
        swt_oracle_attention_backward(dq, dk, dv, o.dy, o.y, o.lse, o.q, o.k, o.v, o.lengths, &o.d);
        swt_expect_gradient(&bed, "dq", attention_loss, &o, o.q, Q, dq);
        swt_expect_gradient(&bed, "dk", attention_loss, &o, o.k, KV, dk);
        swt_expect_gradient(&bed, "dv", attention_loss, &o, o.v, KV, dv);
    }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient),
        cmocka_unit_test(test_against_oracle),
        cmocka_unit_test(test_unseen_keys),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
