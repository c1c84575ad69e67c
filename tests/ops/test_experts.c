/* The experts' feed-forward: the same bits for any layout, and the integer sums bit for bit.
 * Against the oracle: src/judge/cases_experts.c. */
#include "judge/oracle.h"
#include "support/trial.h"

#include <math.h>
#include <string.h>

typedef struct experts_case {
    int64_t El, P, K, C, F;
    bool bias;
} experts_case;

typedef struct experts_tensors {
    swt_moe_dims dims;
    float *x, *wi, *bi, *wo, *bo, *y, *hidden, *dy, *dx, *dhidden, *dot;
    float *dwi, *dbi, *dwo, *dbo;
    int32_t *counts;
} experts_tensors;

/* El, P, K, C, F */
static const int64_t shapes[][5] = {
    {1, 1, 1, 1, 1}, {2, 2, 5, 7, 3},   {4, 1, 64, 32, 64},  {1, 3, 65, 5, 40}, {3, 4, 10, 64, 130},
    {2, 1, 0, 8, 8}, {16, 2, 3, 40, 5}, {5, 2, 130, 65, 33}, {1, 2, 4, 3, 3},   {1, 2, 20, 256, 2}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const experts_case large = {.El = 3, .P = 3, .K = 270, .C = 130, .F = 260, .bias = true};

/* Poison what is not occupied: nobody may read it. Experts that take all slots (ops->all_slots) are
 * promised zeros there. */
static void empty(const swt_trial *t, float *x, const int32_t *counts, const experts_case *c,
                  int64_t width) {
    for (int64_t i = 0; i < c->El * c->P * c->K; i++)
        for (int64_t j = 0; i % c->K >= counts[i / c->K] && j < width; j++)
            x[i * width + j] = t->ctx.ops->all_slots ? 0 : NAN;
}

static experts_tensors draw(swt_trial *t, const experts_case *c) {
    swt_trial_begin(t, "experts El=%lld P=%lld K=%lld C=%lld F=%lld bias=%d", (long long)c->El,
                    (long long)c->P, (long long)c->K, (long long)c->C, (long long)c->F, c->bias);
    /* Where the experts do not divide by the ranks, the last rank has one less. */
    const int64_t E = c->El * c->P - (c->El > 1 && c->P > 1 ? 1 : 0);
    const int64_t rows = c->El * c->P * c->K, weights = c->El * c->F * c->C;
    experts_tensors x = {.dims = swt_oracle_moe_dims(c->K, c->C, E),
                         .counts = swt_trial_integers(t, c->El * c->P, 0, (int)c->K),
                         .x = swt_trial_uniform(t, rows * c->C, -1, 1),
                         .wi = swt_trial_uniform(t, weights, -1, 1),
                         .wo = swt_trial_uniform(t, weights, -1, 1),
                         .bi = c->bias ? swt_trial_uniform(t, c->El * c->F, -1, 1) : NULL,
                         .bo = c->bias ? swt_trial_uniform(t, c->El * c->C, -1, 1) : NULL,
                         .dy = swt_trial_uniform(t, rows * c->C, -1, 1)};
    x.dims.El = c->El;
    x.dims.P = c->P;
    x.dims.F = c->F;
    for (int64_t i = 0; i < c->El * c->P; i++) /* empty and full ones are common */
        x.counts[i] = i % 4 == 1 ? 0 : i % 4 == 2 ? (int32_t)c->K : x.counts[i];
    empty(t, x.x, x.counts, c, c->C);
    empty(t, x.dy, x.counts, c, c->C);
    return x;
}

/* Forward, and backward to the inputs. */
static void run(swt_trial *t, experts_tensors *x) {
    const swt_experts_forward_args f =
        SWT_MADE(t, experts_forward, .x = x->x, .wi = x->wi, .bi = x->bi, .wo = x->wo, .bo = x->bo,
                 .slot_counts = x->counts, .dims = x->dims);
    const swt_experts_backward_input_args b =
        SWT_MADE(t, experts_backward_input, .dy = x->dy, .hidden = f.hidden, .wi = x->wi,
                 .wo = x->wo, .bo = x->bo, .slot_counts = x->counts, .dims = x->dims);
    x->y = f.y;
    x->hidden = f.hidden;
    x->dx = b.dx;
    x->dhidden = b.dhidden;
    x->dot = b.dot;
    swt_test_keep(t);
}

static experts_tensors backward_input(swt_trial *t, const experts_case *c) {
    experts_tensors x = draw(t, c);
    run(t, &x);
    return x;
}

/* ---- gradients of parameters */

/* The slots of source p alone. */
static int32_t *counts_of(swt_trial *t, const experts_case *c, const experts_tensors *x,
                          int64_t p) {
    int32_t *counts = swt_trial_in(t, c->El * c->P, SWT_I32);
    for (int64_t i = 0; i < c->El * c->P; i++)
        counts[i] = i % c->P == p ? x->counts[i] : 0;
    return counts;
}

/* Gradients of slots for those counts: where a backend takes all slots, zeros in the others. */
static const float *slots_of(swt_trial *t, const experts_case *c, const float *x,
                             const int32_t *counts, int64_t width) {
    if (!t->ctx.ops->all_slots)
        return x;
    float *copy = swt_trial_copy(t, x, c->El * c->P * c->K * width, SWT_F32);
    empty(t, copy, counts, c, width);
    return copy;
}

/* The call with these arguments, and the gradients that it makes. */
static void run_weight(swt_trial *t, const experts_case *c, experts_tensors *x,
                       swt_experts_backward_weight_args a) {
    a.x = x->x;
    a.hidden = x->hidden;
    a.dims = x->dims;
    a.dbi = c->bias ? swt_trial_out(t, c->El * c->F, SWT_F32) : NULL;
    a.dbo = c->bias ? swt_trial_out(t, c->El * c->C, SWT_F32) : NULL;
    a = swt_test_make(t, SWT_OP_experts_backward_weight,
                      (swt_any_args){.experts_backward_weight = a})
            .experts_backward_weight;
    x->dwi = a.dwi;
    x->dwo = a.dwo;
    x->dbi = a.dbi;
    x->dbo = a.dbo;
}

/* The gradients of source p alone. */
static void backward_weight(swt_trial *t, const experts_case *c, experts_tensors *x, int64_t p) {
    const int32_t *counts = counts_of(t, c, x, p);
    run_weight(t, c, x,
               (swt_experts_backward_weight_args){.dpre = slots_of(t, c, x->dhidden, counts, c->F),
                                                  .dy = slots_of(t, c, x->dy, counts, c->C),
                                                  .slot_counts = counts});
}

/* wi, bi, wo, bo; the biases' are NULL where there are none. */
enum { TENSORS = 4 };

static int64_t tensor_size(const experts_case *c, int i) {
    return c->El * (i == 1 ? c->F : i == 3 ? c->C : c->F * c->C);
}

/* Sums that hold something. */
static void take_sums(swt_trial *t, const experts_case *c, int64_t *sum[TENSORS]) {
    for (int i = 0; i < TENSORS; i++) {
        const int64_t n = tensor_size(c, i);
        sum[i] = i % 2 == 0 || c->bias ? swt_trial_out(t, n, SWT_I64) : NULL;
        for (int64_t k = 0; sum[i] != NULL && k < n; k++)
            sum[i][k] = k * 1000003 - n;
    }
}

/* Of all sources. */
static void backward_sums(swt_trial *t, const experts_case *c, experts_tensors *x,
                          int64_t *const sum[TENSORS], double limit, bool first, bool last) {
    run_weight(t, c, x,
               (swt_experts_backward_weight_args){.dpre = x->dhidden,
                                                  .dy = x->dy,
                                                  .slot_counts = x->counts,
                                                  .sums = {.wi = sum[0],
                                                           .bi = sum[1],
                                                           .wo = sum[2],
                                                           .bo = sum[3],
                                                           .exact = true,
                                                           .limit = limit,
                                                           .first = first,
                                                           .last = last}});
}

/* The sums are, bit for bit, each source's gradients put through swt_grad_add; after the last call
 * the gradients are what swt_grad_finish makes of them. */
static void expect_sums(swt_trial *t, const experts_case *c, experts_tensors *x, double limit,
                        bool first, bool last) {
    int64_t *got[TENSORS], *want[TENSORS];
    take_sums(t, c, got);
    take_sums(t, c, want);
    for (int i = 0; first && i < TENSORS; i++)
        if (want[i] != NULL)
            memset(want[i], 0, (size_t)tensor_size(c, i) * sizeof *want[i]);
    int64_t *const none[TENSORS] = {0};
    const bool without = first && last && !t->ctx.ops->expert_sums;
    backward_sums(t, c, x, without ? none : got, limit, first, last);
    const float *const finished[TENSORS] = {x->dwi, x->dbi, x->dwo, x->dbo};
    for (int64_t p = 0; p < c->P; p++) {
        const swt_test_mark mark = swt_test_set_mark(t);
        backward_weight(t, c, x, p);
        const float *const grad[TENSORS] = {x->dwi, x->dbi, x->dwo, x->dbo};
        for (int i = 0; i < TENSORS; i++)
            if (want[i] != NULL)
                SWT_RUN(t, grad_add, .sum = want[i], .grad = grad[i], .n = tensor_size(c, i),
                        .limit = limit);
        swt_test_back_to(t, mark);
    }
    for (int i = 0; i < TENSORS; i++) {
        const int64_t n = tensor_size(c, i);
        if (want[i] == NULL)
            continue;
        if (!last) {
            swt_trial_same(t, "sums", got[i], want[i], n, SWT_I64);
            continue;
        }
        const float *sum = SWT_MADE(t, grad_finish, .sum = want[i], .n = n).grad;
        swt_trial_same(t, "gradient", finished[i], sum, n, SWT_F32);
    }
}

/* As every call there can be: the first or not, the last or not. */
static void expect_sums_of_calls(swt_trial *t, const experts_case *c, experts_tensors *x,
                                 double limit) {
    for (int call = 0; call < 4; call++) {
        const swt_test_mark mark = swt_test_set_mark(t);
        expect_sums(t, c, x, limit, call % 2, call / 2);
        swt_test_back_to(t, mark);
    }
}

/* The trial sees that nonfinite stays 0. */
static void test_sums(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (int s = 0; s < SHAPES; s++)
        for (int bias = 0; bias < 2; bias++) {
            const int64_t *d = shapes[s];
            const experts_case c = {d[0], d[1], d[2], d[3], d[4], bias};
            experts_tensors x = backward_input(t, &c);
            expect_sums_of_calls(t, &c, &x, 0x1p60);
        }
}

/* A gradient that is not finite or too large for the limit is left out and says so. */
static void test_sums_left_out(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (int nan = 0; nan < 2; nan++) {
        const double limit = nan ? 0x1p60 : 0x1p50; /* gradients of 4 and more, of which many are */
        experts_tensors x = backward_input(t, &large);
        swt_trial_release_state(t);
        if (nan) /* in the first row of source 2, which is full (draw) */
            x.dy[2 * large.K * large.C] = NAN;
        int64_t *sum[TENSORS];
        take_sums(t, &large, sum);
        backward_sums(t, &large, &x, sum, limit, false, false);
        assert_int_equal(t->state->nonfinite, 1);
        expect_sums_of_calls(t, &large, &x, limit);
    }
}

/* A block's bits depend on its rows alone: not on how many experts and ranks there are, nor (where
 * unoccupied slots are left alone) on the number of slots. Each block of a 3 x 3 layout must be
 * what one expert makes of one rank's rows. */
static void expect_block(swt_trial *t, const experts_tensors *x, swt_trial *one, int64_t j,
                         int64_t p) {
    const experts_case c = large;
    const int64_t block = j * c.P + p, row = block * c.K, n = x->counts[block], FC = c.F * c.C;
    /* Where products take all slots, K is part of their shape, which may decide on bits. */
    const experts_case single = {1, 1, one->ctx.ops->all_slots ? c.K : n + 1, c.C, c.F, true};
    experts_tensors s = draw(one, &single);
    s.counts[0] = (int32_t)n;
    memcpy(s.x, x->x + row * c.C, (size_t)(n * c.C) * sizeof(float));
    memcpy(s.dy, x->dy + row * c.C, (size_t)(n * c.C) * sizeof(float));
    empty(one, s.x, s.counts, &single, c.C);
    empty(one, s.dy, s.counts, &single, c.C);
    memcpy(s.wi, x->wi + j * FC, (size_t)FC * sizeof(float));
    memcpy(s.wo, x->wo + j * FC, (size_t)FC * sizeof(float));
    memcpy(s.bi, x->bi + j * c.F, (size_t)c.F * sizeof(float));
    memcpy(s.bo, x->bo + j * c.C, (size_t)c.C * sizeof(float));
    run(one, &s);
    backward_weight(one, &single, &s, 0);
    swt_trial_same(t, "y", x->y + row * c.C, s.y, n * c.C, SWT_F32);
    swt_trial_same(t, "hidden", x->hidden + row * c.F, s.hidden, n * c.F, SWT_F32);
    swt_trial_same(t, "dx", x->dx + row * c.C, s.dx, n * c.C, SWT_F32);
    swt_trial_same(t, "dot", x->dot + row, s.dot, n, SWT_F32);
    swt_trial_same(t, "dwi", x->dwi + j * FC, s.dwi, FC, SWT_F32);
    swt_trial_same(t, "dwo", x->dwo + j * FC, s.dwo, FC, SWT_F32);
    swt_trial_same(t, "dbi", x->dbi + j * c.F, s.dbi, c.F, SWT_F32);
    swt_trial_same(t, "dbo", x->dbo + j * c.C, s.dbo, c.C, SWT_F32);
}

static void test_layouts(void **state) {
    swt_trial *t = swt_test_trial(state), *one = swt_test_open(1, true);
    experts_tensors x = backward_input(t, &large);
    for (int64_t p = 0; p < large.P; p++) {
        backward_weight(t, &large, &x, p);
        for (int64_t j = 0; j < large.El; j++)
            expect_block(t, &x, one, j, p);
    }
    swt_test_close(one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_sums_left_out),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
