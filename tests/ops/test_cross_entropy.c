/* Cross-entropy and its gradient against the oracle, and the oracle against finite differences. */
#include "kernels/swt_positional.h"
#include "selftest/oracle.h"
#include "support/judge.h"

#include <math.h>
#include <string.h>

typedef struct entropy_case {
    int64_t N, V, batch_targets;
    double size;  /* logits are uniform in [-size, size) */
    bool whole;   /* whole numbers: ties */
    int gradient; /* 0: none; 1: into its own tensor; 2: over the logits */
} entropy_case;

typedef struct entropy_tensors {
    float *logits, *original, *dlogits;
    int32_t *targets;
    double *stats;
} entropy_tensors;

static const int64_t shapes[][2] = {{1, 1},   {1, 65},  {5, 7}, {64, 65},  {65, 2},   {130, 5},
                                    {3, 999}, {200, 1}, {0, 9}, {257, 40}, {40, 1000}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const entropy_case large = {
    .N = 3000, .V = 130, .batch_targets = 4096, .size = 4, .gradient = 1};

static entropy_tensors run(swt_bed *bed, const entropy_case *c) {
    swt_bed_begin(bed, "cross-entropy N=%lld V=%lld size=%g whole=%d gradient=%d", (long long)c->N,
                  (long long)c->V, c->size, c->whole, c->gradient);
    bed->ctx.state->targets = c->batch_targets;
    const int64_t n = c->N * c->V;
    entropy_tensors t = {.original = c->whole ? swt_bed_whole(bed, n, -2, 2)
                                              : swt_bed_uniform(bed, n, -c->size, c->size)};
    t.targets = swt_bed_integers(bed, c->N, -1, (int)c->V - 1);
    t.stats = swt_bed_out(bed, 2, SWT_F64);
    t.logits = t.original;
    if (c->gradient == 1)
        t.dlogits = swt_bed_out(bed, n, SWT_F32);
    if (c->gradient == 2)
        t.dlogits = t.logits = swt_bed_copy(bed, t.original, n, SWT_F32);
    void *scratch = swt_bed_scratch(bed, swt_cross_entropy_scratch_bytes(c->N));
    SWT_BED_RUN(bed, pos_cross_entropy(&bed->ctx, t.dlogits, t.stats, t.logits, t.targets, scratch,
                                       c->N, c->V));
    return t;
}

static void check(swt_bed *bed, const entropy_case *c) {
    const entropy_tensors t = run(bed, c);
    const int64_t n = c->N * c->V;
    double *dlogits = swt_bed_doubles(bed, n), stats[2];
    swt_oracle_cross_entropy(dlogits, stats, swt_bed_widen(bed, t.original, n), t.targets,
                             c->batch_targets, c->N, c->V);
    /* A row's loss is wrong by the rounding of its logsumexp (units of size + log V) and of the sum
     * of V exponentials; N independent rows. */
    const double row = (4 * (c->size + log((double)c->V)) + 4 * sqrt((double)c->V)) * SWT_UNIT;
    swt_expect_number(bed, "stats[0]", t.stats[0], stats[0], row * (1 + sqrt((double)c->N) * 3));
    swt_expect_number(bed, "stats[1]", t.stats[1], stats[1], 0);
    if (c->gradient > 0)
        swt_expect_close(bed, "dlogits", t.dlogits, dlogits, n, row, 1 / (double)c->batch_targets);
    for (int64_t i = 0; i < c->N; i++)
        for (int64_t v = 0; c->gradient > 0 && t.targets[i] < 0 && v < c->V; v++)
            assert_true(t.dlogits[i * c->V + v] == 0);
}

static void test_values(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int options = 0; options < 9; options++) {
            const entropy_case c = {.N = shapes[s][0],
                                    .V = shapes[s][1],
                                    .batch_targets = 3 * shapes[s][0] + 1,
                                    .size = (const double[]){2, 30, 2}[options / 3],
                                    .whole = options >= 6,
                                    .gradient = options % 3};
            check(&bed, &c);
        }
    swt_bed_close(&bed);
}

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
    SWT_BED_RUN(&bed, pos_cross_entropy(&bed.ctx, dlogits, stats, logits, targets, scratch, N, V));
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
    SWT_BED_RUN(&bed, pos_cross_entropy(&bed.ctx, dlogits, stats, logits, targets, scratch, N, V));
    assert_true(stats[0] == 0 && stats[1] == 0);
    for (int64_t i = 0; i < N * V; i++)
        assert_true(dlogits[i] == 0);
    swt_bed_close(&bed);
}

static void run_case(swt_bed *bed, const void *c) {
    run(bed, c);
}

static void test_threads(void **state) {
    (void)state;
    swt_bed_same_bits(run_case, &large);
    entropy_case in_place = large;
    in_place.gradient = 2;
    swt_bed_same_bits(run_case, &in_place);
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
        cmocka_unit_test(test_oracle_gradient), cmocka_unit_test(test_values),
        cmocka_unit_test(test_extreme_logits),  cmocka_unit_test(test_no_targets),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
