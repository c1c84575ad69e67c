/* The optimisers at special places and after a bad gradient. Their step is the judge's
 * (test_cases.c). */
#include "support/trial.h"

#include <math.h>
#include <string.h>

typedef struct adam_case {
    swt_adam_hyper hyper;
    double lr;
} adam_case;

static const adam_case cases[] = {
    {{.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .eps_uncorrected = true}, 1e-3},
    {{.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}, 1e-3},
    {{.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-2, .weight_decay = 0.1, .eps_uncorrected = true},
     0.01},
    {{.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-2, .weight_decay = 0.1}, 0.5},
    {{.beta1 = 0, .beta2 = 0, .eps = 1e-3}, 0.1},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static void set_step(swt_trial *t, const adam_case *c, int64_t step) {
    swt_step_state *s = t->state;
    s->step = step;
    s->lr = c->lr;
    s->correction1 = 1 - pow(c->hyper.beta1, (double)step);
    s->correction2 = 1 - pow(c->hyper.beta2, (double)step);
    s->clip = step % 3 == 0 ? 0.37 : 1;
}

/* Gradients of very different sizes, zeros among them. */
static float *gradients(swt_trial *t, int64_t n) {
    float *grad = swt_trial_uniform(t, n, -1, 1);
    for (int64_t i = 0; i < n; i++)
        grad[i] *= i % 7 == 3 ? 0 : powf(10, (float)swt_trial_choose(t, -6, 3));
    return grad;
}

/* A zero gradient from zero moments changes nothing, not even to NaN. */
static void test_adam_zero(void **state) {
    enum { N = 40 };
    swt_trial *t = swt_test_trial(state);
    for (int i = 0; i < 2; i++) {
        swt_trial_begin(t, "adam of zeros, case %d", i);
        set_step(t, &cases[i], 1);
        const float *before = swt_trial_uniform(t, N, -1, 1), *grad = swt_trial_in(t, N, SWT_F32);
        float *param = swt_trial_copy(t, before, N, SWT_F32), *m = swt_test_zeros(t, N, SWT_F32),
              *v = swt_test_zeros(t, N, SWT_F32);
        SWT_RUN(t, adam, .param = param, .m = m, .v = v, .grad = grad, .n = N,
                .hyper = cases[i].hyper);
        swt_trial_same(t, "param", param, before, N, SWT_F32);
        for (int n = 0; n < N; n++)
            assert_true(m[n] == 0 && v[n] == 0);
    }
}

/* An element's bits do not depend on its place: an array of any length, and any shift of the same
 * data, gives what each element gives alone. */
static void test_place(void **state) {
    enum { N = 86 };
    swt_trial *t = swt_test_trial(state);
    for (int i = 0; i < CASES + 1; i++) { /* the last is SGD */
        const adam_case *c = &cases[i < CASES ? i : 0];
        swt_trial_begin(t, "place in the array, case %d", i);
        set_step(t, c, 3);
        const float *start[4] = {swt_trial_uniform(t, N, -1, 1), swt_trial_uniform(t, N, -1, 1),
                                 swt_trial_uniform(t, N, 0, 1), gradients(t, N)};
        float alone[3][N], *now[4];
        for (int a = 0; a < 4; a++)
            now[a] = swt_trial_out(t, N, SWT_F32);
        /* 0: every element alone, as the reference. The CPU's vectors have ends of any length;
         * of a GPU's 4 numbers each is an element's place in turn with steps of 3. */
        for (int length = 0; length <= 70; length += swt_test_on_gpu() ? 14 : 1)
            for (int shift = 0; shift < (length == 0 ? N : N - length);
                 shift += swt_test_on_gpu() && length > 0 ? 3 : 1) {
                const int n = length == 0 ? 1 : length;
                for (int a = 0; a < 4; a++)
                    memcpy(now[a], start[a] + shift, (size_t)n * sizeof(float));
                if (i < CASES)
                    SWT_RUN(t, adam, .param = now[0], .m = now[1], .v = now[2], .grad = now[3],
                            .n = n, .hyper = c->hyper);
                else
                    SWT_RUN(t, sgd, .param = now[0], .grad = now[3], .n = n);
                for (int a = 0; a < 3; a++)
                    if (length == 0)
                        alone[a][shift] = now[a][0];
                    else
                        swt_trial_same(t, "element", now[a], alone[a] + shift, n, SWT_F32);
            }
    }
}

/* Once a number was not finite, nothing changes: not in this step and not in later ones. */
static void test_nonfinite(void **state) {
    enum { N = 100 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "nonfinite");
    swt_trial_release_state(t);
    const swt_schedule schedule = {
        .kind = SWT_SCHEDULE_CONSTANT, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.999};
    const float *start = swt_trial_uniform(t, N, 0.1, 1);
    float *grad = swt_trial_uniform(t, N, -1, 1), *param = swt_trial_copy(t, start, N, SWT_F32),
          *m = swt_trial_copy(t, start, N, SWT_F32), *v = swt_trial_copy(t, start, N, SWT_F32);
    int64_t *sum = swt_trial_out(t, N, SWT_I64), *ranks = swt_trial_in(t, 1, SWT_I64);
    const double *squares = swt_trial_in(t, 1, SWT_F64);
    grad[60] = INFINITY;
    for (int step = 0; step < 3; step++) {
        SWT_RUN(t, state_advance, .schedule = schedule);
        SWT_RUN(t, grad_add, .sum = sum, .grad = grad, .n = N, .limit = 0x1p62, .first = step == 0);
        SWT_RUN(t, state_clip, .squares = squares, .n = 1, .nonfinite_ranks = ranks, .max_norm = 1);
        assert_true(t->state->nonfinite != 0);
        SWT_RUN(t, adam, .param = param, .m = m, .v = v, .grad = start, .n = N,
                .hyper = cases[2].hyper);
        SWT_RUN(t, sgd, .param = param, .grad = start, .n = N);
        swt_trial_same(t, "param", param, start, N, SWT_F32);
        swt_trial_same(t, "m", m, start, N, SWT_F32);
        swt_trial_same(t, "v", v, start, N, SWT_F32);
        grad[60] = 0;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adam_zero),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_nonfinite),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
