/* The whole model over one micro-batch: embedding, blocks, final norm, head, loss; and the way
 * back. */
#include "model/model.h"

#include <string.h>

swt_status swt_model_wait(swt_model *m) {
    SWT_TRY(swt_comm_wait(m->dist->world, m->ctx.stream));
    return swt_stream_sync(m->ctx.device, m->ctx.stream);
}

/* Copies to memory that is not page-locked wait inside the driver, where nobody asks for lost
 * peers: so all is done before they begin. */
swt_status swt_model_read(swt_model *m, void *host, const void *from, size_t bytes) {
    SWT_TRY(swt_model_wait(m));
    SWT_TRY(swt_device_copy(m->ctx.device, m->ctx.stream, SWT_TO_HOST, host, from, bytes));
    return swt_stream_sync(m->ctx.device, m->ctx.stream);
}

swt_status swt_model_round_weights(swt_model *m) {
    if (m->ctx.dtype == SWT_F32)
        return SWT_OK;
    return swt_cast(&m->ctx,
                    &(swt_cast_args){.to = m->weights, .from = m->param, .n = m->params.end});
}

/* BF16 numbers arrive in the upper half of the host's array and widen from its beginning: a number
 * is read before its place is written. */
swt_status swt_model_read_logits(swt_model *m, float *host, int64_t first, int64_t rows) {
    const int64_t V = m->dims.V, n = rows * V;
    const size_t size = swt_dtype_bytes(m->ctx.dtype), bytes = (size_t)n * size;
    unsigned char *const to = (unsigned char *)host + (size_t)n * (sizeof *host - size);
    const unsigned char *from = (const unsigned char *)m->acts.logits + (size_t)(first * V) * size;
    SWT_TRY(swt_model_read(m, to, from, bytes));
    for (int64_t i = 0; i < n && m->ctx.dtype == SWT_BF16; i++) {
        uint16_t x = 0;
        memcpy(&x, to + (size_t)i * size, sizeof x);
        host[i] = swt_bf16_to_float(x);
    }
    return SWT_OK;
}

swt_status swt_model_norm(swt_model *m, const swt_place *at, const void *x, int64_t N) {
    swt_shared_acts *s = &m->acts;
    return swt_norm_forward(&m->ctx,
                            &(swt_norm_forward_args){.y = s->norm,
                                                     .mean = s->norm_mean,
                                                     .rstd = s->norm_rstd,
                                                     .x = x,
                                                     .weight = swt_at(m->param, at->weight),
                                                     .bias = swt_at(m->param, at->bias),
                                                     .N = N,
                                                     .C = m->dims.C,
                                                     .eps = m->dims.norm_eps});
}

swt_status swt_model_norm_backward(swt_model *m, const swt_place *at, const void *x,
                                   const void *dresidual, int64_t N) {
    swt_shared_acts *s = &m->acts;
    return swt_norm_backward(&m->ctx,
                             &(swt_norm_backward_args){.dx = s->dx,
                                                       .dweight = swt_at(m->grad, at->weight),
                                                       .dbias = swt_at(m->grad, at->bias),
                                                       .dy = s->dh,
                                                       .dresidual = dresidual,
                                                       .x = x,
                                                       .weight = swt_at(m->param, at->weight),
                                                       .mean = s->norm_mean,
                                                       .rstd = s->norm_rstd,
                                                       .scratch = s->scratch,
                                                       .N = N,
                                                       .C = m->dims.C});
}

swt_status swt_model_forward(swt_model *m, const swt_pass *pass) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_params *p = &m->params;
    swt_shared_acts *s = &m->acts;
    const int64_t N = pass->B * pass->T;
    SWT_TRY(swt_embedding_forward(
        c, &(swt_embedding_forward_args){.x = m->blocks[0].x,
                                         .table = swt_weight(m, p->embed.weight),
                                         .tokens = pass->tokens,
                                         .N = N,
                                         .C = d->C,
                                         .V = d->V}));
    for (int64_t l = 0; l < d->L; l++)
        SWT_TRY(swt_block_forward(m, pass, l));
    SWT_TRY(swt_model_norm(m, &p->final_norm, s->x, N));
    return swt_linear_forward(c, &(swt_linear_forward_args){.y = s->logits,
                                                            .x = s->norm,
                                                            .w = swt_weight(m, p->head.weight),
                                                            .bias = swt_weight(m, p->head.bias),
                                                            .N = N,
                                                            .in = d->C,
                                                            .out = d->V});
}

swt_status swt_model_loss(swt_model *m, const swt_pass *pass, bool gradient) {
    swt_shared_acts *s = &m->acts;
    double *stats = s->stats + pass->turn * swt_stats_count(&m->dims);
    return swt_cross_entropy(&m->ctx,
                             &(swt_cross_entropy_args){.dlogits = gradient ? s->logits : NULL,
                                                       .stats = stats,
                                                       .logits = s->logits,
                                                       .targets = pass->targets,
                                                       .scratch = s->scratch,
                                                       .N = pass->B * pass->T,
                                                       .V = m->dims.V});
}

/* acts.logits holds the logits' gradient; acts.dx becomes the last block's output's gradient. */
static swt_status head_backward(swt_model *m, int64_t N) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_params *p = &m->params;
    swt_shared_acts *s = &m->acts;
    SWT_TRY(swt_linear_backward_weight(
        c, &(swt_linear_backward_weight_args){.dw = swt_at(m->grad, p->head.weight),
                                              .dbias = swt_at(m->grad, p->head.bias),
                                              .dy = s->logits,
                                              .x = s->norm,
                                              .N = N,
                                              .in = d->C,
                                              .out = d->V}));
    SWT_TRY(swt_linear_backward_input(
        c, &(swt_linear_backward_input_args){.dx = s->dh,
                                             .dy = s->logits,
                                             .w = swt_weight(m, p->head.weight),
                                             .N = N,
                                             .in = d->C,
                                             .out = d->V}));
    return swt_model_norm_backward(m, &p->final_norm, s->x, NULL, N);
}

swt_status swt_model_backward(swt_model *m, const swt_pass *pass) {
    const swt_dims *d = &m->dims;
    const swt_params *p = &m->params;
    const int64_t N = pass->B * pass->T;
    SWT_TRY(head_backward(m, N));
    for (int64_t l = d->L - 1; l >= 0; l--)
        SWT_TRY(swt_block_backward(m, pass, l));
    SWT_TRY(swt_embedding_backward(
        &m->ctx, &(swt_embedding_backward_args){.dtable = swt_at(m->grad, p->embed.weight),
                                                .dx = m->acts.dx,
                                                .tokens = pass->tokens,
                                                .N = N,
                                                .C = d->C,
                                                .V = d->V}));
    /* The experts' sums were made layer by layer. */
    if (m->sum == NULL)
        return SWT_OK;
    return swt_grad_add(&m->ctx, &(swt_grad_add_args){.sum = m->sum,
                                                      .grad = m->grad,
                                                      .n = p->shared_end,
                                                      .limit = 0x1p62 / (double)d->M,
                                                      .first = pass->turn == 0});
}
