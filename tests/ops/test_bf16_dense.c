/* The dense layers with activations in bf16, where the backend has them, against the oracle on the
 * same rounded inputs. Arithmetic and sums are float, so an output in bf16 is the right number
 * rounded once, and an output in float is as exact as with float activations. */
#include "kernels/swt_positional.h"
#include "selftest/oracle.h"
#include "support/judge.h"

#include <math.h>

/* The largest relative error of one rounding to bf16. */
#define BF16_UNIT 0x1p-8

typedef uint16_t bf16;

static void open_bed(swt_bed *bed) {
    swt_bed_open(bed, 2);
    if (!bed->ctx.ops->bf16) {
        swt_bed_close(bed);
        skip();
    }
    bed->ctx.dtype = SWT_BF16;
}

static bf16 *uniform(swt_bed *bed, int64_t count, double low, double high) {
    bf16 *x = swt_bed_in(bed, count, SWT_BF16);
    for (int64_t i = 0; i < count; i++)
        x[i] = swt_bf16_from_float((float)(low + (high - low) * swt_bed_draw(bed)));
    return x;
}

static bf16 *output(swt_bed *bed, int64_t count) {
    return swt_bed_out(bed, count, SWT_BF16);
}

/* NULL for NULL. */
static double *widen(swt_bed *bed, const bf16 *from, int64_t count) {
    if (from == NULL)
        return NULL;
    double *to = swt_bed_doubles(bed, count);
    for (int64_t i = 0; i < count; i++)
        to[i] = (double)swt_bf16_to_float(from[i]);
    return to;
}

/* Each number is want, wrong by what swt_expect_close allows a single one, and rounded to bf16. */
static void expect_rounded(const swt_bed *bed, const char *what, const bf16 *got,
                           const double *want, int64_t n, double tolerance, double scale) {
    const double size = fmax(sqrt(swt_inner(want, want, n) / fmax(1, (double)n)), scale);
    for (int64_t i = 0; i < n; i++) {
        const double wrong = 8 * tolerance * size;
        swt_expect_number(bed, what, (double)swt_bf16_to_float(got[i]), want[i],
                          wrong + BF16_UNIT * (fabs(want[i]) + wrong));
    }
}

/* Products of two numbers from [-1, 1), as in test_linear.c: their sum's size, and what it may be
 * wrong by. */
static double sum_size(int64_t n) {
    return sqrt((double)n) / 3;
}

static double sum_tolerance(int64_t n) {
    return 4 * sqrt(fmax(1, (double)n)) * SWT_UNIT;
}

/* N, in, out: with and without whole runs of 16 bytes. */
static const int64_t layers[][3] = {{1, 1, 1},    {5, 7, 3},     {64, 40, 64},  {0, 8, 5},
                                    {65, 64, 24}, {130, 33, 65}, {600, 128, 72}};
enum { LAYERS = sizeof layers / sizeof layers[0] };

static void check_linear_forward(swt_bed *bed, const int64_t shape[3], int options) {
    const int64_t N = shape[0], in = shape[1], out = shape[2];
    const bool in_place = (options & 12) == 12;
    swt_bed_begin(bed, "bf16 linear N=%lld in=%lld out=%lld options=%d", (long long)N,
                  (long long)in, (long long)out, options);
    const bf16 *x = uniform(bed, N * in, -1, 1), *w = uniform(bed, out * in, -1, 1);
    const bf16 *bias = options & 1 ? uniform(bed, out, -1, 1) : NULL;
    const bf16 *residual = options & 4 ? uniform(bed, N * out, -1, 1) : NULL;
    bf16 *y = in_place ? swt_bed_copy(bed, residual, N * out, SWT_BF16) : output(bed, N * out);
    SWT_BED_RUN(bed, pos_linear_forward(&bed->ctx, y, x, w, bias, in_place ? y : residual, N, in,
                                        out, options & 2 ? SWT_EPILOGUE_RELU : SWT_EPILOGUE_NONE));
    double *want = swt_bed_doubles(bed, N * out);
    swt_oracle_linear_forward(want, widen(bed, x, N * in), widen(bed, w, out * in),
                              widen(bed, bias, out), widen(bed, residual, N * out), N, in, out,
                              options & 2);
    expect_rounded(bed, "y", y, want, N * out, sum_tolerance(in), 1 + sum_size(in));
}

static void test_linear_forward(void **state) {
    (void)state;
    swt_bed bed;
    open_bed(&bed);
    for (int s = 0; s < LAYERS; s++)
        for (int options = 0; options < 16; options++)
            if ((options & 12) != 8)
                check_linear_forward(&bed, layers[s], options);
    swt_bed_close(&bed);
}

static void test_linear_backward_input(void **state) {
    (void)state;
    swt_bed bed;
    open_bed(&bed);
    for (int s = 0; s < 2 * LAYERS; s++) {
        const int64_t N = layers[s / 2][0], in = layers[s / 2][1], out = layers[s / 2][2];
        swt_bed_begin(&bed, "bf16 linear backward N=%lld in=%lld out=%lld relu=%d", (long long)N,
                      (long long)in, (long long)out, s % 2);
        const bf16 *dy = uniform(&bed, N * out, -1, 1), *w = uniform(&bed, out * in, -1, 1);
        bf16 *relu_output = s % 2 ? uniform(&bed, N * in, -1, 1) : NULL;
        for (int64_t i = 0; s % 2 && i < N * in; i += 5)
            relu_output[i] = swt_bf16_from_float(-0.0F);
        bf16 *dx = output(&bed, N * in);
        SWT_BED_RUN(&bed, pos_linear_backward_input(&bed.ctx, dx, dy, w, relu_output, N, in, out));
        double *want = swt_bed_doubles(&bed, N * in);
        swt_oracle_linear_backward_input(want, widen(&bed, dy, N * out), widen(&bed, w, out * in),
                                         widen(&bed, relu_output, N * in), N, in, out);
        expect_rounded(&bed, "dx", dx, want, N * in, sum_tolerance(out), sum_size(out));
        for (int64_t i = 0; s % 2 && i < N * in; i++)
            if (swt_bf16_to_float(relu_output[i]) <= 0)
                assert_true(dx[i] == 0);
    }
    swt_bed_close(&bed);
}

static void test_linear_backward_weight(void **state) {
    (void)state;
    swt_bed bed;
    open_bed(&bed);
    for (int s = 0; s < 2 * LAYERS; s++) {
        const int64_t N = layers[s / 2][0], in = layers[s / 2][1], out = layers[s / 2][2];
        const int add = s % 2;
        swt_bed_begin(&bed, "bf16 linear backward N=%lld in=%lld out=%lld add=%d", (long long)N,
                      (long long)in, (long long)out, add);
        const bf16 *dy = uniform(&bed, N * out, -1, 1), *x = uniform(&bed, N * in, -1, 1);
        const float *old = swt_bed_uniform(&bed, out * in + out, -1, 1);
        float *dw =
            add ? swt_bed_copy(&bed, old, out * in, SWT_F32) : swt_bed_out(&bed, out * in, SWT_F32);
        float *dbias = add ? swt_bed_copy(&bed, old + out * in, out, SWT_F32)
                           : swt_bed_out(&bed, out, SWT_F32);
        SWT_BED_RUN(&bed, pos_linear_backward_weight(&bed.ctx, dw, dbias, dy, x, N, in, out, add));
        double *want_dw =
            add ? swt_bed_widen(&bed, old, out * in) : swt_bed_doubles(&bed, out * in);
        double *want_dbias =
            add ? swt_bed_widen(&bed, old + out * in, out) : swt_bed_doubles(&bed, out);
        swt_oracle_linear_backward_weight(want_dw, want_dbias, widen(&bed, dy, N * out),
                                          widen(&bed, x, N * in), N, in, out);
        swt_expect_close(&bed, "dw", dw, want_dw, out * in, sum_tolerance(N), sum_size(N));
        swt_expect_close(&bed, "dbias", dbias, want_dbias, out, sum_tolerance(N), sum_size(N));
    }
    swt_bed_close(&bed);
}

/* N, C */
static const int64_t norms[][2] = {{1, 1}, {5, 7}, {65, 64}, {130, 200}, {63, 33}, {0, 16}};
enum { NORMS = sizeof norms / sizeof norms[0] };

static void check_norm(swt_bed *bed, int64_t N, int64_t C, int options) {
    const int64_t n = N * C;
    const bool in_place = options == 2;
    swt_bed_begin(bed, "bf16 norm N=%lld C=%lld options=%d", (long long)N, (long long)C, options);
    const bf16 *x = uniform(bed, n, -1, 1), *dy = uniform(bed, n, -1, 1);
    const bf16 *dresidual = options > 0 ? uniform(bed, n, -1, 1) : NULL;
    const float *weight = swt_bed_uniform(bed, C, -2, 2), *bias = swt_bed_uniform(bed, C, -1, 1);
    bf16 *y = output(bed, n),
         *dx = in_place ? swt_bed_copy(bed, dresidual, n, SWT_BF16) : output(bed, n);
    float *mean = swt_bed_out(bed, N, SWT_F32), *rstd = swt_bed_out(bed, N, SWT_F32),
          *dweight = swt_bed_out(bed, C, SWT_F32), *dbias = swt_bed_out(bed, C, SWT_F32);
    void *scratch = swt_bed_scratch(bed, swt_norm_backward_scratch_bytes(N, C));
    SWT_BED_RUN(bed, pos_norm_forward(&bed->ctx, y, mean, rstd, x, weight, bias, N, C, 1e-5));
    SWT_BED_RUN(bed, pos_norm_backward(&bed->ctx, dx, dweight, dbias, dy, in_place ? dx : dresidual,
                                       x, mean, rstd, weight, scratch, N, C, 0));
    double *want = swt_bed_doubles(bed, n), *want_mean = swt_bed_doubles(bed, N),
           *want_rstd = swt_bed_doubles(bed, N), *want_dweight = swt_bed_doubles(bed, C),
           *want_dbias = swt_bed_doubles(bed, C);
    swt_oracle_norm_forward(want, want_mean, want_rstd, widen(bed, x, n),
                            swt_bed_widen(bed, weight, C), swt_bed_widen(bed, bias, C), N, C, 1e-5);
    /* As in test_norm.c, for rows around 0; there, why 316. */
    const double forward = 4 * sqrt((double)C) * SWT_UNIT, rows = sqrt(1 + (double)N);
    swt_expect_close(bed, "mean", mean, want_mean, N, forward, 1);
    swt_expect_close(bed, "rstd", rstd, want_rstd, N, forward, 0);
    expect_rounded(bed, "y", y, want, n, forward, 1);
    swt_oracle_norm_backward(want, want_dweight, want_dbias, widen(bed, dy, n),
                             widen(bed, dresidual, n), widen(bed, x, n),
                             swt_bed_widen(bed, mean, N), swt_bed_widen(bed, rstd, N),
                             swt_bed_widen(bed, weight, C), N, C);
    expect_rounded(bed, "dx", dx, want, n, 8 * sqrt((double)C) * SWT_UNIT, C > 4 ? 3 : 316);
    swt_expect_close(bed, "dweight", dweight, want_dweight, C, 4 * rows * SWT_UNIT, rows);
    swt_expect_close(bed, "dbias", dbias, want_dbias, C, 4 * rows * SWT_UNIT, rows);
}

static void test_norm(void **state) {
    (void)state;
    swt_bed bed;
    open_bed(&bed);
    for (int s = 0; s < NORMS; s++)
        for (int options = 0; options < 3; options++)
            check_norm(&bed, norms[s][0], norms[s][1], options);
    swt_bed_close(&bed);
}

static void test_embedding(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{5, 7, 3}, {130, 64, 65}, {300, 40, 2}, {3, 33, 1000}};
    swt_bed bed;
    open_bed(&bed);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const int64_t N = shapes[s][0], C = shapes[s][1], V = shapes[s][2];
        swt_bed_begin(&bed, "bf16 embedding N=%lld C=%lld V=%lld", (long long)N, (long long)C,
                      (long long)V);
        const bf16 *table = uniform(&bed, V * C, -1, 1), *dx = uniform(&bed, N * C, -1, 1);
        const int32_t *tokens = swt_bed_integers(&bed, N, 0, (int)V - 1);
        bf16 *x = output(&bed, N * C);
        float *dtable = swt_bed_out(&bed, V * C, SWT_F32);
        SWT_BED_RUN(&bed, pos_embedding_forward(&bed.ctx, x, table, tokens, N, C, V));
        SWT_BED_RUN(&bed, pos_embedding_backward(&bed.ctx, dtable, dx, tokens, N, C, V, 0));
        for (int64_t n = 0; n < N; n++)
            swt_expect_bytes(&bed, "x", x + n * C, table + tokens[n] * C, C, SWT_BF16);
        double *want = swt_bed_doubles(&bed, V * C);
        swt_oracle_embedding_backward(want, widen(&bed, dx, N * C), tokens, N, C);
        const double terms = 1 + (double)N / (double)V;
        swt_expect_close(&bed, "dtable", dtable, want, V * C, 4 * sqrt(terms) * SWT_UNIT,
                         sqrt(terms / 3));
    }
    swt_bed_close(&bed);
}

/* Scores, probabilities and sums are float, and so are the bounds: those of test_attention.c. */
static void check_attention(swt_bed *bed, const pos_attention_dims *d) {
    swt_bed_begin(bed, "bf16 attention B=%lld T=%lld H=%lld D=%lld", (long long)d->B,
                  (long long)d->T, (long long)d->H, (long long)d->D);
    const int64_t heads = d->B * d->T * d->H, n = heads * d->D;
    const bf16 *qkv = uniform(bed, 3 * n, -1, 1), *dy = uniform(bed, n, -1, 1);
    bf16 *y = output(bed, n), *dqkv = output(bed, 3 * n);
    float *lse = swt_bed_out(bed, heads, SWT_F32);
    SWT_BED_RUN(bed, pos_attention_forward(&bed->ctx, y, lse, qkv, d));
    SWT_BED_RUN(bed, pos_attention_backward(&bed->ctx, dqkv, dy, y, lse, qkv, d));
    const double terms = sqrt((double)d->D), s = (double)d->scale * terms;
    const double tolerance = (4 + 2 * sqrt((double)d->T) + 2 * s * (1 + terms)) * SWT_UNIT;
    double *want_y = swt_bed_doubles(bed, n), *want_lse = swt_bed_doubles(bed, heads),
           *want_dqkv = swt_bed_doubles(bed, 3 * n);
    const double *wide = widen(bed, qkv, 3 * n);
    swt_oracle_packed_forward(want_y, want_lse, wide, d);
    swt_oracle_packed_backward(want_dqkv, widen(bed, dy, n), widen(bed, y, n),
                               swt_bed_widen(bed, lse, heads), wide, d);
    expect_rounded(bed, "y", y, want_y, n, tolerance, 0);
    swt_expect_close(bed, "lse", lse, want_lse, heads, tolerance, 1);
    expect_rounded(bed, "dqkv", dqkv, want_dqkv, 3 * n,
                   tolerance * (1 + terms / 3 / sqrt((double)d->T)), s);
}

static void test_attention(void **state) {
    (void)state;
    static const int64_t shapes[][4] = {{1, 1, 1, 1},   {2, 33, 2, 16},  {1, 65, 2, 40},
                                        {1, 130, 1, 5}, {1, 20, 2, 128}, {2, 9, 1, 256}};
    swt_bed bed;
    open_bed(&bed);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const pos_attention_dims d = {.B = shapes[s][0],
                                      .T = shapes[s][1],
                                      .H = shapes[s][2],
                                      .D = shapes[s][3],
                                      .scale = (float)(1 / sqrt((double)shapes[s][3]))};
        check_attention(&bed, &d);
    }
    swt_bed_close(&bed);
}

static void check_cross_entropy(swt_bed *bed, int64_t N, int64_t V, int gradient) {
    swt_bed_begin(bed, "bf16 cross-entropy N=%lld V=%lld gradient=%d", (long long)N, (long long)V,
                  gradient);
    bed->ctx.state->targets = 3 * N + 1;
    const int64_t n = N * V;
    const bf16 *original = uniform(bed, n, -2, 2), *logits = original;
    const int32_t *targets = swt_bed_integers(bed, N, -1, (int)V - 1);
    double *stats = swt_bed_out(bed, 2, SWT_F64);
    bf16 *dlogits = NULL;
    if (gradient == 1)
        dlogits = output(bed, n);
    if (gradient == 2)
        logits = dlogits = swt_bed_copy(bed, original, n, SWT_BF16);
    void *scratch = swt_bed_scratch(bed, swt_cross_entropy_scratch_bytes(N));
    SWT_BED_RUN(bed, pos_cross_entropy(&bed->ctx, dlogits, stats, logits, targets, scratch, N, V));
    double *want = swt_bed_doubles(bed, n), want_stats[2];
    swt_oracle_cross_entropy(want, want_stats, widen(bed, original, n), targets, 3 * N + 1, N, V);
    const double row = (4 * (2 + log((double)V)) + 4 * sqrt((double)V)) * SWT_UNIT;
    swt_expect_number(bed, "stats[0]", stats[0], want_stats[0], row * (1 + sqrt((double)N) * 3));
    swt_expect_number(bed, "stats[1]", stats[1], want_stats[1], 0);
    if (gradient > 0)
        expect_rounded(bed, "dlogits", dlogits, want, n, row, 1 / (double)(3 * N + 1));
}

static void test_cross_entropy(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {65, 65}, {130, 40}, {3, 999}, {3, 4200}, {0, 9}};
    swt_bed bed;
    open_bed(&bed);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int gradient = 0; gradient < 3; gradient++)
            check_cross_entropy(&bed, shapes[s][0], shapes[s][1], gradient);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_forward),
        cmocka_unit_test(test_linear_backward_input),
        cmocka_unit_test(test_linear_backward_weight),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_cross_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
