/* What works on rows, LayerNorm, attention and the cross-entropy, against the oracle. */
#include "kernels/swt_positional.h"
#include "selftest/checks.h"
#include "selftest/oracle.h"

#include <math.h>

enum { CASES = 12, WIDTH = 130 };

static const double eps = 1e-5;

swt_status swt_selftest_norm_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t N = swt_trial_size(t, WIDTH), C = swt_trial_size(t, WIDTH);
        const double offset = i % 2 == 0 ? 0 : -3;
        swt_trial_begin(t, "N=%lld C=%lld offset=%g", (long long)N, (long long)C, offset);
        const float *x = swt_trial_uniform(t, N * C, offset - 1, offset + 1);
        const float *weight = swt_trial_uniform(t, C, -2, 2);
        const float *bias = swt_trial_uniform(t, C, -1, 1);
        float *y = swt_trial_out(t, N * C, SWT_F32), *mean = swt_trial_out(t, N, SWT_F32),
              *rstd = swt_trial_out(t, N, SWT_F32);
        SWT_TRIAL_RUN(t, pos_norm_forward(&t->ctx, TWIN(y), TWIN(mean), TWIN(rstd), TWIN(x),
                                          TWIN(weight), TWIN(bias), N, C, eps));
        double *want_y = swt_trial_doubles(t, N * C), *want_mean = swt_trial_doubles(t, N),
               *want_rstd = swt_trial_doubles(t, N);
        swt_oracle_norm_forward(want_y, want_mean, want_rstd, swt_trial_widen(t, x, N * C),
                                swt_trial_widen(t, weight, C), swt_trial_widen(t, bias, C), N, C,
                                eps);
        /* The mean, and with it x - mean, is wrong by some sqrt(C) roundings of |offset| + 1; that
         * error, times rstd, is the output's. rstd is about sqrt(3), and up to 1 / sqrt(eps) = 316
         * where a row hardly varies (few columns). */
        double largest = 0;
        for (int64_t n = 0; n < N; n++)
            largest = fmax(largest, want_rstd[n]);
        const double tolerance =
            (4 + 2 * largest * (1 + fabs(offset))) * sqrt((double)C) * SWT_ROUNDING;
        swt_trial_close(t, "mean", mean, want_mean, N, tolerance, 1);
        swt_trial_close(t, "rstd", rstd, want_rstd, N, tolerance, 0);
        swt_trial_close(t, "y", y, want_y, N * C, tolerance, 1);
    }
    return SWT_OK;
}

/* The statistics of x, as the forward pass would leave them. */
static void statistics(swt_trial *t, float *mean, float *rstd, const float *x, int64_t N,
                       int64_t C) {
    double *y = swt_trial_doubles(t, N * C), *m = swt_trial_doubles(t, N),
           *r = swt_trial_doubles(t, N), *zeros = swt_trial_doubles(t, C);
    swt_oracle_norm_forward(y, m, r, swt_trial_widen(t, x, N * C), zeros, zeros, N, C, eps);
    for (int64_t n = 0; n < N; n++) {
        mean[n] = (float)m[n];
        rstd[n] = (float)r[n];
    }
}

static swt_status norm_backward_case(swt_trial *t, int64_t N, int64_t C, int residual, int add) {
    const int64_t n = N * C;
    const float *x = swt_trial_uniform(t, n, -1, 1), *dy = swt_trial_uniform(t, n, -1, 1);
    const float *weight = swt_trial_uniform(t, C, -2, 2);
    float *mean = swt_trial_in(t, N, SWT_F32), *rstd = swt_trial_in(t, N, SWT_F32);
    statistics(t, mean, rstd, x, N, C);
    const float *dresidual = residual > 0 ? swt_trial_uniform(t, n, -1, 1) : NULL;
    const float *old_dweight = swt_trial_uniform(t, C, -1, 1);
    const float *old_dbias = swt_trial_uniform(t, C, -1, 1);
    float *dx =
        residual == 2 ? swt_trial_copy(t, dresidual, n, SWT_F32) : swt_trial_out(t, n, SWT_F32);
    const float *added = residual == 2 ? dx : dresidual;
    float *dweight =
        add ? swt_trial_copy(t, old_dweight, C, SWT_F32) : swt_trial_out(t, C, SWT_F32);
    float *dbias = add ? swt_trial_copy(t, old_dbias, C, SWT_F32) : swt_trial_out(t, C, SWT_F32);
    void *scratch = swt_trial_scratch(t, swt_norm_backward_scratch_bytes(N, C));
    SWT_TRIAL_RUN(t, pos_norm_backward(&t->ctx, TWIN(dx), TWIN(dweight), TWIN(dbias), TWIN(dy),
                                       TWIN(added), TWIN(x), TWIN(mean), TWIN(rstd), TWIN(weight),
                                       TWIN(scratch), N, C, add));
    double *want_dx = swt_trial_doubles(t, n);
    double *want_dweight = add ? swt_trial_widen(t, old_dweight, C) : swt_trial_doubles(t, C);
    double *want_dbias = add ? swt_trial_widen(t, old_dbias, C) : swt_trial_doubles(t, C);
    swt_oracle_norm_backward(want_dx, want_dweight, want_dbias, swt_trial_widen(t, dy, n),
                             swt_trial_widen(t, dresidual, n), swt_trial_widen(t, x, n),
                             swt_trial_widen(t, mean, N), swt_trial_widen(t, rstd, N),
                             swt_trial_widen(t, weight, C), N, C);
    /* dx: two means over C and a few products, times rstd. The others: sums over N rows. */
    const double rows = sqrt(1 + (double)N);
    swt_trial_close(t, "dx", dx, want_dx, n, 8 * sqrt((double)C) * SWT_ROUNDING, C > 4 ? 3 : 316);
    swt_trial_close(t, "dweight", dweight, want_dweight, C, 4 * rows * SWT_ROUNDING, rows);
    swt_trial_close(t, "dbias", dbias, want_dbias, C, 4 * rows * SWT_ROUNDING, rows);
    return SWT_OK;
}

swt_status swt_selftest_norm_backward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t N = swt_trial_size(t, WIDTH), C = swt_trial_size(t, WIDTH);
        const int residual = i % 3, add = i / 3 % 2;
        swt_trial_begin(t, "N=%lld C=%lld residual=%d add=%d", (long long)N, (long long)C, residual,
                        add);
        SWT_TRY(norm_backward_case(t, N, C, residual, add));
    }
    return SWT_OK;
}

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

/* gradient 0: none; 1: into its own tensor; 2: over the logits. */
static swt_status entropy_case(swt_trial *t, int64_t N, int64_t V, double size, int gradient) {
    const int64_t n = N * V;
    t->state->targets = 3 * N + 1;
    const float *original =
        size == 0 ? swt_trial_whole(t, n, -2, 2) : swt_trial_uniform(t, n, -size, size);
    const int32_t *targets = swt_trial_integers(t, N, -1, (int)V - 1);
    double *stats = swt_trial_out(t, 2, SWT_F64);
    float *over = gradient == 2 ? swt_trial_copy(t, original, n, SWT_F32) : NULL;
    float *dlogits = gradient == 1 ? swt_trial_out(t, n, SWT_F32) : over;
    const float *logits = gradient == 2 ? over : original;
    void *scratch = swt_trial_scratch(t, swt_cross_entropy_scratch_bytes(N));
    SWT_TRIAL_RUN(t, pos_cross_entropy(&t->ctx, TWIN(dlogits), TWIN(stats), TWIN(logits),
                                       TWIN(targets), TWIN(scratch), N, V));
    double *want = swt_trial_doubles(t, n), want_stats[2];
    swt_oracle_cross_entropy(want, want_stats, swt_trial_widen(t, original, n), targets, 3 * N + 1,
                             N, V);
    /* A row's loss is wrong by the rounding of its logsumexp (of size + log V) and of the sum of V
     * exponentials; N independent rows. */
    const double row = (4 * (2 + size + log((double)V)) + 4 * sqrt((double)V)) * SWT_ROUNDING;
    swt_trial_number(t, "the loss", stats[0], want_stats[0], row * (1 + 3 * sqrt((double)N)));
    swt_trial_number(t, "correct targets", stats[1], want_stats[1], 0);
    if (gradient > 0)
        swt_trial_close(t, "dlogits", dlogits, want, n, row, 1 / (double)(3 * N + 1));
    return SWT_OK;
}

swt_status swt_selftest_cross_entropy(swt_trial *t) {
    static const double sizes[] = {2, 30, 0}; /* 0: whole numbers, with ties */
    for (int i = 0; i < CASES; i++) {
        const int64_t N = swt_trial_size(t, WIDTH), V = swt_trial_size(t, WIDTH);
        const double size = sizes[i / 3 % 3];
        swt_trial_begin(t, "N=%lld V=%lld size=%g gradient=%d", (long long)N, (long long)V, size,
                        i % 3);
        SWT_TRY(entropy_case(t, N, V, size, i % 3));
    }
    return SWT_OK;
}
