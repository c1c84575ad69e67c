/* The router: logits that are NaN, huge or equal, extremes of the losses, the same bits in every
 * run, and what a small change of the weights moves. The operations against the oracle:
 * src/judge/cases_router.c. Capacity and dropping: test_router_assign.c. */
#include "judge/oracle.h"
#include "ops/route.h"

#include <math.h>
#include <string.h>

/* The oracle's forward of the same inputs. */
typedef struct truth {
    double *h, *w, *z, *probs, *lse;
} truth;

static truth oracle_forward(swt_trial *t, const swt_route *r) {
    const swt_moe_dims *d = &r->dims;
    const truth o = {.h = swt_trial_widen(t, r->h, d->N * d->C),
                     .w = swt_trial_widen(t, r->w, d->E * d->C),
                     .z = swt_trial_doubles(t, d->N * d->E),
                     .probs = swt_trial_doubles(t, d->N * d->E),
                     .lse = swt_trial_doubles(t, d->N)};
    double *factor = swt_trial_doubles(t, d->N * d->C);
    swt_oracle_jitter(factor, d, t->state->seed, t->state->step);
    swt_oracle_router_forward(o.z, o.probs, o.lse, o.h, factor, o.w,
                              swt_trial_widen(t, r->bias, d->E), d);
    return o;
}

/* Rows of w that are NaN or infinite make such logits; NaN never wins, unless nothing else is
 * there. */
static void test_nan_logits(void **state) {
    const float nan = NAN, inf = INFINITY;
    const float logits[][5] = {{nan, 1, 2, nan, 2},      {nan, nan, nan, nan, nan},
                               {0, nan, -inf, 0, -1},    {-inf, nan, -inf, -inf, -inf},
                               {-inf, -inf, -3, nan, 5}, {1, inf, nan, inf, 0}};
    const int32_t experts[] = {2, 0, 0, 0, 4, 1};
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof logits / sizeof logits[0]; i++) {
        const swt_route_case c = {
            .N = 9, .C = 1, .E = 5, .G = 1, .all_routed = true, .whole = true};
        swt_route r = swt_route_inputs(t, &c);
        for (int64_t n = 0; n < c.N; n++)
            r.h[n] = 1;
        memcpy(r.w, logits[i], sizeof logits[i]);
        swt_route_forward(t, &r);
        for (int64_t n = 0; n < c.N; n++)
            assert_int_equal(r.expert[n], experts[i]);
        swt_route_assign(t, &r);
        assert_int_equal(r.kept_counts[experts[i]], c.N);
    }
}

/* A uniform router has aux 1; a collapsed one has aux E. Without routed tokens both losses are 0,
 * and such a group still counts in the mean. */
static void test_losses_of_extremes(void **state) {
    swt_trial *t = swt_test_trial(state);
    swt_route_case c = {.N = 64, .C = 4, .E = 4, .G = 1, .all_routed = true, .whole = true};
    for (int what = 0; what < 4; what++) {
        c.G = what == 3 ? 2 : 1;
        swt_route r = swt_route_inputs(t, &c);
        /* what 0: token n prefers expert n mod 4 as much as others prefer theirs; else all expert 2
         */
        for (int64_t i = 0; i < c.N * c.C; i++)
            r.h[i] = (what == 0 ? i / c.C % 4 : 2) == i % c.C ? 30.0F : 0.0F;
        for (int64_t i = 0; i < c.E * c.C; i++)
            r.w[i] = i / c.C == i % c.C ? 1.0F : 0.0F;
        for (int64_t n = 0; n < c.N; n++)
            r.routed[n] = what == 2 || (what == 3 && n >= 32) ? 0 : 1;
        swt_route_forward(t, &r);
        swt_route_assign(t, &r);
        swt_route_losses(t, &r);
        /* exp(-30) = 1e-13 is what the probabilities lack of 1; lse = 30 + that, rounded to float.
         */
        const double aux[] = {1, 4, 0, 2}, z[] = {900, 900, 0, 450};
        swt_trial_number(t, "aux", r.stats[SWT_ROUTER_AUX], aux[what], 1e-6);
        swt_trial_number(t, "z", r.stats[SWT_ROUTER_Z], z[what], 1e-3);
        swt_route_backward(t, &r);
        for (int64_t i = 0; i < c.N * c.C; i++) {
            assert_true(isfinite(r.dh[i]));
            if (r.routed[i / c.C] == 0)
                assert_true(r.dh[i] == r.old_dh[i]);
        }
    }
}

/* Ties everywhere, and the plan must be the same each time: many runs, the same bits. */
static void trap_6_routing_rerun(void **state) {
    swt_trial *first = swt_test_trial(state), *again = swt_test_open(2, true);
    const swt_route_case c = {.N = 128, .C = 6, .E = 5, .G = 2, .bias = true, .whole = true};
    for (int run = 0; run < 2 + swt_test_share(100); run++) {
        swt_trial *t = run == 0 ? first : again;
        swt_trial_start(t, 0);
        swt_route r = swt_route_inputs(t, &c);
        r.dims.drop = SWT_DROP_PRIORITY;
        r.dims.group_capacity = 9;
        r.dims.K = 18;
        swt_route_forward(t, &r);
        swt_route_assign(t, &r);
        swt_route_losses(t, &r);
        swt_route_backward(t, &r);
        swt_test_expect_same(first, t);
    }
    swt_test_close(again);
}

/* Logits of +-1e4 and all equal: finite probabilities and gradients, z against double precision. */
static void trap_9_router_precision(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (int equal = 0; equal < 2; equal++) {
        const swt_route_case c = {
            .N = 40, .C = 2, .E = 5, .G = 1, .all_routed = true, .whole = true};
        swt_route r = swt_route_inputs(t, &c);
        r.dims.aux_scale = r.dims.z_scale = 1;
        for (int64_t i = 0; i < c.E * c.C; i++)
            r.w[i] *= equal ? 0 : 5e3F;
        swt_route_forward(t, &r);
        swt_route_assign(t, &r);
        swt_route_losses(t, &r);
        swt_route_backward(t, &r);
        const truth o = oracle_forward(t, &r);
        double want[SWT_ROUTER_LOAD + 5];
        swt_oracle_router_losses(want, o.probs, o.lse, r.expert, r.kept_counts, r.group_counts,
                                 &r.dims);
        /* lse is rounded to float once, after an exp and a log of numbers near 1. */
        swt_trial_close(t, "probs", r.probs, o.probs, c.N * c.E, 8 * SWT_ROUNDING, 0);
        for (int i = SWT_ROUTER_AUX; i <= SWT_ROUTER_Z; i++)
            swt_trial_number(t, "loss", r.stats[i], want[i], 8 * SWT_ROUNDING * want[i]);
        for (int64_t n = 0; n < c.N; n++)
            assert_int_equal(r.expert[n], swt_oracle_argmax(o.z + n * c.E, c.E));
        for (int64_t i = 0; i < c.N * c.C; i++)
            assert_true(isfinite(r.dh[i]));
        for (int64_t i = 0; i < c.E * c.C; i++)
            assert_true(isfinite(r.dw[i]));
    }
}

/* Weights off by one unit of bf16 (2^-8) move a logit by at most 2^-8 sum |h w|: only tokens whose
 * two best logits lie within twice that may change their expert. */
static void trap_9_changed_routes(void **state) {
    swt_trial *t = swt_test_trial(state);
    const swt_route_case c = {.N = 500, .C = 32, .E = 8, .G = 1, .all_routed = true};
    swt_route r = swt_route_inputs(t, &c);
    swt_route_forward(t, &r);
    const truth o = oracle_forward(t, &r);
    const int32_t *before = r.expert;
    for (int64_t i = 0; i < c.E * c.C; i++)
        r.w[i] *= swt_trial_draw(t) < 0.5 ? 1 - 0x1p-8F : 1 + 0x1p-8F;
    swt_route_forward(t, &r);
    int64_t changed = 0;
    for (int64_t n = 0; n < c.N; n++) {
        if (r.expert[n] == before[n])
            continue;
        double moved = 0;
        for (int64_t i = 0; i < c.C; i++)
            moved += 0x1p-8 * fabs(o.h[n * c.C + i]) *
                     (fabs(o.w[before[n] * c.C + i]) + fabs(o.w[r.expert[n] * c.C + i]));
        const double gap = o.z[n * c.E + before[n]] - o.z[n * c.E + r.expert[n]];
        assert_true(gap <= moved + 1e-5); /* 1e-5: rounding of the logits */
        changed++;
    }
    assert_in_range(changed, 1, c.N / 20); /* some did, and few */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nan_logits),       cmocka_unit_test(test_losses_of_extremes),
        cmocka_unit_test(trap_6_routing_rerun),  cmocka_unit_test(trap_9_router_precision),
        cmocka_unit_test(trap_9_changed_routes),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
