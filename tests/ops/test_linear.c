/* The oracle of linear layers against finite differences. The operations against the oracle:
 * src/judge/cases_dense.c. */
#include "judge/oracle.h"
#include "support/judge.h"

/* The whole layer as one function of its parameters, for finite differences of the oracle. */
typedef struct oracle_layer {
    int64_t N, in, out;
    double *x, *w, *bias, *y, *dy;
} oracle_layer;

static double layer_loss(const void *context) {
    const oracle_layer *l = context;
    swt_oracle_linear_forward(l->y, l->x, l->w, l->bias, NULL, l->N, l->in, l->out, false);
    return swt_inner(l->dy, l->y, l->N * l->out);
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "linear oracle");
    const int64_t N = 4, in = 5, out = 3;
    oracle_layer l = {.N = N, .in = in, .out = out, .y = swt_bed_doubles(&bed, N * out)};
    l.x = swt_bed_widen(&bed, swt_bed_uniform(&bed, N * in, -1, 1), N * in);
    l.w = swt_bed_widen(&bed, swt_bed_uniform(&bed, out * in, -1, 1), out * in);
    l.bias = swt_bed_widen(&bed, swt_bed_uniform(&bed, out, -1, 1), out);
    l.dy = swt_bed_widen(&bed, swt_bed_uniform(&bed, N * out, -1, 1), N * out);
    double *dx = swt_bed_doubles(&bed, N * in), *dw = swt_bed_doubles(&bed, out * in),
           *dbias = swt_bed_doubles(&bed, out);
    swt_oracle_linear_backward_input(dx, l.dy, l.w, NULL, N, in, out);
    swt_oracle_linear_backward_weight(dw, dbias, l.dy, l.x, N, in, out);
    swt_expect_gradient(&bed, "dx", layer_loss, &l, l.x, N * in, dx);
    swt_expect_gradient(&bed, "dw", layer_loss, &l, l.w, out * in, dw);
    swt_expect_gradient(&bed, "dbias", layer_loss, &l, l.bias, out, dbias);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
