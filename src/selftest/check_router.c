/* The router's operations against the oracle, each on inputs of its own. */
#include "kernels/swt_positional.h"
#include "selftest/checks.h"
#include "selftest/routing.h"

#include <math.h>

enum { CASES = 16, WIDTH = 130, EXPERTS = 17 };

static void begin(swt_trial *t, const swt_moe_dims *d) {
    swt_trial_begin(t, "N=%lld C=%lld E=%lld G=%lld", (long long)d->N, (long long)d->C,
                    (long long)d->E, (long long)d->G);
}

/* Tokens in one or two groups, experts with too little room for some of them. */
static swt_moe_dims draw_dims(swt_trial *t, int number) {
    const int64_t N = 2 * swt_trial_size(t, WIDTH / 2), E = swt_trial_size(t, EXPERTS);
    swt_moe_dims d = swt_oracle_moe_dims(N, swt_trial_size(t, WIDTH), E);
    d.G = 1 + number % 2;
    d.group_capacity = 1 + N / d.G / E;
    d.K = d.G * d.group_capacity;
    d.drop = (swt_drop)(number % 3);
    begin(t, &d);
    return d;
}

/* The logits are wrong by some roundings of the sum of |h w|; so is the relative error of a
 * probability, to which exp, log and the division add a few. */
static double tolerance_of(const swt_moe_dims *d) {
    return (12 + 2 * sqrt((double)d->E) + 3 * (double)d->C) * SWT_ROUNDING;
}

static void expect_choice(swt_trial *t, const swt_routing *r, const swt_routing_truth *o,
                          bool exact) {
    const int64_t E = r->dims.E;
    for (int64_t n = 0; n < r->dims.N; n++) {
        const double *z = o->z + n * E;
        const int32_t best = swt_oracle_argmax(z, E), expert = r->expert[n];
        if (r->routed[n] == 0) {
            swt_trial_number(t, "expert of a token that is not routed", expert, -1, 0);
            swt_trial_number(t, "its gate", (double)r->gate[n], 0, 0);
        } else if (expert < 0 || expert >= E) {
            swt_trial_miss(t, "expert[%lld] is %d", (long long)n, expert);
        } else {
            /* Exact logits: the very expert. Else logits within their error may change places. */
            if (exact)
                swt_trial_number(t, "expert", expert, best, 0);
            swt_trial_number(t, "logit of the expert", z[expert], z[best],
                             8 * tolerance_of(&r->dims));
            swt_trial_same(t, "gate", &r->gate[n], &r->probs[n * E + expert], 1, SWT_F32);
        }
    }
}

swt_status swt_selftest_router_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const swt_moe_dims d = draw_dims(t, i);
        const bool whole = i & 2;
        swt_routing r = swt_routing_inputs(t, d.N, d.C, d.E, i & 1, whole);
        r.dims.jitter = i & 4 ? 0.2f : 0;
        r.dims.training = !(i & 8);
        SWT_TRY(swt_routing_forward(t, &r));
        const swt_routing_truth o = swt_routing_solve(t, &r);
        swt_trial_close(t, "probs", r.probs, o.probs, d.N * d.E, tolerance_of(&d), 0);
        swt_trial_close(t, "lse", r.lse, o.lse, d.N, tolerance_of(&d), 1);
        expect_choice(t, &r, &o, whole && (r.dims.jitter == 0 || !r.dims.training));
    }
    return SWT_OK;
}

/* Experts and gates at random, the gates of few values, so that some are equal. */
static swt_routing draw_choices(swt_trial *t, int number) {
    swt_routing r = {.dims = draw_dims(t, number)};
    const swt_moe_dims *d = &r.dims;
    r.expert = swt_trial_integers(t, d->N, -1, (int)d->E - 1);
    r.gate = swt_trial_whole(t, d->N, 1, 8);
    for (int64_t n = 0; n < d->N; n++)
        r.gate[n] = r.expert[n] < 0 ? 0 : r.gate[n] / 8;
    return r;
}

swt_status swt_selftest_router_assign(swt_trial *t) {
    for (int i = 0; i < 3 * CASES; i++) {
        swt_routing r = draw_choices(t, i);
        r.dims.training = i % 4 != 3;
        SWT_TRY(swt_routing_assign(t, &r));
        swt_routing_expect_assigned(t, &r);
    }
    return SWT_OK;
}

swt_status swt_selftest_router_losses(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        swt_routing r = draw_choices(t, i);
        const swt_moe_dims *d = &r.dims;
        swt_routing_assigned(t, &r);
        r.probs = swt_trial_uniform(t, d->N * d->E, 0, 2.0 / (double)d->E);
        r.lse = swt_trial_uniform(t, d->N, -2, 4);
        for (int64_t n = 0; n < d->N; n++) /* the row of a token that is not routed is ignored */
            for (int64_t e = 0; e < d->E && r.expert[n] < 0; e++)
                r.probs[n * d->E + e] = r.lse[n] = 1e9f;
        SWT_TRY(swt_routing_losses(t, &r));
        double *want = swt_trial_doubles(t, 3 + d->E);
        swt_oracle_router_losses(want, swt_trial_widen(t, r.probs, d->N * d->E),
                                 swt_trial_widen(t, r.lse, d->N), r.expert, r.kept, r.counts, d);
        /* Double sums of N E positive terms of given floats: N E roundings at most. */
        const double limit = (8 + (double)(d->N * d->E)) * 0x1p-53;
        swt_trial_number(t, "aux", r.stats[0], want[0], limit * (double)d->E);
        swt_trial_number(t, "z", r.stats[1], want[1], limit * (1 + want[1]));
        for (int64_t k = 2; k < 3 + d->E; k++)
            swt_trial_number(t, "counts in stats", r.stats[k], want[k], 0);
    }
    return SWT_OK;
}

static swt_status backward_case(swt_trial *t, swt_routing *r) {
    const swt_moe_dims *d = &r->dims;
    const int64_t NC = d->N * d->C, EC = d->E * d->C;
    const swt_routing_truth o = swt_routing_solve(t, r);
    swt_routing_given(t, r, &o);
    swt_routing_assigned(t, r);
    const float *dgate = swt_trial_uniform(t, d->N, -1, 1), *old = swt_trial_uniform(t, NC, -1, 1);
    float *dh = swt_trial_copy(t, old, NC, SWT_F32), *dw = swt_trial_out(t, EC, SWT_F32);
    float *dbias = r->bias != NULL ? swt_trial_out(t, d->E, SWT_F32) : NULL;
    void *scratch = swt_trial_scratch(t, swt_router_scratch_bytes(d));
    SWT_TRIAL_RUN(t, pos_router_backward(&t->ctx, TWIN(dh), TWIN(dw), TWIN(dbias), TWIN(dgate),
                                         TWIN(r->h), TWIN(r->w), TWIN(r->probs), TWIN(r->lse),
                                         TWIN(r->expert), TWIN(r->gate), TWIN(r->counts),
                                         TWIN(scratch), d));
    double *dz = swt_trial_doubles(t, d->N * d->E), *want_dw = swt_trial_doubles(t, EC),
           *want_dbias = swt_trial_doubles(t, d->E), *want_dh = swt_trial_widen(t, old, NC);
    swt_oracle_router_backward(dz, want_dh, want_dw, want_dbias, swt_trial_widen(t, dgate, d->N),
                               o.h, o.factor, o.w, swt_trial_widen(t, r->probs, d->N * d->E),
                               swt_trial_widen(t, r->lse, d->N), r->expert,
                               swt_trial_widen(t, r->gate, d->N), r->counts, d);
    /* dz: a dozen roundings of numbers around its own size, and the sum over E of f p, whose error
     * is multiplied by E: of the scale of 1. dw, dbias: sums over N of dz; dh: over E, on top of
     * numbers below 1. */
    double size = 0.1;
    for (int64_t i = 0; i < d->N * d->E; i++)
        size = fmax(size, fabs(dz[i]));
    const double rows = sqrt(1 + (double)d->N), experts = sqrt((double)d->E);
    const double dz_error = 8 * size * SWT_ROUNDING;
    swt_trial_close(t, "dh", dh, want_dh, NC, dz_error * experts * (1 + experts), 1);
    swt_trial_close(t, "dw", dw, want_dw, EC, dz_error * rows, rows);
    if (dbias != NULL)
        swt_trial_close(t, "dbias", dbias, want_dbias, d->E, dz_error * rows, rows);
    return SWT_OK;
}

swt_status swt_selftest_router_backward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const swt_moe_dims d = draw_dims(t, i);
        swt_routing r = swt_routing_inputs(t, d.N, d.C, d.E, i & 1, false);
        r.dims.G = d.G;
        r.dims.jitter = i & 4 ? 0.2f : 0;
        /* Loss scales that give all three terms of dz the same order of size. */
        r.dims.aux_scale = 0.2 * (double)d.N;
        r.dims.z_scale = 0.1 * (double)d.N;
        SWT_TRY(backward_case(t, &r));
    }
    return SWT_OK;
}
