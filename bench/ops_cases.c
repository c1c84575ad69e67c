#include "bench/ops_cases.h"

#include <stdio.h>

/* The list under way. */
typedef struct list {
    const op_bed *b;
    op_case *cases;
    int n;
} list;

/* Another case: its shape in words, floating-point operations, elements of activations and weights,
 * of the context's dtype, and others (of 4 bytes) that it reads and writes. */
static op_case *add(list *t, const char *op, op_call_fn *call, const char *shape, double flops,
                    double activations, double others) {
    op_case *k = &t->cases[t->n++];
    const double bytes =
        activations * (double)swt_dtype_bytes(t->b->m->ctx.dtype) + others * sizeof(float);
    *k = (op_case){.b = t->b, .op = op, .call = call, .flops = flops, .bytes = bytes};
    snprintf(k->shape, sizeof k->shape, "%s", shape);
    return k;
}

/* One linear layer, x (N, in), y (N, out): forward, and with x and y for their gradients the way
 * back. */
static void add_linear(list *t, const swt_place *at, void *x, void *y, int64_t in, int64_t out) {
    static const struct {
        const char *op;
        op_call_fn *call;
    } calls[] = {{"linear_forward", op_call_linear_forward},
                 {"linear_backward_input", op_call_linear_backward_input},
                 {"linear_backward_weight", op_call_linear_backward_weight}};
    const double N = (double)t->b->moe.N, i = (double)in, o = (double)out;
    char shape[40];
    snprintf(shape, sizeof shape, "%.0fx%.0fx%.0f", N, i, o);
    for (int f = 0; f < 3; f++) {
        const double weights = i * o + o, gradients = f == 2 ? weights : 0.0;
        op_case *k = add(t, calls[f].op, calls[f].call, shape, 2.0 * N * i * o,
                         N * (i + o) + weights - gradients, gradients);
        k->at = at;
        k->x = x;
        k->y = y;
        k->in = in;
        k->out = out;
    }
}

/* The feed-forward's products have the shapes of a dense layer: those of the first expert's weights
 * on as many tokens as the micro-batch has. */
static void add_dense(list *t) {
    const op_bed *b = t->b;
    const swt_model *m = b->m;
    const swt_layer_places *at = &m->params.layers[0];
    const swt_block_acts *a = &m->blocks[0];
    const double N = (double)b->moe.N, C = (double)b->moe.C, V = (double)m->dims.V;
    const int64_t HD = m->dims.H * m->dims.D;
    add_linear(t, &at->qkv, m->acts.norm, a->qkv, b->moe.C, 3 * HD);
    add_linear(t, &at->o, a->att, a->mid, HD, b->moe.C);
    add_linear(t, &m->params.head, m->acts.norm, m->acts.logits, b->moe.C, m->dims.V);
    add_linear(t, &at->wi, m->acts.norm, a->moe.hidden, b->moe.C, b->moe.F);
    add_linear(t, &at->wo, a->moe.hidden, m->acts.dh, b->moe.F, b->moe.C);
    char shape[40];
    snprintf(shape, sizeof shape, "%.0fx%.0f", N, C);
    add(t, "embedding_forward", op_call_embedding_forward, shape, 0.0, 2.0 * N * C, 0.0);
    add(t, "embedding_backward", op_call_embedding_backward, shape, 0.0, N * C, V * C);
    add(t, "norm_forward", op_call_norm_forward, shape, 0.0, 2.0 * N * C, 2.0 * N);
    add(t, "norm_backward", op_call_norm_backward, shape, 0.0, 3.0 * N * C, 2.0 * N);
    snprintf(shape, sizeof shape, "%.0fx%.0f", N, V);
    add(t, "cross_entropy", op_call_cross_entropy, shape, 0.0, N * V, N);
}

/* Row i of a head meets i + 1 keys: T (T + 1) / 2 pairs; two products forward, five backward. */
static void add_attention(list *t) {
    const pos_attention_dims *d = &t->b->attention;
    const double HD = (double)(d->H * d->D), N = (double)(d->B * d->T);
    const double pairs = 0.5 * N * ((double)d->T + 1.0), lse = N * (double)d->H;
    char shape[40];
    snprintf(shape, sizeof shape, "%lldx%lldx%lldx%lld", (long long)d->B, (long long)d->T,
             (long long)d->H, (long long)d->D);
    add(t, "attention_forward", op_call_attention_forward, shape, 4.0 * pairs * HD, 4.0 * N * HD,
        lse);
    add(t, "attention_backward", op_call_attention_backward, shape, 10.0 * pairs * HD, 8.0 * N * HD,
        lse);
}

static void add_router(list *t) {
    const swt_moe_dims *d = &t->b->moe;
    const double N = (double)d->N, C = (double)d->C, E = (double)d->E, z = N * E;
    char shape[40];
    snprintf(shape, sizeof shape, "%.0fx%.0fx%.0f", N, C, E);
    add(t, "router_forward", op_call_router_forward, shape, 2.0 * z * C, N * C, E * C + z + 4 * N);
    add(t, "router_assign", op_call_router_assign, shape, 0.0, 0.0, 3.0 * N);
    add(t, "router_losses", op_call_router_losses, shape, 0.0, 0.0, z + 2.0 * N);
    add(t, "router_backward", op_call_router_backward, shape, 4.0 * z * C, 2.0 * N * C,
        2.0 * E * C + z + 4.0 * N);
}

/* A token's way to its expert and back, over the occupied slots. */
static void add_experts(list *t) {
    const swt_moe_dims *d = &t->b->moe;
    const double N = (double)d->N, C = (double)d->C, F = (double)d->F, S = t->b->slots;
    const double weights = 2.0 * (double)d->E * C * F, flops = 4.0 * S * C * F;
    char shape[40];
    snprintf(shape, sizeof shape, "%.0fx%.0f", N, C);
    add(t, "dispatch_forward", op_call_dispatch_forward, shape, 0.0, (N + S) * C, 2.0 * N);
    add(t, "dispatch_backward", op_call_dispatch_backward, shape, 0.0, (N + S) * C, 2.0 * N);
    add(t, "combine_forward", op_call_combine_forward, shape, 0.0, (3.0 * N + S) * C, 3.0 * N);
    add(t, "combine_backward", op_call_combine_backward, shape, 0.0, (3.0 * N + 2.0 * S) * C,
        4.0 * N);
    snprintf(shape, sizeof shape, "%lldx%lldx%.0fx%.0f", (long long)d->E, (long long)d->K, C, F);
    add(t, "experts_forward", op_call_experts_forward, shape, flops, S * (2.0 * C + F) + weights,
        0.0);
    add(t, "experts_backward_input", op_call_experts_backward_input, shape, flops,
        2.0 * S * (C + F) + weights, 0.0);
    add(t, "experts_backward_weight", op_call_experts_backward_weight, shape, flops,
        2.0 * S * (C + F), weights);
}

static void add_update(list *t) {
    const double n = (double)t->b->m->params.end, N = (double)t->b->moe.N;
    char shape[40];
    snprintf(shape, sizeof shape, "%.0f", N);
    add(t, "count_targets", op_call_count_targets, shape, 0.0, 0.0, N);
    add(t, "state_advance", op_call_state_advance, "1", 0.0, 0.0, 0.0);
    snprintf(shape, sizeof shape, "%lld", (long long)t->b->m->params.count);
    add(t, "state_clip", op_call_state_clip, shape, 0.0, 0.0, 2.0 * (double)t->b->m->params.count);
    snprintf(shape, sizeof shape, "%.0f", n);
    add(t, "grad_squares", op_call_grad_squares, shape, 0.0, 0.0, n);
    add(t, "adam", op_call_adam, shape, 0.0, 0.0, 4.0 * n);
    add(t, "sgd", op_call_sgd, shape, 0.0, 0.0, 2.0 * n);
    add(t, "cast", op_call_cast, shape, 0.0, n, n);
    add(t, "grad_add", op_call_grad_add, shape, 0.0, 0.0, 3.0 * n);
    add(t, "grad_finish", op_call_grad_finish, shape, 0.0, 0.0, 3.0 * n);
}

swt_status op_cases(op_bed *b, swt_model *m, const swt_update *update, op_case out[OP_CASES],
                    int *n) {
    const swt_dims *d = &m->dims;
    *b = (op_bed){.m = m, .update = update, .pass = swt_turn(m, 0)};
    b->moe = swt_pass_moe_dims(m, &b->pass, 0);
    b->attention =
        (pos_attention_dims){.B = d->B, .T = d->T, .H = d->H, .D = d->D, .scale = d->attn_scale};
    SWT_TRY(swt_model_forward(m, &b->pass));
    SWT_TRY(swt_model_loss(m, &b->pass, true));
    SWT_TRY(swt_model_backward(m, &b->pass));
    SWT_TRY(swt_device_copy(m->ctx.device, m->ctx.stream, SWT_TO_HOST, m->host_kept,
                            m->blocks[0].moe.kept, (size_t)d->E * sizeof *m->host_kept));
    SWT_TRY(swt_model_wait(m));
    for (int64_t e = 0; e < d->E; e++)
        b->slots += m->host_kept[e];
    list t = {.b = b, .cases = out};
    add_dense(&t);
    add_attention(&t);
    add_router(&t);
    add_experts(&t);
    add_update(&t);
    *n = t.n;
    return SWT_OK;
}
