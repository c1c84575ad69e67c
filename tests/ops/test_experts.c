/* The experts' feed-forward: the same bits for any layout and number of threads, and the integer
 * sums bit for bit. Against the oracle: src/judge/cases_experts.c. */
#include "judge/oracle.h"
#include "support/judge.h"

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
static void empty(const swt_bed *bed, float *x, const int32_t *counts, const experts_case *c,
                  int64_t width) {
    for (int64_t i = 0; i < c->El * c->P * c->K; i++)
        for (int64_t j = 0; i % c->K >= counts[i / c->K] && j < width; j++)
            x[i * width + j] = bed->ctx.ops->all_slots ? 0 : NAN;
}

static experts_tensors forward(swt_bed *bed, const experts_case *c) {
    swt_bed_begin(bed, "experts El=%lld P=%lld K=%lld C=%lld F=%lld bias=%d", (long long)c->El,
                  (long long)c->P, (long long)c->K, (long long)c->C, (long long)c->F, c->bias);
    /* Where the experts do not divide by the ranks, the last rank has one less. */
    const int64_t E = c->El * c->P - (c->El > 1 && c->P > 1 ? 1 : 0);
    experts_tensors t = {.dims = swt_oracle_moe_dims(c->K, c->C, E)};
    t.dims.El = c->El;
    t.dims.P = c->P;
    t.dims.F = c->F;
    const int64_t rows = c->El * c->P * c->K, weights = c->El * c->F * c->C;
    t.counts = swt_bed_integers(bed, c->El * c->P, 0, (int)c->K);
    for (int64_t i = 0; i < c->El * c->P; i++) /* empty and full ones are common */
        t.counts[i] = i % 4 == 1 ? 0 : i % 4 == 2 ? (int32_t)c->K : t.counts[i];
    t.x = swt_bed_uniform(bed, rows * c->C, -1, 1);
    t.wi = swt_bed_uniform(bed, weights, -1, 1);
    t.wo = swt_bed_uniform(bed, weights, -1, 1);
    t.bi = c->bias ? swt_bed_uniform(bed, c->El * c->F, -1, 1) : NULL;
    t.bo = c->bias ? swt_bed_uniform(bed, c->El * c->C, -1, 1) : NULL;
    t.y = swt_bed_out(bed, rows * c->C, SWT_F32);
    t.hidden = swt_bed_out(bed, rows * c->F, SWT_F32);
    empty(bed, t.x, t.counts, c, c->C);
    SWT_BED_RUN(bed, swt_experts_forward(&bed->ctx, &(swt_experts_forward_args){.y = t.y,
                                                                                .hidden = t.hidden,
                                                                                .x = t.x,
                                                                                .wi = t.wi,
                                                                                .bi = t.bi,
                                                                                .wo = t.wo,
                                                                                .bo = t.bo,
                                                                                .counts = t.counts,
                                                                                .dims = t.dims}));
    return t;
}

static experts_tensors backward_input(swt_bed *bed, const experts_case *c) {
    experts_tensors t = forward(bed, c);
    swt_bed_keep(bed);
    const int64_t rows = c->El * c->P * c->K;
    t.dy = swt_bed_uniform(bed, rows * c->C, -1, 1);
    t.dx = swt_bed_out(bed, rows * c->C, SWT_F32);
    t.dhidden = swt_bed_out(bed, rows * c->F, SWT_F32);
    t.dot = swt_bed_out(bed, rows, SWT_F32);
    empty(bed, t.dy, t.counts, c, c->C);
    SWT_BED_RUN(bed, swt_experts_backward_input(
                         &bed->ctx, &(swt_experts_backward_input_args){.dx = t.dx,
                                                                       .dhidden = t.dhidden,
                                                                       .dot = t.dot,
                                                                       .dy = t.dy,
                                                                       .hidden = t.hidden,
                                                                       .wi = t.wi,
                                                                       .wo = t.wo,
                                                                       .bo = t.bo,
                                                                       .counts = t.counts,
                                                                       .dims = t.dims}));
    return t;
}

/* The slots of source p alone; of all where p < 0. */
static int32_t *counts_of(swt_bed *bed, const experts_case *c, const experts_tensors *t,
                          int64_t p) {
    int32_t *counts = swt_bed_in(bed, c->El * c->P, SWT_I32);
    for (int64_t i = 0; i < c->El * c->P; i++)
        counts[i] = p < 0 || i % c->P == p ? t->counts[i] : 0;
    return counts;
}

/* Gradients of slots for those counts: where a backend takes all slots, zeros in the others. */
static const float *slots_of(swt_bed *bed, const experts_case *c, const float *x,
                             const int32_t *counts, int64_t width) {
    if (!bed->ctx.ops->all_slots)
        return x;
    float *copy = swt_bed_copy(bed, x, c->El * c->P * c->K * width, SWT_F32);
    empty(bed, copy, counts, c, width);
    return copy;
}

static void take_weights(swt_bed *bed, const experts_case *c, experts_tensors *t) {
    const int64_t weights = c->El * c->F * c->C;
    t->dwi = swt_bed_out(bed, weights, SWT_F32);
    t->dwo = swt_bed_out(bed, weights, SWT_F32);
    t->dbi = c->bias ? swt_bed_out(bed, c->El * c->F, SWT_F32) : NULL;
    t->dbo = c->bias ? swt_bed_out(bed, c->El * c->C, SWT_F32) : NULL;
}

/* Of all sources, not exact. */
static swt_experts_backward_weight_args weight_args(const experts_tensors *t) {
    return (swt_experts_backward_weight_args){.dwi = t->dwi,
                                              .dbi = t->dbi,
                                              .dwo = t->dwo,
                                              .dbo = t->dbo,
                                              .x = t->x,
                                              .hidden = t->hidden,
                                              .dhidden = t->dhidden,
                                              .dy = t->dy,
                                              .counts = t->counts,
                                              .dims = t->dims};
}

/* The gradients of source p, or the sums of all where p < 0. */
static void backward_weight(swt_bed *bed, const experts_case *c, experts_tensors *t, int64_t p) {
    const int32_t *counts = counts_of(bed, c, t, p);
    const float *dhidden = slots_of(bed, c, t->dhidden, counts, c->F),
                *dy = slots_of(bed, c, t->dy, counts, c->C);
    take_weights(bed, c, t);
    swt_experts_backward_weight_args args = weight_args(t);
    args.dhidden = dhidden;
    args.dy = dy;
    args.counts = counts;
    SWT_BED_RUN(bed, swt_experts_backward_weight(&bed->ctx, &args));
}

/* wi, bi, wo, bo; the biases' are NULL where there are none. */
enum { TENSORS = 4 };

static int64_t tensor_size(const experts_case *c, int i) {
    return c->El * (i == 1 ? c->F : i == 3 ? c->C : c->F * c->C);
}

/* Sums that hold something. */
static void take_sums(swt_bed *bed, const experts_case *c, int64_t *sum[TENSORS]) {
    for (int i = 0; i < TENSORS; i++) {
        const int64_t n = tensor_size(c, i);
        sum[i] = i % 2 == 0 || c->bias ? swt_bed_out(bed, n, SWT_I64) : NULL;
        for (int64_t k = 0; sum[i] != NULL && k < n; k++)
            sum[i][k] = k * 1000003 - n;
    }
}

static void backward_sums(swt_bed *bed, const experts_case *c, experts_tensors *t,
                          int64_t *const sum[TENSORS], double limit, bool first, bool last) {
    take_weights(bed, c, t);
    swt_experts_backward_weight_args args = weight_args(t);
    args.exact = true;
    args.sums = (swt_expert_sums){sum[0], sum[1], sum[2], sum[3], limit, first, last};
    SWT_BED_RUN(bed, swt_experts_backward_weight(&bed->ctx, &args));
}

/* The sums are, bit for bit, each source's gradients put through swt_grad_add; after the last call
 * the gradients are what swt_grad_finish makes of them. */
static void expect_sums(swt_bed *bed, const experts_case *c, experts_tensors *t, double limit,
                        bool first, bool last) {
    static const char *const names[TENSORS] = {"sums.wi", "sums.bi", "sums.wo", "sums.bo"};
    int64_t *got[TENSORS], *want[TENSORS];
    take_sums(bed, c, got);
    take_sums(bed, c, want);
    if (first)
        for (int i = 0; i < TENSORS; i++)
            if (want[i] != NULL)
                memset(want[i], 0, (size_t)tensor_size(c, i) * sizeof *want[i]);
    int64_t *const none[TENSORS] = {0};
    const bool without = first && last && !bed->ctx.ops->expert_sums;
    backward_sums(bed, c, t, without ? none : got, limit, first, last);
    const float *const finished[TENSORS] = {t->dwi, t->dbi, t->dwo, t->dbo};
    for (int64_t p = 0; p < c->P; p++) {
        const swt_bed_mark mark = swt_bed_set_mark(bed);
        backward_weight(bed, c, t, p);
        const float *const grad[TENSORS] = {t->dwi, t->dbi, t->dwo, t->dbo};
        for (int i = 0; i < TENSORS; i++)
            if (want[i] != NULL)
                SWT_BED_RUN(bed,
                            swt_grad_add(&bed->ctx, &(swt_grad_add_args){.sum = want[i],
                                                                         .grad = grad[i],
                                                                         .n = tensor_size(c, i),
                                                                         .limit = limit,
                                                                         .first = false}));
        swt_bed_back_to(bed, mark);
    }
    for (int i = 0; i < TENSORS; i++) {
        if (want[i] == NULL)
            continue;
        const int64_t n = tensor_size(c, i);
        if (!last) {
            swt_expect_bytes(bed, names[i], got[i], want[i], n, SWT_I64);
            continue;
        }
        float *sum = swt_bed_out(bed, n, SWT_F32);
        SWT_BED_RUN(bed, swt_grad_finish(&bed->ctx, &(swt_grad_finish_args){
                                                        .grad = sum, .sum = want[i], .n = n}));
        swt_expect_bytes(bed, names[i] + strlen("sums."), finished[i], sum, n, SWT_F32);
    }
}

static void sums_check(swt_bed *bed, const experts_case *c) {
    experts_tensors t = backward_input(bed, c);
    swt_bed_keep(bed);
    for (int call = 0; call < 4; call++) { /* the bed sees that nonfinite stays 0 */
        const swt_bed_mark mark = swt_bed_set_mark(bed);
        expect_sums(bed, c, &t, 0x1p60, call % 2, call / 2);
        swt_bed_back_to(bed, mark);
    }
}

static void test_sums(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int bias = 0; bias < 2; bias++) {
            const int64_t *d = shapes[s];
            const experts_case c = {d[0], d[1], d[2], d[3], d[4], bias};
            sums_check(&bed, &c);
        }
    swt_bed_close(&bed);
}

/* A gradient that is not finite or too large for the limit is left out and says so. */
static void test_sums_left_out(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int nan = 0; nan < 2; nan++) {
        const double limit = nan ? 0x1p60 : 0x1p50; /* gradients of 4 and more, of which many are */
        experts_tensors t = backward_input(&bed, &large);
        swt_bed_keep(&bed);
        swt_bed_release_state(&bed);
        if (nan) /* in the first row of source 2, which is full (forward) */
            t.dy[2 * large.K * large.C] = NAN;
        int64_t *sum[TENSORS];
        take_sums(&bed, &large, sum);
        backward_sums(&bed, &large, &t, sum, limit, false, false);
        assert_int_equal(bed.ctx.state->nonfinite, 1);
        for (int call = 0; call < 4; call++)
            expect_sums(&bed, &large, &t, limit, call % 2, call / 2);
    }
    swt_bed_close(&bed);
}

static void run_all(swt_bed *bed, const void *c) {
    experts_tensors t = backward_input(bed, c);
    swt_bed_keep(bed);
    backward_weight(bed, c, &t, -1);
    int64_t *sum[TENSORS];
    take_sums(bed, c, sum);
    backward_sums(bed, c, &t, sum, 0x1p60, false, false);
    backward_sums(bed, c, &t, sum, 0x1p60, true, true);
}

static void test_threads(void **state) {
    (void)state;
    swt_bed_same_bits(run_all, &large);
}

/* Forward and backward to the inputs, without the bed's looks: inputs were written meanwhile. */
static void run_single(swt_bed *one, experts_tensors *s) {
    assert_int_equal(swt_experts_forward(&one->ctx, &(swt_experts_forward_args){.y = s->y,
                                                                                .hidden = s->hidden,
                                                                                .x = s->x,
                                                                                .wi = s->wi,
                                                                                .bi = s->bi,
                                                                                .wo = s->wo,
                                                                                .bo = s->bo,
                                                                                .counts = s->counts,
                                                                                .dims = s->dims}),
                     SWT_OK);
    assert_int_equal(swt_experts_backward_input(
                         &one->ctx, &(swt_experts_backward_input_args){.dx = s->dx,
                                                                       .dhidden = s->dhidden,
                                                                       .dot = s->dot,
                                                                       .dy = s->dy,
                                                                       .hidden = s->hidden,
                                                                       .wi = s->wi,
                                                                       .wo = s->wo,
                                                                       .bo = s->bo,
                                                                       .counts = s->counts,
                                                                       .dims = s->dims}),
                     SWT_OK);
    assert_int_equal(swt_stream_sync(&one->device, one->ctx.stream), SWT_OK);
}

/* A block's bits depend on its rows alone: not on how many experts and ranks there are, nor (where
 * unoccupied slots are left alone) on the number of slots. Each block of a 3 x 3 layout must be
 * what one expert makes of one rank's rows. */
static void test_layouts(void **state) {
    (void)state;
    swt_bed bed, one;
    swt_bed_open(&bed, 2);
    swt_bed_open(&one, 1);
    const experts_case c = large;
    const int64_t FC = c.F * c.C;
    experts_tensors t = backward_input(&bed, &c);
    swt_bed_keep(&bed);
    for (int64_t p = 0; p < c.P; p++) {
        backward_weight(&bed, &c, &t, p);
        for (int64_t j = 0; j < c.El; j++) {
            const int64_t at = (j * c.P + p) * c.K, n = t.counts[j * c.P + p];
            /* Where products take all slots, K is part of their shape, which may decide on bits. */
            const int64_t K = one.ctx.ops->all_slots ? c.K : n + 1;
            const experts_case single = {1, 1, K, c.C, c.F, true};
            experts_tensors s = backward_input(&one, &single);
            s.counts[0] = (int32_t)n;
            empty(&one, s.x, s.counts, &single, c.C);
            empty(&one, s.dy, s.counts, &single, c.C);
            memcpy(s.x, t.x + at * c.C, (size_t)(n * c.C) * sizeof(float));
            memcpy(s.dy, t.dy + at * c.C, (size_t)(n * c.C) * sizeof(float));
            memcpy(s.wi, t.wi + j * FC, (size_t)FC * sizeof(float));
            memcpy(s.wo, t.wo + j * FC, (size_t)FC * sizeof(float));
            memcpy(s.bi, t.bi + j * c.F, (size_t)c.F * sizeof(float));
            memcpy(s.bo, t.bo + j * c.C, (size_t)c.C * sizeof(float));
            run_single(&one, &s);
            backward_weight(&one, &single, &s, 0);
            swt_expect_bytes(&bed, "y", t.y + at * c.C, s.y, n * c.C, SWT_F32);
            swt_expect_bytes(&bed, "hidden", t.hidden + at * c.F, s.hidden, n * c.F, SWT_F32);
            swt_expect_bytes(&bed, "dx", t.dx + at * c.C, s.dx, n * c.C, SWT_F32);
            swt_expect_bytes(&bed, "dot", t.dot + at, s.dot, n, SWT_F32);
            swt_expect_bytes(&bed, "dwi", t.dwi + j * FC, s.dwi, FC, SWT_F32);
            swt_expect_bytes(&bed, "dwo", t.dwo + j * FC, s.dwo, FC, SWT_F32);
            swt_expect_bytes(&bed, "dbi", t.dbi + j * c.F, s.dbi, c.F, SWT_F32);
            swt_expect_bytes(&bed, "dbo", t.dbo + j * c.C, s.dbo, c.C, SWT_F32);
        }
    }
    swt_bed_close(&bed);
    swt_bed_close(&one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_sums_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
