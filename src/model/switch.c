/* The switch layer: router, dispatch, all-to-all, experts, all-to-all, combine; and the way back.
 * Source: Fedus, Zoph, Shazeer 2021, sections 2.1 and 2.2. */
#include "base/checked.h"
#include "model/dropout.h"
#include "model/memory.h"
#include "model/sums.h"

/* What the operations of the sub-layer read in this pass beside tensors. Capacity is that of a full
 * micro-batch, also in a shorter last one of an evaluation: message sizes are the same on every
 * rank and in every pass. */
static swt_moe_dims moe_dims(const swt_model *m, const swt_pass *pass, const swt_sublayer *s) {
    const swt_dims *d = &m->dims;
    const int64_t pass_groups = pass->dropless ? 1 : swt_groups_per_micro_batch(d, pass->B);
    const int64_t capacity = swt_group_capacity(d, swt_group_tokens(d, s->stack), pass->training);
    const int64_t N = swt_pass_tokens(pass, s->stack);
    const double layers = d->aux_layers == SWT_AUX_LAYERS_MEAN ? (double)swt_sparse_layers(d) : 1.0;
    const double share = 1.0 / (layers * (double)d->M * (double)pass_groups);
    return (swt_moe_dims){
        .N = N,
        .C = d->C,
        .F = d->F,
        .ffn = d->ffn,
        .E = d->E,
        .k = 1,
        .G = pass_groups,
        .group_capacity = pass->dropless ? N : capacity,
        .K = pass->dropless ? m->message_slots : swt_sent_slots(d, s->stack, pass->training),
        .El = m->dist->El,
        .P = m->dist->P,
        .drop = d->drop,
        .dropped_output = d->dropped_output,
        .gate = d->gate,
        .jitter = (float)d->jitter,
        .block = swt_block_number(d, s->stack, s->block),
        .micro_batch = (uint32_t)pass->micro_batch,
        .training = pass->training,
        .dropout = swt_model_expert_mask(m, pass, s),
        .aux_scale = d->aux_coef * share,
        .z_scale = d->z_coef * share,
    };
}

static void params(swt_param_walk *w, const swt_dims *d, swt_places *out) {
    out->router = swt_params_linear(w, (const char *const[]){"router", NULL}, d->E, d->C);
    out->wi = swt_params_experts(w, swt_params_wi(d), d->F, d->C);
    out->wo = swt_params_experts(w, (const char *const[]){"wo", NULL}, d->C, d->F);
}

static void keep(swt_memory_walk *w, swt_sublayer *s) {
    const swt_dims *d = &w->m->dims;
    const swt_dist *dist = w->m->dist;
    const int64_t N = d->B * swt_stack_positions(d, s->stack),
                  G = swt_groups_per_micro_batch(d, d->B);
    const int64_t rows = SWT_COUNT(dist->El, dist->P, w->m->message_slots);
    swt_switch_acts *a = &s->moe;
    a->probs = swt_take(w, SWT_ARENA_ACT, SWT_F32, SWT_COUNT(N, d->E));
    a->lse = swt_take(w, SWT_ARENA_ACT, SWT_F32, N);
    a->expert = swt_take(w, SWT_ARENA_ACT, SWT_I32, N);
    a->gate = swt_take(w, SWT_ARENA_ACT, SWT_F32, N);
    a->slot = swt_take(w, SWT_ARENA_ACT, SWT_I32, N);
    a->kept_counts = swt_take(w, SWT_ARENA_ACT, SWT_I32, d->E);
    a->group_counts = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(G, d->E));
    a->slot_counts = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(dist->El, dist->P));
    a->x = swt_take_act(w, SWT_COUNT(rows, d->C));
    a->hidden = swt_take_act(w, SWT_COUNT(rows, d->F));
    if (d->ffn != SWT_FFN_RELU)
        a->pre = swt_take_act(w, SWT_COUNT(rows, swt_wi_width(d->ffn, d->F)));
}

static void share_backward(swt_memory_walk *w, int64_t rows) {
    const swt_dims *d = &w->m->dims;
    const swt_dtype act = w->m->ctx.dtype;
    swt_shared_acts *a = &w->m->acts;
    a->dgate = swt_take(w, SWT_ARENA_ACT, SWT_F32, SWT_COUNT(d->B, swt_most_positions(d)));
    a->dhidden_experts = swt_take_act(w, SWT_COUNT(rows, d->F));
    a->dpre_experts = a->dhidden_experts;
    if (d->ffn != SWT_FFN_RELU)
        a->dpre_experts = swt_take_act(w, SWT_COUNT(rows, swt_wi_width(d->ffn, d->F)));
    a->source_dot = swt_take(w, SWT_ARENA_COMM, SWT_F32, SWT_COUNT(d->E, w->m->message_slots));
    if (w->m->dist->P > 1) {
        a->owner_dx = swt_take(w, SWT_ARENA_COMM, act, SWT_COUNT(rows, d->C));
        a->owner_dot = swt_take(w, SWT_ARENA_COMM, SWT_F32, rows);
    }
}

static void share(swt_memory_walk *w) {
    const swt_model *m = w->m;
    const swt_dims *d = &m->dims;
    const swt_stack longest = d->encoder_T > d->T ? SWT_ENCODER : SWT_DECODER;
    swt_pass full = {.B = d->B, .training = true};
    full.sequences[longest].T = swt_most_positions(d);
    const swt_moe_dims dims = moe_dims(m, &full, &(swt_sublayer){.stack = longest});
    const int64_t rows = SWT_COUNT(m->dist->El, m->dist->P, m->message_slots);
    swt_shared_acts *a = &w->m->acts;
    a->send_counts = swt_take(w, SWT_ARENA_COMM, SWT_I32, d->E);
    a->source_slots =
        swt_take(w, SWT_ARENA_COMM, m->ctx.dtype, SWT_COUNT(d->E, m->message_slots, d->C));
    a->owner_slots = swt_take(w, SWT_ARENA_COMM, m->ctx.dtype, SWT_COUNT(rows, d->C));
    if (m->training)
        share_backward(w, rows);
    swt_need_scratch(w, swt_router_scratch_bytes(&dims));
}

/* Where to write a message that arrives at `arrives`: alone in its expert group a rank is its own
 * peer, and writes it there at once; else where it leaves from.
 *
 *                      leaves from          arrives at
 *     forward: counts  acts.send_counts     slot_counts
 *              tokens  acts.source_slots    x
 *              answers acts.owner_slots     acts.source_slots
 *     backward: dy     acts.source_slots    acts.owner_slots
 *               dx     acts.owner_dx        acts.source_slots
 *               dot    acts.owner_dot       acts.source_dot      */
static void *outbox(const swt_model *m, void *arrives, void *leaves) {
    return m->dist->P == 1 ? arrives : leaves;
}

/* Blocks of `count` elements for each expert and source. */
static swt_status exchange(swt_model *m, swt_direction direction, void *receive, const void *send,
                           int64_t count, swt_dtype dtype) {
    const swt_split split = {.first = m->dist->first};
    if (receive == send)
        return SWT_OK;
    return swt_comm_all_to_all(&m->dist->expert_group, direction, receive, send, &split,
                               (size_t)count * swt_dtype_bytes(dtype), m->ctx.stream);
}

/* The slots of every block, a row of width C each. */
static swt_status exchange_slots(swt_model *m, const swt_moe_dims *dims, swt_direction direction,
                                 void *receive, const void *send) {
    return exchange(m, direction, receive, send, dims->K * dims->C, m->ctx.dtype);
}

/* One round: the tokens of slots first_slot .. first_slot + K - 1 travel to their experts and back.
 */
static swt_status serve_round(swt_model *m, const swt_pass *pass, const swt_moe_dims *dims,
                              const swt_sublayer *s, void *y, int64_t first_slot) {
    const swt_ctx *c = &m->ctx;
    const swt_places *p = s->places;
    const swt_switch_acts *moe = &s->moe;
    swt_shared_acts *a = &m->acts;
    int32_t *counts = outbox(m, moe->slot_counts, a->send_counts);
    void *tokens = outbox(m, moe->x, a->source_slots),
         *answers = outbox(m, a->source_slots, a->owner_slots);
    SWT_TRY(swt_dispatch_forward(c, &(swt_dispatch_forward_args){.send = tokens,
                                                                 .send_counts = counts,
                                                                 .h = a->norm,
                                                                 .expert = moe->expert,
                                                                 .slot = moe->slot,
                                                                 .kept_counts = moe->kept_counts,
                                                                 .dims = *dims,
                                                                 .first_slot = first_slot}));
    SWT_TRY(exchange(m, SWT_TO_OWNERS, moe->slot_counts, counts, 1, SWT_I32));
    SWT_TRY(exchange_slots(m, dims, SWT_TO_OWNERS, moe->x, tokens));
    SWT_TRY(swt_experts_forward(c, &(swt_experts_forward_args){.y = answers,
                                                               .hidden = moe->hidden,
                                                               .pre = moe->pre,
                                                               .x = moe->x,
                                                               .wi = swt_weight(m, p->wi.weight),
                                                               .bi = swt_weight(m, p->wi.bias),
                                                               .wo = swt_weight(m, p->wo.weight),
                                                               .bo = swt_weight(m, p->wo.bias),
                                                               .slot_counts = moe->slot_counts,
                                                               .dims = *dims}));
    SWT_TRY(exchange_slots(m, dims, SWT_TO_SOURCES, a->source_slots, answers));
    SWT_TRY(swt_combine_forward(
        c, &(swt_combine_forward_args){.y = y,
                                       .residual = swt_model_residual(m, pass, s),
                                       .recv = a->source_slots,
                                       .h = a->norm,
                                       .expert = moe->expert,
                                       .gate = moe->gate,
                                       .slot = moe->slot,
                                       .dims = *dims,
                                       .first_slot = first_slot}));
    return swt_model_add(m, pass, s, y);
}

/* The rounds that the fullest expert of any rank needs: in groups that need fewer the last ones
 * carry nothing. Waits for the device: evaluation only. */
static swt_status count_rounds(swt_model *m, const swt_moe_dims *dims, const swt_switch_acts *moe,
                               int64_t *rounds) {
    int64_t most = 0;
    SWT_TRY(swt_model_read(m, m->host_kept_counts, moe->kept_counts,
                           (size_t)dims->E * sizeof *m->host_kept_counts));
    for (int64_t e = 0; e < dims->E; e++)
        most = swt_max(most, m->host_kept_counts[e]);
    return swt_comm_max(m->dist->host, swt_ceil_div(most, dims->K), rounds);
}

/* Which expert and which slot each token has, and the layer's statistics. */
static swt_status route(swt_model *m, const swt_pass *pass, const swt_moe_dims *dims,
                        const swt_sublayer *s) {
    const swt_ctx *c = &m->ctx;
    const swt_places *p = s->places;
    const swt_switch_acts *moe = &s->moe;
    double *stats = swt_pass_stats(m, pass) + swt_stats_layer(&m->dims, s->sparse);
    SWT_TRY(swt_router_forward(
        c, &(swt_router_forward_args){.probs = moe->probs,
                                      .lse = moe->lse,
                                      .expert = moe->expert,
                                      .gate = moe->gate,
                                      .h = m->acts.norm,
                                      .w = swt_slice(m->param, p->router.weight),
                                      .bias = swt_slice(m->param, p->router.bias),
                                      .routed = pass->sequences[s->stack].routed,
                                      .scratch = m->acts.scratch,
                                      .dims = *dims}));
    SWT_TRY(swt_router_assign(c, &(swt_router_assign_args){.slot = moe->slot,
                                                           .kept_counts = moe->kept_counts,
                                                           .group_counts = moe->group_counts,
                                                           .expert = moe->expert,
                                                           .gate = moe->gate,
                                                           .scratch = m->acts.scratch,
                                                           .dims = *dims}));
    return swt_router_losses(c, &(swt_router_losses_args){.stats = stats,
                                                          .probs = moe->probs,
                                                          .lse = moe->lse,
                                                          .expert = moe->expert,
                                                          .kept_counts = moe->kept_counts,
                                                          .group_counts = moe->group_counts,
                                                          .dims = *dims});
}

static swt_status forward(swt_model *m, const swt_pass *pass, swt_sublayer *s, void *y) {
    const swt_moe_dims dims = moe_dims(m, pass, s);
    SWT_TRY(route(m, pass, &dims, s));
    SWT_TRY(serve_round(m, pass, &dims, s, y, 0));
    if (!pass->dropless)
        return SWT_OK;
    int64_t rounds = 0;
    SWT_TRY(count_rounds(m, &dims, &s->moe, &rounds));
    for (int64_t r = 1; r < rounds; r++)
        SWT_TRY(serve_round(m, pass, &dims, s, y, r * dims.K));
    return SWT_OK;
}

/* The weight gradients of all micro-batches whose tokens are here. Of M = 1 there is one; else each
 * is computed from zero and added as integers, so that no layout can change the sum. */
static swt_status expert_gradients(swt_model *m, const swt_pass *pass, const swt_moe_dims *dims,
                                   const swt_sublayer *s) {
    const swt_places *p = s->places;
    const swt_switch_acts *moe = &s->moe;
    const swt_experts_backward_weight_args a = {.dwi = swt_slice(m->grad, p->wi.weight),
                                                .dbi = swt_slice(m->grad, p->wi.bias),
                                                .dwo = swt_slice(m->grad, p->wo.weight),
                                                .dbo = swt_slice(m->grad, p->wo.bias),
                                                .x = moe->x,
                                                .hidden = moe->hidden,
                                                .dpre = m->acts.dpre_experts,
                                                .dy = m->acts.owner_slots,
                                                .slot_counts = moe->slot_counts,
                                                .dims = *dims,
                                                .sums = swt_sums_of_experts(m, pass, p)};
    return swt_experts_backward_weight(&m->ctx, &a);
}

static swt_status backward(swt_model *m, const swt_pass *pass, swt_sublayer *s) {
    const swt_ctx *c = &m->ctx;
    const swt_places *p = s->places;
    const swt_switch_acts *moe = &s->moe;
    const swt_moe_dims dims = moe_dims(m, pass, s);
    swt_shared_acts *a = &m->acts;
    void *dy = outbox(m, a->owner_slots, a->source_slots),
         *dx = outbox(m, a->source_slots, a->owner_dx);
    float *dot = outbox(m, a->source_dot, a->owner_dot);
    SWT_TRY(swt_combine_backward(c, &(swt_combine_backward_args){.drecv = dy,
                                                                 .dgate = a->dgate,
                                                                 .dh = a->dnorm,
                                                                 .dy = a->doutput,
                                                                 .h = a->norm,
                                                                 .expert = moe->expert,
                                                                 .gate = moe->gate,
                                                                 .slot = moe->slot,
                                                                 .dims = dims}));
    SWT_TRY(exchange_slots(m, &dims, SWT_TO_OWNERS, a->owner_slots, dy));
    const swt_experts_backward_input_args experts = {.dx = dx,
                                                     .dhidden = a->dhidden_experts,
                                                     .dpre = moe->pre ? a->dpre_experts : NULL,
                                                     .dot = dot,
                                                     .dy = a->owner_slots,
                                                     .hidden = moe->hidden,
                                                     .pre = moe->pre,
                                                     .wi = swt_weight(m, p->wi.weight),
                                                     .wo = swt_weight(m, p->wo.weight),
                                                     .bo = swt_weight(m, p->wo.bias),
                                                     .slot_counts = moe->slot_counts,
                                                     .dims = dims};
    SWT_TRY(swt_experts_backward_input(c, &experts));
    SWT_TRY(expert_gradients(m, pass, &dims, s));
    SWT_TRY(exchange_slots(m, &dims, SWT_TO_SOURCES, a->source_slots, dx));
    SWT_TRY(exchange(m, SWT_TO_SOURCES, a->source_dot, dot, dims.K, SWT_F32));
    SWT_TRY(swt_dispatch_backward(c, &(swt_dispatch_backward_args){.dh = a->dnorm,
                                                                   .dgate = a->dgate,
                                                                   .dsend = a->source_slots,
                                                                   .dot = a->source_dot,
                                                                   .expert = moe->expert,
                                                                   .gate = moe->gate,
                                                                   .slot = moe->slot,
                                                                   .dims = dims}));
    const swt_router_backward_args router = {.dh = a->dnorm,
                                             .dw = swt_slice(m->grad, p->router.weight),
                                             .dbias = swt_slice(m->grad, p->router.bias),
                                             .dgate = a->dgate,
                                             .h = a->norm,
                                             .w = swt_slice(m->param, p->router.weight),
                                             .probs = moe->probs,
                                             .lse = moe->lse,
                                             .expert = moe->expert,
                                             .gate = moe->gate,
                                             .group_counts = moe->group_counts,
                                             .scratch = a->scratch,
                                             .dims = dims};
    return swt_router_backward(c, &router);
}

static double flops_per_token(const swt_dims *d, swt_stack stack) {
    (void)stack;
    return 2.0 * (double)d->C * (double)d->E;
}

const swt_kind swt_switch_kind = {.name = "moe",
                                  .norm = "ffn_norm",
                                  .params = params,
                                  .keep = keep,
                                  .share = share,
                                  .forward = forward,
                                  .backward = backward,
                                  .flops_per_token = flops_per_token};
