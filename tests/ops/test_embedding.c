/* Embedding rows and their gradient. */
#include "kernels/swt_positional.h"
#include "selftest/oracle.h"
#include "support/judge.h"

#include <math.h>

typedef struct embedding_case {
    int64_t N, C, V;
    int add;
} embedding_case;

typedef struct embedding_tensors {
    float *table, *x, *dx, *old, *dtable;
    int32_t *tokens;
} embedding_tensors;

static const int64_t shapes[][3] = {{1, 1, 1},    {5, 7, 3},     {130, 64, 65},
                                    {65, 1, 65},  {0, 4, 4},     {300, 40, 2},
                                    {17, 128, 1}, {3, 33, 1000}, {512, 32, 65}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const embedding_case large = {.N = 3000, .C = 96, .V = 65, .add = 1};

static void begin(swt_bed *bed, const embedding_case *c) {
    swt_bed_begin(bed, "embedding N=%lld C=%lld V=%lld add=%d", (long long)c->N, (long long)c->C,
                  (long long)c->V, c->add);
}

static embedding_tensors forward(swt_bed *bed, const embedding_case *c) {
    begin(bed, c);
    embedding_tensors t = {.table = swt_bed_uniform(bed, c->V * c->C, -1, 1),
                           .tokens = swt_bed_integers(bed, c->N, 0, (int)c->V - 1),
                           .x = swt_bed_out(bed, c->N * c->C, SWT_F32)};
    SWT_BED_RUN(bed, pos_embedding_forward(&bed->ctx, t.x, t.table, t.tokens, c->N, c->C, c->V));
    return t;
}

static embedding_tensors backward(swt_bed *bed, const embedding_case *c) {
    begin(bed, c);
    embedding_tensors t = {.dx = swt_bed_uniform(bed, c->N * c->C, -1, 1),
                           .tokens = swt_bed_integers(bed, c->N, 0, (int)c->V - 1),
                           .old = swt_bed_uniform(bed, c->V * c->C, -1, 1)};
    t.dtable = c->add ? swt_bed_copy(bed, t.old, c->V * c->C, SWT_F32)
                      : swt_bed_out(bed, c->V * c->C, SWT_F32);
    SWT_BED_RUN(
        bed, pos_embedding_backward(&bed->ctx, t.dtable, t.dx, t.tokens, c->N, c->C, c->V, c->add));
    return t;
}

static void test_forward(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++) {
        const embedding_case c = {.N = shapes[s][0], .C = shapes[s][1], .V = shapes[s][2]};
        const embedding_tensors t = forward(&bed, &c);
        for (int64_t n = 0; n < c.N; n++)
            swt_expect_bytes(&bed, "x", t.x + n * c.C, t.table + t.tokens[n] * c.C, c.C, SWT_F32);
    }
    swt_bed_close(&bed);
}

static void test_backward(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < 2 * SHAPES; s++) {
        const embedding_case c = {
            .N = shapes[s / 2][0], .C = shapes[s / 2][1], .V = shapes[s / 2][2], .add = s % 2};
        const embedding_tensors t = backward(&bed, &c);
        double *want =
            c.add ? swt_bed_widen(&bed, t.old, c.V * c.C) : swt_bed_doubles(&bed, c.V * c.C);
        swt_oracle_embedding_backward(want, swt_bed_widen(&bed, t.dx, c.N * c.C), t.tokens, c.N,
                                      c.C);
        /* A row is a sum of at most N numbers, about N / V of them. */
        const double terms = 1 + (double)c.N / (double)c.V;
        swt_expect_close(&bed, "dtable", t.dtable, want, c.V * c.C, 4 * sqrt(terms) * SWT_UNIT,
                         sqrt(terms / 3));
    }
    swt_bed_close(&bed);
}

/* The gradient of sum dx * x[n] is dx summed by token: check the oracle by the definition of
 * forward, which is linear: <dx, forward(table)> = <backward(dx), table>. */
static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const embedding_case c = {.N = 50, .C = 7, .V = 9};
    const embedding_tensors t = forward(&bed, &c);
    const double *table = swt_bed_widen(&bed, t.table, c.V * c.C);
    const double *x = swt_bed_widen(&bed, t.x, c.N * c.C);
    const double *dx = swt_bed_widen(&bed, swt_bed_uniform(&bed, c.N * c.C, -1, 1), c.N * c.C);
    double *dtable = swt_bed_doubles(&bed, c.V * c.C);
    swt_oracle_embedding_backward(dtable, dx, t.tokens, c.N, c.C);
    /* Both sides are sums of 350 products below 1 in double. */
    swt_expect_number(&bed, "<dx, x>", swt_inner(dx, x, c.N * c.C),
                      swt_inner(dtable, table, c.V * c.C), 350 * 0x1p-52);
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

/* In order of n: with 2^24 first, ones that follow are lost one by one (ties to even), whereas in
 * any other order some of them would arrive. */
static void test_order(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_bed_begin(&bed, "embedding order");
    const int64_t N = 200, C = 20, V = 3;
    float *dx = swt_bed_uniform(&bed, N * C, 1, 1);
    int32_t *tokens = swt_bed_integers(&bed, N, 1, 1);
    for (int64_t i = 0; i < C; i++)
        dx[i] = 0x1p24F;
    float *dtable = swt_bed_out(&bed, V * C, SWT_F32);
    SWT_BED_RUN(&bed, pos_embedding_backward(&bed.ctx, dtable, dx, tokens, N, C, V, 0));
    for (int64_t i = 0; i < C; i++) {
        assert_true(dtable[i] == 0);
        assert_true(dtable[C + i] == 0x1p24F);
        assert_true(dtable[2 * C + i] == 0);
    }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient), cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
