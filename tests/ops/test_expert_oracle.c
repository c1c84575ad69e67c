/* The oracle of an expert's feed-forward against finite differences. */
#include "judge/oracle.h"
#include "support/judge.h"

typedef struct oracle_expert {
    int64_t n, C, F;
    double *x, *wi, *bi, *wo, *bo, *hidden, *y, *dy;
} oracle_expert;

static double expert_loss(const void *context) {
    const oracle_expert *o = context;
    swt_oracle_linear_forward(o->hidden, o->x, o->wi, o->bi, NULL, o->n, o->C, o->F, true);
    swt_oracle_linear_forward(o->y, o->hidden, o->wo, o->bo, NULL, o->n, o->F, o->C, false);
    return swt_inner(o->dy, o->y, o->n * o->C);
}

/* The chain that the checks of test_experts.c are made of is the gradient of the feed-forward. */
static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "expert oracle");
    const int64_t n = 4, C = 3, F = 5;
    const oracle_expert o = {.n = n,
                             .C = C,
                             .F = F,
                             .x = swt_bed_widen(&bed, swt_bed_uniform(&bed, n * C, -1, 1), n * C),
                             .wi = swt_bed_widen(&bed, swt_bed_uniform(&bed, F * C, -1, 1), F * C),
                             .bi = swt_bed_widen(&bed, swt_bed_uniform(&bed, F, -1, 1), F),
                             .wo = swt_bed_widen(&bed, swt_bed_uniform(&bed, F * C, -1, 1), F * C),
                             .bo = swt_bed_widen(&bed, swt_bed_uniform(&bed, C, -1, 1), C),
                             .dy = swt_bed_widen(&bed, swt_bed_uniform(&bed, n * C, -1, 1), n * C),
                             .hidden = swt_bed_doubles(&bed, n * F),
                             .y = swt_bed_doubles(&bed, n * C)};
    double *dhidden = swt_bed_doubles(&bed, n * F), *dx = swt_bed_doubles(&bed, n * C),
           *dwi = swt_bed_doubles(&bed, F * C), *dwo = swt_bed_doubles(&bed, F * C),
           *dbi = swt_bed_doubles(&bed, F), *dbo = swt_bed_doubles(&bed, C);
    (void)expert_loss(&o);
    swt_oracle_linear_backward_input(dhidden, o.dy, o.wo, o.hidden, n, F, C);
    swt_oracle_linear_backward_input(dx, dhidden, o.wi, NULL, n, C, F);
    swt_oracle_linear_backward_weight(dwi, dbi, dhidden, o.x, n, C, F);
    swt_oracle_linear_backward_weight(dwo, dbo, o.dy, o.hidden, n, F, C);
    swt_expect_gradient(&bed, "dx", expert_loss, &o, o.x, n * C, dx);
    swt_expect_gradient(&bed, "dwi", expert_loss, &o, o.wi, F * C, dwi);
    swt_expect_gradient(&bed, "dbi", expert_loss, &o, o.bi, F, dbi);
    swt_expect_gradient(&bed, "dwo", expert_loss, &o, o.wo, F * C, dwo);
    swt_expect_gradient(&bed, "dbo", expert_loss, &o, o.bo, C, dbo);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle_gradient)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
