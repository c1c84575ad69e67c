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
    const swt_attention_dims dims = attention_dims(m, pass);
    SWT_TRY(swt_model_norm(m, &at->attn_norm, a->x, N));
    SWT_TRY(swt_linear_forward(c, a->qkv, m->acts.norm, swt_weight(m, at->qkv.weight),
                               swt_weight(m, at->qkv.bias), NULL, N, d->C, 3 * HD,
                               SWT_EPILOGUE_NONE));
    SWT_TRY(swt_attention_forward(c, a->att, a->lse, a->qkv, &dims));
    return swt_linear_forward(c, a->mid, a->att, swt_weight(m, at->o.weight),
                              swt_weight(m, at->o.bias), a->x, N, HD, d->C, SWT_EPILOGUE_NONE);
}

/* acts.dx holds d mid and becomes d x. */
swt_status swt_attention_layer_backward(swt_model *m, const swt_pass *pass, int64_t l) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_layer_places *at = &m->params.layers[l];
    swt_block_acts *a = &m->blocks[l];
    swt_shared_acts *s = &m->acts;
    const int64_t N = pass->B * pass->T, HD = d->H * d->D;
    const swt_attention_dims dims = attention_dims(m, pass);
    SWT_TRY(swt_linear_backward_weight(c, swt_at(m->grad, at->o.weight),
                                       swt_at(m->grad, at->o.bias), s->dx, a->att, N, HD, d->C, 0));
    SWT_TRY(swt_linear_backward_input(c, s->datt, s->dx, swt_weight(m, at->o.weight), NULL, N, HD,
                                      d->C));
    SWT_TRY(swt_attention_backward(c, s->dqkv, s->datt, a->att, a->lse, a->qkv, &dims));
    SWT_TRY(swt_model_norm(m, &at->attn_norm, a->x, N));
    SWT_TRY(swt_linear_backward_weight(c, swt_at(m->grad, at->qkv.weight),
                                       swt_at(m->grad, at->qkv.bias), s->dqkv, s->norm, N, d->C,
                                       3 * HD, 0));
    SWT_TRY(swt_linear_backward_input(c, s->dh, s->dqkv, swt_weight(m, at->qkv.weight), NULL, N,
                                      d->C, 3 * HD));
    return swt_model_norm_backward(m, &at->attn_norm, a->x, s->dx, N);
}
