/* Each slot once, on the tensors of the bed. In the order of swt_ops.h. */
#include "bench/ops_cases.h"

static swt_block_acts *block(const op_bed *b) {
    return &b->m->blocks[0];
}

static float *param(const op_bed *b, int64_t offset) {
    return swt_at(b->m->param, offset);
}

static const void *weight(const op_bed *b, int64_t offset) {
    return swt_weight(b->m, offset);
}

static float *grad(const op_bed *b, int64_t offset) {
    return swt_at(b->m->grad, offset);
}

static const swt_layer_places *places(const op_bed *b) {
    return &b->m->params.layers[0];
}

swt_status op_call_linear_forward(const op_case *k) {
    const op_bed *b = k->b;
    return swt_linear_forward(&b->m->ctx, &(swt_linear_forward_args){.y = k->y,
                                                                     .x = k->x,
                                                                     .w = weight(b, k->at->weight),
                                                                     .bias = weight(b, k->at->bias),
                                                                     .N = b->moe.N,
                                                                     .in = k->in,
                                                                     .out = k->out});
}

swt_status op_call_linear_backward_input(const op_case *k) {
    const op_bed *b = k->b;
    return swt_linear_backward_input(
        &b->m->ctx, &(swt_linear_backward_input_args){.dx = k->x,
                                                      .dy = k->y,
                                                      .w = weight(b, k->at->weight),
                                                      .N = b->moe.N,
                                                      .in = k->in,
                                                      .out = k->out});
}

swt_status op_call_linear_backward_weight(const op_case *k) {
    const op_bed *b = k->b;
    return swt_linear_backward_weight(
        &b->m->ctx, &(swt_linear_backward_weight_args){.dw = grad(b, k->at->weight),
                                                       .dbias = grad(b, k->at->bias),
                                                       .dy = k->y,
                                                       .x = k->x,
                                                       .N = b->moe.N,
                                                       .in = k->in,
                                                       .out = k->out});
}

swt_status op_call_embedding_forward(const op_case *k) {
    const op_bed *b = k->b;
    return swt_embedding_forward(
        &b->m->ctx, &(swt_embedding_forward_args){.x = block(b)->x,
                                                  .table = weight(b, b->m->params.embed.weight),
                                                  .tokens = b->pass.tokens,
                                                  .N = b->moe.N,
                                                  .C = b->moe.C,
                                                  .V = b->m->dims.V});
}

swt_status op_call_embedding_backward(const op_case *k) {
    const op_bed *b = k->b;
    return swt_embedding_backward(
        &b->m->ctx, &(swt_embedding_backward_args){.dtable = grad(b, b->m->params.embed.weight),
                                                   .dx = b->m->acts.dx,
                                                   .tokens = b->pass.tokens,
                                                   .N = b->moe.N,
                                                   .C = b->moe.C,
                                                   .V = b->m->dims.V});
}

swt_status op_call_norm_forward(const op_case *k) {
    const op_bed *b = k->b;
    return swt_model_norm(b->m, &places(b)->attn_norm, block(b)->x, b->moe.N);
}

swt_status op_call_norm_backward(const op_case *k) {
    const op_bed *b = k->b;
    return swt_model_norm_backward(b->m, &places(b)->attn_norm, block(b)->x, b->m->acts.dx,
                                   b->moe.N);
}

swt_status op_call_attention_forward(const op_case *k) {
    const op_bed *b = k->b;
    swt_block_acts *a = block(b);
    return pos_attention_forward(&b->m->ctx, a->att, a->lse, a->qkv, &b->attention);
}

swt_status op_call_attention_backward(const op_case *k) {
    const op_bed *b = k->b;
    swt_block_acts *a = block(b);
    return pos_attention_backward(&b->m->ctx, b->m->acts.dqkv, b->m->acts.datt, a->att, a->lse,
                                  a->qkv, &b->attention);
}

swt_status op_call_cross_entropy(const op_case *k) {
    const op_bed *b = k->b;
    swt_shared_acts *s = &b->m->acts;
    return swt_cross_entropy(&b->m->ctx, &(swt_cross_entropy_args){.dlogits = s->logits,
                                                                   .stats = s->stats,
                                                                   .logits = s->logits,
                                                                   .targets = b->pass.targets,
                                                                   .scratch = s->scratch,
                                                                   .N = b->moe.N,
                                                                   .V = b->m->dims.V});
}

swt_status op_call_router_forward(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    return pos_router_forward(&b->m->ctx, a->probs, a->lse, a->expert, a->gate, b->m->acts.norm,
                              param(b, places(b)->router.weight), param(b, places(b)->router.bias),
                              b->pass.routed, b->m->acts.scratch, &b->moe);
}

swt_status op_call_router_assign(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    return pos_router_assign(&b->m->ctx, a->slot, a->kept, a->group_counts, a->expert, a->gate,
                             b->m->acts.scratch, &b->moe);
}

swt_status op_call_router_losses(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    return pos_router_losses(&b->m->ctx, b->m->acts.stats + swt_stats_layer(&b->m->dims, 0),
                             a->probs, a->lse, a->expert, a->kept, a->group_counts, &b->moe);
}

swt_status op_call_router_backward(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    swt_shared_acts *s = &b->m->acts;
    return pos_router_backward(&b->m->ctx, s->dh, grad(b, places(b)->router.weight),
                               grad(b, places(b)->router.bias), s->dgate, b->m->acts.norm,
                               param(b, places(b)->router.weight), a->probs, a->lse, a->expert,
                               a->gate, a->group_counts, s->scratch, &b->moe);
}

swt_status op_call_dispatch_forward(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    swt_shared_acts *s = &b->m->acts;
    return pos_dispatch_forward(&b->m->ctx, s->slots, s->send_counts, b->m->acts.norm, a->expert,
                                a->slot, a->kept, &b->moe, 0);
}

swt_status op_call_dispatch_backward(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    swt_shared_acts *s = &b->m->acts;
    return pos_dispatch_backward(&b->m->ctx, s->dh, s->dgate, s->slots, s->dot, a->expert, a->gate,
                                 a->slot, &b->moe);
}

swt_status op_call_experts_forward(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    const swt_place wi = places(b)->wi, wo = places(b)->wo;
    return pos_experts_forward(&b->m->ctx, b->m->acts.expert_y, a->hidden, a->x,
                               weight(b, wi.weight), weight(b, wi.bias), weight(b, wo.weight),
                               weight(b, wo.bias), a->slot_counts, &b->moe);
}

swt_status op_call_experts_backward_input(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    swt_shared_acts *s = &b->m->acts;
    return pos_experts_backward_input(&b->m->ctx, s->slots, s->dhidden_experts, s->dot, s->expert_y,
                                      a->hidden, weight(b, places(b)->wi.weight),
                                      weight(b, places(b)->wo.weight),
                                      weight(b, places(b)->wo.bias), a->slot_counts, &b->moe);
}

swt_status op_call_experts_backward_weight(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    const swt_place wi = places(b)->wi, wo = places(b)->wo;
    swt_shared_acts *s = &b->m->acts;
    return pos_experts_backward_weight(
        &b->m->ctx, grad(b, wi.weight), grad(b, wi.bias), grad(b, wo.weight), grad(b, wo.bias),
        a->x, a->hidden, s->dhidden_experts, s->expert_y, a->slot_counts, &b->moe, NULL);
}

swt_status op_call_combine_forward(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    return pos_combine_forward(&b->m->ctx, b->m->acts.x, block(b)->mid, b->m->acts.slots,
                               b->m->acts.norm, a->expert, a->gate, a->slot, &b->moe, 0);
}

swt_status op_call_combine_backward(const op_case *k) {
    const op_bed *b = k->b;
    const swt_moe_acts *a = &block(b)->moe;
    swt_shared_acts *s = &b->m->acts;
    return pos_combine_backward(&b->m->ctx, s->slots, s->dgate, s->dh, s->dx, b->m->acts.norm,
                                a->expert, a->gate, a->slot, &b->moe);
}

swt_status op_call_state_advance(const op_case *k) {
    const op_bed *b = k->b;
    return pos_state_advance(&b->m->ctx, &b->update->schedule);
}

swt_status op_call_count_targets(const op_case *k) {
    const op_bed *b = k->b;
    return pos_count_targets(&b->m->ctx, &b->m->ctx.state->targets, b->m->acts.targets, b->moe.N);
}

swt_status op_call_grad_add(const op_case *k) {
    const op_bed *b = k->b;
    return pos_grad_add(&b->m->ctx, b->m->sum, b->m->grad, b->m->params.end,
                        0x1p62 / (double)b->m->dims.M, false);
}

swt_status op_call_grad_finish(const op_case *k) {
    const op_bed *b = k->b;
    return pos_grad_finish(&b->m->ctx, b->m->grad, b->m->sum, b->m->params.end);
}

swt_status op_call_grad_squares(const op_case *k) {
    const op_bed *b = k->b;
    return pos_grad_squares(&b->m->ctx, b->m->squares, b->m->grad, b->m->spans, b->m->n_spans);
}

swt_status op_call_state_clip(const op_case *k) {
    const op_bed *b = k->b;
    const int64_t n = b->m->params.count;
    return pos_state_clip(&b->m->ctx, b->m->squares, n,
                          (const int64_t *)(const void *)(b->m->squares + n), b->update->clip_norm);
}

swt_status op_call_adam(const op_case *k) {
    const op_bed *b = k->b;
    return pos_adam(&b->m->ctx, b->m->param, b->m->m, b->m->v, b->m->grad, b->m->params.end,
                    &b->update->adam);
}

swt_status op_call_sgd(const op_case *k) {
    const op_bed *b = k->b;
    return pos_sgd(&b->m->ctx, b->m->param, b->m->grad, b->m->params.end);
}

/* Of weights that are the parameters themselves there is no copy: the moments take one. */
swt_status op_call_cast(const op_case *k) {
    const swt_model *m = k->b->m;
    void *to = m->weights == (const void *)m->param ? (void *)m->m : m->weights;
    return pos_cast(&m->ctx, to, m->param, m->params.end);
}
