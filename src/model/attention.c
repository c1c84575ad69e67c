/* Self-attention: y = x + o(attention(q, k, v of norm(x))). */
#include "model/dropout.h"
#include "model/memory.h"

static void params(swt_param_walk *w, const swt_dims *d, swt_places *out) {
    const int64_t HD = d->H * d->D;
    out->qkv = swt_params_linear(w, (const char *const[]){"q", "k", "v", NULL}, HD, d->C);
    out->o = swt_params_linear(w, (const char *const[]){"o", NULL}, d->C, HD);
}

static void keep(swt_memory_walk *w, swt_sublayer *s) {
    const swt_dims *d = &w->m->dims;
    const int64_t N = SWT_COUNT(d->B, swt_stack_positions(d, s->stack)), HD = SWT_COUNT(d->H, d->D);
    s->attention.qkv = swt_take_act(w, SWT_COUNT(N, 3, HD));
    s->attention.lse = swt_take(w, SWT_ARENA_ACT, SWT_F32, SWT_COUNT(N, d->H));
    s->attention.y = swt_take_act(w, SWT_COUNT(N, HD));
}

/* Queries, keys and values are columns of what one linear layer made, (N, 3 H D). */
static swt_attention_dims attention_dims(const swt_dims *d, swt_stack stack, int64_t B, int64_t T) {
    const int64_t row = 3 * d->H * d->D;
    return (swt_attention_dims){.B = B,
                                .H = d->H,
                                .D = d->D,
                                .Tq = T,
                                .Tk = T,
                                .q_stride = row,
                                .kv_stride = row,
                                .mask = stack == SWT_DECODER ? SWT_MASK_CAUSAL : SWT_MASK_NONE,
                                .scale = d->attn_scale};
}

static void share(swt_memory_walk *w) {
    const swt_dims *d = &w->m->dims;
    const int64_t T = swt_most_positions(d), N = SWT_COUNT(d->B, T), HD = SWT_COUNT(d->H, d->D);
    const swt_attention_dims dims = attention_dims(d, SWT_DECODER, d->B, T);
    if (!w->m->training)
        return;
    w->m->acts.dqkv = swt_take_act(w, SWT_COUNT(N, 3, HD));
    w->m->acts.dattention = swt_take_act(w, SWT_COUNT(N, HD));
    if (d->positions == SWT_POSITIONS_RELATIVE)
        swt_need_scratch(w, swt_attention_backward_scratch_bytes(&dims));
}

static swt_status forward(swt_model *m, const swt_pass *pass, swt_sublayer *s, void *y) {
    const swt_attention_acts *a = &s->attention;
    const swt_sequence *sequence = &pass->sequences[s->stack];
    const int64_t N = swt_pass_tokens(pass, s->stack);
    SWT_TRY(
        swt_model_linear(m, &s->places->qkv, N, &(swt_linear_io){.y = a->qkv, .x = m->acts.norm}));
    swt_attention_dims dims = attention_dims(&m->dims, s->stack, pass->B, sequence->T);
    dims.dropout = swt_model_weights_mask(m, pass, s);
    const swt_attention_forward_args attention = {.y = a->y,
                                                  .lse = a->lse,
                                                  .q = swt_model_heads(m, a->qkv, 0),
                                                  .k = swt_model_heads(m, a->qkv, 1),
                                                  .v = swt_model_heads(m, a->qkv, 2),
                                                  .key_lengths = sequence->lengths,
                                                  .bias = m->acts.bias[s->stack],
                                                  .dims = dims};
    SWT_TRY(swt_attention_forward(&m->ctx, &attention));
    return swt_model_output(m, pass, s, &s->places->o, y, a->y);
}

static swt_status backward(swt_model *m, const swt_pass *pass, swt_sublayer *s) {
    const swt_attention_acts *a = &s->attention;
    const swt_sequence *sequence = &pass->sequences[s->stack];
    const int64_t N = swt_pass_tokens(pass, s->stack);
    swt_shared_acts *b = &m->acts;
    SWT_TRY(swt_model_linear_backward(
        m, &s->places->o, N,
        &(swt_linear_gradients){.dx = b->dattention, .dy = b->doutput, .x = a->y}));
    swt_attention_dims dims = attention_dims(&m->dims, s->stack, pass->B, sequence->T);
    dims.dropout = swt_model_weights_mask(m, pass, s);
    const swt_attention_backward_args attention = {
        .dq = swt_model_heads(m, b->dqkv, 0),
        .dk = swt_model_heads(m, b->dqkv, 1),
        .dv = swt_model_heads(m, b->dqkv, 2),
        .dbias = b->dbias[s->stack],
        .dy = b->dattention,
        .q = swt_model_heads(m, a->qkv, 0),
        .k = swt_model_heads(m, a->qkv, 1),
        .v = swt_model_heads(m, a->qkv, 2),
        .key_lengths = sequence->lengths,
        .bias = b->bias[s->stack],
        .y = a->y,
        .lse = a->lse,
        .scratch = b->scratch,
        .dims = dims,
        /* All blocks of a stack have one bias; backward meets the last one first. */
        .add = s->block < swt_stack_blocks(&m->dims, s->stack) - 1};
    SWT_TRY(swt_attention_backward(&m->ctx, &attention));
    return swt_model_linear_backward(
        m, &s->places->qkv, N,
        &(swt_linear_gradients){.dx = b->dnorm, .dy = b->dqkv, .x = b->norm});
}

/* A query of the decoder sees half of T keys on average, one of the encoder all. */
static double flops_per_token(const swt_dims *d, swt_stack stack) {
    const double C = (double)d->C, HD = (double)(d->H * d->D);
    const double T = (double)swt_stack_positions(d, stack);
    const double keys = stack == SWT_DECODER ? (T + 1.0) / 2.0 : T;
    return 2.0 * 4.0 * C * HD + 2.0 * 2.0 * HD * keys;
}

const swt_kind swt_attention_kind = {.name = "attn",
                                     .norm = "attn_norm",
                                     .params = params,
                                     .keep = keep,
                                     .share = share,
                                     .forward = forward,
                                     .backward = backward,
                                     .flops_per_token = flops_per_token};
