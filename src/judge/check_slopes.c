/* The gradients of one small switch layer against finite differences. The loss is the oracle's, in
 * double: a random weight on every output, and both auxiliary losses. Its slopes are those of the
 * routing that the backend found, so experts, slots and counts are constants. */
#include "judge/checks.h"
#include "judge/routing.h"

#include <math.h>

enum { N = 18, C = 6, E = 3, F = 8, GROUPS = 2, CAPACITY = 3, SLOTS = E * GROUPS * CAPACITY };
enum { NC = N * C, NE = N * E, EC = E * C, EF = E * F, EFC = E * F * C };
enum { SLOTS_C = SLOTS * C, SLOTS_F = SLOTS * F };

/* The parameters and the input of the layer. */
enum { H, ROUTER_W, ROUTER_BIAS, WI, BI, WO, BO, TENSORS };

static const char *const names[TENSORS] = {"dh", "dw", "dbias", "dwi", "dbi", "dwo", "dbo"};
static const int64_t sizes[TENSORS] = {NC, EC, E, EFC, EF, EFC, EC};

typedef struct layer {
    swt_routing r;
    float *weight; /* of each output (N, C) */
    float *x[TENSORS], *grad[TENSORS];
    double *x64[TENSORS], *weight64;
    double *first_gate; /* of the parameters as given, for gate unit */
    double *factor, *z, *probs, *lse;
} layer;

/* ---- the loss */

/* What stands for token n behind the gate, into o; false where that is 0 by definition. */
static bool output_of(const layer *y, int64_t n, double *o) {
    const int64_t e = y->r.expert[n];
    const double *h = y->x64[H] + n * C;
    double hidden[F];
    if (e < 0 || (y->r.slot[n] < 0 && y->r.dims.dropped_output == SWT_DROPPED_ZERO))
        return false;
    if (y->r.slot[n] < 0) {
        for (int i = 0; i < C; i++)
            o[i] = h[i];
        return true;
    }
    swt_oracle_linear_forward(hidden, h, y->x64[WI] + e * F * C, y->x64[BI] + e * F, NULL, 1, C, F,
                              true);
    swt_oracle_linear_forward(o, hidden, y->x64[WO] + e * C * F, y->x64[BO] + e * C, NULL, 1, F, C,
                              false);
    return true;
}

static double loss_of(const layer *y) {
    const swt_moe_dims *d = &y->r.dims;
    double stats[3 + E], loss = 0, o[C];
    swt_oracle_router_forward(y->z, y->probs, y->lse, y->x64[H], y->factor, y->x64[ROUTER_W],
                              y->x64[ROUTER_BIAS], d);
    swt_oracle_router_losses(stats, y->probs, y->lse, y->r.expert, y->r.kept, y->r.counts, d);
    for (int64_t n = 0; n < N; n++) {
        if (!output_of(y, n, o))
            continue;
        const double gate = y->probs[n * E + y->r.expert[n]];
        const double s = d->gate == SWT_GATE_UNIT ? gate / y->first_gate[n] : gate;
        for (int64_t i = 0; i < C; i++)
            loss += y->weight64[n * C + i] * s * o[i];
    }
    return loss + GROUPS * (d->aux_scale * stats[0] + d->z_scale * stats[1]);
}

/* Central differences, into want: wrong by about h^2 from the curvature and by 2^-53 |f| / h from
 * rounding, both below 1e-8 here. */
static void differences(layer *y, int tensor, double *want) {
    const double h = 1e-5;
    for (int64_t i = 0; i < sizes[tensor]; i++) {
        double *x = &y->x64[tensor][i];
        const double kept = *x;
        *x = kept + h;
        const double above = loss_of(y);
        *x = kept - h;
        const double below = loss_of(y);
        *x = kept;
        want[i] = (above - below) / (2 * h);
    }
}

/* ---- the layer on the backend */

/* True if some hidden value is so near to the ReLU's bend that a difference could step over it. */
static bool near_bend(const layer *y) {
    double hidden[F];
    for (int64_t n = 0; n < N; n++)
        for (int64_t e = 0; e < E; e++) {
            swt_oracle_linear_forward(hidden, y->x64[H] + n * C, y->x64[WI] + e * F * C,
                                      y->x64[BI] + e * F, NULL, 1, C, F, false);
            for (int i = 0; i < F; i++)
                if (fabs(hidden[i]) < 1e-4)
                    return true;
        }
    return false;
}

static layer draw_layer(swt_trial *t, int number) {
    layer y = {.r = swt_routing_inputs(t, N, C, E, true, false)};
    swt_moe_dims *d = &y.r.dims;
    d->F = F;
    d->G = GROUPS;
    d->group_capacity = CAPACITY;
    d->K = SLOTS / E;
    d->dropped_output = number & 1 ? SWT_DROPPED_GATED_INPUT : SWT_DROPPED_ZERO;
    d->gate = number & 2 ? SWT_GATE_UNIT : SWT_GATE_SCALE;
    y.x[H] = y.r.h;
    y.x[ROUTER_W] = y.r.w;
    y.x[ROUTER_BIAS] = y.r.bias;
    for (int i = WI; i < TENSORS; i++)
        y.x[i] = swt_trial_uniform(t, sizes[i], -1, 1);
    for (int i = 0; i < TENSORS; i++)
        y.x64[i] = swt_trial_widen(t, y.x[i], sizes[i]);
    return y;
}

/* weighted: the outputs count in the loss. */
static layer begin(swt_trial *t, int number, bool weighted, double aux_scale, double z_scale) {
    layer y;
    do {
        swt_trial_begin(t, "gated_input=%d unit=%d", number & 1, number >> 1 & 1);
        y = draw_layer(t, number);
    } while (near_bend(&y));
    y.r.dims.aux_scale = aux_scale;
    y.r.dims.z_scale = z_scale;
    y.weight = weighted ? swt_trial_uniform(t, NC, -1, 1) : swt_trial_in(t, NC, SWT_F32);
    y.weight64 = swt_trial_widen(t, y.weight, NC);
    y.factor = swt_trial_doubles(t, NC);
    y.z = swt_trial_doubles(t, NE);
    y.probs = swt_trial_doubles(t, NE);
    y.lse = swt_trial_doubles(t, N);
    y.first_gate = swt_trial_doubles(t, N);
    swt_oracle_jitter(y.factor, &y.r.dims, t->state->seed, t->state->step);
    return y;
}

/* Dispatch, experts and combine; hidden and x are kept for the way back. */
static swt_status forward(swt_trial *t, layer *y, float *x, float *hidden, int32_t *counts) {
    const swt_routing *r = &y->r;
    float *answers = swt_trial_out(t, SLOTS_C, SWT_F32), *out = swt_trial_out(t, NC, SWT_F32);
    const float *residual = swt_trial_in(t, NC, SWT_F32);
    SWT_TRIAL_RUN(
        t, swt_dispatch_forward(&t->ctx, &(swt_dispatch_forward_args){.send = TWIN(x),
                                                                      .send_counts = TWIN(counts),
                                                                      .h = TWIN(r->h),
                                                                      .expert = TWIN(r->expert),
                                                                      .slot = TWIN(r->slot),
                                                                      .kept = TWIN(r->kept),
                                                                      .dims = r->dims,
                                                                      .first_slot = 0}));
    SWT_TRIAL_RUN(t,
                  swt_experts_forward(&t->ctx, &(swt_experts_forward_args){.y = TWIN(answers),
                                                                           .hidden = TWIN(hidden),
                                                                           .x = TWIN(x),
                                                                           .wi = TWIN(y->x[WI]),
                                                                           .bi = TWIN(y->x[BI]),
                                                                           .wo = TWIN(y->x[WO]),
                                                                           .bo = TWIN(y->x[BO]),
                                                                           .counts = TWIN(counts),
                                                                           .dims = r->dims}));
    SWT_TRIAL_RUN(
        t, swt_combine_forward(&t->ctx, &(swt_combine_forward_args){.y = TWIN(out),
                                                                    .residual = TWIN(residual),
                                                                    .recv = TWIN(answers),
                                                                    .h = TWIN(r->h),
                                                                    .expert = TWIN(r->expert),
                                                                    .gate = TWIN(r->gate),
                                                                    .slot = TWIN(r->slot),
                                                                    .dims = r->dims,
                                                                    .first_slot = 0}));
    double loss = 0;
    for (int64_t i = 0; i < NC; i++)
        loss += (double)y->weight[i] * (double)out[i];
    if (r->dims.aux_scale == 0 && r->dims.z_scale == 0) /* N C outputs of size F, 30 roundings */
        swt_trial_number(t, "the loss", loss, loss_of(y), 30 * sqrt(NC * F) * SWT_ROUNDING);
    return SWT_OK;
}

/* The experts' part: dx, dot and the weights' gradients of dy. */
static swt_status experts_backward(swt_trial *t, layer *y, const float *x, const float *hidden,
                                   const int32_t *counts, const float *dy, float *dx, float *dot) {
    const swt_routing *r = &y->r;
    float *dhidden = swt_trial_out(t, SLOTS_F, SWT_F32), *const *g = y->grad;
    SWT_TRIAL_RUN(t, swt_experts_backward_input(
                         &t->ctx, &(swt_experts_backward_input_args){.dx = TWIN(dx),
                                                                     .dhidden = TWIN(dhidden),
                                                                     .dot = TWIN(dot),
                                                                     .dy = TWIN(dy),
                                                                     .hidden = TWIN(hidden),
                                                                     .wi = TWIN(y->x[WI]),
                                                                     .wo = TWIN(y->x[WO]),
                                                                     .bo = TWIN(y->x[BO]),
                                                                     .counts = TWIN(counts),
                                                                     .dims = r->dims}));
    SWT_TRIAL_RUN(t, swt_experts_backward_weight(
                         &t->ctx, &(swt_experts_backward_weight_args){.dwi = TWIN(g[WI]),
                                                                      .dbi = TWIN(g[BI]),
                                                                      .dwo = TWIN(g[WO]),
                                                                      .dbo = TWIN(g[BO]),
                                                                      .x = TWIN(x),
                                                                      .hidden = TWIN(hidden),
                                                                      .dhidden = TWIN(dhidden),
                                                                      .dy = TWIN(dy),
                                                                      .counts = TWIN(counts),
                                                                      .dims = r->dims}));
    return SWT_OK;
}

static swt_status backward(swt_trial *t, layer *y, const float *x, const float *hidden,
                           const int32_t *counts) {
    const swt_routing *r = &y->r;
    float *dy = swt_trial_out(t, SLOTS_C, SWT_F32), *dx = swt_trial_out(t, SLOTS_C, SWT_F32),
          *dot = swt_trial_out(t, SLOTS, SWT_F32),
          *dgate = swt_trial_out(t, N, SWT_F32), *const *g = y->grad;
    void *scratch = swt_trial_scratch(t, swt_router_scratch_bytes(&r->dims));
    SWT_TRIAL_RUN(
        t, swt_combine_backward(&t->ctx, &(swt_combine_backward_args){.drecv = TWIN(dy),
                                                                      .dgate = TWIN(dgate),
                                                                      .dh = TWIN(g[H]),
                                                                      .dy = TWIN(y->weight),
                                                                      .h = TWIN(r->h),
                                                                      .expert = TWIN(r->expert),
                                                                      .gate = TWIN(r->gate),
                                                                      .slot = TWIN(r->slot),
                                                                      .dims = r->dims}));
    SWT_TRY(experts_backward(t, y, x, hidden, counts, dy, dx, dot));
    SWT_TRIAL_RUN(
        t, swt_dispatch_backward(&t->ctx, &(swt_dispatch_backward_args){.dh = TWIN(g[H]),
                                                                        .dgate = TWIN(dgate),
                                                                        .dsend = TWIN(dx),
                                                                        .dot = TWIN(dot),
                                                                        .expert = TWIN(r->expert),
                                                                        .gate = TWIN(r->gate),
                                                                        .slot = TWIN(r->slot),
                                                                        .dims = r->dims}));
    SWT_TRIAL_RUN(
        t, swt_router_backward(&t->ctx, &(swt_router_backward_args){.dh = TWIN(g[H]),
                                                                    .dw = TWIN(g[ROUTER_W]),
                                                                    .dbias = TWIN(g[ROUTER_BIAS]),
                                                                    .dgate = TWIN(dgate),
                                                                    .h = TWIN(r->h),
                                                                    .w = TWIN(r->w),
                                                                    .probs = TWIN(r->probs),
                                                                    .lse = TWIN(r->lse),
                                                                    .expert = TWIN(r->expert),
                                                                    .gate = TWIN(r->gate),
                                                                    .counts = TWIN(r->counts),
                                                                    .scratch = TWIN(scratch),
                                                                    .dims = r->dims}));
    return SWT_OK;
}

/* The gradients of tensors first .. last. */
static swt_status slopes(swt_trial *t, bool weighted, double aux_scale, double z_scale, int first,
                         int last) {
    for (int i = 0; i < 4; i++) {
        layer y = begin(t, i, weighted, aux_scale, z_scale);
        SWT_TRY(swt_routing_forward(t, &y.r));
        SWT_TRY(swt_routing_assign(t, &y.r));
        for (int64_t n = 0; n < N; n++)
            y.first_gate[n] = (double)y.r.gate[n];
        for (int k = 0; k < TENSORS; k++)
            y.grad[k] = swt_trial_out(t, sizes[k], SWT_F32);
        float *x = swt_trial_out(t, SLOTS_C, SWT_F32);
        float *hidden = swt_trial_out(t, SLOTS_F, SWT_F32);
        int32_t *counts = swt_trial_out(t, E, SWT_I32);
        SWT_TRY(forward(t, &y, x, hidden, counts));
        SWT_TRY(backward(t, &y, x, hidden, counts));
        for (int k = first; k <= last; k++) {
            double *want = swt_trial_doubles(t, sizes[k]);
            differences(&y, k, want);
            /* Sums of some 40 numbers of the size of 1, which may cancel, a rounding each. */
            swt_trial_close(t, names[k], y.grad[k], want, sizes[k], 40 * SWT_ROUNDING, 1);
        }
    }
    return SWT_OK;
}

swt_status swt_selftest_slopes_of_router(swt_trial *t) {
    return slopes(t, true, 0, 0, H, ROUTER_BIAS);
}

swt_status swt_selftest_slopes_of_experts(swt_trial *t) {
    return slopes(t, true, 0, 0, WI, BO);
}

swt_status swt_selftest_slopes_of_aux_loss(swt_trial *t) {
    return slopes(t, false, 3, 0, H, ROUTER_BIAS);
}

swt_status swt_selftest_slopes_of_z_loss(swt_trial *t) {
    return slopes(t, false, 0, 2, H, ROUTER_BIAS);
}
