/* The exact sum of gradients, their norm and clipping, and the schedule, at the places that are
 * special; what holds at any place is the judge's (test_cases.c). The optimisers: test_adam.c. */
#include "support/judge.h"

#include <math.h>
#include <string.h>

static const double limit_of_one = 0x1p62;

/* ------------------------------------------------------------------ schedule */

static void advance_to(swt_bed *bed, const swt_schedule *schedule, int64_t step) {
    swt_bed_begin(bed, "schedule %d at step %lld", (int)schedule->kind, (long long)step);
    swt_bed_release_state(bed);
    bed->ctx.state->step = step - 1;
    const swt_step_state before = *bed->ctx.state;
    SWT_BED_RUN(bed,
                swt_state_advance(&bed->ctx, &(swt_state_advance_args){.schedule = *schedule}));
    const swt_step_state *after = bed->ctx.state;
    assert_true(after->step == step && after->seed == before.seed &&
                after->targets == before.targets && after->nonfinite == before.nonfinite);
}

static void test_noam(void **state) {
    (void)state;
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
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        advance_to(&bed, &schedule, values[i].step);
        const swt_step_state *s = bed.ctx.state;
        const double t = (double)values[i].step;
        swt_expect_number(&bed, "lr", s->lr, values[i].lr, 5.1e-7 * values[i].lr);
        /* pow in double: a few units; 1 - x is exact to one. */
        swt_expect_number(&bed, "correction1", s->correction1, 1 - pow(0.9, t), 1e-15);
        swt_expect_number(&bed, "correction2", s->correction2, 1 - pow(0.999, t), 1e-15);
    }
    swt_bed_close(&bed);
}

static void test_schedules(void **state) {
    (void)state;
    const double pi = acos(-1);
    const struct {
        swt_schedule_kind kind;
        double warmup;
        int64_t step;
        double lr;
    } values[] = {
        {SWT_SCHEDULE_RSQRT, 100, 1, 0.3 / 10},
        {SWT_SCHEDULE_RSQRT, 100, 100, 0.3 / 10},
        {SWT_SCHEDULE_RSQRT, 100, 400, 0.3 / 20},
        {SWT_SCHEDULE_RSQRT, 0, 4, 0.3 / 2},
        {SWT_SCHEDULE_CONSTANT, 100, 1, 0.3},
        {SWT_SCHEDULE_CONSTANT, 100, 5000, 0.3},
        {SWT_SCHEDULE_COSINE, 100, 1, 0.003},
        {SWT_SCHEDULE_COSINE, 100, 50, 0.15},
        {SWT_SCHEDULE_COSINE, 100, 100, 0.3},
        {SWT_SCHEDULE_COSINE, 100, 325, 0.3 * (1 + cos(pi / 4)) / 2},
        {SWT_SCHEDULE_COSINE, 100, 550, 0.15},
        {SWT_SCHEDULE_COSINE, 100, 1000, 0},
        {SWT_SCHEDULE_COSINE, 0, 500, 0.15},
        {SWT_SCHEDULE_NOAM, 0, 4, 0.3 / 8 / 2},
    };
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        const swt_schedule schedule = {.kind = values[i].kind,
                                       .lr = 0.3,
                                       .warmup_steps = values[i].warmup,
                                       .width = 64,
                                       .total_steps = 1000,
                                       .beta1 = 0.5,
                                       .beta2 = 0.75};
        advance_to(&bed, &schedule, values[i].step);
        swt_expect_number(&bed, "lr", bed.ctx.state->lr, values[i].lr, 1e-15);
    }
    swt_bed_close(&bed);
}

/* ------------------------------------------------------------------ the exact sum */

/* Gradients of all sizes, from 2^-60 (which counts as 0) to 2^10. */
static float *gradients(swt_bed *bed, int64_t n) {
    float *grad = swt_bed_uniform(bed, n, -1, 1);
    for (int64_t i = 0; i < n; i++)
        grad[i] = ldexpf(grad[i], swt_bed_choose(bed, -60, 10));
    return grad;
}

static int64_t quantum(float grad) {
    return (int64_t)rint((double)grad * 0x1p48);
}

/* Halves go to the even neighbour, and what is exact stays exact. */
static void test_grad_rounding(void **state) {
    (void)state;
    static const float grad[] = {0x1p-49F, 0x3p-49F, 0x5p-49F,  -0x1p-49F, -0x3p-49F,
                                 0x1p-50F, 1,        -0x1p-48F, 0x1p13F,   -0.0F};
    static const int64_t want[] = {0, 2, 2, 0, -2, 0, (int64_t)1 << 48, -1, (int64_t)1 << 61, 0};
    enum { N = sizeof grad / sizeof grad[0] };
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "grad_add rounding");
    float *in = swt_bed_in(&bed, N, SWT_F32);
    memcpy(in, grad, sizeof grad);
    int64_t *sum = swt_bed_copy(&bed, swt_bed_doubles(&bed, N), N, SWT_I64);
    SWT_BED_RUN(
        &bed,
        swt_grad_add(&bed.ctx,
                     &(swt_grad_add_args){
                         .sum = sum, .grad = in, .n = N, .limit = limit_of_one, .first = false}));
    assert_memory_equal(sum, want, sizeof want);
    swt_bed_close(&bed);
}

/* Five micro-batches in three orders, on one rank or summed on two: the same integers. */
static void test_grad_order(void **state) {
    (void)state;
    enum { M = 5, N = 1000 };
    static const int orders[][M] = {{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}};
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "grad_add in any order");
    const float *grads[M];
    for (int m = 0; m < M; m++)
        grads[m] = gradients(&bed, N);
    int64_t *sums[4];
    for (int o = 0; o < 4; o++)
        sums[o] = swt_bed_copy(&bed, swt_bed_doubles(&bed, N), N, SWT_I64);
    for (int o = 0; o < 3; o++)
        for (int m = 0; m < M; m++)
            SWT_BED_RUN(&bed,
                        swt_grad_add(&bed.ctx, &(swt_grad_add_args){.sum = sums[o],
                                                                    .grad = grads[orders[o][m]],
                                                                    .n = N,
                                                                    .limit = limit_of_one / M,
                                                                    .first = m == 0}));
    int64_t *other = swt_bed_copy(&bed, sums[3], N, SWT_I64);
    for (int m = 0; m < M; m++)
        SWT_BED_RUN(&bed,
                    swt_grad_add(&bed.ctx, &(swt_grad_add_args){.sum = m % 2 ? sums[3] : other,
                                                                .grad = grads[m],
                                                                .n = N,
                                                                .limit = limit_of_one / M,
                                                                .first = false}));
    for (int i = 0; i < N; i++)
        sums[3][i] += other[i];
    for (int o = 1; o < 4; o++)
        swt_expect_bytes(&bed, "sum", sums[o], sums[0], N, SWT_I64);
    swt_bed_close(&bed);
}

/* What is not finite or beyond the limit is not added and raises the flag, at every place in the
 * array; its neighbours are added. At the limit itself all is well. */
static void test_grad_limit(void **state) {
    (void)state;
    enum { N = 70 };
    static const float bad[] = {NAN,  -NAN, INFINITY, -INFINITY, 0x1.000002p12F, -0x1.000002p12F,
                                3e38F};
    const double limit = limit_of_one / 4; /* 2^60: gradients up to 2^12 */
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int at = 0; at < N; at++)
        for (int what = 0; what < 9; what++) {
            const bool good = what >= 7;
            swt_bed_begin(&bed, "grad_add of a bad number %d at %d", what, at);
            swt_bed_release_state(&bed);
            float *grad = gradients(&bed, N);
            int64_t *sum = swt_bed_copy(&bed, swt_bed_doubles(&bed, N), N, SWT_I64);
            grad[at] = what == 7 ? 0x1p12F : what == 8 ? -0x1p12F : bad[what];
            SWT_BED_RUN(&bed, swt_grad_add(&bed.ctx, &(swt_grad_add_args){.sum = sum,
                                                                          .grad = grad,
                                                                          .n = N,
                                                                          .limit = limit,
                                                                          .first = at % 2 == 0}));
            assert_true((bed.ctx.state->nonfinite != 0) == !good);
            for (int i = 0; i < N; i++)
                assert_int_equal(sum[i], i == at && !good ? 0 : quantum(grad[i]));
        }
    swt_bed_close(&bed);
}

/* Every number is bad: all threads raise the flag at once. */
static void test_grad_all_bad(void **state) {
    (void)state;
    enum { N = 40000 };
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "grad_add of bad numbers alone");
    swt_bed_release_state(&bed);
    float *grad = swt_bed_in(&bed, N, SWT_F32);
    for (int i = 0; i < N; i++)
        grad[i] = i % 2 ? NAN : 3e38F;
    int64_t *sum = swt_bed_out(&bed, N, SWT_I64);
    SWT_BED_RUN(
        &bed,
        swt_grad_add(&bed.ctx,
                     &(swt_grad_add_args){
                         .sum = sum, .grad = grad, .n = N, .limit = limit_of_one, .first = true}));
    assert_true(bed.ctx.state->nonfinite != 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(sum[i], 0);
    swt_bed_close(&bed);
}

/* ------------------------------------------------------------------ norm and clipping */

/* On a GPU the sums of parts lie in the context's workspace; the CPU needs none. */
static void test_grad_squares_workspace(void **state) {
    (void)state;
    static const swt_span span = {.offset = 0, .count = 5, .index = 0};
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "grad_squares without a workspace");
    const float *grad = gradients(&bed, span.count);
    swt_span *spans = swt_bed_in(&bed, (int64_t)sizeof span, SWT_U8);
    *spans = span;
    double *squares = swt_bed_out(&bed, 1, SWT_F64);
    swt_ctx without = bed.ctx;
    without.workspace = NULL;
    if (swt_bed_on_gpu(&bed))
        SWT_BED_REFUSE(&bed, INTERNAL,
                       swt_grad_squares(&without, &(swt_grad_squares_args){.squares = squares,
                                                                           .grad = grad,
                                                                           .spans = spans,
                                                                           .n_spans = 1}));
    else
        SWT_BED_RUN(&bed, swt_grad_squares(&without, &(swt_grad_squares_args){.squares = squares,
                                                                              .grad = grad,
                                                                              .spans = spans,
                                                                              .n_spans = 1}));
    swt_bed_close(&bed);
}

/* A tensor's sum has the same bits wherever the tensor lies and whatever lies beside it. */
static void test_grad_squares_place(void **state) {
    (void)state;
    enum { COUNT = 5001, PLACES = 20 };
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "grad_squares at shifted places");
    float *grad = swt_bed_in(&bed, PLACES * (COUNT + 3), SWT_F32);
    swt_span *spans = swt_bed_in(&bed, PLACES * (int64_t)sizeof *spans, SWT_U8);
    const float *tensor = swt_bed_uniform(&bed, COUNT, -1, 1);
    for (int s = 0; s < PLACES; s++) {
        spans[s] = (swt_span){.offset = s * (COUNT + 2), .count = COUNT, .index = s};
        memcpy(grad + spans[s].offset, tensor, COUNT * sizeof *tensor);
    }
    double *squares = swt_bed_out(&bed, PLACES, SWT_F64);
    SWT_BED_RUN(&bed, swt_grad_squares(&bed.ctx, &(swt_grad_squares_args){.squares = squares,
                                                                          .grad = grad,
                                                                          .spans = spans,
                                                                          .n_spans = PLACES}));
    for (int s = 1; s < PLACES; s++)
        swt_expect_bytes(&bed, "squares", &squares[s], &squares[0], 1, SWT_F64);
    swt_bed_close(&bed);
}

typedef struct clip_case {
    double squares[8];
    double max_norm;
    int64_t nonfinite_ranks;
    double norm, clip;
    bool nonfinite;
} clip_case;

static void test_state_clip(void **state) {
    (void)state;
    static const clip_case cases[] = {
        {{9, 16}, 0, 0, 5, 1, false},
        {{9, 16}, 10, 0, 5, 1, false},
        {{9, 16}, 1, 0, 5, 1 / (5 + 1e-6), false},
        {{0}, 1, 0, 0, 1, false},
        {{1}, 1, 0, 1, 1 / (1 + 1e-6), false},
        /* In order: 2^54 swallows each of the twos that follow. */
        {{0x1p54, 2, 2, 2, 2, 2, 2, 2}, 0x1p20, 0, 0x1p27, 0x1p20 / (0x1p27 + 1e-6), false},
        {{9, 16}, 1, 2, 5, 1 / (5 + 1e-6), true},
        {{9, NAN}, 1, 0, 0, 0, true},
        {{9, INFINITY}, 0, 0, 0, 0, true},
        {{1.7e308, 1.7e308}, 1, 0, 0, 0, true},
    };
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const clip_case *c = &cases[i];
        swt_bed_begin(&bed, "state_clip case %zu", i);
        swt_bed_release_state(&bed);
        double *squares = swt_bed_in(&bed, 8, SWT_F64);
        memcpy(squares, c->squares, sizeof c->squares);
        int64_t *ranks = swt_bed_in(&bed, 1, SWT_I64);
        *ranks = c->nonfinite_ranks;
        SWT_BED_RUN(&bed,
                    swt_state_clip(&bed.ctx, &(swt_state_clip_args){.squares = squares,
                                                                    .n = 8,
                                                                    .nonfinite_ranks = ranks,
                                                                    .max_norm = c->max_norm}));
        const swt_step_state *s = bed.ctx.state;
        assert_true((s->nonfinite != 0) == c->nonfinite);
        if (c->norm > 0 || !c->nonfinite) {
            swt_expect_number(&bed, "grad_norm", s->grad_norm, c->norm, 0);
            swt_expect_number(&bed, "clip", s->clip, c->clip, 0x1p-53);
        }
        /* Sticky: a good norm later does not take the flag back. */
        memset(squares, 0, 8 * sizeof *squares);
        *ranks = 0;
        SWT_BED_RUN(&bed,
                    swt_state_clip(&bed.ctx, &(swt_state_clip_args){.squares = squares,
                                                                    .n = 8,
                                                                    .nonfinite_ranks = ranks,
                                                                    .max_norm = c->max_norm}));
        assert_true((s->nonfinite != 0) == c->nonfinite);
    }
    swt_bed_close(&bed);
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
    return cmocka_run_group_tests(tests, NULL, NULL);
}
