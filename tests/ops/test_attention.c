/* Attention at special places: what its outputs must not depend on, and an answer known beforehand.
 * Against the oracle: src/judge/cases_attention.c. */
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

/* -- widths of heads: that of a head is as good as that of a wider one whose rest is zeros -------
 */

enum { WIDTHS_T = 66, WIDEST = 256 }; /* two tiles of queries and keys on a GPU */

static void put(void *to, int64_t i, swt_dtype dtype, float x) {
    if (dtype == SWT_BF16)
        ((uint16_t *)to)[i] = swt_bf16_from_float(x);
    else
        ((float *)to)[i] = x;
}

/* Rows of D random numbers, `stride` apart; twice with the same `seed` they are the same ones. */
static void *seeded_rows(swt_trial *t, int64_t D, int64_t stride, uint32_t seed) {
    const swt_dtype dtype = t->ctx.dtype;
    void *rows = swt_trial_in(t, WIDTHS_T * stride, dtype);
    t->drawn = seed;
    for (int64_t i = 0; i < WIDTHS_T * D; i++)
        put(rows, i / D * stride + i % D, dtype, (float)(2 * swt_trial_draw(t) - 1));
    return rows;
}

typedef struct gradients {
    void *y, *dq, *dk, *dv;
    float *lse;
    int64_t stride; /* of the three gradients; y has no gaps */
} gradients;

/* Forward and backward of the same D numbers a row, in heads of `width`. */
static gradients both_ways(swt_trial *t, int64_t D, int64_t width, int64_t stride) {
    const swt_dtype dtype = t->ctx.dtype;
    const swt_attention_dims d = {.B = 1,
                                  .H = 1,
                                  .D = width,
                                  .Tq = WIDTHS_T,
                                  .Tk = WIDTHS_T,
                                  .q_stride = stride,
                                  .kv_stride = stride,
                                  .mask = SWT_MASK_CAUSAL,
                                  .scale = (float)(1 / sqrt((double)D))};
    const void *q = seeded_rows(t, D, stride, 1000), *k = seeded_rows(t, D, stride, 100000),
               *v = seeded_rows(t, D, stride, 200000), *dy = seeded_rows(t, D, width, 300000);
    gradients o = {.y = swt_trial_out(t, WIDTHS_T * width, dtype),
                   .lse = swt_trial_out(t, WIDTHS_T, SWT_F32),
                   .stride = stride};
    SWT_RUN(t, attention_forward, .y = o.y, .lse = o.lse, .q = q, .k = k, .v = v, .dims = d);
    swt_test_keep(t);
    o.dq = swt_trial_out(t, WIDTHS_T * stride, dtype);
    o.dk = swt_trial_out(t, WIDTHS_T * stride, dtype);
    o.dv = swt_trial_out(t, WIDTHS_T * stride, dtype);
    SWT_RUN(t, attention_backward, .dq = o.dq, .dk = o.dk, .dv = o.dv, .dy = dy, .q = q, .k = k,
            .v = v, .y = o.y, .lse = o.lse, .dims = d);
    swt_test_keep(t);
    return o;
}

/* Both are right to some roundings of sums over keys and over the head, of numbers around 1, and to
 * one more of BF16; what lies between rows of `got` is untouched. */
static void compare_rows(swt_trial *t, const char *what, const void *got, int64_t got_stride,
                         const void *want, int64_t want_stride, int64_t D) {
    const swt_dtype dtype = t->ctx.dtype;
    const double sums = 8 + 2 * sqrt(WIDTHS_T) + 2 * (1 + sqrt((double)D));
    const double bf16 = dtype == SWT_BF16 ? 0x1p-7 : 0;
    for (int64_t i = 0; i < WIDTHS_T * got_stride; i++) {
        const int64_t row = i / got_stride, column = i % got_stride;
        const double x = swt_trial_element(got, i, dtype);
        if (column >= D) {
            if (!isnan(x))
                swt_trial_miss(t, "%s: column %lld of row %lld was written", what,
                               (long long)column, (long long)row);
            continue;
        }
        const double right = swt_trial_element(want, row * want_stride + column, dtype);
        swt_trial_number(t, what, x, right, 16 * sums * SWT_ROUNDING + bf16 * (1 + fabs(right)));
    }
}

/* Gaps between rows leave those of whole runs of 16 bytes as they are. */
static void compare_widths(swt_trial *t, int64_t D) {
    const int64_t gap = D % 8 == 0 ? 8 : 3;
    swt_trial_begin(t, "heads of width %d, type %d", (int)D, (int)t->ctx.dtype);
    const gradients wide = both_ways(t, D, WIDEST, WIDEST);
    const gradients own = both_ways(t, D, D, D + gap);
    compare_rows(t, "y", own.y, D, wide.y, WIDEST, D);
    compare_rows(t, "dq", own.dq, own.stride, wide.dq, wide.stride, D);
    compare_rows(t, "dk", own.dk, own.stride, wide.dk, wide.stride, D);
    compare_rows(t, "dv", own.dv, own.stride, wide.dv, wide.stride, D);
    for (int i = 0; i < WIDTHS_T; i++)
        swt_trial_number(t, "lse", (double)own.lse[i], (double)wide.lse[i], 64 * SWT_ROUNDING);
}

static void test_widths(void **state) {
    static const int64_t widths[] = {1, 62, 67, 72, 97, 128, 136, 194, 200, 255};
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        compare_widths(t, widths[i]);
        t->ctx.dtype = SWT_BF16;
        if (t->ctx.ops->bf16)
            compare_widths(t, widths[i]);
        t->ctx.dtype = SWT_F32;
    }
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
