/* The order of LayerNorm's sums, and its oracle against finite differences. The operations against
 * the oracle: src/judge/cases_dense.c. */
#include "judge/oracle.h"
#include "support/judge.h"

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
    SWT_BED_RUN(&bed, swt_norm_backward(&bed.ctx, &(swt_norm_backward_args){.dx = dx,
                                                                            .dweight = dweight,
                                                                            .dbias = dbias,
                                                                            .dy = dy,
                                                                            .x = x,
                                                                            .weight = weight,
                                                                            .mean = mean,
                                                                            .rstd = rstd,
                                                                            .scratch = scratch,
                                                                            .N = N,
                                                                            .C = C}));
    assert_true(dbias[0] == 0x1p24F && dbias[1] == 0x1p24F + 2);
    swt_bed_close(&bed);
}

typedef struct oracle_norm {
    int64_t N, C;
    double *x, *weight, *bias, *y, *mean, *rstd, *dy;
} oracle_norm;

static double norm_loss(const void *context) {
    const oracle_norm *o = context;
    swt_oracle_norm_forward(o->y, o->mean, o->rstd, o->x, o->weight, o->bias, o->N, o->C, 1e-5);
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
        cmocka_unit_test(test_oracle_gradient),
        cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
