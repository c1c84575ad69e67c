/* Attention with activations in bf16, where the backend has them, against the oracle on the same
 * rounded inputs. Arithmetic and sums are float, so an output in bf16 is the right number rounded
 * once, and an output in float is as exact as with float activations. */
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
