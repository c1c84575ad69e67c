/* The switch layer: router, dispatch, all-to-all, experts, all-to-all, combine; and the way back.
 * Source: Fedus, Zoph, Shazeer 2021, sections 2.1 and 2.2. */
#include "base/checked.h"
#include "model/model.h"

swt_moe_dims swt_pass_moe_dims(const swt_model *m, const swt_pass *pass, int64_t l) {
    const swt_dims *d = &m->dims;
    const int64_t G = swt_groups_per_micro_batch(d, d->B), group_tokens = d->B * d->T / G;
    const int64_t pass_groups = pass->dropless ? 1 : swt_groups_per_micro_batch(d, pass->B);
    /* Capacity is that of a full micro-batch, also in a shorter last one of an evaluation: message
     * sizes are the same on every rank and in every pass. */
    const int64_t capacity = swt_capacity(d, group_tokens, pass->training);
    const int64_t N = pass->B * pass->T;
    const double layers = d->aux_layers == SWT_AUX_LAYERS_MEAN ? (double)swt_sparse_layers(d) : 1.0;
    const double share = 1.0 / (layers * (double)d->M * (double)pass_groups);
    return (swt_moe_dims){
        .N = N,
        .C = d->C,
        .F = d->F,
        .E = d->E,
        .k = 1,
        .G = pass_groups,
        .group_capacity = pass->dropless ? N : capacity,
        .K = pass->dropless ? m->K : swt_min(G * capacity, d->B * d->T),
        .El = m->dist->El,
        .P = m->dist->P,
        .drop = d->drop,
        .dropped_output = d->dropped_output,
        .gate = d->gate,
        .jitter = (float)d->jitter,
        .layer = (uint32_t)l,
        .micro_batch = (uint32_t)pass->micro_batch,
        .training = pass->training,
        .aux_scale = d->aux_coef * share,
        .z_scale = d->z_coef * share,
    };
}

/* Where to write a message that arrives at `arrives`: alone in its expert group a rank is its own
 * peer, and writes it there at once. */
static void *outbox(const swt_model *m, void *arrives, void *leaves) {
    return m->dist->P == 1 ? arrives : leaves;
}

/* Blocks of `count` elements for each expert and source. */
static swt_status exchange(swt_model *m, swt_direction direction, void *receive, const void *send,
                           int64_t count, swt_dtype dtype) {
    const swt_split split = {.first = m->dist->first};
    if (receive == send)
        return SWT_OK;
    return swt_comm_all_to_all(&m->dist->experts, direction, receive, send, &split,
                               (size_t)count * swt_dtype_bytes(dtype), m->ctx.stream);
}

/* The slots of every block, a row of width C each. */
static swt_status exchange_slots(swt_model *m, const swt_moe_dims *dims, swt_direction direction,
                                 void *receive, const void *send) {
    return exchange(m, direction, receive, send, dims->K * dims->C, m->ctx.dtype);
}

/* One round: the tokens of slots first_slot .. first_slot + K - 1 travel to their experts and back.
 */
static swt_status serve_round(swt_model *m, const swt_moe_dims *dims, int64_t l, void *y,
                              int64_t first_slot) {
    const swt_ctx *c = &m->ctx;
    const swt_layer_places *at = &m->params.layers[l];
    swt_block_acts *a = &m->blocks[l];
    swt_moe_acts *moe = &a->moe;
    swt_shared_acts *s = &m->acts;
    int32_t *counts = outbox(m, moe->slot_counts, s->send_counts);
    void *tokens = outbox(m, moe->x, s->slots), *answers = outbox(m, s->slots, s->expert_y);
    SWT_TRY(swt_dispatch_forward(c, &(swt_dispatch_forward_args){.send = tokens,
                                                                 .send_counts = counts,
                                                                 .h = s->norm,
                                                                 .expert = moe->expert,
                                                                 .slot = moe->slot,
                                                                 .kept = moe->kept,
                                                                 .dims = *dims,
                                                                 .first_slot = first_slot}));
    SWT_TRY(exchange(m, SWT_TO_OWNERS, moe->slot_counts, counts, 1, SWT_I32));
    SWT_TRY(exchange_slots(m, dims, SWT_TO_OWNERS, moe->x, tokens));
    SWT_TRY(swt_experts_forward(c, &(swt_experts_forward_args){.y = answers,
                                                               .hidden = moe->hidden,
                                                               .x = moe->x,
                                                               .wi = swt_weight(m, at->wi.weight),
                                                               .bi = swt_weight(m, at->wi.bias),
                                                               .wo = swt_weight(m, at->wo.weight),
                                                               .bo = swt_weight(m, at->wo.bias),
                                                               .counts = moe->slot_counts,
                                                               .dims = *dims}));
    SWT_TRY(exchange_slots(m, dims, SWT_TO_SOURCES, s->slots, answers));
    return swt_combine_forward(c, &(swt_combine_forward_args){.y = y,
                                                              .residual = a->mid,
                                                              .recv = s->slots,
                                                              .h = s->norm,
                                                              .expert = moe->expert,
                                                              .gate = moe->gate,
                                                              .slot = moe->slot,
                                                              .dims = *dims,
                                                              .first_slot = first_slot});
}

/* The rounds that the fullest expert of any rank needs: in groups that need fewer the last ones
 * carry nothing. Waits for the device: evaluation only. */
static swt_status count_rounds(swt_model *m, const swt_moe_dims *dims, const swt_moe_acts *moe,
                               int64_t *rounds) {
    int64_t most = 0;
    SWT_TRY(swt_model_read(m, m->host_kept, moe->kept, (size_t)dims->E * sizeof *m->host_kept));
    for (int64_t e = 0; e < dims->E; e++)
        most = swt_max(most, m->host_kept[e]);
    return swt_comm_max(m->dist->host, swt_ceil_div(most, dims->K), rounds);
}

/* Which expert and which slot each token has, and the layer's statistics. */
static swt_status route(swt_model *m, const swt_pass *pass, const swt_moe_dims *dims, int64_t l) {
    const swt_ctx *c = &m->ctx;
    const swt_layer_places *at = &m->params.layers[l];
    swt_moe_acts *moe = &m->blocks[l].moe;
    double *stats = m->acts.stats + pass->turn * swt_stats_count(&m->dims) +
                    swt_stats_layer(&m->dims, l / m->dims.every);
    SWT_TRY(
        swt_router_forward(c, &(swt_router_forward_args){.probs = moe->probs,
                                                         .lse = moe->lse,
                                                         .expert = moe->expert,
                                                         .gate = moe->gate,
                                                         .h = m->acts.norm,
                                                         .w = swt_at(m->param, at->router.weight),
                                                         .bias = swt_at(m->param, at->router.bias),
                                                         .routed = pass->routed,
                                                         .scratch = m->acts.scratch,
                                                         .dims = *dims}));
    SWT_TRY(swt_router_assign(c, &(swt_router_assign_args){.slot = moe->slot,
                                                           .kept = moe->kept,
                                                           .counts = moe->group_counts,
                                                           .expert = moe->expert,
                                                           .gate = moe->gate,
                                                           .scratch = m->acts.scratch,
                                                           .dims = *dims}));
    return swt_router_losses(c, &(swt_router_losses_args){.stats = stats,
                                                          .probs = moe->probs,
                                                          .lse = moe->lse,
                                                          .expert = moe->expert,
                                                          .kept = moe->kept,
                                                          .counts = moe->group_counts,
                                                          .dims = *dims});
}

swt_status swt_moe_forward(swt_model *m, const swt_pass *pass, int64_t l, void *y) {
    const swt_moe_dims dims = swt_pass_moe_dims(m, pass, l);
    SWT_TRY(route(m, pass, &dims, l));
    SWT_TRY(serve_round(m, &dims, l, y, 0));
    if (!pass->dropless)
        return SWT_OK;
    int64_t rounds = 0;
    SWT_TRY(count_rounds(m, &dims, &m->blocks[l].moe, &rounds));
    for (int64_t r = 1; r < rounds; r++)
        SWT_TRY(serve_round(m, &dims, l, y, r * dims.K));
    return SWT_OK;
}

static int64_t *sum_at(const swt_model *m, int64_t offset) {
    return offset >= 0 && offset < m->sum_count ? m->sum + offset : NULL;
}

/* The weight gradients of all micro-batches whose tokens are here. Of M = 1 there is one; else each
 * is computed from zero and added as integers, so that no layout can change the sum. */
static swt_status expert_gradients(swt_model *m, const swt_pass *pass, const swt_moe_dims *dims,
                                   int64_t l) {
    const swt_layer_places *at = &m->params.layers[l];
    const swt_moe_acts *moe = &m->blocks[l].moe;
    const swt_expert_sums sums = {.wi = sum_at(m, at->wi.weight),
                                  .bi = sum_at(m, at->wi.bias),
                                  .wo = sum_at(m, at->wo.weight),
                                  .bo = sum_at(m, at->wo.bias),
                                  .limit = 0x1p62 / (double)m->dims.M,
                                  .first = pass->turn == 0,
                                  .last = pass->turn == m->turns - 1 &&
                                          swt_dist_replicas(m->dist) == 1};
    const swt_experts_backward_weight_args a = {.dwi = swt_at(m->grad, at->wi.weight),
                                                .dbi = swt_at(m->grad, at->wi.bias),
                                                .dwo = swt_at(m->grad, at->wo.weight),
                                                .dbo = swt_at(m->grad, at->wo.bias),
                                                .x = moe->x,
                                                .hidden = moe->hidden,
                                                .dhidden = m->acts.dhidden_experts,
                                                .dy = m->acts.expert_y,
                                                .counts = moe->slot_counts,
                                                .dims = *dims,
                                                .exact = m->sum != NULL,
                                                .sums = sums};
    return swt_experts_backward_weight(&m->ctx, &a);
}

/* acts.dx holds d y (and stays: it is the residual's gradient, too), acts.norm h; acts.dh becomes
 * d h. */
swt_status swt_moe_backward(swt_model *m, const swt_pass *pass, int64_t l) {
    const swt_ctx *c = &m->ctx;
    const swt_layer_places *at = &m->params.layers[l];
    const swt_moe_dims dims = swt_pass_moe_dims(m, pass, l);
    swt_moe_acts *moe = &m->blocks[l].moe;
    swt_shared_acts *s = &m->acts;
    void *outputs = outbox(m, s->expert_y, s->slots), *inputs = outbox(m, s->slots, s->expert_dx);
    float *dot = outbox(m, s->dot, s->expert_dot);
    SWT_TRY(swt_combine_backward(c, &(swt_combine_backward_args){.drecv = outputs,
                                                                 .dgate = s->dgate,
                                                                 .dh = s->dh,
                                                                 .dy = s->dx,
                                                                 .h = s->norm,
                                                                 .expert = moe->expert,
                                                                 .gate = moe->gate,
                                                                 .slot = moe->slot,
                                                                 .dims = dims}));
    SWT_TRY(exchange_slots(m, &dims, SWT_TO_OWNERS, s->expert_y, outputs));
    const swt_experts_backward_input_args experts = {.dx = inputs,
                                                     .dhidden = s->dhidden_experts,
                                                     .dot = dot,
                                                     .dy = s->expert_y,
                                                     .hidden = moe->hidden,
                                                     .wi = swt_weight(m, at->wi.weight),
                                                     .wo = swt_weight(m, at->wo.weight),
                                                     .bo = swt_weight(m, at->wo.bias),
                                                     .counts = moe->slot_counts,
                                                     .dims = dims};
    SWT_TRY(swt_experts_backward_input(c, &experts));
    SWT_TRY(expert_gradients(m, pass, &dims, l));
    SWT_TRY(exchange_slots(m, &dims, SWT_TO_SOURCES, s->slots, inputs));
    SWT_TRY(exchange(m, SWT_TO_SOURCES, s->dot, dot, dims.K, SWT_F32));
    SWT_TRY(swt_dispatch_backward(c, &(swt_dispatch_backward_args){.dh = s->dh,
                                                                   .dgate = s->dgate,
                                                                   .dsend = s->slots,
                                                                   .dot = s->dot,
                                                                   .expert = moe->expert,
                                                                   .gate = moe->gate,
                                                                   .slot = moe->slot,
                                                                   .dims = dims}));
    const swt_router_backward_args router = {.dh = s->dh,
                                             .dw = swt_at(m->grad, at->router.weight),
                                             .dbias = swt_at(m->grad, at->router.bias),
                                             .dgate = s->dgate,
                                             .h = s->norm,
                                             .w = swt_at(m->param, at->router.weight),
                                             .probs = moe->probs,
                                             .lse = moe->lse,
                                             .expert = moe->expert,
                                             .gate = moe->gate,
                                             .counts = moe->group_counts,
                                             .scratch = s->scratch,
                                             .dims = dims};
    return swt_router_backward(c, &router);
}
