/* The router: logits that are NaN, huge or equal, extremes of the losses, the same bits in every
 * run, and the oracle against finite differences. The operations against the oracle:
 * src/judge/cases_router.c. Capacity and dropping: test_router_assign.c. */
#include "judge/oracle.h"
#include "ops/router_bed.h"
#include "support/judge.h"

#include <math.h>
#include <string.h>

/* The oracle's forward of the same inputs. */
typedef struct truth {
    swt_moe_dims dims;
    double *h, *factor, *w, *bias, *z, *probs, *lse;
} truth;

static truth oracle_forward(swt_bed *bed, const swt_router_tensors *t) {
    const swt_moe_dims *d = &t->dims;
    const truth o = {.dims = *d,
                     .h = swt_bed_widen(bed, t->h, d->N * d->C),
                     .factor = swt_bed_doubles(bed, d->N * d->C),
                     .w = swt_bed_widen(bed, t->w, d->E * d->C),
                     .bias = t->bias != NULL ? swt_bed_widen(bed, t->bias, d->E) : NULL,
                     .z = swt_bed_doubles(bed, d->N * d->E),
                     .probs = swt_bed_doubles(bed, d->N * d->E),
                     .lse = swt_bed_doubles(bed, d->N)};
    swt_oracle_jitter(o.factor, d, bed->ctx.state->seed, bed->ctx.state->step);
    swt_oracle_router_forward(o.z, o.probs, o.lse, o.h, o.factor, o.w, o.bias, d);
    return o;
}

/* Rows of w that are NaN or infinite make such logits; NaN never wins, unless nothing else is
 * there. */
static void test_nan_logits(void **state) {
    (void)state;
    const float nan = NAN, inf = INFINITY;
    const float logits[][5] = {{nan, 1, 2, nan, 2},      {nan, nan, nan, nan, nan},
                               {0, nan, -inf, 0, -1},    {-inf, nan, -inf, -inf, -inf},
                               {-inf, -inf, -3, nan, 5}, {1, inf, nan, inf, 0}};
    const int32_t experts[] = {2, 0, 0, 0, 4, 1};
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (size_t i = 0; i < sizeof logits / sizeof logits[0]; i++) {
        const swt_router_case c = {
            .N = 9, .C = 1, .E = 5, .G = 1, .all_routed = true, .whole = true};
        swt_router_tensors t = swt_router_bed_inputs(&bed, &c);
        for (int64_t n = 0; n < c.N; n++)
            t.h[n] = 1;
        memcpy(t.w, logits[i], sizeof logits[i]);
        swt_router_bed_forward(&bed, &t);
        for (int64_t n = 0; n < c.N; n++)
            assert_int_equal(t.expert[n], experts[i]);
        swt_router_bed_assign(&bed, &t);
        assert_int_equal(t.kept[experts[i]], c.N);
    }
    swt_bed_close(&bed);
}

/* A uniform router has aux 1; a collapsed one has aux E. Without routed tokens both losses are 0,
 * and such a group still counts in the mean. */
static void test_losses_of_extremes(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_router_case c = {.N = 64, .C = 4, .E = 4, .G = 1, .all_routed = true, .whole = true};
    for (int what = 0; what < 4; what++) {
        c.G = what == 3 ? 2 : 1;
        swt_router_tensors t = swt_router_bed_inputs(&bed, &c);
        /* what 0: token n prefers expert n mod 4 as much as others prefer theirs; else all expert 2
         */
        for (int64_t i = 0; i < c.N * c.C; i++)
            t.h[i] = (what == 0 ? i / c.C % 4 : 2) == i % c.C ? 30.0F : 0.0F;
        for (int64_t i = 0; i < c.E * c.C; i++)
            t.w[i] = i / c.C == i % c.C ? 1.0F : 0.0F;
        for (int64_t n = 0; n < c.N; n++)
            t.routed[n] = what == 2 || (what == 3 && n >= 32) ? 0 : 1;
        swt_router_bed_forward(&bed, &t);
        swt_router_bed_assign(&bed, &t);
        swt_router_bed_losses(&bed, &t);
        /* exp(-30) = 1e-13 is what the probabilities lack of 1; lse = 30 + that, rounded to float.
         */
        const double aux[] = {1, 4, 0, 2}, z[] = {900, 900, 0, 450};
        swt_expect_number(&bed, "aux", t.stats[0], aux[what], 1e-6);
        swt_expect_number(&bed, "z", t.stats[1], z[what], 1e-3);
        swt_router_bed_backward(&bed, &t);
        for (int64_t i = 0; i < c.N * c.C; i++) {
            assert_true(isfinite(t.dh[i]));
            if (t.routed[i / c.C] == 0)
                assert_true(t.dh[i] == t.old_dh[i]);
        }
    }
    swt_bed_close(&bed);
}

typedef struct router_loss_context {
    truth o;
    const double *dgate;
    const swt_router_tensors *t;
} router_loss_context;

/* The function whose gradient the backward pass is: the gates weighed by dgate, and both losses of
 * every group, which are not divided by G. Experts and counts are constants. */
static double router_loss(const void *context) {
    const router_loss_context *r = context;
    const truth *o = &r->o;
    const swt_moe_dims *d = &o->dims;
    double stats[3 + 16], loss = 0;
    swt_oracle_router_forward(o->z, o->probs, o->lse, o->h, o->factor, o->w, o->bias, d);
    swt_oracle_router_losses(stats, o->probs, o->lse, r->t->expert, r->t->kept, r->t->counts, d);
    for (int64_t n = 0; n < d->N; n++)
        if (r->t->expert[n] >= 0)
            loss += r->dgate[n] * o->probs[n * d->E + r->t->expert[n]];
    return loss + (double)d->G * (d->aux_scale * stats[0] + d->z_scale * stats[1]);
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const swt_router_case c = {.N = 12, .C = 4, .E = 3, .G = 2, .bias = true, .jitter = 0.3F};
    swt_router_tensors t = swt_router_bed_inputs(&bed, &c);
    t.dims.aux_scale = 3;
    t.dims.z_scale = 2;
    const swt_moe_dims *d = &t.dims;
    router_loss_context r = {.o = oracle_forward(&bed, &t), .t = &t};
    r.dgate = swt_bed_widen(&bed, swt_bed_uniform(&bed, c.N, -1, 1), c.N);
    t.expert = swt_bed_integers(&bed, c.N, -1, (int)c.E - 1);
    t.slot = swt_bed_in(&bed, c.N, SWT_I32);
    t.kept = swt_bed_in(&bed, c.E, SWT_I32);
    t.counts = swt_bed_in(&bed, c.G * c.E, SWT_I32);
    swt_oracle_router_assign(t.slot, t.kept, t.counts, t.expert, NULL, d, 0, 0);
    double *gate = swt_bed_doubles(&bed, c.N), *dz = swt_bed_doubles(&bed, c.N * c.E),
           *dh = swt_bed_doubles(&bed, c.N * c.C), *dw = swt_bed_doubles(&bed, c.E * c.C),
           *dbias = swt_bed_doubles(&bed, c.E);
    for (int64_t n = 0; n < c.N; n++)
        gate[n] = t.expert[n] >= 0 ? r.o.probs[n * c.E + t.expert[n]] : 0;
    swt_oracle_router_backward(dz, dh, dw, dbias, r.dgate, r.o.h, r.o.factor, r.o.w, r.o.probs,
                               r.o.lse, t.expert, gate, t.counts, d);
    swt_expect_gradient(&bed, "dh", router_loss, &r, r.o.h, c.N * c.C, dh);
    swt_expect_gradient(&bed, "dw", router_loss, &r, r.o.w, c.E * c.C, dw);
    swt_expect_gradient(&bed, "dbias", router_loss, &r, r.o.bias, c.E, dbias);
    swt_bed_close(&bed);
}

/* Ties everywhere, and the plan must be the same each time: 100 runs, the same bits. */
static void trap_6_routing_rerun(void **state) {
    (void)state;
    swt_bed first, again;
    swt_bed_open(&first, 2);
    swt_bed_open(&again, 2);
    const swt_router_case c = {.N = 128, .C = 6, .E = 5, .G = 2, .bias = true, .whole = true};
    for (int run = 0; run < 100; run++) {
        swt_bed *bed = run == 0 ? &first : &again;
        swt_router_tensors t = swt_router_bed_inputs(bed, &c);
        t.dims.drop = SWT_DROP_PRIORITY;
        t.dims.group_capacity = 9;
        t.dims.K = 18;
        swt_router_bed_forward(bed, &t);
        swt_router_bed_assign(bed, &t);
        swt_router_bed_losses(bed, &t);
        swt_router_bed_backward(bed, &t);
        for (int i = 0; run > 0 && i < again.n_tensors; i++)
            if (again.tensors[i].kind != SWT_BED_SCRATCH)
                assert_memory_equal(again.memory + again.tensors[i].at,
                                    first.memory + first.tensors[i].at, again.tensors[i].bytes);
    }
    swt_bed_close(&first);
    swt_bed_close(&again);
}

/* Logits of +-1e4 and all equal: finite probabilities and gradients, z against double precision. */
static void trap_9_router_precision(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int equal = 0; equal < 2; equal++) {
        const swt_router_case c = {
            .N = 40, .C = 2, .E = 5, .G = 1, .all_routed = true, .whole = true};
        swt_router_tensors t = swt_router_bed_inputs(&bed, &c);
        t.dims.aux_scale = t.dims.z_scale = 1;
        for (int64_t i = 0; i < c.E * c.C; i++)
            t.w[i] *= equal ? 0 : 5e3F;
        swt_router_bed_forward(&bed, &t);
        swt_router_bed_assign(&bed, &t);
        swt_router_bed_losses(&bed, &t);
        swt_router_bed_backward(&bed, &t);
        const truth o = oracle_forward(&bed, &t);
        double want[3 + 5];
        swt_oracle_router_losses(want, o.probs, o.lse, t.expert, t.kept, t.counts, &t.dims);
        /* lse is rounded to float once, after an exp and a log of numbers near 1. */
        swt_expect_close(&bed, "probs", t.probs, o.probs, c.N * c.E, 8 * SWT_UNIT, 0);
        swt_expect_number(&bed, "z", t.stats[1], want[1], 8 * SWT_UNIT * want[1]);
        swt_expect_number(&bed, "aux", t.stats[0], want[0], 8 * SWT_UNIT * want[0]);
        for (int64_t n = 0; n < c.N; n++)
            assert_int_equal(t.expert[n], swt_oracle_argmax(o.z + n * c.E, c.E));
        for (int64_t i = 0; i < c.N * c.C; i++)
            assert_true(isfinite(t.dh[i]));
        for (int64_t i = 0; i < c.E * c.C; i++)
            assert_true(isfinite(t.dw[i]));
    }
    swt_bed_close(&bed);
}

/* Weights off by one unit of bf16 (2^-8) move a logit by at most 2^-8 sum |h w|: only tokens whose
 * two best logits lie within twice that may change their expert. */
static void trap_9_changed_routes(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    const swt_router_case c = {.N = 500, .C = 32, .E = 8, .G = 1, .all_routed = true};
    swt_router_tensors t = swt_router_bed_inputs(&bed, &c);
    swt_router_bed_forward(&bed, &t);
    const truth o = oracle_forward(&bed, &t);
    const int32_t *before = t.expert;
    for (int64_t i = 0; i < c.E * c.C; i++)
        t.w[i] *= swt_bed_draw(&bed) < 0.5 ? 1 - 0x1p-8F : 1 + 0x1p-8F;
    swt_router_bed_forward(&bed, &t);
    int64_t changed = 0;
    for (int64_t n = 0; n < c.N; n++) {
        if (t.expert[n] == before[n])
            continue;
        double moved = 0;
        for (int64_t i = 0; i < c.C; i++)
            moved += 0x1p-8 * fabs(o.h[n * c.C + i]) *
                     (fabs(o.w[before[n] * c.C + i]) + fabs(o.w[t.expert[n] * c.C + i]));
        const double gap = o.z[n * c.E + before[n]] - o.z[n * c.E + t.expert[n]];
        assert_true(gap <= moved + 1e-5); /* 1e-5: rounding of the logits */
        changed++;
    }
    assert_in_range(changed, 1, c.N / 20); /* some did, and few */
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient),    cmocka_unit_test(test_nan_logits),
        cmocka_unit_test(test_losses_of_extremes), cmocka_unit_test(trap_6_routing_rerun),
        cmocka_unit_test(trap_9_router_precision), cmocka_unit_test(trap_9_changed_routes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
