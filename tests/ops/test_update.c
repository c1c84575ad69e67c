/* The exact sum of gradients, their norm and clipping, and the schedule, at the places that are
 * special; what holds at any place is the judge's (test_cases.c). The optimisers: test_adam.c. */
#include "support/trial.h"

#include <math.h>
#include <string.h>

static const double limit_of_one = 0x1p62;

/* ------------------------------------------------------------------ schedule */

static void advance_to(swt_trial *t, const swt_schedule *schedule, int64_t step) {
    swt_trial_begin(t, "schedule %d at step %lld", (int)schedule->kind, (long long)step);
    swt_trial_release_state(t);
    t->state->step = step - 1;
    const swt_step_state before = *t->state;
    SWT_RUN(t, state_advance, .schedule = *schedule);
    const swt_step_state *after = t->state;
    assert_true(after->step == step && after->seed == before.seed &&
                after->targets == before.targets && after->nonfinite == before.nonfinite);
}

static void test_noam(void **state) {
    /* labml's run: lr 1, width 128, warm-up 2000; quoted to seven digits. */
    static const struct {
        int64_t step;
        double lr;
    } values[] = {{1, 9.882118e-7},
                  {100, 9.882118e-5},
                  {2000, 1.976424e-3},
                  {10000, 8.838835e-4},
                  {62848, 3.525732e-4}};
    const swt_schedule schedule = {.kind = SWT_SCHEDULE_NOAM,
                                   .lr = 1,
                                   .warmup_steps = 2000,
                                   .width = 128,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999};
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        advance_to(t, &schedule, values[i].step);
        const swt_step_state *s = t->state;
        const double step = (double)values[i].step;
        swt_trial_number(t, "lr", s->lr, values[i].lr, 5.1e-7 * values[i].lr);
        /* pow in double: a few units; 1 - x is exact to one. */
        swt_trial_number(t, "correction1", s->correction1, 1 - pow(0.9, step), 1e-15);
        swt_trial_number(t, "correction2", s->correction2, 1 - pow(0.999, step), 1e-15);
    }
}

static void test_schedules(void **state) {
    const double pi = acos(-1);
    const struct {
        swt_schedule_kind kind;
        double warmup;
        int64_t step;
        double lr, min_lr;
    } values[] = {
        {SWT_SCHEDULE_RSQRT, 100, 1, 0.3 / 10, 0},
        {SWT_SCHEDULE_RSQRT, 100, 100, 0.3 / 10, 0},
        {SWT_SCHEDULE_RSQRT, 100, 400, 0.3 / 20, 0},
        {SWT_SCHEDULE_RSQRT, 0, 4, 0.3 / 2, 0},
        {SWT_SCHEDULE_CONSTANT, 100, 1, 0.3, 0},
        {SWT_SCHEDULE_CONSTANT, 100, 5000, 0.3, 0},
        {SWT_SCHEDULE_COSINE, 100, 1, 0.003, 0},
        {SWT_SCHEDULE_COSINE, 100, 50, 0.15, 0},
        {SWT_SCHEDULE_COSINE, 100, 100, 0.3, 0},
        {SWT_SCHEDULE_COSINE, 100, 325, 0.3 * (1 + cos(pi / 4)) / 2, 0},
        {SWT_SCHEDULE_COSINE, 100, 550, 0.15, 0},
        {SWT_SCHEDULE_COSINE, 100, 1000, 0, 0},
        {SWT_SCHEDULE_COSINE, 0, 500, 0.15, 0},
        {SWT_SCHEDULE_COSINE, 100, 50, 0.15, 0.1},
        {SWT_SCHEDULE_COSINE, 100, 100, 0.3, 0.1},
        {SWT_SCHEDULE_COSINE, 100, 550, 0.2, 0.1},
        {SWT_SCHEDULE_COSINE, 100, 1000, 0.1, 0.1},
        {SWT_SCHEDULE_COSINE, 100, 2000, 0.1, 0.1},
        {SWT_SCHEDULE_NOAM, 0, 4, 0.3 / 8 / 2, 0.1},
        {SWT_SCHEDULE_NOAM, 0, 4, 0.3 / 8 / 2, 0},
    };
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        const swt_schedule schedule = {.kind = values[i].kind,
                                       .lr = 0.3,
                                       .min_lr = values[i].min_lr,
                                       .warmup_steps = values[i].warmup,
                                       .width = 64,
                                       .total_steps = 1000,
                                       .beta1 = 0.5,
                                       .beta2 = 0.75};
        advance_to(t, &schedule, values[i].step);
        swt_trial_number(t, "lr", t->state->lr, values[i].lr, 1e-15);
    }
}

/* ------------------------------------------------------------------ the exact sum */

/* Gradients of all sizes, from 2^-60 (which counts as 0) to 2^10. */
static float *gradients(swt_trial *t, int64_t n) {
    float *grad = swt_trial_uniform(t, n, -1, 1);
    for (int64_t i = 0; i < n; i++)
        grad[i] = ldexpf(grad[i], swt_trial_choose(t, -60, 10));
    return grad;
}

static int64_t quantum(float grad) {
    return (int64_t)rint((double)grad * 0x1p48);
}

/* Halves go to the even neighbour, and what is exact stays exact. */
static void test_grad_rounding(void **state) {
    static const float grad[] = {0x1p-49F, 0x3p-49F, 0x5p-49F,  -0x1p-49F, -0x3p-49F,
                                 0x1p-50F, 1,        -0x1p-48F, 0x1p13F,   -0.0F};
    static const int64_t want[] = {0, 2, 2, 0, -2, 0, (int64_t)1 << 48, -1, (int64_t)1 << 61, 0};
    enum { N = sizeof grad / sizeof grad[0] };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "grad_add rounding");
    float *in = swt_trial_in(t, N, SWT_F32);
    memcpy(in, grad, sizeof grad);
    int64_t *sum = swt_test_zeros(t, N, SWT_I64);
    SWT_RUN(t, grad_add, .sum = sum, .grad = in, .n = N, .limit = limit_of_one, .first = false);
    assert_memory_equal(sum, want, sizeof want);
}

/* Five micro-batches in three orders, on one rank or summed on two: the same integers. */
static void test_grad_order(void **state) {
    enum { M = 5, N = 1000 };
    static const int orders[][M] = {{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}};
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "grad_add in any order");
    const float *grads[M];
    for (int m = 0; m < M; m++)
        grads[m] = gradients(t, N);
    int64_t *sums[4];
    for (int o = 0; o < 4; o++)
        sums[o] = swt_test_zeros(t, N, SWT_I64);
    for (int o = 0; o < 3; o++)
        for (int m = 0; m < M; m++)
            SWT_RUN(t, grad_add, .sum = sums[o], .grad = grads[orders[o][m]], .n = N,
                    .limit = limit_of_one / M, .first = m == 0);
    int64_t *other = swt_trial_copy(t, sums[3], N, SWT_I64);
    for (int m = 0; m < M; m++)
        SWT_RUN(t, grad_add, .sum = m % 2 ? sums[3] : other, .grad = grads[m], .n = N,
                .limit = limit_of_one / M, .first = false);
    for (int i = 0; i < N; i++)
        sums[3][i] += other[i];
    for (int o = 1; o < 4; o++)
        swt_trial_same(t, "sum", sums[o], sums[0], N, SWT_I64);
}

/* What is not finite or beyond the limit is not added and raises the flag, at every place in the
 * array; its neighbours are added. At the limit itself all is well. */
static void test_grad_limit(void **state) {
    enum { N = 70 };
    static const float bad[] = {NAN,  -NAN, INFINITY, -INFINITY, 0x1.000002p12F, -0x1.000002p12F,
                                3e38F};
    const double limit = limit_of_one / 4; /* 2^60: gradients up to 2^12 */
    swt_trial *t = swt_test_trial(state);
    for (int place = 0; place < N; place++)
        for (int what = 0; what < 9; what++) {
            const bool good = what >= 7;
            swt_trial_begin(t, "grad_add of a bad number %d at %d", what, place);
            swt_trial_release_state(t);
            float *grad = gradients(t, N);
            int64_t *sum = swt_test_zeros(t, N, SWT_I64);
            grad[place] = what == 7 ? 0x1p12F : what == 8 ? -0x1p12F : bad[what];
            SWT_RUN(t, grad_add, .sum = sum, .grad = grad, .n = N, .limit = limit,
                    .first = place % 2 == 0);
            assert_true((t->state->nonfinite != 0) == !good);
            for (int i = 0; i < N; i++)
                assert_int_equal(sum[i], i == place && !good ? 0 : quantum(grad[i]));
        }
}

/* Every number is bad: all threads raise the flag at once. */
static void test_grad_all_bad(void **state) {
    enum { N = 40000 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "grad_add of bad numbers alone");
    swt_trial_release_state(t);
    float *grad = swt_trial_in(t, N, SWT_F32);
    for (int i = 0; i < N; i++)
        grad[i] = i % 2 ? NAN : 3e38F;
    int64_t *sum = swt_trial_out(t, N, SWT_I64);
    SWT_RUN(t, grad_add, .sum = sum, .grad = grad, .n = N, .limit = limit_of_one, .first = true);
    assert_true(t->state->nonfinite != 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(sum[i], 0);
}

/* ------------------------------------------------------------------ norm and clipping */

/* On a GPU the sums of parts lie in the context's workspace; the CPU needs none. */
static void test_grad_squares_workspace(void **state) {
    static const swt_span span = {.offset = 0, .count = 5, .index = 0};
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "grad_squares without a workspace");
    const float *grad = gradients(t, span.count);
    swt_span *spans = swt_trial_in(t, (int64_t)sizeof span, SWT_U8);
    *spans = span;
    double *squares = swt_trial_out(t, 1, SWT_F64);
    void *const workspace = t->ctx.workspace;
    t->ctx.workspace = NULL;
    if (swt_test_on_gpu())
        SWT_REFUSE(t, INTERNAL, grad_squares, .squares = squares, .grad = grad, .spans = spans,
                   .n_spans = 1);
    else
        SWT_RUN(t, grad_squares, .squares = squares, .grad = grad, .spans = spans, .n_spans = 1);
    t->ctx.workspace = workspace;
}

/* A tensor's sum has the same bits wherever the tensor lies and whatever lies beside it. */
static void test_grad_squares_place(void **state) {
    enum { COUNT = 5001, PLACES = 20 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "grad_squares at shifted places");
    float *grad = swt_trial_in(t, PLACES * (COUNT + 3), SWT_F32);
    swt_span *spans = swt_trial_in(t, PLACES * (int64_t)sizeof *spans, SWT_U8);
    const float *tensor = swt_trial_uniform(t, COUNT, -1, 1);
    for (int s = 0; s < PLACES; s++) {
        spans[s] = (swt_span){.offset = s * (COUNT + 2), .count = COUNT, .index = s};
        memcpy(grad + spans[s].offset, tensor, COUNT * sizeof *tensor);
    }
    double *squares = swt_trial_out(t, PLACES, SWT_F64);
    SWT_RUN(t, grad_squares, .squares = squares, .grad = grad, .spans = spans, .n_spans = PLACES);
    for (int s = 1; s < PLACES; s++)
        swt_trial_same(t, "squares", &squares[s], &squares[0], 1, SWT_F64);
}

typedef struct clip_case {
    double squares[8];
    double max_norm;
    int64_t nonfinite_ranks;
    double norm, clip;
    bool nonfinite;
} clip_case;

static void test_state_clip(void **state) {
    static const clip_case cases[] = {
        {{9, 16}, 0, 0, 5, 1, false},
        {{9, 16}, 10, 0, 5, 1, false},
        {{9, 16}, 1, 0, 5, 1 / (5 + 1e-6), false},
        {{0}, 1, 0, 0, 1, false},
        {{1}, 1, 0, 1, 1 / (1 + 1e-6), false},
        /* In order, as the CPU adds, 2^54 swallows each of the twos that follow. */
        {{0x1p54, 2, 2, 2, 2, 2, 2, 2}, 0x1p20, 0, 0x1p27, 0x1p20 / (0x1p27 + 1e-6), false},
        {{9, 16}, 1, 2, 5, 1 / (5 + 1e-6), true},
        {{9, NAN}, 1, 0, 0, 0, true},
        {{9, INFINITY}, 0, 0, 0, 0, true},
        {{1.7e308, 1.7e308}, 1, 0, 0, 0, true},
    };
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const clip_case *c = &cases[i];
        swt_trial_begin(t, "state_clip case %zu", i);
        swt_trial_release_state(t);
        double *squares = swt_trial_in(t, 8, SWT_F64);
        memcpy(squares, c->squares, sizeof c->squares);
        int64_t *ranks = swt_trial_in(t, 1, SWT_I64);
        *ranks = c->nonfinite_ranks;
        SWT_RUN(t, state_clip, .squares = squares, .n = 8, .nonfinite_ranks = ranks,
                .max_norm = c->max_norm);
        const swt_step_state *s = t->state;
        assert_true((s->nonfinite != 0) == c->nonfinite);
        if (c->norm > 0 || !c->nonfinite) {
            /* Any other order of eight sums is off by 2^-53 for each. */
            const double slack = t->ctx.device->table->queues ? 8 * 0x1p-53 * c->norm : 0;
            swt_trial_number(t, "grad_norm", s->grad_norm, c->norm, slack);
            swt_trial_number(t, "clip", s->clip, c->clip, 0x1p-53 + slack);
        }
        /* Sticky: a good norm later does not take the flag back. */
        memset(squares, 0, 8 * sizeof *squares);
        *ranks = 0;
        SWT_RUN(t, state_clip, .squares = squares, .n = 8, .nonfinite_ranks = ranks,
                .max_norm = c->max_norm);
        assert_true((s->nonfinite != 0) == c->nonfinite);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noam),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_grad_rounding),
        cmocka_unit_test(test_grad_order),
        cmocka_unit_test(test_grad_limit),
        cmocka_unit_test(test_state_clip),
        cmocka_unit_test(test_grad_squares_place),
        cmocka_unit_test(test_grad_squares_workspace),
        cmocka_unit_test(test_grad_all_bad),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
