/* Self-attention: y = x + o(attention(q, k, v of norm(x))). */
#include "model/memory.h"

static void params(swt_param_walk *w, const swt_dims *d, swt_places *out) {
    const int64_t HD = d->H * d->D;
    out->qkv = swt_params_linear(w, (const char *const[]){"q", "k", "v", NULL}, HD, d->C);
    out->o = swt_params_linear(w, (const char *const[]){"o", NULL}, d->C, HD);
}

static void keep(swt_memory_walk *w, swt_sublayer *s) {
    const swt_dims *d = &w->m->dims;
    const int64_t N = SWT_COUNT(d->B, d->T), HD = SWT_COUNT(d->H, d->D);
    s->attention.qkv = swt_take_act(w, SWT_COUNT(N, 3, HD));
    s->attention.lse = swt_take(w, SWT_ARENA_ACT, SWT_F32, SWT_COUNT(N, d->H));
    s->attention.y = swt_take_act(w, SWT_COUNT(N, HD));
}

static void share(swt_memory_walk *w) {
    const swt_dims *d = &w->m->dims;
    const int64_t N = SWT_COUNT(d->B, d->T), HD = SWT_COUNT(d->H, d->D);
    if (!w->m->training)
        return;
    w->m->acts.dqkv = swt_take_act(w, SWT_COUNT(N, 3, HD));
    w->m->acts.dattention = swt_take_act(w, SWT_COUNT(N, HD));
}

/* Queries, keys and values are columns of what one linear layer made, (N, 3 H D). */
static swt_attention_dims attention_dims(const swt_model *m, const swt_pass *pass,
                                         const swt_sublayer *s) {
    const swt_dims *d = &m->dims;
    const int64_t T = pass->sequences[s->stack].T, row = 3 * d->H * d->D;
    return (swt_attention_dims){.B = pass->B,
                                .H = d->H,
                                .D = d->D,
                                .Tq = T,
                                .Tk = T,
                                .q_stride = row,
                                .kv_stride = row,
                                .mask = SWT_MASK_CAUSAL,
                                .scale = d->attn_scale};
}

/* Part 0, 1 or 2 of these columns: where q, k or v begins. */
static void *part_of(const swt_model *m, void *qkv, int64_t part) {
    return (unsigned char *)qkv +
           (size_t)(part * m->dims.H * m->dims.D) * swt_dtype_bytes(m->ctx.dtype);
}

static swt_status forward(swt_model *m, const swt_pass *pass, swt_sublayer *s, void *y) {
    const swt_attention_acts *a = &s->attention;
    const int64_t N = swt_pass_tokens(pass, s->stack);
    SWT_TRY(
        swt_model_linear(m, &s->places->qkv, N, &(swt_linear_io){.y = a->qkv, .x = m->acts.norm}));
    const swt_attention_forward_args attention = {.y = a->y,
                                                  .lse = a->lse,
                                                  .q = part_of(m, a->qkv, 0),
                                                  .k = part_of(m, a->qkv, 1),
                                                  .v = part_of(m, a->qkv, 2),
                                                  .dims = attention_dims(m, pass, s)};
    SWT_TRY(swt_attention_forward(&m->ctx, &attention));
    return swt_model_linear(m, &s->places->o, N,
                            &(swt_linear_io){.y = y, .x = a->y, .residual = s->x});
}

static swt_status backward(swt_model *m, const swt_pass *pass, swt_sublayer *s) {
    const swt_attention_acts *a = &s->attention;
    const int64_t N = swt_pass_tokens(pass, s->stack);
    swt_shared_acts *b = &m->acts;
    SWT_TRY(swt_model_linear_backward(
        m, &s->places->o, N,
        &(swt_linear_gradients){.dx = b->dattention, .dy = b->dstream, .x = a->y}));
    const swt_attention_backward_args attention = {.dq = part_of(m, b->dqkv, 0),
                                                   .dk = part_of(m, b->dqkv, 1),
                                                   .dv = part_of(m, b->dqkv, 2),
                                                   .dy = b->dattention,
                                                   .q = part_of(m, a->qkv, 0),
                                                   .k = part_of(m, a->qkv, 1),
                                                   .v = part_of(m, a->qkv, 2),
                                                   .y = a->y,
                                                   .lse = a->lse,
                                                   .dims = attention_dims(m, pass, s)};
    SWT_TRY(swt_attention_backward(&m->ctx, &attention));
    return swt_model_linear_backward(
        m, &s->places->qkv, N,
        &(swt_linear_gradients){.dx = b->dnorm, .dy = b->dqkv, .x = b->norm});
}

/* A query sees half of T keys on average. */
static double flops_per_token(const swt_dims *d) {
    const double C = (double)d->C, HD = (double)(d->H * d->D), T = (double)d->T;
    return 2.0 * 4.0 * C * HD + 2.0 * 2.0 * HD * (T + 1.0) / 2.0;
}

const swt_kind swt_attention_kind = {.name = "attn",
                                     .norm = "attn_norm",
                                     .params = params,
                                     .keep = keep,
                                     .share = share,
                                     .forward = forward,
                                     .backward = backward,
                                     .flops_per_token = flops_per_token};
