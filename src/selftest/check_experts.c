/* The experts' feed-forward against the oracle's linear layers, block by block: a block is what one
 * source sends to one expert. Slots that are not occupied: see check_exchange.c. */
#include "kernels/swt_positional.h"
#include "selftest/checks.h"
#include "selftest/oracle.h"

#include <math.h>
#include <string.h>

enum { CASES = 10, WIDTH = 65 };

/* wi, bi, wo, bo */
enum { WI, BI, WO, BO, TENSORS };

typedef struct experts {
    swt_moe_dims d;
    bool bias;
    int32_t *counts;
    float *x, *hidden, *dy, *dhidden; /* (El, P, K, C or F) */
    float *param[TENSORS];
    int64_t size[TENSORS]; /* elements of one expert; 0 without biases */
} experts;

/* Random numbers in the occupied slots, zeros in the others. */
static float *draw_slots(swt_trial *t, const experts *x, int64_t width, double low) {
    const int64_t K = x->d.K, n = x->d.El * x->d.P * K * width;
    float *rows = swt_trial_uniform(t, n, low, 1);
    for (int64_t i = 0; i < n; i++)
        if (i / width % K >= x->counts[i / width / K])
            rows[i] = 0;
    return rows;
}

/* Experts with inputs, outputs' gradients and hidden values of both passes: all drawn, so that an
 * operation is judged by itself. */
static experts draw_experts(swt_trial *t, int number) {
    const int64_t El = swt_trial_choose(t, 1, 3), P = swt_trial_choose(t, 1, 3),
                  K = swt_trial_size(t, 33), C = swt_trial_size(t, WIDTH),
                  F = swt_trial_size(t, WIDTH);
    experts x = {.d = swt_oracle_moe_dims(K, C, El * P), .bias = number % 2 == 0};
    x.d.El = El;
    x.d.P = P;
    x.d.F = F;
    swt_trial_begin(t, "El=%lld P=%lld K=%lld C=%lld F=%lld bias=%d", (long long)El, (long long)P,
                    (long long)K, (long long)C, (long long)F, x.bias);
    x.counts = swt_trial_integers(t, El * P, 0, (int)K);
    for (int64_t i = 0; i < El * P; i++) /* empty and full ones are common */
        x.counts[i] = i % 4 == 1 ? 0 : i % 4 == 2 ? (int32_t)K : x.counts[i];
    x.x = draw_slots(t, &x, C, -1);
    x.dy = draw_slots(t, &x, C, -1);
    x.hidden = draw_slots(t, &x, F, -1);
    for (int64_t i = 0; i < El * P * K * F; i++)
        x.hidden[i] = x.hidden[i] > 0 ? x.hidden[i] : 0;
    x.dhidden = draw_slots(t, &x, F, -1);
    const int64_t size[TENSORS] = {F * C, x.bias ? F : 0, C * F, x.bias ? C : 0};
    for (int i = 0; i < TENSORS; i++) {
        x.size[i] = size[i];
        x.param[i] = size[i] > 0 ? swt_trial_uniform(t, El * size[i], -1, 1) : NULL;
    }
    return x;
}

/* A parameter of local expert j, in double. */
static double *param_of(swt_trial *t, const experts *x, int i, int64_t j) {
    return x->param[i] != NULL ? swt_trial_widen(t, x->param[i] + j * x->size[i], x->size[i])
                               : NULL;
}

swt_status swt_selftest_experts_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const experts x = draw_experts(t, i);
        const int64_t K = x.d.K, C = x.d.C, F = x.d.F, rows = x.d.El * x.d.P * K;
        float *y = swt_trial_out(t, rows * C, SWT_F32),
              *hidden = swt_trial_out(t, rows * F, SWT_F32);
        SWT_TRIAL_RUN(t,
                      pos_experts_forward(&t->ctx, TWIN(y), TWIN(hidden), TWIN(x.x),
                                          TWIN(x.param[WI]), TWIN(x.param[BI]), TWIN(x.param[WO]),
                                          TWIN(x.param[BO]), TWIN(x.counts), &x.d));
        for (int64_t b = 0; b < x.d.El * x.d.P; b++) {
            const int64_t n = x.counts[b], j = b / x.d.P;
            double *want = swt_trial_doubles(t, n * F), *want_y = swt_trial_doubles(t, n * C);
            swt_oracle_linear_forward(want, swt_trial_widen(t, x.x + b * K * C, n * C),
                                      param_of(t, &x, WI, j), param_of(t, &x, BI, j), NULL, n, C, F,
                                      true);
            swt_oracle_linear_forward(want_y, want, param_of(t, &x, WO, j), param_of(t, &x, BO, j),
                                      NULL, n, F, C, false);
            swt_trial_close(t, "hidden", hidden + b * K * F, want, n * F, swt_sum_tolerance(C),
                            1 + swt_sum_size(C));
            swt_trial_close(t, "y", y + b * K * C, want_y, n * C,
                            swt_sum_tolerance(C) + swt_sum_tolerance(F),
                            (1 + swt_sum_size(C)) * (1 + swt_sum_size(F)));
        }
    }
    return SWT_OK;
}

static swt_status backward_input_case(swt_trial *t, const experts *x) {
    const int64_t K = x->d.K, C = x->d.C, F = x->d.F, rows = x->d.El * x->d.P * K;
    float *dx = swt_trial_out(t, rows * C, SWT_F32), *dhidden = swt_trial_out(t, rows * F, SWT_F32),
          *dot = swt_trial_out(t, rows, SWT_F32);
    SWT_TRIAL_RUN(t, pos_experts_backward_input(&t->ctx, TWIN(dx), TWIN(dhidden), TWIN(dot),
                                                TWIN(x->dy), TWIN(x->hidden), TWIN(x->param[WI]),
                                                TWIN(x->param[WO]), TWIN(x->param[BO]),
                                                TWIN(x->counts), &x->d));
    const double size_C = 1 + swt_sum_size(C), size_F = 1 + swt_sum_size(F);
    for (int64_t b = 0; b < x->d.El * x->d.P; b++) {
        const int64_t n = x->counts[b], j = b / x->d.P;
        const double *dy = swt_trial_widen(t, x->dy + b * K * C, n * C);
        const double *hidden = swt_trial_widen(t, x->hidden + b * K * F, n * F);
        const double *bo = param_of(t, x, BO, j);
        double *want_hidden = swt_trial_doubles(t, n * F), *want = swt_trial_doubles(t, n * C),
               *want_dot = swt_trial_doubles(t, n);
        swt_oracle_linear_backward_input(want_hidden, dy, param_of(t, x, WO, j), hidden, n, F, C);
        swt_oracle_linear_backward_input(want, want_hidden, param_of(t, x, WI, j), NULL, n, C, F);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t k = 0; k < F; k++)
                want_dot[i] += want_hidden[i * F + k] * hidden[i * F + k];
            for (int64_t k = 0; k < C && bo != NULL; k++)
                want_dot[i] += dy[i * C + k] * bo[k];
        }
        swt_trial_close(t, "dhidden", dhidden + b * K * F, want_hidden, n * F, swt_sum_tolerance(C),
                        size_C);
        swt_trial_close(t, "dx", dx + b * K * C, want, n * C,
                        swt_sum_tolerance(C) + swt_sum_tolerance(F), size_C * size_F);
        swt_trial_close(t, "dot", dot + b * K, want_dot, n,
                        2 * swt_sum_tolerance(C) + swt_sum_tolerance(F), size_C * size_F);
    }
    return SWT_OK;
}

swt_status swt_selftest_experts_backward_input(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const experts x = draw_experts(t, i);
        SWT_TRY(backward_input_case(t, &x));
    }
    return SWT_OK;
}

/* The gradients of all sources of local expert j, in double; returns the rows they come from. */
static int64_t solve_weights(swt_trial *t, const experts *x, int64_t j, double *want[TENSORS]) {
    const int64_t K = x->d.K, C = x->d.C, F = x->d.F;
    int64_t rows = 0;
    for (int i = 0; i < TENSORS; i++)
        want[i] = swt_trial_doubles(t, i == WI || i == WO ? F * C : i == BI ? F : C);
    for (int64_t b = j * x->d.P; b < (j + 1) * x->d.P; b++) {
        const int64_t n = x->counts[b];
        const double *dhidden = swt_trial_widen(t, x->dhidden + b * K * F, n * F);
        const double *hidden = swt_trial_widen(t, x->hidden + b * K * F, n * F);
        const double *dy = swt_trial_widen(t, x->dy + b * K * C, n * C);
        const double *input = swt_trial_widen(t, x->x + b * K * C, n * C);
        swt_oracle_linear_backward_weight(want[WI], want[BI], dhidden, input, n, C, F);
        swt_oracle_linear_backward_weight(want[WO], want[BO], dy, hidden, n, F, C);
        rows += n;
    }
    return rows;
}

static void expect_weights(swt_trial *t, const experts *x, float *const got[TENSORS], int times) {
    static const char *const names[TENSORS] = {"dwi", "dbi", "dwo", "dbo"};
    for (int64_t j = 0; j < x->d.El; j++) {
        double *want[TENSORS];
        const int64_t rows = solve_weights(t, x, j, want);
        for (int i = 0; i < TENSORS; i++) {
            const int64_t n = x->size[i];
            for (int64_t k = 0; k < n; k++)
                want[i][k] *= times;
            if (got[i] != NULL)
                swt_trial_close(t, names[i], got[i] + j * n, want[i], n, swt_sum_tolerance(rows),
                                times * (1 + swt_sum_size(rows)));
            for (int64_t k = 0; rows == 0 && k < n; k++)
                swt_trial_number(t, "gradient of an idle expert", (double)got[i][j * n + k], 0, 0);
        }
    }
}

static swt_status backward_weight(swt_trial *t, const experts *x, float *const got[TENSORS],
                                  const swt_expert_sums *sums) {
    SWT_TRIAL_RUN(t, pos_experts_backward_weight(&t->ctx, TWIN(got[WI]), TWIN(got[BI]),
                                                 TWIN(got[WO]), TWIN(got[BO]), TWIN(x->x),
                                                 TWIN(x->hidden), TWIN(x->dhidden), TWIN(x->dy),
                                                 TWIN(x->counts), &x->d, sums));
    return SWT_OK;
}

/* Without sums; then the same twice through integer sums, of which the second call is the last. */
swt_status swt_selftest_experts_backward_weight(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const experts x = draw_experts(t, i);
        float *got[TENSORS];
        int64_t *sum[TENSORS];
        for (int k = 0; k < TENSORS; k++) {
            const int64_t n = x.d.El * x.size[k];
            got[k] = n > 0 ? swt_trial_out(t, n, SWT_F32) : NULL;
            sum[k] = n > 0 ? swt_trial_out(t, n, SWT_I64) : NULL;
        }
        SWT_TRY(backward_weight(t, &x, got, NULL));
        expect_weights(t, &x, got, 1);
        swt_expert_sums sums = {TWIN(sum[WI]), TWIN(sum[BI]), TWIN(sum[WO]), TWIN(sum[BO]),
                                0x1p60,        true,          false};
        SWT_TRY(backward_weight(t, &x, got, &sums));
        sums.first = false;
        sums.last = true;
        SWT_TRY(backward_weight(t, &x, got, &sums));
        expect_weights(t, &x, got, 2);
    }
    return SWT_OK;
}
