/* The whole model over one micro-batch: embedding, sub-layers, final norm, head, loss; and the way
 * back. */
#include "model/dropout.h"
#include "model/sums.h"

void swt_pass_sequences(const swt_model *m, swt_pass *pass) {
    const swt_dims *d = &m->dims;
    const swt_shared_acts *a = &m->acts;
    const int64_t first = pass->turn * d->B * d->T, first_input = pass->turn * d->B * d->encoder_T;
    pass->sequences[SWT_DECODER] =
        (swt_sequence){.T = d->T, .tokens = a->tokens + first, .routed = a->routed + first};
    if (d->encoder_L > 0)
        pass->sequences[SWT_ENCODER] = (swt_sequence){.T = d->encoder_T,
                                                      .tokens = a->inputs + first_input,
                                                      .routed = a->inputs_routed + first_input,
                                                      .lengths = a->lengths + pass->turn * d->B};
}

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
                                                   .dresidual = g->dresidual,
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
    return p == &m->params.final_norm[SWT_DECODER] ? swt_head_scale(&m->dims) : 1.0f;
}

static swt_status norm_forward(swt_model *m, const swt_place *p, void *y, const void *x,
                               int64_t N) {
    return swt_norm_forward(&m->ctx,
                            &(swt_norm_forward_args){.y = y,
                                                     .mean = norm_mean(m),
                                                     .rstd = m->acts.norm_rstd,
                                                     .x = x,
                                                     .weight = swt_slice(m->param, p->weight),
                                                     .bias = swt_slice(m->param, p->bias),
                                                     .N = N,
                                                     .C = m->dims.C,
                                                     .eps = swt_norm_eps(&m->dims),
                                                     .scale = norm_scale(m, p)});
}

swt_status swt_model_norm(swt_model *m, const swt_place *p, const void *x, int64_t N) {
    return norm_forward(m, p, m->acts.norm, x, N);
}

void *swt_model_heads(const swt_model *m, void *tensor, int64_t i) {
    const size_t bytes = swt_dtype_bytes(m->ctx.dtype);
    return (unsigned char *)tensor + (size_t)(i * m->dims.H * m->dims.D) * bytes;
}

/* After the norm of the same x, whose statistics are still there: dy is the gradient of its output,
 * acts.dstream becomes that of x, plus dresidual (NULL, or acts.dstream itself). */
static swt_status norm_backward(swt_model *m, const swt_place *p, const void *x, const void *dy,
                                const void *dresidual, int64_t N) {
    swt_shared_acts *a = &m->acts;
    return swt_norm_backward(&m->ctx,
                             &(swt_norm_backward_args){.dx = a->dstream,
                                                       .dweight = swt_slice(m->grad, p->weight),
                                                       .dbias = swt_slice(m->grad, p->bias),
                                                       .dy = dy,
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

/* ---- a stack: embedding, sub-layers, final norm */

/* Its sub-layers are [first, end) of the model's. */
typedef struct range {
    int64_t first, end;
} range;

static range sublayers_of(const swt_model *m, swt_stack stack) {
    const int64_t decoder = swt_sublayer_first(&m->dims, SWT_DECODER);
    return stack == SWT_ENCODER ? (range){0, decoder} : (range){decoder, m->n_sublayers};
}

/* Where its last sub-layer leaves its output. */
static void *output_of(const swt_model *m, swt_stack stack) {
    return stack == SWT_ENCODER ? m->acts.encoder_x : m->acts.x;
}

static swt_status embed(swt_model *m, const swt_pass *pass, swt_stack stack) {
    const swt_params *p = &m->params;
    const swt_embedding_forward_args a = {.x = m->sublayers[sublayers_of(m, stack).first].x,
                                          .table = swt_weight(m, p->embed.weight),
                                          .tokens = pass->sequences[stack].tokens,
                                          .N = swt_pass_tokens(pass, stack),
                                          .C = p->embed.in,
                                          .V = p->embed.out};
    return swt_embedding_forward(&m->ctx, &a);
}

/* Both ways in the encoder. */
static swt_status spread_bias(swt_model *m, swt_stack stack) {
    const int64_t table = m->params.rel_bias[stack].weight;
    if (m->dims.positions != SWT_POSITIONS_RELATIVE)
        return SWT_OK;
    return swt_bias_forward(&m->ctx, &(swt_bias_forward_args){.bias = m->acts.bias[stack],
                                                              .table = swt_slice(m->param, table),
                                                              .H = m->dims.H,
                                                              .both_ways = stack == SWT_ENCODER});
}

/* to: of the final norm. */
static swt_status run_stack(swt_model *m, const swt_pass *pass, swt_stack stack, void *to) {
    const range r = sublayers_of(m, stack);
    const int64_t N = swt_pass_tokens(pass, stack);
    SWT_TRY(embed(m, pass, stack));
    SWT_TRY(swt_model_drop_end(m, pass, stack, SWT_DROPOUT_INPUT, m->sublayers[r.first].x));
    SWT_TRY(spread_bias(m, stack));
    for (int64_t i = r.first; i < r.end; i++) {
        swt_sublayer *s = &m->sublayers[i];
        void *y = i + 1 < r.end ? m->sublayers[i + 1].x : output_of(m, stack);
        swt_progress_layer(m->dist->host->progress, s->block, (int)s->kind);
        SWT_TRY(swt_model_norm(m, &s->places->norm, s->x, N));
        SWT_TRY(swt_kind_of(s)->forward(m, pass, s, y));
    }
    SWT_TRY(norm_forward(m, &m->params.final_norm[stack], to, output_of(m, stack), N));
    return swt_model_drop_end(m, pass, stack, SWT_DROPOUT_FINAL, to);
}

swt_status swt_model_forward(swt_model *m, const swt_pass *pass) {
    swt_shared_acts *a = &m->acts;
    if (m->dims.encoder_L > 0)
        SWT_TRY(run_stack(m, pass, SWT_ENCODER, a->memory));
    SWT_TRY(run_stack(m, pass, SWT_DECODER, a->norm));
    return swt_model_linear(m, &m->params.head, swt_pass_tokens(pass, SWT_DECODER),
                            &(swt_linear_io){.y = a->logits, .x = a->norm});
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
                                                       .V = m->dims.V,
                                                       .z_coef = (float)m->dims.output_z_coef});
}

/* The embedding is every stack's, and a tied head's: the first to come writes its gradient, the
 * others add. */
static swt_status embed_backward(swt_model *m, const swt_pass *pass, swt_stack stack) {
    const swt_params *p = &m->params;
    const swt_embedding_backward_args a = {.dtable = swt_slice(m->grad, p->embed.weight),
                                           .dx = m->acts.dstream,
                                           .tokens = pass->sequences[stack].tokens,
                                           .N = swt_pass_tokens(pass, stack),
                                           .C = p->embed.in,
                                           .V = p->embed.out,
                                           .add = m->dims.tied || stack == SWT_ENCODER};
    return swt_embedding_backward(&m->ctx, &a);
}

static swt_status gather_bias(swt_model *m, swt_stack stack) {
    const int64_t table = m->params.rel_bias[stack].weight;
    if (m->dims.positions != SWT_POSITIONS_RELATIVE)
        return SWT_OK;
    return swt_bias_backward(&m->ctx, &(swt_bias_backward_args){.dtable = swt_slice(m->grad, table),
                                                                .dbias = m->acts.dbias[stack],
                                                                .H = m->dims.H,
                                                                .both_ways = stack == SWT_ENCODER});
}

/* dy: the gradient of the stack's output, changed; the final norm's statistics are the newest. */
static swt_status run_stack_back(swt_model *m, const swt_pass *pass, swt_stack stack, void *dy) {
    swt_shared_acts *a = &m->acts;
    const range r = sublayers_of(m, stack);
    const int64_t N = swt_pass_tokens(pass, stack);
    SWT_TRY(swt_model_drop_end(m, pass, stack, SWT_DROPOUT_FINAL, dy));
    SWT_TRY(norm_backward(m, &m->params.final_norm[stack], output_of(m, stack), dy, NULL, N));
    for (int64_t i = r.end - 1; i >= r.first; i--) {
        swt_sublayer *s = &m->sublayers[i];
        swt_progress_layer(m->dist->host->progress, s->block, (int)s->kind);
        SWT_TRY(swt_model_norm(m, &s->places->norm, s->x, N));
        SWT_TRY(swt_model_output_gradient(m, pass, s));
        SWT_TRY(swt_kind_of(s)->backward(m, pass, s));
        SWT_TRY(norm_backward(m, &s->places->norm, s->x, a->dnorm, a->dstream, N));
    }
    SWT_TRY(gather_bias(m, stack));
    SWT_TRY(swt_model_drop_end(m, pass, stack, SWT_DROPOUT_INPUT, a->dstream));
    return embed_backward(m, pass, stack);
}

swt_status swt_model_backward(swt_model *m, const swt_pass *pass) {
    swt_shared_acts *a = &m->acts;
    /* The last norm of the forward pass was the decoder's final one: its output is still there. */
    SWT_TRY(swt_model_linear_backward(
        m, &m->params.head, swt_pass_tokens(pass, SWT_DECODER),
        &(swt_linear_gradients){.dx = a->dnorm, .dy = a->logits, .x = a->norm}));
    SWT_TRY(run_stack_back(m, pass, SWT_DECODER, a->dnorm));
    if (m->dims.encoder_L > 0) {
        SWT_TRY(swt_model_norm(m, &m->params.final_norm[SWT_ENCODER], a->encoder_x,
                               swt_pass_tokens(pass, SWT_ENCODER))); /* for its statistics */
        SWT_TRY(run_stack_back(m, pass, SWT_ENCODER, a->dmemory));
    }
    return swt_sums_add(m, pass);
}
