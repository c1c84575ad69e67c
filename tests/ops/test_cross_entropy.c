/* Cross-entropy where its answers are known exactly, and its oracle against finite differences. The
 * operation against the oracle: src/judge/cases_dense.c. */
#include "judge/oracle.h"
#include "support/judge.h"

/* Logits of +-1e4: nothing overflows; the loss is the difference of logits, the gradient 0 or 1. */
static void test_extreme_logits(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "cross-entropy of +-1e4");
    const int64_t N = 6, V = 5;
    float *logits = swt_bed_uniform(&bed, N * V, -1e4, -1e4);
    int32_t *targets = swt_bed_integers(&bed, N, 0, 0);
    for (int64_t n = 0; n < N; n++)
        logits[n * V + n % V] = 1e4F;
    float *dlogits = swt_bed_out(&bed, N * V, SWT_F32);
    double *stats = swt_bed_out(&bed, 2, SWT_F64);
    void *scratch = swt_bed_scratch(&bed, swt_cross_entropy_scratch_bytes(N));
    SWT_BED_RUN(&bed, swt_cross_entropy(&bed.ctx, &(swt_cross_entropy_args){.dlogits = dlogits,
                                                                            .stats = stats,
                                                                            .logits = logits,
                                                                            .targets = targets,
                                                                            .scratch = scratch,
                                                                            .N = N,
                                                                            .V = V}));
    /* exp(-2e4) is 0: rows 0 and 5 are right and cost nothing, the other four cost 2e4 exactly. */
    assert_true(stats[0] == 8e4 && stats[1] == 2);
    for (int64_t n = 0; n < N; n++)
        for (int64_t v = 0; v < V; v++) {
            const float want = (v == n % V ? 1.0F : 0.0F) - (v == 0 ? 1.0F : 0.0F);
            assert_true(dlogits[n * V + v] == want);
        }
    swt_bed_close(&bed);
}

/* No real target at all, here or in the whole batch: zeros, not 0 / 0. */
static void test_no_targets(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "cross-entropy without targets");
    bed.ctx.state->targets = 0;
    const int64_t N = 70, V = 9;
    const float *logits = swt_bed_uniform(&bed, N * V, -1, 1);
    const int32_t *targets = swt_bed_integers(&bed, N, -1, -1);
    float *dlogits = swt_bed_out(&bed, N * V, SWT_F32);
    double *stats = swt_bed_out(&bed, 2, SWT_F64);
    void *scratch = swt_bed_scratch(&bed, swt_cross_entropy_scratch_bytes(N));
    SWT_BED_RUN(&bed, swt_cross_entropy(&bed.ctx, &(swt_cross_entropy_args){.dlogits = dlogits,
                                                                            .stats = stats,
                                                                            .logits = logits,
                                                                            .targets = targets,
                                                                            .scratch = scratch,
                                                                            .N = N,
                                                                            .V = V}));
    assert_true(stats[0] == 0 && stats[1] == 0);
    for (int64_t i = 0; i < N * V; i++)
        assert_true(dlogits[i] == 0);
    swt_bed_close(&bed);
}

typedef struct oracle_entropy {
    double *logits;
    int32_t *targets;
    int64_t N, V;
} oracle_entropy;

/* The loss whose gradient dlogits is: the sum over the real targets, over their number (5). */
static double entropy_loss(const void *context) {
    const oracle_entropy *o = context;
    double stats[2];
    swt_oracle_cross_entropy(NULL, stats, o->logits, o->targets, 5, o->N, o->V);
    return stats[0] / 5;
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "cross-entropy oracle");
    const int64_t N = 8, V = 6;
    const oracle_entropy o = {.logits =
                                  swt_bed_widen(&bed, swt_bed_uniform(&bed, N * V, -2, 2), N * V),
                              .targets = swt_bed_integers(&bed, N, -1, (int)V - 1),
                              .N = N,
                              .V = V};
    double *dlogits = swt_bed_doubles(&bed, N * V), stats[2];
    swt_oracle_cross_entropy(dlogits, stats, o.logits, o.targets, 5, N, V);
    swt_expect_gradient(&bed, "dlogits", entropy_loss, &o, o.logits, N * V, dlogits);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_no_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
