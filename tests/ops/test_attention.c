/* Causal attention against the oracle, and the oracle against finite differences. */
#include "support/judge.h"
#include "support/packed.h"

#include <math.h>
#include <string.h>

typedef struct attention_case {
    packed_dims d;
    double size; /* q, k and v are uniform in [-size, size) */
} attention_case;

typedef struct attention_tensors {
    float *qkv, *y, *lse, *dy, *dqkv;
} attention_tensors;

/* B, T, H, D */
static const int64_t shapes[][4] = {
    {1, 1, 1, 1},   {2, 1, 3, 5},    {1, 5, 2, 32},  {2, 64, 2, 32},
    {1, 65, 1, 40}, {1, 130, 2, 64}, {3, 17, 4, 5},  {1, 63, 1, 64},
    {2, 33, 2, 16}, {1, 128, 1, 8},  {0, 5, 2, 4},   {1, 200, 1, 1},
    {1, 31, 2, 33}, {1, 20, 2, 128}, {1, 9, 1, 256}, {1, 70, 1, 136}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const attention_case large = {.d = {.B = 5, .T = 130, .H = 3, .D = 40, .scale = 0.16F},
                                     .size = 1};

static attention_case make(const int64_t shape[4], double scale, double size) {
    return (attention_case){
        .d = {.B = shape[0], .T = shape[1], .H = shape[2], .D = shape[3], .scale = (float)scale},
        .size = size};
}

static int64_t tokens_of(const attention_case *c) {
    return c->d.B * c->d.T;
}

static int64_t width_of(const attention_case *c) {
    return c->d.H * c->d.D;
}

static void begin(swt_bed *bed, const attention_case *c) {
    swt_bed_begin(bed, "attention B=%lld T=%lld H=%lld D=%lld scale=%g size=%g", (long long)c->d.B,
                  (long long)c->d.T, (long long)c->d.H, (long long)c->d.D, (double)c->d.scale,
                  c->size);
}

static attention_tensors forward(swt_bed *bed, const attention_case *c) {
    begin(bed, c);
    const int64_t n = tokens_of(c) * width_of(c);
    attention_tensors t = {.qkv = swt_bed_uniform(bed, 3 * n, -c->size, c->size),
                           .y = swt_bed_out(bed, n, SWT_F32),
                           .lse = swt_bed_out(bed, tokens_of(c) * c->d.H, SWT_F32)};
    SWT_BED_RUN(bed, packed_forward(&bed->ctx, t.y, t.lse, t.qkv, &c->d));
    return t;
}

static attention_tensors backward(swt_bed *bed, const attention_case *c) {
    attention_tensors t = forward(bed, c);
    swt_bed_keep(bed);
    const int64_t n = tokens_of(c) * width_of(c);
    t.dy = swt_bed_uniform(bed, n, -1, 1);
    t.dqkv = swt_bed_out(bed, 3 * n, SWT_F32);
    SWT_BED_RUN(bed, packed_backward(&bed->ctx, t.dqkv, t.dy, t.y, t.lse, t.qkv, &c->d));
    return t;
}

/* A score is a dot product of D terms up to size^2, wrong by some sqrt(D) units of its typical
 * size; p = exp(s - lse) turns that absolute error into a relative one, and adds one or two units
 * of its own and those of s and lse themselves (|s| units); sums over T keep it. */
static double tolerance_of(const attention_case *c) {
    const double terms = sqrt((double)c->d.D);
    const double s = (double)c->d.scale * c->size * c->size * terms;
    return (4 + 2 * sqrt((double)c->d.T) + 2 * s * (1 + terms)) * SWT_UNIT;
}

static void forward_check(swt_bed *bed, const attention_case *c) {
    const attention_tensors t = forward(bed, c);
    const int64_t n = tokens_of(c) * width_of(c);
    double *y = swt_bed_doubles(bed, n), *lse = swt_bed_doubles(bed, tokens_of(c) * c->d.H);
    packed_oracle_forward(y, lse, swt_bed_widen(bed, t.qkv, 3 * n), &c->d);
    swt_expect_close(bed, "y", t.y, y, n, tolerance_of(c), 0);
    swt_expect_close(bed, "lse", t.lse, lse, tokens_of(c) * c->d.H, tolerance_of(c), 1);
}

static void backward_check(swt_bed *bed, const attention_case *c) {
    const attention_tensors t = backward(bed, c);
    const int64_t n = tokens_of(c) * width_of(c);
    double *dqkv = swt_bed_doubles(bed, 3 * n);
    packed_oracle_backward(dqkv, swt_bed_widen(bed, t.dy, n), swt_bed_widen(bed, t.y, n),
                           swt_bed_widen(bed, t.lse, tokens_of(c) * c->d.H),
                           swt_bed_widen(bed, t.qkv, 3 * n), &c->d);
    /* dp and dy . y are sums of D products each and cancel in part: their size is that of one. */
    const double terms = sqrt((double)c->d.D) / 3;
    swt_expect_close(bed, "dqkv", t.dqkv, dqkv, 3 * n,
                     tolerance_of(c) * (1 + terms / sqrt((double)c->d.T)),
                     (double)c->d.scale * c->size * c->size * terms);
}

static void over_shapes(void (*check)(swt_bed *bed, const attention_case *c)) {
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++) {
        const attention_case usual = make(shapes[s], 1 / sqrt((double)shapes[s][3]), 1);
        const attention_case unscaled = make(shapes[s], 1, 0.5);
        check(&bed, &usual);
        check(&bed, &unscaled);
    }
    swt_bed_close(&bed);
}

static void test_forward(void **state) {
    (void)state;
    over_shapes(forward_check);
}

static void test_backward(void **state) {
    (void)state;
    over_shapes(backward_check);
}

/* Scores of several hundred: exp(s) alone would overflow. */
static void test_large_scores(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    const attention_case c = {.d = {.B = 1, .T = 70, .H = 2, .D = 8, .scale = 1}, .size = 15};
    forward_check(&bed, &c);
    backward_check(&bed, &c);
    swt_bed_close(&bed);
}

/* All keys alike: the output is the running mean of v, and lse = score + log(i + 1). */
static void test_equal_scores(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "attention with equal scores");
    const packed_dims d = {.B = 1, .T = 100, .H = 1, .D = 4, .scale = 0.5F};
    float *qkv = swt_bed_uniform(&bed, d.T * 12, 0.5, 0.5);
    for (int64_t t = 0; t < d.T; t++)
        for (int64_t i = 0; i < 4; i++)
            qkv[t * 12 + 8 + i] = (float)t;
    float *y = swt_bed_out(&bed, d.T * 4, SWT_F32), *lse = swt_bed_out(&bed, d.T, SWT_F32);
    SWT_BED_RUN(&bed, packed_forward(&bed.ctx, y, lse, qkv, &d));
    for (int64_t t = 0; t < d.T; t++) {
        /* Score 0.5 * 4 * 0.25 = 0.5 exactly. Sums of t + 1 terms, plus a few units for exp and
         * log. */
        const double limit = (8 + 4 * sqrt((double)t + 1)) * SWT_UNIT;
        swt_expect_number(&bed, "lse", (double)lse[t], 0.5 + log((double)t + 1), 8 * limit);
        for (int64_t i = 0; i < 4; i++)
            swt_expect_number(&bed, "y", (double)y[t * 4 + i], (double)t / 2,
                              limit * (double)(t + 1));
    }
    swt_bed_close(&bed);
}

/* What comes later does not touch what came before, to the bit, forward; and a position whose later
 * outputs carry no gradient gets none from them, backward. */
static void test_causal(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    const attention_case c = {.d = {.B = 1, .T = 130, .H = 2, .D = 32, .scale = 0.2F}, .size = 1};
    const int64_t width = width_of(&c), lengths[] = {1, 5, 63, 64, 65, 129};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const attention_tensors t = forward(&bed, &c);
        const int64_t length = lengths[i];
        float *y = swt_bed_out(&bed, c.d.T * width, SWT_F32),
              *lse = swt_bed_out(&bed, c.d.T * c.d.H, SWT_F32);
        for (int64_t j = length * 3 * width; j < c.d.T * 3 * width; j++)
            t.qkv[j] = (float)swt_bed_draw(&bed) * 1e6F;
        SWT_BED_RUN(&bed, packed_forward(&bed.ctx, y, lse, t.qkv, &c.d));
        swt_expect_bytes(&bed, "y of earlier positions", y, t.y, length * width, SWT_F32);
        for (int64_t h = 0; h < c.d.H; h++)
            swt_expect_bytes(&bed, "lse of earlier positions", lse + h * c.d.T, t.lse + h * c.d.T,
                             length, SWT_F32);
        const attention_tensors b = backward(&bed, &c);
        memset(b.dy + length * width, 0, (size_t)((c.d.T - length) * width) * sizeof(float));
        SWT_BED_RUN(&bed, packed_backward(&bed.ctx, b.dqkv, b.dy, b.y, b.lse, b.qkv, &c.d));
        for (int64_t j = length * 3 * width; j < c.d.T * 3 * width; j++)
            assert_true(b.dqkv[j] == 0);
    }
    swt_bed_close(&bed);
}

static void run_forward(swt_bed *bed, const void *c) {
    forward(bed, c);
}

static void run_backward(swt_bed *bed, const void *c) {
    backward(bed, c);
}

static void test_threads(void **state) {
    (void)state;
    swt_bed_same_bits(run_forward, &large);
    swt_bed_same_bits(run_backward, &large);
}

typedef struct oracle_attention {
    packed_dims d;
    double *qkv, *y, *lse, *dy;
} oracle_attention;

static double attention_loss(const void *context) {
    const oracle_attention *o = context;
    packed_oracle_forward(o->y, o->lse, o->qkv, &o->d);
    return swt_inner(o->dy, o->y, o->d.B * o->d.T * o->d.H * o->d.D);
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "attention oracle");
    oracle_attention o = {.d = {.B = 2, .T = 5, .H = 2, .D = 3, .scale = 0.7F}};
    const int64_t n = o.d.B * o.d.T * o.d.H * o.d.D;
    o.qkv = swt_bed_widen(&bed, swt_bed_uniform(&bed, 3 * n, -1, 1), 3 * n);
    o.dy = swt_bed_widen(&bed, swt_bed_uniform(&bed, n, -1, 1), n);
    o.y = swt_bed_doubles(&bed, n);
    o.lse = swt_bed_doubles(&bed, n);
    double *dqkv = swt_bed_doubles(&bed, 3 * n);
    (void)attention_loss(&o);
    packed_oracle_backward(dqkv, o.dy, o.y, o.lse, o.qkv, &o.d);
    swt_expect_gradient(&bed, "dqkv", attention_loss, &o, o.qkv, 3 * n, dqkv);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient), cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_equal_scores),    cmocka_unit_test(test_causal),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
