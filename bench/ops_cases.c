#include "bench/ops_cases.h"

#include "base/checked.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* ---- recording */

/* The table that keeps calls. */
typedef struct recorder {
    swt_ops ops; /* first: the calls find this structure by it */
    const swt_ops *inner;
    op_case *cases;
    int n;
} recorder;

static recorder *recorder_of(const swt_ctx *c) {
    return (recorder *)(uintptr_t)c->ops;
}

/* Tensors of the same sizes. */
static bool same_shape(const swt_ctx *c, const op_case *a, const op_case *b) {
    swt_arg_list of_a, of_b;
    if (a->op != b->op || swt_op_list(a->op, c, &a->args, &of_a) != SWT_OK ||
        swt_op_list(b->op, c, &b->args, &of_b) != SWT_OK)
        return false;
    bool same = true;
    for (int i = 0; i < of_a.n; i++)
        same = same && of_a.args[i].count == of_b.args[i].count;
    return same;
}

/* A linear layer is kept without its residual, which costs as much reading again as y is large: so
 * its time is a gemm's alone, at every shape and in every version. */
static void keep(const swt_ctx *c, int op, const void *args) {
    recorder *r = recorder_of(c);
    op_case k = {.op = &swt_op_table[op]};
    memcpy(&k.args, args, k.op->args_bytes);
    if (op == SWT_OP_linear_forward)
        k.args.linear_forward.residual = NULL;
    for (int i = 0; i < r->n; i++)
        if (same_shape(c, &r->cases[i], &k))
            return;
    if (r->n < OP_CASES)
        r->cases[r->n++] = k;
}

#define RECORDED(op)                                                                               \
    static swt_status record_##op(const swt_ctx *c, const swt_##op##_args *args) {                 \
        keep(c, SWT_OP_##op, args);                                                                \
        return recorder_of(c)->inner->op(c, args);                                                 \
    }
SWT_OPS(RECORDED)

/* The first call of an operation, or NULL. */
static const op_case *find(const op_case *cases, int n, int op) {
    int i = 0;
    while (i < n && cases[i].op != &swt_op_table[op])
        i++;
    return i < n ? &cases[i] : NULL;
}

/* Of the experts' first layer, with Adam's moments for factors and scratch. */
static void add_adafactor(const swt_ctx *c, const swt_model *m) {
    const swt_sublayer *experts = swt_model_first(m, SWT_SWITCH);
    if (experts == NULL)
        return;
    const swt_place *wi = &experts->places->wi;
    const int64_t n = m->dist->El, rows = wi->out, cols = wi->in;
    const int64_t factors = swt_ceil_div(n * rows, 16) * 16;
    if (swt_adafactor_scratch_bytes(n, rows, cols) > m->params.end * (int64_t)sizeof(float))
        return;
    keep(c, SWT_OP_adafactor,
         &(swt_adafactor_args){.param = m->param + wi->weight,
                               .row = m->first_moment,
                               .col = m->first_moment + factors,
                               .grad = m->grad + wi->weight,
                               .scratch = m->second_moment,
                               .n = n,
                               .rows = rows,
                               .cols = cols,
                               .hyper = {.clip_update = 1, .scale_parameter = true}});
}

/* What no step with ReLU and Adam in F32 calls, on the tensors of what it does call. */
static void add_others(const swt_ctx *c, const swt_model *m) {
    const recorder *r = recorder_of(c);
    const op_case *experts = find(r->cases, r->n, SWT_OP_experts_backward_input);
    if (experts != NULL) {
        const swt_experts_backward_input_args *a = &experts->args.experts_backward_input;
        const swt_gelu_dims dims = {
            .blocks = a->dims.El * a->dims.P, .rows = a->dims.K, .F = a->dims.F};
        keep(c, SWT_OP_gelu_forward,
             &(swt_gelu_forward_args){.y = a->dhidden, .x = a->hidden, .dims = dims});
        keep(c, SWT_OP_dropout,
             &(swt_dropout_args){.y = a->dhidden,
                                 .x = a->hidden,
                                 .dims = {dims.blocks, dims.rows, dims.F, .sources = 1},
                                 .mask = swt_dropout_mask_of(0.1, SWT_DROPOUT_HIDDEN, 0, 0)});
        keep(c, SWT_OP_gelu_backward,
             &(swt_gelu_backward_args){
                 .dx = a->dhidden, .dy = a->hidden, .x = a->hidden, .dims = dims});
    }
    if (m->params.end >= m->dims.H * SWT_BIAS_DISTANCES) {
        keep(c, SWT_OP_bias_forward,
             &(swt_bias_forward_args){.bias = m->grad, .table = m->param, .H = m->dims.H});
        keep(c, SWT_OP_bias_backward,
             &(swt_bias_backward_args){.dtable = m->grad, .dbias = m->param, .H = m->dims.H});
    }
    const swt_sgd_args sgd = {.param = m->param, .grad = m->grad, .n = m->params.end};
    keep(c, SWT_OP_sgd, &sgd);
    add_adafactor(c, m);
    /* Of weights that are the parameters themselves there is no copy: the moments take one. */
    const bool copied = m->weights != (const void *)m->param;
    const swt_cast_args cast = {
        .to = copied ? m->weights : (void *)m->first_moment, .from = m->param, .n = m->params.end};
    keep(c, SWT_OP_cast, &cast);
}

static swt_status record_step(swt_model *m, const swt_update_rule *update, op_case *cases, int *n) {
    const swt_ops *inner = m->ctx.ops;
    recorder r = {.ops = *inner, .inner = inner, .cases = cases};
    r.ops.name = "recording";
#define RECORD(op) r.ops.op = record_##op;
    SWT_OPS(RECORD)
    m->ctx.ops = &r.ops;
    const swt_status status = swt_step(m, update);
    add_others(&m->ctx, m);
    m->ctx.ops = inner;
    *n = r.n;
    SWT_TRY(status);
    return swt_model_wait(m);
}

/* ---- what a case costs */

/* The tensors of slots, by their names in the operations that have such. */
static bool is_of_slots(const op_case *k, const char *name) {
    static const char *const of_experts[] = {"x",       "dx",  "y",    "dy", "hidden",
                                             "dhidden", "pre", "dpre", "dot"};
    static const char *const of_messages[] = {"send", "dsend", "recv", "drecv", "dot"};
    const bool experts = strncmp(k->op->name, "experts", 7) == 0;
    const bool messages =
        strncmp(k->op->name, "dispatch", 8) == 0 || strncmp(k->op->name, "combine", 7) == 0;
    const char *const *names = experts ? of_experts : of_messages;
    const int n = experts ? 9 : 5;
    bool found = false;
    for (int i = 0; i < n; i++)
        found = found || strcmp(names[i], name) == 0;
    return (experts || messages) && found;
}

/* Each tensor once, but for scratch; `share` is that of the occupied slots. */
static double bytes_of(const swt_ctx *c, const op_case *k, const swt_arg_list *list, double share) {
    double bytes = 0;
    for (int i = 0; i < list->n; i++) {
        const swt_arg *arg = &list->args[i];
        if (swt_arg_tensor(arg) == NULL || (arg->role & SWT_ARG_SCRATCH))
            continue;
        const double rows = arg->stride > 0 ? (double)arg->row / (double)arg->stride : 1;
        bytes += (double)arg->count * rows * (double)swt_dtype_bytes(swt_arg_dtype(c, arg)) *
                 (is_of_slots(k, arg->name) ? share : 1);
    }
    return bytes;
}

/* A row for an operation: the places of its dimensions in the arguments, and how many multiply-adds
 * it makes for each product of them. */
typedef struct cost {
    int op;
    size_t dims[5]; /* offsets, which are never 0: a pointer comes first */
    double products;
} cost;

#define DIM(op, field) offsetof(swt_##op##_args, field)
#define LINEAR(op)                                                                                 \
    { SWT_OP_##op, {DIM(op, N), DIM(op, in), DIM(op, out)}, 1 }
#define ROWS(op, C)                                                                                \
    { SWT_OP_##op, {DIM(op, N), DIM(op, C)}, 0 }
#define MOE(op, f) DIM(op, dims.f)
#define ROUTER(op, products)                                                                       \
    { SWT_OP_##op, {MOE(op, N), MOE(op, C), MOE(op, E)}, products }
#define EXCHANGE(op)                                                                               \
    { SWT_OP_##op, {MOE(op, N), MOE(op, C)}, 0 }
#define EXPERTS(op)                                                                                \
    { SWT_OP_##op, {MOE(op, E), MOE(op, K), MOE(op, C), MOE(op, F)}, 2 }
#define TENSORS(op)                                                                                \
    { SWT_OP_##op, {DIM(op, n), DIM(op, rows), DIM(op, cols)}, 0 }
#define ATTENTION(op, products)                                                                    \
    {                                                                                              \
        SWT_OP_##op,                                                                               \
            {DIM(op, dims.B), DIM(op, dims.Tq), DIM(op, dims.Tk), DIM(op, dims.H),                 \
             DIM(op, dims.D)},                                                                     \
            products                                                                               \
    }

static const cost costs[] = {
    LINEAR(linear_forward),      LINEAR(linear_backward_input),   LINEAR(linear_backward_weight),
    ROWS(embedding_forward, C),  ROWS(embedding_backward, C),     ROWS(norm_forward, C),
    ROWS(norm_backward, C),      ATTENTION(attention_forward, 2), ATTENTION(attention_backward, 5),
    ROWS(cross_entropy, V),      ROUTER(router_forward, 1),       ROUTER(router_assign, 0),
    ROUTER(router_losses, 0),    ROUTER(router_backward, 2),      EXCHANGE(dispatch_forward),
    EXCHANGE(dispatch_backward), EXCHANGE(combine_forward),       EXCHANGE(combine_backward),
    EXPERTS(experts_forward),    EXPERTS(experts_backward_input), EXPERTS(experts_backward_weight),
    TENSORS(adafactor),
};

/* Shape and FLOPs. An operation without a row has its largest tensor's elements for a shape. */
static void set_cost(op_case *k, const swt_arg_list *list) {
    const int op = (int)(k->op - swt_op_table);
    const cost *row = costs, *end = costs + sizeof costs / sizeof costs[0];
    while (row < end && row->op != op)
        row++;
    if (row == end) {
        int64_t largest = 1;
        for (int i = 0; i < list->n; i++)
            largest = list->args[i].count > largest ? list->args[i].count : largest;
        snprintf(k->shape, sizeof k->shape, "%lld", (long long)largest);
        return;
    }
    double product = 1;
    size_t used = 0;
    for (int i = 0; i < 5 && row->dims[i] != 0; i++) {
        int64_t dim = 0;
        memcpy(&dim, (const unsigned char *)&k->args + row->dims[i], sizeof dim);
        used += (size_t)snprintf(k->shape + used, sizeof k->shape - used, "%s%lld",
                                 i > 0 ? "x" : "", (long long)dim);
        product *= (double)dim;
    }
    k->flops = 2.0 * row->products * product;
}

/* A causal mask leaves T (T + 1) / 2 of T T pairs. */
static double causal_share(const swt_attention_dims *d) {
    return d->mask == SWT_MASK_CAUSAL ? 0.5 * (1.0 + 1.0 / (double)d->Tk) : 1.0;
}

/* What the tensors' sizes do not tell: unoccupied slots are no work, of an embedding's table only
 * the tokens' rows are read, and the spans of the norm cover all gradients. */
static void correct_cost(const swt_model *m, op_case *k, double share) {
    const swt_any_args *a = &k->args;
    switch (k->op - swt_op_table) {
    case SWT_OP_attention_forward:
        k->flops *= causal_share(&a->attention_forward.dims);
        break;
    case SWT_OP_attention_backward:
        k->flops *= causal_share(&a->attention_backward.dims);
        break;
    case SWT_OP_embedding_forward:
        k->bytes = 2.0 * (double)(a->embedding_forward.N * a->embedding_forward.C) *
                   (double)swt_dtype_bytes(m->ctx.dtype);
        break;
    case SWT_OP_grad_squares:
        k->bytes = (double)m->params.end * sizeof(float);
        snprintf(k->shape, sizeof k->shape, "%lld", (long long)m->params.end);
        break;
    case SWT_OP_experts_forward:
    case SWT_OP_experts_backward_input:
    case SWT_OP_experts_backward_weight:
        k->flops *= share;
        break;
    default:
        break;
    }
}

/* The share of the slots that tokens took, by what the assignment left. */
static swt_status occupied_share(swt_model *m, const op_case *cases, int n, double *share) {
    const op_case *assign = find(cases, n, SWT_OP_router_assign);
    if (assign == NULL)
        return SWT_FAIL(INTERNAL, "bench_ops: the step has assigned no tokens");
    const swt_router_assign_args *a = &assign->args.router_assign;
    SWT_TRY(swt_model_read(m, m->host_kept_counts, a->kept_counts,
                           (size_t)a->dims.E * sizeof *m->host_kept_counts));
    double slots = 0;
    for (int64_t e = 0; e < a->dims.E; e++)
        slots += m->host_kept_counts[e];
    *share = slots / fmax(1, (double)(a->dims.E * a->dims.K));
    return SWT_OK;
}

swt_status op_cases(swt_model *m, const swt_update_rule *update, op_case out[OP_CASES], int *n) {
    double share = 1;
    SWT_TRY(record_step(m, update, out, n));
    SWT_TRY(occupied_share(m, out, *n, &share));
    for (int i = 0; i < *n; i++) {
        swt_arg_list list;
        SWT_TRY(swt_op_list(out[i].op, &m->ctx, &out[i].args, &list));
        out[i].bytes = bytes_of(&m->ctx, &out[i], &list, share);
        set_cost(&out[i], &list);
        correct_cost(m, &out[i], share);
    }
    return SWT_OK;
}
