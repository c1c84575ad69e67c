/* Attention at special places: what its outputs must not depend on, and an answer known beforehand.
 * Against the oracle: src/judge/cases_attention.c. */
#include "judge/oracle.h"
#include "support/trial.h"

#include <math.h>
#include <string.h>

/* Causal self-attention of qkv (T, 3 H D), as the model calls it. */
static swt_attention_dims packed_dims(int64_t T, int64_t H, int64_t D, double scale) {
    return (swt_attention_dims){.B = 1,
                                .H = H,
                                .D = D,
                                .Tq = T,
                                .Tk = T,
                                .q_stride = 3 * H * D,
                                .kv_stride = 3 * H * D,
                                .mask = SWT_MASK_CAUSAL,
                                .scale = (float)scale};
}

typedef struct outputs {
    float *y, *lse;
} outputs;

static outputs forward(swt_trial *t, const float *q, const float *k, const float *v,
                       const int32_t *lengths, const swt_attention_dims *d) {
    const swt_attention_forward_args a =
        SWT_MADE(t, attention_forward, .q = q, .k = k, .v = v, .key_lengths = lengths, .dims = *d);
    swt_test_keep(t);
    return (outputs){.y = a.y, .lse = a.lse};
}

static outputs forward_packed(swt_trial *t, const float *qkv, const swt_attention_dims *d) {
    const int64_t HD = d->H * d->D;
    return forward(t, qkv, qkv + HD, qkv + 2 * HD, NULL, d);
}

/* All keys alike: the output is the running mean of v, and lse = score + log(i + 1). */
static void test_equal_scores(void **state) {
    enum { T = 100, D = 4 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "attention with equal scores");
    const swt_attention_dims d = packed_dims(T, 1, D, 0.5);
    float *qkv = swt_trial_uniform(t, (int64_t)T * 3 * D, 0.5, 0.5);
    for (int i = 0; i < T * D; i++)
        qkv[i / D * 3 * D + 2 * D + i % D] = (float)(i / D);
    const outputs o = forward_packed(t, qkv, &d);
    for (int i = 0; i < T; i++) {
        /* Score 0.5 * 4 * 0.25 = 0.5 exactly. Sums of i + 1 terms, plus a few units for exp and
         * log. */
        const double limit = (8 + 4 * sqrt((double)i + 1)) * SWT_ROUNDING;
        swt_trial_number(t, "lse", (double)o.lse[i], 0.5 + log((double)i + 1), 8 * limit);
        for (int j = 0; j < D; j++)
            swt_trial_number(t, "y", (double)o.y[i * D + j], (double)i / 2, limit * (i + 1));
    }
}

/* What comes later does not touch what came before, to the bit, forward; and a position whose later
 * outputs carry no gradient gets none from them, backward. */
static void test_causal(void **state) {
    enum { T = 130, H = 2, D = 32, HD = H * D };
    static const int lengths[] = {1, 5, 63, 64, 65, 129};
    swt_trial *t = swt_test_trial(state);
    const swt_attention_dims d = packed_dims(T, H, D, 0.2);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const int length = lengths[i];
        swt_trial_begin(t, "causal, length %d", length);
        float *qkv = swt_trial_uniform(t, 3 * T * HD, -1, 1);
        float *dy = swt_trial_uniform(t, T * HD, -1, 1);
        const outputs first = forward_packed(t, qkv, &d);
        float *dqkv = swt_trial_out(t, 3 * T * HD, SWT_F32);
        memset(dy + length * HD, 0, (size_t)((T - length) * HD) * sizeof *dy);
        SWT_RUN(t, attention_backward, .dq = dqkv, .dk = dqkv + HD, .dv = dqkv + 2 * HD, .dy = dy,
                .q = qkv, .k = qkv + HD, .v = qkv + 2 * HD, .y = first.y, .lse = first.lse,
                .dims = d);
        for (int j = length * 3 * HD; j < T * 3 * HD; j++) {
            assert_true(dqkv[j] == 0);
            qkv[j] = (float)swt_trial_draw(t) * 1e6F;
        }
        const outputs second = forward_packed(t, qkv, &d);
        swt_trial_same(t, "y of earlier positions", second.y, first.y, length * HD, SWT_F32);
        for (int h = 0; h < H; h++)
            swt_trial_same(t, "lse of earlier positions", second.lse + h * T, first.lse + h * T,
                           length, SWT_F32);
    }
}

/* Keys that nobody sees do not touch a bit of what is seen, and get gradients of zero. */
static void test_unseen_keys(void **state) {
    enum { B = 3, TQ = 70, TK = 90, H = 2, D = 16, HD = H * D };
    static const int32_t lengths[B] = {0, -1, 40};
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "unseen keys");
    const swt_attention_dims d = {.B = B,
                                  .H = H,
                                  .D = D,
                                  .Tq = TQ,
                                  .Tk = TK,
                                  .q_stride = HD,
                                  .kv_stride = HD,
                                  .scale = 0.25F};
    const float *q = swt_trial_uniform(t, B * TQ * HD, -1, 1);
    float *k = swt_trial_uniform(t, B * TK * HD, -1, 1),
          *v = swt_trial_uniform(t, B * TK * HD, -1, 1);
    int32_t *key_lengths = swt_trial_in(t, B, SWT_I32);
    memcpy(key_lengths, lengths, sizeof lengths);
    const outputs first = forward(t, q, k, v, key_lengths, &d);
    const swt_attention_backward_args back =
        SWT_MADE(t, attention_backward, .q = q, .k = k, .v = v, .key_lengths = key_lengths,
                 .y = first.y, .lse = first.lse, .dims = d);
    const float *dk = back.dk, *dv = back.dv;
    for (int i = 0; i < B * TK * HD; i++) {
        if (i / HD % TK < lengths[i / HD / TK])
            continue;
        assert_true(dk[i] == 0 && dv[i] == 0);
        k[i] = v[i] = NAN; /* not even a weight of 0 may meet them */
    }
    const outputs second = forward(t, q, k, v, key_lengths, &d);
    swt_trial_same(t, "y", second.y, first.y, B * TQ * HD, SWT_F32);
}

/* ---- heads of any width, in a sequence before which and behind which all is NaN */

/* The most rows of a sequence, two tiles of queries and keys on a GPU. */
enum { ROWS_MOST = 114 };

/* Of one trial: rows of D numbers, `stride` apart, in two sequences of T rows. */
typedef struct widths {
    swt_trial *t;
    int64_t T, D, stride;
    bool drops; /* weights */
} widths;

static void put(void *to, int64_t i, swt_dtype dtype, float x) {
    if (dtype == SWT_BF16)
        ((uint16_t *)to)[i] = swt_bf16_from_float(x);
    else
        ((float *)to)[i] = x;
}

/* Random numbers in the rows of the first sequence; between them, and in the second one, NaN. */
static void *draw_rows(const widths *w, int64_t stride) {
    const swt_dtype dtype = w->t->ctx.dtype;
    void *rows = swt_trial_in(w->t, 2 * w->T * stride, dtype);
    for (int64_t i = 0; i < 2 * w->T * stride; i++) {
        const bool inside = i / stride < w->T && i % stride < w->D;
        put(rows, i, dtype, inside ? (float)(2 * swt_trial_draw(w->t) - 1) : NAN);
    }
    return rows;
}

static double *widened(const widths *w, const void *rows, int64_t count, swt_dtype dtype) {
    double *wide = swt_trial_doubles(w->t, count);
    for (int64_t i = 0; i < count; i++)
        wide[i] = swt_trial_element(rows, i, dtype);
    return wide;
}

/* Against the first sequence of `want`. Numbers are sums over keys and over the head of numbers
 * around 1 (judge/cases_attention.c has the bound), in BF16 rounded once. What lies between rows is
 * untouched. */
static void compare_rows(const widths *w, const char *what, const void *got, int64_t stride,
                         const double *want, double growth) {
    const swt_dtype dtype = w->t->ctx.dtype;
    const double sums = 8 + 2 * sqrt((double)w->T) + 2 * (1 + sqrt((double)w->D));
    const double limit = 8 * growth * sums * SWT_ROUNDING;
    for (int64_t i = 0; i < w->T * stride; i++) {
        const double x = swt_trial_element(got, i, dtype);
        if (i % stride < w->D)
            swt_trial_number(w->t, what, x, want[i],
                             limit + (dtype == SWT_BF16 ? 0x1p-8 * fabs(want[i]) : 0));
        else if (!isnan(x))
            swt_trial_miss(w->t, "%s: column %lld of row %lld was written", what,
                           (long long)(i % stride), (long long)(i / stride));
    }
}

static swt_dropout_mask mask_of(const widths *w) {
    return swt_dropout_mask_of(w->drops ? 0.25 : 0.0, SWT_DROPOUT_WEIGHTS, 1, 5);
}

static swt_attention_dims dims_of(const widths *w) {
    return (swt_attention_dims){.B = 2,
                                .H = 1,
                                .D = w->D,
                                .Tq = w->T,
                                .Tk = w->T,
                                .q_stride = w->stride,
                                .kv_stride = w->stride,
                                .mask = SWT_MASK_CAUSAL,
                                .scale = (float)(1 / sqrt((double)w->D)),
                                .dropout = mask_of(w)};
}

/* The backward pass is judged by the y and lse that came out. */
static void both_ways(const widths *w) {
    swt_trial *t = w->t;
    const swt_dtype dtype = t->ctx.dtype;
    const swt_attention_dims d = dims_of(w);
    const int64_t n = 2 * w->T * w->stride, places = 2 * w->T * w->D;
    const void *q = draw_rows(w, w->stride), *k = draw_rows(w, w->stride),
               *v = draw_rows(w, w->stride), *dy = draw_rows(w, w->D);
    void *y = swt_trial_out(t, places, dtype);
    float *lse = swt_trial_out(t, 2 * w->T, SWT_F32);
    SWT_RUN(t, attention_forward, .y = y, .lse = lse, .q = q, .k = k, .v = v, .dims = d);
    const swt_oracle_attention wide = {.seed = t->state->seed,
                                       .step = t->state->step,
                                       .q = widened(w, q, n, dtype),
                                       .k = widened(w, k, n, dtype),
                                       .v = widened(w, v, n, dtype),
                                       .d = &d};
    double *want_y = swt_trial_doubles(t, places), *want_lse = swt_trial_doubles(t, 2 * w->T);
    swt_oracle_attention_forward(want_y, want_lse, &wide);
    const double kept = w->drops ? (double)d.dropout.scale : 1; /* weights that stay grow by it */
    compare_rows(w, "y", y, w->D, want_y, kept);
    for (int64_t i = 0; i < w->T; i++)
        swt_trial_number(t, "lse", (double)lse[i], want_lse[i], 200 * SWT_ROUNDING);

    swt_test_keep(t);
    void *dq = swt_trial_out(t, n, dtype), *dk = swt_trial_out(t, n, dtype),
         *dv = swt_trial_out(t, n, dtype);
    SWT_RUN(t, attention_backward, .dq = dq, .dk = dk, .dv = dv, .dy = dy, .q = q, .k = k, .v = v,
            .y = y, .lse = lse, .dims = d);
    const swt_oracle_attention_gradients want = {.dq = swt_trial_doubles(t, n),
                                                 .dk = swt_trial_doubles(t, n),
                                                 .dv = swt_trial_doubles(t, n)};
    swt_oracle_attention_backward(&want, widened(w, dy, places, dtype),
                                  widened(w, y, places, dtype), widened(w, lse, 2 * w->T, SWT_F32),
                                  &wide);
    const double growth = kept * (1 + sqrt((double)w->D) / 3);
    compare_rows(w, "dq", dq, w->stride, want.dq, growth);
    compare_rows(w, "dk", dk, w->stride, want.dk, growth);
    compare_rows(w, "dv", dv, w->stride, want.dv, growth);
}

/* Widths that end at each place of a run in each of the 64 columns that a GPU takes at a time, and
 * whole ones; rows that end at four places of the second tile. */
static void test_widths(void **state) {
    static const int64_t all[] = {60,  61,  62, 63, 65, 66, 67, 68, 129, 130, 131, 132, 193, 194,
                                  195, 196, 16, 32, 40, 64, 72, 88, 104, 128, 136, 192, 200, 256};
    swt_trial *t = swt_test_trial(state);
    const int kinds = t->ctx.ops->bf16 ? 2 : 1;
    size_t step = 1;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    step = kinds == 2 ? 5 : 1; /* kernels that are watched take long: some of each kind */
#endif
    for (size_t i = 0; i < sizeof all / sizeof all[0] * (size_t)kinds; i += step) {
        widths w = {
            .t = t, .T = ROWS_MOST - 16 * (int64_t)(i / 2 % 4), .D = all[i / (size_t)kinds]};
        w.drops = i % 3 == 1;
        w.stride = w.D + (w.D % 8 == 0 ? 8 : 3); /* whole runs stay whole */
        t->ctx.dtype = i % 2 < (size_t)kinds - 1 ? SWT_BF16 : SWT_F32;
        swt_trial_begin(t, "a head of %d, %d rows, type %d%s", (int)w.D, (int)w.T,
                        (int)t->ctx.dtype, w.drops ? ", dropout" : "");
        both_ways(&w);
    }
    t->ctx.dtype = SWT_F32;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_equal_scores),
        cmocka_unit_test(test_causal),
        cmocka_unit_test(test_unseen_keys),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
