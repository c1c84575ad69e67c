#include "ops/route.h"

#include "judge/oracle.h"

static float *draw(swt_trial *t, int64_t n, bool whole) {
    return whole ? swt_trial_whole(t, n, -1, 1) : swt_trial_uniform(t, n, -1, 1);
}

swt_route swt_route_inputs(swt_trial *t, const swt_route_case *c) {
    swt_trial_begin(t, "N=%lld C=%lld E=%lld G=%lld bias=%d all=%d whole=%d jitter=%g eval=%d",
                    (long long)c->N, (long long)c->C, (long long)c->E, (long long)c->G, c->bias,
                    c->all_routed, c->whole, (double)c->jitter, c->evaluation);
    swt_route r = {.dims = swt_oracle_moe_dims(c->N, c->C, c->E),
                   .h = draw(t, c->N * c->C, c->whole),
                   .w = draw(t, c->E * c->C, c->whole),
                   .bias = c->bias ? draw(t, c->E, c->whole) : NULL,
                   .routed = swt_trial_integers(t, c->N, c->all_routed, 1)};
    r.dims.G = c->G;
    r.dims.jitter = c->jitter;
    r.dims.training = !c->evaluation;
    return r;
}

static void *scratch_of(swt_trial *t, const swt_route *r) {
    return swt_trial_scratch(t, swt_router_scratch_bytes(&r->dims));
}

void swt_route_forward(swt_trial *t, swt_route *r) {
    const int64_t N = r->dims.N, E = r->dims.E;
    r->probs = swt_trial_out(t, N * E, SWT_F32);
    r->lse = swt_trial_out(t, N, SWT_F32);
    r->expert = swt_trial_out(t, N, SWT_I32);
    r->gate = swt_trial_out(t, N, SWT_F32);
    SWT_RUN(t, router_forward, .probs = r->probs, .lse = r->lse, .expert = r->expert,
            .gate = r->gate, .h = r->h, .w = r->w, .bias = r->bias, .routed = r->routed,
            .scratch = scratch_of(t, r), .dims = r->dims);
    swt_test_keep(t);
}

void swt_route_assign(swt_trial *t, swt_route *r) {
    r->slot = swt_trial_out(t, r->dims.N, SWT_I32);
    r->kept = swt_trial_out(t, r->dims.E, SWT_I32);
    r->counts = swt_trial_out(t, r->dims.G * r->dims.E, SWT_I32);
    SWT_RUN(t, router_assign, .slot = r->slot, .kept = r->kept, .counts = r->counts,
            .expert = r->expert, .gate = r->gate, .scratch = scratch_of(t, r), .dims = r->dims);
    swt_test_keep(t);
}

void swt_route_losses(swt_trial *t, swt_route *r) {
    r->stats = swt_trial_out(t, SWT_ROUTER_LOAD + r->dims.E, SWT_F64);
    SWT_RUN(t, router_losses, .stats = r->stats, .probs = r->probs, .lse = r->lse,
            .expert = r->expert, .kept = r->kept, .counts = r->counts, .dims = r->dims);
    swt_test_keep(t);
}

void swt_route_backward(swt_trial *t, swt_route *r) {
    const swt_moe_dims *d = &r->dims;
    r->dgate = swt_trial_uniform(t, d->N, -1, 1);
    r->old_dh = swt_trial_uniform(t, d->N * d->C, -1, 1);
    r->dh = swt_trial_copy(t, r->old_dh, d->N * d->C, SWT_F32);
    r->dw = swt_trial_out(t, d->E * d->C, SWT_F32);
    r->dbias = r->bias != NULL ? swt_trial_out(t, d->E, SWT_F32) : NULL;
    SWT_RUN(t, router_backward, .dh = r->dh, .dw = r->dw, .dbias = r->dbias, .dgate = r->dgate,
            .h = r->h, .w = r->w, .probs = r->probs, .lse = r->lse, .expert = r->expert,
            .gate = r->gate, .counts = r->counts, .scratch = scratch_of(t, r), .dims = *d);
}
