/* The order of the embedding gradient's sums, and its oracle. The operations against the oracle:
 * src/judge/cases_dense.c. */
#include "judge/oracle.h"
#include "support/judge.h"

/* The gradient of sum dx * x[n] is dx summed by token: check the oracle by the definition of
 * forward, which is linear: <dx, forward(table)> = <backward(dx), table>. */
static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "embedding oracle");
    const int64_t N = 50, C = 7, V = 9;
    const double *table = swt_bed_widen(&bed, swt_bed_uniform(&bed, V * C, -1, 1), V * C);
    const int32_t *tokens = swt_bed_integers(&bed, N, 0, (int)V - 1);
    double *x = swt_bed_doubles(&bed, N * C);
    for (int64_t i = 0; i < N * C; i++)
        x[i] = table[tokens[i / C] * C + i % C];
    const double *dx = swt_bed_widen(&bed, swt_bed_uniform(&bed, N * C, -1, 1), N * C);
    double *dtable = swt_bed_doubles(&bed, V * C);
    swt_oracle_embedding_backward(dtable, dx, tokens, N, C);
    /* Both sides are sums of 350 products below 1 in double. */
    swt_expect_number(&bed, "<dx, x>", swt_inner(dx, x, N * C), swt_inner(dtable, table, V * C),
                      350 * 0x1p-52);
    swt_bed_close(&bed);
}

/* In order of n: with 2^24 first, ones that follow are lost one by one (ties to even), whereas in
 * any other order some of them would arrive. */
static void test_order(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "embedding order");
    const int64_t N = 200, C = 20, V = 3;
    float *dx = swt_bed_uniform(&bed, N * C, 1, 1);
    int32_t *tokens = swt_bed_integers(&bed, N, 1, 1);
    for (int64_t i = 0; i < C; i++)
        dx[i] = 0x1p24F;
    float *dtable = swt_bed_out(&bed, V * C, SWT_F32);
    SWT_BED_RUN(
        &bed,
        swt_embedding_backward(
            &bed.ctx, &(swt_embedding_backward_args){
                          .dtable = dtable, .dx = dx, .tokens = tokens, .N = N, .C = C, .V = V}));
    for (int64_t i = 0; i < C; i++) {
        assert_true(dtable[i] == 0);
        assert_true(dtable[C + i] == 0x1p24F);
        assert_true(dtable[2 * C + i] == 0);
    }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
