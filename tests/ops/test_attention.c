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
        k[i] = 1e6F;
        v[i] = -1e6F;
    }
    const outputs second = forward(t, q, k, v, key_lengths, &d);
    swt_trial_same(t, "y", second.y, first.y, B * TQ * HD, SWT_F32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_scores),
        cmocka_unit_test(test_causal),
        cmocka_unit_test(test_unseen_keys),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
