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

void swt_route_forward(swt_trial *t, swt_route *r) {
    const swt_router_forward_args a =
        SWT_MADE(t, router_forward, .h = r->h, .w = r->w, .bias = r->bias, .routed = r->routed,
                 .dims = r->dims);
    r->probs = a.probs;
    r->lse = a.lse;
    r->expert = a.expert;
    r->gate = a.gate;
    swt_test_keep(t);
}

void swt_route_assign(swt_trial *t, swt_route *r) {
    const swt_router_assign_args a =
        SWT_MADE(t, router_assign, .expert = r->expert, .gate = r->gate, .dims = r->dims);
    r->slot = a.slot;
    r->kept_counts = a.kept_counts;
    r->group_counts = a.group_counts;
    swt_test_keep(t);
}

void swt_route_losses(swt_trial *t, swt_route *r) {
    r->stats =
        SWT_MADE(t, router_losses, .probs = r->probs, .lse = r->lse, .expert = r->expert,
                 .kept_counts = r->kept_counts, .group_counts = r->group_counts, .dims = r->dims)
            .stats;
    swt_test_keep(t);
}

void swt_route_backward(swt_trial *t, swt_route *r) {
    const int64_t hidden = r->dims.N * r->dims.C;
    r->old_dh = swt_trial_uniform(t, hidden, -1, 1);
    r->dh = swt_trial_copy(t, r->old_dh, hidden, SWT_F32);
    r->dbias = r->bias != NULL ? swt_trial_out(t, r->dims.E, SWT_F32) : NULL;
    const swt_router_backward_args a =
        SWT_MADE(t, router_backward, .dh = r->dh, .dbias = r->dbias, .h = r->h, .w = r->w,
                 .probs = r->probs, .lse = r->lse, .expert = r->expert, .gate = r->gate,
                 .group_counts = r->group_counts, .dims = r->dims);
    r->dw = a.dw;
}
