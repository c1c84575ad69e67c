#include "ops/router_bed.h"

#include "judge/oracle.h"

swt_router_tensors swt_router_bed_inputs(swt_bed *bed, const swt_router_case *c) {
    swt_bed_begin(bed,
                  "router N=%lld C=%lld E=%lld G=%lld bias=%d all_routed=%d whole=%d jitter=%g "
                  "evaluation=%d",
                  (long long)c->N, (long long)c->C, (long long)c->E, (long long)c->G, c->bias,
                  c->all_routed, c->whole, (double)c->jitter, c->evaluation);
    swt_router_tensors t = {.dims = swt_oracle_moe_dims(c->N, c->C, c->E)};
    t.dims.G = c->G;
    t.dims.jitter = c->jitter;
    t.dims.training = !c->evaluation;
    const int64_t NC = c->N * c->C, EC = c->E * c->C;
    t.h = c->whole ? swt_bed_whole(bed, NC, -1, 1) : swt_bed_uniform(bed, NC, -1, 1);
    t.w = c->whole ? swt_bed_whole(bed, EC, -1, 1) : swt_bed_uniform(bed, EC, -1, 1);
    if (c->bias)
        t.bias = c->whole ? swt_bed_whole(bed, c->E, -1, 1) : swt_bed_uniform(bed, c->E, -1, 1);
    t.routed = swt_bed_integers(bed, c->N, c->all_routed ? 1 : 0, 1);
    return t;
}

void swt_router_bed_forward(swt_bed *bed, swt_router_tensors *t) {
    const int64_t N = t->dims.N, E = t->dims.E;
    t->probs = swt_bed_out(bed, N * E, SWT_F32);
    t->lse = swt_bed_out(bed, N, SWT_F32);
    t->expert = swt_bed_out(bed, N, SWT_I32);
    t->gate = swt_bed_out(bed, N, SWT_F32);
    void *scratch = swt_bed_scratch(bed, swt_router_scratch_bytes(&t->dims));
    SWT_BED_RUN(bed, swt_router_forward(&bed->ctx, &(swt_router_forward_args){.probs = t->probs,
                                                                              .lse = t->lse,
                                                                              .expert = t->expert,
                                                                              .gate = t->gate,
                                                                              .h = t->h,
                                                                              .w = t->w,
                                                                              .bias = t->bias,
                                                                              .routed = t->routed,
                                                                              .scratch = scratch,
                                                                              .dims = t->dims}));
    swt_bed_keep(bed);
}

void swt_router_bed_assign(swt_bed *bed, swt_router_tensors *t) {
    t->slot = swt_bed_out(bed, t->dims.N, SWT_I32);
    t->kept = swt_bed_out(bed, t->dims.E, SWT_I32);
    t->counts = swt_bed_out(bed, t->dims.G * t->dims.E, SWT_I32);
    void *scratch = swt_bed_scratch(bed, swt_router_scratch_bytes(&t->dims));
    SWT_BED_RUN(bed, swt_router_assign(&bed->ctx, &(swt_router_assign_args){.slot = t->slot,
                                                                            .kept = t->kept,
                                                                            .counts = t->counts,
                                                                            .expert = t->expert,
                                                                            .gate = t->gate,
                                                                            .scratch = scratch,
                                                                            .dims = t->dims}));
    swt_bed_keep(bed);
}

void swt_router_bed_losses(swt_bed *bed, swt_router_tensors *t) {
    t->stats = swt_bed_out(bed, 3 + t->dims.E, SWT_F64);
    SWT_BED_RUN(bed, swt_router_losses(&bed->ctx, &(swt_router_losses_args){.stats = t->stats,
                                                                            .probs = t->probs,
                                                                            .lse = t->lse,
                                                                            .expert = t->expert,
                                                                            .kept = t->kept,
                                                                            .counts = t->counts,
                                                                            .dims = t->dims}));
}

void swt_router_bed_backward(swt_bed *bed, swt_router_tensors *t) {
    const swt_moe_dims *d = &t->dims;
    t->dgate = swt_bed_uniform(bed, d->N, -1, 1);
    t->old_dh = swt_bed_uniform(bed, d->N * d->C, -1, 1);
    t->dh = swt_bed_copy(bed, t->old_dh, d->N * d->C, SWT_F32);
    t->dw = swt_bed_out(bed, d->E * d->C, SWT_F32);
    t->dbias = t->bias != NULL ? swt_bed_out(bed, d->E, SWT_F32) : NULL;
    void *scratch = swt_bed_scratch(bed, swt_router_scratch_bytes(&t->dims));
    SWT_BED_RUN(bed, swt_router_backward(&bed->ctx, &(swt_router_backward_args){.dh = t->dh,
                                                                                .dw = t->dw,
                                                                                .dbias = t->dbias,
                                                                                .dgate = t->dgate,
                                                                                .h = t->h,
                                                                                .w = t->w,
                                                                                .probs = t->probs,
                                                                                .lse = t->lse,
                                                                                .expert = t->expert,
                                                                                .gate = t->gate,
                                                                                .counts = t->counts,
                                                                                .scratch = scratch,
                                                                                .dims = *d}));
}
