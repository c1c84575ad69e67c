#include "judge/routing.h"

swt_routing swt_routing_inputs(swt_trial *t, int64_t N, int64_t C, int64_t E, bool bias,
                               bool whole) {
    swt_routing r = {.dims = swt_oracle_moe_dims(N, C, E)};
    r.h = whole ? swt_trial_whole(t, N * C, -1, 1) : swt_trial_uniform(t, N * C, -1, 1);
    r.w = whole ? swt_trial_whole(t, E * C, -1, 1) : swt_trial_uniform(t, E * C, -1, 1);
    if (bias)
        r.bias = whole ? swt_trial_whole(t, E, -1, 1) : swt_trial_uniform(t, E, -1, 1);
    r.routed = swt_trial_integers(t, N, 0, 4);
    for (int64_t n = 0; n < N; n++) /* one in five is not routed */
        r.routed[n] = r.routed[n] > 0;
    return r;
}

swt_routing_truth swt_routing_solve(swt_trial *t, const swt_routing *r) {
    const swt_moe_dims *d = &r->dims;
    const swt_routing_truth o = {.dims = *d,
                                 .h = swt_trial_widen(t, r->h, d->N * d->C),
                                 .factor = swt_trial_doubles(t, d->N * d->C),
                                 .w = swt_trial_widen(t, r->w, d->E * d->C),
                                 .bias = swt_trial_widen(t, r->bias, d->E),
                                 .z = swt_trial_doubles(t, d->N * d->E),
                                 .probs = swt_trial_doubles(t, d->N * d->E),
                                 .lse = swt_trial_doubles(t, d->N)};
    swt_oracle_jitter(o.factor, d, t->state->seed, t->state->step);
    swt_oracle_router_forward(o.z, o.probs, o.lse, o.h, o.factor, o.w, o.bias, d);
    return o;
}

void swt_routing_given(swt_trial *t, swt_routing *r, const swt_routing_truth *truth) {
    const int64_t N = r->dims.N, E = r->dims.E;
    r->probs = swt_trial_in(t, N * E, SWT_F32);
    r->lse = swt_trial_in(t, N, SWT_F32);
    r->gate = swt_trial_in(t, N, SWT_F32);
    r->expert = swt_trial_in(t, N, SWT_I32);
    for (int64_t i = 0; i < N * E; i++)
        r->probs[i] = (float)truth->probs[i];
    for (int64_t n = 0; n < N; n++) {
        const bool routed = r->routed[n] != 0;
        r->lse[n] = (float)truth->lse[n];
        r->expert[n] = routed ? swt_oracle_argmax(truth->z + n * E, E) : -1;
        r->gate[n] = routed ? r->probs[n * E + r->expert[n]] : 0;
    }
}

void swt_routing_assigned(swt_trial *t, swt_routing *r) {
    const swt_moe_dims *d = &r->dims;
    r->slot = swt_trial_in(t, d->N, SWT_I32);
    r->kept = swt_trial_in(t, d->E, SWT_I32);
    r->counts = swt_trial_in(t, d->G * d->E, SWT_I32);
    swt_oracle_router_assign(r->slot, r->kept, r->counts, r->expert, r->gate, d, t->state->seed,
                             t->state->step);
}

swt_status swt_routing_forward(swt_trial *t, swt_routing *r) {
    const swt_moe_dims *d = &r->dims;
    r->probs = swt_trial_out(t, d->N * d->E, SWT_F32);
    r->lse = swt_trial_out(t, d->N, SWT_F32);
    r->expert = swt_trial_out(t, d->N, SWT_I32);
    r->gate = swt_trial_out(t, d->N, SWT_F32);
    void *scratch = swt_trial_scratch(t, swt_router_scratch_bytes(d));
    SWT_TRIAL_RUN(t,
                  swt_router_forward(&t->ctx, &(swt_router_forward_args){.probs = TWIN(r->probs),
                                                                         .lse = TWIN(r->lse),
                                                                         .expert = TWIN(r->expert),
                                                                         .gate = TWIN(r->gate),
                                                                         .h = TWIN(r->h),
                                                                         .w = TWIN(r->w),
                                                                         .bias = TWIN(r->bias),
                                                                         .routed = TWIN(r->routed),
                                                                         .scratch = TWIN(scratch),
                                                                         .dims = *d}));
    swt_trial_keep(t);
    return SWT_OK;
}

swt_status swt_routing_assign(swt_trial *t, swt_routing *r) {
    const swt_moe_dims *d = &r->dims;
    r->slot = swt_trial_out(t, d->N, SWT_I32);
    r->kept = swt_trial_out(t, d->E, SWT_I32);
    r->counts = swt_trial_out(t, d->G * d->E, SWT_I32);
    void *scratch = swt_trial_scratch(t, swt_router_scratch_bytes(d));
    SWT_TRIAL_RUN(t, swt_router_assign(&t->ctx, &(swt_router_assign_args){.slot = TWIN(r->slot),
                                                                          .kept = TWIN(r->kept),
                                                                          .counts = TWIN(r->counts),
                                                                          .expert = TWIN(r->expert),
                                                                          .gate = TWIN(r->gate),
                                                                          .scratch = TWIN(scratch),
                                                                          .dims = *d}));
    swt_trial_keep(t);
    return SWT_OK;
}

swt_status swt_routing_losses(swt_trial *t, swt_routing *r) {
    r->stats = swt_trial_out(t, 3 + r->dims.E, SWT_F64);
    SWT_TRIAL_RUN(t, swt_router_losses(&t->ctx, &(swt_router_losses_args){.stats = TWIN(r->stats),
                                                                          .probs = TWIN(r->probs),
                                                                          .lse = TWIN(r->lse),
                                                                          .expert = TWIN(r->expert),
                                                                          .kept = TWIN(r->kept),
                                                                          .counts = TWIN(r->counts),
                                                                          .dims = r->dims}));
    swt_trial_keep(t);
    return SWT_OK;
}

void swt_routing_expect_assigned(swt_trial *t, const swt_routing *r) {
    const swt_moe_dims *d = &r->dims;
    swt_routing want = *r;
    swt_routing_assigned(t, &want);
    swt_trial_same(t, "slot", r->slot, want.slot, d->N, SWT_I32);
    swt_trial_same(t, "kept", r->kept, want.kept, d->E, SWT_I32);
    swt_trial_same(t, "counts", r->counts, want.counts, d->G * d->E, SWT_I32);
}
