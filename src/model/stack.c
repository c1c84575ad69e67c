/* The whole model over one micro-batch: embedding, sub-layers, final norm, head, loss; and the way
 * back. */
#include "model/sums.h"

swt_status swt_model_linear(swt_model *m, const swt_place *p, int64_t N, const swt_linear_io *io) {
    return swt_linear_forward(&m->ctx, &(swt_linear_forward_args){.y = io->y,
                                                                  .x = io->x,
                                                                  .w = swt_weight(m, p->weight),
                                                                  .bias = swt_weight(m, p->bias),
                                                                  .residual = io->residual,
                                                                  .N = N,
                                                                  .in = p->in,
                                                                  .out = p->out,
                                                                  .epilogue = io->epilogue});
}

swt_status swt_model_linear_backward(swt_model *m, const swt_place *p, int64_t N,
                                     const swt_linear_gradients *g) {
    SWT_TRY(swt_linear_backward_weight(
        &m->ctx, &(swt_linear_backward_weight_args){.dw = swt_slice(m->grad, p->weight),
                                                    .dbias = swt_slice(m->grad, p->bias),
                                                    .dy = g->dy,
                                                    .x = g->x,
                                                    .N = N,
                                                    .in = p->in,
                                                    .out = p->out}));
    return swt_linear_backward_input(
        &m->ctx, &(swt_linear_backward_input_args){.dx = g->dx,
                                                   .dy = g->dy,
                                                   .w = swt_weight(m, p->weight),
                                                   .relu_output = g->relu_output,
                                                   .N = N,
                                                   .in = p->in,
                                                   .out = p->out});
}

/* RMS norm has none. */
static float *norm_mean(const swt_model *m) {
    return m->dims.norm == SWT_NORM_RMSNORM ? NULL : m->acts.norm_mean;
}

/* The last norm's output is what the head reads. */
static float norm_scale(const swt_model *m, const swt_place *p) {
    return p == &m->params.final_norm ? swt_head_scale(&m->dims) : 1.0f;
}

swt_status swt_model_norm(swt_model *m, const swt_place *p, const void *x, int64_t N) {
    swt_shared_acts *a = &m->acts;
    return swt_norm_forward(&m->ctx,
                            &(swt_norm_forward_args){.y = a->norm,
                                                     .mean = norm_mean(m),
                                                     .rstd = a->norm_rstd,
                                                     .x = x,
                                                     .weight = swt_slice(m->param, p->weight),
                                                     .bias = swt_slice(m->param, p->bias),
                                                     .N = N,
                                                     .C = m->dims.C,
                                                     .eps = swt_norm_eps(&m->dims),
                                                     .scale = norm_scale(m, p)});
}

/* After swt_model_norm of the same x: acts.dnorm is the gradient of acts.norm, acts.dstream becomes
 * that of x, plus dresidual (NULL, or acts.dstream itself). */
static swt_status norm_backward(swt_model *m, const swt_place *p, const void *x,
                                const void *dresidual, int64_t N) {
    swt_shared_acts *a = &m->acts;
    return swt_norm_backward(&m->ctx,
                             &(swt_norm_backward_args){.dx = a->dstream,
                                                       .dweight = swt_slice(m->grad, p->weight),
                                                       .dbias = swt_slice(m->grad, p->bias),
                                                       .dy = a->dnorm,
                                                       .dresidual = dresidual,
                                                       .x = x,
                                                       .weight = swt_slice(m->param, p->weight),
                                                       .mean = norm_mean(m),
                                                       .rstd = a->norm_rstd,
                                                       .scratch = a->scratch,
                                                       .N = N,
                                                       .C = m->dims.C,
                                                       .scale = norm_scale(m, p)});
}

swt_status swt_model_forward(swt_model *m, const swt_pass *pass) {
    const swt_params *p = &m->params;
    swt_shared_acts *a = &m->acts;
    const int64_t N = swt_pass_tokens(pass, SWT_DECODER);
    SWT_TRY(swt_embedding_forward(
        &m->ctx, &(swt_embedding_forward_args){.x = m->sublayers[0].x,
                                               .table = swt_weight(m, p->embed.weight),
                                               .tokens = pass->sequences[SWT_DECODER].tokens,
                                               .N = N,
                                               .C = p->embed.in,
                                               .V = p->embed.out}));
    for (int64_t i = 0; i < m->n_sublayers; i++) {
        swt_sublayer *s = &m->sublayers[i];
        void *y = i + 1 < m->n_sublayers ? m->sublayers[i + 1].x : a->x;
        swt_progress_layer(m->dist->host->progress, s->block, (int)s->kind);
        SWT_TRY(swt_model_norm(m, &s->places->norm, s->x, N));
        SWT_TRY(swt_kind_of(s)->forward(m, pass, s, y));
    }
    SWT_TRY(swt_model_norm(m, &p->final_norm, a->x, N));
    return swt_model_linear(m, &p->head, N, &(swt_linear_io){.y = a->logits, .x = a->norm});
}

swt_status swt_model_loss(swt_model *m, const swt_pass *pass, bool gradient) {
    swt_shared_acts *a = &m->acts;
    return swt_cross_entropy(&m->ctx,
                             &(swt_cross_entropy_args){.dlogits = gradient ? a->logits : NULL,
                                                       .stats = swt_pass_stats(m, pass),
                                                       .logits = a->logits,
                                                       .targets = pass->targets,
                                                       .scratch = a->scratch,
                                                       .N = swt_pass_tokens(pass, SWT_DECODER),
                                                       .V = m->dims.V});
}

swt_status swt_model_backward(swt_model *m, const swt_pass *pass) {
    const swt_params *p = &m->params;
    swt_shared_acts *a = &m->acts;
    const int64_t N = swt_pass_tokens(pass, SWT_DECODER);
    /* The last norm of the forward pass was the final one: its output is still there. */
    SWT_TRY(swt_model_linear_backward(
        m, &p->head, N, &(swt_linear_gradients){.dx = a->dnorm, .dy = a->logits, .x = a->norm}));
    SWT_TRY(norm_backward(m, &p->final_norm, a->x, NULL, N));
    for (int64_t i = m->n_sublayers - 1; i >= 0; i--) {
        swt_sublayer *s = &m->sublayers[i];
        swt_progress_layer(m->dist->host->progress, s->block, (int)s->kind);
        SWT_TRY(swt_model_norm(m, &s->places->norm, s->x, N));
        SWT_TRY(swt_kind_of(s)->backward(m, pass, s));
        SWT_TRY(norm_backward(m, &s->places->norm, s->x, a->dstream, N));
    }
    SWT_TRY(swt_embedding_backward(
        &m->ctx, &(swt_embedding_backward_args){.dtable = swt_slice(m->grad, p->embed.weight),
                                                .dx = a->dstream,
                                                .tokens = pass->sequences[SWT_DECODER].tokens,
                                                .N = N,
                                                .C = p->embed.in,
                                                .V = p->embed.out,
                                                .add = m->dims.tied}));
    return swt_sums_add(m, pass);
}
