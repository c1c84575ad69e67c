/* Attention against the oracle. */
#include "kernels/swt_positional.h"
#include "selftest/checks.h"
#include "selftest/oracle.h"

#include <math.h>

enum { CASES = 12 };

static pos_attention_dims draw_attention(swt_trial *t, int number) {
    const pos_attention_dims d = {.B = swt_trial_choose(t, 1, 2),
                                  .T = swt_trial_size(t, 65),
                                  .H = swt_trial_choose(t, 1, 3),
                                  .D = number == 0 ? SWT_HEAD_WIDTH_MAX : swt_trial_size(t, 65),
                                  .scale = 1};
    pos_attention_dims scaled = d;
    scaled.T = number == 0 ? 9 : d.T;
    scaled.scale = (float)(1 / sqrt((double)d.D));
    swt_trial_begin(t, "B=%lld T=%lld H=%lld D=%lld", (long long)scaled.B, (long long)scaled.T,
                    (long long)scaled.H, (long long)scaled.D);
    return scaled;
}

/* A score is a dot product of D terms, wrong by some sqrt(D) roundings of its typical size; p =
 * exp(s - lse) turns that absolute error into a relative one, and adds one or two roundings of its
 * own and those of s and lse themselves; sums over T keep it. */
static double attention_tolerance(const pos_attention_dims *d) {
    const double terms = sqrt((double)d->D);
    return (4 + 2 * sqrt((double)d->T) + 2 * (double)d->scale * terms * (1 + terms)) * SWT_ROUNDING;
}

swt_status swt_selftest_attention_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const pos_attention_dims d = draw_attention(t, i);
        const int64_t N = d.B * d.T, n = N * d.H * d.D;
        const float *qkv = swt_trial_uniform(t, 3 * n, -1, 1);
        float *y = swt_trial_out(t, n, SWT_F32), *lse = swt_trial_out(t, N * d.H, SWT_F32);
        SWT_TRIAL_RUN(t, pos_attention_forward(&t->ctx, TWIN(y), TWIN(lse), TWIN(qkv), &d));
        double *want_y = swt_trial_doubles(t, n), *want_lse = swt_trial_doubles(t, N * d.H);
        swt_oracle_packed_forward(want_y, want_lse, swt_trial_widen(t, qkv, 3 * n), &d);
        swt_trial_close(t, "y", y, want_y, n, attention_tolerance(&d), 0);
        swt_trial_close(t, "lse", lse, want_lse, N * d.H, attention_tolerance(&d), 1);
    }
    return SWT_OK;
}

swt_status swt_selftest_attention_backward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const pos_attention_dims d = draw_attention(t, i);
        const int64_t N = d.B * d.T, n = N * d.H * d.D;
        const float *qkv = swt_trial_uniform(t, 3 * n, -1, 1), *dy = swt_trial_uniform(t, n, -1, 1);
        float *y = swt_trial_in(t, n, SWT_F32), *lse = swt_trial_in(t, N * d.H, SWT_F32);
        const double *wide = swt_trial_widen(t, qkv, 3 * n);
        double *exact_y = swt_trial_doubles(t, n), *exact_lse = swt_trial_doubles(t, N * d.H);
        swt_oracle_packed_forward(exact_y, exact_lse, wide, &d);
        for (int64_t k = 0; k < n; k++)
            y[k] = (float)exact_y[k];
        for (int64_t k = 0; k < N * d.H; k++)
            lse[k] = (float)exact_lse[k];
        float *dqkv = swt_trial_out(t, 3 * n, SWT_F32);
        SWT_TRIAL_RUN(t, pos_attention_backward(&t->ctx, TWIN(dqkv), TWIN(dy), TWIN(y), TWIN(lse),
                                                TWIN(qkv), &d));
        double *want = swt_trial_doubles(t, 3 * n);
        swt_oracle_packed_backward(want, swt_trial_widen(t, dy, n), swt_trial_widen(t, y, n),
                                   swt_trial_widen(t, lse, N * d.H), wide, &d);
        /* dp and dy . y are sums of D products each and cancel in part: their size is that of one.
         */
        const double terms = sqrt((double)d.D) / 3;
        swt_trial_close(t, "dqkv", dqkv, want, 3 * n,
                        attention_tolerance(&d) * (1 + terms / sqrt((double)d.T)),
                        (double)d.scale * terms);
    }
    return SWT_OK;
}
