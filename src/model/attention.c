#include "model/model.h"

/* Queries, keys and values are columns of what one linear layer made, (N, 3 H D). */
static swt_attention_dims attention_dims(const swt_model *m, const swt_pass *pass) {
    const swt_dims *d = &m->dims;
    return (swt_attention_dims){.B = pass->B,
                                .H = d->H,
                                .D = d->D,
                                .Tq = pass->T,
                                .Tk = pass->T,
                                .q_stride = 3 * d->H * d->D,
                                .kv_stride = 3 * d->H * d->D,
                                .mask = SWT_MASK_CAUSAL,
                                .scale = d->attn_scale};
}

/* Part 0, 1 or 2 of their columns: where q, k or v begins. */
static void *part_of(const swt_model *m, void *qkv, int64_t part) {
    return (unsigned char *)qkv +
           (size_t)(part * m->dims.H * m->dims.D) * swt_dtype_bytes(m->ctx.dtype);
}

/* u = norm(x);  mid = x + o(attention(q, k, v of u)) */
swt_status swt_attention_layer_forward(swt_model *m, const swt_pass *pass, int64_t l) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_layer_places *at = &m->params.layers[l];
    swt_block_acts *a = &m->blocks[l];
    const int64_t N = pass->B * pass->T, HD = d->H * d->D;
    SWT_TRY(swt_model_norm(m, &at->attn_norm, a->x, N));
    SWT_TRY(swt_linear_forward(c, &(swt_linear_forward_args){.y = a->qkv,
                                                             .x = m->acts.norm,
                                                             .w = swt_weight(m, at->qkv.weight),
                                                             .bias = swt_weight(m, at->qkv.bias),
                                                             .N = N,
                                                             .in = d->C,
                                                             .out = 3 * HD}));
    SWT_TRY(
        swt_attention_forward(c, &(swt_attention_forward_args){.y = a->att,
                                                               .lse = a->lse,
                                                               .q = part_of(m, a->qkv, 0),
                                                               .k = part_of(m, a->qkv, 1),
                                                               .v = part_of(m, a->qkv, 2),
                                                               .dims = attention_dims(m, pass)}));
    return swt_linear_forward(c, &(swt_linear_forward_args){.y = a->mid,
                                                            .x = a->att,
                                                            .w = swt_weight(m, at->o.weight),
                                                            .bias = swt_weight(m, at->o.bias),
                                                            .residual = a->x,
                                                            .N = N,
                                                            .in = HD,
                                                            .out = d->C});
}

/* acts.dx holds d mid and becomes d x. */
swt_status swt_attention_layer_backward(swt_model *m, const swt_pass *pass, int64_t l) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_layer_places *at = &m->params.layers[l];
    swt_block_acts *a = &m->blocks[l];
    swt_shared_acts *s = &m->acts;
    const int64_t N = pass->B * pass->T, HD = d->H * d->D;
    SWT_TRY(swt_linear_backward_weight(
        c, &(swt_linear_backward_weight_args){.dw = swt_at(m->grad, at->o.weight),
                                              .dbias = swt_at(m->grad, at->o.bias),
                                              .dy = s->dx,
                                              .x = a->att,
                                              .N = N,
                                              .in = HD,
                                              .out = d->C}));
    SWT_TRY(swt_linear_backward_input(
        c, &(swt_linear_backward_input_args){.dx = s->datt,
                                             .dy = s->dx,
                                             .w = swt_weight(m, at->o.weight),
                                             .N = N,
                                             .in = HD,
                                             .out = d->C}));
    SWT_TRY(
        swt_attention_backward(c, &(swt_attention_backward_args){.dq = part_of(m, s->dqkv, 0),
                                                                 .dk = part_of(m, s->dqkv, 1),
                                                                 .dv = part_of(m, s->dqkv, 2),
                                                                 .dy = s->datt,
                                                                 .q = part_of(m, a->qkv, 0),
                                                                 .k = part_of(m, a->qkv, 1),
                                                                 .v = part_of(m, a->qkv, 2),
                                                                 .y = a->att,
                                                                 .lse = a->lse,
                                                                 .dims = attention_dims(m, pass)}));
    SWT_TRY(swt_model_norm(m, &at->attn_norm, a->x, N));
    SWT_TRY(swt_linear_backward_weight(
        c, &(swt_linear_backward_weight_args){.dw = swt_at(m->grad, at->qkv.weight),
                                              .dbias = swt_at(m->grad, at->qkv.bias),
                                              .dy = s->dqkv,
                                              .x = s->norm,
                                              .N = N,
                                              .in = d->C,
                                              .out = 3 * HD}));
    SWT_TRY(swt_linear_backward_input(
        c, &(swt_linear_backward_input_args){.dx = s->dh,
                                             .dy = s->dqkv,
                                             .w = swt_weight(m, at->qkv.weight),
                                             .N = N,
                                             .in = d->C,
                                             .out = 3 * HD}));
    return swt_model_norm_backward(m, &at->attn_norm, a->x, s->dx, N);
}
