/* LayerNorm against the oracle, and the oracle against finite differences. */
#include "kernels/swt_positional.h"
#include "selftest/oracle.h"
#include "support/judge.h"

#include <math.h>

typedef struct norm_case {
    int64_t N, C;
    double offset; /* mean of the rows, which spread over [-1, 1) around it */
    bool residual, in_place;
    int add;
} norm_case;

typedef struct norm_tensors {
    float *x, *weight, *bias, *y, *mean, *rstd;
    float *dy, *dresidual, *dx, *dweight, *dbias, *old_dweight, *old_dbias;
} norm_tensors;

static const double eps = 1e-5;
/* At 100 a variance as mean(x^2) - mean^2 would have three digits left. */
static const double offsets[] = {0, -3, 100};
static const int64_t shapes[][2] = {{1, 1},   {1, 128},  {5, 7},    {64, 40}, {65, 64}, {130, 65},
                                    {200, 5}, {33, 200}, {300, 1},  {0, 16},  {63, 3},  {7, 1000},
                                    {129, 8}, {64, 16},  {128, 17}, {192, 32}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const norm_case large = {.N = 1000, .C = 200, .residual = true, .add = 1};

static void begin(swt_bed *bed, const norm_case *c) {
    swt_bed_begin(bed, "norm N=%lld C=%lld offset=%g residual=%d in_place=%d add=%d",
                  (long long)c->N, (long long)c->C, c->offset, c->residual, c->in_place, c->add);
}

static norm_tensors forward(swt_bed *bed, const norm_case *c) {
    begin(bed, c);
    norm_tensors t = {.x = swt_bed_uniform(bed, c->N * c->C, c->offset - 1, c->offset + 1),
                      .weight = swt_bed_uniform(bed, c->C, -2, 2),
                      .bias = swt_bed_uniform(bed, c->C, -1, 1),
                      .y = swt_bed_out(bed, c->N * c->C, SWT_F32),
                      .mean = swt_bed_out(bed, c->N, SWT_F32),
                      .rstd = swt_bed_out(bed, c->N, SWT_F32)};
    SWT_BED_RUN(bed, pos_norm_forward(&bed->ctx, t.y, t.mean, t.rstd, t.x, t.weight, t.bias, c->N,
                                      c->C, eps));
    return t;
}

/* The mean is wrong by some sqrt(C) units of |offset| + 1; that error, times rstd, is the output's.
 * rstd is about sqrt(3) for uniform rows, and up to 1 / sqrt(eps) = 316 where a row hardly varies
 * (few columns): there it multiplies the rounding of x - mean as well. */
static double norm_tolerance(const norm_case *c) {
    const double rstd = c->C > 4 ? 3 : 316;
    return 4 * (1 + rstd * fabs(c->offset)) * sqrt((double)c->C) * SWT_UNIT;
}

static void forward_check(swt_bed *bed, const norm_case *c) {
    const norm_tensors t = forward(bed, c);
    double *y = swt_bed_doubles(bed, c->N * c->C), *mean = swt_bed_doubles(bed, c->N),
           *rstd = swt_bed_doubles(bed, c->N);
    swt_oracle_norm_forward(y, mean, rstd, swt_bed_widen(bed, t.x, c->N * c->C),
                            swt_bed_widen(bed, t.weight, c->C), swt_bed_widen(bed, t.bias, c->C),
                            c->N, c->C, eps);
    const double tolerance = norm_tolerance(c);
    swt_expect_close(bed, "mean", t.mean, mean, c->N, tolerance, 1);
    swt_expect_close(bed, "rstd", t.rstd, rstd, c->N, tolerance, 0);
    swt_expect_close(bed, "y", t.y, y, c->N * c->C, tolerance, 1);
}

static void test_forward(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int offset = 0; offset < 3; offset++) {
            const norm_case c = {.N = shapes[s][0], .C = shapes[s][1], .offset = offsets[offset]};
            forward_check(&bed, &c);
        }
    swt_bed_close(&bed);
}

static norm_tensors backward(swt_bed *bed, const norm_case *c) {
    norm_tensors t = forward(bed, c);
    swt_bed_keep(bed);
    const int64_t n = c->N * c->C;
    t.dy = swt_bed_uniform(bed, n, -1, 1);
    t.dresidual = c->residual ? swt_bed_uniform(bed, n, -1, 1) : NULL;
    t.old_dweight = swt_bed_uniform(bed, c->C, -1, 1);
    t.old_dbias = swt_bed_uniform(bed, c->C, -1, 1);
    t.dx = c->in_place ? swt_bed_copy(bed, t.dresidual, n, SWT_F32) : swt_bed_out(bed, n, SWT_F32);
    t.dweight =
        c->add ? swt_bed_copy(bed, t.old_dweight, c->C, SWT_F32) : swt_bed_out(bed, c->C, SWT_F32);
    t.dbias =
        c->add ? swt_bed_copy(bed, t.old_dbias, c->C, SWT_F32) : swt_bed_out(bed, c->C, SWT_F32);
    void *scratch = swt_bed_scratch(bed, swt_norm_backward_scratch_bytes(c->N, c->C));
    SWT_BED_RUN(bed, pos_norm_backward(&bed->ctx, t.dx, t.dweight, t.dbias, t.dy,
                                       c->in_place ? t.dx : t.dresidual, t.x, t.mean, t.rstd,
                                       t.weight, scratch, c->N, c->C, c->add));
    return t;
}

static void backward_check(swt_bed *bed, const norm_case *c) {
    const norm_tensors t = backward(bed, c);
    const int64_t n = c->N * c->C;
    double *dx = swt_bed_doubles(bed, n);
    double *dweight = c->add ? swt_bed_widen(bed, t.old_dweight, c->C) : swt_bed_doubles(bed, c->C);
    double *dbias = c->add ? swt_bed_widen(bed, t.old_dbias, c->C) : swt_bed_doubles(bed, c->C);
    swt_oracle_norm_backward(dx, dweight, dbias, swt_bed_widen(bed, t.dy, n),
                             c->residual ? swt_bed_widen(bed, t.dresidual, n) : NULL,
                             swt_bed_widen(bed, t.x, n), swt_bed_widen(bed, t.mean, c->N),
                             swt_bed_widen(bed, t.rstd, c->N), swt_bed_widen(bed, t.weight, c->C),
                             c->N, c->C);
    /* dx: two means over C and a few products, times rstd. dweight, dbias: sums over N rows. The
     * float mean of the input is given, so x - mean adds one rounding of the difference. */
    const double rstd = c->C > 4 ? 3 : 316;
    swt_expect_close(bed, "dx", t.dx, dx, n, 8 * sqrt((double)c->C) * SWT_UNIT, rstd);
    const double rows = sqrt(1 + (double)c->N);
    swt_expect_close(bed, "dweight", t.dweight, dweight, c->C, 4 * rows * SWT_UNIT, rows);
    swt_expect_close(bed, "dbias", t.dbias, dbias, c->C, 4 * rows * SWT_UNIT, rows);
}

static void test_backward(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int options = 0; options < 6; options++) {
            const norm_case c = {.N = shapes[s][0],
                                 .C = shapes[s][1],
                                 .residual = options % 3 > 0,
                                 .in_place = options % 3 == 2,
                                 .add = options / 3};
            backward_check(&bed, &c);
        }
    swt_bed_close(&bed);
}

/* The sums' blocks are 64 rows: next to 2^24 a one is lost and a two is not, so it shows which rows
 * were added to each other first. Column 0: a one in row 63 meets 2^24 in its block, and the one in
 * row 64 meets it alone; both are lost. Column 1: the ones in rows 64 and 65 meet each other first.
 */
static void test_blocks(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "norm blocks");
    const int64_t N = 200, C = 2;
    const float *x = swt_bed_uniform(&bed, N * C, -1, 1), *mean = swt_bed_in(&bed, N, SWT_F32),
                *rstd = swt_bed_in(&bed, N, SWT_F32), *weight = swt_bed_in(&bed, C, SWT_F32);
    float *dy = swt_bed_in(&bed, N * C, SWT_F32);
    dy[0] = dy[1] = 0x1p24F;
    dy[63 * C] = dy[64 * C] = dy[64 * C + 1] = dy[65 * C + 1] = 1;
    float *dx = swt_bed_out(&bed, N * C, SWT_F32), *dweight = swt_bed_out(&bed, C, SWT_F32),
          *dbias = swt_bed_out(&bed, C, SWT_F32);
    void *scratch = swt_bed_scratch(&bed, swt_norm_backward_scratch_bytes(N, C));
    SWT_BED_RUN(&bed, pos_norm_backward(&bed.ctx, dx, dweight, dbias, dy, NULL, x, mean, rstd,
                                        weight, scratch, N, C, 0));
    assert_true(dbias[0] == 0x1p24F && dbias[1] == 0x1p24F + 2);
    swt_bed_close(&bed);
}

static void run_forward(swt_bed *bed, const void *c) {
    forward(bed, c);
}

static void run_backward(swt_bed *bed, const void *c) {
    backward(bed, c);
}

static void test_threads(void **state) {
    (void)state;
    swt_bed_same_bits(run_forward, &large);
    swt_bed_same_bits(run_backward, &large);
}

typedef struct oracle_norm {
    int64_t N, C;
    double *x, *weight, *bias, *y, *mean, *rstd, *dy;
} oracle_norm;

static double norm_loss(const void *context) {
    const oracle_norm *o = context;
    swt_oracle_norm_forward(o->y, o->mean, o->rstd, o->x, o->weight, o->bias, o->N, o->C, eps);
    return swt_inner(o->dy, o->y, o->N * o->C);
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "norm oracle");
    const int64_t N = 4, C = 6;
    const oracle_norm o = {.N = N,
                           .C = C,
                           .x = swt_bed_widen(&bed, swt_bed_uniform(&bed, N * C, -1, 1), N * C),
                           .weight = swt_bed_widen(&bed, swt_bed_uniform(&bed, C, -1, 1), C),
                           .bias = swt_bed_widen(&bed, swt_bed_uniform(&bed, C, -1, 1), C),
                           .dy = swt_bed_widen(&bed, swt_bed_uniform(&bed, N * C, -1, 1), N * C),
                           .y = swt_bed_doubles(&bed, N * C),
                           .mean = swt_bed_doubles(&bed, N),
                           .rstd = swt_bed_doubles(&bed, N)};
    double *dx = swt_bed_doubles(&bed, N * C), *dweight = swt_bed_doubles(&bed, C),
           *dbias = swt_bed_doubles(&bed, C);
    (void)norm_loss(&o);
    swt_oracle_norm_backward(dx, dweight, dbias, o.dy, NULL, o.x, o.mean, o.rstd, o.weight, N, C);
    swt_expect_gradient(&bed, "dx", norm_loss, &o, o.x, N * C, dx);
    swt_expect_gradient(&bed, "dweight", norm_loss, &o, o.weight, C, dweight);
    swt_expect_gradient(&bed, "dbias", norm_loss, &o, o.bias, C, dbias);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient), cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
