/* Cross-attention: y = x + o(attention(q of norm(x); k, v of the encoder's output)). */
#include "model/dropout.h"
#include "model/memory.h"

static void params(swt_param_walk *w, const swt_dims *d, swt_places *out) {
    const int64_t HD = d->H * d->D;
    out->q = swt_params_linear(w, (const char *const[]){"q", NULL}, HD, d->C);
    out->kv = swt_params_linear(w, (const char *const[]){"k", "v", NULL}, HD, d->C);
    out->o = swt_params_linear(w, (const char *const[]){"o", NULL}, d->C, HD);
}

static void keep(swt_memory_walk *w, swt_sublayer *s) {
    const swt_dims *d = &w->m->dims;
    const int64_t N = SWT_COUNT(d->B, d->T), HD = SWT_COUNT(d->H, d->D);
    s->cross.q = swt_take_act(w, SWT_COUNT(N, HD));
    s->cross.kv = swt_take_act(w, SWT_COUNT(d->B, d->encoder_T, 2, HD));
    s->cross.lse = swt_take(w, SWT_ARENA_ACT, SWT_F32, SWT_COUNT(N, d->H));
    s->cross.y = swt_take_act(w, SWT_COUNT(N, HD));
}

/* dattention is self-attention's, which every decoder has. */
static void share(swt_memory_walk *w) {
    const swt_dims *d = &w->m->dims;
    const int64_t HD = SWT_COUNT(d->H, d->D);
    if (!w->m->training)
        return;
    w->m->acts.dq = swt_take_act(w, SWT_COUNT(d->B, d->T, HD));
    w->m->acts.dkv = swt_take_act(w, SWT_COUNT(d->B, d->encoder_T, 2, HD));
}

/* Keys and values are columns of what one linear layer made, (S, 2 H D). */
static swt_attention_dims attention_dims(const swt_model *m, const swt_pass *pass,
                                         const swt_sublayer *s) {
    const swt_dims *d = &m->dims;
    const int64_t HD = d->H * d->D;
    return (swt_attention_dims){.B = pass->B,
                                .H = d->H,
                                .D = d->D,
                                .Tq = pass->sequences[SWT_DECODER].T,
                                .Tk = pass->sequences[SWT_ENCODER].T,
                                .q_stride = HD,
                                .kv_stride = 2 * HD,
                                .mask = SWT_MASK_NONE,
                                .scale = d->attn_scale,
                                .dropout = swt_model_weights_mask(m, pass, s)};
}

static swt_status forward(swt_model *m, const swt_pass *pass, swt_sublayer *s, void *y) {
    const swt_cross_acts *a = &s->cross;
    const int64_t N = swt_pass_tokens(pass, SWT_DECODER), S = swt_pass_tokens(pass, SWT_ENCODER);
    SWT_TRY(swt_model_linear(m, &s->places->q, N, &(swt_linear_io){.y = a->q, .x = m->acts.norm}));
    SWT_TRY(
        swt_model_linear(m, &s->places->kv, S, &(swt_linear_io){.y = a->kv, .x = m->acts.memory}));
    const swt_attention_forward_args attention = {.y = a->y,
                                                  .lse = a->lse,
                                                  .q = a->q,
                                                  .k = swt_model_heads(m, a->kv, 0),
                                                  .v = swt_model_heads(m, a->kv, 1),
                                                  .key_lengths =
                                                      pass->sequences[SWT_ENCODER].lengths,
                                                  .dims = attention_dims(m, pass, s)};
    SWT_TRY(swt_attention_forward(&m->ctx, &attention));
    return swt_model_output(m, pass, s, &s->places->o, y, a->y);
}

/* The encoder's output is every block's: its gradient gathers, from the last block to the first. */
static swt_status backward(swt_model *m, const swt_pass *pass, swt_sublayer *s) {
    const swt_cross_acts *a = &s->cross;
    const int64_t N = swt_pass_tokens(pass, SWT_DECODER), S = swt_pass_tokens(pass, SWT_ENCODER);
    const bool first = s->block == m->dims.L - 1;
    swt_shared_acts *b = &m->acts;
    SWT_TRY(swt_model_linear_backward(
        m, &s->places->o, N,
        &(swt_linear_gradients){.dx = b->dattention, .dy = b->doutput, .x = a->y}));
    const swt_attention_backward_args attention = {.dq = b->dq,
                                                   .dk = swt_model_heads(m, b->dkv, 0),
                                                   .dv = swt_model_heads(m, b->dkv, 1),
                                                   .dy = b->dattention,
                                                   .q = a->q,
                                                   .k = swt_model_heads(m, a->kv, 0),
                                                   .v = swt_model_heads(m, a->kv, 1),
                                                   .key_lengths =
                                                       pass->sequences[SWT_ENCODER].lengths,
                                                   .y = a->y,
                                                   .lse = a->lse,
                                                   .scratch = b->scratch,
                                                   .dims = attention_dims(m, pass, s)};
    SWT_TRY(swt_attention_backward(&m->ctx, &attention));
    SWT_TRY(
        swt_model_linear_backward(m, &s->places->kv, S,
                                  &(swt_linear_gradients){.dx = b->dmemory,
                                                          .dy = b->dkv,
                                                          .x = b->memory,
                                                          .dresidual = first ? NULL : b->dmemory}));
    return swt_model_linear_backward(
        m, &s->places->q, N, &(swt_linear_gradients){.dx = b->dnorm, .dy = b->dq, .x = b->norm});
}

/* k and v are made for every token of the encoder: a share of them for each of the decoder. */
static double flops_per_token(const swt_dims *d, swt_stack stack) {
    const double C = (double)d->C, HD = (double)(d->H * d->D), S = (double)d->encoder_T;
    const double T = (double)swt_stack_positions(d, stack);
    return 2.0 * 2.0 * C * HD * (1.0 + S / T) + 2.0 * 2.0 * HD * S;
}

const swt_kind swt_cross_kind = {.name = "cross",
                                 .norm = "cross_norm",
                                 .params = params,
                                 .keep = keep,
                                 .share = share,
                                 .forward = forward,
                                 .backward = backward,
                                 .flops_per_token = flops_per_token};
