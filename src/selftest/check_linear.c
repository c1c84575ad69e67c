/* Linear layers and the embedding against the oracle. */
#include "kernels/swt_positional.h"
#include "selftest/checks.h"
#include "selftest/oracle.h"

#include <math.h>

enum { CASES = 16, WIDTH = 130 };

typedef struct linear_case {
    int64_t N, in, out;
    bool bias, residual, in_place, relu, add;
} linear_case;

/* Every option with and without, on shapes drawn at random. */
static linear_case draw_case(swt_trial *t, int number) {
    const linear_case c = {.N = swt_trial_size(t, WIDTH),
                           .in = swt_trial_size(t, WIDTH),
                           .out = swt_trial_size(t, WIDTH),
                           .bias = number & 1,
                           .relu = number & 2,
                           .residual = number & 4,
                           .in_place = (number & 12) == 12,
                           .add = number & 8};
    swt_trial_begin(t, "N=%lld in=%lld out=%lld bias=%d relu=%d residual=%d in_place=%d add=%d",
                    (long long)c.N, (long long)c.in, (long long)c.out, c.bias, c.relu, c.residual,
                    c.in_place, c.add);
    return c;
}

swt_status swt_selftest_linear_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const linear_case c = draw_case(t, i);
        const int64_t n = c.N * c.out;
        const float *x = swt_trial_uniform(t, c.N * c.in, -1, 1);
        const float *w = swt_trial_uniform(t, c.out * c.in, -1, 1);
        const float *bias = c.bias ? swt_trial_uniform(t, c.out, -1, 1) : NULL;
        const float *residual = c.residual ? swt_trial_uniform(t, n, -1, 1) : NULL;
        float *y =
            c.in_place ? swt_trial_copy(t, residual, n, SWT_F32) : swt_trial_out(t, n, SWT_F32);
        const float *added = c.in_place ? y : residual;
        SWT_TRIAL_RUN(t, pos_linear_forward(&t->ctx, TWIN(y), TWIN(x), TWIN(w), TWIN(bias),
                                            TWIN(added), c.N, c.in, c.out,
                                            c.relu ? SWT_EPILOGUE_RELU : SWT_EPILOGUE_NONE));
        double *want = swt_trial_doubles(t, n);
        swt_oracle_linear_forward(want, swt_trial_widen(t, x, c.N * c.in),
                                  swt_trial_widen(t, w, c.out * c.in),
                                  swt_trial_widen(t, bias, c.out), swt_trial_widen(t, residual, n),
                                  c.N, c.in, c.out, c.relu);
        swt_trial_close(t, "y", y, want, n, swt_sum_tolerance(c.in), 1 + swt_sum_size(c.in));
    }
    return SWT_OK;
}

swt_status swt_selftest_linear_backward_input(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const linear_case c = draw_case(t, i);
        const int64_t n = c.N * c.in;
        const float *dy = swt_trial_uniform(t, c.N * c.out, -1, 1);
        const float *w = swt_trial_uniform(t, c.out * c.in, -1, 1);
        const float *relu_output = c.relu ? swt_trial_whole(t, n, -1, 2) : NULL;
        float *dx = swt_trial_out(t, n, SWT_F32);
        SWT_TRIAL_RUN(t, pos_linear_backward_input(&t->ctx, TWIN(dx), TWIN(dy), TWIN(w),
                                                   TWIN(relu_output), c.N, c.in, c.out));
        double *want = swt_trial_doubles(t, n);
        swt_oracle_linear_backward_input(want, swt_trial_widen(t, dy, c.N * c.out),
                                         swt_trial_widen(t, w, c.out * c.in),
                                         swt_trial_widen(t, relu_output, n), c.N, c.in, c.out);
        swt_trial_close(t, "dx", dx, want, n, swt_sum_tolerance(c.out), swt_sum_size(c.out));
        for (int64_t k = 0; c.relu && k < n; k++)
            if (relu_output[k] <= 0)
                swt_trial_number(t, "dx behind the ReLU", (double)dx[k], 0, 0);
    }
    return SWT_OK;
}

swt_status swt_selftest_linear_backward_weight(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const linear_case c = draw_case(t, i);
        const int64_t n = c.out * c.in;
        const float *dy = swt_trial_uniform(t, c.N * c.out, -1, 1);
        const float *x = swt_trial_uniform(t, c.N * c.in, -1, 1);
        const float *old_dw = swt_trial_uniform(t, n, -1, 1);
        const float *old_dbias = swt_trial_uniform(t, c.out, -1, 1);
        float *dw = c.add ? swt_trial_copy(t, old_dw, n, SWT_F32) : swt_trial_out(t, n, SWT_F32);
        float *dbias = !c.bias ? NULL
                       : c.add ? swt_trial_copy(t, old_dbias, c.out, SWT_F32)
                               : swt_trial_out(t, c.out, SWT_F32);
        SWT_TRIAL_RUN(t, pos_linear_backward_weight(&t->ctx, TWIN(dw), TWIN(dbias), TWIN(dy),
                                                    TWIN(x), c.N, c.in, c.out, c.add));
        double *want = c.add ? swt_trial_widen(t, old_dw, n) : swt_trial_doubles(t, n);
        double *want_bias =
            c.add ? swt_trial_widen(t, old_dbias, c.out) : swt_trial_doubles(t, c.out);
        swt_oracle_linear_backward_weight(want, want_bias, swt_trial_widen(t, dy, c.N * c.out),
                                          swt_trial_widen(t, x, c.N * c.in), c.N, c.in, c.out);
        const double size = c.add + swt_sum_size(c.N);
        swt_trial_close(t, "dw", dw, want, n, swt_sum_tolerance(c.N), size);
        if (c.bias)
            swt_trial_close(t, "dbias", dbias, want_bias, c.out, swt_sum_tolerance(c.N), size);
    }
    return SWT_OK;
}

swt_status swt_selftest_embedding_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t N = swt_trial_size(t, WIDTH), C = swt_trial_size(t, WIDTH),
                      V = swt_trial_size(t, WIDTH);
        swt_trial_begin(t, "N=%lld C=%lld V=%lld", (long long)N, (long long)C, (long long)V);
        const float *table = swt_trial_uniform(t, V * C, -1, 1);
        const int32_t *tokens = swt_trial_integers(t, N, 0, (int)V - 1);
        float *x = swt_trial_out(t, N * C, SWT_F32);
        SWT_TRIAL_RUN(t,
                      pos_embedding_forward(&t->ctx, TWIN(x), TWIN(table), TWIN(tokens), N, C, V));
        for (int64_t n = 0; n < N; n++)
            swt_trial_same(t, "x", x + n * C, table + tokens[n] * C, C, SWT_F32);
    }
    return SWT_OK;
}

swt_status swt_selftest_embedding_backward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t N = swt_trial_size(t, WIDTH), C = swt_trial_size(t, WIDTH),
                      V = swt_trial_size(t, WIDTH);
        const int add = i & 1;
        swt_trial_begin(t, "N=%lld C=%lld V=%lld add=%d", (long long)N, (long long)C, (long long)V,
                        add);
        const float *dx = swt_trial_uniform(t, N * C, -1, 1);
        const float *old = swt_trial_uniform(t, V * C, -1, 1);
        const int32_t *tokens = swt_trial_integers(t, N, 0, (int)V - 1);
        float *dtable =
            add ? swt_trial_copy(t, old, V * C, SWT_F32) : swt_trial_out(t, V * C, SWT_F32);
        SWT_TRIAL_RUN(
            t, pos_embedding_backward(&t->ctx, TWIN(dtable), TWIN(dx), TWIN(tokens), N, C, V, add));
        double *want = add ? swt_trial_widen(t, old, V * C) : swt_trial_doubles(t, V * C);
        swt_oracle_embedding_backward(want, swt_trial_widen(t, dx, N * C), tokens, N, C);
        /* A row is a sum of at most N numbers, about N / V of them. */
        const double terms = 1 + (double)N / (double)V;
        swt_trial_close(t, "dtable", dtable, want, V * C, 4 * sqrt(terms) * SWT_ROUNDING,
                        sqrt(terms / 3));
    }
    return SWT_OK;
}
