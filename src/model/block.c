/* A block: attention, then a dense or a sparse feed-forward, both on normed input with a residual.
 */
#include "model/model.h"

static swt_status dense_forward(swt_model *m, int64_t N, int64_t l, void *y) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_layer_places *at = &m->params.layers[l];
    swt_block_acts *a = &m->blocks[l];
    SWT_TRY(swt_linear_forward(c, &(swt_linear_forward_args){.y = a->hidden,
                                                             .x = m->acts.norm,
                                                             .w = swt_weight(m, at->wi.weight),
                                                             .bias = swt_weight(m, at->wi.bias),
                                                             .N = N,
                                                             .in = d->C,
                                                             .out = d->F,
                                                             .epilogue = SWT_EPILOGUE_RELU}));
    return swt_linear_forward(c, &(swt_linear_forward_args){.y = y,
                                                            .x = a->hidden,
                                                            .w = swt_weight(m, at->wo.weight),
                                                            .bias = swt_weight(m, at->wo.bias),
                                                            .residual = a->mid,
                                                            .N = N,
                                                            .in = d->F,
                                                            .out = d->C});
}

/* acts.dx holds d y, acts.norm h; acts.dh becomes d h. */
static swt_status dense_backward(swt_model *m, int64_t N, int64_t l) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_layer_places *at = &m->params.layers[l];
    swt_block_acts *a = &m->blocks[l];
    swt_shared_acts *s = &m->acts;
    SWT_TRY(swt_linear_backward_weight(
        c, &(swt_linear_backward_weight_args){.dw = swt_at(m->grad, at->wo.weight),
                                              .dbias = swt_at(m->grad, at->wo.bias),
                                              .dy = s->dx,
                                              .x = a->hidden,
                                              .N = N,
                                              .in = d->F,
                                              .out = d->C}));
    SWT_TRY(swt_linear_backward_input(
        c, &(swt_linear_backward_input_args){.dx = s->dhidden,
                                             .dy = s->dx,
                                             .w = swt_weight(m, at->wo.weight),
                                             .relu_output = a->hidden,
                                             .N = N,
                                             .in = d->F,
                                             .out = d->C}));
    SWT_TRY(swt_linear_backward_weight(
        c, &(swt_linear_backward_weight_args){.dw = swt_at(m->grad, at->wi.weight),
                                              .dbias = swt_at(m->grad, at->wi.bias),
                                              .dy = s->dhidden,
                                              .x = s->norm,
                                              .N = N,
                                              .in = d->C,
                                              .out = d->F}));
    return swt_linear_backward_input(
        c, &(swt_linear_backward_input_args){.dx = s->dh,
                                             .dy = s->dhidden,
                                             .w = swt_weight(m, at->wi.weight),
                                             .N = N,
                                             .in = d->C,
                                             .out = d->F});
}

/* Where block l's output goes: the next block's input, or the shared place behind the last block.
 */
static void *output_of(swt_model *m, int64_t l) {
    return l + 1 < m->dims.L ? m->blocks[l + 1].x : m->acts.x;
}

swt_status swt_block_forward(swt_model *m, const swt_pass *pass, int64_t l) {
    const int64_t N = pass->B * pass->T;
    SWT_TRY(swt_attention_layer_forward(m, pass, l));
    SWT_TRY(swt_model_norm(m, &m->params.layers[l].ffn_norm, m->blocks[l].mid, N));
    if (swt_is_sparse(&m->dims, l))
        return swt_moe_forward(m, pass, l, output_of(m, l));
    return dense_forward(m, N, l, output_of(m, l));
}

swt_status swt_block_backward(swt_model *m, const swt_pass *pass, int64_t l) {
    const swt_place *norm = &m->params.layers[l].ffn_norm;
    const void *mid = m->blocks[l].mid;
    const int64_t N = pass->B * pass->T;
    SWT_TRY(swt_model_norm(m, norm, mid, N));
    if (swt_is_sparse(&m->dims, l))
        SWT_TRY(swt_moe_backward(m, pass, l));
    else
        SWT_TRY(dense_backward(m, N, l));
    SWT_TRY(swt_model_norm_backward(m, norm, mid, m->acts.dx, N));
    return swt_attention_layer_backward(m, pass, l);
}
