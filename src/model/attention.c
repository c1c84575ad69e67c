#include "model/model.h"

static swt_attention_dims attention_dims(const swt_model *m, const swt_pass *pass) {
    return (swt_attention_dims){
        .B = pass->B, .T = pass->T, .H = m->dims.H, .D = m->dims.D, .scale = m->dims.attn_scale};
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
    SWT_TRY(swt_attention_forward(
        c, &(swt_attention_forward_args){
               .y = a->att, .lse = a->lse, .qkv = a->qkv, .dims = attention_dims(m, pass)}));
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
        swt_attention_backward(c, &(swt_attention_backward_args){.dqkv = s->dqkv,
                                                                 .dy = s->datt,
                                                                 .qkv = a->qkv,
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
