/* The optimisers over steps: their single step is the judge's (test_cases.c). */
#include "support/judge.h"

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
enum { CASES = sizeof cases / sizeof cases[0], STEPS = 20 };

/* One element, by the formulas. */
typedef struct element {
    double param, m, v;
} element;

static element adam(element old, double grad, const swt_step_state *s, const swt_adam_hyper *h) {
    const double g = s->clip * grad;
    element e = {.m = h->beta1 * old.m + (1 - h->beta1) * g,
                 .v = h->beta2 * old.v + (1 - h->beta2) * g * g};
    e.param = old.param * (1 - s->lr * h->weight_decay);
    if (h->eps_uncorrected)
        e.param -= s->lr * sqrt(s->correction2) / s->correction1 * e.m / (sqrt(e.v) + h->eps);
    else
        e.param -= s->lr * (e.m / s->correction1) / (sqrt(e.v / s->correction2) + h->eps);
    return e;
}

static void set_step(swt_bed *bed, const adam_case *c, int64_t t) {
    swt_step_state *s = bed->ctx.state;
    s->step = t;
    s->lr = c->lr;
    s->correction1 = 1 - pow(c->hyper.beta1, (double)t);
    s->correction2 = 1 - pow(c->hyper.beta2, (double)t);
    s->clip = t % 3 == 0 ? 0.37 : 1;
}

/* Gradients of very different sizes, zeros among them. */
static float *gradients(swt_bed *bed, int64_t n) {
    float *grad = swt_bed_uniform(bed, n, -1, 1);
    for (int64_t i = 0; i < n; i++)
        grad[i] *= i % 7 == 3 ? 0 : powf(10, (float)swt_bed_choose(bed, -6, 3));
    return grad;
}

/* 20 steps from zero moments against 20 in double. */
static void test_adam_steps(void **state) {
    (void)state;
    enum { N = 333 };
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int i = 0; i < CASES; i++) {
        const adam_case *c = &cases[i];
        swt_bed_begin(&bed, "adam case %d", i);
        float *param = swt_bed_copy(&bed, swt_bed_uniform(&bed, N, -2, 2), N, SWT_F32),
              *m = swt_bed_copy(&bed, swt_bed_in(&bed, N, SWT_F32), N, SWT_F32),
              *v = swt_bed_copy(&bed, swt_bed_in(&bed, N, SWT_F32), N, SWT_F32);
        element free_run[N];
        for (int n = 0; n < N; n++)
            free_run[n] = (element){.param = (double)param[n]};
        for (int64_t t = 1; t <= STEPS; t++) {
            const float *grad = gradients(&bed, N);
            set_step(&bed, c, t);
            SWT_BED_RUN(
                &bed,
                swt_adam(
                    &bed.ctx,
                    &(swt_adam_args){
                        .param = param, .m = m, .v = v, .grad = grad, .n = N, .hyper = c->hyper}));
            for (int n = 0; n < N; n++)
                free_run[n] = adam(free_run[n], (double)grad[n], bed.ctx.state, &c->hyper);
        }
        /* Each step may be out by the judge's bound for one (swt_judge_adam), and m's error stays
         * in later steps for about 1 / (1 - beta1) = 10 of them. Steps are of the size of lr. */
        for (int n = 0; n < N; n++)
            swt_expect_number(&bed, "param after all steps", (double)param[n], free_run[n].param,
                              STEPS * SWT_UNIT * (3 * 2 + 80 * c->lr * 10));
    }
    swt_bed_close(&bed);
}

/* A zero gradient from zero moments changes nothing, not even to NaN. */
static void test_adam_zero(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int i = 0; i < 2; i++) {
        swt_bed_begin(&bed, "adam of zeros, case %d", i);
        set_step(&bed, &cases[i], 1);
        const float *before = swt_bed_uniform(&bed, 40, -1, 1),
                    *zeros = swt_bed_in(&bed, 40, SWT_F32);
        float *param = swt_bed_copy(&bed, before, 40, SWT_F32),
              *m = swt_bed_copy(&bed, zeros, 40, SWT_F32),
              *v = swt_bed_copy(&bed, zeros, 40, SWT_F32);
        SWT_BED_RUN(&bed, swt_adam(&bed.ctx, &(swt_adam_args){.param = param,
                                                              .m = m,
                                                              .v = v,
                                                              .grad = zeros,
                                                              .n = 40,
                                                              .hyper = cases[i].hyper}));
        swt_expect_bytes(&bed, "param", param, before, 40, SWT_F32);
        for (int n = 0; n < 40; n++)
            assert_true(m[n] == 0 && v[n] == 0);
    }
    swt_bed_close(&bed);
}

/* An element's bits do not depend on its place: an array of any length, and any shift of the same
 * data, gives what each element gives alone. */
static void test_place(void **state) {
    (void)state;
    enum { N = 86 };
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int i = 0; i < CASES + 1; i++) { /* the last is SGD */
        const adam_case *c = &cases[i < CASES ? i : 0];
        swt_bed_begin(&bed, "place in the array, case %d", i);
        set_step(&bed, c, 3);
        const float *start[4] = {swt_bed_uniform(&bed, N, -1, 1), swt_bed_uniform(&bed, N, -1, 1),
                                 swt_bed_uniform(&bed, N, 0, 1), gradients(&bed, N)};
        float alone[3][N], *now[4];
        for (int a = 0; a < 4; a++)
            now[a] = swt_bed_out(&bed, N, SWT_F32);
        /* 0: every element alone, as the reference. The CPU's vectors have ends of any length. */
        for (int length = 0; length <= 70; length += swt_bed_on_gpu(&bed) ? 14 : 1)
            for (int shift = 0; shift < (length == 0 ? N : N - length); shift++) {
                const int n = length == 0 ? 1 : length;
                for (int a = 0; a < 4; a++)
                    memcpy(now[a], start[a] + shift, (size_t)n * sizeof(float));
                SWT_BED_RUN(
                    &bed, i < CASES
                              ? swt_adam(&bed.ctx, &(swt_adam_args){.param = now[0],
                                                                    .m = now[1],
                                                                    .v = now[2],
                                                                    .grad = now[3],
                                                                    .n = n,
                                                                    .hyper = c->hyper})
                              : swt_sgd(&bed.ctx,
                                        &(swt_sgd_args){.param = now[0], .grad = now[3], .n = n}));
                for (int a = 0; a < 3; a++)
                    if (length == 0)
                        alone[a][shift] = now[a][0];
                    else
                        swt_expect_bytes(&bed, "element", now[a], alone[a] + shift, n, SWT_F32);
            }
    }
    swt_bed_close(&bed);
}

/* Once a number was not finite, nothing changes: not in this step and not in later ones. */
static void test_nonfinite(void **state) {
    (void)state;
    enum { N = 100 };
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "nonfinite");
    swt_bed_release_state(&bed);
    const swt_schedule schedule = {
        .kind = SWT_SCHEDULE_CONSTANT, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.999};
    const float *start = swt_bed_uniform(&bed, N, 0.1, 1);
    float *grad = swt_bed_uniform(&bed, N, -1, 1);
    float *param = swt_bed_copy(&bed, start, N, SWT_F32),
          *m = swt_bed_copy(&bed, start, N, SWT_F32), *v = swt_bed_copy(&bed, start, N, SWT_F32);
    int64_t *sum = swt_bed_copy(&bed, swt_bed_doubles(&bed, N), N, SWT_I64);
    double *squares = swt_bed_in(&bed, 1, SWT_F64);
    int64_t *ranks = swt_bed_in(&bed, 1, SWT_I64);
    grad[60] = INFINITY;
    for (int step = 0; step < 3; step++) {
        SWT_BED_RUN(&bed,
                    swt_state_advance(&bed.ctx, &(swt_state_advance_args){.schedule = schedule}));
        SWT_BED_RUN(&bed, swt_grad_add(&bed.ctx, &(swt_grad_add_args){.sum = sum,
                                                                      .grad = grad,
                                                                      .n = N,
                                                                      .limit = 0x1p62,
                                                                      .first = step == 0}));
        SWT_BED_RUN(&bed, swt_state_clip(&bed.ctx, &(swt_state_clip_args){.squares = squares,
                                                                          .n = 1,
                                                                          .nonfinite_ranks = ranks,
                                                                          .max_norm = 1}));
        assert_true(bed.ctx.state->nonfinite != 0);
        SWT_BED_RUN(&bed, swt_adam(&bed.ctx, &(swt_adam_args){.param = param,
                                                              .m = m,
                                                              .v = v,
                                                              .grad = start,
                                                              .n = N,
                                                              .hyper = cases[2].hyper}));
        SWT_BED_RUN(&bed,
                    swt_sgd(&bed.ctx, &(swt_sgd_args){.param = param, .grad = start, .n = N}));
        swt_expect_bytes(&bed, "param", param, start, N, SWT_F32);
        swt_expect_bytes(&bed, "m", m, start, N, SWT_F32);
        swt_expect_bytes(&bed, "v", v, start, N, SWT_F32);
        grad[60] = 0;
    }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adam_steps),
        cmocka_unit_test(test_adam_zero),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_nonfinite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
