/* Dense layers at special places: the order of sums, and losses that are known exactly. */
#include "support/trial.h"

/* In order of n: with 2^24 first, ones that follow are lost one by one (ties to even), whereas in
 * any other order some of them would arrive. */
static void test_embedding_order(void **state) {
    enum { N = 200, C = 20, V = 3 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "embedding order");
    float *dx = swt_trial_uniform(t, N * C, 1, 1);
    const int32_t *tokens = swt_trial_integers(t, N, 1, 1);
    for (int i = 0; i < C; i++)
        dx[i] = 0x1p24F;
    const float *dtable =
        SWT_MADE(t, embedding_backward, .dx = dx, .tokens = tokens, .N = N, .C = C, .V = V).dtable;
    for (int i = 0; i < C; i++) {
        assert_true(dtable[i] == 0);
        assert_true(dtable[C + i] == 0x1p24F);
        assert_true(dtable[2 * C + i] == 0);
    }
}

/* The sums' blocks are 64 rows: next to 2^24 a one is lost and a two is not, so it shows which rows
 * were added to each other first. Column 0: the ones in rows 62 and 63 meet 2^24 in its block one
 * by one, and the one in row 64 meets it alone; all are lost. Column 1: the ones in rows 64 and 65
 * meet each other first. */
static void test_norm_blocks(void **state) {
    enum { N = 200, C = 2 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "norm blocks");
    const float *mean = swt_trial_in(t, N, SWT_F32);
    float *dy = swt_trial_in(t, N * C, SWT_F32), *dbias = swt_trial_out(t, C, SWT_F32);
    dy[0] = dy[1] = 0x1p24F;
    dy[62 * C] = dy[63 * C] = dy[64 * C] = dy[64 * C + 1] = dy[65 * C + 1] = 1;
    SWT_RUN(t, norm_backward, .dbias = dbias, .dy = dy, .mean = mean, .N = N, .C = C, .scale = 1);
    assert_true(dbias[0] == 0x1p24F && dbias[1] == 0x1p24F + 2);
}

static swt_cross_entropy_args cross_entropy(swt_trial *t, const float *logits,
                                            const int32_t *targets, int64_t N, int64_t V) {
    return SWT_MADE(t, cross_entropy, .dlogits = swt_trial_out(t, N * V, SWT_F32), .logits = logits,
                    .targets = targets, .N = N, .V = V);
}

/* Logits of +-1e4: nothing overflows; the loss is the difference of logits, the gradient 0 or 1. */
static void test_extreme_logits(void **state) {
    enum { N = 6, V = 5 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "cross-entropy of +-1e4");
    float *logits = swt_trial_uniform(t, N * V, -1e4, -1e4);
    for (int n = 0; n < N; n++)
        logits[n * V + n % V] = 1e4F;
    const swt_cross_entropy_args e = cross_entropy(t, logits, swt_trial_integers(t, N, 0, 0), N, V);
    /* exp(-2e4) is 0: rows 0 and 5 are right and cost nothing, the other four cost 2e4 exactly. */
    assert_true(e.stats[0] == 8e4 && e.stats[1] == 2);
    for (int n = 0; n < N; n++)
        for (int v = 0; v < V; v++) {
            const float want = (v == n % V ? 1.0F : 0.0F) - (v == 0 ? 1.0F : 0.0F);
            assert_true(((float *)e.dlogits)[n * V + v] == want);
        }
}

/* A single logit is its own logsumexp: with z = 3 and a coefficient of 1/8, 2 z / 8 is all that is
 * left of the gradient, and z^2 the z-loss. Without the coefficient nothing is left. */
static void test_z_loss(void **state) {
    enum { N = 3 };
    swt_trial *t = swt_test_trial(state);
    for (int z = 0; z < 2; z++) {
        swt_trial_begin(t, "z-loss %d", z);
        const float *logits = swt_trial_uniform(t, N, 3, 3);
        int32_t *targets = swt_trial_integers(t, N, 0, 0);
        targets[1] = -1;
        const swt_cross_entropy_args e =
            SWT_MADE(t, cross_entropy, .dlogits = swt_trial_out(t, N, SWT_F32), .logits = logits,
                     .targets = targets, .N = N, .V = 1, .z_coef = 0.125F * (float)z);
        const float *dlogits = e.dlogits, slope = z ? 0.75F : 0;
        assert_true(e.stats[SWT_LOSS_SUM] == 0 && e.stats[SWT_LOSS_Z] == 18);
        assert_true(dlogits[0] == slope && dlogits[1] == 0 && dlogits[2] == slope);
    }
}

/* No real target at all, here or in the whole batch: zeros, not 0 / 0. */
static void test_no_targets(void **state) {
    enum { N = 70, V = 9 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "cross-entropy without targets");
    t->state->targets = 0;
    const float *logits = swt_trial_uniform(t, N * V, -1, 1);
    const swt_cross_entropy_args e =
        cross_entropy(t, logits, swt_trial_integers(t, N, -1, -1), N, V);
    assert_true(e.stats[0] == 0 && e.stats[1] == 0);
    for (int i = 0; i < N * V; i++)
        assert_true(((float *)e.dlogits)[i] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedding_order), cmocka_unit_test(test_norm_blocks),
        cmocka_unit_test(test_extreme_logits),  cmocka_unit_test(test_z_loss),
        cmocka_unit_test(test_no_targets),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
