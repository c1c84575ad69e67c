/* The whole model over one micro-batch: embedding, blocks, final norm, head, loss; and the way
 * back. */
#include "model/model.h"

swt_status swt_model_forward(swt_model *m, const swt_pass *pass) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_params *p = &m->params;
    swt_shared_acts *s = &m->acts;
    const int64_t N = pass->B * pass->T;
    SWT_TRY(swt_embedding_forward(c, m->blocks[0].x, swt_at(m->param, p->embed.weight),
                                  pass->tokens, N, d->C, d->V));
    for (int64_t l = 0; l < d->L; l++)
        SWT_TRY(swt_block_forward(m, pass, l));
    SWT_TRY(swt_norm_forward(c, s->norm, s->norm_mean, s->norm_rstd, s->x,
                             swt_at(m->param, p->final_norm.weight),
                             swt_at(m->param, p->final_norm.bias), N, d->C, d->norm_eps));
    return swt_linear_forward(c, s->logits, s->norm, swt_at(m->param, p->head.weight),
                              swt_at(m->param, p->head.bias), NULL, N, d->C, d->V,
                              SWT_EPILOGUE_NONE);
}

swt_status swt_model_loss(swt_model *m, const swt_pass *pass, bool gradient) {
    swt_shared_acts *s = &m->acts;
    double *stats = s->stats + pass->turn * swt_stats_count(&m->dims);
    return swt_cross_entropy(&m->ctx, gradient ? s->logits : NULL, stats, s->logits, pass->targets,
                             s->scratch, pass->B * pass->T, m->dims.V);
}

/* acts.logits holds the logits' gradient; acts.dx becomes the last block's output's gradient. */
static swt_status head_backward(swt_model *m, int64_t N) {
    const swt_ctx *c = &m->ctx;
    const swt_dims *d = &m->dims;
    const swt_params *p = &m->params;
    swt_shared_acts *s = &m->acts;
    SWT_TRY(swt_linear_backward_weight(c, swt_at(m->grad, p->head.weight),
                                       swt_at(m->grad, p->head.bias), s->logits, s->norm, N, d->C,
                                       d->V, 0));
    SWT_TRY(swt_linear_backward_input(c, s->dh, s->logits, swt_at(m->param, p->head.weight), NULL,
                                      N, d->C, d->V));
    return swt_norm_backward(c, s->dx, swt_at(m->grad, p->final_norm.weight),
                             swt_at(m->grad, p->final_norm.bias), s->dh, NULL, s->x, s->norm_mean,
                             s->norm_rstd, swt_at(m->param, p->final_norm.weight), s->scratch, N,
                             d->C, 0);
}

swt_status swt_model_backward(swt_model *m, const swt_pass *pass) {
    const swt_dims *d = &m->dims;
    const swt_params *p = &m->params;
    const int64_t N = pass->B * pass->T;
    SWT_TRY(head_backward(m, N));
    for (int64_t l = d->L - 1; l >= 0; l--)
        SWT_TRY(swt_block_backward(m, pass, l));
    SWT_TRY(swt_embedding_backward(&m->ctx, swt_at(m->grad, p->embed.weight), m->acts.dx,
                                   pass->tokens, N, d->C, d->V, 0));
    /* The experts' sums were made layer by layer; an empty micro-batch has nothing to add. */
    if (m->sum == NULL || pass->B == 0)
        return SWT_OK;
    return swt_grad_add(&m->ctx, m->sum, m->grad, p->shared_end, 0x1p62 / (double)d->M);
}
