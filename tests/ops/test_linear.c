/* Linear layers against the oracle, over shapes, epilogues and aliases. */
#include "kernels/swt_positional.h"
#include "selftest/oracle.h"
#include "support/judge.h"

#include <math.h>

typedef struct linear_case {
    int64_t N, in, out;
    bool bias, residual, in_place, relu;
} linear_case;

typedef struct linear_tensors {
    float *x, *w, *bias, *residual, *y, *dy, *relu_output, *dx, *dw, *dbias, *old_dw, *old_dbias;
} linear_tensors;

static const int64_t shapes[][3] = {
    {1, 1, 1},     {1, 128, 65},  {5, 1, 7},       {3, 32, 1},     {0, 8, 5},
    {7, 5, 40},    {64, 40, 64},  {65, 64, 130},   {130, 65, 64},  {63, 33, 31},
    {257, 128, 4}, {96, 16, 384}, {33, 256, 5},    {515, 96, 200}, {2, 1000, 3},
    {1000, 12, 9}, {3, 5, 1300},  {260, 1100, 70}, /* longer than a block of steps, forward and
                                                      backward */
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* Enough rows, inputs and outputs for several parts whichever of them is divided. */
static const linear_case large = {
    .N = 1100, .in = 140, .out = 300, .bias = true, .residual = true, .relu = true};

/* The factor that every tolerance here has over sqrt(n) * SWT_UNIT: a sum in plain order is wrong
 * by about sqrt(n / 3) units of its typical size; 4 leaves room for the bias, the residual and
 * small n. */
static const double factor = 4;

/* Products of two uniform numbers from [-1, 1) have a standard deviation of 1/3. */
static double sum_size(int64_t n) {
    return sqrt((double)n) / 3;
}

static double sum_tolerance(int64_t n) {
    return factor * sqrt(fmax(1, (double)n)) * SWT_UNIT;
}

static void begin(swt_bed *bed, const linear_case *c) {
    swt_bed_begin(bed, "linear N=%lld in=%lld out=%lld bias=%d residual=%d in_place=%d relu=%d",
                  (long long)c->N, (long long)c->in, (long long)c->out, c->bias, c->residual,
                  c->in_place, c->relu);
}

static linear_tensors forward(swt_bed *bed, const linear_case *c) {
    begin(bed, c);
    linear_tensors t = {0};
    t.x = swt_bed_uniform(bed, c->N * c->in, -1, 1);
    t.w = swt_bed_uniform(bed, c->out * c->in, -1, 1);
    t.bias = c->bias ? swt_bed_uniform(bed, c->out, -1, 1) : NULL;
    t.residual = c->residual ? swt_bed_uniform(bed, c->N * c->out, -1, 1) : NULL;
    t.y = c->residual && c->in_place ? swt_bed_copy(bed, t.residual, c->N * c->out, SWT_F32)
                                     : swt_bed_out(bed, c->N * c->out, SWT_F32);
    SWT_BED_RUN(bed, pos_linear_forward(&bed->ctx, t.y, t.x, t.w, t.bias,
                                        c->in_place ? t.y : t.residual, c->N, c->in, c->out,
                                        c->relu ? SWT_EPILOGUE_RELU : SWT_EPILOGUE_NONE));
    return t;
}

static void forward_check(swt_bed *bed, const linear_case *c) {
    const linear_tensors t = forward(bed, c);
    double *want = swt_bed_doubles(bed, c->N * c->out);
    swt_oracle_linear_forward(want, swt_bed_widen(bed, t.x, c->N * c->in),
                              swt_bed_widen(bed, t.w, c->out * c->in),
                              c->bias ? swt_bed_widen(bed, t.bias, c->out) : NULL,
                              c->residual ? swt_bed_widen(bed, t.residual, c->N * c->out) : NULL,
                              c->N, c->in, c->out, c->relu);
    swt_expect_close(bed, "y", t.y, want, c->N * c->out, sum_tolerance(c->in), 1 + sum_size(c->in));
}

static void test_forward(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int options = 0; options < 16; options++) {
            const linear_case c = {.N = shapes[s][0],
                                   .in = shapes[s][1],
                                   .out = shapes[s][2],
                                   .bias = options & 1,
                                   .relu = options & 2,
                                   .residual = options & 4,
                                   .in_place = (options & 12) == 12};
            if ((options & 12) != 8)
                forward_check(&bed, &c);
        }
    swt_bed_close(&bed);
}

static linear_tensors backward_input(swt_bed *bed, const linear_case *c) {
    begin(bed, c);
    linear_tensors t = {0};
    t.dy = swt_bed_uniform(bed, c->N * c->out, -1, 1);
    t.w = swt_bed_uniform(bed, c->out * c->in, -1, 1);
    /* 0 and the numbers on both sides of it; -0 counts as <= 0 as well. */
    t.relu_output = c->relu ? swt_bed_whole(bed, c->N * c->in, -1, 2) : NULL;
    for (int64_t i = 0; c->relu && i < c->N * c->in; i += 5)
        t.relu_output[i] = -0.0F;
    t.dx = swt_bed_out(bed, c->N * c->in, SWT_F32);
    SWT_BED_RUN(bed, pos_linear_backward_input(&bed->ctx, t.dx, t.dy, t.w, t.relu_output, c->N,
                                               c->in, c->out));
    return t;
}

static void test_backward_input(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int relu = 0; relu < 2; relu++) {
            const linear_case c = {
                .N = shapes[s][0], .in = shapes[s][1], .out = shapes[s][2], .relu = relu};
            const linear_tensors t = backward_input(&bed, &c);
            double *want = swt_bed_doubles(&bed, c.N * c.in);
            swt_oracle_linear_backward_input(
                want, swt_bed_widen(&bed, t.dy, c.N * c.out),
                swt_bed_widen(&bed, t.w, c.out * c.in),
                relu ? swt_bed_widen(&bed, t.relu_output, c.N * c.in) : NULL, c.N, c.in, c.out);
            swt_expect_close(&bed, "dx", t.dx, want, c.N * c.in, sum_tolerance(c.out),
                             sum_size(c.out));
            for (int64_t i = 0; relu && i < c.N * c.in; i++)
                if (t.relu_output[i] <= 0)
                    assert_true(t.dx[i] == 0);
        }
    swt_bed_close(&bed);
}

static linear_tensors backward_weight(swt_bed *bed, const linear_case *c, int add) {
    begin(bed, c);
    linear_tensors t = {0};
    t.dy = swt_bed_uniform(bed, c->N * c->out, -1, 1);
    t.x = swt_bed_uniform(bed, c->N * c->in, -1, 1);
    t.old_dw = swt_bed_uniform(bed, c->out * c->in, -1, 1);
    t.old_dbias = swt_bed_uniform(bed, c->out, -1, 1);
    t.dw = add ? swt_bed_copy(bed, t.old_dw, c->out * c->in, SWT_F32)
               : swt_bed_out(bed, c->out * c->in, SWT_F32);
    if (c->bias)
        t.dbias = add ? swt_bed_copy(bed, t.old_dbias, c->out, SWT_F32)
                      : swt_bed_out(bed, c->out, SWT_F32);
    SWT_BED_RUN(bed, pos_linear_backward_weight(&bed->ctx, t.dw, t.dbias, t.dy, t.x, c->N, c->in,
                                                c->out, add));
    return t;
}

static void backward_weight_check(swt_bed *bed, const linear_case *c, int add) {
    const linear_tensors t = backward_weight(bed, c, add);
    const int64_t weights = c->out * c->in;
    double *dw = add ? swt_bed_widen(bed, t.old_dw, weights) : swt_bed_doubles(bed, weights);
    double *dbias = add ? swt_bed_widen(bed, t.old_dbias, c->out) : swt_bed_doubles(bed, c->out);
    swt_oracle_linear_backward_weight(dw, dbias, swt_bed_widen(bed, t.dy, c->N * c->out),
                                      swt_bed_widen(bed, t.x, c->N * c->in), c->N, c->in, c->out);
    swt_expect_close(bed, "dw", t.dw, dw, weights, sum_tolerance(c->N), sum_size(c->N));
    if (c->bias)
        swt_expect_close(bed, "dbias", t.dbias, dbias, c->out, sum_tolerance(c->N), sum_size(c->N));
}

static void test_backward_weight(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int options = 0; options < 4; options++) {
            const linear_case c = {
                .N = shapes[s][0], .in = shapes[s][1], .out = shapes[s][2], .bias = options & 1};
            backward_weight_check(&bed, &c, options >> 1);
        }
    swt_bed_close(&bed);
}

static void run_forward(swt_bed *bed, const void *c) {
    forward(bed, c);
}

static void run_backward_input(swt_bed *bed, const void *c) {
    backward_input(bed, c);
}

static void run_backward_weight(swt_bed *bed, const void *c) {
    backward_weight(bed, c, 1);
}

static void test_threads(void **state) {
    (void)state;
    swt_bed_same_bits(run_forward, &large);
    swt_bed_same_bits(run_backward_input, &large);
    swt_bed_same_bits(run_backward_weight, &large);
}

/* The whole layer as one function of its parameters, for finite differences of the oracle. */
typedef struct oracle_layer {
    linear_case c;
    double *x, *w, *bias, *y, *dy;
} oracle_layer;

static double layer_loss(const void *context) {
    const oracle_layer *l = context;
    swt_oracle_linear_forward(l->y, l->x, l->w, l->bias, NULL, l->c.N, l->c.in, l->c.out, false);
    return swt_inner(l->dy, l->y, l->c.N * l->c.out);
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const linear_case c = {.N = 4, .in = 5, .out = 3};
    begin(&bed, &c);
    oracle_layer l = {.c = c, .y = swt_bed_doubles(&bed, c.N * c.out)};
    l.x = swt_bed_widen(&bed, swt_bed_uniform(&bed, c.N * c.in, -1, 1), c.N * c.in);
    l.w = swt_bed_widen(&bed, swt_bed_uniform(&bed, c.out * c.in, -1, 1), c.out * c.in);
    l.bias = swt_bed_widen(&bed, swt_bed_uniform(&bed, c.out, -1, 1), c.out);
    l.dy = swt_bed_widen(&bed, swt_bed_uniform(&bed, c.N * c.out, -1, 1), c.N * c.out);
    double *dx = swt_bed_doubles(&bed, c.N * c.in), *dw = swt_bed_doubles(&bed, c.out * c.in),
           *dbias = swt_bed_doubles(&bed, c.out);
    swt_oracle_linear_backward_input(dx, l.dy, l.w, NULL, c.N, c.in, c.out);
    swt_oracle_linear_backward_weight(dw, dbias, l.dy, l.x, c.N, c.in, c.out);
    swt_expect_gradient(&bed, "dx", layer_loss, &l, l.x, c.N * c.in, dx);
    swt_expect_gradient(&bed, "dw", layer_loss, &l, l.w, c.out * c.in, dw);
    swt_expect_gradient(&bed, "dbias", layer_loss, &l, l.bias, c.out, dbias);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient), cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward_input),  cmocka_unit_test(test_backward_weight),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
